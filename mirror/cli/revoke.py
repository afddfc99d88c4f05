"""`oidc-mirror revoke`: a key leaves at once, and never comes back."""

from dataclasses import replace

import click

from mirror.cli.desk import Desk, open_desk
from mirror.cli.operate import Decision, ask, commit, decision_options, described, finish, refuse, tell_where_it_counts
from mirror.cli.options import KeyCommand, common
from mirror.errors import UsageError
from mirror.log import escaped
from mirror.model import Reason, Thumbprint
from mirror.report import ExitStatus
from mirror.steps.notebook import EMPTIED
from mirror.trust.decisions import find_material, revoke


@click.command("revoke", cls=KeyCommand)
@click.argument("name")
@click.argument("key", required=False)
@click.option("--all", "everything", is_flag=True, help="Every key that is known, public or not.")
@click.option("--reason", metavar="TEXT", required=True, help="Why; it stands in the history for ever.")
@click.option("--last", is_flag=True, help="Even if no public key is left: then the public set is empty.")
@decision_options
@click.pass_context
def command(
    ctx: click.Context,
    *,
    name: str,
    key: str | None,
    everything: bool,
    reason: str,
    last: bool,
    yes: bool,
    no_pass: bool,
) -> None:
    """Take KEY of the issuer NAME from the public set, for ever and under whatever kid.

    KEY is a kid or a thumbprint, or the first 8 or more characters of one. A kid that begins with - follows --.

    Exit status: 0 the decision stands and its pass found everything current; 1 it was not committed or not pushed, or
    the pass failed; 2 usage; 3 a change waits for an operator; 130 the question was answered with no.
    """
    if (key is None) is not everything:
        raise UsageError("It must be clear what is revoked.", remedy="Give one KEY, or `--all`.")
    with open_desk(common(ctx), (name,)) as desk:
        material = _material(desk, name, key)
        decisions, refusals = decide(desk, material, reason=reason, last=last)
        if any(each.code != "revocation.held" for each in refusals):
            refuse(refusals[0])
        for each in refusals:
            click.echo(f"held: {escaped(each.sentence)}\n  remedy: {escaped(each.remedy)}", err=True)
        if refusals and not any(each.outcome.transitions for each in decisions):
            ctx.exit(ExitStatus.HELD)
        ask(ctx, described(desk, lambda record: record.key.thumbprint in material), "Revoke for ever?", yes=yes)
        commit(desk, decisions)
        tell_where_it_counts(desk, decisions, no_pass=no_pass)
        click.echo("Relying parties may trust it until they fetch the set again: deny its tokens there meanwhile.")
        finish(ctx, desk, no_pass=no_pass, so_far=ExitStatus.HELD if refusals else ExitStatus.CURRENT)


def _material(desk: Desk, name: str, key: str | None) -> frozenset[Thumbprint]:
    """The key material that is meant; without `key` all that is known."""
    known = desk.every_key()
    if key is None:
        if not known.records:
            raise UsageError(f"No key of {name} is known yet.", remedy="Let a mirror make its first pass.")
        return frozenset(record.key.thumbprint for record in known.records)
    found = find_material(known, key)
    if isinstance(found, Reason):
        keep_out = "A key that is not known yet is kept out by its thumbprint in `keys.revoked` of the configuration."
        refuse(replace(found, remedy=f"{found.remedy} {keep_out}"))
    return frozenset({found})


def decide(
    desk: Desk, material: frozenset[Thumbprint], *, reason: str, last: bool
) -> tuple[list[Decision], list[Reason]]:
    """The revocation under each of the issuer's texts, and why there is none under others."""
    decisions, refusals = [], []
    for each, ledger in desk.ledgers():
        outcome = revoke(ledger, material, now=desk.now, reason=reason, last=last)
        if isinstance(outcome, Reason):
            refusals.append(outcome)
        else:
            empties = last and not outcome.ledger.public_keys()
            decisions.append(Decision(each, outcome, frozenset({EMPTIED}) if empties else frozenset()))
    return decisions, refusals
