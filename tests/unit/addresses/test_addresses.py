"""Issuer rules, bucket hosts, object keys, repository paths, and conflicts between issuers."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.addresses import (
    BucketUrl,
    PublishLocation,
    RepositoryPaths,
    bucket_url,
    canonical_url,
    default_base_url,
    discovery_url,
    is_aws_endpoint,
    is_host,
    is_inside,
    is_legacy_url,
    is_port,
    issuer_problems,
    issuer_warnings,
    jwks_uri,
    object_keys,
    path_conflicts,
    repository_paths,
    split_url,
    url_problems,
)
from mirror.model import IssuerUrl

BASE = "https://oidc-bucket.s3.ap-southeast-2.amazonaws.com"
LEDGERS = "ledger/oidc-bucket.s3.ap-southeast-2.amazonaws.com"

GOOD_ISSUERS = (
    f"{BASE}/cluster/identifier",
    f"{BASE}/cluster/identifier/",
    BASE,
    f"{BASE}/",
    "https://oidc.example.com:8443/a",
    "https://xn--bcher-kva.example/~a/_b/-c/d.e",
    "https://a.example/" + "x" * 237,
)
BAD_ISSUERS: tuple[tuple[str, set[str]], ...] = (
    ("", {"url_not_https"}),
    ("oidc.example.com/a", {"url_not_https"}),
    ("https:/oidc.example.com", {"url_not_https"}),
    ("https://", {"url_not_https"}),
    ("https:///a", {"url_not_https"}),
    ("HTTPS://oidc.example.com", {"url_not_https"}),
    ("http://oidc.example.com", {"url_not_https"}),
    (" https://oidc.example.com", {"url_not_https"}),
    ("https://oidc.example.com\n", {"url_bad_host"}),
    ("https://oidc.example.com/a\n", {"url_bad_path"}),
    ("https://oidc.example.com/a\tb", {"url_bad_path"}),
    ("https://OIDC.example.com", {"url_host_upper_case"}),
    ("https://oidc_example.com", {"url_bad_host"}),
    ("https://oidc..example.com", {"url_bad_host"}),
    ("https://oidc.example.com.", {"url_bad_host"}),
    ("https://-oidc.example.com", {"url_bad_host"}),
    ("https://bücher.example", {"url_bad_host"}),
    ("https://" + "a." * 130 + "example", {"url_bad_host", "issuer_too_long"}),
    ("https://user@oidc.example.com", {"url_user_info"}),
    ("https://@oidc.example.com", {"url_user_info"}),
    ("https://oidc.example.com:", {"url_bad_port"}),
    ("https://oidc.example.com:0", {"url_bad_port"}),
    ("https://oidc.example.com:0443", {"url_bad_port"}),
    ("https://oidc.example.com:65536", {"url_bad_port"}),
    ("https://oidc.example.com:99999999999", {"url_bad_port"}),
    ("https://oidc.example.com?", {"url_query"}),
    ("https://oidc.example.com/a?b=c", {"url_query"}),
    ("https://oidc.example.com/a#", {"url_fragment"}),
    ("https://oidc.example.com//", {"url_bad_path"}),
    ("https://oidc.example.com/a//b", {"url_bad_path"}),
    ("https://oidc.example.com/a//", {"url_bad_path"}),
    ("https://oidc.example.com/a/../b", {"url_bad_path"}),
    ("https://oidc.example.com/.git/a", {"url_bad_path"}),
    ("https://oidc.example.com/GIT~1", {"url_bad_path"}),
    ("https://oidc.example.com/a%2fb", {"url_bad_path"}),
    ("https://oidc.example.com/a+b", {"url_bad_path"}),
    ("https://oidc.example.com/a b", {"url_bad_path"}),
    ("https://oidc.example.com/ä", {"url_bad_path"}),
    ("https://oidc.example.com\\a", {"url_bad_host"}),
    ("https://a.example/" + "x" * 238, {"issuer_too_long"}),
    ("https://localhost", {"issuer_private_host"}),
    ("https://a.localhost", {"issuer_private_host"}),
    ("https://kubernetes.default.svc", {"issuer_private_host"}),
    ("https://kubernetes.default.svc.cluster.local", {"issuer_private_host"}),
    ("https://printer.local/a", {"issuer_private_host"}),
    ("https://10.0.0.1", {"issuer_ip_address"}),
    ("https://127.1", {"issuer_ip_address"}),
    ("https://2130706433", {"issuer_ip_address"}),
    ("https://0x7f.0x1", {"issuer_ip_address"}),
    ("https://[::1]", {"issuer_ip_address"}),
    ("https://[::g]", {"url_bad_host", "issuer_ip_address"}),
    ("https://[::1", {"url_bad_host", "url_bad_port", "issuer_ip_address"}),
    (
        "http://u@A.example:x/.a?b#c",
        {
            "url_not_https",
            "url_user_info",
            "url_host_upper_case",
            "url_bad_port",
            "url_bad_path",
            "url_query",
            "url_fragment",
        },
    ),
)


@pytest.mark.parametrize("issuer", GOOD_ISSUERS)
def test_public_issuer_is_accepted(issuer: str) -> None:
    """An https URL of plain segments is accepted, with or without a final slash."""
    assert issuer_problems(issuer, allow_private=False) == ()


@pytest.mark.parametrize(("issuer", "codes"), BAD_ISSUERS, ids=[repr(issuer[:50]) for issuer, _ in BAD_ISSUERS])
def test_bad_issuer_gives_every_reason(issuer: str, codes: set[str]) -> None:
    """Every broken rule is reported at once, each with a sentence and a remedy."""
    reasons = issuer_problems(issuer, allow_private=False)
    assert {reason.code for reason in reasons} == codes
    assert all(reason.sentence.endswith(".") and reason.remedy.endswith(".") for reason in reasons)


@pytest.mark.parametrize("host", ["localhost", "a.svc", "a.svc.cluster.local", "a.local", "127.0.0.1", "[::1]:8443"])
def test_private_issuer_is_accepted_when_allowed(host: str) -> None:
    """`allow_private_issuer` accepts hosts that no cloud can reach. All other rules still apply."""
    assert issuer_problems(f"https://{host}/a", allow_private=True) == ()
    assert issuer_problems(f"https://{host}/.a", allow_private=True) != ()


def test_issuer_with_port_is_a_warning() -> None:
    """A port is allowed, with a warning."""
    assert [reason.code for reason in issuer_warnings("https://a.example:8443")] == ["issuer_port"]
    assert issuer_warnings("https://a.example") == ()


def test_base_url_may_be_long_and_private() -> None:
    """A base URL must be a valid URL. The issuer rules for length and public hosts do not apply."""
    assert url_problems("https://127.0.0.1:9000/" + "x" * 300) == ()
    assert [reason.code for reason in url_problems("ftp://a")] == ["url_not_https"]


@given(st.text())
def test_any_text_is_cut_without_loss(text: str) -> None:
    """Cutting never fails, and an accepted issuer has nothing outside its scheme, host, port and path."""
    parts = split_url(text)
    assert parts.text == text
    if not issuer_problems(text, allow_private=True):
        port = "" if parts.port is None else f":{parts.port}"
        assert f"https://{parts.host}{port}{parts.path}" == text
        assert text.isascii()
        assert text.isprintable()


def test_split_url_distinguishes_absent_from_empty() -> None:
    """An empty component, such as an empty port, is distinguished from an absent one."""
    parts = split_url("https://u:p@[::1]:8443/a?b#c")
    assert (parts.user_info, parts.host, parts.port, parts.path) == ("u:p", "[::1]", "8443", "/a")
    assert (parts.query, parts.fragment) == ("?b", "#c")
    assert split_url("https://a:").port == ""
    assert split_url("https://a").port is None


def test_host_and_port_grammar() -> None:
    """Zone ids, upper case and overlong names are rejected as hosts. A port has no sign."""
    assert is_host("a-b.example")
    assert not is_host("[fe80::1%eth0]")
    assert not is_host("[::A]")
    assert not is_host("a" * 64)
    assert is_port("65535")
    assert not is_port("+1")


LEGACY = "https://oidc-bucket.s3.amazonaws.com"
SAME_BUCKET = (
    "https://oidc-bucket.s3.ap-southeast-2.amazonaws.com",
    "https://oidc-bucket.s3-ap-southeast-2.amazonaws.com",
    "https://oidc-bucket.s3.dualstack.ap-southeast-2.amazonaws.com",
    "https://s3.ap-southeast-2.amazonaws.com/oidc-bucket",
    "https://s3-ap-southeast-2.amazonaws.com/oidc-bucket",
    "https://s3.dualstack.ap-southeast-2.amazonaws.com/oidc-bucket",
)


@pytest.mark.parametrize("style", SAME_BUCKET)
@pytest.mark.parametrize("base", SAME_BUCKET)
def test_issuer_in_any_style_of_the_bucket_is_inside(style: str, base: str) -> None:
    """Every S3 host style of the bucket names the same object."""
    keys = object_keys(IssuerUrl(f"{style}/cluster/a"), base, "")
    assert keys == ("cluster/a/.well-known/openid-configuration", "cluster/a/openid/v1/jwks")


@pytest.mark.parametrize("base", SAME_BUCKET)
def test_issuer_at_the_legacy_global_host_is_inside_an_old_region(base: str) -> None:
    """An issuer cannot be changed later. In old regions, DNS resolves the legacy host to the bucket's own region."""
    keys = object_keys(IssuerUrl(f"{LEGACY}/cluster/a"), base, "")
    assert keys == ("cluster/a/.well-known/openid-configuration", "cluster/a/openid/v1/jwks")


