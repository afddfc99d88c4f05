"""Errors of the clouds' token exchanges: what each means and what to check (facts.md#27, #28). Pure.

The likeliest cause stands first. A pattern means what a text says, not one wording of it: clouds change their words. It
is compared with lower-case text with plain quotes and single spaces. Each row names a public page with the text.
"""

import re
from dataclasses import dataclass
from html import unescape

from mirror.federation import causes as why
from mirror.federation.causes import Cause


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One kind of error text, and its causes, the likeliest first."""

    pattern: re.Pattern[str]
    causes: tuple[Cause, ...]


def _row(pattern: str, *causes: Cause) -> ErrorRow:
    return ErrorRow(re.compile(pattern), causes)


_CLAIM = r"(?:iss|sub|aud|exp|iat|nbf|azp|issuer|subject|audience)"
_GAP = r".{0,120}?"
AWS_TEXTS = (
    # https://github.com/aws/aws-cli/issues/7194 and https://repost.aws/knowledge-center/iam-sts-invalididentitytoken
    _row(
        rf"(?:couldn't|could not|can't|cannot|failed to|unable to) (?:retrieve|fetch|get|obtain){_GAP}"
        r"(?:verification|signing|public) keys?",
        why.NOT_PUBLIC,
        why.KEY_NOT_PUBLIC,
        why.WRONG_JWKS_URI,
        why.TOO_SLOW,
        why.FETCHED_TOO_OFTEN,
    ),
    # https://github.com/kubernetes/kops/issues/15429 and https://github.com/aws/aws-sdk-js-v3/issues/5749
    _row(r"no open ?id ?connect provider (?:was )?found", why.NO_PROVIDER, why.ISSUER_DIFFERS),
    # https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html (InvalidIdentityToken) and
    # https://github.com/BerriAI/litellm/pull/31412
    _row(
        r"(?:web ?identity|identity|id|oidc) token (?:\w+ ){0,3}could(?: not|n't) be validated",
        why.NO_PROVIDER,
        why.ISSUER_DIFFERS,
        why.AUDIENCE_UNKNOWN,
    ),
    # https://github.com/aws-actions/configure-aws-credentials/issues/775
    _row(r"(?:incorrect|wrong|invalid) (?:token )?audience(?! parameter)", why.AUDIENCE_UNKNOWN),
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html (aud and azp)
    _row(
        rf"more than one audience|multiple audiences|several audiences|authorized party{_GAP}(?:not present|missing"
        r"|absent)",
        why.SEVERAL_AUDIENCES,
    ),
    # https://openid.net/specs/openid-connect-core-1_0.html#IDToken (azp)
    _row(r"(?:authorized party|azp)(?: claim)? is invalid", why.SEVERAL_AUDIENCES, why.AUDIENCE_UNKNOWN),
    # https://github.com/aws/aws-sdk-ruby/issues/2698 and
    # https://github.com/aws-actions/configure-aws-credentials/issues/502
    _row(
        rf"missing (?:a |the )?(?:required )?claims?\b|(?:required )?claim {_GAP}(?:is )?missing|(?:no"
        rf"|without) {_CLAIM} claim"
        rf"|{_CLAIM}['\"]? claim (?:is )?(?:missing|required|not present|absent)"
        rf"|(?:does not|doesn't) (?:contain|have) {_GAP}{_CLAIM}\b{_GAP}claim",
        why.CLAIM_MISSING,
    ),
    # https://datatracker.ietf.org/doc/html/rfc7519#section-4.1.3; the same check as the row above
    _row(
        rf"claims? (?:is|are) not allowed to be empty|empty {_CLAIM}\b|{_CLAIM}['\"]? (?:claim )?(?:is|was|must not be"
        r"|cannot"
        r" be|may not be) empty",
        why.CLAIM_EMPTY,
    ),
    # https://datatracker.ietf.org/doc/html/rfc7519#section-2 (NumericDate)
    _row(
        rf"(?:invalid|malformed|bad) (?:timestamp|date|time)\b{_GAP}(?:token|claim)"
        r"|(?:exp|iat|nbf)\b.{0,40}(?:not|no|must be) a? ?(?:valid )?(?:number|integer|numeric|timestamp)",
        why.CLAIM_NO_NUMBER,
    ),
    # https://datatracker.ietf.org/doc/html/rfc7519#section-4.1 (StringOrURI)
    _row(
        r"(?:issuer|subject|audience)(?: claim)? (?:must be|is not) a string|audience claim is invalid",
        why.CLAIM_EMPTY,
        why.CLAIM_MISSING,
    ),
    # https://github.com/aws-actions/configure-aws-credentials/issues/357 and
    # https://github.com/terraform-aws-modules/terraform-aws-eks/issues/2542
    _row(
        rf"(?:certificate{_GAP})?(?:doesn't|does not|didn't|did not) match{_GAP}thumbprint|thumbprint{_GAP}"
        r"(?:doesn't|does not|mismatch|invalid|incorrect)|(?:invalid|incorrect|wrong) thumbprint",
        why.THUMBPRINT,
    ),
    # https://github.com/awslabs/aws-orbit-workbench/issues/707 and
    # https://github.com/mozilla-iam/mozilla-aws-cli/issues/146
    _row(
        r"token (?:has |is |was |that was passed is )?(?:already )?expired|token too old|expired ?token(?:exception)?"
        r"|current date/time .{0,60}must be before the expiration",
        why.EXPIRED,
        why.CLOCK,
    ),
    # https://github.com/getprobo/probo/pull/1930 and https://github.com/minio/object-browser/issues/993
    _row(
        r"token (?:was )?(?:used before|is not yet valid|not yet valid|is not active yet|can't be used before)"
        r"|not[ -]before|not yet valid|nbf\b.{0,40}future|issued (?:in|at a time in) the future"
        r"|issued.{0,40}in the future"
        r"|iat\b.{0,40}future|token used before issued",
        why.CLOCK,
    ),
    # https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html (IDPCommunicationError) and
    # https://docs.rs/aws-sdk-sts/latest/aws_sdk_sts/types/error/
    _row(
        r"(?<!openid)(?<!openid )idp ?communication ?error|identity provider.{0,80}(?:could not be|couldn't be"
        r"|not) reached",
        why.IDP_FAILED,
        why.TOO_SLOW,
    ),
    # https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html (IDPRejectedClaim)
    _row(
        r"idp ?rejected ?claim|identity provider.{0,40}reported that authentication failed",
        why.REJECTED_CLAIM,
        why.EXPIRED,
    ),
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
    _row(
        rf"assumerolewithwebidentity{_GAP}explicit deny|explicit deny in an? (?:service|resource) control policy",
        why.ORGANISATION,
        why.TRUST_POLICY,
    ),
    # https://github.com/external-secrets/kubernetes-external-secrets/issues/287 and
    # https://github.com/aws-actions/configure-aws-credentials/issues/318
    _row(
        r"(?:not authorized|unauthorized) to perform:? sts:assumerolewithwebidentity",
        why.TRUST_POLICY,
        why.NO_ROLE,
        why.ORGANISATION,
    ),
    # https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
    _row(
        r"not a valid (?:jwt|json web token|id token|oidc token)|invalid (?:jwt|json web token)(?! signature)"
        r"|(?:token|jwt) is (?:malformed|not a jwt|invalid or malformed)|malformed (?:jwt|token)"
        r"|failed to satisfy constraint.{0,300}webidentitytoken|webidentitytoken.{0,300}failed to satisfy constraint",
        why.NO_JWT,
    ),
    # https://github.com/ceph/ceph/pull/70565
    _row(
        r"signature (?:is |was )?(?:invalid|wrong|verification failed|validation failed|could not be verified"
        r"|does not match)"
        r"|(?:invalid|bad|wrong) (?:\w+ )?signature|signature can ?not be validated"
        r"|(?:verify|validate) the (?:\w+ ){0,3}signature",
        why.BAD_SIGNATURE,
        why.KEY_NOT_PUBLIC,
    ),
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_create_oidc.html (supported algorithms)
    _row(
        r"(?:unsupported|invalid|unknown|disallowed) (?:jwt |signing |signature )?alg(?:orithm)?\b"
        r"|alg(?:orithm)?\b.{0,40}(?:is )?(?:not (?:supported|allowed|accepted)|unsupported)",
        why.ALGORITHM,
    ),
    # https://github.com/prometheus-community/yet-another-cloudwatch-exporter/issues/343 and
    # https://github.com/mmmorris1975/aws-runas/issues/80
    _row(r"(?:request )?arn is (?:invalid|not valid)|rolearn.{0,200}failed to satisfy constraint", why.BAD_ARN),
    # https://github.com/kreuzwerker/awsu/issues/27
    _row(r"durationseconds exceeds|exceeds the maxsessionduration", why.SESSION_TOO_LONG),
    # https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
    _row(r"malformed ?policy ?document|packed ?policy ?too ?large|packed size of the session", why.SESSION_POLICY),
    # https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html (RegionDisabledException)
    _row(r"region ?disabled(?:exception)?|sts is not activated", why.REGION_OFF),
    # https://github.com/aws/aws-sdk-cpp/issues/2472
    _row(r"throttling|rate exceeded|too many requests|requestlimitexceeded", why.THROTTLED),
    # https://github.com/mumoshu/aws-secret-operator/issues/37 and https://github.com/velero-io/velero/issues/3138
    _row(
        rf"(?:unable|failed|can't|cannot) (?:to )?(?:read|open|load){_GAP}(?:token|web ?identity){_GAP}(?:file"
        r"|permission denied|no such)"
        rf"|(?:serviceaccount|token)/?\S*:? (?:permission denied|no such file)|token{_GAP}: (?:permission denied"
        r"|no such file)",
        why.TOKEN_FILE,
    ),
    # https://github.com/aws/aws-sdk-java-v2/issues/5294 and
    # https://github.com/external-secrets/kubernetes-external-secrets/issues/599
    _row(
        r"aws_web_identity_token_file.{0,120}must be set|missing credentials in config|unable to locate credentials"
        r"|no credential ?providers|nocredentialproviders|could not load credentials from any providers",
        why.NO_CREDENTIALS,
        why.TOKEN_FILE,
    ),
    # https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateOpenIDConnectProvider.html
    _row(r"open ?id ?idp ?communication ?error", why.PROVIDER_NOT_MADE, why.NOT_PUBLIC),
    # https://github.com/aws/aws-sdk-net/issues/3071
    _row(
        r"^(?!.*aadsts).*(?:invalid|unknown|untrusted|unexpected) (?:token )?issuer"
        r"|^(?!.*aadsts).*issuer.{0,80}(?:is )?not (?:trusted|found"
        r"|registered|known)",
        why.ISSUER_DIFFERS,
        why.NO_PROVIDER,
    ),
)

GOOGLE_TEXTS = (
    # https://github.com/GoogleCloudPlatform/gcs-fuse-csi-driver/pull/1471 and
    # https://cloud.google.com/iam/docs/troubleshooting-workload-identity-federation
    _row(
        r"error connecting to the given credential's issuer|(?:connect|reach|fetch).{0,40}credential's issuer",
        why.GCP_FETCH,
    ),
    # https://github.com/terraform-google-modules/terraform-example-foundation/issues/1362
    _row(r"rejected by the attribute condition|attribute condition.{0,60}(?:reject|not met|false)", why.GCP_CONDITION),
    # https://github.com/google-github-actions/auth/issues/202 and /issues/334
    _row(
        r"target service indicated by|invalid_target|pool or (?:provider|pro\b).{0,60}(?:disabled|deleted|exist)"
        r"|workload ?identity ?pool.{0,80}(?:not found|does not exist|doesn't exist|disabled|deleted)",
        why.GCP_POOL,
    ),
    # https://github.com/google-github-actions/auth/issues/211 and /issues/60
    _row(r"invalid value for \"?audience|full resource name of the identity provider", why.GCP_AUDIENCE_PARAMETER),
    # https://cloud.google.com/iam/docs/reference/rest/v1/projects.locations.workloadIdentityPools.providers (oidc)
    _row(
        r"audience in (?:the )?id token.{0,600}(?:does not|doesn't|do not) match",
        why.AUDIENCE_UNKNOWN,
    ),
    # the same page (issuerUri)
    _row(r"issuer in (?:the )?id token.{0,600}(?:does not|doesn't|do not) match", why.ISSUER_DIFFERS),
    # https://cloud.google.com/kubernetes-engine/config-sync/docs/troubleshooting (stale to sign-in)
    _row(r"stale to sign-in|id token issued at", why.GCP_LIFETIME, why.EXPIRED),
    # https://github.com/google-github-actions/auth/issues/423
    _row(r"size of (?:the )?mapped attribute|exceeds the 127 bytes", why.GCP_SUBJECT_LENGTH),
    # https://github.com/google-github-actions/auth/issues/378
    _row(r"mapped attribute.{0,60}must be of type", why.GCP_MAPPING),
    # https://cloud.google.com/iam/docs/workload-identity-federation-with-x509-certificates (troubleshooting)
    _row(r"could not obtain a value for google\.subject|attribute mapping.{0,60}(?:invalid|fail)", why.GCP_MAPPING),
    # https://github.com/google-github-actions/auth/issues/340 and
    # https://github.com/DataDog/stratus-red-team/issues/299
    _row(r"iam\.serviceaccounts\.(?:getaccesstoken|getopenidtoken|signblob|signjwt)", why.GCP_IMPERSONATION),
    # https://github.com/google-github-actions/auth/issues/104 and
    # https://cloud.google.com/iam/docs/troubleshooting-workload-identity-federation
    _row(
        r"unable to (?:acquire|generate) (?:impersonated credentials|access token|id token)|gaia id not found"
        r"|generate google cloud (?:id|access) token for",
        why.GCP_IMPERSONATION,
    ),
    # https://cloud.google.com/iam/docs/workload-identity-federation-with-kubernetes (APIs to enable)
    _row(
        r"(?:credentials|security token service) api has not been used|service_disabled|accessnotconfigured"
        r"|api .{0,80}(?:is disabled|has not been used in project)",
        why.GCP_API_OFF,
    ),
    # https://cloud.google.com/iam/docs/troubleshooting-workload-identity-federation
    _row(r"request had invalid authentication credentials", why.GCP_FEDERATED_TOKEN),
    # https://cloud.google.com/iam/docs/troubleshooting-workload-identity-federation
    _row(r"input jwk is not in a valid|jwk.{0,60}(?:not supported|invalid)", why.KEY_FORM),
    # https://cloud.google.com/iam/docs/troubleshooting-workload-identity-federation ("Allowlist an identity provider")
    _row(
        r"org(?:anization)? policy violated|workloadidentitypoolproviders\b.{0,60}constraint|constraints/iam\.workload",
        why.GCP_ORGANISATION,
    ),
)

ENTRA_TEXTS = (
    # https://github.com/Azure/azure-workload-identity/issues/1350 (700211)
    _row(
        r"aadsts700211\b|presented assertion issuer|federated identity record.{0,80}assertion issuer '",
        why.ENTRA_ISSUER,
    ),
    # https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes (700212)
    _row(r"aadsts700212\b|presented assertion audience", why.ENTRA_AUDIENCE),
    # https://github.com/Azure/azure-workload-identity/issues/1200 and
    # https://github.com/Azure/login/issues/482 (700213)
    _row(r"aadsts700213\b|presented assertion subject", why.ENTRA_SUBJECT),
    # https://github.com/Azure/login/issues/517 (7002138) and https://github.com/microsoft/Agents/issues/202 (7002137)
    _row(r"aadsts700213\d\b", why.ENTRA_SUBJECT),
    # https://github.com/Azure/azure-workload-identity/issues/340 (70021), cut off behind the issuer
    _row(r"aadsts70021\b(?=.*issuer)(?!.*(?:subject|audience))", why.ENTRA_ISSUER),
    # https://github.com/external-secrets/external-secrets/issues/2783 (70021), whole
    _row(
        r"aadsts70021\b(?!.*issuer(?!.*(?:subject|audience)))",
        why.ENTRA_NO_MATCH,
        why.ENTRA_ISSUER,
        why.ENTRA_SUBJECT,
        why.ENTRA_AUDIENCE,
    ),
    # https://github.com/Azure/azure-workload-identity/issues/977, without its code
    _row(
        r"^(?!.*aadsts7002)(?!.*presented assertion (?:issuer|subject"
        r"|audience)).*no matching federated identity record",
        why.ENTRA_NO_MATCH,
        why.ENTRA_ISSUER,
        why.ENTRA_SUBJECT,
        why.ENTRA_AUDIENCE,
    ),
    # https://github.com/AzureAD/microsoft-identity-web/issues/2551 and
    # https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes (70025)
    _row(
        r"aadsts70025\b|no (?:configured )?federated (?:identity )?credentials?",
        why.ENTRA_NO_CREDENTIAL,
    ),
    # https://github.com/Azure/azure-workload-identity/issues/1232 and /issues/616 (7000272)
    _row(
        rf"aadsts7000272\b|certificate with identifier{_GAP}could not be found|used to sign the federated credential",
        why.ENTRA_KEY_NOT_PUBLIC,
        why.ENTRA_KEY_TYPE,
    ),
    # https://github.com/Azure/azure-workload-identity/issues (900612, 2025-07-02)
    _row(r"aadsts900612\b|(?:parse|read) (?:the )?provider signing keys", why.ENTRA_KEY_TYPE, why.ENTRA_FETCH),
    # https://github.com/MicrosoftDocs/azure-docs/issues/90276 (700222)
    _row(r"aadsts700222\b|aad-issued tokens|entra(?: id)?-issued tokens", why.ENTRA_OWN_TOKEN),
    # https://github.com/MicrosoftDocs/azure-docs/issues/109083 (700229)
    _row(r"aadsts700229\b|only app-only tokens", why.ENTRA_OWN_TOKEN),
    # https://github.com/Azure/azure-workload-identity/issues/1363 (700231)
    _row(r"aadsts700231\b|obtained using another federated identity credential", why.ENTRA_OWN_TOKEN),
    # https://github.com/MicrosoftDocs/azure-docs/issues/86915 (70023)
    _row(r"aadsts70023\b|external oidc provider token must have a lifetime", why.ENTRA_LIFETIME),
    # https://github.com/Azure/azure-workload-identity/issues/693 and https://github.com/Azure/login/issues/180 (700024)
    _row(r"aadsts700024\b|assertion is not within its valid time range", why.EXPIRED, why.CLOCK),
    # https://github.com/Azure-Samples/active-directory-dotnet-daemon-certificate-credential/issues/46 (50012),
    # https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes (500133)
    _row(r"aadsts(?:500133|50012)\b", why.EXPIRED, why.CLOCK),
    # https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes (700027, 50027, 50013)
    _row(
        r"aadsts(?:700027|50027|50013|7000274)\b|client assertion (?:failed signature|contains an invalid signature)",
        why.ENTRA_SIGNATURE,
    ),
    # https://github.com/Azure/azure-workload-identity/issues/605 (90061)
    _row(r"aadsts90061\b", why.ENTRA_FETCH),
    # https://github.com/Azure/azure-workload-identity/issues/642 and
    # /issues/1130 (50166), https://github.com/Azure/login/issues/283 (501661)
    _row(r"aadsts50166\d?\b|request to external oidc endpoint failed", why.ENTRA_FETCH),
    # https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes (700016) and
    # https://github.com/AzureAD/microsoft-identity-web/issues/2519
    _row(
        r"aadsts700016\b|application with identifier.{0,80}(?:was )?not found", why.ENTRA_APPLICATION, why.ENTRA_TENANT
    ),
    # https://github.com/Azure/azure-sdk-for-net/issues/46762 (7000229)
    _row(r"aadsts7000229\b|missing service principal", why.ENTRA_APPLICATION, why.ENTRA_TENANT),
    # https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes (90002, 900023)
    _row(r"aadsts(?:90002|900023)\b|tenant.{0,60}not found", why.ENTRA_TENANT),
    # https://github.com/AzureAD/microsoft-identity-web/issues/2793 (500011)
    _row(r"aadsts500011\b|resource principal named", why.ENTRA_RESOURCE),
    # https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes (70011, 1002012)
    _row(r"aadsts(?:70011|1002012)\b", why.ENTRA_RESOURCE),
    # https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes
    _row(r"aadsts(?:7000215|7000222|7000218|7000216|700025)\b|invalid client secret", why.ENTRA_SECRET),
    # https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes (53003)
    _row(r"aadsts(?:530\d\d|700223|700238)\b|conditional access", why.ENTRA_POLICY),
    # https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes (500131, 700021)
    _row(r"aadsts(?:500131|700021)\b", why.ENTRA_AUDIENCE, why.ENTRA_ISSUER),
)

BARE_CODES = (
    # https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
    _row(r"invalid ?identity ?token", why.NO_JWT, why.NOT_PUBLIC, why.KEY_NOT_PUBLIC, why.NO_PROVIDER),
    # https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html (AccessDenied)
    _row(
        r"assumerolewithwebidentity.{0,200}(?:access ?denied|forbidden|403)"
        r"|access ?denied.{0,200}assumerolewithwebidentity"
        r"|^(?:an error occurred \()?access ?denied(?:exception)?\)?[.:]?$",
        why.TRUST_POLICY,
        why.NO_ROLE,
        why.ORGANISATION,
    ),
    # https://github.com/prometheus-community/yet-another-cloudwatch-exporter/issues/343
    _row(
        r"assumerolewithwebidentity.{0,200}validation ?error|validation ?error.{0,200}assumerolewithwebidentity",
        why.BAD_ARN,
        why.NO_JWT,
        why.SESSION_TOO_LONG,
    ),
    # https://datatracker.ietf.org/doc/html/rfc8693#section-2.2.2 and
    # https://cloud.google.com/iam/docs/troubleshooting-workload-identity-federation
    _row(r"\binvalid_grant\b", why.GCP_FETCH, why.AUDIENCE_UNKNOWN, why.ISSUER_DIFFERS, why.GCP_LIFETIME),
    # the same
    _row(r"\bunauthorized_client\b", why.GCP_CONDITION, why.GCP_MAPPING),
    # https://cloud.google.com/iam/docs/service-account-impersonation
    _row(r"iam_permission_denied|permission_denied", why.GCP_IMPERSONATION),
    # https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes
    _row(r"aadsts70\d{3,5}\b|\binvalid_client\b", why.ENTRA_NO_MATCH, why.ENTRA_SIGNATURE, why.ENTRA_NO_CREDENTIAL),
)
"""Held against a text in which nothing more precise was found."""


MAX_CHARACTERS = 40_000
"""How much of a text is looked at: an error text has a few hundred, a debug log more."""


def explain(text: str) -> tuple[Cause, ...]:
    """The causes of an error text of AWS STS, Google or Entra, the likeliest first; none for a text that is not known.

    Args:
        text: The error as it was copied: the text, only the code, an answer in JSON or XML, or a whole log. Case,
            line breaks, entities, escapes and what stands around it do not matter.
    """
    text = plain(text)
    found = _causes(text, AWS_TEXTS + GOOGLE_TEXTS + ENTRA_TEXTS)
    return found or _by_meaning(text) or _causes(text, BARE_CODES)


def plain(text: str) -> str:
    """The text in lower case with single spaces and plain quotes; entities, escapes and markup are taken away."""
    text = text[:MAX_CHARACTERS]
    for _ in range(2):  # an answer in XML inside a log in HTML
        text = unescape(text)
    # The look behind: within a run of thousands of backslashes, each of them would be tried as the first.
    text = re.sub(r"(?<!\\)\\+u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    text = re.sub(r"(?<!\\)\\+[nrt]", " ", text)
    text = re.sub(r"\\+", "", text)
    text = re.sub(r"[\u2018\u2019\u201b\u02bc\u00b4`]", "'", re.sub(r"[\u201c\u201d]", '"', text))
    text = re.sub(r"</?[A-Za-z][^<>]{0,200}>", " ", text)
    return " ".join(text.split()).lower()


def _causes(text: str, rows: tuple[ErrorRow, ...]) -> tuple[Cause, ...]:
    return tuple(dict.fromkeys(cause for row in rows if row.pattern.search(text) for cause in row.causes))


# ------------------------------------------------------------------------------------------------ by meaning

_ABOUT_LOGINS = re.compile(r"token|jwt|oidc|openid|identity|\bsts\b|federat|aadsts|assertion|credential|invalid_grant")
_REFUSES = re.compile(
    r"invalid|incorrect|mismatch|wrong|unknown|unexpected|unsupported|missing|not |n't |no |cannot|denied|reject|refus"
    r"|fail"
    r"|unable|error|expired|too old|too long|must "
)
_ENTRA = re.compile(r"aadsts|entra\b|federated identity credential|login\.microsoftonline|azure")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a text may speak of: its words, the causes, and the causes where the text is Entra's."""

    words: re.Pattern[str]
    causes: tuple[Cause, ...]
    of_entra: tuple[Cause, ...]


