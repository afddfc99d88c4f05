"""What `approve`, `revoke` and `adopt` share: the newest history, the question, the commit, and one pass afterwards.

No lock is taken: decisions move the branch by compare-and-swap, so a daemon may run at the same time.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click

from mirror.cli.options import Common, selected
from mirror.cli.run import show
from mirror.cli.wiring import open_ports, refuse_foreign_root
from mirror.config.settings import Issuer, Settings
from mirror.errors import HistoryError, RemoteError, UsageError
from mirror.files import temporary_folder
from mirror.history.commit_message import IssuerChanges, compose
from mirror.history.ledger_reader import HistoryState, VerificationContext, load_history
from mirror.history.ledger_store import CommitResult, Committer, LedgerChange, commit_ledgers, load_ledger_trust
from mirror.history.repository import is_repository, with_operator_identity
from mirror.log import configure, escaped, log_report
from mirror.model import IssuerName, KeyRecord, Ledger, Reason, Thumbprint, key_id
from mirror.ports import History, Ports
from mirror.reconcile import local_state
from mirror.reconcile.controller import reconcile
from mirror.reconcile.local_state import record_adopted
from mirror.reconcile.state import PublishedIssuer, publications, trust_of
from mirror.report import ExitStatus, Report
from mirror.text import moment
from mirror.trust.ledger_signature import LedgerTrust
from mirror.trust.lifecycle import LedgerUpdate, revoked_thumbprints


@dataclass(frozen=True, slots=True)
class OperatorSession:
    """Where an operator decides: the newest history of all mirrors, as of `now` (aware, UTC, whole seconds).

    `issuers` are those of the command; `trust` says which ledgers count, and with which key they
    are signed. `persistent` says whether the repository outlives the command.
    """

    options: Common
    settings: Settings
    issuers: tuple[Issuer, ...]
    ports: Ports
    history: HistoryState
    trust: VerificationContext
    now: datetime
    persistent: bool

    def committer(self) -> Committer:
        """How the decision is committed."""
        return Committer(
            self.ports.history,
            reread=lambda issuers: load_history(self.ports.history, issuers, self.trust),
            keys=self.trust.keys if isinstance(self.trust.keys, LedgerTrust) else None,
            others={each.url: each.issuer.discovery_extra for each in publications(self.settings)},
        )

    def newest(self) -> "OperatorSession":
        """The session after others have moved the branch.

        Raises:
            HistoryError, RemoteError, UsageError: As `open_session`.
        """
        _fetch(self.settings, self.ports.history)
        everything = [each.url for each in publications(self.settings)]
        return replace(self, history=load_history(self.ports.history, everything, self.trust))

    def publications(self) -> tuple[PublishedIssuer, ...]:
        """What is published for `issuers`: each, followed by its former ones."""
        return publications(replace(self.settings, issuers=self.issuers))

    def ledgers(self) -> tuple[tuple[PublishedIssuer, Ledger], ...]:
        """The ledgers that there are of `publications`."""
        found = ((each, self.history.issuers[each.url].ledger) for each in self.publications())
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
def open_session(
    options: Common,
    names: tuple[str, ...],
    *,
    signing_key: Path | None = None,
    as_it_is: bool = False,
    adopts: bool = False,
) -> Iterator[OperatorSession]:
    """Fetch, and read what every mirror knows of the issuers `names` (none: of all).

    Args:
        options: The global options.
        names: The issuers that the command is about.
        signing_key: The operator's own key, where the mirror's is out of his reach.
        as_it_is: Every readable ledger counts, independent of its signer: the operator has read the history.
        adopts: An issuer whose ledger cannot be read at all is treated like one without a ledger.

    Raises:
        UsageError: The configuration has mistakes, a name is unknown, or a key cannot be used.
        HistoryError: The repository cannot be used, or a ledger in it does not count.
        RemoteError: The remote cannot be fetched from.
    """
    configured = options.load()
    issuers = selected(configured, names).issuers
    with _placed(configured) as settings:
        # The decision is the operator's; what the pass afterwards commits is the mirror's own.
        own = replace(settings, repository=with_operator_identity(settings.repository, os.environ))
        keys = _keys(settings, signing_key)
        with open_ports(own, dry_run=False, ledger_trust=lambda: keys) as ports:
            ports.history.prepare()
            _fetch(settings, ports.history)
            local = local_state.load_local_state(configured.state_dir)
            trust = trust_of(settings, ports.history, local, keys)
            if as_it_is:
                # Only with the own key, so that ledgers of another key are signed again before that key is removed.
                trust = replace(trust, keys=keys and keys.own(), as_it_is=True)
            history_state = load_history(ports.history, [each.url for each in publications(settings)], trust)
            now = datetime.now(UTC).replace(microsecond=0)
            session = OperatorSession(
                options, settings, issuers, ports, history_state, trust, now, persistent=settings is configured
            )
            if not as_it_is:
                _require_trusted_ledgers(session, adopts=adopts)
                _warn_of_untrusted_ledgers(session)
            yield session


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
        refuse_foreign_root(settings)
        yield settings
    else:
        with temporary_folder("oidc-mirror-", also=settings.state_dir) as folder:
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


def _warn_of_untrusted_ledgers(session: OperatorSession) -> None:
    """Print what was wrong with the ledgers of the issuers: the commit of the decision writes them again."""
    for each in session.publications():
        issuer_history = session.history.issuers[each.url]
        for event in issuer_history.events:
            click.echo(f"{event.level} [{event.name}]: {escaped(event.sentence)}", err=True)
        for reason in issuer_history.failures:
            click.echo(f"warning [{reason.code}]: {escaped(reason.sentence)}", err=True)


def _require_trusted_ledgers(session: OperatorSession, *, adopts: bool) -> None:
    as_it_is = replace(session.trust, as_it_is=True)
    for each in session.publications():
        issuer_history = session.history.issuers[each.url]
        if not issuer_history.is_lost or issuer_history.paths.ledger not in issuer_history.files:
            continue
        readable = load_history(session.ports.history, [each.url], as_it_is).issuers[each.url].ledger is not None
        if readable or not adopts:
            raise HistoryError(
                f"The ledger of {each.url} in git does not count; nothing was decided.",
                cause=issuer_history.failures[-1].sentence,
                remedy=issuer_history.failures[-1].remedy,
            )


@dataclass(frozen=True, slots=True)
class KeyDecision:
    """What becomes of one publication.

    `stands` says whether a ledger, merged with what others committed, still says what was decided. `replaces` are
    the public documents of another writer that it replaces.
    """

    publication: PublishedIssuer
    outcome: LedgerUpdate
    stands: Callable[[Ledger], bool] = lambda _: True
    replaces: frozenset[bytes] = field(default_factory=frozenset)
    former_jwks: str | None = None


# -------------------------------------------------------------------------------------------- the question


def reject(reason: Reason) -> NoReturn:
    """End with what the operator's words cannot mean."""
    raise UsageError(reason.sentence, remedy=reason.remedy)


