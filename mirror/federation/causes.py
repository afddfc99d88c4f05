"""Why a cloud refuses a login: each cause with the command that decides.

See facts.md#27, #28, and the clouds' own pages.
"""

from dataclasses import dataclass
from enum import StrEnum

_VERIFY = "oidc-mirror verify NAME --token-file FILE"
_CREDENTIALS = "az identity federated-credential list --identity-name IDENTITY --resource-group GROUP"
_PROVIDER = (
    "gcloud iam workload-identity-pools providers describe PROVIDER --workload-identity-pool=POOL --location=global"
)


class CauseArea(StrEnum):
    """The subject of a cause: where `check` has its own findings for it."""

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
    area: CauseArea
    sentence: str
    remedy: str


# ------------------------------------------------------------------------------------ documents and keys

NOT_PUBLIC = Cause(
    "documents_not_public",
    CauseArea.DOCUMENTS,
    "One of the two documents is not public: the bucket policy, Block Public Access, or the URL.",
    "Run `oidc-mirror verify NAME`: it reads both as AWS does, and names the cause. `oidc-mirror provision bucket NAME`"
    " corrects the policy.",
)
TOO_SLOW = Cause(
    "documents_slow",
    CauseArea.DOCUMENTS,
    "The documents are slow: AWS ends a fetch after 5 seconds. CloudTrail does not log it.",
    "`oidc-mirror verify NAME` shows how long each document took. Check the CDN or proxy in front of the bucket.",
)
FETCHED_TOO_OFTEN = Cause(
    "documents_not_cached",
    CauseArea.DOCUMENTS,
    "Cache-Control forbids caching (no-cache, max-age=0), so that many logins at once make AWS fetch too often.",
    "Set `publish.cache_control` to `public, max-age=300`, and check that no proxy changes the header.",
)
KEY_NOT_PUBLIC = Cause(
    "signing_key_not_public",
    CauseArea.KEYS,
    "The signing key is not public: the JWKS lacks the key that signed the token, or caches do not have it yet.",
    f"Run `{_VERIFY}`: it names the key. `oidc-mirror wait NAME KEY` returns when a new key may sign.",
)
WRONG_JWKS_URI = Cause(
    "jwks_uri_wrong",
    CauseArea.DOCUMENTS,
    "The discovery document names another jwks_uri than the public one (kube-apiserver's own is private).",
    "Run `oidc-mirror verify NAME`: it begins at the issuer and follows its jwks_uri.",
)
IDP_FAILED = Cause(
    "idp_communication",
    CauseArea.DOCUMENTS,
    "AWS could not reach the issuer's host just now. The SDKs try again by themselves.",
    "If it stays, run `oidc-mirror verify NAME`, and check how long each document takes.",
)
BAD_SIGNATURE = Cause(
    "signature_wrong",
    CauseArea.KEYS,
    "The signature is wrong: the public key of this kid did not sign the token. Another cluster has the kid, or the"
    " token was changed.",
    f"Run `{_VERIFY}`, and compare the kids with `oidc-mirror status NAME`.",
)
ALGORITHM = Cause(
    "algorithm",
    CauseArea.KEYS,
    "The cloud does not accept the algorithm: AWS takes RS256/384/512 and ES256/384/512, Google RS256 and ES256,"
    " Entra RS256.",
    f"Run `{_VERIFY}`: it shows alg. Sign with an RSA key of 2048 bits or more; RS256 works everywhere.",
)
KEY_FORM = Cause(
    "jwk_not_accepted",
    CauseArea.KEYS,
    "The cloud cannot parse the JWKS: a key of it has a type or a member that the cloud does not take.",
    "Run `oidc-mirror verify NAME`, then `oidc-mirror run --once`: the mirror publishes RSA and EC keys with plain"
    " members alone.",
)

# ---------------------------------------------------------------------------------- provider, issuer, audience

