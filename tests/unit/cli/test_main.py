"""The command line: help, defects, and what becomes of an interrupt."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mirror.cli.main import Commands, cli
from mirror.errors import UsageError

PROJECT = Path(__file__).parents[3]
FAILING = """
import click
from mirror.config.load import load

@click.command("fail")
@click.argument("how")
def command(how):
    if how == "outside":
        raise MemoryError
    if how == "end":
        raise EOFError("no more")
    if how == "question":
        click.confirm("Do it?")
    load(how)
"""
START = """
import sys
from mirror.cli import main
main.Commands.TABLE["fail"] = ("failing", "A command with a defect.")
sys.exit(main.main())
"""


def fail(folder: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line with one more command, which has a defect, in a process of its own."""
    (folder / "failing.py").write_text(FAILING)
    return subprocess.run(
        [sys.executable, "-c", START, *words],
        env=dict(os.environ) | {"PYTHONPATH": os.pathsep.join([str(PROJECT), str(folder)])},
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def test_defect_is_one_sentence_with_its_place(tmp_path: Path) -> None:
    """People get the error, our line that raised it, and what to do; no traceback."""
    done = fail(tmp_path, "fail", "\x1b[2Jx")
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("error: oidc-mirror met a defect of its own: AttributeError: ")
    assert "(mirror/config/load.py:" in first
    assert "report it" in second
    assert done.stdout == ""


def test_defect_tells_its_way_in_the_debug_log(tmp_path: Path) -> None:
    """With `--log-level debug` the traceback is one event of the log."""
    done = fail(tmp_path, "--log-level", "debug", "--log-format", "json", "fail", "x")
    event = json.loads(done.stderr.splitlines()[0])
    assert (event["event"], event["level"]) == ("program.defect", "debug")
    assert event["traceback"][0] == "Traceback (most recent call last):"
    assert "AttributeError" in event["traceback"][-1]
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("outside", "MemoryError (mirror/cli/main.py:"),
        ("end", "EOFError: no more (outside of its own files)"),  # click makes another exception of it on the way
    ],
    ids=["no-words", "eof"],
)
def test_defect_without_a_line_of_ours_is_told_too(tmp_path: Path, how: str, told: str) -> None:
    """Whatever was raised and wherever: a sentence and 1, never "interrupted"."""
    done = fail(tmp_path, "fail", how)
    assert done.returncode == 1
    assert f"a defect of its own: {told}" in done.stderr


def test_question_without_an_answer_does_nothing(tmp_path: Path) -> None:
    """Ctrl-C and Ctrl-D at a question come before anything is begun."""
    done = fail(tmp_path, "fail", "question")
    assert done.returncode == 130
    assert done.stderr.endswith("\nNothing was done.\n")


@pytest.mark.parametrize("name", Commands.TABLE)
def test_every_option_has_a_help_text(name: str) -> None:
    """Nobody has to guess what an option is for."""
    command = cli.get_command(click.Context(cli, **cli.context_settings), name)
    assert command is not None
    options = [each for each in (*cli.params, *command.params) if isinstance(each, click.Option)]
    assert [each.name for each in options if not each.help] == []


@pytest.mark.parametrize("name", ["run", "check", "status", "history", "wait", "verify", "approve", "revoke", "adopt"])
def test_help_tells_the_exit_statuses(name: str) -> None:
    """Scripts and units are written from `--help`."""
    command = cli.get_command(click.Context(cli, **cli.context_settings), name)
    assert command is not None
    assert "Exit status" in command.get_help(click.Context(command, info_name=name))


@pytest.mark.parametrize(
    "words",
    [
        ("revoke", "syd", "-38fjMxbNt16eVMX7OsD7EYAA67fiSSKlwLE73EUR6c", "--reason", "x"),
        ("revoke", "--reason", "x", "syd", "--", "-38fjMxbNt16eVMX7OsD7EYAA67fiSSKlwLE73EUR6c"),
        ("approve", "syd", "--yes", "-38fjMxbNt16eVMX7OsD7EYAA67fiSSKlwLE73EUR6c"),
        ("wait", "syd", "-38fjMxbNt16eVMX7OsD7EYAA67fiSSKlwLE73EUR6c"),
        ("wait", "syd", "--8fjMxbNt16eVMX7OsD7EYAA67fiSSKlwLE73EUR6c"),
    ],
    ids=["revoke", "after --", "approve", "wait", "two dashes"],
)
def test_whole_id_that_begins_with_a_dash_is_no_option(words: tuple[str, ...], tmp_path: Path) -> None:
    """One thumbprint of 64 begins so, and it is copied in an emergency: only the configuration is missing here."""
    done = CliRunner().invoke(cli, ["--config", str(tmp_path / "missing.yaml"), *words])
    assert isinstance(done.exception, UsageError), done.output
    assert "missing.yaml" in str(done.exception)


@pytest.mark.parametrize("command", ["revoke", "approve", "wait"])
def test_beginning_of_an_id_with_a_dash_is_refused_with_the_remedy(command: str, tmp_path: Path) -> None:
    """Eight characters may be options as well as a key: who gives them is told how to say which."""
    done = CliRunner().invoke(cli, ["--config", str(tmp_path / "mirror.yaml"), command, "syd-prod", "-abcdefg"])
    assert done.exit_code == click.UsageError.exit_code
    assert "No such option" in done.output
    assert f"{command} NAME -- KEY" in done.output
