"""Poll many apiservers from several processes, because Python computes on one core at a time."""

import os
import subprocess
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from random import Random
from threading import Lock, Thread, Timer
from typing import TYPE_CHECKING, Protocol

from mirror import __version__
from mirror.apiserver.poller import OnAnswer
from mirror.config.settings import Issuer, LimitSettings
from mirror.model import Answer, AnswersByIssuer, IssuerName, Unusable

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


@dataclass(frozen=True, slots=True)
class Task:
    """Ask the apiservers of `issuers` within `limits`, and until `ends_at` (a moment of `time.monotonic`).

    `turn` is that of `mirror.ports.ApiserverClient.poll`.
    """

    issuers: tuple[Issuer, ...]
    limits: LimitSettings
    turn: int
    ends_at: float


def run_task(line: "Connection", ask: Callable[[Task, OnAnswer], object]) -> bool:
    """Do the one job that comes over `line`, and send each issuer's answers as soon as they are complete.

    When the parent closes its end, this process ends at once.

    Args:
        line: To the parent process. No other process can write to it, so its messages are unpickled.
        ask: Does the job.

    Returns:
        Whether there was a job for this version of the program.
    """
    with suppress(EOFError, OSError):  # the parent has ended in between
        if line.recv() == __version__:
            task: Task = line.recv()
            Thread(target=_end_with, args=(line,), daemon=True).start()
            ask(task, lambda name, answers: line.send((name, answers)))
            return True
    return False


def _end_with(line: "Connection") -> None:
    with suppress(EOFError, OSError):
        line.recv_bytes()  # nothing more ever comes: it returns when the other side is gone
    os._exit(1)


APISERVERS_A_PROCESS = 250
"""A process takes a quarter second to start, as long as asking a hundred apiservers."""
MOST_PROCESSES = 4
_LAST_WORDS_SECONDS = 1.0
"""So long after the deadline, which they keep themselves, the processes may still send what they have received."""


class SingleProcess(Protocol):
    """One process that asks; see `mirror.apiserver.poller.ApiserverPoller`."""

    def poll_each(self, issuers: Sequence[Issuer], *, turn: int, on_answer: OnAnswer, ends_at: float | None) -> None:
        """Ask every apiserver of `issuers`."""

    def cancel(self) -> None:
        """Make a running `poll_each` end soon; callable from any thread."""

    def close(self) -> None:
        """Close what is kept from pass to pass; never while one asks."""