NO_PROVIDER = Cause(
    "provider_missing",
    CauseArea.PROVIDER,
    "The provider is missing: the role's account has no IAM OIDC provider for this issuer.",
    "Compare `aws iam list-open-id-connect-providers` in the role's account; `oidc-mirror provision provider NAME`"
    " creates it.",
)
ISSUER_DIFFERS = Cause(
    "issuer_differs",
    CauseArea.ISSUER,
    "The issuer differs: the token's iss and the provider's URL are not the same text. A slash at the end, upper case"
    " or another host style counts.",
    f"Run `{_VERIFY}`: it shows the iss and the nearest configured issuer. They are compared code point by code point.",
)
AUDIENCE_UNKNOWN = Cause(
    "audience_unknown",
    CauseArea.AUDIENCE,
    "The token's audience (aud) is not registered: the provider's client ids, or Google's allowed audiences, lack it.",
    f"Compare the aud of `{_VERIFY}` with the provider: `oidc-mirror provision provider NAME --dry-run` shows what AWS"
    f" lacks, `{_PROVIDER}` what Google takes. `audiences` and the pod's projected volume must name the same.",
)
SEVERAL_AUDIENCES = Cause(
    "several_audiences",
    CauseArea.AUDIENCE,
    "The token has more than one audience (aud) and no authorized party (azp), which Kubernetes never writes.",
    f"Run `{_VERIFY}`: it shows aud. Project a token of its own for each cloud, with one audience:"
    " `oidc-mirror render pod NAME`.",
)
THUMBPRINT = Cause(
    "thumbprint_outdated",
    CauseArea.PROVIDER,
    "The provider's thumbprint does not fit the certificate of the issuer's host. It counts only for a certificate of"
    " no public CA, or where the host demands TLS 1.3.",
    "`oidc-mirror provision provider NAME --dry-run` shows the thumbprints. Let the host accept TLS 1.2 with a"
    " certificate of a public CA, or run `aws iam update-open-id-connect-provider-thumbprint`. IAM takes no empty"
    " list.",
)
PROVIDER_NOT_MADE = Cause(
    "provider_not_created",
    CauseArea.DOCUMENTS,
    "IAM did not create the provider, because it could not connect to the issuer's host.",
    "Make the documents public first (`oidc-mirror run --once`, `oidc-mirror verify NAME`), then run"
    " `oidc-mirror provision provider NAME`.",
)

# ---------------------------------------------------------------------------------------------------- token

EXPIRED = Cause(
    "token_expired",
    CauseArea.TOKEN,
    "The token is expired: its exp has passed. The application read its token file once and kept it.",
    f"`{_VERIFY}` shows when it expired. Kubelet renews projected tokens on disk: use an SDK that reads the token file"
    " again.",
)
CLOCK = Cause(
    "clock_wrong",
    CauseArea.TOKEN,
    "A clock is wrong: the token's iat or nbf is in the future, or its exp is in the past.",
    f"Compare `date -u` on the control plane with `{_VERIFY}`; `oidc-mirror run --once` reports `clock.skewed`.",
)
CLAIM_MISSING = Cause(
    "claim_missing",
    CauseArea.TOKEN,
    "The token lacks a claim that the cloud requires (iss, sub, aud, exp or iat): a token of a Secret has no audience.",
    f"Run `{_VERIFY}`: it shows every claim. Use a projected token with an audience: `oidc-mirror render pod NAME`.",
)
CLAIM_EMPTY = Cause(
    "claim_empty",
    CauseArea.TOKEN,
    "A claim of the token is empty: aud, sub or iss has no text.",
    f"Run `{_VERIFY}`: it shows every claim. Set the audience of the projected token: `oidc-mirror render pod NAME`.",
)
CLAIM_NO_NUMBER = Cause(
    "claim_no_number",
    CauseArea.TOKEN,
    "A time claim of the token is not a number: exp, iat or nbf must be seconds since 1970.",
    f"Run `{_VERIFY}`: it names the claim. Take a token of kube-apiserver: `kubectl create token NAME`.",
)
REJECTED_CLAIM = Cause(
    "claim_rejected",
    CauseArea.TOKEN,
    "AWS refused a claim of the token: expired, revoked, or not that of a login.",
    f"Run `{_VERIFY}`, and take a fresh token of the pod.",
)
NO_JWT = Cause(
    "token_malformed",
    CauseArea.TOKEN,
    "The token is not a compact JWT: another file, several lines, an opaque or an encrypted token.",
    f"Run `{_VERIFY}`: it says what is wrong with the token without printing it.",
)
TOKEN_FILE = Cause(
    "token_file_unreadable",
    CauseArea.TOKEN,
    "The application cannot read its token file: it is missing, or belongs to root.",
    "In the pod run `ls -lL $AWS_WEB_IDENTITY_TOKEN_FILE`. Compare volume and fsGroup with `oidc-mirror render pod"
    " NAME`.",
)
NO_CREDENTIALS = Cause(
    "no_credentials",
    CauseArea.TOKEN,
    "The SDK did not try the token: the pod has no role ARN and token file in its environment.",
    "In the pod run `env | grep AWS_`. Compare it with `oidc-mirror render pod NAME`.",
)

