"""Run git: arguments, environment, time limits and lock files.

Reading one pipe to its end before the other deadlocks when the child fills the other one. Writing without reading
deadlocks too. Here every wait serves stdin, stdout and stderr together, in one thread.

This module decides which arguments and environment git gets, and which parts of its errors may be shown.
Git runs isolated: no inherited repository, no prompt, no hook, no protocol but https, ssh and file.
The user's own git configuration (credentials, proxies, signing keys, `url.insteadOf`) still applies.

It also tells lock files of a killed git from those of a running one.
Every git command of ours runs under a shared `flock` on one file of the repository, and git itself inherits it. The
kernel releases the lock only when the last process that holds it ends. A process that gets the lock exclusively
therefore knows that no git of any mirror or operator command runs here. A git that a user runs by hand remains
possible. It holds a reference's lock for milliseconds, so a lock file that did not change for `SETTLED_SECONDS` is
stale.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import resource
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import IO

from mirror.concurrency import EXHAUSTED_REMEDY, is_exhausted, reap, within
from mirror.errors import HistoryError
from mirror.log import log_call, logs_calls
from mirror.redaction import redact_foreign

MAX_OUT_BYTES = 64 * 1024 * 1024
KEPT_STDERR_BYTES = 16 * 1024
TICK_SECONDS = 0.1
GRACE_SECONDS = 1.0
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class CompletedProcess:
    """How a child ended. `stopped` is the reason why it was killed; empty when it ended by itself.

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
    """A running process in its own session, so that killing it also kills everything it started."""

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

        No file that it writes gets larger than `max_file_bytes`; only Linux can set that limit from outside.

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
        """Queue `data` for its stdin, which is closed after the `last`."""
        self._unsent += data
        self._last_sent = last
        stdin = self.process.stdin
        if stdin is not None and not stdin.closed and stdin not in self._streams():
            self._watch(stdin, selectors.EVENT_WRITE)

    def poll_pipes(self, seconds: float) -> bool:
        """Serve all pipes once, waiting at most `seconds`; False when nothing moved."""
        ready = self._selector.select(max(0.0, seconds)) if self._selector.get_map() else []
        for key, _ in ready:
            if key.fileobj is self.process.stdin:
                self._write()
            else:
                self._read(key.fileobj)
        return bool(ready)

    def at_eof(self) -> bool:
        """Whether both of its outputs have ended."""
        return not any(stream in self._streams() for stream in (self.process.stdout, self.process.stderr))

    def kill(self) -> None:
        """End it and everything it started: SIGTERM first, so that git removes its lock files, then SIGKILL."""
        killed = self.process.poll() is None
        if killed:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_SECONDS)
        if self.process.returncode is None:
            self._signal(signal.SIGKILL)
            self.process.wait()
        reap(self.process.pid, killed=killed)
        self._selector.close()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _signal(self, number: signal.Signals) -> None:
        # The process group belongs to the child (a new session). The child is not reaped yet, so its id is not reused.
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
            # It closed its stdin: its exit status and stderr give the reason.
            self._unsent.clear()
            self._last_sent = True
        if not self._unsent:
            self._selector.unregister(stdin)
            if self._last_sent:
                # The object itself buffers nothing; closing only sends the child its end of file.
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
) -> CompletedProcess:
    """Run `argv` to its end; kill it with its children at the deadline, at `stop`, or when its output is too large.

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
    return CompletedProcess(child.process.returncode, bytes(child.out), child.err, stopped)


def _ended(child: Child) -> bool:
    """Serve the pipes; True when the process has ended and no more output follows.

    A grandchild (an ssh master, a credential cache) may hold the pipes open for hours. It is not waited for.
    """
    if child.at_eof():
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(TICK_SECONDS)
        return child.process.poll() is not None
    exited = child.process.poll() is not None
    return not child.poll_pipes(TICK_SECONDS) and exited


def _why_stop(child: Child, deadline: float, timeout_seconds: float, stop: threading.Event, max_out_bytes: int) -> str:
    if stop.is_set():
        return "the program is ending"
    if len(child.out) > max_out_bytes:
        return f"it said more than {max_out_bytes // 1024} KiB"
    if time.monotonic() >= deadline:
        return f"it did not end within {timeout_seconds:g} s"
    return ""


LOCAL_TIMEOUT_SECONDS = 60.0
SHOWN_CHARACTERS = 600

# Malformed but harmless commits (git-fsck(1)). They must not stop all mirrors from fetching.
_HARMLESS = (
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badFilemode",
    "badName",
    "badTimezone",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "multipleAuthors",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
)
_CONFIG = (
    "core.fsync=committed",
    "core.hooksPath=/dev/null",
    # Two mirrors on one machine take turns on a reference within milliseconds; git's default gives up after 0.1 s.
    "core.filesRefLockTimeout=3000",
    "core.packedRefsTimeout=3000",
    # `git gc` may write a bitmap while the history is shallow. Once the history is complete, that bitmap hides the
    # older commits from a push, and the server answers "missing necessary objects" (seen with git 2.39).
    "pack.useBitmaps=false",
    "repack.writeBitmaps=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.fsckObjects=true",
    *(f"fetch.fsck.{fault}=warn" for fault in _HARMLESS),
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.ssh.allow=always",
    "protocol.file.allow=always",
)
_KEPT = re.compile(
    r"GIT_(SSH|SSH_COMMAND|SSH_VARIANT|EXEC_PATH|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)"
    r"|SSL_\w+|HTTP_\w+|PROXY_\w+)"
)
_FIXED = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    # Set and empty: git then runs neither core.askPass nor SSH_ASKPASS.
    "GIT_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
    "GCM_INTERACTIVE": "never",
    "GIT_NO_REPLACE_OBJECTS": "1",
}
_DROPPED = frozenset({"LANGUAGE", "SSH_ASKPASS"})
_USER_INFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/]*@")
_OTHER_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]+")


def git_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of `environ` that git may see: only those `GIT_*` variables that locate remotes and configuration.

    Among the dropped ones are `GIT_DIR`, `GIT_INDEX_FILE`, `GIT_OBJECT_DIRECTORY`, `GIT_NAMESPACE` (they point
    elsewhere), `GIT_TRACE*` (prints headers), and `GIT_ALLOW_PROTOCOL` (allows more than we do).
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name not in _DROPPED and (not name.startswith("GIT_") or _KEPT.fullmatch(name))
    }
    return {**kept, **_FIXED}


def presentable(text: str) -> str:
    """The end of git's error output on one line: shortened, without user info in URLs and control characters."""
    masked = redact_foreign(_USER_INFO.sub(r"\1***@", text))
    lines = (line.strip() for line in _OTHER_CONTROLS.sub(" ", masked).splitlines())
    joined = "; ".join(line for line in lines if line)
    return joined if len(joined) <= SHOWN_CHARACTERS else "…" + joined[-SHOWN_CHARACTERS:]


