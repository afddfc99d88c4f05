"""Runs the program in a process of its own, mostly without the CPU time of its imports.

A server process imports all modules and does nothing else. For each command it forks. The command then behaves as in
a new process, except for the start of Python. A new process is started instead in three cases: environment variables
that affect the start differ (see `_AT_START`), the command is not `MIRROR` (`unshare`, for example), or the test
uses other namespaces, such as a network of its own.

    process of the test > server process > intermediate process, which exits at once > the command

When the intermediate process exits, the command becomes a child of the test's process, which is a subreaper
(`adopt_orphans`). The test's process waits for it, measures it and ends it like any child that it started.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import NoReturn, Protocol

import pytest

from support.processes import adopts_orphans, serving

PROJECT = Path(__file__).parents[2]
MIRROR = (sys.executable, "-m", "mirror")

_AT_START = ("LANG", "LC_", "LD_", "OPENSSL_", "PYTHON")
"""Prefixes of environment variables that are read before the program runs."""
_LEFT_OUT = ("mirror.cli.worker", "mirror.demo")
"""Modules that run as a process of their own, or need packages of an extra."""
_IMPORTED_LATE = ("_strptime", "anyio._backends._asyncio", "anyio.streams.memory", "encodings.ascii", "encodings.idna")
"""What libraries import at a first call, in nearly every command."""
_MOST_BYTES = 1 << 20
"""The limit of a request: arguments and environment."""
_FORKER = "import sys; sys.path[:1] = sys.argv[1:3]; from support.program import serve; serve(int(sys.argv[3]))"


class Process(Protocol):
    """The interface to a process that tests use; `subprocess.Popen` implements it."""

    pid: int

    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int, /) -> None: ...
    def kill(self) -> None: ...


def start(
    command: Sequence[str], environ: Mapping[str, str], *, stdin: int = 0, stdout: int, stderr: int, cwd: Path = PROJECT
) -> Process:
    """Start `command` with these descriptors. It is forked if that makes no difference, see the module's docstring."""
    if not _may_fork(command, environ):
        return start_process(command, environ, stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd)
    return Forked(_FORKS.fork(command, environ, cwd, (stdin, stdout, stderr), _umask()), command)


