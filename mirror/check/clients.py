"""The real clients of `check`: AWS, the bucket, the git history and this machine. They only read."""

import hashlib
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

from botocore.exceptions import ClientError

from mirror.addresses import repository_paths
from mirror.aws.errors import S3Operation, s3_errors_translated, stated_code
from mirror.aws.iam_policy import AccessBlock, partition_of
from mirror.aws.public_access import account_access_block, bucket_access_block, bucket_policy_text, unless_not_set
from mirror.aws.sessions import session, short_timeouts
from mirror.check.ports import BucketFacts, HistoryFacts, Identity, LedgerVerdict, PutVerdict, SigningState, Unavailable
from mirror.concurrency import DeadlineExecutor
from mirror.config.settings import PublishSettings
from mirror.config.settings import RepositorySettings as Settings
from mirror.errors import BucketError, HistoryError, MirrorError, PushRefusedError, RemoteError, UsageError
from mirror.files import LOCKS, lock_owner
from mirror.history.git_command import Git, presentable
from mirror.history.ledger_reader import VerificationContext, load_history
from mirror.history.ledger_store import load_verification_keys, readable_signing_key, signing_key_warning
from mirror.history.remote import GitRemote
from mirror.history.repository import GitRepository, is_repository, temporary_clone
from mirror.model import CommitId, IssuerUrl, ObjectKey, Reason, StoredObject
from mirror.publish.listing import Target, bucket_identity
from mirror.publish.s3 import REQUEST_SECONDS, S3Clients
from mirror.trust.ledger import stated_issuer
from mirror.trust.ledger_signature import LedgerTrust, LedgerVerifier, SignatureHeader, VerificationFailure

REMOTE_SECONDS = 15.0
FSCK_SECONDS = 15.0
_AS_SERVICE = "Run it as the service does: `sudo oidc-mirror-admin check`."
_DAMAGE = "Keep the folder as it is, move it away, and let the next pass fetch the history again from the remote."
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


