"""A child process whose pipes are all served at once, with bounded memory and a deadline.

Reading one pipe to its end before the other deadlocks as soon as the child fills the other one, and so does writing
without reading. Here every wait serves stdin, stdout and stderr together, in one thread.
"""

import contextlib
import os
import resource
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

MAX_OUT_BYTES = 64 * 1024 * 1024
KEPT_STDERR_BYTES = 16 * 1024
TICK_SECONDS = 0.1
GRACE_SECONDS = 1.0
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Finished:
    """How a child ended. `stopped` says in words why it was killed, and is empty when it ended by itself.

    `status` is its exit status, negative for a signal. `err` is the end of its stderr, at most 16 KiB.
    """

    status: int
    out: bytes
    err: str
    stopped: str = ""

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with status 0."""
        return self.status == 0 and not self.stopped


class Child:
    """A running process in a session of its own, so that it dies with everything it started."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.out = bytearray()
        self._err = bytearray()
        self._unsent = bytearray()
        self._last_sent = False
        self._selector = selectors.DefaultSelector()

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        environ: Mapping[str, str],
        stdin: bool = True,
        pass_fds: Sequence[int] = (),
        max_file_bytes: int | None = None,
    ) -> "Child":
        """Start `argv` without a shell; without `stdin` it reads nothing.

        No file that it writes gets larger than `max_file_bytes`; only Linux can set that from outside.

        Raises:
            OSError: The program could not be started.
        """
        process = subprocess.Popen(  # noqa: S603 - an argument list of ours, never a shell
            argv,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environ),
            start_new_session=True,
            pass_fds=pass_fds,
        )
        if max_file_bytes is not None and sys.platform == "linux":
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
        child = cls(process)
        for stream in (process.stdout, process.stderr):
            child._watch(stream, selectors.EVENT_READ)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
        return child

    @property
    def err(self) -> str:
        """The end of what it wrote to stderr."""
        return self._err.decode("utf-8", "replace")

    def send(self, data: bytes, *, last: bool = False) -> None:
        """Queue `data` for its stdin, which is closed behind the `last`."""
        self._unsent += data
        self._last_sent = last
        stdin = self.process.stdin
        if stdin is not None and not stdin.closed and stdin not in self._streams():
            self._watch(stdin, selectors.EVENT_WRITE)

    def pump(self, seconds: float) -> bool:
        """Serve all pipes once, waiting at most `seconds`; False when nothing moved."""
        ready = self._selector.select(max(0.0, seconds)) if self._selector.get_map() else []
        for key, _ in ready:
            if key.fileobj is self.process.stdin:
                self._write()
            else:
                self._read(key.fileobj)
        return bool(ready)

    def silent(self) -> bool:
        """Whether both of its outputs have ended."""
        return not any(stream in self._streams() for stream in (self.process.stdout, self.process.stderr))

    def kill(self) -> None:
        """End it and everything it started: SIGTERM, so that git removes its lock files, then SIGKILL."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_SECONDS)
        if self.process.returncode is None:
            self._signal(signal.SIGKILL)
            self.process.wait()
        self.close()

    def close(self) -> None:
        """Close our ends of the pipes."""
        self._selector.close()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _signal(self, number: signal.Signals) -> None:
        # The group is the child's own (a new session), and the child is not reaped yet: the number is still its.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def _streams(self) -> list[object]:
        return [key.fileobj for key in (self._selector.get_map() or {}).values()]

    def _watch(self, stream: IO[bytes] | None, event: int) -> None:
        if stream is not None:
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, event)

    def _write(self) -> None:
        stdin = self.process.stdin
        if stdin is None:
            return
        try:
            sent = os.write(stdin.fileno(), self._unsent[:_CHUNK_BYTES]) if self._unsent else 0
            del self._unsent[:sent]
        except BlockingIOError:
            return
        except OSError:
            # It closed its stdin: its exit status and stderr tell why.
            self._unsent.clear()
            self._last_sent = True
        if not self._unsent:
            self._selector.unregister(stdin)
            if self._last_sent:
                # Nothing is buffered in the object itself; closing only gives the child its end of file.
                stdin.close()

    def _read(self, stream: object) -> None:
        is_out = stream is self.process.stdout
        source = self.process.stdout if is_out else self.process.stderr
        data = os.read(source.fileno(), _CHUNK_BYTES) if source is not None else b""
        if not data:
            self._selector.unregister(stream)  # type: ignore[arg-type]  # it is what we registered
        elif is_out:
            self.out += data
        else:
            self._err += data
            del self._err[:-KEPT_STDERR_BYTES]


def run(
    argv: Sequence[str],
    *,
    environ: Mapping[str, str],
    timeout_seconds: float,
    stop: threading.Event,
    stdin: bytes = b"",
    pass_fds: Sequence[int] = (),
    max_file_bytes: int | None = None,
    max_out_bytes: int = MAX_OUT_BYTES,
) -> Finished:
    """Run `argv` to its end, or kill it with its children at its deadline, at `stop`, or when it says too much.

    Raises:
        OSError: The program could not be started.
    """
    deadline = time.monotonic() + timeout_seconds
    child = Child.start(argv, environ=environ, stdin=bool(stdin), pass_fds=pass_fds, max_file_bytes=max_file_bytes)
    stopped = ""
    try:
        if stdin:
            child.send(stdin, last=True)
        while not stopped and not _ended(child):
            stopped = _why_stop(child, deadline, timeout_seconds, stop, max_out_bytes)
    finally:
        child.kill()
    return Finished(child.process.returncode, bytes(child.out), child.err, stopped)


def _ended(child: Child) -> bool:
    """Serve the pipes; True when the process has ended and nothing more comes.

    A grandchild (an ssh master, a credential cache) may hold the pipes open for hours: it is not waited for.
    """
    if child.silent():
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(TICK_SECONDS)
        return child.process.poll() is not None
    exited = child.process.poll() is not None
    return not child.pump(TICK_SECONDS) and exited


def _why_stop(child: Child, deadline: float, timeout_seconds: float, stop: threading.Event, max_out_bytes: int) -> str:
    if stop.is_set():
        return "the program is ending"
    if len(child.out) > max_out_bytes:
        return f"it said more than {max_out_bytes // 1024} KiB"
    if time.monotonic() >= deadline:
        return f"it did not end within {timeout_seconds:g} s"
    return ""
