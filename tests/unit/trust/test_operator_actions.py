"""An operator's actions: how keys are found by name, approved and revoked, and the invariants for every ledger."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirror.model import (
    MAX_GENERATION,
    PUBLIC_STATUSES,
    Key,
    KeyName,
    KeyRecord,
    Kid,
    Ledger,
    Reason,
    Revocation,
    RsaKey,
    Status,
    Thumbprint,
    key_id,
)
from mirror.trust.discovery import render
from mirror.trust.ledger import LedgerRead, read_ledger, write_ledger
from mirror.trust.lifecycle import LedgerUpdate, empty_allowed, is_empty_by_revocation, published_keys
from mirror.trust.merge import merge
from mirror.trust.operator_actions import approve, find_key, find_key_material, revoke
from support.lifecycles import ISSUER, NOW, ledger
from support.strategies import ledgers, printable

HOUR = timedelta(hours=1)
H, P, R, D, X = Status.HELD, Status.PUBLISHED, Status.RETIRING, Status.DROPPED, Status.REVOKED


def key(name: str, kid: str | None = None) -> RsaKey:
    return RsaKey(Kid(kid or f"kid-of-{name}"), "RS256", f"n-{name}", "AQAB", Thumbprint(f"thumbprint-of-{name}"))


def record(of: Key, status: Status, **fields: object) -> KeyRecord:
    made = KeyRecord(of, status, generation=1, first_seen=NOW - HOUR)
    if status is R:
        made = replace(made, missing_since=NOW - HOUR)
    if status is H:
        made = replace(made, held_because="policy")
    if status is X:
        made = replace(made, revocation=Revocation(NOW - HOUR, "stolen"))
    return replace(made, **fields)  # type: ignore[arg-type]  # fields of KeyRecord by name


def statuses(outcome: LedgerUpdate | Reason) -> dict[str, tuple[Status, int]]:
    """Status and generation of each record, by thumbprint."""
    assert isinstance(outcome, LedgerUpdate)
    return {r.key.thumbprint.removeprefix("thumbprint-of-"): (r.status, r.generation) for r in outcome.ledger.records}


def code(result: object) -> str:
    assert isinstance(result, Reason)
    assert result.sentence.endswith(".")
    assert result.remedy.endswith(".")
    return result.code


A, B, C = key("aaaa"), key("bbbb"), key("cccc")
Y, Z = key("yyyy", "shared"), key("zzzz", "shared")


# ------------------------------------------------------------------------------------------------- finding

KNOWN = ledger(
    record(A, P),
    record(key("aaaa", "other"), H),
    record(Y, P),
    record(Z, H),
    record(key("k", "ab"), P),
    record(key("xxxx", "thumbprint-of-yyyy"), D),
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("kid-of-aaaa", A),
        ("other", key("aaaa", "other")),
        ("ab", key("k", "ab")),
        ("thumbprint-of-k", key("k", "ab")),
        ("kid-of-a", A),
        ("thumbprint-of-z", Z),
        ("thumbprint-of-yyyy", Y),
    ],
    ids=[
        *("kid", "kid of two", "short kid", "thumbprint", "beginning of a kid", "beginning of a thumbprint"),
        "thumbprint that is a kid",
    ],
)
def test_key_is_found_by_kid_or_thumbprint_or_beginning(text: str, found: Key) -> None:
    """A full thumbprint, or a unique kid, or a unique prefix of 8 characters or more identifies one record."""
    result = find_key(KNOWN, text)
    assert isinstance(result, KeyRecord)
    assert result.key == found


@pytest.mark.parametrize(
    ("text", "expected", "reported"),
    [
        ("kid-of-", "key.unknown", "its first 8 characters"),
        ("", "key.unknown", "its first 8 characters"),
        ("KID-OF-A", "key.unknown", "Known are: ab (thumbprint thumbprint-of-k"),
        ("KID-OF-AAAA", "key.unknown", "thumbprint-of-yyyy"),
        ("thumbprint-of-", "key.ambiguous", "thumbprint-of-zzzz"),
        ("shared", "key.ambiguous", "(thumbprint thumbprint-of-yyyy, "),
        ("thumbprint-of-aaaa", "key.ambiguous", "other (thumbprint thumbprint-of-aaaa, held)"),
    ],
    ids=[
        "seven characters",
        "nothing",
        "eight characters",
        "wrong case",
        "beginning of many",
        "kid of two keys",
        "one key under two kids",
    ],
)
def test_name_of_no_key_or_of_several_is_refused_with_candidates(text: str, expected: str, reported: str) -> None:
    """The reason lists the candidates, so that the operator can be more specific."""
    result = find_key(KNOWN, text)
    assert code(result) == expected
    assert isinstance(result, Reason)
    assert reported in result.remedy


V = key("vvvv")
IMPERSONATORS = (record(key("1111", V.thumbprint), D), record(key("2222", V.kid), D))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (V.thumbprint, V.thumbprint),
        (V.kid, "key.ambiguous"),
        ("thumbprint-of-v", "key.ambiguous"),
        ("thumbprint-of-1111", "thumbprint-of-1111"),
    ],
    ids=["full thumbprint", "kid", "beginning of a thumbprint", "thumbprint of an impersonator"],
)
def test_records_that_are_named_like_a_key_do_not_hide_it(text: str, expected: str) -> None:
    """Records whose kids equal V's thumbprint or kid cannot prevent the revocation of V by its thumbprint."""
    result = find_key_material(ledger(record(V, P), *IMPERSONATORS), text)
    assert (result.code if isinstance(result, Reason) else result) == expected


