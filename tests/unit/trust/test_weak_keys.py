"""Weak RSA keys are told apart from sound ones."""

from math import gcd, prod

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from mirror.model import RsaKey
from mirror.trust.base64url import decode_uint
from mirror.trust.material import CURVES
from mirror.trust.weak_keys import (
    FACTORING_CHECKS,
    PRIMALITY_CHECKS,
    SHAPE_CHECKS,
    SMALL_MULTIPLES,
    checking_cost,
    is_small_multiple,
    weaknesses,
)
from support.keys import EC_KEYS, RSA_KEYS


def sieve(limit: int) -> list[int]:
    marks = bytearray([1]) * limit
    for number in range(2, int(limit**0.5) + 1):
        marks[number * number :: number] = bytes(len(marks[number * number :: number]))
    return [number for number in range(2, limit) if marks[number]]


PRIMES = sieve(2**16)
LARGER_PRIMES = sieve(2**20)[len(PRIMES) :]
SMALL_FACTORS = prod(PRIMES) * prod(prod(LARGER_PRIMES[at::300]) for at in range(300))
SOUND = decode_uint(RSA_KEYS[0].n) or 0


def rough(start: int) -> int:
    """The next number from `start` on that has no prime factor below 2^20."""
    while gcd(start, SMALL_FACTORS) != 1:
        start += 1
    return start


PRIME = 2**2048 - 1942289
"""A safe prime of 2048 bits."""
ROCA_PRIMORIAL = prod(prime for prime in PRIMES if prime <= 167)
ROCA_LIKE = ROCA_PRIMORIAL * (2**2047 // ROCA_PRIMORIAL + 7) + pow(65537, 12345, ROCA_PRIMORIAL)
ORDERS = {
    "P-256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "P-384": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    "P-521": int(f"1{'F' * 65}A51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409", 16),
}
"""How many points each curve has (SEC 2, sections 2.4.2, 2.5.1 and 2.6.1)."""
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
        pytest.param(65537 * rough(2**2040), 65537, ["small_factor"], id="factor of 17 bits"),
        pytest.param(1048573 * rough(2**2040), 65537, ["small_factor"], id="factor just below 2^20"),
        pytest.param(1048583 * rough(2**2040), 65537, [], id="factor just above 2^20"),
        pytest.param(2**2203 - 1, 65537, ["prime"], id="a Mersenne prime"),
        pytest.param(PRIME, 65537, ["prime"], id="prime of 2048 bits"),
        pytest.param(rough(2**1030) ** 2, 65537, ["perfect_power", "close_primes"], id="square"),
        pytest.param(rough(2**700) ** 3, 65537, ["perfect_power"], id="cube"),
        pytest.param(rough(2**22) ** 97, 65537, ["perfect_power"], id="high power"),
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
    rows = SHAPE_CHECKS + FACTORING_CHECKS + PRIMALITY_CHECKS
    assert len({row.name for row in rows}) == len(rows)
    assert all(("fact" in row.citation or "RFC" in row.citation) and row.member in {"n", "e"} for row in rows)


def test_signature_of_a_prime_modulus_can_be_forged() -> None:
    """Why a prime is refused: its private exponent follows from public numbers, and the library takes the signature."""
    d = pow(65537, -1, PRIME - 1)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"forged")
    info = bytes.fromhex("3031300d060960864801650304020105000420") + digest.finalize()
    padded = b"\x00\x01" + b"\xff" * (256 - 3 - len(info)) + b"\x00" + info
    signature = pow(int.from_bytes(padded), d, PRIME).to_bytes(256)
    public = rsa.RSAPublicNumbers(65537, PRIME).public_key()
    public.verify(signature, b"forged", padding.PKCS1v15(), hashes.SHA256())
    assert names(PRIME) == ["prime"]


@pytest.mark.parametrize("crv", CURVES)
@pytest.mark.parametrize("sign", [1, -1], ids=["positive", "negative"])
@pytest.mark.parametrize("scalar", [1, 2, 15, 16])
def test_small_private_key_is_told(crv: str, sign: int, scalar: int) -> None:
    """The public keys of the private keys 1 to 16, and of their negatives, are known on every curve."""
    numbers = ec.derive_private_key(scalar, CURVES[crv]).public_key().public_numbers()
    if sign < 0:
        negative = ec.derive_private_key(ORDERS[crv] - scalar, CURVES[crv]).public_key().public_numbers()
        assert (negative.x, negative.y) != (numbers.x, numbers.y)
        numbers = negative
    assert is_small_multiple(CURVES[crv], numbers.x)


@pytest.mark.parametrize("crv", CURVES)
def test_other_private_key_is_no_small_one(crv: str) -> None:
    """The next private key passes, and so do real ones."""
    beyond = ec.derive_private_key(SMALL_MULTIPLES + 1, CURVES[crv]).public_key().public_numbers()
    assert not is_small_multiple(CURVES[crv], beyond.x)
    assert not any(is_small_multiple(CURVES[key.crv], decode_uint(key.x) or 0) for key in EC_KEYS)


@pytest.mark.parametrize(("bits", "cost"), [(1024, 1), (2048, 8), (4096, 64), (8192, 512)])
def test_cost_of_checking_grows_with_the_cube_of_the_size(bits: int, cost: int) -> None:
    """What is told before anything costly is computed."""
    assert checking_cost(2**bits - 1) == cost


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
