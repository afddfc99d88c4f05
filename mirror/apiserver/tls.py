"""TLS contexts: always verifying, cheap for a thousand clusters that each have their own CA."""

import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from weakref import WeakValueDictionary

from mirror.apiserver.errors import FailureKind, printable
from mirror.config.settings import TlsSettings
from mirror.files import read_small, why_unreadable
from mirror.model import Reason
from mirror.redaction import describe

MAX_PEM_BYTES = 1024 * 1024
MOST_KEPT = 500
"""A context of one CA takes 17 KiB and a third of a millisecond. Beyond this limit, unused ones are dropped."""
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """All that a context is made of, by content: files that are renewed in place give a new context.

    `ca` None means the system's trust store; `client_key` empty means that the certificate file has the key. `ca_place`
    and `client_place` say in sentences where they come from.
    """

    ca: bytes | None
    server_name: str | None = None
    client_cert: bytes = b""
    client_key: bytes = field(default=b"", repr=False)
    ca_place: str = field(default="", compare=False)
    client_place: str = field(default="", compare=False)


class _NamedContext(ssl.SSLContext):
    """A context that sends and verifies one configured name, whatever host the address has.

    httpx's `sni_hostname` would do for direct connections, but its proxy tunnels ignore it.
    """

    name: str

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,  # noqa: ARG002 - the signature is the base's; this name is not used
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As in the base, but for the configured name."""
        return super().wrap_bio(incoming, outgoing, server_side, self.name, session)


class TlsContextCache:
    """Contexts shared by content, while something holds them, such as a kept connection.

    `keep` of a pass are held until the next one ends.
    """

    def __init__(self, keep: int = MOST_KEPT) -> None:
        self._keep = keep
        self._kept: dict[TlsMaterial, ssl.SSLContext] = {}
        self._used: dict[TlsMaterial, ssl.SSLContext] = {}
        self._alive: WeakValueDictionary[TlsMaterial, ssl.SSLContext] = WeakValueDictionary()
        self._system: ssl.SSLContext | None = None

    def begin_pass(self) -> None:
        """Forget what the last pass did not use, and the system's trust store, which may have changed."""
        self._kept = {material: context for material, context in self._used.items() if material.ca}
        self._used = {}
        self._alive = WeakValueDictionary(
            {material: context for material, context in self._alive.items() if material.ca}
        )
        self._system = None

    def context(self, tls: TlsSettings) -> ssl.SSLContext | Reason:
        """The context for `tls`, or why there is none: a file is missing, unreadable or no PEM."""
        material = read_material(tls)
        return material if isinstance(material, Reason) else self.of(material)

    def of(self, material: TlsMaterial) -> ssl.SSLContext | Reason:
        """The context of `material`, or why there is none: it is no PEM, or key and certificate do not fit."""
        context = self._alive.get(material) or _build(material)
        if isinstance(context, ssl.SSLContext):
            self._alive[material] = context
            if len(self._used) < self._keep:
                self._used[material] = context
        return context

    def system(self) -> ssl.SSLContext:
        """A context of the system's trust store alone: for a proxy that is spoken to over TLS."""
        if self._system is None:
            self._system = _bare(ssl.SSLContext)
            self._system.load_default_certs()
        return self._system


def certificate_expires_at(connection: ssl.SSLObject | None) -> datetime | None:
    """When the certificate ends that the other side showed, aware, UTC; None where it is not known."""
    certificate = connection.getpeercert() if connection is not None else None
    try:
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(str((certificate or {}).get("notAfter"))), UTC)
    except (ValueError, OverflowError):
        return None


def read_material(tls: TlsSettings) -> TlsMaterial | Reason:
    """The files of `tls`, or why one of them cannot be read."""
    try:
        ca = None if tls.ca_file is None else read_small(tls.ca_file, MAX_PEM_BYTES)
    except OSError as error:
        return FailureKind.CA_UNREADABLE.reason(f"{tls.ca_file}: {why_unreadable(error)}")
    client: list[bytes] = []
    for path in (tls.client_cert_file, tls.client_key_file):
        try:
            client.append(b"" if path is None else read_small(path, MAX_PEM_BYTES))
        except OSError as error:
            return FailureKind.CLIENT_CERT_UNREADABLE.reason(f"{path}: {why_unreadable(error)}")
    places = [str(path) for path in (tls.client_cert_file, tls.client_key_file) if path is not None]
    return TlsMaterial(ca, tls.server_name, client[0], client[1], str(tls.ca_file), " and ".join(places))


def _build(material: TlsMaterial) -> ssl.SSLContext | Reason:
    context = _bare(ssl.SSLContext if material.server_name is None else _NamedContext)
    if isinstance(context, _NamedContext):
        context.name = material.server_name or ""
    return _trust(context, material) or _present(context, material) or context


def _bare(kind: type[ssl.SSLContext]) -> ssl.SSLContext:
    # It verifies certificate and name, in every Python alike: ssl.create_default_context is stricter since 3.13 and
    # refuses the CAs of many clusters for how they are written.
    context = kind(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # As in Go: what the operator put into the file is an anchor, an intermediate CA too.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _trust(context: ssl.SSLContext, material: TlsMaterial) -> Reason | None:
    if material.ca is None:
        context.load_default_certs()
        return None
    # Only the blocks: comments around them may hold any bytes, and OpenSSL's reader wants ASCII.
    blocks = _CERTIFICATE.findall(material.ca)
    if not blocks:
        return FailureKind.CA_NOT_PEM.reason(f"{material.ca_place} has no BEGIN CERTIFICATE block")
    try:
        context.load_verify_locations(cadata=b"\n".join(blocks).decode("ascii"))
    except (ValueError, ssl.SSLError) as error:  # ValueError: bytes in a block that are not ASCII
        return FailureKind.CA_NOT_PEM.reason(f"{material.ca_place}: {printable(describe(error))}")
    return None


def _present(context: ssl.SSLContext, material: TlsMaterial) -> Reason | None:
    if not material.client_cert:
        return None
    try:
        with _as_file(material.client_cert) as certificate, _as_file(material.client_key) as key:
            # An empty password, because without one OpenSSL would ask for it on the terminal.
            context.load_cert_chain(certificate, key if material.client_key else None, password="")
    except OSError as error:
        return FailureKind.CLIENT_CERT_INVALID.reason(f"{material.client_place}: {printable(describe(error))}")
    return None


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path under which OpenSSL finds `content`, which is never on a disk: the key of a kubeconfig is a secret."""
    descriptor = os.memfd_create("pem")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
