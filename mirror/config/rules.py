"""Rules about several keys at once: of one issuer, between issuers, and about where an issuer is published.

A rule is asked only when the keys that it looks at fit by themselves, so that one slip is reported once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from mirror.addresses import (
    PathConflict,
    PublishLocation,
    bucket_url,
    default_base_url,
    is_aws_endpoint,
    is_global_url,
    is_legacy_url,
    issuer_problems,
    issuer_warnings,
    object_keys,
    path_conflicts,
)
from mirror.config.fields import place_of_apiserver, prefix_of_apiserver
from mirror.config.layers import FieldError, IssuerConfig, MergedConfig
from mirror.config.schema import IssuerEntry, Publish, Root
from mirror.config.yaml_reader import Location, path_text
from mirror.model import Cloud, IssuerUrl, cloud_of

OWN_SERVICE = frozenset(
    (name, "443") for name in ("kubernetes.default.svc.cluster.local", "kubernetes.default.svc", "kubernetes.default")
)
"""What a pod may call the apiserver of its own cluster, as host and port."""
LEAST_RETAINED = timedelta(hours=12)  # tokens of this life are usual (facts.md#21)
LEAST_RETAINED_BEHIND_BALANCER = timedelta(hours=24)  # design, section 4.1


@dataclass(frozen=True, slots=True)
class ConfigRule:
    """A rule about an issuer: `needs` are the entry's keys that must fit before `check` can be asked."""

    needs: frozenset[str]
    check: Callable[[IssuerConfig], Iterator[FieldError]]


def _issuer(entry: IssuerConfig) -> Iterator[FieldError]:
    filled = entry.shape
    for reason in issuer_problems(filled.issuer, allow_private=filled.allow_private_issuer):
        yield ("issuer",), f"{reason.sentence} {reason.remedy}"


def _former_issuers(entry: IssuerConfig) -> Iterator[FieldError]:
    for index, former in enumerate(entry.shape.former_issuers):
        for reason in issuer_problems(former.issuer, allow_private=entry.shape.allow_private_issuer):
            yield ("former_issuers", index, "issuer"), f"{reason.sentence} {reason.remedy}"


def _apiservers(entry: IssuerConfig) -> Iterator[FieldError]:
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


def _discovery(entry: IssuerConfig) -> Iterator[FieldError]:
    filled = entry.shape
    if filled.discover and len(filled.apiservers) > 1:
        yield ("apiservers", 1), "discover finds the replicas behind one address. Leave one, or remove discover."
    if filled.discover == "dns" and filled.auth.in_cluster:
        text = "The cluster's own service has one address for all replicas. Write endpointslices, or remove discover."
        yield ("discover",), text


def _own_cluster(entry: IssuerConfig) -> Iterator[FieldError]:
    if not entry.shape.auth.in_cluster:
        return
    for index, url in enumerate(entry.shape.apiservers):
        if place_of_apiserver(url) not in OWN_SERVICE or prefix_of_apiserver(url):
            text = "The pod's token is only for its own cluster, which needs no address. Remove apiservers."
            yield ("apiservers", index), text


def _replicas(entry: IssuerConfig) -> Iterator[FieldError]:
    filled = entry.shape
    expected = filled.expect_replicas
    if filled.discover and expected is None:
        yield ("discover",), "Found replicas must be counted. Add expect_replicas with their number."
    listed = len(filled.apiservers)
    if expected is not None and not filled.discover and expected > max(listed, 1 if filled.auth.kubeconfig else 0):
        text = f"Only {listed} apiservers are listed. Add the missing ones, or lower the number."
        yield ("expect_replicas",), text


def _load_balancer(entry: IssuerConfig) -> Iterator[FieldError]:
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


def _login(entry: IssuerConfig) -> Iterator[FieldError]:
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


def _client_certificate(entry: IssuerConfig) -> Iterator[FieldError]:
    tls = entry.shape.tls
    if tls.client_cert_file and not tls.client_key_file:
        yield ("tls", "client_cert_file"), "A client certificate needs its key. Add tls.client_key_file."
    if tls.client_key_file and not tls.client_cert_file:
        yield ("tls", "client_key_file"), "A key needs its client certificate. Add tls.client_cert_file."