class HistoryInspector:
    """The adapter behind `mirror.check.ports.HistoryView`."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        issuers: Iterable[IssuerUrl] = (),
        remote_seconds: float = REMOTE_SECONDS,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._issuers = tuple(issuers)
        self._remote_seconds = remote_seconds

    def look(self) -> HistoryFacts:
        """See `mirror.check.ports.HistoryView`."""
        try:
            with temporary_clone(self._settings, self._environ) as copy:
                return self._through(copy)
        except (HistoryError, RemoteError) as error:
            return HistoryFacts(unreadable=_reason("git.unreadable", error))
        except PermissionError as error:
            sentence = f"This user cannot read the local repository {self._settings.path} ({error.strerror})."
            return HistoryFacts(unreadable=Reason("git.unreadable", sentence, _AS_SERVICE))

    def _through(self, copy: Settings) -> HistoryFacts:
        with GitRepository(copy, self._environ, remote_timeout_seconds=self._remote_seconds) as repository:
            repository.prepare()
            state = HistoryFacts(local=repository.heads().local, damaged=self._damage())
            if copy.remote is not None:
                state = self._with_remote(copy, repository, state)
            head = state.remote or state.local
            state = replace(state, signing=signing_state(self._settings, repository, head, self._issuers))
            memory = load_history(repository, self._issuers, VerificationContext(as_it_is=True))
            return replace(state, broken=tuple(each.failures[0] for each in memory.issuers.values() if each.failures))

    def _with_remote(self, copy: Settings, repository: GitRepository, state: HistoryFacts) -> HistoryFacts:
        try:
            repository.fetch(shallow=state.local is None)
        except (HistoryError, RemoteError) as error:
            return replace(state, fetch=_reason("git.unreachable", error))
        heads = repository.heads()
        unpushed = repository.unpushed() if heads.local is not None else 0
        state = replace(state, remote=heads.remote, unpushed=unpushed)
        return replace(state, push=self._rehearse(copy, heads.local or heads.remote or _first(copy, self._environ)))

    def _damage(self) -> Reason | None:
        """What git finds wrong in the real repository; None where there is none, or where looking takes too long."""
        if not is_repository(self._settings.path):
            return None
        git = Git(self._settings.path, self._environ, stop=threading.Event(), timeout_seconds=FSCK_SECONDS)
        finished = git.run("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
        if finished.ok or finished.stopped:
            return None
        said = presentable(f"{finished.err}\n{finished.out.decode('utf-8', 'replace')}")  # fsck writes to both
        return Reason("git.damaged", f"The local repository is damaged: {said}.", _DAMAGE)

    def _rehearse(self, copy: Settings, commit: CommitId) -> Reason | None:
        git = Git(copy.path, self._environ, stop=threading.Event())
        remote = GitRemote(git, copy.remote or "", copy.branch, timeout_seconds=self._remote_seconds)
        try:
            remote.push(commit, rehearse=True)
        except PushRefusedError:
            return None  # it has commits that we have not: they are merged, then the push goes through
        except RemoteError as error:
            return _reason("git.push_denied", error)
        return None


def _first(copy: Settings, environ: Mapping[str, str]) -> CommitId:
    """A commit of the temporary copy, on a branch of its own, for a remote that has none; a rehearsal sends no objects.

    Raises:
        HistoryError: The temporary folder cannot be written.
    """
    with GitRepository(replace(copy, branch="rehearsal", sign=False), environ) as repository:
        return repository.commit(
            base=None, parents=(), changes={"README.md": b"\n"}, message="rehearsal", when=_BEGINNING, expect=None
        )


def _reason(code: str, error: MirrorError) -> Reason:
    cause = f" Cause: {error.cause}" if error.cause else ""
    return Reason(code, error.sentence + cause, error.remedy)


def lock_holder(path: Path, *, locks: Path = LOCKS, processes: Path = Path("/proc")) -> str | None:
    """`process 4711 (oidc-mirror)`, or None if no process holds the lock, or the system does not say."""
    pid = lock_owner(path, locks=locks)
    if pid is None:
        return None
    try:
        return f"process {pid} ({(processes / str(pid) / 'comm').read_text().strip()})"
    except OSError:
        return f"process {pid}"


_EVERYBODY = ("/AllUsers", "/AuthenticatedUsers")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BucketSetting(Generic[T]):
    """One setting of a bucket: the right that it needs, and how it is read.

    The reader gets boto3's client, and the names of the bucket and its owner. It raises what botocore raises, and
    LookupError or ValueError for an answer that is malformed.
    """

    action: str
    read: Callable[[Any, Mapping[str, Any]], T]


def _setting(action: str, operation: str, read: Callable[[Any], T], empty: T) -> BucketSetting[T]:
    """A setting of one answer; `empty` is what "there is none" means."""
    return BucketSetting(
        action, lambda client, names: unless_not_set(lambda: read(getattr(client, operation)(**names)), empty)
    )


def _ownership(response: Any) -> str:
    rules = response["OwnershipControls"].get("Rules") or [{}]
    return str(rules[0].get("ObjectOwnership", ""))


def _public_grants(response: Any) -> tuple[str, ...]:
    grants = response.get("Grants", ())
    return tuple(str(each["Permission"]) for each in grants if str(each["Grantee"].get("URI", "")).endswith(_EVERYBODY))


def _encryption(response: Any) -> str:
    rules = response["ServerSideEncryptionConfiguration"].get("Rules") or [{}]
    return str(rules[0].get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm", ""))


ACCESS_BLOCK = BucketSetting("s3:GetBucketPublicAccessBlock", bucket_access_block)
POLICY = BucketSetting("s3:GetBucketPolicy", bucket_policy_text)
OWNERSHIP = _setting("s3:GetBucketOwnershipControls", "get_bucket_ownership_controls", _ownership, "")
GRANTS = _setting("s3:GetBucketAcl", "get_bucket_acl", _public_grants, tuple[str, ...]())
VERSIONING = _setting(
    "s3:GetBucketVersioning", "get_bucket_versioning", lambda response: str(response.get("Status", "")), ""
)
ENCRYPTION = _setting("s3:GetEncryptionConfiguration", "get_bucket_encryption", _encryption, "")


_NO_SUCH_ETAG = "0" * 32
# What a store answers once it has let a write pass its access check: one of our two conditions did not hold.
_STOPPED = frozenset({"412", "PreconditionFailed", "NoSuchKey", "BadDigest", "ConditionalRequestConflict"})


class AwsClient:
    """The adapter behind `mirror.check.ports.Aws`; safe for many threads. One pair of S3 clients a bucket."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._clients: dict[Target, S3Clients] = {}
        self._identities: dict[Target, Identity | Unavailable] = {}
        self._asking = Lock()

    def close(self) -> None:
        """Give the connections back."""
        for clients in self._clients.values():
            clients.close()

    def credentials(self, publish: PublishSettings) -> str | Unavailable | None:
        """See `mirror.check.ports.Aws`."""

        def look() -> str | None:
            found = session(publish).get_credentials()
            if found is None:
                return None
            found.get_frozen_credentials()  # a token that must be renewed is renewed, and a value is looked at
            return str(found.method or "unknown")

        return _asked("sts:GetCallerIdentity", publish, look)

    def identity(self, publish: PublishSettings) -> Identity | Unavailable:
        """See `mirror.check.ports.Aws`; requested once for each bucket, for all callers."""

        def ask() -> Identity:
            client = session(publish).client("sts", region_name=publish.region, config=short_timeouts())
            caller = client.get_caller_identity()
            return Identity(caller["Account"], caller["Arn"])

        key = bucket_identity(publish)
        with self._asking:
            if key not in self._identities:
                self._identities[key] = _asked("sts:GetCallerIdentity", _elsewhere(publish, "STS"), ask)
            return self._identities[key]

    def account_block(self, publish: PublishSettings, account: str) -> AccessBlock | Unavailable | None:
        """See `mirror.check.ports.Aws`."""

        def ask() -> AccessBlock | None:
            client = session(publish).client("s3control", region_name=publish.region, config=short_timeouts())
            return account_access_block(client, account)

        return _asked("s3:GetAccountPublicAccessBlock", _elsewhere(publish, "S3 Control"), ask)

    def bucket(self, publish: PublishSettings) -> BucketFacts:
        """See `mirror.check.ports.Aws`; a bucket that cannot be reached is asked no more."""
        region = self._region(publish)
        if isinstance(region, Unavailable) and region.code != "AccessDenied":
            return BucketFacts(region, region, region, region, region, region, region)
        access_block = self._ask(publish, ACCESS_BLOCK)
        policy = self._ask(publish, POLICY)
        ownership = self._ask(publish, OWNERSHIP)
        grants = self._ask(publish, GRANTS)
        versioning = self._ask(publish, VERSIONING)
        encryption = self._ask(publish, ENCRYPTION)
        return BucketFacts(region, access_block, policy, ownership, grants, versioning, encryption)

    def _ask(self, publish: PublishSettings, setting: BucketSetting[T]) -> T | Unavailable:
        names = {"Bucket": publish.bucket, **_owner(publish)}
        return _asked(setting.action, publish, lambda: setting.read(self._s3(publish).reads, names))

    def belongs_to(self, publish: PublishSettings, account: str, prefix: str) -> bool | Unavailable:
        """See `mirror.check.ports.Aws`; by listing, which a writer may, where it may not look at the bucket itself."""
        missed = self.may_list(publish, prefix)
        if missed is not None:
            return missed
        owned = self.may_list(replace(publish, expected_bucket_owner=account), prefix)
        return False if owned is not None and owned.code == "AccessDenied" else owned or True

    def may_list(self, publish: PublishSettings, prefix: str) -> Unavailable | None:
        """See `mirror.check.ports.Aws`."""

        def ask() -> None:
            self._s3(publish).reads.list_objects_v2(Bucket=publish.bucket, Prefix=prefix, MaxKeys=1, **_owner(publish))

        return _asked("s3:ListBucket", publish, ask)

    def may_put(self, publish: PublishSettings, key: ObjectKey, there: StoredObject | None) -> PutVerdict:
        """See `mirror.check.ports.Aws`.

        Two conditions stop the write, each by itself: an ETag that no object has, and an MD5 of other bytes. A store
        checks the rights first (seen on radosgw). If one ignored both, it would write what stands there already.
        """
        if there is None:
            return self._simulated(publish, key)
        body = there.body
        other = hashlib.md5(body + b" but not these bytes", usedforsecurity=False).digest()
        request: dict[str, Any] = {"ContentMD5": b64encode(other).decode(), "IfMatch": _NO_SUCH_ETAG, "Body": body}
        request |= {"ContentType": there.content_type, "CacheControl": there.cache_control}
        request |= {} if there.snapshot is None else {"Metadata": {"snapshot": there.snapshot}}

        def ask() -> PutVerdict:
            try:
                self._s3(publish).writes.put_object(Bucket=publish.bucket, Key=key, **request, **_owner(publish))
            except ClientError as error:
                if stated_code(error.response) in _STOPPED:
                    return "allowed"
                raise
            return "wrote"

        return _asked("s3:PutObject", publish, ask, key=key)

    def _simulated(self, publish: PublishSettings, key: ObjectKey) -> PutVerdict:
        """What IAM's policy simulator says, where the mirror may ask it; it knows the identity's policies alone."""
        who = self.identity(publish)
        if publish.endpoint_url is not None or isinstance(who, Unavailable):
            return "unproven"

        def ask() -> bool:
            client = session(publish).client("iam", region_name=publish.region, config=short_timeouts())
            arn = f"arn:{partition_of(publish.region)}:s3:::{publish.bucket}/{key}"
            result = client.simulate_principal_policy(
                PolicySourceArn=simulated_identity(who.arn), ActionNames=["s3:PutObject"], ResourceArns=[arn]
            )
            return bool(result["EvaluationResults"][0]["EvalDecision"] == "allowed")

        allowed = _asked("iam:SimulatePrincipalPolicy", _elsewhere(publish, "IAM"), ask, key=key)
        # A denial may be wrong: a bucket policy can allow what the identity's own policies do not.
        return "simulated" if allowed is True else "unproven"

    def _region(self, publish: PublishSettings) -> str | Unavailable | None:
        def ask() -> str | None:
            try:
                answer: Any = self._s3(publish).reads.head_bucket(Bucket=publish.bucket, **_owner(publish))
            except ClientError as error:
                # A writer may list below a prefix only, and gets 403 here; AWS names the region all the same.
                region = _region_in(error.response)
                if region is None:
                    raise
                return region
            return _region_in(answer)

        found = _asked("s3:ListBucket", publish, ask)
        if isinstance(found, Unavailable) and found.code == "404":
            remedy = "Create the bucket with `oidc-mirror provision bucket`, or correct `publish.bucket`."
            return Unavailable("NoSuchBucket", "there is no bucket of this name", remedy)
        return found

    def _s3(self, publish: PublishSettings) -> S3Clients:
        with self._lock:
            return self._clients.setdefault(bucket_identity(publish), S3Clients(publish, connections=8))


