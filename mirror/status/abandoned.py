"""What is still public though no configured issuer wants it: the mirror deletes nothing, it tells how to."""

from collections.abc import Iterable, Iterator, Mapping

from mirror.addresses import (
    canonical_url,
    discovery_url,
    is_aws_endpoint,
    is_inside,
    issuer_problems,
    jwks_uri,
    object_keys,
    repository_paths,
)
from mirror.config.settings import Publish
from mirror.errors import BucketError
from mirror.model import IssuerUrl, ObjectKey, Reason
from mirror.ports import Ports
from mirror.publish.publisher import reason_of
from mirror.reconcile.state import Publication
from mirror.status.result import Abandoned

MOST = 500
"""How many former issuers are looked at: who may push to the remote could list any number."""
_ENDS = ("/.well-known/openid-configuration", "/openid/v1/jwks")
_Store = tuple[str | None, str, ObjectKey]


def abandoned(
    paths: Iterable[str], publications: Iterable[Publication], ports: Ports
) -> tuple[tuple[Abandoned, ...], tuple[Reason, ...]]:
    """The public documents of issuers that git knows and the configuration does not.

    Args:
        paths: Every file of the newest snapshot below `public/`; text from outside.
        publications: All that the configuration publishes.
        ports: Where buckets are asked whether an object is still there.

    Returns:
        What is abandoned, and what could not be read or was left out.
    """
    wanted = tuple(publications)
    gone = issuers_without_configuration(paths, wanted)
    live = frozenset(_stores(wanted))
    publishes = tuple(dict.fromkeys(each.issuer.publish for each in wanted))
    found: list[Abandoned] = []
    failures: list[Reason] = []
    for issuer in gone[:MOST]:
        try:
            found += _documents(issuer, _holder(issuer, publishes), live, ports)
        except BucketError as error:
            failures.append(reason_of(error))
    if len(gone) > MOST:
        sentence = f"{len(gone) - MOST} further issuers of the git repository are not configured."
        failures.append(Reason("abandoned.many", sentence, "See who writes to the repository's folder `public`."))
    return tuple(found), tuple(dict.fromkeys(failures))


def issuers_without_configuration(paths: Iterable[str], wanted: Iterable[Publication]) -> tuple[IssuerUrl, ...]:
    """The issuers whose documents are below `public/` and that no publication names, sorted.

    A path that no valid issuer could have is nobody's document.
    """
    expected = {path for each in wanted for path in _public_paths(each.url)}
    places = (path.removesuffix(end) for path in paths for end in _ENDS if path.endswith(end) and path not in expected)
    found = (IssuerUrl(f"https://{place.removeprefix('public/')}") for place in places if place.startswith("public/"))
    return tuple(sorted({issuer for issuer in found if not issuer_problems(issuer, allow_private=True)}))


def _public_paths(issuer: IssuerUrl) -> tuple[str, str]:
    paths = repository_paths(issuer)
    return paths.discovery, paths.jwks


def _stores(wanted: Iterable[Publication]) -> Iterator[_Store]:
    """Every object that is wanted, wherever it is: one bucket has several host styles, so two issuers may share it."""
    for each in wanted:
        publish = each.issuer.publish
        for key in object_keys(each.url, publish.base_url, publish.prefix):
            yield publish.endpoint_url, publish.bucket, key


def _holder(issuer: IssuerUrl, publishes: Iterable[Publish]) -> Publish | None:
    """The settings of the bucket that holds the issuer's URL, the closest one."""
    fitting = [each for each in publishes if is_inside(issuer, each.base_url)]
    return max(fitting, key=lambda each: len(canonical_url(each.base_url)), default=None)


def _documents(
    issuer: IssuerUrl, publish: Publish | None, live: frozenset[_Store], ports: Ports
) -> Iterator[Abandoned]:
    urls = (discovery_url(issuer), jwks_uri(issuer))
    if publish is None:
        yield from (Abandoned(url) for url in urls)
        return
    for url, key in zip(urls, object_keys(issuer, publish.base_url, publish.prefix), strict=True):
        if (publish.endpoint_url, publish.bucket, key) in live or ports.bucket(publish).head(key) is None:
            continue
        s3_url = f"s3://{publish.bucket}/{key}"
        yield Abandoned(url, s3_url, ("aws", "s3", "rm", s3_url, *_options(publish)))


def _options(publish: Publish) -> Iterator[str]:
    given: Mapping[str, str | None] = {
        "--region": publish.region,
        "--profile": publish.profile,
        "--endpoint-url": None
        if publish.endpoint_url is None or is_aws_endpoint(publish.endpoint_url)
        else publish.endpoint_url,
    }
    for name, value in given.items():
        if value is not None:
            yield from (name, value)
