"""`check --explain`."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from mirror.check.explaining import WHERE, arranged, causes, named, stations
from mirror.check.result import Diagnosis, Place, Station
from mirror.config.settings import FormerIssuer, Settings
from mirror.federation.causes import Station as About
from mirror.model import IssuerName, IssuerUrl
from support.fakes import MOMENT
from support.situations import BASE_URL, ISSUER, NAME, Situation

RETRIEVE = "An error occurred (InvalidIdentityToken): Couldn't retrieve verification key from your identity provider"
OTHER = IssuerName("other")
OLD = IssuerUrl(f"{BASE_URL}/old")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Situation(tmp_path).settings()
    former = (FormerIssuer(OLD, date(2027, 1, 31)),)
    other = replace(made.issuers[0], name=OTHER, issuer=IssuerUrl(f"{ISSUER}-2"), former_issuers=former)
    return replace(made, issuers=(*made.issuers, other))


def test_every_kind_of_cause_has_its_place() -> None:
    """A kind that is added must say where it shows."""
    assert set(WHERE) == set(About)


def test_sts_error_leads_to_the_public_documents() -> None:
    """Fact 27: not public, slow, fetched too often, or a key that is not public."""
    found = causes(RETRIEVE)
    assert found[0].code == "documents_not_public"
    assert stations(found)[:3] == (Station.PUBLIC, Station.POLICY, Station.BUCKET)
    assert {each.stations for each in found if each.code == "documents_slow"} == {(Station.PUBLIC,)}
    assert Station.KEYS in stations(found)


def test_unknown_error_looks_everywhere() -> None:
    """It is said that the text is not known."""
    (cause,) = causes("the printer is on fire")
    assert (cause.code, stations((cause,))) == (
        "unknown_error",
        tuple(each for each in Station if each is not Station.FLEET),
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
    """Its name need not be given; when none is named all are looked at."""
    assert named(text, settings) == names


def test_port_that_iam_drops_hides_no_issuer(settings: Settings) -> None:
    """The text of STS and the configuration may differ in `:443`."""
    ported = replace(settings.issuers[0], issuer=IssuerUrl(ISSUER.replace(".com/", ".com:443/")))
    for issuer in (ported, settings.issuers[0]):
        two = replace(settings, issuers=(issuer, settings.issuers[1]))
        for text in (ISSUER, ported.issuer):
            assert named(f"No OpenIDConnect provider found in your account for {text}", two) == {NAME}


def test_findings_come_in_the_order_of_the_causes() -> None:
    """What the likeliest cause would show is told first."""
    findings = tuple(Place(station, "x").ok("a", "b") for station in Station)
    found = arranged(Diagnosis(MOMENT, findings), causes(RETRIEVE))
    assert [each.station for each in found.findings][:3] == [Station.PUBLIC, Station.POLICY, Station.BUCKET]
    assert len(found.findings) == len(findings)
    assert found.causes == causes(RETRIEVE)