@pytest.mark.parametrize(
    ("kids", "text", "expected"),
    [
        (("thumbprint-of-b", "kid-of-b"), "thumbprint-of-b", "key.ambiguous"),
        (("signing-key", "signing-key-2"), "signing-key", "key.ambiguous"),
        (("key", "key-2"), "key", "aaaa"),
        (("thumb", "kid-of-b"), "thumb", "aaaa"),
    ],
    ids=["of a thumbprint", "of another kid", "of another kid, too short", "of a thumbprint, too short"],
)
def test_kid_that_another_key_begins_with_names_none(kids: tuple[str, str], text: str, expected: str) -> None:
    """A kid that is also a prefix of another record's name identifies neither, so the wrong key is not approved."""
    result = find_key(ledger(record(key("aaaa", kids[0]), H), record(key("bbbb", kids[1]), H)), text)
    found = result.code if isinstance(result, Reason) else result.key.thumbprint.removeprefix("thumbprint-of-")
    assert found == expected


def test_nothing_known_says_so() -> None:
    """For an issuer without records the remedy says so, instead of listing nothing."""
    result = find_key(Ledger(ISSUER), "thumbprint-of-a")
    assert isinstance(result, Reason)
    assert result.remedy == "No key of this issuer is known yet."


def test_hostile_kid_is_escaped_in_a_reason() -> None:
    """Terminal control characters in a kid are escaped."""
    result = find_key(ledger(record(key("a", "evil\x1b[2J"), P)), "something else")
    assert isinstance(result, Reason)
    assert "\x1b" not in result.remedy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("thumbprint-of-aaaa", A.thumbprint),
        ("other", A.thumbprint),
        ("thumbprint-of-", "key.ambiguous"),
        ("shared", "key.ambiguous"),
        ("unknown-name", "key.unknown"),
    ],
    ids=["under two kids", "one of its kids", "several", "kid of two keys", "none"],
)
def test_material_is_found_whatever_its_kids(text: str, expected: str) -> None:
    """A key with two kids is found by its thumbprint or either kid."""
    result = find_key_material(KNOWN, text)
    assert (result.code if isinstance(result, Reason) else result) == expected


@pytest.mark.parametrize(("many", "more"), [(5, False), (6, True)], ids=["as many as are listed", "one more"])
def test_long_list_of_candidates_is_cut(many: int, more: bool) -> None:
    """Five candidates are listed, each once; the others are counted."""
    reason = find_key(ledger(*(record(key(f"{number}"), D) for number in range(many))), "nobody's key")
    assert isinstance(reason, Reason)
    named = [f"kid-of-{number} (thumbprint thumbprint-of-{number}, dropped)" for number in range(5)]
    assert reason.remedy == f"Known are: {'; '.join([*named, *['and 1 more'] * more])}."


