"""Replicas are found by DNS name and by EndpointSlices, and each is asked over real TLS."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mirror.apiserver.endpoints import MAX_REPLICAS
from mirror.apiserver.poller import ApiserverPoller
from mirror.config.settings import AuthSettings, Issuer, LimitSettings, TlsSettings
from mirror.model import Answer, IssuerName, Unusable
from support.apiserver import Apiserver, never_answer, raw_answer
from support.askers import ask_one, codes, ignore, issuer, limits, urls
from support.captures import capture
from support.endpointslices import FIRST_PAGE, endpoint, endpointslice, listed, slice_list
from support.proxy import Proxy
from support.replicas import HOST, FakeResolver, replicas
from support.tls import server_context

pytestmark = pytest.mark.server

BUSY = capture("23-too-many-requests/discovery-429").raw
FORBIDDEN = raw_answer(
    "403 Forbidden",
    b'{"kind":"Status","message":"endpointslices.discovery.k8s.io is forbidden: User \\"system:anonymous\\""}',
    content_type="application/json",
)
OWN_NAME = "kubernetes.default.svc"


def behind(port: int, tls: TlsSettings, **more: Any) -> Issuer:
    """An issuer with its replicas behind HOST."""
    return issuer(f"https://{HOST}:{port}", tls=tls, discover="dns", expect_replicas=2, **more)


def resolver(*found: str) -> FakeResolver:
    """A resolver that knows only HOST."""
    return FakeResolver(**{HOST.replace(".", "_"): found})


def ask(asked: Issuer, *found: str, within: LimitSettings | None = None) -> tuple[Answer | Unusable, ...]:
    """The answers when HOST resolves to the addresses `found`."""
    apiservers = ApiserverPoller(within or limits(), resolve=resolver(*found))
    return apiservers.poll([asked], turn=0, progress=ignore)[asked.name]


# ---------------------------------------------------------------------------------------------- discover: dns


def test_every_address_of_the_host_is_asked_under_its_name(trusted: TlsSettings) -> None:
    """Each address is one replica, even if it is listed twice or in another form. The order is stable."""
    with replicas(3) as servers:
        found = ("127.0.0.4", "127.0.0.2", "127.0.0.3", "127.0.0.2", "::ffff:127.0.0.3")
        answers = ask(behind(servers[0].port, trusted), *found)
        assert codes(answers) == [()] * 3
        assert urls(answers) == [server.url for server in servers]
        assert [server.connections for server in servers] == [1] * 3


def test_replicas_of_a_gateway_are_asked_below_its_prefix(trusted: TlsSettings) -> None:
    """Each address behind the name serves the cluster at the same path."""
    with replicas(2) as servers:
        for each in servers:
            each.answer("/c/1/.well-known/openid-configuration", capture("01-rsa1/anonymous-bound-discovery").raw)
            each.answer("/c/1/openid/v1/jwks", capture("01-rsa1/anonymous-bound-jwks").raw)
        port = servers[0].port
        asked = issuer(f"https://{HOST}:{port}/c/1", tls=trusted, discover="dns", expect_replicas=2)
        answers = ask(asked, "127.0.0.2", "127.0.0.3")
        assert codes(answers) == [()] * 2
        assert urls(answers) == [f"{server.url}/c/1" for server in servers]


def test_configured_server_name_comes_before_the_host(trusted: TlsSettings) -> None:
    """The certificate at every address must match `tls.server_name`."""
    with replicas(2, OWN_NAME) as servers:
        found = ("127.0.0.2", "127.0.0.3")
        assert codes(ask(behind(servers[0].port, trusted), *found)) == [("tls_wrong_name",)] * 2
        named = TlsSettings(trusted.ca_file, server_name=OWN_NAME)
        assert codes(ask(behind(servers[0].port, named), *found)) == [()] * 2


def test_ipv6_addresses_are_asked_too(trusted: TlsSettings) -> None:
    """AAAA records count like A records. An unreachable family is an apiserver that did not answer."""
    with replicas(1) as servers:
        answers = ask(behind(servers[0].port, trusted), "::1", "127.0.0.2")
        assert (codes(answers), urls(answers)[1]) == ([(), ("unreachable",)], f"https://[::1]:{servers[0].port}")


def test_dead_replica_is_named(trusted: TlsSettings) -> None:
    """An address without a listener is one missing answer."""
    with replicas(1) as servers:
        answers = ask(behind(servers[0].port, trusted), "127.0.0.2", "127.0.0.3")
        assert (codes(answers), urls(answers)[1]) == ([(), ("unreachable",)], f"https://127.0.0.3:{servers[0].port}")


def test_name_that_does_not_resolve_is_an_answer_that_is_missing(trusted: TlsSettings) -> None:
    """A failed lookup is tried twice. It is `unreachable` under the configured text, in the resolver's words."""
    unknown = FakeResolver()
    asked = behind(6443, trusted)
    (answer,) = ApiserverPoller(limits(), resolve=unknown).poll([asked], turn=0, progress=ignore)[asked.name]
    assert isinstance(answer, Unusable)
    assert (answer.apiserver, answer.reasons[0].code) == (f"https://{HOST}:6443", "unreachable")
    assert "DNS: Name or service not known" in answer.reasons[0].sentence
    assert unknown.asked == [HOST] * 2


