"""Start and end of the process: cheap imports, and standard streams that survive a full disk or a closed pipe.

Each measure below was measured on a `--once` pass over one unchanged cluster (docs/adr/0007).
"""

import gc
import io
import os
import signal
import sys
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, cast

from mirror.redaction import redact, remember_environment

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Output(io.FileIO):
    """A descriptor that takes everything; `lost` is why not all of it arrived, None when it did."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.lost: OSError | None = None

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write, or remember why not."""
        try:
            return super().write(data)
        except OSError as error:
            self.lost = error
            return memoryview(data).nbytes


def steady() -> Output:
    """Make `sys.stdout` and `sys.stderr` streams that never raise; call it before anything is written.

    Python has None for a stream that is closed when the process begins, and the next file that is opened gets its
    number, and with it what was meant for the stream. So the number is taken, by something that cannot be written.

    Returns:
        What stdout writes to.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)  # as the real ones; it takes the lowest number
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    remember_environment(os.environ)
    output, errors = Output(1), Output(2)
    sys.stdout, sys.stderr = _text(output, sys.stdout), _text(errors, sys.stderr, line_buffering=True)
    return output


class RedactingText(io.TextIOWrapper):
    """A stream that removes credentials in use from everything that is written."""

    def write(self, text: str, /) -> int:
        """Write `text` without what `mirror.redaction.redact` knows."""
        super().write(redact(text))
        return len(text)


def _text(raw: Output, before: Any, *, line_buffering: bool = False) -> io.TextIOWrapper:
    return RedactingText(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", "utf-8"),
        errors="backslashreplace",  # a letter that the terminal does not know costs no report
        line_buffering=line_buffering or raw.isatty(),
    )


def speak_utf8() -> None:
    """Start again in Python's UTF-8 mode (PEP 540) if the locale has another encoding.

    Configurations are UTF-8, and so are the names of folders and files in them; an ASCII locale could not open those.
    """
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode:
        return
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606  our own interpreter


def secure_umask() -> None:
    """Make new files unwritable for other users, whatever the umask was; the group's permissions stay."""
    os.umask(os.umask(0o077) | 0o002)


INTERRUPTED = 130
_DONE = (0, 3)
"""The statuses (design 4.6) of a command that did its work; 1 comes before both."""


def speed_up_imports() -> None:
    """Prepare this process for many imports; call it first.

    - The garbage collector runs rarely: what imports allocate lives as long as the process.
    - pydantic does not search all installed packages for plugins, none of which has any business here.
    - `httpx` imports its own command line, and with it rich, pygments and markdown, whenever these are installed; it
      gets a stub, because that command line is never called from here.
    - `httpcore` imports h2 whenever it is installed; we speak HTTP/1.1 alone.
    """
    gc.set_threshold(1_000_000, 20, 20)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if "httpx" not in sys.modules:
        sys.modules.setdefault("httpx._main", _without_command_line())
    # None says that there is no such module (Python's reference, section 5.3.1).
    cast("dict[str, Any]", sys.modules).setdefault("h2", None)


def _without_command_line() -> ModuleType:
    def main() -> NoReturn:
        raise SystemExit("The command line of httpx is not loaded inside oidc-mirror.")

    module = ModuleType("httpx._main")
    module.__dict__["main"] = main
    return module


def end_quietly() -> None:
    """Until the daemon listens itself: SIGTERM ends the process with 0, because nothing was begun; the others wait.

    To reload or to make a pass is what happens next anyway, and must not end a process that starts.
    """

    def end(_signal: int, _frame: FrameType | None) -> NoReturn:
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)


_M_ARENA_MAX = -8
"""`mallopt(3)`"""


def share_one_heap() -> None:
    """Let all threads of the daemon allocate from one heap; call it before the first thread.

    glibc gives threads heaps of their own, up to eight for each core, and what is freed in one is not used in another:
    connections that are replaced every ten passes left 50 MiB in them (docs/benchmarks.md). Other C libraries have
    one heap, and no such function.
    """
    import ctypes  # noqa: PLC0415  only the daemon needs it

    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)


def exit_now(status: int, output: Output) -> NoReturn:
    """End the process with `status` without tearing every module down; what was written is flushed.

    When not all of it arrived at `output`, the command did not do what it is for: that is reported, and is a failure.

    Only for the end of the command line: all servers, threads, child processes and temporary files are gone by then,
    because each lives in a `with` block.
    """
    sys.stdout.flush()
    if output.lost is not None:
        status = 1 if status in _DONE else status
        if not isinstance(output.lost, BrokenPipeError):  # who closes a pipe, as `head` does, has read enough
            sys.stderr.write(
                "error: Not all of the output could be written to stdout.\n"
                f"  cause: {output.lost.strerror}\n"
                "  remedy: Let stdout lead to something that can be written and has room.\n"
            )
    sys.stderr.flush()
    os._exit(status)