def _audiences(entry: IssuerConfig) -> Iterator[FieldError]:
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
    ConfigRule(frozenset({"issuer", "allow_private_issuer"}), _issuer),
    ConfigRule(frozenset({"former_issuers", "allow_private_issuer"}), _former_issuers),
    ConfigRule(frozenset({"apiservers", "discover", "auth"}), _apiservers),
    ConfigRule(frozenset({"apiservers", "discover", "auth"}), _discovery),
    ConfigRule(frozenset({"apiservers", "auth"}), _own_cluster),
    ConfigRule(frozenset({"apiservers", "discover", "expect_replicas", "auth"}), _replicas),
    ConfigRule(frozenset({"load_balancer", "discover", "expect_replicas", "auth", "keys"}), _load_balancer),
    ConfigRule(frozenset({"auth", "tls"}), _login),
    ConfigRule(frozenset({"tls"}), _client_certificate),
    ConfigRule(frozenset({"audiences"}), _audiences),
)


def root_findings(layers: MergedConfig) -> Iterator[FieldError]:
    """Mistakes about keys outside the issuers."""
    root = layers.root
    if root.repository.require_push and not root.repository.remote and "repository" not in layers.bad:
        yield ("repository", "require_push"), "There is nowhere to push to. Add repository.remote, or remove the key."
    if not layers.entries and "issuers" not in layers.bad:
        yield ("issuers",), "No issuer is configured. Add one entry for each cluster."


def root_warnings(root: Root) -> Iterator[FieldError]:
    """What is allowed outside the issuers but has no effect."""
    limits = root.limits
    if limits.connect > limits.total:
        yield ("limits", "connect"), "It is longer than limits.total, which ends every connection first."
    if limits.total > limits.source_deadline:
        yield ("limits", "total"), "It is longer than limits.source_deadline, which ends the asking first."


def entry_warnings(entry: IssuerConfig) -> Iterator[FieldError]:
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


def _shared_audiences(entry: IssuerConfig) -> Iterator[FieldError]:
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
                both = " and ".join(dict.fromkeys(of))
                text = (
                    f"This is also an audience of {both}: a token for one cloud is good at the other. Use one for each."
                )
                yield ("audiences", cloud, index), text


FleetError = tuple[IssuerConfig, Location, str]


def fleet_findings(entries: tuple[IssuerConfig, ...]) -> Iterator[FleetError]:
    """Equal names and issuers, reported at the later entry; covering paths, at the issuer whose path is covered."""
    yield from _equal_names(entries)
    owners: dict[IssuerUrl, str] = {}
    origins: dict[str, tuple[IssuerConfig, Location]] = {}
    places: list[PublishLocation] = []
    for entry in entries:
        for path, issuer in issuers_of(entry):
            label = _label(entry, path)
            first = owners.setdefault(issuer, label)
            if first != label:
                yield entry, path, f"This is the issuer of {first} as well. Remove one of the two."
                continue
            origins[label] = (entry, path)
            places.extend(_place(entry, label, issuer))
    for conflict in path_conflicts(places):
        yield *origins[conflict.second.label], _conflict_text(conflict)


def fleet_warnings(entries: tuple[IssuerConfig, ...]) -> Iterator[FleetError]:
    """One apiserver in two issuers, reported at the later one: an apiserver serves one issuer alone (facts.md#11)."""
    owners: dict[tuple[str, str, str], IssuerConfig] = {}
    for entry in entries:
        for index, url in enumerate(entry.shape.apiservers):
            first = owners.setdefault((*place_of_apiserver(url), prefix_of_apiserver(url)), entry)
            if first is not entry:
                text = (
                    f"This apiserver also belongs to {first.shape.name}, but it "
                    "serves the documents of only one issuer."
                    " Remove it from the other."
                )
                yield entry, ("apiservers", index), text


def _label(entry: IssuerConfig, path: Location = ()) -> str:
    return entry.file + path_text(entry.path + path, inside=bool(entry.file))


def _equal_names(entries: tuple[IssuerConfig, ...]) -> Iterator[FleetError]:
    owners: dict[str, str] = {}
    for entry in entries:
        if "name" in entry.bad:
            continue
        label = _label(entry)
        first = owners.setdefault(entry.shape.name, label)
        if first != label:
            yield entry, ("name",), f"The name {entry.shape.name} belongs to {first}. Choose another one."


def _place(entry: IssuerConfig, label: str, issuer: IssuerUrl) -> Iterator[PublishLocation]:
    """Where an issuer is published; nothing when that is a mistake of its own."""
    publish = entry.publish
    if "publish" in entry.bad:
        return
    try:
        base_url = public_base_url(publish)
        object_keys(issuer, base_url, publish.prefix)
    except ValueError:
        return
    endpoint = publish.endpoint_url or ""
    server = "" if is_aws_endpoint(endpoint) else endpoint
    yield PublishLocation(label, issuer, f"{server}/{publish.bucket}", base_url, publish.prefix)


def _conflict_text(conflict: PathConflict) -> str:
    first = conflict.first
    return (
        f"The file {conflict.path} of {first.label} ({first.issuer}) and those "
        "of this issuer cannot exist together with"
        " each other. Choose an issuer with another path."
    )


