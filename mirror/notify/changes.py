"""What a pass changed since the last message: which issuers are in another state, and what happened once. Pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from mirror.model import Event, IssuerName, IssuerUrl, Reason, Unusable
from mirror.report import DEGRADING, FAILING_STATES, IssuerReport, Report, State

QUIET = timedelta(hours=1)
"""An event that goes on or returns within this time was reported already."""
MOST_MESSAGES = 6
"""As many messages within `QUIET` are about one issuer; what a flapping one does then waits for the next hour."""
MOST_EVENTS = 100
"""As many events of one issuer are remembered."""
THE_PASS = IssuerUrl("")
"""Stands for what failed in a pass and is of no issuer."""

_KINDS = {State.HELD: "key.held", State.DEGRADED: "issuer.degraded"} | dict.fromkeys(FAILING_STATES, "issuer.failed")
_ONCE = frozenset({"bucket.drift", "key.held", "keys.replaced"})


@dataclass(frozen=True, slots=True)
class Notified:
    """What was last reported of one issuer: its state, when messages were sent, and when each event was last seen."""

    state: State
    sent: tuple[datetime, ...] = ()
    events: Mapping[str, datetime] = field(default_factory=dict)


Memory = Mapping[IssuerUrl, Notified]


@dataclass(frozen=True, slots=True)
class StateChange:
    """An issuer is in another state than the last message said. `before` is None where there was none.

    `name` and `issuer` are empty for the pass as a whole. `reasons` say why it is not healthy.
    """

    name: str
    issuer: IssuerUrl
    before: State | None
    after: State
    reasons: tuple[Reason, ...] = ()

    @property
    def is_recovery(self) -> bool:
        """Whether nothing is wrong any more."""
        return self.after not in _KINDS


@dataclass(frozen=True, slots=True)
class News:
    """What is to be reported after a pass, and what is remembered once that was done.

    `unchanged` is what is remembered while it could not be done: it is tried again after the next pass.
    """

    changes: tuple[StateChange, ...]
    events: tuple[tuple[IssuerName, IssuerUrl, Event], ...]
    memory: Memory
    unchanged: Memory

    def __bool__(self) -> bool:
        return bool(self.changes or self.events)


def find_news(
    memory: Memory | None, report: Report, kinds: Collection[str], *, configured: Collection[IssuerUrl], quiet: bool
) -> News:
    """What changed since the last message.

    Args:
        memory: What was reported; None where nothing is known, as on a new disk.
        report: The pass.
        kinds: What is wanted: the names in `notify.events`.
        configured: Every issuer of the configuration; others are forgotten.
        quiet: Without any memory, take what is found for known: it may be what the last pod reported already.
    """
    before = {} if memory is None else {url: each for url, each in memory.items() if url in configured or not url}
    after, waiting = dict(before), dict(before)
    changes: list[StateChange] = []
    events: list[tuple[IssuerName, IssuerUrl, Event]] = []
    for change in _states(before, report):
        known = _aged(before.get(change.issuer, Notified(State.CURRENT)), report.now)
        new = tuple(_new_events(known, report, change, kinds))
        seen = _seen(known, report, change.issuer)
        is_wanted = change.before != change.after and bool({_kind(change.before), _kind(change.after)} & set(kinds))
        if (is_wanted or new) and not (quiet and memory is None):
            if len(known.sent) >= MOST_MESSAGES:
                continue
            changes += [change] if is_wanted else []
            events += [(IssuerName(change.name), change.issuer, event) for event in new]
            after[change.issuer] = Notified(change.after, (*known.sent, report.now), seen)
        else:
            after[change.issuer] = waiting[change.issuer] = Notified(change.after, known.sent, seen)
    return News(tuple(changes), tuple(events), after, waiting)


def _states(memory: Memory, report: Report) -> Iterator[StateChange]:
    """The state of the pass and of each issuer, changed or not."""
    whole = State.FAILED if report.failures else State.CURRENT
    yield _change(memory, "", THE_PASS, whole, report.failures)
    for each in report.issuers:
        if not (report.failures and each.blocked_by):  # the failure of the pass says it for all of them
            yield _change(memory, each.name, each.issuer, _settled(each.state), _reasons(each))


def _change(memory: Memory, name: str, url: IssuerUrl, after: State, reasons: tuple[Reason, ...]) -> StateChange:
    known = memory.get(url)
    before = None if known is None else known.state
    if before is None and after not in _KINDS:
        before = after  # an issuer that is healthy from the beginning is no news
    return StateChange(name, url, before, after, reasons)


def _settled(state: State) -> State:
    return State.CURRENT if state is State.CHANGED else state


def _kind(state: State | None) -> str:
    return "" if state is None else _KINDS.get(state, "")


def _reasons(issuer: IssuerReport) -> tuple[Reason, ...]:
    """Why an issuer is in its state."""
    found = (*issuer.all_failures(), *issuer.held)
    if found or _settled(issuer.state) not in _KINDS:
        return found
    unusable = (reason for each in issuer.observations if isinstance(each, Unusable) for reason in each.reasons)
    degrading = (Reason(event.name, event.sentence, "") for event in issuer.events if event.name in _DEGRADING)
    return (*unusable, *degrading)


_DEGRADING = DEGRADING | {"apiservers.missing", "removal.waits"}


def _new_events(known: Notified, report: Report, change: StateChange, kinds: Collection[str]) -> Iterator[Event]:
    """What happened and was not reported within the last hour."""
    for event in _events(report, change.issuer):
        is_said = event.name == "key.held" and change.after is State.HELD and change.before is not State.HELD
        if event.name in kinds and not is_said and _identity(event) not in known.events:
            yield event


def _events(report: Report, url: IssuerUrl) -> Iterator[Event]:
    for each in report.issuers:
        if each.issuer == url:
            yield from (event for event in each.events if event.name in _ONCE)


def _seen(known: Notified, report: Report, url: IssuerUrl) -> dict[str, datetime]:
    seen = {**known.events, **{_identity(event): report.now for event in _events(report, url)}}
    return dict(sorted(seen.items(), key=lambda item: item[1])[-MOST_EVENTS:])


def _identity(event: Event) -> str:
    """Two drifts of one issuer are the same news, two held keys are not."""
    return " ".join(filter(None, (event.name, event.fields.get("thumbprint", ""))))


def _aged(known: Notified, now: datetime) -> Notified:
    """What still counts; a clock that was set back makes nothing new."""
    return replace(
        known,
        sent=tuple(each for each in known.sent if now - each < QUIET),
        events={name: at for name, at in known.events.items() if now - at < QUIET},
    )
