"""The kinds of values that the configuration's keys have: what is read, how it is checked, how the schema says it.

Each kind is a pydantic annotation around a check that raises `ValueError` with sentences for operators.
"""

import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, WithJsonSchema

from mirror.config import bucket_fields, fields, git_fields, units

MAX_TEXT_CHARACTERS = 1024
MAX_AUDIENCE_CHARACTERS = 255  # IAM, table "Relying parties" of the facts
MAX_GOOGLE_AUDIENCE_CHARACTERS = 256
MAX_AZURE_AUDIENCE_CHARACTERS = 600
MAX_EXTRA_MEMBERS = 64
NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
THUMBPRINT_PATTERN = r"^[A-Za-z0-9_-]{43}$"
DAY_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
OUR_MEMBERS = frozenset(  # of the discovery document, fact 2: built from what was validated, never configured
    {
        "issuer",
        "jwks_uri",
        "response_types_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
    }
)
_Read = TypeVar("_Read")


def _text(value: object) -> str:
    if isinstance(value, int | float):
        raise ValueError("This must be text. Put it in quotes.")  # noqa: TRY004 - pydantic reports ValueError
    if not isinstance(value, str):
        raise ValueError("This must be text. Write one line of it.")  # noqa: TRY004 - pydantic reports ValueError
    if not 0 < len(value) <= MAX_TEXT_CHARACTERS:
        raise ValueError(f"This must have 1 to {MAX_TEXT_CHARACTERS} characters. Correct it, or remove the key.")
    if not value.isprintable():
        raise ValueError("This has control or invisible characters. Type it again without them.")
    return value


def _from_text(check: Callable[[str], _Read]) -> Callable[[object], _Read]:
    """A check of a printable text, as one validator: pydantic's own text type would speak its own words."""
    return lambda value: check(_text(value))


def _name(text: str) -> str:
    if re.fullmatch(NAME_PATTERN, text) is None:
        raise ValueError(
            "This is no name. Use up to 63 lower-case letters, digits and hyphens, and no hyphen at the beginning."
        )
    return text


def _audience(text: str) -> str:
    if len(text) > MAX_AUDIENCE_CHARACTERS:
        raise ValueError(f"AWS takes audiences of 1 to {MAX_AUDIENCE_CHARACTERS} characters. Choose a shorter one.")
    return text


def _google_audience(text: str) -> str:
    if len(text) > MAX_GOOGLE_AUDIENCE_CHARACTERS:
        raise ValueError(f"Google takes audiences of 1 to {MAX_GOOGLE_AUDIENCE_CHARACTERS} characters. Shorten it.")
    return text


def _azure_audience(text: str) -> str:
    if len(text) > MAX_AZURE_AUDIENCE_CHARACTERS:
        raise ValueError(f"Entra takes audiences of 1 to {MAX_AZURE_AUDIENCE_CHARACTERS} characters. Shorten it.")
    return text


def one_or_list(value: object) -> object:
    """A text in place of a list of one."""
    return [value] if isinstance(value, str) else value


def _thumbprint(text: str) -> str:
    if re.fullmatch(THUMBPRINT_PATTERN, text) is None:
        raise ValueError(
            "This is no thumbprint. Copy the 43 characters that `oidc-mirror status` shows for the key (RFC 7638)."
        )
    return text


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text if re.fullmatch(DAY_PATTERN, text) else "")
    except ValueError:
        raise ValueError("This is no day. Write it as year-month-day, such as 2027-01-31.") from None


def _prefix(value: object) -> str:
    return "" if value == "" else bucket_fields.prefix(_text(value))


def _positive(value: object) -> timedelta:
    length = units.duration(value)
    if not length:
        raise ValueError("The duration is zero. Write a longer one, such as 5s.")
    return length


def _extra(members: dict[str, JsonValue]) -> dict[str, JsonValue]:
    ours = sorted(OUR_MEMBERS & members.keys())
    mistakes = [f"The member {name} is made from what was validated. Remove it here." for name in ours]
    if not all(name and name.isprintable() for name in members):
        mistakes.append("A member has an empty or unprintable name. Correct it.")
    if len(members) > MAX_EXTRA_MEMBERS:
        mistakes.append(f"There are more than {MAX_EXTRA_MEMBERS} members. Remove what no relying party needs.")
    if mistakes:
        raise ValueError(*mistakes)
    return members