def test_fault_of_an_unknown_kind_stays_with_its_issuer(trusted: TlsSettings) -> None:
    """An unexpected lookup error makes only its own issuer unusable. The others are asked."""

    class Broken(dict[str, str]):
        def get(self, *_: object) -> str:
            raise KeyError("a fault of ours")

    def resolve(host: Any, port: Any, *rest: object) -> list[Any]:
        found = resolver("127.0.0.2")(host, port, *rest)
        return [("nonsense", ("no address",))] if host == HOST else found

    with Apiserver() as server:
        issuers = [
            behind(6443, trusted, name="lookup"),
            issuer(name="environment", tls=trusted, auth=AuthSettings(in_cluster=True)),
            issuer(server.url, name="good", tls=trusted),
        ]
        apiservers = ApiserverPoller(limits(), resolve=resolve, environ=Broken())
        answers = apiservers.poll(issuers, turn=0, progress=ignore)
    assert [codes(each) for each in answers.values()] == [[("bad_address",)], [("unexpected",)], [()]]


def test_name_without_addresses_is_reported(trusted: TlsSettings) -> None:
    """An empty answer from the resolver is a failure, not an empty list of replicas."""
    assert codes(ask(behind(6443, trusted))) == [("nothing_found",)]


def test_link_local_address_is_reported(trusted: TlsSettings) -> None:
    """An address that is valid on one network interface only is not asked."""
    assert codes(ask(behind(6443, trusted), "fe80::1%eth0")) == [("bad_endpoint",)]


def test_more_addresses_than_replicas_can_be_are_not_asked(trusted: TlsSettings) -> None:
    """A name with hundreds of addresses is rejected as a whole: a cluster has few apiservers."""
    found = tuple(f"127.0.{number // 250}.{number % 250 + 2}" for number in range(MAX_REPLICAS + 1))
    assert codes(ask(behind(1, trusted), *found)) == [("too_many_replicas",)]


def test_hanging_resolver_times_out_its_own_issuer_only(trusted: TlsSettings) -> None:
    """The lookup counts towards the apiserver's timeout. The other issuers are asked meanwhile."""
    release = threading.Event()

    def resolve(host: Any, port: Any, *rest: object) -> list[Any]:
        if host == HOST:
            release.wait()
        return resolver()(host, port, *rest)

    with Apiserver() as server:
        issuers = [behind(6443, trusted, name="hangs"), issuer(server.url, name="quick", tls=trusted)]
        within = limits(total_seconds=0.5)
        answers = ApiserverPoller(within, resolve=resolve).poll(issuers, turn=0, progress=ignore)
    release.set()
    assert [codes(each) for each in answers.values()] == [[("timeout",)], [()]]
    (late,) = answers[IssuerName("hangs")]
    assert isinstance(late, Unusable)
    assert "limits.total" in late.reasons[0].sentence


