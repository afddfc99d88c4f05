"""`oidc-mirror check` and `check --fleet`: run every check, print what is wrong and the remedy. Nothing is changed."""

import json
import re
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

import click

from mirror.check import result
from mirror.check.result import (
    CheckCause,
    CheckLevel,
    CheckReport,
    CheckResult,
    CheckTarget,
    Component,
    Problems,
    SharedProblem,
    Unknown,
    find_problems,
    to_json,
)
from mirror.cli.history import opened
from mirror.cli.options import common, selected
from mirror.cli.wiring import open_check_clients
from mirror.errors import UsageError
from mirror.history.ledger_reader import load_history
from mirror.history.ledger_store import load_verification_keys
from mirror.log import escaped
from mirror.model import AnyKey, IssuerName, IssuerUrl, KeyName, Thumbprint
from mirror.reconcile import local_state
from mirror.reconcile.state import gmpy2_hint, integer_type, publications, trust_of
from mirror.text import counted
from mirror.trust.weak_keys import keys_used_twice, shared_prime_pairs

if TYPE_CHECKING:
    from mirror.config.settings import Settings


def main(
    ctx: click.Context,
    *,
    name: str | None,
    fleet: bool,
    configuration: bool,
    files: bool,
    notify: bool,
    explain: str | None,
    output: str,
    verbose: bool,
) -> None:
    """See `mirror.cli.commands.check`."""
    if files and not configuration:
        raise UsageError(
            "`--files` belongs to `--configuration`.", remedy="Run `oidc-mirror check --configuration --files`."
        )
    _require_one_question(name, explain, fleet=fleet, configuration=configuration, notify=notify)
    settings = common(ctx).load()
    if fleet:
        text, found = compared(settings, datetime.now(UTC))
    elif notify:
        found = CheckReport(datetime.now(UTC), (_test_message(settings),))
        text = tuple(_component_lines(found.findings))
    else:
        found = _as_text(settings, files=files) if configuration else _diagnosis(settings, name, explain)
        urls = {issuer.name: issuer.issuer for issuer in settings.issuers if name in (None, issuer.name)}
        text = tuple(check_lines(found, urls, verbose=verbose))
    click.echo(json.dumps(to_json(found), indent=2) if output == "json" else "\n".join(text))
    ctx.exit(int(found.exit_status))


def _diagnosis(settings: "Settings", name: str | None, text: str | None) -> "CheckReport":
    from mirror.check.runner import EVERYWHERE, run_checks  # noqa: PLC0415  it imports httpx

    names = frozenset(issuer.name for issuer in selected(settings, () if name is None else (name,)).issuers)
    causes = () if text is None else result.causes(text)
    if text is not None and name is None:
        names = result.named_issuers(text, settings)
    components = EVERYWHERE if text is None else frozenset(result.components_of(causes))
    with open_check_clients(settings) as clients, _progress():
        found = run_checks(settings, clients, datetime.now(UTC), names=names, components=components)
    return found if text is None else result.sort_by_cause(found, causes)


