from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from mirror.config.settings import FormerIssuer, Issuer, Publish
from mirror.model import IssuerName, IssuerUrl, Level
from mirror.ports import OwnToken
from mirror.reconcile.circular import circular_credentials
from mirror.reconcile.controller import run_once
from mirror.report import ExitStatus
from support.situations import ISSUER, ONE, Situation

PUBLISH = Publish("bucket", "eu-west-1", "https://oidc.example.com")
OLD = IssuerUrl("https://oidc.example.com/old")
FIRST = Issuer(IssuerName("first"), IssuerUrl("https://oidc.example.com/first"), PUBLISH)
SECOND = Issuer(
    IssuerName("second"),
    IssuerUrl("https://oidc.example.com/second"),
    replace(PUBLISH, profile="p"),
    former_issuers=(FormerIssuer(OLD, date(2027, 1, 31)),),
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
    """The token's `iss` is compared code point by code point with every issuer that is published."""
    found = circular_credentials((FIRST, SECOND), lambda publish: None if publish.profile else OwnToken(FILE, issuer))
    assert [(each.name, each.writers) for each in found] == ([] if entry is None else [(entry, ("first",))])


def test_token_that_writes_for_all_is_told_once() -> None:
    """Two profiles with one token are one finding."""
    (found,) = circular_credentials((FIRST, SECOND), lambda _: OwnToken(FILE, FIRST.issuer))
    assert found.writers == ("first", "second")


def test_pass_over_a_part_knows_the_whole_configuration(tmp_path: Path) -> None:
    """With `--only` and `--shard` the token may be of an issuer that is left out: that locks out as well."""
    situation = Situation(tmp_path)
    situation.show(ONE, ONE)
    situation.world.own_token = OwnToken(FILE, FIRST.issuer)
    whole = replace(situation.settings(), issuers=(*situation.settings().issuers, FIRST))
    report = run_once(whole.narrowed(lambda issuer: issuer is not FIRST), situation.world.ports(), situation.now)
    (event,) = report.events
    assert (event.name, event.fields["entry"]) == ("credentials.circular", "first")


def test_pass_warns_of_circular_credentials(tmp_path: Path) -> None:
    """The pass says so, with the remedy, and does not fail; a dry run says so too."""
    situation = Situation(tmp_path)
    situation.world.own_token = OwnToken(FILE, ISSUER)
    for report in (situation.plan(ONE, ONE), situation.run(ONE, ONE)):
        (event,) = report.events
        assert (event.name, event.level) == ("credentials.circular", Level.WARNING)
        assert "publish.profile" in event.sentence
        assert report.exit_status is ExitStatus.CURRENT
