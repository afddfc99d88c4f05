"""The message of a webhook: one text, as Slack takes it or with everything as data. Pure.

The JSON Schema of the generic form is `docs/reference/notification.schema.json`.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import Literal

from mirror.log import escaped
from mirror.model import Reason
from mirror.notify.changes import News, StateChange
from mirror.redaction import redact_foreign
from mirror.report import ExitStatus, State, event_json, reason_json
from mirror.text import counted, iso_time

Format = Literal["slack", "generic"]
MOST_LINES = 20
MOST_NAMES = 10
MOST_REASONS = 5
MOST_ITEMS = 100
"""As many changes and as many events stand in the generic form."""
MAX_CHARACTERS = 600
"""The longest sentence of a message; a chat that gets pages is not read."""


def compose(news: News, now: datetime, status: ExitStatus, sender: str, message_format: Format) -> bytes:
    """The body of a message about `news`.

    Args:
        news: What is to be said; at least one change or event.
        now: The time of the pass.
        status: The exit status of the pass.
        sender: Which mirror says so.
        message_format: Whose form it gets.
    """
    lines = [_title(news, sender), *_lines(news)]
    if message_format == "slack":
        return _slack(lines)
    content = {
        "version": 1,
        "kind": "change",
        "time": iso_time(now),
        "sender": sender,
        "exit_status": int(status),
        "text": "\n".join(lines),
        "changes": [_change_json(each) for each in news.changes[:MOST_ITEMS]],
        "events": [{"name": name, "issuer": url, **event_json(event)} for name, url, event in news.events[:MOST_ITEMS]],
        "left_out": max(0, len(news.changes) - MOST_ITEMS) + max(0, len(news.events) - MOST_ITEMS),
    }
    return _clean_json(content)


def compose_test(now: datetime, sender: str, message_format: Format) -> bytes:
    """The body of a test message."""
    text = f"{sender}: this is a test of notify.webhook_url_file; nothing happened."
    if message_format == "slack":
        return _slack([text])
    content = {"version": 1, "kind": "test", "time": iso_time(now), "sender": sender, "text": text}
    return _clean_json({**content, "exit_status": None, "changes": [], "events": [], "left_out": 0})


def _title(news: News, sender: str) -> str:
    issuers = [each for each in news.changes if each.name]
    numbers = [
        f"{counted(count, 'issuer')} {word}"
        for word, count in (
            *((str(state), sum(each.after is state for each in issuers)) for state in State if state not in _HEALTHY),
            ("recovered", sum(each.is_recovery for each in issuers)),
        )
        if count
    ]
    whole = ["the pass recovered" if each.is_recovery else "the pass failed" for each in news.changes if not each.name]
    events = list(dict.fromkeys(event.name for _, _, event in news.events))
    return f"{sender}: {', '.join((*whole, *numbers, *events))}"


_HEALTHY = frozenset({State.CHANGED, State.CURRENT})


def _lines(news: News) -> Iterator[str]:
    """One line for all issuers that share a state and its first reason; then one for each event; not too many."""
    groups: dict[tuple[State, bool, str], list[StateChange]] = {}
    for each in news.changes:
        first = each.reasons[0].sentence if each.reasons else ""
        groups.setdefault((each.after, not each.name, first), []).append(each)
    of_states = (_line(state, changes, is_pass=is_pass) for (state, is_pass, _), changes in groups.items())
    of_events = (
        _clean(f"{event.name}: {name}: {event.sentence} `oidc-mirror status {name}`") for name, _, event in news.events
    )
    yield from (f"- {line}" for line in islice(chain(of_states, of_events), MOST_LINES))
    left = len(groups) + len(news.events) - MOST_LINES
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
