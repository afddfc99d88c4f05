"""What AWS, Google and Entra would answer: one test case for each limit in the table of relying parties.

Which limits a pass reports as notes.
"""

from dataclasses import replace

import pytest

from mirror.model import NO_AUDIENCES, IssuerUrl, Key, Reason, TokenAudiences
from mirror.trust.relying_parties import ROWS as LIMITS
from mirror.trust.relying_parties import Party, PartyInput, PartyVerdict, answers, compatibility
from mirror.trust.tokens import Token, read_token
from support.keys import EC_KEYS, RSA_KEYS, with_kid
from support.situations import ISSUER
from support.tokens import AUDIENCE, captured, claims, mint, signer

RSA: Key = RSA_KEYS[0]
EC256, EC384 = signer().key, signer("P-384").key


def token(kind: str = "P-256", **changes: object) -> Token:
    found = read_token(mint(signer(kind), claims(0, **changes)))
    assert isinstance(found, Token)
    return found


def reported(shown: PartyInput) -> dict[str, tuple[list[str], list[str]]]:
    """By relying party: the codes of its reasons and of its notes."""
    found = answers(shown, ())
    return {str(a.party): ([r.code for r in a.reasons], [n.code for n in a.notes]) for a in found}


def everywhere(*texts: str) -> TokenAudiences:
    return TokenAudiences(texts, texts, texts)


NOTHING: tuple[list[str], list[str]] = ([], [])


def test_rsa_works_everywhere() -> None:
    """One RSA key and a token of an hour for one audience: no party reports anything (facts.md#26)."""
    real = read_token(captured("17-token-lifetimes/no-max-1h"))
    assert isinstance(real, Token)
    assert reported(PartyInput(ISSUER, (RSA,), everywhere(AUDIENCE), real)) == dict.fromkeys(
        ("AWS", "GCP", "Entra"), NOTHING
    )


