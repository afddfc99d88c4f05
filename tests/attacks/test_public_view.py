"""What a hostile or broken public host may do, one fault a line: every look ends in time and as a value."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.config.settings import ReadbackSettings
from mirror.ports import PublicFailure, PublicResponse
from mirror.publish.public_endpoint import PublicHttpClient
from support import apiserver
from support.apiserver import Apiserver, Responder, always, raw_answer
from support.s3 import CA_NAME, CERTIFICATE_NAMES
from support.tls import ca_file, server_context
from support.web import BODY, HEADERS, URL, public_host, readback_of

TOTAL_SECONDS = 2.0
MAX_BODY_BYTES = 4096
GOOD = raw_answer("200 OK", BODY, **HEADERS)
LARGE = b"x" * (MAX_BODY_BYTES + 1)


@pytest.fixture
def web() -> Iterator[PublicHttpClient]:
    with PublicHttpClient(total_seconds=TOTAL_SECONDS, max_body_bytes=MAX_BODY_BYTES) as view:
        yield view


def with_good(responder: Responder) -> Responder:
    return lambda connection, _: responder(connection, GOOD)


FAULTS: dict[str, tuple[Responder, str]] = {
    "never-answers": (apiserver.never_answer, "too_slow"),
    "dribbles-headers": (with_good(apiserver.dribble_headers), "too_slow"),
    "dribbles-body": (
        lambda connection, _: apiserver.dribble_body(connection, raw_answer("200 OK", b"x" * 200)),
        "too_slow",
    ),
    "dribbles-an-error": (
        lambda connection, _: apiserver.dribble_body(connection, raw_answer("403 Forbidden", b"x" * 200)),
        "too_slow",
    ),
    "answers-late": (with_good(apiserver.slowly(TOTAL_SECONDS + 0.5)), "too_slow"),
    "closes": (apiserver.close_without_answer, "unreachable"),
    "resets": (apiserver.reset_without_answer, "unreachable"),
    "closes-in-body": (
        lambda connection, _: apiserver.close_in_body(connection, raw_answer("200 OK", b"x" * 200)),
        "unreachable",
    ),
    "resets-in-body": (
        lambda connection, _: apiserver.reset_in_body(connection, raw_answer("200 OK", b"x" * 200)),
        "unreachable",
    ),
    "endless-headers": (apiserver.endless_headers, "protocol_error"),
    "endless-body": (apiserver.endless_body, "too_large"),
    "endless-tiny-chunks": (apiserver.endless_tiny_chunks, "too_large"),
    "endless-error-body": (apiserver.endless_error_body, "not_found"),
    "one-byte-too-much": (always(raw_answer("200 OK", LARGE)), "too_large"),
    "no-http": (always(b"SSH-2.0-OpenSSH\r\n\r\n"), "protocol_error"),
    "two-lengths": (always(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx"), "protocol_error"),
    "redirect": (always(raw_answer("301 Moved", location="https://127.0.0.1:1/")), "redirect"),
    "redirect-to-nowhere": (always(raw_answer("307 Temporary Redirect")), "redirect"),
    "wrong-region": (
        always(
            raw_answer(
                "301 Moved",
                b"<Error><Code>PermanentRedirect</Code></Error>",
                location="https://bucket.s3.eu-west-1.amazonaws.com/",
                x_amz_bucket_region="eu-west-1",
            )
        ),
        "wrong_region",
    ),
    "forbidden": (always(raw_answer("403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>")), "forbidden"),
    "not-found": (always(raw_answer("404 Not Found", b"\x00\xff")), "not_found"),
    "no-content": (always(raw_answer("204 No Content")), "wrong_status"),
    "part": (always(raw_answer("206 Partial Content", BODY)), "wrong_status"),
    "unavailable": (always(raw_answer("503 Service Unavailable", retry_after="1")), "wrong_status"),
}


@pytest.mark.parametrize(("responder", "code"), FAULTS.values(), ids=FAULTS)
def test_faulty_host_is_a_reason_in_time(
    web: PublicHttpClient, tmp_path: Path, responder: Responder, code: str
) -> None:
    """Whatever the host does, the look ends by its deadline with the cause and a remedy."""
    with public_host() as host:
        host.respond_with(responder)
        began = time.monotonic()
        look = web.get_document(URL, readback=readback_of(host, tmp_path))
        elapsed_seconds = time.monotonic() - began
        asked = len(host.requests)
    assert isinstance(look, PublicFailure)
    assert (look.reason.code, bool(look.reason.remedy)) == (code, True)
    assert elapsed_seconds < TOTAL_SECONDS + 1
    assert asked == 1


def test_body_of_just_the_limit_is_seen(web: PublicHttpClient, tmp_path: Path) -> None:
    """The limit itself is allowed."""
    with public_host() as host:
        host.respond_with(always(raw_answer("200 OK", LARGE[1:])))
        assert isinstance(web.get_document(URL, readback=readback_of(host, tmp_path)), PublicResponse)


@pytest.mark.parametrize(
    ("greeting", "codes"),
    [
        pytest.param("hang", {"too_slow", "unreachable"}, id="handshake-hangs"),
        pytest.param("close", {"unreachable", "tls_failed"}, id="closes-at-once"),
        pytest.param("plain", {"tls_failed", "unreachable"}, id="no-tls"),
    ],
)
def test_host_without_tls_is_a_reason_in_time(
    web: PublicHttpClient, tmp_path: Path, greeting: apiserver.Greeting, codes: set[str]
) -> None:
    """A host that does not get through the TLS handshake costs one deadline at most."""
    with public_host() as host:
        host.greeting = greeting
        began = time.monotonic()
        look = web.get_document(URL, readback=readback_of(host, tmp_path))
        elapsed_seconds = time.monotonic() - began
    assert isinstance(look, PublicFailure)
    assert look.reason.code in codes
    assert elapsed_seconds < TOTAL_SECONDS + 1


@pytest.mark.parametrize(
    ("host", "code"),
    [
        pytest.param(lambda: public_host(by="other"), "tls_untrusted", id="other-ca"),
        pytest.param(lambda: public_host("other.example.com"), "tls_wrong_name", id="other-name"),
        pytest.param(lambda: public_host("127.0.0.1"), "tls_wrong_name", id="address-of-connect-to"),
        pytest.param(
            lambda: Apiserver(server_context(*CERTIFICATE_NAMES, by=CA_NAME, valid_for=timedelta(hours=-1))),
            "tls_expired",
            id="expired",
        ),
        pytest.param(
            lambda: Apiserver(server_context(*CERTIFICATE_NAMES, by=CA_NAME, made=timedelta(hours=1))),
            "tls_expired",
            id="not-yet-valid",
        ),
    ],
)
def test_wrong_certificate_is_refused_before_any_request(
    web: PublicHttpClient, tmp_path: Path, host: Callable[[], Apiserver], code: str
) -> None:
    """The certificate must be that of the URL's own host, wherever the connection goes."""
    with host() as server:
        look = web.get_document(URL, readback=readback_of(server, tmp_path))
        assert server.requests == []
    assert isinstance(look, PublicFailure)
    assert look.reason.code == code


