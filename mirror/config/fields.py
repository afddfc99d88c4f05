"""Checks of single values, with their units. Each returns the value or raises ValueError with sentence and remedy.

A `ValueError` here carries one text for each mistake: a sentence and its remedy.
What reaches git's command line or a shell at the other end of ssh is held to forms that mean nothing else there.
"""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import TypeGuard

from mirror.addresses import UrlParts, is_host, is_port, is_safe_path, split_url, url_problems

_VARIABLE = re.compile(r"\$(?:[A-Za-z_]|\{)")

_Check = tuple[Callable[[UrlParts], bool], str]

_HOST_AND_PORT: tuple[_Check, ...] = (
    (lambda url: bool(url.host) and not is_host(url.host.lower()), "The host is not a valid host name. Correct it."),
    (
        lambda url: url.port is not None and not is_port(url.port),
        "The port is not a number from 1 to 65535. Correct it, or remove it together with its colon.",
    ),
    (lambda url: url.query is not None, "The URL has a query. Remove the question mark and what follows it."),
    (lambda url: url.fragment is not None, "The URL has a fragment. Remove the # and what follows it."),
)
_APISERVER: tuple[_Check, ...] = (
    (
        lambda url: url.scheme != "https" or not url.host,
        "This is not an https URL. Write https://host:port; apiservers are asked over verified TLS only.",
    ),
    (
        lambda url: url.user_info is not None,
        "The URL has user information. Remove everything up to and including the @; credentials belong to auth.",
    ),
    (
        lambda url: url.path == "/",
        "The path of the URL is only a slash. Remove it: apiservers serve the documents at fixed paths.",
    ),
    (
        lambda url: not is_safe_path(url.path.removeprefix("/").removesuffix("/")),
        (
            "The path of the URL has a segment that is empty, begins with a dot, or has other characters than A-Z a-z"
            " 0-9 . _ ~ -. Write the prefix of the gateway, such as /k8s/clusters/c-1, or remove the path."
        ),
    ),
    *_HOST_AND_PORT,
)
_PLAIN_URL: tuple[_Check, ...] = (
    (
        lambda url: url.scheme not in ("http", "https") or not url.host,
        "This is not an http or https URL. Write https://host:port.",
    ),
    (
        lambda url: url.user_info is not None,
        "The URL has user information. Remove everything up to and including the @; this file holds no passwords.",
    ),
    *_HOST_AND_PORT,
)
_PROXY: tuple[_Check, ...] = (
    *_PLAIN_URL,
    (lambda url: url.path not in ("", "/"), "The URL of a proxy has a path. Remove it."),
)
_ENDPOINT: tuple[_Check, ...] = (
    *_PLAIN_URL,
    (
        lambda url: not is_safe_path(url.path.removeprefix("/").removesuffix("/")),
        "The path of the URL has a segment that is empty, begins with a dot or needs escaping. Correct it.",
    ),
)


def _checked(text: str, checks: tuple[_Check, ...]) -> str:
    parts = split_url(text)
    mistakes = [mistake for broken, mistake in checks if broken(parts)]
    if mistakes:
        raise ValueError(*mistakes)
    return text


def apiserver(text: str) -> str:
    """An apiserver's URL, `https://host[:port][/prefix]`.

    The paths of the documents are fixed (facts.md#1); the prefix is that of a gateway in front of several clusters.
    """
    return _checked(text, _APISERVER)


def proxy(text: str) -> str:
    """The URL of an HTTP proxy without credentials."""
    return _checked(text, _PROXY).removesuffix("/")


def endpoint_url(text: str) -> str:
    """The URL of an S3 server, without a slash at its end."""
    return _checked(text, _ENDPOINT).removesuffix("/")


def base_url(text: str) -> str:
    """An https URL of plain segments, without a slash at its end."""
    mistakes = [f"{reason.sentence} {reason.remedy}" for reason in url_problems(text)]
    if mistakes:
        raise ValueError(*mistakes)
    return text.removesuffix("/")


