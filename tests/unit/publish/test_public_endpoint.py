"""Anonymous reads of public URLs: the request, the connections, the limits, and the reasons for failures."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirror.config.settings import ReadbackSettings
from mirror.model import CommitId, ObjectKey, PublicObject
from mirror.ports import PublicFailure, PublicResponse
from mirror.publish.public_endpoint import TOTAL_SECONDS, PublicHttpClient, cause_of_status, compare
from mirror.publish.s3 import S3Bucket
from support.apiserver import Apiserver, Connection, raw_answer
from support.proxy import Proxy
from support.s3 import Store
from support.tls import ca_file
from support.web import BODY, HEADERS, HOST, URL, public_host, readback_of

pytestmark = pytest.mark.server

OBJECT = PublicObject(ObjectKey("id/openid/v1/jwks"), URL, BODY, HEADERS["content_type"], HEADERS["cache_control"])
SEEN = PublicResponse(BODY, OBJECT.content_type, OBJECT.cache_control, None, 0.1)
GOOD = raw_answer("200 OK", BODY, **HEADERS)


@pytest.fixture
def host() -> Iterator[Apiserver]:
    with public_host() as server:
        server.respond_with(lambda connection, _: connection.send(GOOD))
        yield server


def test_published_object_is_seen_whole(web: PublicHttpClient, host: Apiserver, tmp_path: Path) -> None:
    """The result has the bytes, both headers, the date in UTC and the duration."""
    look = web.get_document(URL, readback=readback_of(host, tmp_path))
    assert isinstance(look, PublicResponse)
    assert (look.body, look.content_type, look.cache_control) == (BODY, OBJECT.content_type, OBJECT.cache_control)
    assert look.last_modified == datetime(2026, 11, 23, 8, tzinfo=UTC)
    assert 0 < look.seconds < 5
    assert compare(look, OBJECT) == ()


@pytest.mark.parametrize(
    ("coding", "is_seen"), [("gzip", False), ("br", False), ("aws-chunked", False), ("identity", True)]
)
def test_content_coding_is_never_accepted(
    web: PublicHttpClient, host: Apiserver, tmp_path: Path, coding: str, is_seen: bool
) -> None:
    """The request accepts no encoding, because clients without support for one would fail."""
    host.respond_with(
        lambda connection, _: connection.send(raw_answer("200 OK", BODY, content_encoding=coding, **HEADERS))
    )
    look = web.get_document(URL, readback=readback_of(host, tmp_path))
    assert isinstance(look, PublicResponse) is is_seen
    if isinstance(look, PublicFailure):
        assert (look.reason.code, coding in look.reason.sentence) == ("content_coding", True)


def test_request_is_that_of_an_anonymous_relying_party(web: PublicHttpClient, host: Apiserver, tmp_path: Path) -> None:
    """The request has the URL's own host, our name, and nothing that identifies a user."""
    web.get_document(URL, readback=readback_of(host, tmp_path))
    (request,) = host.requests
    assert (request.method, request.target, request.headers["host"]) == ("GET", "/id/openid/v1/jwks", HOST)
    assert request.headers["user-agent"] == "oidc-mirror"
    assert not {"authorization", "cookie"} & set(request.headers)


def test_cookie_of_the_host_is_not_kept(web: PublicHttpClient, host: Apiserver, tmp_path: Path) -> None:
    """A cookie from the host is not sent back: every read is anonymous."""
    host.respond_with(lambda connection, _: connection.send(raw_answer("200 OK", BODY, set_cookie="a=b", **HEADERS)))
    readback = readback_of(host, tmp_path)
    assert all(isinstance(web.get_document(URL, readback=readback), PublicResponse) for _ in range(2))
    assert "cookie" not in host.requests[1].headers


def test_connections_are_kept_between_looks(web: PublicHttpClient, host: Apiserver, tmp_path: Path) -> None:
    """Two reads from one host share a connection."""
    readback = readback_of(host, tmp_path)
    assert all(isinstance(web.get_document(URL, readback=readback), PublicResponse) for _ in range(2))
    assert host.connections == 1


def test_connection_is_not_shared_between_names(web: PublicHttpClient, host: Apiserver, tmp_path: Path) -> None:
    """With `connect_to` each host name has its own connection, so that TLS verifies each name."""
    readback = readback_of(host, tmp_path)
    assert isinstance(web.get_document(URL, readback=readback), PublicResponse)
    other = web.get_document("https://evil.example.com/id/openid/v1/jwks", readback=readback)
    assert isinstance(other, PublicFailure)
    assert other.reason.code == "tls_wrong_name"
    assert len(host.requests) == 1


