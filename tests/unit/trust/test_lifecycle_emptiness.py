"""The permission to publish an empty set: `--last` gives it, and the next public key ends it."""

import functools
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.model import (
    PUBLIC_STATUSES,
    Key,
    KeyPolicy,
    KeyRecord,
    Kid,
    Ledger,
    Observed,
    Revocation,
    RsaKey,
    Status,
    Thumbprint,
    key_id,
    trimmed,
)
from mirror.trust.discovery import documents, render
from mirror.trust.lifecycle import (
    LedgerUpdate,
    PassContext,
    advance,
    clear_empty_permission,
    empty_allowed,
    is_empty_by_revocation,
    kept_key,
    published_keys,
)
from mirror.trust.merge import merge
from mirror.trust.operator_actions import approve, revoke
from support.lifecycles import ISSUER, NOW, ledger

HOUR = timedelta(hours=1)
DAY = timedelta(hours=24)
P, R, H, D, X = Status.PUBLISHED, Status.RETIRING, Status.HELD, Status.DROPPED, Status.REVOKED


def key(name: str, material: str | None = None) -> RsaKey:
    return RsaKey(Kid(name), "RS256", f"n-{material or name}", "AQAB", Thumbprint(f"t-{material or name}"))


A, B, C = key("a"), key("b"), key("c")
POOL = (A, B, C, key("a2", "a"))


def record(of: Key, status: Status, generation: int = 1, *, last: bool = False) -> KeyRecord:
    made = KeyRecord(
        of,
        status,
        generation,
        NOW - 9 * DAY,
        missing_since=NOW - 2 * DAY if status is R else None,
        held_because="policy" if status is H else None,
        revocation=Revocation(NOW - DAY, "stolen", last) if status is X else None,
    )
    return trimmed(made)


def passed(before: Ledger, *shown: Key, now: datetime = NOW) -> Ledger:
    """The ledger after a pass in which the only apiserver showed these keys."""
    observed = Observed("https://one", tuple(sorted(shown, key=key_id)))
    return advance(before, KeyPolicy(), PassContext((observed,), 1, now)).ledger


def revoked(before: Ledger, key: Key, *, last: bool = False) -> Ledger:
    outcome = revoke(before, [key.thumbprint], now=NOW, reason="stolen", last=last)
    return outcome.ledger if isinstance(outcome, LedgerUpdate) else before


def test_permission_lasts_while_the_set_is_empty() -> None:
    """While no new key appears, the empty set stays public."""
    emptied = revoked(ledger(record(A, P)), A, last=True)
    again = passed(emptied, A)
    assert again == emptied
    assert empty_allowed(again)


def test_next_public_key_takes_the_permission_back() -> None:
    """`--last` applies only to the keys at that time, so a new public key ends the permission."""
    after = passed(revoked(ledger(record(A, P)), A, last=True), A, B)
    assert not empty_allowed(after)
    assert [(r.status, r.generation) for r in after.records] == [(X, 3), (P, 1)]


def test_approved_key_takes_the_permission_back() -> None:
    """An approval that makes a key public ends the permission too."""
    outcome = approve(ledger(record(A, X, last=True), record(B, H)), key_id(B), NOW)
    assert isinstance(outcome, LedgerUpdate)
    assert not empty_allowed(outcome.ledger)


def test_two_revocations_after_an_old_permission_empty_nothing() -> None:
    """After `--last` and two new keys, two operators revoke one each: neither permitted an empty set, so one stays."""
    emptied = revoked(ledger(record(A, P)), A, last=True)
    both = passed(emptied, A, B, C)
    merged = merge(revoked(both, B), revoked(both, C))
    assert is_empty_by_revocation(merged)
    assert published_keys(merged) == (C,)
    assert render(merged) == documents(ISSUER, (C,))


