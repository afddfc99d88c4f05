"""Failures of AWS: stable codes, and what happened, why and what to do, as a `BucketError`."""

import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError, LocationParseError

from mirror.config.settings import PublishSettings
from mirror.errors import BucketError
from mirror.redaction import MAX_CHARACTERS, describe, redact_foreign


class CredentialsError(Exception):
    """What is wrong with credentials, in our own words: which one, where it stands, and never its value."""

    def __init__(self, code: str, cause: str) -> None:
        super().__init__(cause)
        self.code = code
        self.cause = cause


_ILLEGAL_HEADER = "the credentials hold a character that no HTTP header can carry, such as a line feed"

UNKNOWN = "Unknown"
"""No code, or one of a known form: codes appear in reports unchanged, so they must not be free text."""

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
_OTHER_NAMES: Mapping[str, str] = {
    "BadRequest": "400",
    "AccessDenied": "403 AllAccessDisabled InvalidBucketOwner",
    "PermanentRedirect": "301 307 TemporaryRedirect IllegalLocationConstraintException AuthorizationHeaderMalformed",
    "ExpiredToken": "ExpiredTokenException RequestExpired TokenRefreshRequired",
    "InvalidAccessKeyId": "InvalidClientTokenId UnrecognizedClientException InvalidToken",
    "InternalError": "500 502 504",
    "SlowDown": "429 503 ServiceUnavailable Throttling ThrottlingException RequestLimitExceeded TooManyRequests",
    "NotImplemented": "501",
    "ConditionalRequestConflict": "409 OperationAborted",
    "PreconditionFailed": "412",
}
_SAME_AS = {other: code for code, others in _OTHER_NAMES.items() for other in others.split()}

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
        "EmptyProfile",
        "InvalidConfiguration",
        "MalformedCredentials",
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


def code_of(error: Exception, response: Mapping[str, Any]) -> str:
    """The code of `error`; `response` is the store's answer, empty where there was none."""
    if isinstance(error, boto.ClientError):
        raw = stated_code(response)
        return _SAME_AS.get(raw, raw)
    if isinstance(error, CredentialsError):
        return error.code
    inner = getattr(error, "kwargs", {}).get("error", error)  # botocore keeps the error below its own as a member
    if isinstance(error, boto.ProxyConnectionError) or isinstance(inner, LocationParseError):
        return "Proxy"  # the endpoint's URL was read when the client was made: only the proxy's is left
    if isinstance(inner, socket.gaierror) or "NameResolutionError" in repr(inner):
        return "NoSuchHost"
    if isinstance(inner, ValueError) and any(each in str(inner) for each in _HEADER_REFUSED):
        return "MalformedCredentials"  # of what we send, nothing else can be refused as a header
    if isinstance(error, boto.SSLError) and _is_about_ca_file(inner):
        return "CaBundle"
    return next((code for kind, code in _CODES if isinstance(error, kind)), _code_of_name(error))


# http.client refuses the value of a header, and botocore the token of a container, with these words.
_HEADER_REFUSED = ("Invalid header value", "Auth token value is not a legal header value")


def stated_code(response: Mapping[str, Any]) -> str:
    """The code that the store states, or the HTTP status where it states none."""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", UNKNOWN)
    code = str(response.get("Error", {}).get("Code") or status)
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


_ADMIN_OTHER = "Correct what the cause names, and run the command again: what is done already is not done twice."


_ANY_ERRORS = (boto.BotoCoreError, boto.ClientError, CredentialsError, HTTPError, OSError)
ADMIN_ERRORS = (*_ANY_ERRORS, ResponseParserError, ValueError, LookupError)
"""What botocore and the libraries below it raise; the last two for an endpoint or an answer that cannot be read."""


@contextmanager
def admin_errors_translated(sentence: str, action: str) -> Iterator[None]:
    """Turn everything that botocore and what is below it raise inside the block into a `BucketError`.

    Args:
        sentence: What did not work.
        action: The right that it needs, such as `iam:CreateOpenIDConnectProvider`.

    Raises:
        BucketError: with the service's code, or ours where no answer came.
    """
    try:
        yield
    except ADMIN_ERRORS as error:
        response = error.response if isinstance(error, boto.ClientError) else {}
        code = code_of(error, response)
        remedy = (REMEDIES.get(code, _NO_REMEDY).administrator or _ADMIN_OTHER).format(action=action)
        raise BucketError(sentence, cause=cause_of(error, response, code), remedy=remedy, code=code) from None


