"""The nouns of the mirror: frozen values that pass from one component to the next.

Nothing here does any input or output; a value that is reached through `mirror.trust` has been validated.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Literal, NewType

IssuerName = NewType("IssuerName", str)
"""An operator's label for an issuer, `[a-z0-9][a-z0-9-]{0,62}`. Never part of any decision."""
IssuerUrl = NewType("IssuerUrl", str)
"""The exact `iss` text, compared code point by code point and never normalised (facts.md#30)."""
Kid = NewType("Kid", str)
"""A key id: 1..1024 printable characters. Text from outside: escape it before it reaches a terminal."""
Thumbprint = NewType("Thumbprint", str)
"""RFC 7638 SHA-256 JWK thumbprint, unpadded base64url, 43 characters."""
ObjectKey = NewType("ObjectKey", str)
"""The key of an S3 object, without a leading slash."""
ETag = NewType("ETag", str)
"""An S3 ETag without its quotes: stores differ in how they read quoted ones in `If-Match`."""
CommitId = NewType("CommitId", str)
"""A full git commit id, 40 (or 64) hexadecimal digits."""

ARCHIVE_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Storage classes whose objects cannot be read before a restore (S3 user guide, "Understanding S3 Glacier")."""
MEDIA_TYPE_DISCOVERY = "application/json"
MEDIA_TYPE_JWKS = "application/jwk-set+json"  # RFC 7517, section 8.5.2


class Level(StrEnum):
    """How loudly an event is reported."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened and that can be searched for: a dotted stable `name` and a sentence.

    `fields` are the machine-readable facts, such as `kid` and `thumbprint`; never a secret.
    """

    name: str
    sentence: str
    level: Level = Level.INFO
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something was rejected or failed: stable `code`, one sentence, the remedy, and where.

    `where` is a path into the document, such as `jwks keys[2].n`, or empty.
    """

    code: str
    sentence: str
    remedy: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """Information about an accepted answer; it changes nothing."""

    code: str
    sentence: str


# --------------------------------------------------------------------------------------------------- keys


@dataclass(frozen=True, slots=True)
class RsaKey:
    """A public RSA key. `n` and `e` are minimal-length base64urlUInt texts (RFC 7518, section 6.3.1)."""

    kid: Kid
    alg: str
    n: str
    e: str
    thumbprint: Thumbprint
    kty: ClassVar[Literal["RSA"]] = "RSA"

    def members(self) -> dict[str, str]:
        """The JWK as published, members in the order of kube-apiserver (facts.md#3)."""
        return {"use": "sig", "kty": "RSA", "kid": self.kid, "alg": self.alg, "n": self.n, "e": self.e}


@dataclass(frozen=True, slots=True)
class EcKey:
    """A public EC key. `x` and `y` are base64url texts of the curve's full length (RFC 7518, section 6.2.1)."""

    kid: Kid
    alg: str
    crv: str
    x: str
    y: str
    thumbprint: Thumbprint
    kty: ClassVar[Literal["EC"]] = "EC"

    def members(self) -> dict[str, str]:
        """The JWK as published, members in the order of kube-apiserver (facts.md#3)."""
        return {
            "use": "sig",
            "kty": "EC",
            "kid": self.kid,
            "crv": self.crv,
            "alg": self.alg,
            "x": self.x,
            "y": self.y,
        }


Key = RsaKey | EcKey


@dataclass(frozen=True, slots=True)
class KeyName:
    """What stays of a key whose material is not kept. `alg` is empty where it is not known."""

    kid: Kid
    alg: str
    thumbprint: Thumbprint


AnyKey = Key | KeyName
"""A key with or without its material."""
KeyId = tuple[Kid, Thumbprint]
"""A key's identity in a set: the same material under two kids is two entries."""


def key_id(key: AnyKey) -> KeyId:
    """The identity of `key` in a set; also the order in which keys are published."""
    return (key.kid, key.thumbprint)


PLAIN_KID = re.compile(r"[A-Za-z0-9._~+/=-]+")


