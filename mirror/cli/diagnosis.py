"""The doctor's findings in words: by issuer and station, what failed first, readable at 80 columns."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

import click

from mirror.check.result import Cause, Diagnosis, Finding, Level, counted
from mirror.log import escaped
from mirror.model import IssuerName, IssuerUrl

WIDTH = 80
QUIET_FROM = 20
"""From this many issuers on, those with nothing to mend are only counted."""

_COLOURS = {Level.FAILED: "red", Level.WARNING: "yellow", Level.NOTE: "cyan", Level.OK: "green"}
_MARGIN = 12
_NO_BREAK = "\N{NO-BREAK SPACE}"
_COMMAND = re.compile(r"`[^`]*`")


def lines(diagnosis: Diagnosis, issuers: Mapping[IssuerName, IssuerUrl]) -> Iterator[str]:
    """All findings, line by line, with colours (click takes them away where there is no terminal).

    Args:
        diagnosis: What was found, in the order in which it is told.
        issuers: The issuer texts by name, for the headings.
    """
    yield from _causes(diagnosis)
    groups = [(name, tuple(found)) for name, found in groupby(diagnosis.findings, key=lambda each: each.issuer)]
    many = len(groups) > QUIET_FROM
    quiet = 0
    for name, found in groups:
        if many and name is not None and all(each.level in (Level.OK, Level.NOTE) for each in found):
            quiet += 1
            continue
        yield _heading(name, issuers)
        yield from _stations(found)
        yield ""
    if quiet:
        yield f"{counted(quiet, 'issuer')} more with nothing to mend."
    yield _closing(diagnosis)


def _heading(name: IssuerName | None, issuers: Mapping[IssuerName, IssuerUrl]) -> str:
    if name is None:
        return click.style("What all issuers share", bold=True)
    return f"{click.style(name, bold=True)}  {escaped(issuers.get(name, IssuerUrl('')))}"


def _stations(found: Iterable[Finding]) -> Iterator[str]:
    for station, findings in groupby(found, key=lambda each: each.station):
        yield f" {click.style(station, underline=True)}"
        for subject, about in _by_subject(findings).items():
            yield f"  {escaped(subject)}"
            for before, finding in zip((None, *about), about, strict=False):
                yield from _finding(finding, is_repeated=before is not None and before.remedy == finding.remedy)


def _by_subject(findings: Iterable[Finding]) -> Mapping[str, tuple[Finding, ...]]:
    """The findings come the worst first, so that the subjects do too."""
    found: dict[str, tuple[Finding, ...]] = {}
    for each in findings:
        found[each.subject] = (*found.get(each.subject, ()), each)
    return found


def _finding(finding: Finding, *, is_repeated: bool) -> Iterator[str]:
    is_ok = finding.level is Level.OK
    told = finding.sentence if is_ok else f"{finding.code}: {finding.sentence}"
    level = click.style(finding.level, fg=_COLOURS[finding.level], bold=finding.level is Level.FAILED)
    first, *more = _wrapped(told, "")
    yield f"   {level}{first[3 + len(finding.level) :]}"
    yield from more
    if finding.remedy:
        yield from _wrapped("as above." if is_repeated else finding.remedy, "remedy: ")


def _wrapped(text: str, label: str, *, margin: int = _MARGIN) -> Iterator[str]:
    """Text at the margin; commands and what is longer than a line stay whole, so that they can be copied."""
    # A no-break space inside of backticks keeps textwrap off; text from outside has none any more.
    whole = _COMMAND.sub(lambda found: found[0].replace(" ", _NO_BREAK), escaped(text))
    for line in textwrap.wrap(
        whole,
        WIDTH,
        initial_indent=" " * margin + label,
        subsequent_indent=" " * margin,
        break_long_words=False,
        break_on_hyphens=False,
    ):
        yield line.replace(_NO_BREAK, " ")


def _causes(diagnosis: Diagnosis) -> Iterator[str]:
    if not diagnosis.causes:
        return
    yield click.style("What the error may come from, the likeliest first", bold=True)
    for number, each in enumerate(diagnosis.causes, start=1):
        first, *more = _wrapped(f"{each.code}: {each.sentence}", "", margin=4)
        yield f"{number:>2}. {first[4:]}"
        yield from more
        yield from _wrapped(each.remedy, "remedy: ", margin=4)
        yield from _wrapped(_found(each, diagnosis.findings), "found:  ", margin=4)
    yield ""


def _found(cause: Cause, findings: Iterable[Finding]) -> str:
    """In a sentence, what was found where the cause would show."""
    if not cause.stations:
        return "It lies in the cloud's account, where this program does not look."
    here = [each for each in findings if each.station in cause.stations]
    wrong = dict.fromkeys(each.code for each in here if each.level in (Level.FAILED, Level.WARNING))
    if wrong:
        return f"{', '.join(wrong)} (below)."
    return f"Nothing is wrong at {', '.join(cause.stations)}."


def _closing(diagnosis: Diagnosis) -> str:
    return ", ".join(_number(level, number) for level, number in diagnosis.counts.items())


def _number(level: Level, number: int) -> str:
    told = counted(number, level) if level in (Level.WARNING, Level.NOTE) else f"{number} {level}"
    return click.style(told, fg=_COLOURS[level], bold=level is Level.FAILED) if number else told
