"""Weak keys are detected, and sound keys pass.

Checks across all issuers: shared keys are reported, shared primes are found, and no issuer can block another's key.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations
from math import gcd, prod
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric import rsa as rsa_material
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.model import IssuerName, Key, Kid, Level, RsaKey, Thumbprint
from mirror.trust.jwks import CURVES
from mirror.trust.parsing import decode_uint, encode
from mirror.trust.weak_keys import (
    FACTORING_CHECKS,
    FEW_KEYS,
    MOST_NAMES,
    PRIMALITY_CHECKS,
    SHAPE_CHECKS,
    SMALL_MULTIPLES,
    _factoring_failures,
    checking_cost,
    is_small_multiple,
    keys_sharing_primes,
    keys_used_twice,
    shared_prime_pairs,
    weaknesses,
)
from support.keys import EC_KEYS, RSA_KEYS, with_kid


def sieve(limit: int) -> list[int]:
    marks = bytearray([1]) * limit
    for number in range(2, int(limit**0.5) + 1):
        marks[number * number :: number] = bytes(len(marks[number * number :: number]))
    return [number for number in range(2, limit) if marks[number]]


WEAK_PRIMES = sieve(2**16)
SOUND = decode_uint(RSA_KEYS[0].n) or 0


@cache
def small_factors() -> int:
    """The product of all primes below 2^20."""
    primes = sieve(2**20)
    return prod(prod(primes[at::300]) for at in range(300))


@cache
def rough(start: int) -> int:
    """The next number from `start` on that has no prime factor below 2^20."""
    while gcd(start, small_factors()) != 1:
        start += 1
    return start


PRIME = 2**2048 - 1942289
"""A safe prime of 2048 bits."""
ROCA_PRIMORIAL = prod(prime for prime in WEAK_PRIMES if prime <= 167)
ROCA_LIKE = ROCA_PRIMORIAL * (2**2047 // ROCA_PRIMORIAL + 7) + pow(65537, 12345, ROCA_PRIMORIAL)
ORDERS = {
    "P-256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "P-384": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    "P-521": int(f"1{'F' * 65}A51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409", 16),
}
"""The order of each curve (SEC 2, sections 2.4.2, 2.5.1 and 2.6.1)."""


def names(n: int, e: int = 65537, *, checked_before: bool = False) -> list[str]:
    """The names of the failed checks; they are the same with Python's integers and with gmpy2's."""
    found = weaknesses(n, e, checked_before=checked_before)
    _factoring_failures.cache_clear()  # else the second call would be answered from the cache
    assert weaknesses(mpz(n), e, checked_before=checked_before) == found
    return [check.name for check in found]


@pytest.mark.parametrize("key", RSA_KEYS, ids=[key.kid[:8] for key in RSA_KEYS])
def test_sound_keys_pass(key: RsaKey) -> None:
    """Real keys of 2048 to 4096 bits fail no check."""
    assert names(decode_uint(key.n) or 0) == []


@pytest.mark.parametrize(
    ("n", "e", "expected"),
    [
        pytest.param(0, 65537, ["size", "even"], id="zero"),
        pytest.param(2**2046 + 1, 65537, ["size"], id="2047 bits"),
        pytest.param(2**8192 + 1, 65537, ["size"], id="8193 bits"),
        pytest.param(SOUND - 1, 65537, ["even"], id="even modulus"),
        pytest.param(SOUND, 1, ["exponent"], id="exponent 1"),
        pytest.param(SOUND, 3, ["exponent"], id="exponent 3"),
        pytest.param(SOUND, 65535, ["exponent"], id="exponent just below"),
        pytest.param(SOUND, 65538, ["exponent"], id="even exponent"),
        pytest.param(SOUND, 2**32 + 1, ["exponent"], id="exponent too big"),
        pytest.param(SOUND, 2**32 - 1, [], id="biggest exponent"),
        pytest.param(3**1293, 65537, ["small_factor", "perfect_power"], id="power of three"),
        pytest.param(lambda: 65521 * rough(2**2040), 65537, ["small_factor"], id="factor just below 2^16"),
        pytest.param(lambda: 65537 * rough(2**2040), 65537, ["small_factor"], id="factor of 17 bits"),
        pytest.param(lambda: 1048573 * rough(2**2040), 65537, ["small_factor"], id="factor just below 2^20"),
        pytest.param(lambda: 1048583 * rough(2**2040), 65537, [], id="factor just above 2^20"),
        pytest.param(2**2203 - 1, 65537, ["prime"], id="a Mersenne prime"),
        pytest.param(PRIME, 65537, ["prime"], id="prime of 2048 bits"),
        pytest.param(lambda: rough(2**1030) ** 2, 65537, ["perfect_power", "close_primes"], id="square"),
        pytest.param(lambda: rough(2**700) ** 3, 65537, ["perfect_power"], id="cube"),
        pytest.param(lambda: rough(2**22) ** 97, 65537, ["perfect_power"], id="high power"),
        pytest.param(
            lambda: rough(2**1024 + 2**900) * rough(2**1024 + 2**900 + 2**100),
            65537,
            ["close_primes"],
            id="close factors",
        ),
    ],
)
def test_weak_keys_are_detected(n: int | Callable[[], int], e: int, expected: list[str]) -> None:
    """Each weakness is found by its own check; expensive checks do not run on a key of the wrong size."""
    assert names(n() if callable(n) else n, e) == expected


def test_roca_fingerprint_is_detected() -> None:
    """A modulus whose residues are all powers of 65537 is reported."""
    assert ROCA_LIKE.bit_length() == 2048
    assert "roca" in names(ROCA_LIKE)


def test_key_that_was_checked_before_is_checked_for_shape_only() -> None:
    """Only the cheap checks are repeated for a known key."""
    assert names(3**1293, checked_before=True) == []
    assert names(SOUND, 3, checked_before=True) == ["exponent"]


def test_every_check_has_a_source() -> None:
    """Each check has a unique name and cites its source."""
    rows = SHAPE_CHECKS + FACTORING_CHECKS + PRIMALITY_CHECKS
    assert len({row.name for row in rows}) == len(rows)
    assert all(("fact" in row.citation or "RFC" in row.citation) and row.member in {"n", "e"} for row in rows)


def test_signature_of_a_prime_modulus_can_be_forged() -> None:
    """Why a prime modulus is rejected: the private exponent follows from it, and cryptography accepts the signature."""
    d = pow(65537, -1, PRIME - 1)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"forged")
    info = bytes.fromhex("3031300d060960864801650304020105000420") + digest.finalize()
    padded = b"\x00\x01" + b"\xff" * (256 - 3 - len(info)) + b"\x00" + info
    signature = pow(int.from_bytes(padded), d, PRIME).to_bytes(256)
    public = rsa_material.RSAPublicNumbers(65537, PRIME).public_key()
    public.verify(signature, b"forged", padding.PKCS1v15(), hashes.SHA256())
    assert names(PRIME) == ["prime"]


@pytest.mark.parametrize("crv", CURVES)
@pytest.mark.parametrize("sign", [1, -1], ids=["positive", "negative"])
@pytest.mark.parametrize("scalar", [1, 2, 15, 16])
def test_small_private_key_is_detected(crv: str, sign: int, scalar: int) -> None:
    """The public keys of the private keys 1 to 16, and of their negatives, are rejected on every curve."""
    numbers = ec.derive_private_key(scalar, CURVES[crv]).public_key().public_numbers()
    if sign < 0:
        negative = ec.derive_private_key(ORDERS[crv] - scalar, CURVES[crv]).public_key().public_numbers()
        assert (negative.x, negative.y) != (numbers.x, numbers.y)
        numbers = negative
    assert is_small_multiple(CURVES[crv], numbers.x)


@pytest.mark.parametrize("crv", CURVES)
def test_other_private_key_is_no_small_one(crv: str) -> None:
    """The public key of private key 17 passes, and so do real ones."""
    beyond = ec.derive_private_key(SMALL_MULTIPLES + 1, CURVES[crv]).public_key().public_numbers()
    assert not is_small_multiple(CURVES[crv], beyond.x)
    assert not any(is_small_multiple(CURVES[key.crv], decode_uint(key.x) or 0) for key in EC_KEYS)


@pytest.mark.parametrize(("bits", "cost"), [(1024, 1), (2048, 8), (4096, 64), (8192, 512)])
def test_cost_of_checking_grows_with_the_cube_of_the_size(bits: int, cost: int) -> None:
    """These faults are reported before any costly computation."""
    assert checking_cost(2**bits - 1) == cost


@given(st.integers(2**16, 2**40), st.sampled_from(WEAK_PRIMES[1:30]))
def test_every_odd_power_is_found(base: int, exponent: int) -> None:
    """Every power of an odd number above 2^16 is detected."""
    power = next(check for check in FACTORING_CHECKS if check.name == "perfect_power")
    assert power.is_weak((base | 1) ** exponent, 65537)


@given(st.integers(2**20, 2**64).map(lambda number: number | 1))
def test_only_powers_are_detected(number: int) -> None:
    """Every number that the fast test reports is a perfect power."""
    power = next(check for check in FACTORING_CHECKS if check.name == "perfect_power")
    roots = ((round(number ** (1 / k)) + near, k) for k in range(2, 65) for near in (-1, 0, 1))
    assert not power.is_weak(number, 65537) or any(root**k == number for root, k in roots)


PRIMES = [n for n in range(3, 4000) if all(n % d for d in range(2, int(n**0.5) + 1))]
P, Q, R, S = PRIMES[-4:]


def rsa(n: int, e: str = "AQAB") -> RsaKey:
    text = encode(n.to_bytes((n.bit_length() + 7) // 8))
    return RsaKey(Kid(f"k-{n}"), "RS256", text, e, Thumbprint(f"t-{n}-{e}"))


def name(text: str) -> IssuerName:
    return IssuerName(text)


# ------------------------------------------------------------------------------------------------ shared keys


def test_key_of_two_issuers_is_reported_at_both() -> None:
    """Both issuers get a warning with the key and the other issuer; an issuer with other keys gets none."""
    a, b, c = RSA_KEYS[:3]
    found = keys_used_twice({name("perth"): (a, b), name("sydney"): (a,), name("hobart"): (c,)})
    assert set(found) == {"perth", "sydney"}
    for events in found.values():
        (event,) = events
        assert (event.name, event.level) == ("key.shared", Level.WARNING)
        assert event.fields == {"kid": a.kid, "thumbprint": a.thumbprint}
        assert all(word in event.sentence for word in ("perth", "sydney", a.kid))


def test_shared_key_is_detected_by_its_material() -> None:
    """A shared key is found although the kids differ; each issuer's event has its own kid."""
    other_name = with_kid(EC_KEYS[0], "other")
    found = keys_used_twice({name("perth"): (EC_KEYS[0],), name("sydney"): (other_name,)})
    assert [found[name(n)][0].fields["kid"] for n in ("perth", "sydney")] == [EC_KEYS[0].kid, "other"]


