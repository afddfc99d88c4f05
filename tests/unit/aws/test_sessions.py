"""Sessions of AWS: what we made quicker than botocore has it means the same."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore
import pytest
from botocore.exceptions import UnknownServiceError
from botocore.utils import parse_timestamp

from mirror.aws.sessions import moment, session
from mirror.config.settings import Publish

PUBLISH = Publish("oidc-bucket", "ap-southeast-2", "https://oidc-bucket.s3-ap-southeast-2.amazonaws.com")


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-25T18:00:00.000Z",
        "2026-11-25T18:00:00Z",
        "2026-11-25T18:00:00.5Z",
        "2026-11-25T18:00:00+10:00",
        "2026-11-25T18:00:00",
        "20261125T180000Z",
        "Wed, 25 Nov 2026 18:00:00 GMT",
        "1790000000",
        1790000000,
        1790000000.5,
    ],
    ids=str,
)
def test_moment_is_what_botocore_reads(text: str) -> None:
    """Listings, headers and JSON: the same moment, whoever reads it."""
    assert moment(text) == parse_timestamp(text)


def test_moment_of_a_listing() -> None:
    """The form that S3 gives by the thousand."""
    assert moment("2026-11-25T18:00:00.000Z") == datetime(2026, 11, 25, 18, tzinfo=UTC)


def test_no_timestamp_is_refused() -> None:
    """What is no moment raises, as botocore does."""
    with pytest.raises(ValueError, match="Invalid timestamp"):
        moment("yesterday evening, or so")


def test_every_service_of_botocore_can_be_asked_for() -> None:
    """A session knows as many services as botocore, and refuses what there is not."""
    made: Any = session(PUBLISH)
    assert set(made.get_available_services()) >= {"s3", "sts", "iam", "cloudfront", "s3control"}
    with pytest.raises(UnknownServiceError, match="no-such-service"):
        made.client("no-such-service", region_name="ap-southeast-2")


def test_descriptions_from_elsewhere_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`AWS_DATA_PATH` adds services, as with botocore's own loader."""
    shutil.copytree(Path(botocore.__file__).parent / "data" / "sts", tmp_path / "ours")
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    made: Any = session(PUBLISH)
    client = made.client("ours", region_name="ap-southeast-2", aws_access_key_id="a", aws_secret_access_key="b")
    assert "assume_role" in dir(client)
