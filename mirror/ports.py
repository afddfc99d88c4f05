"""What a pass needs from the outside world: four protocols, and the values that they speak in.

Each has one real adapter and one fake in the tests.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from mirror.config.settings import Issuer, PublishSettings, ReadbackSettings
from mirror.model import (
    Answer,
    CommitId,
    ETag,
    Heads,
    IssuerName,
    ListedObject,
    ObjectKey,
    PublicObject,
    Reason,
    StoredObject,
    Unusable,
    Version,
)
from mirror.trust.discovery import BelievedAnswers, LedgerCache
from mirror.trust.ledger_signature import LedgerVerifier


@dataclass(frozen=True, slots=True)
class StoredHeaders:
    """One object as it stands in the bucket, without its body; the fields are those of `StoredObject`."""

    etag: ETag
    size_bytes: int
    content_type: str
    cache_control: str
    snapshot: str | None
    last_modified: datetime
    altering: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PutStored:
    """The object stands in the bucket as meant, put by us or found so when we looked."""

    etag: ETag


@dataclass(frozen=True, slots=True)
class PutConflict:
    """What stands there is neither what was seen before nor what we meant: another writer changed (facts.md#37).

    `stored` is what stands there now; None when the object that was seen is gone.
    """

    stored: StoredObject | None


PutResult = PutStored | PutConflict


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """What a bucket says about who may read an object; None where our rights do not suffice to learn it."""

    exists: bool | None = None
    blocks: tuple[str, ...] | None = None  # the switches of Block Public Access that are on
    policy: str | None = None  # the text of the bucket policy


@dataclass(frozen=True, slots=True)
class PublicResponse:
    """The response to an anonymous request. `last_modified` is aware, UTC; `seconds` is the whole request."""

    body: bytes
    content_type: str
    cache_control: str
    last_modified: datetime | None
    seconds: float


@dataclass(frozen=True, slots=True)
class PublicFailure:
    """Why anonymous requests get nothing usable from a public URL."""

    reason: Reason


PublicResult = PublicResponse | PublicFailure


class ApiserverClient(Protocol):
    """The apiservers."""

    def poll(
        self, issuers: Sequence[Issuer], *, turn: int, progress: Callable[[IssuerName], None]
    ) -> Mapping[IssuerName, tuple[Answer | Unusable, ...]]:
        """Ask every apiserver for both documents. Never raises for what an apiserver does."""

    def cancel(self) -> None:
        """Make a running `poll` end soon; callable from any thread."""


class History(Protocol):
    """The git repository. Every method raises HistoryError; those that reach the remote raise RemoteError."""

    def prepare(self) -> None:
        """Create the repository where it is missing, and remove what a killed process left."""

    def fetch(self, *, shallow: bool) -> str:
        """Learn the remote's branch; gives what is harmless and yet wrong with its new objects (empty: nothing)."""

    def heads(self) -> Heads:
        """The local branch, and the remote's as last fetched."""

    def is_ancestor(self, old: CommitId, new: CommitId) -> bool:
        """Whether `new` contains `old`."""

    def read(self, commit: CommitId, paths: Iterable[str]) -> Mapping[str, bytes]:
        """The files of a commit; absent ones are absent."""

    def list_paths(self, commit: CommitId, under: str) -> Mapping[str, str]:
        """Every file of a commit below a folder, with an id of its content."""

    def commit(
        self,
        *,
        base: CommitId | None,
        parents: tuple[CommitId, ...],
        changes: Mapping[str, bytes | None],
        message: str,
        when: datetime,
        expect: CommitId | None,
    ) -> CommitId:
        """Commit `changes` on the tree of `base`, and move the branch from `expect`; else BranchMovedError."""

    def fast_forward(self, new: CommitId, *, expect: CommitId | None) -> None:
        """Move the branch from `expect` to an existing commit that holds all it says; else BranchMovedError."""

    def complete(self) -> None:
        """Fetch what is missing of the history: an empty disk began with the newest commit alone."""

    def push(self) -> None:
        """Push the branch; PushRefusedError when the remote has commits that we have not."""

    def remote_head(self) -> CommitId | None:
        """The remote's branch as it is now, without fetching it."""

    def unpushed(self) -> int:
        """How many commits of the branch the remote is not known to have."""

    def has_commit(self, commit: str) -> bool:
        """Whether the text is the id of a commit of our history."""

    def obtain(self, commit: str) -> bool:
        """Whether the text is the id of a commit that we have, or that the remote gives by its id."""

    def path_history(self, paths: Sequence[str], *, at: CommitId) -> Mapping[CommitId, tuple[CommitId, ...]]:
        """The commits in the history of `at` that changed one of `paths`, newest first, with those each follows."""

    def blobs(self, names: Sequence[str]) -> tuple[str | None, ...]:
        """The ids of the files that `<commit>:<path>` names; None for what is absent."""

    def contents(self, blobs: Iterable[str]) -> Mapping[str, bytes]:
        """The bytes of files by id; what cannot be read is absent."""

    def contains_blob(self, body: bytes) -> bool:
        """Whether these very bytes were ever committed as a file."""

    def last_changed_at(self, path: str) -> datetime | None:
        """When the branch last changed a file (committer date, UTC); None when it never did."""

    def versions(self, path: str | None, *, most: int, at: CommitId | None = None) -> tuple[Version, ...]:
        """The newest commits of the branch (or `at`) that changed a file (None: any), at most `most`, oldest first."""

    def collect_garbage(self) -> None:
        """Tidy up, at most daily."""


class Bucket(Protocol):
    """One bucket as seen with our credentials. Every method but `access_settings` raises BucketError."""

    def list(self, prefix: str) -> Mapping[ObjectKey, ListedObject]:
        """Every object below `prefix`."""

    def get(self, key: ObjectKey) -> StoredObject | None:
        """One object; None when it is absent."""

    def head(self, key: ObjectKey) -> StoredHeaders | None:
        """One object's headers; None when it is absent."""

    def put(self, obj: PublicObject, *, snapshot: CommitId, expected_etag: ETag | None) -> PutResult:
        """Write one object if it still has the ETag `expected_etag` (None: if it is still absent)."""

    def access_settings(self, key: ObjectKey) -> AccessSettings:
        """Why the public may not read one object, as far as the bucket shows. Raises nothing."""


class PublicEndpoint(Protocol):
    """The public URL as an anonymous client sees it, without credentials."""

    def get_document(self, url: str, *, readback: ReadbackSettings) -> PublicResult:
        """GET it as a relying party would. Never raises for what the web does."""


class Cdn(Protocol):
    """The cache of a CloudFront distribution in front of a bucket."""

    def invalidate(self, publish: PublishSettings, paths: Sequence[str], *, reference: str) -> Reason | None:
        """Let a distribution forget these paths, once for each `reference`; None when it will. Never raises."""


@dataclass(frozen=True, slots=True)
class WebIdentityToken:
    """Whose word the mirror's own AWS credentials rest on: the `iss` that the web-identity token in `file` claims."""

    file: Path
    issuer: str


@dataclass(frozen=True, slots=True)
class Ports:
    """The outside world of one pass. `bucket` gives the same adapter for settings that need the same client.

    `ledger_trust` reads the keys that sign and verify ledgers; None where the remote is trusted. It raises UsageError
    for files that cannot be used. `own_token` says whether the credentials for `publish` come from a web-identity
    token. `cancel` makes whatever runs at a bucket, a CDN or in git end soon, and nothing begin any more; callable from
    any thread. `believed` is what the pass before learned from apiservers, `ledger_cache` what ledgers came to;
    both end with these ports, so that a change of the configuration begins with nothing.
    """

    source: ApiserverClient
    history: History
    bucket: Callable[[PublishSettings], Bucket]
    view: PublicEndpoint
    cdn: Cdn
    ledger_trust: Callable[[], LedgerVerifier | None] = lambda: None
    own_token: Callable[[PublishSettings], WebIdentityToken | None] = lambda _: None
    cancel: Callable[[], None] = lambda: None
    believed: BelievedAnswers = field(default_factory=BelievedAnswers)
    ledger_cache: LedgerCache = field(default_factory=LedgerCache)
