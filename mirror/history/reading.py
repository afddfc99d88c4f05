"""Read the lives of an issuer's keys from git: every version of its ledger, validated like any other."""

from mirror.addresses import repository_paths
from mirror.history.lives import Entry, Lives, lives
from mirror.history.versions import MOST_VERSIONS
from mirror.model import IssuerUrl, Thumbprint
from mirror.ports import History
from mirror.trust.ledger import LedgerRead, read_ledger


def lives_of(history: History, issuer: IssuerUrl, *, most: int = MOST_VERSIONS) -> Lives:
    """The lives of all keys that the newest `most` versions of the issuer's ledger tell of; none without a ledger.

    Raises:
        HistoryError: The repository could not be read.
    """
    path = repository_paths(issuer).ledger
    known: frozenset[Thumbprint] = frozenset()
    entries = []
    for version in history.versions(path, most=most):
        body = history.read(version.commit, (path,)).get(path)
        # The strength of a key is checked once: it is the same key in every later version.
        read = None if body is None else read_ledger(body, issuer=issuer, known=known)
        believed = read.ledger if isinstance(read, LedgerRead) else None
        known |= frozenset(record.key.thumbprint for record in believed.records) if believed else frozenset()
        entries.append(Entry(version, believed))
    return lives(entries)
