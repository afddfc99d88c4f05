"""The transition table, one situation at a time, and invariants of every history."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.model import (
    AWS_KEYS_OF_A_TYPE,
    EcKey,
    Key,
    KeyPolicy,
    KeyRecord,
    Kid,
    Ledger,
    Observation,
    Observed,
    Reason,
    Revocation,
    Status,
    Thumbprint,
    Unusable,
    key_id,
)
from mirror.trust.lifecycle import (
    MOST_HELD,
    LedgerUpdate,
    clock_skew,
    missing_answers,
)
from support.lifecycles import NOW, ledger, rsa, shows, step

DAY = timedelta(hours=24)
POLICY = KeyPolicy()


def ec(name: str) -> EcKey:
    return EcKey(Kid(name), "ES256", "P-256", "x", "y", Thumbprint(f"t-{name}"))


A, B, C = rsa("a"), rsa("b"), rsa("c")
Y, Z = rsa("y", "k"), rsa("z", "k")


def record(key: Key, status: Status, **fields: object) -> KeyRecord:
    made = KeyRecord(key, status, generation=1, first_seen=NOW - 10 * DAY)
    if status is Status.RETIRING:
        made = replace(made, missing_since=NOW - timedelta(hours=1))
    if status is Status.HELD:
        made = replace(made, held_because="policy")
    if status is Status.REVOKED:
        made = replace(made, revocation=Revocation(NOW - DAY, "stolen"))
    return replace(made, **fields)  # type: ignore[arg-type]  # fields of KeyRecord by name


def silent(apiserver: str = "https://two") -> Unusable:
    return Unusable(apiserver, (Reason("timeout", "It did not answer.", "Wait."),))


def statuses(outcome: LedgerUpdate) -> dict[str, Status]:
    return {r.key.kid: r.status for r in outcome.ledger.records}


def names(outcome: LedgerUpdate) -> set[str]:
    return {event.name for event in outcome.events}


HOLD = KeyPolicy(new_keys="hold")
REVOKE_A = KeyPolicy(revoked=frozenset({A.thumbprint}))
DUE = NOW - DAY
P, R, H, D, X = Status.PUBLISHED, Status.RETIRING, Status.HELD, Status.DROPPED, Status.REVOKED

A_P_B_P, A_R_B_P, A_H_B_P, A_D_B_P, A_X_B_P = (ledger(record(A, status), record(B, P)) for status in (P, R, H, D, X))
BOTH = {"a": P, "b": P}
A_DUE = ledger(record(A, R, missing_since=DUE), record(B, P))

Situation = tuple[str, Ledger, tuple[Observation, ...], KeyPolicy, dict[str, Status]]
TABLE: list[Situation] = [
    ("first_sight_is_published", ledger(), (shows(A),), POLICY, {"a": P}),
    ("first_sight_under_hold", ledger(), (shows(A),), HOLD, {"a": H}),
    ("one_replica_is_enough_to_publish", ledger(record(A, P)), (shows(A), shows(A, B)), POLICY, BOTH),
    ("a_silent_replica_never_delays_an_addition", ledger(record(A, P)), (shows(A, B), silent()), POLICY, BOTH),
    ("nobody_answered_nothing_changes", ledger(record(A, P)), (silent(), silent()), POLICY, {"a": P}),
    ("absent_everywhere_retires", A_P_B_P, (shows(B), shows(B)), POLICY, {"a": R, "b": P}),
    ("absent_with_a_silent_replica_stays", ledger(record(A, P)), (shows(B), silent()), POLICY, BOTH),
    ("absent_on_one_replica_stays", ledger(record(A, P)), (shows(B), shows(A)), POLICY, BOTH),
    ("retiring_before_its_time_stays", A_R_B_P, (shows(B),), POLICY, {"a": R, "b": P}),
    ("retiring_at_its_time_drops", A_DUE, (shows(B),), POLICY, {"a": D, "b": P}),
    ("due_but_a_replica_is_silent_stays", A_DUE, (shows(B), silent()), POLICY, {"a": R, "b": P}),
    ("retiring_seen_again_is_published", A_R_B_P, (shows(A, B),), POLICY, BOTH),
    ("held_and_seen_stays_held", A_H_B_P, (shows(A, B),), POLICY, {"a": H, "b": P}),
    ("held_and_gone_stays_held_at_first", A_H_B_P, (shows(B),), POLICY, {"a": H, "b": P}),
    ("held_and_a_replica_silent_stays", A_H_B_P, (shows(B), silent()), POLICY, {"a": H, "b": P}),
    ("dropped_seen_again_is_published", A_D_B_P, (shows(A, B),), POLICY, BOTH),
    ("dropped_seen_again_under_hold_is_held", A_D_B_P, (shows(A, B),), HOLD, {"a": H, "b": P}),
    ("revoked_and_shown_stays_revoked", A_X_B_P, (shows(A, B),), POLICY, {"a": X, "b": P}),
    ("revoked_and_gone_stays_revoked", A_X_B_P, (shows(B),), POLICY, {"a": X, "b": P}),
    ("a_taken_kid_is_held", ledger(record(A, P)), (shows(rsa("z", "a")), shows(A)), POLICY, {"a": H}),
    ("two_new_keys_of_one_kid_are_held", ledger(record(B, P)), (shows(B, Y), shows(B, Z)), POLICY, {"b": P, "k": H}),
    ("configured_revocation_takes_effect", A_P_B_P, (shows(A, B),), REVOKE_A, {"a": X, "b": P}),
    ("configured_revocation_of_a_retiring_key", A_R_B_P, (shows(B),), REVOKE_A, {"a": X, "b": P}),
    ("configured_revocation_of_a_dropped_key_shown", A_D_B_P, (shows(A, B),), REVOKE_A, {"a": X, "b": P}),
    ("configured_revocation_works_without_any_answer", A_P_B_P, (silent(),), REVOKE_A, {"a": X, "b": P}),
    ("revocation_spares_the_last", ledger(record(A, P)), (shows(A),), REVOKE_A, {"a": P}),
    ("revoking_the_old_for_the_new", ledger(record(A, P)), (shows(A, B),), REVOKE_A, {"a": X, "b": P}),
    ("a_revoked_key_never_seen_is_recorded", ledger(record(B, P)), (shows(A, B),), REVOKE_A, {"a": X, "b": P}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "seen", "policy", "after"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_transition_table(
    before: Ledger, seen: tuple[Observation, ...], policy: KeyPolicy, after: dict[str, Status]
) -> None:
    """Each situation leads to the statuses in the specification's table."""
    outcome = step(before, *seen, policy=policy)
    if len({r.key.kid for r in outcome.ledger.records}) == len(outcome.ledger.records):
        assert statuses(outcome) == after
    else:
        assert {(r.key.kid, r.status) for r in outcome.ledger.records} >= set(after.items())


