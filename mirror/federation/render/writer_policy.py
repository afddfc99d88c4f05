"""`render writer-policy`: the least rights of the mirror's own role."""

from mirror.aws.iam_policy import (
    MAX_INLINE_POLICY_CHARACTERS,
    MAX_MANAGED_POLICY_CHARACTERS,
    compact,
    partition_of,
    writer_policy,
)
from mirror.federation.bucket_objects import document_keys, written_alike
from mirror.federation.render.base import Kind, Rendered, Request


def _policy(request: Request) -> Rendered:
    publish = request.issuer.publish
    issuers = written_alike(request.settings, publish)
    distributions = {each.publish.cloudfront_distribution for each in issuers} - {None}
    policy = writer_policy(
        publish.bucket,
        document_keys(issuers),
        partition_of(publish.region),
        distributions=[each for each in distributions if each is not None],
    )
    return Rendered("json", policy, notes=tuple(_notes(request, len(compact(policy)), len(issuers))))


def _notes(request: Request, size: int, issuers: int) -> list[str]:
    publish = request.issuer.publish
    who = publish.role_arn or (f"profile {publish.profile}" if publish.profile else "the mirror's own identity")
    told = [f"Attach it to {who}; issuers that it covers in bucket {publish.bucket}: {issuers}."]
    if size > MAX_INLINE_POLICY_CHARACTERS:
        told.append(
            f"It has {size} characters, and a role takes {MAX_INLINE_POLICY_CHARACTERS} inline"
            f" ({MAX_MANAGED_POLICY_CHARACTERS} in a managed policy): give the issuers several roles"
            " (`publish.role_arn` of an issuer), or allow a folder with a star."
        )
    elif size > MAX_MANAGED_POLICY_CHARACTERS:
        told.append(
            f"It has {size} characters: put it inline, because a managed policy takes {MAX_MANAGED_POLICY_CHARACTERS}."
        )
    return told


KIND = Kind(
    "writer-policy",
    "The least rights of the mirror's own role: put, get and list exactly the published documents.",
    {"json": _policy},
)
