"""Read the ledger of each issuer from all heads in git, as far as it is trusted.

Git is signed or trusted (docs/adr/0008). With a signing key, a ledger counts when a known key signed it, or when it is
the file that this mirror last decided on. Without a signing key, every valid ledger counts. Trusted ledgers are
merged, so an old one changes nothing: a commit can lose a revocation, a merge cannot.

The newest ledger of an issuer may be untrusted, missing or unreadable. A merge of three sources then replaces it: this
mirror's own last ledger, the ledgers in the commits that the issuer's public objects name, and the nearest trusted
ledgers along every parent.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, partial, reduce

from mirror.addresses import RepositoryPaths, repository_paths
from mirror.errors import BucketError, HistoryError, RemoteError, UsageError
from mirror.history.git_command import blob_id
from mirror.model import CommitId, Event, Heads, IssuerUrl, KeyId, Ledger, Level, Reason, key_id
from mirror.ports import History
from mirror.trust.discovery import LedgerCache
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
    """The ledger that this mirror last decided on: git blob ids of the file and its signature, and the signer's kid.

    `signature` and `kid` are empty where no mirror signed it.
    """

    ledger: str
    signature: str = ""
    kid: str = ""


@dataclass(frozen=True, slots=True)
class VerificationContext:
    """Which ledgers are trusted.

    `keys` is None where the remote is trusted; `repository` is the name that signatures must have. `decided` are the
    ledgers that this mirror decided on. With `as_it_is` every readable ledger counts, independent of its signer:
    in the pass that begins to sign, and if an operator has read the history. With `trusts_own_head` the own head
    counts although this machine has no record of its decision: an earlier program wrote it.
    """

    keys: LedgerVerifier | None = None
    repository: str = "oidc-mirror"
    decided: Mapping[IssuerUrl, DecidedLedger] = field(default_factory=dict)
    as_it_is: bool = False
    trusts_own_head: bool = False

    @property
    def is_signed(self) -> bool:
        """Whether only signed ledgers count."""
        return self.keys is not None and not self.as_it_is


@dataclass(frozen=True, slots=True)
class SignedFile:
    """A ledger file and its signature (empty where there is none); `kid` is the mirror's key that signed it."""

    ledger: bytes
    signature: bytes = b""
    kid: str = ""


NamedCommits = Callable[[IssuerUrl], tuple[str, ...] | None]
"""The commits that the public objects of an issuer name; None where it has no objects, or none that can be read."""


@dataclass(frozen=True, slots=True)
class IssuerHistory:
    """One issuer in git.

    `ledger` merges all trusted ledgers; None when there is none. `files` are the bytes of its paths on the base of the
    next commit, `known_texts` those of its public files on any head. `signed` are the ledger files in the heads that
    need no new signature. `remote_public_keys` are public by the remote's head alone. `events` and `failures` report
    what is not trusted. `is_lost`: ledgers exist and none is trusted. `unknown_signer` is the key that signed the
    newest ledger, if it is not listed here. `foreign_since` is the date of the newest commit of that ledger (aware,
    UTC); its author can choose it.
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
    """The state of git at the start of a pass: the `parents` of its next commit, and the `base` that it changes."""

    heads: Heads
    base: CommitId | None
    parents: tuple[CommitId, ...]
    issuers: Mapping[IssuerUrl, IssuerHistory]

    @property
    def is_pushed(self) -> bool:
        """Whether the remote has everything that this machine committed, by its last answer."""
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
    ledger_cache: LedgerCache | None = None,
) -> HistoryState:
    """Read the ledgers and public texts of `issuers` from every head.

    Args:
        history: The repository.
        issuers: The issuers of the ledgers.
        trust: Which ledgers are trusted.
        named_commits: The commits that an issuer's public objects name; called only if its newest ledger is untrusted.
        before: The remote's head before the last fetch.
        ledger_cache: The results of earlier passes for the same bytes; None for no cache.

    Raises:
        HistoryError: The repository could not be read.
        UsageError: The remote is signed, and this mirror has no signing key.
    """
    heads = history.heads()
    parents = _parents(history, heads)
    ledger_cache = LedgerCache() if ledger_cache is None else ledger_cache
    reader = _LedgerReader(history, trust, heads, parents[-1] if parents else None, named_commits, ledger_cache)
    paths = {issuer: repository_paths(issuer) for issuer in issuers}
    wanted = [path for each in paths.values() for path in (each.ledger, each.signature, each.discovery, each.jwks)]
    commits = dict.fromkeys(commit for commit in (heads.local, heads.remote, before) if commit is not None)
    texts = {commit: history.read(commit, wanted) for commit in commits}
    found = {issuer: reader.read(issuer, each, texts, before) for issuer, each in paths.items()}
    return HistoryState(heads, reader.base, parents, found)


def with_named_commits(
    history: History,
    state: HistoryState,
    trust: VerificationContext,
    issuers: Iterable[IssuerUrl],
    named_commits: NamedCommits,
) -> HistoryState:
    """The state, merged with the ledgers that the public objects of `issuers` name: git may have been set back.

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
    """One ledger file: `ledger` when it is trusted (or readable, of an untrusted one None); else `why`.

    `signed` is the file where its signature needs no renewal. `damaged` are records that were left out.
    """

    ledger: Ledger | None = None
    signed: SignedFile | None = None
    why: Reason | None = None
    damaged: tuple[Reason, ...] = ()
    unknown_signer: str = ""