def test_revocation_takes_back_what_a_merge_left() -> None:
    """A merge can have both a permission and public keys; the next revocation ends the permission."""
    met = merge(ledger(record(A, X, 2, last=True)), ledger(record(A, P), record(B, P), record(C, P)))
    assert empty_allowed(met)
    assert published_keys(merge(revoked(met, B), revoked(met, C))) == (C,)


# ------------------------------------------------------------------------------------------------ the kept key


def gone(of: Key, revoked_from: Status | None, order: int = 1, *, last: bool = False) -> KeyRecord:
    revocation = Revocation(NOW - DAY, "stolen", last, revoked_from, order)
    return trimmed(KeyRecord(of, X, 2, NOW - 9 * DAY, revocation=revocation))


@pytest.mark.parametrize(
    ("records", "kept"),
    [
        ((gone(A, P, 1), gone(B, R, 2)), B),
        ((gone(A, P, 2), gone(B, R, 1)), A),
        ((gone(A, P, 1), gone(B, P, 1)), B),
        ((gone(A, P, 1), gone(B, H, 2), gone(C, D, 3)), A),
        ((gone(A, H, 1), gone(B, D, 2), gone(C, None, 3)), None),
        ((gone(A, P, 1), gone(B, P, 2, last=True)), None),
        ((gone(A, P, 1), record(B, P)), None),
        ((gone(A, P, 1), record(B, R)), None),
        ((gone(A, P, 1), record(B, H), record(C, D)), A),
        ((record(B, H), record(C, D)), None),
        ((), None),
    ],
    ids=[
        *("last_by_order", "first_by_order", "by_thumbprint", "never_public_is_never_kept", "none_was_public"),
        *("emptied_on_purpose", "another_is_public", "another_retires", "others_are_not_public", "nothing_revoked"),
        "no_records",
    ],
)
def test_key_that_was_revoked_last_is_kept_where_nothing_else_is_public(
    records: tuple[KeyRecord, ...], kept: Key | None
) -> None:
    """The revocation counter decides, then the thumbprint; dates do not matter."""
    found = kept_key(ledger(*records))
    assert (None if found is None else found.key) == kept


def test_one_mirror_drops_and_another_revokes_the_last_but_one() -> None:
    """One mirror drops A, another revokes B: B stays public, and every pass reports that its revocation is held."""
    both = ledger(record(A, R), record(B, P))
    merged = merge(passed(both, B), revoked(both, B))
    assert published_keys(merged) == (B,)
    observed = Observed("https://one", (B,))
    outcome = advance(merged, KeyPolicy(), PassContext((observed,), 1, NOW))
    assert outcome.ledger == merged
    assert [event.name for event in outcome.events] == ["key.revoked_shown", "revocation.held"]
    assert outcome.events[-1].fields == {"kid": "b", "thumbprint": "t-b"}
    after = passed(merged, B, C)
    assert published_keys(after) == (C,)
    assert kept_key(after) is None


def test_old_revocation_never_comes_back_by_a_new_one() -> None:
    """B was revoked long ago, and `revoke --last A` empties the set: B does not become public again."""
    before = revoked(ledger(record(A, P), record(B, P)), B)
    emptied = revoked(before, A, last=True)
    assert published_keys(emptied) == ()
    assert render(emptied) == documents(ISSUER, ())
    assert render(merge(emptied, before)) == documents(ISSUER, ())
    assert passed(emptied, A, B) == emptied


def test_revocations_count_on() -> None:
    """Each revoking command or pass has a counter one above the highest before."""
    one = revoked(ledger(record(A, P), record(B, P), record(C, P)), A)
    two = revoked(one, B)
    assert [r.revocation and r.revocation.order for r in two.records] == [1, 2, None]
    policy = KeyPolicy(revoked=frozenset({B.thumbprint}))
    observed = Observed("https://one", (A, B, C))
    configured = advance(one, policy, PassContext((observed,), 1, NOW)).ledger
    assert configured.records[1].revocation == Revocation(
        NOW, "named in keys.revoked of the configuration", revoked_from=P, order=2
    )
    full = ledger(gone(A, P, 2**53), record(B, P), record(C, P))
    assert [r.revocation and r.revocation.order for r in revoked(full, B).records] == [2**53, 2**53, None]


