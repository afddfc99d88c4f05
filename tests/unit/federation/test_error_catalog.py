"""The meaning of a cloud's error text: recorded texts and their variants, as people copy them."""

import html
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.federation import error_catalog
from mirror.federation.causes import Cause
from mirror.federation.error_catalog import (
    AWS_TEXTS,
    BARE_CODES,
    ENTRA_TEXTS,
    GOOGLE_TEXTS,
    MAX_CHARACTERS,
    explain,
    plain,
)

BOTO = "An error occurred ({}) when calling the AssumeRoleWithWebIdentity operation: {}"


def sts(words: str, code: str = "InvalidIdentityToken") -> str:
    return BOTO.format(code, words)


def google(code: str, words: str) -> str:
    return json.dumps({"error": code, "error_description": words})


def entra(words: str, code: str = "invalid_client") -> str:
    return json.dumps(
        {"error": code, "error_description": f"{words}\r\nTrace ID: 1\r\nTimestamp: 2026-11-28 14:30:00Z"}
    )


TEXTS = {
    "documents": (
        sts(
            "Couldn't retrieve verification key from your identity provider,  please reference "
            "AssumeRoleWithWebIdentity documentation for requirements",
        ),
        ["documents_not_public", "signing_key_not_public", "jwks_uri_wrong", "documents_slow", "documents_not_cached"],
    ),
    "no-provider": (
        sts("No OpenIDConnect provider found in your account for https://a.example.com/x"),
        ["provider_missing", "issuer_differs"],
    ),
    "could-not-be-validated": (
        sts(
            "The web identity token provided could not be validated. See the AssumeRoleWithWebIdentity documentation"
            " for"
            " requirements."
        ),
        ["provider_missing", "issuer_differs", "audience_unknown"],
    ),
    "could-not-be-validated-by-aws": (
        "InvalidIdentityToken: The web identity token that was passed could not be validated by AWS.",
        ["provider_missing", "issuer_differs", "audience_unknown"],
    ),
    "audience": (sts("Incorrect token audience"), ["audience_unknown"]),
    "two-audiences": (
        sts("Token audience contains more than one audience while authorized party is not present"),
        ["several_audiences"],
    ),
    "bad-azp": (sts("The authorized party claim is invalid."), ["several_audiences", "audience_unknown"]),
    **{
        f"no-{claim}": (sts(f"Missing a required claim: {claim}"), ["claim_missing"]) for claim in ("aud", "iat", "sub")
    },
    "empty-aud": (sts("Claim is not allowed to be empty: aud"), ["claim_empty"]),
    "empty-sub": (sts("Claim is not allowed to be empty: sub"), ["claim_empty"]),
    "timestamp": (sts("Invalid timestamp in token claims."), ["claim_no_number"]),
    "issuer-no-string": (sts("The issuer claim must be a string."), ["claim_empty", "claim_missing"]),
    "thumbprint": (
        "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint",
        ["thumbprint_outdated"],
    ),
    "expired": (
        sts("Token expired: current date/time 1 must be before the expiration date/time 0", "ExpiredTokenException"),
        ["token_expired", "clock_wrong"],
    ),
    "too-old": (sts("Token too old: 441398", "ExpiredTokenException"), ["token_expired", "clock_wrong"]),
    "has-expired": (sts("The web identity token has expired.", "ExpiredToken"), ["token_expired", "clock_wrong"]),
    "not-yet-valid": (sts("The web identity token is not yet valid."), ["clock_wrong"]),
    "issued-in-the-future": (sts("Token issued in the future."), ["clock_wrong"]),
    "communication": (sts("timeout", "IDPCommunicationError"), ["idp_communication", "documents_slow"]),
    "communication-in-words": (
        (
            "The request could not be fulfilled because the identity provider (IDP) that was asked to verify the"
            " incoming"
            " identity token could not be reached."
        ),
        ["idp_communication", "documents_slow"],
    ),
    "rejected": (sts("no", "IDPRejectedClaim"), ["claim_rejected", "token_expired"]),
    "denied": (
        sts("Not authorized to perform sts:AssumeRoleWithWebIdentity", "AccessDenied"),
        ["trust_policy", "role_missing", "organisation_policy"],
    ),
    "denied-by-organisation": (
        sts(
            "User: arn:aws:sts::1:x is not authorized to perform: sts:AssumeRoleWithWebIdentity on resource: r with an"
            " explicit deny in a service control policy",
            "AccessDenied",
        ),
        ["organisation_policy", "trust_policy", "role_missing"],
    ),
    "no-jwt": (
        sts("The ID Token provided is not a valid JWT. (You may see this error …)"),
        ["token_malformed"],
    ),
    "arn": (sts("Request ARN is invalid", "ValidationError"), ["role_arn_malformed"]),
    "arn-constraint": (
        (
            "ValidationError: 1 validation error detected: Value '' at 'roleArn' failed to satisfy constraint: Member"
            " must have"
            " length greater than or equal to 20"
        ),
        ["role_arn_malformed"],
    ),
    "token-constraint": (
        (
            "1 validation error detected: Value at 'webIdentityToken' failed to satisfy constraint: Member must have"
            " length"
            " less than or equal to 20000"
        ),
        ["token_malformed"],
    ),
    "session": (
        sts("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.", "ValidationError"),
        ["session_too_long"],
    ),
    "policy": (sts("Packed policy consumes 120%", "PackedPolicyTooLarge"), ["session_policy"]),
    "region": (sts("STS is not activated in this region", "RegionDisabledException"), ["region_disabled"]),
    "throttled": (sts("Rate exceeded", "Throttling"), ["throttled"]),
    "signature": (sts("Signature verification failed"), ["signature_wrong", "signing_key_not_public"]),
    "algorithm": (sts("Unsupported algorithm: PS256"), ["algorithm"]),
    "token-file": (
        (
            "WebIdentityErr: failed fetching WebIdentity token: \ncaused by: WebIdentityErr: unable to read file at"
            " /var/run/secrets/eks.amazonaws.com/serviceaccount/token\ncaused by: open"
            " /var/run/secrets/eks.amazonaws.com/serviceaccount/token: permission denied"
        ),
        ["token_file_unreadable"],
    ),
    "no-environment": (
        (
            "Either the environment variable AWS_WEB_IDENTITY_TOKEN_FILE or the javaproperty aws.webIdentityTokenFile"
            " must be"
            " set."
        ),
        ["no_credentials", "token_file_unreadable"],
    ),
    "provider-not-made": (
        "An error occurred (OpenIdIdpCommunicationError) when calling the CreateOpenIDConnectProvider operation: x",
        ["provider_not_created", "documents_not_public"],
    ),
    "untrusted-issuer": ("STS: token issuer is not trusted", ["issuer_differs", "provider_missing"]),
    "gcp-fetch": (
        google("invalid_grant", "Error connecting to the given credential's issuer."),
        ["gcp_documents_unreadable"],
    ),
    "gcp-condition": ("The given credential is rejected by the attribute condition.", ["gcp_condition"]),
    "gcp-pool": (
        google(
            "invalid_target",
            'The target service indicated by the "audience" parameters is invalid. This might either be because the'
            " pool or provider is disabled or deleted or because it doesn't exist.",
        ),
        ["gcp_pool_missing"],
    ),
    "gcp-audience": ("The audience in ID Token [x] does not match the expected audience y.", ["audience_unknown"]),
    "gcp-issuer": ("The issuer in ID Token https://a does not match the expected ones: https://b", ["issuer_differs"]),
    "gcp-audience-parameter": (
        google(
            "invalid_request",
            'Invalid value for "audience". This value should be the full resource name of the Identity Provider.',
        ),
        ["gcp_audience_parameter"],
    ),
    "gcp-stale": (
        google("invalid_grant", "ID Token issued at 1713260741 is stale to sign-in."),
        ["gcp_lifetime", "token_expired"],
    ),
    "gcp-subject-length": (
        (
            "The size of mapped attribute google.subject exceeds the 127 bytes limit. Either modify your attribute"
            " mapping or"
            " the incoming assertion to produce a mapped attribute that is less than 127 bytes."
        ),
        ["gcp_subject_length"],
    ),
    "gcp-mapping-type": ("The mapped attribute 'google.subject' must be of type STRING.", ["gcp_attribute_mapping"]),
    "gcp-mapping": (
        google("unauthorized_client", "Could not obtain a value for google.subject from the given credential."),
        ["gcp_attribute_mapping"],
    ),
    "gcp-impersonation": (
        "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
        ["gcp_impersonation"],
    ),
    "gcp-id-token": ("Permission 'iam.serviceAccounts.getOpenIdToken' denied", ["gcp_impersonation"]),
    "gcp-api": (
        "IAM Service Account Credentials API has not been used in project 42 before or it is disabled.",
        ["gcp_api_disabled"],
    ),
    "gcp-federated-token": (
        (
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid"
            " authentication credential."
        ),
        ["gcp_federated_token"],
    ),
    "gcp-jwk": ("INVALID_ARGUMENT: Input JWK is not in a valid json format", ["jwk_not_accepted"]),
    "gcp-organisation": ("Org Policy violated for value: 'https://a'.", ["gcp_organisation_policy"]),
    "entra-issuer": ("AADSTS700211: No matching federated identity record found for presented …", ["entra_issuer"]),
    "entra-issuer-whole": (
        entra("AADSTS700211: No matching federated identity record found for presented assertion issuer 'https://a'."),
        ["entra_issuer"],
    ),
    "entra-audience": (
        entra("AADSTS700212: No matching federated identity record found for presented assertion audience 'x'."),
        ["entra_audience"],
    ),
    "entra-subject": ("AADSTS700213: No matching federated identity record found", ["entra_subject"]),
    "entra-subject-case": (
        "AADSTS7002138: No matching federated identity record found for presented assertion subject 'x'.",
        ["entra_subject"],
    ),
    "entra-old": (
        "AADSTS70021: No matching federated identity record found for presented assertion. Assertion Issuer: https://a",
        ["entra_issuer"],
    ),
    "entra-old-whole": (
        entra(
            "AADSTS70021: No matching federated identity record found for presented assertion. Assertion Issuer: 'a'."
            " Assertion Subject: 'b'. Assertion Audience: 'c'."
        ),
        ["entra_no_match", "entra_issuer", "entra_subject", "entra_audience"],
    ),
    "entra-old-short": (
        "AADSTS70021: No matching federated identity record found for presented assertion",
        ["entra_no_match", "entra_issuer", "entra_subject", "entra_audience"],
    ),
    "entra-without-code": (
        "No matching federated identity record found for presented assertion.",
        ["entra_no_match", "entra_issuer", "entra_subject", "entra_audience"],
    ),
    "entra-no-credential": (
        entra("AADSTS70025: The client 'x' has no configured federated identity credentials."),
        ["entra_no_credential"],
    ),
    "entra-key": (
        entra(
            "AADSTS7000272: The certificate with identifier X used to sign the federated credential could not be found"
            " in the"
            " metadata of identity provider https://oidc.example.com."
        ),
        ["entra_signing_key_not_public", "entra_key_type"],
    ),
    "entra-key-type": (
        entra("AADSTS900612: Failed to parse provider signing keys.", "invalid_request"),
        ["entra_key_type", "entra_documents_unreadable"],
    ),
    "entra-own-token": (
        entra("AADSTS700222: AAD-issued tokens may not be used for federated identity flows."),
        ["entra_own_token"],
    ),
    "entra-app-only": (
        entra(
            "AADSTS700229: Forbidden token type. Only app-only tokens may be used as Federated Identity Credentials."
        ),
        ["entra_own_token"],
    ),
    "entra-double-hop": (
        entra(
            "AADSTS700231: Token obtained using another federated identity credential may not be used as federated"
            " identity"
            " credential."
        ),
        ["entra_own_token"],
    ),
    "entra-lifetime": (
        entra(
            "AADSTS70023: External OIDC Provider token must have a lifetime of less than or equal to 1.01:00:00. Token"
            " issued"
            " at 0.",
            "invalid_request",
        ),
        ["entra_lifetime"],
    ),
    "entra-expired": (
        entra("AADSTS700024: Client assertion is not within its valid time range."),
        ["token_expired", "clock_wrong"],
    ),
    "entra-fetch": (entra("AADSTS50166: Request to External OIDC endpoint failed."), ["entra_documents_unreadable"]),
    "entra-fetch-2": (entra("AADSTS501661: Request to External OIDC endpoint failed."), ["entra_documents_unreadable"]),
    "entra-fetch-old": (
        entra("AADSTS90061: Request to External OIDC endpoint failed."),
        ["entra_documents_unreadable"],
    ),
    "entra-signature": (entra("AADSTS700027: Client assertion failed signature validation."), ["entra_signature"]),
    "entra-application": (
        entra("AADSTS700016: Application with identifier 'x' was not found in the directory 'y'."),
        ["entra_application_missing", "entra_tenant"],
    ),
    "entra-application-elsewhere": (
        entra("AADSTS7000229: The client application x is missing service principal in the tenant y."),
        ["entra_application_missing", "entra_tenant"],
    ),
    "entra-tenant": (entra("AADSTS90002: Tenant 'x' not found."), ["entra_tenant"]),
    "entra-resource": (entra("AADSTS500011: The resource principal named x was not found."), ["entra_resource"]),
    "entra-scope": (
        entra("AADSTS70011: The provided value for the input parameter 'scope' isn't valid."),
        ["entra_resource"],
    ),
    "entra-secret": (entra("AADSTS7000215: Invalid client secret provided."), ["entra_client_secret"]),
    "entra-policy": (entra("AADSTS53003: Access has been blocked by Conditional Access policies."), ["entra_policy"]),
    "code-alone": (
        "InvalidIdentityToken",
        ["token_malformed", "documents_not_public", "signing_key_not_public", "provider_missing"],
    ),
    "denied-alone": (
        "AccessDenied when calling the AssumeRoleWithWebIdentity operation",
        ["trust_policy", "role_missing", "organisation_policy"],
    ),
    "grant-alone": (
        "invalid_grant",
        ["gcp_documents_unreadable", "audience_unknown", "issuer_differs", "gcp_lifetime"],
    ),
}
CAUSES = dict(TEXTS.values())


