"""Kubeconfigs are read like in kubectl, and rejected if they require an unsupported feature."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from mirror.apiserver.kubeconfig import MAX_KUBECONFIG_BYTES, Kubeconfig, read_kubeconfig
from support.kubeconfigs import content, kubeconfig, write
from support.tls import authority

SERVER = "https://10.0.0.11:6443"
CA = authority("cluster").cert_pem.bytes()


def read(path: Path, context: str | None = None) -> Kubeconfig:
    found = read_kubeconfig(path, context)
    assert isinstance(found, Kubeconfig), found
    return found


def refused(path: Path, context: str | None = None) -> list[tuple[str, str]]:
    found = read_kubeconfig(path, context)
    assert isinstance(found, tuple), found
    return [(reason.code, reason.sentence) for reason in found]


def test_server_ca_and_token_are_taken(tmp_path: Path) -> None:
    """The current context gives server, CA and token."""
    found = read(kubeconfig(tmp_path, SERVER, user={"token": "s3cr3t"}))
    assert found == Kubeconfig(SERVER, "admin@syd", CA, token=b"s3cr3t")


def test_secrets_do_not_print(tmp_path: Path) -> None:
    """Neither the token nor the client key appears in the repr that a debugger or a traceback shows."""
    user = {"token": "s3cr3t", "client-certificate-data": "Yw==", "client-key-data": b64encode(b"pr1vate").decode()}
    text = repr(read(kubeconfig(tmp_path, SERVER, user=user)))
    assert "s3cr3t" not in text
    assert "pr1vate" not in text


def test_json_is_a_kubeconfig_too(tmp_path: Path) -> None:
    """kubectl reads JSON as well."""
    path = tmp_path / "config.json"
    path.write_text(
        '{"clusters":[{"name":"c","cluster":{"server":"https://a"}}],"current-context":"x",'
        '"contexts":[{"name":"x","context":{"cluster":"c"}}]}'
    )
    assert read(path) == Kubeconfig("https://a", "x")


def test_files_are_relative_to_the_kubeconfig(tmp_path: Path) -> None:
    """Paths are relative to the folder of the file, as in kubectl. Absolute paths stay unchanged."""
    folder = tmp_path / "deep"
    folder.mkdir()
    for name in ("ca.crt", "client.crt", "client.key"):
        (folder / name).write_bytes(name.encode())
    user = {"client-certificate": "client.crt", "client-key": str(folder / "client.key"), "tokenFile": "token"}
    cluster = {"certificate-authority-data": None, "certificate-authority": "ca.crt"}
    found = read(kubeconfig(folder, SERVER, cluster=cluster, user=user))
    assert (found.ca, found.client_cert, found.client_key) == (b"ca.crt", b"client.crt", b"client.key")
    assert found.token_file == folder / "token"


def test_inline_data_comes_before_a_file_and_a_token_file_before_a_token(tmp_path: Path) -> None:
    """If both are given, the precedence is that of client-go."""
    cluster = {"certificate-authority": "missing"}
    found = read(kubeconfig(tmp_path, SERVER, cluster=cluster, user={"token": "a", "tokenFile": "b"}))
    assert (found.ca, found.token, found.token_file) == (CA, b"", tmp_path / "b")


def test_server_name_and_proxy_are_taken(tmp_path: Path) -> None:
    """`tls-server-name` and `proxy-url` apply as in kubectl. A slash after the server is harmless."""
    cluster = {"tls-server-name": "kubernetes", "proxy-url": "http://proxy:3128/"}
    found = read(kubeconfig(tmp_path, f"{SERVER}/", cluster=cluster))
    assert (found.server, found.server_name, found.proxy) == (SERVER, "kubernetes", "http://proxy:3128")


def test_server_may_stand_behind_a_prefix(tmp_path: Path) -> None:
    """Rancher writes such URLs. A final slash is ignored."""
    for text in ("https://rancher/k8s/clusters/c-1", "https://rancher/k8s/clusters/c-1/"):
        found = read_kubeconfig(write(tmp_path / "config", content(text)), None)
        assert isinstance(found, Kubeconfig)
        assert found.server == "https://rancher/k8s/clusters/c-1"


def test_context_is_chosen_by_name(tmp_path: Path) -> None:
    """The named context is used, not the current one. Other users are ignored."""
    data = content(SERVER, user={"exec": {"command": "aws"}})
    data["clusters"].append({"name": "fra", "cluster": {"server": "https://10.1.0.1:6443"}})
    data["users"].append({"name": "mirror", "user": {"token": "t"}})
    data["contexts"].append({"name": "fra", "context": {"cluster": "fra", "user": "mirror"}})
    found = read(write(tmp_path / "config", data), "fra")
    assert (found.server, found.context, found.token, found.ca) == ("https://10.1.0.1:6443", "fra", b"t", None)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"user": {"exec": {"command": "aws", "apiVersion": "client.authentication.k8s.io/v1"}}}, "runs a program"),
        ({"user": {"auth-provider": {"name": "oidc"}}}, "auth-provider plugin"),
        ({"user": {"username": "admin", "password": "s3cr3t"}}, "logs in with a password"),
        ({"user": {"password": "s3cr3t"}}, "logs in with a password"),
        ({"user": {"token": "t", "as": "system:admin"}}, "acts as another user"),
        ({"user": {"token": "t", "as-groups": ["system:masters"]}}, "acts as another user"),
        ({"cluster": {"insecure-skip-tls-verify": True}}, "switches verification off"),
        ({"cluster": {"insecure-skip-tls-verify": "false"}}, "switches verification off"),
    ],
    ids=["exec", "auth-provider", "password", "password-alone", "as", "as-groups", "insecure", "insecure-text"],
)
def test_what_we_never_do_is_refused(tmp_path: Path, part: dict[str, Any], words: str) -> None:
    """Login by program or password, impersonation and unverified TLS are rejected with one reason and no secret."""
    ((code, sentence),) = refused(kubeconfig(tmp_path, SERVER, **part))
    assert (code, words in sentence, "s3cr3t" in sentence) == ("kubeconfig_refused", True, False)


def test_verification_that_is_left_on_is_no_reason(tmp_path: Path) -> None:
    """`insecure-skip-tls-verify: false` is the default and is accepted."""
    assert read(kubeconfig(tmp_path, SERVER, cluster={"insecure-skip-tls-verify": False})).server == SERVER


def test_every_reason_is_reported_at_once(tmp_path: Path) -> None:
    """Several mistakes are reported together."""
    cluster = {"insecure-skip-tls-verify": True, "certificate-authority-data": "no base64!"}
    user = {"exec": {}, "auth-provider": {"name": "gcp"}, "client-certificate-data": "Yw=="}
    codes = [code for code, _ in refused(kubeconfig(tmp_path, "http://a", cluster=cluster, user=user))]
    assert codes == ["kubeconfig_refused"] * 2 + ["kubeconfig_invalid"] * 3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (content(SERVER) | {"current-context": ""}, "no context is chosen: it has admin@syd"),
        (content(SERVER) | {"current-context": "gone"}, "the context gone is missing: it has admin@syd"),
        (content(SERVER) | {"current-context": 5}, "current-context of the file is not text"),
        (content(SERVER, contexts=[]), "it has no contexts"),
        (content(SERVER, contexts="admin@syd"), "it has no contexts"),
        (content(SERVER, contexts=[{"name": "admin@syd", "context": "syd"}]), "the context admin@syd is not a mapping"),
        (content(SERVER, contexts=[{"name": "admin@syd", "context": {"user": "admin"}}]), "names no cluster"),
        (content(SERVER, clusters=[]), "the cluster syd is missing: it has no clusters"),
        (content(SERVER, users=[]), "the user admin is missing"),
        (
            content(SERVER, users=[{"name": "admin", "user": {}}, {"name": "admin", "user": {}}]),
            "the user admin stands several times",
        ),
        (content(""), "its cluster names no server"),
        (content("http://10.0.0.11:6443"), "server of its cluster: This is not an https URL"),
        (content("https://rancher/k8s//clusters"), "The path of the URL has a segment that is empty"),
        (content("https://admin:s3cr3t@10.0.0.11"), "has user information"),
        (content(SERVER, cluster={"server": ["a"]}), "server of its cluster is not text"),
        (content(SERVER, cluster={"proxy-url": "socks5://127.0.0.1:1080"}), "proxy-url of its cluster"),
        (content(SERVER, cluster={"proxy-url": "http://u:s3cr3t@proxy"}), "has user information"),
        (content(SERVER, cluster={"tls-server-name": "a b"}), "tls-server-name of its cluster"),
        (content(SERVER, cluster={"certificate-authority-data": "%"}), "certificate-authority-data is not base64"),
        (content(SERVER, cluster={"certificate-authority-data": "é"}), "certificate-authority-data is not base64"),
        (content(SERVER, user={"token": 5}), "token of its user is not text"),
        (content(SERVER, user={"tokenFile": "a\0b"}), "tokenFile is not a path"),
        (content(SERVER, user={"client-certificate-data": "Yw=="}), "without key"),
        ([1], "it is not a mapping of keys"),
    ],
    ids=[
        "no-context",
        "context-missing",
        "context-number",
        "no-contexts",
        "contexts-no-list",
        "context-no-mapping",
        "no-cluster",
        "cluster-missing",
        "user-missing",
        "user-twice",
        "no-server",
        "http",
        "path",
        "user-info",
        "server-list",
        "socks",
        "proxy-password",
        "server-name",
        "no-base64",
        "no-ascii",
        "token-number",
        "nul-path",
        "certificate-alone",
        "list",
    ],
)
def test_invalid_members_are_reported(tmp_path: Path, data: object, words: str) -> None:
    """An unusable file is reported with its mistake, and never with a password."""
    reasons = refused(write(tmp_path / "config", data))
    assert any(code == "kubeconfig_invalid" and words in sentence for code, sentence in reasons), reasons
    assert "s3cr3t" not in str(reasons)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"a: &a [x, x]\nb: [*a, *a]\nc: [*a]\n", "kubeconfig_invalid"),
        (b"!!python/object/apply:os.system ['true']\n", "kubeconfig_invalid"),
        (b"clusters: []\nclusters: []\n", "kubeconfig_invalid"),
        (b"a: " + b"[" * 10_000, "kubeconfig_invalid"),
        (b"a: b\n---\na: c\n", "kubeconfig_invalid"),
        (b"a: [\n", "kubeconfig_invalid"),
        (b'{"current-context": "\\ud800"}', "kubeconfig_invalid"),
        (b"", "kubeconfig_invalid"),
        (b"\xff\xfe", "kubeconfig_invalid"),
        (b"#" * (MAX_KUBECONFIG_BYTES + 1), "kubeconfig_unreadable"),
    ],
    ids=["aliases", "tag", "twice", "deep", "two-documents", "syntax", "surrogate", "empty", "no-utf8", "huge"],
)
def test_yaml_bomb_is_refused(tmp_path: Path, body: bytes, code: str) -> None:
    """Aliases, tags, deep nesting and oversized files are rejected with one reason."""
    (tmp_path / "config").write_bytes(body)
    assert [each for each, _ in refused(tmp_path / "config")] == [code]


def test_missing_files_are_named(tmp_path: Path) -> None:
    """A missing kubeconfig, or a missing file that it names, is reported with its path."""
    assert refused(tmp_path / "missing")[0][0] == "kubeconfig_unreadable"
    cluster = {"certificate-authority-data": None, "certificate-authority": "ca.crt"}
    ((code, sentence),) = refused(kubeconfig(tmp_path, SERVER, cluster=cluster))
    assert (code, str(tmp_path / "ca.crt") in sentence) == ("kubeconfig_unreadable", True)
