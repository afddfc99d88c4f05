"""`check --explain`, and the diagnosis as JSON data."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import jsonschema
import pytest

from mirror.check.result import (
    WHERE,
    CheckCause,
    CheckReport,
    CheckTarget,
    Component,
    causes,
    components_of,
    named_issuers,
    sort_by_cause,
    to_json,
)
from mirror.config.settings import FormerIssuerSettings, Settings
from mirror.federation.causes import CauseArea as About
from mirror.model import IssuerName, IssuerUrl
from mirror.report import ExitStatus
from support.fakes import MOMENT
from support.situations import BASE_URL, ISSUER, NAME, Situation

RETRIEVE = "An error occurred (InvalidIdentityToken): Couldn't retrieve verification key from your identity provider"
OTHER = IssuerName("other")
OLD = IssuerUrl(f"{BASE_URL}/old")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Situation(tmp_path).settings()
    former = (FormerIssuerSettings(OLD, date(2027, 1, 31)),)
    other = replace(made.issuers[0], name=OTHER, issuer=IssuerUrl(f"{ISSUER}-2"), former_issuers=former)
    return replace(made, issuers=(*made.issuers, other))


def test_every_kind_of_cause_has_its_place() -> None:
    """A new kind of cause must name the components that can show it."""
    assert set(WHERE) == set(About)


def test_sts_error_leads_to_the_public_documents() -> None:
    """See facts.md#27: not public, slow, fetched too often, or a key that is not public."""
    found = causes(RETRIEVE)
    assert found[0].code == "documents_not_public"
    assert components_of(found)[:3] == (Component.PUBLIC, Component.POLICY, Component.BUCKET)
    assert {each.components for each in found if each.code == "documents_slow"} == {(Component.PUBLIC,)}
    assert Component.KEYS in components_of(found)


def test_unknown_error_looks_everywhere() -> None:
    """The diagnosis says that the text is unknown."""
    (cause,) = causes("the printer is on fire")
    assert (cause.code, components_of((cause,))) == (
        "unknown_error",
        tuple(each for each in Component if each is not Component.FLEET),
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param(f"No OpenIDConnect provider found in your account for {ISSUER}", {NAME}, id="issuer"),
        pytest.param(f"for {ISSUER}/.", {NAME}, id="one-slash-more"),
        pytest.param(f"for {ISSUER}-2", {OTHER}, id="longer-text-of-another"),
        pytest.param(f"for {OLD}", {OTHER}, id="former-issuer"),
        pytest.param(f"for {ISSUER}/deeper", {NAME, OTHER}, id="another-issuer-below"),
        pytest.param(RETRIEVE, {NAME, OTHER}, id="nobody-named"),
    ],
)
def test_issuer_in_the_text_is_found(settings: Settings, text: str, names: set[str]) -> None:
    """The issuer's name is optional. If the text names no issuer, all are checked."""
    assert named_issuers(text, settings) == names


def test_port_that_iam_drops_hides_no_issuer(settings: Settings) -> None:
    """The STS error text and the configuration may differ in `:443`."""
    ported = replace(settings.issuers[0], issuer=IssuerUrl(ISSUER.replace(".com/", ".com:443/")))
    for issuer in (ported, settings.issuers[0]):
        two = replace(settings, issuers=(issuer, settings.issuers[1]))
        for text in (ISSUER, ported.issuer):
            assert named_issuers(f"No OpenIDConnect provider found in your account for {text}", two) == {NAME}


def test_findings_come_in_the_order_of_the_causes() -> None:
    """The findings of the likeliest cause come first."""
    findings = tuple(CheckTarget(component, "x").ok("a", "b") for component in Component)
    found = sort_by_cause(CheckReport(MOMENT, findings), causes(RETRIEVE))
    assert [each.component for each in found.findings][:3] == [Component.PUBLIC, Component.POLICY, Component.BUCKET]
    assert len(found.findings) == len(findings)
    assert found.causes == causes(RETRIEVE)


NOW = datetime(2026, 11, 23, 8, 0, 0, 5, tzinfo=UTC)
SCHEMA = json.loads((Path(__file__).parents[3] / "docs/reference/check.schema.json").read_text())
PLACE = CheckTarget(Component.BUCKET, "bucket b", IssuerName("syd-prod"))
FAILED = PLACE.failed("x.y", "It is so.", "Do it.")


def test_diagnosis_obeys_its_schema() -> None:
    """The schema covers every field, with and without issuer and remedy, and knows every component and level."""
    causes = (CheckCause("c", "Because.", "Do.", (Component.KEYS,)),)
    document = to_json(CheckReport(NOW, (FAILED, CheckTarget(Component.GIT, "x").ok("a.b", "Good.")), causes))
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["exit_status"] == 1
    assert document["counts"] == {"failed": 1, "warning": 0, "note": 0, "ok": 1}
    assert document["time"] == "2026-11-23T08:00:00+00:00"
    assert SCHEMA["$defs"]["station"]["enum"] == [str(each) for each in Component]


def test_warnings_leave_the_exit_status_0() -> None:
    """Only failures give exit status 1."""
    assert CheckReport(NOW, (PLACE.warning("a", "b", "c"), PLACE.note("a", "b"))).exit_status is ExitStatus.CURRENT
    assert CheckReport(NOW, (FAILED,)).exit_status is ExitStatus.FAILED
