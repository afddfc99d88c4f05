import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mirror.history.git_command import KEPT_STDERR_BYTES, Child, Finished, run

ENVIRON = {"PATH": os.environ["PATH"]}


def run_python(code: str, *, stdin: bytes = b"", timeout_seconds: float = 20, max_out_bytes: int = 10**8) -> Finished:
    return run(
        [sys.executable, "-S", "-c", code],
        environ=ENVIRON,
        stdin=stdin,
        timeout_seconds=timeout_seconds,
        max_out_bytes=max_out_bytes,
        stop=threading.Event(),
    )


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_all_pipes_are_served_at_once() -> None:
    """A child that fills stderr before it reads, and echoes more than a pipe holds, ends with all its bytes."""
    code = (
        "import sys; sys.stderr.write('e' * 1_000_000); sys.stderr.flush(); "
        "sys.stdout.buffer.write(sys.stdin.buffer.read())"
    )
    data = os.urandom(3_000_000)
    finished = run_python(code, stdin=data)
    assert finished.ok
    assert finished.out == data
    assert finished.err == "e" * KEPT_STDERR_BYTES


def test_without_input_nothing_is_inherited() -> None:
    """A child that is given no input reads an end of file, never this program's stdin."""
    assert run_python("import sys; print(len(sys.stdin.read()))").out == b"0\n"


def test_exit_status_and_signal_are_told() -> None:
    """The exit status is the child's; a signal is its negative number."""
    assert run_python("raise SystemExit(7)").status == 7
    assert run_python("import os; os.kill(os.getpid(), 9)").status == -9


def test_child_that_closes_its_input_is_no_error_of_ours() -> None:
    """A child that ends without reading gives its own status, not a broken pipe."""
    assert run_python("raise SystemExit(3)", stdin=b"x" * 1_000_000).status == 3


def test_child_that_closes_its_outputs_and_goes_on_is_waited_for() -> None:
    """The end of both outputs is not yet the end of the process."""
    code = "import os, time; os.close(1); os.close(2); time.sleep(0.4); os._exit(5)"
    assert run_python(code).status == 5


def test_too_much_output_is_cut_off() -> None:
    """A child that floods stdout is killed instead of filling the memory."""
    finished = run_python("while True: print('x' * 10_000)", max_out_bytes=1_000_000)
    assert "more than" in finished.stopped
    assert len(finished.out) < 3_000_000
    assert not finished.ok


@pytest.mark.parametrize("ignores", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "])
def test_deadline_ends_the_whole_family(tmp_path: Path, ignores: str) -> None:
    """At its deadline the child dies with its own children, even when it ignores SIGTERM."""
    note = tmp_path / "pid"
    inner = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(300)"
    code = f"{ignores}import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {inner!r}])"
    begun = time.monotonic()
    finished = run_python(code, timeout_seconds=1.0)
    assert finished.stopped == "it did not end within 1 s"
    assert time.monotonic() - begun < 6
    time.sleep(0.1)
    assert not alive(int(note.read_text()))


def test_grandchild_that_holds_the_pipes_is_not_waited_for() -> None:
    """A daemon that git leaves behind (an ssh master) may keep the pipes: the result is there all the same."""
    code = "import subprocess; p = subprocess.Popen(['sleep', '30']); print(p.pid)"
    begun = time.monotonic()
    finished = run_python(code)
    os.kill(int(finished.out), 9)
    assert finished.ok
    assert time.monotonic() - begun < 10


def test_conversation_goes_back_and_forth() -> None:
    """What is sent to a child is answered while it lives, as often as one likes."""
    code = "import sys\nfor line in sys.stdin: print(line.upper(), end='', flush=True)"
    child = Child.start([sys.executable, "-S", "-c", code], environ=ENVIRON)
    for _ in range(2):
        child.out.clear()
        child.send(b"hello\n")
        while b"\n" not in child.out:
            child.pump(1)
        assert child.out == b"HELLO\n"
    child.send(b"", last=True)
    while not child.silent():
        child.pump(1)
    child.kill()
    assert child.process.returncode == 0


def test_dead_child_is_closed_quietly() -> None:
    """Sending to a child that is gone, and killing it twice, are no errors."""
    child = Child.start(["true"], environ=ENVIRON)
    child.process.wait()
    child.send(b"x" * 100_000)
    while not child.silent():
        child.pump(0.1)
    child.pump(0.1)
    child.send(b"more")
    child.kill()
    child.kill()
    assert child.pump(0) is False


def test_missing_program_is_an_oserror() -> None:
    """A program that does not exist is told as such, before anything runs."""
    with pytest.raises(FileNotFoundError):
        run(["no-such-program-here"], environ=ENVIRON, timeout_seconds=1, stop=threading.Event())


def test_file_size_is_limited(tmp_path: Path) -> None:
    """A child cannot write a file beyond the limit that it was given."""
    big = tmp_path / "big"
    code = f"import time; time.sleep(0.3); f = open({str(big)!r}, 'wb', 0); [f.write(b'x' * 4096) for _ in range(99)]"
    child = Child.start([sys.executable, "-S", "-c", code], environ=ENVIRON, stdin=False, max_file_bytes=10_000)
    with pytest.raises(subprocess.TimeoutExpired):
        child.process.wait(0.05)
    while not child.silent():
        child.pump(0.1)
    assert child.process.wait(10) != 0
    child.kill()
    assert big.stat().st_size <= 10_000
