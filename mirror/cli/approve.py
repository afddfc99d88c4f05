"""`oidc-mirror approve`: a held key becomes public."""

import click

from mirror.cli.desk import Desk, open_desk
from mirror.cli.operate import Decision, ask, commit, decision_options, described, finish, refuse, tell_where_it_counts
from mirror.cli.options import KeyCommand, common
from mirror.model import KeyId, Reason, key_id
from mirror.steps.notebook import public_id
from mirror.trust.decisions import approve, find_key


@click.command("approve", cls=KeyCommand)
@click.argument("name")
@click.argument("key")
@decision_options
@click.pass_context
def command(ctx: click.Context, *, name: str, key: str, yes: bool, no_pass: bool) -> None:
    """Publish the held KEY of the issuer NAME; another public key of the same kid begins to retire.

    A key that only git names (`remote.unwitnessed`) becomes public by it too: vouch for it on the mirror's own machine,
    or from anywhere that may write to the bucket.

    KEY is a kid or a thumbprint, or the first 8 or more characters of one. A kid that begins with - follows --.

    Exit status: 0 the decision stands and its pass found everything current; 1 it was not committed or not pushed, or
    the pass failed; 2 usage; 3 a change waits for an operator; 130 the question was answered with no.
    """
    with open_desk(common(ctx), (name,)) as desk:
        named = find_key(desk.every_key(), key)
        if isinstance(named, Reason):
            refuse(named)
        identity = key_id(named.key)
        decisions, refusals = decide(desk, identity)
        if not decisions:
            refuse(refusals[0])
        told = described(desk, lambda record: key_id(record.key) == identity)
        ask(ctx, told, "Publish this key?", yes=yes)
        commit(desk, decisions)
        tell_where_it_counts(desk, decisions, no_pass=no_pass)
        finish(ctx, desk, no_pass=no_pass)


def decide(desk: Desk, identity: KeyId) -> tuple[list[Decision], list[Reason]]:
    """The decision under each of the issuer's texts that has the key, and why there is none under others."""
    decisions, refusals = [], []
    for each, ledger in desk.ledgers():
        if all(key_id(record.key) != identity for record in ledger.records):
            continue
        outcome = approve(ledger, identity, desk.now, revoked=desk.revoked(each.issuer))
        if isinstance(outcome, Reason):
            refusals.append(outcome)
        else:
            vouches = frozenset(public_id(r.key) for r in outcome.ledger.records if key_id(r.key) == identity)
            decisions.append(Decision(each, outcome, vouches))
    return decisions, refusals
