"""Which discovery documents are accepted.

The rendered public documents equal the bytes of kube-apiserver.

The two documents of an apiserver become one observation.
"""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given

from mirror.errors import UsageError
from mirror.model import (
    Answer,
    Documents,
    IssuerUrl,
    Key,
    KeyPolicy,
    KeyRecord,
    Ledger,
    Observed,
    Revocation,
    Status,
    Unusable,
    key_id,
)
from mirror.trust.discovery import RULES, BelievedAnswers, Discovery, documents, observe, read_discovery, render
from mirror.trust.jwks import KeySet, read_jwks
from support.captures import RawAnswer, capture, captures
from support.keys import EC_KEYS, RSA_KEYS, jwks_body, with_kid
from support.strategies import issuers, key_sets

ANSWERS = tuple(each for each in captures() if each.status() == 200 and each.body().startswith(b'{"issuer":'))
ISSUER = IssuerUrl("https://oidc.example.com/one")
URI = "https://oidc.example.com/one/openid/v1/jwks"
GOOD = {
    "issuer": ISSUER,
    "jwks_uri": URI,
    "response_types_supported": ["id_token"],
    "subject_types_supported": ["public"],
}


def read(document: dict[str, object]) -> object:
    return read_discovery(json.dumps(document).encode(), issuer=ISSUER, jwks_uri=URI)


def test_captures_are_there() -> None:
    """The table below is not empty."""
    assert len(ANSWERS) >= 20


@pytest.mark.parametrize("answer", ANSWERS, ids=[each.name for each in ANSWERS])
def test_real_answers_are_accepted(answer: RawAnswer) -> None:
    """Every captured discovery document of a real kube-apiserver is accepted for its own issuer."""
    document = json.loads(answer.body())
    issuer, uri = IssuerUrl(document["issuer"]), document["jwks_uri"]
    assert read_discovery(answer.body(), issuer=issuer, jwks_uri=uri) == Discovery(issuer)


def test_unknown_members_are_ignored() -> None:
    """Members other than the five known ones change nothing."""
    assert read({**GOOD, "authorization_endpoint": 5, "x": None}) == Discovery(ISSUER)


def test_more_types_are_fine() -> None:
    """The two arrays may have other strings besides the required one."""
    more = {"response_types_supported": ["code", "id_token"], "subject_types_supported": ["pairwise", "public"]}
    assert read({**GOOD, **more}) == Discovery(ISSUER)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [("https://10.0.0.1:6443/openid/v1/jwks", '"https://10.0.0.1:6443/'), (None, "nothing"), ([1], "an array")],
)
def test_foreign_jwks_uri_is_a_note(uri: object, shown: str) -> None:
    """An apiserver with another `jwks_uri` is accepted, and a note reports that URL (facts.md#12)."""
    document = read({**GOOD, "jwks_uri": uri})
    assert isinstance(document, Discovery)
    assert [note.code for note in document.notes] == ["foreign_jwks_uri"]
    assert shown in document.notes[0].sentence


def test_every_rule_has_a_source() -> None:
    """Each row of the table has its own code and cites where it comes from."""
    assert len({rule.code for rule in RULES}) == len(RULES)
    assert all(re.search(r"section [0-9]", rule.citation) for rule in RULES)


BUCKET_ISSUER = IssuerUrl("https://oidc-bucket.s3-ap-southeast-2.amazonaws.com/cluster/identifier")
OPAQUE = KeyPolicy(kid="opaque")
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def believed(body: bytes) -> tuple[Key, ...]:
    read = read_jwks(body, policy=OPAQUE)
    assert isinstance(read, KeySet)
    return read.keys


@pytest.mark.parametrize(
    ("discovery", "jwks"),
    [
        ("01-rsa1/anonymous-bound-discovery", "01-rsa1/anonymous-bound-jwks"),
        ("04b-rotated-away-rsa3-only/discovery", "04b-rotated-away-rsa3-only/jwks"),
    ],
)
def test_one_key_gives_the_apiservers_own_bytes(discovery: str, jwks: str) -> None:
    """For one key both documents equal those of kube-apiserver, byte for byte (facts.md#2, #3)."""
    captured = Documents(capture(discovery).body(), capture(jwks).body())
    assert documents(BUCKET_ISSUER, believed(captured.jwks)) == captured


