"""What `approve`, `revoke` and `adopt` share: the question, the commit, and one pass afterwards."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from mirror.cli.operator_session import Desk
from mirror.cli.options import common_options
from mirror.cli.run import show
from mirror.cli.wiring import open_ports
from mirror.errors import HistoryError, RemoteError, UsageError
from mirror.history.commit_message import IssuerChanges, compose
from mirror.history.ledger_store import CommitResult, LedgerChange, commit_ledgers
from mirror.log import configure, escaped, log_report
from mirror.model import KeyRecord, Ledger, Reason
from mirror.reconcile.controller import run_once
from mirror.reconcile.local_state import record_adopted
from mirror.reconcile.state import Publication
from mirror.report import ExitStatus, Report
from mirror.trust.ledger import moment_text
from mirror.trust.lifecycle import Outcome

F = TypeVar("F", bound=Callable[..., Any])


def decision_options(function: F) -> F:
    """The options of every operator decision, and the global ones."""
    for option in (
        click.option("--no-pass", is_flag=True, help="Only commit; the next pass of a mirror carries it out."),
        click.option("--yes", is_flag=True, help="Do not ask on a terminal."),
        click.option(
            "--signing-key",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Sign the ledger with this ssh key; `repository.allowed_signers` must list its public half.",
        ),
    ):
        function = option(function)
    return common_options(function)


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one publication.

    `stands` tells whether a ledger, merged with what others committed, still says what was decided. `takes_over` are
    the public documents, somebody else's, that it replaces.
    """

    publication: Publication
    outcome: Outcome
    stands: Callable[[Ledger], bool] = lambda _: True
    takes_over: frozenset[bytes] = field(default_factory=frozenset)


# -------------------------------------------------------------------------------------------- the question


def refuse(reason: Reason) -> NoReturn:
    """End with what the operator's words cannot mean."""
    raise UsageError(reason.sentence, remedy=reason.remedy)


def described(desk: Desk, keys: Callable[[KeyRecord], bool]) -> tuple[str, ...]:
    """What an operator must see before a decision: the chosen `keys` of the desk, whole, nothing shortened."""
    chosen = ((each, record) for each, ledger in desk.ledgers() for record in ledger.records if keys(record))
    return tuple(line for each, record in chosen for line in _described(each, record))


def _described(publication: Publication, record: KeyRecord) -> tuple[str, ...]:
    because = f" ({record.held_because})" if record.held_because else ""
    return (
        f"issuer      {escaped(publication.url)} ({publication.issuer.name})",
        f"kid         {escaped(record.key.kid)}",
        f"thumbprint  {record.key.thumbprint}",
        f"alg         {record.key.alg or '-'}",
        f"first seen  {moment_text(record.first_seen)}",
        f"status      {record.status}{escaped(because)}",
        "",
    )


def ask(ctx: click.Context, told: Iterable[str], question: str, *, yes: bool) -> None:
    """Tell what the decision is about, and on a terminal ask; a refusal ends the command with 130."""
    for line in told:
        click.echo(line)
    if yes or not sys.stdin.isatty() or click.confirm(question):
        return
    click.echo("Nothing was done.")
    ctx.exit(ExitStatus.INTERRUPTED)


# ---------------------------------------------------------------------------------------------- the commit


def commit(desk: Desk, decide: Callable[[Desk], Sequence[Decision]]) -> Sequence[Decision]:
    """Commit what `decide` gives, on the newest history, and push it.

    Where another commit came first and the decision does not stand after merging with it, it is made once more.

    Returns:
        The decisions that stand.

    Raises:
        HistoryError: It could not be committed, or others undid it again and again.
        RemoteError: It could not be pushed.
        UsageError: After the commits of others nothing is to be decided any more.
    """
    shared = desk.settings.repository.remote is not None
    for _ in range(_MOST_DECISIONS):
        decisions = decide(desk)
        changes = {
            d.publication.url: LedgerChange(d.outcome.ledger, d.publication.issuer.discovery_extra) for d in decisions
        }
        bodies = {each.publication.url: each.takes_over for each in decisions if each.takes_over}
        if bodies:
            record_adopted(desk.settings.state_dir, bodies)
        result = commit_ledgers(
            desk.committer(), desk.memory, changes, message=_message(decisions), now=desk.now, push=shared
        )
        _demand_recorded(decisions, result)
        if result.push_error is not None:
            raise _not_pushed(desk, result.push_error)
        if all(each.stands(result.ledgers[each.publication.url]) for each in decisions):
            click.echo(_told(result, shared=shared))
            return decisions
        desk = desk.newest()
    raise HistoryError(
        "Other mirrors or operators changed the same keys again and again; the decision does not stand.",
        remedy="See `oidc-mirror history`, and try again.",
    )


_MOST_DECISIONS = 3


def _message(decisions: Sequence[Decision]) -> str:
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


def _not_pushed(desk: Desk, error: RemoteError) -> RemoteError:
    if desk.lasting:
        sentence = "The decision is committed on this machine, and was not pushed; no pass was made."
        remedy = "The next pass here pushes it, or the same command once more."
    else:
        sentence, remedy = "The decision was not pushed, so nothing was decided.", "Try again."
    return RemoteError(sentence, cause=str(error), remedy=remedy)


def _demand_recorded(decisions: Sequence[Decision], recorded: CommitResult) -> None:
    lost = [d.publication.url for d in decisions if d.publication.url not in recorded.ledgers]
    if lost:
        raise HistoryError(
            f"The decision about {', '.join(lost)} was not recorded, because its ledger could not be written.",
            cause=recorded.errors.get(lost[0], ""),
            remedy="See who pushed to the repository, restore the ledger, and decide again.",
        )


def _told(recorded: CommitResult, *, shared: bool) -> str:
    where = " and pushed" if shared else ""
    return (
        f"Committed{where} as {recorded.commit}." if recorded.made else "Recorded already: there is nothing to change."
    )


# ------------------------------------------------------------------------------------------------ the pass


def finish(ctx: click.Context, desk: Desk, *, no_pass: bool, so_far: ExitStatus = ExitStatus.CURRENT) -> NoReturn:
    """One pass for the desk's issuers unless `no_pass`, its report, and the end of the command.

    `so_far` is what the decision came to; the exit status is the worse of it and the pass's.
    """
    if no_pass:
        ctx.exit(so_far)
    found = {so_far, one_pass(desk).exit_status}
    ctx.exit(next(status for status in _WORST_FIRST if status in found))


def one_pass(desk: Desk) -> Report:
    """One pass for the desk's issuers, reported as `run --once` does."""
    chosen = {issuer.name for issuer in desk.issuers}
    settings = desk.settings.narrowed(lambda issuer: issuer.name in chosen)
    with open_ports(settings, dry_run=False, ledger_trust=desk.ports.ledger_trust) as ports:  # type: ignore[arg-type]  # an operator's keys can sign
        report = run_once(settings, ports, datetime.now(UTC))
    log_report(configure(desk.options.log_level, desk.options.log_format), report)
    show(report, "text")
    return report


_WORST_FIRST = (ExitStatus.FAILED, ExitStatus.HELD, ExitStatus.CURRENT)
