"""The whole numbers with which keys are compared: gmpy2's where it is installed, Python's own elsewhere."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

MANY_KEYS = 2000
"""From so many keys on (1 s with gmpy2, several without) it is worth telling how it goes faster."""

_SLOW: Callable[[int], Any] = Decimal


def fast_numbers() -> Callable[[int], Any]:
    """gmpy2 where somebody installed it: 2 s instead of 22 s for 10 000 keys."""
    try:
        from gmpy2 import mpz  # noqa: PLC0415  optional
    except ImportError:
        return _SLOW
    number: Callable[[int], Any] = mpz
    return number


def advice(count: int, number: Callable[[int], Any]) -> str | None:
    """How the next comparison of `count` keys would be faster; None when it would not, or is fast enough."""
    if count < MANY_KEYS or number is not _SLOW:
        return None
    return f"{count} keys are compared without gmpy2, which is ten times as fast: pip install 'oidc-mirror[fleet]'"
