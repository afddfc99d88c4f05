"""`check --fleet` works without gmpy2, and says so where that takes long."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from mirror.reconcile.numbers import MANY_KEYS, advice, fast_numbers


@pytest.mark.parametrize(
    ("count", "number", "is_told"),
    [(MANY_KEYS, Decimal, True), (MANY_KEYS - 1, Decimal, False), (MANY_KEYS, int, False)],
    ids=["many_slow", "few_slow", "many_fast"],
)
def test_extra_is_named_where_it_helps(count: int, number: Callable[[int], Any], *, is_told: bool) -> None:
    """With many keys and Python's own numbers the extra is named, and else nothing is."""
    told = advice(count, number)
    assert (told is not None and "[fleet]" in told) is is_told


def test_numbers_are_exact() -> None:
    """Whichever are installed, they hold a modulus."""
    assert int(fast_numbers()(2**2048 + 1)) == 2**2048 + 1
