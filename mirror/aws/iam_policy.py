"""IAM and bucket policies: what the mirror needs, and what a policy lets an anonymous request read. Pure.

Every statement that is made here gives exactly what is needed: no wildcard in its resources, except where a service has
none finer. Every reader of a policy uses the one evaluator below, which has three answers (`Access`).
"""

import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
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
"""How our statement in a bucket's policy is found again; every other one belongs to others."""
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
    """That the public may read exactly the objects `keys` (facts.md#41), and nothing else, and may not list them.

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
                # A distribution's id is unique worldwide, and its account is written nowhere in the configuration.
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
        ValueError: There is no subject or no audience: anyone could assume the role (style 6).
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


# --------------------------------------------------------------------- what an anonymous request may do

_GET = "s3:GetObject"
_TLS_OF_RELYING_PARTIES = "1.2"

_KNOWN_VALUES: Mapping[str, str] = {
    "aws:securetransport": "true",  # the public URL is https
    "aws:principaltype": "Anonymous",
    "aws:userid": "anonymous",
    "aws:viaawsservice": "false",
    "s3:tlsversion": _TLS_OF_RELYING_PARTIES,
}
"""Condition keys, in lower case, whose value is the same in every anonymous GET over https."""

_ABSENT_KEYS = (
    "aws:calledvia",
    "aws:calledviafirst",
    "aws:calledvialast",
    "aws:federatedprovider",
    "aws:multifactorauthage",
    "aws:multifactorauthpresent",
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principalisawsservice",
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:principalservicename",
    "aws:principalservicenameslist",
    "aws:principaltag/",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceidentity",
    "aws:sourceorgid",
    "aws:sourceorgpaths",
    "aws:sourcevpc",
    "aws:sourcevpcarn",
    "aws:sourcevpce",
    "aws:tokenissuetime",
    "aws:username",
    "aws:vpceaccount",
    "aws:vpceorgid",
    "aws:vpceorgpaths",
    "aws:vpcsourceip",
    "s3:accesspointnetworkorigin",
    "s3:dataaccesspointaccount",
    "s3:dataaccesspointarn",
    "s3:versionid",
)
"""Condition keys, in lower case, that no anonymous GET from the internet has; a slash at the end takes any tag.