# ------------------------------------------------------------------------------------------------ role, STS

TRUST_POLICY = Cause(
    "trust_policy",
    CauseArea.ROLE,
    "The role's trust policy does not fit: another provider, or a condition on the subject (:sub) or audience (:aud)"
    " that"
    " the token does not meet.",
    f"Compare `{_VERIFY}` (sub, aud) with `oidc-mirror render iam-role NAME` and `aws iam get-role`. The condition"
    " keys are the issuer without https://, followed by :sub and :aud.",
)
NO_ROLE = Cause(
    "role_missing",
    CauseArea.ROLE,
    "No role has this ARN. STS gives the same answer as for a refusal.",
    "Compare the ARN with `aws iam get-role`: account, path and upper case count.",
)
ORGANISATION = Cause(
    "organisation_policy",
    CauseArea.ROLE,
    "A service or resource control policy of the organisation denies sts:AssumeRoleWithWebIdentity.",
    "Ask who runs the AWS organisation. The denied call stands in CloudTrail of the role's account:"
    " `aws cloudtrail lookup-events`.",
)
BAD_ARN = Cause(
    "role_arn_malformed",
    CauseArea.ROLE,
    "The role's ARN is not written as IAM writes it.",
    "Copy it from `aws iam get-role`: arn:aws:iam::<12 digits>:role/<name>.",
)
SESSION_TOO_LONG = Cause(
    "session_too_long",
    CauseArea.ROLE,
    "The session is longer than the role's MaxSessionDuration.",
    "Compare `aws iam get-role --role-name ROLE --query Role.MaxSessionDuration`; `oidc-mirror render iam-role NAME"
    " --session-duration 12h` sets it.",
)
SESSION_POLICY = Cause(
    "session_policy",
    CauseArea.ROLE,
    "The session policy of the request is malformed or too large. The token is not the cause.",
    "Correct what the application sends as Policy or PolicyArns: `aws iam simulate-custom-policy` checks a policy.",
)
REGION_OFF = Cause(
    "region_disabled",
    CauseArea.CLOUD,
    "STS is not active for this account in this region.",
    "Compare `aws account list-regions`; activate the region in the account's settings, or set AWS_REGION.",
)
STS_SILENT = Cause(
    "sts_silent",
    CauseArea.CLOUD,
    "STS did not answer: what came says nothing about the token.",
    "Check the network, proxies, AWS_ENDPOINT_URL_STS, AWS_CA_BUNDLE and AWS_PROFILE of this machine.",
)
THROTTLED = Cause(
    "throttled",
    CauseArea.CLOUD,
    "Too many requests of this account at once.",
    "Let clients keep their credentials until they expire, and try again with a pause that grows.",
)

# --------------------------------------------------------------------------------------------------- Google

