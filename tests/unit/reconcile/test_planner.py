"""Findings of the plan: circular credentials, and apiserver certificates that expire soon."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from mirror.config.settings import FormerIssuerSettings, Issuer, PublishSettings
from mirror.model import IssuerName, IssuerUrl, Level
from mirror.ports import WebIdentityToken
from mirror.reconcile.controller import reconcile
from mirror.reconcile.planner import find_self_dependent_credentials
from mirror.report import ExitStatus, State
from support.fakes import MOMENT
from support.situations import BASE_URL, BOTH, ISSUER, ONE, Situation, answer, silent

PUBLISH = PublishSettings("bucket", "eu-west-1", "https://oidc.example.com")
OLD = IssuerUrl("https://oidc.example.com/old")
FIRST = Issuer(IssuerName("first"), IssuerUrl("https://oidc.example.com/first"), PUBLISH)
SECOND = Issuer(
    IssuerName("second"),
    IssuerUrl("https://oidc.example.com/second"),
    replace(PUBLISH, profile="p"),
    former_issuers=(FormerIssuerSettings(OLD, date(2027, 1, 31)),),
)
FILE = Path("/var/run/token")


@pytest.mark.parametrize(
    ("issuer", "entry"),
    [
        pytest.param(FIRST.issuer, "first", id="issuer"),
        pytest.param(OLD, "second", id="former-issuer"),
        pytest.param("https://oidc.example.com/first/", None, id="slash-is-another-issuer"),
        pytest.param("https://token.actions.githubusercontent.com", None, id="foreign"),
    ],
)
def test_token_of_an_own_issuer_is_found(issuer: str, entry: str | None) -> None:
    """The token's `iss` is compared exactly with every published issuer."""
    found = find_self_dependent_credentials(
        (FIRST, SECOND), lambda publish: None if publish.profile else WebIdentityToken(FILE, issuer)
    )
    assert [(each.name, each.writers) for each in found] == ([] if entry is None else [(entry, ("first",))])


def test_credentials_of_all_issuers_are_reported_once() -> None:
    """Two profiles with one token are one finding."""
    (found,) = find_self_dependent_credentials((FIRST, SECOND), lambda _: WebIdentityToken(FILE, FIRST.issuer))
    assert found.writers == ("first", "second")


def test_pass_over_a_part_knows_the_whole_configuration(tmp_path: Path) -> None:
    """With `--only` and `--shard` the token's issuer may be outside the pass: the dependency is still reported."""
    situation = Situation(tmp_path)
    situation.show(ONE, ONE)
    situation.world.own_token = WebIdentityToken(FILE, FIRST.issuer)
    whole = replace(situation.settings(), issuers=(*situation.settings().issuers, FIRST))
    report = reconcile(whole.narrowed(lambda issuer: issuer is not FIRST), situation.world.ports(), situation.now)
    (event,) = report.events
    assert (event.name, event.fields["entry"]) == ("credentials.circular", "first")


def test_pass_warns_of_circular_credentials(tmp_path: Path) -> None:
    """The pass and its dry run report it with the remedy, and do not fail."""
    situation = Situation(tmp_path)
    situation.world.own_token = WebIdentityToken(FILE, ISSUER)
    for report in (situation.plan(ONE, ONE), situation.run(ONE, ONE)):
        (event,) = report.events
        assert (event.name, event.level) == ("credentials.circular", Level.WARNING)
        assert "publish.profile" in event.sentence
        assert report.exit_status is ExitStatus.CURRENT


DAY = timedelta(days=1)
NAME = "apiserver.certificate_expiring"


@pytest.mark.parametrize(
    ("left", "reported"),
    [(14 * DAY, []), (14 * DAY - timedelta(seconds=1), ["in 13 d 23 h"]), (3 * DAY, ["in 3 d"]), (-DAY, ["ended at"])],
    ids=["in-two-weeks", "just-under", "soon", "over"],
)
def test_certificate_that_ends_within_two_weeks_is_reported(
    tmp_path: Path, left: timedelta, reported: list[str]
) -> None:
    """Less than fourteen days before the end, an event names apiserver and day; the pass is otherwise the same."""
    here = Situation(tmp_path, apiservers=("https://10.0.0.11:6443",))
    here.run(ONE)
    report = here.run(replace(answer(ONE), certificate_expires_at=MOMENT + left))
    events = [event for event in report.issuers[0].events if event.name == NAME]
    assert len(events) == len(reported)
    assert all(words in event.sentence for words, event in zip(reported, events, strict=True))
    assert all(event.level is Level.WARNING for event in events)
    assert all(event.fields["expires_at"] == (MOMENT + left).isoformat() for event in events)
    assert (report.exit_status, report.issuers[0].state) == (ExitStatus.CURRENT, State.CURRENT)


def test_rejected_apiserver_is_reported_too(tmp_path: Path) -> None:
    """A rejected answer still reports its certificate. A certificate of two answers is reported once."""
    here = Situation(tmp_path)
    refused = replace(silent(code="forbidden"), certificate_expires_at=MOMENT + DAY)
    report = here.run(answer(BOTH), refused, refused)
    assert [event.fields["apiserver"] for event in report.issuers[0].events if event.name == NAME] == [
        "https://10.0.0.12:6443"
    ]


def test_former_issuer_does_not_repeat_it(tmp_path: Path) -> None:
    """A former issuer has the same apiservers: the event is reported only for the current issuer."""
    here = Situation(tmp_path, former=(FormerIssuerSettings(IssuerUrl(f"{BASE_URL}/old"), date(2027, 1, 31)),))
    report = here.run(replace(answer(ONE), certificate_expires_at=MOMENT + DAY), answer(ONE))
    assert [[event.name for event in each.events].count(NAME) for each in report.issuers] == [1, 0]