def process_count(
    issuers: Iterable[Issuer],
    limits: LimitSettings,
    *,
    cores: int,
    apiservers_a_process: int = APISERVERS_A_PROCESS,
    keeps: int = 0,
) -> int:
    """How many processes ask the apiservers of `issuers`; up to 1 means this one. Arguments as of `WorkerPool`."""
    asked = sum(issuer.expected_answers for issuer in issuers)
    return 1 if asked <= keeps else min(cores, MOST_PROCESSES, limits.concurrency, asked // apiservers_a_process)


@dataclass(eq=False, repr=False)
class WorkerPool:
    """The apiservers of all issuers: few are asked by this process, many by several that live for one `poll`.

    What is sent and what is returned is the same. One object serves one pass at a time, from any thread. After `cancel`
    it sends no request any more.

    Args:
        limits: What a slow or hostile apiserver may cost. The processes share `concurrency`.
        single_process: Asks where one process is enough, and for the processes that could not start or were lost.
        command: Starts a process that does a `Task`, see `run_task`; a descriptor's number is added.
        cores: How many may compute at the same time.
        apiservers_a_process: From how many on another process is worth its start.
        keeps: So many apiservers this process asks alone, because it keeps connections to them, and a process that
            lives for one `poll` keeps none.
    """

    limits: LimitSettings
    _: KW_ONLY
    single_process: SingleProcess
    command: Sequence[str]
    cores: int
    apiservers_a_process: int = APISERVERS_A_PROCESS
    keeps: int = 0
    _lock: Lock = field(init=False, default_factory=Lock)
    _cancelled: bool = field(init=False, default=False)
    _running: list[subprocess.Popen[bytes]] = field(init=False, default_factory=list)

    def poll(self, issuers: Sequence[Issuer], *, turn: int, progress: Callable[[IssuerName], None]) -> AnswersByIssuer:
        """As `mirror.apiserver.poller.ApiserverPoller.poll`."""
        ends_at = time.monotonic() + self.limits.source_deadline_seconds
        size = process_count(
            issuers, self.limits, cores=self.cores, apiservers_a_process=self.apiservers_a_process, keeps=self.keeps
        )
        received: dict[IssuerName, tuple[Answer | Unusable, ...]] = {}

        def on_answer(name: IssuerName, answers: tuple[Answer | Unusable, ...]) -> None:
            received[name] = answers
            progress(name)

        if size > 1:
            with closing(self._together(_tasks(issuers, self.limits, turn, ends_at, size))) as answered:
                for name, answers in answered:
                    on_answer(name, answers)
        # Apiservers that a lost worker left, for example without memory; all of them, if no worker could start.
        silent = [issuer for issuer in issuers if issuer.name not in received]
        if silent:
            self.single_process.poll_each(silent, turn=turn, on_answer=on_answer, ends_at=ends_at)
        return {issuer.name: received.get(issuer.name, ()) for issuer in issuers}

    def cancel(self) -> None:
        """End a running `poll` at once, and every later one before it begins; callable from any thread, repeatedly."""
        with self._lock:
            self._cancelled = True
        self._kill()
        self.single_process.cancel()

    def close(self) -> None:
        """As `mirror.apiserver.poller.ApiserverPoller.close`."""
        self.single_process.close()

    def _together(self, tasks: Sequence[Task]) -> Generator[tuple[IssuerName, tuple[Answer | Unusable, ...]]]:
        """What the processes send, until all have ended."""
        left_seconds = tasks[0].ends_at + _LAST_WORDS_SECONDS - time.monotonic()
        with suppress(OSError), ExitStack() as stack:  # OSError: a process cannot start, as over a limit of them
            lines = [stack.enter_context(self._process()) for _ in tasks]
            # Whatever a process does, even reading nothing: its end ends every waiting for it.
            timer = Timer(left_seconds, self._kill)
            stack.callback(timer.cancel)
            timer.start()
            for line, task in zip(lines, tasks, strict=True):
                with suppress(OSError):  # it is gone already: nothing will come from it
                    # After an upgrade below a running daemon, what one version pickles the other may read as something
                    # else.
                    line.send(__version__)
                    line.send(task)
            yield from _received(lines)

    @contextmanager
    def _process(self) -> "Iterator[Connection]":
        """A process at the other end of a line, which lives no longer than the block.

        Raises:
            OSError: It cannot be started.
        """
        from multiprocessing import Pipe  # noqa: PLC0415  most passes do without

        ours, theirs = Pipe()
        with ours:
            with theirs, self._lock:
                number = theirs.fileno()
                words = [*self.command, str(number)]
                process = subprocess.Popen(words, pass_fds=[number], stdin=subprocess.DEVNULL)  # noqa: S603  our own
                self._running.append(process)
                if self._cancelled:
                    process.kill()
            try:
                yield ours
            finally:
                with self._lock:  # no other process gets its number before `wait`
                    process.kill()
                    self._running.remove(process)
                process.wait()

    def _kill(self) -> None:
        with self._lock:
            for process in self._running:
                process.kill()


def _tasks(issuers: Sequence[Issuer], limits: LimitSettings, turn: int, ends_at: float, size: int) -> tuple[Task, ...]:
    """Shares of equal size, drawn again in each turn: a slow or dead apiserver is with others every time."""
    # Without what asking does not need, and what may not travel.
    bare = [replace(issuer, discovery_extra={}) for issuer in issuers]
    mixed = Random(turn).sample(bare, len(bare))  # noqa: S311  no secret
    share = replace(limits, concurrency=limits.concurrency // size)
    return tuple(Task(tuple(mixed[at::size]), share, turn, ends_at) for at in range(size))


def _received(lines: "list[Connection]") -> Iterator[tuple[IssuerName, tuple[Answer | Unusable, ...]]]:
    """What comes over the lines until all are closed."""
    from multiprocessing.connection import wait  # noqa: PLC0415  most passes do without

    open_lines = list(lines)
    while open_lines:
        ready = wait(open_lines)
        for line in [each for each in open_lines if each in ready]:
            try:
                answer = line.recv()
            except Exception:  # noqa: BLE001  it was closed, or broke off within a message: nothing more comes from there
                open_lines.remove(line)
            else:
                yield answer