def test_tables_have_sixty_texts_each_with_a_source() -> None:
    """Every row names the source of its text, and the tests have as many rows."""
    rows = AWS_TEXTS + GOOGLE_TEXTS + ENTRA_TEXTS + BARE_CODES
    assert len(rows) >= 60
    assert len(TEXTS) >= 60
    source = Path(error_catalog.__file__).read_text(encoding="utf-8")
    lines = [line.strip() for line in source.splitlines() if line.startswith("    ")]
    begins = [at for at, line in enumerate(lines) if line.startswith("_row(")]
    assert len(begins) == len(rows)
    assert all(lines[at - 1].startswith("# ") for at in begins)


@pytest.mark.parametrize(("text", "codes"), TEXTS.values(), ids=TEXTS)
def test_error_text_is_mapped_to_its_causes(text: str, codes: list[str]) -> None:
    """Each text of a cloud gives its causes, likeliest first, each with a sentence and a command that checks it."""
    causes = explain(text)
    assert [cause.code for cause in causes] == codes
    assert all(cause.sentence.endswith(".") and cause.remedy.endswith((".", ")")) for cause in causes)


def every_cause() -> list[Cause]:
    from mirror.federation import causes  # noqa: PLC0415  only here

    return [each for each in vars(causes).values() if isinstance(each, Cause)]