def file_name(text: str) -> str:
    """A path as it is: nothing in it is expanded, so that what only a shell understands is a mistake."""
    if text.startswith("~"):
        raise ValueError(f"{_quoted(text)} begins with ~, which is not expanded. Write the whole path.")
    if _VARIABLE.search(text):
        raise ValueError(f"{_quoted(text)} has a variable, which is not expanded. Write the whole path.")
    return text


def host(text: str) -> str:
    """A host name or an IP address; IPv6 without brackets is allowed, as certificates name it so."""
    if not (is_host(text.lower()) or is_host(f"[{text.lower()}]")):
        raise ValueError("This is not a host name. Write the name that the certificate has, without scheme and port.")
    return text


def host_and_port(text: str) -> tuple[str, int]:
    """`host:port` with a port from 1 to 65535; IPv6 hosts stand in brackets and come back without them."""
    name, port = listen_address(text)
    if port == 0:
        raise ValueError("The port is 0. Write a port from 1 to 65535.")
    return name, port


def listen_address(text: str) -> tuple[str, int]:
    """`host:port` to listen on; port 0 lets the system choose."""
    name, colon, port = text.rpartition(":")
    if not (colon and is_host(name.lower()) and (port == "0" or is_port(port))):
        raise ValueError("This is not a host:port. Write it such as 127.0.0.1:9797, with an IPv6 address in brackets.")
    return name.removeprefix("[").removesuffix("]"), int(port)


def place_of_apiserver(url: str) -> tuple[str, str]:
    """Host and port of an apiserver's URL."""
    parts = split_url(url)
    return parts.host.lower(), parts.port or "443"


def prefix_of_apiserver(url: str) -> str:
    """The path of an apiserver's URL without a slash at its end: where a gateway has this cluster. Mostly empty."""
    return split_url(url).path.removesuffix("/")


MIN_MAX_AGE_SECONDS = 60
MAX_MAX_AGE_SECONDS = 3600

BUCKET_PATTERN = r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$"
REGION_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
ACCOUNT_PATTERN = r"^[0-9]{12}$"
ROLE_ARN_PATTERN = r"^arn:aws[a-z0-9-]*:iam::[0-9]{12}:role/[\x21-\x7e]{1,512}$"
DISTRIBUTION_PATTERN = r"^[A-Z0-9]{1,32}$"
# What S3 keeps for itself: user guide, "General purpose bucket naming rules".
_RESERVED_STARTS = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_ENDS = ("-s3alias", "--ol-s3", "--x-s3", "--table-s3")

_MAX_AGE = re.compile(r"[0-9]{1,9}")
_HARMLESS = frozenset({"public", "max-age", "must-revalidate", "proxy-revalidate", "no-transform"})


def bucket(text: str) -> str:
    """A bucket's name by the naming rules of S3, without dots (facts.md#40)."""
    if "." in text:
        raise ValueError(
            "The bucket's name has a dot, which breaks TLS on its public URL. Use a bucket whose name has none."
        )
    if re.fullmatch(BUCKET_PATTERN, text) is None:
        raise ValueError(
            "This is not a bucket name. S3 takes 3 to 63 lower-case letters, digits and hyphens; "
            "the first and the last are letters or digits."
        )
    if text.startswith(_RESERVED_STARTS) or text.endswith(_RESERVED_ENDS):
        raise ValueError("S3 keeps names that begin or end like this for itself. Use another bucket.")
    return text


def region(text: str) -> str:
    """The name of a region, of AWS or of another S3 server."""
    return fitting(REGION_PATTERN, text, "This is not a region. Write its code, such as ap-southeast-2.")


def account(value: object) -> str:
    """A 12-digit AWS account id; YAML reads one without a leading zero as a number."""
    text = str(value) if isinstance(value, int | str) else ""
    return fitting(ACCOUNT_PATTERN, text, "This is not an AWS account number. Write its 12 digits in quotes.")


def role_arn(text: str) -> str:
    """The ARN of an IAM role."""
    return fitting(ROLE_ARN_PATTERN, text, "This is not a role ARN. Write arn:aws:iam::<12 digits>:role/<name>.")


