"""Parse untrusted text: strict JSON, base64url, the claims of a token, and text that is safe to print.

Python's `json` alone keeps the last of two equal member names silently (facts.md#45), accepts NaN and lone
surrogates, and raises RecursionError for deep nesting. A document that two readers understand differently
must not be published, so this module rejects all of that.
"""

import json
import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import NoReturn

from mirror.model import Reason

MAX_DEPTH = 32
"""How deep objects and arrays may nest; the deepest document we know of has 4 levels."""

# Possessive and with an optional end: the time is linear in the length, also for text with unclosed quotes.
_TEXT = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
_REMEDY = "Check which server answers at this address; kube-apiserver sends a plain JSON object."


class _DuplicateMemberError(ValueError):
    """An object has two members of one name."""


def read_object(body: bytes, document: str) -> dict[str, object] | Reason:
    """Read one JSON object that every reader understands alike (RFC 8259, section 4; RFC 7493, I-JSON; facts.md#45).

    Args:
        body: the bytes of the whole document.
        document: the name for sentences and `where`, such as `discovery`.

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
        return _reason("duplicate_member", document, f"has the member {quote(str(error))} twice in one object")
    except json.JSONDecodeError as error:
        return _reason("not_json", document, f"is not JSON: {error.msg} at character {error.pos}")
    except ValueError:
        return _reason("not_json", document, "holds a number that is out of range")
    if "\\u" in text and _has_lone_surrogate(value):
        return _reason("lone_surrogate", document, "holds half of a surrogate pair, which is not a character")
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


_ALPHABET = re.compile(r"[A-Za-z0-9_-]+")


def encode(value: bytes) -> str:
    """Give `value` as base64url without padding."""
    return urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def decode(text: object) -> bytes | None:
    """Give the bytes of a canonical base64url text, or None when it is not canonical.

    Canonical means: at least one byte, no padding, no foreign characters, and no bit set that the bytes do not use
    (RFC 4648, section 3.5), so `encode(decode(text)) == text`.
    """
    if not isinstance(text, str) or not _ALPHABET.fullmatch(text) or len(text) % 4 == 1:
        return None
    value = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return value if encode(value) == text else None


def decode_uint(text: object) -> int | None:
    """Give the number of a Base64urlUInt, or None: the fewest bytes that hold it (RFC 7518, section 2; facts.md#45)."""
    value = decode(text)
    if value is None or (value[0] == 0 and len(value) > 1):
        return None
    return int.from_bytes(value)


def decode_coordinate(text: object, size_bytes: int) -> int | None:
    """Give the number of an EC coordinate, or None: exactly `size_bytes` long (RFC 7518, section 6.2.1.2)."""
    value = decode(text)
    return None if value is None or len(value) != size_bytes else int.from_bytes(value)


def unverified_claims(token: bytes) -> Mapping[str, object]:
    """Give the claims of a JWT (RFC 7519, section 4), unverified; nothing for a text that is not a JWT.

    It accepts as much as the most lenient library does (padding, a duplicate name). A stricter parser than the
    receiver's could send a token to the wrong party. `mirror.trust.tokens` validates tokens.
    """
    parts = token.strip().split(b".")
    if len(parts) != 3:  # noqa: PLR2004 - RFC 7515, section 3.1: header, payload, signature
        return {}
    payload = parts[1].rstrip(b"=")
    try:
        claims = json.loads(urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


@dataclass(frozen=True, slots=True)
class Rejected:
    """A rejected document, with every reason found in it, in the order of the document.

    Raises:
        ValueError: there is no reason; an unexplained rejection is a bug of this program.
    """

    reasons: tuple[Reason, ...]

    def __post_init__(self) -> None:
        if not self.reasons:
            raise ValueError("a refusal needs a reason")


MAX_REASONS = 256
"""How many reasons one document may have: a hostile one could hold as many faults as it has bytes."""


def reject(reasons: tuple[Reason, ...]) -> Rejected:
    """Reject with the reasons of `limited`.

    Raises:
        ValueError: there is no reason.
    """
    return Rejected(limited(reasons))


def limited(reasons: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """Give the first 256 of `reasons`; if there are more, one last reason reports that."""
    if len(reasons) <= MAX_REASONS:
        return reasons
    more = Reason("more_reasons", "Further reasons are left out.", "Correct those that are listed first.")
    return (*reasons[:MAX_REASONS], more)


_SHOWN_CHARACTERS = 80


def quote(text: str) -> str:
    r"""Give `text` in double quotes, at most 80 characters of it, with everything unprintable escaped.

    Control characters, line and bidirectional marks and lone surrogates become `\u....`, so that a hostile
    document can neither steer a terminal nor forge a line of a log.
    """
    shown = "".join(map(_visible, text[:_SHOWN_CHARACTERS]))
    return f'"{shown}…"' if len(text) > _SHOWN_CHARACTERS else f'"{shown}"'


def describe_json(value: object) -> str:
    """Give a JSON value for a sentence: a text in quotes, any other value only by its type (it may be huge)."""
    if isinstance(value, str):
        return quote(value)
    return _TYPES.get(type(value), "nothing")


def json_path_step(name: str) -> str:
    """Give a member name for the `where` of a reason: as it is when it is a plain word, else quoted."""
    return (
        f".{name}" if name.isidentifier() and name.isascii() and len(name) <= _SHOWN_CHARACTERS else f"[{quote(name)}]"
    )


def shell_argument(thumbprint: str) -> str:
    """Give a thumbprint as the last word of a command; a leading hyphen (1 in 64) must not make it an option."""
    return f"-- {thumbprint}" if thumbprint.startswith("-") else thumbprint


_TYPES: dict[type, str] = {
    bool: "a truth value",
    int: "a number",
    float: "a number",
    list: "an array",
    dict: "an object",
}


def _visible(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}"
