"""Adopting documents that another tool published: each key is validated separately."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from mirror.model import (
    KeyPolicy,
    Observation,
    Reason,
    Status,
    Unusable,
)
from mirror.trust.ledger import LedgerRead, read_ledger, write_ledger
from mirror.trust.lifecycle import PassContext, advance
from mirror.trust.operator_actions import Adoption, adopt
from support.keys import EC_KEYS, RSA_KEYS, jwks_body, with_kid
from support.lifecycles import ISSUER, NOW, shows

POLICY = KeyPolicy()
OPAQUE = KeyPolicy(kid="opaque")
A, B, C = RSA_KEYS[0], RSA_KEYS[1], EC_KEYS[0]
P, R, H, X = Status.PUBLISHED, Status.RETIRING, Status.HELD, Status.REVOKED


def silent() -> Unusable:
    return Unusable("https://two", (Reason("timeout", "It did not answer.", "Wait."),))


def given(*observations: Observation) -> PassContext:
    return PassContext(observations, len(observations), NOW)


def adopted(result: Adoption | Reason) -> dict[str, Status]:
    """The status by thumbprint. The ledger can be written and read again."""
    assert isinstance(result, Adoption)
    ledger = result.outcome.ledger
    known = frozenset(r.key.thumbprint for r in ledger.records)
    assert read_ledger(write_ledger(ledger), issuer=ISSUER, already_checked=known) == LedgerRead(ledger)
    assert {r.generation for r in ledger.records} == {1}
    assert {(t.key, t.status) for t in result.outcome.transitions} == {(r.key, r.status) for r in ledger.records}
    return {r.key.thumbprint: r.status for r in ledger.records}


def left_out(result: Adoption | Reason) -> list[str]:
    assert isinstance(result, Adoption)
    return [reason.code for reason in result.left_out]


def blocked(result: Adoption | Reason) -> list[str]:
    """The conditions that the event lists before a key may retire."""
    assert isinstance(result, Adoption)
    reported = [event.sentence for event in result.outcome.events if event.name == "retirement.blocked"]
    return [each.partition(" until ")[2].removeprefix("these answer: ").removesuffix(".") for each in reported]


def test_shown_keys_are_published_and_the_others_retire() -> None:
    """Keys that an apiserver shows are published; keys only in the public document begin to retire."""
    result = adopt(ISSUER, jwks_body(A, C), POLICY, given(shows(A, B)))
    assert adopted(result) == {A.thumbprint: P, B.thumbprint: P, C.thumbprint: R}
    assert left_out(result) == []
    assert isinstance(result, Adoption)
    assert {r.missing_since for r in result.outcome.ledger.records if r.status is R} == {NOW}


def test_next_pass_finds_nothing_to_do() -> None:
    """A pass with the same answers does not change the adopted ledger."""
    circumstances = given(shows(A))
    result = adopt(ISSUER, jwks_body(A, C), POLICY, circumstances)
    assert isinstance(result, Adoption)
    assert advance(result.outcome.ledger, POLICY, circumstances).ledger == result.outcome.ledger


def test_nothing_public_is_a_first_pass() -> None:
    """Without a public document, adopting is like a first pass: the shown keys are published."""
    assert adopted(adopt(ISSUER, None, POLICY, given(shows(A)))) == {A.thumbprint: P}


def test_policy_hold_is_answered_by_adopting() -> None:
    """Adopting approves the keys: those that an apiserver shows are published under any `new_keys`."""
    result = adopt(ISSUER, jwks_body(A), replace(POLICY, new_keys="hold"), given(shows(A, B)))
    assert adopted(result) == {A.thumbprint: P, B.thumbprint: P}


def test_two_shown_keys_of_one_kid_stay_held_but_for_the_public_one() -> None:
    """Replicas show different keys under one kid: the one that is public stays public, the other is held."""
    one, two = with_kid(A, "k"), with_kid(B, "k")
    replicas = given(shows(one), shows(two, apiserver="https://two"))
    assert adopted(adopt(ISSUER, jwks_body(one), OPAQUE, replicas)) == {A.thumbprint: P, B.thumbprint: H}
    assert adopted(adopt(ISSUER, jwks_body(one, two), OPAQUE, replicas)) == {A.thumbprint: H, B.thumbprint: H}
    assert adopted(adopt(ISSUER, None, OPAQUE, replicas)) == {A.thumbprint: H, B.thumbprint: H}


def test_public_key_retires_if_an_apiserver_reuses_its_kid() -> None:
    """The public key retires, as if an operator had approved its successor with the same kid."""
    result = adopt(ISSUER, jwks_body(with_kid(B, "k")), OPAQUE, given(shows(with_kid(A, "k"))))
    assert adopted(result) == {A.thumbprint: P, B.thumbprint: R}


def test_revoked_keys_stay_out() -> None:
    """A revoked key is not published, even if it is shown or public. If it is public, it is reported."""
    policy = replace(POLICY, revoked=frozenset({B.thumbprint, C.thumbprint}))
    result = adopt(ISSUER, jwks_body(A, B, C), policy, given(shows(A, B)))
    assert adopted(result) == {A.thumbprint: P, B.thumbprint: X}
    assert left_out(result) == ["key.revoked"]


PRIVATE = json.dumps({"keys": [A.members() | {"d": "AQAB"}, C.members()]}).encode()


@pytest.mark.parametrize(
    ("body", "policy", "codes"),
    [
        (b"<html>", POLICY, ["not_json"]),
        (b"[]", POLICY, ["not_object"]),
        (b"{}", POLICY, ["no_keys"]),
        (b'{"keys":{}}', POLICY, ["no_keys"]),
        (b'{"keys":[]}', POLICY, []),
        (jwks_body(*[C] * 201), POLICY, ["no_keys"]),
        (PRIVATE, POLICY, ["private_key"]),
        (b'{"keys":[7]}', POLICY, ["bad_key"]),
        (b'{"keys":[{"kty":["RSA"]}]}', POLICY, ["bad_key"]),
        (b'{"keys":[{"kty":"AKP"}]}', POLICY, ["bad_key"]),
        (jwks_body(with_kid(C, "not its kid")), POLICY, ["wrong_kid"]),
        (jwks_body(with_kid(B, "k"), with_kid(C, "k")), OPAQUE, ["duplicate_kid", "duplicate_kid"]),
    ],
    ids=[
        "no JSON",
        "no object",
        "no keys",
        "keys no array",
        "no key",
        "too many",
        "private members",
        "a number",
        "kty a list",
        "unknown type",
        "wrong kid",
        "one kid twice",
    ],
)
def test_unacceptable_keys_are_listed_and_left_out(body: bytes, policy: KeyPolicy, codes: list[str]) -> None:
    """Such keys of the public document are left out, and each is reported with its place."""
    result = adopt(ISSUER, body, policy, given(shows(A)))
    assert adopted(result) == {A.thumbprint: P}
    assert left_out(result) == codes
    assert isinstance(result, Adoption)
    assert all(reason.where.startswith("public jwks") for reason in result.left_out)


def test_bad_key_does_not_take_the_good_ones_with_it() -> None:
    """Unlike an apiserver's answer, the public document is validated key by key, so the good keys are adopted."""
    body = json.dumps({"keys": [{"kty": "oct"}, C.members(), C.members()]}).encode()
    result = adopt(ISSUER, body, POLICY, given(shows(A)))
    assert adopted(result) == {A.thumbprint: P, C.thumbprint: R}
    assert left_out(result) == ["bad_key"]


