"""What to do about each failure of an S3 store; `mirror.publish.failures` fills in the braces."""

from collections.abc import Mapping

REMEDY_OTHER = "Look the code up in the store's documentation; the next pass tries again."
REMEDY_NO_ANSWER = (
    "Nothing was sent, or nothing came: correct what the cause names (the AWS variables of the environment and the AWS "
    "configuration files); if it names nothing of yours, report it."
)
REMEDY_RIGHT_REGION = "The bucket is in another region: set `publish.region: {right_region}`."
REMEDY_KMS = (
    "The bucket is encrypted with a KMS key that the mirror may not use, and then nobody can read the documents "
    "anonymously either: use SSE-S3 (AES256) for the bucket `{bucket}`."
)
REMEDY_OWNER = "The bucket may also belong to another account than `publish.expected_bucket_owner` {owner} says."
REMEDY_ROLE = (
    "STS did not give the role's credentials: check `publish.role_arn` (or the role of the web identity), the role's "
    "trust policy, and the right `sts:AssumeRole` of who assumes it."
)

_AGAIN = "The next pass tries again."
_SWITCH_OFF = (
    "The store has no conditional writes: set `publish.conditional_writes: false`, and run one mirror only for it."
)
_NO_CREDENTIALS = (
    "Give the mirror AWS credentials (environment, profile `{profile}`, web identity, instance or pod role) "
    "that allow `{action}`."
)
_CREDENTIALS_SOURCE = (
    "Check where the AWS credentials come from: profile `{profile}`, `publish.role_arn`, "
    "or the metadata service of the instance."
)

REMEDIES: Mapping[str, str] = {
    "AccessDenied": (
        "Allow `{action}` on `{resource}` to the mirror's own identity (`oidc-mirror render writer-policy`), "
        "and `s3:ListBucket` on the bucket, without which S3 answers so for an object that does not exist."
    ),
    "NoSuchBucket": "Create the bucket with `oidc-mirror provision bucket`, or correct `publish.bucket`.",
    "NoSuchKey": "The object is gone; the next pass puts it again.",
    "PermanentRedirect": "The bucket is in another region than `{region}`: correct `publish.region`.",
    "BadRequest": "Check `publish.region` and the mirror's credentials.",
    "NoCredentials": _NO_CREDENTIALS,
    "PartialCredentials": _NO_CREDENTIALS,
    "ExpiredToken": "The mirror's AWS credentials are expired: renew them, and let them be refreshed by themselves.",
    "SsoLoginExpired": "Log in again with `aws sso login`; a mirror that runs unattended needs other credentials.",
    "CredentialRetrieval": _CREDENTIALS_SOURCE,
    "InvalidAccessKeyId": "The store does not know the mirror's access key: correct the credentials or the endpoint.",
    "InvalidIdentityToken": "STS does not accept the mirror's web identity token: check its issuer's provider in IAM.",
    "SignatureDoesNotMatch": "The secret key does not belong to the access key: correct the mirror's credentials.",
    "ProfileNotFound": "Correct `{profile_setting}`, or add the profile `{profile}` to the AWS configuration files.",
    "InvalidConfiguration": (
        "Correct what the cause names: a variable AWS_* of the environment, the AWS configuration files, "
        "`publish.endpoint_url` or `publish.bucket`."
    ),
    "RequestTimeTooSkewed": "This machine's clock is off by more than 15 minutes: set it, or start an NTP client.",
    "SlowDown": "The store asks to slow down: lower `limits.puts`. " + _AGAIN,
    "InternalError": "The store had an error of its own. " + _AGAIN,
    "ConditionalRequestConflict": "Somebody else wrote the object at the same moment. " + _AGAIN,
    "PreconditionFailed": _SWITCH_OFF,
    "NotImplemented": _SWITCH_OFF,
    "KMS.DisabledException": REMEDY_KMS,
    "InvalidRequest": "The store does not accept the request: check `publish.endpoint_url` and the bucket's settings.",
    "NoSuchHost": "The name of {endpoint} does not resolve: check DNS, `publish.endpoint_url` and `publish.region`.",
    "Unreachable": "{endpoint} does not accept connections: check the network, the firewall and `HTTPS_PROXY`.",
    "ConnectTimeout": "{endpoint} cannot be reached: check the network, the firewall and `HTTPS_PROXY`.",
    "ReadTimeout": "{endpoint} did not answer in time. " + _AGAIN,
    "RequestTimeout": "{endpoint} did not get the request in time. " + _AGAIN,
    "ConnectionClosed": "{endpoint} closed the connection in the middle. " + _AGAIN,
    "IncompleteBody": "{endpoint} broke off in the middle of the object. " + _AGAIN,
    "ChecksumMismatch": "The object was damaged on its way. " + _AGAIN,
    "MalformedAnswer": "{endpoint} answered something that is not S3: check `publish.endpoint_url` and proxies.",
    "CaBundle": (
        "Let `AWS_CA_BUNDLE` (or `ca_bundle` of the AWS configuration files) name a readable PEM file with the CA of "
        "{endpoint}, or remove it."
    ),
    "Tls": "The certificate of {endpoint} is not trusted: point `AWS_CA_BUNDLE` to its CA, or correct the endpoint.",
    "Proxy": "The proxy of `HTTPS_PROXY` does not work: correct it, or set `NO_PROXY` for the endpoint.",
    "Cancelled": "It was broken off because the mirror ends. " + _AGAIN,
    "Unknown": "{endpoint} states no code that S3 has: check `publish.endpoint_url` and proxies.",
    "TooManyObjects": "Give the mirror a bucket, or a `publish.prefix`, of its own.",
}
"""By code; `AccessDenied` and its like are the store's own, the others name a failure without an answer."""
