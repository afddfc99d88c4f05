"""Whether a key can be broken with little effort: a table of checks, each with its source.

Libraries check next to nothing of this (facts 43 and 44). The checks find keys that are weak by accident or by a known
fault. They do not prove that a key is strong: a factor of 40 bits is not found in reasonable time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import gcd, isqrt, prod

from cryptography.hazmat.primitives.asymmetric import ec

MIN_MODULUS_BITS = 2048
MAX_MODULUS_BITS = 8192
MIN_EXPONENT = 65537
EXPONENT_LIMIT = 2**32
FERMAT_ROUNDS = 100
MOST_REMEMBERED = 2**15
"""How many verdicts on RSA keys are remembered: replicas and passes show the same key again."""
SMALL_MULTIPLES = 16
"""EC private keys from 1 to this number, and their negatives, are refused."""
_SMALL_FACTOR_BITS = 20
_ROOT_BITS = 16
_FERMAT_BASE = 2
_ROCA_LARGEST_PRIME = 167
_ROCA_GENERATOR = 65537


@dataclass(frozen=True, slots=True)
class Check:
    """One way in which a key is weak: `is_weak(n, e)`, the end of a sentence that says so, and the source.

    `member` is the JWK member to blame.
    """

    name: str
    member: str
    is_weak: Callable[[int, int], bool]
    sentence: str
    citation: str


def weaknesses(n: int, e: int, *, checked_before: bool = False) -> tuple[Check, ...]:
    """Give the checks that the RSA key (`n`, `e`) fails; none means that nothing is wrong that we know of.

    The costly checks run only on a key of sound shape: what has an absurd size must not cost us time.

    Args:
        n: the modulus, not negative.
        e: the public exponent, not negative.
        checked_before: this very key passed all checks at an earlier time; only its shape is looked at.
    """
    failed = tuple(check for check in SHAPE_CHECKS if check.is_weak(n, e))
    if failed or checked_before:
        return failed
    return _factoring_failures(n, e)


@lru_cache(MOST_REMEMBERED)
def _factoring_failures(n: int, e: int) -> tuple[Check, ...]:
    """Run the costly checks; the costliest runs only where no other one failed.

    The verdict follows from the numbers alone, so it is remembered: a key that several replicas show is checked once.
    """
    failed = tuple(check for check in FACTORING_CHECKS if check.is_weak(n, e))
    return failed or tuple(check for check in PRIMALITY_CHECKS if check.is_weak(n, e))


def checking_cost(n: int) -> int:
    """Give what the checks of the modulus `n` cost: the time grows with the cube of its size, and 1024 bits cost 1.

    8 for a modulus of 2048 bits (about 40 ms), 64 for 4096 bits, 512 for 8192 bits (about 1.3 s).
    """
    return -(-(n.bit_length() ** 3) // 1024**3)


def is_small_multiple(curve: ec.EllipticCurve, x: int) -> bool:
    """Tell whether the point with this `x` belongs to an EC private key of 1..16 or to the negative of one.

    A point and its negative have the same x coordinate (SEC 1, section 2.2.1), so the sign needs no look.

    Args:
        curve: the curve of the key.
        x: the x coordinate of a point of the curve.
    """
    return x in _small_multiples(type(curve))


@cache
def _small_multiples(curve: type[ec.EllipticCurve]) -> frozenset[int]:
    """Give the x coordinates of the first multiples of the curve's generator."""
    points = (ec.derive_private_key(scalar, curve()).public_key() for scalar in range(1, SMALL_MULTIPLES + 1))
    return frozenset(point.public_numbers().x for point in points)


def _wrong_size(n: int, _: int) -> bool:
    return not MIN_MODULUS_BITS <= n.bit_length() <= MAX_MODULUS_BITS


def _even_modulus(n: int, _: int) -> bool:
    return n % 2 == 0


def _unsound_exponent(_: int, e: int) -> bool:
    return e % 2 == 0 or not MIN_EXPONENT <= e < EXPONENT_LIMIT


def _has_small_factor(n: int, _: int) -> bool:
    return gcd(n, _primorial()) != 1


