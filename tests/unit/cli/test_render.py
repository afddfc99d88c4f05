"""The output and exit status of `oidc-mirror render`.

The mirror's login name is read from its certificate, token or kubeconfig, without verification.
"""

import json
import shlex
from base64 import b64encode, urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mirror.cli.main import main
from mirror.cli.render import apiserver_identity
from mirror.config.settings import AuthSettings, TlsSettings
from mirror.federation.render import KINDS
from mirror.federation.render.base import MirrorIdentity
from support.rendering import ENTRY

ROLE = "arn:aws:iam::111122223333:role/teams/deployer"
ISSUER = "https://oidc-bucket.s3.ap-southeast-2.amazonaws.com/a"


@pytest.fixture
def config(tmp_path: Path) -> str:
    entry = {
        "name": "syd",
        "issuer": ISSUER,
        "apiservers": ["https://10.0.0.11:6443"],
        "audiences": ["sts.amazonaws.com"],
    }
    path = tmp_path / "mirror.yaml"
    publish = {"bucket": "oidc-bucket", "region": "ap-southeast-2"}
    path.write_text(json.dumps({"state_dir": "state", "publish": publish, "issuers": [entry]}))
    return str(path)


def test_piece_is_alone_on_stdout(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the piece is on stdout, so that it can be piped into a file. Hints are on stderr."""
    assert main(["--config", config, "render", "bucket-policy", "syd"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["Statement"][0]["Principal"] == "*"
    assert err.startswith("note: ")


def printed_commands(text: str) -> list[list[str]]:
    """The `oidc-mirror render` commands on comment lines of their own, as words after the program name."""
    lines = (line.removeprefix("#").strip() for line in text.splitlines())
    return [shlex.split(line)[1:] for line in lines if line.startswith("oidc-mirror render ")]


@pytest.mark.parametrize(
    ("kind", "first", "step"),
    [
        ("kubeadm", ["--keep-issuer", "https://kubernetes.default.svc.cluster.local"], "--migration"),
        ("apiserver-flags", ["--format", "shell", "--keep-issuer", "https://a", "--key-file", "/k.pub"], "--migration"),
        ("kubeadm", ["--rotation", "1", "--new-key-file", "/n.pub", "--api-audience", "x"], "--rotation"),
    ],
)
def test_each_step_prints_the_command_of_the_next(
    config: str, capsys: pytest.CaptureFixture[str], kind: str, first: list[str], step: str
) -> None:
    """The command can be pasted and has the options of the first call. The third step is the last."""
    words = ["render", kind, "syd", *first]
    asked = [word for word in first if word not in ("--rotation", "1")]
    for number in (2, 3):
        assert main(["--config", config, *words]) == 0
        (words,) = printed_commands(capsys.readouterr().out)
        assert words[:3] == ["render", kind, "syd"]
        assert words[-2:] == [step, str(number)]
        assert sorted(words[3:-2]) == sorted(asked)
    assert main(["--config", config, *words]) == 0
    text = capsys.readouterr().out
    assert printed_commands(text) == []
    assert f"`{shlex.join(['oidc-mirror', *words])}`" in " ".join(text.replace("# ", "").split())


def test_options_reach_the_piece(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Namespace, ServiceAccount and session name appear in the rendered role."""
    words = ["--namespace", "n", "--service-account", "s", "--session-duration", "2h", "--account", "111122223333"]
    assert main(["render", "iam-role", "syd", "--config", config, *words, "--format", "cli"]) == 0
    out = capsys.readouterr().out
    for word in ("system:serviceaccount:n:s", "--max-session-duration 7200", "arn:aws:iam::111122223333:", "syd-n-s"):
        assert word in out


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["nothing", "syd"], id="kind"),
        pytest.param(["bucket-policy", "nobody"], id="name"),
        pytest.param(["bucket-policy", "syd", "--format", "terraform"], id="format"),
        pytest.param(["iam-role", "syd", "--session-duration", "13h"], id="session-too-long"),
        pytest.param(["iam-role", "syd", "--session-duration", "soon"], id="session-no-duration"),
        pytest.param(["iam-role", "syd", "--account", "12"], id="account"),
        pytest.param(["iam-role", "syd", "--namespace", "A b"], id="namespace"),
        pytest.param(["iam-role", "syd", "--service-account", ""], id="service-account"),
        pytest.param(["iam-role", "syd", "--subject", "a\nb"], id="subject"),
        pytest.param(["iam-role", "syd", "--role-name", "a b"], id="role-name"),
        pytest.param(["iam-role", "syd", "--managed-policy", "ReadOnlyAccess"], id="policy"),
        pytest.param(["iam-role", "syd", "--role-arn", "deployer"], id="role-arn"),
        pytest.param(["iam-role", "syd", "--role-arn", ROLE, "--role-name", "x"], id="role-twice"),
        pytest.param(["iam-role", "syd", "--role-arn", ROLE, "--account", "111122223333"], id="account-twice"),
        pytest.param(["pod", "syd", "--expiration", "9m"], id="token-too-short"),
        pytest.param(["pod", "syd", "--expiration", "60000d"], id="token-too-long"),
        pytest.param(["pod", "syd", "--image", "a b"], id="image"),
        pytest.param(["pod", "syd", "--audience", "other"], id="audience"),
        pytest.param(["apiserver-flags", "syd", "--key-file", "relative.pub"], id="key-file"),
        pytest.param(["apiserver-flags", "syd", "--signing-key-file", "/a;b"], id="signing-key-file"),
        pytest.param(["apiserver-flags", "syd", "--api-audience", "a,b"], id="api-audience"),
        pytest.param(["apiserver-flags", "syd", "--keep-issuer", "https://a,https://b"], id="keep-issuer"),
        pytest.param(["rbac", "syd", "--mirror", "one-word"], id="mirror"),
        pytest.param(["rbac", "syd", "--user", "a\nb"], id="user"),
    ],
)
def test_words_that_mean_nothing_are_usage_errors(
    config: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, and nothing on stdout."""
    assert main(["--config", config, "render", *words]) == 2
    assert capsys.readouterr().out == ""


def test_role_with_a_path_is_the_same_everywhere(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every rendered piece uses the name, path and account of --role-arn."""

    def rendered(kind: str, form: str) -> str:
        assert main(["render", kind, "syd", "--config", config, "--role-arn", ROLE, "--format", form]) == 0
        return capsys.readouterr().out

    properties = json.loads(rendered("iam-role", "json"))["Resources"]["Role"]["Properties"]
    assert (properties["RoleName"], properties["Path"]) == ("deployer", "/teams/")
    assert '  path = "/teams/"' in rendered("iam-role", "terraform")
    assert "--role-name deployer --path /teams/" in rendered("iam-role", "cli")
    assert ROLE in rendered("pod", "yaml")
    assert "oidc-provider" in rendered("iam-role", "trust-policy")


def test_login_is_read_for_rbac_alone(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option can give the name. Otherwise the configured login gives it."""
    assert main(["render", "rbac", "syd", "--config", config]) == 0
    assert "system:unauthenticated" in capsys.readouterr().out
    assert main(["render", "rbac", "syd", "--config", config, "--user", "mirror"]) == 0
    out = capsys.readouterr().out
    assert "system:unauthenticated" not in out
    assert "name: mirror" in out


def test_help_names_every_kind_with_its_formats(capsys: pytest.CaptureFixture[str]) -> None:
    """The help shows every piece with its formats."""
    assert main(["render", "--help"]) == 0
    out = capsys.readouterr().out
    for kind in KINDS.values():
        assert kind.name in out
        assert kind.sentence in out
        assert ", ".join(kind.formats) in out


ASKED = MirrorIdentity("oidc-mirror", "oidc-mirror")
USER = replace(ASKED, way="user")


def certificate(*names: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), 1, start, start + timedelta(days=1))
    return made.sign(key, SHA256()).public_bytes(Encoding.PEM)


def token(payload: bytes) -> bytes:
    return b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in (b"{}", payload, b"signature"))


POD = token(b'{"sub": "system:serviceaccount:ops:mirror"}')


@pytest.mark.parametrize(
    ("content", "user"),
    [
        pytest.param(certificate("mirror"), "mirror", id="name"),
        pytest.param(certificate("first", "last"), "last", id="two-names"),
        pytest.param(certificate(), None, id="no-name"),
        pytest.param(certificate("a\nb"), None, id="control-character"),
        pytest.param(b"garbage", None, id="garbage"),
        pytest.param(None, None, id="missing"),
    ],
)
def test_certificate_names_its_user(content: bytes | None, user: str | None, tmp_path: Path) -> None:
    """The result is the CN, or nothing if the certificate is missing. It never fails."""
    path = tmp_path / "mirror.crt"
    if content is not None:
        path.write_bytes(content)
    issuer = replace(ENTRY, tls=TlsSettings(client_cert_file=path, client_key_file=tmp_path / "mirror.key"))
    assert apiserver_identity(issuer, ASKED) == replace(ASKED, user=user, way="user")
    asked = replace(ASKED, user="said", way="user")
    assert apiserver_identity(issuer, asked) == asked


@pytest.mark.parametrize(
    ("content", "login"),
    [
        pytest.param(POD + b"\n", MirrorIdentity("ops", "mirror", way="service-account"), id="service-account"),
        pytest.param(token(b'{"sub": "system:serviceaccount:ops"}'), USER, id="no-name"),
        pytest.param(token(b'{"sub": "admin"}'), USER, id="another"),
        pytest.param(token(b'{"sub": "system:serviceaccount:a\\nb:c"}'), USER, id="control-character"),
        pytest.param(token(b'{"sub": "system:serviceaccount:a;reboot:c"}'), USER, id="command"),
        pytest.param(token(b"[]"), USER, id="list"),
        pytest.param(b"opaque", USER, id="opaque"),
        pytest.param(None, replace(ASKED, way="service-account"), id="missing"),
    ],
)
def test_token_names_its_service_account(content: bytes | None, login: MirrorIdentity, tmp_path: Path) -> None:
    """An unreadable token gives the mirror's usual ServiceAccount."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    assert apiserver_identity(replace(ENTRY, auth=AuthSettings(token_file=path)), ASKED) == login


@pytest.mark.parametrize(
    ("user", "login"),
    [
        pytest.param({"token": POD.decode()}, MirrorIdentity("ops", "mirror", way="service-account"), id="token"),
        pytest.param({"tokenFile": "token"}, MirrorIdentity("ops", "mirror", way="service-account"), id="token-file"),
        pytest.param(
            {
                "client-certificate-data": b64encode(certificate("admin")).decode(),
                "client-key-data": b64encode(b"key").decode(),
            },
            replace(ASKED, user="admin", way="user"),
            id="certificate",
        ),
        pytest.param({"exec": {"command": "aws"}}, replace(ASKED, way="user"), id="refused"),
        pytest.param({}, ASKED, id="anonymous"),
    ],
)
def test_kubeconfig_names_who_it_is(user: dict[str, object], login: MirrorIdentity, tmp_path: Path) -> None:
    """The name comes from the token, file or certificate of the chosen context. A rejected kubeconfig gives no name."""
    (tmp_path / "token").write_bytes(POD)
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://10.0.0.11:6443"}}],
        "users": [{"name": "u", "user": user}],
    }
    path = tmp_path / "admin.conf"
    path.write_text(yaml.safe_dump(config))
    assert apiserver_identity(replace(ENTRY, auth=AuthSettings(kubeconfig=path)), ASKED) == login


def test_nothing_configured_is_anonymous() -> None:
    """No file is read, and no name is guessed."""
    assert apiserver_identity(ENTRY, ASKED) == ASKED
