"""Rules about several keys of one issuer at once, in tables, and what this version cannot honour yet.

A rule is asked only when the keys that it looks at fit by themselves, so that one slip is told once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from mirror.addresses import issuer_problems, issuer_warnings
from mirror.config.layers import Entry, Finding, Layers
from mirror.config.network_fields import place_of_apiserver
from mirror.config.problems import Location
from mirror.config.shape import IssuerEntry, Root

LEAST_RETAINED = timedelta(hours=12)  # fact 21: the longest life of the article's tokens
LEAST_RETAINED_BEHIND_BALANCER = timedelta(hours=24)  # design, section 4.1


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule about an issuer: `needs` are the entry's keys that must fit before `check` can be asked."""

    needs: frozenset[str]
    check: Callable[[Entry], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class NotYet:
    """A key that is read but that this version cannot honour: refused, never ignored."""

    path: Location
    text: str


def _not_yet(path: str, instead: str) -> NotYet:
    return NotYet(tuple(path.split(".")), f"This version cannot do this yet. {instead}")


NOT_YET_ROOT = (_not_yet("publish.cloudfront_distribution", "Remove the key; caches turn over within max-age."),)
NOT_YET_ISSUER = (
    _not_yet("discover", "List every replica under apiservers."),
    _not_yet("auth.kubeconfig", "Write apiservers, tls and auth.token_file."),
    _not_yet("auth.context", "Remove the key."),
    _not_yet("auth.in_cluster", "Write apiservers, tls.ca_file and auth.token_file with the pod's own files."),
    _not_yet("probe_token_file", "Remove the key, and give the token to `oidc-mirror verify --token-file`."),
    _not_yet("publish.cloudfront_distribution", "Remove the key; caches turn over within max-age."),
)


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
    if not (filled.apiservers or filled.discover or filled.auth.kubeconfig or filled.auth.in_cluster):
        yield ("apiservers",), "There is no apiserver to ask. List every replica, each as https://host:port."
    seen: dict[tuple[str, str], int] = {}
    for index, url in enumerate(filled.apiservers):
        first = seen.setdefault(place_of_apiserver(url), index)
        if first != index:
            yield ("apiservers", index), f"This is the same apiserver as apiservers[{first}]. Remove one of them."


def _replicas(entry: Entry) -> Iterator[Finding]:
    filled = entry.shape
    expected = filled.expect_replicas
    if filled.discover and expected is None:
        yield ("discover",), "Found replicas must be counted. Add expect_replicas with their number."
    if expected is not None and not filled.discover and expected > len(filled.apiservers):
        text = f"Only {len(filled.apiservers)} apiservers are listed. Add the missing ones, or lower the number."
        yield ("expect_replicas",), text


def _load_balancer(entry: Entry) -> Iterator[Finding]:
    filled = entry.shape
    if filled.load_balancer and filled.discover:
        yield ("load_balancer",), "discover finds the single replicas. Remove load_balancer, or discover."
    elif filled.load_balancer and filled.expect_replicas is not None:
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
        others: tuple[tuple[Location, object], ...] = (
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
    seen: dict[str, int] = {}
    for index, audience in enumerate(entry.shape.audiences):
        first = seen.setdefault(audience, index)
        if first != index:
            yield ("audiences", index), f"This is the same audience as audiences[{first}]. Remove one of them."


def _not_yet_issuer(entry: Entry) -> Iterator[Finding]:
    return ((key.path, key.text) for key in NOT_YET_ISSUER if _value(entry.shape, key.path))


def _value(filled: object, path: Location) -> object:
    for part in path:
        filled = getattr(filled, str(part), None)
    return filled


ISSUER_RULES = (
    Rule(frozenset({"issuer", "allow_private_issuer"}), _issuer),
    Rule(frozenset({"former_issuers", "allow_private_issuer"}), _former_issuers),
    Rule(frozenset({"apiservers", "discover", "auth"}), _apiservers),
    Rule(frozenset({"apiservers", "discover", "expect_replicas"}), _replicas),
    Rule(frozenset({"load_balancer", "discover", "expect_replicas", "auth", "keys"}), _load_balancer),
    Rule(frozenset({"auth", "tls"}), _login),
    Rule(frozenset({"tls"}), _client_certificate),
    Rule(frozenset({"audiences"}), _audiences),
    Rule(frozenset(), _not_yet_issuer),  # a key that does not fit is at its default, so none is told twice
)


def root_findings(layers: Layers) -> Iterator[Finding]:
    """Mistakes about keys outside the issuers."""
    root = layers.root
    yield from ((key.path, key.text) for key in NOT_YET_ROOT if _value(root, key.path))
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
    if entry.shape.keys.retain_removed < LEAST_RETAINED:
        yield (
            ("keys", "retain_removed"),
            "Tokens can live for 12 hours, and a pod whose key is gone is logged out. Write 12h or more.",
        )
