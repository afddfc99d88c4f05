"""Connections are kept between passes only where this cannot change an answer. Otherwise each pass opens new ones."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import AF_INET, IPPROTO_TCP, TCP_USER_TIMEOUT, socket

import pytest
from cryptography.x509 import load_pem_x509_certificate

from mirror.apiserver.client import (
    LONGEST_INTERVAL,
    LONGEST_SECONDS,
    MOST_CONNECTIONS,
    MOST_PASSES,
    KeptConnections,
    most_connections,
)
from mirror.apiserver.poller import ApiserverPoller
from mirror.config.settings import AuthSettings, Issuer, LimitSettings, TlsSettings
from mirror.model import Answer, IssuerName, Unusable
from support.apiserver import (
    Apiserver,
    Responder,
    answer_then_reset,
    close_in_body,
    close_without_answer,
    never_answer,
    raw_answer,
    reset_without_answer,
)
from support.askers import codes, ignore, issuer, limits
from support.captures import capture
from support.proxy import Proxy
from support.tls import authority, client_files, server_certificate

pytestmark = pytest.mark.server


@dataclass
class Daemon:
    """Successive passes by one poller. The test sets the clocks; `seconds` is the monotonic one."""

    within: LimitSettings
    most: int
    seconds: float = 1000.0
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    poller: ApiserverPoller = field(init=False)

    def __post_init__(self) -> None:
        kept = KeptConnections(self.most, clock=lambda: self.seconds, now=lambda: self.now)
        self.poller = ApiserverPoller(self.within, kept=kept)

    def ask(self, *issuers: Issuer) -> list[tuple[Answer | Unusable, ...]]:
        """One pass."""
        return list(self.poller.poll(issuers, turn=0, progress=ignore).values())


@contextmanager
def daemon(within: LimitSettings | None = None, most: int = 100) -> Iterator[Daemon]:
    made = Daemon(within or limits(), most)
    try:
        yield made
    finally:
        made.poller.close()


@pytest.fixture
def passes() -> Iterator[Daemon]:
    with daemon() as made:
        yield made


JWKS_OF_TWO = capture("02-rsa1-ec2-overlap/jwks")
DEATHS = {
    "closed before the answer": close_without_answer,
    "reset before the answer": reset_without_answer,
    "closed within the answer": close_in_body,
}


def test_next_passes_use_the_connection_of_the_first(passes: Daemon, server: Apiserver, trusted: TlsSettings) -> None:
    """Six documents arrive over one connection. A new key is seen as soon as the apiserver shows it."""
    asked = issuer(server.url, tls=trusted)
    first = passes.ask(asked)
    assert passes.ask(asked) == first
    server.serve(jwks=JWKS_OF_TWO.raw)
    ((answer,),) = passes.ask(asked)
    assert isinstance(answer, Answer)
    assert answer.jwks == JWKS_OF_TWO.body()
    assert (server.connections, len(server.requests)) == (1, 6)


def test_connection_is_renewed_after_its_maximum_passes(
    passes: Daemon, server: Apiserver, trusted: TlsSettings
) -> None:
    """An undeclared load balancer can then route to another replica."""
    asked = issuer(server.url, tls=trusted)
    for _ in range(2 * MOST_PASSES):
        passes.ask(asked)
    assert server.connections == 2
    passes.ask(asked)
    assert server.connections == 3


@pytest.mark.parametrize(
    ("seconds", "connections"), [(LONGEST_SECONDS - 1, 1), (LONGEST_SECONDS, 2)], ids=["just before", "then"]
)
def test_connection_is_renewed_after_its_maximum_age(
    passes: Daemon, server: Apiserver, trusted: TlsSettings, seconds: float, connections: int
) -> None:
    """This limit covers configurations with rare passes."""
    asked = issuer(server.url, tls=trusted)
    passes.ask(asked)
    passes.seconds += seconds
    passes.ask(asked)
    assert server.connections == connections


def test_connection_ends_with_the_certificate_that_it_was_made_under(
    passes: Daemon, server: Apiserver, trusted: TlsSettings
) -> None:
    """An expired certificate is reported in the next pass, not ten minutes later."""
    leaf = load_pem_x509_certificate(
        server_certificate("127.0.0.1", "kubernetes.default.svc").cert_chain_pems[0].bytes()
    )
    passes.now = leaf.not_valid_after_utc - timedelta(seconds=30)
    asked = issuer(server.url, tls=trusted)
    passes.ask(asked)
    passes.seconds += 29
    passes.ask(asked)
    assert server.connections == 1
    passes.seconds += 1
    passes.ask(asked)
    assert server.connections == 2


def _other_ca(folder: Path, asked: Issuer) -> Issuer:
    (folder / "cluster-ca.crt").write_bytes(authority().cert_pem.bytes() + authority("other").cert_pem.bytes())
    return asked


def _other_token(folder: Path, asked: Issuer) -> Issuer:
    (folder / "token").write_text("another")
    return asked


def _other_certificate(folder: Path, asked: Issuer) -> Issuer:
    client_files(folder)
    return asked


CHANGES: dict[str, Callable[[Path, Issuer], Issuer]] = {
    "the CA in its file": _other_ca,
    "the token in its file": _other_token,
    "the client certificate in its files": _other_certificate,
    "no token": lambda _, asked: replace(asked, auth=AuthSettings()),
    "no client certificate": lambda _, asked: replace(asked, tls=TlsSettings(asked.tls.ca_file)),
    "the server's name": lambda _, asked: replace(asked, tls=replace(asked.tls, server_name="kubernetes.default.svc")),
    "another issuer": lambda _, asked: replace(asked, name=IssuerName("another")),
    "another place": lambda _, asked: replace(asked, apiservers=(asked.apiservers[0] + "/", *asked.apiservers)),
    "several behind the address": lambda _, asked: replace(asked, load_balancer=True),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_a_connection_was_made_with_has_changed(
    passes: Daemon, server: Apiserver, trusted: TlsSettings, tmp_path: Path, change: Callable[[Path, Issuer], Issuer]
) -> None:
    """If the settings of a connection change, the next pass opens a new one and closes the old one."""
    (tmp_path / "token").write_text("one")
    files = client_files(tmp_path)
    tls = replace(trusted, client_cert_file=files.certificate, client_key_file=files.key)
    asked = issuer(server.url, tls=tls, token_file=tmp_path / "token")
    passes.ask(asked)
    passes.ask(asked)
    assert server.connections == 1
    (answers,) = passes.ask(change(tmp_path, asked))
    assert codes(answers) == [()] * len(answers)
    assert server.connections == 1 + len(answers)
    passes.poller.close()
    server.wait_until_all_disconnected()


def test_another_proxy_gets_connections_of_its_own(passes: Daemon, server: Apiserver, trusted: TlsSettings) -> None:
    """A tunnel is reused in the next pass only through the same proxy."""
    with Proxy() as first, Proxy() as second:
        for proxy in (first.url, first.url, second.url, None):
            ((answer,),) = passes.ask(issuer(server.url, tls=trusted, proxy=proxy))
            assert isinstance(answer, Answer)
        assert (len(first.tunnels), len(second.tunnels), server.connections) == (1, 1, 3)
        passes.poller.close()


def test_behind_a_load_balancer_every_connection_is_new(
    passes: Daemon, server: Apiserver, trusted: TlsSettings
) -> None:
    """Each pass opens five new connections, because only new ones reach every replica."""
    asked = issuer(server.url, tls=trusted, load_balancer=True)
    passes.ask(asked)
    passes.ask(asked)
    assert server.connections == 10


def test_connection_under_the_trust_of_the_system_is_not_used_again(
    passes: Daemon, server: Apiserver, trusted: TlsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system trust store may change without the poller noticing."""
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted.ca_file))
    for _ in range(2):
        (answers,) = passes.ask(issuer(server.url))
        assert codes(answers) == [()]
    assert server.connections == 2


