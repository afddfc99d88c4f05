"""What an error text of a cloud means: the texts of facts 27 and 28, as people copy them."""

import pytest

from mirror.federation.explain import explain

BOTO = "An error occurred ({}) when calling the AssumeRoleWithWebIdentity operation: {}"

TEXTS = {
    "documents": (
        BOTO.format(
            "InvalidIdentityToken",
            "Couldn't retrieve verification key from your identity provider,  please reference "
            "AssumeRoleWithWebIdentity documentation for requirements",
        ),
        ["documents_not_public", "signing_key_not_public", "jwks_uri_wrong", "documents_slow", "documents_not_cached"],
    ),
    "no-provider": (
        BOTO.format(
            "InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://a.example.com/x"
        ),
        ["provider_missing", "issuer_differs"],
    ),
    "audience": (BOTO.format("InvalidIdentityToken", "Incorrect token audience"), ["audience_unknown"]),
    "thumbprint": (
        "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint",
        ["thumbprint_outdated"],
    ),
    "expired": (
        BOTO.format(
            "ExpiredTokenException", "Token expired: current date/time 1 must be before the expiration date/time 0"
        ),
        ["token_expired", "clock_wrong"],
    ),
    "communication": (BOTO.format("IDPCommunicationError", "timeout"), ["idp_communication", "documents_slow"]),
    "rejected": (BOTO.format("IDPRejectedClaim", "no"), ["claim_rejected", "token_expired"]),
    "denied": (
        BOTO.format("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"),
        ["trust_policy", "role_missing", "organisation_policy"],
    ),
    "no-jwt": (
        BOTO.format("InvalidIdentityToken", "The ID Token provided is not a valid JWT. (You may see this error …)"),
        ["token_malformed"],
    ),
    "arn": (BOTO.format("ValidationError", "Request ARN is invalid"), ["role_arn_malformed"]),
    "region": (BOTO.format("RegionDisabledException", "STS is not activated in this region"), ["region_disabled"]),
    "throttled": (BOTO.format("Throttling", "Rate exceeded"), ["throttled"]),
    "gcp-fetch": (
        '{"error":"invalid_grant","error_description":"Error connecting to the given credential\'s issuer."}',
        ["gcp_documents_unreadable"],
    ),
    "gcp-condition": ("The given credential is rejected by the attribute condition.", ["gcp_condition"]),
    "gcp-audience": ("The audience in ID Token [x] does not match the expected audience y.", ["audience_unknown"]),
    "entra-issuer": ("AADSTS700211: No matching federated identity record found for presented …", ["entra_issuer"]),
    "entra-subject": ("AADSTS700213: No matching federated identity record found", ["entra_subject"]),
    "entra-old": (
        "AADSTS70021: No matching federated identity record found for presented assertion. Assertion Issuer: https://a",
        ["entra_issuer"],
    ),
    "code-alone": (
        "InvalidIdentityToken",
        ["token_malformed", "documents_not_public", "signing_key_not_public", "provider_missing"],
    ),
}


@pytest.mark.parametrize(("text", "codes"), TEXTS.values(), ids=TEXTS)
def test_error_text_is_mapped_to_its_causes(text: str, codes: list[str]) -> None:
    """Each text of a cloud gives its causes, the likeliest first, each with a sentence and what to look at."""
    causes = explain(text)
    assert [cause.code for cause in causes] == codes
    assert all(cause.sentence.endswith(".") and cause.remedy.endswith((".", ")")) for cause in causes)


@pytest.mark.parametrize("text", ["", " ", "hello", "0" * 100_000, "x\x00\x1b[31m"])
def test_unknown_text_has_no_cause(text: str) -> None:
    """What nobody knows is not guessed."""
    assert explain(text) == ()


def test_copied_text_is_understood_however_it_was_wrapped() -> None:
    """Case, line breaks and a typographic apostrophe make no difference."""
    text = "error:\n  COULDN\u2019T retrieve\n\tverification   key"
    assert explain(text)[0].code == "documents_not_public"
