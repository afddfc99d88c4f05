"""Checks of single values of `publish`. Each returns the value or raises ValueError with sentence and remedy."""

import re

from mirror.addresses import is_safe_path

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
    """A bucket's name by the naming rules of S3, without dots (fact 40)."""
    if "." in text:
        raise ValueError(
            "The bucket's name has a dot, which breaks TLS on its public URL. Use a bucket whose name has none."
        )
    if re.fullmatch(BUCKET_PATTERN, text) is None:
        raise ValueError(
            "This is no bucket name. S3 takes 3 to 63 lower-case letters, digits and hyphens between a letter or digit."
        )
    if text.startswith(_RESERVED_STARTS) or text.endswith(_RESERVED_ENDS):
        raise ValueError("S3 keeps names that begin or end like this for itself. Use another bucket.")
    return text


def region(text: str) -> str:
    """The name of a region, of AWS or of another S3 server."""
    return _fitting(REGION_PATTERN, text, "This is no region. Write its code, such as ap-southeast-2.")


def account(value: object) -> str:
    """A 12-digit AWS account id; YAML reads one without a leading zero as a number."""
    text = str(value) if isinstance(value, int | str) else ""
    return _fitting(ACCOUNT_PATTERN, text, "This is no AWS account. Write its 12 digits in quotes.")


def role_arn(text: str) -> str:
    """The ARN of an IAM role."""
    return _fitting(ROLE_ARN_PATTERN, text, "This is no role's ARN. Write arn:aws:iam::<12 digits>:role/<name>.")


def distribution(text: str) -> str:
    """The id of a CloudFront distribution."""
    return _fitting(DISTRIBUTION_PATTERN, text, "This is no distribution's id. Write it such as E2QWRUHAPOMQZL.")


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
    """A Cache-Control header under which relying parties see a new key in time (fact 27)."""
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


def _fitting(pattern: str, text: str, mistake: str) -> str:
    if re.fullmatch(pattern, text) is None:
        raise ValueError(mistake)
    return text