def test_limits_of_a_pass_hold_for_shown_keys() -> None:
    """The limits of a pass apply: over 100 keys of a type the next 32 are held, and further ones are only reported."""
    many = tuple(with_kid(A, f"kid {i:03}") for i in range(200))
    result = adopt(ISSUER, None, OPAQUE, given(shows(*many)))
    assert isinstance(result, Adoption)
    assert len(result.outcome.ledger.records) == 100 + 32
    assert {event.name for event in result.outcome.events} == {"ledger.full"}


@pytest.mark.parametrize(
    ("observations", "reported"),
    [
        ((shows(A), silent()), "https://two"),
        ((shows(A, date=NOW - timedelta(hours=1)),), "this machine's clock is right"),
    ],
    ids=["a replica is silent", "the clock is wrong"],
)
def test_no_key_retires_without_an_answer(observations: tuple[Observation, ...], reported: str) -> None:
    """A replica that did not answer may still have the public key, so it stays published."""
    result = adopt(ISSUER, jwks_body(A, C), POLICY, given(*observations))
    assert adopted(result) == {A.thumbprint: P, C.thumbprint: P}
    assert blocked(result) == [reported]
    assert blocked(adopt(ISSUER, jwks_body(A), POLICY, given(*observations))) == []


def test_next_whole_pass_begins_the_retirement() -> None:
    """The retirement begins in the next pass in which all replicas answer."""
    result = adopt(ISSUER, jwks_body(A, C), POLICY, given(shows(A), silent()))
    assert isinstance(result, Adoption)
    later = advance(result.outcome.ledger, POLICY, given(shows(A)))
    assert [(t.key, t.status) for t in later.transitions] == [(C, R)]


def test_too_few_answers_begin_no_retirement() -> None:
    """With fewer answers than `expect_replicas`, no retirement begins, as in a pass."""
    result = adopt(ISSUER, jwks_body(A, C), POLICY, PassContext((shows(A),), 3, NOW))
    assert adopted(result) == {A.thumbprint: P, C.thumbprint: P}
    assert blocked(result) == ["2 replicas not found"]


def test_nothing_is_adopted_when_no_apiserver_answers() -> None:
    """The public document alone is not a trusted source."""
    result = adopt(ISSUER, jwks_body(A), POLICY, given(silent()))
    assert isinstance(result, Reason)
    assert result.code == "adopt.nothing_shown"
