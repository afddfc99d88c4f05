"""Hostile and broken discovery documents: rejected, with every reason reported."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.model import IssuerUrl
from mirror.trust.discovery import Discovery, read_discovery
from mirror.trust.parsing import Rejected
from support.captures import capture

ISSUER = IssuerUrl("https://oidc-bucket.s3-ap-southeast-2.amazonaws.com/cluster/identifier")
URI = ISSUER + "/openid/v1/jwks"
REAL = capture("01-rsa1/anonymous-bound-discovery").body()
GOOD = json.loads(REAL)


def refusal(body: bytes) -> list[str]:
    """The codes of all reasons; nothing may be accepted."""
    read = read_discovery(body, issuer=ISSUER, jwks_uri=URI)
    assert isinstance(read, Rejected), read
    assert all(reason.sentence.isprintable() and reason.remedy and reason.where for reason in read.reasons)
    return [reason.code for reason in read.reasons]


@pytest.mark.parametrize(
    "issuer",
    [
        pytest.param(ISSUER + "/", id="slash at the end"),
        pytest.param(ISSUER.upper(), id="upper case"),
        pytest.param(ISSUER.replace("https", "http"), id="http"),
        pytest.param(ISSUER.replace("/cluster", ":443/cluster"), id="default port"),
        pytest.param(ISSUER.replace("/cluster", "/./cluster"), id="dot segment"),
        pytest.param(ISSUER.replace("identifier", "%69dentifier"), id="percent-encoded"),
        pytest.param(ISSUER.replace("identifier", "\u0131dentifier"), id="dotless i"),
        pytest.param(ISSUER + "\u200b", id="zero-width space"),
        pytest.param(" " + ISSUER, id="space"),
        pytest.param(ISSUER + "#a", id="fragment"),
        pytest.param("\x1b[2Jx" * 1000, id="terminal control"),
        pytest.param("", id="empty"),
        pytest.param(None, id="null"),
        pytest.param([ISSUER], id="list"),
        pytest.param({"a": ISSUER}, id="object"),
        pytest.param(5, id="number"),
    ],
)
def test_another_issuer_is_refused(issuer: object) -> None:
    """The issuer is compared code point by code point, never normalised (facts.md#30)."""
    assert refusal(json.dumps({**GOOD, "issuer": issuer}).encode()) == ["wrong_issuer"]


def test_slash_at_the_end_is_reported() -> None:
    """The most common mistake is named, so that operators do not have to compare long texts."""
    read = read_discovery(json.dumps({**GOOD, "issuer": ISSUER + "/"}).encode(), issuer=ISSUER, jwks_uri=URI)
    assert isinstance(read, Rejected)
    assert "trailing slash" in read.reasons[0].sentence


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        pytest.param({"response_types_supported": ["code"]}, ["wrong_response_types"], id="code only"),
        pytest.param({"response_types_supported": "id_token"}, ["wrong_response_types"], id="response type a text"),
        pytest.param({"response_types_supported": {"id_token": 1}}, ["wrong_response_types"], id="an object"),
        pytest.param({"response_types_supported": None}, ["wrong_response_types"], id="null"),
        pytest.param({"subject_types_supported": ["pairwise"]}, ["wrong_subject_types"], id="pairwise"),
        pytest.param({"subject_types_supported": "public"}, ["wrong_subject_types"], id="subject type a text"),
        pytest.param(
            {"issuer": "x", "response_types_supported": 0, "subject_types_supported": [["public"]]},
            ["wrong_issuer", "wrong_response_types", "wrong_subject_types"],
            id="everything",
        ),
    ],
)
def test_wrong_members_are_refused(change: dict[str, object], codes: list[str]) -> None:
    """Every wrong member is reported, all at once."""
    assert refusal(json.dumps({**GOOD, **change}).encode()) == codes


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"", "not_json", id="nothing"),
        pytest.param(b"404 page not found\n", "not_json", id="plain text"),
        pytest.param(b"\xef\xbb\xbf" + REAL, "not_json", id="byte order mark"),
        pytest.param(REAL[:-1], "not_json", id="truncated"),
        pytest.param(REAL + REAL, "not_json", id="twice"),
        pytest.param(REAL.replace(b"{", b'{"issuer":"https://evil",', 1), "duplicate_member", id="two issuers"),
        pytest.param(REAL.replace(b"}", b',"iss\\u0075er":"x"}'), "duplicate_member", id="escaped second issuer"),
        pytest.param(b"[" * 100_000, "too_deep", id="deep"),
        pytest.param(b"[]", "not_object", id="array"),
        pytest.param(REAL.replace(b"}", b',"a":"\\udfff"}'), "lone_surrogate", id="lone surrogate"),
    ],
)
def test_broken_document_is_refused(body: bytes, code: str) -> None:
    """What is not one clear JSON object is refused with one code."""
    assert refusal(body) == [code]


@given(st.binary() | st.dictionaries(st.sampled_from([*GOOD, "x"]), st.none() | st.text() | st.lists(st.text())))
def test_nothing_makes_the_reader_raise(document: bytes | dict[str, object]) -> None:
    """Whatever an apiserver sends is judged, never raised."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    assert isinstance(read_discovery(body, issuer=ISSUER, jwks_uri=URI), Discovery | Rejected)


@given(st.integers(0, len(REAL) - 1), st.binary(max_size=3))
def test_mutated_real_answer_is_judged(position: int, replacement: bytes) -> None:
    """A real answer with some changed bytes is rejected, or accepted only for the configured issuer."""
    body = REAL[:position] + replacement + REAL[position + 1 :]
    read = read_discovery(body, issuer=ISSUER, jwks_uri=URI)
    if isinstance(read, Discovery):
        assert json.loads(body)["issuer"] == read.issuer == ISSUER
