"""`oidc-mirror demo`: the first command of most users; it must show what it announces, and leave nothing behind."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from support.program import COVERAGE

pytestmark = [pytest.mark.s3, pytest.mark.timeout(300)]

DEMO = (sys.executable, "-m", "mirror", "demo")
PROJECT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60


def environment(folder: Path) -> dict[str, str]:
    """A home and a temporary folder of the test's own, and none of this machine's settings."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OIDC_", "AWS_", "GIT_"))}
    return plain | {"HOME": str(folder), "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}


@contextmanager
def started(folder: Path, *prefix: str, until: str) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    """A demo, started by way of the command `prefix`, and its lines up to one that fits `until`; killed at the end."""
    with subprocess.Popen(
        (*prefix, *DEMO, "--serve"),
        env=environment(folder) | COVERAGE,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        lines: list[str] = []
        try:
            while not lines or re.search(until, lines[-1]) is None:
                line = demo.stdout.readline()
                assert line, lines
                lines.append(line.rstrip("\n"))
            yield demo, lines
        finally:
            demo.kill()


def processes(folder: Path) -> list[str]:
    """The command lines of the processes that work for a demo in `folder`: their environment or words name it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            cwd = str((entry / "cwd").readlink())
        except OSError:
            continue
        if str(folder) in words or cwd.startswith(str(folder)):
            found.append(words)
    return found


def wait_until_gone(folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := processes(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_demo_prints_its_steps_and_ends_healthy(tmp_path: Path) -> None:
    """Each step ends as announced; every command that is printed for pasting works as it is; Ctrl-C ends it with 0."""
    with started(tmp_path, until=r"\$ curl .*openid-configuration") as (demo, lines):
        text = "\n".join(lines)
        assert "This should have ended with" not in text
        steps = [line for line in lines if line[:1].isdigit() and line[1:3] == ". "]
        assert [step[0] for step in steps] == list("123456789")
        assert "forbidden" in text
        # One public set at the end: the new key alone.
        assert sum(line.count('"kid"') for line in lines if line.strip().startswith('{"keys"')) == 1
        assert re.search(r"^   current  demo ", text.partition("How things stand")[2], re.MULTILINE)
        assert "rotation" in text.partition("The life of every key")[2]
        (page,) = set(re.findall(r"the status page is (http://127\.0\.0\.1:[0-9]+/)", text))
        with urllib.request.urlopen(page, timeout=10) as answer:  # noqa: S310  our own URL
            assert "demo" in answer.read().decode()
        (folder,) = tmp_path.glob("oidc-mirror-demo-*")
        commands = [line.removeprefix("   $ ") for line in text.partition("for another terminal:")[2].splitlines()]
        for command in filter(None, commands):
            # The shell that they are pasted into has its own AWS settings, and another current directory.
            done = subprocess.run(
                ("bash", "-c", command),
                env=environment(tmp_path) | {"AWS_PROFILE": "mine", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            assert "Traceback" not in done.stderr
            if shlex.split(command)[1] == "check":
                assert "0 failed, 0 warnings" in done.stdout, done.stdout
        asked = {shlex.split(command)[1] for command in filter(None, commands)}
        assert asked >= {"status", "check", "verify", "history", "--once"}
        assert yaml.safe_load((folder / "mirror.yaml").read_text())["issuers"][0]["keys"] == {"retain_removed": "24h"}
        certificate = x509.load_pem_x509_certificate((folder / "server.crt").read_bytes())
        assert certificate.not_valid_after_utc - datetime.now(UTC) < timedelta(days=91)
        assert "The life of every key" in (folder / "history.html").read_text()
        demo.send_signal(signal.SIGINT)
        assert demo.stdout is not None
        rest = demo.stdout.read()
        assert demo.wait(PATIENCE_SECONDS) == 0, rest
    assert not folder.exists()
    wait_until_gone(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=["term", "hup", "int"])
def test_signal_ends_the_demo_and_its_servers(tmp_path: Path, number: signal.Signals) -> None:
    """Also where a shell started it with SIGINT ignored, as in the background of a script; no folder stays."""
    ignoring = ("bash", "-c", 'trap "" INT; exec "$@"', "bash")
    with started(tmp_path, *ignoring, until="Create a bucket") as (demo, _):
        assert len(processes(tmp_path)) >= 1  # the S3 server, and the pass
        demo.send_signal(number)
        assert demo.wait(PATIENCE_SECONDS) == 130
    assert not list(tmp_path.glob("oidc-mirror-demo-*"))
    wait_until_gone(tmp_path)


def test_servers_end_with_a_demo_that_was_killed(tmp_path: Path) -> None:
    """Only a closed pipe signals them; the folder stays, because no process is left to remove it."""
    with started(tmp_path, until="Create a bucket") as (demo, _):
        assert len(processes(tmp_path)) >= 1
        demo.kill()
        assert demo.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    wait_until_gone(tmp_path)


def test_demo_without_its_packages_names_the_remedy(tmp_path: Path) -> None:
    """Where the extra is not installed: one sentence, the remedy, exit status 2, no traceback."""
    # None says that there is no such module (Python's reference, section 5.3.1).
    program = "import sys; sys.modules['trustme'] = None; from mirror.__main__ import main; main()"
    words = [sys.executable, "-c", program, "demo"]
    done = subprocess.run(words, env=environment(tmp_path), cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "make demo" in done.stderr
    assert "Traceback" not in done.stderr
