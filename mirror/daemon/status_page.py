"""The status page: rendered from the daemon's memory, and cached for a few seconds for each query.

Of each issuer it shows the line, the apiservers side by side, and the keys on a time axis. `/status.json` is the value
of `status --output json`: a request never asks git, the bucket or the public URL, and orphaned objects are known to
the command alone.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Lock
from urllib.parse import urlencode

from mirror import __version__
from mirror.daemon.pass_history import IssuerState, PassHistory
from mirror.daemon.scheduler import HealthResult
from mirror.model import PUBLIC_STATUSES, KeyRecord, Level, Observed, Reason, Status, Unusable, key_id
from mirror.reconcile.local_state import LastResult
from mirror.report import SUSPENDED, Effect, IssuerReport, State, remedies_of
from mirror.status.result import (
    IssuerStatus,
    NextStep,
    ObjectState,
    ObjectStatus,
    PublicKeyStatus,
    StatusReport,
    changed_at,
    count_keys,
    next_step,
    to_json,
)
from mirror.status.timeline import Axis, Tick, page_template, ticks
from mirror.text import counted, moment_and_distance

REFRESH_SECONDS = 30
MOST_LINES = 500
"""How many issuers one page shows: more would only make it slow, and the worst come first."""
SHOWN_EVENTS = 12
"""How many recent events are open; the others stand behind them, closed."""
_MOST_CHARACTERS = 400
"""Of a value in the URL; an issuer may have 255, and its name 63."""
_KEPT_SECONDS = 2.0
_KEPT_PAGES = 4
ROTATING, PENDING = "rotating", "pending"
"""What can be selected as a state, in addition to those of a report."""
WORDS = {ROTATING: "rotating", PENDING: "pending approval"}
SORTS = {"state": "state", "name": "name", "changed": "last change"}
_REVERSE = "-"


@dataclass(frozen=True, slots=True)
class PageQuery:
    """What a reader asked for; `sort` is one of `SORTS`, with `-` in front the other way round.

    `show` is the anchor of the issuer whose details are open: what a reader opens by hand, a page that renews itself
    closes again.
    """

    q: str = ""
    state: str = ""
    sort: str = "state"
    refresh: bool = True
    show: str = ""

    @classmethod
    def parse(cls, parameters: Mapping[str, str]) -> "PageQuery":
        """From the parameters of a URL. A sort that does not exist is the usual one; texts are cut."""
        sort = parameters.get("sort", "state")
        return cls(
            parameters.get("q", "").strip()[:_MOST_CHARACTERS],
            parameters.get("state", "")[:_MOST_CHARACTERS],
            sort if sort.removeprefix(_REVERSE) in SORTS else "state",
            parameters.get("refresh", "") != "off",
            parameters.get("show", "")[:_MOST_CHARACTERS],
        )

    @property
    def filters(self) -> bool:
        """Whether not all issuers are asked for."""
        return bool(self.q or self.state)

    @property
    def state_word(self) -> str:
        """The state that is asked for, in words."""
        return WORDS.get(self.state, self.state)

    def link(self, **changes: str | bool) -> str:
        """A URL on this page with some of it changed."""
        changed = replace(self, **changes)  # type: ignore[arg-type]  # fields by name
        given = {"q": changed.q, "state": changed.state, "sort": changed.sort if changed.sort != "state" else ""}
        given |= {"refresh": "" if changed.refresh else "off", "show": changed.show}
        return "/?" + urlencode({name: value for name, value in given.items() if value})

    def details(self, line: "IssuerLine") -> str:
        """The link to an issuer's details, which stay open from then on."""
        return f"{self.link(show=line.anchor)}#{line.anchor}"

    def sorted_by(self, column: str) -> str:
        """The link at the head of a column: it sorts by it, or turns the order round."""
        return self.link(sort=f"{_REVERSE}{column}" if self.sort == column else column)

    def direction(self, column: str) -> str:
        """How the column is sorted, as `aria-sort` says it; empty when the page is sorted by another one."""
        names = ("descending", "ascending") if column == "changed" else ("ascending", "descending")  # newest first
        return {column: names[0], f"{_REVERSE}{column}": names[1]}.get(self.sort, "")

    def select(self, lines: "Iterable[IssuerLine]") -> "tuple[IssuerLine, ...]":
        """The lines that are asked for, in the order that is asked for; `lines` come the worst first."""
        found = [each for each in lines if self._has_state(each) and (not self.q or each.holds(self.q))]
        match self.sort.removeprefix(_REVERSE):
            case "name":
                found.sort(key=lambda each: (each.state.name, each.state.is_former))
            case "changed":
                never = datetime.min.replace(tzinfo=UTC)
                found.sort(key=lambda each: each.changed_at or never, reverse=True)
            case _:
                pass
        return tuple(reversed(found) if self.sort.startswith(_REVERSE) else found)

    def _has_state(self, line: "IssuerLine") -> bool:
        if self.state == ROTATING:
            return line.rotating
        if self.state == PENDING:
            return line.pending > 0
        return self.state in ("", line.word)


