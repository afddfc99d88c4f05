"""`oidc-mirror status`: what is public, what waits for an operator, and what leaves when.

`oidc-mirror wait`: return when a key is safe to sign with.
"""

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from mirror.addresses import jwks_uri
from mirror.cli.options import common, selected
from mirror.cli.text import COLOURS, KEY_COLOURS, reason_lines
from mirror.cli.wiring import known_ledgers, open_ports
from mirror.errors import UsageError
from mirror.log import escaped
from mirror.model import PUBLIC_STATUSES, Status
from mirror.publish.public_endpoint import PublicHttpClient
from mirror.reconcile.local_state import LastPass, load_local_state
from mirror.report import ExitStatus
from mirror.status.collect import collect_status
from mirror.status.result import (
    IssuerStatus,
    ObjectState,
    ObjectStatus,
    PublicKeyStatus,
    StatusReport,
    count_keys,
    count_states,
    next_step,
    to_json,
    worst_first,
)
from mirror.status.wait import AwaitedKey, Clock, KeyWaiter
from mirror.text import counted, distance, moment, moment_and_distance

if TYPE_CHECKING:
    from rich.text import Text


WATCH_SECONDS = 5.0


def main(ctx: click.Context, *, name: str | None, output: str, verbose: bool, watch: bool) -> None:
    """See `mirror.cli.commands.status`."""
    if watch:
        _demand_terminal(output)
    settings = common(ctx).load()
    names = frozenset(issuer.name for issuer in selected(settings, () if name is None else (name,)).issuers)

    def collect() -> StatusReport:
        with open_ports(settings, dry_run=True) as ports:
            return collect_status(settings, ports, datetime.now(UTC), names=names)

    draw = lines if verbose or name is not None else overview
    if watch:
        ctx.exit(int(_watch(collect, draw)))
    found = collect()
    if output == "json":
        click.echo(json.dumps(to_json(found), indent=2))
    else:
        click.echo("\n".join(_fitted(draw(found)) if draw is overview else draw(found)))
    ctx.exit(int(found.exit_status))


_CANNOT_DRAW = ("dumb", "unknown")
"""Terminals on which rich draws nothing."""


def _demand_terminal(output: str) -> None:
    if output != "text":
        raise UsageError(
            "`--watch` draws text on a terminal; it does not go with `--output json`.",
            remedy="Call `oidc-mirror status --output json` as often as you need it.",
        )
    if not sys.stdout.isatty() or os.environ.get("TERM") in _CANNOT_DRAW:
        raise UsageError(
            "`--watch` needs a terminal that can draw, and the output is none.",
            remedy="Run `oidc-mirror status` without --watch; for machines, `oidc-mirror status --output json`, or "
            "`/status.json` of the daemon.",
        )


def _watch(collect: Callable[[], StatusReport], draw: Callable[[StatusReport], Iterator[str]]) -> ExitStatus:
    """Draw until Ctrl-C, on a screen of its own; then the last drawing stays on the terminal."""
    from rich.console import Console  # noqa: PLC0415  only on a terminal
    from rich.live import Live  # noqa: PLC0415  only on a terminal

    console, status = Console(), ExitStatus.INTERRUPTED
    drawn: tuple[str, ...] = ()
    with suppress(KeyboardInterrupt), Live(console=console, screen=True, auto_refresh=False) as screen:
        while True:
            found = collect()
            drawn, status = tuple(_fitted(draw(found))), found.exit_status
            screen.update(on_screen(drawn, found.now, console.size.height), refresh=True)
            time.sleep(WATCH_SECONDS)
    click.echo("\n".join(drawn))
    return status


def on_screen(drawn: Sequence[str], now: datetime, height: int) -> "Text":
    """What fits: the first lines, which are the worst, and the summary at the end."""
    from rich.text import Text  # noqa: PLC0415  only on a terminal

    room = max(height - 2, 2)
    if len(drawn) > room:
        left_out = len(drawn) - room + 1
        drawn = (*drawn[: room - 2], f"… {counted(left_out, 'line')} more", drawn[-1])
    head = f"oidc-mirror status, {moment(now)}, every {WATCH_SECONDS:g} s; Ctrl-C ends it"
    return Text.from_ansi("\n".join((head, "", *drawn)), no_wrap=True, overflow="ellipsis")


