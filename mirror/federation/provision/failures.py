"""What AWS, the network or the credentials do to whoever provisions, as a `BucketError`: what, why, what to do."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from mirror.aws.errors import code_of, stated_code
from mirror.errors import BucketError

_CREDENTIALS = "Log in to AWS as an administrator of the account (environment, `--profile`, instance role)."
_NETWORK = "Check the network, `HTTPS_PROXY`, `AWS_CA_BUNDLE` and `publish.endpoint_url`; then run the command again."
_REMEDIES: Mapping[str, str] = {
    "AccessDenied": (
        "Allow `{action}` to who runs this command, or run it as somebody else (`--profile`, `--role-arn`); the "
        "mirror's own role needs and has no such right. A service control policy may forbid it too."
    ),
    "BucketAlreadyExists": "The name belongs to somebody else in AWS: choose another one (`publish.bucket`).",
    "BucketAlreadyOwnedByYou": "Somebody made it at the same moment: run the command again.",
    "ConditionalRequestConflict": "Something else is being changed at this moment: wait a minute and run it again.",
    "EntityAlreadyExists": "Somebody made it at the same moment: run the command again.",
    "ConcurrentModification": "Somebody changes it at this moment: run the command again.",
    "LimitExceeded": "A quota of the account is used up: remove what nobody needs, or ask AWS for more.",
    "TooManyBuckets": "The account has as many buckets as its quota allows: ask AWS for more.",
    "NoSuchBucket": "Somebody removed the bucket at this moment: run the command again.",
    "MalformedPolicy": "AWS refuses the whole policy: look at the statements that are not ours.",
    "OpenIdIdpCommunicationError": (
        "AWS reads the issuer's host when a provider is made: make a pass first (`oidc-mirror --once`), and see that "
        "the world reaches the issuer."
    ),
    "PolicyChanged": "Somebody else changes the bucket's policy: see who, and run the command again.",
    "NoCredentials": _CREDENTIALS,
    "PartialCredentials": _CREDENTIALS,
    "CredentialRetrieval": _CREDENTIALS,
    "ExpiredToken": "The credentials are expired: log in again.",
    "SsoLoginExpired": "Log in again with `aws sso login`.",
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": "The secret key does not belong to the access key: correct the credentials.",
    "ProfileNotFound": "Correct `--profile` or `AWS_PROFILE`, or add the profile to the AWS configuration files.",
    "MalformedAnswer": "What answered is not AWS: check `AWS_ENDPOINT_URL`, `publish.endpoint_url` and proxies.",
    "NoSuchHost": _NETWORK,
    "Unreachable": _NETWORK,
    "ConnectTimeout": _NETWORK,
    "ReadTimeout": _NETWORK,
    "ConnectionClosed": _NETWORK,
    "Tls": _NETWORK,
    "CaBundle": "Let `AWS_CA_BUNDLE` name a readable PEM file, or remove it.",
    "Proxy": "Correct `HTTPS_PROXY`, or set `NO_PROXY`.",
}
_OTHER = "Correct what the cause names, and run the command again: what is done already is not done twice."


FOREIGN_ERRORS = (
    boto.BotoCoreError,
    boto.ClientError,
    boto.HTTPClientError,
    ResponseParserError,
    HTTPError,
    OSError,
    ValueError,
    LookupError,
)
"""What botocore and the libraries below it raise; the last two for an endpoint or an answer that cannot be read."""


@contextmanager
def translated(sentence: str, action: str) -> Iterator[None]:
    """Turn everything that botocore and what is below it raise inside the block into a `BucketError`.

    Args:
        sentence: What did not work.
        action: The right that it needs, such as `iam:CreateOpenIDConnectProvider`.

    Raises:
        BucketError: with the service's code, or ours where no answer came.
    """
    try:
        yield
    except FOREIGN_ERRORS as error:
        raise _told(error, sentence, action) from None


def own_error(code: str, sentence: str) -> BucketError:
    """A failure that we found, not the service."""
    return BucketError(sentence, remedy=_REMEDIES[code], code=code)


def _told(error: Exception, sentence: str, action: str) -> BucketError:
    told = error.response if isinstance(error, boto.ClientError) else {}
    code = code_of(error, told)
    # Only code and message: other members of an answer hold key ids and the string that was signed.
    said = f"{stated_code(told)}: {told.get('Error', {}).get('Message', '')}" if told else str(error)
    if code == "CredentialRetrieval":
        said = type(error).__name__  # its text may be the output of the operator's own credential_process
    cause = re.sub(r"//[^/@\s]*@", "//", said).strip().rstrip(":")[:300]
    return BucketError(sentence, cause=cause, remedy=_REMEDIES.get(code, _OTHER).format(action=action), code=code)
