"""Every failure of an AWS client becomes one sentence with a code, a cause and a remedy, and shows no secret."""

import os
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest
from botocore import exceptions as boto
from urllib3.exceptions import LocationParseError, ProxyError, SSLError

from mirror.aws.errors import REMEDIES, S3Operation, admin_errors_translated, bucket_error
from mirror.config.settings import PublishSettings
from mirror.errors import BucketError

PUBLISH = PublishSettings(bucket="bucket", region="ap-southeast-2", base_url="https://unused")
WRITING = S3Operation("written", "s3:PutObject", PUBLISH, "id/jwks")


def reported_by_store(code: str | None, *, operation: str = "PutObject", status: int = 400) -> boto.ClientError:
    error = {} if code is None else {"Code": code, "Message": "as the store says"}
    return boto.ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)  # type: ignore[typeddict-item] # an incomplete response is the test case


def not_pem() -> ssl.SSLError:
    with pytest.raises(ssl.SSLError) as caught:
        ssl.create_default_context(cafile=__file__)
    return caught.value


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Sets variables in the environment, where botocore reads them. At first no profile is set."""
    names = ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield os.environ  # type: ignore[misc]  # the real one, changed in place
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)


@pytest.mark.parametrize("code", sorted(code for code, each in REMEDIES.items() if each.administrator))
def test_every_remedy_of_an_administrator_is_filled_in(code: str) -> None:
    """`provision` uses the same table: its administrator column also gives a complete sentence."""
    with pytest.raises(BucketError) as caught, admin_errors_translated("It failed.", "s3:PutBucketPolicy"):
        raise reported_by_store(code)
    assert caught.value.remedy.endswith((".", "`.", ")."))
    assert not {"{", "}"} & set(caught.value.remedy)


@pytest.mark.parametrize("code", sorted(code for code, each in REMEDIES.items() if each.mirror))
def test_every_remedy_is_filled_in(code: str) -> None:
    """Each row of the table gives a complete sentence without a leftover brace."""
    error = bucket_error(reported_by_store(code), WRITING)
    assert error.remedy.endswith(".")
    assert not {"{", "}"} & set(error.remedy)


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        pytest.param(reported_by_store("AccessDenied"), "AccessDenied", "s3:PutObject", id="denied"),
        pytest.param(
            reported_by_store("AccessDenied", operation="AssumeRole"), "AccessDenied", "sts:AssumeRole", id="role"
        ),
        pytest.param(reported_by_store(None, status=503), "SlowDown", "limits.puts", id="status-alone"),
        pytest.param(reported_by_store("ExpiredTokenException"), "ExpiredToken", "expired", id="same-as"),
        pytest.param(boto.ProfileNotFound(profile="p"), "ProfileNotFound", "publish.profile", id="profile"),
        pytest.param(boto.NoCredentialsError(), "NoCredentials", "s3:PutObject", id="no-credentials"),
        pytest.param(boto.UnauthorizedSSOTokenError(), "SsoLoginExpired", "aws sso login", id="sso"),
        pytest.param(boto.ProxyConnectionError(proxy_url="http://p"), "Proxy", "HTTPS_PROXY", id="proxy"),
        pytest.param(boto.ReadTimeoutError(endpoint_url="https://e"), "ReadTimeout", "in time", id="read-timeout"),
        pytest.param(boto.ConnectTimeoutError(endpoint_url="https://e"), "ConnectTimeout", "firewall", id="timeout"),
        pytest.param(boto.ResponseStreamingError(error="x"), "IncompleteBody", "broke off", id="broken-body"),
        pytest.param(boto.FlexibleChecksumError(error_msg="x"), "ChecksumMismatch", "damaged", id="checksum"),
        pytest.param(socket.gaierror(-2, "unknown"), "NoSuchHost", "DNS", id="dns"),
        pytest.param(TimeoutError(), "ReadTimeout", "in time", id="socket-timeout"),
        pytest.param(ConnectionResetError(), "ConnectionClosed", "closed", id="socket-reset"),
        pytest.param(KeyError("ETag"), "MalformedAnswer", "not S3", id="missing-member"),
        pytest.param(boto.DataNotFoundError(data_path="x"), "DataNotFoundError", "report it", id="never-heard-of"),
        pytest.param(reported_by_store("Whatever"), "Whatever", "documentation", id="code-never-heard-of"),
        pytest.param(
            boto.ProxyConnectionError(proxy_url="http://p", error=ProxyError("no", socket.gaierror(-2, "unknown"))),
            "Proxy",
            "HTTPS_PROXY",
            id="proxy-does-not-resolve",
        ),
        pytest.param(
            boto.HTTPClientError(error=LocationParseError("bad host")), "Proxy", "HTTPS_PROXY", id="proxy-is-no-url"
        ),
        pytest.param(
            boto.SSLError(endpoint_url="https://e", error=SSLError(FileNotFoundError(2, "No such file"))),
            "CaBundle",
            "AWS_CA_BUNDLE",
            id="ca-bundle-missing",
        ),
        pytest.param(
            boto.SSLError(endpoint_url="https://e", error=SSLError(not_pem())),
            "CaBundle",
            "readable PEM",
            id="ca-bundle-not-pem",
        ),
        pytest.param(
            boto.SSLError(endpoint_url="https://e", error=SSLError(ssl.SSLCertVerificationError(1, "self-signed"))),
            "Tls",
            "not trusted",
            id="untrusted",
        ),
        pytest.param(
            boto.InvalidSTSRegionalEndpointsConfigError(sts_regional_endpoints_config="zzz"),
            "InvalidConfiguration",
            "AWS_*",
            id="sts-endpoints",
        ),
        pytest.param(
            boto.InvalidDefaultsMode(mode="zz", valid_modes="legacy"), "InvalidConfiguration", "AWS_*", id="mode"
        ),
        pytest.param(CancelledError(), "Cancelled", "the mirror ends", id="cancelled"),
    ],
)
def test_failure_has_code_and_remedy(error: Exception, code: str, word: str) -> None:
    """An error from botocore or a socket gets the code of the table and its remedy."""
    made = bucket_error(error, WRITING)
    assert (made.code, word in made.remedy) == (code, True)
    assert made.sentence == "The object `id/jwks` of bucket `bucket` could not be written."


@pytest.mark.parametrize(
    ("variables", "setting", "profile"),
    [
        ({}, "publish.profile", "default"),
        ({"AWS_PROFILE": "zzz"}, "AWS_PROFILE", "zzz"),
        ({"AWS_PROFILE": "zzz", "AWS_DEFAULT_PROFILE": "yyy"}, "AWS_DEFAULT_PROFILE", "yyy"),
    ],
    ids=["none", "one", "botocore's-order"],
)
def test_profile_of_the_environment_is_named(
    environment: dict[str, str], variables: dict[str, str], setting: str, profile: str
) -> None:
    """The remedy names the profile that is used, and where it is set."""
    environment.update(variables)
    remedy = bucket_error(boto.ProfileNotFound(profile=profile), WRITING).remedy
    assert f"Correct `{setting}`, or add the profile `{profile}`" in remedy


@pytest.mark.parametrize(
    "code",
    ["", "A" * 65, "Access Denied", "Denied\nerror: all is lost", "\x1b[2J", "\u202eDenied", "<b>"],
    ids=["empty", "long", "space", "line", "escape", "bidirectional", "markup"],
)
def test_code_that_is_none_does_not_get_into_a_report(code: str) -> None:
    """A store cannot inject text into the report through its error code."""
    error = reported_by_store(code)
    error.response["ResponseMetadata"].clear()  # type: ignore[attr-defined]  # a dictionary with typed keys only
    made = bucket_error(error, WRITING)
    assert made.code == "Unknown"
    assert made.cause == "Unknown: as the store says"


def test_output_of_a_credential_process_is_not_printed() -> None:
    """The output of an operator's credential process may be the secret itself."""
    error = boto.CredentialRetrievalError(provider="custom-process", error_msg="SECRET")
    made = bucket_error(error, WRITING)
    assert made.code == "CredentialRetrieval"
    assert "SECRET" not in str(made)


