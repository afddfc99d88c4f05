"""What `service-account` and `pod` share: where the token is, and what the AWS SDKs read about it. Pure."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from mirror.errors import UsageError
from mirror.federation.render.base import ACCOUNT_TO_FILL_IN, Request
from mirror.federation.render.naming import account_of

TOKEN_FOLDER = PurePosixPath("/var/run/secrets/oidc-token")
TOKEN_FILE = TOKEN_FOLDER / "token"
WEBHOOK = "amazon-eks-pod-identity-webhook"
REGIONAL = "regional"


def names(request: Request) -> tuple[str, str]:
    """Namespace and ServiceAccount: those of the options if they are a subject, else of the first subject that has any.

    Raises:
        UsageError: No subject is a ServiceAccount's exact one.
    """
    workload = request.workload
    asked = (workload.namespace, workload.service_account)
    found = [account for each in workload.all_subjects() if (account := account_of(each)) is not None]
    if not found:
        raise UsageError(
            "No subject names a ServiceAccount that a pod could have.",
            remedy="Give --namespace and --service-account, or --subject system:serviceaccount:NAMESPACE:NAME.",
        )
    return asked if asked in found else found[0]


def exact_subjects(request: Request) -> tuple[str, ...]:
    """All subjects, for a cloud that compares them as they are.

    Raises:
        UsageError: One is a pattern.
    """
    subjects = request.workload.all_subjects()
    if any(mark in each for each in subjects for mark in "*?"):
        raise UsageError(
            "This cloud takes no patterns of subjects.",
            remedy="Name each: --subject system:serviceaccount:NAMESPACE:NAME.",
        )
    return subjects


def environment(request: Request) -> dict[str, str]:
    """What the AWS SDKs and the aws CLI read (AWS SDKs and Tools reference guide, "Assume role with web identity")."""
    region = request.issuer.publish.region
    return {
        "AWS_ROLE_ARN": request.role_arn(),
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(TOKEN_FILE),
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_STS_REGIONAL_ENDPOINTS": REGIONAL,
    }


def annotations(request: Request) -> dict[str, str]:
    """What amazon-eks-pod-identity-webhook reads from a ServiceAccount (its README)."""
    return {
        "eks.amazonaws.com/role-arn": request.role_arn(),
        "eks.amazonaws.com/audience": request.audience(),
        "eks.amazonaws.com/token-expiration": str(request.workload.expiration_seconds),
        "eks.amazonaws.com/sts-regional-endpoints": "true",
    }


def notes(request: Request) -> Iterator[str]:
    """What asks for a second look."""
    if ACCOUNT_TO_FILL_IN in request.role_arn().split(":"):
        yield f"The role's account is not known: replace {ACCOUNT_TO_FILL_IN}, or give --account or --role-arn."
