"""The places of an issuer's two documents, and which issuers would write over each other.

kube-apiserver serves them at fixed paths below the issuer (facts.md#1); OpenID Connect Discovery 1.0, section 4.1,
removes one slash at the issuer's end before the path of the discovery document is added.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mirror.addresses.s3_urls import bucket_url, canonical_url
from mirror.model import IssuerUrl, ObjectKey

_DISCOVERY = ".well-known/openid-configuration"
_JWKS = "openid/v1/jwks"


@dataclass(frozen=True, slots=True)
class RepositoryPaths:
    """The files of an issuer in the git repository, relative to its root; `signature` is that of the ledger."""

    discovery: str
    jwks: str
    ledger: str
    signature: str


@dataclass(frozen=True, slots=True)
class PublishLocation:
    """One published issuer, former ones included.

    `label` is how its configuration entry is called; `store` distinguishes buckets (endpoint and bucket name).
    """

    label: str
    issuer: IssuerUrl
    store: str
    base_url: str
    prefix: str


@dataclass(frozen=True, slots=True)
class PathConflict:
    """That the files of two issuers cannot exist together: `path` of `first` covers one of `second`."""

    first: PublishLocation
    second: PublishLocation
    path: str


def jwks_uri(issuer: IssuerUrl) -> str:
    """Where the public reads the issuer's JWKS."""
    return f"{issuer.removesuffix('/')}/{_JWKS}"


def discovery_url(issuer: IssuerUrl) -> str:
    """Where the public reads the issuer's discovery document (OpenID Connect Discovery 1.0, section 4.1)."""
    return f"{issuer.removesuffix('/')}/{_DISCOVERY}"


def _canonical_pair(issuer: IssuerUrl, base_url: str) -> tuple[str, str]:
    """Both in the default style; the legacy global host of an issuer is that of the base's own region."""
    base = bucket_url(base_url)
    place = issuer.removesuffix("/")
    return canonical_url(base_url), canonical_url(place) if base is None else canonical_url(place, home=base.region)


def is_inside(issuer: IssuerUrl, base_url: str) -> bool:
    """Whether the issuer's documents stand below the public URL `base_url`, in whatever host style of S3."""
    base, place = _canonical_pair(issuer, base_url)
    return f"{place}/".startswith(f"{base}/")


def object_keys(issuer: IssuerUrl, base_url: str, prefix: str) -> tuple[ObjectKey, ObjectKey]:
    """The keys of the discovery document and of the JWKS in the bucket.

    Args:
        issuer: A valid issuer (`issuer_problems` found nothing).
        base_url: The public URL under which the bucket's `prefix` is read, without a slash at the end.
        prefix: Where in the bucket `base_url` begins: "" or segments without outer slashes.

    Raises:
        ValueError: The issuer is not inside `base_url`; another host style of the same bucket is inside.
    """
    base, place = _canonical_pair(issuer, base_url)
    if not is_inside(issuer, base_url):
        raise ValueError(f"{issuer} is not inside {base_url}")
    folder = "".join(f"{part}/" for part in (prefix, place[len(base) + 1 :]) if part)
    return ObjectKey(folder + _DISCOVERY), ObjectKey(folder + _JWKS)


def object_key_of(url: str, base_url: str, prefix: str) -> ObjectKey | None:
    """The key of the object behind any public URL; None where the bucket does not hold it."""
    if not url.startswith("https://") or set("?#%") & set(url) or not is_inside(IssuerUrl(url), base_url):
        return None
    base, place = _canonical_pair(IssuerUrl(url), base_url)
    parts = [part for part in (prefix, place[len(base) + 1 :]) if part]
    return ObjectKey("/".join(parts)) if place != base else None


def common_folder(keys: Iterable[ObjectKey]) -> str:
    """The longest prefix that ends with a slash (or is empty) and that all keys share (at least one is given)."""
    ordered = sorted(keys)
    first, last = ordered[0], ordered[-1]
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first.rfind("/", 0, length) + 1]


def repository_paths(issuer: IssuerUrl) -> RepositoryPaths:
    """The files of a valid issuer in the git repository; a port stays part of the host's folder."""
    place = issuer.removesuffix("/").removeprefix("https://")
    return RepositoryPaths(
        discovery=f"public/{place}/{_DISCOVERY}",
        jwks=f"public/{place}/{_JWKS}",
        ledger=f"ledger/{place}/keys.json",
        signature=f"ledger/{place}/keys.json.jws",
    )


def path_conflicts(places: Iterable[PublishLocation]) -> tuple[PathConflict, ...]:
    """Every pair of issuers of which one's published path equals, or is a directory above, another's.

    Paths are compared as (store, object key) and, case-folded, as repository paths: git work trees may stand on
    file systems that ignore case. Issuers must be valid and inside their base URL. Takes O(n log n).
    """
    pairs: dict[tuple[int, int], PathConflict] = {}
    owned = sorted((path, number, place) for number, place in enumerate(places) for path in _paths(place))
    upper_path, upper_number, upper = "\0", -1, None
    for path, number, place in owned:
        if upper is None or not path.startswith(upper_path):
            upper_path, upper_number, upper = path, number, place
        else:  # no two paths of one issuer lie below each other
            pairs.setdefault((upper_number, number), PathConflict(upper, place, _shown(upper_path)))
    return tuple(pairs[pair] for pair in sorted(pairs))


def _paths(place: PublishLocation) -> Iterator[str]:
    # Each ends with a slash: after sorting, paths below a path follow it directly, and `a` is not above `ab`.
    discovery, jwks = object_keys(place.issuer, place.base_url, place.prefix)
    files = repository_paths(place.issuer)
    yield from (f"s3\0{place.store}\0{key}/" for key in (discovery, jwks))
    yield from (f"git\0{path.casefold()}/" for path in (files.discovery, files.jwks, files.ledger, files.signature))


def _shown(path: str) -> str:
    return path.rpartition("\0")[2].removesuffix("/")
