"""Apiservers are asked over TLS: connections, credentials, proxies, retries and every failure."""

import socket
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificate

from mirror.apiserver.poller import ApiserverPoller
from mirror.config.settings import TlsSettings
from mirror.model import Answer, Unusable
from support.apiserver import (
    Apiserver,
    Responder,
    answer_then_reset,
    close_without_answer,
    never_answer,
    raw_answer,
    reset_in_body,
)
from support.askers import ask_one, codes, ignore, issuer, limits
from support.captures import capture
from support.proxy import Proxy
from support.tls import client_files, server_certificate, server_context

pytestmark = pytest.mark.server

DISCOVERY = capture("01-rsa1/anonymous-bound-discovery")
JWKS = capture("01-rsa1/anonymous-bound-jwks")
BUSY = capture("23-too-many-requests/discovery-429").raw
FORBIDDEN = capture("01-rsa1/anonymous-unbound-discovery").raw
UNAVAILABLE = raw_answer("503 Service Unavailable", b"starting", retry_after="0")


def test_both_documents_come_back_byte_for_byte(server: Apiserver, trusted: TlsSettings) -> None:
    """A good apiserver gives one Answer with its exact bodies and the last Date header."""
    date = datetime(2026, 11, 23, 4, 21, 34, tzinfo=UTC)
    assert ask_one(issuer(server.url, tls=trusted)) == (
        Answer(server.url, DISCOVERY.body(), JWKS.body(), date, certificate_end("127.0.0.1", "kubernetes.default.svc")),
    )


@pytest.mark.parametrize("slash", ["", "/"])
def test_apiserver_behind_a_prefix_is_asked_there(server: Apiserver, trusted: TlsSettings, slash: str) -> None:
    """A gateway serves the cluster under a path prefix. Both documents are requested under that prefix only."""
    prefix = "/k8s/clusters/c-m-abc123"
    for path, raw in (("/.well-known/openid-configuration", DISCOVERY.raw), ("/openid/v1/jwks", JWKS.raw)):
        server.answer(prefix + path, raw)
        server.answer(path, UNAVAILABLE)
    (answer,) = ask_one(issuer(f"{server.url}{prefix}{slash}", tls=trusted))
    assert isinstance(answer, Answer)
    assert (answer.apiserver, answer.jwks) == (f"{server.url}{prefix}{slash}", JWKS.body())
    assert all(each.target.startswith(prefix) for each in server.requests)


def certificate_end(*names: str) -> datetime:
    """The expiry of the certificate that `server_context(*names)` presents."""
    return load_pem_x509_certificate(server_certificate(*names).cert_chain_pems[0].bytes()).not_valid_after_utc


@pytest.mark.parametrize(
    "answers",
    [
        {"discovery": FORBIDDEN, "jwks": FORBIDDEN},
        {"discovery": UNAVAILABLE},
        {"jwks": raw_answer("302 Found", location="https://elsewhere")},
    ],
    ids=["403", "503", "jwks-redirect"],
)
def test_end_of_the_certificate_is_known_from_a_refusal(
    server: Apiserver, trusted: TlsSettings, answers: dict[str, bytes]
) -> None:
    """The expiry of the apiserver's certificate is reported for any response."""
    server.serve(**answers)
    (answer,) = ask_one(issuer(server.url, tls=trusted))
    assert isinstance(answer, Unusable)
    assert answer.certificate_expires_at == certificate_end("127.0.0.1", "kubernetes.default.svc")


def test_end_of_the_certificate_survives_a_connection_that_breaks(server: Apiserver, trusted: TlsSettings) -> None:
    """The expiry is known even if the server answers one document and then goes silent."""
    server.once(DISCOVERY.raw, never_answer)
    (answer,) = ask_one(issuer(server.url, tls=trusted), limits(total_seconds=0.7))
    assert codes([answer]) == [("timeout",)]
    assert answer.certificate_expires_at == certificate_end("127.0.0.1", "kubernetes.default.svc")


def test_end_of_the_certificate_is_the_apiservers_behind_a_proxy(trusted: TlsSettings) -> None:
    """Through a tunnel, the certificate is that of the apiserver."""
    named = TlsSettings(trusted.ca_file, server_name="kubernetes.default.svc")
    with Apiserver(server_context("kubernetes.default.svc")) as server, Proxy() as proxy:
        (answer,) = ask_one(issuer(server.url, tls=named, proxy=proxy.url))
    assert answer.certificate_expires_at == certificate_end("kubernetes.default.svc")


def test_certificate_expiry_is_unknown_if_no_apiserver_was_reached() -> None:
    """Without a TLS handshake there is no certificate to report."""
    with Apiserver(greeting="close") as server:
        (answer,) = ask_one(issuer(server.url))
    assert answer.certificate_expires_at is None


