"""The stable code of every failure of an S3 store: its own where it answered, ours where no answer came."""

import re
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import CancelledError
from http.client import HTTPException
from typing import Any

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError, LocationParseError

UNKNOWN = "Unknown"
"""No code, or none that a store has: codes stand in reports as they are, so they are not text of anybody's choice."""

_CODE = re.compile(r"[A-Za-z0-9._]{1,64}")

# The first class that matches decides, so a class stands before its bases.
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (CancelledError, "Cancelled"),
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
        "CaBundle",
        "ConnectTimeout",
        "CredentialRetrieval",
        "InvalidConfiguration",
        "NoCredentials",
        "NoSuchHost",
        "PartialCredentials",
        "ProfileNotFound",
        "Proxy",
        "SsoLoginExpired",
        "Tls",
        "Unreachable",
    }
)
"""A request that failed so never reached the store: there is nothing to read back."""


_BAD_SETTING = re.compile(r"Invalid|Unsupported|Unknown|NoRegion")
_FILE_LIBRARIES = frozenset({"PEM", "X509"})


def code_of(error: Exception, told: Mapping[str, Any]) -> str:
    """The code of `error`; `told` is the store's answer, empty where there was none."""
    if isinstance(error, boto.ClientError):
        raw = stated_code(told)
        return _SAME_AS.get(raw, raw)
    inner = getattr(error, "kwargs", {}).get("error", error)  # botocore keeps the error below its own as a member
    if isinstance(error, boto.ProxyConnectionError) or isinstance(inner, LocationParseError):
        return "Proxy"  # the endpoint's URL was read when the client was made: only the proxy's is left
    if isinstance(inner, socket.gaierror) or "NameResolutionError" in repr(inner):
        return "NoSuchHost"
    if isinstance(error, boto.SSLError) and _is_about_ca_file(inner):
        return "CaBundle"
    return next((code for kind, code in _CODES if isinstance(error, kind)), _code_of_name(error))


def stated_code(told: Mapping[str, Any]) -> str:
    """The code that the store states, or the HTTP status where it states none."""
    status = told.get("ResponseMetadata", {}).get("HTTPStatusCode", UNKNOWN)
    code = str(told.get("Error", {}).get("Code") or status)
    return code if _CODE.fullmatch(code) else UNKNOWN


def _is_about_ca_file(error: object) -> bool:
    """Whether the file of `AWS_CA_BUNDLE` could not be loaded: no handshake has begun then."""
    cause = next(iter(getattr(error, "args", ())), None)
    if isinstance(cause, ssl.SSLError):
        return getattr(cause, "library", None) in _FILE_LIBRARIES  # only errors of OpenSSL itself have the member
    return isinstance(cause, OSError)


def _code_of_name(error: Exception) -> str:
    """Most settings that botocore reads from files and the environment have an error class of their own."""
    name = type(error).__name__
    return "InvalidConfiguration" if _BAD_SETTING.match(name) else name
