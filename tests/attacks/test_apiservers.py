"""Hostile and broken apiservers: each ends within its deadline, with a stable code, in bounded memory."""

import ssl
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.config.settings import TlsSettings
from mirror.model import Answer
from support import apiserver as responders
from support.apiserver import Apiserver, Greeting, Responder, raw_answer
from support.askers import ask_one, codes, issuer, limits
from support.captures import RawAnswer, captures
from support.tls import ca_file, server_context

TOTAL_SECONDS = 1.0
CEILING_SECONDS = 8 * TOTAL_SECONDS
"""Far over the limit, because the machine may be busy, and far under what each attack would take if it could."""
SMALL = limits(connect_seconds=0.4, total_seconds=TOTAL_SECONDS, max_body_bytes=64 * 1024)
CODES_BY_STATUS = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "bad_status",
    406: "not_acceptable",
    429: "rate_limited",
    500: "server_error",
}


@pytest.fixture
def quickly() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < CEILING_SECONDS


GZIP = raw_answer("200 OK", b"\x1f\x8b\x08", content_type="application/json", content_encoding="gzip")
REDIRECT = raw_answer("302 Found", location="https://127.0.0.1:1/elsewhere")
LOGIN_PAGE = raw_answer("200 OK", b"<html>", content_type="text/html")
TWO_TYPES = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\n{}"
)
NO_UTF_8 = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\xff\r\ncontent-length: 2\r\n\r\n{}"
HUGE_CLAIM = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n{"
TWO_LENGTHS = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}"
BAD_CHUNK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}"
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"
NULL_HEADER = b"HTTP/1.1 200 OK\r\nx: \x00\r\n\r\n"


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (responders.never_answer, "timeout"),
        (responders.dribble_headers, "timeout"),
        (responders.dribble_body, "timeout"),
        (responders.slowly(3 * CEILING_SECONDS), "timeout"),
        (responders.endless_continues, "timeout"),
        (responders.endless_headers, "not_http"),
        (responders.endless_body, "too_large"),
        (responders.endless_tiny_chunks, "too_large"),
        (responders.endless_error_body, "not_found"),
        (responders.close_without_answer, "unreachable"),
        (responders.reset_without_answer, "unreachable"),
        (responders.close_in_body, "unreachable"),
        (responders.reset_in_body, "unreachable"),
        (responders.always(GZIP), "wrong_content_encoding"),
        (responders.always(REDIRECT), "redirect"),
        (responders.always(LOGIN_PAGE), "wrong_content_type"),
        (responders.always(TWO_TYPES), "wrong_content_type"),
        (responders.always(NO_UTF_8), "wrong_content_type"),
        (responders.always(HUGE_CLAIM), "timeout"),
        (responders.always(TWO_LENGTHS), "not_http"),
        (responders.always(BAD_CHUNK), "not_http"),
        (responders.always(UPGRADE), "not_http"),
        (responders.always(NULL_HEADER), "not_http"),
        (responders.always(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), "not_http"),
        (responders.always(b"HTTP/2 200\r\n\r\n"), "not_http"),
    ],
    ids=[
        "never-answers",
        "dribbles-headers",
        "dribbles-body",
        "answers-too-late",
        "endless-100-continue",
        "endless-headers",
        "endless-body",
        "endless-one-byte-chunks",
        "endless-error-body",
        "closes",
        "resets",
        "closes-in-body",
        "resets-in-body",
        "gzip",
        "redirect",
        "login-page",
        "two-content-types",
        "no-utf-8-in-header",
        "claims-a-huge-body",
        "two-content-lengths",
        "bad-chunk",
        "switches-protocols",
        "nul-in-header",
        "speaks-ssh",
        "speaks-http-2",
    ],
)
@pytest.mark.usefixtures("quickly")
def test_hostile_answer_is_unusable(trusted: TlsSettings, attack: Responder, expected: str) -> None:
    """Whatever an apiserver does after the handshake, polling ends in time, with the expected code and no answer."""
    with Apiserver() as server:
        server.respond_with(attack)
        (found,) = codes(ask_one(issuer(server.url, tls=trusted), SMALL))
    assert set(found) == {expected}


@pytest.mark.parametrize(
    ("greeting", "expected"),
    [("hang", "timeout"), ("close", "unreachable"), ("plain", "tls_failed")],
    ids=["handshake-hangs", "closes-at-once", "speaks-no-tls"],
)
@pytest.mark.usefixtures("quickly")
def test_connection_without_tls_is_unusable(trusted: TlsSettings, greeting: Greeting, expected: str) -> None:
    """A handshake that is never answered (facts.md#18), refused, or no TLS at all, ends in time."""
    with Apiserver(greeting=greeting) as server:
        assert codes(ask_one(issuer(server.url, tls=trusted), SMALL)) == [(expected,)]


