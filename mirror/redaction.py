"""Keep credentials out of every text that leaves the program.

Credentials in use are known values: the code that loads one calls `remember`, and `redact` removes it from every text.
Headers and URLs that carry credentials are also recognised by their form. `describe` is the one way in which the text
of a foreign exception becomes a cause: libraries repeat headers, request bodies and program output in theirs.
"""

import re
from collections.abc import Iterable, Mapping
from threading import Lock
from urllib.parse import unquote, urlsplit

MASK = "***"
MAX_CHARACTERS = 300
_SHORTEST = 6
"""Shorter values are not looked for: they would also be found inside ordinary words."""
_MOST_VALUES = 1000
"""How many values are remembered; of more the oldest are forgotten. A daemon renews its credentials for years."""

_SECRET_VARIABLES = frozenset(
    {
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SECURITY_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_BEARER_TOKEN_BEDROCK",
    }
)
_PROXY_VARIABLES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"})


def _compiled(*table: tuple[str, str]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((mark, re.compile(pattern, re.IGNORECASE | re.DOTALL)) for mark, pattern in table)


_SIGNATURES = _compiled(
    # AWS Signature Version 4: the header, however a library quotes it, and the form of a presigned URL.
    ("aws4-", r"AWS4-(?:HMAC-SHA256|ECDSA-P256-SHA256).{0,600}?Signature=[0-9a-f]*"),
    ("x-amz-", r"(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s\"']+"),
)
"""What is looked for before the expression runs, in lower case; what the group matches stays."""
_FOREIGN = _compiled(
    # Members of AWS's answers, of credential files and of what a `credential_process` prints.
    ("secretaccesskey", r"(SecretAccessKey(?:>|[\"']\s*:\s*[\"']?))[^<&\s\"']+"),
    ("sessiontoken", r"(SessionToken(?:>|[\"']\s*:\s*[\"']?))[^<&\s\"']+"),
    ("identitytoken=", r"(WebIdentityToken=)[^&\s\"']+"),
    ("aws_s", r"(aws_(?:secret_access_key|session_token)\s*=\s*)\S+"),
    # Authorization headers (RFC 9110, section 11).
    ("bearer ", r"(\bBearer )(?=\S*[0-9])\S{8,}"),
    ("basic ", r"(\bBasic )(?=\S*[0-9=])[A-Za-z0-9+/=]{8,}"),
    # A JSON Web Token (RFC 7519): the first two parts begin with the base64url form of `{"`.
    ("eyj", r"\beyJ[A-Za-z0-9_-]{5,}\.eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*"),
    # User info of a URL (RFC 3986, section 3.2.1).
    ("@", r"(://)[^/@\s\"'<>]+(?=@)"),
)

_lock = Lock()
_values: dict[str, None] = {}
_expression: list[re.Pattern[str] | None] = [None]


def remember(*values: str | None) -> None:
    """Replace these values from now on wherever `redact` meets them. Safe for many threads."""
    found = [form for value in values if value for form in _forms(value)]
    with _lock:
        if all(form in _values for form in found):
            return
        for form in found:
            _values.pop(form, None)
            _values[form] = None
        for oldest in tuple(_values)[:-_MOST_VALUES]:
            del _values[oldest]
        longest_first = sorted(_values, key=len, reverse=True)
        _expression[0] = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def remember_environment(environ: Mapping[str, str]) -> None:
    """Remember the credentials that stand in the environment of a process."""
    for name, value in environ.items():
        if name in _SECRET_VARIABLES:
            remember(value)
        elif name.upper() in _PROXY_VARIABLES:
            remember(_password(value))


def redact(text: str) -> str:
    """`text` without known credentials and signatures of requests; everything that is written goes through this."""
    expression = _expression[0]
    if expression is not None:
        text = expression.sub(MASK, text)
    return _mask(text, _SIGNATURES)


def redact_foreign(text: str) -> str:
    """`text` of others (a library, a program, a server) also without what only looks like a credential."""
    return _mask(redact(text), _FOREIGN)


def describe(error: BaseException, *, max_characters: int = MAX_CHARACTERS) -> str:
    """What a foreign exception says: without credentials, on one line, shortened; its class where it says nothing."""
    said = " ".join(redact_foreign(str(error)).split()).rstrip(": ")
    return said[:max_characters] or type(error).__name__


def _mask(text: str, table: tuple[tuple[str, re.Pattern[str]], ...]) -> str:
    lowered = text.lower()
    for mark, pattern in table:
        if mark in lowered:
            text = pattern.sub(_masked, text)
    return text


def _masked(match: re.Match[str]) -> str:
    return f"{match[1]}{MASK}" if match.re.groups else MASK


def _forms(value: str) -> Iterable[str]:
    """How a value may be written: as it is, without the space around it, and as `repr` or JSON escape it."""
    forms = {value.strip(), repr(value)[1:-1].strip(), unquote(value).strip()}
    return [form for form in forms if len(form) >= _SHORTEST]


def _password(url: str) -> str | None:
    try:
        return urlsplit(url if "//" in url else f"//{url}").password
    except ValueError:
        return None
