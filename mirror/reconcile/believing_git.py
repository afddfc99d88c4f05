"""By what ledgers are believed, for a pass and for commands that look: signatures, or trust in the remote."""

from collections.abc import Sequence
from dataclasses import replace

from mirror.addresses import repository_paths
from mirror.config.settings import Repository, Settings
from mirror.history.ledger_reader import Trust
from mirror.model import CommitId, Event, Level, RepositoryMode
from mirror.ports import History
from mirror.reconcile.local_state import LocalState
from mirror.reconcile.state import publications
from mirror.trust.ledger_signature import LedgerTrust, LedgerVerifier


def trust_of(
    settings: Settings,
    history: History,
    local: LocalState,
    keys: LedgerTrust | LedgerVerifier | None,
    *,
    before: CommitId | None = None,
) -> Trust:
    """How the ledgers of this repository are believed.

    Args:
        settings: The configuration.
        history: The repository, after a fetch.
        local: What this machine remembers.
        keys: Who is believed; None where the remote is trusted.
        before: The remote's head before the fetch.

    Raises:
        HistoryError: The repository could not be read.
    """
    known = local.issuers.items() if local.repository == settings.repository.name else ()
    decided = {url: state.decided for url, state in known if state.decided is not None}
    trust = Trust(keys, settings.repository.name, decided)
    if keys is None:
        return trust
    heads = (history.heads().local, history.heads().remote, before)
    is_first = _is_first_signing(settings, history, local, [head for head in dict.fromkeys(heads) if head is not None])
    return replace(trust, is_first_signing=is_first, trusts_own_head=local.is_former)


def mode_of(settings: Repository, keys: LedgerTrust | LedgerVerifier | None) -> RepositoryMode:
    """How git is believed, in a word."""
    if keys is not None:
        return "signed"
    return "local" if settings.remote is None else "trusted"


def unsigned_remote(settings: Settings) -> Event:
    """What it means that the remote is trusted."""
    branch, remote = settings.repository.branch, settings.repository.remote
    sentence = (
        f"Whoever can push to {branch} of {remote}, its administrators included, can publish a key, so be any pod of "
        f"{len(settings.issuers)} issuers, and can take a revocation back; set `repository.signing_key`, or protect "
        "the branch."
    )
    return Event("repository.unsigned", sentence, Level.WARNING)


def _is_first_signing(settings: Settings, history: History, local: LocalState, heads: Sequence[CommitId]) -> bool:
    """Whether this machine trusted this repository until now, and nobody is known to have signed anything in it."""
    trusted = history.knows(local.trusted_head) if local.trusted_head else local.is_former and bool(heads)
    if not trusted:
        return False
    everything = publications(replace(settings, issuers=(*settings.issuers, *settings.left_out)))
    signatures = [repository_paths(each.url).signature for each in everything]
    return not any(history.read(head, signatures) for head in heads)