def test_keys_that_retired_on_two_mirrors_leave_no_empty_set() -> None:
    """Keys that are missing never empty the set, even after an old permission."""
    both = ledger(record(A, X, last=True), record(B, R), record(C, P))
    one = passed(both, C)
    other = passed(ledger(record(A, X, last=True), record(B, P), record(C, R)), B)
    dropped = merge(one, merge(other, ledger(record(B, D, 9), record(C, D, 9))))
    assert not dropped.public_keys()
    assert render(dropped) is None


def test_permission_given_again_wins() -> None:
    """A new permission after an ended one counts on every mirror."""
    taken_back = passed(revoked(ledger(record(A, P)), A, last=True), A, B)
    again = revoked(taken_back, B, last=True)
    assert render(merge(again, taken_back)) is not None


def test_ledger_of_an_earlier_version_keeps_its_empty_set() -> None:
    """In ledgers of an earlier version only the last revoked key has `last`; that is sufficient."""
    assert empty_allowed(passed(ledger(record(A, X), record(B, X, last=True)), A, B))


def test_settled_ledger_stays() -> None:
    """Ending the permission twice equals ending it once; the highest possible generation does not overflow."""
    full = ledger(record(A, X, 2**53, last=True), record(B, P))
    assert clear_empty_permission(clear_empty_permission(full)) == clear_empty_permission(full)
    assert [r.generation for r in clear_empty_permission(full).records] == [2**53, 1]


# ------------------------------------------------------------------------------------------ every history


@st.composite
def beginnings(draw: st.DrawFn) -> Ledger:
    """A ledger with a public key, in any state that a merge can produce, with or without permissions."""
    chosen = draw(st.lists(st.sampled_from(POOL), min_size=1, unique=True))
    made = [record(k, draw(st.sampled_from(Status)), draw(st.integers(1, 4)), last=draw(st.booleans())) for k in chosen]
    found = merge(ledger(*made), ledger())
    return found if found.public_keys() else merge(found, ledger(record(key("z"), P)))


steps = st.lists(
    st.tuples(st.just("pass"), st.lists(st.sampled_from(POOL), min_size=1, unique=True))
    | st.tuples(st.sampled_from(["revoke", "approve"]), st.sampled_from(POOL).map(lambda key: [key])),
    max_size=5,
)


def stepped(at: Ledger, chosen: Sequence[tuple[str, Sequence[Key]]]) -> Ledger:
    """The changes that one mirror and its operator make to a ledger without contact to others."""
    now = NOW
    for kind, keys in chosen:
        now += DAY
        held = [r for r in at.records if r.status is H and r.key in keys]
        if kind == "pass":
            at = passed(at, *keys, now=now)
        elif kind == "revoke":
            at = revoked(at, keys[0])
        elif held:
            outcome = approve(at, key_id(held[0].key), now)
            at = outcome.ledger if isinstance(outcome, LedgerUpdate) else at
    return at


@settings(max_examples=3 * settings().max_examples)
@given(beginning=beginnings(), branches=st.lists(steps, min_size=1, max_size=4))
def test_no_merge_is_empty_without_a_permission_of_its_own(
    beginning: Ledger, branches: list[list[tuple[str, list[Key]]]]
) -> None:
    """Whatever mirrors and operators do separately, no empty set is published without `--last`."""
    ends = [stepped(beginning, each) for each in branches]
    for end in ends:
        assert any(r.status in PUBLIC_STATUSES for r in end.records)
    merged = functools.reduce(merge, ends)
    rendered, kept = render(merged), kept_key(merged)
    assert rendered is None or published_keys(merged)
    assert kept is None or kept.key in {r.key for end in ends for r in end.records if r.status is X}
