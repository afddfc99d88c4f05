"""JSON as a trust anchor needs it: one meaning for every reader, or none at all.

Python's `json` alone keeps the last of two equal member names silently (fact 45), accepts NaN and lone
surrogates, and raises RecursionError for deep nesting. A document that two readers understand differently
must not be published, so all of that is refused here.
"""

import json
import math
import re
from codecs import BOM_UTF8
from itertools import accumulate
from typing import NoReturn

from mirror.model import Reason
from mirror.trust.words import quoted

MAX_DEPTH = 32
"""How deep objects and arrays may nest; the deepest document we know of has 4 levels."""

# Possessive and with an optional end: linear in the length, also for text that never closes its quotes.
_TEXT = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
_REMEDY = "Look at what answers under this address; kube-apiserver sends a plain JSON object."


class _DuplicateMemberError(ValueError):
    """An object has two members of one name."""


def read_object(body: bytes, document: str) -> dict[str, object] | Reason:
    """Read one JSON object that every reader understands alike (RFC 8259, section 4; RFC 7493, I-JSON; fact 45).

    Args:
        body: the bytes of the whole document.
        document: how sentences and `where` call it, such as `discovery`.

    Returns:
        The object, or why it is refused: `not_json` (no UTF-8, a byte order mark, a syntax error, NaN or a number
        out of range), `too_deep`, `duplicate_member`, `lone_surrogate`, `not_object`.
    """
    if body.startswith(BOM_UTF8):
        return _reason("not_json", document, "begins with a byte order mark (RFC 8259, section 8.1)")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        return _reason("not_json", document, f"is not UTF-8 at byte {error.start}")
    if _depth(text) > MAX_DEPTH:
        return _reason("too_deep", document, f"nests deeper than {MAX_DEPTH} levels")
    return _parsed(text, document)


def _depth(text: str) -> int:
    """Give the deepest nesting of `text`, counted before parsing so that no parser has to recurse that far."""
    brackets = _BRACKET.findall(_TEXT.sub("", text))
    return max(accumulate((1 if bracket in "[{" else -1 for bracket in brackets), initial=0))


def _parsed(text: str, document: str) -> dict[str, object] | Reason:
    try:
        value = json.loads(text, object_pairs_hook=_members, parse_constant=_constant, parse_float=_finite)
    except _DuplicateMemberError as error:
        return _reason("duplicate_member", document, f"has the member {quoted(str(error))} twice in one object")
    except json.JSONDecodeError as error:
        return _reason("not_json", document, f"is not JSON: {error.msg} at character {error.pos}")
    except ValueError:
        return _reason("not_json", document, "holds a number that is out of range")
    if "\\u" in text and _has_lone_surrogate(value):
        return _reason("lone_surrogate", document, "holds half of a surrogate pair, which is no character")
    if not isinstance(value, dict):
        return _reason("not_object", document, "is not a JSON object")
    return value


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for name, value in pairs:
        if name in members:
            raise _DuplicateMemberError(name)
        members[name] = value
    return members


def _constant(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise ValueError(literal)
    return number


def _has_lone_surrogate(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _reason(code: str, document: str, what: str) -> Reason:
    return Reason(code, f"The {document} document {what}.", _REMEDY, document)