Source: IAM user guide, "AWS global condition context keys", "Availability" of each; a request through a VPC endpoint is
none from the internet.
"""

_NEGATED = re.compile(r"(String|Numeric|Date|Arn)Not|NotIpAddress")
_ORDER: Mapping[str, Callable[[float, float], bool]] = {
    "NumericEquals": operator.eq,
    "NumericNotEquals": operator.ne,
    "NumericLessThan": operator.lt,
    "NumericLessThanEquals": operator.le,
    "NumericGreaterThan": operator.gt,
    "NumericGreaterThanEquals": operator.ge,
}
_TEXT_OPERATORS = re.compile(r"Bool|String(Not)?(Equals(IgnoreCase)?|Like)")
_ALL_ADDRESSES = frozenset({"0.0.0.0/0", "::/0"})


class Access(StrEnum):
    """Whether an anonymous request may read an object, as far as the policy shows."""

    READABLE = "readable by anyone"
    NOT_READABLE = "not readable"
    CONDITIONAL = "depends on a condition"


@dataclass(frozen=True, slots=True)
class ReadAccess:
    """The answer of a policy about one object.

    `because` has the names (Sid or `statement N`) of the Deny statements that forbid reading; `conditions` the
    condition keys on which a conditional answer depends, each with the name of its statement.
    """

    access: Access
    because: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PublicAccess:
    """What a policy makes public, compared with the objects that should be public.

    `objects` has the answer for each of them. `wider` are other resources that are publicly readable, `dangerous`
    actions beyond reading, each with its resource.
    """

    objects: Mapping[ObjectKey, ReadAccess]
    wider: tuple[str, ...] = ()
    dangerous: tuple[str, ...] = ()

    def keys_with(self, access: Access, *, denied: bool = False) -> tuple[ObjectKey, ...]:
        """The objects with this answer; of those not readable the ones that a Deny forbids, or the others."""
        return tuple(
            key for key, each in self.objects.items() if each.access is access and bool(each.because) is denied
        )

    def conditions(self) -> tuple[str, ...]:
        """The conditions on which any of the objects depends, none twice."""
        return tuple(dict.fromkeys(name for each in self.objects.values() for name in each.conditions))


@dataclass(frozen=True, slots=True)
class _Match:
    """Whether a statement applies to an anonymous request: yes, no, or only where `conditions` hold."""

    applies: bool
    conditions: tuple[str, ...] = ()

    @property
    def is_certain(self) -> bool:
        return self.applies and not self.conditions


_NEVER, _ALWAYS = _Match(applies=False), _Match(applies=True)


def parse_statements(policy: str) -> tuple[Statement, ...] | None:
    """The statements of a policy's text; None when it is no policy that this program understands."""
    try:
        listed = json.loads(policy)["Statement"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    statements = listed if isinstance(listed, list) else [listed]
    return tuple(statements) if all(map(_is_statement, statements)) else None


def read_access(policy: str, bucket: str, key: ObjectKey, partition: str) -> ReadAccess | None:
    """Whether an anonymous GET over https may read one object; None when the text is no policy.

    Only what the policy says: Block Public Access, ACLs and KMS are not part of it.
    Source: IAM user guide, "Policy evaluation logic".
    """
    statements = parse_statements(policy)
    return None if statements is None else _read_access(statements, f"arn:{partition}:s3:::{bucket}/{key}")


def public_access(policy: str, bucket: str, desired_keys: Iterable[ObjectKey], partition: str) -> PublicAccess | None:
    """What the text of a policy makes public; None if it is not a policy.

    Args:
        policy: The JSON text (IAM JSON policy elements reference).
        bucket: The bucket's name.
        desired_keys: The keys that should be public.
        partition: The second word of its ARNs: `aws`, or that of China or a government's cloud.
    """
    statements = parse_statements(policy)
    if statements is None:
        return None
    arns = {key: f"arn:{partition}:s3:::{bucket}/{key}" for key in desired_keys}
    given = [each for each in statements if each["Effect"] == "Allow" and _is_for_anyone(each).applies]
    return PublicAccess(
        objects={key: _read_access(statements, arn) for key, arn in arns.items()},
        wider=tuple(dict.fromkeys(_wider(given, frozenset(arns.values())))),
        dangerous=tuple(dict.fromkeys(_dangerous(given))),
    )


def public_names(foreign: Iterable[Statement]) -> tuple[str, ...]:
    """The statements that make anything public, by Sid or number.

    One with a condition that an anonymous request may meet counts too: whether it is narrow enough is for its author
    to say.
    """
    return tuple(
        _name(each, number)
        for number, each in enumerate(foreign, start=1)
        if each["Effect"] == "Allow" and _is_for_anyone(each).applies
    )


def _read_access(statements: Sequence[Statement], arn: str) -> ReadAccess:
    """A Deny that applies wins; without an Allow nothing may be read; what cannot be evaluated stays open."""
    named = [(each, _name(each, number), _matches(each, arn)) for number, each in enumerate(statements, start=1)]
    denying = [(name, match) for each, name, match in named if each["Effect"] == "Deny" and match.applies]
    allowing = [(name, match) for each, name, match in named if each["Effect"] == "Allow" and match.applies]
    if denied := tuple(name for name, match in denying if match.is_certain):
        return ReadAccess(Access.NOT_READABLE, because=denied)
    if not allowing:
        return ReadAccess(Access.NOT_READABLE)
    is_allowed = any(match.is_certain for _, match in allowing)
    open_ones = denying if is_allowed else denying + allowing
    conditions = tuple(f"{key} ({name})" for name, match in open_ones for key in match.conditions)
    return ReadAccess(Access.CONDITIONAL, conditions=conditions) if conditions else ReadAccess(Access.READABLE)


def _matches(statement: Statement, arn: str) -> _Match:
    """Whether the statement is about an anonymous GET of the object."""
    if not _covers_action(statement) or not _covers_resource(statement, arn):
        return _NEVER
    return _is_for_anyone(statement)


def _covers_action(statement: Statement) -> bool:
    found = any(_matches_pattern(each.lower(), _GET.lower()) for each in _texts(statement, "Action", "NotAction"))
    return found != ("NotAction" in statement)


def _covers_resource(statement: Statement, arn: str) -> bool:
    found = any(_matches_pattern(each, arn) for each in _texts(statement, "Resource", "NotResource"))
    return found != ("NotResource" in statement)


def _is_for_anyone(statement: Statement) -> _Match:
    """Whether principal and conditions of the statement take an anonymous request."""
    if "NotPrincipal" in statement:
        is_named = not _is_everybody(statement["NotPrincipal"])
    else:
        is_named = _is_everybody(statement.get("Principal"))
    return _met(statement) if is_named else _NEVER


def _is_everybody(principal: Any) -> bool:
    return principal == "*" or (isinstance(principal, dict) and "*" in _as_texts(principal.get("AWS")))


def _met(statement: Statement) -> _Match:
    """All conditions of a statement together; every one must hold."""
    open_keys: list[str] = []
    for condition, keys in (statement.get("Condition") or {}).items():
        for key, values in keys.items():
            holds = _holds(condition, key.lower(), _as_texts(values))
            if holds is False:
                return _NEVER
            if holds is None:
                open_keys.append(key)
    return _Match(applies=True, conditions=tuple(dict.fromkeys(open_keys))) if open_keys else _ALWAYS


def _holds(condition: str, key: str, values: Sequence[str]) -> bool | None:
    """Whether one condition holds for an anonymous GET over https; None when that depends on who asks, or when.

    Source: IAM user guide, "IAM JSON policy elements: Condition operators", and "Multivalued context keys" for absent
    keys.
    """
    plain = condition.removeprefix("ForAllValues:").removeprefix("ForAnyValue:").removesuffix("IfExists")
    is_absent = any(key.startswith(each) if each.endswith("/") else key == each for each in _ABSENT_KEYS)
    value = _KNOWN_VALUES.get(key)
    if plain == "Null":
        return None if not is_absent and value is None else ("true" in map(str.lower, values)) == is_absent
    if is_absent:
        if condition.startswith("ForAnyValue:"):
            return False
        is_lenient = condition.startswith("ForAllValues:") or condition.endswith("IfExists")
        return is_lenient or _NEGATED.match(plain) is not None
    if key == "aws:sourceip" and _ALL_ADDRESSES & set(values):
        return _NEGATED.match(plain) is None
    return None if value is None else _compared(plain, value, values)


def _compared(condition: str, value: str, values: Sequence[str]) -> bool | None:
    """A comparison with a value that is known; None for an operator that does not fit it."""
    if condition in _ORDER:
        try:
            found = [_ORDER[condition](float(value), float(each)) for each in values]
        except ValueError:
            return None
        return all(found) if condition == "NumericNotEquals" else any(found)
    if not _TEXT_OPERATORS.fullmatch(condition):
        return None
    if condition == "Bool" or condition.endswith("IgnoreCase"):
        value, values = value.lower(), [each.lower() for each in values]
    is_like = condition.endswith("Like")
    found_any = any(_matches_pattern(each, value) if is_like else each == value for each in values)
    return found_any != ("Not" in condition)


def _wider(given: Iterable[Statement], allowed: frozenset[str]) -> Iterator[str]:
    for each in given:
        if not _is_for_anyone(each).is_certain or not _covers_action(each):
            continue
        if "NotResource" in each:
            yield f"everything but {', '.join(_texts(each, 'NotResource'))}"
        else:
            yield from (resource for resource in _texts(each, "Resource") if resource not in allowed)


def _dangerous(given: Iterable[Statement]) -> Iterator[str]:
    for each in given:
        where = ", ".join(_texts(each, "Resource", "NotResource"))
        if "NotAction" in each:
            yield f"everything but {', '.join(_texts(each, 'NotAction'))} on {where}"
            continue
        yield from (f"{action} on {where}" for action in _texts(each, "Action") if action.lower() != _GET.lower())


def _is_statement(entry: Any) -> bool:
    """Whether this is a statement whose parts have the shapes that IAM's grammar gives them."""
    if not isinstance(entry, dict) or entry.get("Effect") not in ("Allow", "Deny"):
        return False
    conditions = entry.get("Condition") or {}
    return isinstance(conditions, dict) and all(isinstance(each, dict) for each in conditions.values())


def _name(statement: Statement, number: int) -> str:
    return str(statement.get("Sid") or f"statement {number}")


def _texts(statement: Statement, *members: str) -> tuple[str, ...]:
    return tuple(text for member in members for text in _as_texts(statement.get(member)))


def _as_texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, bool):
        return (str(value).lower(),)  # `true` without quotes is how IAM writes it, too
    return tuple(text for each in value for text in _as_texts(each)) if isinstance(value, list) else _as_text(value)


