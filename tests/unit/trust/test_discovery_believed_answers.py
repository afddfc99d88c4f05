"""An answer that the last pass accepted is validated again if any input of the validation changed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from mirror.model import Answer, Documents, IssuerUrl, KeyPolicy, Kid, Observed, RsaKey, Thumbprint, Unusable
from mirror.trust.discovery import MAX_REMEMBERED_BYTES, BelievedAnswers, documents, observe
from mirror.trust.jwks import kubernetes_kid, thumbprint_of
from mirror.trust.parsing import encode
from support.keys import RSA_KEYS

ISSUER = IssuerUrl("https://oidc.example.com/one")
POLICY = KeyPolicy()
NOW = datetime(2026, 11, 29, tzinfo=UTC)


def _weak_key() -> RsaKey:
    """A key whose modulus is a multiple of three: it is accepted only while our own ledger has it."""
    n = encode((3 * (2**2047 // 3 + 1)).to_bytes(256))
    key = RsaKey(Kid(""), "RS256", n, "AQAB", Thumbprint(thumbprint_of("RSA", n=n, e="AQAB")))
    return replace(key, kid=kubernetes_kid(key))


WEAK = _weak_key()


@dataclass(frozen=True)
class Question:
    """All inputs of a validation."""

    answer: Answer
    issuer: IssuerUrl = ISSUER
    policy: KeyPolicy = POLICY
    already_checked: frozenset[Thumbprint] = frozenset({WEAK.thumbprint})

    def ask(self, believed: BelievedAnswers) -> Observed | Unusable:
        return believed.observe(
            self.answer, issuer=self.issuer, policy=self.policy, already_checked=self.already_checked
        )

    def fresh(self) -> Observed | Unusable:
        return observe(self.answer, issuer=self.issuer, policy=self.policy, already_checked=self.already_checked)

    def is_known(self, believed: BelievedAnswers) -> bool:
        return believed.knows(self.answer, issuer=self.issuer, policy=self.policy, already_checked=self.already_checked)


def answer(both: Documents) -> Answer:
    return Answer("https://10.0.0.1:6443", both.discovery, both.jwks, NOW, NOW + timedelta(days=60))


GOOD = Question(answer(documents(ISSUER, (RSA_KEYS[0], WEAK))))
OTHER_KEY = documents(ISSUER, (RSA_KEYS[1], WEAK))
OTHER_ISSUER = IssuerUrl("https://oidc.example.com/two")

CHANGES: dict[str, Callable[[], Question]] = {
    "another JWKS": lambda: replace(GOOD, answer=replace(GOOD.answer, jwks=OTHER_KEY.jwks)),
    "a byte more in the JWKS": lambda: replace(GOOD, answer=replace(GOOD.answer, jwks=GOOD.answer.jwks + b"\n")),
    "a JWKS cut short": lambda: replace(GOOD, answer=replace(GOOD.answer, jwks=GOOD.answer.jwks[:-1])),
    "another discovery document": lambda: replace(
        GOOD, answer=replace(GOOD.answer, discovery=documents(OTHER_ISSUER, (WEAK,)).discovery)
    ),
    "another configured issuer": lambda: replace(GOOD, issuer=OTHER_ISSUER),
    "another rule for the kid": lambda: replace(GOOD, policy=KeyPolicy(kid="opaque")),
    "another rule for unknown keys": lambda: replace(GOOD, policy=KeyPolicy(unknown_keys="refuse")),
    "another rule for new keys": lambda: replace(GOOD, policy=KeyPolicy(new_keys="hold")),
    "a key revoked in the configuration": lambda: replace(
        GOOD, policy=KeyPolicy(revoked=frozenset({RSA_KEYS[0].thumbprint}))
    ),
    "a weak key that left our ledger": lambda: replace(GOOD, already_checked=frozenset()),
    "a key that came into our ledger": lambda: replace(
        GOOD, already_checked=GOOD.already_checked | {RSA_KEYS[0].thumbprint}
    ),
}


def test_same_bytes_under_the_same_rules_are_not_judged_again() -> None:
    """This holds also if the bytes are other Python objects, or come from another apiserver."""
    believed = BelievedAnswers()
    first = GOOD.ask(believed)
    assert first == GOOD.fresh()
    assert isinstance(first, Observed)
    for _ in range(3):
        believed.begin_pass()
        again = replace(
            GOOD,
            answer=replace(GOOD.answer, apiserver="https://10.0.0.2:6443", jwks=bytes(bytearray(GOOD.answer.jwks))),
            already_checked=frozenset(list(GOOD.already_checked)),
        )
        assert again.is_known(believed)
        found = again.ask(believed)
        assert isinstance(found, Observed)
        assert found == again.fresh()
        assert found.keys is first.keys


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_changed_inputs_are_validated_again(change: Callable[[], Question]) -> None:
    """After a change and back, an earlier answer with the same inputs is still accepted."""
    believed = BelievedAnswers()
    first = GOOD.ask(believed)
    believed.begin_pass()
    changed = change()
    assert not changed.is_known(believed)
    assert changed.ask(believed) == changed.fresh()
    again = GOOD.ask(believed)
    assert isinstance(first, Observed)
    assert isinstance(again, Observed)
    assert again.keys is first.keys


@pytest.mark.parametrize("case", ["a JWKS cut short", "another configured issuer", "a weak key that left our ledger"])
def test_refusal_after_a_change_wins_over_the_cache(case: str) -> None:
    """A changed input can also turn an accepted answer into a rejected one, with every reason."""
    believed = BelievedAnswers()
    GOOD.ask(believed)
    for _ in range(2):
        believed.begin_pass()
        assert isinstance(CHANGES[case]().ask(believed), Unusable)
        assert not CHANGES[case]().is_known(believed)


def test_times_are_those_of_each_answer() -> None:
    """Clock and certificate are those of the current answer, not of a cached one."""
    believed = BelievedAnswers()
    GOOD.ask(believed)
    later = replace(GOOD.answer, date=NOW + timedelta(minutes=1), certificate_expires_at=NOW + timedelta(days=90))
    for timed in (later, replace(later, date=None, certificate_expires_at=None)):
        found = replace(GOOD, answer=timed).ask(believed)
        assert isinstance(found, Observed)
        assert (found.date, found.certificate_expires_at) == (timed.date, timed.certificate_expires_at)


def test_what_the_last_pass_did_not_see_is_forgotten() -> None:
    """An issuer that one pass skipped has no entry afterwards, so the cache does not grow over months."""
    believed = BelievedAnswers()
    GOOD.ask(believed)
    believed.begin_pass()
    assert GOOD.is_known(believed)
    believed.begin_pass()
    assert not GOOD.is_known(believed)


def test_large_answers_are_judged_in_each_pass() -> None:
    """Documents of a megabyte are not cached, so they cannot fill the memory."""
    believed = BelievedAnswers()
    large = replace(GOOD, answer=replace(GOOD.answer, jwks=GOOD.answer.jwks + b" " * MAX_REMEMBERED_BYTES))
    assert isinstance(large.ask(believed), Observed)
    assert not large.is_known(believed)


def test_another_process_begins_with_nothing() -> None:
    """The cache is kept only in memory."""
    GOOD.ask(BelievedAnswers())
    assert not GOOD.is_known(BelievedAnswers())
