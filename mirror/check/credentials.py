"""The mirror's own AWS credentials: where they come from, and who they make it."""

from collections.abc import Callable, Iterable, Iterator

from mirror.addresses import is_aws_endpoint
from mirror.check.ports import Aws, Identity, Missed
from mirror.check.result import Finding, Place, Station
from mirror.config.settings import Issuer, Publish
from mirror.ports import OwnToken
from mirror.reconcile.planner import CODE, REMEDY, circular_credentials

_METHODS = {
    "env": "the environment (AWS_ACCESS_KEY_ID)",
    "shared-credentials-file": "the shared credentials file",
    "config-file": "the AWS configuration file",
    "assume-role": "a role that is assumed",
    "assume-role-with-web-identity": "a web identity token (AWS_WEB_IDENTITY_TOKEN_FILE)",
    "iam-role": "the instance's role (metadata service)",
    "container-role": "the container's role",
    "sso": "IAM Identity Center",
    "custom-process": "a credential_process of the AWS configuration",
}
_UNREACHED = frozenset(
    {
        "NoSuchHost",
        "Unreachable",
        "ConnectTimeout",
        "ReadTimeout",
        "ConnectionClosed",
        "Proxy",
        "SlowDown",
        "InternalError",
    }
)
"""STS was not heard, and the mirror may work without it: a network may have a way to S3 alone."""
_NO_CREDENTIALS = (
    "Give the mirror credentials where boto3 looks for them: environment, `publish.profile`, a web identity, or the "
    "role of the instance or pod."
)


def is_aws(publish: Publish) -> bool:
    """Whether AWS itself keeps the bucket, not a store that only speaks its language."""
    return publish.endpoint_url is None or is_aws_endpoint(publish.endpoint_url)


def credentials(publish: Publish, aws: Aws) -> Iterator[Finding]:
    """Findings about the credentials for one bucket."""
    place = Place(Station.CREDENTIALS, f"credentials for bucket {publish.bucket}")
    method = aws.credentials(publish)
    if method is None:
        yield place.failed("credentials.none", "There are no AWS credentials.", _NO_CREDENTIALS)
    elif isinstance(method, Missed):
        cause = f" ({method.cause})" if method.cause else ""
        yield place.failed(
            "credentials.unusable", f"The AWS credentials cannot be got: {method.code}{cause}.", method.remedy
        )
    else:
        yield place.ok("credentials.found", f"They come from {_METHODS.get(method, method)}.")
        yield _who(place, publish, aws.identity(publish))


def circular(issuers: Iterable[Issuer], own_token: Callable[[Publish], OwnToken | None]) -> Iterator[Finding]:
    """Warnings of credentials that rest on an issuer that the mirror publishes itself."""
    for each in circular_credentials(issuers, own_token):
        place = Place(Station.CREDENTIALS, str(each.token_file))
        yield place.warning(CODE, each.sentence, REMEDY)


def _who(place: Place, publish: Publish, found: Identity | Missed) -> Finding:
    if isinstance(found, Identity):
        return place.ok("credentials.identity", f"They make the mirror {found.arn} of account {found.account}.")
    sentence = f"STS does not say who the mirror is: {found.code}"
    sentence += f" ({found.cause})." if found.cause else "."
    if not is_aws(publish):
        return place.note("credentials.unknown", f"{sentence} Stores that are not AWS have no such service.")
    if found.code in _UNREACHED:
        return place.warning("credentials.unknown", sentence, found.remedy)
    code = "credentials.expired" if found.code == "ExpiredToken" else "credentials.refused"
    return place.failed(code, sentence, found.remedy)
