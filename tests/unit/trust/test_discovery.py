"""Discovery documents that are believed."""

import json

import pytest

from mirror.model import IssuerUrl
from mirror.trust.discovery import RULES, Discovery, read_discovery
from support.captures import RawAnswer, captures

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
def test_real_answers_are_believed(answer: RawAnswer) -> None:
    """Every discovery document that a real kube-apiserver sent is believed for its own issuer."""
    document = json.loads(answer.body())
    issuer, uri = IssuerUrl(document["issuer"]), document["jwks_uri"]
    assert read_discovery(answer.body(), issuer=issuer, jwks_uri=uri) == Discovery(issuer)


def test_unknown_members_are_ignored() -> None:
    """What an apiserver says beyond the five members changes nothing."""
    assert read({**GOOD, "authorization_endpoint": 5, "x": None}) == Discovery(ISSUER)


def test_more_types_are_fine() -> None:
    """The two arrays may hold other texts beside the wanted one."""
    more = {"response_types_supported": ["code", "id_token"], "subject_types_supported": ["pairwise", "public"]}
    assert read({**GOOD, **more}) == Discovery(ISSUER)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [("https://10.0.0.1:6443/openid/v1/jwks", '"https://10.0.0.1:6443/'), (None, "nothing"), ([1], "an array")],
)
def test_foreign_jwks_uri_is_a_note(uri: object, shown: str) -> None:
    """An apiserver that names another place for its keys is believed, and the place is told (fact 12)."""
    document = read({**GOOD, "jwks_uri": uri})
    assert isinstance(document, Discovery)
    assert [note.code for note in document.notes] == ["foreign_jwks_uri"]
    assert shown in document.notes[0].sentence


def test_every_rule_has_a_source() -> None:
    """Each row of the table has its own code and cites where it comes from."""
    assert len({rule.code for rule in RULES}) == len(RULES)
    assert all("fact" in rule.citation for rule in RULES)
