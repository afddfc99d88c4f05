"""A command that tests fork is what a process of it would be: its surroundings, its parent, its end."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.processes import children, end_children
from support.program import MIRROR, PROJECT, Forked, Process, installed, start, start_process

pytestmark = pytest.mark.server

Starter = Callable[..., Process]
UMASK = 0o137
"""One that no process here has; the program takes nothing from it."""


def plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("OIDC_")}


def ended(starter: Starter, folder: Path, *words: str, **environ: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a command."""
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        where = {"stdout": out.fileno(), "stderr": err.fileno(), "cwd": folder}
        status = starter([*MIRROR, *words], plain() | environ, **where).wait(60)
        return status, (folder / "out").read_text(), (folder / "err").read_text()


@pytest.mark.parametrize(
    ("words", "status"),
    [(("schema",), 0), (("--help",), 0), (("no-such-command",), 2), (("status",), 2)],
    ids=lambda each: each[-1] if isinstance(each, tuple) else None,
)
def test_fork_ends_as_a_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], status: int
) -> None:
    """The same status and the same text on both streams."""
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    forked = ended(start, tmp_path, *words, OIDC_MIRROR_CONFIG="named-by-environment.yaml")
    assert forked == ended(start_process, tmp_path, *words, OIDC_MIRROR_CONFIG="named-by-environment.yaml")
    assert forked[0] == status


@pytest.fixture
def waiting(tmp_path: Path) -> Forked:
    """A command that waits for a configuration that is never written, with a umask of its own."""
    os.mkfifo(tmp_path / "mirror.yaml")
    previous = os.umask(UMASK)
    try:
        with open(os.devnull, "r+b") as nothing:  # noqa: PTH123  no file
            streams = dict.fromkeys(("stdin", "stdout", "stderr"), nothing.fileno())
            process = start([*MIRROR, "--config", "mirror.yaml", "status"], plain(), cwd=tmp_path, **streams)
    finally:
        os.umask(previous)
    assert isinstance(process, Forked)
    return process


def test_fork_has_the_surroundings_of_a_process(waiting: Forked, tmp_path: Path) -> None:
    """Its parent, group, folder and umask, one thread, and soon no descriptor but three."""
    entry = Path(f"/proc/{waiting.pid}")
    while {int(each.name) for each in (entry / "fd").iterdir()} != {0, 1, 2} or (entry / "cwd").readlink() != tmp_path:
        assert waiting.poll() is None
    assert waiting.pid in children()
    assert os.getpgid(waiting.pid) == os.getpgid(0)
    assert f"\nUmask:\t{UMASK:04o}\n" in (entry / "status").read_text()
    assert len(list((entry / "task").iterdir())) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
def test_fork_that_is_killed_says_by_what(waiting: Forked, number: signal.Signals) -> None:
    """As `Popen` does; until then, waiting for it has a limit, and afterwards no signal goes anywhere."""
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.01)
    waiting.send_signal(number)
    assert waiting.wait(60) == waiting.poll() == -number
    waiting.kill()


def test_fork_ends_with_its_test(waiting: Forked) -> None:
    """What ends a test's processes finds it, although this process has not started it."""
    end_children(children() - {waiting.pid})
    assert not Path(f"/proc/{waiting.pid}").exists()


@pytest.mark.parametrize("variable", ["LC_ALL", "PYTHONUTF8"])
def test_what_python_reads_at_its_start_needs_a_process(tmp_path: Path, variable: str) -> None:
    """The process that forks has begun without it."""
    with (tmp_path / "out").open("w") as out:
        process = start([*MIRROR, "--help"], plain() | {variable: "1"}, stdout=out.fileno(), stderr=out.fileno())
    assert isinstance(process, subprocess.Popen)
    process.kill()
    process.wait(60)


def test_shell_runs_a_fork_with_its_own_surroundings(tmp_path: Path) -> None:
    """Streams, folder, variables and status are those of the shell, and commands of one pipe run at the same time."""
    program = tmp_path / "oidc-mirror"
    script = """
        export OIDC_MIRROR_CONFIG=named.yaml
        "$0" schema | head -c 1; "$0" status 2>&1 >/dev/null | grep -om 1 named.yaml; "$0" no-such 2>/dev/null; echo $?
        mkfifo waits.yaml; "$0" --config waits.yaml status 2>/dev/null & "$0" --version | grep -c oidc-mirror
        echo '{}' >waits.yaml; wait $!; echo $?
    """
    with installed(program):
        done = subprocess.run(
            ["bash", "-c", script, program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
    assert done.stdout.split("\n") == ["{named.yaml", "2", "1", "2", ""]
    assert done.stderr == ""
