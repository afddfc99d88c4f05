"""Two branches become one: the ledgers of issuers that this pass did not decide are merged too, so that none is lost.

Mirrors that share a repository may serve different issuers (shards, teams), and an issuer may be set aside. Whose
ledger wins, wins with its documents; where both changed it, the JWKS is rendered from the merged ledger, and the
owner's next pass renders the rest.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from mirror.addresses import repository_paths
from mirror.history.ledgers import Memory
from mirror.model import IssuerUrl, KeyId, Ledger, key_id
from mirror.ports import History
from mirror.trust.documents import render
from mirror.trust.ledger import read_ledger, stated_issuer, write_ledger
from mirror.trust.merge import merge
from mirror.trust.refused import Refused


@dataclass(frozen=True, slots=True)
class Joined:
    """A ledger that came about by merging; `gained` are its public keys that are not public by the remote's."""

    ledger: Ledger
    gained: frozenset[KeyId]


def joined(ledger: Ledger, shared: Iterable[KeyId]) -> Joined:
    """The merged ledger; `shared` are the keys that are public by the remote's own."""
    return Joined(ledger, frozenset(map(key_id, ledger.public_keys())).difference(shared))


@dataclass(frozen=True, slots=True)
class Merged:
    """Files of the next commit, and the ledgers among them that make keys public which the remote does not."""

    changes: dict[str, bytes | None] = field(default_factory=dict)
    joined: dict[IssuerUrl, Joined] = field(default_factory=dict)


def merge_strangers(history: History, memory: Memory, decided: Container[IssuerUrl]) -> Merged:
    """Changes to the base (the remote's head) that bring in what the local head has.

    Issuers that this pass `decided` are left alone: their ledgers are merged where they are committed.
    """
    local, remote = memory.parents
    own = {known.paths.ledger for issuer, known in memory.issuers.items() if issuer in decided}
    changed = history.changed_paths(local, remote)
    ledgers = [path for path in changed if path.startswith("ledger/") and path not in own]
    ours, theirs = history.read(local, ledgers), history.read(remote, ledgers)
    found = Merged()
    for path in ledgers:
        mine, other = _ledger(path, ours.get(path)), _ledger(path, theirs.get(path))
        merged = mine if mine is None or other is None else merge(mine, other)
        if mine is None or merged is None or merged == other:
            continue  # the remote's own text stays
        if merged == mine:
            paths = repository_paths(mine.issuer)
            public: Mapping[str, bytes] = history.read(local, [paths.discovery, paths.jwks])
            found.changes.update({path: ours[path], **public})
        else:
            found.changes.update(_rendered(path, merged))
        found.joined[merged.issuer] = joined(merged, map(key_id, other.public_keys() if other is not None else ()))
    return found


def _rendered(path: str, merged: Ledger) -> dict[str, bytes | None]:
    try:
        changes: dict[str, bytes | None] = {path: write_ledger(merged)}
    except ValueError:
        return {}  # together they break a rule of ledgers: both commits stay, and the owner is told by his own pass
    documents = render(merged)
    if documents is not None:
        changes[repository_paths(merged.issuer).jwks] = documents.jwks
    return changes


def _ledger(path: str, body: bytes | None) -> Ledger | None:
    """The ledger, if it is believed and stands where that of its issuer belongs."""
    issuer = stated_issuer(body) if body is not None else None
    if body is None or issuer is None or repository_paths(issuer).ledger != path:
        return None
    read = read_ledger(body, issuer=issuer)
    return None if isinstance(read, Refused) else read.ledger
