"""YAML and JSON become plain data: the meaning of words, and the line of each mistake."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.config import yaml_reader
from mirror.config.yaml_reader import MAX_PROBLEMS, load_strict_yaml


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("n", "n"),
        ("0", 0), ("-17", -17), ("012", "012"), ("0o14", "0o14"), ("0x1f", "0x1f"), ("1_000", "1_000"), ("+1", "+1"),
        ("12:30", "12:30"), ("190:20:30", "190:20:30"), ("2027-01-31", "2027-01-31"), ("1.5", 1.5), ("1e3", 1000.0),
        (".5", ".5"), ("1.", "1."), (".inf", ".inf"), (".nan", ".nan"), ("-", [None]), ("=", "="),
        ("'true'", "true"), ('"12"', "12"), ("123456789012", 123456789012), ("012345678901", "012345678901"),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)  # fmt: skip
def test_plain_word_means_what_it_looks_like(written: str, meant: object) -> None:
    """Only true, false, null and decimal numbers are not text. The special words of YAML 1.1 are text."""
    result = load_strict_yaml(f"key: {written}\n" if written != "-" else "key:\n  -\n")
    assert result.problems == []
    assert result.data == {"key": meant}
    assert isinstance(result.data, dict)
    assert type(result.data["key"]) is type(meant)


def test_lines_are_known_when_asked_for() -> None:
    """Each key and item has the line where its value begins."""
    result = load_strict_yaml("a:\n  - b\n  - c: d\ne: f\n", with_lines=True)
    assert result.lines == {(): 1, ("a",): 2, ("a", 0): 2, ("a", 1): 3, ("a", 1, "c"): 3, ("e",): 4}
    assert load_strict_yaml("a: b\n").lines == {}


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("a: b\na: c\nb: {c: d, c: e}\n", [
            "a (line 2): The key a stands twice in one mapping. Remove one of them.",
            "b.c (line 3): The key c stands twice in one mapping. Remove one of them.",
        ]),
        ("a: &x b\nc: *x\n", [
            "a (line 1): An anchor (&) is not allowed. Remove it.",
            "c (line 2): An alias (*) is not allowed. Write the value out, or use the section defaults.",
        ]),
        ("- 1\n- !x a\n", ["[1] (line 2): A tag (!) is not allowed. Remove it."]),
        ("a: {true: b, null: c, 1: d}\n", [
            "a (line 1): The key true is not text. Write it in quotes if it is meant so.",
            "a (line 1): The key null is not text. Write it in quotes if it is meant so.",
            "a (line 1): The key 1 is not text. Write it in quotes if it is meant so.",
        ]),
        ("a: 1234567890123456789\n", [
            "a (line 1): The number has more than 18 digits. Write it in quotes if it is meant as text.",
        ]),
        ("a: b\n---\nc: d\n", ["the file (line 2): A second document begins here. Put everything into one document."]),
        ("? [a]\n: b\n", ["the file (line 1): A key is a list, a mapping or an alias. Write a plain word as key."]),
    ],
    ids=["duplicate", "alias", "tag", "keys", "number", "documents", "complex key"],
)  # fmt: skip
def test_every_mistake_is_reported_with_its_line(text: str, reported: list[str]) -> None:
    """Reading continues after a mistake if the rest is unambiguous."""
    assert [str(problem) for problem in load_strict_yaml(text).problems] == reported


def test_quoted_words_may_be_keys() -> None:
    """In quotes, any word is text, including the merge sign."""
    result = load_strict_yaml('"1": a\n"true": b\n"<<": c\n')
    assert (result.data, result.problems) == ({"1": "a", "true": "b", "<<": "c"}, [])


def test_byte_order_mark_at_the_start_is_ignored() -> None:
    """Editors on Windows add a byte order mark. It changes nothing."""
    assert load_strict_yaml("\ufeffa: b\n").data == {"a": "b"}
    assert load_strict_yaml('\ufeff{"a": "b"}').data == {"a": "b"}


def test_reading_stops_after_many_mistakes() -> None:
    """A file of another format does not give thousands of messages."""
    result = load_strict_yaml("a: b\n" * 5000)
    assert len(result.problems) == MAX_PROBLEMS
    assert not result.readable


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=20), JSON_VALUES, max_size=5), st.booleans(), st.sampled_from([None, 2]))
def test_json_is_read_as_it_was_written(data: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    """Output of Python's json is read back equal, including escaped surrogate pairs."""
    result = load_strict_yaml(json.dumps(data, ensure_ascii=ascii_only, indent=indent))
    assert (result.problems, result.data) == ([], data)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": Infinity}', '{"a": 1e999}', '{"a": 1234567890123456789}',
        '{"a": "\\ud800"}', '{"\\ud800": "a"}', "[" * 40 + "]" * 40, "[" * 100_000, "{", "",
    ],
)  # fmt: skip
def test_doubtful_json_is_left_to_the_yaml_reader(text: str) -> None:
    """Duplicates, NaN, lone surrogates and deep nesting go to the YAML reader, which reports the line."""
    assert yaml_reader.read_json(text, max_depth=32) is None


def test_json_mistake_is_reported_with_its_line() -> None:
    """A duplicate name in JSON is reported as in YAML."""
    problems = load_strict_yaml('{"a": 1,\n "a": 2}').problems
    assert [str(it) for it in problems] == ["a (line 2): The key a stands twice in one mapping. Remove one of them."]
