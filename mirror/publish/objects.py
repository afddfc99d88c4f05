"""The two objects of an issuer as they should stand in the bucket. Pure."""

from mirror.addresses import discovery_url, jwks_uri, object_keys
from mirror.config.settings import Issuer
from mirror.model import MEDIA_TYPE_DISCOVERY, Documents, IssuerUrl, PublicObject


def public_objects(issuer: Issuer, issuer_url: IssuerUrl, documents: Documents) -> tuple[PublicObject, PublicObject]:
    """The JWKS, then the discovery document: in this order they are put.

    A new discovery document may name an algorithm whose first key is new too; put first, it would for a moment promise
    keys that are not there (fact 2).

    Args:
        issuer: The configured entry, whose `publish` says where and how.
        issuer_url: The issuer's own text, or that of one of its former issuers: relying parties make the URLs of it.
        documents: The exact bytes.

    Raises:
        ValueError: `issuer_url` is outside of `publish.base_url`, which a valid configuration excludes.
    """
    publish = issuer.publish
    discovery_key, jwks_key = object_keys(issuer_url, publish.base_url, publish.prefix)
    jwks = PublicObject(
        jwks_key, jwks_uri(issuer_url), documents.jwks, publish.jwks_content_type, publish.cache_control
    )
    discovery = PublicObject(
        discovery_key, discovery_url(issuer_url), documents.discovery, MEDIA_TYPE_DISCOVERY, publish.cache_control
    )
    return jwks, discovery
