"""What an error text of a cloud's token exchange means (facts 27, 28). Pure."""

import re

from mirror.federation.causes import (
    ALGORITHM,
    AUDIENCE_UNKNOWN,
    BAD_ARN,
    BAD_SIGNATURE,
    CLOCK,
    ENTRA_AUDIENCE,
    ENTRA_FETCH,
    ENTRA_ISSUER,
    ENTRA_SIGNATURE,
    ENTRA_SUBJECT,
    EXPIRED,
    FETCHED_TOO_OFTEN,
    GCP_CONDITION,
    GCP_FETCH,
    GCP_LIFETIME,
    IDP_FAILED,
    ISSUER_DIFFERS,
    KEY_NOT_PUBLIC,
    NO_JWT,
    NO_PROVIDER,
    NO_ROLE,
    NOT_PUBLIC,
    ORGANISATION,
    REGION_OFF,
    REJECTED_CLAIM,
    THROTTLED,
    THUMBPRINT,
    TOO_SLOW,
    TRUST_POLICY,
    WRONG_JWKS_URI,
    Cause,
)

MAX_CHARACTERS = 10_000
"""How much of a text is looked at: an error text has a few hundred."""


def explain(text: str) -> tuple[Cause, ...]:
    """The causes of an error text of AWS STS, Google or Entra, the likeliest first; none for a text that is not known.

    Args:
        text: The whole error as somebody copied it; case, line breaks and what stands around it do not matter.
    """
    plain = " ".join(text[:MAX_CHARACTERS].replace("\u2019", "'").split()).lower()
    found = (cause for pattern, causes in _TEXTS if pattern.search(plain) for cause in causes)
    return tuple(dict.fromkeys(found))


_TEXTS: tuple[tuple[re.Pattern[str], tuple[Cause, ...]], ...] = tuple(
    (re.compile(pattern), causes)
    for pattern, causes in (
        # AWS STS
        (
            r"couldn't retrieve verification key",
            (NOT_PUBLIC, KEY_NOT_PUBLIC, WRONG_JWKS_URI, TOO_SLOW, FETCHED_TOO_OFTEN),
        ),
        (r"no openidconnect provider found", (NO_PROVIDER, ISSUER_DIFFERS)),
        (r"incorrect token audience", (AUDIENCE_UNKNOWN,)),
        (r"certificate doesn't match configured thumbprint", (THUMBPRINT,)),
        (
            r"expiredtoken|token (?:has |is )?expired|current date/time .* must be before the expiration",
            (EXPIRED, CLOCK),
        ),
        (r"token (?:used before|is not yet valid)|not before|issued in the future", (CLOCK,)),
        (r"idpcommunicationerror", (IDP_FAILED, TOO_SLOW)),
        (r"idprejectedclaim", (REJECTED_CLAIM, EXPIRED)),
        (r"not authorized to perform:? sts:assumerolewithwebidentity", (TRUST_POLICY, NO_ROLE, ORGANISATION)),
        (r"not a valid jwt|invalid jwt|token is malformed|failed to satisfy constraint.*webidentitytoken", (NO_JWT,)),
        (r"webidentitytoken.*failed to satisfy constraint", (NO_JWT,)),
        (
            r"signature (?:is )?(?:invalid|verification failed)|(?:invalid|bad) signature",
            (BAD_SIGNATURE, KEY_NOT_PUBLIC),
        ),
        (r"(?:unsupported|invalid) (?:signing )?algorithm|algorithm (?:is )?not supported", (ALGORITHM,)),
        (r"request arn is invalid|rolearn.*failed to satisfy constraint", (BAD_ARN,)),
        (r"regiondisabledexception|sts is not activated", (REGION_OFF,)),
        (r"throttling|rate exceeded", (THROTTLED,)),
        # Google
        (r"error connecting to the given credential's issuer", (GCP_FETCH,)),
        (r"credential is rejected by the attribute condition", (GCP_CONDITION,)),
        (r"audience in id token .* does not match", (AUDIENCE_UNKNOWN,)),
        (r"issuer in id token .* does not match", (ISSUER_DIFFERS,)),
        (r"stale to sign-in|id token issued at", (GCP_LIFETIME, EXPIRED)),
        # Entra
        (r"aadsts700211\b|aadsts70021\b.*issuer", (ENTRA_ISSUER,)),
        (r"aadsts700212\b|aadsts70021\b.*audience", (ENTRA_AUDIENCE,)),
        (r"aadsts700213\b|aadsts70021\b.*subject", (ENTRA_SUBJECT,)),
        (r"aadsts700024\b", (EXPIRED, CLOCK)),
        (r"aadsts700027\b|aadsts50027\b", (ENTRA_SIGNATURE,)),
        (r"aadsts90061\b|request to external oidc endpoint failed", (ENTRA_FETCH,)),
        # The least precise: an error code alone.
        (r"^(?:an error occurred \()?invalididentitytoken\)?[.:]?$", (NO_JWT, NOT_PUBLIC, KEY_NOT_PUBLIC, NO_PROVIDER)),
    )
)