def test_many_threads_look_at_once(web: PublicHttpClient, host: Apiserver, tmp_path: Path) -> None:
    """Sixteen threads can share one client."""
    readback = readback_of(host, tmp_path)
    with ThreadPoolExecutor(16) as pool:
        looks = tuple(pool.map(lambda _: web.get_document(URL, readback=readback), range(48)))
    assert all(isinstance(look, PublicResponse) for look in looks)


def test_closed_view_looks_again(host: Apiserver, tmp_path: Path) -> None:
    """`close` may be called at any time and repeatedly; the next read opens a new connection."""
    view = PublicHttpClient()
    view.close()
    assert isinstance(view.get_document(URL, readback=readback_of(host, tmp_path)), PublicResponse)
    view.close()
    view.close()
    assert isinstance(view.get_document(URL, readback=readback_of(host, tmp_path)), PublicResponse)
    view.close()


def test_look_in_flight_ends_with_the_view(host: Apiserver, tmp_path: Path) -> None:
    """`close` cancels a read that hangs; its thread gets a result, not an exception."""
    view = PublicHttpClient(total_seconds=60)
    readback = readback_of(host, tmp_path)
    with ThreadPoolExecutor(1) as closer:

        def close_the_view(connection: Connection, _: bytes) -> None:
            closer.submit(view.close)
            connection.wait()

        host.respond_with(close_the_view)
        look = view.get_document(URL, readback=readback)
    assert isinstance(look, PublicFailure)
    assert look.reason.code == "cancelled"


@pytest.mark.s3
@pytest.mark.parametrize("style", ["s3.ap-southeast-2", "s3-ap-southeast-2"], ids=["dot", "dash"])
def test_bucket_host_of_either_style_is_read(web: PublicHttpClient, store: Store, style: str) -> None:
    """A real S3 server is read under the issuer's host name, with a dot or a dash after `s3`."""
    key = ObjectKey("id/.well-known/openid-configuration")
    bucket = S3Bucket(store.publish, puts=1)
    bucket.put(replace(OBJECT, key=key), snapshot=CommitId("a" * 40), expected_etag=None)
    bucket.close()
    url = f"https://{store.publish.bucket}.{style}.amazonaws.com/{key}"
    look = web.get_document(url, readback=store.publish.readback)
    assert isinstance(look, PublicResponse)
    assert compare(look, OBJECT) == ()
    missing = web.get_document(f"{url}-no", readback=store.publish.readback)
    assert isinstance(missing, PublicFailure)
    assert missing.reason.code == "not_found"


@pytest.mark.parametrize("date", [None, "yesterday", "Mon, 99 Nov 2026 08:00:00 GMT", "", "\xff"])
def test_unreadable_date_is_none(web: PublicHttpClient, host: Apiserver, tmp_path: Path, date: str | None) -> None:
    """An unreadable `Last-Modified` counts as missing; the read still succeeds."""
    headers = {name: value for name, value in HEADERS.items() if name != "last_modified"}
    dated = headers if date is None else {**headers, "last_modified": date}
    host.respond_with(lambda connection, _: connection.send(raw_answer("200 OK", BODY, **dated)))
    look = web.get_document(URL, readback=readback_of(host, tmp_path))
    assert isinstance(look, PublicResponse)
    assert look.last_modified is None


@pytest.mark.parametrize(
    ("seen", "codes"),
    [
        pytest.param(SEEN, (), id="right"),
        pytest.param(replace(SEEN, content_type="Application/JWK-Set+JSON; charset=utf-8"), (), id="media-type-params"),
        pytest.param(replace(SEEN, cache_control="max-age=300,Public"), (), id="directives-in-any-order"),
        pytest.param(replace(SEEN, body=BODY + b"\n"), ("stale_or_foreign",), id="one-byte-more"),
        pytest.param(replace(SEEN, body=b""), ("stale_or_foreign",), id="empty"),
        pytest.param(replace(SEEN, content_type="binary/octet-stream"), ("wrong_content_type",), id="s3-default-type"),
        pytest.param(replace(SEEN, content_type=""), ("wrong_content_type",), id="no-type"),
        pytest.param(replace(SEEN, cache_control=""), ("wrong_cache_control",), id="no-cache-header"),
        pytest.param(replace(SEEN, cache_control="no-store"), ("wrong_cache_control",), id="other-cache-header"),
        pytest.param(
            PublicResponse(b"x", "text/html", "private", None, 0.1),
            ("stale_or_foreign", "wrong_content_type", "wrong_cache_control"),
            id="all-at-once",
        ),
    ],
)
def test_look_is_judged(seen: PublicResponse, codes: tuple[str, ...]) -> None:
    """Every difference from the desired object is a reason with a remedy and the URL."""
    reasons = compare(seen, OBJECT)
    assert tuple(reason.code for reason in reasons) == codes
    assert all(reason.remedy and reason.where == URL for reason in reasons)


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        (301, "redirect", "elsewhere"),
        (307, "redirect", "elsewhere"),
        (401, "forbidden", "AccessDenied"),
        (403, "forbidden", "AccessDenied"),
        (404, "not_found", "404"),
        (410, "not_found", "410"),
        (204, "wrong_status", "204"),
        (500, "wrong_status", "500"),
    ],
)
def test_status_has_its_cause(status: int, code: str, word: str) -> None:
    """Each status other than 200 has its own cause, and the message has the store's error."""
    reason = cause_of_status(status, "https://elsewhere", b"<Error><Code>AccessDenied</Code></Error>")
    assert (reason.code, word in reason.sentence, bool(reason.remedy)) == (code, True, True)