class Page:
    """Renders the page for many readers at once; safe for many threads."""

    def __init__(self, pass_history: Callable[[], PassHistory], health: Callable[[], HealthResult]) -> None:
        self._pass_history = pass_history
        self._health = health
        self._lock = Lock()
        self._made: dict[PageQuery, tuple[float, PassHistory, str]] = {}

    def render(self, parameters: Mapping[str, str]) -> tuple[str, str]:
        """The page for the parameters of a URL, and the hash of its style sheet for the policy that goes with it."""
        query, pass_history = PageQuery.parse(parameters), self._pass_history()
        with self._lock:  # who comes while it is made gets the same one
            made = self._made.pop(query, None)
            if made is None or made[1] is not pass_history or time.monotonic() - made[0] > _KEPT_SECONDS:
                html = render(pass_history, self._health(), datetime.now(UTC), query)
                made = (time.monotonic(), pass_history, html)
            while len(self._made) >= _KEPT_PAGES:
                del self._made[next(iter(self._made))]
            self._made[query] = made
        return made[2], page_template("mirror.daemon", "status")[2]


def render(pass_history: PassHistory, health: HealthResult, now: datetime, query: PageQuery | None = None) -> str:
    """The page of a pass history at `now` (aware, UTC)."""
    query = query or PageQuery()
    every = issuer_lines(pass_history, now)
    found = query.select(every)
    mark, headline = _headline(pass_history, every, health)
    report = pass_history.report
    events = () if pass_history.last_pass is None else tuple(reversed(pass_history.last_pass.events))
    template, css, _ = page_template("mirror.daemon", "status")
    return template.render(
        query=query,
        sorts=SORTS,
        lines=found[:MOST_LINES],
        panel_of=lambda line: issuer_panel(line.state, now),
        found=len(found),
        every=len(every),
        mark=mark,
        headline=headline,
        counts=_counts(every),
        pass_history=pass_history,
        report=report,
        failures=() if report is None else tuple(map(advice, report.failures)),
        refused=None if pass_history.refused is None else advice(pass_history.refused),
        events=events[:SHOWN_EVENTS],
        older_events=events[SHOWN_EVENTS:],
        health=health,
        now=now,
        css=css,
        refresh=REFRESH_SECONDS,
        version=__version__,
    )


def _headline(pass_history: PassHistory, every: "tuple[IssuerLine, ...]", health: HealthResult) -> tuple[str, str]:
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
        State.HELD: "pending approval",
        State.DEGRADED: "degraded",
    }
    states = [line.status.state for line in every if line.status is not None]
    for state, word in words.items():
        if state in states:
            return MARKS[state], f"{states.count(state)} of {counted(len(every), 'issuer')} {word}"
    return "good", "Everything is current" if every else "No issuer is configured"


