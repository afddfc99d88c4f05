"""The boundary conditions of each transition, and the fields of a record that a transition clears."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mirror.model import (
    AWS_KEYS_OF_A_TYPE,
    KeyPolicy,
    KeyRecord,
    Ledger,
    Observation,
    Observed,
    Reason,
    Revocation,
    RsaKey,
    Status,
    Unusable,
    key_id,
    trimmed,
)
from mirror.trust import lifecycle
from mirror.trust.lifecycle import LedgerUpdate
from mirror.trust.merge import merge
from support.lifecycles import NOW, ledger, rsa, shows, step

DAY = timedelta(hours=24)
P, R, H, D, X = Status.PUBLISHED, Status.RETIRING, Status.HELD, Status.DROPPED, Status.REVOKED
STOLEN = Revocation(NOW - DAY, "stolen")


A, B, C = rsa("a"), rsa("b"), rsa("c")
OLD, NEW = rsa("old", "k"), rsa("new", "k")
REVOKE_A = KeyPolicy(revoked=frozenset({A.thumbprint}))
FIELDS: dict[Status, dict[str, object]] = {
    R: {"missing_since": NOW - 2 * DAY},
    H: {"held_because": "policy"},
    X: {"revocation": STOLEN},
}


def record(key: RsaKey, status: Status, **fields: object) -> KeyRecord:
    made = KeyRecord(key, status, generation=1, first_seen=NOW - 10 * DAY)
    return trimmed(replace(made, **{**FIELDS.get(status, {}), **fields}))  # type: ignore[arg-type]  # fields of KeyRecord by name


SILENT = Unusable("https://two", (Reason("timeout", "It did not answer.", "Wait."),))


def after(outcome: LedgerUpdate, key: RsaKey) -> KeyRecord:
    return next(r for r in outcome.ledger.records if key_id(r.key) == key_id(key))


def reported(outcome: LedgerUpdate) -> list[str]:
    return [event.name for event in outcome.events]


def test_limits_are_those_of_the_design() -> None:
    """AWS accepts 100 keys of a type (facts.md#34); 32 held keys are as many as an operator can review."""
    assert (AWS_KEYS_OF_A_TYPE, lifecycle.MOST_HELD) == (100, 32)


# -------------------------------------------------------------------------------------------------- revocation


@pytest.mark.parametrize(
    "fields",
    [(P, {"returned_at": NOW - DAY}), (R, {}), (H, {}), (D, {})],
    ids=["published_again", "retiring", "held", "dropped"],
)
def test_revoked_record_keeps_nothing_of_its_former_status(fields: tuple[Status, dict[str, object]]) -> None:
    """Dates and codes of the former status are cleared, because they would make the ledger invalid."""
    before = record(A, fields[0], **fields[1])
    outcome = step(ledger(before, record(B, P)), shows(A, B), policy=REVOKE_A)
    reported = Revocation(NOW, "named in keys.revoked of the configuration", revoked_from=fields[0], order=1)
    assert after(outcome, A) == trimmed(KeyRecord(A, X, 2, before.first_seen, revocation=reported))


def test_key_is_revoked_under_all_its_kids_or_under_none() -> None:
    """A merge applies a revocation to every kid of a key. So if the last key is spared, no record of it is revoked."""
    first, last = rsa("v", "a"), rsa("v", "z")
    policy = KeyPolicy(revoked=frozenset({first.thumbprint, B.thumbprint}))
    outcome = step(ledger(record(first, D), record(B, P), record(last, P)), shows(B, last), policy=policy)
    assert [r.status for r in outcome.ledger.records] == [X, P, X]
    alone = step(ledger(record(first, D), record(last, P)), shows(last), policy=policy)
    assert [r.status for r in alone.ledger.records] == [D, P]
    assert merge(outcome.ledger, outcome.ledger) == outcome.ledger


def test_held_key_is_revoked_though_nothing_is_public() -> None:
    """Only the last *public* key cannot be revoked; a held key is not public."""
    assert after(step(ledger(record(A, H)), shows(A), policy=REVOKE_A), A).status is X


def test_missing_held_key_is_revoked_in_one_step() -> None:
    """A revocation is a single transition, also for a held key that is missing."""
    outcome = step(ledger(record(A, H), record(B, P)), shows(B), policy=REVOKE_A)
    assert [t.status for t in outcome.transitions] == [X]
    assert after(outcome, A).generation == 2


def test_revoked_key_that_was_never_recorded_begins_at_one() -> None:
    """The record of a key that is revoked at first sight has generation 1."""
    assert after(step(ledger(record(B, P)), shows(A, B), policy=REVOKE_A), A).generation == 1


@pytest.mark.parametrize("status", [P, R, D, X])
def test_shown_revoked_key_is_reported_once(status: Status) -> None:
    """The event is reported once per pass, whatever the status of the key."""
    outcome = step(ledger(record(A, status), record(B, P)), shows(A, B), policy=REVOKE_A)
    assert reported(outcome).count("key.revoked_shown") == 1


def test_missing_revoked_key_keeps_no_other_from_retiring() -> None:
    """Each key has its own transition in a pass: a revoked key does not affect those after it."""
    outcome = step(ledger(record(A, P), record(B, P), record(C, P)), shows(C), policy=REVOKE_A)
    assert [after(outcome, key).status for key in (A, B, C)] == [X, R, P]


def test_last_public_key_keeps_no_other_from_being_revoked() -> None:
    """The last public key stays and is reported; the next key in `keys.revoked` is still revoked."""
    policy = KeyPolicy(revoked=frozenset({A.thumbprint, B.thumbprint}))
    outcome = step(ledger(record(A, P), record(B, H)), shows(A, B), policy=policy)
    assert [after(outcome, key).status for key in (A, B)] == [P, X]


# --------------------------------------------------------------------------------------------------- admission


def test_two_new_keys_of_one_kid_are_both_held() -> None:
    """Only an operator can know which of the two is right, so both are held."""
    outcome = step(ledger(record(B, P)), shows(B, OLD), shows(B, NEW))
    assert [(after(outcome, key).status, after(outcome, key).held_because) for key in (OLD, NEW)] == [
        (H, "kid_taken"),
        (H, "kid_taken"),
    ]


def test_revoked_key_takes_no_kid() -> None:
    """A revoked key does not block a new key with the same kid."""
    policy = KeyPolicy(revoked=frozenset({OLD.thumbprint}))
    assert after(step(ledger(record(B, P)), shows(B, OLD), shows(B, NEW), policy=policy), NEW).status is P


@pytest.mark.parametrize("status", [D, X])
def test_key_that_is_not_public_takes_no_kid(status: Status) -> None:
    """After a key is dropped or revoked, another key may have its kid."""
    assert after(step(ledger(record(OLD, status), record(B, P)), shows(B, NEW)), NEW).status is P


@pytest.mark.parametrize("status", [P, R, H])
def test_key_that_may_be_public_takes_its_kid(status: Status) -> None:
    """Relying parties cache keys by kid, so a second key with the same kid is held."""
    assert after(step(ledger(record(OLD, status), record(B, P)), shows(B, NEW), SILENT), NEW).status is H


def test_nothing_new_comes_in_where_nothing_may() -> None:
    """After a former issuer's last day, new keys are neither published nor held; a revoked key is still recorded."""
    outcome = step(ledger(record(B, P)), shows(A, B, C), policy=REVOKE_A, may_admit=False)
    assert {r.key.kid: r.status for r in outcome.ledger.records} == {"a": X, "b": P}


def test_full_room_for_held_keys_is_no_matter_for_a_good_one() -> None:
    """The maximum of held keys, perhaps from an attacker, does not block a new key of the cluster."""
    held = [record(rsa(f"h{i:02}"), H) for i in range(lifecycle.MOST_HELD)]
    assert after(step(ledger(*held, record(B, P)), shows(A, B), SILENT), A).status is P


# -------------------------------------------------------------------------------------------------- retirement


@pytest.mark.parametrize(("status", "becomes"), [(H, D), (R, D)], ids=["held", "retiring"])
def test_dropped_record_keeps_nothing_of_its_former_status(status: Status, becomes: Status) -> None:
    """As for revoked records, fields of the former status are cleared: they would make the ledger invalid."""
    missing = {key_id(A): NOW - DAY}
    outcome = step(ledger(record(A, status), record(B, P)), shows(B), held_missing_since=missing)
    assert after(outcome, A) == trimmed(KeyRecord(A, becomes, 2, NOW - 10 * DAY))


def test_changed_sources_retire_nothing_by_themselves() -> None:
    """After a change of sources, a key stays published while a replica without an answer may still show it."""
    outcome = step(ledger(record(A, P), record(B, P)), shows(B), SILENT, sources_changed=True)
    assert after(outcome, A).status is P


def test_retiring_key_that_is_shown_stays_though_its_kid_is_taken() -> None:
    """Because of its successor the old key is not published again; because a replica shows it, it is not dropped."""
    outcome = step(ledger(record(OLD, R), record(NEW, P)), shows(NEW), shows(OLD, apiserver="https://two"))
    assert after(outcome, OLD).status is R


# ------------------------------------------------------------------------------------------------------ events


@pytest.mark.parametrize(
    ("before", "seen", "is_reported"),
    [
        (ledger(record(A, P)), (shows(A), SILENT), False),
        (ledger(record(A, P), record(B, P)), (shows(B),), False),
        (ledger(record(A, P)), (SILENT,), True),
        (ledger(record(A, P), record(B, P)), (shows(A), SILENT), True),
    ],
    ids=["all_shown_one_silent", "missing_all_answered", "only_key_unseen", "one_of_two_unseen"],
)
def test_blocked_retirement_is_reported_when_it_is_blocked(
    before: Ledger, seen: tuple[Observation, ...], is_reported: bool
) -> None:
    """The event is reported only if a key would retire and an apiserver did not answer."""
    assert ("retirement.blocked" in reported(step(before, *seen))) is is_reported


def test_unchanged_pass_reports_nothing() -> None:
    """An unchanged pass causes no event."""
    assert step(ledger(record(A, P), record(B, D)), shows(A)).events == ()


@pytest.mark.parametrize(
    ("before", "seen", "policy", "sources_changed", "is_reported"),
    [
        (ledger(record(A, R)), shows(B), None, True, False),
        (ledger(record(A, P)), shows(A, B), REVOKE_A, False, False),
        (ledger(record(A, P), record(C, D)), shows(C), None, False, True),
    ],
    ids=["nothing_was_published", "revoked_and_succeeded", "replaced_by_a_key_that_returns"],
)
def test_replacement_is_reported_if_every_published_key_retires(
    before: Ledger, seen: Observed, policy: KeyPolicy | None, sources_changed: bool, is_reported: bool
) -> None:
    """`keys.replaced` is reported if all published keys begin to retire and another key is published."""
    outcome = step(before, seen, policy=policy, sources_changed=sources_changed)
    assert ("keys.replaced" in reported(outcome)) is is_reported


# ------------------------------------------------------------------------------------------------------- merge


def test_merge_of_two_reasons_to_hold_knows_no_order() -> None:
    """If two mirrors held a key for different reasons, both choose the same one."""
    one, two = (ledger(record(A, H, held_because=code)) for code in ("kid_taken", "policy"))
    assert merge(one, two) == merge(two, one) == two


def test_merge_of_two_algorithms_knows_no_order() -> None:
    """The thumbprint does not cover `alg`, so the alphabetically first counts, in any order of apiservers."""
    one, two = (ledger(record(replace(A, alg=alg), P)) for alg in ("RS256", "RS512"))
    assert merge(one, two) == merge(two, one) == one
