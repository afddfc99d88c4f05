"""Rules about several keys of one issuer at once, in tables, and what this version cannot honour yet.

A rule is asked only when the keys that it looks at fit by themselves, so that one slip is told once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from mirror.addresses import is_legacy_url, issuer_problems, issuer_warnings
from mirror.config.fields import place_of_apiserver, prefix_of_apiserver
from mirror.config.layers import Entry, Finding, Layers
from mirror.config.problems import Location, path_text
from mirror.config.shape import IssuerEntry, Root
from mirror.model import Cloud, cloud_of

OWN_SERVICE = frozenset(
    (name, "443") for name in ("kubernetes.default.svc.cluster.local", "kubernetes.default.svc", "kubernetes.default")
)
"""What a pod may call the apiserver of its own cluster, as host and port."""
LEAST_RETAINED = timedelta(hours=12)  # fact 21: the longest life of the article's tokens
LEAST_RETAINED_BEHIND_BALANCER = timedelta(hours=24)  # design, section 4.1


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule about an issuer: `needs` are the entry's keys that must fit before `check` can be asked."""

    needs: frozenset[str]
    check: Callable[[Entry], Iterator[Finding]]


def _issuer(entry: Entry) -> Iterator[Finding]:
    filled = entry.shape
    for reason in issuer_problems(filled.issuer, allow_private=filled.allow_private_issuer):
        yield ("issuer",), f"{reason.sentence} {reason.remedy}"


def _former_issuers(entry: Entry) -> Iterator[Finding]:
    for index, former in enumerate(entry.shape.former_issuers):
        for reason in issuer_problems(former.issuer, allow_private=entry.shape.allow_private_issuer):
            yield ("former_issuers", index, "issuer"), f"{reason.sentence} {reason.remedy}"


def _apiservers(entry: Entry) -> Iterator[Finding]:
    filled = entry.shape
    if not (filled.apiservers or filled.auth.kubeconfig or filled.auth.in_cluster):
        yield ("apiservers",), _nobody_to_ask(filled)
    seen: dict[tuple[str, str, str], int] = {}
    for index, url in enumerate(filled.apiservers):
        first = seen.setdefault((*place_of_apiserver(url), prefix_of_apiserver(url)), index)
        if first != index:
            yield ("apiservers", index), f"This is the same apiserver as apiservers[{first}]. Remove one of them."


def _nobody_to_ask(filled: IssuerEntry) -> str:
    if filled.discover == "dns":
        return "There is no host name to look behind. Write it under apiservers, as https://host:port."
    if filled.discover == "endpointslices":
        return "There is no apiserver to ask for the replicas. Add auth.in_cluster, auth.kubeconfig or apiservers."
    return "There is no apiserver to ask. List every replica, each as https://host:port."


def _discovery(entry: Entry) -> Iterator[Finding]:
    filled = entry.shape
    if filled.discover and len(filled.apiservers) > 1:
        yield ("apiservers", 1), "discover finds the replicas behind one address. Leave one, or remove discover."
    if filled.discover == "dns" and filled.auth.in_cluster:
        text = "The cluster's own service has one address for all replicas. Write endpointslices, or remove discover."
        yield ("discover",), text


def _own_cluster(entry: Entry) -> Iterator[Finding]:
    if not entry.shape.auth.in_cluster:
        return
    for index, url in enumerate(entry.shape.apiservers):
        if place_of_apiserver(url) not in OWN_SERVICE or prefix_of_apiserver(url):
            text = "The pod's token is for its own cluster alone, which is found without this. Remove apiservers."
            yield ("apiservers", index), text


def _replicas(entry: Entry) -> Iterator[Finding]:
    filled = entry.shape
    expected = filled.expect_replicas
    if filled.discover and expected is None:
        yield ("discover",), "Found replicas must be counted. Add expect_replicas with their number."
    listed = len(filled.apiservers)
    if expected is not None and not filled.discover and expected > max(listed, 1 if filled.auth.kubeconfig else 0):
        text = f"Only {listed} apiservers are listed. Add the missing ones, or lower the number."
        yield ("expect_replicas",), text


def _load_balancer(entry: Entry) -> Iterator[Finding]:
    filled = entry.shape
    if filled.load_balancer and filled.discover:
        yield ("load_balancer",), "discover finds the single replicas. Remove load_balancer, or discover."
    elif _is_behind_balancer(filled) and filled.expect_replicas is not None:
        yield ("expect_replicas",), "Replicas behind a load balancer cannot be counted. Remove one of the two keys."
    retained = filled.keys.retain_removed
    if _is_behind_balancer(filled) and retained < LEAST_RETAINED_BEHIND_BALANCER:
        yield (
            ("keys", "retain_removed"),
            "Behind a load balancer a replica can stay unseen for long. Write 24h or more, or list every replica.",
        )


def _is_behind_balancer(filled: IssuerEntry) -> bool:
    return filled.load_balancer or (filled.auth.in_cluster and not filled.discover)


