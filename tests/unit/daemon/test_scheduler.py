"""The schedule of passes: the first starts at once, passes never overlap, and none is lost.

Health and readiness, as tables: neither latches.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.triggers.interval import IntervalTrigger
from structlog.testing import capture_logs

from mirror.daemon.scheduler import LONGEST_SILENCE_SECONDS, Heartbeat, Schedule, health, max_silence_seconds, readiness
from mirror.log import configure
from support.pass_histories import settings

LOGGER = configure("info", "json")
LONG = timedelta(hours=1)
WAIT_SECONDS = 30.0


class Work:
    """Passes that the test starts and ends."""

    def __init__(self) -> None:
        self.began = 0
        self.ended = 0
        self.most_at_once = 0
        self.gate = threading.Event()
        self.gate.set()
        self.fails = False

    def __call__(self) -> None:
        self.began += 1
        self.most_at_once = max(self.most_at_once, self.began - self.ended)
        self.gate.wait(WAIT_SECONDS)
        self.ended += 1
        if self.fails:
            raise RuntimeError("a defect")


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def scheduled(work: Work, interval: timedelta) -> Iterator[tuple[Schedule, list[int]]]:
    heard: list[int] = []
    schedule = Schedule(work, lambda: heard.append(work.ended), LOGGER, interval=interval)
    schedule.start()
    try:
        yield schedule, heard
    finally:
        work.gate.set()
        schedule.stop()


def test_first_pass_is_at_once() -> None:
    """The first pass does not wait for an interval."""
    work = Work()
    with scheduled(work, LONG) as (schedule, heard):
        wait_until(lambda: heard == [1])
        assert schedule.heartbeat().ended is not None
        assert not schedule.running


def test_passes_go_on_and_never_overlap() -> None:
    """A pass that takes longer than the interval delays the next one, and this is logged."""
    work = Work()
    with capture_logs() as logs, scheduled(work, timedelta(seconds=0.05)) as (_, heard):
        wait_until(lambda: len(heard) >= 3)
        work.gate.clear()
        wait_until(lambda: any(each["event"] == "pass.still_running" for each in logs))
        work.gate.set()
        more = len(heard) + 2
        wait_until(lambda: len(heard) >= more)
    assert work.most_at_once == 1


def test_pass_that_raises_is_followed_by_the_next() -> None:
    """The library drops a job's exception. The schedule continues and reports the end of the pass."""
    work = Work()
    work.fails = True
    with capture_logs() as logs, scheduled(work, timedelta(seconds=0.05)) as (_, heard):
        wait_until(lambda: len(heard) >= 3)
    failed = [each for each in logs if each["event"] == "library.failed"]
    assert failed[0]["cause"] == "RuntimeError('a defect')"


def test_pass_is_made_when_asked_for() -> None:
    """It starts at once, or right after the current pass. No skipped run is logged."""
    work = Work()
    with capture_logs() as logs, scheduled(work, LONG) as (schedule, heard):
        wait_until(lambda: len(heard) == 1)
        schedule.now()
        wait_until(lambda: len(heard) == 2)
        work.gate.clear()
        schedule.now()
        wait_until(lambda: work.began == 3)
        schedule.now()
        time.sleep(0.1)
        assert schedule.running
        work.gate.set()
        wait_until(lambda: len(heard) == 4)
    assert work.most_at_once == 1
    assert logs == []


def test_new_interval_is_obeyed() -> None:
    """The new interval applies without a restart."""
    work = Work()
    with scheduled(work, LONG) as (schedule, heard):
        wait_until(lambda: len(heard) == 1)
        schedule.set_interval(LONG)
        schedule.set_interval(timedelta(seconds=0.05))
        wait_until(lambda: len(heard) >= 3)


def test_clock_that_was_set_back_delays_nothing() -> None:
    """The scheduler waits for a wall-clock time. If that is an hour away by mistake, a pass still begins."""
    work = Work()
    with capture_logs() as logs, scheduled(work, timedelta(seconds=0.2)) as (schedule, heard):
        wait_until(lambda: len(heard) == 1)
        schedule.set_interval(LONG)  # as with such a clock, the library now waits for a distant time
        schedule._interval = timedelta(seconds=0.2)
        done = len(heard)

        def nudged() -> bool:
            schedule.recover_from_clock_step()
            return len(heard) > done

        wait_until(nudged)
    assert any(each["event"] == "schedule.behind" for each in logs)