@pytest.mark.parametrize(
    "refusal",
    [
        raw_answer("401 Unauthorized", b"{}", content_type="application/json"),
        raw_answer("404 Not Found", b"404 page not found", content_type="text/plain"),
        raw_answer("200 OK", b"{}", content_type="text/html"),
    ],
    ids=["401", "404", "content type"],
)
def test_connection_of_a_refused_answer_is_not_kept(
    passes: Daemon, server: Apiserver, trusted: TlsSettings, refusal: bytes
) -> None:
    """After any rejected answer, the next pass opens a new connection."""
    asked = issuer(server.url, tls=trusted)
    server.once(refusal)
    assert codes(passes.ask(asked)[0]) != [()]
    server.wait_until_all_disconnected()
    assert codes(passes.ask(asked)[0]) == [()]


@pytest.mark.parametrize("death", DEATHS.values(), ids=DEATHS.keys())
def test_broken_kept_connection_is_opened_again_without_a_failure(
    passes: Daemon, server: Apiserver, trusted: TlsSettings, death: Responder
) -> None:
    """A restarted apiserver is no failure. The second try stays available, for example for a 503."""
    asked = issuer(server.url, tls=trusted)
    passes.ask(asked)
    server.once(death, raw_answer("503 Service Unavailable", b"starting"))
    (answers,) = passes.ask(asked)
    assert codes(answers) == [()]
    assert [each.connection for each in server.requests] == [0, 0, 0, 1, 2, 2]