@pytest.mark.parametrize("case", ["02-rsa1-ec2-overlap", "04-rsa1-ec2-rsa3", "04d-all-algs"])
def test_several_keys_are_the_apiservers_sorted(case: str) -> None:
    """For several keys the JWKS is kube-apiserver's with the keys sorted; the discovery document is the same."""
    shown = json.loads(capture(f"{case}/jwks").body())
    shown["keys"].sort(key=lambda key: key["kid"])
    built = documents(BUCKET_ISSUER, believed(capture(f"{case}/jwks").body()))
    assert built.jwks == json.dumps(shown, separators=(",", ":")).encode()
    assert built.discovery == capture(f"{case}/discovery").body()


def test_go_escapes_are_kept() -> None:
    """Strings are escaped like Go's json.Marshal: HTML characters and line separators, nothing else."""
    key = with_kid(RSA_KEYS[0], 'a<b>&"c\\ é日')
    assert b'"kid":"a\\u003cb\\u003e\\u0026\\"c\\\\ \xc3\xa9\xe6\x97\xa5"' in documents(BUCKET_ISSUER, (key,)).jwks
    built = documents(BUCKET_ISSUER, (key,), {"x": "\u2028\u2029\u007f"})
    assert built.discovery.endswith(b',"x":"\\u2028\\u2029\x7f"}')


def test_extra_members_follow_sorted() -> None:
    """Members of `discovery_extra` come after the five, sorted at every level."""
    extra = {"z": 1, "authorization_endpoint": "https://x", "claims": {"b": 1, "a": [2, 1]}}
    plain, built = documents(BUCKET_ISSUER, (RSA_KEYS[0],)), documents(BUCKET_ISSUER, (RSA_KEYS[0],), extra)
    tail = b',"authorization_endpoint":"https://x","claims":{"a":[2,1],"b":1},"z":1}'
    assert built.discovery == plain.discovery[:-1] + tail
    assert built.jwks == plain.jwks


def test_extra_members_cannot_replace_ours() -> None:
    """The configuration cannot set values that the mirror itself would not accept."""
    with pytest.raises(UsageError, match="cannot set issuer, jwks_uri"):
        documents(BUCKET_ISSUER, (RSA_KEYS[0],), {"jwks_uri": "https://evil", "issuer": "x", "a": 1})


@pytest.mark.parametrize("value", [float("nan"), "\ud800"])
def test_extra_members_that_json_cannot_say_are_refused(value: object) -> None:
    """The mirror renders no document that strict parsers reject."""
    with pytest.raises(ValueError, match=r"JSON|surrogates"):
        documents(BUCKET_ISSUER, (RSA_KEYS[0],), {"a": value})


def record(key: Key, status: Status, **fields: object) -> KeyRecord:
    return replace(KeyRecord(key, status, 1, NOW), **fields)  # type: ignore[arg-type]  # fields of KeyRecord by name


def test_ledger_renders_its_public_keys() -> None:
    """Published and retiring keys are public; held, dropped and revoked keys are not."""
    held = record(RSA_KEYS[0], Status.HELD, held_because="policy")
    dropped = record(RSA_KEYS[1], Status.DROPPED)
    revoked = record(RSA_KEYS[2], Status.REVOKED, revocation=Revocation(NOW, "stolen"))
    public = record(EC_KEYS[0], Status.PUBLISHED), record(EC_KEYS[1], Status.RETIRING, missing_since=NOW)
    built = render(Ledger(BUCKET_ISSUER, (held, dropped, revoked, *public)), {"a": 1})
    assert built == documents(BUCKET_ISSUER, (EC_KEYS[0], EC_KEYS[1]), {"a": 1})