def kid_text(kid: str) -> str:
    """A whole kid as one unmistakable word: itself, or a JSON string in ASCII where it has other characters."""
    return kid if PLAIN_KID.fullmatch(kid) else json.dumps(kid)


_SHORT_KID = 11


def short_kid(kid: str) -> str:
    """The beginning of a kid, for one line of a table; everywhere else a kid is whole."""
    text = kid_text(kid)
    return text if len(text) <= _SHORT_KID else f"{text[: _SHORT_KID - 1]}…"


def key_name(key: AnyKey) -> str:
    """How a sentence names a key: `KID (ALG)`, the kid whole; it is safe to print."""
    return f"{kid_text(key.kid)} ({key.alg or '-'})"


# ------------------------------------------------------------------------------------------- observations


@dataclass(frozen=True, slots=True)
class Answer:
    """The two bodies that one apiserver sent with status 200 and the right content types: bytes, not yet validated.

    `date` is its `Date` header (aware, UTC) where it sent a readable one; `certificate_expires_at` (aware, UTC) is when
    the certificate ends that it showed.
    """

    apiserver: str
    discovery: bytes
    jwks: bytes
    date: datetime | None = None
    certificate_expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What one apiserver showed in this pass, validated: its keys sorted by `key_id`, none twice, at least one.

    `date` and `certificate_expires_at` are those of `Answer`.
    """

    apiserver: str
    keys: tuple[Key, ...]
    notes: tuple[Note, ...] = ()
    date: datetime | None = None
    certificate_expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """One apiserver that did not answer in this pass, or whose answer was rejected, with every reason (never none).

    `date` and `certificate_expires_at` are those of `Answer`, known where it answered at all.
    """

    apiserver: str
    reasons: tuple[Reason, ...]
    date: datetime | None = None
    certificate_expires_at: datetime | None = None


Observation = Observed | Unusable
AnswersByIssuer = Mapping[IssuerName, tuple[Answer | Unusable, ...]]
"""What the apiservers of each issuer answered in this pass, in configured order."""

TRANSIENT_CODES = frozenset({"unreachable", "timeout", "rate_limited", "server_error"})
"""Codes of `Unusable` that may be transient; every other one is a rejection that needs an operator."""

NOTHING_RECEIVED_CODES = frozenset(
    (
        *("bad_address", "bad_endpoint", "not_in_cluster", "nothing_found", "too_many_replicas"),
        *("ca_not_pem", "ca_unreadable", "client_cert_invalid", "client_cert_unreadable"),
        *("kubeconfig_invalid", "kubeconfig_refused", "kubeconfig_unreadable"),
        *("tls_expired", "tls_failed", "tls_untrusted", "tls_wrong_name"),
        *("token_malformed", "token_unreadable", "wrong_token"),
    )
)
"""Codes of `Unusable` that come before any answer: there was none that could have been refused."""


# ------------------------------------------------------------------------------------------------- ledger


class Status(StrEnum):
    """Where a key is in its life; `mirror.trust.lifecycle` has the table of transitions."""

    HELD = "held"
    PUBLISHED = "published"
    RETIRING = "retiring"
    DROPPED = "dropped"
    REVOKED = "revoked"


PUBLIC_STATUSES = frozenset({Status.PUBLISHED, Status.RETIRING})
"""A key is part of the public JWKS while its record has one of these."""


MAX_GENERATION = 2**53
"""What every JSON reader takes as a whole number (RFC 8259, section 6); a record there moves on without counting."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """That a key must never be public again. `last` allowed the public set to become empty by it.

    `revoked_from` is the record's status at that time, None where it is not known or there was no record. `order`
    counts an issuer's revocations from 1; 0 where it is not known.
    """

    at: datetime
    reason: str
    last: bool = False
    revoked_from: Status | None = None
    order: int = 0


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What the mirror knows of one key. Dates are aware, UTC, whole seconds; each is set by an event alone.

    `key` has its material exactly where `keeps_material` holds. `generation` starts at 1 and grows by one with every
    transition: ledgers are merged by it, not by clocks. `missing_since` is set while retiring; `returned_at` while
    published or held, when the key was retiring or dropped and was seen again; `held_because` (a code) while held;
    `revocation` exactly when revoked.
    """

    key: AnyKey
    status: Status
    generation: int
    first_seen: datetime
    missing_since: datetime | None = None
    returned_at: datetime | None = None
    held_because: str | None = None
    revocation: Revocation | None = None

    @property
    def keeps_material(self) -> bool:
        """Whether the key can become public by a step of this record alone, so that its material is needed.

        A dropped key returns with the material that an apiserver shows. A revoked one may be needed where revocations
        would empty the set together (`mirror.trust.lifecycle`), and only if it was public.
        """
        if self.revocation is not None:
            return self.revocation.revoked_from in PUBLIC_STATUSES
        return self.status is not Status.DROPPED