def test_connection_that_was_closed_between_the_passes_is_not_asked(
    passes: Daemon, server: Apiserver, trusted: TlsSettings
) -> None:
    """kube-apiserver closes idle connections after 90 s. The poller notices this before it sends a request."""
    asked = issuer(server.url, tls=trusted)
    server.once(capture("01-rsa1/anonymous-bound-discovery").raw, answer_then_reset)
    passes.ask(asked)
    server.wait_until_all_disconnected()
    (answers,) = passes.ask(asked)
    assert codes(answers) == [()]
    assert [each.connection for each in server.requests] == [0, 0, 1, 1]


def test_kept_connection_is_opened_again_only_once(passes: Daemon, server: Apiserver, trusted: TlsSettings) -> None:
    """An apiserver that closes every connection gets the usual two tries, and is then unreachable."""
    asked = issuer(server.url, tls=trusted)
    passes.ask(asked)
    server.respond_with(close_without_answer)
    (answers,) = passes.ask(asked)
    assert codes(answers) == [("unreachable",)]
    assert [each.connection for each in server.requests] == [0, 0, 0, 1, 2]


def test_kept_connection_without_an_answer_ends_at_the_deadline(server: Apiserver, trusted: TlsSettings) -> None:
    """The total limit of an apiserver also covers a kept connection. The next pass opens a new one."""
    asked = issuer(server.url, tls=trusted)
    with daemon(within=limits(total_seconds=1.0)) as passes:
        assert codes(passes.ask(asked)[0]) == [()]
        server.respond_with(never_answer)
        assert codes(passes.ask(asked)[0]) == [("timeout",)]
        server.serve()
        assert codes(passes.ask(asked)[0]) == [()]
    assert [each.connection for each in server.requests] == [0, 0, 0, 1, 1]


def test_system_ends_a_kept_connection_whose_host_vanished(server: Apiserver, trusted: TlsSettings) -> None:
    """The system gives up after `limits.connect` without an acknowledgement. Its default is a quarter of an hour."""
    with daemon(within=limits(connect_seconds=3.5)) as passes:
        passes.ask(issuer(server.url, tls=trusted))
        assert user_timeouts(server) == [3500]
        passes.ask(issuer(server.url, tls=trusted))
        assert user_timeouts(server) == [3500]


def user_timeouts(server: Apiserver) -> list[int]:
    """The TCP user timeout of each socket of this process that is connected to `server`."""
    found = []
    for entry in [each for each in Path("/proc/self/fd").iterdir() if each.is_socket()]:
        with suppress(OSError), socket(fileno=os.dup(int(entry.name))) as copy:  # some have no peer
            if copy.family == AF_INET and copy.getpeername() == (server.host, server.port):
                found.append(copy.getsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT))
    return found


def test_connection_that_was_unused_in_a_pass_is_closed(
    passes: Daemon, server: Apiserver, trusted: TlsSettings
) -> None:
    """An issuer that left the configuration leaves no connection open."""
    passes.ask(issuer(server.url, tls=trusted))
    passes.ask()
    server.wait_until_all_disconnected()


def test_only_so_many_connections_are_kept(server: Apiserver, trusted: TlsSettings) -> None:
    """The first connections that answer are kept. Apiservers beyond the limit get a new one in each pass."""
    issuers = [issuer(server.url, tls=trusted, name=name) for name in ("one", "two", "three")]
    with daemon(most=2) as passes:
        for _ in range(3):
            passes.ask(*issuers)
    assert server.connections == 5


def test_end_closes_every_connection(server: Apiserver, trusted: TlsSettings) -> None:
    """A second close is harmless, and a poller that never asked has nothing to close."""
    with daemon() as passes:
        passes.ask(issuer(server.url, tls=trusted))
        passes.poller.close()
        server.wait_until_all_disconnected()
    with daemon():
        pass


@pytest.mark.parametrize(
    ("interval", "is_kept"),
    [
        (timedelta(minutes=1), True),
        (LONGEST_INTERVAL, True),
        (timedelta(seconds=76), False),
        (timedelta(minutes=5), False),
    ],
)
def test_nothing_is_kept_for_longer_than_apiservers_keep_it(interval: timedelta, *, is_kept: bool) -> None:
    """With a pass every five minutes, the apiserver has already closed the connection."""
    assert 0 <= most_connections(interval) <= MOST_CONNECTIONS
    assert bool(most_connections(interval)) is is_kept


@pytest.mark.parametrize(("files", "most"), [(100, 50), (2 * MOST_CONNECTIONS + 10, MOST_CONNECTIONS)])
def test_half_of_the_files_that_may_be_open_are_left_for_the_rest(files: int, most: int) -> None:
    """A process with a low limit of open files keeps few connections."""
    assert most_connections(timedelta(minutes=1), files) == most