def distribution(text: str) -> str:
    """The id of a CloudFront distribution."""
    return fitting(DISTRIBUTION_PATTERN, text, "This is not a distribution ID. Write it such as E2QWRUHAPOMQZL.")


def prefix(text: str) -> str:
    """A folder of the bucket; it comes back without the slash at its end."""
    inner = text.removesuffix("/")
    if not is_safe_path(inner):
        raise ValueError(
            "The prefix has a segment that is empty, begins with a dot or needs escaping."
            " Write plain segments between single slashes, without a slash at the beginning."
        )
    return inner


def cache_control(text: str) -> str:
    """A Cache-Control header under which relying parties see a new key in time (facts.md#27)."""
    max_age_seconds(text)
    return text


def max_age_seconds(text: str) -> int:
    """The `max-age` of a Cache-Control header (RFC 9111, section 5.2), in seconds.

    Raises:
        ValueError: It is missing or outside one minute to one hour, or another directive changes what it means.
    """
    directives = [_directive(part) for part in text.split(",")]
    names = [name for name, _ in directives]
    harmful = sorted(set(names) - _HARMLESS)
    if harmful:
        raise ValueError(
            f"The directive {harmful[0]!a} changes how relying parties keep the keys."
            ' Write "public, max-age=300" or another max-age.'
        )
    ages = [value for name, value in directives if name == "max-age"]
    if len(ages) != 1 or _MAX_AGE.fullmatch(ages[0]) is None or len(set(names)) < len(names):
        raise ValueError('There must be exactly one max-age in seconds. Write "public, max-age=300".')
    if not MIN_MAX_AGE_SECONDS <= int(ages[0]) <= MAX_MAX_AGE_SECONDS:
        raise ValueError(
            f"max-age is outside {MIN_MAX_AGE_SECONDS} to {MAX_MAX_AGE_SECONDS} seconds: relying parties would fetch"
            " too often, or learn of a new key too late. Write max-age=300."
        )
    return int(ages[0])


def _directive(part: str) -> tuple[str, str]:
    text = part.strip(" \t").lower()
    name, _, value = text.partition("=")
    return (name, value) if name == "max-age" else (text, "")


def fitting(pattern: str, text: str, mistake: str) -> str:
    """The text if all of it matches the pattern.

    Raises:
        ValueError: It does not; with `mistake`.
    """
    if re.fullmatch(pattern, text) is None:
        raise ValueError(mistake)
    return text


_HOST = r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])"
_USER = r"[A-Za-z0-9_][A-Za-z0-9._+-]*"
_PLACE = r"(?!-)[^\x00-\x20\x7f?#\\]+"
_FORMS = tuple(
    re.compile(form)
    for form in (
        rf"https://{_HOST}(?::[0-9]{{1,5}})?/{_PLACE}",
        rf"ssh://(?:{_USER}@)?{_HOST}(?::[0-9]{{1,5}})?/{_PLACE}",
        rf"{_USER}@{_HOST}:{_PLACE}",
        r"/[^\x00-\x1f\x7f]*",
    )
)
_USER_INFO = re.compile(r"(?:https?://[^/]*@|ssh://[^/@]*:[^/]*@)")
# git-check-ref-format(1), rules 1 and 3 to 10, and no leading hyphen as `git branch` wants it.
_BAD_BRANCH = re.compile(
    r"^[-/]|[/.]$|\.\.|//|@\{|(?:^|/)\.|\.lock(?:/|$)|[\x00-\x20\x7f~^:?*\[\\]|^@$|^HEAD$|^refs/",
)
_AUTHOR = re.compile(r"(?P<name>[^<>]*[^<>\s])[ ]<(?P<email>[^<>\s]+)>")
_MAX_BRANCH_CHARACTERS = 200
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"


def remote(text: str) -> str:
    """A git remote: `https://…`, `ssh://…`, `user@host:path` or an absolute path."""
    if _USER_INFO.match(text):
        raise ValueError(
            "The remote has a user name or a password in it. Remove it; git asks its credential helper or ssh for it."
        )
    if not (text.isprintable() and any(form.fullmatch(text) for form in _FORMS)):
        raise ValueError(
            "This remote is not allowed. Write https://host/path, ssh://user@host/path, user@host:path"
            " or an absolute path."
        )
    return text