GCP_FETCH = Cause(
    "gcp_documents_unreadable",
    CauseArea.DOCUMENTS,
    "The documents are not public for Google: it could not read the discovery document or the JWKS of the issuer.",
    "Run `oidc-mirror verify NAME`: it reads both as an anonymous client does.",
)
GCP_CONDITION = Cause(
    "gcp_condition",
    CauseArea.SUBJECT,
    "The attribute condition of the workload identity pool's provider refuses the token's claims, mostly its subject.",
    f"Compare `{_PROVIDER}` (attributeCondition) with the sub of `{_VERIFY}`.",
)
GCP_LIFETIME = Cause(
    "gcp_lifetime",
    CauseArea.TOKEN,
    "Google accepts only tokens that live less than 48 hours and whose iat is not too old.",
    f"`{_VERIFY}` shows both. Set expirationSeconds of the projected token to 172799 or less (43200 and less is"
    " usual).",
)
GCP_POOL = Cause(
    "gcp_pool_missing",
    CauseArea.PROVIDER,
    "The workload identity pool or its provider is missing, disabled or deleted, or the project's number is wrong.",
    f"Run `{_PROVIDER}` in the project; `oidc-mirror render workload-identity-provider NAME` makes both.",
)
GCP_AUDIENCE_PARAMETER = Cause(
    "gcp_audience_parameter",
    CauseArea.AUDIENCE,
    "The request's audience is not the full name of the pool's provider: it must begin with"
    " //iam.googleapis.com/projects/"
    " and the project's number.",
    "Compare the credentials file with `oidc-mirror render workload-identity-provider NAME --format json`.",
)
GCP_IMPERSONATION = Cause(
    "gcp_impersonation",
    CauseArea.SUBJECT,
    "The pool's principal lacks roles/iam.workloadIdentityUser on the service account: another subject or pool is"
    " bound, or"
    " the service account does not exist.",
    f"Compare `gcloud iam service-accounts get-iam-policy SERVICE_ACCOUNT` with the sub of `{_VERIFY}`; `oidc-mirror"
    " render"
    " workload-identity-provider NAME` binds it.",
)
GCP_MAPPING = Cause(
    "gcp_attribute_mapping",
    CauseArea.SUBJECT,
    "The provider's attribute mapping gives no text for google.subject: a claim that the token lacks, or an expression"
    " of"
    " another type.",
    f"Run `{_PROVIDER}` (attributeMapping): google.subject=assertion.sub is right for ServiceAccounts.",
)
GCP_SUBJECT_LENGTH = Cause(
    "gcp_subject_length",
    CauseArea.SUBJECT,
    "The subject is too long: Google takes 127 bytes as google.subject.",
    f"`{_VERIFY}` shows the sub. Shorten the names of namespace and ServiceAccount, or map another attribute.",
)
GCP_API_OFF = Cause(
    "gcp_api_disabled",
    CauseArea.CLOUD,
    "An API of the Google Cloud project is disabled: sts.googleapis.com or iamcredentials.googleapis.com.",
    "Run `gcloud services list --enabled`, then `gcloud services enable sts.googleapis.com"
    " iamcredentials.googleapis.com`.",
)
GCP_FEDERATED_TOKEN = Cause(
    "gcp_federated_token",
    CauseArea.CLOUD,
    "The API does not take the federated token: it must be exchanged for a token of a service account first.",
    "Set service_account_impersonation_url in the credentials file: `gcloud iam workload-identity-pools"
    " create-cred-config --service-account=…`.",
)
GCP_ORGANISATION = Cause(
    "gcp_organisation_policy",
    CauseArea.CLOUD,
    "A policy of the Google Cloud organisation does not allow this issuer as a provider.",
    "Ask its administrators: `gcloud resource-manager org-policies describe iam.workloadIdentityPoolProviders"
    " --project=PROJECT`.",
)

# ---------------------------------------------------------------------------------------------------- Entra

