"""Read the lives of an issuer's keys from git: every version of its ledger, validated like any other."""

from mirror.addresses import repository_paths
from mirror.history.key_history import Entry, Lives, lives
from mirror.history.versions import MOST_VERSIONS
from mirror.model import IssuerUrl, Thumbprint
from mirror.ports import History
from mirror.trust.ledger import LedgerRead, read_ledger
from mirror.trust.ledger_signature import LedgerVerifier, SignatureHeader


def lives_of(
    history: History, issuer: IssuerUrl, *, most: int = MOST_VERSIONS, keys: LedgerVerifier | None = None
) -> Lives:
    """The lives of all keys that the newest `most` versions of the issuer's ledger tell of; none without a ledger.

    With `keys` a version counts when it is signed by one of them, or is older than the first one that is.

    Raises:
        HistoryError: The repository could not be read.
    """
    paths = repository_paths(issuer)
    known: frozenset[Thumbprint] = frozenset()
    entries, has_begun = [], False
    for version in history.versions(paths.ledger, most=most):
        text = history.read(version.commit, (paths.ledger, paths.signature))
        body, signature = text.get(paths.ledger), text.get(paths.signature, b"")
        # The strength of a key is checked once: it is the same key in every later version.
        read = None if body is None else read_ledger(body, issuer=issuer, known=known)
        if keys is not None and body is not None:
            is_signed = isinstance(keys.verify(body, signature, issuer), SignatureHeader)
            has_begun |= is_signed
            read = read if is_signed or not has_begun else None
        believed = read.ledger if isinstance(read, LedgerRead) else None
        known |= frozenset(record.key.thumbprint for record in believed.records) if believed else frozenset()
        entries.append(Entry(version, believed))
    return lives(entries)