@pytest.mark.parametrize(
    ("issuer", "base"),
    [
        pytest.param(LEGACY, "https://oidc-bucket.s3.ap-southeast-4.amazonaws.com", id="new-region"),
        pytest.param(LEGACY, "https://oidc-bucket.s3.cn-north-1.amazonaws.com.cn", id="china"),
        pytest.param(LEGACY, "https://other.s3.ap-southeast-2.amazonaws.com", id="other-bucket"),
        pytest.param("https://s3.amazonaws.com/oidc-bucket", SAME_BUCKET[0], id="path-style-redirects"),
        pytest.param("https://oidc-bucket.s3-external-1.amazonaws.com", SAME_BUCKET[0], id="us-east-1-alone"),
    ],
)
def test_legacy_global_host_does_not_serve(issuer: str, base: str) -> None:
    """Where S3 would refuse or redirect, the issuer is outside."""
    assert not is_inside(IssuerUrl(f"{issuer}/a"), base)


def test_legacy_global_host_is_reported() -> None:
    """A warning appears only for a bucket outside us-east-1, because it depends on DNS."""
    assert is_legacy_url(f"{LEGACY}/a", "ap-southeast-2")
    assert not is_legacy_url(f"{LEGACY}/a", "us-east-1")
    assert not is_legacy_url(f"{SAME_BUCKET[0]}/a", "ap-southeast-2")