@pytest.mark.parametrize("cause", every_cause(), ids=lambda cause: cause.code)
def test_cause_has_a_command_or_a_thing_to_look_at(cause: Cause) -> None:
    """Each cause has a command besides its sentence, and a unique code."""
    assert "`" in cause.remedy or cause.code in {"sts_silent", "throttled", "role_arn_malformed", "entra_policy"}
    assert [each.code for each in every_cause()].count(cause.code) == 1
    assert cause.sentence[0].isupper()


def _wrapped(text: str) -> str:
    return "\n   ".join(text.split(" "))


VARIANTS: dict[str, Callable[[str], str]] = {
    "entities": html.escape,
    "entities-twice": lambda text: html.escape(html.escape(text)),
    "json": json.dumps,
    "json-in-json": lambda text: json.dumps({"message": json.dumps({"error_description": text})}),
    "json-ascii": lambda text: json.dumps(text.replace("'", "\u2019")),
    "unicode-escapes": lambda text: text.replace("'", "\\u0027").replace('"', "\\u0022"),
    "xml": lambda text: f"<ErrorResponse><Error><Message>{html.escape(text)}</Message></Error></ErrorResponse>",
    "upper": str.upper,
    "wrapped": _wrapped,
    "typographic": lambda text: text.replace("'", "\u2019"),
    "backticks": lambda text: f"```\n{text}\n```",
    "in-a-log": lambda text: f'2026-11-28T14:30:00Z ERROR main.go:60] "login" err="{text}" caller=x\n{"more " * 50}',
}


