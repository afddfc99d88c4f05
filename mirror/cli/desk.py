"""Where an operator decides: the newest history of all mirrors, on this machine or in a temporary copy of the remote's.

No lock is taken: decisions move the branch by compare-and-swap, so a daemon may work beside us.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mirror.cli.compose import open_ports
from mirror.cli.options import Common
from mirror.cli.run import selected
from mirror.config.settings import Issuer, Settings
from mirror.errors import HistoryError
from mirror.history.creation import is_repository
from mirror.history.ledgers import Memory, remember
from mirror.history.operator import as_operator
from mirror.model import Ledger, Thumbprint, key_id
from mirror.ports import History, Ports
from mirror.steps.plan import Publication, publications
from mirror.trust.lifecycle import revoked_thumbprints


@dataclass(frozen=True, slots=True)
class Desk:
    """Where an operator decides: the newest history of all mirrors, as of `now` (aware, UTC, whole seconds).

    `issuers` are those that the command is about. `lasting` tells whether the repository outlives the command.
    """

    options: Common
    settings: Settings
    issuers: tuple[Issuer, ...]
    ports: Ports
    memory: Memory
    now: datetime
    lasting: bool

    @property
    def needs_witness(self) -> bool:
        """As `mirror.steps.plan.World.needs_witness`."""
        return self.settings.repository.remote is not None and self.settings.repository.allowed_signers is None

    def publications(self) -> tuple[Publication, ...]:
        """What is published for `issuers`: each, followed by its former ones."""
        return publications(replace(self.settings, issuers=self.issuers))

    def ledgers(self) -> tuple[tuple[Publication, Ledger], ...]:
        """The ledgers that there are of `publications`."""
        found = ((each, self.memory.issuers[each.url].ledger) for each in self.publications())
        return tuple((each, ledger) for each, ledger in found if ledger is not None)

    def every_key(self) -> Ledger:
        """The records of all `ledgers` as one, each key once."""
        found = {key_id(r.key): r for _, ledger in reversed(self.ledgers()) for r in ledger.records}
        return Ledger(self.issuers[0].issuer, tuple(found[identity] for identity in sorted(found)))

    def revoked(self, issuer: Issuer) -> frozenset[Thumbprint]:
        """What is revoked for `issuer`, under whichever of its texts, or by the configuration."""
        ledgers = (ledger for each, ledger in self.ledgers() if each.issuer is issuer)
        return issuer.keys.revoked.union(*map(revoked_thumbprints, ledgers))


@contextmanager
def open_desk(options: Common, names: tuple[str, ...]) -> Iterator[Desk]:
    """Fetch, and read what every mirror knows of the issuers `names` (none: of all).

    Raises:
        UsageError: The configuration has mistakes, or a name is unknown.
        HistoryError: The repository cannot be used, or a ledger in it is not believed.
        RemoteError: The remote cannot be fetched from.
    """
    configured = options.load()
    issuers = selected(configured, names).issuers
    with _placed(configured) as settings:
        # The decision is the operator's; what the pass afterwards commits is the mirror's own.
        own = replace(settings, repository=as_operator(settings.repository, os.environ))
        with open_ports(own, dry_run=False) as ports:
            memory = _newest(settings, ports.history)
            now = datetime.now(UTC).replace(microsecond=0)
            desk = Desk(options, settings, issuers, ports, memory, now, lasting=settings is configured)
            _demand_believed(desk)
            yield desk


@contextmanager
def _placed(settings: Settings) -> Iterator[Settings]:
    """The settings as they are; with a temporary place where the history is the remote's alone."""
    if settings.repository.remote is None or _is_usable(settings.repository.path):
        yield settings
    else:
        with tempfile.TemporaryDirectory(prefix="oidc-mirror-") as folder:
            place = Path(folder)
            repository = replace(settings.repository, path=place / "snapshots.git")
            yield replace(settings, state_dir=place, repository=repository)


def _is_usable(path: Path) -> bool:
    """Whether a repository of this user is there: what root writes into another's, that one cannot work with."""
    try:
        return is_repository(path) and os.access(path, os.W_OK) and path.stat().st_uid == os.geteuid()
    except OSError:
        return False  # its folder may not even be looked into


def _newest(settings: Settings, history: History) -> Memory:
    history.prepare()
    if settings.repository.remote is not None:
        history.fetch(shallow=history.heads().local is None)
    return remember(history, [each.url for each in publications(settings)])


def _demand_believed(desk: Desk) -> None:
    for each in desk.publications():
        known = desk.memory.issuers[each.url]
        if known.broken:
            raise HistoryError(
                f"The ledger of {each.url} in git is not believed; nothing was decided.",
                cause=known.broken[0].sentence,
                remedy=known.broken[0].remedy,
            )
