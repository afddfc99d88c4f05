"""`oidc-mirror status`: what is public, what waits for an operator, and what leaves when."""

import json
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime

import click

from mirror.cli.options import common, selected
from mirror.cli.text import COLOURS
from mirror.cli.wiring import open_ports
from mirror.log import escaped
from mirror.model import PUBLIC_STATUSES, Reason, Status
from mirror.reconcile.last_pass import LastPass
from mirror.status.collect import collect_status
from mirror.status.result import IssuerStatus, ObjectState, PublicKeyStatus, StatusReport, to_json
from mirror.text import counted, moment


def main(ctx: click.Context, *, name: str | None, output: str) -> None:
    """See `mirror.cli.commands.status`."""
    settings = common(ctx).load()
    names = frozenset(issuer.name for issuer in selected(settings, () if name is None else (name,)).issuers)
    with open_ports(settings, dry_run=True) as ports:
        found = collect_status(settings, ports, datetime.now(UTC), names=names)
    if output == "json":
        click.echo(json.dumps(to_json(found), indent=2))
    else:
        click.echo("\n".join(lines(found)))
    ctx.exit(int(found.exit_status))


def lines(report: StatusReport) -> Iterator[str]:
    """The standing in words, line by line; everything from outside is escaped."""
    for reason in report.failures:
        yield from _reason("failed", reason, "red", "")
    for issuer in report.issuers:
        yield from _issuer(issuer, report.now)
    for event in report.events:
        yield f"{event.level} [{event.name}]: {escaped(event.sentence)}"
    yield from _orphaned(report)
    yield from _git(report)
    yield from _last_pass(report.last_pass)


def _issuer(issuer: IssuerStatus, now: datetime) -> Iterator[str]:
    word, colour = str(issuer.state), COLOURS[issuer.state]
    former = "  (former issuer)" if issuer.is_former else ""
    state = click.style(word, fg=colour, bold=True) + (" (rotating)" if issuer.rotating else "")
    yield f"{click.style(issuer.name, bold=True)}: {state}  {escaped(issuer.issuer)}{former}"
    if not issuer.keys and not issuer.failures:
        yield "  no keys yet"
    for key in issuer.keys:
        yield from _key(key, now)
    for each in issuer.objects:
        yield f"  {_OBJECTS[each.state].format(escaped(each.url))}"
    for event in issuer.events:
        yield f"  {event.level} [{event.name}]: {escaped(event.sentence)}"
    for reason in issuer.failures:
        yield from _reason("failed", reason, "red", "  ")
    for reason in issuer.held:
        yield from _reason("held", reason, "yellow", "  ")


_OBJECTS = {
    ObjectState.CURRENT: "current in the bucket: {}",
    ObjectState.MISSING: "missing in the bucket, the next pass puts it: {}",
    ObjectState.OUTDATED: "an earlier state in the bucket, the next pass puts the newest: {}",
    ObjectState.DRIFT: "drift, somebody else wrote it, the next pass repairs it: {}",
    ObjectState.UNKNOWN: "unknown, the bucket could not be read: {}",
}
_COLOURS = {"published": "green", "retiring": "yellow", "held": "magenta", "revoked": "red", "dropped": None}


def _key(key: PublicKeyStatus, now: datetime) -> Iterator[str]:
    record = key.record
    status = click.style(str(record.status), fg=_COLOURS[record.status], bold=True)
    yield f"  key {escaped(record.key.kid)}  {record.key.alg or '-'}  {status}"
    yield f"      thumbprint {record.key.thumbprint}, first seen {moment(record.first_seen)}"
    if key.leaves_at is not None and record.missing_since is not None:
        due = "leaves at" if key.leaves_at > now else "may leave since"
        yield f"      on no apiserver since {moment(record.missing_since)}, {due} {moment(key.leaves_at)}"
    if record.status in PUBLIC_STATUSES:
        yield f"      {_safety(key, now)}"
    if record.revocation is not None:
        yield f"      revoked {moment(record.revocation.at)}: {escaped(record.revocation.reason)}"


def _safety(key: PublicKeyStatus, now: datetime) -> str:
    if key.in_public_jwks is None:
        return "safe to sign: unknown, because the public JWKS was not looked at or is not usable"
    if not key.in_public_jwks:
        return "not safe to sign: the public JWKS does not contain it"
    if key.safe_to_sign_at is None:
        return "safe to sign: unknown, because the public JWKS has no Last-Modified"
    if key.record.status is Status.RETIRING:
        return "public, and signed with by nobody"
    word = "since" if key.safe_to_sign_at <= now else "from"
    return f"safe to sign {word} {moment(key.safe_to_sign_at)}"


def _reason(word: str, reason: Reason, colour: str, indent: str) -> Iterator[str]:
    where = f" [{reason.where}]" if reason.where else ""
    yield f"{indent}{click.style(word, fg=colour)} {reason.code}{escaped(where)}: {escaped(reason.sentence)}"
    if reason.remedy:
        yield f"{indent}  remedy: {escaped(reason.remedy)}"


def _orphaned(report: StatusReport) -> Iterator[str]:
    if not report.orphaned:
        return
    yield click.style("Abandoned: public, and of no configured issuer. The mirror deletes nothing; you may:", bold=True)
    for each in report.orphaned:
        if each.needed_until is not None and each.needed_until > report.now:
            yield f"  not before {moment(each.needed_until)}, until then relying parties may read it:"
        if each.command:
            yield f"  {escaped(each.s3_url)}"
            yield f"    {shlex.join(each.command)}"
        else:
            yield f"  {escaped(each.url)} (in no bucket of the configuration)"


def _last_pass(last: LastPass | None) -> Iterator[str]:
    if last is None:
        yield "How the last pass ended is not known: there is no last-pass.json in this machine's state_dir."
        return
    for past in last.events:
        name = f"{past.name}: " if past.name else ""
        yield f"{moment(past.at)} {past.event.name}  {escaped(name + past.event.sentence)}"
    for reason in last.failures:
        yield from _reason("failed", reason, "red", "")
    yield f"Last pass {moment(last.at)}: exit status {int(last.exit_status)}."


def _git(report: StatusReport) -> Iterator[str]:
    last = report.last_commit
    if last is None:
        yield "No commit yet."
    else:
        yield f"Last commit {last.commit} of {moment(last.when)}: {escaped(last.subject)}"
    if report.unpushed_commits:
        yield f"{counted(report.unpushed_commits, 'commit')} not pushed yet."
    yield f"Repository mode: {report.mode}."