def describe_keys(session: OperatorSession, keys: Callable[[KeyRecord], bool]) -> tuple[str, ...]:
    """What an operator must see before a decision: the chosen `keys` of the session, whole, nothing shortened."""
    chosen = ((each, record) for each, ledger in session.ledgers() for record in ledger.records if keys(record))
    return tuple(line for each, record in chosen for line in _described(each, record))


def _described(publication: PublishedIssuer, record: KeyRecord) -> tuple[str, ...]:
    because = f" ({record.held_because})" if record.held_because else ""
    return (
        f"issuer      {escaped(publication.url)} ({publication.issuer.name})",
        f"kid         {escaped(record.key.kid)}",
        f"thumbprint  {record.key.thumbprint}",
        f"alg         {record.key.alg or '-'}",
        f"first seen  {moment(record.first_seen)}",
        f"status      {record.status}{escaped(because)}",
        "",
    )


def ask(ctx: click.Context, lines: Iterable[str], question: str, *, yes: bool) -> None:
    """Print what the decision is about, and on a terminal ask; the answer no ends the command with 0."""
    for line in lines:
        click.echo(line)
    if yes or not sys.stdin.isatty() or click.confirm(question):
        return
    _end_unchanged(ctx)


def ask_for_name(ctx: click.Context, lines: Iterable[str], warning: str, name: IssuerName, *, yes: bool) -> None:
    """Print what the decision is about, and have `name` typed; anything else ends the command with 0."""
    for line in lines:
        click.echo(line)
    if yes:
        return
    click.echo(warning)
    typed: str = click.prompt("Type the issuer's name to go on", default="", show_default=False)
    if typed != name:
        _end_unchanged(ctx)


def _end_unchanged(ctx: click.Context) -> NoReturn:
    click.echo("Nothing was changed.")
    ctx.exit(ExitStatus.CURRENT)


