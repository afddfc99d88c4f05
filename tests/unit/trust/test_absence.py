"""Keys that only some mirrors see: held keys are dropped late, and a permanent difference causes few commits."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import pytest

from mirror.model import (
    Key,
    KeyId,
    KeyName,
    KeyPolicy,
    KeyRecord,
    Kid,
    Ledger,
    Observation,
    Reason,
    Status,
    Thumbprint,
    Unusable,
    key_id,
)
from mirror.trust.lifecycle import MOST_HELD, LedgerUpdate, PassContext, advance, held_missing_since, published_keys
from mirror.trust.merge import merge
from mirror.trust.operator_actions import approve
from support.lifecycles import NOW, ledger, rsa, shows

HOUR, DAY = timedelta(hours=1), timedelta(hours=24)
P, R, H, D = Status.PUBLISHED, Status.RETIRING, Status.HELD, Status.DROPPED
HOLD, PUBLISH = KeyPolicy(new_keys="hold"), KeyPolicy()


A, K = rsa("a"), rsa("k")
SILENT = Unusable("https://two", (Reason("timeout", "It did not answer.", "Wait."),))


def held(*, returned_at: datetime | None = None) -> Ledger:
    """A is public, and K has been held for nine days."""
    return ledger(
        KeyRecord(A, P, 1, NOW - 9 * DAY),
        KeyRecord(K, H, 1, NOW - 9 * DAY, held_because="policy", returned_at=returned_at),
    )


def step(
    before: Ledger, *seen: Observation, policy: KeyPolicy = HOLD, now: datetime = NOW, **given: object
) -> LedgerUpdate:
    circumstances = PassContext(seen, replicas=len(seen), now=now)
    return advance(before, policy, replace(circumstances, **given))  # type: ignore[arg-type]  # fields by name


def status_of(at: LedgerUpdate | Ledger, key: Key) -> Status:
    found = at.ledger if isinstance(at, LedgerUpdate) else at
    return next(record.status for record in found.records if key_id(record.key) == key_id(key))


# ------------------------------------------------------------------------------------------------- held keys


@pytest.mark.parametrize(
    ("since", "seen", "more", "after"),
    [
        (None, (shows(A),), {}, H),
        (NOW - DAY, (shows(A),), {}, D),
        (NOW - DAY + timedelta(seconds=1), (shows(A),), {}, H),
        (NOW - DAY, (shows(A), SILENT), {}, H),
        (NOW - DAY, (shows(A, K),), {}, H),
        (NOW - DAY, (shows(A),), {"replicas": 2}, H),
        (NOW - DAY, (shows(A),), {"sources_changed": True}, H),
        (NOW + DAY, (shows(A),), {}, H),
    ],
    ids=[
        *("nothing_remembered", "its_time_is_over", "a_second_early", "a_silent_apiserver", "shown"),
        *("too_few_replicas", "other_apiservers", "in_the_future"),
    ],
)
def test_held_key_is_dropped_when_it_was_missing_for_the_whole_time(
    since: datetime | None, seen: tuple[Observation, ...], more: dict[str, Any], after: Status
) -> None:
    """A mirror drops no held key if it has no stored state, or if an apiserver did not answer."""
    remembered = {} if since is None else {key_id(K): since}
    assert status_of(step(held(), *seen, held_missing_since=remembered, **more), K) is after


def test_held_key_without_delay_stays_for_one_more_pass() -> None:
    """With `retain_removed: 0s` the second pass without the key drops it."""
    policy = replace(HOLD, retain_removed=timedelta(0))
    first = step(held(), shows(A), policy=policy, held_missing_since={key_id(K): NOW})
    assert status_of(first, K) is H
    second = step(held(), shows(A), policy=policy, held_missing_since={key_id(K): NOW}, now=NOW + HOUR)
    assert status_of(second, K) is D


def test_pass_says_which_held_keys_every_apiserver_answered_without() -> None:
    """The keys are listed only if every apiserver answered."""
    assert step(held(), shows(A)).held_missing == {key_id(K)}
    assert step(held(), shows(A), SILENT).held_missing == frozenset()
    assert step(held(), shows(A, K)).held_missing == frozenset()


@pytest.mark.parametrize(
    ("before", "seen", "more", "after"),
    [
        ({}, (shows(A),), {}, {K: NOW}),
        ({K: NOW - DAY}, (shows(A), SILENT), {}, {K: NOW - DAY}),
        ({K: NOW - HOUR}, (shows(A),), {}, {K: NOW - HOUR}),
        ({K: NOW - HOUR}, (shows(A, K), SILENT), {}, {}),
        ({K: NOW - DAY}, (shows(A),), {}, {}),
        ({A: NOW - HOUR}, (SILENT,), {}, {}),
        ({K: NOW + HOUR}, (SILENT,), {}, {K: NOW}),
        ({K: NOW - HOUR}, (shows(A),), {"sources_changed": True}, {K: NOW}),
        ({K: NOW - HOUR}, (SILENT,), {"sources_changed": True}, {}),
    ],
    ids=[
        *("missing_first", "not_heard", "still_missing", "seen_again", "dropped_now", "held_no_more"),
        *("from_a_wrong_clock", "other_apiservers", "other_apiservers_not_heard"),
    ],
)
def test_machine_remembers_since_when_held_keys_are_missing(
    before: Mapping[Key, datetime],
    seen: tuple[Observation, ...],
    more: dict[str, object],
    after: Mapping[Key, datetime],
) -> None:
    """The time runs from the first pass without the key, until the key is seen again or is no longer held."""
    remembered = {key_id(key): since for key, since in before.items()}
    given = PassContext(seen, replicas=len(seen), now=NOW, held_missing_since=remembered)
    given = replace(given, **more)  # type: ignore[arg-type]  # fields by name
    outcome = advance(held(), HOLD, given)
    assert held_missing_since(given, outcome) == {key_id(key): since for key, since in after.items()}


def test_held_key_that_came_back_is_not_dropped_by_absence_again() -> None:
    """Another mirror sees the key, so a mirror that does not see it must not change its state again and again."""
    before = held(returned_at=NOW - 5 * DAY)
    outcome = step(before, shows(A), held_missing_since={key_id(K): NOW - 5 * DAY})
    assert outcome.ledger == before
    assert [event.name for event in outcome.events] == ["apiservers.disagree"]


def test_approved_key_keeps_its_return() -> None:
    """The date of return stays, so a mirror that does not see the key does not retire it at once."""
    approved = approve(held(returned_at=NOW - HOUR), key_id(K), NOW)
    assert isinstance(approved, LedgerUpdate)
    assert step(approved.ledger, shows(A)).ledger == approved.ledger


@pytest.mark.parametrize(("policy", "after"), [(PUBLISH, P), (HOLD, H)], ids=["publish", "hold"])
def test_dropped_key_that_is_shown_again_takes_what_is_shown(policy: KeyPolicy, after: Status) -> None:
    """The key material is the apiserver's, the alg is the alphabetically first of both, and the return is recorded."""
    name = KeyName(K.kid, "RS256", K.thumbprint)
    before = ledger(KeyRecord(A, P, 1, NOW - DAY), KeyRecord(name, D, 4, NOW - 9 * DAY))
    back = step(before, shows(A, replace(K, alg="RS512")), policy=policy).ledger.records[1]
    assert (back.key, back.status, back.generation, back.returned_at) == (K, after, 5, NOW)
    assert back.first_seen == NOW - 9 * DAY


