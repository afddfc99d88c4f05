"""Every way in which reading or discovering an apiserver can fail: code, sentence, remedy."""

from dataclasses import dataclass
from enum import Enum
from urllib.parse import quote

from mirror.model import Reason

_BIND = "`kubectl create clusterrolebinding oidc-mirror --clusterrole=system:service-account-issuer-discovery"
_MAX_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class FailureText:
    """One line of a table: a stable code, a sentence with `{detail}`, and the remedy."""

    code: str
    sentence: str
    remedy: str


class _FailureTable(Enum):
    """A table of such lines; see `FailureKind`."""

    def reason(self, detail: str = "", *, where: str = "") -> Reason:
        """This failure as a value; `detail` fills the sentence, `where` names the document (or is empty)."""
        entry: FailureText = self.value
        return Reason(entry.code, entry.sentence.format(detail=detail), entry.remedy, where)


class FailureKind(_FailureTable):
    """The table. `{detail}` is what the outside world said; members that share a code differ in what to do."""

    UNREACHABLE = FailureText(
        "unreachable",
        "The apiserver could not be reached: {detail}.",
        "Check that it runs, and that DNS, routes and firewalls let this machine reach it.",
    )
    PROXY_REFUSED = FailureText(
        "unreachable",
        "The proxy made no tunnel to the apiserver: {detail}.",
        "Check `proxy` of this issuer, and that the proxy may connect to the apiserver's host and port.",
    )
    CONNECT_TIMEOUT = FailureText(
        "timeout",
        "No connection (TCP and TLS) stood within {detail} s (limits.connect).",
        "Check firewalls and the apiserver's etcd: while etcd is down the TLS handshake is never answered.",
    )
    TOTAL_TIMEOUT = FailureText(
        "timeout",
        "The answer was not complete within {detail} s (limits.total).",
        "Check the apiserver's load and the network; raise limits.total when it is always this slow.",
    )
    NOT_IN_TIME = FailureText(
        "timeout",
        "It had not answered when asking ended after {detail} s (limits.source_deadline).",
        "Raise limits.source_deadline or limits.concurrency, or share the issuers out with --shard.",
    )
    INTERRUPTED = FailureText(
        "timeout",
        "Asking was interrupted before it answered.",
        "Nothing is to be done: the next pass asks again.",
    )
    REQUEST_TIMEOUT = FailureText(
        "timeout",
        "The apiserver gave up waiting for the request: {detail}.",
        "Check what stands between this machine and the apiserver; the next pass asks again.",
    )
    RATE_LIMITED = FailureText(
        "rate_limited",
        "The apiserver is busy: {detail}.",
        "The next pass tries again. If it stays, check the apiserver's API Priority and Fairness.",
    )
    SERVER_ERROR = FailureText(
        "server_error",
        "The apiserver failed: {detail}.",
        "Check the apiserver's log; the next pass tries again.",
    )
    TLS_UNTRUSTED = FailureText(
        "tls_untrusted",
        "The apiserver's certificate is not trusted: {detail}.",
        "Set tls.ca_file to the CA of this cluster (kubeadm: /etc/kubernetes/pki/ca.crt); verification has no switch.",
    )
    TLS_EXPIRED = FailureText(
        "tls_expired",
        "A certificate of the apiserver is outside its validity: {detail}.",
        "Renew it (kubeadm: `kubeadm certs renew apiserver`) and check this machine's clock.",
    )
    TLS_WRONG_NAME = FailureText(
        "tls_wrong_name",
        "The apiserver's certificate is for another name: {detail}.",
        "Set tls.server_name to a name in the certificate, such as kubernetes.default.svc.",
    )
    TLS_FAILED = FailureText(
        "tls_failed",
        "TLS with the apiserver failed: {detail}.",
        "Check that the address is its HTTPS port with TLS 1.2 or later; set tls.client_cert_file where it wants one.",
    )
    NOT_HTTP = FailureText(
        "not_http",
        "What answered does not speak HTTP/1.1: {detail}.",
        "Check that host and port are those of an apiserver.",
    )
    UNAUTHORIZED_ANONYMOUS = FailureText(
        "unauthorized",
        "The apiserver takes no anonymous requests: {detail}.",
        "Set auth.token_file to a ServiceAccount token of this cluster; it needs no further binding.",
    )
    UNAUTHORIZED_TOKEN = FailureText(
        "unauthorized",
        "The apiserver refused the token: {detail}.",
        "Check that the token (of auth.token_file, the kubeconfig or the pod) is one of this cluster, for this "
        "apiserver's audience, and is renewed before it expires; it is read again in every pass.",
    )
    UNAUTHORIZED_CERTIFICATE = FailureText(
        "unauthorized",
        "The apiserver refused the client certificate: {detail}.",
        "Check that the client certificate is valid today and was signed by this cluster's client CA.",
    )
    FORBIDDEN_ANONYMOUS = FailureText(
        "forbidden",
        "Anonymous requests may not read the document: {detail}.",
        f"Run {_BIND} --group=system:unauthenticated`, or set auth.token_file to a ServiceAccount token of it.",
    )
    FORBIDDEN_TOKEN = FailureText(
        "forbidden",
        "The token's user may not read the document: {detail}.",
        f"For a ServiceAccount token run {_BIND} --group=system:serviceaccounts` (Kubernetes binds it by default); "
        "for another user put --user=NAME in place of --group.",
    )
    FORBIDDEN_CERTIFICATE = FailureText(
        "forbidden",
        "The client certificate's user may not read the document: {detail}.",
        f"Run {_BIND} --user=NAME` with the common name of the certificate's subject.",
    )
    NOT_FOUND = FailureText(
        "not_found",
        "The apiserver serves no such document: {detail}.",
        "Set --service-account-issuer of the apiserver to an https URL without query or fragment: with any other "
        "it serves none (and check that this address is an apiserver).",
    )
    NOT_ACCEPTABLE = FailureText(
        "not_acceptable",
        "The apiserver does not offer the content type: {detail}.",
        "Check that nothing between this machine and the apiserver changes the Accept header.",
    )
    REDIRECT = FailureText(
        "redirect",
        "The apiserver sends us elsewhere, which is never followed: {detail}.",
        "Put the apiserver's own address into apiservers.",
    )
    BAD_STATUS = FailureText(
        "bad_status",
        "The answer's status is not 200: {detail}.",
        "Check that this address is an apiserver, and what stands between.",
    )
    WRONG_CONTENT_TYPE = FailureText(
        "wrong_content_type",
        "The answer has the wrong content type: {detail}.",
        "Check that this address is an apiserver, not a login page or another service.",
    )
    WRONG_CONTENT_ENCODING = FailureText(
        "wrong_content_encoding",
        "The answer is compressed although the request did not allow it: {detail}.",
        "Switch compression off in what stands between this machine and the apiserver.",
    )
    TOO_LARGE = FailureText(
        "too_large",
        "The answer is larger than {detail} bytes (limits.max_body).",
        "Check that this address is an apiserver: its documents have a few kilobytes.",
    )
    TOKEN_UNREADABLE = FailureText(
        "token_unreadable",
        "The token file could not be read: {detail}.",
        "Correct auth.token_file or the rights on it.",
    )
    TOKEN_MALFORMED = FailureText(
        "token_malformed",
        "This is not a bearer token: {detail}.",
        "Write the bare token, one line of visible ASCII characters without spaces.",
    )
    WRONG_TOKEN = FailureText(
        "wrong_token",
        "The token was not sent: it would log in to a cloud (audience {detail}).",
        "Put a token for the apiserver's own audience there (`kubectl create token` without --audience).",
    )
    CA_UNREADABLE = FailureText(
        "ca_unreadable",
        "The CA file could not be read: {detail}.",
        "Correct tls.ca_file or the rights on it.",
    )
    CA_NOT_PEM = FailureText(
        "ca_not_pem",
        "The CA holds no usable PEM certificate: {detail}.",
        "It holds one or more BEGIN CERTIFICATE blocks; for tls.ca_file decode base64 data of a kubeconfig first.",
    )
    CLIENT_CERT_UNREADABLE = FailureText(
        "client_cert_unreadable",
        "The client certificate or its key could not be read: {detail}.",
        "Correct tls.client_cert_file and tls.client_key_file or the rights on them.",
    )
    CLIENT_CERT_INVALID = FailureText(
        "client_cert_invalid",
        "The client certificate and its key cannot be used: {detail}.",
        "Both are PEM, belong together, and the key has no passphrase.",
    )
    BAD_ADDRESS = FailureText(
        "bad_address",
        "The address of the apiserver or of its proxy cannot be used: {detail}.",
        "apiservers are https://host[:port], proxy is http:// or https://host[:port].",
    )
    UNEXPECTED = FailureText(
        "unexpected",
        "Asking failed in a way that this program does not know: {detail}.",
        "Please report it as a fault of this program.",
    )


