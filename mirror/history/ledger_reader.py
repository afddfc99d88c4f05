"""What git says of each issuer: its ledger, as far as it is believed, of whatever heads there are.

Git is signed or trusted (docs/adr/0008). With a signing key a ledger counts when a known key signed it, or when it is
the very file that this mirror last decided on; without one every ledger that validates counts. Believed ledgers are
merged, so that an old one changes nothing: a commit can forget a revocation, a merge cannot.

Where the newest ledger of an issuer is not believed, is missing or cannot be read, it counts as the merge of this
mirror's own last one, of those in the commits that the issuer's public objects name, and of the nearest believed ones
back along every parent.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from mirror.addresses import RepositoryPaths, repository_paths
from mirror.errors import BucketError, HistoryError, RemoteError, UsageError
from mirror.history.commit_graph import blob_id
from mirror.model import CommitId, Event, Heads, IssuerUrl, KeyId, Ledger, Level, Reason, key_id
from mirror.ports import History
from mirror.trust.ledger import ALL_THUMBPRINTS, LedgerRead, read_ledger
from mirror.trust.ledger_signature import (
    LedgerTrust,
    LedgerVerifier,
    SignatureHeader,
    VerificationFailure,
    verify_ledger,
)
from mirror.trust.merge import merge
from mirror.trust.parsing import Rejected

_COMMITS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class DecidedLedger:
    """The ledger that this mirror last decided on: git blob ids of the file and of its signature, and who signed it.

    `signature` and `kid` are empty where no mirror did.
    """

    ledger: str
    signature: str = ""
    kid: str = ""


@dataclass(frozen=True, slots=True)
class VerificationContext:
    """By what ledgers are believed.

    `keys` is None where the remote is trusted; `repository` is the name that signatures must have. `decided` are the
    ledgers that this mirror decided on. `is_first_signing` tells that this pass begins to sign: it still trusts what it
    finds. `trusts_own_head` tells that the own head counts although this machine does not remember what it decided on:
    an earlier program wrote it.
    """

    keys: LedgerTrust | LedgerVerifier | None = None
    repository: str = "oidc-mirror"
    decided: Mapping[IssuerUrl, DecidedLedger] = field(default_factory=dict)
    is_first_signing: bool = False
    trusts_own_head: bool = False

    @property
    def is_signed(self) -> bool:
        """Whether only signed ledgers count."""
        return self.keys is not None and not self.is_first_signing


@dataclass(frozen=True, slots=True)
class SignedFile:
    """A ledger file and its signature, empty where there is none; `kid` is the mirror's key that made it."""

    ledger: bytes
    signature: bytes = b""
    kid: str = ""


NamedCommits = Callable[[IssuerUrl], tuple[str, ...] | None]
"""The commits that the public objects of an issuer name; None where it has no objects, or none that can be read."""


@dataclass(frozen=True, slots=True)
class IssuerHistory:
    """One issuer in git.

    `ledger` merges all that is believed; None when nothing is. `files` are the bytes of its paths on the base of the
    next commit, `known_texts` those of its public files on any head. `signed` are the ledger files in the heads that
    need no new signature. `remote_public_keys` are public by the remote's head alone. `events` and `failures` tell what
    was not believed; `is_lost` that something is there and nothing of it is believed. `unknown_signer` is the key that
    signed the newest ledger, where nobody here lists it, and `foreign_since` the date of the newest commit of that
    ledger (aware, UTC), which whoever made it could choose.
    """

    paths: RepositoryPaths
    ledger: Ledger | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    known_texts: Mapping[str, frozenset[bytes]] = field(default_factory=dict)
    signed: tuple[SignedFile, ...] = ()
    remote_public_keys: frozenset[KeyId] = frozenset()
    events: tuple[Event, ...] = ()
    failures: tuple[Reason, ...] = ()
    is_lost: bool = False
    unknown_signer: str = ""
    foreign_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class HistoryState:
    """The state of git that a pass begins with: `parents` of its next commit, `base` whose tree it changes."""

    heads: Heads
    base: CommitId | None
    parents: tuple[CommitId, ...]
    issuers: Mapping[IssuerUrl, IssuerHistory]

    @property
    def is_pushed(self) -> bool:
        """Whether the remote has everything that this machine committed, as far as it was heard."""
        return all(parent == self.heads.remote for parent in self.parents)