# ---------------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("decide", "reported"),
    [
        (
            lambda: approve(ledger(record(Y, P), record(Z, H)), key_id(Z), NOW),
            [
                (Z, P, "was approved by an operator"),
                (Y, R, "gives its kid to a key that an operator approved"),
            ],
        ),
        (
            lambda: revoke(ledger(record(A, P), record(B, P)), [A.thumbprint], now=NOW, reason="stolen", last=False),
            [(A, X, "was revoked by an operator: stolen")],
        ),
    ],
    ids=["approved", "revoked"],
)
def test_decision_says_what_became_of_each_key(
    decide: Callable[[], LedgerUpdate | Reason], reported: list[tuple[Key, Status, str]]
) -> None:
    """The commit message has a sentence for each key, which git stores permanently."""
    result = decide()
    assert isinstance(result, LedgerUpdate)
    assert [(each.key, each.status, each.sentence) for each in result.transitions] == reported


@pytest.mark.parametrize(
    ("decide", "remedy"),
    [
        (lambda: approve(ledger(record(A, X)), key_id(A), NOW), "Give the cluster a new signing key."),
        (
            lambda: approve(ledger(record(A, D)), key_id(A), NOW),
            "Nothing to approve: the mirror decides again when an apiserver shows it.",
        ),
        (
            lambda: revoke(ledger(record(A, P)), [A.thumbprint], now=NOW, reason="", last=False),
            "Say on one line why the key is revoked.",
        ),
        (
            lambda: revoke(ledger(record(A, P)), [A.thumbprint], now=NOW, reason="stolen", last=False),
            "Publish another key first; or add `--last`, and every token of this issuer is refused from then on.",
        ),
    ],
    ids=["revoked", "not held", "no reason", "last key"],
)
def test_refused_decision_says_what_to_do(decide: Callable[[], LedgerUpdate | Reason], remedy: str) -> None:
    """The remedy can be followed without the source code."""
    result = decide()
    assert isinstance(result, Reason)
    assert result.remedy == remedy


# ----------------------------------------------------------------------------------------------- approving


def test_held_key_becomes_published() -> None:
    """The generation increases by one, the reason for holding is cleared, and nothing else changes."""
    outcome = approve(ledger(record(A, P), record(B, H)), key_id(B), NOW)
    assert statuses(outcome) == {"aaaa": (P, 1), "bbbb": (P, 2)}
    assert isinstance(outcome, LedgerUpdate)
    assert outcome.ledger.records[1].held_because is None
    assert [(t.key, t.status) for t in outcome.transitions] == [(B, P)]


def test_approving_twice_changes_nothing() -> None:
    """A second approval finds the key already published."""
    first = approve(ledger(record(B, H)), key_id(B), NOW)
    assert isinstance(first, LedgerUpdate)
    assert approve(first.ledger, key_id(B), NOW + HOUR) == LedgerUpdate(first.ledger, (), ())


@pytest.mark.parametrize(
    ("other", "after"),
    [(P, (R, 2)), (R, (R, 1)), (H, (H, 1)), (D, (D, 1)), (X, (X, 1))],
    ids=["published", "retiring", "held", "dropped", "revoked"],
)
def test_approved_key_retires_the_other_of_its_kid(other: Status, after: tuple[Status, int]) -> None:
    """A published key with the same kid begins to retire; a key with another status does not change."""
    outcome = approve(ledger(record(Y, other), record(Z, H)), key_id(Z), NOW)
    assert statuses(outcome) == {"yyyy": after, "zzzz": (P, 2)}
    assert isinstance(outcome, LedgerUpdate)
    if other is P:
        assert outcome.ledger.records[0].missing_since == NOW
        assert outcome.ledger.records[0].returned_at is None


def test_returned_key_that_retires_forgets_its_return() -> None:
    """The date of return is cleared: on a retiring record it would make the ledger invalid."""
    returned = record(Y, P, returned_at=NOW - HOUR)
    outcome = approve(ledger(returned, record(Z, H)), key_id(Z), NOW)
    assert isinstance(outcome, LedgerUpdate)
    assert outcome.ledger.records[0] == record(Y, R, missing_since=NOW, generation=2)


@pytest.mark.parametrize(
    ("status", "revoked", "expected"),
    [
        (R, frozenset(), "key.not_held"),
        (D, frozenset(), "key.not_held"),
        (X, frozenset(), "key.revoked"),
        (H, {A.thumbprint}, "key.revoked"),
        (P, {A.thumbprint}, "key.revoked"),
    ],
    ids=["retiring", "dropped", "revoked", "held and revoked by configuration", "published and revoked"],
)
def test_key_that_is_not_held_is_not_approved(status: Status, revoked: set[Thumbprint], expected: str) -> None:
    """A key that is retiring, dropped or revoked is never published by an approval."""
    assert code(approve(ledger(record(A, status)), key_id(A), NOW, revoked=frozenset(revoked))) == expected


