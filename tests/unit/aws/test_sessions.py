"""AWS sessions: our faster replacements behave like botocore."""

import shutil
import socket
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3.session
import botocore
import pytest
from botocore.exceptions import UnknownServiceError
from botocore.utils import parse_timestamp

from mirror.aws.errors import CredentialsError
from mirror.aws.sessions import issuer_of_file, moment, session, session_with_credentials, token_file
from mirror.config.settings import PublishSettings
from support.captures import FOLDER
from support.s3 import ACCESS_KEY, aws_environment
from support.situations import ISSUER

PUBLISH = PublishSettings("oidc-bucket", "ap-southeast-2", "https://oidc-bucket.s3-ap-southeast-2.amazonaws.com")


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
    """Listings, headers and JSON: both parsers return the same timestamp."""
    assert moment(text) == parse_timestamp(text)


def test_moment_of_a_listing() -> None:
    """The timestamp format of S3 listings."""
    assert moment("2026-11-25T18:00:00.000Z") == datetime(2026, 11, 25, 18, tzinfo=UTC)


def test_no_timestamp_is_refused() -> None:
    """An invalid timestamp raises an exception, as in botocore."""
    with pytest.raises(ValueError, match="Invalid timestamp"):
        moment("yesterday evening, or so")


def test_sessions_share_what_they_read_of_the_same_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A description of a service is parsed once in a process; a session with other folders does not see it."""
    first, second = (_loader_of(session(PUBLISH)) for _ in range(2))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    other = _loader_of(session(PUBLISH))
    read = first.load_service_model("s3", "waiters-2")
    assert second.load_service_model("s3", "waiters-2") is read
    assert str(tmp_path) in other.search_paths
    assert other.load_service_model("s3", "waiters-2") is not read


def test_each_session_has_botocores_handlers_and_its_own() -> None:
    """None of those that a plain session has is missing; a handler that is registered with one session is its own."""
    first, second = (session(PUBLISH) for _ in range(2))
    assert _handlers_of(second.events, "before-call.s3.PutObject")
    for event in ("before-call.s3.PutObject", "before-parameter-build.s3.ListObjectsV2", "choose-signer.sts"):
        assert _handlers_of(second.events, event) == _handlers_of(boto3.session.Session().events, event)
    called = []
    first.events.register("of-the-first", lambda **_: called.append("first"))
    second.events.emit("of-the-first")
    assert called == []
    first.events.emit("of-the-first")
    assert called == ["first"]


def _handlers_of(events: Any, event: str) -> list[object]:
    return list(events._emitter._handlers.prefix_search(event))


def _loader_of(made: Any) -> Any:
    return made._session.get_component("data_loader")


def test_every_service_of_botocore_can_be_asked_for() -> None:
    """A session knows the same services as botocore and rejects unknown ones."""
    made: Any = session(PUBLISH)
    assert set(made.get_available_services()) >= {"s3", "sts", "iam", "cloudfront", "s3control"}
    with pytest.raises(UnknownServiceError, match="no-such-service"):
        made.client("no-such-service", region_name="ap-southeast-2")


def test_descriptions_from_elsewhere_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`AWS_DATA_PATH` adds services, as in botocore's own loader."""
    shutil.copytree(Path(botocore.__file__).parent / "data" / "sts", tmp_path / "ours")
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    made: Any = session(PUBLISH)
    client = made.client("ours", region_name="ap-southeast-2", aws_access_key_id="a", aws_secret_access_key="b")
    assert "assume_role" in dir(client)


PLAIN = PublishSettings("bucket", "eu-west-1", "https://unused")
PROFILED = PublishSettings("bucket", "eu-west-1", "https://unused", profile="mirror")
TOKEN = Path("/var/run/token")
IN_ENVIRONMENT = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(TOKEN), "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/mirror"}
STATIC = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"}
FILES = """
[default]
region = eu-west-1
[profile mirror]
role_arn = arn:aws:iam::123456789012:role/mirror
web_identity_token_file = /var/run/profile-token
[profile through]
role_arn = arn:aws:iam::123456789012:role/other
source_profile = mirror
[profile circle]
role_arn = arn:aws:iam::123456789012:role/other
source_profile = circle2
[profile circle2]
source_profile = circle
"""


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Path]:
    with aws_environment(tmp_path / "none", tmp_path):
        (tmp_path / "config").write_text(FILES)
        yield tmp_path