def _schema(pattern: str | None = None, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **({"pattern": pattern} if pattern else {}), **more})


_TEXT_SCHEMA = _schema(minLength=1, maxLength=MAX_TEXT_CHARACTERS)

Text = Annotated[str, BeforeValidator(_text), _TEXT_SCHEMA]
FileName = Text
Name = Annotated[str, BeforeValidator(_from_text(_name)), _schema(NAME_PATTERN)]
Duration = Annotated[timedelta, BeforeValidator(units.duration), _schema(units.DURATION_PATTERN)]
PositiveDuration = Annotated[timedelta, BeforeValidator(_positive), _schema(units.DURATION_PATTERN)]
Size = Annotated[int, BeforeValidator(units.size_bytes), _schema(units.SIZE_PATTERN)]
Day = Annotated[date, BeforeValidator(_from_text(_day)), _schema(DAY_PATTERN)]
Audience = Annotated[str, BeforeValidator(_from_text(_audience)), _schema(minLength=1, maxLength=255)]
GoogleAudience = Annotated[str, BeforeValidator(_from_text(_google_audience)), _schema(minLength=1, maxLength=256)]
AzureAudience = Annotated[str, BeforeValidator(_from_text(_azure_audience)), _schema(minLength=1, maxLength=600)]
Thumbprint = Annotated[str, BeforeValidator(_from_text(_thumbprint)), _schema(THUMBPRINT_PATTERN)]
Apiserver = Annotated[str, BeforeValidator(_from_text(fields.apiserver)), _schema("^https://[^/?#@]+(/[^?#@]+)?$")]
Proxy = Annotated[str, BeforeValidator(_from_text(fields.proxy)), _schema("^https?://[^/?#@]+/?$")]
BaseUrl = Annotated[str, BeforeValidator(_from_text(fields.base_url)), _schema("^https://[^?#@]+$")]
EndpointUrl = Annotated[str, BeforeValidator(_from_text(fields.endpoint_url)), _schema("^https?://[^?#@]+$")]
HostName = Annotated[str, BeforeValidator(_from_text(fields.host)), _TEXT_SCHEMA]
HostAndPort = Annotated[tuple[str, int], BeforeValidator(_from_text(fields.host_and_port)), _schema("^.+:[0-9]{1,5}$")]
ListenAddress = Annotated[
    tuple[str, int], BeforeValidator(_from_text(fields.listen_address)), _schema("^.+:[0-9]{1,5}$")
]
BucketName = Annotated[str, BeforeValidator(_from_text(bucket_fields.bucket)), _schema(bucket_fields.BUCKET_PATTERN)]
Region = Annotated[str, BeforeValidator(_from_text(bucket_fields.region)), _schema(bucket_fields.REGION_PATTERN)]
Account = Annotated[
    str,
    BeforeValidator(bucket_fields.account),
    WithJsonSchema({"type": ["string", "integer"], "pattern": bucket_fields.ACCOUNT_PATTERN}),
]
RoleArn = Annotated[str, BeforeValidator(_from_text(bucket_fields.role_arn)), _schema(bucket_fields.ROLE_ARN_PATTERN)]
Distribution = Annotated[
    str, BeforeValidator(_from_text(bucket_fields.distribution)), _schema(bucket_fields.DISTRIBUTION_PATTERN)
]
Prefix = Annotated[str, BeforeValidator(_prefix), _schema(maxLength=MAX_TEXT_CHARACTERS)]
CacheControl = Annotated[str, BeforeValidator(_from_text(bucket_fields.cache_control)), _TEXT_SCHEMA]
Remote = Annotated[str, BeforeValidator(_from_text(git_fields.remote)), _TEXT_SCHEMA]
Branch = Annotated[str, BeforeValidator(_from_text(git_fields.branch)), _TEXT_SCHEMA]
RepositoryName = Annotated[str, BeforeValidator(_from_text(git_fields.name)), _schema(git_fields.NAME_PATTERN)]
Author = Annotated[tuple[str, str], BeforeValidator(_from_text(git_fields.author)), _schema("^[^<>]+ <[^<> ]+>$")]
ExtraMembers = Annotated[dict[str, JsonValue], AfterValidator(_extra)]
Count = Annotated[int, Field(ge=1, le=10_000)]
