"""Reasons from the exceptions of httpx, ssl and the system."""

import os
import ssl

import httpx

from mirror.apiserver.errors import FailureKind, printable, redacted
from mirror.model import Reason

_X509_NOT_YET_VALID, _X509_EXPIRED = 9, 10  # X509_V_ERR_*, OpenSSL's x509_vfy.h
_X509_WRONG_NAME = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
# These only say that bytes are still awaited, or that the connection ended while they were.
_NO_TLS_FAULT = (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLEOFError, ssl.SSLSyscallError)
# httpx tells a broken connection from bad HTTP only by these words of h11 and httpcore.
_CONNECTION_ENDED = ("Server disconnected", "peer closed connection", "peer unexpectedly closed connection")


def reason_for_exception(error: Exception, *, where: str, connect_seconds: float, secret: str = "") -> Reason:
    """The reason behind `error`, which asking for the document `where` raised.

    Args:
        error: Anything: an error of a kind that nobody foresaw must not take the other apiservers' answers along.
        where: The document that was asked for.
        connect_seconds: The limit that a connection had, for the sentence.
        secret: The token that was sent: errors of HTTP quote the line that they did not understand.
    """
    chain = _chain(error)
    tls = next((each for each in chain if isinstance(each, ssl.SSLError) and not isinstance(each, _NO_TLS_FAULT)), None)
    if tls is not None:
        return _explain_tls(tls, where)
    if isinstance(error, httpx.ConnectTimeout):
        return FailureKind.CONNECT_TIMEOUT.reason(f"{connect_seconds:g}", where=where)
    if isinstance(error, httpx.ProxyError):
        return FailureKind.PROXY_REFUSED.reason(printable(str(error)), where=where)
    if isinstance(error, (httpx.ProtocolError, httpx.DecodingError)):
        return _explain_protocol(redacted(str(error), secret), where)
    if isinstance(error, (httpx.TransportError, OSError)):
        return FailureKind.UNREACHABLE.reason(_system_words(chain), where=where)
    if isinstance(error, (httpx.InvalidURL, ValueError, ImportError)):
        return FailureKind.BAD_ADDRESS.reason(type(error).__name__, where=where)
    return FailureKind.UNEXPECTED.reason(type(chain[-1]).__name__, where=where)


def _explain_tls(error: ssl.SSLError, where: str) -> Reason:
    if not isinstance(error, ssl.SSLCertVerificationError):
        words = (error.reason or error.strerror or str(error)).replace("_", " ").lower()
        return FailureKind.TLS_FAILED.reason(printable(words), where=where)
    failure = FailureKind.TLS_UNTRUSTED
    if error.verify_code in _X509_WRONG_NAME:
        failure = FailureKind.TLS_WRONG_NAME
    elif error.verify_code in (_X509_NOT_YET_VALID, _X509_EXPIRED):
        failure = FailureKind.TLS_EXPIRED
    return failure.reason(printable(error.verify_message.rstrip(".")), where=where)


def _explain_protocol(words: str, where: str) -> Reason:
    if words.startswith(_CONNECTION_ENDED):
        return FailureKind.UNREACHABLE.reason("it closed the connection before the answer was complete", where=where)
    return FailureKind.NOT_HTTP.reason(printable(words), where=where)


def _system_words(chain: tuple[BaseException, ...]) -> str:
    """What the system says: the innermost error that has a number, such as "Connection refused"."""
    for error in reversed(chain):
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno is not None:
            # Resolver errors have negative numbers and words of their own.
            return printable(os.strerror(error.errno) if error.errno > 0 else f"DNS: {error.strerror}")
    return "the connection broke"


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
