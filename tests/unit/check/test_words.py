"""How spans are told."""

from datetime import timedelta

import pytest

from mirror.check.words import span


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(days=3, hours=5), "3 days"),
        (timedelta(days=-1), "1 day"),
        (timedelta(hours=1, minutes=59), "1 hour"),
        (timedelta(minutes=2), "2 minutes"),
        (timedelta(seconds=1), "1 second"),
        (timedelta(0), "0 seconds"),
    ],
)
def test_span_is_told_in_its_largest_whole_unit(length: timedelta, words: str) -> None:
    """Rounded down, without a sign."""
    assert span(length) == words