def trimmed(record: KeyRecord) -> KeyRecord:
    """The record without the key's material where it is not kept."""
    if record.keeps_material or isinstance(record.key, KeyName):
        return record
    return replace(record, key=KeyName(record.key.kid, record.key.alg, record.key.thumbprint))


@dataclass(frozen=True, slots=True)
class Ledger:
    """All records of one issuer, sorted by kid, then thumbprint."""

    issuer: IssuerUrl
    records: tuple[KeyRecord, ...] = ()

    def public_keys(self) -> tuple[Key, ...]:
        """The keys that are published or retiring, in the order of publication."""
        public = (record.key for record in self.records if record.status in PUBLIC_STATUSES)
        return tuple(key for key in public if not isinstance(key, KeyName))


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """How an issuer's keys are treated: the configuration's `keys`."""

    new_keys: Literal["publish", "hold"] = "publish"
    retain_removed: timedelta = timedelta(hours=24)
    kid: Literal["kubernetes", "opaque"] = "kubernetes"
    unknown_keys: Literal["skip", "refuse"] = "skip"
    revoked: frozenset[Thumbprint] = frozenset()


@dataclass(frozen=True, slots=True)
class Documents:
    """The exact bytes of an issuer's two public documents."""

    discovery: bytes
    jwks: bytes


# ------------------------------------------------------------------------------------------------- bucket


@dataclass(frozen=True, slots=True)
class PublicObject:
    """One object as it should stand in the bucket; `url` is where the public reads it."""

    key: ObjectKey
    url: str
    body: bytes
    content_type: str
    cache_control: str


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One line of a bucket listing."""

    key: ObjectKey
    etag: ETag
    size_bytes: int
    last_modified: datetime
    storage_class: str = ""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as it stands in the bucket; `snapshot` is the metadata of that name, None where there is none.

    `altering` are headers and the storage class, each as `Name: value`, that change what clients get and that no object
    of ours has.
    """

    body: bytes
    etag: ETag
    content_type: str
    cache_control: str
    snapshot: str | None
    last_modified: datetime
    altering: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------ history


RepositoryMode = Literal["local", "trusted", "signed"]
"""Whether there is no git remote, everyone who can push to it is trusted, or only signed ledgers count."""


@dataclass(frozen=True, slots=True)
class Heads:
    """Where the history stands: the local branch, and the remote's as last fetched; None while there is none."""

    local: CommitId | None
    remote: CommitId | None


@dataclass(frozen=True, slots=True)
class Version:
    """A commit as a step of the history of a file. Its text comes from any committer: escape it.

    `parents` are the versions that it follows, of the same file; `when` is the committer's date (aware, UTC);
    `author` and `subject` are shortened.
    """

    commit: CommitId
    parents: tuple[CommitId, ...]
    when: datetime
    author: str
    subject: str


# --------------------------------------------------------------------------------------------------- audiences


class Cloud(StrEnum):
    """Who takes tokens of the clusters, by its word in the configuration."""

    AWS = "aws"
    GCP = "gcp"
    AZURE = "azure"


