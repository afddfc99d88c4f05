"""Which objects are put, for each difference between bucket and git.

The time from which a key may sign: Last-Modified + max-age + 5 minutes, and the default for a missing max-age.
"""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.config.settings import FormerIssuerSettings, Issuer, PublishSettings
from mirror.model import (
    Documents,
    ETag,
    IssuerName,
    IssuerUrl,
    Level,
    ListedObject,
    ObjectKey,
    PublicObject,
    StoredObject,
)
from mirror.ports import PublicResponse
from mirror.publish.drift import (
    Action,
    Deferred,
    DriftContext,
    PutObject,
    etag_of,
    max_age_of,
    max_age_seconds,
    needs_body,
    plan_object,
    public_objects,
    safe_to_sign_at,
    signing_window,
    stored_body,
)
from support.fakes import MOMENT

KEY = ObjectKey("cluster/openid/v1/jwks")
WANTED = PublicObject(KEY, "https://bucket.example.com/cluster/openid/v1/jwks", b"new", "application/jwk-set+json", "x")
OLD = b"old"
SNAPSHOT = "a" * 40


def listed(body: bytes, etag: str | None = None) -> ListedObject:
    return ListedObject(KEY, ETag(etag) if etag else etag_of(body), len(body), MOMENT)


def stored(body: bytes, snapshot: str | None = None) -> StoredObject:
    return StoredObject(body, etag_of(body), "text/plain", "", snapshot, MOMENT)


KNOWN = DriftContext(committed=frozenset({OLD}))


@pytest.mark.parametrize(
    ("line", "needed"),
    [
        (None, False),
        (listed(b"new"), False),
        (listed(OLD), False),
        (listed(b"else"), True),
        (listed(b"new", "kms"), True),
    ],
    ids=["absent", "as_meant", "earlier_state", "unknown", "etag_is_no_md5"],
)
def test_body_is_read_only_if_the_listing_does_not_decide(line: ListedObject | None, *, needed: bool) -> None:
    """A pass over unchanged objects needs no GET."""
    assert needs_body(WANTED, line, frozenset({OLD})) is needed


def test_absent_object_is_created() -> None:
    """A missing object is created by a put on the condition that it is still missing."""
    assert plan_object(WANTED, None, None, KNOWN) == (PutObject(WANTED, Action.CREATE, None), None)


def test_object_as_meant_is_left_alone() -> None:
    """An object with the desired bytes needs no put, whether the listing or its body shows it."""
    assert plan_object(WANTED, listed(b"new"), None, KNOWN) == (None, None)
    assert plan_object(WANTED, listed(b"new", "kms"), stored(b"new"), KNOWN) == (None, None)


def test_earlier_state_is_updated_without_alarm() -> None:
    """An earlier state from git is replaced on the condition of its ETag, and is not drift."""
    assert plan_object(WANTED, listed(OLD), None, KNOWN) == (PutObject(WANTED, Action.UPDATE, etag_of(OLD)), None)
    assert plan_object(WANTED, listed(OLD, "kms"), replace(stored(OLD), etag=ETag("kms")), KNOWN) == (
        PutObject(WANTED, Action.UPDATE, ETag("kms")),
        None,
    )


def test_foreign_body_is_drift_and_repaired() -> None:
    """Another writer changed a trust anchor (facts.md#37): an error event, and a put on the condition of that ETag."""
    decision, event = plan_object(WANTED, listed(b"evil"), stored(b"evil"), KNOWN)
    assert decision == PutObject(WANTED, Action.REPAIR, etag_of(b"evil"))
    assert event is not None
    assert (event.name, event.level) == ("bucket.drift", Level.ERROR)
    assert event.fields["etag"] == etag_of(b"evil")


def test_other_mirror_without_a_shared_remote_is_repaired_with_advice() -> None:
    """The object names an unknown commit, so two mirrors have no common history: the event advises a shared remote."""
    facts = replace(KNOWN, is_other_mirror=True)
    decision, event = plan_object(WANTED, listed(b"else"), stored(b"else", SNAPSHOT), facts)
    assert decision == PutObject(WANTED, Action.REPAIR, etag_of(b"else"))
    assert event is not None
    assert "repository.remote" in event.sentence


@pytest.mark.parametrize(("there", "is_wrong"), [(b"else", True), (OLD, False)], ids=["drift", "our_earlier_state"])
def test_put_that_has_to_wait_waits(there: bytes, *, is_wrong: bool) -> None:
    """The put is deferred with its reason; an event reports the object if it is known to be wrong."""
    decision, event = plan_object(WANTED, listed(there), stored(there), replace(KNOWN, waits_for="take a key away"))
    assert isinstance(decision, Deferred)
    assert decision.is_wrong is is_wrong
    assert "take a key away" in decision.event.sentence
    assert (event is not None) is is_wrong


def test_body_that_changed_since_the_listing_waits() -> None:
    """The body may be newer than the fetched history, so the next pass decides."""
    decision, event = plan_object(WANTED, listed(b"listed"), stored(b"newer"), KNOWN)
    assert isinstance(decision, Deferred)
    assert not decision.is_wrong
    assert event is None


