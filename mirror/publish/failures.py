"""Whatever an S3 store, the network or the credentials do to us, as a `BucketError`: what, why, and what to do."""

import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from mirror.aws.errors import code_of, stated_code
from mirror.config.settings import Publish
from mirror.errors import BucketError
from mirror.publish.remedies import (
    REMEDIES,
    REMEDY_KMS,
    REMEDY_NO_ANSWER,
    REMEDY_OTHER,
    REMEDY_OWNER,
    REMEDY_RIGHT_REGION,
    REMEDY_ROLE,
)

FOREIGN_ERRORS = (
    boto.BotoCoreError,
    boto.ClientError,
    boto.HTTPClientError,
    HTTPError,
    HTTPException,
    OSError,
    CancelledError,
)
"""What botocore and the libraries below it raise, also in the middle of a body, and what `Bounded` raises."""

_STS_OPERATIONS = frozenset({"AssumeRole", "AssumeRoleWithWebIdentity"})
_PROFILE_VARIABLES = ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")  # in botocore's order


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was tried: the `verb` of the sentence, the S3 `action` that it needs, and on which `key` (or prefix)."""

    verb: str
    action: str
    publish: Publish
    key: str = ""

    def sentence(self) -> str:
        """What did not work, such as: The object `a/b` could not be written to bucket `c`."""
        if self.action == "s3:ListBucket":
            return f"The bucket `{self.publish.bucket}` could not be listed."
        return f"The object `{self.key}` of bucket `{self.publish.bucket}` could not be {self.verb}."


@contextmanager
def translated(attempt: Attempt) -> Iterator[None]:
    """Turn everything that botocore, urllib3 and sockets raise inside the block into a `BucketError`.

    Raises:
        BucketError: with the store's code, or ours where no answer came.
    """
    try:
        yield
    except (*FOREIGN_ERRORS, ResponseParserError, ValueError, LookupError) as error:
        # The last three: an answer, or a member of it, that cannot be read, or is not there.
        raise bucket_error(error, attempt) from None


def own_error(code: str, attempt: Attempt, *, cause: str) -> BucketError:
    """A failure that we found, not the store."""
    return BucketError(attempt.sentence(), cause=cause, remedy=_remedy(code, {}, attempt), code=code)


def bucket_error(error: Exception, attempt: Attempt) -> BucketError:
    """Say in words what `error` means for `attempt`; never repeats a secret."""
    told = error.response if isinstance(error, boto.ClientError) else {}
    code = code_of(error, told)
    remedy = _remedy(code, told, attempt)
    if isinstance(error, boto.ClientError) and error.operation_name in _STS_OPERATIONS:
        remedy = REMEDY_ROLE
    return BucketError(attempt.sentence(), cause=cause_of(error, told, code), remedy=remedy, code=code)


def cause_of(error: Exception, told: Mapping[str, Any], code: str) -> str:
    """What the outside world said, in one short line without any secret; `told` is the service's own answer."""
    if isinstance(error, boto.ClientError):
        # Only these two: the other members of an S3 error hold key ids, tokens and the string that was signed.
        return _clean(f"{stated_code(told)}: {told.get('Error', {}).get('Message', '')}")
    if code == "Cancelled":
        return ""
    if code == "CredentialRetrieval":
        return type(error).__name__  # its text may be the output of the operator's own credential_process
    return _clean(str(error))


def _clean(text: str, *, max_characters: int = 300) -> str:
    without_users = re.sub(r"//[^/@\s]*@", "//", text)
    return without_users.strip().rstrip(":")[:max_characters]


def _remedy(code: str, told: Mapping[str, Any], attempt: Attempt) -> str:
    region = _right_region(told)
    if code == "PermanentRedirect" and region:
        template = REMEDY_RIGHT_REGION
    elif code == "AccessDenied" and "kms:" in str(told.get("Error", {}).get("Message", "")).lower():
        template = REMEDY_KMS
    else:
        template = REMEDIES.get(code, REMEDY_OTHER if told else REMEDY_NO_ANSWER)
    if code == "AccessDenied" and attempt.publish.expected_bucket_owner:
        template += " " + REMEDY_OWNER
    return template.format_map(_words(attempt, region))


def _words(attempt: Attempt, region: str) -> dict[str, str]:
    publish = attempt.publish
    profile, profile_setting = _profile(publish)
    resource = f"{publish.bucket}" if attempt.action == "s3:ListBucket" else f"{publish.bucket}/{attempt.key}"
    return {
        "action": attempt.action,
        "resource": f"arn:aws:s3:::{resource}",
        "bucket": publish.bucket,
        "region": publish.region,
        "right_region": region,
        "endpoint": publish.endpoint_url or f"the S3 endpoint of {publish.region}",
        "profile": profile,
        "profile_setting": profile_setting,
        "owner": publish.expected_bucket_owner or "",
    }


def _profile(publish: Publish) -> tuple[str, str]:
    """The name of the profile that botocore uses, and the setting that it comes from."""
    if publish.profile is not None:
        return publish.profile, "publish.profile"
    found = ((os.environ.get(variable), variable) for variable in _PROFILE_VARIABLES)
    return next(((name, variable) for name, variable in found if name), ("default", "publish.profile"))


def _right_region(told: Mapping[str, Any]) -> str:
    """The region that the store itself names: an S3 error has `Region`, every answer of AWS the header."""
    headers = told.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = str(told.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region") or "")
    return region if re.fullmatch(r"[a-z0-9-]{2,40}", region) else ""
