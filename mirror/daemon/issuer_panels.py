"""What the status page shows of one issuer: its line, its apiservers side by side, its keys on a time axis. Pure."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from mirror.daemon.pass_history import IssuerState, PassHistory
from mirror.daemon.status_memory import issuer_status
from mirror.model import PUBLIC_STATUSES, KeyRecord, Level, Observation, Observed, Reason, Status, Unusable, key_id
from mirror.report import SUSPENDED, Effect, IssuerReport, State, remedies_of
from mirror.status.result import IssuerStatus, NextStep, changed_at, count_keys, next_step
from mirror.status.timeline import Axis, Tick, ticks
from mirror.text import counted, moment_and_distance

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
    yield f"first seen {moment_and_distance(record.first_seen, now)}"
    if record.status is Status.RETIRING and record.missing_since is not None and state.report is not None:
        leaves_at = record.missing_since + state.report.retain_removed
        word = "leaves at" if leaves_at > now else "may leave since"
        yield f"on no apiserver since {moment_and_distance(record.missing_since, now)}"
        yield f"{word} {moment_and_distance(leaves_at, now)}"
    if record.status is Status.PUBLISHED:
        yield _safety(state.key_safe_at(record), now)
    if record.status is Status.HELD:
        yield f"not public; held because: {record.held_because}"
    if record.revocation is not None:
        yield f"revoked {moment_and_distance(record.revocation.at, now)}: {record.revocation.reason}"


def _safety(safe_at: datetime | None, now: datetime) -> str:
    if safe_at is None:
        return "safe to sign: not known yet"
    if safe_at <= now:
        return f"safe to sign since {moment_and_distance(safe_at, now)}"
    return f"do not sign with it before {moment_and_distance(safe_at, now)}"


CERTIFICATE_SOON = timedelta(days=14)
_COMMAND = re.compile(r"(?P<words>[^\n]*: )(?P<command>(?:oidc-mirror|kubectl) [^\n]+)")
_EFFECTS = {
    Effect.UNCHANGED: "as committed",
    Effect.PUT: "put in the last pass",
    Effect.PLANNED: "not put: the bucket could not be read, or nothing may be published",
    Effect.WAITING: "the put waits for the git remote",
    Effect.FAILED: "could not be put",
}


@dataclass(frozen=True, slots=True)
class Step:
    """What to do: words, and the command that does it (empty where there is none)."""

    words: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Advice:
    """A problem: a sentence, and each thing to do about it."""

    sentence: str
    steps: tuple[Step, ...] = ()


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
class IssuerLine:
    """One published issuer as a line of the table. `status` is None before a pass has decided about the issuer.

    `mark` is the colour of the state: `good`, `warn`, `bad`, `held` or `quiet`. `apiservers` is `2/3`: how many of the
    expected ones gave a usable answer.
    """

    state: IssuerState
    mark: str
    word: str
    status: IssuerStatus | None = None
    keys: str = "-"
    apiservers: str = "-"
    changed_at: datetime | None = None
    next: NextStep | None = None

    @property
    def anchor(self) -> str:
        """Its id in the page: a name, and for a former issuer its path, in which no space can be."""
        return f"{self.state.name}:{self.state.url}" if self.state.is_former else str(self.state.name)

    @property
    def rotating(self) -> bool:
        """Whether a rotation is under way."""
        return self.status is not None and self.status.rotating

    @property
    def pending(self) -> int:
        """How many changes wait for an operator."""
        return 0 if self.status is None else len(self.status.held)

    def holds(self, text: str) -> bool:
        """Whether a name, URL, kid, thumbprint or apiserver of the issuer contains `text`, whatever its case."""
        keys = () if self.status is None else (key.record.key for key in self.status.keys)
        observations = () if self.state.report is None else self.state.report.observations
        texts = [str(self.state.name), str(self.state.url), *(each.apiserver for each in observations)]
        texts += [name for key in keys for name in (str(key.kid), str(key.thumbprint))]
        return any(text.casefold() in each.casefold() for each in texts)


@dataclass(frozen=True, slots=True)
class IssuerPanel:
    """The details of one published issuer."""

    sentence: str
    apiservers: tuple[ApiserverPanel, ...] = ()
    keys: KeyTimeline | None = None
    documents: tuple[DocumentLine, ...] = ()
    look: str = ""
    look_mark: str = "quiet"
    held: tuple[Advice, ...] = ()
    failures: tuple[Advice, ...] = ()
    events: tuple[str, ...] = ()


MARKS = {
    State.FAILED: "bad",
    State.WAITING_FOR_PUSH: "bad",
    State.UNPUBLISHED: "bad",
    State.HELD: "held",
    State.DEGRADED: "warn",
    State.CHANGED: "good",
    State.CURRENT: "good",
}


def issuer_lines(pass_history: PassHistory, now: datetime) -> tuple[IssuerLine, ...]:
    """Every published issuer, the ones that need somebody first; rotations before the others of one state."""
    order = {state: place for place, state in enumerate(State)}

    def urgency(line: IssuerLine) -> tuple[int, bool]:
        return -1 if line.status is None else order[line.status.state], not line.rotating

    return tuple(sorted((_line(known, now) for known in pass_history.issuers.values()), key=urgency))


def _line(state: IssuerState, now: datetime) -> IssuerLine:
    report = state.report
    if report is None:
        return IssuerLine(state, "quiet", "unknown")
    status = issuer_status(state, report, now)
    usable = sum(isinstance(each, Observed) for each in report.observations)
    expected = max(report.expected_apiservers, len(report.observations))
    return IssuerLine(
        state,
        MARKS[status.state],
        str(status.state),
        status,
        count_keys(status),
        f"{usable}/{expected}",
        changed_at(status),
        _next(status, report, now),
    )


def _next(status: IssuerStatus, report: IssuerReport, now: datetime) -> NextStep | None:
    """As in `status`; here it is known what an apiserver that did not answer said."""
    unusable = [each for each in report.observations if isinstance(each, Unusable)]
    if status.state is State.DEGRADED and unusable and not status.held and not status.suspended:
        codes = ", ".join(dict.fromkeys(reason.code for each in unusable for reason in each.reasons))
        return NextStep(f"{counted(len(unusable), 'apiserver')} not usable ({codes}), asked again in the next pass")
    return next_step(status, now)


def advice(reason: Reason) -> Advice:
    """A reason as people act on it; a command at the end of a remedy stands by itself."""
    return Advice(reason.sentence, _steps((reason.remedy,)))


def _steps(remedies: Iterable[str]) -> tuple[Step, ...]:
    return tuple(_step(remedy) for remedy in remedies if remedy)


def _step(remedy: str) -> Step:
    found = _COMMAND.fullmatch(remedy)
    return Step(remedy) if found is None else Step(found["words"].strip(), found["command"])


def _failures(report: IssuerReport) -> Iterator[Advice]:
    """What failed, each with its own remedies; those of apiservers one by one, so that each command can be copied."""
    yield from map(advice, report.failures)
    for _, sentence, unusable in report.apiserver_failures():
        yield Advice(sentence, _steps(remedies_of(unusable, report.name)))


def issuer_panel(state: IssuerState, now: datetime) -> IssuerPanel:
    """The details of an issuer."""
    report = state.report
    if report is None:
        return IssuerPanel("No pass has decided about it yet.")
    look_mark, look = _look(state, now)
    return IssuerPanel(
        _sentence(state, report),
        tuple(_boxes(state, report, now)),
        key_bars(state, now),
        tuple(_documents(report)),
        look,
        look_mark,
        tuple(advice(reason) for reason in report.held),
        tuple(_failures(report)),
        tuple(dict.fromkeys(each.sentence for each in report.events if each.level is not Level.INFO)),
    )


def _sentence(state: IssuerState, report: IssuerReport) -> str:
    unusable = sum(isinstance(each, Unusable) for each in report.observations)
    match report.state:
        case State.FAILED if state.look is not None and not state.look.ok:
            return "Something failed, and the public documents are not those that were committed."
        case State.FAILED:
            return "Something failed; the last good state stays public."
        case State.WAITING_FOR_PUSH:
            return "What was decided is not public: the git remote must take the push first, and refused it."
        case State.UNPUBLISHED:
            return "Nothing of this issuer was ever public: no token of this cluster is accepted anywhere."
        case State.HELD:
            return f"{counted(len(report.held), 'change')} pending approval; what is public stays as it is."
        case State.DEGRADED if any(each.name == SUSPENDED for each in report.events):
            return "Suspended: only revocations change it. Remove `suspend` from the configuration to go on."
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


def _look(state: IssuerState, now: datetime) -> tuple[str, str]:
    if state.look is None or state.looked_at is None:
        return "quiet", "The public URLs were not read back yet."
    when = moment_and_distance(state.looked_at, now)
    if not state.look.ok:
        return "bad", f"Anonymous read-back failed at {when}: the public URLs do not show what was committed."
    took = "" if state.look.seconds is None else f" ({state.look.seconds:.2f} s)"
    return "good", f"Anonymous read-back succeeded{took}, at {when}."
