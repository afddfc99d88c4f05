"""What one process of a crew does, and its end of the line to the process that started it (`mirror.source.crew`)."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from threading import Thread

from mirror.config.settings import Issuer, Limits
from mirror.source.board import Told


@dataclass(frozen=True, slots=True)
class Job:
    """Ask the apiservers of `issuers` within `limits`; `turn` is that of `mirror.ports.Source.ask`."""

    issuers: tuple[Issuer, ...]
    limits: Limits
    turn: int


def work(line: Connection, ask: Callable[[Job, Told], object]) -> None:
    """Do the one job that comes over `line`, and tell each issuer's answers as soon as they are complete.

    When nobody listens any more this process ends at once.

    Args:
        line: To the process that started us. Nobody else can write there, so that what comes is unpickled.
        ask: Does the job.
    """
    job: Job = line.recv()
    Thread(target=_end_with, args=(line,), daemon=True).start()
    ask(job, lambda name, answers: line.send((name, answers)))


def _end_with(line: Connection) -> None:
    with suppress(EOFError, OSError):
        line.recv_bytes()  # nothing more ever comes: it returns when the other side is gone
    os._exit(1)