STS_AUDIENCE = "sts.amazonaws.com"
AWS_KEYS_OF_A_TYPE = 100
"""AWS answers with an error to a JWKS of more than 100 RSA or 100 EC keys (facts.md#34)."""
AWS_AUDIENCES, AWS_AUDIENCE_CHARACTERS = 100, 255
"""How many client ids a provider of IAM takes, and how long each may be (IAM API, CreateOpenIDConnectProvider)."""
GCP_AUDIENCES = 10
"""How many audiences a provider of Google's pool takes (the table "Relying parties" of the facts)."""
AZURE_AUDIENCE = "api://AzureADTokenExchange"
AZURE_AUDIENCES = (
    AZURE_AUDIENCE,
    "api://AzureADTokenExchangeUSGov",
    "api://AzureADTokenExchangeChina",
    "api://AzureADTokenExchangeUSNat",
    "api://AzureADTokenExchangeUSSec",
)
"""The usual audience of Entra in each sovereign cloud (Microsoft Entra, "Workload identity federation")."""
GOOGLE_PREFIXES = ("//iam.googleapis.com/", "https://iam.googleapis.com/")
"""How the usual audiences of Google begin: the full name of the pool's provider follows."""


def cloud_of(audience: str) -> Cloud:
    """Give the cloud that an audience is meant for, by its text: AWS where it is no other cloud's usual one."""
    if audience.startswith(GOOGLE_PREFIXES):
        return Cloud.GCP
    # Upper and lower case do not matter here: no audience that looks like Entra's may end in an AWS role.
    is_azure = audience.lower() in {each.lower() for each in AZURE_AUDIENCES}
    return Cloud.AZURE if is_azure else Cloud.AWS


@dataclass(frozen=True, slots=True)
class TokenAudiences:
    """The configured audiences of an issuer's tokens, by cloud; all empty where none is configured."""

    aws: tuple[str, ...] = ()
    gcp: tuple[str, ...] = ()
    azure: tuple[str, ...] = ()

    @classmethod
    def sorted_out(cls, texts: Iterable[str]) -> "TokenAudiences":
        """Give each audience of a plain list to the cloud that it is meant for."""
        found: dict[Cloud, list[str]] = {cloud: [] for cloud in Cloud}
        for text in texts:
            found[cloud_of(text)].append(text)
        return cls(tuple(found[Cloud.AWS]), tuple(found[Cloud.GCP]), tuple(found[Cloud.AZURE]))

    def __bool__(self) -> bool:
        return bool(self.aws or self.gcp or self.azure)

    def all(self) -> tuple[str, ...]:
        """Give every configured audience, none twice."""
        return tuple(dict.fromkeys((*self.aws, *self.gcp, *self.azure)))

    def of_cloud(self, cloud: Cloud) -> tuple[str, ...]:
        """Give what is configured for a cloud, without its usual value."""
        match cloud:
            case Cloud.AWS:
                return self.aws
            case Cloud.GCP:
                return self.gcp
            case Cloud.AZURE:
                return self.azure

    def of(self, cloud: Cloud) -> tuple[str, ...]:
        """Give what is configured for a cloud, else its usual audience; Google's usual one is a pattern: none here."""
        return self.of_cloud(cloud) or _USUAL[cloud]

    def accepts(self, cloud: Cloud, audience: str) -> bool:
        """Whether the configuration lets the cloud accept `audience`; Google accepts its provider's full name."""
        if cloud is Cloud.GCP and not self.gcp:
            return GOOGLE_PROVIDER.fullmatch(audience) is not None
        return audience in self.of(cloud)


_USUAL: dict[Cloud, tuple[str, ...]] = {Cloud.AWS: (STS_AUDIENCE,), Cloud.GCP: (), Cloud.AZURE: (AZURE_AUDIENCE,)}
"""What a cloud's tools take by themselves."""
NO_AUDIENCES = TokenAudiences()
"""Nothing is configured."""
GOOGLE_PROVIDER = re.compile(
    r"(?:https:)?//iam\.googleapis\.com/projects/[0-9]+/locations/global/workloadIdentityPools/[a-z0-9-]+"
    r"/providers/[a-z0-9-]+"
)
"""What Google accepts where a provider has no allowed audiences (Workload Identity Federation, REST reference)."""