@pytest.mark.parametrize(
    ("url", "code"),
    [
        pytest.param("https://no-such-host.invalid/", "dns", id="unknown-host"),
        pytest.param("https://127.0.0.1:1/", "unreachable", id="nobody-listens"),
        pytest.param("https://host:port/", "protocol_error", id="no-url"),
        pytest.param("ftp://127.0.0.1/", "protocol_error", id="other-scheme"),
        pytest.param("http://127.0.0.1:1/", "protocol_error", id="without-tls"),
    ],
)
def test_unusable_url_is_a_reason(web: PublicHttpClient, url: str, code: str) -> None:
    """A URL that leads nowhere is a value like any other failure, and nothing is asked without TLS."""
    look = web.get_document(url, readback=ReadbackSettings())
    assert isinstance(look, PublicFailure)
    assert look.reason.code == code


@pytest.mark.parametrize("content", [None, b"no certificate"], ids=["missing", "no-pem"])
def test_unusable_ca_file_is_named(web: PublicHttpClient, tmp_path: Path, content: bytes | None) -> None:
    """A CA file that cannot be loaded never means "trust the usual ones"."""
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_bytes(content)
    look = web.get_document("https://127.0.0.1:1/", readback=ReadbackSettings(ca_file=path))
    assert isinstance(look, PublicFailure)
    assert look.reason.code == "ca_file"


def test_public_ca_is_not_trusted_in_addition_to_the_ca_file(web: PublicHttpClient, tmp_path: Path) -> None:
    """With `ca_file` that CA alone counts: a host of another one is refused."""
    with public_host() as host:
        readback = ReadbackSettings(ca_file=ca_file(tmp_path, "other"), connect_to=("127.0.0.1", host.port))
        look = web.get_document(URL, readback=readback)
    assert isinstance(look, PublicFailure)
    assert look.reason.code == "tls_untrusted"
