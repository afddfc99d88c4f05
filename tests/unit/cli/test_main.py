"""The command line: help, defects and interrupts."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mirror.cli.main import Commands, cli
from mirror.errors import UsageError
from support.reference import commands

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
    """Runs the command line with one more command, which has a defect, in its own process."""
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
    """The output is the error, the line of our code that raised it, and a remedy. There is no traceback."""
    done = fail(tmp_path, "fail", "\x1b[2Jx")
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("error: oidc-mirror met a defect of its own: AttributeError: ")
    assert "(mirror/config/load.py:" in first
    assert "report it" in second
    assert done.stdout == ""


def test_defect_has_its_traceback_in_the_debug_log(tmp_path: Path) -> None:
    """With `--log-level debug`, the traceback is one event of the log."""
    done = fail(tmp_path, "--log-level", "debug", "--log-format", "json", "fail", "x")
    event = json.loads(done.stderr.splitlines()[0])
    assert (event["event"], event["level"]) == ("program.defect", "debug")
    assert event["traceback"][0] == "Traceback (most recent call last):"
    assert "AttributeError" in event["traceback"][-1]
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("how", "reported"),
    [
        ("outside", "MemoryError (mirror/cli/main.py:"),
        ("end", "EOFError: no more (outside of its own files)"),  # click converts it to another exception
    ],
    ids=["no-words", "eof"],
)
def test_defect_without_a_line_of_ours_is_reported_too(tmp_path: Path, how: str, reported: str) -> None:
    """Any exception from any place gives a sentence and exit 1, never "interrupted"."""
    done = fail(tmp_path, "fail", how)
    assert done.returncode == 1
    assert f"a defect of its own: {reported}" in done.stderr


def test_question_without_an_answer_does_nothing(tmp_path: Path) -> None:
    """Ctrl-C and Ctrl-D at a prompt end the command before any change."""
    done = fail(tmp_path, "fail", "question")
    assert done.returncode == 130
    assert done.stderr.endswith("\nNothing was done.\n")


@pytest.mark.parametrize("name", Commands.TABLE)
def test_every_option_has_a_help_text(name: str) -> None:
    """The help explains every option."""
    command = cli.get_command(click.Context(cli, **cli.context_settings), name)
    assert command is not None
    options = [each for each in (*cli.params, *command.params) if isinstance(each, click.Option)]
    assert [each.name for each in options if not each.help] == []


@pytest.mark.parametrize("name", ["run", "check", "status", "history", "wait", "verify", "approve", "revoke", "adopt"])
def test_help_lists_the_exit_statuses(name: str) -> None:
    """Scripts and units rely on `--help`."""
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
    """A full thumbprint may begin with a dash. It is accepted as a key, and only the configuration is missing here."""
    done = CliRunner().invoke(cli, ["--config", str(tmp_path / "missing.yaml"), *words])
    assert isinstance(done.exception, UsageError), done.output
    assert "missing.yaml" in str(done.exception)


@pytest.mark.parametrize("command", ["revoke", "approve", "wait"])
def test_beginning_of_an_id_with_a_dash_is_refused_with_the_remedy(command: str, tmp_path: Path) -> None:
    """An abbreviated id could also be options. The message says how to mark it as a key."""
    done = CliRunner().invoke(cli, ["--config", str(tmp_path / "mirror.yaml"), command, "syd-prod", "-abcdefg"])
    assert done.exit_code == click.UsageError.exit_code
    assert "No such option" in done.output
    assert f"{command} NAME -- KEY" in done.output


EXAMPLES = [
    pytest.param(words, line.strip(), id=line.strip()[:60])
    for words, command, _ in commands()
    for line in (command.epilog or "").partition("Example")[2].splitlines()[1:]
]


def test_every_command_has_an_example() -> None:
    """This includes subcommands and the program itself."""
    without = [words for words, command, _ in commands() if "\nExample" not in (command.epilog or "")]
    assert without == []


@pytest.mark.parametrize(("words", "example"), EXAMPLES)
def test_example_is_a_call_of_its_command(words: tuple[str, ...], example: str) -> None:
    """Each example can be pasted: its command accepts every word."""
    call = re.split(r" [|>] ", example)[0]
    program, *rest = shlex.split(call)
    assert program == "oidc-mirror"
    context = cli.make_context("oidc-mirror", rest)
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, below, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert below is not None
        command, context = below, below.make_context(name, rest, parent=context)
    assert context.command_path.startswith(" ".join(("oidc-mirror", *words)))


NAMES = """publish: {bucket: oidc-bucket, region: eu-west-1}
issuers:
  - {name: syd-prod, issuer: https://oidc-bucket.s3.eu-west-1.amazonaws.com/a, apiservers: [https://10.0.0.1]}
  - {name: per-prod, issuer: https://oidc-bucket.s3.eu-west-1.amazonaws.com/b, apiservers: [https://10.0.0.2]}
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("--config {} status s", ["syd-prod"]),
        ("status --config {} -", None),
        ("status --config {} ", ["syd-prod", "per-prod"]),
        ("--config {} run --only p", ["per-prod"]),
        ("--config {} adopt syd-prod p", ["per-prod"]),
        ("--config {} render rbac ", ["syd-prod", "per-prod"]),
        ("--config {} provision bucket s", ["syd-prod"]),
        ("--config {}-none status ", []),
    ],
)
def test_shell_completes_names_of_issuers(words: str, offered: list[str] | None, tmp_path: Path) -> None:
    """The names come from the configuration on the command line. An unreadable one gives no names and no error."""
    config = tmp_path / "mirror.yaml"
    config.write_text(NAMES)
    line = words.format(config)
    *before, last = line.split(" ")
    environ = {"_OIDC_MIRROR_COMPLETE": "bash_complete", "COMP_WORDS": f"oidc-mirror {line}"}
    environ["COMP_CWORD"] = str(len(before) + 1 if not last else len(line.split()))
    done = subprocess.run(
        [sys.executable, "-m", "mirror"],
        env=dict(os.environ) | environ,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [each.removeprefix("plain,") for each in done.stdout.split()]
    assert done.stderr == ""
    assert ("--help" in found) if offered is None else found == offered