def test_long_cause_is_cut() -> None:
    """A store cannot flood the log through its error message."""
    response = {"Error": {"Code": "Odd", "Message": "x" * 10_000}}
    made = bucket_error(boto.ClientError(response, "PutObject"), WRITING)  # type: ignore[arg-type] # as botocore returns it
    assert len(made.cause) <= 300


@pytest.mark.parametrize(
    ("status", "code", "message", "action", "setting"),
    [
        pytest.param(
            400, "InvalidArgument", "Unsupported header 'x-amz-checksum-sha256' received for this API call.",
            "s3:PutObject", "publish.checksums: false", id="backblaze",
        ),
        pytest.param(
            400, "InvalidArgument", "Unsupported header 'x-amz-checksum-mode' received for this API call.",
            "s3:GetObject", "publish.checksums: false", id="backblaze-get",
        ),
        pytest.param(
            400, "InvalidRequest", "Header If-None-Match is not supported.",
            "s3:PutObject", "publish.conditional_writes: false", id="conditional",
        ),
        pytest.param(
            501, "NotImplemented", "A header you provided implies functionality that is not implemented.",
            "s3:PutObject", "publish.conditional_writes: false", id="put-501",
        ),
        pytest.param(400, "InvalidRequest", "No.", "s3:PutObject", "publish.checksums: false", id="untold"),
    ],
)  # fmt: skip
def test_refused_header_names_its_setting(status: int, code: str, message: str, action: str, setting: str) -> None:
    """If a setting avoids the rejected header, the remedy names that setting."""
    assert setting in refusal(status, code, message, action).remedy


def test_missing_listing_is_no_matter_of_conditional_writes() -> None:
    """No setting helps against a 501 for ListObjectsV2, and none is named."""
    remedy = refusal(501, "NotImplemented", "Not implemented.", "s3:ListBucket").remedy
    assert "conditional_writes" not in remedy
    assert "s3:ListBucket" in remedy


def refusal(status: int, code: str, message: str, action: str) -> BucketError:
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return bucket_error(boto.ClientError(answer, "Any"), S3Operation("written", action, PUBLISH, "a/b"))
