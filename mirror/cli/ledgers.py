"""What the repository on this machine says of keys, for commands that do without it when there is none."""

import os
from collections.abc import Mapping, Sequence

from mirror.config.settings import Settings
from mirror.model import IssuerUrl, Ledger


def known_ledgers(settings: Settings, issuers: Sequence[IssuerUrl]) -> Mapping[IssuerUrl, Ledger | None]:
    """The ledgers of `issuers`; None where there is none, or where it is not believed.

    Raises:
        HistoryError: There is a repository, and it cannot be read.
    """
    from mirror.history.ledger_keys import load_verification_keys  # noqa: PLC0415  `--help` does without
    from mirror.history.ledger_reader import load_history  # noqa: PLC0415  `--help` does without
    from mirror.history.repository import Repository, is_repository, scratch  # noqa: PLC0415  `--help` does without
    from mirror.reconcile import local_state  # noqa: PLC0415  `--help` does without
    from mirror.reconcile.state import trust_of  # noqa: PLC0415  `--help` does without

    if not is_repository(settings.repository.path):
        return dict.fromkeys(issuers)
    keys, local = load_verification_keys(settings.repository), local_state.load_local_state(settings.state_dir)
    with scratch(settings.repository, os.environ) as copy, Repository(copy, os.environ) as repository:
        trust = trust_of(settings, repository, local, keys)
        return {url: known.ledger for url, known in load_history(repository, issuers, trust).issuers.items()}