def test_replicas_of_one_issuer_share_no_key() -> None:
    """The same key twice at one issuer, under one kid or two, is not reported."""
    a = RSA_KEYS[0]
    assert keys_used_twice({name("perth"): (a, a, with_kid(a, "twin"))}) == {}


@pytest.mark.parametrize(
    ("count", "more"), [(MOST_NAMES + 1, ""), (MOST_NAMES + 3, " and 2 more")], ids=["all_named", "rest_counted"]
)
def test_sentence_of_a_key_that_many_share_stays_short(count: int, more: str) -> None:
    """At most five other issuers are named; the others are counted."""
    found = keys_used_twice({name(f"c{i:02}"): (RSA_KEYS[0],) for i in range(count)})
    sentence = found[name("c00")][0].sentence
    assert f"c01, c02, c03, c04, c05{more}:" in sentence
    assert len(found) == count


def test_two_shared_keys_are_two_events() -> None:
    """Every shared key is reported, in a fixed order."""
    shown = {name(n): RSA_KEYS[:2] for n in ("sydney", "perth")}
    reported = [event.fields["thumbprint"] for event in keys_used_twice(shown)[name("perth")]]
    assert reported == sorted(key.thumbprint for key in RSA_KEYS[:2])


# --------------------------------------------------------------------------------------------------- suspects


