"""The web-identity token that the mirror's own AWS credentials would come from.

Which one botocore takes follows from its chain of credentials (`botocore.credentials.create_credential_resolver`):
static keys of the environment come first, and a profile that is named explicitly switches the environment off.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore import exceptions as boto
from botocore.session import Session

from mirror.config.settings import Publish

MAX_TOKEN_BYTES = 16 * 1024
_JWT_PARTS = 3


def token_file(publish: Publish, environ: Mapping[str, str]) -> Path | None:
    """The file of the web-identity token behind the credentials for `publish`; None when there is none.

    `environ` is the process's own environment, which is where botocore looks.
    """
    if publish.profile is None:
        if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
            return None
        named = environ.get("AWS_WEB_IDENTITY_TOKEN_FILE")
        if named:
            return Path(named)
    try:
        made = Session(profile=publish.profile)
        return _of_profile(made.full_config.get("profiles", {}), made.profile or "default")
    except boto.BotoCoreError:
        return None  # whoever makes the real session says what is wrong with the files


def _of_profile(profiles: Mapping[str, Mapping[str, Any]], name: str) -> Path | None:
    """Follows `source_profile`: a role's credentials rest on those of the profile that assumes it."""
    passed: set[str] = set()
    while name not in passed:
        passed.add(name)
        profile = profiles.get(name, {})
        if profile.get("web_identity_token_file"):
            return Path(profile["web_identity_token_file"]).expanduser()
        name = profile.get("source_profile", name)
    return None


def claimed_issuer(token: bytes) -> str | None:
    """The `iss` that a JWT claims (RFC 7519, section 4.1.1), unverified; None when it is no JWT or claims none."""
    parts = token.strip().split(b".")
    if len(parts) != _JWT_PARTS:
        return None
    try:
        claims = json.loads(urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    return issuer if isinstance(issuer, str) else None


def issuer_of_file(path: Path) -> str | None:
    """The `iss` that the token in a file claims; None when it cannot be read. Nothing else of the token is kept."""
    try:
        with path.open("rb") as file:
            return claimed_issuer(file.read(MAX_TOKEN_BYTES))
    except OSError:
        return None
