"""IAM policies: what the mirror needs, what a policy allows, and merging a statement into others' policies. Pure.

Each gives exactly what is needed: no statement has a wildcard in its resources, except where a service has none finer.

What a bucket policy lets the whole world do, judged against the objects that should be public. Pure.
An approximation of IAM's evaluation that errs to the side of telling: what it cannot judge it says so.

Pure: from "the public URL answers 403" to what in the bucket makes it so.
The one sentence for all of them is of little help to somebody at three in the morning: S3 itself says no more than
AccessDenied, whether the object is missing, the policy is, or Block Public Access stands above it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mirror.addresses import bucket_url, common_folder
from mirror.config.settings import PublishSettings
from mirror.model import IssuerUrl, ObjectKey, Reason
from mirror.ports import AccessSettings

Policy = dict[str, Any]
"""A policy document of IAM (IAM user guide, "IAM JSON policy element reference")."""
Statement = dict[str, Any]

VERSION = "2012-10-17"
PUBLIC_SID = "OidcMirrorPublicDocuments"
"""How our statement in a bucket's policy is found again; every other one is somebody else's."""
MAX_BUCKET_POLICY_BYTES = 20 * 1024
"""What S3 takes as a bucket's policy (S3 user guide, "Bucket policies")."""
MAX_INLINE_POLICY_CHARACTERS = 10_240
"""What a role takes as its inline policies, white space not counted (IAM user guide, "IAM and AWS STS quotas")."""
MAX_MANAGED_POLICY_CHARACTERS = 6_144
"""What a managed policy may have, white space not counted (the same place)."""

_PARTITIONS = (  # region prefix, partition (botocore's `partitions.json`); the first that fits counts
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("eusc-", "aws-eusc"),
    ("us-iso-", "aws-iso"),
    ("us-isob-", "aws-iso-b"),
    ("us-isof-", "aws-iso-f"),
    ("eu-isoe-", "aws-iso-e"),
)
_WILDCARDS = ("*", "?")


def partition_of(region: str) -> str:
    """The second word of every ARN in `region`: `aws`, `aws-cn`, `aws-us-gov` or one of the closed ones."""
    return next((name for prefix, name in _PARTITIONS if region.startswith(prefix)), "aws")


def compact(policy: Mapping[str, Any]) -> str:
    """A policy as it is sent: JSON without white space, because its size is limited."""
    return json.dumps(policy, separators=(",", ":"), ensure_ascii=True)


def document(*statements: Statement) -> Policy:
    """A whole policy of these statements."""
    return {"Version": VERSION, "Statement": list(statements)}


def object_arns(bucket: str, keys: Iterable[ObjectKey], partition: str) -> list[str]:
    """The ARN of each object; sorted, none twice."""
    return sorted({f"arn:{partition}:s3:::{bucket}/{key}" for key in keys})


def public_statement(bucket: str, keys: Iterable[ObjectKey], partition: str) -> Statement:
    """That the world may read exactly the objects `keys` (facts.md#41), and nothing else, and may not list them.

    Raises:
        ValueError: There is no key: S3 takes no statement without a resource.
    """
    return {
        "Sid": PUBLIC_SID,
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": _demanded(object_arns(bucket, keys, partition)),
    }


def bucket_policy(bucket: str, keys: Iterable[ObjectKey], partition: str) -> Policy:
    """The policy of a bucket that holds nothing but our documents; see `public_statement`."""
    return document(public_statement(bucket, keys, partition))


def writer_policy(
    bucket: str, keys: Iterable[ObjectKey], partition: str, *, distributions: Iterable[str] = ()
) -> Policy:
    """The least rights of the mirror's own role (facts.md#42).

    Listing is allowed below the folder that all keys share, which is what a pass lists; a pass over fewer issuers lists
    a folder in it. No right to delete: the mirror never deletes. `distributions` are the ids of CloudFront
    distributions whose changed paths are invalidated.

    Raises:
        ValueError: There is no key.
    """
    wanted = tuple(keys)
    statements: list[Statement] = [
        {
            "Sid": "OidcMirrorWriteDocuments",
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject"],
            "Resource": _demanded(object_arns(bucket, wanted, partition)),
        },
        {
            "Sid": "OidcMirrorListBucket",
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": f"arn:{partition}:s3:::{bucket}",
            # The listing always names its prefix; an empty one is matched by the star alone.
            "Condition": {"StringLike": {"s3:prefix": f"{common_folder(wanted)}*"}},
        },
    ]
    invalidated = sorted(set(distributions))
    if invalidated:
        statements.append(
            {
                "Sid": "OidcMirrorInvalidateChangedPaths",
                "Effect": "Allow",
                "Action": "cloudfront:CreateInvalidation",
                # A distribution's id is unique in the world, and its account is written nowhere in the configuration.
                "Resource": [f"arn:{partition}:cloudfront::*:distribution/{each}" for each in invalidated],
            }
        )
    return document(*statements)


