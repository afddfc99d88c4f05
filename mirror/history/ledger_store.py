"""Write the decisions of a pass as one commit: merge the current heads, compare-and-swap the branch, push.

The loop is level-triggered. A branch that moved meanwhile, here or on the remote, is read and merged again. So no
decision is lost and none is undone. A kill between any two steps leaves either the old branch or the new one.

The keys that ledgers are signed and verified with are read from the files that `repository` names.
"""

import hashlib
import os
import shlex
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from random import uniform
from time import sleep

from mirror.config.settings import RepositorySettings
from mirror.errors import BranchMovedError, HistoryError, PushRefusedError, RemoteError, UsageError
from mirror.history.git_command import SHA1_DIGITS, blob_id
from mirror.history.ledger_reader import DecidedLedger, HistoryState, IssuerHistory, SignedFile
from mirror.model import CommitId, IssuerUrl, Ledger, Reason
from mirror.ports import History
from mirror.redaction import describe
from mirror.trust.discovery import LedgerCache
from mirror.trust.ledger import write_ledger
from mirror.trust.ledger_signature import (
    LedgerTrust,
    LedgerVerifier,
    PrivateKey,
    PublicKey,
    Role,
    read_allowed_signers,
    read_private_key,
)
from mirror.trust.merge import merge

ATTEMPTS = 5
_LONGEST_PAUSE_SECONDS = 0.2
"""The longest pause after a lost race. The pauses keep two mirrors from colliding in the same rhythm again."""


