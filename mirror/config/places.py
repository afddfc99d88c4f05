"""Rules about where one issuer is published: its bucket, and the public URL of it."""

from collections.abc import Iterator

from mirror.addresses import (
    bucket_url,
    default_base_url,
    is_aws_endpoint,
    is_global_url,
    issuer_problems,
    object_keys,
)
from mirror.config.layers import Entry, Finding
from mirror.config.problems import Location
from mirror.config.shape import Publish
from mirror.model import IssuerUrl


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


def publish_findings(entry: Entry) -> Iterator[Finding]:
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


def _inherited(entry: Entry) -> Iterator[Finding]:
    own = entry.own.get("publish")
    if not isinstance(own, dict) or "base_url" in own or entry.publish.base_url is None:
        return
    for key in sorted({"bucket", "region", "endpoint_url", "prefix"} & own.keys()):
        text = (
            f"This issuer has another {key}, but the inherited base_url {entry.publish.base_url} belongs to the"
            " inherited one. Give this issuer its own base_url, or base_url: null for the bucket's own URL."
        )
        yield ("publish", key), text


def _other_bucket(publish: Publish, base_url: str) -> Iterator[Finding]:
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


def _outside(entry: Entry, base_url: str) -> Iterator[Finding]:
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


def issuers_of(entry: Entry) -> Iterator[tuple[Location, IssuerUrl]]:
    """The valid issuers of an entry, former ones included, each with the way to it."""
    filled = entry.shape
    texts: list[tuple[Location, str]] = [(("issuer",), filled.issuer)]
    texts.extend((("former_issuers", index, "issuer"), it.issuer) for index, it in enumerate(filled.former_issuers))
    for path, text in texts:
        if path[0] not in entry.bad and not issuer_problems(text, allow_private=True):
            yield path, IssuerUrl(text)
