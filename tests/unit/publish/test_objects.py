from datetime import date

import pytest

from mirror.config.settings import FormerIssuer, Issuer, Publish
from mirror.model import Documents, IssuerName, IssuerUrl
from mirror.publish.objects import public_objects

BASE = "https://bucket.s3.ap-southeast-2.amazonaws.com"
DASHED = "https://bucket.s3-ap-southeast-2.amazonaws.com"
DOCUMENTS = Documents(discovery=b"discovery", jwks=b"jwks")


def issuer_of(url: str, **publish: str) -> Issuer:
    settings = Publish(bucket="bucket", region="ap-southeast-2", base_url=BASE, **publish)  # type: ignore[arg-type] # only text settings are varied
    return Issuer(name=IssuerName("syd"), issuer=IssuerUrl(url), publish=settings)


def test_two_documents_jwks_comes_first() -> None:
    """The JWKS must be put before the discovery document that may name its algorithms."""
    jwks, discovery = public_objects(issuer_of(f"{BASE}/a/b"), IssuerUrl(f"{BASE}/a/b"), DOCUMENTS)
    assert (jwks.key, jwks.body, jwks.content_type) == ("a/b/openid/v1/jwks", b"jwks", "application/jwk-set+json")
    assert (discovery.key, discovery.body) == ("a/b/.well-known/openid-configuration", b"discovery")
    assert discovery.content_type == "application/json"
    assert jwks.cache_control == discovery.cache_control == "public, max-age=300"


@pytest.mark.parametrize(
    ("issuer", "prefix", "key", "url"),
    [
        pytest.param(BASE, "", "openid/v1/jwks", f"{BASE}/openid/v1/jwks", id="bare-host"),
        pytest.param(f"{BASE}/a/", "", "a/openid/v1/jwks", f"{BASE}/a/openid/v1/jwks", id="trailing-slash"),
        pytest.param(f"{DASHED}/a", "", "a/openid/v1/jwks", f"{DASHED}/a/openid/v1/jwks", id="dash-host-kept-in-url"),
        pytest.param(f"{BASE}/a", "p/q", "p/q/a/openid/v1/jwks", f"{BASE}/a/openid/v1/jwks", id="prefix"),
    ],
)
def test_issuer_text_makes_key_and_url(issuer: str, prefix: str, key: str, url: str) -> None:
    """The key is relative to the base URL, the public URL is made of the issuer's own text."""
    jwks, _ = public_objects(issuer_of(issuer, prefix=prefix), IssuerUrl(issuer), DOCUMENTS)
    assert (jwks.key, jwks.url) == (key, url)


def test_former_issuer_has_its_own_objects() -> None:
    """A former issuer's text makes other keys under the settings of its entry."""
    former = FormerIssuer(IssuerUrl(f"{BASE}/old"), date(2027, 1, 31))
    jwks, discovery = public_objects(issuer_of(f"{BASE}/new"), former.issuer, DOCUMENTS)
    assert (jwks.key, discovery.url) == ("old/openid/v1/jwks", f"{BASE}/old/.well-known/openid-configuration")


def test_configured_headers_are_used() -> None:
    """Content type of the JWKS and cache control are the operator's."""
    entry = issuer_of(f"{BASE}/a", jwks_content_type="application/json", cache_control="public, max-age=60")
    jwks, discovery = public_objects(entry, entry.issuer, DOCUMENTS)
    assert (jwks.content_type, jwks.cache_control) == ("application/json", "public, max-age=60")
    assert discovery.cache_control == "public, max-age=60"


def test_issuer_outside_of_base_url_is_refused() -> None:
    """An issuer that the bucket does not serve must never become an object somewhere in it."""
    with pytest.raises(ValueError, match="not inside"):
        public_objects(issuer_of(f"{BASE}/a"), IssuerUrl("https://other.example.com/a"), DOCUMENTS)
