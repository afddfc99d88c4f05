"""The one text form of moments, lengths of time, numbers of things and names of keys."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.model import AnyKey, KeyName, Kid, Thumbprint, key_name, kid_text, short_kid
from mirror.text import counted, distance, in_words, iso_time, iso_time_or_none, moment, moment_and_distance
from support.keys import RSA_KEYS, with_kid

AT = datetime(2026, 11, 23, 8, 0, 0, 900_000, UTC)


def test_moments_are_utc() -> None:
    """A time of any zone is shown in UTC, in whole seconds."""
    elsewhere = AT.astimezone(timezone(timedelta(hours=11)))
    assert moment(elsewhere) == "2026-11-23 08:00:00Z"
    assert iso_time(elsewhere) == iso_time_or_none(elsewhere) == "2026-11-23T08:00:00+00:00"
    assert iso_time_or_none(None) is None


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(0), "0 s"),
        (timedelta(microseconds=900_000), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(seconds=61), "1 min 1 s"),
        (timedelta(hours=3, minutes=12, seconds=5), "3 h 12 min"),
        (-timedelta(hours=3, minutes=12, seconds=5), "3 h 12 min"),
        (timedelta(hours=3, seconds=5), "3 h"),
        (timedelta(days=2, hours=5, minutes=59), "2 d 5 h"),
        (timedelta(days=400), "400 d"),
    ],
)
def test_duration_has_its_two_largest_units(span: timedelta, words: str) -> None:
    """Nobody counts seconds of a day."""
    assert in_words(span) == words


def test_moment_says_how_far_it_is() -> None:
    """Ahead or past; now itself is past."""
    assert distance(AT + timedelta(hours=2), AT) == "in 2 h"
    assert distance(AT - timedelta(days=9), AT) == "9 d ago"
    assert distance(AT, AT) == "0 s ago"
    assert moment_and_distance(AT, AT + timedelta(minutes=5)) == "2026-11-23 08:00:00Z (5 min ago)"


@pytest.mark.parametrize(
    ("kid", "short"),
    [("8HqW-key", "8HqW-key"), ("8HqW1234567", "8HqW1234567"), ("8HqW12345678", "8HqW123456…"), ("a b", '"a b"')],
)
def test_kid_of_a_line_is_its_beginning(kid: str, short: str) -> None:
    """A short text stays whole; a text that is not plain is quoted as everywhere."""
    assert short_kid(kid) == short


def test_noun_follows_its_number() -> None:
    """One thing is no plural; none and several are."""
    assert [counted(number, "key") for number in (0, 1, 2)] == ["0 keys", "1 key", "2 keys"]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (with_kid(RSA_KEYS[0], "8Hq_-~."), "8Hq_-~. (RS256)"),
        (KeyName(Kid("two words"), "", Thumbprint("t")), '"two words" (-)'),
    ],
    ids=["plain", "without-material"],
)
def test_key_is_named_by_its_kid_first(key: AnyKey, name: str) -> None:
    """The whole kid comes first, the algorithm follows."""
    assert key_name(key) == name


@given(st.text(min_size=1))
def test_kid_is_one_printable_word_or_quoted(text: str) -> None:
    """No kid controls a terminal or looks like part of the sentence around it."""
    shown = kid_text(Kid(text))
    assert shown.isprintable()
    assert shown.isascii()
    assert shown == text or shown.startswith('"')