def _login(entry: Entry) -> Iterator[Finding]:
    auth, tls = entry.shape.auth, entry.shape.tls
    if auth.context and not auth.kubeconfig:
        yield ("auth", "context"), "A context belongs to a kubeconfig. Add auth.kubeconfig, or remove the context."
    if auth.kubeconfig or auth.in_cluster:
        chosen = "kubeconfig" if auth.kubeconfig else "in_cluster"
        text = f"auth.{chosen} says this already. Remove one of the two."
        others: tuple[tuple[tuple[str | int, ...], object], ...] = (
            (("auth", "in_cluster"), auth.kubeconfig and auth.in_cluster),
            (("auth", "token_file"), auth.token_file),
            (("tls", "ca_file"), tls.ca_file),
            (("tls", "client_cert_file"), tls.client_cert_file),
            (("tls", "client_key_file"), tls.client_key_file),
        )
        yield from ((path, text) for path, value in others if value)


def _client_certificate(entry: Entry) -> Iterator[Finding]:
    tls = entry.shape.tls
    if tls.client_cert_file and not tls.client_key_file:
        yield ("tls", "client_cert_file"), "A client certificate needs its key. Add tls.client_key_file."
    if tls.client_key_file and not tls.client_cert_file:
        yield ("tls", "client_key_file"), "A key needs its client certificate. Add tls.client_cert_file."


def _audiences(entry: Entry) -> Iterator[Finding]:
    found = entry.shape.audiences
    lists: dict[Location, tuple[str, ...]] = {("audiences",): found} if isinstance(found, tuple) else {}
    if not isinstance(found, tuple):
        lists = {("audiences", cloud): getattr(found, cloud) for cloud in Cloud}
    for path, texts in lists.items():
        seen: dict[str, int] = {}
        for index, audience in enumerate(texts):
            first = seen.setdefault(audience, index)
            if first != index:
                text = f"This is the same audience as {path_text(path)}[{first}]. Remove one of them."
                yield (*path, index), text


ISSUER_RULES = (
    Rule(frozenset({"issuer", "allow_private_issuer"}), _issuer),
    Rule(frozenset({"former_issuers", "allow_private_issuer"}), _former_issuers),
    Rule(frozenset({"apiservers", "discover", "auth"}), _apiservers),
    Rule(frozenset({"apiservers", "discover", "auth"}), _discovery),
    Rule(frozenset({"apiservers", "auth"}), _own_cluster),
    Rule(frozenset({"apiservers", "discover", "expect_replicas", "auth"}), _replicas),
    Rule(frozenset({"load_balancer", "discover", "expect_replicas", "auth", "keys"}), _load_balancer),
    Rule(frozenset({"auth", "tls"}), _login),
    Rule(frozenset({"tls"}), _client_certificate),
    Rule(frozenset({"audiences"}), _audiences),
)


def root_findings(layers: Layers) -> Iterator[Finding]:
    """Mistakes about keys outside the issuers."""
    root = layers.root
    if root.repository.require_push and not root.repository.remote and "repository" not in layers.bad:
        yield ("repository", "require_push"), "There is nowhere to push to. Add repository.remote, or remove the key."
    if not layers.entries and "issuers" not in layers.bad:
        yield ("issuers",), "No issuer is configured. Add one entry for each cluster."


def root_warnings(root: Root) -> Iterator[Finding]:
    """What is allowed outside the issuers but has no effect."""
    limits = root.limits
    if limits.connect > limits.total:
        yield ("limits", "connect"), "It is longer than limits.total, which ends every connection first."
    if limits.total > limits.source_deadline:
        yield ("limits", "total"), "It is longer than limits.source_deadline, which ends the asking first."


def entry_warnings(entry: Entry) -> Iterator[Finding]:
    """What is allowed in an issuer but unwise."""
    for reason in issuer_warnings(entry.shape.issuer):
        yield ("issuer",), f"{reason.sentence} {reason.remedy}"
    if entry.publish.region is not None and is_legacy_url(entry.shape.issuer, entry.publish.region):
        text = (
            "Its host is S3's legacy global one, where S3 may redirect for hours after a bucket is made, and relying"
            " parties follow no redirect. For a new cluster use the host of the bucket's region."
        )
        yield ("issuer",), text
    yield from _shared_audiences(entry)
    if entry.shape.keys.retain_removed < LEAST_RETAINED:
        yield (
            ("keys", "retain_removed"),
            "Tokens can live for 12 hours, and a pod whose key is gone is logged out. Write 12h or more.",
        )


def _shared_audiences(entry: Entry) -> Iterator[Finding]:
    found = entry.shape.audiences
    if isinstance(found, tuple):
        return
    for cloud in Cloud:
        others = [each for each in Cloud if each is not cloud]
        for index, audience in enumerate(getattr(found, cloud)):
            of = [str(each) for each in others if audience in getattr(found, each)]
            if cloud_of(audience) not in (cloud, Cloud.AWS):
                of.append(str(cloud_of(audience)))
            if of:
                told = " and ".join(dict.fromkeys(of))
                text = (
                    f"This is also an audience of {told}: a token for one cloud is good at the other. Use one for each."
                )
                yield ("audiences", cloud, index), text
