"""The body for a webhook: short, grouped, in Slack's form or as data, and without secrets."""

import json
from pathlib import Path

import jsonschema
import pytest

from mirror.model import Event, IssuerName, Level, Reason
from mirror.notify.changes import (
    MAX_CHARACTERS,
    MOST_ITEMS,
    MOST_LINES,
    Format,
    Notification,
    StateChange,
    compose,
    compose_test,
)
from mirror.redaction import remember
from mirror.report import ExitStatus, State
from support.fakes import MOMENT
from support.pass_histories import url_of

SCHEMA = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parents[3] / "docs/reference/notification.schema.json").read_text())
)
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwcyJ9.c2lnbmF0dXJl"
PUT = Reason("put.failed", "No rights.", "Ask the account's owner.")


def change(name: str, before: State | None, after: State, *reasons: Reason) -> StateChange:
    return StateChange(name, url_of(name), before, after, reasons)


def notification(*changes: StateChange, events: tuple[Event, ...] = ()) -> Notification:
    return Notification(changes, tuple((IssuerName("a"), url_of("a"), each) for each in events), {}, {})


def slack(found: Notification) -> str:
    body = json.loads(compose(found, MOMENT, ExitStatus.FAILED, "prod on host1", "slack"))
    assert set(body) == {"text"}
    text = body["text"]
    assert isinstance(text, str)
    return text


def generic(found: Notification) -> dict[str, object]:
    body = json.loads(compose(found, MOMENT, ExitStatus.FAILED, "prod on host1", "generic"))
    SCHEMA.validate(body)
    assert isinstance(body, dict)
    return body


def test_slack_text_groups_issuers_by_cause() -> None:
    """What happened in the title; then one line a cause, with who shares it, why, and the command that shows more."""
    text = slack(
        notification(
            change("a", State.CURRENT, State.FAILED, PUT),
            change("b", None, State.FAILED, PUT, PUT),
            change("c", State.FAILED, State.CURRENT),
            change("d", State.CURRENT, State.HELD, Reason("key.held", "A key waits.", "Approve it.")),
            events=(Event("bucket.drift", "Another tool wrote it.", Level.ERROR),),
        )
    )
    assert text.splitlines() == [
        "prod on host1: 2 issuers failed, 1 issuer held, 1 issuer recovered, bucket.drift",
        "- failed: a, b: put.failed: No rights. Ask the account's owner. `oidc-mirror check a`",
        "- recovered: c (was failed)",
        "- held: d: key.held: A key waits. Approve it. `oidc-mirror status d`",
        "- bucket.drift: a: Another tool wrote it. `oidc-mirror status a`",
    ]


def test_failure_of_the_pass_stands_for_all_issuers() -> None:
    """The event belongs to no issuer, and neither does its end."""
    whole = StateChange("", url_of("a"), State.CURRENT, State.FAILED, (Reason("history.failed", "Full.", "Free it."),))
    assert slack(notification(whole)).splitlines() == [
        "prod on host1: the pass failed",
        "- failed: the pass: history.failed: Full. Free it. `oidc-mirror check`",
    ]
    over = StateChange("", url_of("a"), State.FAILED, State.CURRENT)
    assert slack(notification(over)).splitlines() == [
        "prod on host1: the pass recovered",
        "- recovered: the pass (was failed)",
    ]


def test_text_from_outside_is_only_text_in_slack() -> None:
    """No mention, no link, no line of its own, no control character."""
    hostile = Reason("bad_key", "The kid <!channel> & <https://evil.example|log in>\n- failed: b \x1b[31m", "")
    text = slack(notification(change("a", State.CURRENT, State.FAILED, hostile)))
    assert "<" not in text
    assert "&lt;!channel&gt; &amp; &lt;https" in text
    assert "\x1b" not in text
    assert len(text.splitlines()) == 2


@pytest.mark.parametrize("message_format", ["slack", "generic"])
def test_no_credential_is_in_a_message(message_format: Format) -> None:
    """Neither a secret in use nor text that looks like one, at any place."""
    remember("very-secret-value")
    leaky = Reason("x", f"It said Authorization: Bearer {TOKEN}, very-secret-value.", f"curl https://u:pw@x/{TOKEN}")
    event = Event("bucket.drift", f"very-secret-value {TOKEN}", Level.ERROR, {"cause": f"very-secret-value {TOKEN}"})
    found = notification(change("a", State.CURRENT, State.FAILED, leaky), events=(event,))
    body = compose(found, MOMENT, ExitStatus.FAILED, "very-secret-value", message_format).decode()
    assert "very-secret-value" not in body
    assert TOKEN not in body
    assert "u:pw" not in body


def test_generic_form_has_everything_as_data() -> None:
    """The data follows its schema."""
    found = generic(
        notification(change("a", State.CURRENT, State.FAILED, PUT), events=(Event("bucket.drift", "Wrote."),))
    )
    assert found["kind"] == "change"
    assert found["changes"] == [
        {
            "name": "a",
            "issuer": url_of("a"),
            "before": "current",
            "after": "failed",
            "recovered": False,
            "reasons": [
                {"code": "put.failed", "sentence": "No rights.", "remedy": "Ask the account's owner.", "where": None}
            ],
        }
    ]
    assert found["events"] == [
        {
            "name": "a",
            "issuer": url_of("a"),
            "event": "bucket.drift",
            "level": "info",
            "sentence": "Wrote.",
            "fields": {},
        }
    ]
    assert str(found["text"]).startswith("prod on host1: 1 issuer failed, bucket.drift\n")


def test_message_is_bounded() -> None:
    """A thousand issuers with a cause each, and sentences without end."""
    many = [change(f"n{n}", None, State.FAILED, Reason("x", f"{n} {'y' * 5000}", "z" * 5000)) for n in range(1000)]
    text = slack(notification(*many))
    assert len(text.splitlines()) == MOST_LINES + 2
    assert text.splitlines()[-1] == f"- {1000 - MOST_LINES} more: `oidc-mirror status`"
    assert len(text) < (MOST_LINES + 2) * (MAX_CHARACTERS + 100)
    found = generic(notification(*many))
    assert isinstance(found["changes"], list)
    assert (len(found["changes"]), found["left_out"]) == (MOST_ITEMS, 1000 - MOST_ITEMS)
    shared = slack(notification(*(change(f"n{n}", None, State.FAILED, PUT) for n in range(1000))))
    assert "and 990 more: put.failed" in shared


@pytest.mark.parametrize("message_format", ["slack", "generic"])
def test_test_message_says_that_it_is_one(message_format: Format) -> None:
    """The message must not wake anyone."""
    body = json.loads(compose_test(MOMENT, "prod on host1", message_format))
    assert "this is a test" in body["text"]
    if message_format == "generic":
        SCHEMA.validate(body)
        assert body["kind"] == "test"