def public_path(url: str) -> str:
    """The file in git that holds what is public at `url`."""
    return f"public/{url.removeprefix('https://')}"


def load_history(
    history: History,
    issuers: Iterable[IssuerUrl],
    trust: VerificationContext,
    *,
    named_commits: NamedCommits = lambda _: None,
    before: CommitId | None = None,
) -> HistoryState:
    """Read the ledgers and public texts of `issuers` from every head.

    Args:
        history: The repository.
        issuers: Whose ledgers.
        trust: By what they are believed.
        named_commits: What the public objects of an issuer name; asked only where its newest ledger is not believed.
        before: The remote's head before the last fetch.

    Raises:
        HistoryError: The repository could not be read.
        UsageError: The remote is signed, and this mirror has no signing key.
    """
    heads = history.heads()
    parents = _parents(history, heads)
    reader = _LedgerReader(history, trust, heads, parents[-1] if parents else None, named_commits)
    paths = {issuer: repository_paths(issuer) for issuer in issuers}
    wanted = [path for each in paths.values() for path in (each.ledger, each.signature, each.discovery, each.jwks)]
    commits = dict.fromkeys(commit for commit in (heads.local, heads.remote, before) if commit is not None)
    texts = {commit: history.read(commit, wanted) for commit in commits}
    own = reader.decided_ledgers(paths, texts)
    found = {issuer: reader.read(issuer, each, texts, before, own.get(issuer)) for issuer, each in paths.items()}
    return HistoryState(heads, reader.base, parents, found)


def with_named_commits(
    history: History,
    state: HistoryState,
    trust: VerificationContext,
    issuers: Iterable[IssuerUrl],
    named_commits: NamedCommits,
) -> HistoryState:
    """The state with the ledgers that the public objects of `issuers` name merged in: git may have been set back.

    Raises:
        HistoryError: The repository could not be read.
    """
    reader = _LedgerReader(history, trust, state.heads, state.base, named_commits)
    return replace(
        state, issuers={**state.issuers, **{url: reader.refresh(url, state.issuers[url]) for url in issuers}}
    )


def _parents(history: History, heads: Heads) -> tuple[CommitId, ...]:
    """The heads that the next commit must contain; the remote's last, because its tree is the base."""
    if heads.local is None or heads.remote is None or heads.local == heads.remote:
        return tuple(dict.fromkeys(head for head in (heads.local, heads.remote) if head is not None))
    if history.is_ancestor(heads.remote, heads.local):
        return (heads.local,)
    if history.is_ancestor(heads.local, heads.remote):
        return (heads.remote,)
    return (heads.local, heads.remote)


@dataclass(frozen=True, slots=True)
class _CheckedLedger:
    """One ledger file: `ledger` when it is believed (or readable, of an untrusted one None); else `why`.

    `signed` is the file where its signature needs no renewal. `damaged` are records that were left out.
    """

    ledger: Ledger | None = None
    signed: SignedFile | None = None
    why: Reason | None = None
    damaged: tuple[Reason, ...] = ()
    unknown_signer: str = ""


_ABSENT = _CheckedLedger()
_REMEDY = "See who changed it (git log of that file); the next commit writes it anew."


