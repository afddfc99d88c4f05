"""Text from outside inside of sentences, and the refusal itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.model import Reason
from mirror.trust.refused import MAX_REASONS, Refused, refused
from mirror.trust.words import as_argument, described, quoted, step


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("plain", '"plain"', id="plain"),
        pytest.param("ä ß 日本", '"ä ß 日本"', id="other scripts"),
        pytest.param('say "hi"', '"say \\"hi\\""', id="quotes"),
        pytest.param("a\\u001b", '"a\\\\u001b"', id="an escape that is text"),
        pytest.param("\x1b[31m", '"\\u001b[31m"', id="terminal control"),
        pytest.param("a\nb", '"a\\u000ab"', id="line feed"),
        pytest.param("\u202eabc", '"\\u202eabc"', id="right to left override"),
        pytest.param("\ud800", '"\\ud800"', id="lone surrogate"),
        pytest.param("x" * 81, '"' + "x" * 80 + '…"', id="long"),
    ],
)
def test_quoted_text_is_harmless(text: str, expected: str) -> None:
    """Nothing unprintable and nothing long leaves `quoted`."""
    assert quoted(text) == expected


@given(st.text())
def test_any_text_becomes_printable(text: str) -> None:
    """Whatever comes from outside can stand on a terminal."""
    assert quoted(text).isprintable()
    assert step(text).isprintable()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "nothing"),
        (True, "a truth value"),
        (1, "a number"),
        (1.5, "a number"),
        ([1], "an array"),
        ({}, "an object"),
        ("a", '"a"'),
    ],
)
def test_values_are_described_by_type(value: object, expected: str) -> None:
    """Only texts are shown; of anything else the type is told."""
    assert described(value) == expected


@pytest.mark.parametrize(("name", "expected"), [("kid", ".kid"), ("a.b", '["a.b"]'), ("é", '["é"]'), ("", '[""]')])
def test_odd_member_names_are_quoted_in_places(name: str, expected: str) -> None:
    """A path can be read back although member names come from outside."""
    assert step(name) == expected


def test_refusal_without_a_reason_is_impossible() -> None:
    """Nobody can refuse without saying why."""
    with pytest.raises(ValueError, match="needs a reason"):
        Refused(())


def test_flood_of_reasons_is_cut() -> None:
    """A document with a fault in every byte costs a bounded report."""
    reasons = tuple(Reason("bad", str(number), "") for number in range(MAX_REASONS + 5))
    assert refused(reasons[:MAX_REASONS]).reasons == reasons[:MAX_REASONS]
    told = refused(reasons).reasons
    assert told[:MAX_REASONS] == reasons[:MAX_REASONS]
    assert [reason.code for reason in told[MAX_REASONS:]] == ["more_reasons"]
    assert told[-1].sentence == "Further reasons are left out."


@pytest.mark.parametrize(("thumbprint", "expected"), [("-abc", "-- -abc"), ("abc", "abc"), ("_-a", "_-a")])
def test_thumbprint_that_begins_with_a_hyphen_is_no_option(thumbprint: str, expected: str) -> None:
    """A command that is printed for copying works for every key."""
    assert as_argument(thumbprint) == expected
