"""How responses are judged: status, content type and encoding give a code, and error sentences are safe to print."""

import json
import ssl
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from mirror.apiserver.client import (
    DISCOVERY,
    JWKS,
    ConnectionSettings,
    DocumentRequest,
    HttpResponse,
    LoginMethod,
    _request,
    check_response,
    date_of,
    retry_after_seconds,
)
from support.askers import limits
from support.captures import capture


@pytest.mark.parametrize(
    ("apiserver", "host", "target"),
    [
        ("https://[::1]:6443", "[::1]:6443", "/openid/v1/jwks"),
        ("https://10.0.0.1:443/", "10.0.0.1", "/openid/v1/jwks"),
        ("https://API.example.com/k8s/clusters/c-1", "api.example.com", "/k8s/clusters/c-1/openid/v1/jwks"),
    ],
    ids=["IPv6", "default port", "prefix"],
)
def test_request_names_its_host(apiserver: str, host: str, target: str) -> None:
    """As RFC 9110, section 7.2: the brackets of an IPv6 address stay, the default port is left out."""
    access = ConnectionSettings(ssl.create_default_context(), token="t")
    request = _request(apiserver, JWKS, access, limits())
    assert request.headers[0] == (b"Host", host.encode())
    assert request.headers[-1] == (b"Authorization", b"Bearer t")
    assert request.url.target == target.encode()


def code(document: DocumentRequest, reply: HttpResponse, login: LoginMethod = "anonymous") -> str:
    reason = check_response(document, reply, login, max_body_bytes=10)
    return reason.code if reason else "taken"


def ok(content_type: str, **headers: str) -> HttpResponse:
    return HttpResponse(200, {"content-type": content_type, **headers}, b"{}")


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        (DISCOVERY, "application/json"),
        (DISCOVERY, "Application/JSON; charset=utf-8"),
        (JWKS, "application/jwk-set+json"),
        (JWKS, "application/jwk-set+json;charset=UTF-8"),
        (JWKS, "application/json"),
    ],
    ids=["discovery", "discovery-charset", "jwks", "jwks-charset", "jwks-as-json"],
)
def test_right_content_type_is_taken(document: DocumentRequest, content_type: str) -> None:
    """Only the media type decides. Case and parameters do not matter."""
    assert code(document, ok(content_type)) == "taken"


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        (DISCOVERY, "application/jwk-set+json"),
        (DISCOVERY, ""),
        (DISCOVERY, "text/html"),
        (DISCOVERY, "application/json, application/json"),
        (JWKS, "text/plain"),
        (JWKS, "application/jsonp"),
    ],
    ids=["jwks-for-discovery", "none", "login-page", "sent-twice", "plain", "prefix"],
)
def test_other_content_type_is_refused(document: DocumentRequest, content_type: str) -> None:
    """Any other media type is `wrong_content_type`."""
    assert code(document, ok(content_type)) == "wrong_content_type"


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", ""], ids=["gzip", "br", "list", "empty"])
def test_compressed_answer_is_refused(encoding: str) -> None:
    """Only a response without content coding is accepted."""
    assert code(DISCOVERY, ok("application/json", **{"content-encoding": encoding})) == "wrong_content_encoding"


def test_identity_encoding_is_taken() -> None:
    """`Content-Encoding: identity`, in any case, is no coding."""
    assert code(DISCOVERY, ok("application/json", **{"content-encoding": "Identity"})) == "taken"


def test_cut_answer_is_too_large() -> None:
    """A body over the limit is rejected, and the sentence gives the limit."""
    reason = check_response(
        DISCOVERY,
        HttpResponse(200, {"content-type": "application/json"}, b"{}", complete=False),
        "token",
        max_body_bytes=4096,
    )
    assert reason is not None
    assert (reason.code, "4096" in reason.sentence) == ("too_large", True)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (201, "bad_status"),
        (204, "bad_status"),
        (206, "bad_status"),
        (304, "bad_status"),
        (301, "redirect"),
        (302, "redirect"),
        (303, "redirect"),
        (307, "redirect"),
        (308, "redirect"),
        (400, "bad_status"),
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not_found"),
        (405, "bad_status"),
        (406, "not_acceptable"),
        (408, "timeout"),
        (429, "rate_limited"),
        (500, "server_error"),
        (502, "server_error"),
        (599, "server_error"),
        (600, "bad_status"),
    ],
)
def test_status_gives_its_code(status: int, expected: str) -> None:
    """Every status except 200 is rejected with its stable code."""
    assert code(JWKS, HttpResponse(status, {"content-type": "application/json"}, b"")) == expected


@pytest.mark.parametrize(
    ("login", "status", "words"),
    [
        ("anonymous", 403, "--group=system:unauthenticated"),
        ("token", 403, "--group=system:serviceaccounts"),
        ("certificate", 403, "--user=NAME"),
        ("anonymous", 401, "auth.token_file"),
        ("token", 401, "renewed before it expires"),
        ("certificate", 401, "client CA"),
    ],
)
def test_remedy_fits_the_login(login: LoginMethod, status: int, words: str) -> None:
    """The remedy for 401 and 403 fits the configured login."""
    reason = check_response(DISCOVERY, HttpResponse(status, {}, b""), login, max_body_bytes=10)
    assert reason is not None
    assert words in reason.remedy