def public_base_url(publish: Publish) -> str:
    """The public URL of the folder in which objects are put, without a slash at the end.

    Without `base_url` it follows from bucket and region on AWS, and is path style on another S3 server.

    Raises:
        ValueError: Bucket or region is missing, or the server is not public; with sentence and remedy.
    """
    if publish.base_url:
        return publish.base_url
    if not (publish.bucket and publish.region):
        raise ValueError("Bucket or region is missing. Add publish.bucket and publish.region.")
    return "/".join(
        part for part in (_bucket_base_url(publish, publish.bucket, publish.region), publish.prefix) if part
    )


def _bucket_base_url(publish: Publish, bucket: str, region: str) -> str:
    endpoint = publish.endpoint_url
    if endpoint is None or is_aws_endpoint(endpoint):
        return default_base_url(bucket, region)
    if not endpoint.startswith("https://"):
        raise ValueError("The public URL cannot follow from a server without TLS. Add publish.base_url.")
    return f"{endpoint}/{bucket}"


def publish_findings(entry: IssuerConfig) -> Iterator[FieldError]:
    """Mistakes about the bucket of one issuer and its public URL."""
    publish = entry.publish
    missing = [key for key in ("bucket", "region") if getattr(publish, key) is None]
    yield from ((("publish", key), "This key is missing. Add it.") for key in missing)
    if missing:
        return
    yield from _inherited(entry)
    try:
        base_url = public_base_url(publish)
    except ValueError as error:
        yield ("publish", "endpoint_url"), str(error)
        return
    elsewhere = list(_other_bucket(publish, base_url))
    yield from elsewhere or _outside(entry, base_url)


def _inherited(entry: IssuerConfig) -> Iterator[FieldError]:
    own = entry.own.get("publish")
    if not isinstance(own, dict) or "base_url" in own or entry.publish.base_url is None:
        return
    for key in sorted({"bucket", "region", "endpoint_url", "prefix"} & own.keys()):
        text = (
            f"This issuer has another {key}, but the inherited base_url {entry.publish.base_url} belongs to the"
            " inherited one. Give this issuer its own base_url, or base_url: null for the bucket's own URL."
        )
        yield ("publish", key), text


def _other_bucket(publish: Publish, base_url: str) -> Iterator[FieldError]:
    """An S3 host says which bucket and folder it is; writing elsewhere would never be seen."""
    place = bucket_url(base_url, home=publish.region or "")
    if place is None or (publish.endpoint_url and not is_aws_endpoint(publish.endpoint_url)):
        return
    if (place.bucket, place.region) != (publish.bucket, publish.region):
        text = (
            f"It is bucket {place.bucket} in {place.region}, but objects are put into {publish.bucket} in"
            f" {publish.region}. Correct one of them."
        )
        yield ("publish", "base_url"), text
    elif place.path.strip("/") != publish.prefix:
        text = (
            f"Objects are put below {publish.prefix or 'the top of the bucket'}, but base_url {base_url} reads another"
            " folder. Write the same folder in both, or remove base_url."
        )
        yield ("publish", "prefix"), text


def _outside(entry: IssuerConfig, base_url: str) -> Iterator[FieldError]:
    for path, issuer in issuers_of(entry):
        try:
            object_keys(issuer, base_url, entry.publish.prefix)
        except ValueError:
            text = f"The issuer {issuer} is not inside {base_url}, where its objects become public."
            yield path, f"{text} {_hint(issuer, entry.publish)}"


def _hint(issuer: IssuerUrl, publish: Publish) -> str:
    place = bucket_url(issuer)
    if place is not None and place.bucket == publish.bucket and place.region != publish.region:
        if is_global_url(issuer):
            return (
                f"S3's legacy global host serves this bucket there only if it is in {place.region}; else it redirects"
                " or refuses, and relying parties follow no redirect. Correct publish.region, or give the cluster an"
                " issuer on the host of the bucket's region."
            )
        return f"Its host is in {place.region}: correct publish.region."
    return "Correct the issuer or publish.bucket, or set publish.base_url to the custom domain."


def issuers_of(entry: IssuerConfig) -> Iterator[tuple[Location, IssuerUrl]]:
    """The valid issuers of an entry, former ones included, each with the way to it."""
    filled = entry.shape
    texts: list[tuple[Location, str]] = [(("issuer",), filled.issuer)]
    texts.extend((("former_issuers", index, "issuer"), it.issuer) for index, it in enumerate(filled.former_issuers))
    for path, text in texts:
        if path[0] not in entry.bad and not issuer_problems(text, allow_private=True):
            yield path, IssuerUrl(text)
