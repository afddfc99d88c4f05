"""What `approve`, `revoke` and `adopt` share: the question, the commit, and one pass afterwards."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

import click

from mirror.cli.compose import open_ports
from mirror.cli.desk import Desk
from mirror.cli.options import common_options
from mirror.cli.run import show
from mirror.errors import HistoryError, MirrorError, RemoteError, UsageError
from mirror.history.message import IssuerChanges, compose
from mirror.history.record import Intent, Recorded, record
from mirror.log import configure, escaped, log_report
from mirror.model import KeyRecord, Reason
from mirror.report import ExitStatus
from mirror.run import run_once
from mirror.steps.notebook import EMPTIED, PublicId, change, note_adopted, vouch
from mirror.steps.plan import Publication
from mirror.trust.lifecycle import Outcome
from mirror.trust.records import moment_text

F = TypeVar("F", bound=Callable[..., Any])


def decision_options(function: F) -> F:
    """The options of every operator decision, and the global ones."""
    for option in (
        click.option("--no-pass", is_flag=True, help="Only commit; the next pass of a mirror carries it out."),
        click.option("--yes", is_flag=True, help="Do not ask on a terminal."),
    ):
        function = option(function)
    return common_options(function)


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one publication. `vouches` are the keys that need no other witness from now on.

    `takes_over` are the public documents, somebody else's, that it replaces.
    """

    publication: Publication
    outcome: Outcome
    vouches: frozenset[PublicId] = field(default_factory=frozenset)
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


def commit(desk: Desk, decisions: Sequence[Decision]) -> None:
    """Commit on the newest history, whatever moved meanwhile, and push.

    Raises:
        HistoryError: It could not be committed.
        RemoteError: It could not be pushed.
    """
    shared = desk.settings.repository.remote is not None
    intents = {d.publication.url: Intent(d.outcome.ledger, d.publication.issuer.discovery_extra) for d in decisions}
    with _noted(desk, decisions):
        message = _message(decisions)
        recorded = record(desk.ports.history, desk.memory, intents, message=message, now=desk.now, push=shared)
        _demand_recorded(decisions, recorded)
    if recorded.push_error is not None:
        raise _not_pushed(desk, recorded.push_error)
    click.echo(_told(recorded, shared=shared))


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


def _demand_recorded(decisions: Sequence[Decision], recorded: Recorded) -> None:
    lost = [d.publication.url for d in decisions if d.publication.url not in recorded.ledgers]
    if lost:
        raise HistoryError(
            f"The decision about {', '.join(lost)} was not recorded, because its ledger became unreadable meanwhile.",
            cause=recorded.broken.get(lost[0], ""),
            remedy="See who pushed to the repository, restore the ledger, and decide again.",
        )


def _told(recorded: Recorded, *, shared: bool) -> str:
    where = " and pushed" if shared else ""
    return (
        f"Committed{where} as {recorded.commit}." if recorded.made else "Recorded already: there is nothing to change."
    )


@contextmanager
def _noted(desk: Desk, decisions: Sequence[Decision]) -> Iterator[None]:
    """Say beside git that it is an operator here who decides: what a branch says alone is not believed.

    Ahead of the commit: who is killed in between must not leave what the next pass takes for a stranger's. Where the
    commit fails nothing was decided, and a pusher must find no permission that nobody meant to give.
    """
    place, shared = desk.settings.state_dir, desk.settings.repository.remote is not None
    keys = {each.publication.url: each.vouches for each in decisions if each.vouches and shared}
    bodies = {each.publication.url: each.takes_over for each in decisions if each.takes_over}
    new = vouch(place, keys) if keys else {}
    if bodies:
        note_adopted(place, bodies)  # it says nothing about other bytes, and lasts no longer than these
    try:
        yield
    except MirrorError:
        if new:
            change(place, lambda notes: notes.without_vouched(new))
        raise


def tell_where_it_counts(desk: Desk, decisions: Sequence[Decision], *, no_pass: bool) -> None:
    """Say that a mirror elsewhere will not carry this out by itself: only git would tell it, and git is not enough."""
    if desk.lasting or not no_pass or not desk.needs_witness:
        return
    if any(EMPTIED in each.vouches or (each.vouches and not each.outcome.transitions) for each in decisions):
        click.echo(
            "A mirror does not believe this of git alone, and will ask for an operator (remote.unwitnessed): "
            "give the command there as the mirror's user, or here without --no-pass.",
            err=True,
        )


# ------------------------------------------------------------------------------------------------ the pass


def finish(ctx: click.Context, desk: Desk, *, no_pass: bool, so_far: ExitStatus = ExitStatus.CURRENT) -> NoReturn:
    """One pass for the desk's issuers unless `no_pass`, its report, and the end of the command.

    `so_far` is what the decision came to; the exit status is the worse of it and the pass's.
    """
    if no_pass:
        ctx.exit(so_far)
    chosen = {issuer.name for issuer in desk.issuers}
    settings = desk.settings.narrowed(lambda issuer: issuer.name in chosen)
    with open_ports(settings, dry_run=False) as ports:
        report = run_once(settings, ports, datetime.now(UTC))
    log_report(configure(desk.options.log_level, desk.options.log_format), report)
    show(report, "text")
    found = {so_far, report.exit_status}
    ctx.exit(next(status for status in _WORST_FIRST if status in found))


_WORST_FIRST = (ExitStatus.FAILED, ExitStatus.HELD, ExitStatus.CURRENT)