# --------------------------------------------------------------------------------------------- roles of pods


def provider_url(issuer: IssuerUrl) -> str:
    """The issuer as IAM keeps it in ARNs and condition keys.

    It is the exact text without `https://`, its final slash included (facts.md#30), and without `:443`, which IAM drops
    (IAM API, CreateOpenIDConnectProvider: "no port").
    """
    host, slash, path = issuer.removeprefix("https://").partition("/")
    return host.removesuffix(":443") + slash + path


def condition_key(issuer: IssuerUrl, claim: str) -> str:
    """The name under which IAM compares a claim of the issuer's tokens."""
    return f"{provider_url(issuer)}:{claim}"


def subject(namespace: str, service_account: str) -> str:
    """The `sub` of a ServiceAccount's tokens."""
    return f"system:serviceaccount:{namespace}:{service_account}"


def provider_arn(issuer: IssuerUrl, account: str, partition: str) -> str:
    """The ARN of the issuer's OIDC provider in an account."""
    return f"arn:{partition}:iam::{account}:oidc-provider/{provider_url(issuer)}"


def role_arn(account: str, name: str, partition: str) -> str:
    """The ARN of a role without a path."""
    return f"arn:{partition}:iam::{account}:role/{name}"


def conditions(
    issuer: IssuerUrl, subjects: Sequence[str], audiences: Sequence[str]
) -> dict[str, dict[str, str | list[str]]]:
    """Who of the issuer is meant: `sub` and `aud`, both always; a subject with a star or question mark by pattern.

    Raises:
        ValueError: There is no subject or no audience: the role would be everybody's (style 6).
    """
    if not subjects or not audiences:
        raise ValueError("A role needs at least one subject and one audience.")
    is_pattern = any(mark in each for each in subjects for mark in _WILDCARDS)
    aud, sub = (
        {condition_key(issuer, "aud"): _one_or_many(audiences)},
        {condition_key(issuer, "sub"): _one_or_many(subjects)},
    )
    if is_pattern:
        return {"StringEquals": aud, "StringLike": sub}
    return {"StringEquals": aud | sub}


def trust_policy(issuer: IssuerUrl, provider: Any, subjects: Sequence[str], audiences: Sequence[str]) -> Policy:
    """Who may assume a role: pods whose tokens the issuer signed, with one of `subjects` and one of `audiences`.

    `provider` is the ARN of the issuer's provider, or a value that a template resolves to it.

    Raises:
        ValueError: There is no subject or no audience.
    """
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Federated": provider},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": conditions(issuer, subjects, audiences),
        }
    )


def _one_or_many(values: Sequence[str]) -> str | list[str]:
    ordered = sorted(set(values))
    return ordered[0] if len(ordered) == 1 else ordered


def _demanded(arns: list[str]) -> list[str]:
    if not arns:
        raise ValueError("A policy needs at least one object.")
    return arns


_GET = "s3:GetObject"
_HARMLESS_DENIAL = frozenset({"aws:securetransport", "s3:tlsversion"})


@dataclass(frozen=True, slots=True)
class Grants:
    """What a policy gives to everybody.

    `missing` of the wanted keys nobody may read; `denied` are read-protected by a Deny. `wider` are resources beyond
    the wanted ones that everybody may read, `dangerous` actions beyond reading, each with its resource.
    `conditional` are statement ids whose Condition this program does not judge.
    """

    missing: tuple[ObjectKey, ...]
    denied: tuple[ObjectKey, ...] = ()
    wider: tuple[str, ...] = ()
    dangerous: tuple[str, ...] = ()
    conditional: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Statement:
    name: str
    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: frozenset[str]
    negated: frozenset[str] = field(default_factory=frozenset)


