"""Weak keys: RSA strength, keys that are used twice, and moduli that share a prime (facts.md#43). Pure.

Libraries check almost none of this (facts.md#43, #44). The checks find keys that are weak by accident or by a known
fault. They do not prove that a key is strong: a factor of 40 bits cannot be found in reasonable time.

Two checks cover all issuers: one key at two issuers, and RSA moduli that share a prime (facts.md#43).
The cause is a broken random number generator or a copied file. Nothing here changes another issuer: a shared key is
reported, and of two moduli with a common prime only the new one is held.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation, localcontext
from functools import cache, lru_cache
from itertools import combinations, compress, pairwise
from math import gcd, isqrt, prod
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from mirror.model import AnyKey, Event, IssuerName, Key, Level, RsaKey, Thumbprint, kid_text
from mirror.trust.parsing import decode_uint

MIN_MODULUS_BITS = 2048
MAX_MODULUS_BITS = 8192
MIN_EXPONENT = 65537
EXPONENT_LIMIT = 2**32
FERMAT_ROUNDS = 100
MOST_REMEMBERED = 2**15
"""How many verdicts on RSA keys are cached: replicas and passes repeat the same key."""
SMALL_MULTIPLES = 16
"""EC private keys from 1 to this number, and their negatives, are refused."""
_SMALL_FACTOR_BITS = 20
_ROOT_BITS = 16
_FERMAT_BASE = 2
_ROCA_LARGEST_PRIME = 167
_ROCA_GENERATOR = 65537


@dataclass(frozen=True, slots=True)
class StrengthCheck:
    """One weakness: `is_weak(n, e)`, the end of the reason's sentence, and the source.

    `member` is the JWK member that causes it.
    """

    name: str
    member: str
    is_weak: Callable[[int, int], bool]
    sentence: str
    citation: str


def weaknesses(n: int, e: int, *, checked_before: bool = False) -> tuple[StrengthCheck, ...]:
    """Give the checks that the RSA key (`n`, `e`) fails; none means that no weakness is known.

    The costly checks run only on a key of valid shape: a key of absurd size must not cost time.

    Args:
        n: the modulus, not negative.
        e: the public exponent, not negative.
        checked_before: this key passed all checks before; only its shape is checked.
    """
    failed = tuple(check for check in SHAPE_CHECKS if check.is_weak(n, e))
    if failed or checked_before:
        return failed
    return _factoring_failures(n, e)


@lru_cache(MOST_REMEMBERED)
def _factoring_failures(n: int, e: int) -> tuple[StrengthCheck, ...]:
    """Run the costly checks; the costliest runs only where no other one failed.

    The verdict depends only on the numbers, so it is cached: a key that several replicas show is checked once.
    """
    failed = tuple(check for check in FACTORING_CHECKS if check.is_weak(n, e))
    return failed or tuple(check for check in PRIMALITY_CHECKS if check.is_weak(n, e))


def checking_cost(n: int) -> int:
    """Give the cost of checking the modulus `n`: the time grows with the cube of its size, and 1024 bits cost 1.

    8 for a modulus of 2048 bits (about 40 ms), 64 for 4096 bits, 512 for 8192 bits (about 1.3 s).
    """
    return -(-(n.bit_length() ** 3) // 1024**3)


def is_small_multiple(curve: ec.EllipticCurve, x: int) -> bool:
    """Return whether the point with this `x` belongs to an EC private key of 1..16 or to the negative of one.

    A point and its negative have the same x coordinate (SEC 1, section 2.2.1), so the sign does not matter.

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
    # The remainder is computed by the type of n, which gmpy2 makes fast; math.gcd would convert both numbers to int.
    return any(gcd(n, product % n) != 1 for product in _small_prime_products())