def test_material_that_is_revoked_under_another_kid_is_not_approved() -> None:
    """A revoked key cannot be approved under another kid."""
    known = ledger(record(A, X), record(key("aaaa", "other"), H))
    assert code(approve(known, (Kid("other"), A.thumbprint), NOW)) == "key.revoked"


# ------------------------------------------------------------------------------------------------ revoking


@pytest.mark.parametrize("status", [H, P, R, D], ids=str)
def test_key_of_any_status_is_revoked_under_every_kid(status: Status) -> None:
    """The fields of the former status are cleared, and each record of the material has one more generation."""
    known = ledger(record(A, status), record(key("aaaa", "other"), H), record(B, P))
    outcome = revoke(known, {A.thumbprint}, now=NOW, reason="stolen laptop", last=False)
    assert isinstance(outcome, LedgerUpdate)
    moved = [r for r in outcome.ledger.records if r.key.thumbprint == A.thumbprint]
    reported = Revocation(NOW, "stolen laptop", order=1)
    assert [replace(r, key=A) for r in moved] == [
        KeyRecord(A, X, 2, NOW - HOUR, revocation=replace(reported, revoked_from=status)),
        KeyRecord(A, X, 2, NOW - HOUR, revocation=replace(reported, revoked_from=H)),
    ]
    assert [isinstance(r.key, KeyName) for r in moved] == [status not in PUBLIC_STATUSES, True]
    assert outcome.ledger.public_keys() == (B,)
    assert {t.sentence for t in outcome.transitions} == {"was revoked by an operator: stolen laptop"}


def test_last_public_key_is_held() -> None:
    """Without `last`, revocations never empty the public set, whatever keys they name."""
    known = ledger(record(A, P), record(B, R), record(C, H))
    result = revoke(known, {A.thumbprint, B.thumbprint}, now=NOW, reason="stolen", last=False)
    assert code(result) == "revocation.held"


def test_last_key_with_last_empties_the_set() -> None:
    """With `last`, an empty set is published."""
    outcome = revoke(ledger(record(A, P), record(C, H)), {A.thumbprint}, now=NOW, reason="stolen", last=True)
    assert isinstance(outcome, LedgerUpdate)
    documents = render(outcome.ledger)
    assert documents is not None
    assert documents.jwks == b'{"keys":[]}'
    assert (is_empty_by_revocation(outcome.ledger), empty_allowed(outcome.ledger)) == (True, True)


def test_last_is_not_recorded_while_keys_are_left() -> None:
    """A permission that was not needed is not recorded, so it cannot empty the set later."""
    outcome = revoke(ledger(record(A, P), record(B, P)), {A.thumbprint}, now=NOW, reason="stolen", last=True)
    assert isinstance(outcome, LedgerUpdate)
    assert not empty_allowed(outcome.ledger)
    assert not is_empty_by_revocation(outcome.ledger)


def test_held_key_is_revoked_without_last() -> None:
    """Revoking a key that is not public does not empty the set."""
    outcome = revoke(ledger(record(A, H)), {A.thumbprint}, now=NOW, reason="unknown", last=False)
    assert statuses(outcome) == {"aaaa": (X, 2)}


def test_revoking_twice_changes_nothing() -> None:
    """The date and reason of the first revocation stay."""
    known = ledger(record(A, X), record(B, P))
    outcome = revoke(known, {A.thumbprint}, now=NOW, reason="again", last=False)
    assert outcome == LedgerUpdate(known, (), ())