@pytest.mark.parametrize("name", [name for name in TEXTS if not name.endswith("alone")])
def test_text_is_known_however_it_was_copied(name: str) -> None:
    """Entities, escapes, markup, case and surrounding text make no difference."""
    text, codes = TEXTS[name]
    found = {variant: [cause.code for cause in explain(copied(text))] for variant, copied in VARIANTS.items()}
    assert found == dict.fromkeys(VARIANTS, codes)


AWS_LINE = (
    "$ aws sts assume-role-with-web-identity --role-arn arn:aws:iam::111122223333:role/app --role-session-name x"
    " --web-identity-token file://token --region eu-west-1\n\n{}\n$ "
)


@pytest.mark.parametrize("name", ["documents", "no-provider", "two-audiences", "no-iat", "expired", "denied", "arn"])
def test_whole_command_line_is_understood(name: str) -> None:
    """The pasted text may begin with the command that the user ran."""
    text, codes = TEXTS[name]
    assert [cause.code for cause in explain(AWS_LINE.format(text))] == codes


@pytest.mark.parametrize(
    "code", ["AADSTS70021", "AADSTS70025", "AADSTS7000272", "AADSTS900612", "AADSTS700222", "AADSTS501661"]
)
def test_bare_code_of_entra_is_understood(code: str) -> None:
    """With and without a colon, in any case."""
    whole = next(
        codes for text, codes in CAUSES.items() if f"{code}:" in text and "Assertion Issuer: https" not in text
    )
    for text in (code, f"{code}:", code.lower(), f"error code {code}."):
        assert [cause.code for cause in explain(text)] == whole


