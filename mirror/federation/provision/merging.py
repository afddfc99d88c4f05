"""Our statement in a policy that others wrote too: put in, corrected, and nothing else touched. Pure."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mirror.aws.iam_policy import PUBLIC_SID, Statement, compact, document


@dataclass(frozen=True, slots=True)
class Standing:
    """A bucket's policy as it stands: its other members, our statement, and those of others, in their order."""

    members: Mapping[str, Any]
    ours: tuple[Statement, ...]
    foreign: tuple[Statement, ...]


def read_policy(text: str) -> Standing | None:
    """The parts of a policy's text; None when it is none that this program understands."""
    try:
        policy = json.loads(text)
        listed = policy["Statement"]
        statements = listed if isinstance(listed, list) else [listed]
        if not all(isinstance(each, dict) for each in statements):
            return None
        members = {name: value for name, value in policy.items() if name != "Statement"}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    ours = tuple(each for each in statements if each.get("Sid") == PUBLIC_SID)
    return Standing(members, ours, tuple(each for each in statements if each.get("Sid") != PUBLIC_SID))


NOTHING = Standing(document(), (), ())
"""The policy of a bucket that has none."""


def is_right(standing: Standing, wanted: Statement) -> bool:
    """Whether our statement stands exactly once and says exactly what it should, in whatever order."""
    return len(standing.ours) == 1 and _normal(standing.ours[0]) == _normal(wanted)


def is_within(standing: Standing, wanted: Statement) -> bool:
    """Whether our statement as it stands opens nothing that it should not."""
    return all(
        {**_normal(each), "Resource": None} == {**_normal(wanted), "Resource": None}
        and _as_set(each.get("Resource", [])) <= _as_set(wanted["Resource"])
        for each in standing.ours
    )


def merged(standing: Standing, wanted: Statement) -> str:
    """The text of the policy with our statement behind those of others, which stay as they are."""
    members = {name: value for name, value in standing.members.items() if name != "Statement"}
    return compact({**members, "Statement": [*standing.foreign, wanted]})


def _normal(statement: Statement) -> dict[str, Any]:
    """AWS gives lists back in another order, and a list of one as its entry."""
    return {name: _as_set(value) if name in ("Action", "Resource") else value for name, value in statement.items()}


def _as_set(value: Any) -> frozenset[str]:
    return frozenset(map(str, value if isinstance(value, list) else [value]))


def opened(standing: Standing) -> frozenset[str]:
    """The resources that our statement opens now, whole."""
    return frozenset().union(*(_as_set(each.get("Resource", [])) for each in standing.ours))


# ------------------------------------------------------------------------------------- statements of others


def public_names(foreign: Iterable[Statement]) -> tuple[str, ...]:
    """Those statements of others that give anything to everybody, by Sid or number.

    One with a condition counts too: whether it is narrow enough is for its author to say.
    """
    return tuple(_named(foreign, lambda each: each.get("Effect") == "Allow" and _is_for_everybody(each)))


def denying_names(foreign: Iterable[Statement], arns: Iterable[str]) -> tuple[str, ...]:
    """Those statements of others that without a condition forbid everybody to read one of `arns`."""
    wanted = tuple(arns)
    return tuple(_named(foreign, lambda each: _denies(each, wanted)))


def _named(statements: Iterable[Statement], chosen: Any) -> Iterator[str]:
    for number, each in enumerate(statements, start=1):
        if chosen(each):
            yield str(each.get("Sid") or f"number {number}")


def _is_for_everybody(statement: Statement) -> bool:
    if "NotPrincipal" in statement:
        return True
    principal = statement.get("Principal")
    texts = _texts(principal.get("AWS")) if isinstance(principal, dict) else _texts(principal)
    return "*" in texts


def _denies(statement: Statement, arns: tuple[str, ...]) -> bool:
    if statement.get("Effect") != "Deny" or statement.get("Condition") or not _is_for_everybody(statement):
        return False
    acts = any(_fits(each.lower(), "s3:getobject") for each in _texts(statement.get("Action")))
    return acts and any(_fits(pattern, arn) for pattern in _texts(statement.get("Resource")) for arn in arns)


def _fits(pattern: str, text: str) -> bool:
    words = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern)
    return re.fullmatch(words, text, re.DOTALL) is not None


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),)
