"""The host styles under which S3 serves one bucket, all brought to one form.

Sources: the S3 user guide, "Methods for accessing a bucket", "Dual-stack endpoints" and "Legacy endpoints";
the domains of AWS's partitions from botocore's `partitions.json`.
"""

import re
from dataclasses import dataclass

_DOMAINS = (  # region prefix, domain; the first that fits counts
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("", "amazonaws.com"),
)
_GLOBAL_REGION = "us-east-1"  # the region behind s3.amazonaws.com
# The regions from before 20 March 2019, to which DNS routes a bucket's name under s3.amazonaws.com (S3 API reference,
# "Request routing"): those launched later answer 400 there.
_ROUTED_REGIONS = frozenset(
    {
        *("us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1"),
        *("eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3"),
        *("ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-southeast-1", "ap-southeast-2"),
    }
)
_BUCKET_HOST = re.compile(
    r"(?:(?P<bucket>[a-z0-9][a-z0-9-]*)\.)?"
    r"(?:s3(?:-fips)?(?:\.dualstack)?[.](?P<dot>[a-z]+(?:-[a-z]+)+-[0-9]+)"
    r"|s3-(?:fips-)?(?P<dash>[a-z]{2,4}(?:-[a-z]+)+-[0-9]+)"
    r"|(?P<legacy>s3)|s3-external-1)"
    rf"\.(?P<domain>{'|'.join(re.escape(domain) for _, domain in _DOMAINS)})"
)


@dataclass(frozen=True, slots=True)
class BucketUrl:
    """A URL on S3 itself: which bucket, in which region, and the path in the bucket, empty or with its slash."""

    bucket: str
    region: str
    path: str


def _domain(region: str) -> str:
    return next(domain for prefix, domain in _DOMAINS if region.startswith(prefix))


def default_base_url(bucket: str, region: str) -> str:
    """The URL of a bucket in S3's recommended style: virtual-hosted, regional, without a slash at the end."""
    return f"https://{bucket}.s3.{region}.{_domain(region)}"


def bucket_url(url: str, *, home: str = _GLOBAL_REGION) -> BucketUrl | None:
    """What S3 would serve at an https URL; None when its host is none of S3's own, or belongs to no bucket.

    The legacy global host says no region. Virtual-hosted it is that of the bucket's `home`, if that region is old
    enough for DNS to lead there; path style it serves us-east-1 alone: elsewhere it redirects, and relying parties
    follow no redirect.
    """
    host, slash, rest = url.removeprefix("https://").partition("/")
    match = _BUCKET_HOST.fullmatch(host)
    if match is None or not url.startswith("https://"):
        return None
    routed = match["legacy"] and match["bucket"] and home in _ROUTED_REGIONS
    region = match["dot"] or match["dash"] or (home if routed else _GLOBAL_REGION)
    if match["domain"] != _domain(region):
        return None
    if match["bucket"] is not None:
        return BucketUrl(match["bucket"], region, slash + rest)
    bucket, slash, rest = rest.partition("/")
    return BucketUrl(bucket, region, slash + rest) if bucket else None


def canonical_url(url: str, *, home: str = _GLOBAL_REGION) -> str:
    """`url` in the default style of its bucket when it is on S3, else as it is.

    Two URLs name the same S3 object exactly when their canonical forms are equal. `home` is the bucket's region, for
    the legacy global host.
    """
    place = bucket_url(url, home=home)
    return url if place is None else default_base_url(place.bucket, place.region) + place.path


def is_legacy_url(url: str, region: str) -> bool:
    """Whether a bucket in `region` has this URL only because DNS leads S3's legacy global host there."""
    place, there = bucket_url(url), bucket_url(url, home=region)
    return place is not None and there is not None and place.region != there.region


def is_global_url(url: str) -> bool:
    """Whether the host is S3's legacy global one, which names no region."""
    match = _BUCKET_HOST.fullmatch(url.removeprefix("https://").partition("/")[0])
    return match is not None and match["legacy"] is not None


def is_aws_endpoint(endpoint_url: str) -> bool:
    """Whether an endpoint is one of AWS's own, behind which the bucket has its usual public URL."""
    host = endpoint_url.partition("://")[2].partition("/")[0].partition(":")[0]
    return any(host.endswith(f".{domain}") for _, domain in _DOMAINS)