def grants(policy: str, bucket: str, desired_keys: Iterable[ObjectKey], partition: str) -> Grants | None:
    """Judge the text of a policy; None when it is no policy.

    Args:
        policy: The JSON text (IAM JSON policy elements reference).
        bucket: The bucket's name.
        desired_keys: The keys that everybody should be able to read.
        partition: The second word of its ARNs: `aws`, or that of China or a government's cloud.
    """
    statements = _public_statements(policy)
    if statements is None:
        return None
    arns = {key: f"arn:{partition}:s3:::{bucket}/{key}" for key in desired_keys}
    plain = [each for each in statements if not each.conditions]
    allowing = [each for each in plain if each.allows]
    denying = [each for each in statements if not each.allows and not each.conditions <= _HARMLESS_DENIAL]
    denying += [each for each in plain if not each.allows]
    names = [each.name for each in statements if each.allows and each.conditions]
    return Grants(
        missing=tuple(key for key, arn in arns.items() if not any(_reads(each, arn) for each in allowing)),
        denied=tuple(key for key, arn in arns.items() if any(_reads(each, arn) for each in denying)),
        wider=tuple(dict.fromkeys(_wider(allowing, frozenset(arns.values())))),
        dangerous=tuple(dict.fromkeys(_dangerous(each for each in statements if each.allows))),
        conditional=tuple(names),
    )


def _public_statements(policy: str) -> list[_Statement] | None:
    """The statements whose principal is everybody."""
    try:
        document = json.loads(policy)
        listed = document["Statement"]
        entries = listed if isinstance(listed, list) else [listed]
        return [_read(each, number) for number, each in enumerate(entries, start=1) if _is_public(each)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _read(entry: Mapping[str, Any], number: int) -> _Statement:
    operators = entry.get("Condition") or {}
    conditions = frozenset(str(key).lower() for keys in operators.values() for key in keys)
    return _Statement(
        name=str(entry.get("Sid") or f"statement {number}"),
        allows=entry.get("Effect") == "Allow",
        actions=_as_texts(entry.get("Action", entry.get("NotAction"))),
        resources=_as_texts(entry.get("Resource", entry.get("NotResource"))),
        conditions=conditions,
        negated=frozenset({"NotAction", "NotResource"} & entry.keys()),
    )


def _is_public(entry: Mapping[str, Any]) -> bool:
    if "NotPrincipal" in entry:
        return True  # everybody but some
    principal = entry.get("Principal")
    return principal == "*" or (isinstance(principal, dict) and "*" in _as_texts(principal.get("AWS")))


def _as_texts(value: Any) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, list) else (str(value),) if value else ()


def _matches_pattern(pattern: str, text: str, *, ignoring_case: bool = False) -> bool:
    """IAM's wildcards: `*` is any text, `?` any character."""
    words = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    return re.fullmatch(words, text, re.DOTALL | (re.IGNORECASE if ignoring_case else 0)) is not None


def _reads(statement: _Statement, arn: str) -> bool:
    acts = any(_matches_pattern(each, _GET, ignoring_case=True) for each in statement.actions)
    covers = any(_matches_pattern(each, arn) for each in statement.resources)
    return (acts != ("NotAction" in statement.negated)) and (covers != ("NotResource" in statement.negated))


def _wider(allowing: Iterable[_Statement], allowed: frozenset[str]) -> Iterator[str]:
    for each in allowing:
        if "NotResource" in each.negated:
            yield f"everything but {', '.join(each.resources)}"
        elif any(_matches_pattern(action, _GET, ignoring_case=True) for action in each.actions):
            yield from (resource for resource in each.resources if resource not in allowed)


def _dangerous(allowing: Iterable[_Statement]) -> Iterator[str]:
    for each in allowing:
        where = ", ".join(each.resources)
        if "NotAction" in each.negated:
            yield f"everything but {', '.join(each.actions)} on {where}"
            continue
        yield from (f"{action} on {where}" for action in each.actions if action.lower() != _GET.lower())


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """A bucket's policy as it stands: its other members, our statement, and those of others, in their order."""

    members: Mapping[str, Any]
    ours: tuple[Statement, ...]
    foreign: tuple[Statement, ...]