def test_one_connection_carries_both_requests(server: Apiserver, trusted: TlsSettings) -> None:
    """Discovery comes first, the JWKS second, over one connection, with the headers that apiservers need.

    See facts.md#4.
    """
    ask_one(issuer(server.url, tls=trusted))
    assert [(request.connection, request.method, request.target) for request in server.requests] == [
        (0, "GET", "/.well-known/openid-configuration"),
        (0, "GET", "/openid/v1/jwks"),
    ]
    accepts = [request.headers["accept"] for request in server.requests]
    assert accepts == ["application/json", "application/jwk-set+json, application/json"]
    for request in server.requests:
        assert request.headers["accept-encoding"] == "identity"
        assert request.headers["user-agent"].startswith("oidc-mirror/")
        assert request.headers["host"] == f"127.0.0.1:{server.port}"
        assert "authorization" not in request.headers


def test_load_balancer_is_asked_over_five_connections(server: Apiserver, trusted: TlsSettings) -> None:
    """With `load_balancer`, each of the five answers has its own connection."""
    answers = ask_one(issuer(server.url, tls=trusted, load_balancer=True))
    assert [(type(answer), answer.apiserver) for answer in answers] == [(Answer, server.url)] * 5
    assert (server.connections, {request.connection for request in server.requests}) == (5, {0, 1, 2, 3, 4})


def test_token_is_sent_and_read_again(server: Apiserver, trusted: TlsSettings, tmp_path: Path) -> None:
    """Both requests carry the bearer token. The next pass reads a rotated file (facts.md#20)."""
    token = tmp_path / "token"
    apiservers = ApiserverPoller(limits())
    for content in ("first", "second"):
        token.write_text(f"{content}\n")
        apiservers.poll([issuer(server.url, tls=trusted, token_file=token)], turn=0, progress=ignore)
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == ["Bearer first"] * 2 + ["Bearer second"] * 2


def test_without_usable_token_nothing_is_sent(server: Apiserver, trusted: TlsSettings, tmp_path: Path) -> None:
    """With a missing token file, every apiserver of the issuer fails and no connection is made."""
    answers = ask_one(issuer(server.url, server.url, tls=trusted, token_file=tmp_path / "missing"))
    assert (codes(answers), server.connections) == ([("token_unreadable",)] * 2, 0)


def test_without_usable_ca_nothing_is_sent(server: Apiserver, tmp_path: Path) -> None:
    """With a missing CA file the issuer fails. It does not fall back to the system's trust store."""
    answers = ask_one(issuer(server.url, tls=TlsSettings(ca_file=tmp_path / "missing")))
    assert (codes(answers), server.connections) == ([("ca_unreadable",)], 0)


def test_client_certificate_is_presented(trusted: TlsSettings, tmp_path: Path) -> None:
    """An apiserver that requires a client certificate of its CA accepts ours."""
    files = client_files(tmp_path)
    tls = TlsSettings(trusted.ca_file, client_cert_file=files.certificate, client_key_file=files.key)
    with Apiserver(server_context("127.0.0.1", client_ca="cluster")) as server:
        assert codes(ask_one(issuer(server.url, tls=tls))) == [()]


def test_forbidden_client_certificate_advises_binding_its_user(trusted: TlsSettings, tmp_path: Path) -> None:
    """The remedy for a 403 binds the user of the client certificate."""
    files = client_files(tmp_path)
    tls = TlsSettings(trusted.ca_file, client_cert_file=files.certificate, client_key_file=files.key)
    with Apiserver() as server:
        server.serve(discovery=FORBIDDEN, jwks=FORBIDDEN)
        (answer,) = ask_one(issuer(server.url, tls=tls))
    assert isinstance(answer, Unusable)
    assert "--user=NAME" in answer.reasons[0].remedy


def test_server_name_is_verified_instead_of_the_address(trusted: TlsSettings) -> None:
    """With `server_name`, the certificate is verified for that name only. The Host header keeps the address."""
    with Apiserver(server_context("kubernetes.default.svc")) as server:
        named = TlsSettings(trusted.ca_file, server_name="kubernetes.default.svc")
        assert codes(ask_one(issuer(server.url, tls=named))) == [()]
        assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"
        other = TlsSettings(trusted.ca_file, server_name="kubernetes")
        assert codes(ask_one(issuer(server.url, tls=other))) == [("tls_wrong_name",)]


def test_proxy_is_used_with_the_server_name(trusted: TlsSettings) -> None:
    """With `proxy`, the connection is a tunnel, verified end to end under `server_name`."""
    named = TlsSettings(trusted.ca_file, server_name="kubernetes.default.svc")
    with Apiserver(server_context("kubernetes.default.svc")) as server, Proxy() as proxy:
        assert codes(ask_one(issuer(server.url, tls=named, proxy=proxy.url))) == [()]
        assert proxy.tunnels == [f"127.0.0.1:{server.port}"]


def test_token_is_not_shown_to_the_proxy(server: Apiserver, trusted: TlsSettings, tmp_path: Path) -> None:
    """The proxy receives the tunnel's target, but no Authorization header."""
    (tmp_path / "token").write_text("s3cr3t")
    with Proxy() as proxy:
        ask_one(issuer(server.url, tls=trusted, token_file=tmp_path / "token", proxy=proxy.url))
        assert b"s3cr3t" not in proxy.seen


