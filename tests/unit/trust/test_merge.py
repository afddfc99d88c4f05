"""Ledgers merge as a semilattice: no order, no grouping, no repetition matters, and no revocation is ever lost."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.model import IssuerUrl, KeyRecord, Kid, Ledger, Revocation, RsaKey, Status, Thumbprint, key_id
from mirror.trust.merge import merge

ISSUER = IssuerUrl("https://issuer.example.com")
NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def key(kid: str, material: str, alg: str = "RS256") -> RsaKey:
    return RsaKey(Kid(kid), alg, f"n-{material}", "AQAB", Thumbprint(f"t-{material}"))


def ledger(*records: KeyRecord) -> Ledger:
    return Ledger(ISSUER, tuple(sorted(records, key=lambda r: key_id(r.key))))


def record(kid: str, status: Status, generation: int, *, material: str | None = None, **fields: object) -> KeyRecord:
    made = KeyRecord(key(kid, material or kid), status, generation, first_seen=NOW)
    return replace(made, **fields)  # type: ignore[arg-type]  # fields of KeyRecord by name


P, R, H, D, X = Status.PUBLISHED, Status.RETIRING, Status.HELD, Status.DROPPED, Status.REVOKED
STOLEN = Revocation(NOW, "stolen")


@pytest.mark.parametrize(
    ("a", "b", "winner"),
    [
        ((P, 3), (D, 4), D),
        ((D, 3), (P, 3), P),
        ((R, 3), (P, 3), P),
        ((H, 3), (R, 3), R),
        ((H, 3), (D, 3), H),
        ((X, 1), (P, 9), X),
    ],
    ids=["generation", "published_dropped", "published_retiring", "retiring_held", "held_dropped", "revoked"],
)
def test_precedence(a: tuple[Status, int], b: tuple[Status, int], winner: Status) -> None:
    """Revoked wins; else the generation; else published > retiring > held > dropped."""
    records = [record("k", s, g, revocation=STOLEN if s is X else None) for s, g in (a, b)]
    merged = merge(ledger(records[0]), ledger(records[1])).records[0]
    assert merged.status is winner
    assert merged.generation == (a[1] if winner is X else max(a[1], b[1]))


def test_earlier_date_wins_at_the_end() -> None:
    """Two mirrors that saw the same absence at different times keep the earlier one."""
    early, late = (record("k", R, 2, missing_since=NOW + timedelta(hours=h)) for h in (1, 2))
    assert merge(ledger(late), ledger(early)).records[0].missing_since == NOW + timedelta(hours=1)


def test_first_seen_is_the_earliest_of_all() -> None:
    """Whoever wins, the key was first seen when anybody first saw it."""
    old = record("k", H, 1, held_because="policy", first_seen=NOW - timedelta(days=9))
    assert merge(ledger(old), ledger(record("k", P, 5))).records[0].first_seen == NOW - timedelta(days=9)


def test_revocation_reaches_the_same_material_under_every_kid() -> None:
    """One revoked name revokes the key itself."""
    mine = ledger(record("a", P, 7, material="m"))
    theirs = ledger(record("b", X, 2, material="m", revocation=STOLEN))
    assert {r.status for r in merge(mine, theirs).records} == {X}


def test_permission_to_empty_survives() -> None:
    """`--last` of one operator is not lost to another's revocation of the same key."""
    first = ledger(record("k", X, 2, revocation=STOLEN))
    second = ledger(record("k", X, 2, revocation=Revocation(NOW + timedelta(hours=1), "again", last=True)))
    assert merge(first, second).records[0].revocation == Revocation(NOW, "stolen", last=True)


def test_permission_that_was_taken_back_later_stays_taken_back() -> None:
    """Of two revocations of one key the higher generation says whether the set may be empty."""
    given = ledger(record("k", X, 2, revocation=replace(STOLEN, last=True)))
    taken_back = ledger(record("k", X, 3, revocation=STOLEN))
    assert merge(given, taken_back) == taken_back
    assert merge(taken_back, merge(given, ledger(record("k", P, 9)))) == taken_back


def test_record_that_a_revocation_only_reaches_gives_no_permission() -> None:
    """It begins at the lowest generation, so that what is known of its own revocation wins later."""
    mine = ledger(record("a", P, 7, material="m"))
    theirs = ledger(record("b", X, 2, material="m", revocation=replace(STOLEN, last=True)))
    reached = next(r for r in merge(mine, theirs).records if r.key.kid == "a")
    assert (reached.generation, reached.revocation) == (1, STOLEN)


def test_ledgers_of_two_issuers_do_not_merge() -> None:
    """A mistake of the caller must not mix trust anchors."""
    with pytest.raises(ValueError, match="different issuers"):
        merge(ledger(), Ledger(IssuerUrl("https://other.example.com")))


hours = st.integers(0, 3).map(lambda h: NOW + timedelta(hours=h))
revocations = st.builds(Revocation, at=hours, reason=st.sampled_from(["a", "b"]), last=st.booleans())


@st.composite
def records(draw: st.DrawFn) -> KeyRecord:
    made_key = key(
        draw(st.sampled_from(["k1", "k2"])),
        draw(st.sampled_from(["m1", "m2"])),
        draw(st.sampled_from(["RS256", "RS512"])),
    )
    status = draw(st.sampled_from(Status))
    return KeyRecord(
        made_key,
        status,
        draw(st.integers(1, 3)),
        draw(hours),
        missing_since=draw(hours) if status is R else None,
        returned_at=draw(st.none() | hours) if status is P else None,
        held_because=draw(st.sampled_from(["policy", "kid_taken"])) if status is H else None,
        revocation=draw(revocations) if status is X else None,
    )


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    found = {key_id(r.key): r for r in draw(st.lists(records(), max_size=4))}
    # A ledger as the program keeps it: a revocation has already reached every record of its material.
    return merge(ledger(*found.values()), ledger())


@settings(max_examples=300, deadline=None)
@given(ledgers(), ledgers(), ledgers())
def test_merge_is_a_join(a: Ledger, b: Ledger, c: Ledger) -> None:
    """Commutative, associative, idempotent; every revocation of either side is in the result."""
    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == a
    assert merge(merge(a, b), b) == merge(a, b)
    revoked = {r.key.thumbprint for part in (a, b) for r in part.records if r.status is X}
    assert {r.key.thumbprint for r in merge(a, b).records if r.status is X} == revoked
    assert not revoked & {k.thumbprint for k in merge(a, b).public_keys()}
