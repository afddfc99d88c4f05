"""Tokens are read again for each poll, rejected when malformed, and never sent if a cloud would accept them."""

import json
import os
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from mirror.apiserver.credentials import MAX_TOKEN_BYTES, read_token
from mirror.model import Reason
from support.askers import AUDIENCE
from support.captures import FOLDER


def jwt(claims: object) -> str:
    payload = urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJSUzI1NiJ9.{payload}.c2lnbmF0dXJl"


def read(folder: Path, content: bytes) -> str | Reason:
    path = folder / "token"
    path.write_bytes(content)
    return read_token(path, (AUDIENCE,))


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"], ids=["bare", "newline", "crlf"])
def test_one_line_token_is_sent(tmp_path: Path, ending: str) -> None:
    """A token of one line is read unchanged, with or without its final newline."""
    assert read(tmp_path, f"opaque-token{ending}".encode()) == "opaque-token"


def test_rotated_token_is_read_again(tmp_path: Path) -> None:
    """A second read gives the new content of the file (facts.md#20)."""
    assert [read(tmp_path, b"first"), read(tmp_path, b"second")] == ["first", "second"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"  \n",
        b"one\ntwo\n",
        b"one\rtwo",
        b"one\n\n",
        b"Bearer abc",
        b" abc",
        b"a\tb",
        b"a\x00b",
        b"a\x7fb",
        "caf\u00e9".encode(),
    ],
    ids=[
        "empty",
        "only-newline",
        "blank",
        "two-lines",
        "carriage-return",
        "empty-second-line",
        "with-scheme",
        "leading-space",
        "tab",
        "nul",
        "delete",
        "non-ascii",
    ],
)
def test_malformed_token_is_not_sent(tmp_path: Path, content: bytes) -> None:
    """Anything but a bare one-line token is rejected, and the sentence does not repeat it."""
    reason = read(tmp_path, content)
    assert isinstance(reason, Reason)
    assert reason.code == "token_malformed"
    assert "abc" not in reason.sentence


def test_largest_token_is_sent(tmp_path: Path) -> None:
    """A token of exactly the maximum size is accepted."""
    assert read(tmp_path, b"t" * MAX_TOKEN_BYTES) == "t" * MAX_TOKEN_BYTES


def test_larger_file_is_unreadable(tmp_path: Path) -> None:
    """A file over the maximum size is rejected."""
    reason = read(tmp_path, b"t" * (MAX_TOKEN_BYTES + 1))
    assert isinstance(reason, Reason)
    assert reason.code == "token_unreadable"


def test_missing_folder_or_pipe_is_unreadable(tmp_path: Path) -> None:
    """A missing file, a folder and a named pipe (which would hang) are all reported as unreadable."""
    os.mkfifo(tmp_path / "pipe")
    reasons = [read_token(tmp_path / name, ()) for name in ("missing", ".", "pipe")]
    assert [reason.code for reason in reasons if isinstance(reason, Reason)] == ["token_unreadable"] * 3


@pytest.mark.parametrize(
    "audience",
    [AUDIENCE, "sts.amazonaws.com", "api://AzureADTokenExchange", ["https://kubernetes.default.svc", AUDIENCE]],
    ids=["ours", "aws", "entra", "one-of-two"],
)
def test_token_for_a_cloud_is_never_sent(tmp_path: Path, audience: object) -> None:
    """A JWT that a relying party would accept is rejected as `wrong_token`."""
    reason = read(tmp_path, jwt({"aud": audience}).encode())
    assert isinstance(reason, Reason)
    assert reason.code == "wrong_token"


def test_captured_federation_token_is_never_sent() -> None:
    """A real token for the cluster's audience, as pods carry it, is rejected."""
    reason = read_token(FOLDER / "02-rsa1-ec2-overlap" / "token-cluster-aud.jwt", (AUDIENCE,))
    assert isinstance(reason, Reason)
    assert reason.code == "wrong_token"


def test_captured_apiserver_token_is_sent() -> None:
    """A real token for the apiserver's own audience is sent."""
    path = FOLDER / "02-rsa1-ec2-overlap" / "token-default-aud.jwt"
    assert read_token(path, (AUDIENCE,)) == path.read_text().strip()


@pytest.mark.parametrize(
    "token",
    [
        jwt({"aud": "https://kubernetes.default.svc"}),
        jwt({"aud": 7}),
        jwt({"aud": [None, {}]}),
        jwt({}),
        jwt(["sts.amazonaws.com"]),
        "abcdef.0123456789abcdef",
        "a.b.c",
        "a.!!!.c",
        "a." + "W1tb" * 3000 + ".c",
        "..",
    ],
    ids=[
        "apiserver",
        "number",
        "odd-list",
        "none",
        "no-object",
        "bootstrap",
        "no-json",
        "no-base64",
        "deep-nesting",
        "empty-parts",
    ],
)
def test_other_and_opaque_tokens_are_sent(tmp_path: Path, token: str) -> None:
    """A token that names no cloud, or is not a JWT, is sent unchanged."""
    assert read(tmp_path, token.encode()) == token


@pytest.mark.parametrize(
    "audience",
    [
        "sts.amazonaws.com",
        "api://AzureADTokenExchange",
        "api://AzureADTokenExchangeUSGov",
        "api://AzureADTokenExchangeChina",
        "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/p",
        "https://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/p",
        AUDIENCE,
    ],
)
def test_token_for_whatever_cloud_is_not_sent(tmp_path: Path, audience: str) -> None:
    """The usual audiences of every cloud and all configured audiences are rejected, for any cloud."""
    for claims in ({"aud": audience}, {"aud": ["x", audience]}):
        refused = read(tmp_path, jwt(claims).encode())
        assert isinstance(refused, Reason)
        assert refused.code == "wrong_token"
