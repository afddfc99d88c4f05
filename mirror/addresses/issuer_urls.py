"""The rules of an issuer URL, in one table, each with its source; and in what two issuers differ.

`urllib.parse.urlsplit` is not used on purpose: it silently removes tabs and newlines and lowers the scheme,
so that a text which relying parties compare code point by code point (facts.md#30) would be judged by another text.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from ipaddress import AddressValueError, IPv6Address

from mirror.addresses.s3_urls import canonical_url
from mirror.model import IssuerUrl, Reason

MAX_ISSUER_CHARACTERS = 255  # IAM refuses a longer provider URL (table "Relying parties" of the facts)
MAX_PORT = 65535
MAX_HOST_CHARACTERS = 253  # RFC 1035, section 2.3.4, without the root's dot

_URL = re.compile(  # RFC 3986, appendix B; it matches every text
    r"(?:(?P<scheme>[^:/?#]*):)?(?://(?P<authority>[^/?#]*))?(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?",
    re.DOTALL,
)
_HOST_NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_SEGMENT = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
# How resolvers read a host whose last label is a number, `127.1` or `0x7f000001` included: as an IPv4 address.
_NUMERIC_HOST = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_PRIVATE_HOST = re.compile(r"(?:.*\.)?(?:localhost|local|svc|svc\.cluster\.local)")


@dataclass(frozen=True, slots=True)
class UrlParts:
    """A URL cut into its parts (RFC 3986, section 3), each exactly as written.

    `user_info`, `port`, `query` and `fragment` are None where their delimiter is absent; an IPv6 host keeps its
    brackets; `path` begins with its slash.
    """

    text: str
    scheme: str
    user_info: str | None
    host: str
    port: str | None
    path: str
    query: str | None
    fragment: str | None


def split_url(text: str) -> UrlParts:
    """Cut any text into the parts of a URL; what is no URL has an empty scheme or host."""
    match = _URL.fullmatch(text)
    assert match is not None  # noqa: S101 - each part of the pattern may be empty, so that it matches every text
    user_info, at, place = (match["authority"] or "").rpartition("@")
    host_end = place.find("]") + 1 if place.startswith("[") else 0
    name, colon, port = place[host_end:].partition(":")
    return UrlParts(
        text=text,
        scheme=match["scheme"] or "",
        user_info=user_info if at else None,
        host=place[:host_end] + name,
        port=port if colon else None,
        path=match["path"],
        query=match["query"],
        fragment=match["fragment"],
    )


def is_host(text: str) -> bool:
    """Whether `text` is a host name in lower case (RFC 1123, section 2.1), an IPv4 or a bracketed IPv6 address."""
    if text.startswith("[") and text.endswith("]"):
        return _is_ipv6(text[1:-1])
    return len(text) <= MAX_HOST_CHARACTERS and _HOST_NAME.fullmatch(text) is not None


def is_port(text: str) -> bool:
    """Whether `text` is a TCP port, 1 to 65535, without leading zeros."""
    return _PORT.fullmatch(text) is not None and int(text) <= MAX_PORT


def is_safe_path(path: str) -> bool:
    """Whether a path without its outer slashes is empty or a sequence of segments without escapes and dot segments."""
    return not path or all(map(_is_safe_segment, path.split("/")))


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return "%" not in text and text == text.lower()


def _is_safe_segment(segment: str) -> bool:
    # `git~1` is the short name that Windows gives to `.git`; git refuses to check such a path out.
    return _SEGMENT.fullmatch(segment) is not None and segment.lower() != "git~1"


def _has_bad_path(parts: UrlParts) -> bool:
    inner = parts.path.removesuffix("/")
    return inner == "/" or not is_safe_path(inner.removeprefix("/"))


def _is_address(host: str) -> bool:
    return host.startswith("[") or _NUMERIC_HOST.fullmatch(host) is not None


@dataclass(frozen=True, slots=True)
class _Rule:
    code: str
    broken: Callable[[UrlParts], bool]
    sentence: str
    remedy: str


_URL_RULES = (
    _Rule(
        "url_not_https",  # OpenID Connect Discovery 1.0, section 3; facts.md#13 and "Relying parties"
        lambda url: url.scheme != "https" or not url.host,
        "It is not an https URL.",
        "Begin it with https:// in lower case, then the host.",
    ),
    _Rule(
        "url_user_info",  # RFC 3986, section 3.2.1
        lambda url: url.user_info is not None,
        "It has a user name before its host.",
        "Remove everything up to and including the @.",
    ),
    _Rule(
        "url_host_upper_case",  # facts.md#30: relying parties compare the text, S3 and TLS the lowered host
        lambda url: url.host != url.host.lower(),
        "Its host is not in lower case.",
        "Write the host in lower case, in the apiservers' --service-account-issuer too.",
    ),
    _Rule(
        "url_bad_host",  # RFC 1123, section 2.1
        lambda url: bool(url.host) and not is_host(url.host.lower()),
        "Its host is not a valid host name.",
        "Use letters, digits, hyphens and single dots; write other scripts in their xn-- form.",
    ),
    _Rule(
        "url_bad_port",  # RFC 3986, section 3.2.3
        lambda url: url.port is not None and not is_port(url.port),
        "Its port is not a number from 1 to 65535.",
        "Correct the port, or remove it together with its colon.",
    ),
    _Rule(
        "url_query",  # OpenID Connect Discovery 1.0, section 3; facts.md#13
        lambda url: url.query is not None,
        "It has a query.",
        "Remove the question mark and what follows it.",
    ),
    _Rule(
        "url_fragment",  # OpenID Connect Discovery 1.0, section 3; facts.md#13
        lambda url: url.fragment is not None,
        "It has a fragment.",
        "Remove the # and what follows it.",
    ),
    _Rule(
        "url_bad_path",  # facts.md#30: what needs escaping is compared differently by relying parties, git and S3
        _has_bad_path,
        "Its path has a segment that is empty, begins with a dot, is git~1, or has other characters than A-Z a-z 0-9"
        " . _ ~ -.",
        "Use plain segments between single slashes; one slash at the end is allowed.",
    ),
)
_ISSUER_RULES = (
    _Rule(
        "issuer_too_long",  # table "Relying parties" of the facts
        lambda url: len(url.text) > MAX_ISSUER_CHARACTERS,
        f"It is longer than {MAX_ISSUER_CHARACTERS} characters, and AWS accepts no longer one.",
        "Choose a shorter path.",
    ),
)
_PUBLIC_RULES = (
    _Rule(
        "issuer_private_host",  # facts.md#13; RFC 6761, section 6.3; RFC 6762, section 3
        lambda url: _PRIVATE_HOST.fullmatch(url.host.lower()) is not None,
        "Its host exists only inside a cluster or a local network, so no cloud can read it.",
        "Use a public host, or set allow_private_issuer: true in a closed network.",
    ),
    _Rule(
        "issuer_ip_address",  # relying parties verify a host name
        lambda url: _is_address(url.host.lower()),
        "Its host is an IP address.",
        "Use a public host name, or set allow_private_issuer: true in a closed network.",
    ),
)
_WARNINGS = (
    _Rule(
        "issuer_port",  # table "Relying parties" of the facts
        lambda url: url.port is not None,
        "The issuer has a port, and AWS discourages one.",
        "Prefer an issuer on port 443 without writing it.",
    ),
)


def _reasons(text: str, rules: tuple[_Rule, ...]) -> tuple[Reason, ...]:
    parts = split_url(text)
    return tuple(Reason(rule.code, rule.sentence, rule.remedy, "issuer") for rule in rules if rule.broken(parts))


def url_problems(text: str) -> tuple[Reason, ...]:
    """Every reason why `text` is no https URL of plain segments, such as a base URL; empty when it is one."""
    return _reasons(text, _URL_RULES)


def issuer_problems(text: str, *, allow_private: bool) -> tuple[Reason, ...]:
    """Every reason why `text` cannot be a configured issuer; empty when it can.

    Args:
        text: The issuer exactly as the apiservers' `--service-account-issuer` has it.
        allow_private: Whether hosts that no cloud can reach are let through (`allow_private_issuer`).
    """
    rules = _URL_RULES + _ISSUER_RULES
    return _reasons(text, rules if allow_private else rules + _PUBLIC_RULES)


def issuer_warnings(text: str) -> tuple[Reason, ...]:
    """What is allowed in an issuer but unwise."""
    return _reasons(text, _WARNINGS)


_LIKE = 0.8
"""Two texts of at least this similarity are worth comparing."""


def describe_difference(one: str, other: str) -> str:
    """In what two texts differ, as the end of a sentence; `one` is the reported text, `other` the configured one."""
    tests = (
        (one.rstrip("/") == other.rstrip("/"), "they differ only in the trailing slash, which counts"),
        (one.casefold() == other.casefold(), "they differ only in upper and lower case, which counts"),
        (one.strip() == other, "they differ only in surrounding blanks, which count"),
        (_without_scheme(one) == _without_scheme(other), "they differ only in the scheme, which must be https://"),
        (canonical_url(one) == canonical_url(other), "both name one S3 bucket, under two host styles; the text counts"),
        (one.startswith(f"{other.rstrip('/')}/"), "it goes on where the issuer ends"),
        (other.startswith(f"{one.rstrip('/')}/"), "it ends where the issuer goes on"),
    )
    return next((sentence for is_it, sentence in tests if is_it), _first_difference(one, other))


def closest_issuer(issuer: str, configured: Iterable[IssuerUrl]) -> IssuerUrl | None:
    """The configured issuer that `issuer` was most likely meant to be; None when none is like it."""
    ranked = sorted(((_similarity(issuer, each), each) for each in configured), key=lambda pair: (-pair[0], pair[1]))
    return ranked[0][1] if ranked and ranked[0][0] >= _LIKE else None


def _similarity(one: str, other: str) -> float:
    # Long texts from outside are compared by their beginning: the comparison is quadratic.
    a, b = canonical_url(one[:1024].casefold()), canonical_url(other.casefold())
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def _without_scheme(text: str) -> str:
    return text.partition("://")[2] or text


def _first_difference(one: str, other: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return f"they differ from character {at + 1} on"
