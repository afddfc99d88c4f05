"""Claims in words: what is right, what is wrong, and since when."""

from datetime import UTC, datetime, timedelta

import pytest

from mirror.trust.checks import Check, Finding
from mirror.trust.claims import check_claims, expired_since, in_words
from mirror.trust.tokens import Token, read_token
from support.situations import ISSUER
from support.tokens import AUDIENCE, claims, mint, signer

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def token(**changes: object) -> Token:
    found = read_token(mint(signer(), claims(NOW.timestamp(), **changes)))
    assert isinstance(found, Token)
    return found


def checks(*audiences: str, **changes: object) -> dict[str, Check]:
    return {check.subject: check for check in check_claims(token(**changes), ISSUER, audiences, NOW)}


def test_good_token_passes_every_check() -> None:
    """iss, aud, exp, iat and sub, each with a sentence for people."""
    found = checks(AUDIENCE)
    assert list(found) == ["iss", "aud", "exp", "iat", "sub"]
    assert {check.finding for check in found.values()} == {Finding.PASSED}
    assert found["exp"].sentence == "expires in 1 h, at 2026-11-25 13:00:00Z"
    assert found["iat"].sentence == "issued 0 s ago, at 2026-11-25 12:00:00Z"


def test_expired_token_says_for_how_long() -> None:
    """In words and as a date."""
    found = checks(AUDIENCE, exp=int((NOW - timedelta(hours=3, minutes=12, seconds=5)).timestamp()))["exp"]
    assert found.sentence == "The token expired 3 h 12 min ago, at 2026-11-25 08:47:55Z."
    assert (found.code, found.finding) == ("expired", Finding.FAILED)


def test_expiry_counts_from_its_second() -> None:
    """On or after exp it must not be accepted (RFC 7519, section 4.1.4)."""
    exp = token(exp=int(NOW.timestamp()))
    assert expired_since(exp, NOW) == timedelta(0)
    assert expired_since(exp, NOW - timedelta(microseconds=1)) is None
    assert expired_since(token(exp=None), NOW) is None


def test_missing_claims_are_told() -> None:
    """Without exp and aud no cloud takes it; without iat nothing is said."""
    found = checks(AUDIENCE, exp=None, aud=None, iat=None)
    assert (found["exp"].code, found["aud"].code) == ("no_expiry", "no_audience")
    assert "iat" not in found


def test_unconfigured_audiences_are_a_note() -> None:
    """Nothing to compare with: said so, and no refusal."""
    found = checks()["aud"]
    assert (found.finding, found.code) == (Finding.NOTED, "audiences_unknown")
    assert "no `audiences` are configured" in found.sentence


def test_one_common_audience_is_enough() -> None:
    """A token may be for several, and several may be configured; long lists are counted."""
    found = checks("a", AUDIENCE, aud=["x", AUDIENCE, *map(str, range(9))])["aud"]
    assert found.finding is Finding.PASSED
    assert "and 6 more" in found.sentence
    assert f'configured: "{AUDIENCE}"' in found.sentence


def test_usual_audience_of_a_cloud_passes_and_is_told_as_such() -> None:
    """Nobody configured it, and the cloud takes it all the same; who is configured stays out of the sentence."""
    found = {each.subject: each for each in check_claims(token(), ISSUER, ("other",), NOW, (AUDIENCE,))}
    assert found["aud"].finding is Finding.PASSED
    assert "usual audience" in found["aud"].sentence
    assert "other" not in found["aud"].sentence


def test_foreign_audience_is_told_beside_the_configured_ones() -> None:
    """Both, so that people see which one to change."""
    found = checks("a", "b", aud="c")["aud"]
    assert found.sentence == 'The token is for "c", and configured is "a", "b".'


def test_time_in_the_future_is_told_with_how_far() -> None:
    """nbf before iat: the first one that is wrong."""
    found = checks(AUDIENCE, nbf=int(NOW.timestamp()) + 300)
    assert found["nbf"].sentence == "The token is not valid before 2026-11-25 12:05:00Z, which is in 5 min."
    found = checks(AUDIENCE, nbf=None, iat=int(NOW.timestamp()) + 60)
    assert found["iat"].sentence == "The token says that it was issued at 2026-11-25 12:01:00Z, which is in 1 min."


@pytest.mark.parametrize(
    "subject",
    [
        "system:serviceaccount:lab",
        "system:serviceaccount:lab:Prober",
        "system:serviceaccount::a",
        "system:serviceaccount:a:b:c",
        "system:node:a",
        "system:serviceaccount:-a:b",
        f"system:serviceaccount:{'a' * 64}:b",
        "system:serviceaccount:a:b\n",
    ],
)
def test_subject_that_is_no_service_account_is_a_note(subject: str) -> None:
    """The token may be right all the same; conditions in the cloud will not fit."""
    found = checks(AUDIENCE, sub=subject)["sub"]
    assert (found.finding, found.code, found.sentence.isprintable()) == (Finding.NOTED, "foreign_subject", True)


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(0), "0 s"),
        (timedelta(microseconds=900_000), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(seconds=61), "1 min 1 s"),
        (timedelta(hours=3, minutes=12, seconds=5), "3 h 12 min"),
        (timedelta(hours=3, seconds=5), "3 h"),
        (timedelta(days=2, hours=5, minutes=59), "2 d 5 h"),
        (timedelta(days=400), "400 d"),
    ],
)
def test_span_is_told_in_its_two_largest_units(span: timedelta, words: str) -> None:
    """Nobody counts seconds of a day."""
    assert in_words(span) == words