def _counts(every: "tuple[IssuerLine, ...]") -> tuple[tuple[str, str, str, int], ...]:
    """(mark, state to ask for, word, how many) for each state that occurs, the worst first, then the flags."""
    states = Counter((line.mark, line.word, line.word) for line in every)
    pending = sum(line.pending > 0 for line in every)
    flags = (
        ("held", PENDING, pending if pending > states["held", State.HELD, State.HELD] else 0),
        ("rotating", ROTATING, sum(line.rotating for line in every)),
    )
    by_state = tuple((*each, number) for each, number in states.items())
    return by_state + tuple((mark, flag, WORDS[flag], number) for mark, flag, number in flags if number)


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
    """A part of a bar, in percent of the width; `planned` if it is in the future."""

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
    """Every published issuer, those that need action first; rotations before the others of one state."""
    order = {state: place for place, state in enumerate(State)}

    def urgency(line: "IssuerLine") -> tuple[int, bool]:
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
    return Advice(reason.sentence, tuple(_steps([reason.remedy])))


def _steps(remedies: Iterable[str]) -> Iterator[Step]:
    for remedy in filter(None, remedies):
        found = _COMMAND.fullmatch(remedy)
        yield Step(remedy) if found is None else Step(found["words"].strip(), found["command"])


def _failures(report: IssuerReport) -> Iterator[Advice]:
    """What failed, each with its own remedies; those of apiservers one by one, so that each command can be copied."""
    yield from map(advice, report.failures)
    for _, sentence, unusable in report.apiserver_failures():
        yield Advice(sentence, tuple(_steps(remedies_of(unusable, report.name))))


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
            word = ", ".join(dict.fromkeys(reason.code for reason in each.reasons))
            problems = tuple(map(advice, each.reasons))
            yield ApiserverPanel(each.apiserver, "bad", word, problems, expires_at=expires_at, expires_soon=soon)


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


_STATES = {
    Effect.UNCHANGED: ObjectState.CURRENT,
    Effect.PUT: ObjectState.CURRENT,
    Effect.PLANNED: ObjectState.OUTDATED,
    Effect.WAITING: ObjectState.OUTDATED,
    Effect.FAILED: ObjectState.UNKNOWN,
}


def render_status(pass_history: PassHistory, now: datetime) -> bytes:
    """The JSON text of `status_from_memory`."""
    return json.dumps(to_json(status_from_memory(pass_history, now)), indent=2).encode() + b"\n"


def status_from_memory(pass_history: PassHistory, now: datetime) -> StatusReport:
    """How things stand after the last pass; without any issuer before the first pass has ended."""
    report = pass_history.report
    return StatusReport(
        now,
        None if report is None else report.commit,
        "local" if report is None or report.repository_mode is None else report.repository_mode,
        pass_history.commits[0] if pass_history.commits else None,
        None if report is None else report.unpushed_commits,
        tuple(
            issuer_status(known, known.report, now)
            for known in pass_history.issuers.values()
            if known.report is not None
        ),
        events=() if report is None else report.events,
        failures=() if report is None else report.failures,
        last_pass=pass_history.last_pass,
    )


def issuer_status(state: IssuerState, report: IssuerReport, now: datetime) -> IssuerStatus:
    """One issuer, by the last pass that decided about it."""
    return IssuerStatus(
        state.name,
        state.url,
        state.is_former,
        tuple(_key(record, state, report) for record in report.records),
        tuple(ObjectStatus(each.url, each.key, _STATES[each.effect]) for each in report.objects),
        tuple(event for event in report.events if event.level is not Level.INFO),
        report.all_failures(),
        report.held,
        LastResult(now, report.state, report.rotating),
        report.must_be_public,
    )


def _key(record: KeyRecord, state: IssuerState, report: IssuerReport) -> PublicKeyStatus:
    return PublicKeyStatus(
        record,
        None if record.missing_since is None else record.missing_since + report.retain_removed,
        key_id(record.key) in state.public,
        state.key_safe_at(record),
    )
