"""The command line as a shell uses it: completion, closed and full streams, help, mistakes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MIRROR = [sys.executable, "-m", "mirror"]
BAD = "issuers: [{name: A}]\n"


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("OIDC_")} | environ
    return subprocess.run([*MIRROR, *words], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "offered"),
    [("oidc-mirror ", {"run", "status", "schema", "demo"}), ("oidc-mirror sch", {"schema"})],
    ids=["all_commands", "one_command"],
)
def test_shell_completion_offers_commands(words: str, offered: set[str]) -> None:
    """What the README tells to put into ~/.bashrc completes the names of commands."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['oidc-mirror']; from mirror.__main__ import main; main()"],
        env=dict(os.environ) | {"_OIDC_MIRROR_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert offered <= {line.partition(",")[2] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("redirect", ["> /dev/full", ">&-", "2>&-", "2> /dev/full"])
@pytest.mark.parametrize("words", ["--help", "--config {config} --once"], ids=["help", "mistake"])
def test_stream_that_takes_nothing_costs_no_traceback(tmp_path: Path, redirect: str, words: str) -> None:
    """A closed or full stream is not our defect, and is none of Python's to tell."""
    config = tmp_path / "mirror.yaml"
    config.write_text(BAD)
    line = f"{sys.executable} -m mirror {words.format(config=config)} {redirect}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode in (0, 1, 2)


def test_help_names_every_command_and_exit_status() -> None:
    """Whoever asks for help sees what there is."""
    done = run("--help")
    assert done.returncode == 0
    for word in ("run", "status", "history", "wait", "approve", "revoke", "adopt", "check", "schema", "demo", "130"):
        assert word in done.stdout


def test_mistakes_of_a_configuration_come_at_once(tmp_path: Path) -> None:
    """Exit 2, every mistake with its path, no traceback."""
    config = tmp_path / "mirror.yaml"
    config.write_text(BAD)
    done = run("run", "--once", "--config", str(config))
    assert done.returncode == 2
    assert "issuers[0].name" in done.stderr
    assert "issuers[0].apiservers" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_configuration_is_told_with_its_path(tmp_path: Path) -> None:
    """The file that was looked for is named, wherever its name came from."""
    missing = tmp_path / "none.yaml"
    for done in (run("--config", str(missing), "--once"), run("--once", OIDC_MIRROR_CONFIG=str(missing))):
        assert done.returncode == 2
        assert str(missing) in done.stderr


def test_unknown_issuer_is_a_mistake_of_words(tmp_path: Path) -> None:
    """`--only` with a name that is not configured does nothing and says which names are."""
    config = tmp_path / "mirror.yaml"
    config.write_text(
        "publish: {bucket: oidc-bucket, region: ap-southeast-2}\n"
        "issuers: [{name: syd, issuer: 'https://oidc-bucket.s3-ap-southeast-2.amazonaws.com/x',"
        " apiservers: ['https://10.0.0.1:6443']}]\n"
    )
    done = run("--config", str(config), "--once", "--only", "mel")
    assert done.returncode == 2
    assert "mel" in done.stderr
    assert "syd" in done.stderr


def test_no_daemon_yet_is_told(tmp_path: Path) -> None:
    """`run` without `--once` says what to do instead."""
    config = tmp_path / "mirror.yaml"
    config.write_text(
        "publish: {bucket: oidc-bucket, region: ap-southeast-2}\n"
        "issuers: [{name: syd, issuer: 'https://oidc-bucket.s3-ap-southeast-2.amazonaws.com/x',"
        " apiservers: ['https://10.0.0.1:6443']}]\n"
    )
    done = run("--config", str(config))
    assert done.returncode == 2
    assert "--once" in done.stderr