@pytest.mark.parametrize(
    ("new", "known", "held"),
    [
        ([P * Q], [], []),
        ([P * Q], [R * S], []),
        ([P * Q], [P * R], [P * Q]),
        ([P * Q], [Q * R, R * S], [P * Q]),
        ([P * Q * R], [P * Q], [P * Q * R]),
        ([P * Q], [P * Q * R], []),
        ([P * Q], [P * Q * R, Q * S], [P * Q]),
        ([P * Q], [P * R, Q * S], [P * Q]),
        ([P * Q], [P * Q], []),
        ([P * Q, P * R], [], [P * Q, P * R]),
        ([P * Q, R * S], [P * PRIMES[0]], [P * Q]),
    ],
    ids=[
        "nothing_known",
        "nothing_in_common",
        "first_prime",
        "second_prime",
        "multiple_of_a_known_one",
        "known_multiple_of_it",
        "known_multiple_of_it_and_a_true_one",
        "both_primes_from_two",
        "equal_moduli",
        "two_new_ones",
        "only_the_guilty_one",
    ],
)
def test_suspects(new: list[int], known: list[int], held: list[int]) -> None:
    """A new modulus that shares a factor with another one is held; a modulus with a published multiple is not."""
    found = keys_sharing_primes(map(rsa, new), map(rsa, known))
    assert found == {rsa(n).thumbprint: "shared_prime" for n in held}


