"""Which objects of the configuration stand in one bucket. Pure."""

from collections.abc import Iterator

from mirror.addresses import is_aws_endpoint, object_keys
from mirror.config.settings import Issuer, PublishSettings, Settings
from mirror.model import IssuerUrl, ObjectKey


def issuer_urls(issuer: Issuer) -> tuple[IssuerUrl, ...]:
    """Every text under which the issuer's keys are public: its own, then its former ones."""
    return (issuer.issuer, *(former.issuer for former in issuer.former_issuers))


def in_same_bucket(settings: Settings, publish: PublishSettings) -> tuple[Issuer, ...]:
    """All issuers of the configuration whose documents stand in the bucket of `publish`."""
    return tuple(each for each in settings.issuers if _store(each.publish) == _store(publish))


def written_alike(settings: Settings, publish: PublishSettings) -> tuple[Issuer, ...]:
    """Those of `in_same_bucket` that the mirror writes with the same credentials as `publish` names."""
    identity = (publish.profile, publish.role_arn)
    return tuple(
        each for each in in_same_bucket(settings, publish) if (each.publish.profile, each.publish.role_arn) == identity
    )


def document_keys(issuers: tuple[Issuer, ...]) -> tuple[ObjectKey, ...]:
    """The keys of both documents of every issuer, former ones included; sorted, none twice."""
    return tuple(sorted({key for issuer in issuers for key in _keys(issuer)}))


def _store(publish: PublishSettings) -> tuple[str, str]:
    """One bucket: however AWS's own endpoint is written, its names are unique."""
    endpoint = publish.endpoint_url or ""
    return ("" if is_aws_endpoint(endpoint) else endpoint, publish.bucket)


def _keys(issuer: Issuer) -> Iterator[ObjectKey]:
    for url in issuer_urls(issuer):
        yield from object_keys(url, issuer.publish.base_url, issuer.publish.prefix)