def _as_text(value: Any) -> tuple[str, ...]:
    return () if value is None or value == "" else (str(value),)


def _matches_pattern(pattern: str, text: str) -> bool:
    """IAM's wildcards: `*` is any text, `?` one character."""
    words = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    return re.fullmatch(words, text, re.DOTALL) is not None


# ----------------------------------------------------------------------------- our statement and others


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """A bucket's policy as it stands: its other members, our statement, and those of others, in their order."""

    members: Mapping[str, Any]
    ours: tuple[Statement, ...]
    foreign: tuple[Statement, ...]


def read_policy(text: str) -> PolicyDocument | None:
    """The parts of a policy's text; None when it is none that this program understands."""
    statements = parse_statements(text)
    if statements is None:
        return None
    members = {name: value for name, value in json.loads(text).items() if name != "Statement"}
    ours = tuple(each for each in statements if each.get("Sid") == PUBLIC_SID)
    return PolicyDocument(members, ours, tuple(each for each in statements if each.get("Sid") != PUBLIC_SID))


NOTHING = PolicyDocument({"Version": VERSION}, (), ())
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
    return compact({**current_policy.members, "Statement": [*current_policy.foreign, desired]})


def _normal(statement: Statement) -> dict[str, Any]:
    """AWS gives lists back in another order, and a list of one as its entry."""
    return {name: _as_set(value) if name in ("Action", "Resource") else value for name, value in statement.items()}