def simulated_identity(arn: str) -> str:
    """The role behind a session's ARN; every other ARN as it is (IAM API, SimulatePrincipalPolicy)."""
    found = re.fullmatch(r"arn:([a-z-]+):sts::([0-9]{12}):assumed-role/([^/]+)/.+", arn)
    return arn if found is None else f"arn:{found[1]}:iam::{found[2]}:role/{found[3]}"


def _asked(action: str, publish: PublishSettings, ask: Callable[[], T], *, key: str = "") -> T | Unavailable:
    try:
        with s3_errors_translated(S3Operation("asked about", action, publish, key)):
            return DeadlineExecutor(REQUEST_SECONDS).call(ask)
    except BucketError as error:
        return Unavailable(error.code, error.cause, error.remedy)


def _elsewhere(publish: PublishSettings, service: str) -> PublishSettings:
    """For the words of failures: the endpoint is that of another service than S3."""
    return replace(publish, endpoint_url=f"{service} of {publish.region}")


def _owner(publish: PublishSettings) -> Any:
    owner = publish.expected_bucket_owner
    return {} if owner is None else {"ExpectedBucketOwner": owner}


def _region_in(response: Any) -> str | None:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or response.get("BucketRegion")
    return str(region) if region else None


_LEDGERS = "ledger"
_FILE = "/keys.json"
_AT_ONCE = 200
"""So many ledgers are read together: a pusher may have added files of megabytes."""
_SAMPLE = b"a sample ledger\n"
_SAMPLE_ISSUER = IssuerUrl("https://oidc-mirror.invalid")


