"""Every way in which an S3 store can fail us, as one table: code, what it means, what to do about it."""

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from mirror.config.settings import Publish
from mirror.errors import BucketError
from mirror.publish.remedies import REMEDIES, REMEDY_KMS, REMEDY_OTHER, REMEDY_OWNER, REMEDY_RIGHT_REGION, REMEDY_ROLE

FOREIGN_ERRORS = (boto.BotoCoreError, boto.ClientError, boto.HTTPClientError, HTTPError, HTTPException, OSError)
"""What botocore and the libraries below it raise, also in the middle of a body."""

_STS_OPERATIONS = frozenset({"AssumeRole", "AssumeRoleWithWebIdentity"})

# The first class that matches decides, so a class stands before its bases.
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (boto.ProfileNotFound, "ProfileNotFound"),
    (boto.PartialCredentialsError, "PartialCredentials"),
    (boto.NoCredentialsError, "NoCredentials"),
    (boto.TokenRetrievalError, "SsoLoginExpired"),
    (boto.SSOError, "SsoLoginExpired"),
    (boto.CredentialRetrievalError, "CredentialRetrieval"),
    (boto.MetadataRetrievalError, "CredentialRetrieval"),
    (boto.ConfigParseError, "InvalidConfiguration"),
    (boto.ConfigNotFound, "InvalidConfiguration"),
    (boto.InvalidConfigError, "InvalidConfiguration"),
    (boto.ParamValidationError, "InvalidConfiguration"),
    (boto.SSLError, "Tls"),
    (boto.ProxyConnectionError, "Proxy"),
    (boto.ConnectTimeoutError, "ConnectTimeout"),
    (boto.ReadTimeoutError, "ReadTimeout"),
    (boto.EndpointConnectionError, "Unreachable"),
    (boto.ConnectionClosedError, "ConnectionClosed"),
    (boto.ResponseStreamingError, "IncompleteBody"),
    (boto.HTTPClientError, "ConnectionClosed"),
    (boto.FlexibleChecksumError, "ChecksumMismatch"),
    (boto.IncompleteReadError, "IncompleteBody"),
    (ResponseParserError, "MalformedAnswer"),
    (boto.PaginationError, "MalformedAnswer"),
    (TimeoutError, "ReadTimeout"),
    (HTTPError, "IncompleteBody"),
    (HTTPException, "IncompleteBody"),
    (OSError, "ConnectionClosed"),
    (LookupError, "MalformedAnswer"),
    (ValueError, "MalformedAnswer"),
)

# Answers without a body (HEAD) and stores that name the same trouble differently.
_SAME_AS: Mapping[str, str] = {
    "400": "BadRequest",
    "403": "AccessDenied",
    "AllAccessDisabled": "AccessDenied",
    "InvalidBucketOwner": "AccessDenied",
    "301": "PermanentRedirect",
    "307": "PermanentRedirect",
    "TemporaryRedirect": "PermanentRedirect",
    "IllegalLocationConstraintException": "PermanentRedirect",
    "AuthorizationHeaderMalformed": "PermanentRedirect",
    "ExpiredTokenException": "ExpiredToken",
    "RequestExpired": "ExpiredToken",
    "TokenRefreshRequired": "ExpiredToken",
    "InvalidClientTokenId": "InvalidAccessKeyId",
    "UnrecognizedClientException": "InvalidAccessKeyId",
    "InvalidToken": "InvalidAccessKeyId",
    "500": "InternalError",
    "502": "InternalError",
    "504": "InternalError",
    "503": "SlowDown",
    "ServiceUnavailable": "SlowDown",
    "Throttling": "SlowDown",
    "ThrottlingException": "SlowDown",
    "RequestLimitExceeded": "SlowDown",
    "TooManyRequests": "SlowDown",
    "429": "SlowDown",
    "501": "NotImplemented",
    "409": "ConditionalRequestConflict",
    "OperationAborted": "ConditionalRequestConflict",
    "412": "PreconditionFailed",
}

