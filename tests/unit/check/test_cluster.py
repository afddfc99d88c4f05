"""The apiservers and their keys."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mirror.check.cluster import apiservers, keys
from mirror.model import Note, Observed, Reason, Unusable, key_name
from support.askers import issuer
from support.check_clients import reported, worst
from support.keys import EC_KEYS, RSA_KEYS

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
URL, OTHER = "https://10.0.0.11:6443", "https://10.0.0.12:6443"
ISSUER = issuer(URL, OTHER)
ONE = RSA_KEYS[0]
TWO = RSA_KEYS[1]
GOOD = Observed(URL, (ONE,), date=NOW, certificate_expires_at=NOW + timedelta(days=90))
FORBIDDEN = Unusable(URL, (Reason("forbidden", "No.", "Bind it.", "discovery"), Reason("timeout", "Slow.", "Look.")))


def test_good_apiserver_is_ok() -> None:
    """The finding shows the published keys and the expiry of the certificate."""
    found = list(apiservers(ISSUER, (GOOD,), NOW))
    assert reported(found) == [("ok", "apiserver.believed"), ("ok", "tls.valid")]
    assert "90 d" in found[1].sentence


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        pytest.param(FORBIDDEN, [("failed", "forbidden"), ("failed", "timeout")], id="every-reason"),
        pytest.param(
            replace(GOOD, certificate_expires_at=NOW + timedelta(days=29)), [("warning", "tls.expires_soon")], id="soon"
        ),
        pytest.param(replace(GOOD, date=NOW - timedelta(minutes=6)), [("warning", "clock.skewed")], id="clock"),
        pytest.param(replace(GOOD, date=NOW - timedelta(minutes=4)), [], id="clock-within-bounds"),
        pytest.param(
            replace(GOOD, notes=(Note("foreign_jwks_uri", "Other."),)), [("note", "foreign_jwks_uri")], id="note"
        ),
    ],
)
def test_fault_of_an_apiserver_is_reported(observation: Observed | Unusable, expected: list[tuple[str, str]]) -> None:
    """Each fault gives its own finding."""
    assert worst(apiservers(ISSUER, (observation,), NOW)) == expected


def test_reason_says_which_document() -> None:
    """Some clusters serve discovery but reject requests for the JWKS (facts.md#16)."""
    found = list(apiservers(ISSUER, (FORBIDDEN,), NOW))
    assert found[0].sentence == "[discovery] No."


def test_load_balancer_is_reported_once() -> None:
    """Five equal answers from one URL are one finding."""
    assert reported(apiservers(ISSUER, (GOOD,) * 5, NOW)) == [("ok", "apiserver.believed"), ("ok", "tls.valid")]


def test_missing_replicas_are_reported() -> None:
    """No replica at all is a failure. Fewer than expected is a warning."""
    assert reported(apiservers(ISSUER, (), NOW)) == [("failed", "apiservers.none")]
    assert worst(apiservers(replace(ISSUER, expect_replicas=3), (GOOD,), NOW)) == [("warning", "apiservers.missing")]


def test_replicas_that_agree_are_ok() -> None:
    """The kids and algorithms of each replica are listed, and all keys are public."""
    found = list(keys(ISSUER, (GOOD, replace(GOOD, apiserver=OTHER)), (ONE,)))
    assert reported(found) == [("ok", "keys.shown")] * 2 + [("ok", "keys.same"), ("ok", "keys.public")]
    assert key_name(ONE) in found[0].sentence


def test_replicas_that_differ_are_named() -> None:
    """The finding names the key, the replicas that show it, and the others."""
    found = keys(ISSUER, (GOOD, Observed(OTHER, (ONE, TWO))), None)
    (differs,) = [each for each in found if each.level != "ok"]
    assert (differs.code, differs.subject) == ("keys.differ", TWO.kid)
    assert f"{OTHER} shows {TWO.kid} (RS256), not {URL}." in differs.sentence


def test_load_balancer_with_different_answers_is_reported() -> None:
    """One URL hides replicas with different keys."""
    found = list(keys(ISSUER, (GOOD, Observed(URL, (ONE, TWO))), None))
    assert worst(found) == [("warning", "keys.differ")]
    assert "not in each of its answers" in next(each for each in found if each.level != "ok").sentence


def test_key_that_is_not_public_is_a_warning() -> None:
    """Tokens signed with a non-public key are rejected. A key that only the public JWKS has is a note."""
    found = list(keys(ISSUER, (GOOD,), (TWO,)))
    assert worst(found) == [("warning", "keys.not_public"), ("note", "keys.only_public")]
    assert "`oidc-mirror status syd-prod`" in next(each for each in found if each.code == "keys.not_public").remedy


def test_limits_of_relying_parties_are_notes() -> None:
    """Entra does not support EC keys."""
    assert worst(keys(ISSUER, (Observed(URL, (ONE, *EC_KEYS[:1])),), None))[0] == ("note", "entra_some_keys")


def test_without_any_answer_keys_are_not_reported() -> None:
    """An unreachable apiserver never means that a key is gone."""
    assert list(keys(ISSUER, (FORBIDDEN,), (ONE,))) == []