def test_every_name_of_a_suspect_modulus_is_held() -> None:
    """One modulus with two exponents has two thumbprints, and both are held."""
    found = keys_sharing_primes([rsa(P * Q), rsa(P * Q, "Aw")], [rsa(P * R)])
    assert set(found) == {rsa(P * Q).thumbprint, rsa(P * Q, "Aw").thumbprint}


def test_elliptic_keys_are_no_suspects() -> None:
    """EC keys have no primes, so they are never held for a shared prime."""
    assert keys_sharing_primes(EC_KEYS, RSA_KEYS) == {}
    assert keys_sharing_primes(RSA_KEYS[:1], EC_KEYS) == {}


def test_sound_keys_are_no_suspects() -> None:
    """Real keys share no primes with each other."""
    assert keys_sharing_primes(RSA_KEYS, RSA_KEYS) == {}
    assert shared_prime_pairs(RSA_KEYS) == ()


def test_many_new_keys_are_sieved_to_the_same_answer() -> None:
    """With more than 200 new keys a batch check runs first; the result is the same."""
    primes = PRIMES[: 2 * (FEW_KEYS + 1)]
    sound = [p * q for p, q in zip(primes[::2], primes[1::2], strict=True)]
    multiple_elsewhere, guilty = sound[0], sound[1]
    known = [rsa(multiple_elsewhere * S), rsa(primes[2] * R)]
    assert len(sound) > FEW_KEYS
    assert keys_sharing_primes(map(rsa, sound), known) == {rsa(guilty).thumbprint: "shared_prime"}
    assert keys_sharing_primes(map(rsa, sound), []) == {}


moduli = st.lists(st.sampled_from(PRIMES[:12]), min_size=2, max_size=3, unique=True).map(lambda ps: rsa(_product(ps)))


def _product(numbers: Sequence[int]) -> int:
    found = 1
    for number in numbers:
        found *= number
    return found


def number_of(key: Key) -> int:
    assert isinstance(key, RsaKey)
    n = decode_uint(key.n)
    assert n is not None
    return n


@settings(deadline=None)
@given(st.lists(moduli, max_size=6), st.lists(moduli, max_size=6))
def test_suspects_are_what_the_definition_says(new: list[Key], known: list[Key]) -> None:
    """A new modulus is held if it shares a factor with another modulus that is not a multiple of it."""
    everything = [number_of(key) for key in (*new, *known)]

    def is_weak(n: int) -> bool:
        return any(gcd(n, m) > 1 and m % n != 0 for m in everything)

    assert set(keys_sharing_primes(new, known)) == {key.thumbprint for key in new if is_weak(number_of(key))}


@settings(deadline=None)
@given(st.lists(moduli, max_size=14))
@pytest.mark.parametrize("number", [None, int], ids=["Decimal", "int"])
def test_weak_pairs_are_what_gcd_says(number: Callable[[int], Any] | None, keys: list[Key]) -> None:
    """The batch finds the same pairs as single calls of gcd, with any integer type."""
    unique = {key.thumbprint: key for key in keys}.values()
    expected = {
        (min(a.thumbprint, b.thumbprint), max(a.thumbprint, b.thumbprint))
        for a, b in combinations(unique, 2)
        if gcd(number_of(a), number_of(b)) > 1
    }
    found = shared_prime_pairs(keys) if number is None else shared_prime_pairs(keys, number=number)
    assert found == tuple(sorted(expected))


def test_without_rsa_keys_there_is_no_weak_pair() -> None:
    """An empty set and a set of only EC keys have no prime in common."""
    assert shared_prime_pairs(()) == ()
    assert shared_prime_pairs(EC_KEYS) == ()


def test_weak_pairs_of_real_size() -> None:
    """Among sound keys of 2048 bits and more, the two that share a prime of 1024 bits are found, and only they."""
    prime, other, third = (2**1024 - 105, 2**1279 - 1, 2**1023 + 1155)
    weak = rsa(prime * other), rsa(prime * third)
    pair = tuple(sorted(key.thumbprint for key in weak))
    assert shared_prime_pairs((*RSA_KEYS, *EC_KEYS, *weak)) == (pair,)