@pytest.mark.parametrize(
    ("url", "bucket", "region"),
    [
        ("https://b-1.s3.amazonaws.com/x", "b-1", "us-east-1"),
        ("https://s3.amazonaws.com/b-1/x", "b-1", "us-east-1"),
        ("https://s3-external-1.amazonaws.com/b-1/x", "b-1", "us-east-1"),
        ("https://b-1.s3-fips.us-gov-west-1.amazonaws.com/x", "b-1", "us-gov-west-1"),
        ("https://s3-fips-us-gov-west-1.amazonaws.com/b-1/x", "b-1", "us-gov-west-1"),
        ("https://b-1.s3.cn-north-1.amazonaws.com.cn/x", "b-1", "cn-north-1"),
        ("https://s3.cn-north-1.amazonaws.com.cn/b-1/x", "b-1", "cn-north-1"),
        ("https://b-1.s3.eusc-de-east-1.amazonaws.eu/x", "b-1", "eusc-de-east-1"),
        ("https://s3.s3.eu-west-1.amazonaws.com/x", "s3", "eu-west-1"),
    ],
)
def test_s3_url_names_its_bucket(url: str, bucket: str, region: str) -> None:
    """Partitions, the global host and bucket names that look like hosts are parsed correctly."""
    assert bucket_url(url) == BucketUrl(bucket, region, "/x")
    assert canonical_url(url) == default_base_url(bucket, region) + "/x"