ROWS: dict[str, tuple[PartyInput, Party, list[str], list[str]]] = {
    "aws-long-issuer": (PartyInput(IssuerUrl("https://" + "a" * 248), (RSA,)), Party.AWS, ["aws_issuer_length"], []),
    "aws-longest-issuer": (PartyInput(IssuerUrl("https://" + "a" * 247), (RSA,)), Party.AWS, [], []),
    "aws-port": (PartyInput(IssuerUrl("https://keys.example.com:8443/a"), (RSA,)), Party.AWS, [], ["aws_issuer_port"]),
    "aws-100-keys": (PartyInput(ISSUER, tuple(with_kid(RSA, str(n)) for n in range(100))), Party.AWS, [], []),
    "aws-101-keys": (
        PartyInput(ISSUER, tuple(with_kid(RSA, str(n)) for n in range(101))),
        Party.AWS,
        ["aws_key_count"],
        [],
    ),
    "aws-long-audience": (
        PartyInput(ISSUER, (EC256,), NO_AUDIENCES, token(aud="a" * 256)),
        Party.AWS,
        ["aws_audience_length"],
        [],
    ),
    "aws-other-long-audience": (
        PartyInput(ISSUER, (EC256,), everywhere("a"), token(aud=["a", "b" * 256], azp="a")),
        Party.AWS,
        [],
        [],
    ),
    "aws-configured-long-audience": (
        PartyInput(ISSUER, (EC256,), everywhere("b" * 256), token(aud=["a", "b" * 256], azp="b" * 256)),
        Party.AWS,
        ["aws_audience_length"],
        [],
    ),
    "aws-two-audiences": (
        PartyInput(ISSUER, (EC256,), everywhere("a", "b"), token(aud=["a", "b"])),
        Party.AWS,
        ["aws_authorized_party"],
        [],
    ),
    "aws-two-audiences-and-azp": (
        PartyInput(ISSUER, (EC256,), everywhere("a", "b"), token(aud=["a", "b"], azp="b")),
        Party.AWS,
        [],
        [],
    ),
    "aws-empty-azp": (
        PartyInput(ISSUER, (EC256,), everywhere("a"), token(aud=["a", "b"], azp="")),
        Party.AWS,
        ["aws_authorized_party"],
        [],
    ),
    "aws-azp-of-nobody": (
        PartyInput(ISSUER, (EC256,), everywhere("a"), token(aud="a", azp="other")),
        Party.AWS,
        ["aws_audience"],
        [],
    ),
    "aws-one-in-a-list": (PartyInput(ISSUER, (EC256,), everywhere("a"), token(aud=["a"])), Party.AWS, [], []),
    "aws-of-azure": (
        PartyInput(ISSUER, (EC256,), TokenAudiences(), token(aud="api://AzureADTokenExchange")),
        Party.AWS,
        [],
        [],
    ),
    "aws-of-azure-configured": (
        PartyInput(
            ISSUER,
            (EC256,),
            TokenAudiences(azure=("api://AzureADTokenExchange",)),
            token(aud="api://AzureADTokenExchange"),
        ),
        Party.AWS,
        ["aws_audience"],
        [],
    ),
    "aws-usual": (
        PartyInput(ISSUER, (EC256,), TokenAudiences(gcp=("a",)), token(aud="sts.amazonaws.com")),
        Party.AWS,
        [],
        [],
    ),
    "aws-no-iat": (PartyInput(ISSUER, (EC256,), NO_AUDIENCES, token(iat=None)), Party.AWS, ["aws_no_iat"], []),
    "aws-key-ops": (PartyInput(ISSUER, (RSA,), has_key_ops=True), Party.AWS, ["aws_key_ops"], []),
    "gcp-of-aws": (
        PartyInput(ISSUER, (EC256,), TokenAudiences(aws=("a",)), token(aud="a")),
        Party.GCP,
        [],
        ["gcp_usual_audience"],
    ),
    "gcp-usual": (
        PartyInput(
            ISSUER,
            (EC256,),
            TokenAudiences(aws=("a",)),
            token(aud="//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/p"),
        ),
        Party.GCP,
        [],
        [],
    ),
    "gcp-other-project-where-configured": (
        PartyInput(
            ISSUER,
            (EC256,),
            TokenAudiences(gcp=("g",)),
            token(aud="//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/p"),
        ),
        Party.GCP,
        ["gcp_audience"],
        [],
    ),
    "entra-no-iat": (
        PartyInput(ISSUER, (RSA,), NO_AUDIENCES, token("RSA", iat=None)),
        Party.ENTRA,
        ["entra_no_iat"],
        [],
    ),
    "entra-25h": (PartyInput(ISSUER, (RSA,), NO_AUDIENCES, token("RSA", exp=90_000)), Party.ENTRA, [], []),
    "entra-over-25h": (
        PartyInput(ISSUER, (RSA,), NO_AUDIENCES, token("RSA", exp=90_001)),
        Party.ENTRA,
        [],
        ["entra_lifetime"],
    ),
    "entra-of-aws": (
        PartyInput(ISSUER, (RSA,), TokenAudiences(aws=("a",)), token("RSA", aud="a")),
        Party.ENTRA,
        [],
        ["entra_usual_audience"],
    ),
    "entra-usual": (
        PartyInput(ISSUER, (RSA,), TokenAudiences(aws=("a",)), token("RSA", aud="api://AzureADTokenExchange")),
        Party.ENTRA,
        [],
        [],
    ),
    "aws-ES384": (PartyInput(ISSUER, (EC384,), NO_AUDIENCES, token("P-384")), Party.AWS, [], []),
    "gcp-no-key": (PartyInput(ISSUER, (EC384,)), Party.GCP, ["gcp_keys"], []),
    "gcp-some-keys": (PartyInput(ISSUER, (EC384, RSA)), Party.GCP, [], ["gcp_some_keys"]),
    "gcp-ES384-token": (
        PartyInput(ISSUER, (EC384, RSA), NO_AUDIENCES, token("P-384")),
        Party.GCP,
        ["gcp_algorithm"],
        ["gcp_some_keys"],
    ),
    "gcp-48h": (PartyInput(ISSUER, (EC256,), NO_AUDIENCES, token(exp=172_800)), Party.GCP, ["gcp_lifetime"], []),
    "gcp-under-48h": (PartyInput(ISSUER, (EC256,), NO_AUDIENCES, token(exp=172_799)), Party.GCP, [], []),
    "gcp-no-iat": (PartyInput(ISSUER, (EC256,), NO_AUDIENCES, token(iat=None)), Party.GCP, ["gcp_no_iat"], []),
    "gcp-no-exp": (PartyInput(ISSUER, (EC256,), NO_AUDIENCES, token(exp=None)), Party.GCP, [], []),
    "gcp-long-audience": (
        PartyInput(ISSUER, (EC256,), NO_AUDIENCES, token(aud="a" * 257)),
        Party.GCP,
        ["gcp_audience_length"],
        [],
    ),
    "gcp-many-audiences": (
        PartyInput(ISSUER, (RSA,), everywhere(*map(str, range(11)))),
        Party.GCP,
        [],
        ["gcp_audiences"],
    ),
    "gcp-long-subject": (
        PartyInput(ISSUER, (EC256,), NO_AUDIENCES, token(sub="é" * 64)),
        Party.GCP,
        [],
        ["gcp_subject_length"],
    ),
    "entra-long-issuer": (
        PartyInput(IssuerUrl("https://" + "a" * 593), (RSA,)),
        Party.ENTRA,
        ["entra_issuer_length"],
        [],
    ),
    "entra-EC-alone": (PartyInput(ISSUER, (EC256,)), Party.ENTRA, ["entra_keys"], []),
    "entra-some-keys": (PartyInput(ISSUER, (EC256, RSA)), Party.ENTRA, [], ["entra_some_keys"]),
    "entra-EC-token": (
        PartyInput(ISSUER, (EC256, RSA), NO_AUDIENCES, token()),
        Party.ENTRA,
        ["entra_algorithm"],
        ["entra_some_keys"],
    ),
    "entra-two-audiences": (
        PartyInput(ISSUER, (RSA,), NO_AUDIENCES, token("RSA", aud=["a", "b"])),
        Party.ENTRA,
        ["entra_one_audience"],
        [],
    ),
    "entra-no-audience": (PartyInput(ISSUER, (RSA,), NO_AUDIENCES, token("RSA", aud=None)), Party.ENTRA, [], []),
    "entra-long-audience": (
        PartyInput(ISSUER, (RSA,), NO_AUDIENCES, token("RSA", aud="a" * 601)),
        Party.ENTRA,
        ["entra_audience_length"],
        [],
    ),
    "entra-unknown-key": (
        PartyInput(ISSUER, (RSA,), has_unknown_key=True),
        Party.ENTRA,
        ["entra_unknown_key"],
        [],
    ),
    "no-keys": (PartyInput(ISSUER, ()), Party.ENTRA, [], []),
}


