"""Two branches become one: the ledgers of issuers that this pass did not decide are merged too, so that none is lost.

Mirrors that share a repository may serve different issuers (shards, teams), and an issuer may be set
aside. What only one side changed is taken from there; where both changed a ledger, the ledgers are merged, and the
owner's next pass renders the documents anew.
"""

from collections.abc import Container, Mapping

from mirror.history.ledgers import Memory
from mirror.model import IssuerUrl, Ledger
from mirror.ports import History
from mirror.trust.ledger import read_ledger, stated_issuer, write_ledger
from mirror.trust.merge import merge
from mirror.trust.refused import Refused


def merge_strangers(history: History, memory: Memory, decided: Container[IssuerUrl]) -> dict[str, bytes | None]:
    """Changes to the base (the remote's head) that bring in what only the local head has.

    Issuers that this pass `decided` are left alone: their ledgers are merged where they are committed.
    """
    local, remote = memory.parents
    each = (known.paths for issuer, known in memory.issuers.items() if issuer in decided)
    own = {path for paths in each for path in (paths.ledger, paths.discovery, paths.jwks)}
    paths = [path for path in history.changed_paths(local, remote) if path not in own]
    ours, theirs = history.read(local, paths), history.read(remote, paths)
    return {path: body for path in paths if (body := _merged_file(path, ours, theirs)) is not None}


def _merged_file(path: str, ours: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> bytes | None:
    """What the base must get at `path`; None where its own text stays."""
    if path not in ours:
        return None
    if path not in theirs:
        return ours[path]
    if not path.startswith("ledger/"):
        return None
    mine, other = _ledger(ours[path]), _ledger(theirs[path])
    if mine is None:
        return None
    if other is None or other.issuer != mine.issuer:
        return ours[path]
    return write_ledger(merge(mine, other))


def _ledger(body: bytes) -> Ledger | None:
    issuer = stated_issuer(body)
    ledger = read_ledger(body, issuer=issuer) if issuer is not None else None
    return None if ledger is None or isinstance(ledger, Refused) else ledger
