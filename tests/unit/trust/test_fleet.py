"""Checks across all issuers: shared keys are told, shared primes found, and nobody can accuse another's key."""

from collections.abc import Callable, Sequence
from itertools import combinations
from math import gcd
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.model import IssuerName, Key, Kid, Level, RsaKey, Thumbprint
from mirror.trust.base64url import decode_uint, encode
from mirror.trust.fleet import FEW_KEYS, MOST_NAMES, shared_keys, suspects, weak_pairs
from support.keys import EC_KEYS, RSA_KEYS, with_kid

PRIMES = [n for n in range(3, 4000) if all(n % d for d in range(2, int(n**0.5) + 1))]
P, Q, R, S = PRIMES[-4:]


def rsa(n: int, e: str = "AQAB") -> RsaKey:
    text = encode(n.to_bytes((n.bit_length() + 7) // 8))
    return RsaKey(Kid(f"k-{n}"), "RS256", text, e, Thumbprint(f"t-{n}-{e}"))


def name(text: str) -> IssuerName:
    return IssuerName(text)


# ------------------------------------------------------------------------------------------------ shared keys


def test_key_of_two_issuers_is_told_at_both() -> None:
    """Each of the two gets a warning that names the key and both issuers; the one that shows others gets none."""
    a, b, c = RSA_KEYS[:3]
    found = shared_keys({name("perth"): (a, b), name("sydney"): (a,), name("hobart"): (c,)})
    assert set(found) == {"perth", "sydney"}
    for events in found.values():
        (event,) = events
        assert (event.name, event.level) == ("key.shared", Level.WARNING)
        assert event.fields == {"kid": a.kid, "thumbprint": a.thumbprint}
        assert all(word in event.sentence for word in ("perth", "sydney", a.thumbprint))


def test_shared_key_is_told_by_its_material() -> None:
    """Another kid makes no other key; each issuer is told the kid that it shows itself."""
    other_name = with_kid(EC_KEYS[0], "other")
    found = shared_keys({name("perth"): (EC_KEYS[0],), name("sydney"): (other_name,)})
    assert [found[name(n)][0].fields["kid"] for n in ("perth", "sydney")] == [EC_KEYS[0].kid, "other"]


def test_replicas_of_one_issuer_share_no_key() -> None:
    """The same key twice at one issuer, under one kid or two, is its own affair."""
    a = RSA_KEYS[0]
    assert shared_keys({name("perth"): (a, a, with_kid(a, "twin"))}) == {}


@pytest.mark.parametrize(
    ("count", "more"), [(MOST_NAMES + 1, ""), (MOST_NAMES + 3, " and 2 more")], ids=["all_named", "rest_counted"]
)
def test_sentence_of_a_key_that_many_share_stays_short(count: int, more: str) -> None:
    """At most five other issuers are named; the rest is a number."""
    found = shared_keys({name(f"c{i:02}"): (RSA_KEYS[0],) for i in range(count)})
    sentence = found[name("c00")][0].sentence
    assert f"c01, c02, c03, c04, c05{more}:" in sentence
    assert len(found) == count


def test_two_shared_keys_are_two_events() -> None:
    """Every shared key is told, in a fixed order."""
    shown = {name(n): RSA_KEYS[:2] for n in ("sydney", "perth")}
    told = [event.fields["thumbprint"] for event in shared_keys(shown)[name("perth")]]
    assert told == sorted(key.thumbprint for key in RSA_KEYS[:2])


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
    """A new modulus with a factor of another one is held; one whose multiple somebody shows is not."""
    found = suspects(map(rsa, new), map(rsa, known))
    assert found == {rsa(n).thumbprint: "shared_prime" for n in held}


def test_every_name_of_a_suspect_modulus_is_held() -> None:
    """One modulus under two exponents is two thumbprints, and both are held."""
    found = suspects([rsa(P * Q), rsa(P * Q, "Aw")], [rsa(P * R)])
    assert set(found) == {rsa(P * Q).thumbprint, rsa(P * Q, "Aw").thumbprint}


def test_elliptic_keys_are_no_suspects() -> None:
    """Only RSA keys have primes to share."""
    assert suspects(EC_KEYS, RSA_KEYS) == {}
    assert suspects(RSA_KEYS[:1], EC_KEYS) == {}


def test_sound_keys_are_no_suspects() -> None:
    """Real keys, compared with each other, share nothing."""
    assert suspects(RSA_KEYS, RSA_KEYS) == {}
    assert weak_pairs(RSA_KEYS) == ()


def test_many_new_keys_are_sieved_to_the_same_answer() -> None:
    """Above 200 new keys the batch decides first, and the exact rule has the last word."""
    primes = PRIMES[: 2 * (FEW_KEYS + 1)]
    sound = [p * q for p, q in zip(primes[::2], primes[1::2], strict=True)]
    multiple_elsewhere, guilty = sound[0], sound[1]
    known = [rsa(multiple_elsewhere * S), rsa(primes[2] * R)]
    assert len(sound) > FEW_KEYS
    assert suspects(map(rsa, sound), known) == {rsa(guilty).thumbprint: "shared_prime"}
    assert suspects(map(rsa, sound), []) == {}


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
    """Exactly the new moduli that have a factor in common with another one that is no multiple of them."""
    everything = [number_of(key) for key in (*new, *known)]

    def is_weak(n: int) -> bool:
        return any(gcd(n, m) > 1 and m % n != 0 for m in everything)

    assert set(suspects(new, known)) == {key.thumbprint for key in new if is_weak(number_of(key))}


@settings(deadline=None)
@given(st.lists(moduli, max_size=14))
@pytest.mark.parametrize("number", [None, int], ids=["Decimal", "int"])
def test_weak_pairs_are_what_gcd_says(number: Callable[[int], Any] | None, keys: list[Key]) -> None:
    """Whatever numbers it calculates with, the batch finds exactly the pairs that gcd finds one by one."""
    unique = {key.thumbprint: key for key in keys}.values()
    expected = {
        (min(a.thumbprint, b.thumbprint), max(a.thumbprint, b.thumbprint))
        for a, b in combinations(unique, 2)
        if gcd(number_of(a), number_of(b)) > 1
    }
    found = weak_pairs(keys) if number is None else weak_pairs(keys, number=number)
    assert found == tuple(sorted(expected))


def test_weak_pairs_of_real_size() -> None:
    """Among sound keys of 2048 bits and more, the two that share a prime of 1024 bits are found, and only they."""
    prime, other, third = (2**1024 - 105, 2**1279 - 1, 2**1023 + 1155)
    weak = rsa(prime * other), rsa(prime * third)
    pair = tuple(sorted(key.thumbprint for key in weak))
    assert weak_pairs((*RSA_KEYS, *EC_KEYS, *weak)) == (pair,)