MEANT = {  # words that no row of the table has
    "The aud of this JWT is not one that the relying party expects": "audience_unknown",
    "token rejected: unexpected value for iss": "issuer_differs",
    "STS: the subject of the token is not allowed here": "trust_policy",
    "OIDC login failed: kid abc not found in the key set": "signing_key_not_public",
    "federation error: cannot load openid-configuration": "documents_not_public",
    "identity token refused, check your clock": "clock_wrong",
    "assertion is no longer valid": "token_expired",
    "AADSTS709999: the audience of the assertion is unknown": "entra_audience",
    "AADSTS709999: unexpected issuer of the assertion": "entra_issuer",
    "AADSTS709999: subject mismatch": "entra_subject",
    "AADSTS709999: no": "entra_no_match",
    "token exchange failed: this pool cannot be used": "gcp_pool_missing",
    "InvalidIdentityToken: the claim nonce is wrong": "claim_missing",
}


@pytest.mark.parametrize(("text", "code"), MEANT.items())
def test_unknown_words_are_understood_by_what_they_speak_of(text: str, code: str) -> None:
    """Clouds change their texts: the rejected item determines the likeliest cause."""
    assert explain(text)[0].code == code


@pytest.mark.parametrize(
    "text",
    ["", " ", "hello", "0" * 100_000, "x\x00\x1b[31m", "the disk is full", "audience of a concert", "<a>", "&#39;"],
)
def test_unknown_text_has_no_cause(text: str) -> None:
    """An unknown text gets no guess."""
    assert explain(text) == ()


@pytest.mark.parametrize(
    "piece", ["issuer in id token ", "certificate ", "token ", "aadsts70021 issuer ", "<a ", "\\", "&amp;"]
)
def test_long_text_is_read_in_time(piece: str) -> None:
    """Every pattern ends in time; the test's time limit checks it."""
    assert isinstance(explain(piece * (2 * MAX_CHARACTERS // len(piece))), tuple)


def test_text_is_made_plain() -> None:
    """All equivalent texts normalise to one form."""
    assert plain('A\\nB  &amp;#39;C\u2019 \\\\\\"D\\u0027 <b>e</b>\t`f`') == "a b 'c' \"d' e 'f'"
