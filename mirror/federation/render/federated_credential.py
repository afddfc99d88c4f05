"""`render federated-credential`: Entra takes the issuer's tokens for a managed identity or an application."""

from collections.abc import Iterator
from typing import Any

from mirror.errors import UsageError
from mirror.federation.render.kind import AZURE_AUDIENCE, Kind, Rendered, Request, made_by
from mirror.federation.render.text import Assignment, Quoted, quoted
from mirror.federation.render.workloads import exact_subjects

MAX_NAME_CHARACTERS = 120
MAX_CREDENTIALS = 20
"""What Entra takes ("Important considerations and restrictions for federated identity credentials")."""
_IDENTITY = '"${IDENTITY:?is the name of the managed identity}"'
_GROUP = '"${RESOURCE_GROUP:?is the resource group of the managed identity}"'


def credentials(request: Request) -> list[dict[str, Any]]:
    """One credential a subject: Entra compares issuer, subject and its one audience with the exact texts."""
    subjects = exact_subjects(request)
    if len(subjects) > MAX_CREDENTIALS:
        raise UsageError(
            f"An identity takes {MAX_CREDENTIALS} credentials, and these are {len(subjects)} subjects.",
            remedy="Use several identities.",
        )
    return [
        {
            "name": _name(request, number, len(subjects)),
            "issuer": str(request.issuer.issuer),
            "subject": subject,
            "audiences": [request.audience(AZURE_AUDIENCE)],
        }
        for number, subject in enumerate(subjects, start=1)
    ]


def _name(request: Request, number: int, count: int) -> str:
    end = f"-{number}" if count > 1 else ""
    name = f"{request.issuer.name}-{request.workload.service_account}".replace(".", "-")
    return name[: MAX_NAME_CHARACTERS - len(end)] + end


def _cli(request: Request) -> Rendered:
    commands: list[tuple[str, ...]] = [Assignment(("identity", _IDENTITY)), Assignment(("group", _GROUP))]
    for each in credentials(request):
        words = ("--name", each["name"], "--issuer", each["issuer"], "--subject", each["subject"], "--audiences")
        create = ("az", "identity", "federated-credential", "create")
        where = ("--identity-name", '"$identity"', "--resource-group", '"$group"')
        commands.append(Quoted((*create, *where, *map(quoted, (*words, *each["audiences"])))))
    return Rendered("shell", tuple(commands), tuple(_comments(request)), tuple(_notes(request)))


def _json(request: Request) -> Rendered:
    found = credentials(request)
    told = (
        "For an application instead of a managed identity:",
        "az ad app federated-credential create --id APPLICATION --parameters FILE",
    )
    more = ("Each member of the list is a FILE of its own.",) if len(found) > 1 else ()
    value: Any = found if len(found) > 1 else found[0]
    return Rendered("json", value, notes=(" ".join(told), *more, *_notes(request)))


def _comments(request: Request) -> Iterator[str]:
    yield made_by("federated-credential", request)
    yield "Run it once, with IDENTITY and RESOURCE_GROUP set in the environment."
    yield "Entra compares issuer, subject and audience with the exact texts: a slash at the end counts."
    yield "Entra takes RS256 only: the cluster must sign with an RSA key."
    yield "The pod's token must have this audience; azure-workload-identity mounts such a one."


def _notes(request: Request) -> Iterator[str]:
    audience = request.audience(AZURE_AUDIENCE)
    if audience != request.workload.audience and request.is_of_other_cloud(audience, AZURE_AUDIENCE):
        yield (
            f"The audience {audience} is another cloud's: a token for the one would be good at the other. Add"
            f" {AZURE_AUDIENCE} to the issuer's `audiences`."
        )


KIND = Kind(
    "federated-credential",
    "Azure: the az commands that let a managed identity take the tokens; as JSON for an application.",
    {"cli": _cli, "json": _json},
)