def test_standing_body_is_known_from_the_etag_alone() -> None:
    """The ETag in the listing identifies the body without a GET, if it is one of ours."""
    assert stored_body(WANTED, listed(OLD), None, frozenset({OLD})) == OLD
    assert stored_body(WANTED, listed(b"new"), None, frozenset()) == b"new"
    assert stored_body(WANTED, listed(b"else"), None, frozenset({OLD})) is None
    assert stored_body(WANTED, None, None, frozenset({OLD})) is None


@given(st.builds(DriftContext, committed=st.just(frozenset({OLD})), waits_for=st.text()), st.booleans())
def test_object_as_meant_is_left_alone_whatever_else_is_known(facts: DriftContext, read: bool) -> None:
    """An object with the desired bytes is never put, so a pass need not compute the rest of the context."""
    assert plan_object(WANTED, listed(b"new"), stored(b"new", SNAPSHOT) if read else None, facts) == (None, None)


BASE = "https://bucket.s3.ap-southeast-2.amazonaws.com"
DASHED = "https://bucket.s3-ap-southeast-2.amazonaws.com"
DOCUMENTS = Documents(discovery=b"discovery", jwks=b"jwks")


def issuer_of(url: str, **publish: str) -> Issuer:
    settings = PublishSettings(bucket="bucket", region="ap-southeast-2", base_url=BASE, **publish)  # type: ignore[arg-type] # only text settings are varied
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
    """The object key is relative to the base URL; the public URL is the issuer's own text."""
    jwks, _ = public_objects(issuer_of(issuer, prefix=prefix), IssuerUrl(issuer), DOCUMENTS)
    assert (jwks.key, jwks.url) == (key, url)


def test_former_issuer_has_its_own_objects() -> None:
    """A former issuer has its own object keys, with the settings of its entry."""
    former = FormerIssuerSettings(IssuerUrl(f"{BASE}/old"), date(2027, 1, 31))
    jwks, discovery = public_objects(issuer_of(f"{BASE}/new"), former.issuer, DOCUMENTS)
    assert (jwks.key, discovery.url) == ("old/openid/v1/jwks", f"{BASE}/old/.well-known/openid-configuration")


def test_configured_headers_are_used() -> None:
    """The configuration sets the content type of the JWKS and the cache control."""
    entry = issuer_of(f"{BASE}/a", jwks_content_type="application/json", cache_control="public, max-age=60")
    jwks, discovery = public_objects(entry, entry.issuer, DOCUMENTS)
    assert (jwks.content_type, jwks.cache_control) == ("application/json", "public, max-age=60")
    assert discovery.cache_control == "public, max-age=60"


def test_issuer_outside_of_base_url_is_refused() -> None:
    """An issuer outside of the base URL is rejected, so that it never becomes an object of the bucket."""
    with pytest.raises(ValueError, match="not inside"):
        public_objects(issuer_of(f"{BASE}/a"), IssuerUrl("https://other.example.com/a"), DOCUMENTS)


AT = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def test_key_is_safe_after_max_age_and_margin() -> None:
    """08:00 plus 300 s of caching plus five minutes of clock differences is 08:10."""
    assert safe_to_sign_at(AT, 300) == datetime(2026, 11, 23, 8, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("public, max-age=300", 300),
        ("max-age=0", 0),
        ("MAX-AGE = 60 , public", 60),
        ('max-age="90"', 90),
        ("max-age=60, s-maxage=600", 600),
        ("s-maxage=60, max-age=600", 600),
        ("max-age=60, max-age=120", 120),
        ("", None),
        ("public", None),
        ("max-age", None),
        ("max-age=", None),
        ("max-age=-1", None),
        ("max-age=1e9", None),
        ("max-age=9999999999", None),
        ("x-max-age=5", None),
        ("no-max-age=5", None),
    ],
)
def test_longest_age_of_the_header_counts(text: str, seconds: int | None) -> None:
    """The larger of max-age and s-maxage counts; a value that is not a whole number of seconds is ignored."""
    assert max_age_of(text) == seconds


@pytest.mark.parametrize(("text", "seconds"), [("max-age=60", 60), ("max-age=0", 0), ("public", 3600)])
def test_unsaid_age_counts_as_the_longest(text: str, seconds: int) -> None:
    """Without a max-age caches choose the time themselves, so the longest allowed one is assumed. 0 stays 0."""
    assert max_age_seconds(PublicResponse(b"", "application/jwk-set+json", text, AT, 0.1)) == seconds


@pytest.mark.parametrize("last_modified", [AT, None], ids=["said", "unsaid"])
def test_window_needs_a_last_modified(last_modified: datetime | None) -> None:
    """The time is computed from the document's headers; without Last-Modified there is none."""
    found = signing_window(PublicResponse(b"", "application/jwk-set+json", "max-age=300", last_modified, 0.1))
    expected = None if last_modified is None else safe_to_sign_at(AT, 300)
    assert (None if found is None else found.safe_to_sign_at) == expected