# ---------------------------------------------------------------------------------------------- the commit


def commit(
    session: OperatorSession, decide: Callable[[OperatorSession], Sequence[KeyDecision]]
) -> Sequence[KeyDecision]:
    """Commit what `decide` gives, on the newest history, and push it.

    Where another commit came first and the decision does not stand after merging with it, it is made once more.

    Returns:
        The decisions that stand.

    Raises:
        HistoryError: It could not be committed, or others undid it again and again.
        RemoteError: It could not be pushed.
        UsageError: After the commits of others nothing is to be decided any more.
    """
    shared = session.settings.repository.remote is not None
    for _ in range(_MOST_DECISIONS):
        decisions = decide(session)
        changes = {
            d.publication.url: LedgerChange(d.outcome.ledger, d.publication.issuer.discovery_extra) for d in decisions
        }
        bodies = {each.publication.url: each.replaces for each in decisions if each.replaces}
        if bodies:
            former = {d.publication.url: {d.former_jwks: session.now} for d in decisions if d.former_jwks is not None}
            record_adopted(session.settings.state_dir, bodies, former_jwks=former)
        result = commit_ledgers(
            session.committer(), session.history, changes, message=_message(decisions), now=session.now, push=shared
        )
        _require_committed(decisions, result)
        if result.push_error is not None:
            raise _not_pushed(session, result.push_error)
        if all(each.stands(result.ledgers[each.publication.url]) for each in decisions):
            where = " and pushed" if shared else ""
            made = f"Committed{where} as {result.commit}."
            click.echo(made if result.made else "Recorded already: there is nothing to change.")
            return decisions
        session = session.newest()
    raise HistoryError(
        "Other mirrors or operators changed the same keys again and again; the decision does not stand.",
        remedy="See `oidc-mirror history`, and try again.",
    )


_MOST_DECISIONS = 3


def _message(decisions: Sequence[KeyDecision]) -> str:
    return compose(
        tuple(
            IssuerChanges(
                name=each.publication.issuer.name,
                issuer=each.publication.url,
                events=tuple((str(t.status), t.key, t.sentence) for t in each.outcome.transitions),
            )
            for each in decisions
        )
    )


def _not_pushed(session: OperatorSession, error: RemoteError) -> RemoteError:
    if session.persistent:
        sentence = "The decision is committed on this machine, and was not pushed; no pass was made."
        remedy = "The next pass here pushes it, or the same command once more."
    else:
        sentence, remedy = "The decision was not pushed, so nothing was decided.", "Try again."
    return RemoteError(sentence, cause=str(error), remedy=remedy)


def _require_committed(decisions: Sequence[KeyDecision], recorded: CommitResult) -> None:
    lost = [d.publication.url for d in decisions if d.publication.url not in recorded.ledgers]
    if lost:
        raise HistoryError(
            f"The decision about {', '.join(lost)} was not recorded, because its ledger could not be written.",
            cause=recorded.errors.get(lost[0], ""),
            remedy="See who pushed to the repository, restore the ledger, and decide again.",
        )


# ------------------------------------------------------------------------------------------------ the pass


def run_pass_and_exit(
    ctx: click.Context, session: OperatorSession, *, no_pass: bool, so_far: ExitStatus = ExitStatus.CURRENT
) -> NoReturn:
    """One pass for the session's issuers unless `no_pass`, its report, and the end of the command.

    `so_far` is what the decision came to; the exit status is the worse of it and the pass's.
    """
    if no_pass:
        ctx.exit(so_far)
    found = {so_far, one_pass(session).exit_status}
    ctx.exit(min(found, key=WORST_FIRST.index))


def one_pass(session: OperatorSession) -> Report:
    """One pass for the session's issuers, reported as `run --once` does."""
    chosen = {issuer.name for issuer in session.issuers}
    settings = session.settings.narrowed(lambda issuer: issuer.name in chosen)
    with open_ports(settings, dry_run=False, ledger_trust=session.ports.ledger_trust) as ports:  # type: ignore[arg-type]  # an operator's keys can sign
        report = reconcile(settings, ports, datetime.now(UTC))
    if session.options.logs_what_is_reported("text"):
        log_report(configure(session.options.log_level, session.options.log_format), report)
    show(report, "text")
    return report


WORST_FIRST = (ExitStatus.FAILED, ExitStatus.HELD, ExitStatus.CURRENT)
