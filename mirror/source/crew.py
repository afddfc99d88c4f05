"""Asking many apiservers from several processes: Python computes on one core at a time, and asking is computing."""

import multiprocessing
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from threading import Lock

from mirror.config.settings import Issuer, Limits
from mirror.model import Answer, IssuerName, Reason, Unusable
from mirror.ports import Source
from mirror.source.board import Board
from mirror.source.failures import Failure
from mirror.source.job import Job

APISERVERS_A_PROCESS = 250
"""A process takes a quarter second to start, as long as asking a hundred apiservers."""
MOST_PROCESSES = 4
_LAST_WORDS_SECONDS = 1.0
"""So long after the deadline, which they keep themselves, the processes may start up and tell what they have heard."""


class Crew:
    """The apiservers of all issuers: few are asked by this process, many by several that live for one `ask`.

    What is told and what is returned is the same. One object serves one pass at a time, from any thread. After `cancel`
    it asks nobody any more.

    Args:
        limits: What a slow or hostile apiserver may cost. The processes share `concurrency`.
        alone: Asks where one process is enough.
        command: Starts a process that does a `Job`, see `mirror.source.job.work`; a descriptor's number is added.
        cores: How many may compute at the same time.
        apiservers_a_process: From how many on another process is worth its start.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        alone: Source,
        command: Sequence[str],
        cores: int,
        apiservers_a_process: int = APISERVERS_A_PROCESS,
    ) -> None:
        self._limits = limits
        self._alone = alone
        self._command = tuple(command)
        self._cores = cores
        self._apiservers_a_process = apiservers_a_process
        self._lock = Lock()
        self._cancelled = False
        self._running: list[subprocess.Popen[bytes]] = []

    def ask(
        self, issuers: Sequence[Issuer], *, turn: int, progress: Callable[[IssuerName], None]
    ) -> Mapping[IssuerName, tuple[Answer | Unusable, ...]]:
        """As `Apiservers.ask`."""
        asked = sum(issuer.expected_answers for issuer in issuers)
        size = min(self._cores, MOST_PROCESSES, asked // self._apiservers_a_process)
        if size < 2:  # noqa: PLR2004  a crew is more than one
            return self._alone.ask(issuers, turn=turn, progress=progress)
        deadline = time.monotonic() + self._limits.source_deadline_seconds + _LAST_WORDS_SECONDS
        heard: dict[IssuerName, tuple[Answer | Unusable, ...]] = {}
        share = replace(self._limits, concurrency=max(1, self._limits.concurrency // size))
        with ExitStack() as stack:
            lines = [stack.enter_context(self._process()) for _ in range(size)]
            for at, line in enumerate(lines):
                _give(line, Job(tuple(map(_bare, issuers[at::size])), share, turn))
            for name, answers in _told(lines, deadline):
                heard[name] = answers
                progress(name)
        silent = Board([issuer for issuer in issuers if issuer.name not in heard], lambda name, _: progress(name))
        silent.fill(self._why_silent(deadline))
        heard |= silent.answers()
        return {issuer.name: heard[issuer.name] for issuer in issuers}

    def cancel(self) -> None:
        """End a running `ask` at once, and every later one before it begins; from any thread, as often as one likes."""
        self._alone.cancel()
        with self._lock:
            self._cancelled = True
            for process in self._running:
                process.kill()

    @contextmanager
    def _process(self) -> Iterator[Connection]:
        """A process at the other end of a line, which lives no longer than the block."""
        ours, theirs = multiprocessing.Pipe()
        with ours:
            with theirs, self._lock:
                number = theirs.fileno()
                words = [*self._command, str(number)]
                process = subprocess.Popen(words, pass_fds=[number], stdin=subprocess.DEVNULL)  # noqa: S603  our own
                self._running.append(process)
                if self._cancelled:
                    process.kill()
            try:
                yield ours
            finally:
                with self._lock:  # its number belongs to nobody else until `wait`
                    process.kill()
                    self._running.remove(process)
                process.wait()

    def _why_silent(self, deadline: float) -> Reason:
        if self._cancelled:
            return Failure.INTERRUPTED.reason()
        if time.monotonic() >= deadline:
            return Failure.NOT_IN_TIME.reason(f"{self._limits.source_deadline_seconds:g}")
        return Failure.PROCESS_LOST.reason()


def _bare(issuer: Issuer) -> Issuer:
    """The issuer without what asking does not need, and what may not travel."""
    return replace(issuer, discovery_extra={})


def _give(line: Connection, job: Job) -> None:
    with suppress(OSError):  # it is gone already: nobody will answer
        line.send(job)


def _told(lines: list[Connection], deadline: float) -> Iterator[tuple[IssuerName, tuple[Answer | Unusable, ...]]]:
    """What comes over the lines until all are closed or time is over."""
    open_lines = list(lines)
    while open_lines and (ready := wait(open_lines, max(0.0, deadline - time.monotonic()))):
        for line in [each for each in open_lines if each in ready]:
            try:
                told = line.recv()
            except (EOFError, OSError):
                open_lines.remove(line)
            else:
                yield told
