"""Login with a kubeconfig at real TLS servers: what is read, what is sent, and what is never sent."""

import json
from base64 import b64encode, urlsafe_b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mirror.apiserver.poller import ApiserverPoller
from mirror.config.settings import AuthSettings, Issuer, TlsSettings
from support.apiserver import Apiserver
from support.askers import AUDIENCE, ask_one, codes, ignore, issuer, limits, urls
from support.endpointslices import FIRST_PAGE, endpoint, endpointslice, listed, slice_list
from support.kubeconfigs import ca_data, content, kubeconfig
from support.proxy import Proxy
from support.replicas import replicas
from support.tls import ca_file, client_files, server_context

pytestmark = pytest.mark.server


def by(path: Path, *apiservers: str, context: str | None = None, tls: TlsSettings | None = None, **more: Any) -> Issuer:
    return issuer(*apiservers, auth=AuthSettings(kubeconfig=path, context=context), tls=tls, **more)


def data_of(path: Path) -> str:
    return b64encode(path.read_bytes()).decode()


def test_server_of_the_kubeconfig_is_asked_with_its_token(tmp_path: Path) -> None:
    """Without `apiservers`, the kubeconfig gives server, CA and token."""
    with Apiserver() as server:
        answers = ask_one(by(kubeconfig(tmp_path, server.url, user={"token": "s3cr3t"})))
        assert (codes(answers), urls(answers)) == ([()], [server.url])
        assert {request.headers["authorization"] for request in server.requests} == {"Bearer s3cr3t"}


def test_listed_apiservers_are_asked_in_place_of_the_server(tmp_path: Path) -> None:
    """With `apiservers`, the kubeconfig gives only the CA and the login."""
    with Apiserver() as one, Apiserver() as two, Apiserver() as entry:
        path = kubeconfig(tmp_path, entry.url, user={"token": "s3cr3t"})
        assert codes(ask_one(by(path, one.url, two.url))) == [(), ()]
        assert (one.connections, two.connections, entry.connections) == (1, 1, 0)


def test_kubeconfig_behind_a_load_balancer_is_asked_five_times(tmp_path: Path) -> None:
    """`load_balancer` also applies to the server of the kubeconfig."""
    with Apiserver() as server:
        assert codes(ask_one(by(kubeconfig(tmp_path, server.url), load_balancer=True))) == [()] * 5


def test_kubeconfig_is_read_again_in_every_pass(tmp_path: Path) -> None:
    """The next pass uses a new token and a new server (facts.md#20)."""
    apiservers = ApiserverPoller(limits())
    with Apiserver() as one, Apiserver() as two:
        for server, token in ((one, "first"), (one, "second"), (two, "third")):
            path = kubeconfig(tmp_path, server.url, user={"token": token})
            apiservers.poll([by(path)], turn=0, progress=ignore)
        sent = [[request.headers["authorization"] for request in server.requests] for server in (one, two)]
    assert sent == [["Bearer first"] * 2 + ["Bearer second"] * 2, ["Bearer third"] * 2]


def test_token_file_of_the_kubeconfig_is_sent(tmp_path: Path) -> None:
    """`tokenFile` is read like our own token file."""
    (tmp_path / "token").write_text("from-file\n")
    with Apiserver() as server:
        assert codes(ask_one(by(kubeconfig(tmp_path, server.url, user={"tokenFile": "token"})))) == [()]
        assert server.requests[0].headers["authorization"] == "Bearer from-file"


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "files"])
def test_client_certificate_of_the_kubeconfig_is_presented(tmp_path: Path, inline: bool) -> None:
    """A client certificate logs in, whether it is inline in the kubeconfig or in a file next to it."""
    files = client_files(tmp_path)
    user = {"client-certificate": files.certificate.name, "client-key": files.key.name}
    if inline:
        user = {"client-certificate-data": data_of(files.certificate), "client-key-data": data_of(files.key)}
    with Apiserver(server_context("127.0.0.1", client_ca="cluster")) as server:
        assert codes(ask_one(by(kubeconfig(tmp_path, server.url, user=user)))) == [()]