def _as_set(value: Any) -> frozenset[str]:
    return frozenset(map(str, value if isinstance(value, list) else [value]))


def opened(current_policy: PolicyDocument) -> frozenset[str]:
    """The resources that our statement opens now, whole."""
    return frozenset().union(*(_as_set(each.get("Resource", [])) for each in current_policy.ours))


def denying_names(foreign: Iterable[Statement], arns: Iterable[str]) -> tuple[str, ...]:
    """Statements of others that deny public reads of one of `arns`; with the condition, if one decides."""
    wanted = tuple(arns)
    found: list[str] = []
    for number, each in enumerate(foreign, start=1):
        match = next((match for arn in wanted if (match := _matches(each, arn)).applies), _NEVER)
        if each["Effect"] == "Deny" and match.applies:
            under = f" under a condition on {', '.join(match.conditions)}" if match.conditions else ""
            found.append(_name(each, number) + under)
    return tuple(found)


# ------------------------------------------------------------------------------------------ Block Public Access


@dataclass(frozen=True, slots=True)
class AccessBlock:
    """The four switches of S3 Block Public Access, of a bucket or of an account."""

    block_acls: bool = False
    ignore_acls: bool = False
    block_policy: bool = False
    restrict_buckets: bool = False

    @property
    def forbids_policy(self) -> bool:
        """Whether a policy that opens objects is refused or has no effect."""
        return self.block_policy or self.restrict_buckets

    def against_policies(self) -> tuple[str, ...]:
        """The switches that are on, and by which a public policy is refused or has no effect (facts.md#41)."""
        return tuple(name for name in ("BlockPublicPolicy", "RestrictPublicBuckets") if self.switches()[name])

    def words(self) -> str:
        """What is blocked, for people."""
        acls = "ACLs open nothing" if self.block_acls and self.ignore_acls else "ACLs may open objects"
        return f"{acls}, {'no policy can open objects' if self.forbids_policy else 'a policy can open objects'}"

    def switches(self) -> dict[str, bool]:
        """The four of them as S3 names them (S3 API, PublicAccessBlockConfiguration)."""
        return {
            "BlockPublicAcls": self.block_acls,
            "IgnorePublicAcls": self.ignore_acls,
            "BlockPublicPolicy": self.block_policy,
            "RestrictPublicBuckets": self.restrict_buckets,
        }


# --------------------------------------------------------------------------------- why the public URL answers 403

FORBIDDEN = "forbidden"
_POLICY = (
    "Allow public `s3:GetObject` on exactly the published keys (`oidc-mirror render bucket-policy`, "
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
    "bucket policy with `s3:GetObject` on the published keys for its distribution), and make the CDN public."
)


def is_served_by_bucket(publish: PublishSettings) -> bool:
    """Whether the public URL is the store's own, so that the bucket's settings decide who may read."""
    return bucket_url(publish.base_url) is not None or publish.base_url.startswith(f"{publish.endpoint_url}/")


def behind_cdn(reason: Reason) -> Reason:
    """A 403 of a host that is not the store's own."""
    return Reason(FORBIDDEN, reason.sentence, _CDN)


def explain_forbidden(reason: Reason, openness: AccessSettings, publish: PublishSettings, key: ObjectKey) -> Reason:
    """The 403 of `reason` with its cause; `reason` itself where the bucket lets us learn nothing.

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
    return replace(reason, **_explained_by_policy(reason, openness.policy, publish, key))


def _explained_by_policy(reason: Reason, policy: str, publish: PublishSettings, key: ObjectKey) -> dict[str, str]:
    found = read_access(policy, publish.bucket, key, partition_of(publish.region)) if policy else None
    code, remedy = "bucket_policy", _POLICY
    if not policy:
        what = "is missing"
    elif found is None:
        what = "is none that this program understands"
    elif found.because:
        what = f"denies public reads of this object ({', '.join(found.because)})"
        remedy = "Remove or narrow the Deny statement."
    elif found.access is Access.NOT_READABLE:
        what = "does not allow public reads of this object"
    elif found.access is Access.CONDITIONAL:
        what = f"allows reading this object under a condition only: {', '.join(found.conditions)}"
    else:
        code, what, remedy = FORBIDDEN, "allows public reads of it", _ABOVE
    sentence = f"{reason.sentence} The policy of bucket {publish.bucket} {what}."
    return {"code": code, "sentence": sentence, "remedy": remedy}
