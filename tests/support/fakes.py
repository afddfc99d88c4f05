"""The outside world in memory: one fake a port of mirror.ports, with a switch for each fault."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from mirror.config.settings import Issuer, PublishSettings, ReadbackSettings
from mirror.errors import BranchMovedError, BucketError, HistoryError, PushRefusedError, RemoteError
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
from mirror.ports import (
    AccessSettings,
    Bucket,
    Ports,
    PublicFailure,
    PublicResponse,
    PutConflict,
    PutResult,
    PutStored,
    StoredHeaders,
    WebIdentityToken,
)
from mirror.trust.ledger_signature import LedgerTrust

MOMENT = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


@dataclass
class FakeSource:
    """Apiservers that answer what `answers` says, by issuer name."""

    answers: dict[str, tuple[Answer | Unusable, ...]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    cancelled: bool = False

    def poll(
        self, issuers: Sequence[Issuer], *, turn: int, progress: Callable[[IssuerName], None]
    ) -> Mapping[IssuerName, tuple[Answer | Unusable, ...]]:
        for issuer in issuers:
            self.asked.append(issuer.name)
            progress(issuer.name)
        return {issuer.name: self.answers.get(issuer.name, ()) for issuer in issuers}

    def cancel(self) -> None:
        self.cancelled = True


@dataclass(frozen=True)
class Commit:
    parents: tuple[CommitId, ...]
    files: Mapping[str, bytes]
    message: str
    when: datetime


@dataclass
class Commits:
    """All commits of a small universe, shared by repositories and their remote."""

    by_id: dict[CommitId, Commit] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)

    def keep(self, body: bytes) -> str:
        """The id of a file's bytes, as git gives it, by which they are found again."""
        blob = hashlib.sha1(b"blob %d\0%s" % (len(body), body), usedforsecurity=False).hexdigest()
        self.bodies[blob] = body
        return blob

    def newest_first(self, head: CommitId) -> tuple[CommitId, ...]:
        """Every commit that `head` contains, each before those that it follows."""
        done: dict[CommitId, None] = {}
        waiting = [(head, False)]
        while waiting:
            commit, is_left = waiting.pop()
            if is_left:
                done[commit] = None
            elif commit not in done:
                waiting += [(commit, True), *((parent, False) for parent in self.by_id[commit].parents)]
        return tuple(reversed(done))

    def add(self, commit: Commit) -> CommitId:
        text = repr((commit.parents, sorted(commit.files.items()), commit.message, commit.when, len(self.by_id)))
        commit_id = CommitId(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
        self.by_id[commit_id] = commit
        return commit_id

    def reachable(self, *heads: CommitId | None) -> frozenset[CommitId]:
        """Every commit that one of `heads` contains."""
        found: set[CommitId] = set()
        waiting = [head for head in heads if head is not None]
        while waiting:
            commit = waiting.pop()
            if commit not in found:
                found.add(commit)
                waiting += self.by_id[commit].parents
        return frozenset(found)

    def contains(self, new: CommitId, old: CommitId) -> bool:
        return new == old or any(self.contains(parent, old) for parent in self.by_id[new].parents)


@dataclass
class FakeRemote:
    """The branch of a git remote; `down` makes it unreachable, `forgets` gives no commit by its id.

    `damaged` sends objects that `git fsck` refuses, `faults` are those of form that it lets pass.
    `gives_no_history` gives the newest commit alone.
    """

    head: CommitId | None = None
    down: bool = False
    refuses_pushes: bool = False
    forgets: bool = False
    damaged: bool = False
    faults: str = ""
    gives_no_history: bool = False


@dataclass
class FakeHistory:
    """A repository. `moved_by` is called before each commit, as a concurrent operator's command would be.

    `before_push` is called when a push begins, `at_the_end` when a pass has put everything and tidies up.
    """

    commits: Commits = field(default_factory=Commits)
    remote: FakeRemote | None = None
    head: CommitId | None = None
    tracking: CommitId | None = None
    broken: bool = False
    moved_by: Callable[["FakeHistory"], None] | None = None
    before_push: Callable[[], None] | None = None
    at_the_end: Callable[[], None] | None = None
    fetched_shallow: list[bool] = field(default_factory=list)
    completed: int = 0
    pushes: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing to close."""

    def prepare(self) -> None:
        if self.broken:
            raise HistoryError("The repository cannot be read.", cause="disk on fire", remedy="Put it out.")

    def fetch(self, *, shallow: bool) -> str:
        self.fetched_shallow.append(shallow)
        remote = self._remote()
        if remote.damaged:
            raise RemoteError("The remote sent a tree that git refuses.", remedy="Look at it.", damaged=True)
        self.tracking = remote.head
        return remote.faults

    def _remote(self) -> FakeRemote:
        if self.remote is None or self.remote.down:
            raise RemoteError("The remote cannot be reached.", remedy="Wait.")
        return self.remote

    def heads(self) -> Heads:
        return Heads(self.head, self.tracking)

    def is_ancestor(self, old: CommitId, new: CommitId) -> bool:
        return self.commits.contains(new, old)

    def read(self, commit: CommitId, paths: Iterable[str]) -> Mapping[str, bytes]:
        files = self.commits.by_id[commit].files
        return {path: files[path] for path in paths if path in files}

    def list_paths(self, commit: CommitId, under: str) -> Mapping[str, str]:
        files = self.commits.by_id[commit].files
        return {path: str(hash(body)) for path, body in files.items() if path.startswith(f"{under}/")}

    def versions(self, path: str | None, *, most: int, at: CommitId | None = None) -> tuple[Version, ...]:
        """Along the first parents."""
        found: list[Version] = []
        at = at or self.head
        while at is not None:
            commit = self.commits.by_id[at]
            parent = commit.parents[0] if commit.parents else None
            earlier = self.commits.by_id[parent].files if parent is not None else {}
            if path is None or commit.files.get(path) != earlier.get(path):
                subject = commit.message.partition("\n")[0]
                found.append(Version(at, commit.parents[:1], commit.when, "oidc-mirror", subject))
            at = parent
        return tuple(reversed(found[:most]))

    def remote_head(self) -> CommitId | None:
        return self._remote().head

    def obtain(self, commit: str) -> bool:
        """As a server that gives every commit it ever had."""
        lost = self.remote is None or self.remote.down or self.remote.forgets
        is_there = not lost and commit in self.commits.by_id
        return is_there or self.has_commit(commit)

    def path_history(self, paths: Sequence[str], *, at: CommitId) -> Mapping[CommitId, tuple[CommitId, ...]]:
        newest_first = self.commits.newest_first(at)
        chosen = {each for each in newest_first if self._is_change(each, paths)}

        def nearest(commit: CommitId) -> tuple[CommitId, ...]:
            """The chosen commit that stands for a parent; one that is not chosen follows at most one."""
            while commit not in chosen:
                parents = self.commits.by_id[commit].parents
                if not parents:
                    return ()
                commit = parents[0]
            return (commit,)

        return {
            each: tuple(found for parent in self.commits.by_id[each].parents for found in nearest(parent))
            for each in newest_first
            if each in chosen
        }

    def _is_change(self, commit: CommitId, paths: Sequence[str]) -> bool:
        """As git's `--full-history --parents`: merges always are, others where they differ from their parent."""
        made = self.commits.by_id[commit]
        if len(made.parents) > 1:
            return True
        before = self.commits.by_id[made.parents[0]].files if made.parents else {}
        return any(made.files.get(path) != before.get(path) for path in paths)

    def blobs(self, names: Sequence[str]) -> tuple[str | None, ...]:
        found = []
        for name in names:
            commit, _, path = name.partition(":")
            body = self.commits.by_id[CommitId(commit)].files.get(path)
            found.append(None if body is None else self.commits.keep(body))
        return tuple(found)

    def contents(self, blobs: Iterable[str]) -> Mapping[str, bytes]:
        return {blob: self.commits.bodies[blob] for blob in blobs if blob in self.commits.bodies}

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
        if self.moved_by is not None:
            self.moved_by(self)
        files = dict(self.commits.by_id[base].files) if base is not None else {}
        files |= {path: body for path, body in changes.items() if body is not None}
        for path in (path for path, body in changes.items() if body is None):
            files.pop(path, None)
        made = self.commits.add(Commit(parents, files, message, when))
        self._move(made, expect)
        return made

    def fast_forward(self, new: CommitId, *, expect: CommitId | None) -> None:
        self._move(new, expect)

    def _move(self, new: CommitId, expect: CommitId | None) -> None:
        if self.head != expect:
            raise BranchMovedError("The branch moved.")
        self.head = new

    def complete(self) -> None:
        """As git: a history that was fetched whole, or that this mirror began, is whole already."""
        if any(self.fetched_shallow) and self._remote().gives_no_history:
            raise RemoteError("The remote's earlier history could not be fetched.")
        if any(self.fetched_shallow):
            self.completed += 1
            self.fetched_shallow.clear()

    def push(self) -> None:
        if self.before_push is not None:
            self.before_push()
        remote = self._remote()
        if remote.refuses_pushes:
            raise RemoteError("A hook refused the push.")
        assert self.head is not None
        if remote.head is not None and not self.commits.contains(self.head, remote.head):
            raise PushRefusedError("The remote has other commits.")
        self.pushes += 1
        remote.head = self.tracking = self.head

    def unpushed(self) -> int:
        return int(self.head != self.tracking)

    def has_commit(self, commit: str) -> bool:
        """As in a real repository, fetched commits are known too, accepted or not."""
        return CommitId(commit) in self.commits.reachable(self.head, self.tracking)

    def contains_blob(self, body: bytes) -> bool:
        return any(
            body == text and path.startswith(("public/", "ledger/"))
            for each in self.commits.reachable(self.head)
            for path, text in self.commits.by_id[each].files.items()
        )

    def last_changed_at(self, path: str) -> datetime | None:
        at, when = self.head, None
        while at is not None and path in self.commits.by_id[at].files:
            commit = self.commits.by_id[at]
            when = commit.when
            parent = commit.parents[0] if commit.parents else None
            if parent is not None and self.commits.by_id[parent].files.get(path) != commit.files[path]:
                break
            at = parent
        return when

    def collect_garbage(self) -> None:
        if self.at_the_end is not None:
            self.at_the_end()

    # -- for tests

    def files(self) -> Mapping[str, bytes]:
        return self.commits.by_id[self.head].files if self.head is not None else {}

    def log(self) -> list[str]:
        found, at = [], self.head
        while at is not None:
            found.append(self.commits.by_id[at].message.splitlines()[0])
            at = self.commits.by_id[at].parents[0] if self.commits.by_id[at].parents else None
        return found


@dataclass
class FakeBucket:
    """A bucket with conditional writes. `fails` maps an operation to the error it raises.

    `drops_cache_control` is a store that does not keep that header.
    """

    objects: dict[ObjectKey, StoredObject] = field(default_factory=dict)
    fails: dict[str, BucketError] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    before_put: Callable[["FakeBucket", PublicObject], None] | None = None
    open: AccessSettings = field(default_factory=AccessSettings)
    drops_cache_control: bool = False

    def _request(self, operation: str, what: str) -> None:
        self.requests.append(f"{operation} {what}")
        if operation in self.fails:
            raise self.fails[operation]

    def list(self, prefix: str) -> Mapping[ObjectKey, ListedObject]:
        self._request("list", prefix)
        return {
            key: ListedObject(key, stored.etag, len(stored.body), stored.last_modified, _storage_class(stored))
            for key, stored in self.objects.items()
            if key.startswith(prefix)
        }

    def get(self, key: ObjectKey) -> StoredObject | None:
        self._request("get", key)
        return self.objects.get(key)

    def head(self, key: ObjectKey) -> StoredHeaders | None:
        self._request("head", key)
        stored = self.objects.get(key)
        if stored is None:
            return None
        return StoredHeaders(
            stored.etag,
            len(stored.body),
            stored.content_type,
            stored.cache_control,
            stored.snapshot,
            stored.last_modified,
            stored.altering,
        )

    def put(self, obj: PublicObject, *, snapshot: CommitId, expected_etag: ETag | None) -> PutResult:
        if self.before_put is not None:
            self.before_put(self, obj)
        self._request("put", obj.key)
        there = self.objects.get(obj.key)
        if (there.etag if there is not None else None) != expected_etag:
            return PutConflict(there)
        cache_control = "" if self.drops_cache_control else obj.cache_control
        self.write(obj.key, obj.body, obj.content_type, cache_control, snapshot)
        return PutStored(self.objects[obj.key].etag)

    def access_settings(self, key: ObjectKey) -> AccessSettings:
        self._request("openness", key)
        return self.open

    # -- for tests

    def write(
        self,
        key: str,
        body: bytes,
        content_type: str = "binary/octet-stream",
        cache_control: str = "",
        snapshot: str | None = None,
    ) -> None:
        etag = ETag(hashlib.md5(body, usedforsecurity=False).hexdigest())
        self.objects[ObjectKey(key)] = StoredObject(body, etag, content_type, cache_control, snapshot, MOMENT)

    def count(self, operation: str) -> int:
        return sum(request.startswith(operation + " ") for request in self.requests)


def _storage_class(stored: StoredObject) -> str:
    return next((each.partition(": ")[2] for each in stored.altering if "storage-class" in each), "STANDARD")


@dataclass
class FakeWeb:
    """The anonymous view of a FakeBucket below `base_url`; `blocked` answers for every URL, `cached` for some."""

    bucket: FakeBucket
    base_url: str
    blocked: Reason | None = None
    cached: dict[str, StoredObject] = field(default_factory=dict)
    looks: list[str] = field(default_factory=list)

    def get_document(self, url: str, *, readback: ReadbackSettings) -> PublicResponse | PublicFailure:
        self.looks.append(url)
        if self.blocked is not None:
            return PublicFailure(self.blocked)
        stored = self.cached.get(url) or self.bucket.objects.get(ObjectKey(url.removeprefix(self.base_url + "/")))
        if stored is None:
            return PublicFailure(Reason("not_found", "It is not there.", "Publish it."))
        if any(each.startswith("Content-Encoding") for each in stored.altering):
            return PublicFailure(Reason("content_coding", "It is encoded.", "Repair it."))
        return PublicResponse(stored.body, stored.content_type, stored.cache_control, stored.last_modified, 0.01)


@dataclass
class FakeCdn:
    """Distributions that record their requests; `fails` is their answer."""

    reported: list[tuple[str, tuple[str, ...], str]] = field(default_factory=list)
    fails: Reason | None = None

    def invalidate(self, publish: PublishSettings, paths: Sequence[str], *, reference: str) -> Reason | None:
        if self.fails is None:
            self.reported.append((publish.cloudfront_distribution or "", tuple(paths), reference))
        return self.fails


@dataclass
class FakeWorld:
    """Everything that a pass needs, in memory."""

    source: FakeSource = field(default_factory=FakeSource)
    history: FakeHistory = field(default_factory=FakeHistory)
    bucket: FakeBucket = field(default_factory=FakeBucket)
    base_url: str = "https://oidc-bucket.s3.ap-southeast-2.amazonaws.com"
    web: FakeWeb = field(init=False)
    cdn: FakeCdn = field(default_factory=FakeCdn)
    own_token: WebIdentityToken | None = None
    ledger_trust: LedgerTrust | None = None

    def __post_init__(self) -> None:
        self.web = FakeWeb(self.bucket, self.base_url)

    def ports(self) -> Ports:
        def bucket(_: PublishSettings) -> Bucket:
            return self.bucket

        return Ports(
            source=self.source,
            history=self.history,
            bucket=bucket,
            view=self.web,
            cdn=self.cdn,
            ledger_trust=lambda: self.ledger_trust,
            own_token=lambda _: self.own_token,
        )

    def publish(self, **changes: object) -> PublishSettings:
        plain = PublishSettings(bucket="oidc-bucket", region="ap-southeast-2", base_url=self.base_url)
        return replace(plain, **changes)  # type: ignore[arg-type]  # fields of Publish by name
