"""Base64url with one text for one value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.trust.base64url import decode, decode_coordinate, decode_uint, encode


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AQAB", b"\x01\x00\x01"),
        ("AA", b"\x00"),
        ("-_8", b"\xfb\xff"),
        ("", None),
        ("A", None),
        ("AAAAA", None),
        ("AQ==", None),
        ("AR", None),
        ("AAB", None),
        ("+/8", None),
        ("AQ\n", None),
        (" AQ", None),
        ("\uff21\uff31", None),
        (65537, None),
        (None, None),
        (["AQAB"], None),
    ],
)
def test_only_canonical_text_is_decoded(text: object, expected: bytes | None) -> None:
    """Padding, foreign characters, unused bits and other types are refused."""
    assert decode(text) == expected


@given(st.binary(min_size=1))
def test_bytes_survive(value: bytes) -> None:
    """What is encoded is decoded again."""
    assert decode(encode(value)) == value


@given(st.text(alphabet="ABab01-_=+/ "))
def test_every_decoded_text_is_the_encoded_one(text: str) -> None:
    """No two texts are one value."""
    value = decode(text)
    assert value is None or encode(value) == text


@pytest.mark.parametrize(
    ("text", "expected"), [("AQAB", 65537), ("AA", 0), ("AAEAAQ", None), ("AAA", None), ("", None)]
)
def test_numbers_have_no_leading_zero(text: str, expected: int | None) -> None:
    """Base64urlUInt is of minimal length (RFC 7518, section 2)."""
    assert decode_uint(text) == expected


@pytest.mark.parametrize(("text", "size", "expected"), [("AAEAAQ", 4, 65537), ("AQAB", 4, None), ("!", 1, None)])
def test_coordinates_have_full_length(text: str, size: int, expected: int | None) -> None:
    """A coordinate keeps its leading zeros (RFC 7518, section 6.2.1.2)."""
    assert decode_coordinate(text, size) == expected