@dataclass(frozen=True, slots=True)
class LedgerChange:
    """The desired ledger of one issuer; `extra` are the members of its discovery document besides the five."""

    ledger: Ledger
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Committer:
    """How commits are made.

    `reread` reads the given issuers again. `keys` sign ledgers, where git is signed. `others` are all issuers of the
    configuration, with the extra members of their discovery documents. A merge of two branches also merges the ledgers
    of the `others` that this pass does not change, so that none is lost. With `always` every commit merges them; this
    is used when a repository is signed for the first time. `ledger_cache` is what earlier passes computed.
    """

    history: History
    reread: Callable[[Iterable[IssuerUrl]], HistoryState]
    keys: LedgerTrust | None = None
    others: Mapping[IssuerUrl, Mapping[str, object]] = field(default_factory=dict)
    always: bool = False
    ledger_cache: LedgerCache = field(default_factory=LedgerCache)


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The newest snapshot: another mirror's changes are merged into `ledgers`.

    If an issuer's ledger could not be written, the issuer is missing there and `errors` has the reason. `decided` are
    the files on the branch. `commit` is None only when nothing was ever committed. `made`: this call made a commit.
    `pushed`: the remote has it now. `push_error`: why the remote does not have it.
    """

    commit: CommitId | None
    made: bool
    ledgers: Mapping[IssuerUrl, Ledger]
    errors: Mapping[IssuerUrl, str] = field(default_factory=dict)
    decided: Mapping[IssuerUrl, DecidedLedger] = field(default_factory=dict)
    pushed: bool = False
    push_error: RemoteError | None = None


@dataclass(frozen=True, slots=True)
class _PendingCommit:
    """The content of the next commit: files, their ledgers, which files those are, and the changed issuers."""

    changes: dict[str, bytes | None]
    ledgers: Mapping[IssuerUrl, Ledger]
    errors: Mapping[IssuerUrl, str]
    decided: Mapping[IssuerUrl, SignedFile]
    changed: frozenset[IssuerUrl] = frozenset()


def is_pending(committer: Committer, state: HistoryState, changes: Mapping[IssuerUrl, LedgerChange]) -> bool:
    """Whether `commit_ledgers` would make a commit, if the branch stays where `state` saw it."""
    return bool(_pending(committer, state, changes).changes)


def pending_issuers(
    committer: Committer, state: HistoryState, changes: Mapping[IssuerUrl, LedgerChange]
) -> frozenset[IssuerUrl]:
    """The issuers whose files `commit_ledgers` would change."""
    return _pending(committer, state, changes).changed


def commit_ledgers(
    committer: Committer,
    state: HistoryState,
    changes: Mapping[IssuerUrl, LedgerChange],
    *,
    message: str,
    now: datetime,
    push: bool,
    attempts: int = ATTEMPTS,
) -> CommitResult:
    """Commit `changes`, merged with the current content of the branch; push the commit when `push`.

    An unreachable remote, or one that others push to again and again, raises nothing but sets `push_error`. The commit
    is made, and the next pass pushes it.

    Raises:
        HistoryError: The commit could not be made, or the local branch moved `attempts` times meanwhile.
        UsageError: The remote turned out to be signed, and this mirror has no signing key.
    """
    done: CommitResult | None = None
    for attempt in range(attempts):
        if attempt > 1:
            sleep(uniform(0, _LONGEST_PAUSE_SECONDS))  # noqa: S311  no secret
        try:
            made = done is not None and done.made
            done = _commit(committer, state, changes, message=message, now=now)
            done = replace(done, made=done.made or made)
        except BranchMovedError:
            # An operator's command runs in parallel: read its commit, and put ours on top.
            state = committer.reread(state.issuers)
            continue
        if done.commit is None or done.commit == state.heads.remote:
            return replace(done, pushed=done.commit is not None)
        if not push:
            return done
        done = _push(committer.history, done)
        if not isinstance(done.push_error, PushRefusedError):
            return done
        state = committer.reread(state.issuers)
    if done is None:
        raise HistoryError(
            f"The branch moved {attempts} times while this pass wanted to commit; nothing is lost.",
            remedy="The next pass tries again; let mirrors and operators that share a repository take turns.",
        )
    return done


def _push(history: History, done: CommitResult) -> CommitResult:
    """Push. After a rejected push, fetch, so that the next attempt merges what the remote has."""
    try:
        history.push()
    except PushRefusedError as refused:
        try:
            history.fetch(shallow=False)
        except RemoteError as error:
            return replace(done, push_error=error)
        return replace(done, push_error=refused)
    except RemoteError as error:
        return replace(done, push_error=error)
    return replace(done, pushed=True, push_error=None)


def _commit(
    committer: Committer,
    state: HistoryState,
    changes: Mapping[IssuerUrl, LedgerChange],
    *,
    message: str,
    now: datetime,
) -> CommitResult:
    history, local = committer.history, state.heads.local
    pending = _pending(committer, state, changes)
    files = pending.changes
    commit = state.parents[-1] if state.parents else None
    if files:
        standing = {} if state.base is None else history.read(state.base, [README])
        if state.base is None or README in standing:
            files = {**readme_files(standing.get(README)), **files}
        commit = history.commit(
            base=state.base, parents=state.parents, changes=files, message=message, when=now, expect=local
        )
    elif commit is not None and commit != local:
        history.fast_forward(commit, expect=local)
    digits = len(commit or "")
    decided = {
        url: DecidedLedger(blob_id(file.ledger, digits), blob_id(file.signature, digits) if file.kid else "", file.kid)
        for url, file in pending.decided.items()
    }
    return CommitResult(commit, bool(files), pending.ledgers, pending.errors, decided)


def _pending(committer: Committer, state: HistoryState, changes: Mapping[IssuerUrl, LedgerChange]) -> _PendingCommit:
    """Merge and render each issuer. An issuer with an invalid ledger is skipped and does not block the others."""
    files: dict[str, bytes | None] = {}
    ledgers: dict[IssuerUrl, Ledger] = {}
    errors: dict[IssuerUrl, str] = {}
    decided: dict[IssuerUrl, SignedFile] = {}
    pending: set[IssuerUrl] = set()
    for issuer, change in changes.items():
        issuer_history = state.issuers[issuer]
        standing = issuer_history.ledger
        merged = change.ledger if standing in (None, change.ledger) else merge(change.ledger, standing)
        try:
            ledger_file = _ledger_file(committer, issuer_history, merged)
        except ValueError as error:
            errors[issuer] = str(error)
            continue
        ledgers[issuer] = merged
        if ledger_file is not None:
            decided[issuer] = ledger_file
            changed = _changed_files(committer, issuer_history, merged, ledger_file, change.extra)
            files |= changed
            pending |= {issuer} if changed else set()
    if len(state.parents) > 1 or committer.always:
        files |= _merged_others(committer, changes)
    return _PendingCommit(files, ledgers, errors, decided, frozenset(pending))


def _merged_others(committer: Committer, changes: Mapping[IssuerUrl, LedgerChange]) -> dict[str, bytes | None]:
    """Files of issuers that this pass does not change, where the known ledger differs from the base."""
    state = committer.reread([issuer for issuer in committer.others if issuer not in changes])
    files: dict[str, bytes | None] = {}
    for issuer, issuer_history in state.issuers.items():
        if issuer_history.ledger is None:
            continue
        try:
            ledger_file = _ledger_file(committer, issuer_history, issuer_history.ledger)
        except ValueError:
            continue  # the ledger breaks one of its own rules: the pass of this issuer reports it
        if ledger_file is not None:
            extra = committer.others[issuer]
            files |= _changed_files(committer, issuer_history, issuer_history.ledger, ledger_file, extra)
    return files


def _changed_files(
    committer: Committer,
    issuer_history: IssuerHistory,
    ledger: Ledger,
    ledger_file: SignedFile,
    extra: Mapping[str, object],
) -> dict[str, bytes]:
    """The files of one issuer that differ from those on the base."""
    files = {issuer_history.paths.ledger: ledger_file.ledger}
    if ledger_file.signature:
        files[issuer_history.paths.signature] = ledger_file.signature
    documents = committer.ledger_cache.render(ledger, extra)
    if documents is not None:
        files[issuer_history.paths.discovery] = documents.discovery
        files[issuer_history.paths.jwks] = documents.jwks
    return {path: body for path, body in files.items() if issuer_history.files.get(path) != body}


def _ledger_file(committer: Committer, issuer_history: IssuerHistory, ledger: Ledger) -> SignedFile | None:
    """The ledger as a file, signed where git is; None without any record.

    An existing signature is reused, because some algorithms give a different signature each time.

    Raises:
        ValueError: The ledger breaks one of its own rules.
    """
    if not ledger.records:
        return None
    # The bytes on the base already passed the ledger's rules. Equal bytes are not checked again.
    keys, text = committer.keys, committer.ledger_cache.text(ledger)
    if issuer_history.files.get(issuer_history.paths.ledger) != text:
        text = write_ledger(ledger)
    if keys is None:
        return SignedFile(text)
    standing = [each for each in issuer_history.signed if each.ledger == text]
    if standing:
        return min(standing, key=lambda each: blob_id(each.signature, SHA1_DIGITS))
    by_mirror = keys.signing_key.kid if keys.role == "mirror" else ""
    return SignedFile(text, keys.sign(text, ledger.issuer), by_mirror)


README = "README.md"

_README = """\
# OIDC discovery snapshots

