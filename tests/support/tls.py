"""Throw-away certificates: one CA a test run, and server and client certificates under it, each made once."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
import trustme

from mirror.config.settings import TlsSettings


def authority(name: str = "cluster") -> trustme.CA:
    """The CA of that name: the same in the whole run; another name is another CA."""
    return _authority(name)


@cache
def _authority(name: str) -> trustme.CA:
    return trustme.CA(organization_name=f"throw-away {name}")


def server_certificate(
    *names: str, by: str = "cluster", valid_for: timedelta = timedelta(days=60), made: timedelta = timedelta(days=-1)
) -> trustme.LeafCert:
    """A server certificate for DNS names or addresses, by the CA `by`; its times are relative to now."""
    # Cached behind a function of positions alone: however the defaults are written, it is the same certificate.
    return _server_certificate(names, by, valid_for, made)


@cache
def _server_certificate(names: tuple[str, ...], by: str, valid_for: timedelta, made: timedelta) -> trustme.LeafCert:
    now = datetime.now(UTC).replace(tzinfo=None)
    return authority(by).issue_cert(*names, not_before=now + made, not_after=now + valid_for)


@cache
def server_context(
    *names: str,
    by: str = "cluster",
    valid_for: timedelta = timedelta(days=60),
    made: timedelta = timedelta(days=-1),
    client_ca: str | None = None,
) -> ssl.SSLContext:
    """The server's side of TLS with such a certificate; with `client_ca` it demands a client certificate of that CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_certificate(*names, by=by, valid_for=valid_for, made=made).configure_cert(context)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        authority(client_ca).configure_trust(context)
    return context


def ca_file(folder: Path, name: str = "cluster") -> Path:
    """The CA's certificate, written into `folder`."""
    path = folder / f"{name}-ca.crt"
    path.write_bytes(authority(name).cert_pem.bytes())
    return path


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """A client certificate and its key, written to files."""

    certificate: Path
    key: Path


def client_files(folder: Path, user: str = "mirror", by: str = "cluster") -> ClientFiles:
    """A client certificate for `user`, by the CA `by`."""
    leaf = authority(by).issue_cert(common_name=user)
    files = ClientFiles(folder / f"{user}.crt", folder / f"{user}.key")
    files.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    files.key.write_bytes(leaf.private_key_pem.bytes())
    return files


@pytest.fixture
def trusted(tmp_path: Path) -> TlsSettings:
    """Settings of an apiserver with a certificate of the CA `cluster`."""
    return TlsSettings(ca_file=ca_file(tmp_path))
