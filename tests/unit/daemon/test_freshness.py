"""Alive and ready, as tables: nothing latches."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mirror.daemon.freshness import LONGEST_SILENCE_SECONDS, Pulse, health, patience_seconds, readiness
from support.chronicles import settings

PATIENCE = 100.0


@pytest.mark.parametrize(
    ("pulse", "alive", "ready"),
    [
        pytest.param(Pulse(began=1000, beat=1000), True, False, id="just begun"),
        pytest.param(Pulse(began=901, beat=1000), True, False, id="the first pass takes long"),
        pytest.param(Pulse(began=899, beat=1000), False, False, id="the first pass never ends"),
        pytest.param(Pulse(began=0, beat=1000, ended=1000), True, True, id="a pass has just ended"),
        pytest.param(Pulse(began=0, beat=1000, ended=901), True, True, id="a pass ended in time"),
        pytest.param(Pulse(began=0, beat=1000, ended=899), False, False, id="was ready once, and is stuck"),
        pytest.param(Pulse(began=0, beat=971, ended=1000), True, True, id="the machine was busy"),
        pytest.param(Pulse(began=0, beat=969, ended=1000), False, True, id="the scheduler is silent"),
        pytest.param(Pulse(began=0, beat=0, ended=0), False, False, id="all is long ago"),
    ],
)
def test_verdicts(pulse: Pulse, *, alive: bool, ready: bool) -> None:
    """At second 1000, with a patience of 100 s and 30 s for the beat."""
    assert LONGEST_SILENCE_SECONDS == 30
    assert health(pulse, 1000, PATIENCE).ok is alive
    assert readiness(pulse, 1000, PATIENCE).ok is ready


@pytest.mark.parametrize(
    ("pulse", "said"),
    [
        (Pulse(began=0, beat=0, ended=999), "The scheduler has given no sign of life for 0:16:40."),
        (Pulse(began=0, beat=999), "No pass has ended for 0:16:40; at most 0:01:40 is good."),
        (Pulse(began=0, beat=999, ended=999), "The scheduler is alive."),
    ],
)
def test_health_is_told_in_words(pulse: Pulse, said: str) -> None:
    """Who looks at a failing probe reads why."""
    assert health(pulse, 1000, PATIENCE).sentence == said


@pytest.mark.parametrize(
    ("pulse", "said"),
    [
        (Pulse(began=0, beat=0), "No pass has ended yet."),
        (Pulse(began=0, beat=0, ended=940), "The last pass ended 0:01:00 ago."),
        (Pulse(began=0, beat=0, ended=0), "The last pass ended 0:16:40 ago; at most 0:01:40 is good."),
    ],
)
def test_readiness_is_told_in_words(pulse: Pulse, said: str) -> None:
    """As for health."""
    assert readiness(pulse, 1000, PATIENCE).sentence == said


def test_patience_is_three_intervals_and_the_source_deadline() -> None:
    """As the design has it: 5 min and 60 s make 16 min."""
    assert patience_seconds(settings("a")) == 960
    assert patience_seconds(replace(settings("a"), interval=timedelta(seconds=1))) == 63
