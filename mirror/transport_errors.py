"""Why a connection or an answer failed, from the exceptions of HTTP libraries, ssl and the system: one table for all.

What that means for an apiserver or for the public URL, and what to do about it, stands with who asks.
"""

import os
import socket
import ssl
from enum import Enum, auto

import httpcore
import httpx

from mirror.redaction import describe


class TransportCause(Enum):
    """What went wrong, as far as the remedy differs."""

    TLS_UNTRUSTED = auto()
    TLS_EXPIRED = auto()
    """Outside its validity: not valid any more, or not yet."""
    TLS_WRONG_NAME = auto()
    TLS_FAILED = auto()
    DNS = auto()
    CONNECT_TIMEOUT = auto()
    PROXY_REFUSED = auto()
    NOT_HTTP = auto()
    UNREACHABLE = auto()
    """No connection, or one that ended before the answer was complete."""
    BAD_ADDRESS = auto()
    UNEXPECTED = auto()


# X509_V_ERR_* of OpenSSL's x509_vfy.h: the certificate itself, not who signed it, is at fault.
_OF_CERTIFICATE = {
    9: TransportCause.TLS_EXPIRED,
    10: TransportCause.TLS_EXPIRED,
    62: TransportCause.TLS_WRONG_NAME,
    64: TransportCause.TLS_WRONG_NAME,
}
# These only say that bytes are still awaited, or that the connection ended while they were.
_NO_TLS_FAULT = (
    ssl.SSLWantReadError,
    ssl.SSLWantWriteError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
    ssl.SSLSyscallError,
)
# httpx distinguishes a broken connection from bad HTTP only by these words of h11 and httpcore.
_CONNECTION_ENDED = ("Server disconnected", "peer closed connection", "peer unexpectedly closed connection")


def cause_of(error: Exception) -> tuple[TransportCause, str]:
    """What is behind `error`, and what the library or the system says of it, without a full stop.

    The words are from outside: escape them, and take secrets out, because errors of HTTP quote the line that they did
    not understand. Any exception has a cause: an unexpected one must not affect the other answers.
    """
    chain = _chain(error)
    tls = next((each for each in chain if isinstance(each, ssl.SSLError) and not isinstance(each, _NO_TLS_FAULT)), None)
    if isinstance(tls, ssl.SSLCertVerificationError):
        return _OF_CERTIFICATE.get(tls.verify_code, TransportCause.TLS_UNTRUSTED), tls.verify_message.rstrip(".")
    if tls is not None:
        return TransportCause.TLS_FAILED, (tls.reason or tls.strerror or describe(tls)).replace("_", " ").lower()
    if isinstance(error, (httpx.ConnectTimeout, httpcore.ConnectTimeout)):
        return TransportCause.CONNECT_TIMEOUT, "the connection was not established in time"
    if isinstance(error, (httpx.ProxyError, httpcore.ProxyError)):
        return TransportCause.PROXY_REFUSED, describe(error)
    if isinstance(error, (httpx.UnsupportedProtocol, httpcore.UnsupportedProtocol)):
        return TransportCause.BAD_ADDRESS, describe(error)
    if isinstance(error, (httpx.ProtocolError, httpcore.ProtocolError, httpx.DecodingError)):
        if str(error).startswith(_CONNECTION_ENDED):
            return TransportCause.UNREACHABLE, "it closed the connection before the answer was complete"
        return TransportCause.NOT_HTTP, describe(error)
    if isinstance(error, (httpx.TransportError, httpcore.NetworkError, httpcore.TimeoutException, OSError)):
        return _of_system(chain)
    if isinstance(error, (httpx.InvalidURL, ValueError, ImportError)):
        return TransportCause.BAD_ADDRESS, type(error).__name__
    return TransportCause.UNEXPECTED, type(chain[-1]).__name__


def _of_system(chain: tuple[BaseException, ...]) -> tuple[TransportCause, str]:
    """What the system says: the innermost error that has a number, such as "Connection refused"."""
    for error in reversed(chain):
        if isinstance(error, socket.gaierror):  # a negative number, and words of its own
            return TransportCause.DNS, str(error.strerror)
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno is not None:
            return TransportCause.UNREACHABLE, os.strerror(error.errno)
    return TransportCause.UNREACHABLE, "the connection broke"


def _chain(error: BaseException) -> tuple[BaseException, ...]:
    """`error` and all that it came from, outermost first; of a group every member."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or each in found:
            continue
        found.append(each)
        # httpcore's pool raises "from None": the TLS error is then the context only.
        waiting.append(each.__cause__ or each.__context__)
        waiting.extend(each.exceptions if isinstance(each, BaseExceptionGroup) else ())
    return tuple(found)