def test_slow_lookup_leaves_less_time_for_asking(trusted: TlsSettings) -> None:
    """Lookup and answer together must fit into limits.total."""

    def resolve(host: Any, port: Any, *rest: object) -> list[Any]:
        if host == HOST:
            time.sleep(0.6)
        return resolver("127.0.0.2")(host, port, *rest)

    with replicas(1) as servers:
        servers[0].respond_with(never_answer)
        asked, begun = behind(servers[0].port, trusted), time.monotonic()
        answers = ApiserverPoller(limits(total_seconds=1.0), resolve=resolve).poll([asked], turn=0, progress=ignore)
        assert codes(answers[asked.name]) == [("timeout",)]
        assert time.monotonic() - begun < 1.5


def test_source_deadline_ends_a_lookup(trusted: TlsSettings) -> None:
    """At the pass deadline, an unfinished lookup is reported as late under the configured text."""
    release = threading.Event()

    def resolve(*_: object) -> list[Any]:
        release.wait()
        return []

    asked = behind(6443, trusted)
    within = limits(source_deadline_seconds=0.3)
    answers = ApiserverPoller(within, resolve=resolve).poll([asked], turn=0, progress=ignore)[asked.name]
    release.set()
    assert (codes(answers), urls(answers)) == ([("timeout",)], [f"https://{HOST}:6443"])


def test_found_replicas_are_asked_at_the_same_time(trusted: TlsSettings) -> None:
    """One issuer starts with one worker. The replicas that its lookup finds are asked by more, up to the limit."""
    found = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
    with replicas(3) as servers:
        for server in servers:
            server.respond_with(never_answer)
        asked = behind(servers[0].port, trusted)
        together = ask(asked, *found, within=limits(source_deadline_seconds=0.7))
        assert codes(together) == [("timeout",)] * 3
        assert [server.connections for server in servers] == [1, 1, 1]
        one_by_one = ask(asked, *found, within=limits(source_deadline_seconds=0.7, concurrency=1))
        assert codes(one_by_one) == [("timeout",)] * 3
        assert [server.connections for server in servers] == [2, 1, 1]


def test_replicas_are_asked_through_the_proxy(trusted: TlsSettings) -> None:
    """With `proxy`, the tunnel goes to the resolved address."""
    with replicas(1) as servers, Proxy() as proxy:
        asked = behind(servers[0].port, trusted, proxy=proxy.url)
        assert codes(ask(asked, "127.0.0.2")) == [()]
        assert proxy.tunnels == [f"127.0.0.2:{servers[0].port}"]


def test_system_resolver_finds_localhost(trusted: TlsSettings) -> None:
    """With the real resolver, the addresses of localhost are asked under that name."""
    with Apiserver(server_context("localhost")) as server:
        asked = issuer(f"https://localhost:{server.port}", tls=trusted, discover="dns", expect_replicas=1)
        answers = ask_one(asked)
        by_url = dict(zip(urls(answers), codes(answers), strict=True))
        assert by_url[server.url] == ()
        assert set(by_url) <= {server.url, f"https://[::1]:{server.port}"}


# ------------------------------------------------------------------------------------ discover: endpointslices


def pod(folder: Path, token: str = "s3cr3t") -> AuthSettings:
    """The login of a pod with its ServiceAccount files in `folder`."""
    (folder / "token").write_text(token)
    return AuthSettings(token_file=folder / "token", in_cluster=True)


def service_of(server: Apiserver) -> Mapping[str, str]:
    """The environment of a pod in a cluster with the service `server`."""
    return {"KUBERNETES_SERVICE_HOST": server.host, "KUBERNETES_SERVICE_PORT": str(server.port)}


def ask_in_cluster(api: Apiserver, asked: Issuer, within: LimitSettings | None = None) -> tuple[Answer | Unusable, ...]:
    return ApiserverPoller(within or limits(), environ=service_of(api)).poll([asked], turn=0, progress=ignore)[
        asked.name
    ]


def in_cluster(folder: Path, tls: TlsSettings) -> Issuer:
    return issuer(tls=tls, auth=pod(folder), discover="endpointslices", expect_replicas=2)


def endpoints_of(*servers: Apiserver) -> bytes:
    return listed(slice_list([endpointslice(*(endpoint(each.host) for each in servers), port=servers[0].port)]))