def signing_state(
    settings: Settings, repository: GitRepository, head: CommitId | None, issuers: Iterable[IssuerUrl]
) -> SigningState:
    """Read the keys, sign and verify a sample, and judge every ledger of `head`.

    Args:
        settings: The real repository's settings.
        repository: The repository that has `head`.
        head: The newest commit; None where there is none.
        issuers: What the configuration publishes.

    Raises:
        HistoryError: The repository cannot be read.
    """
    try:
        keys = load_verification_keys(settings)
        sample = _sample(settings, keys)
    except UsageError as error:
        return SigningState(refused=_signing_reason(error))
    if keys is None:
        keys = LedgerVerifier(settings.name, {})  # no signature counts, and each ledger can still be read
    configured = {repository_paths(issuer).ledger: issuer for issuer in issuers}
    found = () if head is None else tuple(_ledger_verdicts(repository, head, keys, configured))
    return SigningState(sample, warning=signing_key_warning(settings), ledgers=found)


def _sample(settings: Settings, keys: LedgerVerifier | None) -> SignatureHeader | VerificationFailure | None:
    """What becomes of a signature that the mirror's key makes; None when this user cannot read the key."""
    own = readable_signing_key(settings)
    if own is None or keys is None:
        return None
    trust = LedgerTrust(settings.name, keys.keys, own, "mirror")
    return trust.verify(_SAMPLE, trust.sign(_SAMPLE, _SAMPLE_ISSUER), _SAMPLE_ISSUER)


