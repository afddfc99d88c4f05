"""Private key material in a public document: nothing of such a document may be believed (fact 46)."""

from collections.abc import Iterator

from mirror.model import Reason
from mirror.trust.words import step

PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
"""The private and symmetric members of RFC 7518, section 6, and `priv` of ML-DSA keys (`kty` AKP, fact 8)."""


def private_members(value: object, document: str, inside: str = "") -> tuple[Reason, ...]:
    """Find private members anywhere in `value`, also nested, also in keys that would be skipped (fact 46).

    The reasons name the places and never a value.

    Args:
        value: the document, or a part of it.
        document: how sentences and places call the document.
        inside: where in the document `value` stands, such as `keys[2]`.
    """
    return tuple(
        Reason(
            "private_key",
            f"The {document} document has the private member {name!r}.",
            "Treat this key as stolen: make a new one, revoke this one, and find out why it is served.",
            f"{document} {path.removeprefix('.')}",
        )
        for path, name in _members(value, inside)
        if name in PRIVATE_MEMBERS
    )


def _members(value: object, where: str) -> Iterator[tuple[str, str]]:
    """Give every member of every object below `value` as (path, name); `value` is of bounded depth."""
    if isinstance(value, dict):
        for name, child in value.items():
            path = where + step(name)
            yield path, name
            yield from _members(child, path)
    elif isinstance(value, list):
        for position, child in enumerate(value):
            yield from _members(child, f"{where}[{position}]")