def finish(command: Sequence[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `command` in the checkout to its end, as `subprocess.run` does, with nothing to read on stdin."""
    with open(os.devnull) as nothing, TemporaryFile("w+") as out, TemporaryFile("w+") as err:  # noqa: PTH123  no file
        streams = nothing.fileno(), out.fileno(), err.fileno()
        status = start(command, environ, stdin=streams[0], stdout=streams[1], stderr=streams[2]).wait()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, status, out.read(), err.read())


def start_process(
    command: Sequence[str], environ: Mapping[str, str], *, stdin: int = 0, stdout: int, stderr: int, cwd: Path = PROJECT
) -> Process:
    """Like `start`, but never forked: for tests about the start or the memory of a process."""
    return subprocess.Popen(command, env=dict(environ), cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr)


def _may_fork(command: Sequence[str], environ: Mapping[str, str]) -> bool:
    return (
        tuple(command[: len(MIRROR)]) == MIRROR
        and adopts_orphans()
        and _at_start(environ) == _at_start(os.environ)
        and _namespaces() == _NAMESPACES
    )


def _namespaces() -> tuple[str, ...]:
    """The namespaces of the calling thread: a test may have left those of the process."""
    return tuple(str(Path(f"/proc/thread-self/ns/{kind}").readlink()) for kind in ("mnt", "net"))


_NAMESPACES = _namespaces()


def _at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(_AT_START)}


class Forked:
    """A child that `subprocess` did not start, with the methods of `Popen`."""

    def __init__(self, pid: int, command: Sequence[str]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._command = command
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while the process runs."""
        with self._lock:
            if self.returncode is None:
                ended, status = os.waitpid(self.pid, os.WNOHANG)
                self.returncode = os.waitstatus_to_exitcode(status) if ended else None
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process; return its exit status.

        Raises:
            subprocess.TimeoutExpired: the process still runs after `timeout` seconds.
        """
        deadline = time.monotonic() + (threading.TIMEOUT_MAX if timeout is None else timeout)
        while (status := self.poll()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(self._command, timeout or 0)
            with contextlib.suppress(ProcessLookupError):  # another thread has just reaped it
                _wait_for_end(self.pid, left)
        return status

    def send_signal(self, sig: int, /) -> None:
        with self._lock:  # no other thread reaps it meanwhile, so the pid is not reused
            if self.returncode is None:
                os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _wait_for_end(pid: int, seconds: float) -> None:
    descriptor = os.pidfd_open(pid)
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        poller.poll(min(seconds, 3600) * 1000)
    finally:
        os.close(descriptor)


class _Forks:
    """The client of the server process, which is started for the first command, and again after it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._channel: socket.socket | None = None

    def fork(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        cwd: Path | str,
        descriptors: tuple[int, int, int],
        umask: int,
    ) -> int:
        """Fork a command and return its pid; its parent is this process."""
        asked = {"command": command, "environ": dict(environ), "cwd": str(cwd), "umask": umask}
        reading, writing = os.pipe()
        with os.fdopen(reading) as answer:
            try:
                socket.send_fds(self._connected(), [json.dumps(asked).encode()], (*descriptors, writing))
            finally:
                os.close(writing)
            pid = answer.read()  # up to the end: then the intermediate process is gone
        assert pid, "the process that forks commands has ended"
        return int(pid)

    def _connected(self) -> socket.socket:
        with self._lock:
            if self._channel is None:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                for each in (ours, theirs):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_BYTES)
                with theirs:
                    words = (str(PROJECT), str(PROJECT / "tests"), str(theirs.fileno()))
                    process = subprocess.Popen(
                        (sys.executable, "-c", _FORKER, *words),
                        stdin=subprocess.DEVNULL,
                        pass_fds=[theirs.fileno()],
                        env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
                    )
                self._stack.callback(process.wait)
                self._stack.enter_context(serving(process.pid))
                self._channel = self._stack.enter_context(ours)  # the server process ends when this is closed
            return self._channel

    def end(self) -> None:
        with self._lock:
            self._channel = None
            self._stack.close()


_FORKS = _Forks()


_CLIENT = """
import json, os, socket, sys
umask = os.umask(0o077)
channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
channel.connect(sys.argv[1])
asked = {"words": sys.argv[2:], "environ": dict(os.environ), "cwd": os.getcwd(), "umask": umask}
socket.send_fds(channel, [json.dumps(asked).encode()], [0, 1, 2])
os._exit(int(channel.recv(16)))
"""
"""Asks for a fork of the program that has its streams, and ends with its status."""


@contextlib.contextmanager
def installed(path: Path) -> Iterator[None]:
    """Make `path` the program for a shell: each call is forked like `start`, with the shell's streams."""
    with TemporaryDirectory(prefix="f") as short, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"{short}/s")  # such a name may have 108 characters
        listener.listen()
        client = shlex.join((sys.executable, "-IS", "-c", _CLIENT, f"{short}/s"))
        path.write_text(f'#!/bin/sh\nexec {client} "$@"\n')
        path.chmod(0o755)
        thread = threading.Thread(target=_answer, args=(listener,))
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _answer(listener: socket.socket) -> None:
    """Run the commands that are asked for, until the listener is shut down."""
    while True:
        try:
            channel, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_run_for, args=(channel,), daemon=True).start()


def _run_for(channel: socket.socket) -> None:
    """Run one command for a client, and send its status, as a shell has it."""
    with channel:
        asked, descriptors, _, _ = socket.recv_fds(channel, _MOST_BYTES, 3)
        found = json.loads(asked)
        command = (*MIRROR, *found["words"])
        streams = descriptors[0], descriptors[1], descriptors[2]
        process = Forked(_FORKS.fork(command, found["environ"], found["cwd"], streams, found["umask"]), command)
        for each in descriptors:
            os.close(each)
        with contextlib.suppress(OSError):  # the end of the test has reaped the command, or the client was killed
            status = process.wait()
            channel.send(str(status if status >= 0 else 128 - status).encode())


COVERAGE: dict[str, str] = {}
"""The variables with which a started process is measured. Only tests that pass them on start such processes."""


def pytest_sessionstart(session: pytest.Session) -> None:
    """A hook of pytest: fill `COVERAGE` if the run is measured.

    coverage's own `patch = subprocess` would measure every process, and take longer than most commands. It writes its
    variables into `os.environ` again whenever pytest-cov goes on measuring, which is after each `unmeasured` test.
    """
    if session.config.pluginmanager.hasplugin("_cov"):
        config = Path(__file__).with_name("coverage_of_processes.ini")
        COVERAGE.update(COVERAGE_PROCESS_START=str(config), COVERAGE_FILE=str(PROJECT / ".coverage"))