def publish(profile: str | None) -> PublishSettings:
    return PublishSettings("bucket", "eu-west-1", "https://unused", profile=profile)


@pytest.mark.parametrize(
    ("profile", "environ", "path"),
    [
        pytest.param(None, {}, None, id="nothing"),
        pytest.param(None, IN_ENVIRONMENT, TOKEN, id="environment"),
        pytest.param(None, {**IN_ENVIRONMENT, **STATIC}, None, id="static-keys-come-first"),
        pytest.param("mirror", {}, Path("/var/run/profile-token"), id="profile"),
        pytest.param("mirror", IN_ENVIRONMENT, Path("/var/run/profile-token"), id="profile-before-environment"),
        pytest.param("default", IN_ENVIRONMENT, None, id="named-profile-switches-the-environment-off"),
        pytest.param("through", {}, Path("/var/run/profile-token"), id="source-profile"),
        pytest.param("circle", {}, None, id="circle-of-profiles"),
        pytest.param("nobody", {}, None, id="no-such-profile"),
    ],
)
def test_token_file_is_the_one_that_botocore_takes(
    files: Path, profile: str | None, environ: dict[str, str], path: Path | None
) -> None:
    """The token file follows the order of botocore's credential chain."""
    assert token_file(publish(profile), environ) == path


def test_damaged_configuration_names_no_token(files: Path) -> None:
    """A damaged configuration names no token file. The client that uses the configuration reports the error."""
    (files / "config").write_text("[broken")
    assert token_file(publish(None), {}) is None


def test_issuer_of_a_captured_token_is_read(tmp_path: Path) -> None:
    """A real token names its issuer. A final newline is harmless."""
    token = (FOLDER / "01-rsa1/sa-token-cluster-aud.jwt").read_bytes()
    path = tmp_path / "token"
    path.write_bytes(token.strip() + b"\n")
    assert issuer_of_file(path) == ISSUER


def test_missing_file_has_no_issuer(tmp_path: Path) -> None:
    """An unreadable token has no issuer."""
    assert issuer_of_file(tmp_path / "none") is None


@pytest.mark.parametrize("claims", [b"{}", b'{"iss":1}'], ids=["without", "number"])
def test_what_names_no_issuer_has_none(tmp_path: Path, claims: bytes) -> None:
    """Only a text counts as an issuer."""
    (tmp_path / "token").write_bytes(b"e30." + urlsafe_b64encode(claims).rstrip(b"=") + b".sig")
    assert issuer_of_file(tmp_path / "token") is None


def test_credentials_that_hang_are_given_up_in_time(tmp_path: Path) -> None:
    """If a token service accepts the connection and never answers, the reason names that service."""
    token = tmp_path / "token"
    token.write_text("header.e30.signature")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ = {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/admin",
            "AWS_ENDPOINT_URL_STS": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "",
            "AWS_SECRET_ACCESS_KEY": "",
        }
        late = pytest.raises(CredentialsError, match=r"did not answer within 0\.5 s")
        with aws_environment(tmp_path / "none", tmp_path, **environ), late:
            session_with_credentials(PUBLISH, 0.5)


def test_credentials_are_got_before_they_are_needed(tmp_path: Path) -> None:
    """Credentials are resolved early. If they are missing, the client that needs them reports it."""
    with aws_environment(tmp_path / "none", tmp_path):
        found = session_with_credentials(PUBLISH, 10).get_credentials()
        assert found is not None
        assert found.access_key == ACCESS_KEY
    with aws_environment(tmp_path / "none", tmp_path, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""):
        assert session_with_credentials(PUBLISH, 10).get_credentials() is None