@pytest.mark.parametrize("way", ["dead", "stuck"])
def test_scheduler_that_is_dead_or_stuck_gives_no_beat(way: str) -> None:
    """Health then fails, because only the scheduler's own thread sends the heartbeat."""
    work, release = Work(), threading.Event()
    with scheduled(work, LONG) as (schedule, heard):
        wait_until(lambda: len(heard) == 1)
        if way == "dead":
            schedule.stop()
        else:
            trigger = IntervalTrigger(hours=1)
            now = datetime.now(UTC)
            schedule._scheduler.add_job(release.wait, trigger, (WAIT_SECONDS,), executor="beat", next_run_time=now)
        time.sleep(0.2)
        before = schedule.heartbeat()
        time.sleep(2.2)
        schedule.recover_from_clock_step()
        time.sleep(0.1)
        seen = schedule.heartbeat()
        assert seen.heartbeat == before.heartbeat
        assert health(seen, seen.heartbeat + 29, 1000).ok
        assert not health(seen, seen.heartbeat + 31, 1000).ok
        release.set()
        time.sleep(0.2)


def test_stop_does_not_wait_for_a_pass() -> None:
    """SIGTERM allows 10 s in all. A second stop is harmless."""
    work = Work()
    work.gate.clear()
    with scheduled(work, LONG) as (schedule, _):
        wait_until(lambda: work.began == 1)
        schedule.stop()
        schedule.stop()
        assert schedule.running


MAX_SILENCE_SECONDS = 100.0


@pytest.mark.parametrize(
    ("seen", "alive", "ready"),
    [
        pytest.param(Heartbeat(began=1000, heartbeat=1000), True, False, id="just begun"),
        pytest.param(Heartbeat(began=901, heartbeat=1000), True, False, id="the first pass takes long"),
        pytest.param(Heartbeat(began=899, heartbeat=1000), False, False, id="the first pass never ends"),
        pytest.param(Heartbeat(began=0, heartbeat=1000, ended=1000), True, True, id="a pass has just ended"),
        pytest.param(Heartbeat(began=0, heartbeat=1000, ended=901), True, True, id="a pass ended in time"),
        pytest.param(Heartbeat(began=0, heartbeat=1000, ended=899), False, False, id="was ready once, and is stuck"),
        pytest.param(Heartbeat(began=0, heartbeat=971, ended=1000), True, True, id="the machine was busy"),
        pytest.param(Heartbeat(began=0, heartbeat=969, ended=1000), False, True, id="the scheduler is silent"),
        pytest.param(Heartbeat(began=0, heartbeat=0, ended=0), False, False, id="all is long ago"),
    ],
)
def test_verdicts(seen: Heartbeat, *, alive: bool, ready: bool) -> None:
    """The verdicts at second 1000, with at most 100 s without a pass and 30 s for the heartbeat."""
    assert LONGEST_SILENCE_SECONDS == 30
    assert health(seen, 1000, MAX_SILENCE_SECONDS).ok is alive
    assert readiness(seen, 1000, MAX_SILENCE_SECONDS).ok is ready


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (Heartbeat(began=0, heartbeat=0, ended=999), "The scheduler has given no sign of life for 16 min 40 s."),
        (Heartbeat(began=0, heartbeat=999), "No pass has ended for 16 min 40 s; at most 1 min 40 s is good."),
        (Heartbeat(began=0, heartbeat=999, ended=999), "The scheduler is alive."),
    ],
)
def test_health_is_reported_in_words(seen: Heartbeat, said: str) -> None:
    """The response of a failing probe gives the reason."""
    assert health(seen, 1000, MAX_SILENCE_SECONDS).sentence == said


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (Heartbeat(began=0, heartbeat=0), "No pass has ended yet."),
        (Heartbeat(began=0, heartbeat=0, ended=940), "The last pass ended 1 min ago."),
        (Heartbeat(began=0, heartbeat=0, ended=0), "The last pass ended 16 min 40 s ago; at most 1 min 40 s is good."),
    ],
)
def test_readiness_is_reported_in_words(seen: Heartbeat, said: str) -> None:
    """Readiness gives its reason like health."""
    assert readiness(seen, 1000, MAX_SILENCE_SECONDS).sentence == said


def test_silence_lasts_three_intervals_and_the_source_deadline() -> None:
    """At the default interval of 1 min and a source deadline of 60 s, no pass may end for 4 min."""
    assert max_silence_seconds(settings("a")) == 240
    assert max_silence_seconds(replace(settings("a"), interval=timedelta(seconds=1))) == 63
