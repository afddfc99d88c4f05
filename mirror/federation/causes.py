"""Why a cloud refuses a login: each cause with what to look at (facts 27, 28, and the clouds' own pages)."""

from dataclasses import dataclass
from enum import StrEnum

_VERIFY = "oidc-mirror verify NAME --token-file FILE"


class Station(StrEnum):
    """What a cause is about: where `check` has findings of its own to put beside it."""

    DOCUMENTS = "documents"
    KEYS = "keys"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    SUBJECT = "subject"
    TOKEN = "token"  # noqa: S105  a word for where to look
    PROVIDER = "provider"
    ROLE = "role"
    CLOUD = "cloud"


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause of an error: a stable code, what it is about, a sentence, and what to look at."""

    code: str
    station: Station
    sentence: str
    remedy: str


NOT_PUBLIC = Cause(
    "documents_not_public",
    Station.DOCUMENTS,
    "One of the two public documents cannot be read by everybody: a bucket policy, Block Public Access, or the URL.",
    "Run `oidc-mirror verify NAME`: it reads both as AWS does, and names the cause. `oidc-mirror provision bucket NAME`"
    " mends the policy.",
)
TOO_SLOW = Cause(
    "documents_slow",
    Station.DOCUMENTS,
    "AWS gives up a fetch after 5 seconds; CloudTrail does not log it.",
    "`oidc-mirror verify NAME` tells how long each document took. Look at the CDN or proxy in front of the bucket.",
)
FETCHED_TOO_OFTEN = Cause(
    "documents_not_cached",
    Station.DOCUMENTS,
    "Cache-Control forbids caching (no-cache, max-age=0), so that many logins at once make AWS fetch too often.",
    "Set `publish.cache_control` to `public, max-age=300`, and see that no proxy changes the header.",
)
KEY_NOT_PUBLIC = Cause(
    "signing_key_not_public",
    Station.KEYS,
    "The token is signed by a key that is not in the public JWKS, or that caches do not have yet.",
    f"Run `{_VERIFY}`: it names the key. `oidc-mirror wait NAME KEY` tells from when on a new key may sign.",
)
WRONG_JWKS_URI = Cause(
    "jwks_uri_wrong",
    Station.DOCUMENTS,
    "The discovery document names another jwks_uri than the public one (kube-apiserver's own is private).",
    "Run `oidc-mirror verify NAME`: it begins at the issuer and follows its jwks_uri.",
)
NO_PROVIDER = Cause(
    "provider_missing",
    Station.PROVIDER,
    "The role's account has no IAM OIDC provider for this issuer.",
    "Compare `aws iam list-open-id-connect-providers` in the role's account; `oidc-mirror provision provider NAME`"
    " creates it.",
)
ISSUER_DIFFERS = Cause(
    "issuer_differs",
    Station.ISSUER,
    "The token's iss and the provider's URL differ in a character: a slash at the end, upper case, another host style.",
    f"Run `{_VERIFY}`: it shows the iss and the nearest configured issuer. They are compared code point by code point.",
)
AUDIENCE_UNKNOWN = Cause(
    "audience_unknown",
    Station.AUDIENCE,
    "The token's aud is not in the provider's list of client ids.",
    f"Compare the aud of `{_VERIFY}` with the provider's ClientIDList; `audiences` of the issuer,"
    " `oidc-mirror provision provider NAME` and the pod's projected volume must say the same.",
)
THUMBPRINT = Cause(
    "thumbprint_outdated",
    Station.PROVIDER,
    "The provider's ThumbprintList does not fit the certificate that the issuer's host has now.",
    "For S3 and CloudFront AWS uses its own root CAs: take the ThumbprintList away"
    " (`oidc-mirror render iam-provider NAME` has none). Elsewhere update it, and look at the certificate's chain.",
)
EXPIRED = Cause(
    "token_expired",
    Station.TOKEN,
    "The token's exp has passed: the application read its token file once and kept it.",
    f"`{_VERIFY}` tells when it expired. Projected tokens are renewed on disk: use an SDK that reads"
    " AWS_WEB_IDENTITY_TOKEN_FILE anew.",
)
CLOCK = Cause(
    "clock_wrong",
    Station.TOKEN,
    "The clock of the control plane is wrong: iat or nbf lie in the future, or exp in the past.",
    "Compare the clocks of the apiservers with the world's; `oidc-mirror run` tells `clock.skewed`.",
)
IDP_FAILED = Cause(
    "idp_communication",
    Station.DOCUMENTS,
    "AWS could not talk to the issuer's host just now; the SDKs try again by themselves.",
    "If it lasts: `oidc-mirror verify NAME`, and see how long each document takes.",
)
REJECTED_CLAIM = Cause(
    "claim_rejected",
    Station.TOKEN,
    "The identity provider or AWS refused the token's claims: expired, revoked, or not those of a login.",
    f"Run `{_VERIFY}`, and take a fresh token of the pod.",
)
TRUST_POLICY = Cause(
    "trust_policy",
    Station.ROLE,
    "The role's trust policy does not fit: another provider, or a condition on :sub or :aud that the token misses.",
    f"Compare `{_VERIFY}` (sub, aud) with `oidc-mirror render iam-role NAME` and the role's trust policy; the condition"
    " keys are the issuer without https://, followed by :sub and :aud.",
)
NO_ROLE = Cause(
    "role_missing",
    Station.ROLE,
    "There is no role of this ARN; STS does not tell that apart from a refusal.",
    "Compare the ARN with `aws iam get-role`: account, path and upper case count.",
)
ORGANISATION = Cause(
    "organisation_policy",
    Station.ROLE,
    "A service or resource control policy of the organisation denies sts:AssumeRoleWithWebIdentity.",
    "Ask who runs the AWS organisation; CloudTrail of the role's account shows the denied call.",
)
NO_JWT = Cause(
    "token_malformed",
    Station.TOKEN,
    "What was sent is no compact JWT: another file, several lines, an opaque or an encrypted token.",
    f"Run `{_VERIFY}`: it says what is wrong with the token without printing it.",
)
BAD_SIGNATURE = Cause(
    "signature_wrong",
    Station.KEYS,
    "A public key of this kid did not make the signature: another cluster's key, or a token that was changed.",
    f"Run `{_VERIFY}`, and compare the kids with `oidc-mirror status NAME`.",
)
ALGORITHM = Cause(
    "algorithm",
    Station.KEYS,
    "The cloud does not accept the algorithm: AWS takes RS256/384/512 and ES256/384/512, Google RS256 and ES256,"
    " Entra RS256.",
    "Sign with an RSA key of 2048 bits or more; RS256 works everywhere.",
)
BAD_ARN = Cause(
    "role_arn_malformed",
    Station.ROLE,
    "The role's ARN is not written as IAM writes it.",
    "Copy it from `aws iam get-role`: arn:aws:iam::<12 digits>:role/<name>.",
)
REGION_OFF = Cause(
    "region_disabled",
    Station.CLOUD,
    "STS is not switched on for this account in this region.",
    "Switch it on in the account's settings of IAM, or use another regional endpoint (AWS_REGION).",
)
STS_SILENT = Cause(
    "sts_silent",
    Station.CLOUD,
    "STS did not answer as STS does: it says nothing about the token.",
    "Check the network, proxies, AWS_ENDPOINT_URL_STS, AWS_CA_BUNDLE and AWS_PROFILE of this machine.",
)
THROTTLED = Cause(
    "throttled",
    Station.CLOUD,
    "Too many requests of this account at once.",
    "Let clients keep their credentials until they expire, and try again with a pause that grows.",
)
GCP_FETCH = Cause(
    "gcp_documents_unreadable",
    Station.DOCUMENTS,
    "Google could not read the discovery document or the JWKS from the issuer's host.",
    "Run `oidc-mirror verify NAME`: it reads both as the world does.",
)
GCP_CONDITION = Cause(
    "gcp_condition",
    Station.SUBJECT,
    "The attribute condition of the workload identity pool's provider refuses the token's claims.",
    f"Compare the provider's attribute condition with the claims of `{_VERIFY}`.",
)
GCP_LIFETIME = Cause(
    "gcp_lifetime",
    Station.TOKEN,
    "Google accepts only tokens that live less than 48 hours and whose iat is not too old.",
    "Set expirationSeconds of the projected token to 172799 or less (43200 and less is usual).",
)
ENTRA_ISSUER = Cause(
    "entra_issuer",
    Station.ISSUER,
    "No federated credential of the application has this issuer, to the letter.",
    f"Compare the iss of `{_VERIFY}` with the federated credential: also a slash at the end counts.",
)
ENTRA_AUDIENCE = Cause(
    "entra_audience",
    Station.AUDIENCE,
    "No federated credential of the application has this audience; Entra wants exactly one, by default"
    " api://AzureADTokenExchange.",
    f"Compare the aud of `{_VERIFY}` with the federated credential and the pod's projected volume.",
)
ENTRA_SUBJECT = Cause(
    "entra_subject",
    Station.SUBJECT,
    "No federated credential of the application has this subject, upper and lower case included.",
    f"Compare the sub of `{_VERIFY}` (system:serviceaccount:NAMESPACE:NAME) with the federated credential.",
)
ENTRA_SIGNATURE = Cause(
    "entra_signature",
    Station.KEYS,
    "Entra did not find the signing key in the public JWKS, or refuses its algorithm: only RS256.",
    f"Run `{_VERIFY}`. One key of a type that Entra does not know breaks the whole set.",
)
ENTRA_FETCH = Cause(
    "entra_documents_unreadable",
    Station.DOCUMENTS,
    "Entra could not read the discovery document or the JWKS from the issuer's host.",
    "Run `oidc-mirror verify NAME`: it reads both as the world does.",
)
