"""The report in words. Everything from outside is escaped; commands carry thumbprints, never kids.

A remedy is printed once for an entry of the configuration, however many of its apiservers and issuers need it.
"""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

import click

from mirror.log import escaped
from mirror.model import IssuerName, Level, Observed, Reason, Unusable, key_name
from mirror.report import Effect, IssuerReport, ObjectReport, Report, State, remedies_of
from mirror.text import counted

QUIET_FROM = 20
"""From this many issuers on, those with nothing to report are only counted."""

COLOURS = {
    State.FAILED: "red",
    State.WAITING_FOR_PUSH: "red",
    State.UNPUBLISHED: "red",
    State.HELD: "yellow",
    State.DEGRADED: "yellow",
    State.CHANGED: "cyan",
    State.CURRENT: "green",
}
KEY_COLOURS = {"published": "green", "retiring": "yellow", "held": "magenta", "revoked": "red", "dropped": None}
VERBS = {Effect.PUT: "put", Effect.PLANNED: "would put", Effect.WAITING: "put waits:"}
VERBS |= {Effect.FAILED: "not put:"}


def lines(report: Report) -> Iterator[str]:
    """The whole report, line by line, with colours (click takes them away where there is no terminal)."""
    if report.dry_run:
        yield click.style("Plan: nothing was changed.", bold=True)
    yield from reason_lines("failed", report.failures, "red")
    listed = [i for i in report.issuers if len(report.issuers) < QUIET_FROM or _is_notable(i)]
    printed: dict[IssuerName, set[str]] = defaultdict(set)
    for issuer in listed:
        yield from _issuer(issuer, printed[issuer.name], dry_run=report.dry_run)
    for event in report.events:
        yield f"{click.style(event.level, fg='yellow')} [{event.name}]: {escaped(event.sentence)}"
    yield from _closing(report)


def _is_notable(issuer: IssuerReport) -> bool:
    return issuer.state is not State.CURRENT or any(event.level is not Level.INFO for event in issuer.events)


def _issuer(issuer: IssuerReport, printed: set[str], *, dry_run: bool) -> Iterator[str]:
    state = click.style(str(issuer.state), fg=COLOURS[issuer.state], bold=True)
    rotating = " (rotating)" if issuer.rotating else ""
    yield f"{click.style(issuer.name, bold=True)}: {state}{rotating}  {escaped(issuer.issuer)}"
    for observation in issuer.observations:
        if isinstance(observation, Observed):
            yield f"  {escaped(observation.apiserver)} shows {counted(len(observation.keys), 'key')}"
            yield from (f"    note: {escaped(note.sentence)}" for note in observation.notes)
        else:
            yield from _unusable(observation, printed)
    verb = "would be" if dry_run else "is"
    for change in issuer.changes:
        yield f"  key {key_name(change.key)} {change.sentence}: it {verb} {change.status}"
    yield from (_object(each) for each in issuer.objects if each.effect is not Effect.UNCHANGED)
    shown = {change.key.thumbprint for change in issuer.changes}
    failed = {reason.sentence for reason in issuer.failures}  # reported below, with the remedy
    for event in issuer.events:
        if (
            not (event.name.startswith("key.") and event.fields.get("thumbprint") in shown)
            and event.sentence not in failed
        ):
            yield f"  {event.level} [{event.name}]: {escaped(event.sentence)}"
    yield from reason_lines("failed", issuer.failures, "red", "  ")
    for code, sentence, unusable in issuer.apiserver_failures():
        remedies = (each for each in remedies_of(unusable, issuer.name) if each not in printed)
        yield from reason_lines("failed", [Reason(code, sentence, " ".join(remedies))], "red", "  ")
    yield from reason_lines("held", issuer.held, "yellow", "  ")


def _unusable(observation: Unusable, printed: set[str]) -> Iterator[str]:
    for reason in observation.reasons:
        where = f" [{reason.where}]" if reason.where else ""
        problem = f"{click.style(reason.code, fg='red')}{escaped(where)}: {escaped(reason.sentence)}"
        yield f"  {escaped(observation.apiserver)} {problem}"
        if reason.remedy and reason.remedy not in printed:
            printed.add(reason.remedy)
            yield f"    remedy: {escaped(reason.remedy)}"


def _object(each: ObjectReport) -> str:
    action = f" ({each.action})" if each.action else ""
    return f"  {VERBS[each.effect]} {escaped(each.url)}{action}"


def reason_lines(word: str, reasons: Iterable[Reason], colour: str, indent: str = "") -> Iterator[str]:
    """Each reason with its remedy below it, behind a coloured word that says what it is about."""
    for reason in reasons:
        where = f" [{reason.where}]" if reason.where else ""
        yield f"{indent}{click.style(word, fg=colour)} {reason.code}{escaped(where)}: {escaped(reason.sentence)}"
        if reason.remedy:
            yield f"{indent}  remedy: {escaped(reason.remedy)}"


def _closing(report: Report) -> Iterator[str]:
    states = Counter(issuer.state for issuer in report.issuers)
    by_state = ", ".join(f"{states[state]} {state}" for state in State if states[state]) or "none decided"
    subject = report.message.partition("\n")[0]
    if report.dry_run and subject:
        yield f"Would commit: {escaped(subject)}"
    elif report.committed:
        yield f"Committed {report.commit}: {escaped(subject)}" if subject else f"Committed {report.commit}"
    if report.unpushed_commits:
        yield f"{counted(report.unpushed_commits, 'commit')} not pushed yet."
    yield f"{counted(len(report.issuers), 'issuer')}: {by_state}."


def admin_command(words: Sequence[str]) -> str:
    """The command line that does the same as the service's user, with its credentials."""
    return shlex.join(["sudo", "oidc-mirror-admin", *words])
