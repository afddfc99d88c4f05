"""Weak RSA keys are told apart from sound ones."""

from math import gcd, prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.model import RsaKey
from mirror.trust.base64url import decode_uint
from mirror.trust.strength import FACTORING_CHECKS, SHAPE_CHECKS, weaknesses
from support.keys import RSA_KEYS

PRIMES = [n for n in range(2, 2**16) if all(n % d for d in range(2, int(n**0.5) + 1))]
SMALL_FACTORS = prod(PRIMES)
SOUND = decode_uint(RSA_KEYS[0].n) or 0


def rough(start: int) -> int:
    """The next number from `start` on that has no prime factor below 2^16."""
    while gcd(start, SMALL_FACTORS) != 1:
        start += 1
    return start


ROCA_PRIMORIAL = prod(prime for prime in PRIMES if prime <= 167)
ROCA_LIKE = ROCA_PRIMORIAL * (2**2047 // ROCA_PRIMORIAL + 7) + pow(65537, 12345, ROCA_PRIMORIAL)
CLOSE = rough(2**1024 + 2**900) * rough(2**1024 + 2**900 + 2**100)


def names(n: int, e: int = 65537, *, checked_before: bool = False) -> list[str]:
    return [check.name for check in weaknesses(n, e, checked_before=checked_before)]


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
        pytest.param(65521 * rough(2**2040), 65537, ["small_factor"], id="factor just below 2^16"),
        pytest.param(rough(2**1030) ** 2, 65537, ["perfect_power", "close_primes"], id="square"),
        pytest.param(rough(2**700) ** 3, 65537, ["perfect_power"], id="cube"),
        pytest.param(rough(2**20) ** 103, 65537, ["perfect_power"], id="high power"),
        pytest.param(CLOSE, 65537, ["close_primes"], id="close factors"),
    ],
)
def test_weak_keys_are_told(n: int, e: int, expected: list[str]) -> None:
    """Each weakness is found by its own check, and nothing costly runs on a key of absurd shape."""
    assert names(n, e) == expected


def test_roca_fingerprint_is_told() -> None:
    """A modulus whose residues are all powers of 65537 is suspicious."""
    assert ROCA_LIKE.bit_length() == 2048
    assert "roca" in names(ROCA_LIKE)


def test_key_that_was_checked_before_is_checked_for_shape_only() -> None:
    """The costly checks are not repeated, the cheap ones are."""
    assert names(3**1293, checked_before=True) == []
    assert names(SOUND, 3, checked_before=True) == ["exponent"]


def test_every_check_has_a_source() -> None:
    """Each row of the tables cites where it comes from, under a name of its own."""
    rows = SHAPE_CHECKS + FACTORING_CHECKS
    assert len({row.name for row in rows}) == len(rows)
    assert all("fact" in row.citation and row.member in {"n", "e"} for row in rows)


@given(st.integers(2**16, 2**40), st.sampled_from(PRIMES[1:30]))
def test_every_odd_power_is_found(base: int, exponent: int) -> None:
    """No power of an odd number above 2^16 gets past the test for perfect powers."""
    power = next(check for check in FACTORING_CHECKS if check.name == "perfect_power")
    assert power.is_weak((base | 1) ** exponent, 65537)


@given(st.integers(2**20, 2**64).map(lambda number: number | 1))
def test_only_powers_are_told(number: int) -> None:
    """What the fast test calls a perfect power is one."""
    power = next(check for check in FACTORING_CHECKS if check.name == "perfect_power")
    roots = ((round(number ** (1 / k)) + near, k) for k in range(2, 65) for near in (-1, 0, 1))
    assert not power.is_weak(number, 65537) or any(root**k == number for root, k in roots)