@pytest.mark.parametrize(
    "url",
    [
        "http://b-1.s3.eu-west-1.amazonaws.com/x",
        "https://s3.eu-west-1.amazonaws.com",
        "https://s3.eu-west-1.amazonaws.com/",
        "https://b-1.s3.eu-west-1.amazonaws.com.evil.example/x",
        "https://b-1.s3.cn-north-1.amazonaws.com/x",
        "https://b-1.s3.eu-west-1.amazonaws.com.cn/x",
        "https://a.b.s3.eu-west-1.amazonaws.com/x",
        "https://b-1.s3.eu-west-1.amazonaws.com:8443/x",
        "https://s3-eu-west-1.example.com/b-1",
        "https://b-1.s3x.eu-west-1.amazonaws.com",
    ],
)
def test_url_elsewhere_names_no_bucket(url: str) -> None:
    """A URL that only resembles S3 names no bucket."""
    assert bucket_url(url) is None
    assert canonical_url(url) == url


def test_aws_endpoint_is_distinguished_from_others() -> None:
    """Only hosts under AWS's own domains count as AWS."""
    assert is_aws_endpoint("https://s3.eu-west-1.amazonaws.com")
    assert is_aws_endpoint("https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com:443/x")
    assert not is_aws_endpoint("https://amazonaws.com.evil.example")
    assert not is_aws_endpoint("")


@pytest.mark.parametrize(
    ("issuer", "base", "prefix", "folder"),
    [
        (BASE, BASE, "", ""),
        (f"{BASE}/", BASE, "", ""),
        (f"{BASE}/a/b/", BASE, "", "a/b/"),
        (f"{BASE}/a/b", f"{BASE}/a", "a", "a/b/"),
        (f"{BASE}/a", f"{BASE}/a", "a", "a/"),
        ("https://oidc.example.com/x", "https://oidc.example.com", "live/oidc", "live/oidc/x/"),
        ("https://oidc.example.com:8443/x", "https://oidc.example.com:8443/x", "", ""),
    ],
)
def test_object_keys_are_prefix_and_rest_of_the_path(issuer: str, base: str, prefix: str, folder: str) -> None:
    """The key is the prefix plus the path after base_url, without the issuer's final slash."""
    keys = object_keys(IssuerUrl(issuer), base, prefix)
    assert keys == (f"{folder}.well-known/openid-configuration", f"{folder}openid/v1/jwks")


@pytest.mark.parametrize(
    ("issuer", "base"),
    [
        (f"{BASE}/ab", f"{BASE}/a"),
        (BASE, f"{BASE}/a"),
        ("https://other.s3.ap-southeast-2.amazonaws.com/a", BASE),
        ("https://oidc-bucket.s3.eu-west-1.amazonaws.com/a", BASE),
        ("https://s3.ap-southeast-2.amazonaws.com/oidc-bucket-2/a", BASE),
        ("https://oidc.example.com:8443/a", "https://oidc.example.com"),
    ],
)
def test_issuer_outside_base_url_is_refused(issuer: str, base: str) -> None:
    """The issuer must have base_url's host, port, bucket and region. Its path must match on segment boundaries."""
    with pytest.raises(ValueError, match="is not inside"):
        object_keys(IssuerUrl(issuer), base, "")


