"""`oidc-mirror revoke`: a key leaves at once, and never comes back."""

from dataclasses import replace
from pathlib import Path

import click

from mirror.addresses import jwks_uri, object_keys
from mirror.cli.operate import Decision, ask, commit, decision_options, described, one_pass, refuse
from mirror.cli.operator_session import Desk, open_desk
from mirror.cli.options import KeyCommand, common
from mirror.errors import BucketError, UsageError
from mirror.log import escaped
from mirror.model import KeyPolicy, Ledger, Reason, Thumbprint
from mirror.ports import Seen
from mirror.reconcile.state import Publication
from mirror.report import ExitStatus, Report
from mirror.trust.ledger import EVERYTHING as ALL_THUMBPRINTS
from mirror.trust.operator_actions import find_material, read_public, revoke


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
    signing_key: Path | None,
) -> None:
    """Take KEY of the issuer NAME from the public set, for ever and under whatever kid.

    KEY is a kid or a thumbprint, or the first 8 or more characters of one. A kid that begins with - follows --.

    Exit status: 0 the key is not public any more (with --no-pass: the revocation is committed and pushed); 1 it was not
    committed or not pushed, or the key is still public; 2 usage; 3 it is held because nothing else is public, or a
    cache still shows the key; 130 the question was answered with no.
    """
    if (key is None) is not everything:
        raise UsageError("It must be clear what is revoked.", remedy="Give one KEY, or `--all`.")
    with open_desk(common(ctx), (name,), signing_key=signing_key) as desk:
        material = _material(desk, name, key)
        decisions, held = decide(desk, material, reason=reason, last=last)
        for each in held:
            click.echo(f"held: {escaped(each.sentence)}\n  remedy: {escaped(each.remedy)}", err=True)
        if held and not any(each.outcome.transitions for each in decisions):
            ctx.exit(ExitStatus.HELD)
        ask(ctx, described(desk, lambda record: record.key.thumbprint in material), "Revoke for ever?", yes=yes)
        decisions = list(commit(desk, lambda newest: decide(newest, material, reason=reason, last=last)[0]))
        status = ExitStatus.HELD if held else ExitStatus.CURRENT
        if no_pass:
            if any(_is_public(ledger, material) for _, ledger in desk.ledgers()):
                click.echo("The key is still public: the next pass of a mirror takes it away.")
            ctx.exit(status)
        report = one_pass(desk)
        found = {status, *(_public_state(desk, each.publication, material, report) for each in decisions)}
        click.echo("Relying parties may trust it until they fetch the set again: deny its tokens there meanwhile.")
        ctx.exit(next(each for each in (ExitStatus.FAILED, ExitStatus.HELD, ExitStatus.CURRENT) if each in found))


def _public_state(desk: Desk, publication: Publication, material: frozenset[Thumbprint], report: Report) -> ExitStatus:
    """What became of the key in public: gone, still shown by a cache or kept as the last one (held), or failed."""
    publish, url = publication.issuer.publish, jwks_uri(publication.url)
    _, jwks_key = object_keys(publication.url, publish.base_url, publish.prefix)
    try:
        stored = desk.ports.bucket(publish).get(jwks_key)
    except BucketError as error:
        click.echo(f"Whether {escaped(url)} still has the key is not known: {escaped(str(error))}", err=True)
        return ExitStatus.FAILED
    if stored is not None and _has_any(stored.body, material):
        click.echo(f"The key is still public in {escaped(url)}; the report above says why.", err=True)
        return ExitStatus.HELD if report.exit_status is ExitStatus.HELD else ExitStatus.FAILED
    if not publish.readback.enabled:
        return ExitStatus.CURRENT
    look = desk.ports.view.look(url, readback=publish.readback)
    if isinstance(look, Seen) and _has_any(look.body, material):
        click.echo(f"The key is gone from the bucket, and a cache still shows it in {escaped(url)}.", err=True)
        return ExitStatus.HELD
    return ExitStatus.CURRENT


def _has_any(jwks: bytes, material: frozenset[Thumbprint]) -> bool:
    keys, _ = read_public(jwks, KeyPolicy(kid="opaque"), known=ALL_THUMBPRINTS)
    return any(thumbprint in material for _, thumbprint in keys)


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
    """The revocation under each of the issuer's texts, and why it is held under others.

    Raises:
        UsageError: The reason is no text that the ledger can keep.
    """
    decisions, held = [], []
    for each, ledger in desk.ledgers():
        outcome = revoke(ledger, material, now=desk.now, reason=reason, last=last)
        if not isinstance(outcome, Reason):
            decisions.append(Decision(each, outcome, lambda merged: not _is_public(merged, material)))
        elif outcome.code == "revocation.held":
            held.append(outcome)
        else:
            refuse(outcome)
    return decisions, held


def _is_public(ledger: Ledger, material: frozenset[Thumbprint]) -> bool:
    return any(key.thumbprint in material for key in ledger.public_keys())