def test_inline_key_is_on_no_disk_and_no_descriptor_stays(tmp_path: Path) -> None:
    """The key of a kubeconfig reaches OpenSSL through memory: no file is created, and no descriptor stays open."""
    files = client_files(tmp_path)
    user = {"client-certificate-data": data_of(files.certificate), "client-key-data": data_of(files.key)}
    with Apiserver(server_context("127.0.0.1", client_ca="cluster")) as server:
        path = kubeconfig(tmp_path, server.url, user=user)
        before = set(tmp_path.iterdir())
        apiservers = ApiserverPoller(limits())
        apiservers.poll([by(path)], turn=0, progress=ignore)
    assert [name for name in open_files() if "memfd:pem" in name] == []
    assert set(tmp_path.iterdir()) == before


def open_files() -> list[str]:
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor that lists the folder is closed by now
            found.append(str(descriptor.readlink()))
    return found


def test_server_name_of_the_configuration_comes_first(tmp_path: Path) -> None:
    """`tls-server-name` is verified. `tls.server_name` of the issuer takes precedence over the kubeconfig."""
    with Apiserver(server_context("kubernetes")) as server:
        path = kubeconfig(tmp_path, server.url, cluster={"tls-server-name": "kubernetes"})
        assert codes(ask_one(by(path))) == [()]
        assert codes(ask_one(by(path, tls=TlsSettings(server_name="other")))) == [("tls_wrong_name",)]


def test_ca_of_the_kubeconfig_is_the_only_anchor(tmp_path: Path) -> None:
    """The CA of another cluster does not verify this server. Without a CA the system's trust store is used."""
    with Apiserver() as server:
        other = {"certificate-authority-data": ca_data("other")}
        assert codes(ask_one(by(kubeconfig(tmp_path, server.url, cluster=other)))) == [("tls_untrusted",)]
        none = {"certificate-authority-data": None}
        assert codes(ask_one(by(kubeconfig(tmp_path, server.url, cluster=none)))) == [("tls_untrusted",)]
        junk = {"certificate-authority-data": b64encode(b"junk").decode()}
        assert codes(ask_one(by(kubeconfig(tmp_path, server.url, cluster=junk)))) == [("ca_not_pem",)]
        assert server.requests == []


def test_proxy_of_the_configuration_comes_first(tmp_path: Path) -> None:
    """`proxy-url` is used as in kubectl. The issuer's own `proxy` takes precedence."""
    with Apiserver() as server, Proxy() as one, Proxy() as two:
        path = kubeconfig(tmp_path, server.url, cluster={"proxy-url": one.url})
        assert codes(ask_one(by(path))) == [()]
        assert codes(ask_one(by(path, proxy=two.url))) == [()]
        assert (len(one.tunnels), len(two.tunnels)) == (1, 1)


def test_kubeconfig_finds_the_endpoints_of_its_cluster(tmp_path: Path) -> None:
    """With `discover: endpointslices` the kubeconfig's server gives the list. Each endpoint gets the same login."""
    with Apiserver() as api, replicas(2, "kubernetes.default.svc") as servers:
        found = endpointslice(*(endpoint(each.host) for each in servers), port=servers[0].port)
        api.answer(FIRST_PAGE, listed(slice_list([found])))
        path = kubeconfig(tmp_path, api.url, user={"token": "s3cr3t"})
        answers = ask_one(by(path, discover="endpointslices", expect_replicas=2))
        assert (codes(answers), urls(answers)) == ([(), ()], [server.url for server in servers])
        assert {each.requests[0].headers["authorization"] for each in servers} == {"Bearer s3cr3t"}


