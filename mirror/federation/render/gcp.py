"""`render workload-identity-provider`: Google Cloud takes the issuer's tokens (Workload Identity Federation)."""

import json
import shlex
from collections.abc import Iterator

from mirror.errors import UsageError
from mirror.federation.render.base import STRICT, Lines, Rendered, Renderer, RenderRequest, made_by
from mirror.federation.render.pod import TOKEN_FILE, exact_subjects
from mirror.model import Cloud
from mirror.trust.relying_parties import GCP_SUBJECT_BYTES


def _list(values: Iterator[str] | tuple[str, ...]) -> str:
    """A list as gcloud takes it: another separator where a comma is part of a value (`gcloud topic escaping`)."""
    each = tuple(values)
    mark = next((mark for mark in ",;|" if not any(mark in value for value in each)), "#")
    return mark.join(each) if mark == "," else f"^{mark}^{mark.join(each)}"


def _condition(subjects: tuple[str, ...]) -> str:
    """That the token is one of these subjects', in Google's Common Expression Language."""
    return f"assertion.sub in [{', '.join(map(json.dumps, subjects))}]"


def _cli(request: RenderRequest) -> Rendered:
    subjects, audiences = exact_subjects(request), request.audiences(Cloud.GCP)
    allowed = f"--allowed-audiences={shlex.quote(_list(audiences))} " if audiences else ""
    bind = 'gcloud iam service-accounts add-iam-policy-binding "$account" --role=roles/iam.workloadIdentityUser'
    members = (shlex.quote(f"/{request.pool_path()}/subject/{each}") for each in subjects)
    lines = (
        'project="${PROJECT_NUMBER:?is the number of the Google Cloud project}"',
        'account="${GOOGLE_SERVICE_ACCOUNT:?is the mail address of the service account that the pods act as}"',
        f"pool={shlex.quote(request.pool())}",
        f"issuer={shlex.quote(str(request.issuer.issuer))}",
        f"condition={shlex.quote(_condition(subjects))}",
        *_pool_and_provider(allowed),
        *(f'{bind} --member="principal://iam.googleapis.com/projects/$project"{member}' for member in members),
    )
    notes = tuple(_notes(request, subjects))
    return Rendered("shell", (STRICT, Lines(lines)), tuple(_comments(request)), notes)


def _pool_and_provider(allowed: str) -> tuple[str, ...]:
    """Make pool and provider where they are missing; stop at a provider of another issuer."""
    return (
        'is_in() { printf \'%s\\n\' "$2" | grep -Fqx -- "$1"; }',
        "pools=$(gcloud iam workload-identity-pools list --location=global --format='value(name.basename())')",
        'if ! is_in "$pool" "$pools"; then',
        '  gcloud iam workload-identity-pools create "$pool" --location=global',
        "fi",
        'providers="gcloud iam workload-identity-pools providers"',
        'where="--location=global --workload-identity-pool=$pool"',
        "# shellcheck disable=SC2086  # both hold several words",
        "found=$($providers list $where --format='value(name.basename())')",
        'if is_in "$pool" "$found"; then',
        "  # shellcheck disable=SC2086",
        "  trusted=$($providers describe \"$pool\" $where --format='value(oidc.issuerUri)')",
        '  if [ "$trusted" != "$issuer" ]; then',
        '    echo "The provider of pool $pool trusts $trusted, not $issuer. Choose another --pool." >&2',
        "    exit 1",
        "  fi",
        "  # shellcheck disable=SC2086",
        "  old=$($providers describe \"$pool\" $where --format='value(attributeCondition)')",
        "  case $old in",
        '  *"$condition"*) ;;',
        "  *)",
        "    # The subjects of other namespaces stay.",
        '    if [ -n "$old" ]; then condition="($old) || $condition"; fi',
        "    # shellcheck disable=SC2086",
        '    $providers update-oidc "$pool" $where --attribute-condition="$condition"',
        "    ;;",
        "  esac",
        "else",
        "  # shellcheck disable=SC2086",
        '  $providers create-oidc "$pool" $where --issuer-uri="$issuer" \\',
        f'    {allowed}--attribute-mapping=google.subject=assertion.sub --attribute-condition="$condition"',
        "fi",
    )


def _json(request: RenderRequest) -> Rendered:
    """What Google's libraries read through GOOGLE_APPLICATION_CREDENTIALS in the pod; no secret is in it."""
    audience = f"//iam.googleapis.com/projects/PROJECT_NUMBER/{request.pool_path()}/providers/{request.pool()}"
    value = {
        "type": "external_account",
        "audience": audience,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": str(TOKEN_FILE)},
    }
    notes = (
        "Put it into a ConfigMap that the pod mounts, and set GOOGLE_APPLICATION_CREDENTIALS to its path.",
        "Replace PROJECT_NUMBER by the number of the project.",
        f"The pod's token has the audience {request.audience(Cloud.GCP)}.",
    )
    return Rendered("json", value, notes=(*notes, *_notes(request, exact_subjects(request))))


def _comments(request: RenderRequest) -> Iterator[str]:
    yield made_by("workload-identity-provider", request)
    yield "Run it as a script in the project, with PROJECT_NUMBER and GOOGLE_SERVICE_ACCOUNT set in the environment."
    yield "It stops at the first error and adds what is missing: run it for each ServiceAccount."
    yield "Google fetches the public documents by itself. The condition lets in exactly the named subjects."
    yield (
        "Google takes RS256 and ES256 only, and tokens that live less than 48 h. What the pods' libraries read is"
        f" printed by: oidc-mirror render workload-identity-provider {request.issuer.name} --format json"
    )


def _notes(request: RenderRequest, subjects: tuple[str, ...]) -> Iterator[str]:
    yield from request.audience_notes(Cloud.GCP)
    if not request.audiences(Cloud.GCP):
        yield f"The pod's token needs the audience {request.audience(Cloud.GCP)}, with the project's number in it."
    if any(len(each.encode()) > GCP_SUBJECT_BYTES for each in subjects):
        raise UsageError(
            f"Google takes subjects of at most {GCP_SUBJECT_BYTES} bytes.",
            remedy="Give the namespace or the ServiceAccount a shorter name.",
        )


KIND = Renderer(
    "workload-identity-provider",
    "Google Cloud: the gcloud commands of pool, provider and binding; as JSON the credentials file of the pods.",
    {"cli": _cli, "json": _json},
)