class _LedgerReader:
    """Reads ledgers of one state of the repository."""

    def __init__(
        self,
        history: History,
        trust: VerificationContext,
        heads: Heads,
        base: CommitId | None,
        named_commits: NamedCommits,
    ) -> None:
        self._history = history
        self._trust = trust
        self._heads = heads
        self._named_commits = named_commits
        self.base = base

    def read(
        self,
        issuer: IssuerUrl,
        paths: RepositoryPaths,
        texts: Mapping[CommitId, Mapping[str, bytes]],
        before: CommitId | None,
        own: Ledger | None,
    ) -> IssuerHistory:
        """What the heads, and the ledger that this mirror decided on, say of one issuer."""
        local, remote = self._heads.local, self._heads.remote
        for text in texts.values():
            self._require_unsigned(issuer, text.get(paths.ledger), text.get(paths.signature))
        judged = {commit: self._check(issuer, paths, text, is_own=commit == local) for commit, text in texts.items()}
        newest = _ABSENT if self.base is None else judged[self.base]
        shared = None if remote is None else judged[remote].ledger
        heads = [texts[head] for head in (local, remote) if head is not None]
        found = IssuerHistory(
            paths,
            _merged((own, *(each.ledger for each in judged.values()))),
            files={path: texts[self.base][path] for path in _own(paths) if self.base and path in texts[self.base]},
            known_texts={
                path: frozenset(text[path] for text in heads if path in text) for path in (paths.discovery, paths.jwks)
            },
            signed=tuple(
                file
                for head in dict.fromkeys((local, remote))
                if head is not None and (file := judged[head].signed) is not None
            ),
            remote_public_keys=frozenset(map(key_id, shared.public_keys())) if shared is not None else frozenset(),
        )
        if newest.ledger is None:
            found = self._fall_back(issuer, found, newest)
        elif newest.damaged:
            found = replace(found, failures=tuple(map(_damaged, newest.damaged)))
        then = judged[before].ledger if before is not None and before != remote else None
        if then is not None and shared is not None and merge(then, shared) != merge(shared, shared):
            found = replace(found, events=(*found.events, _rewritten(paths)))
        return found

    def decided_ledgers(
        self, paths: Mapping[IssuerUrl, RepositoryPaths], texts: Mapping[CommitId, Mapping[str, bytes]]
    ) -> Mapping[IssuerUrl, Ledger]:
        """The ledgers that this mirror last decided on, where no head has them any more."""
        digits = len(self.base or "")
        blobs = {
            url: decided.ledger
            for url, decided in self._trust.decided.items()
            if url in paths
            and all(blob_id(text.get(paths[url].ledger, b""), digits) != decided.ledger for text in texts.values())
        }
        bodies = self._history.contents(blobs.values()) if blobs else {}
        found = {url: bodies[blob] for url, blob in blobs.items() if blob in bodies}
        read = {url: read_ledger(body, issuer=url, already_checked=ALL_THUMBPRINTS) for url, body in found.items()}
        return {url: each.ledger for url, each in read.items() if isinstance(each, LedgerRead)}

    def refresh(self, issuer: IssuerUrl, issuer_history: IssuerHistory) -> IssuerHistory:
        """What the commits that the issuer's public objects name add to what is known."""
        named = self._named_commits(issuer)
        ledgers, events = self._named(issuer, issuer_history.paths, named)
        merged = _merged((issuer_history.ledger, *ledgers))
        if (
            merged is None
            or issuer_history.ledger is None
            or merged == merge(issuer_history.ledger, issuer_history.ledger)
        ):
            return replace(issuer_history, events=issuer_history.events + events)
        if not self._has_moved():
            events = (*events, _rewritten(issuer_history.paths))
        return replace(issuer_history, ledger=merged, events=issuer_history.events + events)

    def _has_moved(self) -> bool:
        """Whether another mirror pushed, and then put, since our fetch; else somebody set the branch back."""
        if self._heads.remote is None:
            return False
        try:
            return self._history.remote_head() != self._heads.remote
        except RemoteError:
            return False

    # -- one file ---------------------------------------------------------------------------------------

    def _check(
        self, issuer: IssuerUrl, paths: RepositoryPaths, text: Mapping[str, bytes], *, is_own: bool
    ) -> _CheckedLedger:
        body, signature = text.get(paths.ledger), text.get(paths.signature)
        if body is None:
            return _ABSENT
        read = read_ledger(body, issuer=issuer, already_checked=ALL_THUMBPRINTS)
        if isinstance(read, Rejected):
            return self._unreadable(issuer, paths, read.reasons[0], body, signature)
        if not self._trust.is_signed:
            return _CheckedLedger(read.ledger, self._current(issuer, body, signature), damaged=read.damaged)
        return self._accept(issuer, paths, read, body, signature, is_own=is_own)

    def _current(self, issuer: IssuerUrl, body: bytes, signature: bytes | None) -> SignedFile | None:
        """The signature that a ledger which is believed anyway has already, so that it is not signed twice."""
        verdict = None if self._trust.keys is None else _verdict(self._trust.keys, issuer, body, signature)
        if signature is None or not isinstance(verdict, SignatureHeader) or verdict.role != "mirror":
            return None
        return SignedFile(body, signature, verdict.kid)

    def _unreadable(
        self, issuer: IssuerUrl, paths: RepositoryPaths, first: Reason, body: bytes, signature: bytes | None
    ) -> _CheckedLedger:
        keys = self._trust.keys if self._trust.is_signed else None
        verdict = _verdict(keys, issuer, body, signature) if keys is not None else None
        if isinstance(verdict, VerificationFailure) and verdict.code == "foreign":  # a whole ledger, of something else
            return _CheckedLedger(why=Reason("ledger.unsigned", verdict.sentence, _REMEDY, paths.ledger))
        return _CheckedLedger(why=replace(first, code="ledger.damaged", where=f"{paths.ledger} {first.where}".strip()))

    def _accept(
        self,
        issuer: IssuerUrl,
        paths: RepositoryPaths,
        read: LedgerRead,
        body: bytes,
        signature: bytes | None,
        *,
        is_own: bool,
    ) -> _CheckedLedger:
        """Whether this mirror decided on the file, or a known key signed it."""
        keys, decided = self._trust.keys, self._trust.decided.get(issuer)
        if keys is None:  # only signed ledgers are asked about
            return _ABSENT
        digits = len(self.base or "")
        ours = decided is not None and decided.ledger == blob_id(body, digits)
        file = SignedFile(body, signature or b"", decided.kid if decided is not None else "")
        if ours and decided is not None and signature is not None and _is_remembered(decided, signature, digits, keys):
            return _CheckedLedger(read.ledger, file, damaged=read.damaged)
        verdict = _verdict(keys, issuer, body, signature)
        if isinstance(verdict, SignatureHeader):
            # What an operator signed a mirror signs anew, so that the operator's key can be given up at any time.
            by_mirror = verdict.role == "mirror"
            file = replace(file, kid=verdict.kid if by_mirror else "")
            lasting = by_mirror or _role(keys) == "operator"
            return _CheckedLedger(read.ledger, file if lasting else None, damaged=read.damaged)
        if is_own and (ours or self._trust.trusts_own_head):
            return _CheckedLedger(read.ledger, damaged=read.damaged)
        if verdict.code == "unknown_signer":
            reason = Reason("ledger.unknown_signer", f"{verdict.sentence}", _unlisted(verdict.kid), paths.ledger)
            return _CheckedLedger(why=reason, unknown_signer=verdict.kid)
        code = "ledger.damaged" if verdict.code == "damaged" else "ledger.unsigned"
        return _CheckedLedger(why=Reason(code, verdict.sentence, _REMEDY, paths.ledger))

    def _require_unsigned(self, issuer: IssuerUrl, body: bytes | None, signature: bytes | None) -> None:
        """Make sure that no mirror signs what this one trusts without a look: it would undo what the others decide."""
        if body is None or signature is None or self._trust.keys is not None or self._trust.is_first_signing:
            return
        verdict = verify_ledger(body, signature, issuer=issuer, repository=self._trust.repository, keys={})
        if isinstance(verdict, VerificationFailure) and verdict.code == "unknown_signer":
            raise UsageError(
                f"repository.signed: the ledgers of this repository are signed (that of {issuer} by {verdict.kid}), "
                "and this mirror has no signing key. Nothing was done.",
                remedy="Set `repository.signing_key: FILE` here, list its public key in `repository.allowed_signers` "
                "of every mirror, and list theirs here.",
                code="repository.signed",
            )

    # -- where the newest file is not believed ------------------------------------------------------------

    def _fall_back(self, issuer: IssuerUrl, issuer_history: IssuerHistory, newest: _CheckedLedger) -> IssuerHistory:
        """What else is believed, and what is reported about the file that is not."""
        paths = issuer_history.paths
        stands = paths.ledger in issuer_history.files
        try:
            named = self._named_commits(issuer)
        except BucketError:
            named = ()  # before anything is put the objects are looked at once more
        if not stands and named is None and issuer_history.ledger is None:
            return issuer_history  # nobody has ever heard of it
        ledgers, events = self._named(issuer, paths, named)
        nearest, changed_by = self._nearest(issuer, paths)
        merged = _merged((issuer_history.ledger, *ledgers, *nearest))
        failures = (newest.why,) if newest.why is not None and newest.why.code != "ledger.unsigned" else ()
        if newest.why is not None and newest.why.code == "ledger.unsigned":
            events = (*events, _unsigned(newest.why, changed_by))
        elif newest.why is None and nearest:
            events = (*events, _rewritten(paths))
        is_lost = merged is None and (stands or (self._trust.is_signed and bool(named)))
        return replace(
            issuer_history,
            ledger=merged,
            events=issuer_history.events + events,
            failures=issuer_history.failures
            + failures
            + ((_lost(paths, self._trust, stands=stands),) if is_lost else ()),
            is_lost=is_lost,
            unknown_signer=newest.unknown_signer,
            foreign_since=self._changed_at(changed_by) if newest.unknown_signer else None,
        )

    def _changed_at(self, commit: CommitId | None) -> datetime | None:
        versions = () if commit is None else self._history.versions(None, most=1, at=commit)
        return versions[-1].when if versions else None

    def _named(
        self, issuer: IssuerUrl, paths: RepositoryPaths, named: tuple[str, ...] | None = None
    ) -> tuple[tuple[Ledger, ...], tuple[Event, ...]]:
        """The believed ledgers in the commits that the issuer's public objects name."""
        ledgers, events = [], []
        for commit in dict.fromkeys(self._named_commits(issuer) or () if named is None else named):
            if not self._history.obtain(commit):
                events.append(_unknown_snapshot(issuer, commit))
                continue
            text = self._history.read(CommitId(commit), [paths.ledger, paths.signature])
            judged = self._check(issuer, paths, text, is_own=False)
            ledgers += [judged.ledger] if judged.ledger is not None else []
        return tuple(ledgers), tuple(events)

    def _nearest(self, issuer: IssuerUrl, paths: RepositoryPaths) -> tuple[tuple[Ledger, ...], CommitId | None]:
        """The nearest believed ledgers back along every parent, and the newest commit that changed the file."""
        if self.base is None:
            return (), None
        try:
            parents = self._history.path_history((paths.ledger, paths.signature), at=self.base)
        except HistoryError:
            return (), None  # it took too long: what else is believed decides
        wanted = set(parents).difference(*parents.values())  # those that no other one follows
        found: list[Ledger] = []
        checked: dict[tuple[str | None, str | None], Ledger | None] = {}
        for commits in _batches(tuple(parents)):
            pairs = self._pairs(commits, paths)
            self._check_pairs(issuer, pairs.values(), checked)
            for commit in commits:
                if commit not in wanted:
                    continue
                ledger = checked[pairs[commit]]
                if ledger is None:
                    wanted |= set(parents[commit])
                else:
                    found.append(ledger)
        return tuple(found), next(iter(parents), None)

    def _pairs(
        self, commits: Sequence[CommitId], paths: RepositoryPaths
    ) -> Mapping[CommitId, tuple[str | None, str | None]]:
        """The blobs of ledger and signature in each of `commits`."""
        blobs = self._history.blobs([f"{each}:{path}" for each in commits for path in (paths.ledger, paths.signature)])
        return {commit: (blobs[2 * at], blobs[2 * at + 1]) for at, commit in enumerate(commits)}

    def _check_pairs(
        self,
        issuer: IssuerUrl,
        pairs: Iterable[tuple[str | None, str | None]],
        checked: dict[tuple[str | None, str | None], Ledger | None],
    ) -> None:
        """Judge files of the past: signatures first, because somebody may have pushed ledgers of megabytes."""
        new = [pair for pair in dict.fromkeys(pairs) if pair not in checked]
        signatures = self._history.contents(blob for _, blob in new if blob is not None)
        for ledger, signature in new:
            checked[ledger, signature] = self._past_ledger(issuer, ledger, signatures.get(signature or ""))

    def _past_ledger(self, issuer: IssuerUrl, blob: str | None, signature: bytes | None) -> Ledger | None:
        keys = self._trust.keys if self._trust.is_signed else None
        if blob is None or (keys is not None and not _may_be_ours(keys, issuer, signature)):
            return None
        body = self._history.contents([blob]).get(blob, b"")
        if keys is not None and not isinstance(_verdict(keys, issuer, body, signature), SignatureHeader):
            return None
        read = read_ledger(body, issuer=issuer, already_checked=ALL_THUMBPRINTS)
        return read.ledger if isinstance(read, LedgerRead) else None