TRANSIENT_CODES = frozenset(
    {
        "ConditionalRequestConflict",
        "ConnectionClosed",
        "IncompleteBody",
        "InternalError",
        "MalformedAnswer",
        "PreconditionFailed",
        "ReadTimeout",
        "RequestTimeout",
        "SlowDown",
    }
)
"""A write that failed so, and changed nothing, may go through at a second try."""

NOT_SENT_CODES = frozenset(
    {
        "ConnectTimeout",
        "CredentialRetrieval",
        "InvalidConfiguration",
        "NoCredentials",
        "NoSuchHost",
        "PartialCredentials",
        "ProfileNotFound",
        "SsoLoginExpired",
        "Tls",
        "Unreachable",
    }
)
"""A request that failed so never reached the store: there is nothing to read back."""


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
    except (*FOREIGN_ERRORS, ValueError, LookupError) as error:
        # The last two: a member of the answer that cannot be read, or is not there.
        raise bucket_error(error, attempt) from None


def own_error(code: str, attempt: Attempt, *, cause: str) -> BucketError:
    """A failure that we found, not the store."""
    return BucketError(attempt.sentence(), cause=cause, remedy=_remedy(code, {}, attempt), code=code)


def bucket_error(error: Exception, attempt: Attempt) -> BucketError:
    """Say in words what `error` means for `attempt`; never repeats a secret."""
    told = error.response if isinstance(error, boto.ClientError) else {}
    code = _code(error, told)
    remedy = _remedy(code, told, attempt)
    if isinstance(error, boto.ClientError) and error.operation_name in _STS_OPERATIONS:
        remedy = REMEDY_ROLE
    return BucketError(attempt.sentence(), cause=_cause(error, told, code), remedy=remedy, code=code)


def _code(error: Exception, told: Mapping[str, Any]) -> str:
    if isinstance(error, boto.ClientError):
        raw = str(told.get("Error", {}).get("Code") or _status(told))
        return _SAME_AS.get(raw, raw)
    if _is_dns(error):
        return "NoSuchHost"
    return next((code for kind, code in _CODES if isinstance(error, kind)), type(error).__name__)


def _status(told: Mapping[str, Any]) -> str:
    return str(told.get("ResponseMetadata", {}).get("HTTPStatusCode", "Unknown"))


def _is_dns(error: Exception) -> bool:
    """Whether a name did not resolve: botocore keeps urllib3's error as text and as the member `error`."""
    inner = getattr(error, "kwargs", {}).get("error", error)
    return isinstance(inner, socket.gaierror) or "NameResolutionError" in repr(inner)


def _cause(error: Exception, told: Mapping[str, Any], code: str) -> str:
    if isinstance(error, boto.ClientError):
        # Only these two: the other members of an S3 error hold key ids, tokens and the string that was signed.
        return _clean(f"{told.get('Error', {}).get('Code', code)}: {told.get('Error', {}).get('Message', '')}")
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
        template = REMEDIES.get(code, REMEDY_OTHER)
    if code == "AccessDenied" and attempt.publish.expected_bucket_owner:
        template += " " + REMEDY_OWNER
    return template.format_map(_words(attempt, region))


def _words(attempt: Attempt, region: str) -> dict[str, str]:
    publish = attempt.publish
    resource = f"{publish.bucket}" if attempt.action == "s3:ListBucket" else f"{publish.bucket}/{attempt.key}"
    return {
        "action": attempt.action,
        "resource": f"arn:aws:s3:::{resource}",
        "bucket": publish.bucket,
        "region": publish.region,
        "right_region": region,
        "endpoint": publish.endpoint_url or f"the S3 endpoint of {publish.region}",
        "profile": publish.profile or "default",
        "owner": publish.expected_bucket_owner or "",
    }


def _right_region(told: Mapping[str, Any]) -> str:
    """The region that the store itself names: an S3 error has `Region`, every answer of AWS the header."""
    headers = told.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = str(told.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region") or "")
    return region if re.fullmatch(r"[a-z0-9-]{2,40}", region) else ""
