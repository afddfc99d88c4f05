"""The IAM OIDC provider of an issuer: as it is, and what must change so that STS takes its tokens. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from mirror.aws.iam_policy import provider_url
from mirror.federation.provision.bucket import BucketChange, ProvisionPlan
from mirror.model import AWS_AUDIENCE_CHARACTERS, AWS_AUDIENCES, IssuerUrl, Note, Reason

MAX_PROVIDERS = 100
"""What IAM takes (facts.md, table "Relying parties"; facts.md#29); the last is a quota that AWS raises."""


@dataclass(frozen=True, slots=True)
class Provider:
    """One OIDC provider of the account; `url` is the issuer's text without its scheme, `audiences` its client ids.

    `thumbprints` are SHA-1 hashes of a certificate of the issuer's host. IAM wants at least one and fills one in.
    """

    arn: str
    url: str
    audiences: frozenset[str] = frozenset()
    thumbprints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProviderState:
    """The providers of an account: that of the issuer, if any, and the URLs of all, without their scheme."""

    account: str
    found: Provider | None = None
    urls: frozenset[str] = frozenset()


def audience_problems(audiences: tuple[str, ...]) -> tuple[Reason, ...]:
    """Why a provider cannot have these audiences; empty when it can."""
    return tuple(_audience_problems(audiences))


def _audience_problems(audiences: tuple[str, ...]) -> Iterator[Reason]:
    if not audiences:
        yield Reason(
            "no_audience",
            "The issuer has no `audiences`, so no provider can be made that takes its tokens.",
            "Write those of the pods' projected tokens, such as `audiences: [sts.amazonaws.com]`.",
        )
    if len(set(audiences)) > AWS_AUDIENCES:
        yield Reason(
            "too_many_audiences",
            f"The issuer has {len(set(audiences))} audiences, and a provider takes {AWS_AUDIENCES}.",
            "Let pods share audiences: the role's trust policy distinguishes them by their subject.",
        )
    for each in audiences:
        if not 1 <= len(each) <= AWS_AUDIENCE_CHARACTERS:
            yield Reason(
                "bad_audience",
                f"An audience has {len(each)} characters, and IAM takes 1 to {AWS_AUDIENCE_CHARACTERS}.",
                "Shorten it in the pods' projected tokens and in `audiences`.",
            )


def plan_provider(
    observed: ProviderState, issuer: IssuerUrl, audiences: tuple[str, ...], former: tuple[IssuerUrl, ...] = ()
) -> ProvisionPlan:
    """What must be done; no audience is ever removed, because pods whose role this program does not know may use it."""
    title = f"OIDC provider of {issuer} in account {observed.account}"
    problems = tuple(_limits(observed, issuer, audiences))
    differences = () if problems else tuple(_differences(observed, issuer, audiences))
    return ProvisionPlan(title, differences, problems, tuple(_notes(observed, issuer, audiences, former)))


def _differences(observed: ProviderState, issuer: IssuerUrl, audiences: tuple[str, ...]) -> Iterator[BucketChange]:
    if observed.found is None:
        named = ", ".join(sorted(set(audiences)))
        after = f"exists for {issuer} with the audiences {named}; IAM fills in the thumbprint"
        yield BucketChange("create_provider", "provider", "does not exist", after)
        return
    for each in sorted(set(audiences) - observed.found.audiences):
        yield BucketChange("add_audience", f"audience {each}", "not accepted", "accepted", each)


def _limits(observed: ProviderState, issuer: IssuerUrl, audiences: tuple[str, ...]) -> Iterator[Reason]:
    yield from audience_problems(audiences)
    if observed.found is not None and len(observed.found.audiences | set(audiences)) > AWS_AUDIENCES >= len(
        set(audiences)
    ):
        yield Reason(
            "too_many_audiences",
            f"The provider would have more than {AWS_AUDIENCES} audiences.",
            "Remove unused ones (aws iam remove-client-id-from-open-id-connect-provider).",
        )
    if observed.found is None and provider_url(issuer) in observed.urls:
        yield Reason(
            "provider_unreadable",
            "The account lists a provider of this issuer, and gives none.",
            "It was removed at the same moment: run the command again.",
        )


def _notes(
    observed: ProviderState, issuer: IssuerUrl, audiences: tuple[str, ...], former: tuple[IssuerUrl, ...]
) -> Iterator[Note]:
    extra = () if observed.found is None else sorted(observed.found.audiences - set(audiences))
    if extra:
        yield Note(
            "extra_audiences",
            f"The provider accepts more audiences than the configuration has ({', '.join(extra)}); they are left. To"
            " remove one: aws iam remove-client-id-from-open-id-connect-provider",
        )
    thumbprints = () if observed.found is None else observed.found.thumbprints
    if thumbprints:
        yield Note("thumbprints", _THUMBPRINTS.format(thumbprints=", ".join(thumbprints)))
    almost = _almost(issuer)
    if almost in observed.urls:
        yield Note(
            "almost_same",
            f"There is also a provider of https://{almost}, which differs only in its trailing slash: STS compares the"
            " whole text, so it takes no token of this issuer.",
        )
    if observed.found is None and len(observed.urls) >= MAX_PROVIDERS:
        yield Note(
            "many_providers",
            f"The account has {len(observed.urls)} providers; without a larger quota AWS takes {MAX_PROVIDERS}.",
        )
    for each in former:
        there = provider_url(each) in observed.urls
        kept = "has its provider; keep it until no token of it is valid"
        state = kept if there else "has no provider in this account"
        yield Note("former_issuer", f"The former issuer {each} {state}.")


_THUMBPRINTS = (
    "The provider's thumbprints are {thumbprints}. They do not count for S3, CloudFront and other hosts with a"
    " certificate of a public CA. AWS compares them for a certificate of another CA, and for a host that demands"
    " TLS 1.3. Then they must be right: aws iam update-open-id-connect-provider-thumbprint. IAM takes no empty list."
)
"""When a thumbprint matters (IAM user guide, "Obtain the thumbprint for an OpenID Connect identity provider")."""


def _almost(issuer: IssuerUrl) -> str:
    url = provider_url(issuer)
    return url.removesuffix("/") if url.endswith("/") else f"{url}/"