def pytest_unconfigure() -> None:
    """A hook of pytest: the server process ends with the run."""
    _FORKS.end()


def _umask() -> int:
    """The umask of this process; reading it by `os.umask` would change it."""
    return int(Path("/proc/self/status").read_text().partition("\nUmask:")[2].split()[0], 8)


# -- in the server process -------------------------------------------------------------------------------------


def serve(channel: int) -> None:
    """Fork for each request, until the client closes `channel`."""
    _import_all()
    _fill_tables()
    # A thread or a descriptor that an import opened would make the fork differ from a new process.
    assert threading.active_count() == len(list(Path("/proc/self/task").iterdir())) == 1
    assert {int(each.name) for each in Path("/proc/self/fd").iterdir()} <= {0, 1, 2, channel, _next_descriptor()}
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=channel) as requests:
        while True:
            asked, descriptors, _, _ = socket.recv_fds(requests, _MOST_BYTES, 4)
            if not asked:
                return
            between = os.fork()
            if between == 0:
                _fork(json.loads(asked), descriptors)
            os.waitpid(between, 0)
            for each in descriptors:  # closing the last one ends the answer
                os.close(each)


def _next_descriptor() -> int:
    """The number of the next descriptor. Listing a folder uses it too."""
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor


def _import_all() -> None:
    from mirror.cli.startup import speed_up_imports  # noqa: PLC0415  called first, as in the program's `main`

    speed_up_imports()
    package = importlib.import_module("mirror")
    for module in pkgutil.walk_packages(package.__path__, "mirror."):
        if not module.name.startswith(_LEFT_OUT):
            importlib.import_module(module.name)


def _fill_tables() -> None:
    """Make what a process makes once: imports in functions, tables of primes, validators, descriptions of services."""
    from cryptography.hazmat.backends import default_backend  # noqa: PLC0415  of jwcrypto, as above

    from mirror.aws.sessions import session  # noqa: PLC0415  of the program, as in `_import_all`
    from mirror.config.schema import Section  # noqa: PLC0415  as above
    from mirror.config.settings import PublishSettings  # noqa: PLC0415  as above
    from mirror.log import _structlog  # noqa: PLC0415  as above
    from mirror.trust.weak_keys import weaknesses  # noqa: PLC0415  as above

    weaknesses(3 << 2046 | 3, 65537)  # of a valid size, and at once weak
    _structlog()
    default_backend()
    models = Section.__subclasses__()
    while models:
        model = models.pop()
        model.model_rebuild()
        models += model.__subclasses__()
    for name in _IMPORTED_LATE:
        importlib.import_module(name)
    publish = PublishSettings("bucket", "us-east-1", "https://bucket.example.com")
    session(publish).client("s3", publish.region, aws_access_key_id="x", aws_secret_access_key="x").close()


def _fork(asked: dict[str, object], descriptors: list[int]) -> NoReturn:
    """Fork the command, write its pid, and exit, so that it becomes a child of the test's process."""
    status = 70
    try:
        pid = os.fork()
        if pid == 0:
            _become(descriptors, **asked)  # type: ignore[arg-type]  # as `_Forks.fork` has written them
        os.write(descriptors[3], str(pid).encode())
        status = 0
    except BaseException:  # noqa: BLE001  nothing may return to `serve`; Python prints the traceback at its end too
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _become(descriptors: list[int], command: list[str], environ: dict[str, str], cwd: str, umask: int) -> NoReturn:
    """Become the process that `subprocess` would have started."""
    for number, each in enumerate(descriptors[:3]):
        os.dup2(each, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(cwd)
    os.umask(umask)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    program = importlib.import_module("mirror.__main__")
    sys.orig_argv[:] = command
    sys.argv[:] = [str(program.__file__), *command[len(MIRROR) :]]
    # They stay open until the process ends, as Python's own streams do.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  it stays open
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  it stays open
    sys.stderr = open(2, "w", closefd=False, buffering=1, errors="backslashreplace")  # noqa: SIM115  as above
    program.main()
    raise AssertionError("the program came back")
