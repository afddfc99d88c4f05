"""The status page: rendered from what the daemon remembers, at most once in a few seconds."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from threading import Lock

from jinja2 import Template

from mirror import __version__
from mirror.daemon.pass_history import IssuerState, PassHistory
from mirror.daemon.scheduler import HealthResult
from mirror.model import PUBLIC_STATUSES, KeyRecord, Level, Observation, Observed, Reason, Status, Unusable, key_id
from mirror.report import Effect, IssuerReport, State
from mirror.status.timeline import Axis, Tick, page_template, style_hash, ticks
from mirror.text import counted, moment

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
class TimelineSegment:
    """A part of a bar, in percent of the width; `planned` when it lies in the future."""

    status: Status
    x: float
    width: float
    planned: bool = False


@dataclass(frozen=True, slots=True)
class KeyBar:
    """One key: its record, its bar, and sentences about its dates."""

    record: KeyRecord
    stretches: tuple[TimelineSegment, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyTimeline:
    """All keys on one axis; `now_x` is today. `left_out` counts keys that are gone and not shown."""

    bars: tuple[KeyBar, ...]
    ticks: tuple[Tick, ...]
    now_x: float
    left_out: int


def key_bars(state: IssuerState, now: datetime) -> KeyTimeline | None:
    """The timeline of an issuer; None while it has no key."""
    report = state.report
    if report is None or not report.records:
        return None
    records = sorted(report.records, key=lambda each: (_ORDER.index(each.status), each.first_seen, each.key.kid))
    gone = [each for each in records if each.status in _GONE]
    shown = [each for each in records if each.status not in _GONE] + gone[:_MOST_GONE]
    axis = _axis(shown, report.retain_removed, now)
    bars = tuple(
        KeyBar(each, tuple(_stretches(each, axis, now, report.retain_removed)), tuple(_sentences(each, state, now)))
        for each in shown
    )
    now_x = axis.percent(now)
    dates = tuple(each for each in ticks(axis) if abs(each.x - now_x) > _LABEL_PERCENT)
    return KeyTimeline(bars, dates, now_x, len(gone) - len(gone[:_MOST_GONE]))


def _axis(records: list[KeyRecord], retain: timedelta, now: datetime) -> Axis:
    oldest = min((each.first_seen for each in records), default=now)
    start = max(min(oldest, now - _SHORTEST_PAST), now - LONGEST_PAST)
    leaving = (each.missing_since + retain for each in records if each.missing_since is not None)
    return Axis(start, max(now + (now - start) * _FUTURE_SHARE, *leaving, now))


def _stretches(record: KeyRecord, axis: Axis, now: datetime, retain: timedelta) -> Iterator[TimelineSegment]:
    def stretch(status: Status, since: datetime, until: datetime, *, planned: bool = False) -> TimelineSegment:
        x = axis.percent(since)
        return TimelineSegment(status, x, round(max(axis.percent(until) - x, _NARROWEST), 3), planned)

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


def _sentences(record: KeyRecord, state: IssuerState, now: datetime) -> Iterator[str]:
    yield f"first seen {moment(record.first_seen)}"
    if record.status is Status.RETIRING and record.missing_since is not None and state.report is not None:
        leaves_at = record.missing_since + state.report.retain_removed
        word = "leaves at" if leaves_at > now else "may leave since"
        yield f"on no apiserver since {moment(record.missing_since)}"
        yield f"{word} {moment(leaves_at)}"
    if record.status is Status.PUBLISHED:
        yield _safety(state.key_safe_at(record), now)
    if record.status is Status.HELD:
        yield f"not public; held because: {record.held_because}"
    if record.revocation is not None:
        yield f"revoked {moment(record.revocation.at)}: {record.revocation.reason}"


def _safety(safe_at: datetime | None, now: datetime) -> str:
    if safe_at is None:
        return "safe to sign: not known yet"
    if safe_at <= now:
        return f"safe to sign since {moment(safe_at)}"
    return f"do not sign with it before {moment(safe_at)}"


CERTIFICATE_SOON = timedelta(days=14)
MOST_CARDS = 100
"""From here on issuers that need nobody are lines of a table: a page of a thousand cards helps nobody."""
_COMMAND = re.compile(r"(?P<words>[^\n]*: )(?P<command>(?:oidc-mirror|kubectl) [^\n]+)")
_EFFECTS = {
    Effect.UNCHANGED: "as committed",
    Effect.PUT: "put in the last pass",
    Effect.PLANNED: "not put: the bucket could not be read or nothing may be published",
    Effect.WAITING: "waits",
    Effect.FAILED: "could not be put",
}


@dataclass(frozen=True, slots=True)
class Advice:
    """Something to be told: a sentence, what to do, and the command that does it (empty where there is none)."""

    sentence: str
    remedy: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class ApiserverPanel:
    """One apiserver: `mark` is `good`, `warn` or `bad`; `missing` are keys that others show and it does not."""

    url: str
    mark: str
    word: str
    problems: tuple[Advice, ...] = ()
    keys: int | None = None
    missing: tuple[str, ...] = ()
    expires_at: datetime | None = None
    expires_soon: bool = False


@dataclass(frozen=True, slots=True)
class DocumentLine:
    """One public document and how it stands in the bucket."""

    url: str
    mark: str
    word: str


@dataclass(frozen=True, slots=True)
class IssuerPanel:
    """One published issuer."""

    state: IssuerState
    mark: str
    word: str
    sentence: str
    apiservers: tuple[ApiserverPanel, ...] = ()
    keys: KeyTimeline | None = None
    documents: tuple[DocumentLine, ...] = ()
    look: str = ""
    look_mark: str = "quiet"
    held: tuple[Advice, ...] = ()
    failures: tuple[Advice, ...] = ()
    events: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """Its id in the page: a name, and for a former issuer its path, in which no space can be."""
        return f"{self.state.name}:{self.state.url}" if self.state.is_former else str(self.state.name)


MARKS = {
    State.FAILED: "bad",
    State.WAITING_FOR_PUSH: "bad",
    State.UNPUBLISHED: "bad",
    State.HELD: "held",
    State.DEGRADED: "warn",
    State.CHANGED: "good",
    State.CURRENT: "good",
}


def issuer_panels(pass_history: PassHistory, now: datetime) -> tuple[IssuerPanel, ...]:
    """Every published issuer, the ones that need somebody first."""
    order = {state: place for place, state in enumerate(State)}

    def urgency(card: IssuerPanel) -> int:
        report = card.state.report
        return -1 if report is None else order[report.state]

    return tuple(sorted((_card(known, now) for known in pass_history.issuers.values()), key=urgency))


def advice(reason: Reason) -> Advice:
    """A reason as people act on it; a command at the end of a remedy stands by itself."""
    found = _COMMAND.fullmatch(reason.remedy)
    if found is None:
        return Advice(reason.sentence, reason.remedy)
    return Advice(reason.sentence, found["words"].strip(), found["command"])


def _card(state: IssuerState, now: datetime) -> IssuerPanel:
    report = state.report
    if report is None:
        return IssuerPanel(state, "quiet", "unknown", "No pass has decided about it yet.")
    look_mark, look = _look(state)
    return IssuerPanel(
        state,
        MARKS[report.state],
        str(report.state),
        _sentence(state, report),
        tuple(_boxes(state, report, now)),
        key_bars(state, now),
        tuple(_documents(report)),
        look,
        look_mark,
        tuple(advice(reason) for reason in report.held),
        tuple(advice(reason) for reason in report.all_failures()),
        tuple(dict.fromkeys(each.sentence for each in report.events if each.level is not Level.INFO)),
    )


def _sentence(state: IssuerState, report: IssuerReport) -> str:
    unusable = sum(isinstance(each, Unusable) for each in report.observations)
    match report.state:
        case State.FAILED if state.look is not None and not state.look.ok:
            return "Something failed, and what is public is not what was meant."
        case State.FAILED:
            return "Something failed; the last good state stays public."
        case State.WAITING_FOR_PUSH:
            return "What was decided is not public: the git remote must have it first, and did not take it."
        case State.UNPUBLISHED:
            return "Nothing of this issuer was ever public, so no token of this cluster is accepted anywhere."
        case State.HELD:
            return f"{counted(len(report.held), 'change')} waiting for an operator; what is public stays as it is."
        case State.DEGRADED if report.missing_apiservers():
            found = len(report.observations)
            return (
                f"Mirrored, but only {found} of {counted(report.expected_apiservers, 'expected apiserver')} were found."
            )
        case State.DEGRADED if unusable:
            return (
                f"Mirrored, but {unusable} of {counted(len(report.observations), 'apiserver')} gave no usable answer."
            )
        case State.DEGRADED if not any(each.status in PUBLIC_STATUSES for each in report.records):
            return "No key is public, so no token of this cluster is accepted anywhere."
        case State.DEGRADED:
            return "Mirrored, but not all of it is public yet."
        case State.CHANGED:
            return "Changed in the last pass, and public."
        case _ if state.replicas_disagree():
            return "Everything is current. The apiservers show different keys: a rotation is under way."
        case _:
            return "Everything is current."


def _boxes(state: IssuerState, report: IssuerReport, now: datetime) -> Iterator[ApiserverPanel]:
    shown = state.apiserver_keys()
    for each in report.observations:
        expires_at = each.certificate_expires_at
        soon = expires_at is not None and expires_at - now < CERTIFICATE_SOON
        if isinstance(each, Observed):
            missing = sorted(shown - {key_id(key) for key in each.keys})
            kids = tuple(kid for kid, _ in missing)
            mark = "warn" if kids or soon else "good"
            yield ApiserverPanel(each.apiserver, mark, "reachable", (), len(each.keys), kids, expires_at, soon)
        else:
            yield _unusable(each, expires_at, soon=soon)


def _unusable(each: Observation, expires_at: datetime | None, *, soon: bool) -> ApiserverPanel:
    reasons = each.reasons if isinstance(each, Unusable) else ()
    word = ", ".join(dict.fromkeys(reason.code for reason in reasons))
    return ApiserverPanel(
        each.apiserver, "bad", word, tuple(map(advice, reasons)), expires_at=expires_at, expires_soon=soon
    )


def _documents(report: IssuerReport) -> Iterator[DocumentLine]:
    for each in report.objects:
        good = each.effect in (Effect.UNCHANGED, Effect.PUT)
        word = "drift repaired in the last pass" if good and each.action == "repair" else _EFFECTS[each.effect]
        yield DocumentLine(each.url, "good" if good else "warn", word)


def _look(state: IssuerState) -> tuple[str, str]:
    if state.look is None or state.looked_at is None:
        return "quiet", "The public URLs were not read yet."
    took = "" if state.look.seconds is None else f" within {state.look.seconds:.2f} s"
    if state.look.ok:
        return "good", f"The world read these documents as meant{took}, at {moment(state.looked_at)}."
    return "bad", f"The world does not see what is meant, since a look at {moment(state.looked_at)}."


REFRESH_SECONDS = 30
_KEPT_SECONDS = 2.0
_QUIET = frozenset({State.CURRENT, State.CHANGED})


class Page:
    """Renders the page for many readers at once; safe for many threads."""

    def __init__(self, pass_history: Callable[[], PassHistory], health: Callable[[], HealthResult]) -> None:
        self._pass_history = pass_history
        self._health = health
        self._lock = Lock()
        self._made: tuple[float, PassHistory, str] | None = None

    def render(self) -> tuple[str, str]:
        """The page, and the hash of its style sheet for the policy that goes with it."""
        pass_history = self._pass_history()
        with self._lock:  # who comes while it is made gets the same one
            made = self._made
            if made is None or made[1] is not pass_history or time.monotonic() - made[0] > _KEPT_SECONDS:
                html = render(pass_history, self._health(), datetime.now(UTC))
                made = self._made = (time.monotonic(), pass_history, html)
        return made[2], _style()[1]


def render(pass_history: PassHistory, health: HealthResult, now: datetime) -> str:
    """The page of a pass history at `now` (aware, UTC)."""
    every = issuer_panels(pass_history, now)
    many = len(every) > MOST_CARDS
    lines = tuple(card for card in every if many and _is_quiet(card))
    full = tuple(card for card in every if card not in lines) if many else every
    mark, headline = _headline(pass_history, every, health)
    report = pass_history.report
    return _template().render(
        cards=full,
        lines=lines,
        mark=mark,
        headline=headline,
        counts=_counts(every),
        pass_history=pass_history,
        report=report,
        failures=() if report is None else tuple(map(advice, report.failures)),
        refused=None if pass_history.refused is None else advice(pass_history.refused),
        health=health,
        now=now,
        css=_style()[0],
        refresh=REFRESH_SECONDS,
        version=__version__,
    )


def _is_quiet(card: IssuerPanel) -> bool:
    return card.state.report is not None and card.state.report.state in _QUIET


def _headline(pass_history: PassHistory, every: tuple[IssuerPanel, ...], health: HealthResult) -> tuple[str, str]:
    """The whole in one sentence, and its mark."""
    if not health.ok:  # whatever the last pass said, it is no longer so for sure
        return "bad", "The mirror is stuck"
    if pass_history.refused is not None:
        return "bad", "The configuration on disk is refused"
    if pass_history.report is None:
        return "quiet", "The first pass has not ended yet"
    if pass_history.report.failures:
        return "bad", "The last pass failed"
    words = {
        State.FAILED: "failed",
        State.WAITING_FOR_PUSH: "waiting for the git remote",
        State.UNPUBLISHED: "never published",
        State.HELD: "waiting for an operator",
        State.DEGRADED: "degraded",
    }
    states = [card.state.report.state for card in every if card.state.report is not None]
    for state, word in words.items():
        if state in states:
            return MARKS[state], f"{states.count(state)} of {_issuers(len(every))} {word}"
    return "good", "Everything is current" if every else "No issuer is configured"


def _issuers(number: int) -> str:
    return counted(number, "issuer")


def _counts(every: tuple[IssuerPanel, ...]) -> tuple[tuple[str, str, int], ...]:
    """(mark, word, how many) for each state that occurs, the worst first."""
    counted = Counter((card.mark, card.word) for card in every)
    return tuple((mark, word, number) for (mark, word), number in counted.items())


@cache
def _style() -> tuple[str, str]:
    css = _read("status.css")
    return css, style_hash(css)


@cache
def _template() -> Template:
    return page_template(_read("status.html"))


def _read(name: str) -> str:
    return (resources.files("mirror.daemon") / "templates" / name).read_text("utf-8")