ENTRA_ISSUER = Cause(
    "entra_issuer",
    CauseArea.ISSUER,
    "No federated credential of the application has this issuer, to the letter.",
    f"Compare the iss of `{_VERIFY}` with `{_CREDENTIALS}`: a slash at the end counts.",
)
ENTRA_AUDIENCE = Cause(
    "entra_audience",
    CauseArea.AUDIENCE,
    "No federated credential of the application has this audience. Entra wants exactly one, by default"
    " api://AzureADTokenExchange.",
    f"Compare the aud of `{_VERIFY}` with `{_CREDENTIALS}` and the pod's projected volume.",
)
ENTRA_SUBJECT = Cause(
    "entra_subject",
    CauseArea.SUBJECT,
    "No federated credential of the application has this subject; upper and lower case count.",
    f"Compare the sub of `{_VERIFY}` (system:serviceaccount:NAMESPACE:NAME) with `{_CREDENTIALS}`.",
)
ENTRA_NO_MATCH = Cause(
    "entra_no_match",
    CauseArea.SUBJECT,
    "No federated credential of the application has issuer, subject and audience of the token together.",
    f"Compare iss, sub and aud of `{_VERIFY}` with `{_CREDENTIALS}`; `oidc-mirror render federated-credential NAME`"
    " makes"
    " one.",
)
ENTRA_NO_CREDENTIAL = Cause(
    "entra_no_credential",
    CauseArea.PROVIDER,
    "The application or managed identity has no federated credential at all, or its client id is another one's.",
    f"Run `{_CREDENTIALS}`; `oidc-mirror render federated-credential NAME` makes one.",
)
ENTRA_KEY_NOT_PUBLIC = Cause(
    "entra_signing_key_not_public",
    CauseArea.KEYS,
    "The signing key is not public for Entra: the JWKS lacks it, or Entra's cache is older than the key.",
    f"Run `{_VERIFY}`: it names the key. `oidc-mirror wait NAME KEY` returns when a new key may sign.",
)
ENTRA_KEY_TYPE = Cause(
    "entra_key_type",
    CauseArea.KEYS,
    "Entra cannot parse the signing keys: one key of the JWKS has a type that Entra does not take, which breaks the"
    " whole"
    " set.",
    "Run `oidc-mirror verify NAME`: it names such keys. `oidc-mirror run --once` publishes a set without them.",
)
ENTRA_SIGNATURE = Cause(
    "entra_signature",
    CauseArea.KEYS,
    "Entra found no public key that made the signature, or refuses its algorithm: it takes RS256 only.",
    f"Run `{_VERIFY}`. One key of a type that Entra does not know breaks the whole set.",
)
ENTRA_FETCH = Cause(
    "entra_documents_unreadable",
    CauseArea.DOCUMENTS,
    "The documents are not public for Entra: it could not read the discovery document or the JWKS of the issuer.",
    "Run `oidc-mirror verify NAME`: it reads both as an anonymous client does.",
)
ENTRA_OWN_TOKEN = Cause(
    "entra_own_token",
    CauseArea.TOKEN,
    "The token is Entra's own, such as that of an AKS or az login. The pod's projected token must be sent.",
    f"Run `{_VERIFY}`: iss must be the cluster's issuer. Use the file in AZURE_FEDERATED_TOKEN_FILE.",
)
ENTRA_LIFETIME = Cause(
    "entra_lifetime",
    CauseArea.TOKEN,
    "The token lives longer than Entra accepts, or lacks the claim iat, from which Entra counts.",
    f"`{_VERIFY}` shows iat and exp. Project a token of 24 hours or less: `oidc-mirror render pod NAME --expiration"
    " 1h`.",
)
ENTRA_APPLICATION = Cause(
    "entra_application_missing",
    CauseArea.PROVIDER,
    "The application is missing in this tenant: the client id is wrong, or of another tenant.",
    "Compare AZURE_CLIENT_ID with `az ad sp show --id CLIENT_ID` or `az identity show`, and AZURE_TENANT_ID.",
)
ENTRA_TENANT = Cause(
    "entra_tenant",
    CauseArea.CLOUD,
    "The tenant is missing: its id is wrong, or it is in another sovereign cloud.",
    "Compare AZURE_TENANT_ID and AZURE_AUTHORITY_HOST with `az account show`.",
)
ENTRA_RESOURCE = Cause(
    "entra_resource",
    CauseArea.CLOUD,
    "The resource or scope that the application asks for does not exist in this tenant. The token is not the cause.",
    "Correct the scope of the request, such as https://storage.azure.com/.default: `az ad sp show --id RESOURCE`.",
)
ENTRA_POLICY = Cause(
    "entra_policy",
    CauseArea.CLOUD,
    "A policy of the tenant forbids this login: conditional access, or the restriction of issuers for federation.",
    "Ask the tenant's administrators; the sign-in log of Entra names the policy.",
)
ENTRA_SECRET = Cause(
    "entra_client_secret",
    CauseArea.TOKEN,
    "The application sent a client secret or certificate of its own instead of the pod's token.",
    "In the pod run `env | grep AZURE_`: unset AZURE_CLIENT_SECRET, and set AZURE_FEDERATED_TOKEN_FILE.",
)
