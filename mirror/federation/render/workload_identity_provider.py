"""`render workload-identity-provider`: Google Cloud takes the issuer's tokens (Workload Identity Federation)."""

import json
import shlex
from collections.abc import Iterator

from mirror.errors import UsageError
from mirror.federation.render.kind import GOOGLE_AUDIENCE, Kind, Rendered, Request, made_by
from mirror.federation.render.text import Assignment, Quoted
from mirror.federation.render.workloads import TOKEN_FILE, exact_subjects
from mirror.trust.party_limits import GCP_SUBJECT_BYTES

_ID_CHARACTERS = 4, 32  # Workload Identity Federation, ids of pools and providers
_PROJECT = '"${PROJECT_NUMBER:?is the number of the Google Cloud project}"'
_ACCOUNT = '"${GOOGLE_SERVICE_ACCOUNT:?is the mail address of the service account that the pods act as}"'


def pool_id(request: Request) -> str:
    """The id of the pool and of its provider: the issuer's name within Google's limits; `gcp-` is Google's own."""
    shortest, longest = _ID_CHARACTERS
    name = request.issuer.name.removeprefix("gcp-")
    return (name if len(name) >= shortest else f"k8s-{name}")[:longest]


def _pool(request: Request) -> str:
    return f"locations/global/workloadIdentityPools/{pool_id(request)}"


def _list(values: Iterator[str] | tuple[str, ...]) -> str:
    """A list as gcloud takes it: another separator where a comma is part of a value (`gcloud topic escaping`)."""
    each = tuple(values)
    mark = next((mark for mark in ",;|" if not any(mark in value for value in each)), "#")
    return mark.join(each) if mark == "," else f"^{mark}^{mark.join(each)}"


def _condition(subjects: tuple[str, ...]) -> str:
    """That the token is one of these subjects', in Google's Common Expression Language."""
    return f"assertion.sub in [{', '.join(map(json.dumps, subjects))}]"


def _cli(request: Request) -> Rendered:
    subjects, pool = exact_subjects(request), pool_id(request)
    where = ("--location=global", f"--workload-identity-pool={pool}")
    commands: list[tuple[str, ...]] = [
        Assignment(("project", _PROJECT)),
        Assignment(("account", _ACCOUNT)),
        ("gcloud", "iam", "workload-identity-pools", "create", pool, "--location=global"),
        (
            *("gcloud", "iam", "workload-identity-pools", "providers", "create-oidc", pool, *where),
            f"--issuer-uri={request.issuer.issuer}",
            f"--allowed-audiences={_list((request.audience(GOOGLE_AUDIENCE),))}",
            "--attribute-mapping=google.subject=assertion.sub",
            f"--attribute-condition={_condition(subjects)}",
        ),
    ]
    for each in subjects:
        bind = 'gcloud iam service-accounts add-iam-policy-binding "$account" --role=roles/iam.workloadIdentityUser'
        member = shlex.quote(f"/{_pool(request)}/subject/{each}")
        commands.append(
            Quoted(
                (
                    bind,
                    f'--member="principal://iam.googleapis.com/projects/$project"{member}',
                )
            )
        )
    return Rendered("shell", tuple(commands), tuple(_comments(request)), tuple(_notes(request, subjects)))


def _json(request: Request) -> Rendered:
    """What Google's libraries read through GOOGLE_APPLICATION_CREDENTIALS in the pod; no secret is in it."""
    audience = f"//iam.googleapis.com/projects/PROJECT_NUMBER/{_pool(request)}/providers/{pool_id(request)}"
    value = {
        "type": "external_account",
        "audience": audience,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": str(TOKEN_FILE)},
    }
    told = (
        "Put it into a ConfigMap that the pod mounts, and set GOOGLE_APPLICATION_CREDENTIALS to its path.",
        "Replace PROJECT_NUMBER by the number of the project.",
        f"The pod's token has the audience {request.audience(GOOGLE_AUDIENCE)}.",
    )
    return Rendered("json", value, notes=(*told, *_notes(request, exact_subjects(request))))


def _comments(request: Request) -> Iterator[str]:
    yield made_by("workload-identity-provider", request)
    yield "Run it once in the project, with PROJECT_NUMBER and GOOGLE_SERVICE_ACCOUNT set in the environment."
    yield "Google fetches the public documents by itself. The condition lets in exactly the named subjects."
    yield (
        "Google takes RS256 and ES256 only, and tokens that live less than 48 h. What the pods' libraries read is"
        f" printed by: oidc-mirror render workload-identity-provider {request.issuer.name} --format json"
    )


def _notes(request: Request, subjects: tuple[str, ...]) -> Iterator[str]:
    audience = request.audience(GOOGLE_AUDIENCE)
    if audience != request.workload.audience and request.is_of_other_cloud(audience, GOOGLE_AUDIENCE):
        yield f"The audience {audience} is another cloud's: a token for one would be good at the other. Add one more."
    if any(len(each.encode()) > GCP_SUBJECT_BYTES for each in subjects):
        raise UsageError(
            f"Google takes subjects of at most {GCP_SUBJECT_BYTES} bytes.",
            remedy="Give the namespace or the ServiceAccount a shorter name.",
        )


KIND = Kind(
    "workload-identity-provider",
    "Google Cloud: the gcloud commands of pool, provider and binding; as JSON the credentials file of the pods.",
    {"cli": _cli, "json": _json},
)