def _batches(commits: tuple[CommitId, ...]) -> Iterator[tuple[CommitId, ...]]:
    """The newest commit alone, because it mostly suffices; then many at once."""
    yield commits[:1]
    for begin in range(1, len(commits), _COMMITS_AT_ONCE):
        yield commits[begin : begin + _COMMITS_AT_ONCE]


def _own(paths: RepositoryPaths) -> tuple[str, ...]:
    return (paths.ledger, paths.signature, paths.discovery, paths.jwks)


def _merged(ledgers: Iterable[Ledger | None]) -> Ledger | None:
    merged: Ledger | None = None
    for ledger in ledgers:
        if ledger is not None:
            merged = ledger if merged is None else merge(merged, ledger)
    return merged


def _is_remembered(decided: DecidedLedger, signature: bytes, digits: int, keys: LedgerTrust | LedgerVerifier) -> bool:
    """Whether this mirror made or verified the signature before, under a key that is still listed."""
    return decided.kid in keys.keys and decided.signature == blob_id(signature, digits)


def _role(keys: LedgerTrust | LedgerVerifier) -> str:
    """In which role this process signs; one that only reads judges as a mirror."""
    return keys.role if isinstance(keys, LedgerTrust) else "mirror"


def _may_be_ours(keys: LedgerTrust | LedgerVerifier, issuer: IssuerUrl, signature: bytes | None) -> bool:
    """Whether the signature's form and header are right, whatever it signs."""
    verdict = _verdict(keys, issuer, b"", signature)
    return isinstance(verdict, VerificationFailure) and verdict.code == "false" and signature is not None


