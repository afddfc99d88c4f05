"""Pure: an issuer's keys on a timeline: since when, and until when as far as it is known today."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from mirror.daemon.pass_history import Known
from mirror.model import KeyRecord, Status
from mirror.status.timeline import Axis, Tick, ticks

LONGEST_PAST = timedelta(days=30)
"""What is older stands at the left edge: the page is about today."""
_SHORTEST_PAST = timedelta(hours=6)
_FUTURE_SHARE = 0.08
_LABEL_PERCENT = 12.0
"""A date that is closer to "now" would be written over it."""
_NARROWEST = 0.4
_MOST_GONE = 8
_GONE = frozenset({Status.DROPPED, Status.REVOKED})
_ORDER = (Status.HELD, Status.PUBLISHED, Status.RETIRING, Status.REVOKED, Status.DROPPED)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a bar, in percent of the width; `planned` when it lies in the future."""

    status: Status
    x: float
    width: float
    planned: bool = False


@dataclass(frozen=True, slots=True)
class KeyBar:
    """One key: its record, its bar, and sentences about its dates."""

    record: KeyRecord
    stretches: tuple[Stretch, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyBars:
    """All keys on one axis; `now_x` is today. `left_out` counts keys that are gone and not shown."""

    bars: tuple[KeyBar, ...]
    ticks: tuple[Tick, ...]
    now_x: float
    left_out: int


def key_bars(known: Known, now: datetime) -> KeyBars | None:
    """The timeline of an issuer; None while it has no key."""
    report = known.report
    if report is None or not report.records:
        return None
    records = sorted(report.records, key=lambda each: (_ORDER.index(each.status), each.first_seen, each.key.kid))
    gone = [each for each in records if each.status in _GONE]
    shown = [each for each in records if each.status not in _GONE] + gone[:_MOST_GONE]
    axis = _axis(shown, report.retain_removed, now)
    bars = tuple(
        KeyBar(each, tuple(_stretches(each, axis, now, report.retain_removed)), tuple(_sentences(each, known, now)))
        for each in shown
    )
    now_x = axis.percent(now)
    dates = tuple(each for each in ticks(axis) if abs(each.x - now_x) > _LABEL_PERCENT)
    return KeyBars(bars, dates, now_x, len(gone) - len(gone[:_MOST_GONE]))


def _axis(records: list[KeyRecord], retain: timedelta, now: datetime) -> Axis:
    oldest = min((each.first_seen for each in records), default=now)
    start = max(min(oldest, now - _SHORTEST_PAST), now - LONGEST_PAST)
    leaving = (each.missing_since + retain for each in records if each.missing_since is not None)
    return Axis(start, max(now + (now - start) * _FUTURE_SHARE, *leaving, now))


def _stretches(record: KeyRecord, axis: Axis, now: datetime, retain: timedelta) -> Iterator[Stretch]:
    def stretch(status: Status, since: datetime, until: datetime, *, planned: bool = False) -> Stretch:
        x = axis.percent(since)
        return Stretch(status, x, round(max(axis.percent(until) - x, _NARROWEST), 3), planned)

    match record.status:
        case Status.RETIRING if record.missing_since is not None:
            yield stretch(Status.PUBLISHED, record.first_seen, record.missing_since)
            yield stretch(Status.RETIRING, record.missing_since, now)
            yield stretch(Status.RETIRING, now, record.missing_since + retain, planned=True)
        case Status.REVOKED if record.revocation is not None:
            yield stretch(Status.REVOKED, record.first_seen, record.revocation.at)
        case Status.DROPPED:
            return
        case _:
            yield stretch(record.status, record.first_seen, now)


def _sentences(record: KeyRecord, known: Known, now: datetime) -> Iterator[str]:
    yield f"first seen {_moment(record.first_seen)}"
    if record.status is Status.RETIRING and record.missing_since is not None and known.report is not None:
        leaves_at = record.missing_since + known.report.retain_removed
        word = "leaves at" if leaves_at > now else "may leave since"
        yield f"on no apiserver since {_moment(record.missing_since)}"
        yield f"{word} {_moment(leaves_at)}"
    if record.status is Status.PUBLISHED:
        yield _safety(known, now)
    if record.status is Status.HELD:
        yield f"not public; held because: {record.held_because}"
    if record.revocation is not None:
        yield f"revoked {_moment(record.revocation.at)}: {record.revocation.reason}"


def _safety(known: Known, now: datetime) -> str:
    if known.safe_to_sign_at is None:
        return "safe to sign: not known yet"
    if known.safe_to_sign_at <= now:
        return f"safe to sign since {_moment(known.safe_to_sign_at)}"
    return f"do not sign with it before {_moment(known.safe_to_sign_at)}"


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%SZ}"