`oidc-mirror` writes this repository. It contains the public documents of the ServiceAccount issuers of private
Kubernetes clusters, and the history of every key. Clouds (AWS, GCP, Entra) verify tokens with these documents. The
repository contains public keys only. With `repository.signing_key`, the mirrors accept signed ledgers only. Without it,
**anyone who can push here decides which keys are trusted**: protect the branch.

| path | what it is |
| --- | --- |
| `ledger/<host>/<path>/keys.json` | the record of every key that was seen, with its status and dates |
| `ledger/<host>/<path>/keys.json.jws` | the signature of the ledger, if ledgers are signed |
| `public/<host>/<path>/.well-known/openid-configuration` | rendered from the ledger; the exact bytes of the bucket |
| `public/<host>/<path>/openid/v1/jwks` | rendered from the ledger; the exact bytes of the bucket |

## Read it

    oidc-mirror history                    # the history of every key
    git log --stat                         # one commit for each change; the message describes the change
    git log --format='%H %(trailers)'      # the same for machines

The trailers are `Issuer: <url>` and, for each changed key, `Key-Published:`, `Key-Retiring:`, `Key-Dropped:`,
`Key-Held:` or `Key-Revoked:` with kid and RFC 7638 thumbprint. A kid with other characters than
`A-Z a-z 0-9 . _ ~ + / = -` is written as a JSON string.