def read_policy(text: str) -> PolicyDocument | None:
    """The parts of a policy's text; None when it is none that this program understands."""
    try:
        policy = json.loads(text)
        listed = policy["Statement"]
        statements = listed if isinstance(listed, list) else [listed]
        if not all(isinstance(each, dict) for each in statements):
            return None
        members = {name: value for name, value in policy.items() if name != "Statement"}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    ours = tuple(each for each in statements if each.get("Sid") == PUBLIC_SID)
    return PolicyDocument(members, ours, tuple(each for each in statements if each.get("Sid") != PUBLIC_SID))


NOTHING = PolicyDocument(document(), (), ())
"""The policy of a bucket that has none."""


def is_right(current_policy: PolicyDocument, desired: Statement) -> bool:
    """Whether our statement stands exactly once and says exactly what it should, in whatever order."""
    return len(current_policy.ours) == 1 and _normal(current_policy.ours[0]) == _normal(desired)


def is_within(current_policy: PolicyDocument, desired: Statement) -> bool:
    """Whether our statement as it stands opens nothing that it should not."""
    return all(
        {**_normal(each), "Resource": None} == {**_normal(desired), "Resource": None}
        and _as_set(each.get("Resource", [])) <= _as_set(desired["Resource"])
        for each in current_policy.ours
    )


def merged(current_policy: PolicyDocument, desired: Statement) -> str:
    """The text of the policy with our statement behind those of others, which stay as they are."""
    members = {name: value for name, value in current_policy.members.items() if name != "Statement"}
    return compact({**members, "Statement": [*current_policy.foreign, desired]})


def _normal(statement: Statement) -> dict[str, Any]:
    """AWS gives lists back in another order, and a list of one as its entry."""
    return {name: _as_set(value) if name in ("Action", "Resource") else value for name, value in statement.items()}


def _as_set(value: Any) -> frozenset[str]:
    return frozenset(map(str, value if isinstance(value, list) else [value]))


def opened(current_policy: PolicyDocument) -> frozenset[str]:
    """The resources that our statement opens now, whole."""
    return frozenset().union(*(_as_set(each.get("Resource", [])) for each in current_policy.ours))


# ------------------------------------------------------------------------------------- statements of others


def public_names(foreign: Iterable[Statement]) -> tuple[str, ...]:
    """Those statements of others that give anything to everybody, by Sid or number.

    One with a condition counts too: whether it is narrow enough is for its author to say.
    """
    return tuple(_named(foreign, lambda each: each.get("Effect") == "Allow" and _is_for_everybody(each)))


def denying_names(foreign: Iterable[Statement], arns: Iterable[str]) -> tuple[str, ...]:
    """Those statements of others that without a condition forbid everybody to read one of `arns`."""
    wanted = tuple(arns)
    return tuple(_named(foreign, lambda each: _denies(each, wanted)))


def _named(statements: Iterable[Statement], chosen: Any) -> Iterator[str]:
    for number, each in enumerate(statements, start=1):
        if chosen(each):
            yield str(each.get("Sid") or f"number {number}")


def _is_for_everybody(statement: Statement) -> bool:
    if "NotPrincipal" in statement:
        return True
    principal = statement.get("Principal")
    texts = _listed(principal.get("AWS")) if isinstance(principal, dict) else _listed(principal)
    return "*" in texts


def _denies(statement: Statement, arns: tuple[str, ...]) -> bool:
    if statement.get("Effect") != "Deny" or statement.get("Condition") or not _is_for_everybody(statement):
        return False
    acts = any(_fits(each.lower(), "s3:getobject") for each in _listed(statement.get("Action")))
    return acts and any(_fits(pattern, arn) for pattern in _listed(statement.get("Resource")) for arn in arns)


def _fits(pattern: str, text: str) -> bool:
    words = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern)
    return re.fullmatch(words, text, re.DOTALL) is not None


def _listed(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),)