def _fitted(drawn: Iterable[str]) -> Iterator[str]:
    """The lines, on a terminal no longer than it is wide."""
    if not sys.stdout.isatty():
        yield from drawn
        return
    width = os.get_terminal_size(sys.stdout.fileno()).columns  # shutil asks a stream that `startup` has detached
    yield from (cut(line, width) for line in drawn)


def cut(line: str, width: int) -> str:
    """A line with colours, cut to `width` characters that are seen."""
    if len(click.unstyle(line)) <= width:
        return line
    seen, kept = 0, ""
    for part in _STYLE.split(line):
        if _STYLE.fullmatch(part):
            kept += part
            continue
        kept += part[: max(width - 1 - seen, 0)]
        seen += len(part)
    return f"{kept}…"


_STYLE = re.compile(r"(\x1b\[[0-9;]*m)")


def overview(report: StatusReport) -> Iterator[str]:
    """A line an issuer, the worst first; then what concerns all, each in a line; a summary last. Text is escaped."""
    yield from reason_lines("failed", report.failures, "red")
    yield from _table(worst_first(report.issuers), report.now)
    for event in report.events:
        yield f"{event.level} [{event.name}]: {escaped(event.sentence)}"
    if report.orphaned:
        yield f"{counted(len(report.orphaned), 'public object')} of no configured issuer: {_DETAILS}"
    last = report.last_pass
    if last is not None and last.events:
        newest = max(last.events, key=lambda past: past.until)
        what = f"{newest.event.name}{f' of {newest.name}' if newest.name else ''}, {distance(newest.until, report.now)}"
        yield f"{counted(len(last.events), 'event')} in 7 days, the newest {escaped(what)}: {_DETAILS}"
    if last is not None:
        yield from reason_lines("failed", last.failures, "red")
    yield _git_line(report)
    yield _summary(report)


_DETAILS = "oidc-mirror status --verbose"


def _summary(report: StatusReport) -> str:
    return f"{count_states(report.issuers)}. {_how_it_ended(report.last_pass, report.now)}"


def _git_line(report: StatusReport) -> str:
    last = report.last_commit
    commit = (
        "No commit yet."
        if last is None
        else f"Last commit {last.commit[:12]}, {distance(last.when, report.now)}: {escaped(last.subject)}"
    )
    unpushed = f"{counted(report.unpushed_commits, 'commit')} not pushed yet. " if report.unpushed_commits else ""
    return f"Repository mode: {report.mode}. {unpushed}{commit}"


_HEADINGS = ("STATE", "NAME", "KEYS", "NEXT")


def _table(issuers: Iterable[IssuerStatus], now: datetime) -> Iterator[str]:
    """The issuers below their headings, in columns as wide as what they hold; the state has its colour."""
    rows = [(each.state, _cells(each, now)) for each in issuers]
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *(cells for _, cells in rows), strict=True)]

    def line(cells: Sequence[str], colour: str | None) -> str:
        state, *others = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        shown = state if colour is None else click.style(state, fg=colour, bold=True)
        return "  ".join((shown, *others)).rstrip()

    yield line(_HEADINGS, None)
    yield from (line(cells, COLOURS[state]) for state, cells in rows)


def _cells(issuer: IssuerStatus, now: datetime) -> tuple[str, str, str, str]:
    step = next_step(issuer, now)
    state = f"{issuer.state}{' (rotating)' if issuer.rotating else ''}"
    name = f"{issuer.name}{' (former)' if issuer.is_former else ''}"
    return state, name, count_keys(issuer), "" if step is None else escaped(step.line(now))


def lines(report: StatusReport) -> Iterator[str]:
    """Every detail, line by line; everything from outside is escaped."""
    yield from reason_lines("failed", report.failures, "red")
    for issuer in worst_first(report.issuers):
        yield from _issuer(issuer, report.now)
    for event in report.events:
        yield f"{event.level} [{event.name}]: {escaped(event.sentence)}"
    yield from _orphaned(report)
    yield from _last_pass(report.last_pass, report.now)
    yield from _git(report)
    if len(report.issuers) > 1:
        yield f"{count_states(report.issuers)}."


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
        yield f"  {_object(each, issuer)}"
    for event in issuer.events:
        yield f"  {event.level} [{event.name}]: {escaped(event.sentence)}"
    yield from reason_lines("failed", issuer.failures, "red", "  ")
    yield from reason_lines("held", issuer.held, "yellow", "  ")


