"""Many new keys are checked by several processes; a lost process costs time and nothing else."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import pytest

from mirror.model import Answer, IssuerName, Reason, RsaKey, Thumbprint, Unusable
from mirror.new_keys import sound_keys
from mirror.trust.jwks import thumbprint_of
from mirror.trust.parsing import encode
from support.keys import EC_KEYS, RSA_KEYS, jwks_body, thumbprints, with_kid

NOBODY: frozenset[Thumbprint] = frozenset()
NOW = datetime(2026, 11, 28, tzinfo=UTC)
A, B = IssuerName("a"), IssuerName("b")


def answer(*keys: RsaKey, body: bytes = b"") -> Answer:
    return Answer("https://10.0.0.1", b"{}", body or jwks_body(*keys, EC_KEYS[0]), NOW)


def weak_key(modulus: int = 2**2203 - 1) -> RsaKey:
    """A prime modulus."""
    n = encode(modulus.to_bytes(-(-modulus.bit_length() // 8)))
    return RsaKey(RSA_KEYS[0].kid, "RS256", n, "AQAB", thumbprint_of("RSA", n=n, e="AQAB"))


def test_good_keys_of_many_are_returned_by_issuer() -> None:
    """Two processes find what one would find: the sound keys that are new, of each issuer; weak ones stay out."""
    first, second, third = RSA_KEYS[:3]
    weak = with_kid(weak_key(), "weak")
    assert isinstance(weak, RsaKey)
    shown = {A: ((answer(first, weak), answer(second)), NOBODY), B: ((answer(first, third),), thumbprints(third))}
    assert sound_keys(shown, few=2, cores=2) == {A: thumbprints(first, second), B: thumbprints(first)}


def test_workers_need_no_gmpy2() -> None:
    """Without the extra `fleet` they compute with Python's integers, and find the same."""
    program = "import sys; sys.modules['gmpy2'] = None; from mirror.new_keys import main; main()"
    shown = {A: ((answer(*RSA_KEYS[:2], weak_key()),), NOBODY)}
    assert sound_keys(shown, few=1, command=(sys.executable, "-c", program), cores=2) == {A: thumbprints(*RSA_KEYS[:2])}


def test_few_keys_start_no_process() -> None:
    """Up to the limit no worker is asked, however often a key is shown: no key is known to be sound."""
    shown = {A: ((answer(*RSA_KEYS[:3]), answer(*RSA_KEYS[:3])), NOBODY)}
    assert sound_keys(shown, few=3, command=("/nonexistent",), cores=2) == {}


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("/nonexistent/program",), id="cannot start"),
        pytest.param((sys.executable, "-c", "raise SystemExit(1)"), id="fails"),
        pytest.param((sys.executable, "-c", "print('maybe')"), id="talks nonsense"),
        pytest.param((sys.executable, "-c", "pass"), id="says nothing"),
    ],
)
def test_lost_worker_accepts_no_key(command: Sequence[str]) -> None:
    """An unchecked key does not count as sound: the caller checks it then."""
    shown = {A: ((answer(*RSA_KEYS[:3]),), NOBODY)}
    assert sound_keys(shown, few=1, command=command, cores=2) == {A: NOBODY}


def test_results_before_a_worker_crash_count() -> None:
    """Verdicts belong to keys by their order; a missing verdict means unknown."""
    short = (sys.executable, "-c", "import sys; sys.stdin.read(); print('sound')")
    found = sound_keys({A: ((answer(*RSA_KEYS[:3]),), NOBODY)}, few=1, command=short, cores=1)
    assert len(found[A]) == 1


def test_what_is_no_key_set_is_passed_over() -> None:
    """Broken answers have no keys to check; the code that reads them reports the fault."""
    unusable = Unusable("https://10.0.0.2", (Reason("timeout", "Late.", "Wait."),))
    odd = b'{"keys":[1,{"kty":"RSA"},{"kty":"RSA","n":"!","e":"AQAB"},{"kty":"oct"}]}'
    bodies = [b"", b"[]", b'{"keys":{}}', odd]
    answers: list[Answer | Unusable] = [unusable, *(answer(body=body) for body in bodies), answer(*RSA_KEYS[:2])]
    assert sound_keys({A: (answers, NOBODY)}, few=1, cores=1) == {A: thumbprints(*RSA_KEYS[:2])}


def test_defect_of_one_issuer_leaves_the_others_checked() -> None:
    """What breaks our own reader costs that issuer this help, and no other anything."""
    broken = replace(answer(*RSA_KEYS[:2]), jwks=cast("bytes", None))
    shown = {A: ((broken,), NOBODY), B: ((answer(*RSA_KEYS[:2]),), NOBODY)}
    assert sound_keys(shown, few=1, cores=1) == {A: NOBODY, B: thumbprints(*RSA_KEYS[:2])}
