"""JSON that every reader understands alike."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.model import Reason
from mirror.trust.parsing import MAX_DEPTH, read_object


def code(body: bytes) -> str | None:
    """The code of the refusal, None when the body was read."""
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
    """What two readers could understand differently is refused with its own code."""
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
    """What has one meaning is read as `json` reads it."""
    assert read_object(body, "jwks") == json.loads(body)


def test_reason_names_its_document() -> None:
    """A reason says which document it is about, where, and what to do."""
    read = read_object(b"{", "discovery")
    assert isinstance(read, Reason)
    assert read.where == "discovery"
    assert "discovery" in read.sentence
    assert read.remedy


def test_unclosed_quotes_cost_linear_time() -> None:
    """A mebibyte of escaped quotes without an end is refused in less than a second."""
    begin = time.process_time()
    assert code(b'{"' + b'\\"' * 500_000) == "not_json"
    assert time.process_time() - begin < 1


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)))
def test_every_object_survives(value: dict[str, object]) -> None:
    """Whatever object is written as JSON is read again unchanged."""
    assert read_object(json.dumps(value).encode(), "jwks") == value
