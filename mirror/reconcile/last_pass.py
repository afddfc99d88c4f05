"""How the last pass ended, and what happened in the last seven days: `last-pass.json` in the state directory.

Only this machine knows it: a pod with an empty disk has none. A lost, damaged or newer file is none, too.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mirror.files import write_atomically
from mirror.model import Event, IssuerUrl, Level, Reason
from mirror.report import ExitStatus, Report, State

FILE_NAME = "last-pass.json"
VERSION = 1
KEPT = timedelta(days=7)
MOST_EVENTS = 500
"""Bounds the file: whoever writes to the bucket or the remote could make any number of events."""
KEPT_EVENTS = frozenset(
    {
        "bucket.drift",
        "bucket.header_not_kept",
        "drift.repaired",
        "history.mismatch",
        "history.rewritten",
        "keys.replaced",
        "ledger.damaged",
        "ledger.lost",
        "ledger.unknown_signer",
        "ledger.unsigned",
        "snapshot.unknown",
    }
)
"""What somebody should look into although a later pass finds everything in order."""


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event of a pass at `at`, and of every later one up to `until`. `issuer` is empty where it is of no issuer."""

    at: datetime
    until: datetime
    name: str
    issuer: str
    event: Event


@dataclass(frozen=True, slots=True)
class LastResult:
    """What the last pass over one issuer found."""

    at: datetime
    state: State
    rotating: bool


@dataclass(frozen=True, slots=True)
class LastPass:
    """The last pass: when it was, its exit status, and its failures that are of no issuer.

    `issuers` has the result of each issuer's own last pass, which may be an earlier one (`--only`, an operator's
    command). `events` are those of the last seven days, oldest first. `whole_since` is when the daemon's pass began
    that this is the end of; None while a pass may go on, and of every other pass.
    """

    at: datetime
    exit_status: ExitStatus
    failures: tuple[Reason, ...] = ()
    issuers: Mapping[IssuerUrl, LastResult] = field(default_factory=dict)
    events: tuple[PastEvent, ...] = ()
    whole_since: datetime | None = None


def after(before: LastPass | None, report: Report, left_alone: Collection[IssuerUrl] = ()) -> LastPass:
    """What is remembered after a pass. Pure.

    Args:
        before: What was remembered until now.
        report: The pass.
        left_alone: Configured issuers that this pass leaves alone.
    """
    known = {} if before is None else dict(before.issuers)
    results = {each.issuer: LastResult(report.now, each.state, each.rotating) for each in report.issuers}
    if report.issuers:
        known = {url: known[url] for url in left_alone if url in known}
    elif report.failures:  # the pass came to no issuer: what was found before is no longer sure
        known = {url: replace(each, at=report.now, state=State.FAILED) for url, each in known.items()}
    return LastPass(report.now, report.exit_status, report.failures, known | results, _events(before, report))


def with_events(before: LastPass, report: Report) -> LastPass:
    """What is remembered after a pass that was broken off: what it saw, and the result of the pass before. Pure."""
    return replace(before, events=_events(before, report))


def _events(before: LastPass | None, report: Report) -> tuple[PastEvent, ...]:
    return tuple(_joined_events(before, report))[-MOST_EVENTS:]


def _joined_events(before: LastPass | None, report: Report) -> Iterator[PastEvent]:
    """The events of seven days; one that goes on from pass to pass is one event."""
    new = {_identity(name, issuer, event): (name, issuer, event) for name, issuer, event in _new_events(report)}
    for past in before.events if before is not None else ():
        goes_on = before is not None and past.until >= before.at  # later where a pass was broken off
        if goes_on and new.pop(_identity(past.name, past.issuer, past.event), None) is not None:
            past = replace(past, until=report.now)  # noqa: PLW2901  the same event, up to now
        if report.now - past.until < KEPT:
            yield past
    yield from (PastEvent(report.now, report.now, name, issuer, event) for name, issuer, event in new.values())


def _new_events(report: Report) -> Iterator[tuple[str, str, Event]]:
    yield from (("", "", event) for event in report.events if event.name in KEPT_EVENTS)
    for each in report.issuers:
        yield from ((each.name, each.issuer, event) for event in each.events if event.name in KEPT_EVENTS)


def _identity(name: str, issuer: str, event: Event) -> tuple[str, str, str, str]:
    return name, issuer, event.name, event.sentence


# --------------------------------------------------------------------------------------------------- the file


def load(state_dir: Path) -> LastPass | None:
    """What is remembered; None when there is no file, or none that can be read."""
    try:
        content = json.loads((state_dir / FILE_NAME).read_bytes())
        if content["version"] != VERSION:
            return None
        return LastPass(
            _moment(content["time"]),
            ExitStatus(content["exit_status"]),
            tuple(Reason(each["code"], each["sentence"], each["remedy"]) for each in content["failures"]),
            {
                IssuerUrl(url): LastResult(_moment(each["time"]), State(each["state"]), bool(each["rotating"]))
                for url, each in content["issuers"].items()
            },
            tuple(_past(each) for each in content["events"][-MOST_EVENTS:]),
            _moment(content["whole_since"]) if content.get("whole_since") else None,
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def save(state_dir: Path, last: LastPass) -> None:
    """Write the file by rename.

    Raises:
        HistoryError: The state directory cannot be written.
    """
    content = {
        "version": VERSION,
        "time": last.at.isoformat(),
        "exit_status": int(last.exit_status),
        "failures": [{"code": each.code, "sentence": each.sentence, "remedy": each.remedy} for each in last.failures],
        "issuers": {
            url: {"time": each.at.isoformat(), "state": str(each.state), "rotating": each.rotating}
            for url, each in sorted(last.issuers.items())
        },
        "events": [past_event_json(each) for each in last.events],
        "whole_since": None if last.whole_since is None else last.whole_since.isoformat(),
    }
    write_atomically(state_dir / FILE_NAME, json.dumps(content, indent=1) + "\n")


def past_event_json(past: PastEvent) -> dict[str, object]:
    """An event of the last seven days as plain data."""
    return {
        "time": past.at.isoformat(),
        "until": past.until.isoformat(),
        "name": past.name or None,
        "issuer": past.issuer or None,
        "event": past.event.name,
        "level": str(past.event.level),
        "sentence": past.event.sentence,
        "fields": dict(past.event.fields),
    }


def _past(entry: Mapping[str, Any]) -> PastEvent:
    fields = {str(name): str(value) for name, value in entry["fields"].items()}
    event = Event(str(entry["event"]), str(entry["sentence"]), Level(entry["level"]), fields)
    issuer = str(entry["issuer"] or "")
    return PastEvent(_moment(entry["time"]), _moment(entry["until"]), str(entry["name"] or ""), issuer, event)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