## Verify a ledger by hand

`keys.json.jws` is one line, `HEADER..SIGNATURE`: a detached JWS (RFC 7515, appendix F) over the exact bytes of
`keys.json`. The header names the key by its ssh fingerprint (`kid`), the issuer, the repository's name and the role.

    cut -d. -f1 keys.json.jws | tr '_-' '/+' | base64 -d 2>/dev/null    # the header
    ssh-keygen -l -f mirror.pub                                         # the fingerprint of the right key

To verify the signature, put the base64url text of `keys.json` between the two dots and give the line to any JWS
library together with the public key. `oidc-mirror check` does it for every ledger.

The mirrors trust the ledger files only, not commits, authors, dates, tags or signatures of commits.

## Change it

Do not edit files here: use `oidc-mirror approve`, `revoke` and `adopt`. The next pass rewrites a file under `public/`
that differs from its ledger, and a ledger that the mirrors do not accept. Never force-push: the mirrors push their
commits again.

## Restore it

- A mirror lost its disk: do nothing. Its next pass fetches this repository.
- This repository is lost: create an empty repository at the same URL. Each mirror that kept its state directory has a
  copy of all commits, and its next pass pushes them.
- The bucket is lost: create it again. The next pass writes every object from the accepted ledgers. Do not copy
  `public/` by hand, because those files are not signed.
