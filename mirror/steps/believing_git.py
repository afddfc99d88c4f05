"""By what ledgers are believed, for a pass and for commands that look: signatures, or trust in the remote."""

from dataclasses import replace

from mirror.config.settings import Repository, Settings
from mirror.history.ledger_reader import Trust
from mirror.model import Event, Level, RepositoryMode
from mirror.ports import History
from mirror.steps.local_state import LocalState
from mirror.trust.ledger_signature import LedgerTrust, LedgerVerifier


def trust_of(
    settings: Repository, history: History, local: LocalState, keys: LedgerTrust | LedgerVerifier | None
) -> Trust:
    """How the ledgers of this repository are believed.

    Raises:
        HistoryError: The repository could not be read.
    """
    trust = Trust(keys, settings.name)
    if keys is None:
        return trust
    known = local.issuers.items() if local.repository == settings.name else ()
    decided = {url: state.decided for url, state in known if state.decided is not None}
    is_first = _is_first_signing(history, local)
    return replace(trust, decided=decided, is_first_signing=is_first, trusts_own_head=local.is_former)


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


def _is_first_signing(history: History, local: LocalState) -> bool:
    """Whether this machine trusted this repository until now, and nobody has signed anything in it yet."""
    heads = [head for head in dict.fromkeys((history.heads().local, history.heads().remote)) if head is not None]
    trusted = history.knows(local.trusted_head) if local.trusted_head else local.is_former and bool(heads)
    if not trusted:
        return False
    return not any(path.endswith(".jws") for head in heads for path in history.list_paths(head, "ledger"))