def _verdict(
    keys: LedgerTrust | LedgerVerifier, issuer: IssuerUrl, body: bytes, signature: bytes | None
) -> SignatureHeader | VerificationFailure:
    if signature is None:
        return VerificationFailure("false", "The ledger has no signature.")
    return keys.verify(body, signature, issuer)


# --------------------------------------------------------------------------------------------------- reports


def _damaged(reason: Reason) -> Reason:
    return replace(reason, code="ledger.damaged", sentence=f"A record of the ledger is left out: {reason.sentence}")


def _unsigned(why: Reason, commit: CommitId | None) -> Event:
    sentence = f"The ledger {why.where} is not believed and is written anew: {why.sentence}"
    if commit is not None:
        sentence += f" The newest commit that changed it is {commit} (its author is not proven)."
    return Event("ledger.unsigned", sentence, Level.ERROR, {"path": why.where, "commit": commit or ""})


def _unlisted(kid: str) -> str:
    return (
        f"If the key {kid} is another mirror's or an operator's, add its public key (one line, TYPE BASE64) to the "
        "file `repository.allowed_signers`; else find out who pushed."
    )


def _rewritten(paths: RepositoryPaths) -> Event:
    sentence = f"{paths.ledger} on the branch is older than what this mirror knows; it is written anew."
    return Event("history.rewritten", sentence, Level.ERROR, {"path": paths.ledger})


def _unknown_snapshot(issuer: IssuerUrl, commit: str) -> Event:
    sentence = (
        f"The public documents of {issuer} name commit {commit[:64]!r}, which the git remote does not give: "
        "revocations that only it has are not known here."
    )
    return Event("snapshot.unknown", sentence, Level.WARNING, {"commit": commit[:64]})


def _lost(paths: RepositoryPaths, trust: VerificationContext, *, stands: bool) -> Reason:
    if trust.is_signed:
        return Reason(
            "ledger.lost",
            f"Nothing that git says of {paths.ledger} is believed, so its revocations are unknown; nothing of this "
            "issuer is decided.",
            "Read the history, then: oidc-mirror adopt " + ("--branch" if stands else "NAME"),
        )
    sentence = (
        f"Nothing that git says in {paths.ledger} can be read, so its revocations are unknown; what apiservers show "
        "and what is public is taken over."
    )
    return Reason("ledger.broken", sentence, "Revoke again what was revoked: oidc-mirror revoke NAME KEY --reason TEXT")
