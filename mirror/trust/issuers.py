"""In what two issuer texts differ, for people who look at both and see the same (facts 25, 30)."""

from collections.abc import Iterable
from difflib import SequenceMatcher

from mirror.addresses import canonical_url
from mirror.model import IssuerUrl

_LIKE = 0.8
"""From which likeness on two texts are worth comparing."""


def difference(one: str, other: str) -> str:
    """In what two texts differ, as the end of a sentence; `one` is the stranger, `other` the configured one."""
    tests = (
        (one.rstrip("/") == other.rstrip("/"), "they differ in the slash at the end alone, which counts"),
        (one.casefold() == other.casefold(), "they differ in upper and lower case alone, which counts"),
        (one.strip() == other, "they differ in blanks around it alone, which count"),
        (_without_scheme(one) == _without_scheme(other), "they differ in the scheme alone: it must be https://"),
        (canonical_url(one) == canonical_url(other), "both name one S3 bucket, under two host styles; the text counts"),
        (one.startswith(f"{other.rstrip('/')}/"), "it goes on where the issuer ends"),
        (other.startswith(f"{one.rstrip('/')}/"), "it ends where the issuer goes on"),
    )
    return next((sentence for is_it, sentence in tests if is_it), _first_difference(one, other))


def nearest(issuer: str, configured: Iterable[IssuerUrl]) -> IssuerUrl | None:
    """The configured issuer that `issuer` was most likely meant to be; None when none is like it."""
    ranked = sorted(((_likeness(issuer, each), each) for each in configured), key=lambda pair: (-pair[0], pair[1]))
    return ranked[0][1] if ranked and ranked[0][0] >= _LIKE else None


def _likeness(one: str, other: str) -> float:
    # Long texts from outside are compared by their beginning: the comparison is quadratic.
    a, b = canonical_url(one[:1024].casefold()), canonical_url(other.casefold())
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def _without_scheme(text: str) -> str:
    return text.partition("://")[2] or text


def _first_difference(one: str, other: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return f"they differ from character {at + 1} on"