def test_hung_handshake_within_the_total_names_the_connect_limit(trusted: TlsSettings) -> None:
    """While the total leaves time for both tries, the sentence names the limit that cut them: limits.connect."""
    with Apiserver(greeting="hang") as server:
        (answer,) = ask_one(issuer(server.url, tls=trusted), limits(connect_seconds=0.2))
        assert server.connections == 2
    assert not isinstance(answer, Answer)
    assert "limits.connect" in answer.reasons[0].sentence


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (lambda: server_context("127.0.0.1", by="impostor"), "tls_untrusted"),
        (lambda: server_context("127.0.0.1", valid_for=timedelta(hours=-1)), "tls_expired"),
        (lambda: server_context("127.0.0.1", made=timedelta(hours=1)), "tls_expired"),
        (lambda: server_context("127.0.0.2"), "tls_wrong_name"),
        (lambda: server_context("apiserver.example"), "tls_wrong_name"),
    ],
    ids=["other-ca", "expired", "not-yet-valid", "other-address", "other-host"],
)
def test_wrong_certificate_gets_no_request(
    tmp_path: Path, context: Callable[[], ssl.SSLContext], expected: str
) -> None:
    """A certificate that does not verify ends the conversation before the token is sent, without a second try."""
    (tmp_path / "token").write_text("s3cr3t")
    with Apiserver(context()) as server:
        asked = issuer(server.url, tls=TlsSettings(ca_file=ca_file(tmp_path)), token_file=tmp_path / "token")
        assert codes(ask_one(asked)) == [(expected,)]
        assert (server.requests, server.connections) == ([], 1)


def test_system_trust_does_not_accept_a_private_ca() -> None:
    """Without `tls.ca_file` the system's trust store decides."""
    with Apiserver() as server:
        assert codes(ask_one(issuer(server.url))) == [("tls_untrusted",)]


def test_demanded_client_certificate_is_named(trusted: TlsSettings) -> None:
    """An apiserver that insists on a client certificate gives a TLS failure whose remedy names the setting."""
    with Apiserver(server_context("127.0.0.1", client_ca="cluster")) as server:
        (answer,) = ask_one(issuer(server.url, tls=trusted))
    assert not isinstance(answer, Answer)
    assert answer.reasons[0].code == "tls_failed"
    assert "tls.client_cert_file" in answer.reasons[0].remedy


@pytest.mark.parametrize("attack", [responders.endless_body, responders.endless_headers, responders.endless_error_body])
def test_endless_answers_stay_in_bounded_memory(trusted: TlsSettings, attack: Responder) -> None:
    """Eight endless answers at once cost a few times their limits, not what the servers could send."""
    with Apiserver() as server:
        server.respond_with(attack)
        ask_one(issuer(server.url, tls=trusted), SMALL)  # imports and caches are not the attack's
        tracemalloc.start()
        try:
            ask_one(issuer(*[server.url] * 8, tls=trusted), SMALL)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak_bytes < 16 * 1024 * 1024


def test_hostile_apiservers_do_not_spoil_a_good_one(trusted: TlsSettings) -> None:
    """With hanging and endless replicas, the answer of a good one still counts in the same pass."""
    with Apiserver() as good, Apiserver(greeting="hang") as hanging, Apiserver() as endless:
        endless.respond_with(responders.endless_tiny_chunks)
        asked = issuer(hanging.url, endless.url, good.url, tls=trusted)
        assert codes(ask_one(asked, limits(connect_seconds=1.0, total_seconds=4.0)))[2] == ()


@pytest.mark.parametrize(
    "refusal",
    [each for each in captures() if each.status() != 200 and "-head" not in each.name],
    ids=lambda each: each.name,
)
def test_captured_refusal_gives_its_code(trusted: TlsSettings, refusal: RawAnswer) -> None:
    """Every answer other than 200 that a real kube-apiserver gave has its stable code."""
    with Apiserver() as server:
        server.serve(discovery=refusal.raw, jwks=refusal.raw)
        # Too little time for the second that a 429 asks for: this is about the code alone.
        (found,) = codes(ask_one(issuer(server.url, tls=trusted), limits(total_seconds=0.99)))
    assert set(found) == {CODES_BY_STATUS[refusal.status()]}
