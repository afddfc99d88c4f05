"""When passes run, and whether the daemon is alive.

Pure: whether the daemon is alive, and whether what it says is fresh. Neither latches.
All times are seconds of one monotonic clock, so that a corrected wall clock does not end the process.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, EVENT_JOB_MAX_INSTANCES
from apscheduler.executors.debug import DebugExecutor
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from mirror.config.settings import Settings
from mirror.text import in_words

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


BEAT_SECONDS = 2.0
"""How often the scheduler gives a sign of life."""
LONGEST_SILENCE_SECONDS = 30.0
"""How long it may give none: a machine that was suspended or overloaded is no dead scheduler."""
INTERVALS = 3


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """When the daemon began, when the scheduler last beat, and when a pass last ended (None: none yet)."""

    began: float
    heartbeat: float
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class HealthResult:
    """A yes or no, and one sentence for people."""

    ok: bool
    sentence: str


def max_silence_seconds(settings: Settings) -> float:
    """How long no pass may end: three intervals, and what asking all apiservers may take."""
    return INTERVALS * settings.interval.total_seconds() + settings.limits.source_deadline_seconds


def health(seen: Heartbeat, now: float, longest_seconds: float) -> HealthResult:
    """Whether the process and its scheduler are alive. Failed passes are no reason to restart.

    Args:
        seen: The signs of life so far.
        now: Seconds, by the same clock.
        longest_seconds: How long no pass may end.
    """
    silence = now - seen.heartbeat
    if silence > LONGEST_SILENCE_SECONDS:
        return HealthResult(ok=False, sentence=f"The scheduler has given no sign of life for {_span(silence)}.")
    since = now - (seen.began if seen.ended is None else seen.ended)
    if since > longest_seconds:
        return HealthResult(
            ok=False, sentence=f"No pass has ended for {_span(since)}; at most {_span(longest_seconds)} is good."
        )
    return HealthResult(ok=True, sentence="The scheduler is alive.")


def readiness(seen: Heartbeat, now: float, longest_seconds: float) -> HealthResult:
    """Whether a pass has ended, whatever came of it, and lately. The arguments are those of `health`."""
    if seen.ended is None:
        return HealthResult(ok=False, sentence="No pass has ended yet.")
    since = now - seen.ended
    if since > longest_seconds:
        return HealthResult(
            ok=False, sentence=f"The last pass ended {_span(since)} ago; at most {_span(longest_seconds)} is good."
        )
    return HealthResult(ok=True, sentence=f"The last pass ended {_span(since)} ago.")


def _span(seconds: float) -> str:
    return in_words(timedelta(seconds=max(seconds, 0)))


JITTER = 0.1
"""The part of the interval by which passes are late at most: many mirrors do not ask at the same moment."""
_PASS, _BEAT = "pass", "beat"
_STOP_SECONDS = 0.5
_LATE = 2
"""After so many intervals without a pass the wall clock was set back, and the scheduler waits for a time long past."""


class Schedule:
    """Calls `work` at once and then every interval, never twice at the same time; `ended` after each call.

    The wall clock decides when; whether it decides well is judged by the clock that only goes forward.
    """

    def __init__(
        self,
        work: Callable[[], None],
        ended: Callable[[], None],
        logger: "FilteringBoundLogger",
        *,
        interval: timedelta,
    ) -> None:
        self._work = work
        self._ended_call = ended
        self._logger = logger
        self._interval = interval
        self._wanted = False
        self.running = False
        """Whether a pass runs."""
        self._began = self._beat = self._pushed = time.monotonic()
        self._ended: float | None = None
        _listen_to_libraries(logger)
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(1), _BEAT: DebugExecutor()}, timezone=UTC
        )
        self._scheduler.add_listener(self._on_event, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR | EVENT_JOB_MAX_INSTANCES)

    def start(self) -> None:
        """Begin; the first pass is due now."""
        always = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None, "next_run_time": datetime.now(UTC)}
        # The beat runs in the scheduler's own thread: nothing but that thread can give it.
        beat = IntervalTrigger(seconds=BEAT_SECONDS, timezone=UTC)
        self._scheduler.add_job(self._record_beat, beat, id=_BEAT, executor=_BEAT, **always)
        self._scheduler.add_job(self._one, self._trigger(), id=_PASS, **always)
        self._scheduler.start()

    def stop(self) -> None:
        """Begin no further pass; one that runs is not waited for, nor a scheduler that hangs."""
        if not self._scheduler.running:
            return
        ending = Thread(target=self._scheduler.shutdown, kwargs={"wait": False}, name="scheduler-end", daemon=True)
        ending.start()
        ending.join(_STOP_SECONDS)

    def heartbeat(self) -> Heartbeat:
        """The signs of life so far."""
        return Heartbeat(self._began, self._beat, self._ended)

    def now(self) -> None:
        """A pass now; when one runs, right after it."""
        self._wanted = True
        self._due(_PASS)

    def set_interval(self, interval: timedelta) -> None:
        """Passes every `interval` from the next one on."""
        if interval != self._interval:
            self._interval = interval
            self._scheduler.reschedule_job(_PASS, trigger=self._trigger())

    def recover_from_clock_step(self) -> None:
        """Mend what a wall clock that was set back does: call it now and then."""
        now = time.monotonic()
        if now - self._beat > _LATE * BEAT_SECONDS:
            self._due(_BEAT)
        longest_seconds = _LATE * self._interval.total_seconds() + BEAT_SECONDS
        last = max(self._pushed, self._began if self._ended is None else self._ended)
        if not self.running and now - last > longest_seconds:
            self._pushed = now
            self._logger.warning(
                "schedule.behind", sentence="No pass began in time; was the clock set back? One begins now."
            )
            self._due(_PASS)

    def _trigger(self) -> IntervalTrigger:
        seconds = self._interval.total_seconds()
        return IntervalTrigger(seconds=seconds, jitter=JITTER * seconds, timezone=UTC)

    def _due(self, job: str) -> None:
        with suppress(JobLookupError):
            self._scheduler.modify_job(job, next_run_time=datetime.now(UTC))

    def _record_beat(self) -> None:
        self._beat = time.monotonic()

    def _one(self) -> None:
        self._wanted, self.running = False, True
        try:
            self._work()
        finally:
            self._ended = time.monotonic()

    def _on_event(self, event: Any) -> None:
        """Called in the scheduler's thread or its worker."""
        if event.job_id != _PASS:
            return
        if event.code == EVENT_JOB_MAX_INSTANCES:
            if not self._wanted:
                sentence = "The pass before still runs; this one is left out. Passes take longer than the interval."
                self._logger.warning("pass.still_running", sentence=sentence)
        else:  # only now the scheduler would start another
            self.running = False
            self._ended_call()
            if self._wanted:
                self._due(_PASS)


class _LibraryLogHandler(logging.Handler):
    """Logs what a library would print on stderr."""

    def __init__(self, logger: "FilteringBoundLogger") -> None:
        super().__init__(logging.ERROR)  # what is less is reported by us where it matters
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging."""
        cause = "" if record.exc_info is None else repr(record.exc_info[1])
        self._logger.error("library.failed", library=record.name, sentence=record.getMessage(), cause=cause)


def _listen_to_libraries(logger: "FilteringBoundLogger") -> None:
    for name in ("apscheduler", "uvicorn"):
        library = logging.getLogger(name)
        library.handlers = [_LibraryLogHandler(logger)]
        library.propagate = False
