"""IAM as who administers an account sees it: find the provider of an issuer, make it, add audiences."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import boto3.session
from botocore.exceptions import ClientError

from mirror.aws.errors import admin_errors_translated, code_of
from mirror.aws.iam_policy import provider_url
from mirror.aws.sessions import impatient
from mirror.federation.provision.iam_provider import Provider, ProviderSight
from mirror.federation.provision.plan import Difference
from mirror.model import IssuerUrl

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

_AWS_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]+")
_PREFIX = ":oidc-provider/"


class ProviderRegistry:
    """The OIDC providers of the account of `session`. Every method raises `BucketError` and nothing else.

    `region` tells the partition; that of a store other than AWS tells none, and is left out.
    """

    def __init__(self, session: boto3.session.Session, region: str) -> None:
        self._session = session
        self._region = region if _AWS_REGION.fullmatch(region) else "us-east-1"
        self._client: IAMClient | None = None

    def look(self, issuer: IssuerUrl) -> ProviderSight:
        """The provider of `issuer`, and which others there are.

        Raises:
            BucketError: IAM or STS could not be asked.
        """
        with admin_errors_translated("The account of the credentials could not be asked.", "sts:GetCallerIdentity"):
            sts = self._session.client("sts", region_name=self._region, config=impatient())
            account = str(sts.get_caller_identity()["Account"])
        with admin_errors_translated(
            "The OIDC providers of the account could not be listed.", "iam:ListOpenIDConnectProviders"
        ):
            listed = self._iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
            arns = {arn.partition(_PREFIX)[2]: arn for arn in (entry["Arn"] for entry in listed)}
        arn = arns.get(provider_url(issuer))
        return ProviderSight(account, None if arn is None else self._get(arn), frozenset(arns))

    def apply(
        self,
        differences: tuple[Difference, ...],
        issuer: IssuerUrl,
        audiences: tuple[str, ...],
        seen: ProviderSight,
        done: Callable[[Difference], None],
    ) -> None:
        """Carry out every difference, in order; `done` is told each.

        Raises:
            BucketError: One could not be carried out; those before it are done.
        """
        for difference in differences:
            if difference.code == "create_provider":
                self._create(issuer, audiences)
            else:
                self._add(seen, difference.payload)
            done(difference)

    def _create(self, issuer: IssuerUrl, audiences: tuple[str, ...]) -> None:
        with admin_errors_translated(f"The provider of {issuer} could not be made.", "iam:CreateOpenIDConnectProvider"):
            # Without ThumbprintList: IAM fills one in, and compares it only where no public CA helps (fact 29).
            self._iam.create_open_id_connect_provider(Url=issuer, ClientIDList=sorted(set(audiences)))

    def _add(self, seen: ProviderSight, audience: str) -> None:
        with admin_errors_translated(
            f"The audience {audience} could not be added.", "iam:AddClientIDToOpenIDConnectProvider"
        ):
            arn = "" if seen.found is None else seen.found.arn
            self._iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID=audience)

    def _get(self, arn: str) -> Provider | None:
        with admin_errors_translated(f"The provider {arn} could not be read.", "iam:GetOpenIDConnectProvider"):
            try:
                answer = self._iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
            except ClientError as error:
                if code_of(error, error.response) == "NoSuchEntity":
                    return None
                raise
            audiences, thumbprints = answer.get("ClientIDList", ()), answer.get("ThumbprintList", ())
            return Provider(arn, answer["Url"].removeprefix("https://"), frozenset(audiences), tuple(thumbprints))

    @property
    def _iam(self) -> "IAMClient":
        if self._client is None:
            self._client = self._session.client("iam", region_name=self._region, config=impatient())
        return self._client
