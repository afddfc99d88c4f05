"""The strict parser's JSON: one object with one unambiguous meaning, or a rejection."""

import json
import math
from collections.abc import Iterator
from typing import Any


class NotBelievedError(Exception):
    """The document is rejected; the message says why."""


def demand(holds: object, why: str) -> None:
    if not holds:
        raise NotBelievedError(why)


def strict_object(body: bytes) -> dict[str, Any]:
    """Parse `body` as one JSON object that every parser reads in the same way."""
    demand(not body.startswith(b"\xef\xbb\xbf"), "byte order mark")
    try:
        text = body.decode("utf-8", "strict")
        value = json.loads(text, object_pairs_hook=_no_name_twice, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise NotBelievedError("no JSON") from error
    demand(_depth(value) <= 32, "too deep")
    demand(isinstance(value, dict), "no object")
    for each in everything(value):
        demand(not isinstance(each, float) or math.isfinite(each), "a number out of range")
        if isinstance(each, str):
            demand(not any(0xD800 <= ord(character) <= 0xDFFF for character in each), "half a surrogate pair")
    assert isinstance(value, dict)
    return value


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    demand(len(names) == len(set(names)), "a member twice")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise NotBelievedError(name)


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((_depth(child) for child in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((_depth(child) for child in value), default=0)
    return 0


def everything(value: Any) -> Iterator[Any]:
    """Every value and every member name inside `value`."""
    yield value
    if isinstance(value, dict):
        for name, child in value.items():
            yield name
            yield from everything(child)
    if isinstance(value, list):
        for child in value:
            yield from everything(child)
