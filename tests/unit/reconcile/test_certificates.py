"""Certificates of apiservers that end soon are told in time, in every pass, and change nothing."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from mirror.config.settings import FormerIssuer
from mirror.model import IssuerUrl, Level
from mirror.report import ExitStatus, State
from support.fakes import MOMENT
from support.situations import BASE_URL, BOTH, ONE, Situation, answer, silent

DAY = timedelta(days=1)
NAME = "apiserver.certificate_expiring"


@pytest.mark.parametrize(
    ("left", "told"),
    [(14 * DAY, []), (14 * DAY - timedelta(seconds=1), [13]), (3 * DAY, [3]), (-DAY, [0])],
    ids=["in-two-weeks", "just-under", "soon", "over"],
)
def test_certificate_that_ends_within_two_weeks_is_told(tmp_path: Path, left: timedelta, told: list[int]) -> None:
    """Under fourteen days an event names apiserver and day; the pass is as good as without it."""
    here = Situation(tmp_path, apiservers=("https://10.0.0.11:6443",))
    here.run(ONE)
    report = here.run(replace(answer(ONE), certificate_expires_at=MOMENT + left))
    events = [event for event in report.issuers[0].events if event.name == NAME]
    assert len(events) == len(told)
    assert all(f"in {days} day(s)" in event.sentence for days, event in zip(told, events, strict=True))
    assert all(event.level is Level.WARNING for event in events)
    assert all(event.fields["expires_at"] == (MOMENT + left).isoformat() for event in events)
    assert (report.exit_status, report.issuers[0].state) == (ExitStatus.CURRENT, State.CURRENT)


def test_apiserver_that_was_refused_is_told_too(tmp_path: Path) -> None:
    """A refused answer says no less about the certificate, and one told twice is told once."""
    here = Situation(tmp_path)
    refused = replace(silent(code="forbidden"), certificate_expires_at=MOMENT + DAY)
    report = here.run(answer(BOTH), refused, refused)
    assert [event.fields["apiserver"] for event in report.issuers[0].events if event.name == NAME] == [
        "https://10.0.0.12:6443"
    ]


def test_former_issuer_does_not_repeat_it(tmp_path: Path) -> None:
    """The same apiservers stand behind a former issuer: the event is told at the issuer alone."""
    here = Situation(tmp_path, former=(FormerIssuer(IssuerUrl(f"{BASE_URL}/old"), date(2027, 1, 31)),))
    report = here.run(replace(answer(ONE), certificate_expires_at=MOMENT + DAY), answer(ONE))
    assert [[event.name for event in each.events].count(NAME) for each in report.issuers] == [1, 0]
