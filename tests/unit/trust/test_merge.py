"""Merging ledgers is commutative, associative and idempotent, and never loses a revocation."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.model import (
    EcKey,
    IssuerUrl,
    Key,
    KeyName,
    KeyRecord,
    Kid,
    Ledger,
    Revocation,
    RsaKey,
    Status,
    Thumbprint,
    trimmed,
)
from mirror.trust.merge import joined, merge
from support.lifecycles import ISSUER, NOW, ledger


def key(kid: str, material: str, alg: str = "RS256") -> RsaKey:
    return RsaKey(Kid(kid), alg, f"n-{material}", "AQAB", Thumbprint(f"t-{material}"))


def record(kid: str, status: Status, generation: int, *, material: str | None = None, **fields: object) -> KeyRecord:
    made = KeyRecord(key(kid, material or kid), status, generation, first_seen=NOW)
    return trimmed(replace(made, **fields))  # type: ignore[arg-type]  # fields of KeyRecord by name


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
    """Revoked wins; else the higher generation; else published > retiring > held > dropped."""
    records = [record("k", s, g, revocation=STOLEN if s is X else None) for s, g in (a, b)]
    merged = merge(ledger(records[0]), ledger(records[1])).records[0]
    assert merged.status is winner
    assert merged.generation == (a[1] if winner is X else max(a[1], b[1]))


def test_earlier_date_wins_at_the_end() -> None:
    """If two mirrors saw a key missing at different times, the earlier time counts."""
    early, late = (record("k", R, 2, missing_since=NOW + timedelta(hours=h)) for h in (1, 2))
    assert merge(ledger(late), ledger(early)).records[0].missing_since == NOW + timedelta(hours=1)


def test_first_seen_is_the_earliest_of_all() -> None:
    """The earliest `first_seen` counts, whichever record wins."""
    old = record("k", H, 1, held_because="policy", first_seen=NOW - timedelta(days=9))
    assert merge(ledger(old), ledger(record("k", P, 5))).records[0].first_seen == NOW - timedelta(days=9)


def test_revocation_reaches_the_same_material_under_every_kid() -> None:
    """A revocation under one kid revokes the key material under every kid."""
    mine = ledger(record("a", P, 7, material="m"))
    theirs = ledger(record("b", X, 2, material="m", revocation=STOLEN))
    assert {r.status for r in merge(mine, theirs).records} == {X}


def test_permission_to_empty_survives() -> None:
    """One operator's `--last` survives another's revocation of the same key without it."""
    first = ledger(record("k", X, 2, revocation=STOLEN))
    second = ledger(record("k", X, 2, revocation=Revocation(NOW + timedelta(hours=1), "again", last=True)))
    assert merge(first, second).records[0].revocation == Revocation(NOW, "stolen", last=True)


def test_permission_that_was_taken_back_later_stays_taken_back() -> None:
    """Of two revocations of one key, the one with the higher generation decides whether the set may be empty."""
    given = ledger(record("k", X, 2, revocation=replace(STOLEN, last=True)))
    taken_back = ledger(record("k", X, 3, revocation=STOLEN))
    assert merge(given, taken_back) == taken_back
    assert merge(taken_back, merge(given, ledger(record("k", P, 9)))) == taken_back


def test_record_that_a_revocation_only_reaches_gives_no_permission() -> None:
    """Its generation is the lowest, so that a later revocation under its own kid wins."""
    mine = ledger(record("a", P, 7, material="m"))
    theirs = ledger(record("b", X, 2, material="m", revocation=replace(STOLEN, last=True)))
    reached = next(r for r in merge(mine, theirs).records if r.key.kid == "a")
    assert (reached.generation, reached.revocation) == (1, STOLEN)


def test_ledgers_of_two_issuers_do_not_merge() -> None:
    """A caller's mistake must not mix two trust anchors."""
    with pytest.raises(ValueError, match="different issuers"):
        merge(ledger(), Ledger(IssuerUrl("https://other.example.com")))


# ------------------------------------------------------------------------------------------- names and material


def test_dropped_key_leaves_its_material_behind() -> None:
    """If the drop is later, only the key's name stays; if the publication is later, the material stays."""
    published, dropped = ledger(record("k", P, 2)), ledger(record("k", D, 3))
    assert merge(published, dropped).records[0].key == KeyName(Kid("k"), "RS256", Thumbprint("t-k"))
    back = ledger(record("k", P, 4))
    assert merge(back, dropped) == back


@pytest.mark.parametrize(
    ("algs", "expected"),
    [(("RS512", "RS384"), "RS384"), (("", "RS512"), "RS512"), (("RS512", ""), "RS512"), (("", ""), "")],
    ids=["first_of_the_alphabet", "later_one_unknown", "earlier_one_unknown", "both_unknown"],
)
def test_known_alg_of_a_name_wins_whatever_the_generation(algs: tuple[str, str], expected: str) -> None:
    """A known algorithm is preferred to an unknown one."""
    earlier, later = (
        ledger(record("k", D, generation, key=KeyName(Kid("k"), alg, Thumbprint("t-k"))))
        for generation, alg in zip((1, 2), algs, strict=True)
    )
    assert merge(earlier, later).records[0].key.alg == expected


def test_name_gives_its_alg_to_the_material() -> None:
    """The algorithm of a record without material counts too."""
    dropped = ledger(record("k", D, 1, key=KeyName(Kid("k"), "RS256", Thumbprint("t-k"))))
    assert merge(ledger(record("k", P, 2, key=key("k", "k", "RS512"))), dropped).public_keys() == (key("k", "k"),)


