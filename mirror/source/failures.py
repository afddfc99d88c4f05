"""Every way in which an apiserver can fail us: the one table of codes, sentences and remedies (design, 4.1)."""

from dataclasses import dataclass
from enum import Enum

from mirror.model import Reason

_BIND = "`kubectl create clusterrolebinding oidc-mirror --clusterrole=system:service-account-issuer-discovery"
_MAX_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class _Entry:
    code: str
    sentence: str
    remedy: str


class Failure(Enum):
    """The table. `{detail}` is what the outside world said; members that share a code differ in what to do."""

    UNREACHABLE = _Entry(
        "unreachable",
        "The apiserver could not be reached: {detail}.",
        "Check that it runs, and that DNS, routes and firewalls let this machine reach it.",
    )
    PROXY_REFUSED = _Entry(
        "unreachable",
        "The proxy made no tunnel to the apiserver: {detail}.",
        "Check `proxy` of this issuer, and that the proxy may connect to the apiserver's host and port.",
    )
    CONNECT_TIMEOUT = _Entry(
        "timeout",
        "No connection (TCP and TLS) stood within {detail} s (limits.connect).",
        "Check firewalls and the apiserver's etcd: while etcd is down the TLS handshake is never answered.",
    )
    TOTAL_TIMEOUT = _Entry(
        "timeout",
        "The answer was not complete within {detail} s (limits.total).",
        "Check the apiserver's load and the network; raise limits.total when it is always this slow.",
    )
    NOT_IN_TIME = _Entry(
        "timeout",
        "It had not answered when asking ended after {detail} s (limits.source_deadline).",
        "Raise limits.source_deadline or limits.concurrency, or share the issuers out with --shard.",
    )
    INTERRUPTED = _Entry(
        "timeout",
        "Asking was interrupted before it answered.",
        "Nothing is to be done: the next pass asks again.",
    )
    REQUEST_TIMEOUT = _Entry(
        "timeout",
        "The apiserver gave up waiting for the request: {detail}.",
        "Check what stands between this machine and the apiserver; the next pass asks again.",
    )
    RATE_LIMITED = _Entry(
        "rate_limited",
        "The apiserver is busy: {detail}.",
        "The next pass asks again; when it stays, look at the apiserver's API Priority and Fairness.",
    )
    SERVER_ERROR = _Entry(
        "server_error",
        "The apiserver failed: {detail}.",
        "Look at the apiserver's log; the next pass asks again.",
    )
    TLS_UNTRUSTED = _Entry(
        "tls_untrusted",
        "The apiserver's certificate is not trusted: {detail}.",
        "Set tls.ca_file to the CA of this cluster (kubeadm: /etc/kubernetes/pki/ca.crt); verification has no switch.",
    )
    TLS_EXPIRED = _Entry(
        "tls_expired",
        "A certificate of the apiserver is outside its validity: {detail}.",
        "Renew it (kubeadm: `kubeadm certs renew apiserver`) and check this machine's clock.",
    )
    TLS_WRONG_NAME = _Entry(
        "tls_wrong_name",
        "The apiserver's certificate is for another name: {detail}.",
        "Set tls.server_name to a name in the certificate, such as kubernetes.default.svc.",
    )
    TLS_FAILED = _Entry(
        "tls_failed",
        "TLS with the apiserver failed: {detail}.",
        "Check that the address is its HTTPS port with TLS 1.2 or later; set tls.client_cert_file where it wants one.",
    )
    NOT_HTTP = _Entry(
        "not_http",
        "What answered does not speak HTTP/1.1: {detail}.",
        "Check that host and port are those of an apiserver.",
    )
    UNAUTHORIZED_ANONYMOUS = _Entry(
        "unauthorized",
        "The apiserver takes no anonymous requests: {detail}.",
        "Set auth.token_file to a ServiceAccount token of this cluster; it needs no further binding.",
    )
    UNAUTHORIZED_TOKEN = _Entry(
        "unauthorized",
        "The apiserver refused the token: {detail}.",
        "Check that auth.token_file holds a token of this cluster, for this apiserver's audience, and is renewed "
        "before it expires; it is read again in every pass.",
    )
    UNAUTHORIZED_CERTIFICATE = _Entry(
        "unauthorized",
        "The apiserver refused the client certificate: {detail}.",
        "Check that tls.client_cert_file is valid today and was signed by this cluster's client CA.",
    )
    FORBIDDEN_ANONYMOUS = _Entry(
        "forbidden",
        "Anonymous requests may not read the document: {detail}.",
        f"Run {_BIND} --group=system:unauthenticated`, or set auth.token_file to a ServiceAccount token of it.",
    )
    FORBIDDEN_TOKEN = _Entry(
        "forbidden",
        "The token's user may not read the document: {detail}.",
        f"For a ServiceAccount token run {_BIND} --group=system:serviceaccounts` (Kubernetes binds it by default); "
        "for another user put --user=NAME in place of --group.",
    )
    FORBIDDEN_CERTIFICATE = _Entry(
        "forbidden",
        "The client certificate's user may not read the document: {detail}.",
        f"Run {_BIND} --user=NAME` with the common name of the certificate's subject.",
    )
    NOT_FOUND = _Entry(
        "not_found",
        "The apiserver serves no such document: {detail}.",
        "Set --service-account-issuer of the apiserver to an https URL without query or fragment: with any other "
        "it serves none (and check that this address is an apiserver).",
    )
    NOT_ACCEPTABLE = _Entry(
        "not_acceptable",
        "The apiserver does not offer the content type: {detail}.",
        "Check that nothing between this machine and the apiserver changes the Accept header.",
    )
    REDIRECT = _Entry(
        "redirect",
        "The apiserver sends us elsewhere, which is never followed: {detail}.",
        "Put the apiserver's own address into apiservers.",
    )
    BAD_STATUS = _Entry(
        "bad_status",
        "The answer's status is not 200: {detail}.",
        "Check that this address is an apiserver, and what stands between.",
    )
    WRONG_CONTENT_TYPE = _Entry(
        "wrong_content_type",
        "The answer has the wrong content type: {detail}.",
        "Check that this address is an apiserver, not a login page or another service.",
    )
    WRONG_CONTENT_ENCODING = _Entry(
        "wrong_content_encoding",
        "The answer is compressed although we asked for it as it is: {detail}.",
        "Switch compression off in what stands between this machine and the apiserver.",
    )
    TOO_LARGE = _Entry(
        "too_large",
        "The answer is larger than {detail} bytes (limits.max_body).",
        "Check that this address is an apiserver: its documents have a few kilobytes.",
    )
    TOKEN_UNREADABLE = _Entry(
        "token_unreadable",
        "The token file could not be read: {detail}.",
        "Correct auth.token_file or the rights on it.",
    )
    TOKEN_MALFORMED = _Entry(
        "token_malformed",
        "The token file holds no bearer token: {detail}.",
        "auth.token_file holds the bare token, one line of visible ASCII characters without spaces.",
    )
    WRONG_TOKEN = _Entry(
        "wrong_token",
        "The token was not sent: it would log in to a cloud (audience {detail}).",
        "Put a token for the apiserver's own audience into the file (`kubectl create token` without --audience).",
    )
    CA_UNREADABLE = _Entry(
        "ca_unreadable",
        "The CA file could not be read: {detail}.",
        "Correct tls.ca_file or the rights on it.",
    )
    CA_NOT_PEM = _Entry(
        "ca_not_pem",
        "The CA file holds no usable PEM certificate: {detail}.",
        "tls.ca_file holds one or more BEGIN CERTIFICATE blocks; decode base64 data of a kubeconfig first.",
    )
    CLIENT_CERT_UNREADABLE = _Entry(
        "client_cert_unreadable",
        "The client certificate or its key could not be read: {detail}.",
        "Correct tls.client_cert_file and tls.client_key_file or the rights on them.",
    )
    CLIENT_CERT_INVALID = _Entry(
        "client_cert_invalid",
        "The client certificate and its key cannot be used: {detail}.",
        "Both are PEM, belong together, and the key has no passphrase.",
    )
    BAD_ADDRESS = _Entry(
        "bad_address",
        "The address of the apiserver or of its proxy cannot be used: {detail}.",
        "apiservers are https://host[:port], proxy is http:// or https://host[:port].",
    )
    UNEXPECTED = _Entry(
        "unexpected",
        "Asking failed in a way that this program does not know: {detail}.",
        "Please report it as a fault of this program.",
    )

    def reason(self, detail: str = "", *, where: str = "") -> Reason:
        """This failure as a value; `detail` fills the sentence, `where` names the document (or is empty)."""
        return Reason(self.value.code, self.value.sentence.format(detail=detail), self.value.remedy, where)


def shown(text: str) -> str:
    """`text` from outside on one line, at most 200 characters of it, those that do not print escaped as in `repr`."""
    line = " ".join(text[: 4 * _MAX_SHOWN_CHARACTERS].split())
    cut = line[:_MAX_SHOWN_CHARACTERS] + ("…" if len(line) > _MAX_SHOWN_CHARACTERS else "")
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in cut)