@pytest.mark.parametrize(("shown", "party", "reasons", "notes"), ROWS.values(), ids=ROWS)
def test_limit_of_a_relying_party(shown: PartyInput, party: Party, reasons: list[str], notes: list[str]) -> None:
    """At the limit and beyond it: only the answer of that relying party changes."""
    assert reported(shown)[str(party)] == (reasons, notes)


def test_common_problems_come_first() -> None:
    """Reasons that concern all relying parties, such as an expired token, come before their own."""
    expired = Reason("expired", "It expired.", "Take another.")
    found = answers(PartyInput(ISSUER, (EC256,), NO_AUDIENCES, token()), (expired,))
    assert [answer.accepts for answer in found] == [False] * 3
    assert all(answer.reasons[0] == expired for answer in found)
    assert replace(found[0], reasons=()).accepts
    assert PartyVerdict(Party.AWS).accepts


HOST = "https://oidc.example.com"
RSA_KEY = RSA_KEYS[0]
P256 = next(key for key in EC_KEYS if key.crv == "P-256")
P384 = next(key for key in EC_KEYS if key.crv == "P-384")


def many(key: Key, count: int) -> tuple[Key, ...]:
    return tuple(with_kid(key, f"{key.kty}-{number:03}") for number in range(count))


def test_one_rsa_key_works_everywhere() -> None:
    """RS256 with 2048 bits under a short https issuer gives no note (facts.md#26)."""
    assert compatibility(IssuerUrl(HOST + "/cluster"), (RSA_KEY,)) == ()


@pytest.mark.parametrize(
    ("issuer", "keys", "codes"),
    [
        pytest.param(HOST, (RSA_KEY, P256), {"entra_some_keys"}, id="P-256"),
        pytest.param(HOST, (P384,), {"gcp_keys", "entra_keys"}, id="P-384"),
        pytest.param(HOST, (replace(RSA_KEY, alg="RS512"),), {"gcp_keys", "entra_keys"}, id="RS512"),
        pytest.param(HOST + ":8443/a", (RSA_KEY,), {"aws_issuer_port"}, id="port and path"),
        pytest.param(HOST + ":8443", (RSA_KEY,), {"aws_issuer_port"}, id="port"),
        pytest.param(HOST + "/a:1", (RSA_KEY,), set(), id="colon in the path"),
        pytest.param(HOST + "/" + "a" * (254 - len(HOST)), (RSA_KEY,), set(), id="255 characters"),
        pytest.param(HOST + "/" + "a" * (255 - len(HOST)), (RSA_KEY,), {"aws_issuer_length"}, id="256 characters"),
        pytest.param(
            HOST + "/" + "a" * (600 - len(HOST)), (RSA_KEY,), {"aws_issuer_length", "entra_issuer_length"}, id="601"
        ),
        pytest.param(HOST, many(RSA_KEY, 100), set(), id="100 RSA keys"),
        pytest.param(HOST, many(RSA_KEY, 101), {"aws_key_count"}, id="101 RSA keys"),
        pytest.param(HOST, many(P256, 101), {"aws_key_count", "entra_keys"}, id="101 EC keys"),
        pytest.param(HOST, many(RSA_KEY, 60) + many(P256, 60), {"entra_some_keys"}, id="120 keys of both types"),
        pytest.param(HOST, many(RSA_KEY, 130), {"aws_key_count", "nimbus_size"}, id="over 51 200 bytes"),
        pytest.param(HOST, (), set(), id="emptied"),
    ],
)
def test_limits_are_reported(issuer: str, keys: tuple[Key, ...], codes: set[str]) -> None:
    """Each exceeded limit gives its note, and no other note."""
    assert {note.code for note in compatibility(IssuerUrl(issuer), keys)} == codes


def test_every_limit_stands_once() -> None:
    """Each limit has one code, so a note of a pass and the answer of `verify` have the same text."""
    assert len({limit.code for limit in LIMITS}) == len(LIMITS)
    (note,) = compatibility(IssuerUrl(HOST), (RSA_KEY, P256))
    assert note in answers(PartyInput(IssuerUrl(HOST), (RSA_KEY, P256)), ())[2].notes