def test_set_that_two_operators_emptied_is_published_empty_by_last() -> None:
    """Each operator revoked one of two keys; after the merge one stays public until `last` permits an empty set."""
    known = ledger(record(A, P), record(B, P))
    one = revoke(known, {A.thumbprint}, now=NOW, reason="one", last=False)
    two = revoke(known, {B.thumbprint}, now=NOW, reason="two", last=False)
    assert isinstance(one, LedgerUpdate)
    assert isinstance(two, LedgerUpdate)
    merged = merge(one.ledger, two.ledger)
    assert published_keys(merged) == (B,)
    assert (is_empty_by_revocation(merged), empty_allowed(merged)) == (True, False)
    held = revoke(merged, {B.thumbprint}, now=NOW + HOUR, reason="two", last=False)
    assert code(held) == "revocation.held"
    assert revoke(merged, {A.thumbprint}, now=NOW + HOUR, reason="one", last=False) == LedgerUpdate(merged, (), ())
    asked = revoke(merged, {A.thumbprint, B.thumbprint}, now=NOW + HOUR, reason="both", last=True)
    assert statuses(asked) == {"aaaa": (X, 3), "bbbb": (X, 3)}
    assert isinstance(asked, LedgerUpdate)
    assert published_keys(asked.ledger) == ()
    assert render(asked.ledger) is not None
    assert [r.revocation and r.revocation.reason for r in asked.ledger.records] == ["one", "two"]
    again = revoke(asked.ledger, {A.thumbprint, B.thumbprint}, now=NOW + HOUR, reason="both", last=True)
    assert again == LedgerUpdate(asked.ledger, (), ())


@pytest.mark.parametrize(
    "reason", ["", "x" * 1001, "two\nlines", "\x1b[2J", "\u202e"], ids=["empty", "long", "lines", "escape", "bidi"]
)
def test_reason_that_the_ledger_cannot_hold_is_refused(reason: str) -> None:
    """A reason has 1 to 1000 printable characters, as the ledger's format requires."""
    assert code(revoke(ledger(record(A, P)), {A.thumbprint}, now=NOW, reason=reason, last=True)) == "bad_reason"


# -------------------------------------------------------------------------------------------- every ledger

# On a fresh checkout the first generated text builds Hypothesis' Unicode tables, which takes seconds with coverage.
PATIENTLY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@PATIENTLY
@given(known=ledgers(), data=st.data(), reason=printable(1000), last=st.booleans())
def test_revocation_holds_for_every_ledger(known: Ledger, data: st.DataObject, reason: str, last: bool) -> None:
    """The ledger can be read again; the revocation survives a merge and empties no set without `last`."""
    known = merge(known, known)
    every = sorted({r.key.thumbprint for r in known.records}) or [Thumbprint("none")]
    material = frozenset(data.draw(st.sets(st.sampled_from(every))))
    outcome = revoke(known, material, now=NOW, reason=reason, last=last)
    if isinstance(outcome, Reason):
        assert not last
        return
    assert read_ledger(write_ledger(outcome.ledger), issuer=known.issuer) == LedgerRead(outcome.ledger)
    merged = merge(outcome.ledger, known)
    assert not {key.thumbprint for key in merged.public_keys()} & material
    if known.public_keys() and not last:
        assert merged.public_keys()
    assert revoke(outcome.ledger, material, now=NOW + HOUR, reason=reason, last=last) == LedgerUpdate(
        outcome.ledger, (), ()
    )


@PATIENTLY
@given(known=ledgers(), data=st.data())
def test_approval_holds_for_every_ledger(known: Ledger, data: st.DataObject) -> None:
    """Only the approved key becomes public. It wins over the earlier ledger, and no key is removed at once."""
    known = merge(known, known)
    held = [r for r in known.records if r.status is H and r.generation < MAX_GENERATION]
    if not held:
        return
    identity = key_id(data.draw(st.sampled_from(held)).key)
    outcome = approve(known, identity, NOW)
    assert isinstance(outcome, LedgerUpdate)
    assert read_ledger(write_ledger(outcome.ledger), issuer=known.issuer) == LedgerRead(outcome.ledger)
    before = {key_id(key) for key in known.public_keys()}
    assert {key_id(key) for key in outcome.ledger.public_keys()} == before | {identity}
    after = {key_id(r.key): r for r in merge(outcome.ledger, known).records}
    assert after[identity].status in PUBLIC_STATUSES


def test_decision_is_possible_at_the_highest_generation() -> None:
    """A pushed ledger with the highest possible generation cannot block a revocation or an approval."""
    known = ledger(record(A, P, generation=MAX_GENERATION), record(B, H, generation=MAX_GENERATION))
    revoked = revoke(known, {B.thumbprint}, now=NOW, reason="stolen", last=False)
    assert statuses(revoked)["bbbb"] == (X, MAX_GENERATION)
    assert isinstance(revoked, LedgerUpdate)
    assert merge(revoked.ledger, known) == revoked.ledger
    approved = approve(known, key_id(B), NOW)
    assert isinstance(approved, LedgerUpdate)
    assert merge(approved.ledger, known) == approved.ledger