def admin_error(code: str, sentence: str) -> BucketError:
    """A failure that we found, not the service."""
    return BucketError(sentence, remedy=REMEDIES[code].administrator, code=code)


def cloudfront_remedy(code: str, distribution: str) -> str:
    """What to do about a refused invalidation; empty where there is nothing particular to do."""
    return REMEDIES.get(code, _NO_REMEDY).cloudfront.format(distribution=distribution)


S3_ERRORS = (*_ANY_ERRORS, HTTPException, CancelledError)
"""What botocore and the libraries below it raise, also in the middle of a body, and what `DeadlineExecutor` raises."""

_STS_OPERATIONS = frozenset({"AssumeRole", "AssumeRoleWithWebIdentity"})
PROFILE_VARIABLES = ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")  # in botocore's order


@dataclass(frozen=True, slots=True)
class S3Operation:
    """What was tried: the `verb` of the sentence, the S3 `action` that it needs, and on which `key` (or prefix)."""

    verb: str
    action: str
    publish: PublishSettings
    key: str = ""

    def sentence(self) -> str:
        """What did not work, such as: The object `a/b` could not be written to bucket `c`."""
        if self.action == "s3:ListBucket":
            return f"The bucket `{self.publish.bucket}` could not be listed."
        return f"The object `{self.key}` of bucket `{self.publish.bucket}` could not be {self.verb}."


@contextmanager
def s3_errors_translated(attempt: S3Operation) -> Iterator[None]:
    """Turn everything that botocore, urllib3 and sockets raise inside the block into a `BucketError`.

    Raises:
        BucketError: with the store's code, or ours where no answer came.
    """
    try:
        yield
    except (*S3_ERRORS, ResponseParserError, ValueError, LookupError) as error:
        # The last three: an answer, or a member of it, that cannot be read, or is not there.
        raise bucket_error(error, attempt) from None


def bucket_error_for(code: str, attempt: S3Operation, *, cause: str) -> BucketError:
    """A failure that we found, not the store."""
    return BucketError(attempt.sentence(), cause=cause, remedy=_remedy(code, {}, attempt), code=code)


def bucket_error(error: Exception, attempt: S3Operation) -> BucketError:
    """Say in words what `error` means for `attempt`; never repeats a secret."""
    response = error.response if isinstance(error, boto.ClientError) else {}
    code = code_of(error, response)
    remedy = _remedy(code, response, attempt)
    if isinstance(error, boto.ClientError) and error.operation_name in _STS_OPERATIONS:
        remedy = REMEDY_ROLE
    return BucketError(attempt.sentence(), cause=cause_of(error, response, code), remedy=remedy, code=code)


def cause_of(error: Exception, response: Mapping[str, Any], code: str) -> str:
    """What the outside world said, in one short line without any secret; `response` is the service's own answer."""
    if isinstance(error, boto.ClientError):
        # Only these two: the other members of an S3 error hold key ids, tokens and the string that was signed.
        message = " ".join(str(response.get("Error", {}).get("Message", "")).split())
        return redact_foreign(f"{stated_code(response)}: {message}").rstrip(": ")[:MAX_CHARACTERS]
    if code == "Cancelled":
        return ""
    if isinstance(error, CredentialsError):
        return error.cause
    if code == "CredentialRetrieval":
        return type(error).__name__  # its text may be the output of the operator's own credential_process
    if code == "MalformedCredentials":
        return _ILLEGAL_HEADER
    return describe(error)


_CHECKSUM = re.compile(r"checksum", re.IGNORECASE)
_CONDITION = re.compile(r"If-(None-)?Match|conditional|precondition", re.IGNORECASE)
_REFUSED_HEADER = frozenset(
    {
        "BadRequest",
        "InvalidArgument",
        "InvalidRequest",
        "MalformedRequest",
        "NotImplemented",
        "NotSupported",
        "Unsupported",
    }
)
"""How stores refuse a header that they do not know, with status 400 or 501."""


def _setting_of_refusal(code: str, response: Mapping[str, Any], attempt: S3Operation) -> str:
    """The remedy for a store that knows no checksums or no conditional writes; empty where that is not the trouble."""
    message = str(response.get("Error", {}).get("Message", ""))
    if code not in _REFUSED_HEADER:
        return ""
    if attempt.publish.checksums and _CHECKSUM.search(message):
        return REMEDY_CHECKSUMS
    if attempt.action != "s3:PutObject":
        return REMEDY_NO_OPERATION if code == "NotImplemented" else ""
    if attempt.publish.conditional_writes and (_CONDITION.search(message) or code == "NotImplemented"):
        return _SWITCH_OFF
    if attempt.publish.checksums or attempt.publish.conditional_writes:
        return REMEDY_EITHER
    return ""


