"""One apiserver's two documents become one observation."""

from datetime import UTC, datetime

import pytest

from mirror.model import Answer, IssuerUrl, KeyPolicy, Observed, Unusable
from mirror.trust.observe import observe
from support.captures import capture
from support.keys import RSA_KEYS, jwks_body

ISSUER = IssuerUrl("https://oidc-bucket.s3-ap-southeast-2.amazonaws.com/cluster/identifier")
DATE = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
DISCOVERY = capture("04b-rotated-away-rsa3-only/discovery").body()
JWKS = capture("04b-rotated-away-rsa3-only/jwks").body()


def look(discovery: bytes = DISCOVERY, jwks: bytes = JWKS) -> Observed | Unusable:
    answer = Answer("https://10.0.0.11:6443", discovery, jwks, DATE)
    return observe(answer, issuer=ISSUER, policy=KeyPolicy(), known=frozenset())


def test_real_answer_is_observed() -> None:
    """A real apiserver's answer is believed, with its name and date."""
    seen = look()
    assert isinstance(seen, Observed)
    assert (seen.apiserver, seen.date, len(seen.keys)) == ("https://10.0.0.11:6443", DATE, 1)
    assert seen.notes == ()


def test_notes_of_both_documents_are_kept() -> None:
    """What is worth telling comes from discovery first, then from the JWKS."""
    unknown = JWKS.replace(b'{"keys":[', b'{"keys":[{"kty":"AKP"},')
    seen = look(DISCOVERY.replace(b"/openid/v1/jwks", b"/other"), unknown)
    assert isinstance(seen, Observed)
    assert [note.code for note in seen.notes] == ["foreign_jwks_uri", "unknown_key_skipped"]


@pytest.mark.parametrize(
    ("discovery", "jwks", "codes"),
    [
        pytest.param(b"{}", JWKS, ["wrong_issuer", "wrong_response_types", "wrong_subject_types"], id="discovery"),
        pytest.param(DISCOVERY, b'{"keys":[]}', ["empty_jwks"], id="jwks"),
        pytest.param(b"<html>", b"<html>", ["not_json", "not_json"], id="both"),
        pytest.param(DISCOVERY, b'{"kind":"Status","code":401}', ["no_keys"], id="status object"),
    ],
)
def test_one_bad_document_makes_all_unusable(discovery: bytes, jwks: bytes, codes: list[str]) -> None:
    """Nothing of an apiserver is believed when one of its documents is bad, and all reasons are told at once."""
    seen = look(discovery, jwks)
    assert isinstance(seen, Unusable)
    assert [reason.code for reason in seen.reasons] == codes
    assert (seen.apiserver, seen.date) == ("https://10.0.0.11:6443", DATE)


def test_documents_of_two_clusters_do_not_mix() -> None:
    """An apiserver with the right keys and the wrong issuer is not believed."""
    other = DISCOVERY.replace(b"cluster/identifier", b"cluster/identifier2")
    seen = look(other, jwks_body(RSA_KEYS[0]))
    assert isinstance(seen, Unusable)
    assert [reason.code for reason in seen.reasons] == ["wrong_issuer"]