_MEANINGS = (
    Meaning(re.compile(r"expired|too old|no longer valid"), (why.EXPIRED, why.CLOCK), (why.EXPIRED, why.CLOCK)),
    Meaning(re.compile(r"clock|skew|in the future|time range"), (why.CLOCK, why.EXPIRED), (why.CLOCK, why.EXPIRED)),
    Meaning(re.compile(r"audience|\baud\b"), (why.AUDIENCE_UNKNOWN,), (why.ENTRA_AUDIENCE,)),
    Meaning(re.compile(r"issuer|\biss\b"), (why.ISSUER_DIFFERS, why.NO_PROVIDER), (why.ENTRA_ISSUER,)),
    Meaning(re.compile(r"subject\b|\bsub\b"), (why.TRUST_POLICY, why.GCP_CONDITION), (why.ENTRA_SUBJECT,)),
    Meaning(
        re.compile(r"signing key|verification key|public key|\bkid\b|\bjwks?\b|key set"),
        (why.KEY_NOT_PUBLIC, why.NOT_PUBLIC),
        (why.ENTRA_KEY_NOT_PUBLIC, why.ENTRA_KEY_TYPE),
    ),
    Meaning(re.compile(r"signature"), (why.BAD_SIGNATURE, why.KEY_NOT_PUBLIC), (why.ENTRA_SIGNATURE,)),
    Meaning(
        re.compile(
            r"discovery|well-known|openid-configuration|metadata|identity provider.{0,60}(?:timed? ?out|unreachable)"
        ),
        (why.NOT_PUBLIC, why.TOO_SLOW),
        (why.ENTRA_FETCH,),
    ),
    Meaning(re.compile(r"\bpool\b"), (why.GCP_POOL,), (why.GCP_POOL,)),
    Meaning(re.compile(r"\bclaims?\b"), (why.CLAIM_MISSING, why.REJECTED_CLAIM), (why.CLAIM_MISSING,)),
    Meaning(
        re.compile(r"(?:oidc|openid ?connect|identity) provider"),
        (why.NO_PROVIDER, why.ISSUER_DIFFERS),
        (why.ENTRA_ISSUER,),
    ),
)
"""What a text that no row knows is about, the likeliest first."""


def _by_meaning(text: str) -> tuple[Cause, ...]:
    """The causes of a refusal in words that no row has, by what it speaks of; none where that is something else."""
    if not (_ABOUT_LOGINS.search(text) and _REFUSES.search(text)):
        return ()
    is_entra = _ENTRA.search(text) is not None
    found = (each.of_entra if is_entra else each.causes for each in _MEANINGS if each.words.search(text))
    return tuple(dict.fromkeys(cause for causes in found for cause in causes))
