"""What one process of a crew does, and its end of the line to the process that started it."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING

from mirror import __version__
from mirror.apiserver.board import Told
from mirror.config.settings import Issuer, Limits

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


@dataclass(frozen=True, slots=True)
class Job:
    """Ask the apiservers of `issuers` within `limits`, and until `ends_at` (a moment of `time.monotonic`).

    `turn` is that of `mirror.ports.Source.ask`.
    """

    issuers: tuple[Issuer, ...]
    limits: Limits
    turn: int
    ends_at: float


def give(line: "Connection", job: Job) -> None:
    """Send `job`, after the version of who sends it.

    Raises:
        OSError: The process at the other end is gone.
    """
    # An upgrade below a running daemon: what one version pickles, another one may read as something else.
    line.send(__version__)
    line.send(job)


def work(line: "Connection", ask: Callable[[Job, Told], object]) -> bool:
    """Do the one job that comes over `line`, and tell each issuer's answers as soon as they are complete.

    When nobody listens any more this process ends at once.

    Args:
        line: To the process that started us. Nobody else can write there, so that what comes is unpickled.
        ask: Does the job.

    Returns:
        Whether there was a job for this version of the program.
    """
    with suppress(EOFError, OSError):  # whoever started us has ended meanwhile
        if line.recv() == __version__:
            job: Job = line.recv()
            Thread(target=_end_with, args=(line,), daemon=True).start()
            ask(job, lambda name, answers: line.send((name, answers)))
            return True
    return False


def _end_with(line: "Connection") -> None:
    with suppress(EOFError, OSError):
        line.recv_bytes()  # nothing more ever comes: it returns when the other side is gone
    os._exit(1)