def test_unusable_kubeconfig_is_reported_with_every_reason(tmp_path: Path) -> None:
    """Kubeconfig errors are reported at each listed apiserver, or at the file if none is listed."""
    path = kubeconfig(tmp_path, "https://127.0.0.1:1", user={"exec": {"command": "true"}, "username": "admin"})
    answers = ask_one(by(path))
    assert (codes(answers), urls(answers)) == ([("kubeconfig_refused",) * 2], [f"kubeconfig {path}"])
    listed_too = ask_one(by(path, "https://127.0.0.1:1", "https://127.0.0.1:2"))
    assert codes(listed_too) == [("kubeconfig_refused",) * 2] * 2


def test_bad_token_and_bad_ca_are_reported_together(tmp_path: Path) -> None:
    """All errors are reported at once, even if one is in the token and one in the CA."""
    junk = {"certificate-authority-data": b64encode(b"junk").decode()}
    path = kubeconfig(tmp_path, "https://127.0.0.1:1", cluster=junk, user={"token": "a b"})
    assert codes(ask_one(by(path))) == [("token_malformed", "ca_not_pem")]


def test_programs_of_a_kubeconfig_are_never_run(tmp_path: Path) -> None:
    """An exec plugin is rejected and never started."""
    proof = tmp_path / "proof"
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [str(proof)]}}
    ask_one(by(kubeconfig(tmp_path, "https://127.0.0.1:1", user=user)))
    assert not proof.exists()


# ------------------------------------------------------------------------- tokens that a cloud would take


def cloud_token(audience: object) -> str:
    payload = urlsafe_b64encode(json.dumps({"aud": audience}).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJSUzI1NiJ9.{payload}.c2lnbmF0dXJl"


AUDIENCES = pytest.mark.parametrize(
    "audience",
    ["sts.amazonaws.com", "api://AzureADTokenExchange", AUDIENCE, ["https://kubernetes.default.svc", AUDIENCE]],
    ids=["aws", "entra", "own", "several"],
)


@AUDIENCES
@pytest.mark.parametrize("place", ["token", "tokenFile", "in-cluster", "in-cluster-endpointslices"])
def test_token_for_a_cloud_is_never_sent(tmp_path: Path, audience: object, place: str) -> None:
    """From any source, a token that would log in to a cloud is `wrong_token`, and no connection is made."""
    (tmp_path / "token").write_text(cloud_token(audience))
    with Apiserver() as server:
        environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
        if place.startswith("in-cluster"):
            auth = AuthSettings(token_file=tmp_path / "token", in_cluster=True)
            asked = issuer(auth=auth, tls=TlsSettings(ca_file(tmp_path)), load_balancer=place == "in-cluster")
            if place == "in-cluster-endpointslices":
                asked = issuer(
                    auth=auth, tls=TlsSettings(ca_file(tmp_path)), discover="endpointslices", expect_replicas=1
                )
        else:
            user = {"token": cloud_token(audience)} if place == "token" else {"tokenFile": "token"}
            asked = by(kubeconfig(tmp_path, server.url, user=user))
        answers = ApiserverPoller(limits(), environ=environ).poll([asked], turn=0, progress=ignore)[asked.name]
        assert (codes(answers), server.connections) == ([("wrong_token",)], 0)


def test_malformed_token_of_a_kubeconfig_is_not_sent(tmp_path: Path) -> None:
    """A token of several lines could inject header lines."""
    for token in ("a\r\nX-Evil: b", "t\u00f6ken"):
        (tmp_path / "config").write_text(json.dumps(content("https://127.0.0.1:1", user={"token": token})))
        assert codes(ask_one(by(tmp_path / "config"))) == [("token_malformed",)]


def test_proxy_that_cannot_be_used_costs_the_lookup(tmp_path: Path) -> None:
    """A proxy address that cannot be parsed gives `bad_address` for the list. No request bypasses the proxy."""
    with Apiserver() as api:
        tls = TlsSettings(ca_file(tmp_path))
        asked = issuer(api.url, tls=tls, proxy="ftp://127.0.0.1:1", discover="endpointslices", expect_replicas=1)
        assert (codes(ask_one(asked)), api.connections) == ([("bad_address",)], 0)
