"""The table of failures is complete, stable and safe to print."""

from pathlib import Path

import pytest

from mirror.apiserver.errors import DiscoveryFailureKind, FailureKind, _FailureTable, printable
from mirror.model import TRANSIENT_CODES


@pytest.mark.parametrize("failure", [*FailureKind, *DiscoveryFailureKind], ids=lambda failure: failure.name.lower())
def test_every_failure_has_sentence_and_remedy(failure: _FailureTable) -> None:
    """Each failure says what happened, with the detail, and what to do, in complete sentences."""
    reason = failure.reason("{braces} stay", where="jwks")
    assert ("{detail}" in failure.value.sentence) == ("{braces} stay" in reason.sentence)
    assert (reason.sentence[0].isupper(), reason.sentence[-1], reason.remedy[-1]) == (True, ".", ".")
    assert (reason.where, reason.code.isidentifier()) == ("jwks", True)


def test_every_code_is_documented() -> None:
    """docs/reference/apiservers.md lists every code of a request and marks the transient ones."""
    text = (Path(__file__).parents[3] / "docs" / "reference" / "apiservers.md").read_text()
    codes = {failure.value.code for failure in (*FailureKind, *DiscoveryFailureKind)}
    assert {code for code in codes if f"`{code}`" not in text} == set()
    transient = text.partition("another apiserver of the issuer answers: ")[2].partition(". All others")[0]
    assert set(transient.replace("`", "").split(", ")) == TRANSIENT_CODES


def test_transient_codes_are_those_of_the_model() -> None:
    """All transient codes are defined here, and the model knows each of them."""
    transient = {"UNREACHABLE", "PROXY_REFUSED", "CONNECT_TIMEOUT", "TOTAL_TIMEOUT", "NOT_IN_TIME", "INTERRUPTED"}
    transient |= {"REQUEST_TIMEOUT", "RATE_LIMITED", "SERVER_ERROR"}
    assert {failure.name for failure in FailureKind if failure.value.code in TRANSIENT_CODES} == transient
    assert {failure.value.code for failure in FailureKind} >= TRANSIENT_CODES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two\n lines\t ", "two lines"),
        ("bell\x07", "bell\\x07"),
        ("\u202e", "\\u202e"),
        ("Zürich", "Zürich"),
        ("x" * 201, "x" * 200 + "…"),
        ("x" * 200, "x" * 200),
        ("", ""),
    ],
    ids=["whitespace", "control", "bidirectional", "letters", "long", "longest", "empty"],
)
def test_text_from_outside_is_shown_in_one_safe_line(text: str, expected: str) -> None:
    """Text from outside becomes one short line. Only printable characters stay unchanged."""
    assert printable(text) == expected
