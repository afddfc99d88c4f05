"""The public documents as anonymous requests receive them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.check.public import public
from mirror.model import Reason
from mirror.ports import AccessSettings, PublicFailure, PublicResponse
from mirror.reconcile.state import PublishedIssuer, publications
from support.captures import capture
from support.check_clients import reported
from support.situations import BOTH, DISCOVERY_KEY, ISSUER, JWKS_KEY, ONE, Situation

FORBIDDEN = Reason("forbidden", "Not public.", "Open it.")


@pytest.fixture
def situation(tmp_path: Path) -> Situation:
    made = Situation(tmp_path)
    made.run(ONE, ONE)
    return made


def publication(situation: Situation) -> PublishedIssuer:
    return publications(situation.settings())[0]


def looked(situation: Situation) -> list[tuple[str, str]]:
    world = situation.world
    return reported(public(publication(situation), world.web, world.ports().bucket).findings)


def test_published_documents_are_ok_and_their_keys_known(situation: Situation) -> None:
    """Both documents are ok, and the keys that relying parties find in them are known."""
    result = public(publication(situation), situation.world.web, situation.world.ports().bucket)
    assert reported(result.findings) == [("ok", "public.seen"), ("ok", "public.seen"), ("ok", "public.believed")]
    assert result.keys is not None
    assert len(result.keys) == 1


def test_nothing_published_yet_is_a_warning(tmp_path: Path) -> None:
    """The bucket shows whether nothing is published yet or a policy hides the documents."""
    fresh = Situation(tmp_path)
    fresh.world.bucket.open = AccessSettings(exists=False)
    assert looked(fresh) == [("warning", "public.nothing_yet")] * 2


def test_hidden_documents_are_failures(situation: Situation) -> None:
    """The finding has the cause and the remedy of the read-back."""
    situation.world.web.blocked = FORBIDDEN
    assert looked(situation) == [("failed", "public.forbidden")] * 2


def test_bucket_that_cannot_be_asked_hides_no_failure(tmp_path: Path) -> None:
    """If the bucket cannot be queried, a forbidden document is still a failure, not "nothing there yet"."""
    fresh = Situation(tmp_path)
    fresh.world.web.blocked = FORBIDDEN
    assert looked(fresh) == [("failed", "public.forbidden")] * 2


def test_cause_of_a_hidden_document_is_what_the_bucket_says(situation: Situation) -> None:
    """Block Public Access is named as the cause, as in a pass."""
    situation.world.web.blocked = FORBIDDEN
    situation.world.bucket.open = AccessSettings(exists=True, blocks=("RestrictPublicBuckets",))
    assert looked(situation) == [("failed", "public.block_public_access")] * 2


def test_wrong_headers_are_failures(situation: Situation) -> None:
    """Each wrong header is its own finding."""
    situation.world.bucket.write(JWKS_KEY, situation.public() or b"", "binary/octet-stream", "no-store")
    assert looked(situation)[1:3] == [("failed", "public.wrong_content_type"), ("failed", "public.wrong_cache_control")]


@pytest.mark.parametrize(
    ("key", "body", "code"),
    [
        (JWKS_KEY, b'{"keys":[]}', "public.empty_jwks"),
        (DISCOVERY_KEY, b"<html>", "public.not_json"),
    ],
)
def test_rejected_document_fails(situation: Situation, key: str, body: bytes, code: str) -> None:
    """A relying party would reject the document."""
    stored = situation.world.bucket.objects
    before = next(each for name, each in stored.items() if name == key)
    situation.world.bucket.write(key, body, before.content_type, before.cache_control)
    assert looked(situation)[-1] == ("failed", code)


def test_foreign_jwks_uri_in_public_fails(situation: Situation) -> None:
    """A foreign jwks_uri sends relying parties to another publisher's keys."""
    body = (situation.public(DISCOVERY_KEY) or b"").replace(b"/openid/v1/jwks", b"/evil")
    situation.world.bucket.write(DISCOVERY_KEY, body, "application/json", "public, max-age=300")
    assert looked(situation)[-1] == ("failed", "public.foreign_jwks_uri")


def test_slow_answer_is_a_warning(situation: Situation) -> None:
    """AWS times out after five seconds."""

    class Slowly:
        def get_document(self, url: str, *, readback: object) -> PublicResponse | PublicFailure:
            look = situation.world.web.get_document(url, readback=publication(situation).issuer.publish.readback)
            return replace(look, seconds=3.0) if isinstance(look, PublicResponse) else look

    result = public(publication(situation), Slowly(), situation.world.ports().bucket)
    assert reported(result.findings)[:2] == [("warning", "public.slow")] * 2


def test_switched_off_readback_is_honoured(situation: Situation) -> None:
    """No request is sent."""
    one = publication(situation)
    publish = one.issuer.publish
    off = replace(publish, readback=replace(publish.readback, enabled=False))
    asked = len(situation.world.web.looks)
    silent = replace(one, issuer=replace(one.issuer, publish=off))
    assert reported(public(silent, situation.world.web, situation.world.ports().bucket).findings) == [
        ("note", "public.not_looked")
    ]
    assert len(situation.world.web.looks) == asked


def test_two_keys_are_counted(situation: Situation) -> None:
    """After a rotation, both keys are public."""
    situation.run(BOTH, BOTH)
    result = public(publication(situation), situation.world.web, situation.world.ports().bucket)
    assert result.findings[-1].sentence.endswith("2 keys.")


def test_documents_of_another_tool_ask_for_adoption(tmp_path: Path) -> None:
    """No document of this mirror exists before a takeover, and no first pass publishes one. The operator runs adopt."""
    fresh = Situation(tmp_path)
    document = json.loads(capture("01-rsa1/anonymous-bound-discovery").body()) | {"jwks_uri": f"{ISSUER}/keys.json"}
    fresh.world.bucket.write(DISCOVERY_KEY, json.dumps(document).encode())
    result = public(publication(fresh), fresh.world.web, fresh.world.ports().bucket)
    assert reported(result.findings) == [("warning", "public.takeover")]
    assert f"{ISSUER}/keys.json" in result.findings[0].sentence
    assert "oidc-mirror adopt syd-prod" in result.findings[0].remedy