def test_ledger_without_public_keys_renders_nothing() -> None:
    """An issuer with only held or revoked keys has no public documents."""
    held = record(RSA_KEYS[0], Status.HELD, held_because="policy")
    revoked = record(RSA_KEYS[1], Status.REVOKED, revocation=Revocation(NOW, "stolen"))
    assert render(Ledger(BUCKET_ISSUER)) is None
    assert render(Ledger(BUCKET_ISSUER, (held, revoked))) is None


def test_last_revocation_renders_the_empty_set() -> None:
    """The empty set is public after `revoke --last`, and only then."""
    revoked = record(RSA_KEYS[0], Status.REVOKED, revocation=Revocation(NOW, "stolen", last=True))
    built = render(Ledger(BUCKET_ISSUER, (revoked,)))
    assert built is not None
    assert built.jwks == b'{"keys":[]}'


@given(issuers(), key_sets(max_size=4))
def test_built_documents_are_accepted_and_built_again(issuer: IssuerUrl, keys: tuple[Key, ...]) -> None:
    """Rendered documents pass the mirror's own checks, and render to the same bytes again, for any order of keys."""
    built = documents(issuer, tuple(reversed(keys)))
    uri = json.loads(built.discovery)["jwks_uri"]
    assert read_discovery(built.discovery, issuer=issuer, jwks_uri=uri) == Discovery(issuer)
    assert believed(built.jwks) == tuple(sorted(keys, key=key_id))
    assert documents(issuer, believed(built.jwks)) == built


DATE = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
DISCOVERY = capture("04b-rotated-away-rsa3-only/discovery").body()
JWKS = capture("04b-rotated-away-rsa3-only/jwks").body()


def look(discovery: bytes = DISCOVERY, jwks: bytes = JWKS) -> Observed | Unusable:
    answer = Answer("https://10.0.0.11:6443", discovery, jwks, DATE)
    return observe(answer, issuer=BUCKET_ISSUER, policy=KeyPolicy(), already_checked=frozenset())


def test_real_answer_is_observed() -> None:
    """A captured answer is accepted, with the apiserver's name and the date."""
    seen = look()
    assert isinstance(seen, Observed)
    assert (seen.apiserver, seen.date, len(seen.keys)) == ("https://10.0.0.11:6443", DATE, 1)
    assert seen.notes == ()


def test_notes_of_both_documents_are_kept() -> None:
    """The notes of the discovery document come first, then those of the JWKS."""
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
    """One bad document makes the whole answer of an apiserver unusable, and all reasons are reported at once."""
    seen = look(discovery, jwks)
    assert isinstance(seen, Unusable)
    assert [reason.code for reason in seen.reasons] == codes
    assert (seen.apiserver, seen.date) == ("https://10.0.0.11:6443", DATE)


def test_remedy_for_another_issuer_names_the_entry_and_the_migration() -> None:
    """Only the cluster's issuer must be filled into the remedy's command: it contains no untrusted text."""
    answer = Answer("https://10.0.0.11:6443", DISCOVERY.replace(b"cluster/identifier", b"old"), JWKS, DATE)
    for judge in (observe, BelievedAnswers().observe):
        seen = judge(answer, issuer=BUCKET_ISSUER, policy=KeyPolicy(), already_checked=frozenset(), name="syd")
        assert isinstance(seen, Unusable)
        (reason,) = seen.reasons
        assert "`oidc-mirror render apiserver-flags syd --keep-issuer OLD`" in reason.remedy
        assert "expected until an apiserver has it" in reason.remedy


def test_documents_of_two_clusters_do_not_mix() -> None:
    """An apiserver with the right keys and the wrong issuer is rejected."""
    other = DISCOVERY.replace(b"cluster/identifier", b"cluster/identifier2")
    seen = look(other, jwks_body(RSA_KEYS[0]))
    assert isinstance(seen, Unusable)
    assert [reason.code for reason in seen.reasons] == ["wrong_issuer"]