def why(finished: CompletedProcess) -> str:
    """Why a git command failed, in git's words or ours."""
    return "; ".join(part for part in (finished.stopped, presentable(finished.err)) if part) or (
        f"git ended with status {finished.status}"
    )


@dataclass(eq=False, repr=False)
class Git:
    """Runs git for one repository directory. Every call ends within its timeout, or when `stop` is set."""

    directory: Path
    environ: Mapping[str, str]
    _: KW_ONLY
    stop: threading.Event
    timeout_seconds: float = LOCAL_TIMEOUT_SECONDS

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        config: Sequence[str] = (),
        extra_environ: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        max_file_bytes: int | None = None,
    ) -> CompletedProcess:
        """Run a git command to its end; no file that it writes gets larger than `max_file_bytes` (on Linux).

        Raises:
            HistoryError: git could not be started.
        """
        environ = {**git_environment(self.environ), **(extra_environ or {})}
        began = time.monotonic()
        with busy(self.directory) as held:
            try:
                finished = run(
                    self._argv(arguments, config),
                    environ=environ,
                    stdin=stdin,
                    stop=self.stop,
                    # git inherits the lock: it stays held while git runs, even when we are killed.
                    pass_fds=held,
                    timeout_seconds=self.timeout_seconds if timeout_seconds is None else timeout_seconds,
                    max_file_bytes=max_file_bytes,
                )
            except OSError as error:
                raise _no_git(error) from error
        if logs_calls():
            command, seconds = presentable(" ".join(arguments)), round(time.monotonic() - began, 3)
            log_call("git.ended", command=command, status=finished.status, seconds=seconds)
        return finished

    def check_output(self, *arguments: str, sentence: str, remedy: str = "", stdin: bytes = b"") -> bytes:
        """Run a git command that must succeed, and return its output.

        Raises:
            HistoryError: It failed; the error has `sentence` and `remedy`.
        """
        finished = self.run(*arguments, stdin=stdin)
        if not finished.ok:
            raise HistoryError(sentence, cause=why(finished), remedy=remedy)
        return finished.out

    def start(self, *arguments: str) -> Child:
        """Start a git command for a conversation over its pipes.

        Raises:
            HistoryError: git could not be started.
        """
        log_call("git.started", command=presentable(" ".join(arguments)))
        try:
            return Child.start(self._argv(arguments, ()), environ=git_environment(self.environ))
        except OSError as error:
            raise _no_git(error) from error

    def _argv(self, arguments: Sequence[str], config: Sequence[str]) -> list[str]:
        settings = [word for setting in (*_CONFIG, *config) for word in ("-c", setting)]
        return ["git", f"--git-dir={self.directory}", "--literal-pathspecs", *settings, *arguments]