def _object(each: ObjectStatus, issuer: IssuerStatus) -> str:
    is_put_next = each.state not in (ObjectState.CURRENT, ObjectState.UNKNOWN)
    sentence = _NOT_PUT if issuer.suspended and is_put_next else _OBJECTS[each.state]
    return sentence.format(escaped(each.url))


_NOT_PUT = "not as git says, and not put while the issuer is suspended: {}"
_OBJECTS = {
    ObjectState.CURRENT: "current in the bucket: {}",
    ObjectState.MISSING: "missing in the bucket, the next pass puts it: {}",
    ObjectState.OUTDATED: "an earlier state in the bucket, the next pass puts the newest: {}",
    ObjectState.DRIFT: "drift, another writer changed it, the next pass repairs it: {}",
    ObjectState.UNKNOWN: "unknown, the bucket could not be read: {}",
}


def _key(key: PublicKeyStatus, now: datetime) -> Iterator[str]:
    record = key.record
    status = click.style(str(record.status), fg=KEY_COLOURS[record.status], bold=True)
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
        return "public, no longer used for signing"
    word = "since" if key.safe_to_sign_at <= now else "from"
    return f"safe to sign {word} {moment(key.safe_to_sign_at)}"


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


def _last_pass(last: LastPass | None, now: datetime) -> Iterator[str]:
    if last is None:
        yield _how_it_ended(last, now)
        return
    if last.events:
        yield click.style("Events of the last 7 days:", bold=True)
    for past in last.events:
        name = f"{past.name}: " if past.name else ""
        until = f" until {moment(past.until)}" if past.until > past.at else ""
        when = f"{moment_and_distance(past.at, now)}{until}"
        yield f"  {when} {past.event.level} [{past.event.name}]: {escaped(name + past.event.sentence)}"
    yield from reason_lines("failed", last.failures, "red")
    yield _how_it_ended(last, now)


def _how_it_ended(last: LastPass | None, now: datetime) -> str:
    if last is None:
        return "How the last pass ended is not known: there is no last-pass.json in this machine's state_dir."
    return f"Last pass {moment_and_distance(last.at, now)}: exit status {int(last.exit_status)}."


def _git(report: StatusReport) -> Iterator[str]:
    last = report.last_commit
    if last is None:
        yield "No commit yet."
    else:
        yield f"Last commit {last.commit} of {moment(last.when)}: {escaped(last.subject)}"
    if report.unpushed_commits:
        yield f"{counted(report.unpushed_commits, 'commit')} not pushed yet."
    yield f"Repository mode: {report.mode}."


def wait(ctx: click.Context, *, name: str, key: str, timeout: timedelta) -> None:
    """See `mirror.cli.commands.wait`."""
    settings = selected(common(ctx).load(), (name,))
    (issuer,) = settings.issuers
    readback = issuer.publish.readback
    if not readback.enabled:
        raise UsageError(
            "The public URL may not be looked at: `publish.readback.enabled` is false.",
            remedy="Run `oidc-mirror wait` where the public URL can be reached, with read-back enabled.",
        )
    ledger = known_ledgers(settings, (issuer.issuer,))[issuer.issuer]
    known_safe = load_local_state(settings.state_dir).of(issuer.issuer).safe_to_sign
    clock = Clock(lambda: datetime.now(UTC), time.sleep)
    wanted, url = AwaitedKey(issuer.name, issuer.issuer, key, ledger, known_safe), jwks_uri(issuer.issuer)
    with PublicHttpClient() as web:
        waiter = KeyWaiter(wanted, lambda: web.get_document(url, readback=readback), clock, click.echo)
        ctx.exit(int(ExitStatus.CURRENT if waiter.run(timeout) else ExitStatus.FAILED))