FORBIDDEN = "forbidden"
_POLICY = (
    "Allow `s3:GetObject` on exactly the published keys to everybody (`oidc-mirror render bucket-policy`, "
    "`oidc-mirror provision bucket`)."
)
_BLOCK = "Switch off {blocks} for the bucket, and for the account: `oidc-mirror provision bucket`. " + _POLICY
_ABSENT = "Check that the issuer's path, `publish.prefix` and `publish.base_url` lead to the object that was put."
_ABOVE = (
    "Look above the bucket: Block Public Access of the account (it wins over every bucket), a policy of the "
    "organisation, an object that another account owns, or encryption with a KMS key (use SSE-S3)."
)
_CDN = (
    "The issuer's host is none of S3's own: let the CDN read the bucket (CloudFront: an origin access control, and a "
    "bucket policy with `s3:GetObject` on the published keys for its distribution), and let everybody read the CDN."
)


def is_served_by_bucket(publish: PublishSettings) -> bool:
    """Whether the public URL is the store's own, so that the bucket's settings decide who may read."""
    return bucket_url(publish.base_url) is not None or publish.base_url.startswith(f"{publish.endpoint_url}/")


def behind_cdn(reason: Reason) -> Reason:
    """A 403 of a host that is not the store's own."""
    return Reason(FORBIDDEN, reason.sentence, _CDN)


def explain_forbidden(reason: Reason, openness: AccessSettings, publish: PublishSettings, key: ObjectKey) -> Reason:
    """The 403 of `reason`, told by its cause; `reason` itself where the bucket lets us learn nothing.

    Codes: `object_missing`, `block_public_access`, `bucket_policy`, or `forbidden`.
    """
    if openness.exists is False:
        sentence = f"{reason.sentence} There is no object {key} in bucket {publish.bucket}."
        return Reason("object_missing", sentence, _ABSENT)
    if openness.blocks:
        blocks = " and ".join(openness.blocks)
        sentence = f"{reason.sentence} Block Public Access of bucket {publish.bucket} is on ({blocks})."
        return Reason("block_public_access", sentence, _BLOCK.format(blocks=blocks))
    if openness.policy is None:
        return reason
    if not allows_public_read(openness.policy, publish.bucket, key):
        kind = "does not let everybody read this object" if openness.policy else "is missing"
        sentence = f"{reason.sentence} The policy of bucket {publish.bucket} {kind}."
        return Reason("bucket_policy", sentence, _POLICY)
    sentence = f"{reason.sentence} The policy of bucket {publish.bucket} would let everybody read it."
    return Reason(FORBIDDEN, sentence, _ABOVE)


def allows_public_read(policy: str, bucket: str, key: ObjectKey) -> bool:
    """Whether a bucket policy lets everybody GET the object, as far as its own text tells.

    A statement with a condition, or of the Not… kinds, is not counted as an allowance; a matching Deny without a
    condition wins. Source: the IAM user guide, "Policy evaluation logic".
    """
    try:
        statements = json.loads(policy)["Statement"]
    except (ValueError, TypeError, KeyError):
        return False
    matching = [each for each in _items(statements) if _lets_everybody_get(each, bucket, key)]
    return bool(matching) and all(each.get("Effect") == "Allow" for each in matching)


def _lets_everybody_get(statement: Any, bucket: str, key: ObjectKey) -> bool:
    if not isinstance(statement, dict) or statement.get("Condition"):
        return False
    return (
        _is_everybody(statement.get("Principal"))
        and any(_fits_wildcard(str(text).lower(), "s3:getobject") for text in _items(statement.get("Action")))
        and any(_covers(str(text), f"{bucket}/{key}") for text in _items(statement.get("Resource")))
    )


def _is_everybody(principal: Any) -> bool:
    return principal == "*" or (isinstance(principal, dict) and "*" in _items(principal.get("AWS")))


def _covers(resource: str, name: str) -> bool:
    arn, colons, rest = resource.partition(":s3:::")
    return resource == "*" or (bool(colons) and arn.startswith("arn:aws") and _fits_wildcard(rest, name))


def _fits_wildcard(pattern: str, text: str) -> bool:
    """IAM's wildcards: `*` is any text, `?` one character."""
    signs = "".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in pattern)
    return re.fullmatch(signs, text, re.DOTALL) is not None


def _items(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,) if value else ()
