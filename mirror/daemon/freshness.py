"""Pure: whether the daemon is alive, and whether what it says is fresh. Neither latches.

All times are seconds of one clock that only goes forward, so that a corrected wall clock ends nobody.
"""

from dataclasses import dataclass
from datetime import timedelta

from mirror.config.settings import Settings

BEAT_SECONDS = 2.0
"""How often the scheduler gives a sign of life."""
LONGEST_SILENCE_SECONDS = 30.0
"""How long it may give none: a machine that was suspended or overloaded is no dead scheduler."""
INTERVALS = 3


@dataclass(frozen=True, slots=True)
class Pulse:
    """When the daemon began, when the scheduler last beat, and when a pass last ended (None: none yet)."""

    began: float
    beat: float
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A yes or no, and one sentence for people."""

    ok: bool
    sentence: str


def patience_seconds(settings: Settings) -> float:
    """How long no pass may end: three intervals, and what asking all apiservers may take."""
    return INTERVALS * settings.interval.total_seconds() + settings.limits.source_deadline_seconds


def health(pulse: Pulse, now: float, patience: float) -> Verdict:
    """Whether the process and its scheduler are alive. Passes that fail are no reason to start anew.

    Args:
        pulse: What was seen.
        now: Seconds, by the same clock.
        patience: How long no pass may end, seconds.
    """
    silence = now - pulse.beat
    if silence > LONGEST_SILENCE_SECONDS:
        return Verdict(ok=False, sentence=f"The scheduler has given no sign of life for {_words(silence)}.")
    since = now - (pulse.began if pulse.ended is None else pulse.ended)
    if since > patience:
        return Verdict(ok=False, sentence=f"No pass has ended for {_words(since)}; at most {_words(patience)} is good.")
    return Verdict(ok=True, sentence="The scheduler is alive.")


def readiness(pulse: Pulse, now: float, patience: float) -> Verdict:
    """Whether a pass has ended, whatever came of it, and lately. The arguments are those of `health`."""
    if pulse.ended is None:
        return Verdict(ok=False, sentence="No pass has ended yet.")
    since = now - pulse.ended
    if since > patience:
        return Verdict(
            ok=False, sentence=f"The last pass ended {_words(since)} ago; at most {_words(patience)} is good."
        )
    return Verdict(ok=True, sentence=f"The last pass ended {_words(since)} ago.")


def _words(seconds: float) -> str:
    return str(timedelta(seconds=max(int(seconds), 0)))
