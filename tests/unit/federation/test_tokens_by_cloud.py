"""Forty tokens and the answer of each cloud: `verify` accepts nothing that a cloud rejects.

`answer` is the recorded answer of the cloud, next to its source; `check --explain` knows each of them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from mirror.federation.error_catalog import explain
from mirror.federation.verify import Verification, VerifiedIssuer, question, verify_issuer
from mirror.model import TokenAudiences
from mirror.report import ExitStatus
from mirror.trust.discovery import documents
from mirror.trust.relying_parties import Party
from support.fakes import MOMENT, FakeWorld
from support.situations import BASE_URL, DISCOVERY_KEY, ISSUER, JWKS_KEY, NAME
from support.tokens import claims, compact, mint, signer

NOW = int(MOMENT.timestamp())
AWS, GCP, AZURE = "sts.amazonaws.com", "google.example.com", "api://AzureADTokenExchange"
OTHER_AWS = "cluster.identifier.kubernetes.domain"
PROVIDER = "//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/syd-prod/providers/syd-prod"
CONFIGURED = TokenAudiences((AWS, OTHER_AWS), (GCP,), (AZURE,))
NOBODY: tuple[Party, ...] = ()
RSA, EC, EC384 = signer("RSA"), signer("P-256"), signer("P-384")


@dataclass(frozen=True, slots=True)
class Row:
    """One token: its claims, who accepts it, a code of the refusal, and the recorded answer of the cloud."""

    claims: Mapping[str, Any]
    accepted_by: tuple[Party, ...]
    code: str = ""
    answer: str = ""
    by: str = "RSA"
    audiences: TokenAudiences = CONFIGURED
    header: Mapping[str, Any] = field(default_factory=dict)
    key_ops: bool = False
    notes: tuple[str, ...] = ()


def invalid(words: str) -> str:
    return f"An error occurred (InvalidIdentityToken) when calling the AssumeRoleWithWebIdentity operation: {words}"


ROWS = {
    # One audience each: good at its own cloud, and nowhere else.
    "aws": Row({"aud": AWS}, (Party.AWS,)),
    "aws-in-a-list": Row({"aud": [AWS]}, (Party.AWS,)),
    "aws-second-audience": Row({"aud": OTHER_AWS}, (Party.AWS,)),
    "gcp": Row({"aud": GCP}, (Party.GCP,)),
    "azure": Row({"aud": AZURE}, (Party.ENTRA,)),
    "azure-in-a-list": Row({"aud": [AZURE]}, (Party.ENTRA,)),
    "gcp-usual-where-another-is-configured": Row(
        {"aud": PROVIDER},
        NOBODY,
        "wrong_audience",
        # https://cloud.google.com/iam/docs/troubleshooting-workload-identity-federation
        "The audience in ID Token [//iam.googleapis.com/…] does not match the expected audience google.example.com.",
    ),
    "gcp-usual": Row({"aud": PROVIDER}, (Party.GCP,), audiences=TokenAudiences((AWS,), azure=(AZURE,))),
    "gcp-usual-with-scheme": Row(
        {"aud": f"https:{PROVIDER}"}, (Party.GCP,), audiences=TokenAudiences((AWS,), azure=(AZURE,))
    ),
    "aws-usual": Row({"aud": AWS}, (Party.AWS,), audiences=TokenAudiences((), (GCP,), (AZURE,))),
    "azure-sovereign": Row(
        {"aud": "api://AzureADTokenExchangeUSGov"},
        (Party.ENTRA,),
        audiences=TokenAudiences((AWS,), (GCP,), ("api://AzureADTokenExchangeUSGov",)),
    ),
    "azure-usual-in-a-sovereign-cloud": Row(
        {"aud": AZURE},
        NOBODY,
        "wrong_audience",
        # https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes
        "AADSTS700212: No matching federated identity record found for presented assertion audience"
        " 'api://AzureADTokenExchange'.",
        audiences=TokenAudiences((AWS,), (GCP,), ("api://AzureADTokenExchangeUSGov",)),
    ),
    "nobodys-audience": Row(
        {"aud": "other"},
        NOBODY,
        "wrong_audience",
        # https://github.com/aws-actions/configure-aws-credentials/issues/775
        invalid("Incorrect token audience"),
    ),
    "audience-in-upper-case": Row({"aud": AWS.upper()}, NOBODY, "wrong_audience", invalid("Incorrect token audience")),
    # If the configuration has no audience of a cloud, the audience of its provider is unknown.
    "for-aws-where-only-aws-is-configured": Row(
        {"aud": AWS},
        tuple(Party),
        audiences=TokenAudiences((AWS,)),
        notes=("gcp_usual_audience", "entra_usual_audience"),
    ),
    "for-azure-where-only-aws-is-configured": Row(
        {"aud": AZURE},
        (Party.GCP, Party.ENTRA),
        "aws_audience",
        invalid("Incorrect token audience"),
        audiences=TokenAudiences((AWS,)),
        notes=("gcp_usual_audience",),
    ),
    # Several audiences.
    "two-audiences": Row(
        {"aud": [AWS, OTHER_AWS]},
        NOBODY,
        "aws_authorized_party",
        # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html (aud and azp)
        invalid("Token audience contains more than one audience while authorized party is not present"),
    ),
    "audiences-of-two-clouds": Row({"aud": [AWS, AZURE]}, NOBODY, "entra_one_audience"),
    "audiences-of-aws-and-google": Row({"aud": [AWS, GCP]}, (Party.GCP,), "aws_authorized_party"),
    "two-audiences-and-azp": Row({"aud": [AWS, OTHER_AWS], "azp": AWS}, (Party.AWS,)),
    "azp-of-nobody": Row({"aud": [AWS], "azp": "other"}, NOBODY, "aws_audience", invalid("Incorrect token audience")),
    # Claims that are missing, empty or of another kind.
    "no-aud": Row(
        {"aud": None},
        NOBODY,
        "no_audience",
        # https://github.com/aws/aws-sdk-ruby/issues/2698
        invalid("Missing a required claim: aud"),
    ),
    "empty-aud": Row({"aud": ""}, NOBODY, "token_claim", invalid("Claim is not allowed to be empty: aud")),
    "empty-aud-list": Row({"aud": []}, NOBODY, "token_claim", invalid("Claim is not allowed to be empty: aud")),
    "no-iat": Row({"aud": AWS, "iat": None}, NOBODY, "aws_no_iat", invalid("Missing a required claim: iat")),
    "no-iat-for-google": Row({"aud": GCP, "iat": None}, NOBODY, "gcp_no_iat"),
    "no-iat-for-azure": Row(
        {"aud": AZURE, "iat": None},
        NOBODY,
        "entra_no_iat",
        # https://github.com/MicrosoftDocs/azure-docs/issues/86915
        "AADSTS70023: External OIDC Provider token must have a lifetime of less than or equal to 1.01:00:00. Token"
        " issued at 0.",
    ),
    "no-exp": Row({"aud": AWS, "exp": None}, NOBODY, "no_expiry", invalid("Missing a required claim: exp")),
    "no-nbf": Row({"aud": AWS, "nbf": None}, (Party.AWS,)),
    "no-sub": Row(
        {"aud": AWS, "sub": None},
        NOBODY,
        "token_claim",
        # https://github.com/aws-actions/configure-aws-credentials/issues/502
        invalid("Missing a required claim: sub"),
    ),
    "empty-sub": Row({"aud": AWS, "sub": ""}, NOBODY, "token_claim", invalid("Claim is not allowed to be empty: sub")),
    "exp-as-text": Row(
        {"aud": AWS, "exp": "soon"}, NOBODY, "token_claim", invalid("Invalid timestamp in token claims.")
    ),
    # Times.
    "expired": Row(
        {"aud": AWS, "exp": NOW - 1},
        NOBODY,
        "expired",
        # https://github.com/awslabs/aws-orbit-workbench/issues/707
        "An error occurred (ExpiredTokenException) when calling the AssumeRoleWithWebIdentity operation: Token expired:"
        " current date/time 1 must be before the expiration date/time 0",
    ),
    "not-yet-valid": Row({"aud": AWS, "nbf": NOW + 60}, NOBODY, "not_yet_valid", invalid("Token is not yet valid")),
    "issued-in-the-future": Row({"aud": AWS, "iat": NOW + 60}, NOBODY, "issued_in_future"),
    "lives-for-two-days": Row({"aud": GCP, "exp": NOW + 172_800}, NOBODY, "gcp_lifetime"),
    "lives-for-a-year-at-aws": Row({"aud": AWS, "exp": NOW + 31_536_000}, (Party.AWS,)),
    # Keys and issuers.
    "signed-with-ES256": Row({"aud": AWS}, (Party.AWS,), by="P-256"),
    "signed-with-ES256-for-azure": Row({"aud": AZURE}, NOBODY, "entra_algorithm", by="P-256"),
    "signed-with-ES384-for-google": Row({"aud": GCP}, NOBODY, "gcp_algorithm", by="P-384"),
    "not-signed": Row({"aud": AWS}, NOBODY, "token_alg_none", header={"alg": "none"}),
    "kid-that-is-not-public": Row(
        {"aud": AWS},
        NOBODY,
        "key_not_public",
        # https://github.com/aws/aws-cli/issues/7194
        invalid("Couldn't retrieve verification key from your identity provider, please reference documentation"),
        header={"kid": "gone"},
    ),
    "issuer-with-a-slash-more": Row(
        {"aud": AWS, "iss": f"{ISSUER}/"},
        NOBODY,
        "wrong_issuer",
        # https://github.com/aws/aws-sdk-js-v3/issues/5749
        invalid(f"No OpenIDConnect provider found in your account for {ISSUER}/"),
    ),
    "foreign-jwks-with-key-ops": Row(
        {"aud": AWS},
        NOBODY,
        "aws_key_ops",
        invalid("Couldn't retrieve verification key from your identity provider"),
        key_ops=True,
    ),
}


def token(row: Row) -> bytes:
    by = signer(row.by)
    payload = claims(NOW, **row.claims)
    if row.header.get("alg") == "none":
        return compact({"alg": "none", "kid": by.key.kid}, payload, b"no signature")
    return mint(by, payload, **row.header)


def verified(row: Row) -> Verification:
    world = FakeWorld(base_url=BASE_URL)
    shown = documents(ISSUER, (RSA.key, EC.key, EC384.key))
    jwks = json.loads(shown.jwks)
    if row.key_ops:
        jwks["keys"] = [each | {"key_ops": ["verify"]} for each in jwks["keys"]]
    world.bucket.write(DISCOVERY_KEY, shown.discovery, "application/json", "public, max-age=300")
    world.bucket.write(JWKS_KEY, json.dumps(jwks).encode(), "application/jwk-set+json", "public, max-age=300")
    subject = VerifiedIssuer(NAME, ISSUER, world.publish(), row.audiences)
    asked = question((subject,), token(row), named=True)
    return Verification(
        MOMENT, tuple(verify_issuer(each, asked.token, world.web, MOMENT) for each in asked.subjects), asked.token
    )


def test_table_has_forty_tokens() -> None:
    """There are forty tokens, each for an answer that users have met."""
    assert len(ROWS) >= 40


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_each_cloud_answers_as_it_is_recorded(row: Row) -> None:
    """The clouds that accept the token, why the others do not, and the exit status, which is that of AWS."""
    found = verified(row)
    (issuer,) = found.issuers
    assert tuple(party for party in Party if issuer.accepted_by(party)) == row.accepted_by
    assert found.exit_status is (ExitStatus.CURRENT if Party.AWS in row.accepted_by else ExitStatus.FAILED)
    codes = {reason.code for answer in issuer.answers for reason in answer.reasons}
    assert row.code in codes | {""}
    notes = {note.code for answer in issuer.answers for note in answer.notes}
    assert {code for code in notes if code.endswith("_usual_audience")} == set(row.notes)
    assert all(reason.sentence and reason.remedy for answer in issuer.answers for reason in answer.reasons)


@pytest.mark.parametrize("row", [row for row in ROWS.values() if row.answer])
def test_recorded_answer_is_explained(row: Row) -> None:
    """A pasted answer of the cloud gives its cause."""
    assert explain(row.answer) != ()
