"""JSON text to plain data, for configurations that programs write.

YAML readers take most JSON but not all of it: libyaml refuses the escaped surrogate pairs of RFC 8259, section 7.
"""

import json
from dataclasses import dataclass
from typing import NoReturn

_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Plain:
    """Data that was read, to tell `null` from nothing."""

    data: object


def read(text: str, *, max_depth: int) -> Plain | None:
    """Read strict JSON; None when the text is none, so that the YAML reader says what is wrong and where.

    None is also the answer to duplicate names, huge numbers, lone surrogates and nesting beyond `max_depth`.
    """
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_int=_integer, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return Plain(data) if _is_plain(data, max_depth) else None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("duplicate name")
    return members


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError("huge number")
    return int(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _is_plain(data: object, max_depth: int) -> bool:
    """Whether nothing is nested too deeply and every text and number can be written out again."""
    level = [data]
    for _ in range(max_depth + 1):
        if not all(map(_is_writable, level)):
            return False
        level = [part for value in level for part in _parts(value)]
        if not level:
            return True
    return False


def _parts(value: object) -> list[object]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


def _is_writable(value: object) -> bool:
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
    return not isinstance(value, float) or abs(value) < float("inf")
