"""What git says of each issuer: its ledger, validated, and the text under `public/`, of whatever heads there are.

Where the local branch and the remote's differ, the ledgers of both are read and merged, even when one branch contains
the other: a commit can forget a revocation, a merge of ledgers cannot.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace

from mirror.addresses import RepositoryPaths, repository_paths
from mirror.model import CommitId, Heads, IssuerUrl, KeyId, Ledger, Reason, Thumbprint, key_id
from mirror.ports import History
from mirror.trust.ledger import read_ledger
from mirror.trust.merge import merge
from mirror.trust.refused import Refused


@dataclass(frozen=True, slots=True)
class Remembered:
    """One issuer in git. `files` are the bytes of its paths on the base of the next commit.

    `ledger` is that of all heads, merged; None when there is none yet, and when `broken` tells why it is not believed.
    `earlier` are all texts of its public files on any of the heads. `shared` are the keys that are public by the
    remote's head alone, where the local one says something else.
    """

    paths: RepositoryPaths
    ledger: Ledger | None = None
    broken: tuple[Reason, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    earlier: Mapping[str, frozenset[bytes]] = field(default_factory=dict)
    shared: frozenset[KeyId] | None = None

    def shared_keys(self) -> frozenset[KeyId]:
        """The keys that the remote knows as public, as far as it was heard."""
        if self.shared is not None:
            return self.shared
        return frozenset(map(key_id, self.ledger.public_keys())) if self.ledger is not None else frozenset()


@dataclass(frozen=True, slots=True)
class Memory:
    """The state of git that a pass begins with: `parents` of its next commit, `base` whose tree it changes."""

    heads: Heads
    base: CommitId | None
    parents: tuple[CommitId, ...]
    issuers: Mapping[IssuerUrl, Remembered]

    @property
    def is_shared(self) -> bool:
        """Whether the remote has everything that this machine committed, as far as it was heard."""
        return all(parent == self.heads.remote for parent in self.parents)


def public_path(url: str) -> str:
    """The file in git that holds what is public at `url`."""
    return f"public/{url.removeprefix('https://')}"


def remember(
    history: History,
    issuers: Iterable[IssuerUrl],
    *,
    checked: Callable[[IssuerUrl], Container[Thumbprint]] = lambda _: frozenset(),
    alone: bool = False,
) -> Memory:
    """Read the ledgers and public texts of `issuers` from every head.

    Args:
        history: The repository.
        issuers: Whose ledgers.
        checked: The keys of an issuer whose strength was checked in an earlier pass, and is not again.
        alone: As if the remote had never been fetched.

    Raises:
        HistoryError: The repository could not be read.
    """
    heads = history.heads()
    if alone:
        heads = replace(heads, remote=None)
    parents = _parents(history, heads)
    everywhere = tuple(dict.fromkeys(head for head in (heads.local, heads.remote) if head is not None))
    paths = {issuer: repository_paths(issuer) for issuer in issuers}
    wanted = [path for each in paths.values() for path in (each.ledger, each.discovery, each.jwks)]
    texts = {head: history.read(head, wanted) for head in everywhere}
    base = parents[-1] if parents else None
    known = {issuer: _remembered(issuer, each, texts, base, checked(issuer)) for issuer, each in paths.items()}
    if heads.remote is not None and len(everywhere) > 1:
        known = {url: _with_shared(url, each, texts, heads.remote, checked(url)) for url, each in known.items()}
    return Memory(heads, base, parents, known)


def _with_shared(
    issuer: IssuerUrl,
    remembered: Remembered,
    texts: Mapping[CommitId, Mapping[str, bytes]],
    remote: CommitId,
    known: Container[Thumbprint],
) -> Remembered:
    path = remembered.paths.ledger
    if len({text.get(path) for text in texts.values()}) == 1:
        return remembered
    ledger, _ = _merged(issuer, path, [texts[remote]], known)
    public = ledger.public_keys() if ledger is not None else ()
    return replace(remembered, shared=frozenset(map(key_id, public)))


def _parents(history: History, heads: Heads) -> tuple[CommitId, ...]:
    """The heads that the next commit must contain; the remote's last, because its tree is the base."""
    if heads.local is None or heads.remote is None or heads.local == heads.remote:
        return tuple(dict.fromkeys(head for head in (heads.local, heads.remote) if head is not None))
    if history.is_ancestor(heads.remote, heads.local):
        return (heads.local,)
    if history.is_ancestor(heads.local, heads.remote):
        return (heads.remote,)
    return (heads.local, heads.remote)


def _remembered(
    issuer: IssuerUrl,
    paths: RepositoryPaths,
    texts: Mapping[CommitId, Mapping[str, bytes]],
    base: CommitId | None,
    known: Container[Thumbprint],
) -> Remembered:
    own = (paths.ledger, paths.discovery, paths.jwks)
    files = {path: texts[base][path] for path in own if base is not None and path in texts[base]}
    earlier = {
        path: frozenset(text[path] for text in texts.values() if path in text) for path in (paths.discovery, paths.jwks)
    }
    ledger, broken = _merged(issuer, paths.ledger, texts.values(), known)
    return Remembered(paths, ledger, broken, files, earlier)


def _merged(
    issuer: IssuerUrl, path: str, texts: Iterable[Mapping[str, bytes]], known: Container[Thumbprint]
) -> tuple[Ledger | None, tuple[Reason, ...]]:
    merged: Ledger | None = None
    for body in dict.fromkeys(text[path] for text in texts if path in text):
        read = read_ledger(body, issuer=issuer, known=known)
        if isinstance(read, Refused):
            return None, read.reasons
        merged = read.ledger if merged is None else merge(merged, read.ledger)
    return merged, ()
