"""What a pass changed since the last message: which issuers are in another state, and what happened once. Pure.

The message of a webhook is one text, as Slack takes it, or has everything as data (its JSON Schema is
`docs/reference/notification.schema.json`).
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Literal

from mirror.log import escaped
from mirror.model import Event, IssuerName, IssuerUrl, Reason, Unusable
from mirror.redaction import redact_foreign
from mirror.report import DEGRADING, FAILING_STATES, ExitStatus, IssuerReport, Report, State, event_json, reason_json
from mirror.text import counted, iso_time

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
class Notification:
    """What is to be reported after a pass, and what is remembered once that was done.

    `unchanged` is what is remembered while it could not be done: it is tried again after the next pass.
    """

    changes: tuple[StateChange, ...]
    events: tuple[tuple[IssuerName, IssuerUrl, Event], ...]
    memory: Memory
    unchanged: Memory

    def __bool__(self) -> bool:
        return bool(self.changes or self.events)


def find_notification(
    memory: Memory | None, report: Report, kinds: Collection[str], *, configured: Collection[IssuerUrl], quiet: bool
) -> Notification:
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
    return Notification(tuple(changes), tuple(events), after, waiting)


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
        before = after  # an issuer that is healthy from the beginning needs no notification
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
    """Two drifts of one issuer are reported once, two held keys separately."""
    return " ".join(filter(None, (event.name, event.fields.get("thumbprint", ""))))


def _aged(known: Notified, now: datetime) -> Notified:
    """What still counts; a clock that was set back makes nothing new."""
    return replace(
        known,
        sent=tuple(each for each in known.sent if now - each < QUIET),
        events={name: at for name, at in known.events.items() if now - at < QUIET},
    )


Format = Literal["slack", "generic"]
MOST_LINES = 20
MOST_NAMES = 10
MOST_REASONS = 5
MOST_ITEMS = 100
"""As many changes and as many events stand in the generic form."""
MAX_CHARACTERS = 600
"""The longest sentence of a message; a chat that gets pages is not read."""


def compose(
    notification: Notification, now: datetime, status: ExitStatus, sender: str, message_format: Format
) -> bytes:
    """The body of a message about `notification`.

    Args:
        notification: What is to be said; at least one change or event.
        now: The time of the pass.
        status: The exit status of the pass.
        sender: Which mirror says so.
        message_format: Whose form it gets.
    """
    lines = [_title(notification, sender), *_lines(notification)]
    if message_format == "slack":
        return _slack(lines)
    content = {
        "version": 1,
        "kind": "change",
        "time": iso_time(now),
        "sender": sender,
        "exit_status": int(status),
        "text": "\n".join(lines),
        "changes": [_change_json(each) for each in notification.changes[:MOST_ITEMS]],
        "events": [
            {"name": name, "issuer": url, **event_json(event)} for name, url, event in notification.events[:MOST_ITEMS]
        ],
        "left_out": max(0, len(notification.changes) - MOST_ITEMS) + max(0, len(notification.events) - MOST_ITEMS),
    }
    return _clean_json(content)


def compose_test(now: datetime, sender: str, message_format: Format) -> bytes:
    """The body of a test message."""
    text = f"{sender}: this is a test of notify.webhook_url_file; nothing happened."
    if message_format == "slack":
        return _slack([text])
    content = {"version": 1, "kind": "test", "time": iso_time(now), "sender": sender, "text": text}
    return _clean_json({**content, "exit_status": None, "changes": [], "events": [], "left_out": 0})


def _title(notification: Notification, sender: str) -> str:
    issuers = [each for each in notification.changes if each.name]
    numbers = [
        f"{counted(count, 'issuer')} {word}"
        for word, count in (
            *((str(state), sum(each.after is state for each in issuers)) for state in State if state in _KINDS),
            ("recovered", sum(each.is_recovery for each in issuers)),
        )
        if count
    ]
    whole = [
        "the pass recovered" if each.is_recovery else "the pass failed"
        for each in notification.changes
        if not each.name
    ]
    events = list(dict.fromkeys(event.name for _, _, event in notification.events))
    return f"{sender}: {', '.join((*whole, *numbers, *events))}"


def _lines(notification: Notification) -> Iterator[str]:
    """One line for all issuers that share a state and its first reason; then one for each event; not too many."""
    groups: dict[tuple[State, bool, str], list[StateChange]] = {}
    for each in notification.changes:
        first = each.reasons[0].sentence if each.reasons else ""
        groups.setdefault((each.after, not each.name, first), []).append(each)
    of_states = (_line(state, changes, is_pass=is_pass) for (state, is_pass, _), changes in groups.items())
    of_events = (
        _clean(f"{event.name}: {name}: {event.sentence} `oidc-mirror status {name}`")
        for name, _, event in notification.events
    )
    yield from (f"- {line}" for line in islice(chain(of_states, of_events), MOST_LINES))
    left = len(groups) + len(notification.events) - MOST_LINES
    if left > 0:
        yield f"- {left} more: `oidc-mirror status`"


def _line(state: State, changes: Sequence[StateChange], *, is_pass: bool) -> str:
    first = changes[0]
    names = "the pass" if is_pass else _some([each.name for each in changes])
    if first.is_recovery:
        before = "" if first.before is None else f" (was {first.before})"
        return f"recovered: {names}{before}"
    why = ""
    if first.reasons:
        reason = first.reasons[0]
        more = f" (and {counted(len(first.reasons) - 1, 'further reason')})" if len(first.reasons) > 1 else ""
        why = f"{reason.code}: {reason.sentence}{more} {reason.remedy}".rstrip()
    look = "oidc-mirror check" if is_pass else f"oidc-mirror check {first.name}"
    look = f"oidc-mirror status {first.name}" if state is State.HELD else look
    return f"{state}: {names}: {_clean(why)} `{look}`" if why else f"{state}: {names}. `{look}`"


def _some(names: Sequence[str]) -> str:
    if len(names) <= MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"


def _clean(text: str) -> str:
    """One line for people: no credential, no control character, of bounded length."""
    text = escaped(" ".join(redact_foreign(text).split()))
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"


def _slack(lines: Iterable[str]) -> bytes:
    """Slack's form: `&`, `<` and `>` are escaped, so that no text from outside makes a link or a mention.

    Slack, "Formatting text for app surfaces": these three characters alone are control characters.
    """
    text = redact_foreign("\n".join(lines)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return json.dumps({"text": text}).encode()


def _change_json(change: StateChange) -> dict[str, object]:
    return {
        "name": change.name or None,
        "issuer": change.issuer or None,
        "before": None if change.before is None else str(change.before),
        "after": str(change.after),
        "recovered": change.is_recovery,
        "reasons": [reason_json(_clean_reason(each)) for each in change.reasons[:MOST_REASONS]],
    }


def _clean_reason(reason: Reason) -> Reason:
    return Reason(reason.code, _clean(reason.sentence), _clean(reason.remedy), _clean(reason.where))


def _clean_json(content: dict[str, object]) -> bytes:
    """The JSON text; what looks like a credential is taken out of every string of it."""
    return json.dumps(_cleaned(content)).encode()


def _cleaned(value: object) -> object:
    if isinstance(value, dict):
        return {key: _cleaned(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_cleaned(each) for each in value]
    return redact_foreign(value) if isinstance(value, str) else value