def _is_perfect_power(n: int, _: int) -> bool:
    """Tell whether `n` = r**k with k > 1; `n` is odd, and roots below 2**16 are the small factors' business."""
    odd_primes = _primes_up_to(n.bit_length() // _ROOT_BITS)[1:]
    return isqrt(n) ** 2 == n or any(_may_be_power(n, k) and _odd_root(n, k) ** k == n for k in odd_primes)


def _may_be_power(n: int, k: int) -> bool:
    """Tell whether `n` is zero or a k-th power modulo each of some small primes: a true power always is.

    It spares nearly every modulus the exact root (Euler's criterion, generalised).
    """
    return all(pow(n % prime, (prime - 1) // k, prime) <= 1 for prime in _primes_beyond(k))


@cache
def _primes_beyond(k: int) -> tuple[int, ...]:
    """Give up to 16 small primes that are 1 modulo `k`: only there are k-th powers rare."""
    return tuple(prime for prime in _primes_up_to(2**_ROOT_BITS) if prime % k == 1)[:16]


def _odd_root(n: int, k: int) -> int:
    """Give the one candidate for the k-th root of the odd `n`, for odd `k`.

    Raising to an odd power permutes the odd residues modulo 2**m, whose group has the exponent 2**(m - 2); so the
    root modulo 2**m, with m large enough to hold it, is one exponentiation instead of a search.
    """
    modulus = 1 << (n.bit_length() // k + 3)
    return pow(n % modulus, pow(k, -1, modulus >> 2), modulus)


def _has_close_primes(n: int, _: int) -> bool:
    """Tell whether Fermat's method factors the odd `n` in at most 100 rounds."""
    a = isqrt(n - 1) + 1
    difference, step = a * a - n, 2 * a + 1
    for _ in range(FERMAT_ROUNDS):
        if _is_square(difference):
            return True
        difference, step = difference + step, step + 2  # (a + 1)**2 = a**2 + (2 * a + 1), without squaring
    return False


def _is_square(number: int) -> bool:
    # Squares end in 0, 1, 4 or 9 modulo 16: three of four numbers need no root.
    return number & 15 in {0, 1, 4, 9} and isqrt(number) ** 2 == number


def _has_roca_fingerprint(n: int, _: int) -> bool:
    return all(n % prime in residues for prime, residues in _roca_residues())


@cache
def _roca_residues() -> tuple[tuple[int, frozenset[int]], ...]:
    """Give, for each prime of 2..167, the subgroup of its residues that 65537 generates."""
    return tuple((prime, frozenset(_subgroup(prime))) for prime in _primes_up_to(_ROCA_LARGEST_PRIME))


def _subgroup(prime: int) -> Iterator[int]:
    return (pow(_ROCA_GENERATOR, exponent, prime) for exponent in range(prime))


def _is_prime(n: int, _: int) -> bool:
    """Tell whether the odd `n` passes Fermat's test: every prime does, and a product of two secret primes does not.

    Whoever signs with a prime modulus has no secret: the private exponent follows from e and n - 1. So everybody can
    sign.
    """
    return pow(_FERMAT_BASE, n - 1, n) == 1


@cache
def _primorial() -> int:
    """Give the product of all primes below 2**20: 1.5 million bits, 0.3 s once in a process, then 4.5 ms a modulus."""
    return _product(_primes_up_to(2**_SMALL_FACTOR_BITS))


def _product(numbers: Sequence[int]) -> int:
    # Factors of equal size: multiplying one after the other would take a minute.
    while len(numbers) > 1:
        numbers = [prod(numbers[at : at + 8]) for at in range(0, len(numbers), 8)]
    return numbers[0]


@cache
def _primes_up_to(limit: int) -> tuple[int, ...]:
    sieve = bytearray([1]) * (limit + 1)
    sieve[:2] = bytes(2)
    for number in range(2, isqrt(limit) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit + 1, number)))
    return tuple(number for number in range(limit + 1) if sieve[number])


SHAPE_CHECKS = (
    Check("size", "n", _wrong_size, "has a modulus outside 2048..8192 bits", "RFC 7518, section 3.3; fact 43"),
    Check("even", "n", _even_modulus, "has an even modulus", "fact 43"),
    Check("exponent", "e", _unsound_exponent, "has an even exponent or one outside 65537..2^32", "fact 43"),
)
"""Cheap; always looked at."""

FACTORING_CHECKS = (
    Check("small_factor", "n", _has_small_factor, "has a prime factor below 2^20", "fact 43"),
    Check("perfect_power", "n", _is_perfect_power, "has a modulus that is a power of one number", "fact 43"),
    Check("close_primes", "n", _has_close_primes, "has two primes so close that Fermat's method finds them", "fact 43"),
    Check("roca", "n", _has_roca_fingerprint, "has the fingerprint of ROCA (CVE-2017-15361)", "fact 44"),
)
"""Costly (milliseconds); for an odd modulus of sound size."""

PRIMALITY_CHECKS = (
    Check(
        "prime",
        "n",
        _is_prime,
        "has a modulus that is a prime number: everybody can compute its private key",
        "RFC 8017, section 3.1",
    ),
)
"""The costliest (17 ms for 2048 bits); for a modulus that passed everything else."""