"""


_EARLIER = frozenset(
    {
        "10f0c8f4ece9b5c2c07d62cf7976ac2c684277f7daf04134f61c9ddfcadb5371",
        "45da084fe97703705605dbd2b20909442450b363abc1e2bcd343de1b70dd12db",
    }
)
"""SHA-256 of the texts that earlier versions wrote. Any other text was written by a person and stays."""


def readme_files(current: bytes | None) -> dict[str, bytes]:
    """The README if the next commit must write it.

    Args:
        current: The file on the branch; None where there is none.
    """
    is_earlier = current is not None and hashlib.sha256(current).hexdigest() in _EARLIER
    return {README: _README.encode()} if current is None or is_earlier else {}


MAX_KEY_BYTES = 64 * 1024
MAX_SIGNERS_BYTES = 1024 * 1024

_CORRECT_KEY = "Correct `repository.signing_key` (or $OIDC_MIRROR_SIGNING_KEY), or make a key: "
_MOUNTED = ("/run/credentials/", "/run/secrets/", "/var/run/secrets/")
"""The folders in which systemd and Kubernetes mount secrets; they are read-only."""
_PUT_KEY = (
    "Make a key, and put it where the unit's LoadCredential= or the pod's Secret takes it from: "
    "ssh-keygen -t ed25519 -N '' -f signing_key"
)
_NEW_KEY = "ssh-keygen -t ed25519 -N '' -f FILE"


def load_ledger_trust(
    repository: RepositorySettings, *, signing_key: Path | None = None, role: Role = "mirror"
) -> LedgerTrust | None:
    """Read the trusted signers and the signing key; None in trusted mode, where no signing key is configured.

    Args:
        repository: The settings.
        signing_key: The file of another signing key, for an operator's command. With the role `operator`,
            `allowed_signers` must list its public half. The mirror's own key always gets the role `mirror`.
        role: Who signs.

    Raises:
        UsageError: A file is missing, unreadable or empty, is no key, or has a line that is no key; or the mirrors do
            not trust the key; or `allowed_signers` is set without a signing key.
    """
    path = signing_key or repository.signing_key
    if path is None:
        if repository.allowed_signers is None:
            return None
        raise UsageError(
            "`repository.allowed_signers` is set and `repository.signing_key` is not: nothing could be signed.",
            remedy="Make a key, and set `repository.signing_key` to its file: "
            + _NEW_KEY.replace("FILE", "signing_key"),
        )
    key = _signing_key(path)
    listed = _allowed_signers(repository)
    if role == "operator":
        own = readable_signing_key(repository)
        if own is not None:
            listed = {own.kid: own.public(), **listed}
            role = "mirror" if own.kid == key.kid else role
        if key.kid not in listed:
            signers = shlex.quote(str(repository.allowed_signers or "allowed_signers"))
            listing = "" if repository.allowed_signers else f", and set `repository.allowed_signers` to {signers}"
            raise UsageError(
                f"The mirrors would reject signatures of the key {path}: "
                "`repository.allowed_signers` does not list it.",
                cause=key.kid,
                remedy="If it is the mirrors' own key, name it in `repository.signing_key` instead. Else add it"
                f" everywhere{listing}: echo '{key.line}' >> {signers}",
            )
    return LedgerTrust(repository.name, {key.kid: key.public(), **listed}, key, role)


def load_verification_keys(repository: RepositorySettings) -> LedgerVerifier | None:
    """Read the trusted signers, for read-only commands; None in trusted mode, where neither file is configured.

    If `allowed_signers` is set, a signing key that this user cannot read is skipped: operators read the history on
    machines without a private key.

    Raises:
        UsageError: As `load_ledger_trust`.
    """
    path = repository.signing_key
    if path is None and repository.allowed_signers is None:
        return None
    listed = _allowed_signers(repository)
    own = readable_signing_key(repository) if listed or path is None else _signing_key(path)
    return LedgerVerifier(repository.name, listed if own is None else {own.kid: own.public(), **listed})


def readable_signing_key(repository: RepositorySettings) -> PrivateKey | None:
    """Read the mirror's own key; None if this user cannot read its file, or if none is configured.

    Raises:
        UsageError: The file can be read and is no key.
    """
    path = repository.signing_key
    return _signing_key(path) if path is not None and os.access(path, os.R_OK) else None


def signing_key_warning(repository: RepositorySettings) -> Reason | None:
    """Report that every user of this machine can read the signing key; None if not, or if it cannot be checked."""
    path = repository.signing_key
    try:
        if path is None or not path.stat().st_mode & stat.S_IROTH:
            return None
    except OSError:
        return None
    sentence = f"Every user of this machine can read the signing key {path}, and sign ledgers with it."
    return Reason("signing_key.not_private", sentence, f"Run `chmod o= {shlex.quote(str(path))}`.")


def _signing_key(path: Path) -> PrivateKey:
    is_mounted = str(path).startswith(_MOUNTED)
    remedy = _PUT_KEY if is_mounted else f"{_CORRECT_KEY}{_NEW_KEY}"
    key = read_private_key(_read(path, "signing key", MAX_KEY_BYTES, remedy=_with_path(remedy, path)))
    if isinstance(key, Reason):
        remedy = _PUT_KEY if is_mounted else key.remedy
        raise UsageError(key.sentence, cause=str(path), remedy=_with_path(remedy, path))
    return key


def _with_path(remedy: str, path: Path) -> str:
    """The remedy with the path in place of FILE, as one word of a shell."""
    return remedy.replace("FILE", shlex.quote(str(path)))


def _allowed_signers(repository: RepositorySettings) -> Mapping[str, PublicKey]:
    path = repository.allowed_signers
    if path is None:
        return {}
    remedy = "Correct `repository.allowed_signers`, or remove it where one key signs everything."
    body = _read(path, "file of allowed signers", MAX_SIGNERS_BYTES, remedy=remedy)
    found = read_allowed_signers(body)
    problems = tuple(
        f"{path}:{each.where.removeprefix('line ')}: {each.sentence} {each.remedy}"
        for each in found
        if isinstance(each, Reason)
    )
    if problems:
        raise UsageError("The allowed signers have mistakes.", problems=problems)
    return {each.kid: each for each in found if isinstance(each, PublicKey)}


def _read(path: Path, what: str, max_bytes: int, *, remedy: str) -> bytes:
    """The bytes of a regular file; the path may be a link to it.

    Raises:
        UsageError: It cannot be read, is no regular file, or is larger.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"The {what} {path} cannot be read.", cause="not a regular file", remedy=remedy)
        with path.open("rb") as file:
            body = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else None
        raise UsageError(f"The {what} {path} cannot be read.", cause=cause or describe(error), remedy=remedy) from error
    if len(body) > max_bytes:
        raise UsageError(f"The {what} {path} cannot be read.", cause=f"more than {max_bytes} bytes", remedy=remedy)
    return body
