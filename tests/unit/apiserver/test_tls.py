"""TLS contexts always verify, are shared by content, and report unusable files."""

import gc
import ssl
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from mirror.apiserver.tls import MAX_PEM_BYTES, TlsContextCache, certificate_expires_at
from mirror.config.settings import TlsSettings
from mirror.model import Reason
from support.tls import authority, ca_file, client_files


def code(tls: TlsSettings) -> str:
    result = TlsContextCache().context(tls)
    return result.code if isinstance(result, Reason) else "context"


class Connection:
    """The part of `ssl.SSLObject` that gives the peer certificate."""

    def __init__(self, certificate: dict[str, str] | None) -> None:
        self.certificate = certificate

    def getpeercert(self) -> dict[str, str] | None:
        return self.certificate


@pytest.mark.parametrize(
    ("certificate", "ends"),
    [
        ({"notAfter": "Nov 30 08:00:00 2026 GMT"}, datetime(2026, 11, 30, 8, tzinfo=UTC)),
        ({"notAfter": "Dec 31 23:59:59 9999 GMT"}, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ({"notAfter": "some day"}, None),
        ({}, None),
        (None, None),
    ],
    ids=["ends", "never", "nonsense", "not-verified", "none-shown"],
)
def test_end_of_a_certificate(certificate: dict[str, str] | None, ends: datetime | None) -> None:
    """The expiry is reported if the certificate has a readable one (RFC 5280, section 4.1.2.5)."""
    assert certificate_expires_at(cast("ssl.SSLObject", Connection(certificate))) == ends


@pytest.mark.parametrize("with_ca", [True, False], ids=["own-ca", "system"])
def test_every_context_verifies(tmp_path: Path, with_ca: bool) -> None:
    """For every configuration, certificate and name are verified with TLS 1.2 or later."""
    context = TlsContextCache().context(TlsSettings(ca_file=ca_file(tmp_path) if with_ca else None))
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_own_ca_is_the_only_anchor(tmp_path: Path) -> None:
    """With a CA file, the context trusts only that CA and none of the system's."""
    context = TlsContextCache().context(TlsSettings(ca_file=ca_file(tmp_path)))
    assert isinstance(context, ssl.SSLContext)
    assert len(context.get_ca_certs()) == 1


def test_same_content_shares_a_context(tmp_path: Path) -> None:
    """Two files with the same bytes share a context. Other bytes or another name give another context."""
    contexts = TlsContextCache()
    first, copy = ca_file(tmp_path), tmp_path / "copy.crt"
    copy.write_bytes(first.read_bytes())
    context = contexts.context(TlsSettings(ca_file=first))
    assert contexts.context(TlsSettings(ca_file=copy)) is context
    assert contexts.context(TlsSettings(ca_file=ca_file(tmp_path, "other"))) is not context
    assert contexts.context(TlsSettings(ca_file=first, server_name="kubernetes")) is not context


def test_context_lives_on_while_passes_use_it(tmp_path: Path) -> None:
    """A pass reuses the contexts of the previous pass. Contexts that are neither used nor held are dropped."""
    contexts = TlsContextCache()
    tls = TlsSettings(ca_file=ca_file(tmp_path))
    first = contexts.context(tls)
    contexts.begin_pass()
    assert contexts.context(tls) is first
    assert isinstance(first, ssl.SSLContext)
    unused = weakref.ref(first)
    del first
    contexts.begin_pass()
    contexts.begin_pass()
    assert unused() is None


def test_context_lives_on_while_a_connection_holds_it(tmp_path: Path) -> None:
    """A kept connection keeps its context, however many contexts the fleet needs."""
    contexts = TlsContextCache(keep=0)
    tls = TlsSettings(ca_file=ca_file(tmp_path))
    held = contexts.context(tls)
    contexts.begin_pass()
    contexts.begin_pass()
    assert contexts.context(tls) is held


def test_context_of_the_system_trust_store_is_created_again() -> None:
    """The system trust store may have changed since the last pass."""
    contexts = TlsContextCache()
    held = contexts.context(TlsSettings())
    contexts.begin_pass()
    assert contexts.context(TlsSettings()) is not held


def test_contexts_beyond_the_limit_live_as_long_as_they_are_held(tmp_path: Path) -> None:
    """With one CA per cluster, the cache stays bounded: only the first contexts are kept for the next pass."""
    contexts = TlsContextCache(keep=1)
    first, second = TlsSettings(ca_file=ca_file(tmp_path)), TlsSettings(ca_file=ca_file(tmp_path, "other"))
    kept, held = contexts.context(first), contexts.context(second)
    assert contexts.context(second) is held
    alive = [weakref.ref(each) for each in (kept, held) if isinstance(each, ssl.SSLContext)]
    del kept, held
    gc.collect()
    assert [each() is None for each in alive] == [False, True]
    contexts.begin_pass()
    assert contexts.context(first) is alive[0]()


def test_system_trust_is_read_again_each_pass() -> None:
    """The system trust store is shared within a pass and reloaded in the next."""
    contexts = TlsContextCache()
    first, first_system = contexts.context(TlsSettings()), contexts.system()
    assert (contexts.context(TlsSettings()), contexts.system()) == (first, first_system)
    contexts.begin_pass()
    assert contexts.context(TlsSettings()) is not first
    assert contexts.system() is not first_system


def test_renewed_ca_gives_a_new_context(tmp_path: Path) -> None:
    """A CA file with new content never uses the cached context."""
    contexts = TlsContextCache()
    path = ca_file(tmp_path)
    first = contexts.context(TlsSettings(ca_file=path))
    path.write_bytes(authority("other").cert_pem.bytes())
    assert contexts.context(TlsSettings(ca_file=path)) is not first


def test_bundle_with_comments_in_any_language_is_read(tmp_path: Path) -> None:
    """Text around the certificates is ignored, ASCII or not."""
    path = tmp_path / "bundle.crt"
    blocks = (authority("one").cert_pem.bytes(), authority("two").cert_pem.bytes())
    path.write_bytes("# Zertifizierungsstelle für Zürich\n".encode() + b"\n# next\n".join(blocks))
    context = TlsContextCache().context(TlsSettings(ca_file=path))
    assert isinstance(context, ssl.SSLContext)
    assert len(context.get_ca_certs()) == 2


def _block(inside: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + inside + b"\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    "content",
    [b"", b"LS0tLS1CRUdJTg==", _block(b"AAAA"), _block(b"!!!!"), _block("ü".encode()), b"\x30\x82\x01\x0a"],
    ids=["empty", "base64-of-kubeconfig", "no-certificate", "no-base64", "no-ascii", "der"],
)
def test_ca_file_without_certificates_is_refused(tmp_path: Path, content: bytes) -> None:
    """A CA file without PEM certificates is rejected."""
    (tmp_path / "ca.crt").write_bytes(content)
    assert code(TlsSettings(ca_file=tmp_path / "ca.crt")) == "ca_not_pem"


def test_missing_or_huge_ca_file_is_unreadable(tmp_path: Path) -> None:
    """A missing or oversized CA file is reported as unreadable."""
    (tmp_path / "huge").write_bytes(b"x" * (MAX_PEM_BYTES + 1))
    assert [code(TlsSettings(ca_file=tmp_path / name)) for name in ("missing", "huge")] == ["ca_unreadable"] * 2


def test_client_certificate_is_loaded(tmp_path: Path) -> None:
    """A client certificate and its key are accepted in two files or in one."""
    files = client_files(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(files.certificate.read_bytes() + files.key.read_bytes())
    assert code(TlsSettings(client_cert_file=files.certificate, client_key_file=files.key)) == "context"
    assert code(TlsSettings(client_cert_file=both)) == "context"


def test_client_certificate_with_another_key_is_invalid(tmp_path: Path) -> None:
    """A certificate and a key that do not match are rejected."""
    one, two = client_files(tmp_path, "one"), client_files(tmp_path, "two")
    assert code(TlsSettings(client_cert_file=one.certificate, client_key_file=two.key)) == "client_cert_invalid"


def test_key_with_passphrase_is_invalid_and_never_asks(tmp_path: Path) -> None:
    """An encrypted key is rejected without a prompt on the terminal."""
    files = client_files(tmp_path)
    key = load_pem_private_key(files.key.read_bytes(), None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    files.key.write_bytes(encrypted)
    assert code(TlsSettings(client_cert_file=files.certificate, client_key_file=files.key)) == "client_cert_invalid"


def test_missing_client_files_are_unreadable(tmp_path: Path) -> None:
    """A missing certificate or key is reported as unreadable."""
    files = client_files(tmp_path)
    missing = tmp_path / "missing"
    assert code(TlsSettings(client_cert_file=missing, client_key_file=files.key)) == "client_cert_unreadable"
    assert code(TlsSettings(client_cert_file=files.certificate, client_key_file=missing)) == "client_cert_unreadable"
