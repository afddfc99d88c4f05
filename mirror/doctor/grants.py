"""What a bucket policy lets the whole world do, judged against the objects that should be public. Pure.

An approximation of IAM's evaluation that errs to the side of telling: what it cannot judge it says so.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mirror.model import ObjectKey

_GET = "s3:GetObject"
_HARMLESS_DENIAL = frozenset({"aws:securetransport", "s3:tlsversion"})


@dataclass(frozen=True, slots=True)
class Grants:
    """What a policy gives to everybody.

    `missing` of the wanted keys nobody may read; `denied` are read-protected by a Deny. `wider` are resources beyond
    the wanted ones that everybody may read, `dangerous` actions beyond reading, each with its resource.
    `conditional` are statement ids whose Condition this program does not judge.
    """

    missing: tuple[ObjectKey, ...]
    denied: tuple[ObjectKey, ...] = ()
    wider: tuple[str, ...] = ()
    dangerous: tuple[str, ...] = ()
    conditional: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Statement:
    name: str
    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: frozenset[str]
    negated: frozenset[str] = field(default_factory=frozenset)


def grants(policy: str, bucket: str, wanted: Iterable[ObjectKey], partition: str) -> Grants | None:
    """Judge the text of a policy; None when it is no policy.

    Args:
        policy: The JSON text (IAM JSON policy elements reference).
        bucket: The bucket's name.
        wanted: The keys that everybody should be able to read.
        partition: The second word of its ARNs: `aws`, or that of China or a government's cloud.
    """
    statements = _public_statements(policy)
    if statements is None:
        return None
    arns = {key: f"arn:{partition}:s3:::{bucket}/{key}" for key in wanted}
    plain = [each for each in statements if not each.conditions]
    allowing = [each for each in plain if each.allows]
    denying = [each for each in statements if not each.allows and not each.conditions <= _HARMLESS_DENIAL]
    denying += [each for each in plain if not each.allows]
    names = [each.name for each in statements if each.allows and each.conditions]
    return Grants(
        missing=tuple(key for key, arn in arns.items() if not any(_reads(each, arn) for each in allowing)),
        denied=tuple(key for key, arn in arns.items() if any(_reads(each, arn) for each in denying)),
        wider=tuple(dict.fromkeys(_wider(allowing, frozenset(arns.values())))),
        dangerous=tuple(dict.fromkeys(_dangerous(each for each in statements if each.allows))),
        conditional=tuple(names),
    )


def _public_statements(policy: str) -> list[_Statement] | None:
    """The statements whose principal is everybody."""
    try:
        document = json.loads(policy)
        listed = document["Statement"]
        entries = listed if isinstance(listed, list) else [listed]
        return [_read(each, number) for number, each in enumerate(entries, start=1) if _is_public(each)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _read(entry: Mapping[str, Any], number: int) -> _Statement:
    operators = entry.get("Condition") or {}
    conditions = frozenset(str(key).lower() for keys in operators.values() for key in keys)
    return _Statement(
        name=str(entry.get("Sid") or f"statement {number}"),
        allows=entry.get("Effect") == "Allow",
        actions=_texts(entry.get("Action", entry.get("NotAction"))),
        resources=_texts(entry.get("Resource", entry.get("NotResource"))),
        conditions=conditions,
        negated=frozenset({"NotAction", "NotResource"} & entry.keys()),
    )


def _is_public(entry: Mapping[str, Any]) -> bool:
    if "NotPrincipal" in entry:
        return True  # everybody but some
    principal = entry.get("Principal")
    return principal == "*" or (isinstance(principal, dict) and "*" in _texts(principal.get("AWS")))


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, list) else (str(value),) if value else ()


def _matches(pattern: str, text: str, *, ignoring_case: bool = False) -> bool:
    """IAM's wildcards: `*` is any text, `?` any character."""
    words = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    return re.fullmatch(words, text, re.DOTALL | (re.IGNORECASE if ignoring_case else 0)) is not None


def _reads(statement: _Statement, arn: str) -> bool:
    acts = any(_matches(each, _GET, ignoring_case=True) for each in statement.actions)
    covers = any(_matches(each, arn) for each in statement.resources)
    return (acts != ("NotAction" in statement.negated)) and (covers != ("NotResource" in statement.negated))


def _wider(allowing: Iterable[_Statement], wanted: frozenset[str]) -> Iterator[str]:
    for each in allowing:
        if "NotResource" in each.negated:
            yield f"everything but {', '.join(each.resources)}"
        elif any(_matches(action, _GET, ignoring_case=True) for action in each.actions):
            yield from (resource for resource in each.resources if resource not in wanted)


def _dangerous(allowing: Iterable[_Statement]) -> Iterator[str]:
    for each in allowing:
        where = ", ".join(each.resources)
        if "NotAction" in each.negated:
            yield f"everything but {', '.join(each.actions)} on {where}"
            continue
        yield from (f"{action} on {where}" for action in each.actions if action.lower() != _GET.lower())
