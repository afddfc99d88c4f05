"""JSON that every parser reads in the same way.

Base64url in which each value has one encoding.

Untrusted text inside messages, and rejections.
"""

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.model import Reason
from mirror.trust.parsing import (
    MAX_DEPTH,
    MAX_REASONS,
    Rejected,
    decode,
    decode_coordinate,
    decode_uint,
    describe_json,
    encode,
    json_path_step,
    quote,
    read_object,
    reject,
    shell_argument,
    unverified_claims,
)


def code(body: bytes) -> str | None:
    """The code of the rejection; None if the body was accepted."""
    read = read_object(body, "jwks")
    return read.code if isinstance(read, Reason) else None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"\xef\xbb\xbf{}", "not_json", id="byte order mark"),
        pytest.param('{"a":1}'.encode("utf-16"), "not_json", id="utf-16"),
        pytest.param(b'{"a":"\xff"}', "not_json", id="not utf-8"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', "not_json", id="surrogate in utf-8"),
        pytest.param(b"", "not_json", id="empty"),
        pytest.param(b'{"a":1', "not_json", id="truncated"),
        pytest.param(b"{} {}", "not_json", id="two documents"),
        pytest.param(b'{"a":"\n"}', "not_json", id="control character"),
        pytest.param(b'{"a":NaN}', "not_json", id="nan"),
        pytest.param(b'{"a":-Infinity}', "not_json", id="infinity"),
        pytest.param(b'{"a":1e999}', "not_json", id="float out of range"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", "not_json", id="huge integer"),
        pytest.param(b'{"a":1,"a":1}', "duplicate_member", id="duplicate"),
        pytest.param(b'{"b":[{"a":1,"\\u0061":2}]}', "duplicate_member", id="nested and escaped duplicate"),
        pytest.param(b'{"a":"\\ud800"}', "lone_surrogate", id="lone surrogate"),
        pytest.param(b'{"\\udc00":1}', "lone_surrogate", id="lone surrogate in a name"),
        pytest.param(b"[]", "not_object", id="array"),
        pytest.param(b"null", "not_object", id="null"),
        pytest.param(b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "too_deep", id="one level too deep"),
        pytest.param(b"[" * 1_000_000, "too_deep", id="a million levels"),
        pytest.param(b'{"a":' * 500_000, "too_deep", id="objects without end"),
        pytest.param(b"]" * 10, "not_json", id="closing brackets only"),
    ],
)
def test_ambiguous_json_is_refused(body: bytes, expected: str) -> None:
    """JSON that two parsers could read differently is rejected with a code of its own."""
    assert code(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}", id="deepest allowed"),
        pytest.param(b'{"a":"' + b"[{" * 1000 + b'"}', id="brackets in a text"),
        pytest.param(b'{"a":"\\"' + b"[{" * 1000 + b'\\\\"}', id="brackets after an escaped quote"),
        pytest.param(b'{"a":"\\ud83d\\ude00"}', id="whole surrogate pair"),
        pytest.param(b' \n{"a": 1.5}\r\n', id="white space around"),
    ],
)
def test_plain_json_is_read(body: bytes) -> None:
    """Unambiguous JSON is read as by `json`."""
    assert read_object(body, "jwks") == json.loads(body)


def test_reason_names_its_document() -> None:
    """A reason names the document and the place, and has a remedy."""
    read = read_object(b"{", "discovery")
    assert isinstance(read, Reason)
    assert read.where == "discovery"
    assert "discovery" in read.sentence
    assert read.remedy


def test_unclosed_quotes_cost_linear_time() -> None:
    """A mebibyte of escaped quotes without an end is rejected in less than a second."""
    begin = time.process_time()
    assert code(b'{"' + b'\\"' * 500_000) == "not_json"
    assert time.process_time() - begin < 1


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)))
def test_every_object_survives(value: dict[str, object]) -> None:
    """Any object that is written as JSON is read back unchanged."""
    assert read_object(json.dumps(value).encode(), "jwks") == value


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
    """Padding, other characters, unused bits and other types are rejected."""
    assert decode(text) == expected