def test_public_urls_drop_one_slash() -> None:
    """Document URLs are built on the issuer without its final slash."""
    for issuer in (IssuerUrl(f"{BASE}/a"), IssuerUrl(f"{BASE}/a/")):
        assert jwks_uri(issuer) == f"{BASE}/a/openid/v1/jwks"
        assert discovery_url(issuer) == f"{BASE}/a/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("issuer", "place"),
    [("https://a.example/b/c", "a.example/b/c"), ("https://a.example/", "a.example"), ("https://a:8443", "a:8443")],
)
def test_repository_paths_follow_host_and_path(issuer: str, place: str) -> None:
    """Files are stored under host and path. An empty path and a port work too."""
    assert repository_paths(IssuerUrl(issuer)) == RepositoryPaths(
        discovery=f"public/{place}/.well-known/openid-configuration",
        jwks=f"public/{place}/openid/v1/jwks",
        ledger=f"ledger/{place}/keys.json",
        signature=f"ledger/{place}/keys.json.jws",
    )


def _place(path: str, *, base: str = BASE, store: str = "/b", prefix: str = "") -> PublishLocation:
    return PublishLocation(f"{base}{path}", IssuerUrl(f"{base}{path}"), store, base, prefix)


@pytest.mark.parametrize(
    ("first", "second", "path"),
    [
        (_place("/a"), _place("/a/"), f"{LEDGERS}/a/keys.json.jws"),
        (_place("/a"), _place("/A"), f"{LEDGERS}/a/keys.json.jws"),
        (_place("/a"), _place("/a/openid/v1/jwks"), "a/openid/v1/jwks"),
        (_place("/a"), _place("/a/openid/v1/jwks/b"), "a/openid/v1/jwks"),
        (_place("/a"), _place("/a/keys.json"), f"{LEDGERS}/a/keys.json"),
        (
            _place("/a"),
            _place("/a/keys.json.jws"),
            f"{LEDGERS}/a/keys.json.jws",
        ),
        (_place("/a"), _place("/x", base="https://c.example", prefix="a/openid/v1/jwks"), "a/openid/v1/jwks"),
    ],
)
@pytest.mark.parametrize("turn", [lambda *pair: pair, lambda *pair: pair[::-1]], ids=["in order", "reversed"])
def test_covering_paths_conflict(
    first: PublishLocation,
    second: PublishLocation,
    path: str,
    turn: Callable[..., tuple[PublishLocation, PublishLocation]],
) -> None:
    """Equal paths and a path above another are found in any order, once per pair."""
    conflicts = path_conflicts(turn(first, second))
    assert [{it.first, it.second} for it in conflicts] == [{first, second}]
    assert conflicts[0].path.endswith(path)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (_place("/a"), _place("/a/b")),
        (_place("/a"), _place("/ab")),
        (_place("/a"), _place("/a-b")),
        (_place(""), _place("/a")),
        (_place("/a"), _place("/a", base="https://c.example", store="/other")),
    ],
)
def test_issuers_in_sibling_folders_do_not_conflict(first: PublishLocation, second: PublishLocation) -> None:
    """Sibling folders, names with a common beginning, and other buckets do not conflict."""
    assert path_conflicts((first, second)) == ()


def test_one_covers_several() -> None:
    """Each covered issuer is reported, even if sorting does not place it next to the covering one."""
    places = (_place("/a"), _place("/a/openid/v1/jwks/x"), _place("/a/openid/v1/jwks/y"))
    assert [(it.first, it.second) for it in path_conflicts(places)] == [(places[0], places[1]), (places[0], places[2])]


def test_ten_thousand_issuers_are_compared_without_pairs() -> None:
    """The comparison is not quadratic: ten thousand issuers take far less time than comparing all pairs."""
    places = [_place(f"/team-{number % 100}/cluster-{number}") for number in range(10_000)]
    started = time.process_time()
    assert path_conflicts(places) == ()
    assert time.process_time() - started < 5