def test_ready_endpoints_are_asked_with_the_pods_token(trusted: TlsSettings, tmp_path: Path) -> None:
    """The list comes from the cluster's service. Each endpoint is asked under kubernetes.default.svc."""
    with Apiserver() as api, replicas(2, OWN_NAME) as servers:
        api.answer(FIRST_PAGE, endpoints_of(*servers))
        answers = ask_in_cluster(api, in_cluster(tmp_path, trusted))
        assert (codes(answers), urls(answers)) == ([(), ()], [server.url for server in servers])
        for request in (*api.requests, *(each for server in servers for each in server.requests)):
            assert request.headers["authorization"] == "Bearer s3cr3t"
        assert [request.target for request in api.requests] == [FIRST_PAGE]
        assert api.requests[0].headers["accept"] == "application/json"


def test_pages_are_put_together(trusted: TlsSettings, tmp_path: Path) -> None:
    """All pages are read over one connection first. A replica in two slices is asked once."""
    with Apiserver() as api, replicas(2, OWN_NAME) as servers:
        first, second = ([endpointslice(endpoint(each.host), port=each.port)] for each in servers)
        api.answer(FIRST_PAGE, listed(slice_list(first, token="page2")))
        api.answer(f"{FIRST_PAGE}&continue=page2", listed(slice_list(second + first)))
        assert codes(ask_in_cluster(api, in_cluster(tmp_path, trusted))) == [()] * 2
        assert (api.connections, [server.connections for server in servers]) == (1, [1, 1])


def test_server_name_holds_for_found_endpoints(trusted: TlsSettings, tmp_path: Path) -> None:
    """`tls.server_name` is verified at the API and at every endpoint."""
    with Apiserver(server_context("kubernetes")) as api, replicas(1, "kubernetes") as servers:
        api.answer(FIRST_PAGE, endpoints_of(*servers))
        named = TlsSettings(trusted.ca_file, server_name="kubernetes")
        assert codes(ask_in_cluster(api, in_cluster(tmp_path, named))) == [()]


def test_another_cluster_is_asked_for_its_endpoints(trusted: TlsSettings) -> None:
    """Outside the cluster, the configured apiserver gives the list, with the configured login."""
    with Apiserver() as api, replicas(1, OWN_NAME) as servers:
        api.answer(FIRST_PAGE, endpoints_of(*servers))
        asked = issuer(api.url, tls=trusted, discover="endpointslices", expect_replicas=1)
        assert codes(ask_one(asked)) == [()]


def test_forbidden_list_prints_the_role(trusted: TlsSettings, tmp_path: Path) -> None:
    """Without the right to list, the remedy prints the exact role and its binding."""
    with Apiserver() as api:
        api.answer(FIRST_PAGE, FORBIDDEN)
        (answer,) = ask_in_cluster(api, in_cluster(tmp_path, trusted))
    assert isinstance(answer, Unusable)
    (reason,) = answer.reasons
    assert (reason.code, reason.where) == ("forbidden", "endpointslices")
    assert "kubectl create role oidc-mirror-endpointslices -n default --verb=list" in reason.remedy
    assert "system:anonymous" in reason.sentence
    assert answer.certificate_expires_at is not None


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (raw_answer("401 Unauthorized", b"{}", content_type="application/json"), "unauthorized"),
        (raw_answer("404 Not Found", b"404 page not found", content_type="text/plain"), "not_found"),
        (raw_answer("302 Found", location="https://169.254.169.254/"), "redirect"),
        (raw_answer("410 Gone", b"{}", content_type="application/json"), "bad_status"),
        (raw_answer("200 OK", b"<html>", content_type="text/html"), "wrong_content_type"),
        (listed(b"{"), "not_json"),
        (listed(b'{"kind":"EndpointSliceList","items":5}'), "endpointslices_invalid"),
        (listed(slice_list([])), "nothing_found"),
        (listed(slice_list([], padding="x" * 70_000)), "too_large"),
        (raw_answer("503 Service Unavailable"), "server_error"),
    ],
    ids=["401", "404", "redirect", "410", "html", "no-json", "shape", "empty", "large", "503"],
)
def test_list_that_is_not_had_is_an_answer_that_is_missing(
    trusted: TlsSettings, tmp_path: Path, raw: bytes, code: str
) -> None:
    """Any failure of the list is one apiserver that did not answer, with its stable code."""
    with Apiserver() as api:
        api.answer(FIRST_PAGE, raw)
        answers = ask_in_cluster(api, in_cluster(tmp_path, trusted))
        assert (codes(answers), urls(answers)) == ([(code,)], [api.url])