def _remedy(code: str, response: Mapping[str, Any], attempt: S3Operation) -> str:
    region = _right_region(response)
    refusal = _setting_of_refusal(code, response, attempt)
    if refusal:
        return refusal.format_map(_words(attempt, region))
    if code == "PermanentRedirect" and region:
        template = REMEDY_RIGHT_REGION
    elif code == "AccessDenied" and "kms:" in str(response.get("Error", {}).get("Message", "")).lower():
        template = REMEDY_KMS
    else:
        template = REMEDIES.get(code, _NO_REMEDY).mirror or (REMEDY_OTHER if response else REMEDY_NO_ANSWER)
    if code == "AccessDenied" and attempt.publish.expected_bucket_owner:
        template += " " + REMEDY_OWNER
    return template.format_map(_words(attempt, region))


def _words(attempt: S3Operation, region: str) -> dict[str, str]:
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


def _profile(publish: PublishSettings) -> tuple[str, str]:
    """The name of the profile that botocore uses, and the setting that it comes from."""
    if publish.profile is not None:
        return publish.profile, "publish.profile"
    found = ((os.environ.get(variable), variable) for variable in PROFILE_VARIABLES)
    return next(((name, variable) for name, variable in found if name), ("default", "publish.profile"))


def _right_region(response: Mapping[str, Any]) -> str:
    """The region that the store itself names: an S3 error has `Region`, every answer of AWS the header."""
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = str(response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region") or "")
    return region if re.fullmatch(r"[a-z0-9-]{2,40}", region) else ""


REMEDY_OTHER = "Look the code up in the store's documentation; the next pass tries again."
REMEDY_NO_ANSWER = (
    "Nothing was sent, or nothing came: correct what the cause names (the AWS variables of the environment and the AWS "
    "configuration files); if it names nothing of yours, report it."
)
REMEDY_RIGHT_REGION = "The bucket is in another region: set `publish.region: {right_region}`."
REMEDY_KMS = (
    "The bucket is encrypted with a KMS key that the mirror may not use; then "
    "no anonymous request can read the documents "
    "anonymously either: use SSE-S3 (AES256) for the bucket `{bucket}`."
)
REMEDY_OWNER = "The bucket may also belong to another account than `publish.expected_bucket_owner` {owner} says."
REMEDY_ROLE = (
    "STS did not give the role's credentials: check `publish.role_arn` (or the role of the web identity), the role's "
    "trust policy, and the right `sts:AssumeRole` of who assumes it."
)

REMEDY_WHITESPACE = (
    "Write the credential again without the space around it: `printf %s VALUE`, because `echo VALUE` adds a line feed; "
    "a Secret of Kubernetes with `kubectl create secret generic NAME --from-literal=KEY=VALUE`."
)
_ADMIN_CREDENTIALS = "Log in to AWS as an administrator of the account (environment, `--profile`, instance role)."
_ADMIN_NETWORK = (
    "Check the network, `HTTPS_PROXY`, `AWS_CA_BUNDLE` and `publish.endpoint_url`; then run the command again."
)
_AGAIN = "The next pass tries again."
_SWITCH_OFF = (
    "The store has no conditional writes: set `publish.conditional_writes: false`, and run one mirror only for it."
)
REMEDY_CHECKSUMS = "The store refuses the checksum that goes with each request: set `publish.checksums: false`."
REMEDY_NO_OPERATION = (
    "{endpoint} does not offer the operation that `{action}` is for, and the mirror cannot do without it: check "
    "`publish.endpoint_url`, or use another store."
)
REMEDY_EITHER = (
    "The store does not accept the request: check `publish.endpoint_url` and the bucket's settings. If it knows no "
    "checksums, set `publish.checksums: false`; if it knows no conditional writes, `publish.conditional_writes: false`."
)
_NO_CREDENTIALS = (
    "Give the mirror AWS credentials (environment, profile `{profile}`, web identity, instance or pod role) "
    "that allow `{action}`."
)
_CREDENTIALS_SOURCE = (
    "Check where the AWS credentials come from: profile `{profile}`, `publish.role_arn`, "
    "or the metadata service of the instance."
)


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do about one code; empty where the general remedy of that column stands.

    `mirror` is for the mirror's own requests, `administrator` for who runs `provision`, `cloudfront` for invalidations.
    """

    mirror: str = ""
    administrator: str = ""
    cloudfront: str = ""


REMEDIES: Mapping[str, Remedy] = {
    "AccessDenied": Remedy(
        mirror=(
            "Allow `{action}` on `{resource}` to the mirror's own identity (`oidc-mirror render writer-policy`), "
            "and `s3:ListBucket` on the bucket, without which S3 answers so for an object that does not exist."
        ),
        administrator=(
            "Allow `{action}` to the identity that runs this command, or use "
            "another one (`--profile`, `--role-arn`); the "
            "mirror's own role needs and has no such right. A service control policy may forbid it too."
        ),
        cloudfront="Allow `cloudfront:CreateInvalidation` on the distribution `{distribution}` to the mirror.",
    ),
    "NoSuchBucket": Remedy(
        mirror="Create the bucket with `oidc-mirror provision bucket`, or correct `publish.bucket`.",
        administrator="The bucket was removed at the same moment: run the command again.",
    ),
    "NoSuchKey": Remedy(mirror="The object is gone; the next pass puts it again."),
    "PermanentRedirect": Remedy(mirror="The bucket is in another region than `{region}`: correct `publish.region`."),
    "BadRequest": Remedy(mirror="Check `publish.region` and the mirror's credentials."),
    "NoCredentials": Remedy(
        mirror=_NO_CREDENTIALS,
        administrator=_ADMIN_CREDENTIALS,
        cloudfront="Give the mirror AWS credentials that allow `cloudfront:CreateInvalidation`.",
    ),
    "PartialCredentials": Remedy(mirror=_NO_CREDENTIALS, administrator=_ADMIN_CREDENTIALS),
    "ExpiredToken": Remedy(
        mirror="The mirror's AWS credentials are expired: renew them, and let them be refreshed by themselves.",
        administrator="The credentials are expired: log in again.",
    ),
    "MalformedCredentials": Remedy(mirror=REMEDY_WHITESPACE, administrator=REMEDY_WHITESPACE),
    "EmptyProfile": Remedy(mirror="Remove the variable, or let it name a profile of the AWS configuration files."),
    "SsoLoginExpired": Remedy(
        mirror="Log in again with `aws sso login`; a mirror that runs unattended needs other credentials.",
        administrator="Log in again with `aws sso login`.",
    ),
    "CredentialRetrieval": Remedy(mirror=_CREDENTIALS_SOURCE, administrator=_ADMIN_CREDENTIALS),
    "InvalidAccessKeyId": Remedy(
        mirror="The store does not know the mirror's access key: correct the credentials or the endpoint.",
        administrator=_ADMIN_CREDENTIALS,
    ),
    "InvalidIdentityToken": Remedy(
        mirror=("STS does not accept the mirror's web identity token: check its issuer's provider in IAM.")
    ),
    "SignatureDoesNotMatch": Remedy(
        mirror="The secret key does not belong to the access key: correct the mirror's credentials.",
        administrator="The secret key does not belong to the access key: correct the credentials.",
    ),
    "ProfileNotFound": Remedy(
        mirror="Correct `{profile_setting}`, or add the profile `{profile}` to the AWS configuration files.",
        administrator="Correct `--profile` or `AWS_PROFILE`, or add the profile to the AWS configuration files.",
        cloudfront="Correct `publish.profile`, or add the profile to the AWS configuration files.",
    ),
    "InvalidConfiguration": Remedy(
        mirror=(
            "Correct what the cause names: a variable AWS_* of the environment, the AWS configuration files, "
            "`publish.endpoint_url` or `publish.bucket`."
        )
    ),
    "RequestTimeTooSkewed": Remedy(
        mirror=("This machine's clock is off by more than 15 minutes: set it, or start an NTP client.")
    ),
    "SlowDown": Remedy(mirror="The store asks to slow down: lower `limits.puts`. " + _AGAIN),
    "InternalError": Remedy(mirror="The store had an error of its own. " + _AGAIN),
    "ConditionalRequestConflict": Remedy(
        mirror="Another writer changed the object at the same moment. " + _AGAIN,
        administrator="Something else is being changed at this moment: wait a minute and run it again.",
    ),
    "PreconditionFailed": Remedy(mirror=_SWITCH_OFF),
    "NotImplemented": Remedy(mirror=_SWITCH_OFF),
    "KMS.DisabledException": Remedy(mirror=REMEDY_KMS),
    "InvalidRequest": Remedy(
        mirror=("The store does not accept the request: check `publish.endpoint_url` and the bucket's settings.")
    ),
    "NoSuchHost": Remedy(
        mirror="The name of {endpoint} does not resolve: check DNS, `publish.endpoint_url` and `publish.region`.",
        administrator=_ADMIN_NETWORK,
    ),
    "Unreachable": Remedy(
        mirror="{endpoint} does not accept connections: check the network, the firewall and `HTTPS_PROXY`.",
        administrator=_ADMIN_NETWORK,
    ),
    "ConnectTimeout": Remedy(
        mirror="{endpoint} cannot be reached: check the network, the firewall and `HTTPS_PROXY`.",
        administrator=_ADMIN_NETWORK,
    ),
    "ReadTimeout": Remedy(mirror="{endpoint} did not answer in time. " + _AGAIN, administrator=_ADMIN_NETWORK),
    "RequestTimeout": Remedy(mirror="{endpoint} did not get the request in time. " + _AGAIN),
    "ConnectionClosed": Remedy(
        mirror="{endpoint} closed the connection in the middle. " + _AGAIN, administrator=_ADMIN_NETWORK
    ),
    "IncompleteBody": Remedy(mirror="{endpoint} broke off in the middle of the object. " + _AGAIN),
    "ChecksumMismatch": Remedy(mirror="The object was damaged on its way. " + _AGAIN),
    "MalformedAnswer": Remedy(
        mirror="{endpoint} answered something that is not S3: check `publish.endpoint_url` and proxies.",
        administrator="What answered is not AWS: check `AWS_ENDPOINT_URL`, `publish.endpoint_url` and proxies.",
    ),
    "CaBundle": Remedy(
        mirror=(
            "Let `AWS_CA_BUNDLE` (or `ca_bundle` of the AWS configuration files) name a readable PEM file with the CA "
            "of {endpoint}, or remove it."
        ),
        administrator="Let `AWS_CA_BUNDLE` name a readable PEM file, or remove it.",
    ),
    "Tls": Remedy(
        mirror=(
            "The certificate of {endpoint} is not trusted: point `AWS_CA_BUNDLE` to its CA, or correct the endpoint."
        ),
        administrator=_ADMIN_NETWORK,
    ),
    "Proxy": Remedy(
        mirror="The proxy of `HTTPS_PROXY` does not work: correct it, or set `NO_PROXY` for the endpoint.",
        administrator="Correct `HTTPS_PROXY`, or set `NO_PROXY`.",
    ),
    "Cancelled": Remedy(mirror="It was broken off because the mirror ends. " + _AGAIN),
    "Unknown": Remedy(mirror="{endpoint} states no code that S3 has: check `publish.endpoint_url` and proxies."),
    "TooManyObjects": Remedy(mirror="Give the mirror a bucket, or a `publish.prefix`, of its own."),
    "BucketAlreadyExists": Remedy(
        administrator=("Another AWS account has a bucket of this name: choose another name (`publish.bucket`).")
    ),
    "BucketAlreadyOwnedByYou": Remedy(administrator="It was created at the same moment: run the command again."),
    "EntityAlreadyExists": Remedy(administrator="It was created at the same moment: run the command again."),
    "ConcurrentModification": Remedy(
        administrator=("Another request changed it at the same moment: run the command again.")
    ),
    "LimitExceeded": Remedy(
        administrator=(
            "A quota of the account is used up: remove unused resources, or request a higher quota from AWS."
        )
    ),
    "TooManyBuckets": Remedy(administrator="The account has as many buckets as its quota allows: ask AWS for more."),
    "MalformedPolicy": Remedy(
        administrator=("AWS rejects the whole policy: check the statements that this program did not write.")
    ),
    "OpenIdIdpCommunicationError": Remedy(
        administrator=(
            "AWS reads the issuer's host when a provider is made: make a pass first (`oidc-mirror --once`), and see "
            "that the public reaches the issuer."
        )
    ),
    "PolicyChanged": Remedy(
        administrator=(
            "Another writer changed the bucket's policy at the same moment: find out who, and run the command again."
        )
    ),
    "NoSuchDistribution": Remedy(
        cloudfront=(
            "Correct `publish.cloudfront_distribution`, or the account of `publish.profile` and `publish.role_arn`."
        )
    ),
    "TooManyInvalidationsInProgress": Remedy(
        cloudfront=("CloudFront takes 3000 paths at once, and is still busy with earlier ones.")
    ),
}
"""By code; `AccessDenied` and its like are the store's own, the others name a failure without an answer."""
_NO_REMEDY = Remedy()
