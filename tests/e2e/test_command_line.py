"""The command line as a shell uses it: completion, closed and full streams, help, mistakes."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from support.daemons import free_port
from support.program import MIRROR, PROJECT, finish

BAD = "issuers: [{name: A}]\n"
HOST = "https://oidc-bucket.s3.ap-southeast-2.amazonaws.com"
COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


def small_world(folder: Path, port: int) -> Path:
    """A configuration whose apiserver and bucket are both at a loopback port."""
    at = f"https://127.0.0.1:{port}"
    config = {
        "state_dir": "state",
        "publish": {"bucket": "oidc-bucket", "region": "ap-southeast-2", "endpoint_url": at, "base_url": HOST},
        "issuers": [{"name": "syd", "issuer": f"{HOST}/x", "apiservers": [at]}],
    }
    (folder / "mirror.yaml").write_text(json.dumps(config))
    return folder / "mirror.yaml"


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Throw-away credentials, and none of this machine's settings."""
    left_out = ("OIDC_", "AWS_", "GIT_", "NO_COLOR", "TERM")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    files = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testsecret", "AWS_EC2_METADATA_DISABLED": "true"}
    return plain | files | keys | {"HOME": str(folder)} | more


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `oidc-mirror` to its end."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("OIDC_")} | environ
    return finish([*MIRROR, *words], env)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("oidc-mirror ", {"run", "status", "schema", "demo"}),
        ("oidc-mirror sch", {"schema"}),
        ("oidc-mirror run --", {"--once", "--dry-run", "--only", "--output", "--config", "--help"}),
        ("oidc-mirror --log", {"--log-level", "--log-format"}),
        ("oidc-mirror --log-level de", {"debug"}),
    ],
    ids=["all_commands", "one_command", "options_of_a_command", "global_options", "values"],
)
def test_shell_completion_offers_what_may_follow(words: str, offered: set[str]) -> None:
    """The lines of the README for ~/.bashrc complete commands, options and values."""
    done = run(
        _OIDC_MIRROR_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1), TERM="dumb"
    )
    found = {line.partition(",")[2] for line in done.stdout.splitlines()}
    assert offered <= found
    assert all(each.startswith(words.rsplit(" ", maxsplit=1)[-1]) for each in found)


@pytest.mark.parametrize(
    ("words", "redirect", "status"),
    [
        ("--help", "> /dev/full", 1),
        ("--help", ">&-", 1),
        ("--help", "2>&-", 0),
        ("--help", "2> /dev/full", 0),
        ("--help", ">&- 2>&- <&-", 1),
        ("--help", "| (exec <&-; sleep 1; exit 7)", 7),
        ("run --once --config {bad}", "> /dev/full", 2),
        ("run --once --config {bad}", "2>&-", 2),
        ("run --once --config {bad}", "2> /dev/full", 2),
        ("run --once --config {bad}", ">&- 2>&-", 2),
    ],
)
def test_stream_that_takes_nothing_costs_no_traceback(tmp_path: Path, words: str, redirect: str, status: int) -> None:
    """A closed stdout is reported by the status; a full stderr does not change the status."""
    (tmp_path / "bad.yaml").write_text(BAD)
    done = shell(f"{words.format(bad=tmp_path / 'bad.yaml')} {redirect}")
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == status


def shell(line: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `oidc-mirror LINE` in a shell."""
    env = dict(os.environ) | environ
    command = ["bash", "-c", f"{' '.join(MIRROR)} {line}"]
    return subprocess.run(command, env=env, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_unwritable_output_is_reported() -> None:
    """The cause is printed where it can still be read; a reader that stops early is no error."""
    assert "No space left on device" in shell("schema > /dev/full").stderr
    assert "Bad file descriptor" in shell("schema >&-").stderr
    assert shell("schema | head -1").stderr == ""


@pytest.mark.parametrize("redirect", ["2>&-", "2> /dev/full"])
def test_unwritable_log_does_not_lose_the_report(tmp_path: Path, redirect: str) -> None:
    """The report is whole on stdout although not one line of the log could be written."""
    config = small_world(tmp_path, free_port())
    done = shell(f"--config {config} --once --dry-run --output json {redirect}", **environment(tmp_path))
    assert json.loads(done.stdout)["exit_status"] == 1
    assert done.returncode == 1


def test_output_is_ascii_for_programs(tmp_path: Path) -> None:
    """JSON carries no character that a terminal could obey, wherever it comes from."""
    config = small_world(tmp_path, free_port())
    text = json.loads(config.read_text()) | {"state_dir": "\u00e9tat"}
    config.write_text(json.dumps(text))
    done = shell(f"--config {config} --once --dry-run --output json", **environment(tmp_path))
    assert done.stdout.isascii()


def on_a_terminal(*words: str, environ: dict[str, str]) -> bytes:
    """All that a command writes to a terminal, stdout and stderr as they come."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*MIRROR, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environ, cwd=PROJECT)
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65536):
            written += piece
    except OSError:  # how Linux reports that the other end of the terminal is closed
        pass
    finally:
        os.close(ours)
        process.wait(30)
    return written


@pytest.mark.parametrize(
    ("more", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
    ids=["terminal", "NO_COLOR-empty", "NO_COLOR", "dumb"],
)
def test_colours_only_where_they_are_wanted(tmp_path: Path, more: dict[str, str], coloured: bool) -> None:
    """NO_COLOR and TERM=dumb hold for errors, for the report and for the log."""
    environ = environment(tmp_path, **more)
    error = on_a_terminal("--config", str(tmp_path / "none.yaml"), "--once", environ=environ)
    config = small_world(tmp_path, free_port())
    a_pass = on_a_terminal("--config", str(config), "--log-level", "info", "--once", "--dry-run", environ=environ)
    assert b"cannot be read" in error
    assert b"apiserver.unusable" in COLOUR.sub(b"", a_pass)
    assert b"1 issuer: 1 failed." in a_pass
    assert (bool(COLOUR.search(error)), bool(COLOUR.search(a_pass))) == (coloured, coloured)
    assert more["TERM"] != "dumb" or b"\x1b" not in a_pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_interrupt_ends_a_pass_that_hangs(tmp_path: Path, number: signal.Signals) -> None:
    """Apiserver and bucket take the connection and never answer: 130 at once, one sentence, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        config = small_world(tmp_path, listener.getsockname()[1])
        command = [*MIRROR, "--config", str(config), "--once"]
        environ = environment(tmp_path)
        process = subprocess.Popen(command, env=environ, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        connections = [listener.accept()[0] for _ in range(2)]
        began = time.monotonic()
        process.send_signal(number)
        _, reported = process.communicate(timeout=20)
        seconds = time.monotonic() - began
        for connection in connections:
            connection.close()
    assert process.returncode == 130
    assert reported.decode().strip() == "Interrupted; the next pass finishes what this one began."
    assert seconds < 3


def test_help_names_every_command_and_exit_status() -> None:
    """Help lists all kinds."""
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


def test_missing_configuration_is_reported_with_its_path(tmp_path: Path) -> None:
    """The file that was looked for is named, wherever its name came from."""
    missing = tmp_path / "none.yaml"
    for done in (run("--config", str(missing), "--once"), run("--once", OIDC_MIRROR_CONFIG=str(missing))):
        assert done.returncode == 2
        assert str(missing) in done.stderr
        assert "`--config`" in done.stderr
        assert "`$OIDC_MIRROR_CONFIG`" in done.stderr


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