def _ledger_verdicts(
    repository: GitRepository, head: CommitId, keys: LedgerVerifier, configured: Mapping[str, IssuerUrl]
) -> Iterator[LedgerVerdict]:
    paths = [path for path in repository.list_paths(head, _LEDGERS) if path.endswith(_FILE)]
    for begin in range(0, len(paths), _AT_ONCE):
        some = paths[begin : begin + _AT_ONCE]
        files = repository.read(head, [each for path in some for each in (path, f"{path}.jws")])
        yield from (_verdict(path, files, keys, configured.get(path)) for path in some)


def _verdict(
    path: str, files: Mapping[str, bytes], keys: LedgerVerifier, configured: IssuerUrl | None
) -> LedgerVerdict:
    body, signature = files.get(path, b""), files.get(f"{path}.jws")
    issuer = configured or _stated(path, body)
    verdict = None if signature is None else keys.verify(body, signature, issuer)
    return LedgerVerdict(path, issuer, configured is not None, verdict)


def _stated(path: str, body: bytes) -> IssuerUrl:
    """The issuer that a ledger of another configuration names, if it is in that issuer's path."""
    issuer = stated_issuer(body)
    return issuer if issuer is not None and repository_paths(issuer).ledger == path else IssuerUrl("")


def _signing_reason(error: UsageError) -> Reason:
    cause = f" ({error.cause})" if error.cause else ""
    return Reason("repository.signing_key", " ".join((f"{error.sentence}{cause}", *error.problems)), error.remedy)
