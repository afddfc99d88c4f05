"""`oidc-mirror approve`: a held key becomes public."""

from pathlib import Path

import click

from mirror.cli.operate import Decision, ask, commit, decision_options, described, finish, refuse
from mirror.cli.operator_session import Desk, open_desk
from mirror.cli.options import KeyCommand, common
from mirror.model import KeyId, Ledger, Reason, key_id
from mirror.trust.operator_actions import approve, find_key


@click.command("approve", cls=KeyCommand)
@click.argument("name")
@click.argument("key")
@decision_options
@click.pass_context
def command(ctx: click.Context, *, name: str, key: str, yes: bool, no_pass: bool, signing_key: Path | None) -> None:
    """Publish the held KEY of the issuer NAME; another public key of the same kid begins to retire.

    KEY is a kid or a thumbprint, or the first 8 or more characters of one. A kid that begins with - follows --.

    Exit status: 0 the key is public by the ledger, and the pass found everything current; 1 the decision was not
    committed or not pushed, or the pass failed; 2 usage; 3 a change waits for an operator; 130 the question was
    answered with no.
    """
    with open_desk(common(ctx), (name,), signing_key=signing_key) as desk:
        named = find_key(desk.every_key(), key)
        if isinstance(named, Reason):
            refuse(named)
        identity = key_id(named.key)
        decide(desk, identity)
        told = described(desk, lambda record: key_id(record.key) == identity)
        ask(ctx, told, "Publish this key?", yes=yes)
        commit(desk, lambda newest: decide(newest, identity))
        finish(ctx, desk, no_pass=no_pass)


def decide(desk: Desk, identity: KeyId) -> list[Decision]:
    """The decision under each of the issuer's texts that has the key.

    Raises:
        UsageError: It cannot be approved under any of them.
    """
    decisions, refusals = [], []
    for each, ledger in desk.ledgers():
        if all(key_id(record.key) != identity for record in ledger.records):
            continue
        outcome = approve(ledger, identity, desk.now, revoked=desk.revoked(each.issuer))
        if isinstance(outcome, Reason):
            refusals.append(outcome)
        else:
            decisions.append(Decision(each, outcome, lambda merged: _is_public(merged, identity)))
    if not decisions:
        refuse(refusals[0])
    return decisions


def _is_public(ledger: Ledger, identity: KeyId) -> bool:
    return any(key_id(key) == identity for key in ledger.public_keys())
