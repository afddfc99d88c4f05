"""Attacks through what names the replicas: poisoned EndpointSlices and DNS. No token goes to another server.

An attacker who can write EndpointSlices, or answers DNS, chooses addresses. That must gain nothing: the credentials go
out only inside TLS that proved the cluster's certificate for the expected name, and what he says is no key.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mirror.apiserver.endpoints import MAX_PAGES
from mirror.apiserver.poller import ApiserverPoller
from mirror.config.settings import AuthSettings, Issuer, TlsSettings
from mirror.model import Answer, Unusable
from support.apiserver import Apiserver, Connection
from support.askers import codes, ignore, issuer, limits
from support.endpointslices import FIRST_PAGE, endpoint, endpointslice, listed, slice_list
from support.replicas import HOST, FakeResolver, replicas
from support.tls import ca_file, server_context

TOKEN = "s3cr3t-token-of-the-pod"
NAME = "kubernetes.default.svc"


@contextmanager
def eavesdropper(host: str = "127.0.0.9") -> Iterator[tuple[int, bytearray]]:
    """A listener that accepts any bytes and answers without TLS: its port, and what it received."""
    heard = bytearray()
    with socket.socket() as listener:
        listener.bind((host, 0))
        listener.listen()

        def listen() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.settimeout(1)
                    heard.extend(client.recv(65_536))
                    client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], heard
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def pod_issuer(folder: Path) -> Issuer:
    (folder / "token").write_text(TOKEN)
    auth = AuthSettings(token_file=folder / "token", in_cluster=True)
    return issuer(auth=auth, tls=TlsSettings(ca_file(folder)), discover="endpointslices", expect_replicas=1)


def ask(api: Apiserver, folder: Path) -> tuple[Answer | Unusable, ...]:
    environ = {"KUBERNETES_SERVICE_HOST": api.host, "KUBERNETES_SERVICE_PORT": str(api.port)}
    asked = pod_issuer(folder)
    return ApiserverPoller(limits(), environ=environ).poll([asked], turn=0, progress=ignore)[asked.name]


def slices(*addresses: str, port: int = 6443, kind: str = "IPv4") -> bytes:
    return listed(slice_list([endpointslice(*map(endpoint, addresses), port=port, kind=kind)]))


def test_token_stays_with_the_clusters_own_servers(tmp_path: Path) -> None:
    """An endpoint without TLS, one of another CA and one with another name get no token; the real one answers."""
    with (
        Apiserver() as api,
        replicas(1, NAME) as (good,),
        Apiserver(server_context(NAME, by="untrusted"), host="127.0.0.7") as untrusted,
        Apiserver(server_context("node-1"), host="127.0.0.8") as kubelet,
        eavesdropper() as (port, heard),
    ):
        places = [(good.host, good.port), (untrusted.host, untrusted.port), (kubelet.host, kubelet.port)]
        found = [endpointslice(endpoint(host), port=number) for host, number in (*places, ("127.0.0.9", port))]
        api.answer(FIRST_PAGE, listed(slice_list(found)))
        answers = ask(api, tmp_path)
        by_url = dict(zip([each.apiserver for each in answers], codes(answers), strict=True))
        assert by_url[good.url] == ()
        assert by_url[untrusted.url] == ("tls_untrusted",)
        assert by_url[kubelet.url] == ("tls_wrong_name",)
        assert by_url[f"https://127.0.0.9:{port}"] == ("tls_failed",)
        assert (untrusted.requests, kubelet.requests) == ([], [])
        assert heard.startswith(b"\x16\x03")  # a TLS ClientHello, which carries no token
        assert TOKEN.encode() not in heard


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("169.254.169.254", "IPv4"),
        ("fd00:ec2::254%eth0", "IPv6"),
        ("::ffff:169.254.169.254", "IPv6"),
        ("fe80::1", "IPv6"),
        ("0.0.0.0", "IPv4"),  # noqa: S104 - nothing binds here
        ("224.0.0.1", "IPv4"),
        ("255.255.255.255.nip.io", "FQDN"),
        ("evil.example.com", "FQDN"),
        ("evil.example.com", "IPv4"),
        ("10.0.0.1@evil.example.com", "IPv4"),
        ("10.0.0.1/x?", "IPv4"),
        ("\x1b[2J", "IPv4"),
    ],
    ids=[
        "metadata",
        "scoped",
        "mapped-metadata",
        "link-local",
        "unspecified",
        "multicast",
        "fqdn",
        "fqdn-evil",
        "name-as-ipv4",
        "user-info",
        "path",
        "terminal",
    ],
)
def test_endpoint_elsewhere_is_reported_and_the_others_are_polled(tmp_path: Path, address: str, kind: str) -> None:
    """One poisoned endpoint gets no request, blocks retirement like a missing answer, and stops no new key."""
    with Apiserver() as api, replicas(1, NAME) as (good,):
        poisoned = endpointslice(endpoint(address), kind=kind, port=good.port)
        real = endpointslice(endpoint(good.host), port=good.port)
        api.answer(FIRST_PAGE, listed(slice_list([poisoned, real])))
        one, two = ask(api, tmp_path)
        assert (codes([one, two]), one.apiserver) == ([(), ("bad_endpoint",)], good.url)
        assert isinstance(two, Unusable)
        assert "\x1b" not in two.reasons[0].sentence


def test_loopback_is_no_endpoint_of_a_cluster_elsewhere(tmp_path: Path) -> None:
    """A cluster that is reached by name does not send us to what listens on our own machine."""
    with Apiserver(server_context(HOST, NAME)) as api, replicas(1, NAME) as (local,):
        api.answer(FIRST_PAGE, slices(local.host, port=local.port))
        resolve = FakeResolver(**{HOST.replace(".", "_"): (api.host,)})
        asked = issuer(
            f"https://{HOST}:{api.port}",
            tls=TlsSettings(ca_file(tmp_path)),
            discover="endpointslices",
            expect_replicas=1,
        )
        answers = ApiserverPoller(limits(), resolve=resolve).poll([asked], turn=0, progress=ignore)[asked.name]
        assert (codes(answers), local.connections) == ([("bad_endpoint",)], 0)


@pytest.mark.parametrize("good", [0, 1], ids=["only-bad", "with-a-good-one"])
def test_huge_list_is_refused_before_any_request(tmp_path: Path, good: int) -> None:
    """Hundreds of endpoints are rejected as a whole: polling them all would scan another network."""
    with Apiserver() as api, replicas(1, NAME) as (server,):
        many = [f"127.1.{number // 250}.{number % 250}" for number in range(150)] + [server.host] * good
        api.answer(FIRST_PAGE, slices(*many, port=server.port))
        assert (codes(ask(api, tmp_path)), server.connections) == ([("too_many_replicas",)], 0)


def test_endless_pages_are_ended(tmp_path: Path) -> None:
    """A list that always goes on is given up after a few pages."""
    with Apiserver() as api:

        def another_page(connection: Connection, _: bytes) -> None:
            connection.send(listed(slice_list([], token="again")))

        api.respond_with(another_page)
        assert codes(ask(api, tmp_path)) == [("too_many_replicas",)]
        assert len(api.requests) == MAX_PAGES


def test_token_in_an_answer_of_the_list_is_not_repeated(tmp_path: Path) -> None:
    """An API that repeats the Authorization header in its refusal does not bring it into our report."""
    with Apiserver() as api:

        def echo(connection: Connection, _: bytes) -> None:
            body = f'{{"message":"no: Bearer {TOKEN}"}}'.encode()
            head = f"HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            connection.send(head.encode() + body)

        api.respond_with(echo)
        (answer,) = ask(api, tmp_path)
    assert isinstance(answer, Unusable)
    assert (answer.reasons[0].code, TOKEN in str(answer)) == ("forbidden", False)


def test_poisoned_name_gets_no_token(tmp_path: Path) -> None:
    """An attacker who answers DNS gets only a ClientHello: the certificate is not for the name."""
    (tmp_path / "token").write_text(TOKEN)
    with eavesdropper() as (port, heard), Apiserver(server_context("evil.example.com"), host="127.0.0.8") as evil:
        asked: Any = {"discover": "dns", "expect_replicas": 1, "token_file": tmp_path / "token"}
        tls = TlsSettings(ca_file(tmp_path))
        for number, address in ((port, "127.0.0.9"), (evil.port, "127.0.0.8")):
            entry = issuer(f"https://{HOST}:{number}", tls=tls, **asked)
            resolve = FakeResolver(**{HOST.replace(".", "_"): (address,)})
            answers = ApiserverPoller(limits(), resolve=resolve).poll([entry], turn=0, progress=ignore)[entry.name]
            assert codes(answers) in ([("tls_failed",)], [("tls_wrong_name",)])
        assert (evil.requests, TOKEN.encode() in heard) == ([], False)