@pytest.mark.parametrize(
    "of",
    [key("k", "k", "RS512"), EcKey(Kid("k"), "ES384", "P-384", "x", "y", Thumbprint("t-k"))],
    ids=["RSA", "EC"],
)
def test_name_with_the_alg_of_another_kind_spoils_no_key(of: Key) -> None:
    """A record without material may have any `alg`. If the key cannot sign with it, the key's own `alg` stays."""
    lie = ledger(record("k", D, 1, key=KeyName(Kid("k"), "ES256", Thumbprint("t-k"))))
    assert merge(ledger(record("k", P, 2, key=of)), lie).public_keys() == (of,)


REVOKED = replace(STOLEN, order=1)


@pytest.mark.parametrize(
    ("a", "b", "joint", "is_kept"),
    [
        (None, D, D, False),
        (D, H, H, False),
        (H, R, R, True),
        (R, P, P, True),
        (None, P, P, True),
        (None, None, None, False),
    ],
    ids=["none_dropped", "dropped_held", "held_retiring", "retiring_published", "none_published", "none"],
)
def test_what_a_key_was_when_it_was_revoked_joins(
    a: Status | None, b: Status | None, joint: Status | None, is_kept: bool
) -> None:
    """The most public former status counts, with that side's material; the first revocation has the date."""
    one = ledger(record("k", X, 2, revocation=replace(REVOKED, revoked_from=a, order=5)))
    two = ledger(record("k", X, 2, revocation=replace(REVOKED, revoked_from=b, order=3)))
    (both,) = merge(one, two).records
    assert both.revocation == replace(REVOKED, revoked_from=joint, order=5)
    assert isinstance(both.key, RsaKey) is is_kept
    assert merge(one, two) == merge(two, one)


def test_public_key_that_another_mirror_revoked_while_held_loses_its_material() -> None:
    """Only the side that revoked counts: a key that was never public there cannot be kept public."""
    revoked = ledger(record("k", X, 2, revocation=replace(STOLEN, revoked_from=H)))
    (both,) = merge(ledger(record("k", P, 9)), revoked).records
    assert both.key == KeyName(Kid("k"), "RS256", Thumbprint("t-k"))
    assert both.revocation == replace(STOLEN, revoked_from=H)


def test_reached_record_keeps_nothing_of_the_other_revocation_but_date_and_reason() -> None:
    """The record was revoked only through its material: it cannot be kept public, and has no place in the order."""
    theirs = ledger(record("b", X, 2, material="m", revocation=replace(STOLEN, revoked_from=P, order=7)))
    reached = next(r for r in merge(ledger(record("a", P, 7, material="m")), theirs).records if r.key.kid == "a")
    assert reached == KeyRecord(KeyName(Kid("a"), "RS256", Thumbprint("t-m")), X, 1, NOW, revocation=STOLEN)


def test_records_of_one_identity_are_joined() -> None:
    """Two records of one key in a file are merged."""
    twice = joined(ISSUER, [record("k", P, 2), record("k", D, 3), record("j", P, 1)])
    assert [(r.key.kid, r.status) for r in twice.records] == [("j", P), ("k", D)]


# ------------------------------------------------------------------------------------------------ every ledger

hours = st.integers(0, 3).map(lambda h: NOW + timedelta(hours=h))
revocations = st.builds(
    Revocation,
    at=hours,
    reason=st.sampled_from(["a", "b"]),
    last=st.booleans(),
    revoked_from=st.sampled_from([None, D, H, R, P]),
    order=st.integers(0, 3),
)
# A thumbprint determines the type of its key, so a record without material never has an alg of another type.
KINDS = {"m1": ("RS256", "RS384", "RS512"), "m2": ("RS256", "RS512"), "m3": ("ES256",)}


@st.composite
def records(draw: st.DrawFn) -> KeyRecord:
    kid, material = draw(st.sampled_from(["k1", "k2"])), draw(st.sampled_from(sorted(KINDS)))
    alg = draw(st.sampled_from(KINDS[material]))
    made_key: Key = key(kid, material, alg)
    if material == "m3":
        made_key = EcKey(Kid(kid), alg, "P-256", "x", "y", Thumbprint("t-m3"))
    status = draw(st.sampled_from(Status))
    made = KeyRecord(
        made_key,
        status,
        draw(st.integers(1, 3)),
        draw(hours),
        missing_since=draw(hours) if status is R else None,
        returned_at=draw(st.none() | hours) if status in (P, H) else None,
        held_because=draw(st.sampled_from(["policy", "kid_taken"])) if status is H else None,
        revocation=draw(revocations) if status is X else None,
    )
    found = trimmed(made)
    is_unknown = isinstance(found.key, KeyName) and draw(st.booleans())
    return replace(found, key=replace(found.key, alg="")) if is_unknown else found


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    return joined(ISSUER, draw(st.lists(records(), max_size=4)))


@settings(max_examples=10 * settings().max_examples)
@given(ledgers(), ledgers(), ledgers())
def test_merge_is_a_join(a: Ledger, b: Ledger, c: Ledger) -> None:
    """The merge is commutative, associative and idempotent, and has every revocation of either side."""
    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == a
    assert merge(merge(a, b), b) == merge(a, b)
    revoked = {r.key.thumbprint for part in (a, b) for r in part.records if r.status is X}
    assert {r.key.thumbprint for r in merge(a, b).records if r.status is X} == revoked
    assert not revoked & {k.thumbprint for k in merge(a, b).public_keys()}
    assert all(isinstance(r.key, KeyName) is not r.keeps_material for r in merge(a, b).records)
