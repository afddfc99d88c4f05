"""What the checks need beyond the ports of a pass: small protocols, each with one real adapter and one fake."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from mirror.aws.iam_policy import AccessBlock
from mirror.config.settings import PublishSettings
from mirror.model import CommitId, ObjectKey, Reason, StoredObject
from mirror.ports import ApiserverClient, Bucket, PublicEndpoint, WebIdentityToken
from mirror.trust.ledger_signature import SignatureHeader, VerificationFailure


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A question to AWS (or a store) that got no answer: the stable code, what was said, and the remedy."""

    code: str
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.code} ({self.cause})" if self.cause else self.code


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the mirror is at AWS."""

    account: str
    arn: str


@dataclass(frozen=True, slots=True)
class BucketFacts:
    """What a bucket says of itself; each answer may be missing by itself.

    `region` is None where the store names none. `policy` is the JSON text, empty where there is none. `public_grants`
    are the rights that its ACL grants everyone. `versioning` is `Enabled`, `Suspended` or empty.
    """

    region: str | Unavailable | None
    access_block: AccessBlock | Unavailable | None
    policy: str | Unavailable
    ownership: str | Unavailable
    public_grants: tuple[str, ...] | Unavailable
    versioning: str | Unavailable
    encryption: str | Unavailable


PutVerdict = Literal["allowed", "simulated", "unproven", "wrote"] | Unavailable
"""Whether we may write an object.

`simulated` when IAM's policy simulator says so, `unproven` when nothing says it and nothing was tried; `wrote` when the
store ignored every condition that should have stopped a write.
"""


class Aws(Protocol):
    """AWS, or a store that speaks its language, with the credentials that `publish` names. Nothing raises."""

    def credentials(self, publish: PublishSettings) -> str | Unavailable | None:
        """Where the credentials come from, in botocore's word; None when there are none."""
        ...

    def identity(self, publish: PublishSettings) -> Identity | Unavailable:
        """`sts:GetCallerIdentity`."""
        ...

    def account_block(self, publish: PublishSettings, account: str) -> AccessBlock | Unavailable | None:
        """The public access block of an account."""
        ...

    def bucket(self, publish: PublishSettings) -> BucketFacts:
        """What the bucket says of itself."""
        ...

    def belongs_to(self, publish: PublishSettings, account: str, prefix: str) -> bool | Unavailable:
        """Whether the bucket belongs to the account, asked by listing `prefix`."""
        ...

    def may_list(self, publish: PublishSettings, prefix: str) -> Unavailable | None:
        """Why the prefix may not be listed; None when it may."""
        ...

    def may_put(self, publish: PublishSettings, key: ObjectKey, there: StoredObject | None) -> PutVerdict:
        """Whether the object may be written: asked by a write of `there`, what stands there, that cannot take effect.

        Where nothing stands nothing is written, because a store may ignore every condition.
        """
        ...


@dataclass(frozen=True, slots=True)
class LedgerVerdict:
    """One ledger on the newest head: who signed it, or why that does not count; None if it has no signature.

    `issuer` is whose ledger it is, as the configuration or else the file says; `is_configured` says which.
    """

    path: str
    issuer: str
    is_configured: bool
    verdict: SignatureHeader | VerificationFailure | None


@dataclass(frozen=True, slots=True)
class SigningState:
    """How ledgers are signed and verified.

    `sample` is what became of a signature that the mirror's own key made; None where this user can read no such key.
    `refused` says why the files of keys cannot be used; then no ledger is judged. `warning` is about their rights.
    """

    sample: SignatureHeader | VerificationFailure | None = None
    refused: Reason | None = None
    warning: Reason | None = None
    ledgers: tuple[LedgerVerdict, ...] = ()


@dataclass(frozen=True, slots=True)
class HistoryFacts:
    """How the git history stands; each failure is a reason, None where there is none or it was not tried.

    `unpushed` is None if it is not known. `broken` are the reasons why ledgers do not count.
    """

    local: CommitId | None = None
    unreadable: Reason | None = None
    damaged: Reason | None = None
    fetch: Reason | None = None
    remote: CommitId | None = None
    push: Reason | None = None
    unpushed: int | None = None
    broken: tuple[Reason, ...] = ()
    signing: SigningState = field(default_factory=SigningState)


class HistoryView(Protocol):
    """The git repository and its remote, looked at without moving anything."""

    def look(self) -> HistoryFacts:
        """Read, fetch into a copy, and rehearse a push."""
        ...


BucketOf = Callable[[PublishSettings], Bucket]
"""The bucket behind `publish` settings; the same adapter for settings that need the same client."""

LockHolder = Callable[[Path], str | None]
"""Which process holds a lock file, as text; None if there is none, or it is not known."""


@dataclass(frozen=True, slots=True)
class CheckClients:
    """Everything that the checks look with. `cancel` makes whatever runs end soon; callable from any thread."""

    source: ApiserverClient
    view: PublicEndpoint
    bucket: BucketOf
    aws: Aws
    own_token: Callable[[PublishSettings], WebIdentityToken | None]
    history: HistoryView
    lock_holder: LockHolder
    cancel: Callable[[], None] = lambda: None
