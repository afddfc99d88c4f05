"""Which passes cause a message: a change of state and its end, once, however often passes run."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import get_args

import pytest

from mirror.config.settings import NotifyKind
from mirror.model import Event, IssuerUrl, Level, Reason, Status, Unusable
from mirror.notify.changes import MOST_EVENTS, MOST_MESSAGES, QUIET, Memory, Notification, Notified, find_notification
from mirror.report import Effect, IssuerReport, State
from support.fakes import MOMENT
from support.pass_histories import NEW, documents, issuer, record, report, url_of

MINUTE = timedelta(minutes=1)
KINDS = get_args(NotifyKind)
DRIFT = Event("bucket.drift", "Another tool wrote it.", Level.ERROR, {"key": "a"})


def healthy(name: str = "a") -> IssuerReport:
    return issuer(name)


def failed(name: str = "a") -> IssuerReport:
    return issuer(name, failures=(Reason("put.failed", "No rights.", "Ask."),))


def held(name: str = "a") -> IssuerReport:
    return issuer(name, held=(Reason("key.held", "A key waits.", "Approve it."),))


def degraded(name: str = "a") -> IssuerReport:
    silent = Unusable("https://2", (Reason("timeout", "It did not answer.", "Look."),))
    return issuer(name, observations=(*healthy().observations[:1], silent))


def notification(
    memory: Memory | None,
    *issuers: IssuerReport,
    at: datetime = MOMENT,
    kinds: Sequence[str] = KINDS,
    quiet: bool = False,
    failures: tuple[Reason, ...] = (),
) -> Notification:
    configured = [url_of(name) for name in "abc"]
    found = report(*issuers, now=at, failures=failures)
    return find_notification(memory, found, kinds, configured=configured, quiet=quiet)


def reported(found: Notification) -> list[tuple[str, str | None, str]]:
    return [(each.name, each.before, each.after) for each in found.changes]


@pytest.mark.parametrize(
    ("make", "state"), [(failed, "failed"), (held, "held"), (degraded, "degraded")], ids=["failed", "held", "degraded"]
)
def test_state_is_reported_once_and_so_is_its_end(make: object, state: str) -> None:
    """A change is reported, then nothing while it lasts, then the recovery with the old state; then nothing again."""
    assert callable(make)
    first = notification({}, healthy())
    assert not first
    second = notification(first.memory, make(), at=MOMENT + MINUTE)
    assert reported(second) == [("a", "current", state)]
    assert second.changes[0].reasons
    memory = second.memory
    for minute in range(2, 200):
        again = notification(memory, make(), at=MOMENT + minute * MINUTE)
        assert not again
        memory = again.memory
    over = notification(memory, healthy(), at=MOMENT + 200 * MINUTE)
    assert reported(over) == [("a", state, "current")]
    assert over.changes[0].is_recovery
    assert not notification(over.memory, healthy(), at=MOMENT + 201 * MINUTE)


def test_pass_that_only_changes_keys_is_not_reported() -> None:
    """`changed` and `current` are both healthy."""
    changed = issuer("a", objects=documents("a", Effect.PUT))
    assert changed.state is State.CHANGED
    first = notification({}, changed)
    assert not first
    assert not notification(first.memory, healthy())


@pytest.mark.parametrize("quiet", [False, True], ids=["daemon", "once"])
def test_without_memory_the_daemon_reports_what_is_wrong_and_once_only_takes_note(*, quiet: bool) -> None:
    """A pod with an empty disk would report the same in every pass; both know what they found afterwards."""
    first = notification(None, failed("a"), healthy("b"), quiet=quiet)
    assert reported(first) == ([] if quiet else [("a", None, "failed")])
    assert not notification(first.memory, failed("a"), healthy("b"), at=MOMENT + MINUTE, quiet=quiet)
    over = notification(first.memory, healthy("a"), healthy("b"), at=MOMENT + 2 * MINUTE, quiet=quiet)
    assert reported(over) == [("a", "failed", "current")]


def test_new_issuer_that_fails_is_reported() -> None:
    """Even of `--once`: the memory is there, and does not know this one."""
    first = notification({}, healthy("a"))
    assert reported(notification(first.memory, healthy("a"), failed("b"), quiet=True)) == [("b", None, "failed")]


def test_message_that_was_not_taken_is_tried_again() -> None:
    """What is remembered then is what was known before; what needed no message is remembered too."""
    first = notification({}, healthy("a"), healthy("b"))
    second = notification(
        first.memory, failed("a"), healthy("b"), failed("c"), at=MOMENT + MINUTE, kinds=["issuer.failed"]
    )
    assert len(second.changes) == 2
    again = notification(second.unchanged, failed("a"), healthy("b"), failed("c"), at=MOMENT + 2 * MINUTE)
    assert reported(again) == [("a", "current", "failed"), ("c", None, "failed")]


def test_only_wanted_kinds_are_reported() -> None:
    """A change is wanted when what it begins or ends is wanted."""
    first = notification({}, healthy())
    assert not notification(first.memory, degraded(), kinds=["issuer.failed"])
    second = notification(first.memory, failed(), kinds=["issuer.failed"])
    assert reported(notification(second.memory, degraded(), kinds=["issuer.failed"])) == [("a", "failed", "degraded")]


def test_flapping_issuer_sends_a_bounded_number_of_messages() -> None:
    """Six an hour; afterwards the state that it is in by then is reported."""
    memory, sent = notification({}, healthy()).memory, 0
    for minute in range(1, 60):
        found = notification(memory, failed() if minute % 2 else healthy(), at=MOMENT + minute * MINUTE)
        sent += bool(found)
        memory = found.memory
    assert sent == MOST_MESSAGES
    assert reported(notification(memory, failed(), at=MOMENT + 62 * MINUTE)) == [("a", "current", "failed")]


def test_failed_pass_is_one_message_for_all_its_issuers() -> None:
    """A fault that blocks every issuer is reported once; their own states follow when they are known again."""
    reason = Reason("history.failed", "The disk is full.", "Free space.")
    first = notification({}, healthy("a"), failed("b"))
    blocked = [issuer(name, blocked_by="history.failed") for name in "ab"]
    second = notification(first.memory, *blocked, failures=(reason,), at=MOMENT + MINUTE)
    assert reported(second) == [("", "current", "failed")]
    assert second.changes[0].reasons == (reason,)
    third = notification(second.memory, *blocked, failures=(reason,), at=MOMENT + 2 * MINUTE)
    assert not third
    assert reported(notification(third.memory, healthy("a"), failed("b"), at=MOMENT + 3 * MINUTE)) == [
        ("", "failed", "current")
    ]


def test_event_that_goes_on_is_reported_once_until_an_hour_was_quiet() -> None:
    """Two writers that fight make a drift in every pass."""
    memory = notification({}, healthy()).memory
    drifted = issuer("a", events=(DRIFT,))
    found = [notification(memory, drifted)]
    for minute in range(1, 120):
        found.append(notification(found[-1].memory, drifted, at=MOMENT + minute * MINUTE))
    assert [bool(each) for each in found] == [True] + [False] * 119
    assert [event.name for _, _, event in found[0].events] == ["bucket.drift"]
    later = MOMENT + 119 * MINUTE + QUIET
    assert notification(found[-1].memory, drifted, at=later).events
    assert not notification(found[-1].memory, drifted, at=later, kinds=["issuer.failed"])


def test_second_held_key_is_reported_and_the_first_is_said_by_the_state() -> None:
    """The state says that something waits; another key that waits later changes no state."""
    first_key = Event("key.held", "Key one is held.", fields={"thumbprint": "one"})
    second_key = Event("key.held", "Key two is held.", fields={"thumbprint": "two"})
    before = notification({}, healthy()).memory
    held_once = issuer("a", held=held().held, records=(record(NEW, Status.HELD),), events=(first_key,))
    first = notification(before, held_once)
    assert (reported(first), first.events) == ([("a", "current", "held")], ())
    held_twice = issuer("a", held=held().held, records=(record(NEW, Status.HELD),), events=(second_key,))
    second = notification(first.memory, held_twice, at=MOMENT + MINUTE)
    assert [event.sentence for _, _, event in second.events] == ["Key two is held."]
    assert reported(second) == []


def test_memory_is_bounded_and_forgets_who_left() -> None:
    """A writer that may add keys could cause any number of events."""
    many = tuple(Event("key.held", "Held.", fields={"thumbprint": str(n)}) for n in range(MOST_EVENTS + 50))
    gone = {IssuerUrl("https://gone.example"): Notified(State.FAILED)}
    found = notification(gone, issuer("a", events=many))
    assert len(found.memory[url_of("a")].events) == MOST_EVENTS
    assert set(found.memory) == {url_of("a"), ""}


def test_issuer_that_this_pass_left_alone_keeps_its_memory() -> None:
    """A pass over some issuers has no state of the others."""
    first = notification({}, failed("a"), healthy("b"))
    second = notification(first.memory, healthy("b"), at=MOMENT + MINUTE)
    assert second.memory[url_of("a")].state is State.FAILED
