"""The mirror's own AWS credentials."""

from dataclasses import replace
from pathlib import Path

import pytest

from mirror.check.credentials import circular, credentials
from mirror.check.ports import Missed
from mirror.ports import OwnToken
from support.doctor import ACCOUNT, FakeAws, told
from support.fakes import FakeWorld
from support.situations import ISSUER, Situation

PUBLISH = FakeWorld().publish()
STORE = replace(PUBLISH, endpoint_url="https://store.example.com")


def test_identity_is_told() -> None:
    """Where they come from in words, and the ARN with its account."""
    found = list(credentials(PUBLISH, FakeAws(source="iam-role")))
    assert told(found) == [("ok", "credentials.found"), ("ok", "credentials.identity")]
    assert "metadata service" in found[0].sentence
    assert ACCOUNT in found[1].sentence


@pytest.mark.parametrize(
    ("aws", "expected"),
    [
        pytest.param(FakeAws(source=None), ("failed", "credentials.none"), id="none"),
        pytest.param(
            FakeAws(source=Missed("ProfileNotFound", "no", "Correct it.")),
            ("failed", "credentials.unusable"),
            id="profile",
        ),
        pytest.param(
            FakeAws(who=Missed("ExpiredToken", "old", "Renew.")), ("failed", "credentials.expired"), id="expired"
        ),
        pytest.param(
            FakeAws(who=Missed("InvalidAccessKeyId", "", "Correct.")),
            ("failed", "credentials.refused"),
            id="unknown-key",
        ),
    ],
)
def test_unusable_credentials_are_failures(aws: FakeAws, expected: tuple[str, str]) -> None:
    """None, not to be got, expired, refused: each has its code and a remedy."""
    found = list(credentials(PUBLISH, aws))[-1]
    assert told([found]) == [expected]
    assert found.remedy


def test_sts_that_is_not_reached_is_a_warning() -> None:
    """Keys of the environment need no STS: a network may have a way to S3 alone."""
    aws = FakeAws(who=Missed("ConnectTimeout", "", "Look."))
    assert told(credentials(PUBLISH, aws))[-1] == ("warning", "credentials.unknown")


def test_store_without_sts_is_a_note() -> None:
    """What only AWS has is no fault of a store that is not AWS."""
    aws = FakeAws(who=Missed("NoSuchHost", "", "Look."), source="something-new")
    assert told(credentials(STORE, aws)) == [("ok", "credentials.found"), ("note", "credentials.unknown")]


def test_token_of_an_own_issuer_is_circular(tmp_path: Path) -> None:
    """The finding of a pass, with its remedy."""
    issuers = Situation(tmp_path).settings().issuers
    (found,) = circular(issuers, lambda _: OwnToken(tmp_path, ISSUER))
    assert told([found]) == [("warning", "credentials.circular")]
    assert list(circular(issuers, lambda _: None)) == []