def test_busy_api_is_asked_once_more(trusted: TlsSettings, tmp_path: Path) -> None:
    """A 429 for the list is retried after its Retry-After, as for the documents."""
    with Apiserver() as api, replicas(1, OWN_NAME) as servers:
        api.answer(FIRST_PAGE, endpoints_of(*servers))
        api.once(BUSY)  # Retry-After: one second
        begun = time.monotonic()
        assert codes(ask_in_cluster(api, in_cluster(tmp_path, trusted))) == [()]
        assert time.monotonic() - begun >= 1


def test_silent_api_costs_the_total(trusted: TlsSettings, tmp_path: Path) -> None:
    """A list that never arrives is `timeout`."""
    with Apiserver() as api:
        api.respond_with(never_answer)
        answers = ask_in_cluster(api, in_cluster(tmp_path, trusted), limits(total_seconds=0.5))
    assert codes(answers) == [("timeout",)]


# --------------------------------------------------------------------------------------------- auth.in_cluster


def test_service_of_the_cluster_is_a_load_balancer(trusted: TlsSettings, tmp_path: Path) -> None:
    """Without `discover`, the pod's own service is asked over five connections with the pod's token."""
    with Apiserver() as api:
        asked = issuer(tls=trusted, auth=pod(tmp_path), load_balancer=True)
        answers = ask_in_cluster(api, asked)
        assert (codes(answers), urls(answers)) == ([()] * 5, [api.url] * 5)
        assert {request.headers["authorization"] for request in api.requests} == {"Bearer s3cr3t"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"KUBERNETES_SERVICE_HOST": "10.96.0.1"},
        {"KUBERNETES_SERVICE_HOST": "", "KUBERNETES_SERVICE_PORT": "443"},
        {"KUBERNETES_SERVICE_HOST": "user@evil", "KUBERNETES_SERVICE_PORT": "443"},
        {"KUBERNETES_SERVICE_HOST": "a/b", "KUBERNETES_SERVICE_PORT": "443"},
        {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "tcp://10.96.0.1:443"},
    ],
    ids=["none", "no-port", "empty", "user", "path", "link"],
)
def test_outside_of_a_pod_no_request_is_sent(trusted: TlsSettings, tmp_path: Path, environ: dict[str, str]) -> None:
    """An environment without a service is `not_in_cluster`, and the token is not sent."""
    asked = issuer(tls=trusted, auth=pod(tmp_path), load_balancer=True)
    answers = ApiserverPoller(limits(), environ=environ).poll([asked], turn=0, progress=ignore)[asked.name]
    assert (codes(answers), urls(answers)) == ([("not_in_cluster",)], ["https://kubernetes.default.svc"])


def test_ipv6_service_is_put_into_brackets(trusted: TlsSettings, tmp_path: Path) -> None:
    """kubelet gives an IPv6 address without brackets."""
    asked = issuer(tls=trusted, auth=pod(tmp_path))
    environ = {"KUBERNETES_SERVICE_HOST": "::1", "KUBERNETES_SERVICE_PORT": "1"}
    answers = ApiserverPoller(limits(), environ=environ).poll([asked], turn=0, progress=ignore)[asked.name]
    assert (codes(answers), urls(answers)) == ([("unreachable",)], ["https://[::1]:1"])


def test_missing_files_of_the_pod_are_all_listed(tmp_path: Path) -> None:
    """Token, CA and service: all errors are reported at once."""
    auth = AuthSettings(token_file=tmp_path / "token", in_cluster=True)
    (answer,) = ask_one(issuer(tls=TlsSettings(ca_file=tmp_path / "ca.crt"), auth=auth))
    assert codes([answer]) == [("token_unreadable", "ca_unreadable", "not_in_cluster")]
