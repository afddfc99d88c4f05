"""An apiserver's answer changes git or the bucket only if it is accepted: attacks on the whole program."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import apiserver
from support.apiserver import Responder, always, raw_answer
from support.captures import RawAnswer, capture, captures
from support.s3 import S3Server
from support.worlds import Done, World, running_world

ONE = "01-rsa1/anonymous-bound-"
MOST_BYTES = 150 * 1000 * 1000
SLACK_SECONDS = 10.0
"""For a busy machine; a pass that ignored its deadline would take minutes."""

pytestmark = pytest.mark.s3


@pytest.fixture
def world(s3_server: S3Server, tmp_path: Path) -> Iterator[World]:
    with running_world(s3_server, tmp_path) as made:
        made.show(ONE, ONE)
        assert made.mirror("--once").status == 0
        yield made


def assert_refused(world: World, done: Done, *codes: str) -> None:
    """Exit 1; issuer, apiserver, reason and remedy are named; no traceback; in time; in little memory."""
    assert done.status == 1
    assert "Traceback" not in done.out + done.err
    assert "syd-prod: failed" in done.out
    assert world.replicas[0].url in done.out
    assert "remedy: " in done.out
    assert any(code in done.out for code in codes), done.out
    assert done.seconds < 5 + SLACK_SECONDS
    assert 0 < done.peak_bytes < MOST_BYTES


RESPONDERS: list[tuple[str, Responder, tuple[str, ...]]] = [
    ("dribbled_headers", apiserver.dribble_headers, ("timeout",)),
    ("dribbled_body", apiserver.dribble_body, ("timeout",)),
    ("endless_headers", apiserver.endless_headers, ("timeout", "not_http", "too_large")),
    ("endless_body", apiserver.endless_body, ("too_large",)),
    ("endless_error_body", apiserver.endless_error_body, ("not_found",)),
    ("never_answers", apiserver.never_answer, ("timeout",)),
    ("reset_in_body", apiserver.reset_in_body, ("unreachable",)),
    ("redirect", always(raw_answer("302 Found", location="https://elsewhere.example.com/")), ("redirect",)),
    ("empty_200", always(raw_answer("200 OK", content_type="application/json")), ("not_json", "wrong_content_type")),
    ("html", always(raw_answer("200 OK", b"<html>", content_type="text/html")), ("wrong_content_type",)),
]


@pytest.mark.parametrize(("responder", "codes"), [row[1:] for row in RESPONDERS], ids=[row[0] for row in RESPONDERS])
def test_hostile_apiserver_changes_nothing(world: World, responder: Responder, codes: tuple[str, ...]) -> None:
    """Whatever the replicas do, the last good state stays public and committed."""
    before = world.state()
    world.respond_with(responder)
    done = world.mirror("--once", is_measured=True)
    assert_refused(world, done, *codes)
    assert world.state() == before


def test_hung_handshakes_end_in_time(world: World) -> None:
    """An apiserver that accepts and never shakes hands (facts.md#18) costs one total deadline."""
    before = world.state()
    for replica in world.replicas:
        replica.greeting = "hang"
    assert_refused(world, world.mirror("--once", is_measured=True), "timeout")
    assert world.state() == before


REFUSED = {
    (each.status(), each.header("content-type"), each.header("www-authenticate")): each
    for each in captures()
    if each.status() != 200 and each.body()
}
"""One capture of each kind; that every single one is refused is shown in tests/attacks/test_apiservers.py."""


def test_captured_refusal_changes_nothing(world: World) -> None:
    """A non-200 answer of the real apiserver for both documents: rejected, reported, and nothing changed."""
    before = world.state()
    for raw in REFUSED.values():
        world.respond_with(always(raw.raw))
        done = world.mirror("--once")
        assert (raw.name, done.status, world.state()) == (raw.name, 1, before)
        assert "remedy: " in done.out
        assert "Traceback" not in done.out + done.err


DISGUISED = [
    ("wrong_issuer", "06-issuer-https-default/anonymous-discovery", f"{ONE}jwks", "wrong_issuer"),
    ("discovery_as_jwks", f"{ONE}discovery", f"{ONE}discovery", "jwks"),
    ("jwks_as_discovery", f"{ONE}jwks", f"{ONE}jwks", "discovery"),
]


@pytest.mark.parametrize(
    ("discovery", "jwks", "word"), [row[1:] for row in DISGUISED], ids=[row[0] for row in DISGUISED]
)
def test_wrong_documents_change_nothing(world: World, discovery: str, jwks: str, word: str) -> None:
    """Documents that are not this issuer's two are rejected on one replica too, and reported."""
    before = world.state()
    world.answer(world.replicas[0], capture(discovery), capture(jwks))
    done = world.mirror("--once", is_measured=True)
    assert_refused(world, done, word)
    assert world.state() == before


def test_403_of_one_replica_degrades_while_another_takes_the_credential(world: World) -> None:
    """A replica that has just started answers 403 for a moment: it changes nothing, and causes no alert."""
    before = world.state()
    world.answer(world.replicas[0], capture(f"{ONE}discovery"), capture("01-rsa1/anonymous-unbound-jwks"))
    done = world.mirror("--once")
    assert (done.status, "syd-prod: degraded" in done.out, "forbidden" in done.out) == (0, True, True)
    assert world.state() == before


WEAK = b'{"keys":[{"use":"sig","kty":"RSA","kid":"weak","alg":"RS256","n":"AQAB","e":"AQAB"}]}'
PRIVATE = b'{"keys":[{"use":"sig","kty":"EC","kid":"x","crv":"P-256","alg":"ES256","x":"AA","y":"AA","d":"AA"}]}'


@pytest.mark.parametrize(("body", "code"), [(WEAK, "weak_key"), (PRIVATE, "private_key")], ids=["weak", "private"])
def test_bad_key_is_refused_although_another_replica_is_good(world: World, body: bytes, code: str) -> None:
    """One replica with a bad key: its answer is unusable, the pass fails, the good keys stay."""
    before = world.state()
    raw = raw_answer("200 OK", body, content_type="application/jwk-set+json")
    world.answer(world.replicas[0], capture(f"{ONE}discovery"), RawAnswer("bad", raw))
    done = world.mirror("--once", "--output", "json")
    assert done.status == 1
    reasons = done.report()["issuers"][0]["apiservers"][0]["reasons"]
    assert code in {reason["code"] for reason in reasons}
    assert world.state() == before