def test_forbidden_names_the_cluster_role() -> None:
    """The remedy of an anonymous 403 is a complete command for the ClusterRoleBinding (facts.md#15)."""
    reason = check_response(DISCOVERY, HttpResponse(403, {}, b""), "anonymous", max_body_bytes=10)
    assert reason is not None
    assert (
        "kubectl create clusterrolebinding oidc-mirror --clusterrole=system:service-account-issuer-discovery "
        "--group=system:unauthenticated"
    ) in reason.remedy


def test_message_of_a_status_object_is_reported() -> None:
    """The sentence quotes the apiserver's own message for a 403, but not the rest of its JSON."""
    raw = capture("01-rsa1/nobody-discovery")
    reason = check_response(DISCOVERY, HttpResponse(403, {}, raw.body()), "certificate", max_body_bytes=10)
    assert reason is not None
    assert 'User "lab-nobody" cannot get path "/.well-known/openid-configuration"' in reason.sentence
    assert "apiVersion" not in reason.sentence


@pytest.mark.parametrize(
    "body",
    [b"x" * 100_000, b"\x1b[31m\x00\xff" * 100, "\u202eabc\u2066".encode() * 50, b'{"message":"' + b"\\" * 9_999],
    ids=["long", "control-characters", "bidirectional", "backslashes"],
)
def test_hostile_body_is_short_and_printable(body: bytes) -> None:
    """For any error body, the sentence stays short and shows only printable characters."""
    reason = check_response(DISCOVERY, HttpResponse(500, {}, body), "anonymous", max_body_bytes=10)
    assert reason is not None
    assert reason.sentence.isprintable()
    assert len(reason.sentence) < 2_500


TOKEN = "S3cr3t+t0ken/Of.a_kind=="
ECHOES = {
    "body": HttpResponse(400, {}, f"bad header: Authorization: Bearer {TOKEN}".encode()),
    "status-object": HttpResponse(401, {}, json.dumps({"message": f"token {TOKEN} is bad"}).encode()),
    "location": HttpResponse(302, {"location": f"https://elsewhere.example/?t={TOKEN}"}, b""),
    "location-percent-encoded": HttpResponse(
        302, {"location": f"https://elsewhere.example/?t={quote(TOKEN, safe='')}"}, b""
    ),
    "content-type": HttpResponse(200, {"content-type": f"text/{TOKEN}"}, b""),
    "content-encoding": HttpResponse(200, {"content-type": "application/json", "content-encoding": TOKEN}, b""),
    "cut": HttpResponse(500, {}, b"you sent: " + TOKEN.encode()[:-2], complete=False),
}


@pytest.mark.parametrize("reply", ECHOES.values(), ids=ECHOES)
def test_echoed_token_is_not_printed(reply: HttpResponse) -> None:
    """A response that repeats our Authorization header never puts the token into the sentence, in any case."""
    reason = check_response(DISCOVERY, reply, "token", max_body_bytes=10, secret=TOKEN)
    assert reason is not None
    assert "s3cr3t" not in str(reason).lower()


def test_document_that_has_the_token_in_it_is_taken() -> None:
    """What a sentence must not repeat says nothing about the document."""
    reply = HttpResponse(200, {"content-type": "application/json"}, b"{}")
    assert check_response(DISCOVERY, reply, "token", max_body_bytes=10, secret="json") is None


def test_echoed_token_is_replaced_where_it_stood() -> None:
    """Only the token is replaced. The text around it is still reported."""
    reason = check_response(DISCOVERY, ECHOES["body"], "token", max_body_bytes=10, secret=TOKEN)
    assert reason is not None
    assert "Authorization: Bearer ***" in reason.sentence


def test_redirect_names_its_target_without_user_info() -> None:
    """The target of a redirect is reported without its password."""
    reply = HttpResponse(302, {"location": "https://user:pass@elsewhere.example/login"}, b"")
    reason = check_response(DISCOVERY, reply, "anonymous", max_body_bytes=10)
    assert reason is not None
    assert "https://elsewhere.example/login" in reason.sentence
    assert "pass" not in reason.sentence


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
    ids=["imf", "rfc850", "asctime"],
)
def test_every_http_date_is_read(text: str) -> None:
    """The three date forms of RFC 9110 give the same aware UTC time."""
    assert date_of(HttpResponse(200, {"date": text}, b"")) == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"date": ""},
        {"date": "yesterday"},
        {"date": "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT"},
        {"date": "Sun, 99 Nov 1994 08:49:37 GMT"},
        {"date": "Fri, 31 Dec 9999 23:59:59 -2359"},
        {"date": "x" * 10_000},
    ],
    ids=["absent", "empty", "words", "twice", "no-such-day", "after-all-time", "long"],
)
def test_unreadable_date_is_none(headers: dict[str, str]) -> None:
    """A Date header that cannot be read counts as absent."""
    assert date_of(HttpResponse(200, headers, b"")) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1", 1), (" 30 ", 30), ("0", 0), ("", None), ("-1", None), ("1.5", None), ("\u0661", None), ("9" * 400, None)],
    ids=["one", "spaces", "zero", "empty", "negative", "fraction", "arabic-digit", "huge"],
)
def test_retry_after_counts_seconds(text: str, seconds: int | None) -> None:
    """Only a plain number of seconds is accepted."""
    assert retry_after_seconds(HttpResponse(429, {"retry-after": text}, b"")) == seconds