def branch(text: str) -> str:
    """The name of a branch, as git-check-ref-format allows it."""
    if not text.isprintable() or len(text) > _MAX_BRANCH_CHARACTERS or _BAD_BRANCH.search(text):
        raise ValueError("Git does not allow this name for a branch. Write a plain one, such as main.")
    return text


def name(text: str) -> str:
    """The name that signatures of ledgers are made for."""
    if re.fullmatch(NAME_PATTERN, text) is None:
        raise ValueError(
            "This is not a repository name. Use up to 63 lower-case letters, digits, dots, hyphens and underscores,"
            " and begin with a letter or a digit."
        )
    return text


def author(text: str) -> tuple[str, str]:
    """`Name <mail>`, as (name, mail)."""
    match = _AUTHOR.fullmatch(text) if text.isprintable() else None
    if match is None:
        raise ValueError('This is not an author. Write "Name <mail address>" on one line.')
    return match["name"].strip(), match["email"]


DURATION_PATTERN = r"^(?=[0-9])(?:[0-9]{1,9}d)?(?:[0-9]{1,9}h)?(?:[0-9]{1,9}m)?(?:[0-9]{1,9}s)?(?:[0-9]{1,9}ms)?$"
SIZE_PATTERN = r"^[0-9]{1,9}(?:B|KiB|MiB|GiB)$"

_DURATION = re.compile(
    r"(?=[0-9])(?:(?P<days>[0-9]{1,9})d)?(?:(?P<hours>[0-9]{1,9})h)?(?:(?P<minutes>[0-9]{1,9})m)?"
    r"(?:(?P<seconds>[0-9]{1,9})s)?(?:(?P<milliseconds>[0-9]{1,9})ms)?",
)
_SIZE = re.compile(r"(?P<count>[0-9]{1,9})(?P<unit>B|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_LONGEST = timedelta(days=3650)  # what is longer is a slip of the keyboard, and would overflow dates


def duration(value: object) -> timedelta:
    """Read a duration such as `300s`, `5m`, `24h`, `7d`, `1h30m` or `500ms`; zero is one.

    Raises:
        ValueError: With a sentence and a remedy: no text, no unit, an unknown unit, or over ten years.
    """
    if _is_number(value):
        raise ValueError(f"The number {value} has no unit. Write {int(value)}s if it is seconds, or another unit.")
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{_quoted(value)} is not a duration. {_likely_duration(value)}")
    length = timedelta(**{unit: int(count) for unit, count in match.groupdict("0").items()})
    if length > _LONGEST:
        raise ValueError("The duration is longer than ten years. Check its unit.")
    return length


def size_bytes(value: object) -> int:
    """Read a size such as `64KiB` or `1MiB`, in bytes.

    Raises:
        ValueError: With a sentence and a remedy: no text, no unit, or a unit that is not a power of 1024.
    """
    if _is_number(value):
        raise ValueError(f"The number {value} has no unit. Write {int(value)}B if it is bytes, or another unit.")
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            f"{_quoted(value)} is not a size. Write a whole number with B, KiB, MiB or GiB, such as 512KiB or 1MiB."
        )
    return int(match["count"]) * _BYTES[match["unit"]]


_MAX_QUOTED_CHARACTERS = 40
_LIKELY_DURATION = re.compile(r"([0-9]{1,9})\s*(s|sec|second|m|min|minute|h|hr|hour|d|day)s?", re.IGNORECASE)


def _quoted(value: object) -> str:
    """A value as the operator wrote it, on one line, escaped and shortened."""
    text = json.dumps(value, default=str)
    return text if len(text) <= _MAX_QUOTED_CHARACTERS else text[:_MAX_QUOTED_CHARACTERS] + "…"


def _likely_duration(value: object) -> str:
    likely = _LIKELY_DURATION.fullmatch(value) if isinstance(value, str) else None
    if likely is not None:
        return f"Write {likely[1]}{likely[2][0].lower()}."
    return "Write whole numbers with units, such as 300s, 5m, 24h or 7d."


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
