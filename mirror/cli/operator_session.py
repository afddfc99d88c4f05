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

import click

from mirror.cli.options import Common
from mirror.cli.run import selected
from mirror.cli.wiring import open_ports
from mirror.config.settings import Issuer, Settings
from mirror.errors import HistoryError, UsageError
from mirror.history.ledger_keys import load_ledger_trust
from mirror.history.ledger_reader import HistoryState, Trust, load_history
from mirror.history.ledger_store import Committer
from mirror.history.repository import as_operator, is_repository
from mirror.log import escaped
from mirror.model import Ledger, Thumbprint, key_id
from mirror.ports import History, Ports
from mirror.reconcile import local_state
from mirror.reconcile.state import Publication, publications, trust_of
from mirror.trust.ledger_signature import LedgerTrust
from mirror.trust.lifecycle import revoked_thumbprints


@dataclass(frozen=True, slots=True)
class Desk:
    """Where an operator decides: the newest history of all mirrors, as of `now` (aware, UTC, whole seconds).

    `issuers` are those that the command is about; `trust` says by what ledgers are believed, and with which key they
    are signed. `lasting` tells whether the repository outlives the command.
    """

    options: Common
    settings: Settings
    issuers: tuple[Issuer, ...]
    ports: Ports
    memory: HistoryState
    trust: Trust
    now: datetime
    lasting: bool

    def committer(self) -> Committer:
        """How the decision is committed."""
        return Committer(
            self.ports.history,
            reread=lambda issuers: load_history(self.ports.history, issuers, self.trust),
            keys=self.trust.keys if isinstance(self.trust.keys, LedgerTrust) else None,
            others={each.url: each.issuer.discovery_extra for each in publications(self.settings)},
        )

    def newest(self) -> "Desk":
        """The desk as others have moved the branch meanwhile.

        Raises:
            HistoryError, RemoteError, UsageError: As `open_desk`.
        """
        return replace(self, memory=_newest(self.settings, self.ports.history, self.trust))

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
def open_desk(
    options: Common,
    names: tuple[str, ...],
    *,
    signing_key: Path | None = None,
    as_it_is: bool = False,
    adopts: bool = False,
) -> Iterator[Desk]:
    """Fetch, and read what every mirror knows of the issuers `names` (none: of all).

    Args:
        options: The global options.
        names: The issuers that the command is about.
        signing_key: The operator's own key, where the mirror's is out of his reach.
        as_it_is: Every ledger that can be read is believed, whoever signed it: the operator has read the history.
        adopts: An issuer of which nothing can be read at all, whoever signed it, is as one that has no ledger yet.

    Raises:
        UsageError: The configuration has mistakes, a name is unknown, or a key cannot be used.
        HistoryError: The repository cannot be used, or a ledger in it is not believed.
        RemoteError: The remote cannot be fetched from.
    """
    configured = options.load()
    issuers = selected(configured, names).issuers
    with _placed(configured) as settings:
        # The decision is the operator's; what the pass afterwards commits is the mirror's own.
        own = replace(settings, repository=as_operator(settings.repository, os.environ))
        keys = _keys(settings, signing_key)
        with open_ports(own, dry_run=False, ledger_trust=lambda: keys) as ports:
            ports.history.prepare()
            _fetch(settings, ports.history)
            local = local_state.load_local_state(configured.state_dir)
            trust = trust_of(settings, ports.history, local, keys)
            trust = replace(trust, is_first_signing=trust.is_first_signing or as_it_is)
            memory = load_history(ports.history, [each.url for each in publications(settings)], trust)
            now = datetime.now(UTC).replace(microsecond=0)
            desk = Desk(options, settings, issuers, ports, memory, trust, now, lasting=settings is configured)
            if not as_it_is:
                _demand_believed(desk, adopts=adopts)
                _tell_unbelieved(desk)
            yield desk


def _keys(settings: Settings, signing_key: Path | None) -> LedgerTrust | None:
    try:
        return load_ledger_trust(settings.repository, signing_key=signing_key, role="operator")
    except UsageError as error:
        if signing_key is not None or settings.repository.signing_key is None:
            raise
        remedy = (
            f"{error.remedy} Or sign with a key of your own that `repository.allowed_signers` lists: --signing-key FILE"
        )
        raise UsageError(error.sentence, cause=error.cause, remedy=remedy, problems=error.problems) from error


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


def _fetch(settings: Settings, history: History) -> None:
    if settings.repository.remote is not None:
        history.fetch(shallow=history.heads().local is None)


def _newest(settings: Settings, history: History, trust: Trust) -> HistoryState:
    _fetch(settings, history)
    return load_history(history, [each.url for each in publications(settings)], trust)


def _tell_unbelieved(desk: Desk) -> None:
    """Print what the ledgers of the issuers had wrong: the commit of the decision writes them anew."""
    for each in desk.publications():
        known = desk.memory.issuers[each.url]
        for event in known.events:
            click.echo(f"{event.level} [{event.name}]: {escaped(event.sentence)}", err=True)
        for reason in known.failures:
            click.echo(f"warning [{reason.code}]: {escaped(reason.sentence)}", err=True)


def _demand_believed(desk: Desk, *, adopts: bool) -> None:
    as_it_is = replace(desk.trust, is_first_signing=True)
    for each in desk.publications():
        known = desk.memory.issuers[each.url]
        if not known.is_lost or known.paths.ledger not in known.files:
            continue
        readable = load_history(desk.ports.history, [each.url], as_it_is).issuers[each.url].ledger is not None
        if readable or not adopts:
            raise HistoryError(
                f"The ledger of {each.url} in git is not believed; nothing was decided.",
                cause=known.failures[-1].sentence,
                remedy=known.failures[-1].remedy,
            )
