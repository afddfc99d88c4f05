"""What one pass knows besides the ledger, and what may be concluded from it: who answered, and whose clock is right."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from mirror.model import KeyId, Observation, Thumbprint, Unusable

MOST_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What one pass knows besides the ledger.

    `now` is aware, UTC, whole seconds. `replicas` is how many observations make "every apiserver answered".
    `may_drop` is False while the git remote could not be asked: removals wait for it; `may_admit` is
    False for a former issuer whose time is over: it gets no new keys. `sources_changed` tells that
    the issuer's apiservers or CA are not those of the last pass, which restarts every `missing_since`.
    `suspects` are keys that must be held, each with the reason's code, whatever the policy says.
    `held_missing_since` tells since when all apiservers answer without a held key, as this machine remembers it
    (`mirror.trust.lifecycle.held_missing_since`).
    """

    observations: tuple[Observation, ...]
    replicas: int
    now: datetime
    may_drop: bool = True
    may_admit: bool = True
    sources_changed: bool = False
    suspects: Mapping[Thumbprint, str] = field(default_factory=dict)
    held_missing_since: Mapping[KeyId, datetime] = field(default_factory=dict)


def unheard(observations: Iterable[Observation], replicas: int) -> tuple[str, ...]:
    """Why "every apiserver answered" does not hold: the apiservers that did not, or a sentence; empty when it does."""
    observations = tuple(observations)
    silent = tuple(o.apiserver for o in observations if isinstance(o, Unusable))
    if silent:
        return tuple(dict.fromkeys(silent))
    if len(observations) < max(replicas, 1):
        return (f"{max(replicas, 1) - len(observations)} replica(s) that were not found",)
    return ()


def is_clock_wrong(observations: Iterable[Observation], now: datetime) -> bool:
    """Whether `now` is further from the apiservers' clocks than any date of a key may be."""
    skew = clock_skew(observations, now)
    return skew is not None and skew > MOST_CLOCK_SKEW


def clock_skew(observations: Iterable[Observation], now: datetime) -> timedelta | None:
    """How far `now` is from the median `Date` of the issuer's apiservers; None when none sent one."""
    dates = [o.date.timestamp() for o in observations if o.date is not None]
    return timedelta(seconds=abs(now.timestamp() - median(dates))) if dates else None