@pytest.mark.parametrize(
    ("status", "code", "region", "reported"),
    [
        (301, "PermanentRedirect", "eu-west-1", True),
        (307, "TemporaryRedirect", "", False),
        (400, "IllegalLocationConstraintException", "rm; x", False),
    ],
)
def test_host_of_another_region_is_its_own_cause(status: int, code: str, region: str, reported: bool) -> None:
    """S3's redirect to another region has its own cause; the message names the region only if it is valid."""
    reason = cause_of_status(status, "", f"<Error><Code>{code}</Code></Error>".encode(), region=region)
    assert (reason.code, "region" in reason.remedy) == ("wrong_region", True)
    assert ("The bucket is in eu-west-1." in reason.sentence) == reported
    assert "rm;" not in reason.sentence


def test_changed_ca_file_is_read_again(web: PublicHttpClient, host: Apiserver, tmp_path: Path) -> None:
    """After the CA file changes, the next read uses it without a restart."""
    readback = readback_of(host, tmp_path)
    assert readback.ca_file is not None
    right = readback.ca_file.read_bytes()
    readback.ca_file.write_bytes(ca_file(tmp_path, "other").read_bytes())
    first = web.get_document(URL, readback=readback)
    assert isinstance(first, PublicFailure)
    assert first.reason.code == "tls_untrusted"
    readback.ca_file.write_bytes(right)
    assert isinstance(web.get_document(URL, readback=readback), PublicResponse)


def test_view_without_settings_asks_the_public_web(web: PublicHttpClient) -> None:
    """Without `connect_to` and a CA file, the client connects to the public address and trusts the public CAs."""
    look = web.get_document("https://127.0.0.1:1/", readback=ReadbackSettings())
    assert isinstance(look, PublicFailure)
    assert look.reason.code == "unreachable"


def test_deadline_is_five_seconds_for_every_server() -> None:
    """The limit is 5 s, as for AWS (facts.md#27)."""
    assert TOTAL_SECONDS == 5.0


def test_proxy_leads_out_where_nothing_else_does(web: PublicHttpClient, host: Apiserver, tmp_path: Path) -> None:
    """With a proxy the host name is not resolved locally; TLS is verified through the tunnel to that host."""
    direct = readback_of(host, tmp_path)
    assert direct.connect_to is not None
    with Proxy(reroute=direct.connect_to) as proxy:
        look = web.get_document(URL, readback=replace(direct, connect_to=None, proxy=proxy.url))
        assert isinstance(look, PublicResponse)
        assert look.body == BODY
        assert proxy.tunnels == [f"{HOST}:443"]


def test_proxy_that_refuses_is_named(web: PublicHttpClient, host: Apiserver, tmp_path: Path) -> None:
    """A failure of the proxy is reported with its setting, not as a DNS failure."""
    with Proxy(refuse=True) as proxy:
        look = web.get_document(URL, readback=replace(readback_of(host, tmp_path), connect_to=None, proxy=proxy.url))
    assert isinstance(look, PublicFailure)
    assert look.reason.code == "proxy"
    assert "publish.readback.proxy" in look.reason.remedy


def test_name_that_does_not_resolve_points_to_the_proxy(web: PublicHttpClient) -> None:
    """If only a proxy reaches the internet, puts succeed and the read-back fails: the remedy names the setting."""
    look = web.get_document("https://no-such-host.invalid/x", readback=ReadbackSettings())
    assert isinstance(look, PublicFailure)
    assert "publish.readback.proxy" in look.reason.remedy


def test_without_a_ca_file_the_machine_decides(
    web: PublicHttpClient, host: Apiserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's trust store counts, `SSL_CERT_FILE` included, and no CA bundle of a package."""
    alone = readback_of(host, tmp_path)
    assert alone.ca_file is not None
    monkeypatch.setenv("SSL_CERT_FILE", str(alone.ca_file))
    look = web.get_document(URL, readback=replace(alone, ca_file=None))
    assert isinstance(look, PublicResponse)
