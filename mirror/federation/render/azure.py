"""`render federated-credential`: Entra takes the issuer's tokens for a managed identity or an application."""

from collections.abc import Iterator
from typing import Any

from mirror.errors import UsageError
from mirror.federation.render.base import (
    MAX_CREDENTIAL_CHARACTERS,
    STRICT,
    Lines,
    Rendered,
    Renderer,
    RenderRequest,
    made_by,
    workload_name,
)
from mirror.federation.render.pod import exact_subjects
from mirror.model import Cloud

MAX_CREDENTIALS = 20
"""What Entra takes ("Important considerations and restrictions for federated identity credentials")."""


def credentials(request: RenderRequest) -> list[dict[str, Any]]:
    """One credential a subject: Entra compares issuer, subject and its one audience with the exact texts."""
    subjects = exact_subjects(request)
    if len(subjects) > MAX_CREDENTIALS:
        raise UsageError(
            f"An identity takes {MAX_CREDENTIALS} credentials, and these are {len(subjects)} subjects.",
            remedy="Use several identities.",
        )
    name = request.workload.credential_name
    if name is not None and len(subjects) > 1:
        raise UsageError("One name cannot be that of several credentials.", remedy="Give one subject, or no name.")
    return [
        {
            "name": name or workload_name(request.issuer.name, (subject,), MAX_CREDENTIAL_CHARACTERS),
            "issuer": str(request.issuer.issuer),
            "subject": subject,
            "audiences": [request.audience(Cloud.AZURE)],
        }
        for subject in subjects
    ]


def _cli(request: RenderRequest) -> Rendered:
    calls = [
        ("create", each["name"], each["issuer"], each["subject"], *each["audiences"]) for each in credentials(request)
    ]
    script = (STRICT, Lines(_CREATE_OR_LEAVE), *calls)
    return Rendered("shell", script, tuple(_comments(request)), request.audience_notes(Cloud.AZURE))


_CREATE_OR_LEAVE = (
    'identity="${IDENTITY:?is the name of the managed identity}"',
    'group="${RESOURCE_GROUP:?is the resource group of the managed identity}"',
    "# create NAME ISSUER SUBJECT AUDIENCE: a credential of this name for another issuer or subject is not changed.",
    "create() {",
    '  found=$(az identity federated-credential list --identity-name "$identity" --resource-group "$group" \\',
    "    --query \"[?name=='$1'].[issuer, subject]\" --output tsv)",
    '  wanted=$(printf \'%s\\t%s\' "$2" "$3")',
    '  if [ "$found" = "$wanted" ]; then',
    '    echo "Credential $1 exists. It is left as it is."',
    '  elif [ -n "$found" ]; then',
    '    echo "Credential $1 exists for another issuer or subject. Choose another --credential-name." >&2',
    "    exit 1",
    "  else",
    '    az identity federated-credential create --identity-name "$identity" --resource-group "$group" \\',
    '      --name "$1" --issuer "$2" --subject "$3" --audiences "$4"',
    "  fi",
    "}",
)


def _json(request: RenderRequest) -> Rendered:
    found = credentials(request)
    notes = (
        "For an application instead of a managed identity:",
        "az ad app federated-credential create --id APPLICATION --parameters FILE",
    )
    more = ("Each member of the list is a FILE of its own.",) if len(found) > 1 else ()
    value: Any = found if len(found) > 1 else found[0]
    return Rendered("json", value, notes=(" ".join(notes), *more, *request.audience_notes(Cloud.AZURE)))


def _comments(request: RenderRequest) -> Iterator[str]:
    yield made_by("federated-credential", request)
    yield "Run it as a script, with IDENTITY and RESOURCE_GROUP set in the environment, as often as you like."
    yield "Entra compares issuer, subject and audience with the exact texts: a slash at the end counts."
    yield "Entra takes RS256 only: the cluster must sign with an RSA key."
    yield (
        f"The pod's token must have the audience {request.audience(Cloud.AZURE)} alone; azure-workload-identity mounts"
        " such a one."
    )


KIND = Renderer(
    "federated-credential",
    "Azure: the az commands that let a managed identity take the tokens; as JSON for an application.",
    {"cli": _cli, "json": _json},
)
