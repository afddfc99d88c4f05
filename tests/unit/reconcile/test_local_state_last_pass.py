"""The result of the last pass and the events of seven days, which the next `status` reads."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.model import Event, IssuerUrl, Level, Reason
from mirror.reconcile.local_state import (
    KEPT_FOR,
    LAST_RESULT_FILE_NAME,
    MOST_KEPT_EVENTS,
    LastPass,
    load_last_pass,
    remember_events,
    remember_pass,
    save_last_pass,
)
from mirror.report import ExitStatus, Report, State
from support.fakes import MOMENT
from support.pass_histories import issuer, report
from support.situations import ISSUER, JWKS_KEY, ONE, Situation

DAY = timedelta(days=1)
DRIFT = Event("bucket.drift", "Another writer changed a.", Level.ERROR, {"key": "a"})


def drifted(day: int, event: Event = DRIFT) -> Report:
    return report(issuer("a", events=(event, Event("key.published", "Quiet."))), now=MOMENT + day * DAY)


def names(found: LastPass) -> list[tuple[str, int]]:
    return [(past.event.sentence, (past.at - MOMENT) // DAY) for past in found.events]


def test_drift_is_remembered_for_seven_days(tmp_path: Path) -> None:
    """The next passes find everything current, but `status` still reports the event for a week."""
    here = Situation(tmp_path)
    here.run(ONE, ONE)
    here.world.bucket.write(JWKS_KEY, b"evil")
    here.run(after=timedelta(minutes=5))
    here.run(after=6 * DAY)
    found = load_last_pass(tmp_path)
    assert found is not None
    assert [past.event.name for past in found.events] == ["bucket.drift", "drift.repaired"]
    assert (found.exit_status, found.issuers[ISSUER].state) == (ExitStatus.CURRENT, State.CURRENT)
    here.run(after=2 * DAY)
    found = load_last_pass(tmp_path)
    assert found is not None
    assert found.events == ()


def test_event_that_goes_on_is_one_and_one_that_returns_is_another() -> None:
    """An unsigned ledger is reported in every pass: that is one event with a first and a last time."""
    first = remember_pass(remember_pass(None, drifted(0)), drifted(1))
    assert names(first) == [(DRIFT.sentence, 0)]
    assert first.events[0].until == MOMENT + DAY
    quiet = remember_pass(first, report(issuer("a"), now=MOMENT + 2 * DAY))
    assert names(remember_pass(quiet, drifted(3))) == [(DRIFT.sentence, 0), (DRIFT.sentence, 3)]


def test_event_goes_on_over_a_pass_that_was_broken_off() -> None:
    """An interrupted pass adds only the events that it saw."""
    first = remember_pass(None, drifted(0))
    stopped = remember_events(first, replace(drifted(1), failures=(Reason("push.failed", "Broken off.", ""),)))
    assert stopped == replace(first, events=stopped.events)
    found = remember_pass(stopped, drifted(2))
    assert names(found) == [(DRIFT.sentence, 0)]
    assert found.events[0].until == MOMENT + 2 * DAY


def test_number_of_events_is_bounded() -> None:
    """Another writer to the bucket can cause any number of events: only the newest are kept."""
    events = tuple(replace(DRIFT, sentence=str(number)) for number in range(MOST_KEPT_EVENTS + 10))
    found = remember_pass(None, report(issuer("a", events=events)))
    assert [past.event.sentence for past in found.events] == [str(number + 10) for number in range(MOST_KEPT_EVENTS)]


def test_issuers_of_other_passes_are_kept_and_those_that_left_are_forgotten() -> None:
    """A command may run a pass for a single issuer; the other issuers' results stay."""
    both = remember_pass(None, report(issuer("a"), issuer("b", held=(Reason("key.held", "Held.", ""),))))
    a, b = list(both.issuers)
    only = remember_pass(both, report(issuer("a"), now=MOMENT + DAY), left_alone=[b])
    assert [only.issuers[url].state for url in (a, b)] == [State.CURRENT, State.HELD]
    assert list(remember_pass(only, report(issuer("a"))).issuers) == [a]


def test_pass_that_came_to_no_issuer_fails_all() -> None:
    """If a pass reaches no issuer, all count as failed, also those that were current before."""
    found = remember_pass(
        remember_pass(None, report(issuer("a"))), report(failures=(Reason("pass.failed", "No.", ""),))
    )
    assert [each.state for each in found.issuers.values()] == [State.FAILED]


def test_file_gives_back_what_was_written(tmp_path: Path) -> None:
    """Texts, dates and states are read back unchanged."""
    failed = report(issuer("a", events=(DRIFT,)), failures=(Reason("push.failed", "No.", "Wait."),))
    found = remember_pass(None, failed)
    save_last_pass(tmp_path, found)
    assert load_last_pass(tmp_path) == found
    assert timedelta(days=7) == KEPT_FOR


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "time": "x"}', '{"version": 1}', "[" * 100_000]
)
def test_damaged_file_is_none(tmp_path: Path, text: str) -> None:
    """With a damaged file `status` reports that the last result is unknown."""
    (tmp_path / LAST_RESULT_FILE_NAME).write_text(text)
    assert load_last_pass(tmp_path) is None
    assert load_last_pass(tmp_path / "absent") is None


@pytest.mark.parametrize(("fails", "status"), [(False, ExitStatus.CURRENT), (True, ExitStatus.FAILED)])
def test_repaired_drift_fails_the_pass_where_that_is_wanted(tmp_path: Path, fails: bool, status: ExitStatus) -> None:
    """With `fail_on_drift` the object is still repaired, but the pass fails."""

    class Strict(Situation):
        def settings(self) -> object:  # type: ignore[override]  # the same type; annotated as object for brevity
            return replace(super().settings(), fail_on_drift=fails)

    here = Strict(tmp_path)
    here.run(ONE, ONE)
    meant = here.public()
    here.world.bucket.write(JWKS_KEY, b"evil")
    found = here.run(after=timedelta(minutes=5))
    assert (here.public(), found.exit_status) == (meant, status)
    assert here.run(after=timedelta(minutes=5)).exit_status is ExitStatus.CURRENT
    assert IssuerUrl(ISSUER) == found.issuers[0].issuer
