"""The difference between two similar issuers, and the configured issuer that was probably meant."""

import pytest

from mirror.addresses.issuer_urls import closest_issuer, describe_difference
from mirror.model import IssuerUrl

ISSUER = IssuerUrl("https://oidc-bucket.s3-ap-southeast-2.amazonaws.com/cluster/identifier")


@pytest.mark.parametrize(
    ("other", "part"),
    [
        (ISSUER + "/", "only in the trailing slash"),
        (ISSUER.replace("cluster", "Cluster"), "only in upper and lower case"),
        (f" {ISSUER}\n", "only in surrounding blanks"),
        (ISSUER.replace("https", "http"), "only in the scheme"),
        (ISSUER.removeprefix("https://"), "only in the scheme"),
        ("https://oidc-bucket.s3.ap-southeast-2.amazonaws.com/cluster/identifier", "two host styles"),
        ("https://s3.ap-southeast-2.amazonaws.com/oidc-bucket/cluster/identifier", "two host styles"),
        (ISSUER + "/more", "it goes on where the issuer ends"),
        (ISSUER.removesuffix("/identifier"), "it ends where the issuer goes on"),
        (ISSUER.replace("identifier", "identifyer"), "they differ from character 68 on"),
        ("", "from character 1 on"),
    ],
)
def test_difference_is_named(other: str, part: str) -> None:
    """The simplest explanation that fits is given, as the end of a sentence."""
    assert part in describe_difference(other, ISSUER)


def test_nearest_issuer_is_the_most_alike() -> None:
    """A typing error is recognised. A dissimilar text matches nothing."""
    others = (IssuerUrl("https://keys.example.com/a"), ISSUER, IssuerUrl("https://keys.example.com/b"))
    assert closest_issuer(ISSUER + "/", others) == ISSUER
    assert closest_issuer("https://s3.ap-southeast-2.amazonaws.com/oidc-bucket/cluster/identifier", others) == ISSUER
    assert closest_issuer("https://keys.example.com/b/", others) == "https://keys.example.com/b"
    assert closest_issuer("kubernetes/serviceaccount", others) is None
    assert closest_issuer("x", ()) is None
    assert closest_issuer("y" * 20_000, others) is None
