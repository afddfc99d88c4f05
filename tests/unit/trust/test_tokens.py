"""Reading tokens: those that a real kube-apiserver minted come out as they were meant."""

import json
from datetime import UTC, datetime

import pytest

from mirror.trust.tokens import MAX_TOKEN_BYTES, Token, read_token
from support.captures import FOLDER
from support.tokens import captured, captured_names, claims, mint, signer


@pytest.mark.parametrize("name", captured_names())
def test_captured_token_is_read_as_the_apiserver_meant_it(name: str) -> None:
    """Every claim of the decoded file beside it (where there is one), and dates as dates."""
    token = read_token(captured(name))
    assert isinstance(token, Token)
    assert token.subject.startswith("system:serviceaccount:")
    decoded = FOLDER / f"{name}.json"
    if decoded.exists():
        meant = json.loads(decoded.read_text())["claims"]
        assert token.claims == meant
        assert token.expires_at == datetime.fromtimestamp(meant["exp"], UTC)


def test_token_without_times_and_audience_is_read() -> None:
    """The token of a Secret has neither exp nor aud; whether that will do is said later."""
    token = read_token(mint(signer(), claims(0, exp=None, nbf=None, iat=None, aud=None)))
    assert isinstance(token, Token)
    assert (token.expires_at, token.not_before, token.issued_at, token.audiences) == (None, None, None, ())


def test_single_audience_may_be_a_text() -> None:
    """RFC 7519, section 4.1.3: a text is an array of one."""
    token = read_token(mint(signer(), claims(0, aud="one")))
    assert isinstance(token, Token)
    assert token.audiences == ("one",)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_line_break_at_the_end_is_let_pass(end: bytes) -> None:
    """Files end with one, projected tokens do not."""
    assert isinstance(read_token(mint(signer(), claims(0)) + end), Token)


def test_fraction_of_a_second_is_kept() -> None:
    """NumericDate may have one (RFC 7519, section 2)."""
    token = read_token(mint(signer(), claims(0, exp=1.5)))
    assert isinstance(token, Token)
    assert token.expires_at == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)


def test_longest_token_is_read() -> None:
    """Exactly what STS takes, and not one byte more."""
    short = mint(signer(), claims(0, x=""))
    missing = MAX_TOKEN_BYTES - len(short)
    long = mint(signer(), claims(0, x="x" * (missing * 3 // 4)))
    assert MAX_TOKEN_BYTES - 4 <= len(long) <= MAX_TOKEN_BYTES
    assert isinstance(read_token(long), Token)
    assert not isinstance(read_token(mint(signer(), claims(0, x="x" * (missing * 3 // 4 + 6)))), Token)