_ABSENT = _CheckedLedger()
_UNDECIDED = DecidedLedger("")
_NO_SIGNATURE = VerificationFailure("false", "The ledger has no signature.")
_REMEDY = "See who changed it (git log of that file); the next commit writes it again."


@dataclass(frozen=True, slots=True)
class _LedgerReader:
    """Reads ledgers of one state of the repository."""

    history: History
    trust: VerificationContext
    heads: Heads
    base: CommitId | None
    named_commits: NamedCommits
    ledger_cache: LedgerCache = field(default_factory=LedgerCache)

    def read(
        self,
        issuer: IssuerUrl,
        paths: RepositoryPaths,
        texts: Mapping[CommitId, Mapping[str, bytes]],
        before: CommitId | None,
    ) -> IssuerHistory:
        """Read one issuer from the heads and from the ledger that this mirror decided on."""
        local, remote = self.heads.local, self.heads.remote
        for text in texts.values():
            self._require_unsigned(issuer, text.get(paths.ledger), text.get(paths.signature))
        judged = {commit: self._check(issuer, paths, text, is_own=commit == local) for commit, text in texts.items()}
        newest = _ABSENT if self.base is None else judged[self.base]
        shared = None if remote is None else judged[remote].ledger
        heads = [texts[head] for head in (local, remote) if head is not None]
        found = IssuerHistory(
            paths,
            _merged((self._decided(issuer, paths, texts), *(each.ledger for each in judged.values()))),
            files={path: texts[self.base][path] for path in _own(paths) if self.base and path in texts[self.base]},
            known_texts={
                path: frozenset(text[path] for text in heads if path in text) for path in (paths.discovery, paths.jwks)
            },
            signed=tuple(file for head in (local, remote) if head is not None and (file := judged[head].signed)),
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

    def _decided(
        self, issuer: IssuerUrl, paths: RepositoryPaths, texts: Mapping[CommitId, Mapping[str, bytes]]
    ) -> Ledger | None:
        """The ledger that this mirror last decided on, if no head has it any more."""
        decided, digits = self.trust.decided.get(issuer, _UNDECIDED).ledger, len(self.base or "")
        if not decided or decided in [blob_id(each.get(paths.ledger, b""), digits) for each in texts.values()]:
            return None
        body = self.history.contents([decided]).get(decided, b"")
        read = read_ledger(body, issuer=issuer, already_checked=ALL_THUMBPRINTS)
        return read.ledger if isinstance(read, LedgerRead) else None

    def refresh(self, issuer: IssuerUrl, known: IssuerHistory) -> IssuerHistory:
        """What the commits in the issuer's public objects add to the known state."""
        ledgers, events = self._named(issuer, known.paths, self.named_commits(issuer) or ())
        merged = _merged((known.ledger, *ledgers))
        if known.ledger is None or merged in (None, merge(known.ledger, known.ledger)):
            return replace(known, events=known.events + events)
        if not self._has_moved():
            events = (*events, _rewritten(known.paths))
        return replace(known, ledger=merged, events=known.events + events)

    def _has_moved(self) -> bool:
        """Whether another mirror pushed and then published since our fetch; otherwise the branch was set back."""
        if self.heads.remote is None:
            return False
        try:
            return self.history.remote_head() != self.heads.remote
        except RemoteError:
            return False

    # -- one file ---------------------------------------------------------------------------------------

    def _check(
        self, issuer: IssuerUrl, paths: RepositoryPaths, text: Mapping[str, bytes], *, is_own: bool = False
    ) -> _CheckedLedger:
        body, signature = text.get(paths.ledger), text.get(paths.signature)
        if body is None:
            return _ABSENT
        read = self.ledger_cache.read(body, issuer)
        signed, failure = self._verify(issuer, body, signature, is_own=is_own)
        if failure is not None and (isinstance(read, LedgerRead) or failure.code == "foreign"):
            return _unbelieved(paths, failure)
        if isinstance(read, Rejected):
            where = f"{paths.ledger} {read.reasons[0].where}".strip()
            return _CheckedLedger(why=replace(read.reasons[0], code="ledger.damaged", where=where))
        return _CheckedLedger(read.ledger, signed, damaged=read.damaged)

    def _verify(
        self, issuer: IssuerUrl, body: bytes, signature: bytes | None, *, is_own: bool = False
    ) -> tuple[SignedFile | None, VerificationFailure | None]:
        """The file if its signature needs no renewal, and why it is not trusted if it is not."""
        keys, decided = self.trust.keys, self.trust.decided.get(issuer, _UNDECIDED)
        if keys is None:
            return None, None
        digits = len(self.base or "")
        ours = decided.ledger == blob_id(body, digits)
        if ours and decided.kid in keys.keys and decided.signature == blob_id(signature or b"", digits):
            return SignedFile(body, signature or b"", decided.kid), None  # made or verified before
        verdict = _NO_SIGNATURE if signature is None else keys.verify(body, signature, issuer)
        if isinstance(verdict, SignatureHeader):
            # A mirror signs an operator's ledger again, so that the operator's key can be removed at any time.
            by_mirror = verdict.role == "mirror"
            lasting = by_mirror or (isinstance(keys, LedgerTrust) and keys.role == "operator")
            return (SignedFile(body, signature or b"", verdict.kid if by_mirror else "") if lasting else None), None
        is_believed = self.trust.as_it_is or (is_own and (ours or self.trust.trusts_own_head))
        return None, None if is_believed else verdict

    def _require_unsigned(self, issuer: IssuerUrl, body: bytes | None, signature: bytes | None) -> None:
        """Stop in trusted mode if another mirror signs the ledger: this mirror would undo what the others decide."""
        if body is None or signature is None or self.trust.keys is not None or self.trust.as_it_is:
            return
        verdict = verify_ledger(body, signature, issuer=issuer, repository=self.trust.repository, keys={})
        if isinstance(verdict, VerificationFailure) and verdict.code == "unknown_signer":
            raise UsageError(
                f"repository.signed: the ledgers of this repository are signed (that of {issuer} by {verdict.kid}), "
                "and this mirror has no signing key. Nothing was done.",
                remedy="Set `repository.signing_key: FILE` here, list its public key in `repository.allowed_signers` "
                "of every mirror, and list theirs here.",
                code="repository.signed",
            )

    # -- where the newest file is not trusted -------------------------------------------------------------

    def _fall_back(self, issuer: IssuerUrl, issuer_history: IssuerHistory, newest: _CheckedLedger) -> IssuerHistory:
        """The other trusted ledgers, and the report about the untrusted file."""
        paths = issuer_history.paths
        stands = paths.ledger in issuer_history.files
        try:
            named = self.named_commits(issuer)
        except BucketError:
            named = ()  # the objects are read once more before anything is published
        if not stands and named is None and issuer_history.ledger is None:
            return issuer_history  # the issuer is unknown everywhere
        ledgers, events = self._named(issuer, paths, named or ())
        nearest, changed_by = self._nearest(issuer, paths)
        merged = _merged((issuer_history.ledger, *ledgers, *nearest))
        failures = (newest.why,) if newest.why is not None and newest.why.code != "ledger.unsigned" else ()
        if newest.why is not None and newest.why.code == "ledger.unsigned":
            events = (*events, _unsigned(newest.why, changed_by))
        elif newest.why is None and nearest:
            events = (*events, _rewritten(paths))
        is_lost = merged is None and (stands or (self.trust.is_signed and bool(named)))
        return replace(
            issuer_history,
            ledger=merged,
            events=issuer_history.events + events,
            failures=issuer_history.failures
            + failures
            + ((_lost(paths, self.trust, stands=stands),) if is_lost else ()),
            is_lost=is_lost,
            unknown_signer=newest.unknown_signer,
            foreign_since=self._changed_at(changed_by) if newest.unknown_signer else None,
        )

    def _changed_at(self, commit: CommitId | None) -> datetime | None:
        versions = () if commit is None else self.history.versions(None, most=1, at=commit)
        return versions[-1].when if versions else None

    def _named(
        self, issuer: IssuerUrl, paths: RepositoryPaths, named: tuple[str, ...]
    ) -> tuple[tuple[Ledger, ...], tuple[Event, ...]]:
        """The trusted ledgers in the commits that public objects of the issuer name."""
        ledgers, events = [], []
        for commit in dict.fromkeys(named):
            if not self.history.obtain(commit):
                events.append(_unknown_snapshot(issuer, commit))
                continue
            text = self.history.read(CommitId(commit), [paths.ledger, paths.signature])
            judged = self._check(issuer, paths, text)
            ledgers += [judged.ledger] if judged.ledger is not None else []
        return tuple(ledgers), tuple(events)

    def _nearest(self, issuer: IssuerUrl, paths: RepositoryPaths) -> tuple[tuple[Ledger, ...], CommitId | None]:
        """The nearest trusted ledgers along every parent, and the newest commit that changed the file."""
        if self.base is None:
            return (), None
        try:
            parents = self.history.path_history((paths.ledger, paths.signature), at=self.base)
        except HistoryError:
            return (), None  # it took too long: the other trusted ledgers decide
        wanted = set(parents).difference(*parents.values())  # the versions without a successor
        found: list[Ledger] = []
        believed = cache(partial(self._past_ledger, issuer))
        for commits in _batches(tuple(parents)):
            names = [f"{commit}:{path}" for commit in commits for path in (paths.ledger, paths.signature)]
            blobs = self.history.blobs(names)
            signatures = self.history.contents(blob for blob in blobs[1::2] if blob is not None)
            for commit, ledger_blob, signature_blob in zip(commits, blobs[::2], blobs[1::2], strict=True):
                if commit not in wanted:
                    continue
                ledger = believed(ledger_blob, signatures.get(signature_blob or ""))
                if ledger is None:
                    wanted |= set(parents[commit])
                else:
                    found.append(ledger)
        return tuple(found), next(iter(parents), None)

    def _past_ledger(self, issuer: IssuerUrl, blob: str | None, signature: bytes | None) -> Ledger | None:
        """An older file. Its signature is checked first, because a pushed file may have megabytes."""
        keys = self.trust.keys if self.trust.is_signed else None
        if blob is None or (keys is not None and not _may_be_ours(keys, issuer, signature)):
            return None
        body = self.history.contents([blob]).get(blob, b"")
        if self._verify(issuer, body, signature)[1] is not None:
            return None
        read = read_ledger(body, issuer=issuer, already_checked=ALL_THUMBPRINTS)
        return read.ledger if isinstance(read, LedgerRead) else None


def _batches(commits: tuple[CommitId, ...]) -> Iterator[tuple[CommitId, ...]]:
    """First the newest commit alone, because it mostly suffices; then many at once."""
    yield commits[:1]
    for begin in range(1, len(commits), _COMMITS_AT_ONCE):
        yield commits[begin : begin + _COMMITS_AT_ONCE]


def _own(paths: RepositoryPaths) -> tuple[str, ...]:
    return (paths.ledger, paths.signature, paths.discovery, paths.jwks)


def _merged(ledgers: Iterable[Ledger | None]) -> Ledger | None:
    known = [ledger for ledger in ledgers if ledger is not None]
    return reduce(merge, known) if known else None


def _may_be_ours(keys: LedgerVerifier, issuer: IssuerUrl, signature: bytes | None) -> bool:
    """Whether the signature's form and header are right, regardless of what it signs."""
    verdict = None if signature is None else keys.verify(b"", signature, issuer)
    return isinstance(verdict, VerificationFailure) and verdict.code == "false"


# --------------------------------------------------------------------------------------------------- reports


def _unbelieved(paths: RepositoryPaths, failure: VerificationFailure) -> _CheckedLedger:
    if failure.code == "unknown_signer":
        remedy = (
            f"If the key {failure.kid} is another mirror's or an operator's, add its public key (one line, TYPE BASE64)"
            " to the file `repository.allowed_signers`; else find out who pushed."
        )
        why = Reason("ledger.unknown_signer", failure.sentence, remedy, paths.ledger)
        return _CheckedLedger(why=why, unknown_signer=failure.kid)
    code = "ledger.damaged" if failure.code == "damaged" else "ledger.unsigned"
    return _CheckedLedger(why=Reason(code, failure.sentence, _REMEDY, paths.ledger))


def _damaged(reason: Reason) -> Reason:
    return replace(reason, code="ledger.damaged", sentence=f"A record of the ledger is left out: {reason.sentence}")


def _unsigned(why: Reason, commit: CommitId | None) -> Event:
    sentence = f"The ledger {why.where} does not count and is written again: {why.sentence}"
    if commit is not None:
        sentence += f" The newest commit that changed it is {commit} (its author is not proven)."
    return Event("ledger.unsigned", sentence, Level.ERROR, {"path": why.where, "commit": commit or ""})


def _rewritten(paths: RepositoryPaths) -> Event:
    sentence = f"{paths.ledger} on the branch is older than what this mirror knows; it is written again."
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
            f"No version of {paths.ledger} in git counts, so its revocations are unknown; nothing of this "
            "issuer is decided.",
            "Read the history, then: oidc-mirror adopt " + ("--branch" if stands else "NAME"),
        )
    sentence = (
        f"Nothing that git says in {paths.ledger} can be read, so its revocations are unknown; what apiservers show "
        "and what is public is taken over."
    )
    return Reason("ledger.broken", sentence, "Revoke again what was revoked: oidc-mirror revoke NAME KEY --reason TEXT")
