"""The real call to STS: unsigned, with the token only in the form, and every error explained."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.federation.sts import log_in
from mirror.federation.verify import StsResult
from support.s3 import aws_environment
from support.sts import ACCEPTED, SECRET, Sts, running_sts
from support.tls import ca_file
from support.tokens import claims, mint, signer

pytestmark = pytest.mark.server

ROLE = "arn:aws:iam::123456789012:role/pod"
TOKEN = mint(signer(), claims(0)).decode()


@pytest.fixture
def sts(tmp_path: Path) -> Iterator[Sts]:
    with running_sts() as made, aws_environment(ca_file(tmp_path), tmp_path, AWS_ENDPOINT_URL_STS=made.url):
        yield made


def asked() -> StsResult:
    found = log_in(TOKEN, ROLE, "ap-southeast-2")
    assert all(part not in repr(found) for part in (*TOKEN.split("."), SECRET))
    return found


def test_accepted_token_shows_the_assumed_identity(sts: Sts) -> None:
    """The result is the ARN of the session; the request is unsigned, and the credentials are discarded."""
    found = asked()
    assert (found.accepted, found.assumed_role_arn) == (
        True,
        "arn:aws:sts::123456789012:assumed-role/pod/oidc-mirror-verify",
    )
    (form,) = sts.asked
    assert (form["Action"], form["RoleArn"], form["WebIdentityToken"]) == ("AssumeRoleWithWebIdentity", ROLE, TOKEN)
    assert form["DurationSeconds"] == "900"
    assert "authorization" not in sts.headers[0]


@pytest.mark.parametrize(
    ("code", "message", "cause"),
    [
        ("InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://a", "provider_missing"),
        ("InvalidIdentityToken", "Incorrect token audience", "audience_unknown"),
        ("ExpiredTokenException", "Token expired: current date/time 1 must be before …", "token_expired"),
        ("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", "trust_policy"),
    ],
)
def test_error_of_sts_is_explained(sts: Sts, code: str, message: str, cause: str) -> None:
    """The error's own text and its meaning."""
    sts.error = (code, message)
    found = asked()
    assert (found.accepted, found.error_code) == (False, code)
    assert found.causes[0].code == cause


def test_unknown_error_is_reported_without_guessing(sts: Sts) -> None:
    """Its words alone."""
    sts.error = ("Strange", "Never seen.")
    found = asked()
    assert (found.error_code, found.error, found.causes) == ("Strange", "Never seen.", ())


@pytest.mark.parametrize("echo", [TOKEN, TOKEN.rpartition(".")[2]], ids=["token", "signature"])
def test_token_in_an_error_is_not_printed(sts: Sts, echo: str) -> None:
    """STS repeats its input in errors; neither the token nor its signature is shown."""
    sts.error = ("ValidationError", f"Value '{echo}' at 'webIdentityToken' failed to satisfy constraint: …")
    found = asked()
    assert "'***'" in found.error
    assert found.causes[0].code == "token_malformed"


@pytest.mark.parametrize(
    "body",
    [
        "<html/>",
        "",
        "not XML",
        "<AssumeRoleWithWebIdentityResponse/>",
        ACCEPTED[: ACCEPTED.index("</SecretAccessKey>")],
    ],
    ids=["other", "empty", "text", "no-role", "cut-off"],
)
def test_answer_that_is_not_of_sts_is_silence(sts: Sts, body: str) -> None:
    """Another service listens there: the token stays unchecked."""
    sts.body = body
    assert [cause.code for cause in asked().causes] == ["sts_silent"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "no url", "https://sts.invalid"])
def test_silence_is_reported_as_such(tmp_path: Path, url: str) -> None:
    """No service listens, or the endpoint is no URL: it is reported, never raised."""
    with aws_environment(ca_file(tmp_path), tmp_path, AWS_ENDPOINT_URL_STS=url):
        found = asked()
    assert (found.accepted, [cause.code for cause in found.causes]) == (False, ["sts_silent"])


def test_missing_profile_is_reported(tmp_path: Path) -> None:
    """Input that botocore rejects before it sends a request."""
    with aws_environment(ca_file(tmp_path), tmp_path, AWS_PROFILE="missing"):
        assert asked().error_code == "ProfileNotFound"
