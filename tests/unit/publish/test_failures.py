import socket

import pytest
from botocore import exceptions as boto

from mirror.config.settings import Publish
from mirror.publish.failures import Attempt, bucket_error
from mirror.publish.remedies import REMEDIES

PUBLISH = Publish(bucket="bucket", region="ap-southeast-2", base_url="https://unused")
WRITING = Attempt("written", "s3:PutObject", PUBLISH, "id/jwks")


def told_by_store(code: str | None, *, operation: str = "PutObject", status: int = 400) -> boto.ClientError:
    error = {} if code is None else {"Code": code, "Message": "as the store says"}
    return boto.ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)  # type: ignore[typeddict-item] # half an answer is the situation


@pytest.mark.parametrize("code", sorted(REMEDIES))
def test_every_remedy_is_filled_in(code: str) -> None:
    """Each line of the table makes a whole sentence, with no brace left."""
    error = bucket_error(told_by_store(code), WRITING)
    assert error.remedy.endswith(".")
    assert not {"{", "}"} & set(error.remedy)


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        pytest.param(told_by_store("AccessDenied"), "AccessDenied", "s3:PutObject", id="denied"),
        pytest.param(
            told_by_store("AccessDenied", operation="AssumeRole"), "AccessDenied", "sts:AssumeRole", id="role"
        ),
        pytest.param(told_by_store(None, status=503), "SlowDown", "limits.puts", id="status-alone"),
        pytest.param(told_by_store("ExpiredTokenException"), "ExpiredToken", "expired", id="same-as"),
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
        pytest.param(boto.DataNotFoundError(data_path="x"), "DataNotFoundError", "documentation", id="never-heard-of"),
    ],
)
def test_failure_has_code_and_remedy(error: Exception, code: str, word: str) -> None:
    """What botocore or a socket raises becomes the code of the table, with the remedy for it."""
    made = bucket_error(error, WRITING)
    assert (made.code, word in made.remedy) == (code, True)
    assert made.sentence == "The object `id/jwks` of bucket `bucket` could not be written."


def test_output_of_a_credential_process_is_not_told() -> None:
    """What an operator's own program prints may be the secret itself."""
    error = boto.CredentialRetrievalError(provider="custom-process", error_msg="SECRET")
    made = bucket_error(error, WRITING)
    assert made.code == "CredentialRetrieval"
    assert "SECRET" not in str(made)


def test_long_cause_is_cut() -> None:
    """A store cannot fill our log through its error message."""
    response = {"Error": {"Code": "Odd", "Message": "x" * 10_000}}
    made = bucket_error(boto.ClientError(response, "PutObject"), WRITING)  # type: ignore[arg-type] # as botocore gives it
    assert len(made.cause) <= 300
