"""The strict parser's check of RSA keys: each known weakness is tested in the simplest way."""

import math
from functools import cache


@cache
def is_strong(n: int, e: int) -> bool:
    if not (2048 <= n.bit_length() <= 8192 and n % 2 == 1 and e % 2 == 1 and 65537 <= e < 2**32):
        return False
    return not any((_has_small_factor(n), _is_power(n), _fermat_finds_it(n), _looks_like_roca(n), _may_be_prime(n)))


def _may_be_prime(n: int) -> bool:
    """The Fermat primality test with other bases than `mirror` uses."""
    return all(pow(base, n - 1, n) == 1 for base in (3, 5))


@cache
def _primes(limit: int) -> tuple[int, ...]:
    composite: set[int] = set()
    for n in range(2, math.isqrt(limit) + 1):
        composite.update(range(n * n, limit, n))
    return tuple(n for n in range(2, limit) if n not in composite)


def _has_small_factor(n: int) -> bool:
    return any(n % prime == 0 for prime in _primes(2**20))


def _is_power(n: int) -> bool:
    """Whether n = r**k for a prime k, by bisection; only roots of 16 bits and more matter."""
    for k in _primes(n.bit_length() // 16 + 2):
        low, high = 1, 1 << (n.bit_length() // k + 1)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if middle**k < n else (low, middle)
        if low**k == n:
            return True
    return False


def _fermat_finds_it(n: int) -> bool:
    first = math.isqrt(n)
    first += first * first < n
    for a in range(first, first + 100):
        rest = a * a - n
        if math.isqrt(rest) ** 2 == rest:
            return True
    return False


def _looks_like_roca(n: int) -> bool:
    for prime in _primes(168):
        power, group = 1 % prime, set()
        while power not in group:
            group.add(power)
            power = power * 65537 % prime
        if n % prime not in group:
            return False
    return True
