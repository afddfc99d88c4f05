"""Why the world cannot read a public URL: each cause with its stable code, a sentence and the remedy."""

import re
import socket
import ssl
from collections.abc import Iterator

import httpx

from mirror.model import Reason

_NOT_PUBLIC = (
    "Allow s3:GetObject on exactly the published keys to everybody in the bucket policy "
    "(`oidc-mirror render bucket-policy`, `oidc-mirror provision bucket`), and switch off Block Public Access "
    "(BlockPublicPolicy and RestrictPublicBuckets) for the bucket and for the account. "
    "S3 also answers 403, not 404, for an object that does not exist when the policy grants no listing."
)
_NOT_THERE = "Check that the issuer's path, `publish.prefix` and `publish.base_url` lead to the object that was put."
_WRONG_HOST = "Relying parties follow no redirect: use the host of the bucket's own region in the issuer and base_url."
_UNREACHABLE = "Check that the public host listens on port 443 and that this machine may reach it (`publish.readback`)."
_TRUST = (
    "Serve a certificate that public CAs vouch for; for tests and closed networks name the CA in "
    "`publish.readback.ca_file`."
)
_SERVER = "Look at the store or at the CDN in front of it; the next pass looks again."

# What S3 says at a host of another region than the bucket's ("Error responses" of its API reference).
_OTHER_REGION = frozenset({"PermanentRedirect", "TemporaryRedirect", "Redirect", "IllegalLocationConstraintException"})

# OpenSSL's X509_V_ERR_* numbers (openssl-verify(1)): the certificate itself, not who signed it, is at fault.
_EXPIRED = frozenset({9, 10})
_WRONG_NAME = frozenset({62, 64})


def cause_of_status(status: int, location: str, body: bytes, *, region: str = "") -> Reason:
    """Why an answer with `status` other than 200 helps nobody; `body` is the beginning of what came with it.

    `region` is what S3 says of the bucket in `x-amz-bucket-region`.
    """
    said = _store_code(body)
    if said.removeprefix(", ") in _OTHER_REGION:
        sentence = f"The host is not that of the bucket's region: HTTP {status}{said}."
        known = f" The bucket is in {region}." if re.fullmatch(r"[a-z0-9-]{2,40}", region) else ""
        return Reason("wrong_region", sentence + known, _WRONG_HOST)
    if status in {301, 302, 303, 307, 308}:
        sentence = f"The public URL redirects (HTTP {status}{said}) to {location or 'nowhere'}."
        return Reason("redirect", sentence, _WRONG_HOST)
    if status in {401, 403}:
        return Reason("forbidden", f"The public URL is not public: HTTP {status}{said}.", _NOT_PUBLIC)
    if status in {404, 410}:
        return Reason("not_found", f"Nothing is published at the public URL: HTTP {status}{said}.", _NOT_THERE)
    return Reason("wrong_status", f"The public URL answers HTTP {status}{said} instead of 200.", _SERVER)


def cause_of_error(error: Exception) -> Reason:
    """Why no answer came at all, from the error that httpx and what lies below it raised."""
    errors = tuple(_chain(error))
    for inner in errors:
        if isinstance(inner, ssl.SSLCertVerificationError):
            return _cause_of_certificate(inner)
    for inner in errors:
        if isinstance(inner, socket.gaierror):
            remedy = "Check the host in the issuer and its DNS record; the name must resolve for the whole world."
            return Reason("dns", f"The public host's name does not resolve: {inner.strerror}.", remedy)
    # A connection that breaks later is an SSLError too, but not TLS's fault.
    if isinstance(error, httpx.ConnectError) and any(isinstance(inner, ssl.SSLError) for inner in errors):
        return Reason("tls_failed", f"TLS with the public host failed: {error}.", _TRUST)
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError | httpx.PoolTimeout | OSError):
        return Reason("unreachable", f"The public host cannot be reached: {_told(error)}.", _UNREACHABLE)
    return Reason("protocol_error", f"The public host did not answer as HTTP asks: {_told(error)}.", _SERVER)


def unusable_ca_file(error: Exception) -> Reason:
    """`publish.readback.ca_file` could not be loaded."""
    remedy = "Name a readable PEM file with the CA's certificate in `publish.readback.ca_file`."
    return Reason("ca_file", f"The CA file of the read-back cannot be loaded: {_told(error)}.", remedy)


def too_slow(seconds: float) -> Reason:
    """The whole answer did not come in time."""
    sentence = f"The public URL did not answer in full within {seconds:g} s, and AWS waits no longer."
    return Reason("too_slow", sentence, "Look at the network and at the CDN in front of the bucket, if there is one.")


def too_large(max_bytes: int) -> Reason:
    """More bytes came than any document of ours has."""
    sentence = f"The public URL answers with more than {max_bytes} bytes."
    return Reason("too_large", sentence, "Something else than our document is served there: see who does.")


def cancelled() -> Reason:
    """The mirror was told to end before the answer came."""
    return Reason("cancelled", "The look at the public URL was broken off, because the mirror ends.", _SERVER)


def _cause_of_certificate(error: ssl.SSLCertVerificationError) -> Reason:
    said = error.verify_message.rstrip(".")
    if error.verify_code in _EXPIRED:
        return Reason("tls_expired", f"The public host's certificate is not valid today: {said}.", "Renew it.")
    if error.verify_code in _WRONG_NAME:
        remedy = "Use a host that the certificate covers; for S3 a bucket name without dots."
        return Reason("tls_name", f"The public host's certificate is for another name: {said}.", remedy)
    return Reason("tls_untrusted", f"The public host's certificate is not trusted: {said}.", _TRUST)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and everything that it came from, groups of connection attempts included."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [current.__context__, current.__cause__, *getattr(current, "exceptions", ())]


def _told(error: Exception) -> str:
    return (str(error) or type(error).__name__).rstrip(".")[:200]


def _store_code(body: bytes) -> str:
    """The code of an S3 error document, such as `, AccessDenied`; empty when there is none."""
    found = re.search(rb"<Code>([A-Za-z0-9.]{1,60})</Code>", body)
    return f", {found[1].decode()}" if found else ""
