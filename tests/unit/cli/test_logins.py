"""As whom the mirror asks: what its certificate, its token or its kubeconfig says, read without trusting it."""

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

from mirror.cli.logins import login_of
from mirror.config.settings import Auth, Tls
from mirror.federation.render.base import Login
from support.rendering import ENTRY

ASKED = Login("oidc-mirror", "oidc-mirror")
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
    """Its CN, or nothing where it is not here; never a failure."""
    path = tmp_path / "mirror.crt"
    if content is not None:
        path.write_bytes(content)
    issuer = replace(ENTRY, tls=Tls(client_cert_file=path, client_key_file=tmp_path / "mirror.key"))
    assert login_of(issuer, ASKED) == replace(ASKED, user=user, way="user")
    asked = replace(ASKED, user="said", way="user")
    assert login_of(issuer, asked) == asked


@pytest.mark.parametrize(
    ("content", "login"),
    [
        pytest.param(POD + b"\n", Login("ops", "mirror", way="service-account"), id="service-account"),
        pytest.param(token(b'{"sub": "system:serviceaccount:ops"}'), USER, id="no-name"),
        pytest.param(token(b'{"sub": "admin"}'), USER, id="another"),
        pytest.param(token(b'{"sub": "system:serviceaccount:a\\nb:c"}'), USER, id="control-character"),
        pytest.param(token(b'{"sub": "system:serviceaccount:a;reboot:c"}'), USER, id="command"),
        pytest.param(token(b"[]"), USER, id="list"),
        pytest.param(b"opaque", USER, id="opaque"),
        pytest.param(None, replace(ASKED, way="service-account"), id="missing"),
    ],
)
def test_token_names_its_service_account(content: bytes | None, login: Login, tmp_path: Path) -> None:
    """Where it can be read; else the mirror's usual one."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    assert login_of(replace(ENTRY, auth=Auth(token_file=path)), ASKED) == login


@pytest.mark.parametrize(
    ("user", "login"),
    [
        pytest.param({"token": POD.decode()}, Login("ops", "mirror", way="service-account"), id="token"),
        pytest.param({"tokenFile": "token"}, Login("ops", "mirror", way="service-account"), id="token-file"),
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
def test_kubeconfig_names_who_it_is(user: dict[str, object], login: Login, tmp_path: Path) -> None:
    """Token, file or certificate of the chosen context; a refused one leaves the name open."""
    (tmp_path / "token").write_bytes(POD)
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://10.0.0.11:6443"}}],
        "users": [{"name": "u", "user": user}],
    }
    path = tmp_path / "admin.conf"
    path.write_text(yaml.safe_dump(config))
    assert login_of(replace(ENTRY, auth=Auth(kubeconfig=path)), ASKED) == login


def test_nothing_configured_is_anonymous() -> None:
    """Nothing is read, nothing is guessed."""
    assert login_of(ENTRY, ASKED) == ASKED
