"""Which objects of a configuration stand in one bucket."""

from dataclasses import replace
from datetime import date
from pathlib import Path

from mirror.config.settings import FormerIssuerSettings, Issuer, PublishSettings, RepositorySettings, Settings
from mirror.federation.provision.bucket import document_keys, in_same_bucket, written_alike
from mirror.model import IssuerName, IssuerUrl

BASE = "https://b.s3.eu-west-1.amazonaws.com"
HERE = PublishSettings("b", "eu-west-1", BASE)


def issuer(name: str, publish: PublishSettings, *former: str) -> Issuer:
    old = tuple(FormerIssuerSettings(IssuerUrl(f"{BASE}/{each}"), date(2030, 1, 1)) for each in former)
    return Issuer(IssuerName(name), IssuerUrl(f"{BASE}/{name}"), publish, former_issuers=old)


SETTINGS = Settings(
    Path("state"),
    RepositorySettings(Path("git")),
    (
        issuer("a", HERE, "old"),
        issuer("b", replace(HERE, role_arn="arn:aws:iam::111122223333:role/other")),
        issuer("c", replace(HERE, endpoint_url="https://s3.eu-west-1.amazonaws.com", prefix="x", base_url=BASE)),
        issuer("d", replace(HERE, endpoint_url="https://store.example.com")),
        issuer("e", replace(HERE, bucket="another")),
    ),
)


def test_bucket_is_the_same_whichever_way_its_endpoint_is_written() -> None:
    """AWS's own endpoint written out is AWS; another store's bucket of that name is another bucket."""
    assert [each.name for each in in_same_bucket(SETTINGS, HERE)] == ["a", "b", "c"]


def test_writer_is_identified_by_its_credentials() -> None:
    """Issuers that another role writes need no right of this one."""
    assert [each.name for each in written_alike(SETTINGS, HERE)] == ["a", "c"]


def test_keys_are_those_of_every_document_former_issuers_included() -> None:
    """Two objects an issuer text, below the prefix of its settings."""
    assert document_keys(in_same_bucket(SETTINGS, HERE)) == (
        "a/.well-known/openid-configuration",
        "a/openid/v1/jwks",
        "b/.well-known/openid-configuration",
        "b/openid/v1/jwks",
        "old/.well-known/openid-configuration",
        "old/openid/v1/jwks",
        "x/c/.well-known/openid-configuration",
        "x/c/openid/v1/jwks",
    )
