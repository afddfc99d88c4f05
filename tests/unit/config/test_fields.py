"""Durations and sizes."""

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.config.fields import DURATION_PATTERN, SIZE_PATTERN, duration, size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300s", 300), ("5m", 300), ("24h", 86_400), ("7d", 604_800), ("1h30m", 5400), ("500ms", 0.5), ("0s", 0)],
)
def test_duration_with_units_is_read(text: str, seconds: float) -> None:
    """Units go from days to milliseconds, each at most once."""
    assert duration(text) == timedelta(seconds=seconds)
    assert re.search(DURATION_PATTERN, text)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (300, "such as 300s or 300m"),
        (1.5, "such as 1.5s"),
        ("300", "no duration"),
        ("", "no duration"),
        ("1.5h", "no duration"),
        ("-5m", "no duration"),
        ("5m1h", "no duration"),
        ("5 m", "no duration"),
        ("5m\n", "no duration"),
        ("\u0665m", "no duration"),
        ("5w", "no duration"),
        (True, "no duration"),
        (None, "no duration"),
        (["5m"], "no duration"),
        ("999999999d", "longer than ten years"),
    ],
)
def test_other_durations_are_refused(value: object, words: str) -> None:
    """Numbers without unit, fractions, signs and overflowing counts are refused with the remedy."""
    with pytest.raises(ValueError, match=words):
        duration(value)


@pytest.mark.parametrize(("text", "count"), [("1MiB", 1 << 20), ("64KiB", 65_536), ("17B", 17), ("1GiB", 1 << 30)])
def test_size_with_unit_is_read(text: str, count: int) -> None:
    """Sizes are powers of 1024."""
    assert size_bytes(text) == count
    assert re.search(SIZE_PATTERN, text)


@pytest.mark.parametrize(
    ("value", "words"),
    [(1024, "such as 1024KiB"), ("1MB", "no size"), ("1M", "no size"), ("1.5MiB", "no size"), (True, "no size")],
)
def test_other_sizes_are_refused(value: object, words: str) -> None:
    """Decimal and missing units are refused with the remedy."""
    with pytest.raises(ValueError, match=words):
        size_bytes(value)


@given(st.text(alphabet="0123456789dhms. \n-", max_size=12))
def test_schema_pattern_agrees_with_the_reader(text: str) -> None:
    """The pattern in the JSON Schema takes nothing that the reader refuses, apart from overlong durations."""
    fits = re.fullmatch(DURATION_PATTERN, text) is not None
    try:
        duration(text)
    except ValueError as error:
        told = str(error)
    else:
        told = ""
    assert fits == (told == "" or "ten years" in told)