@contextmanager
def _progress() -> Iterator[None]:
    """A sign of life on a terminal, nothing elsewhere: a hanging apiserver takes its time."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415  only on a terminal

    with Console(stderr=True).status("Checking; nothing is changed"):
        yield


def _as_text(settings: "Settings", *, files: bool) -> "CheckReport":
    from mirror.check.local import as_text, issuer_files, notify_files  # noqa: PLC0415  only this command needs it

    now = datetime.now(UTC)
    found = list(as_text(settings))
    if files:
        found += notify_files(settings)
        from mirror.check.cluster import tokens  # noqa: PLC0415  it imports httpx

        for issuer in settings.issuers:
            found += (*issuer_files(issuer, now), *tokens(issuer, now))
    return CheckReport(now, tuple(found))


def _test_message(settings: "Settings") -> CheckResult:
    from mirror.notify.notifier import WEBHOOK, post_test  # noqa: PLC0415  only this question needs it

    place = CheckTarget(Component.NOTIFY, str(settings.notify.webhook_url_file or WEBHOOK))
    reason = post_test(settings, datetime.now(UTC))
    if reason is not None:
        return place.of_reason(reason)
    return place.ok("notify.sent", "The webhook took a test message; look for it where it leads.")


def _require_one_question(
    name: str | None, explain: str | None, *, fleet: bool, configuration: bool, notify: bool
) -> None:
    options = (("--fleet", fleet), ("--configuration", configuration), ("--notify", notify))
    asked = [option for option, given in options if given]
    if not asked or (len(asked) == 1 and name is None and explain is None):
        return
    raise UsageError(
        f"`{asked[0]}` is a question of its own, about all issuers.",
        remedy=f"Leave NAME and the other options out, or leave `{asked[0]}` out.",
    )


WIDTH = 80
MOST_NAMES = 10
MOST_PLACES = 3
"""As many issuers and places of one cause are named; `--verbose` names all."""

_COLOURS = {CheckLevel.FAILED: "red", CheckLevel.WARNING: "yellow", CheckLevel.NOTE: "cyan", CheckLevel.OK: "green"}
_MARGIN = 9
_NO_BREAK = "\N{NO-BREAK SPACE}"
_COMMAND = re.compile(r"`[^`]*`")


def check_lines(diagnosis: CheckReport, issuers: Mapping[IssuerName, IssuerUrl], *, verbose: bool) -> Iterator[str]:
    """What is wrong, line by line, with colours (click takes them away where there is no terminal).

    Args:
        diagnosis: What was found, in the order in which it is reported.
        issuers: The issuers that were checked, by name.
        verbose: Also what is in order, and whatever else is left out for brevity.
    """
    yield from _causes(diagnosis)
    if verbose:
        yield from _in_order(diagnosis, issuers)
    problems = find_problems(diagnosis.findings)
    for problem in (*problems.warnings, *problems.failures):
        yield from _problem(problem, verbose=verbose)
    for unknown in problems.unknown:
        yield from _unknown(unknown, verbose=verbose)
    if problems.warnings or problems.failures:
        yield ""
    yield from _summary(diagnosis, problems, issuers)


def _in_order(diagnosis: CheckReport, issuers: Mapping[IssuerName, IssuerUrl]) -> Iterator[str]:
    fine = [each for each in diagnosis.findings if each.level in (CheckLevel.OK, CheckLevel.NOTE)]
    for name, found in groupby(fine, key=lambda each: each.issuer):
        yield _heading(name, issuers)
        yield from _component_lines(found)
        yield ""


def _problem(problem: SharedProblem, *, verbose: bool) -> Iterator[str]:
    """The words of the first result, where it was found, who shares it, and one remedy."""
    first = problem.first
    yield from _labelled(first, f"{first.code}: {first.sentence}")
    shared = len(problem.subjects) == 1
    places = problem.subjects if shared else tuple(dict.fromkeys(map(_place, problem.results)))
    shown = places if verbose else places[:MOST_PLACES]
    for place in shown:
        yield from _wrapped(place, "at: ")
    if len(places) > len(shown):
        yield from _wrapped(f"{len(places) - len(shown)} more; `--verbose` lists them", "at: ")
    if len(problem.issuers) > 1 or (shared and problem.issuers):
        yield from _wrapped(_some(problem.issuers, verbose=verbose), f"{counted(len(problem.issuers), 'issuer')}: ")
    if first.remedy:
        differs = any(each.remedy != first.remedy for each in problem.results)
        yield from _wrapped(first.remedy, f"remedy, for {first.issuer or first.subject}: " if differs else "remedy: ")


def _labelled(result: CheckResult, text: str) -> Iterator[str]:
    level = click.style(result.level, fg=_COLOURS[result.level], bold=result.level is CheckLevel.FAILED)
    first, *more = _wrapped(text, "")
    yield f"{level}{first[len(result.level) :]}"
    yield from more


def _place(result: CheckResult) -> str:
    return result.subject if result.issuer is None else f"{result.issuer}: {result.subject}"


def _some(names: Sequence[str], *, verbose: bool) -> str:
    if verbose or len(names) <= MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more; `--verbose` lists them."


def _unknown(unknown: Unknown, *, verbose: bool) -> Iterator[str]:
    components = ", ".join(dict.fromkeys(each.component for each in unknown.results))
    sentence = f"{components} could not be checked because of {unknown.because} ({len(unknown.results)} checks)."
    first, *more = _wrapped(sentence, "")
    yield f"unknown{first[len('unknown') :]}"
    yield from more
    if verbose:
        for each in unknown.results:
            yield from _wrapped(f"{_place(each)}: {each.sentence}", "")


def _summary(diagnosis: CheckReport, problems: Problems, issuers: Mapping[IssuerName, IssuerUrl]) -> Iterator[str]:
    """How many issuers were checked, how many of them are healthy, and how many causes there are to mend."""
    failing = {name for each in problems.failures for name in each.issuers}
    unknown = {each.issuer for found in problems.unknown for each in found.results if each.issuer} - failing
    warned = {name for each in problems.warnings for name in each.issuers} - failing - unknown
    healthy = len(issuers) - len(failing) - len(unknown) - len(warned)
    for_all = any(each.first.issuer is None for each in problems.failures)
    parts = [f"{healthy} {'without a failure of their own' if for_all else 'healthy'}"]
    parts += [f"{len(found)} {word}" for found, word in ((warned, "with warnings"), (unknown, "unknown")) if found]
    parts += [f"{len(failing)} failed"]
    yield f"{counted(len(issuers), 'issuer')}: {', '.join(parts)}."
    causes = {CheckLevel.FAILED: problems.failures, CheckLevel.WARNING: problems.warnings}
    numbers = []
    for level, number in diagnosis.counts.items():
        found = causes.get(level, ())
        of = f" ({counted(len(found), 'cause')})" if number > len(found) > 0 else ""
        numbers.append(_number(level, number) + of)
    yield ", ".join(numbers)


def _heading(name: IssuerName | None, issuers: Mapping[IssuerName, IssuerUrl]) -> str:
    if name is None:
        return click.style("What all issuers share", bold=True)
    return f"{click.style(name, bold=True)}  {escaped(issuers.get(name, IssuerUrl('')))}"


def _component_lines(results: Iterable[CheckResult]) -> Iterator[str]:
    for component, findings in groupby(results, key=lambda each: each.component):
        yield f" {click.style(component, underline=True)}"
        by_subject: dict[str, list[CheckResult]] = defaultdict(list)
        for each in findings:
            by_subject[each.subject].append(each)
        for subject, about in by_subject.items():
            yield f"  {escaped(subject)}"
            for each in about:
                text = each.sentence if each.level is CheckLevel.OK else f"{each.code}: {each.sentence}"
                yield from (f"   {line}" for line in _labelled(each, text))
                if each.remedy:
                    yield from _wrapped(each.remedy, "remedy: ", margin=_MARGIN + 3)


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


def _causes(diagnosis: CheckReport) -> Iterator[str]:
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


def _found(cause: CheckCause, findings: Iterable[CheckResult]) -> str:
    """In a sentence, what was found where the cause would show."""
    if not cause.components:
        return "It is in the cloud's account, which this program does not read."
    here = [each for each in findings if each.component in cause.components]
    wrong = dict.fromkeys(each.code for each in here if each.level in (CheckLevel.FAILED, CheckLevel.WARNING))
    if wrong:
        return f"{', '.join(wrong)} (below)."
    return f"Nothing is wrong at {', '.join(cause.components)}."


def _number(level: CheckLevel, number: int) -> str:
    text = counted(number, level) if level in (CheckLevel.WARNING, CheckLevel.NOTE) else f"{number} {level}"
    return click.style(text, fg=_COLOURS[level], bold=level is CheckLevel.FAILED) if number else text


_REMEDY = "Make new ServiceAccount keys for both clusters, then: oidc-mirror revoke NAME THUMBPRINT"


def compared(settings: "Settings", now: datetime) -> tuple[tuple[str, ...], "CheckReport"]:
    """What `check --fleet` prints: its lines, and the same as findings.

    Raises:
        HistoryError: The history cannot be read.
        UsageError: A ledger in it does not count.
    """
    found = known_keys(settings)
    text = gmpy2_hint(sum(map(len, found.values())), integer_type())
    if text is not None:
        click.echo(text, err=True)
    weak = shared_prime_pairs((key for keys in found.values() for key in keys), number=integer_type())
    return tuple(fleet_lines(found, weak)), CheckReport(now, tuple(findings(found, weak)))


def known_keys(settings: "Settings") -> dict[IssuerName, tuple[AnyKey, ...]]:
    """Every key that an issuer's ledgers know, former issuers included, whatever its status.

    Raises:
        HistoryError: The history cannot be read.
        UsageError: A ledger in it does not count.
    """
    everything = publications(settings)
    with opened(settings.repository) as repository:
        local, verifier = local_state.load_local_state(settings.state_dir), load_verification_keys(settings.repository)
        trust = trust_of(settings, repository, local, verifier)
        memory = load_history(repository, [each.url for each in everything], trust)
    keys: dict[IssuerName, list[AnyKey]] = {}
    for each in everything:
        issuer_history = memory.issuers[each.url]
        if issuer_history.is_lost:
            raise UsageError(f"The ledger of {each.url} does not count.", cause=issuer_history.failures[0].sentence)
        records = issuer_history.ledger.records if issuer_history.ledger is not None else ()
        keys.setdefault(each.issuer.name, []).extend(record.key for record in records)
    return {name: distinct(found) for name, found in keys.items()}


def distinct(keys: Iterable[AnyKey]) -> tuple[AnyKey, ...]:
    """Each key material once, in the order of thumbprints, and whole where any record of it has kept it."""
    ordered = sorted(keys, key=lambda key: (key.thumbprint, not isinstance(key, KeyName)))
    return tuple({key.thumbprint: key for key in ordered}.values())


def fleet_lines(
    found: dict[IssuerName, tuple[AnyKey, ...]], weak: tuple[tuple[Thumbprint, Thumbprint], ...]
) -> Iterator[str]:
    """What was found, in words."""
    holders = {key.thumbprint: name for name, keys in found.items() for key in keys}
    for a, b in weak:
        yield f"{click.style('failed', fg='red')} shared_prime: {_pair(holders, a, b)}"
        yield f"  remedy: {_REMEDY}"
    for events in keys_used_twice(found).values():
        yield from (
            f"{click.style('warning', fg='yellow')} [{event.name}]: {escaped(event.sentence)}" for event in events
        )
    count = sum(len(keys) for keys in found.values())
    yield f"{count} keys of {len(found)} issuers compared: {len(weak)} pairs share a prime."


def findings(
    found: dict[IssuerName, tuple[AnyKey, ...]], weak: tuple[tuple[Thumbprint, Thumbprint], ...]
) -> "Iterator[CheckResult]":
    """What was found, as check results."""
    holders = {key.thumbprint: name for name, keys in found.items() for key in keys}
    for a, b in weak:
        yield CheckTarget(Component.FLEET, a).failed("shared_prime", _pair(holders, a, b), _REMEDY)
    for name, events in keys_used_twice(found).items():
        for event in events:
            place = CheckTarget(Component.FLEET, event.fields.get("thumbprint", ""), name)
            yield place.warning(event.name, event.sentence, "Give each cluster ServiceAccount keys of its own.")
    if not weak:
        yield CheckTarget(Component.FLEET, "fleet").ok("fleet.compared", f"{len(holders)} keys share no prime.")


def _pair(holders: Mapping[Thumbprint, IssuerName], a: Thumbprint, b: Thumbprint) -> str:
    pair = f"key {a} ({holders[a]}) and key {b} ({holders[b]}) share a prime"
    return f"{pair}: anyone can compute both private keys."
