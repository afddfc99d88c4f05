"""Reading tokens: those that a real kube-apiserver minted come out as they were meant."""

import json
from datetime import UTC, datetime

import pytest

from mirror.trust.refused import Refused
from mirror.trust.tokens import MAX_TOKEN_BYTES, Token, leading_token, read_token
from support.captures import FOLDER
from support.tokens import captured, captured_names, claims, compact, mint, signer


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


LOG = b"2026-11-28T14:30:00.123Z INFO mirror.pass took 1.5 s"


@pytest.mark.parametrize(
    ("after", "line"),
    [
        pytest.param(b"\n" + LOG, 2, id="log line"),
        pytest.param(b"\n\n" + LOG + b"\n", 3, id="empty line between"),
        pytest.param(b" " + LOG, 1, id="same line"),
        pytest.param(b"\nx" * 10_000, 2, id="many lines"),
    ],
)
def test_text_after_the_token_is_told_as_what_it_is(after: bytes, line: int) -> None:
    """It is no encrypted token, however many dots a log line has; and the text is not repeated."""
    good = mint(signer(), claims(0))
    found = read_token(good + after)
    assert isinstance(found, Refused)
    (reason,) = found.reasons
    assert (reason.code, f"(line {line})" in reason.sentence) == ("token_shape", True)
    assert "JWE" not in reason.sentence
    assert "mirror.pass" not in reason.sentence + reason.remedy
    assert leading_token(good + after) == good


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(compact({"alg": "RSA-OAEP", "enc": "A256GCM"}, {}, b"x") + b".eA.eA", "JWE", id="encrypted"),
        pytest.param(b"a.b.c.d.e", "it has 5", id="five words"),
        pytest.param(mint(signer(), claims(0)) + b".a.b", "it has 5", id="a token and two words"),
        pytest.param(b"Bearer " + mint(signer(), claims(0)), "spaces", id="with its scheme"),
        pytest.param(b" \n", "spaces", id="blank"),
        pytest.param(b" ", "spaces", id="one blank"),
    ],
)
def test_shape_that_is_no_token_is_told(body: bytes, words: str) -> None:
    """Only a header that names an encryption makes a JWE (RFC 7516, section 4.1.2)."""
    found = read_token(body)
    assert isinstance(found, Refused)
    assert [reason.code for reason in found.reasons] == ["token_shape"]
    assert words in found.reasons[0].sentence


def test_nothing_leads_nothing() -> None:
    """A blank file has no token."""
    assert leading_token(b" \n ") == b""