@given(st.binary(min_size=1))
def test_bytes_survive(value: bytes) -> None:
    """Any bytes are encoded and decoded again unchanged."""
    assert decode(encode(value)) == value


@given(st.text(alphabet="ABab01-_=+/ "))
def test_every_decoded_text_is_the_encoded_one(text: str) -> None:
    """Each value has exactly one accepted encoding."""
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
    """The result of `quote` has only printable characters and a limited length."""
    assert quote(text) == expected


@given(st.text())
def test_any_text_becomes_printable(text: str) -> None:
    """Any untrusted text is safe to print on a terminal."""
    assert quote(text).isprintable()
    assert json_path_step(text).isprintable()


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
    """Strings are quoted; any other value is described by its type."""
    assert describe_json(value) == expected


@pytest.mark.parametrize(("name", "expected"), [("kid", ".kid"), ("a.b", '["a.b"]'), ("é", '["é"]'), ("", '[""]')])
def test_odd_member_names_are_quoted_in_places(name: str, expected: str) -> None:
    """A path is unambiguous although member names are untrusted."""
    assert json_path_step(name) == expected


def test_refusal_without_a_reason_is_impossible() -> None:
    """A rejection without a reason is an error."""
    with pytest.raises(ValueError, match="needs a reason"):
        Rejected(())


def test_flood_of_reasons_is_cut() -> None:
    """For a document with an error in every byte, the number of reasons is limited."""
    reasons = tuple(Reason("bad", str(number), "") for number in range(MAX_REASONS + 5))
    assert reject(reasons[:MAX_REASONS]).reasons == reasons[:MAX_REASONS]
    reported = reject(reasons).reasons
    assert reported[:MAX_REASONS] == reasons[:MAX_REASONS]
    assert [reason.code for reason in reported[MAX_REASONS:]] == ["more_reasons"]
    assert reported[-1].sentence == "Further reasons are left out."


@pytest.mark.parametrize(("thumbprint", "expected"), [("-abc", "-- -abc"), ("abc", "abc"), ("_-a", "_-a")])
def test_thumbprint_that_begins_with_a_hyphen_is_no_option(thumbprint: str, expected: str) -> None:
    """Printed commands can be pasted for any thumbprint, also for one that begins with a hyphen."""
    assert shell_argument(thumbprint) == expected


def jwt(claims: str, *, padding: bytes = b"") -> bytes:
    return b"e30." + urlsafe_b64encode(claims.encode()).rstrip(b"=") + padding + b".c2ln"


@pytest.mark.parametrize(
    ("token", "claims"),
    [
        pytest.param(jwt('{"aud":"x"}'), {"aud": "x"}, id="plain"),
        pytest.param(jwt('{"aud":"x"}') + b"\r\n", {"aud": "x"}, id="line-break-behind"),
        pytest.param(jwt('{"aud":"xy"}', padding=b"="), {"aud": "xy"}, id="padding-that-Go-takes"),
        pytest.param(jwt('{"aud":"x"}', padding=b"===="), {"aud": "x"}, id="too-much-padding"),
        pytest.param(jwt('{"aud":"a","aud":"b"}'), {"aud": "b"}, id="name-twice"),
        pytest.param(b"", {}, id="empty"),
        pytest.param(b"opaque", {}, id="opaque"),
        pytest.param(b"a.b", {}, id="two-parts"),
        pytest.param(b"a.b.c.d.e", {}, id="encrypted"),
        pytest.param(b"a.b.c", {}, id="no-JSON"),
        pytest.param(jwt("[]"), {}, id="list"),
        pytest.param(jwt("[" * 100_000), {}, id="deep"),
    ],
)
def test_claims_of_any_token_are_read_as_a_lenient_receiver_reads_them(
    token: bytes, claims: Mapping[str, object]
) -> None:
    """Claims are read as tolerantly as by any receiver; other bytes have no claims."""
    assert unverified_claims(token) == claims


@given(st.binary())
def test_no_payload_raises(payload: bytes) -> None:
    """For any token, reading its claims returns a value."""
    unverified_claims(b"e30." + payload + b".sig")
    unverified_claims(b"e30." + urlsafe_b64encode(payload) + b".sig")