def test_refusing_proxy_is_named(server: Apiserver, trusted: TlsSettings) -> None:
    """A proxy that rejects the tunnel gives `unreachable`, and the sentence names the proxy."""
    with Proxy(refuse=True) as proxy:
        (answer,) = ask_one(issuer(server.url, tls=trusted, proxy=proxy.url))
    assert isinstance(answer, Unusable)
    assert (answer.reasons[0].code, "proxy" in answer.reasons[0].sentence) == ("unreachable", True)


def test_tls_proxy_is_verified_against_the_system(server: Apiserver, trusted: TlsSettings) -> None:
    """A TLS proxy must be trusted by the system's trust store. The issuer's CA does not apply to it."""
    with Apiserver() as pretender:
        assert codes(ask_one(issuer(server.url, tls=trusted, proxy=pretender.url))) == [("tls_untrusted",)]


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1:1", "socks5://127.0.0.1:1", "http://127.0.0.1:x"])
def test_unusable_proxy_address_is_said(server: Apiserver, trusted: TlsSettings, proxy: str) -> None:
    """An unusable proxy gives `bad_address`, and no request bypasses it."""
    assert codes(ask_one(issuer(server.url, tls=trusted, proxy=proxy))) == [("bad_address",)]
    assert server.connections == 0


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "https://127.0.0.1:x", "127.0.0.1:1", ""])
def test_address_that_is_no_https_url_is_refused(address: str) -> None:
    """Only https is used, even if the configuration allowed another scheme."""
    assert codes(ask_one(issuer(address))) == [("bad_address",)]


@pytest.mark.parametrize(
    "first",
    [BUSY, FORBIDDEN, UNAVAILABLE, raw_answer("408 Request Timeout"), close_without_answer, reset_in_body],
    ids=["429", "403-at-start", "503", "408", "closed", "reset-in-body"],
)
def test_transient_failure_is_tried_once_more(
    server: Apiserver, trusted: TlsSettings, first: bytes | Responder
) -> None:
    """A transient failure is retried once over a new connection. A second failure is final."""
    server.once(first)
    assert codes(ask_one(issuer(server.url, tls=trusted))) == [()]
    assert server.connections == 2


def test_reset_between_the_two_requests_is_tried_again(server: Apiserver, trusted: TlsSettings) -> None:
    """If a connection breaks after discovery, the JWKS is requested over a new one."""
    server.once(answer_then_reset)
    assert codes(ask_one(issuer(server.url, tls=trusted))) == [()]


def test_there_is_no_third_try(server: Apiserver, trusted: TlsSettings) -> None:
    """The failure is reported after two tries."""
    server.once(UNAVAILABLE, UNAVAILABLE)
    assert codes(ask_one(issuer(server.url, tls=trusted))) == [("server_error",)]
    assert len(server.requests) == 2


def test_lasting_refusal_is_not_tried_again(server: Apiserver, trusted: TlsSettings) -> None:
    """A 404 is not retried, and the reasons of both documents are reported."""
    missing = capture("06-issuer-query/anonymous-discovery").raw
    server.serve(discovery=missing, jwks=missing)
    (answer,) = ask_one(issuer(server.url, tls=trusted))
    assert isinstance(answer, Unusable)
    assert [(reason.code, reason.where) for reason in answer.reasons] == [
        ("not_found", "discovery"),
        ("not_found", "jwks"),
    ]
    assert len(server.requests) == 2
    assert answer.date is not None


def test_jwks_alone_forbidden_names_the_jwks(server: Apiserver, trusted: TlsSettings) -> None:
    """If discovery is readable and the JWKS is forbidden (facts.md#16), one reason is reported, at the JWKS."""
    server.serve(jwks=FORBIDDEN)
    (answer,) = ask_one(issuer(server.url, tls=trusted))
    assert isinstance(answer, Unusable)
    assert [(reason.code, reason.where) for reason in answer.reasons] == [("forbidden", "jwks")]


def test_retry_after_is_waited_for(server: Apiserver, trusted: TlsSettings) -> None:
    """A Retry-After within the total is respected before the second try."""
    server.once(BUSY)  # Retry-After: one second
    begun = time.monotonic()
    assert codes(ask_one(issuer(server.url, tls=trusted))) == [()]
    assert time.monotonic() - begun >= 1


def test_retry_after_beyond_the_total_is_not_waited_for(server: Apiserver, trusted: TlsSettings) -> None:
    """A Retry-After beyond the total ends the request at once, as `rate_limited`."""
    server.once(raw_answer("429 Too Many Requests", retry_after="3600"))
    assert codes(ask_one(issuer(server.url, tls=trusted))) == [("rate_limited",)]
    assert len(server.requests) == 1


def test_closed_port_is_unreachable_in_the_systems_words() -> None:
    """The sentence for a closed port quotes the system's error."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        (answer,) = ask_one(issuer(f"https://127.0.0.1:{unused.getsockname()[1]}"))
    assert isinstance(answer, Unusable)
    assert "Connection refused" in answer.reasons[0].sentence