def _is_perfect_power(n: int, _: int) -> bool:
    """Return whether `n` = r**k with k > 1; `n` is odd. The check for small factors finds roots below 2**16."""
    odd_primes = _primes_up_to(n.bit_length() // _ROOT_BITS)[1:]
    return isqrt(n) ** 2 == n or any(_may_be_power(n, k) and _odd_root(n, k) ** k == n for k in odd_primes)


def _may_be_power(n: int, k: int) -> bool:
    """Return whether `n` is zero or a k-th power modulo each of some small primes: a true power always is.

    It avoids the exact root for nearly every modulus (Euler's criterion, generalised).
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
    """Return whether Fermat's method factors the odd `n` in at most 100 rounds."""
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
    """Return whether the odd `n` passes Fermat's test: every prime does, and a product of two secret primes does not.

    With a prime modulus the private exponent follows from e and n - 1, so anyone can sign.
    """
    return pow(_FERMAT_BASE, n - 1, n) == 1


@cache
def _small_prime_products() -> tuple[int, ...]:
    """Give all primes below 2**20, multiplied in groups: 0.1 s once in a process, then 7 ms a modulus.

    One product of all of them would take 0.3 s, and save half a millisecond a modulus.
    """
    primes = _primes_up_to(2**_SMALL_FACTOR_BITS)
    return tuple(_product(primes[at : at + 2048]) for at in range(0, len(primes), 2048))


def _product(numbers: Sequence[int]) -> int:
    # Multiply factors of equal size: multiplying one after the other would take a minute.
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
    return tuple(compress(range(limit + 1), sieve))


SHAPE_CHECKS = (
    StrengthCheck("size", "n", _wrong_size, "has a modulus outside 2048..8192 bits", "RFC 7518, section 3.3"),
    StrengthCheck("even", "n", _even_modulus, "has an even modulus", "facts.md#43"),
    StrengthCheck("exponent", "e", _unsound_exponent, "has an even exponent or one outside 65537..2^32", "facts.md#43"),
)
"""Cheap; always looked at."""

FACTORING_CHECKS = (
    StrengthCheck("small_factor", "n", _has_small_factor, "has a prime factor below 2^20", "facts.md#43"),
    StrengthCheck(
        "perfect_power", "n", _is_perfect_power, "has a modulus that is a power of one number", "facts.md#43"
    ),
    StrengthCheck(
        "close_primes", "n", _has_close_primes, "has two primes so close that Fermat's method finds them", "facts.md#43"
    ),
    StrengthCheck("roca", "n", _has_roca_fingerprint, "has the fingerprint of ROCA (CVE-2017-15361)", "facts.md#44"),
)
"""Costly (milliseconds); for an odd modulus of valid size."""

PRIMALITY_CHECKS = (
    StrengthCheck(
        "prime",
        "n",
        _is_prime,
        "has a modulus that is a prime number: anyone can compute its private key",
        "RFC 8017, section 3.1",
    ),
)
"""The costliest (17 ms for 2048 bits); for a modulus that passed everything else."""


SHARED_PRIME = "shared_prime"
"""The code for holding a key if its modulus has a factor in common with another one."""

MOST_NAMES = 5
"""How many other issuers one sentence names; the rest is counted."""

FEW_KEYS = 200
"""Up to this number, each new key is compared with every known one (10 µs a pair); more are checked in one batch."""

_DIGITS_PER_BIT = 0.30103
_Pair = tuple[Any, Any]


def keys_used_twice(keys_by_issuer: Mapping[IssuerName, Iterable[AnyKey]]) -> Mapping[IssuerName, tuple[Event, ...]]:
    """Report every key that two issuers show: the pods of either can sign for the other (facts.md#34).

    Args:
        keys_by_issuer: what the apiservers of each issuer show in this pass.

    Returns:
        The events `key.shared` of each issuer that has any; they change nothing.
    """
    holders: dict[Thumbprint, dict[IssuerName, AnyKey]] = {}
    for name, keys in sorted(keys_by_issuer.items()):
        for key in keys:
            holders.setdefault(key.thumbprint, {}).setdefault(name, key)
    found: dict[IssuerName, tuple[Event, ...]] = {}
    for _, by_name in sorted(holders.items()):
        if len(by_name) > 1:
            for name, key in by_name.items():
                found[name] = (*found.get(name, ()), _shared(name, key, tuple(by_name)))
    return found


def _shared(name: IssuerName, key: AnyKey, names: Sequence[IssuerName]) -> Event:
    others = [other for other in names if other != name]
    named = ", ".join(others[:MOST_NAMES])
    more = f" and {len(others) - MOST_NAMES} more" if len(others) > MOST_NAMES else ""
    sentence = (
        f"Key {kid_text(key.kid)} of {name} is also shown by {named}{more}: each can sign tokens in the other's name. "
        "Give every cluster a ServiceAccount key of its own."
    )
    return Event("key.shared", sentence, Level.WARNING, {"kid": key.kid, "thumbprint": key.thumbprint})


def keys_sharing_primes(
    new: Iterable[Key], known_keys: Iterable[AnyKey], *, number: Callable[[int], Any] = Decimal
) -> Mapping[Thumbprint, str]:
    """Give the new RSA keys whose modulus shares a prime with, or is a multiple of, another one: an attacker can sign.

    Equal moduli are one key, reported by `keys_used_twice`. A modulus is not suspect because another one is its
    multiple: anyone can publish a multiple, and must not be able to block another issuer's key with it.

    Args:
        new: keys that are not public by any ledger yet; they are compared with each other too. 10 ms a new key for
            1000 known ones; 22 s for 10 000 new ones.
        known_keys: keys of all ledgers; those whose material is not kept are not compared.
        number: as in `shared_prime_pairs`; it matters where many keys are new.

    Returns:
        `shared_prime` for the thumbprint of each suspect, as `PassContext.suspects` expects it.
    """
    fresh = _moduli(new)
    if not fresh:
        return {}
    others: Iterable[int] = {*fresh, *_moduli(known_keys)}
    if len(fresh) > FEW_KEYS:
        others = _weak_moduli(sorted(others), number)
    ordered = sorted(others)
    weak = (n for n in sorted(fresh) if any(other % n and gcd(n, other) > 1 for other in ordered))
    return {thumbprint: SHARED_PRIME for n in weak for thumbprint in fresh[n]}


def shared_prime_pairs(
    keys: Iterable[AnyKey], *, number: Callable[[int], Any] = Decimal
) -> tuple[tuple[Thumbprint, Thumbprint], ...]:
    """Give every two keys of the whole fleet whose moduli differ and have a factor in common, sorted.

    Batch gcd (D. J. Bernstein, "How to find smooth parts of integers", 2004): 22 s for 10 000 keys of 2048 bits with
    `Decimal`, whose multiplication is a number-theoretic transform; 2 s with `gmpy2.mpz`.

    Args:
        keys: any keys; only RSA keys whose material is kept are compared.
        number: makes the exact whole numbers for the calculation: `Decimal`, `gmpy2.mpz` or `int`.
    """
    moduli = _moduli(keys)
    weak = sorted(_weak_moduli(sorted(moduli), number))
    pairs = ((n, m) for n, m in combinations(weak, 2) if gcd(n, m) > 1)
    named = ((a, b) for n, m in pairs for a in moduli[n] for b in moduli[m])
    return tuple(sorted((min(pair), max(pair)) for pair in named))


def _moduli(keys: Iterable[AnyKey]) -> dict[int, tuple[Thumbprint, ...]]:
    """Give the moduli of the RSA keys among `keys`, each with the thumbprints that have it, sorted."""
    found: dict[int, set[Thumbprint]] = {}
    for key in keys:
        n = decode_uint(key.n) if isinstance(key, RsaKey) else None
        if n is not None:
            found.setdefault(n, set()).add(key.thumbprint)
    return {n: tuple(sorted(thumbprints)) for n, thumbprints in found.items()}


def _weak_moduli(moduli: Sequence[int], number: Callable[[int], Any]) -> frozenset[int]:
    """Give those of the distinct `moduli` that have a factor in common with the product of all others."""
    if not moduli:
        return frozenset()
    bits = sum(n.bit_length() + 1 for n in moduli)
    # Rounding raises an error, so every result is exact.
    exact = Context(
        prec=int(bits * _DIGITS_PER_BIT) + 32, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact, InvalidOperation]
    )
    with localcontext(exact):
        remainders = _cofactors([(number(n), number(1)) for n in moduli])
        return frozenset(n for n, rest in zip(moduli, remainders, strict=True) if gcd(n, int(rest)) > 1)


def _cofactors(leaves: list[_Pair]) -> list[Any]:
    """Give for each number the product of all others, modulo itself.

    Each node of the tree holds the product of its numbers and the sum of the products that leave one of them out.
    Modulo one number all terms of that sum vanish but the one without it, so no squares are needed.
    """
    levels = [leaves]
    while len(levels[-1]) > 1:
        levels.append(_paired(levels[-1]))
    remainders = [levels.pop()[0][1]]
    for level in reversed(levels):
        remainders = [remainders[index // 2] % product for index, (product, _) in enumerate(level)]
    return remainders


def _paired(level: list[_Pair]) -> list[_Pair]:
    pairs = [(p * q, s * q + t * p) for (p, s), (q, t) in list(pairwise(level))[::2]]
    return pairs if len(level) % 2 == 0 else [*pairs, level[-1]]