def printable(text: str) -> str:
    """`text` from outside on one line, at most 200 characters of it, those that do not print escaped as in `repr`."""
    line = " ".join(text[: 4 * _MAX_SHOWN_CHARACTERS].split())
    cut = line[:_MAX_SHOWN_CHARACTERS] + ("…" if len(line) > _MAX_SHOWN_CHARACTERS else "")
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in cut)


class DiscoveryFailureKind(_FailureTable):
    """The table; as `mirror.apiserver.errors.FailureKind`."""

    KUBECONFIG_UNREADABLE = FailureText(
        "kubeconfig_unreadable",
        "The kubeconfig, or a file that it names, could not be read: {detail}.",
        "Correct auth.kubeconfig, the paths in that file (relative ones begin at its folder) or the rights on them.",
    )
    KUBECONFIG_INVALID = FailureText(
        "kubeconfig_invalid",
        "The kubeconfig cannot be used: {detail}.",
        "Correct the file or auth.context; `kubectl --kubeconfig FILE config get-contexts` shows what is in it.",
    )
    KUBECONFIG_REFUSED = FailureText(
        "kubeconfig_refused",
        "The kubeconfig asks for what this program never does: {detail}.",
        "Log in with a ServiceAccount token instead, which may read the documents and nothing else: "
        "`kubectl create serviceaccount oidc-mirror --namespace kube-system`, then "
        "`kubectl create token oidc-mirror --namespace kube-system --duration 24h > token`; write "
        "`auth.token_file: token` and `tls.ca_file` with the cluster's CA. Or use a client certificate.",
    )
    NOT_IN_CLUSTER = FailureText(
        "not_in_cluster",
        "This is not a pod of a cluster: {detail}.",
        "auth.in_cluster needs a pod with a ServiceAccount; elsewhere use auth.kubeconfig or auth.token_file.",
    )
    LOOKUP_TIMEOUT = FailureText(
        "timeout",
        "The replicas were not found within {detail} s (limits.total).",
        "Check the resolver of this machine, and the apiserver that serves the list.",
    )
    NOTHING_FOUND = FailureText(
        "nothing_found",
        "No replica was found: {detail}.",
        "Check that the host name has addresses, or that the EndpointSlices of default/kubernetes have ready ones.",
    )
    TOO_MANY_REPLICAS = FailureText(
        "too_many_replicas",
        "More replicas were found than a cluster has, so none was asked: {detail}.",
        "Check who writes the name's addresses, or the EndpointSlices of default/kubernetes.",
    )
    BAD_ENDPOINT = FailureText(
        "bad_endpoint",
        "A replica was found where no apiserver can be, so it was not asked: {detail}.",
        "Find out who wrote it: `kubectl get endpointslices -n default -o yaml --show-managed-fields`.",
    )
    ENDPOINTSLICES_INVALID = FailureText(
        "endpointslices_invalid",
        "The list of EndpointSlices is not as the Kubernetes API gives it: {detail}.",
        "Check that what answers under this address is an apiserver.",
    )
    FORBIDDEN_ENDPOINTSLICES = FailureText(
        "forbidden",
        "The user may not list the EndpointSlices of the apiservers: {detail}.",
        "Run `kubectl create role oidc-mirror-endpointslices -n default --verb=list"
        " --resource=endpointslices.discovery.k8s.io` and `kubectl create rolebinding oidc-mirror-endpointslices"
        " -n default --role=oidc-mirror-endpointslices --serviceaccount=NAMESPACE:NAME` (or --user=NAME).",
    )
    NO_ENDPOINTSLICES = FailureText(
        "not_found",
        "The apiserver knows no EndpointSlices: {detail}.",
        "Kubernetes 1.21 and later have them; for an older cluster use `discover: dns` or list every replica.",
    )


_INSTEAD = "***"


def redacted(text: str, secret: str) -> str:
    """`text` without `secret`, as it is or percent-encoded; nothing is taken away where there is no secret."""
    for form in {secret, quote(secret, safe="")} - {""}:
        text = text.replace(form, _INSTEAD)
    return text


def redacted_body(body: bytes, secret: str, *, complete: bool) -> bytes:
    """`body` without `secret`; where it was cut short, also without an end that may be the beginning of one."""
    for form in {secret.encode(), quote(secret, safe="").encode()} - {b""}:
        body = body.replace(form, _INSTEAD.encode())
    return body if complete else body[: max(0, len(body) - len(secret))]
