"""Durations and sizes."""

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.config import fields
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
        (300, "300 has no unit. Write 300s if it is seconds"),
        (1.5, "1.5 has no unit"),
        ("300", "is not a duration"),
        ("", "is not a duration"),
        ("1.5h", "is not a duration"),
        ("-5m", "is not a duration"),
        ("5m1h", "is not a duration"),
        ("5 m", "is not a duration"),
        ("5m\n", "is not a duration"),
        ("\u0665m", "is not a duration"),
        ("5w", "is not a duration"),
        (True, "is not a duration"),
        (None, "is not a duration"),
        (["5m"], "is not a duration"),
        ("999999999d", "longer than ten years"),
    ],
)
def test_other_durations_are_refused(value: object, words: str) -> None:
    """Numbers without unit, fractions, signs and overflowing counts are rejected with a remedy."""
    with pytest.raises(ValueError, match=words):
        duration(value)


@pytest.mark.parametrize(("text", "count"), [("1MiB", 1 << 20), ("64KiB", 65_536), ("17B", 17), ("1GiB", 1 << 30)])
def test_size_with_unit_is_read(text: str, count: int) -> None:
    """Sizes are powers of 1024."""
    assert size_bytes(text) == count
    assert re.search(SIZE_PATTERN, text)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1024, "1024 has no unit. Write 1024B if it is bytes"),
        ("1MB", "is not a size"),
        ("1M", "is not a size"),
        ("1.5MiB", "is not a size"),
        (True, "is not a size"),
    ],
)
def test_other_sizes_are_refused(value: object, words: str) -> None:
    """Decimal and missing units are rejected with a remedy."""
    with pytest.raises(ValueError, match=words):
        size_bytes(value)


@given(st.text(alphabet="0123456789dhms. \n-", max_size=12))
def test_schema_pattern_agrees_with_the_reader(text: str) -> None:
    """The pattern in the JSON Schema accepts nothing that the reader rejects, except overlong durations."""
    fits = re.fullmatch(DURATION_PATTERN, text) is not None
    try:
        duration(text)
    except ValueError as error:
        reported = str(error)
    else:
        reported = ""
    assert fits == (reported == "" or "ten years" in reported)


@pytest.mark.parametrize(
    ("value", "reported"),
    [
        ("5 min", '"5 min" is not a duration. Write 5m.'),
        ("2 Days", '"2 Days" is not a duration. Write 2d.'),
        ("soon", '"soon" is not a duration. Write whole numbers with units, such as 300s, 5m, 24h or 7d.'),
        ("\x1b[2J" + "x" * 99, '"\\u001b[2J'),
    ],
)
def test_refused_duration_is_quoted_with_what_was_likely_meant(value: str, reported: str) -> None:
    """The message quotes the value and suggests a correction. Control characters never reach the terminal."""
    with pytest.raises(ValueError, match=re.escape(reported)) as caught:
        fields.duration(value)
    assert len(str(caught.value)) < 150
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("path", "word"), [("~/ca.crt", "begins with ~"), ("$HOME/ca.crt", "variable"), ("/x/${VAR}/ca.crt", "variable")]
)
def test_path_that_only_a_shell_expands_is_refused(path: str, word: str) -> None:
    """Taken literally, such a path would be missing in every pass."""
    with pytest.raises(ValueError, match=re.escape(word)) as caught:
        fields.file_name(path)
    assert "not expanded" in str(caught.value)


@pytest.mark.parametrize("path", ["ca.crt", "a~b", "/a/$5/b", "/a b/c"])
def test_other_paths_stay_as_they_are(path: str) -> None:
    """Only a path that a shell would expand is rejected."""
    assert fields.file_name(path) == path