@pytest.mark.parametrize(("before", "seen", "policy"), [row[1:4] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_second_pass_changes_nothing(before: Ledger, seen: tuple[Observation, ...], policy: KeyPolicy) -> None:
    """The same observations again cause no transition: the steady state writes nothing."""
    once = step(before, *seen, policy=policy)
    again = step(once.ledger, *seen, policy=policy)
    assert again.ledger == once.ledger
    assert again.transitions == ()


def test_every_transition_adds_one_to_the_generation() -> None:
    """Ledgers are merged by generation, so each transition adds exactly one."""
    outcome = step(ledger(record(A, P), record(B, P)), shows(B, C))
    assert {r.key.kid: r.generation for r in outcome.ledger.records} == {"a": 2, "b": 1, "c": 1}


def test_a_whole_life_counts_its_transitions() -> None:
    """Publication, retirement, return, retirement, drop and return: six transitions, six generations."""
    now = NOW
    at = step(ledger(), shows(A, B), now=now).ledger
    for seen in ((B,), (A, B), (B,), (B,), (A, B)):
        now += 2 * DAY
        at = step(at, shows(*seen), now=now).ledger
    assert at.records[0].status is P
    assert at.records[0].generation == 6


def test_key_that_came_back_is_not_retired_again_at_once() -> None:
    """A replica that alternates between two key sets causes two commits, not two per interval."""
    back = step(ledger(record(A, R), record(B, P)), shows(A, B))
    assert back.ledger.records[0].returned_at == NOW
    soon = step(back.ledger, shows(B), now=NOW + timedelta(hours=23))
    assert soon.transitions == ()
    late = step(back.ledger, shows(B), now=NOW + DAY)
    assert statuses(late)["a"] is R
    assert late.ledger.records[0].returned_at is None


def test_key_does_not_begin_and_end_retiring_in_one_pass() -> None:
    """With `retain_removed: 0s` a key stays public in the first pass without it."""
    policy = KeyPolicy(retain_removed=timedelta(0))
    first = step(ledger(record(A, P), record(B, P)), shows(B), policy=policy)
    assert statuses(first)["a"] is R
    second = step(first.ledger, shows(B), policy=policy, now=NOW + timedelta(seconds=1))
    assert statuses(second)["a"] is D


def test_set_never_becomes_empty_by_absence() -> None:
    """If every public key is due for removal and no other is public, all stay, and an event reports it."""
    before = ledger(record(A, R, missing_since=DUE), record(B, R, missing_since=DUE))
    outcome = step(before, shows(C), policy=HOLD)
    assert statuses(outcome) == {"a": R, "b": R, "c": H}
    assert "retirement.blocked" in names(outcome)


def test_drop_waits_for_the_remote() -> None:
    """No key is dropped while the git remote is unreachable."""
    before = ledger(record(A, R, missing_since=DUE), record(B, P))
    assert statuses(step(before, shows(B), may_drop=False))["a"] is R


def test_changed_sources_restart_the_retirement() -> None:
    """A change of apiservers or CA resets every `missing_since`, and that pass drops nothing."""
    before = ledger(record(A, R, missing_since=DUE), record(B, P))
    outcome = step(before, shows(B), sources_changed=True)
    assert outcome.ledger.records[0].missing_since == NOW
    assert "sources.changed" in names(outcome)


def test_missing_replica_blocks_retirement() -> None:
    """With fewer answers than `expect_replicas`, keys are added, but none begins to retire."""
    outcome = step(ledger(record(A, P)), shows(B), replicas=2)
    assert statuses(outcome) == {"a": P, "b": P}
    assert "retirement.blocked" in names(outcome)


@pytest.mark.parametrize("apart", [timedelta(minutes=6), -timedelta(minutes=6)], ids=["ahead", "behind"])
def test_skewed_clock_blocks_retirement(apart: timedelta) -> None:
    """If the clock differs from the apiservers' by more than 5 minutes, no retirement begins or ends."""
    before = ledger(record(A, R, missing_since=DUE), record(B, P), record(C, P))
    outcome = step(before, shows(B, date=NOW + apart))
    assert statuses(outcome) == {"a": R, "b": P, "c": P}
    assert "clock.skewed" in names(outcome)


def test_skewed_clock_restarts_no_retirement() -> None:
    """Even a change of sources restarts no retirement then: the date would be wrong."""
    before = ledger(record(A, R), record(B, P))
    outcome = step(before, shows(B, date=NOW + timedelta(days=2)), sources_changed=True)
    assert outcome.ledger == before


def test_return_in_the_future_holds_no_retirement_up() -> None:
    """A date of return from a clock that was a year ahead must not keep a key public for a year."""
    before = ledger(record(A, P, returned_at=NOW + 365 * DAY), record(B, P))
    assert statuses(step(before, shows(B))) == {"a": R, "b": P}


def test_alg_of_the_apiservers_is_taken() -> None:
    """The thumbprint does not cover `alg` (RFC 7638), so the `alg` of a ledger is replaced by that of an apiserver."""
    forged = record(replace(A, alg="RS512"), P)
    outcome = step(ledger(forged, record(B, P)), shows(A, B), shows(B))
    assert outcome.ledger.records[0].key == A
    assert outcome.ledger.records[0].generation == forged.generation + 1
    assert step(outcome.ledger, shows(A, B), shows(B)).ledger == outcome.ledger


def test_replicas_that_differ_in_alg_move_nothing_back_and_forth() -> None:
    """The alphabetically first `alg` counts, as in merges, so mirrors that poll different replicas agree."""
    other = replace(A, alg="RS512")
    known = ledger(record(A, P))
    assert step(known, shows(other)).ledger == known
    for shown in ([shows(A), shows(other)], [shows(other), shows(A)]):
        assert step(ledger(), *shown).ledger.records[0].key == A
        assert step(ledger(record(other, P)), *shown).ledger.records[0].key == A


def test_dropped_key_comes_back_as_it_is_shown() -> None:
    """A returning key also has the `alg` that the apiserver shows."""
    outcome = step(ledger(record(replace(A, alg="RS512"), D), record(B, P)), shows(A, B))
    assert (outcome.ledger.records[0].key, outcome.ledger.records[0].status) == (A, P)


def test_small_skew_is_no_matter() -> None:
    """A difference of exactly five minutes is accepted."""
    outcome = step(ledger(record(A, P), record(B, P)), shows(B, date=NOW + timedelta(minutes=5)))
    assert statuses(outcome)["a"] is R


def test_skew_is_that_of_the_median_apiserver() -> None:
    """The median of the apiservers' clocks counts, so one wrong clock does not matter."""
    dates = [NOW, NOW + timedelta(seconds=2), NOW + timedelta(days=400)]
    observations = [shows(A, apiserver=f"https://{i}", date=date) for i, date in enumerate(dates)]
    assert clock_skew(observations, NOW) == timedelta(seconds=2)
    assert clock_skew([shows(A)], NOW) is None


def test_unanswered_names_the_silent_apiservers() -> None:
    """Each apiserver without an answer is listed once. No apiserver at all counts as a missing answer."""
    assert missing_answers([shows(A), silent("https://x"), silent("https://x")], 2) == ("https://x",)
    assert missing_answers([shows(A)], 1) == ()
    assert missing_answers([shows(A)], 3) == ("2 replicas not found",)
    assert missing_answers([], 0) == ("1 replica not found",)


def test_all_keys_replaced_at_once_is_reported() -> None:
    """A replacement of all keys in one step is published like any change, and causes a warning."""
    outcome = step(ledger(record(A, P)), shows(B))
    assert statuses(outcome) == {"a": R, "b": P}
    assert "keys.replaced" in names(outcome)


@pytest.mark.parametrize(
    ("before", "seen"),
    [(ledger(), shows(A)), (ledger(record(A, P)), shows(A, B)), (ledger(record(A, P), record(B, P)), shows(B, C))],
    ids=["first_sight", "addition", "one_of_two"],
)
def test_other_changes_are_no_replacement(before: Ledger, seen: Observed) -> None:
    """`keys.replaced` is reported only if every old key begins to retire while a new one appears."""
    assert "keys.replaced" not in names(step(before, seen))


def test_revoked_key_under_another_kid_stays_out() -> None:
    """Revocation matches the material: the same key with a new kid is rejected, not recorded, and reported."""
    other_name = replace(A, kid=Kid("other"))
    outcome = step(ledger(record(A, X), record(B, P)), shows(B, other_name))
    assert statuses(outcome) == {"a": X, "b": P}
    assert "key.revoked_shown" in names(outcome)


def test_configured_revocation_outlives_the_configuration() -> None:
    """A key that `keys.revoked` named once stays rejected after the entry is removed."""
    policy = REVOKE_A
    once = step(ledger(record(B, P)), shows(A, B), policy=policy)
    assert statuses(step(once.ledger, shows(A, B)))["a"] is X


def test_configured_revocation_of_the_last_key_is_reported_as_held() -> None:
    """Only `--last` empties the set; otherwise an event reports that the revocation is held."""
    outcome = step(ledger(record(A, P)), shows(A), policy=REVOKE_A)
    assert "revocation.held" in names(outcome)


def test_same_material_twice_is_revoked_under_both_kids() -> None:
    """Both records of the key are revoked by one revocation, if another key is public."""
    twin = replace(A, kid=Kid("twin"))
    policy = REVOKE_A
    outcome = step(ledger(record(A, P), record(twin, P), record(B, P)), shows(A, twin, B), policy=policy)
    assert statuses(outcome) == {"a": X, "twin": X, "b": P}
    assert len({r.revocation for r in outcome.ledger.records if r.status is X}) == 1


def test_twin_that_cannot_be_revoked_still_retires() -> None:
    """The last key stays public under the kid that is shown; the record with its other kid retires as usual."""
    twin = replace(A, kid=Kid("twin"))
    outcome = step(ledger(record(A, P), record(twin, P)), shows(A), policy=REVOKE_A)
    assert statuses(outcome) == {"a": P, "twin": R}
    assert "revocation.held" in names(outcome)


def test_suspect_key_is_held_whatever_the_policy() -> None:
    """A key that the fleet checks find suspicious is held under any policy."""
    outcome = step(ledger(record(B, P)), shows(A, B), suspects={A.thumbprint: "shared_prime"})
    assert outcome.ledger.records[0].held_because == "shared_prime"


@pytest.mark.parametrize("make", [rsa, ec], ids=["RSA", "EC"])
def test_hundred_and_first_key_of_a_kind_is_held(make: object) -> None:
    """AWS accepts 100 RSA and 100 EC keys (facts.md#34): keys over the limit wait for an operator."""
    assert callable(make)
    many = [make(f"k{i:03}") for i in range(AWS_KEYS_OF_A_TYPE)]
    before = ledger(*(record(key, P) for key in many))
    outcome = step(before, shows(*many, make("zzz")))
    assert statuses(outcome)["zzz"] is H
    assert outcome.ledger.records[-1].held_because == "too_many_keys"


def test_thirty_third_held_key_is_not_recorded() -> None:
    """The number of held keys is limited to 32; further ones are reported and not recorded."""
    outcome = step(ledger(), shows(*(rsa(f"k{i:02}") for i in range(MOST_HELD + 1))), policy=HOLD)
    assert len(outcome.ledger.records) == MOST_HELD
    assert "ledger.full" in names(outcome)


def test_retired_key_does_not_return_over_its_successor_of_the_same_kid() -> None:
    """After an approved replacement of a kid, the old key on a lagging replica does not come back."""
    old, new = rsa("old", "k"), rsa("new", "k")
    outcome = step(ledger(record(old, R), record(new, P)), shows(new), shows(old, apiserver="https://two"))
    assert {r.key.thumbprint: r.status for r in outcome.ledger.records} == {"t-old": R, "t-new": P}


# ------------------------------------------------------------------------------------------- every history

KEYS: list[Key] = [rsa("a"), rsa("b"), ec("c"), rsa("d", "a")]
observation = st.one_of(
    st.just(silent()),
    st.sets(st.sampled_from(KEYS[:3]), min_size=1).map(lambda keys: shows(*keys)),
    st.just(shows(KEYS[3])),
)
passes = st.lists(
    st.tuples(st.lists(observation, min_size=1, max_size=3), st.integers(0, 40), st.booleans()), max_size=12
)
policies = st.builds(
    KeyPolicy,
    new_keys=st.sampled_from(["publish", "hold"]),
    retain_removed=st.sampled_from([timedelta(0), timedelta(hours=5), DAY]),
    revoked=st.sets(st.sampled_from([key.thumbprint for key in KEYS]), max_size=1).map(frozenset),
)


@settings(max_examples=2 * settings().max_examples)
@given(passes, policies)
def test_contract_holds_in_every_history(history: list[tuple[list[Observation], int, bool]], policy: KeyPolicy) -> None:
    """For any answers: only shown keys become public, no key is removed early, and the set is never empty."""
    at, now = ledger(), NOW
    shown: set[Thumbprint] = set()
    for observations, hours, may_drop in history:
        now += timedelta(hours=hours)
        before = at
        outcome = step(before, *observations, policy=policy, now=now, may_drop=may_drop)
        at = outcome.ledger
        seen = {k.thumbprint for o in observations if isinstance(o, Observed) for k in o.keys}
        shown |= seen
        public = {key.thumbprint for key in at.public_keys()}
        was_public = {key.thumbprint for key in before.public_keys()}
        everyone = all(isinstance(o, Observed) for o in observations)
        assert public <= shown
        assert public or not was_public
        for gone in was_public - public - policy.revoked:
            start = next(r.missing_since for r in before.records if r.key.thumbprint == gone)
            assert everyone
            assert may_drop
            assert gone not in seen
            assert start is not None
            assert start + policy.retain_removed <= now
        assert at == step(at, *observations, policy=policy, now=now, may_drop=may_drop).ledger
        assert [key_id(r.key) for r in at.records] == sorted(key_id(r.key) for r in at.records)
        for old in before.records:
            new = next(r for r in at.records if key_id(r.key) == key_id(old.key))
            assert new.generation >= old.generation
            assert new.status is Status.REVOKED or old.status is not Status.REVOKED