def test_dropped_keys_and_a_full_room_of_held_ones_never_keep_a_shown_key_out() -> None:
    """Hundreds of dropped keys and the maximum of held keys: the next key is still published."""
    dropped = (KeyRecord(KeyName(Kid(f"d{i}"), "", Thumbprint(f"t-d{i}")), D, 3, NOW - DAY) for i in range(511))
    waiting = (KeyRecord(rsa(f"h{i}"), H, 1, NOW - DAY, held_because="kid_taken") for i in range(MOST_HELD))
    before = ledger(KeyRecord(A, P, 1, NOW - 9 * DAY), *dropped, *waiting)
    outcome = step(before, shows(A, K), SILENT, policy=PUBLISH)
    assert status_of(outcome, K) is P
    assert [event.name for event in outcome.events] == []
    revoked = replace(PUBLISH, revoked=frozenset({K.thumbprint}))
    assert status_of(step(before, shows(A, K), SILENT, policy=revoked), K) is Status.REVOKED


# --------------------------------------------------------------------------------- mirrors whose replicas differ


@dataclass
class Mirror:
    """A mirror with its own replicas and local state; `commits` and `puts` count its changes of the shared ledger."""

    shown: tuple[Key, ...]
    policy: KeyPolicy
    memory: Mapping[KeyId, datetime] = field(default_factory=dict)
    commits: int = 0
    puts: int = 0

    def look(self, shared: Ledger, now: datetime) -> Ledger:
        given = PassContext((shows(*self.shown),), 1, now, held_missing_since=self.memory)
        outcome = advance(shared, self.policy, given)
        self.memory = held_missing_since(given, outcome)
        after = merge(shared, outcome.ledger)
        self.commits += after != shared
        self.puts += published_keys(after) != published_keys(shared)
        return after


@pytest.mark.parametrize("every", [timedelta(minutes=1), HOUR, 5 * HOUR, 2 * DAY], ids=str)
@pytest.mark.parametrize(
    ("policies", "most_at_first", "puts"),
    [
        (("hold", "hold"), 3, 0),
        (("hold", "publish"), 3, 0),
        (("publish", "hold"), 1, 1),
        (("publish", "publish"), 1, 1),
    ],
    ids=["both_hold", "who_sees_it_holds", "who_sees_it_publishes", "both_publish"],
)
def test_mirrors_with_permanently_different_replicas_write_little(
    policies: tuple[Literal["publish", "hold"], Literal["publish", "hold"]],
    most_at_first: int,
    puts: int,
    every: timedelta,
) -> None:
    """One of two mirrors sees K in 40 passes: 3 commits if K is held, 2 for each `retain_removed` if it is public."""
    seeing, other = Mirror((A, K), KeyPolicy(new_keys=policies[0])), Mirror((A,), KeyPolicy(new_keys=policies[1]))
    shared, now = ledger(KeyRecord(A, P, 1, NOW - DAY)), NOW
    for _ in range(40):
        now += every
        shared = other.look(seeing.look(shared, now), now)
    shared = seeing.look(shared, now + every)
    commits, lasted = seeing.commits + other.commits, 40 * every
    assert seeing.puts + other.puts == puts
    if policies[0] == "hold":
        assert commits <= most_at_first
        assert status_of(shared, K) is H
    else:
        # The first retirement and return are not limited, because the ledger has no date of return yet.
        assert commits <= most_at_first + 2 * (lasted // max(DAY, every) + 1)
        assert status_of(shared, K) is P