def _no_git(error: OSError) -> HistoryError:
    remedy = "Install git 2.36 or newer, and see that PATH names its folder."
    if is_exhausted(error):
        remedy = EXHAUSTED_REMEDY
    return HistoryError("The git command could not be started.", cause=error.strerror or "", remedy=remedy)


BUSY_FILE = "oidc-mirror.busy"
SETTLED_SECONDS = 5.0
ABANDONED_SECONDS = 900.0

_PATTERNS = ("*.lock", "refs/**/*.lock", "objects/**/*.lock", "gc.pid", "fast_import_crash_*")


@contextlib.contextmanager
def busy(repository: Path) -> Iterator[tuple[int, ...]]:
    """Hold the shared lock; yield the file descriptors that git must inherit, none where the directory is not ours."""
    opened = _open(repository)
    try:
        if opened is not None:
            fcntl.flock(opened, fcntl.LOCK_SH)
        yield () if opened is None else (opened,)
    finally:
        if opened is not None:
            # Only close our descriptor: LOCK_UN would take the lock from a git that inherited it.
            os.close(opened)


def remove_stale_locks(repository: Path, *, settled_seconds: float = SETTLED_SECONDS) -> tuple[Path, ...]:
    """Remove the lock files that dead git processes left in `repository`, and return what was removed.

    A young file is watched for `settled_seconds` first. While another git of ours runs, only files older than
    15 minutes are removed: no command of ours may take that long.

    Raises:
        OSError: A file could not be removed.
    """
    if not _leftovers(repository):
        return ()
    opened = _open(repository)
    if opened is None:
        return ()
    try:
        # The git of a mirror that was just killed may need a moment to end.
        if within(settled_seconds, partial(_is_alone, opened)):
            stale = _settled(repository, settled_seconds)
        else:
            old = time.time() - ABANDONED_SECONDS
            stale = [path for path, seen in _leftovers(repository).items() if seen[1] < old * 1e9]
        for path in stale:
            path.unlink(missing_ok=True)
        return tuple(stale)
    finally:
        os.close(opened)


def _is_alone(opened: int) -> bool:
    """Whether this process has the exclusive lock now."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(repository: Path) -> int | None:
    try:
        return os.open(repository / BUSY_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        # No repository yet, or a read-only one: git writes nothing there either.
        return None


def _leftovers(repository: Path) -> dict[Path, tuple[int, int]]:
    """Lock files with inode and time of modification in nanoseconds."""
    found = {}
    for pattern in _PATTERNS:
        for path in repository.glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found[path] = (status.st_ino, status.st_mtime_ns)
    return found


def _settled(repository: Path, settled_seconds: float) -> list[Path]:
    """Lock files that are old, or that did not change during the wait."""
    before = _leftovers(repository)
    border = (time.time() - settled_seconds) * 1e9
    if any(modified > border for _, modified in before.values()):
        time.sleep(settled_seconds)
    after = _leftovers(repository)
    return [path for path, seen in before.items() if after.get(path) == seen]


SHA1_DIGITS = 40


def blob_id(body: bytes, digits: int) -> str:
    """The id that git computes for these bytes in a repository with ids of that many hexadecimal digits."""
    name = "sha1" if digits == SHA1_DIGITS else "sha256"
    return hashlib.new(name, b"blob %d\0%s" % (len(body), body), usedforsecurity=False).hexdigest()
