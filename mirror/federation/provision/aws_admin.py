"""S3, IAM and account settings as an administrator sees and changes them (boto3)."""

import json
import re
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

import boto3.session
from botocore.config import Config
from botocore.exceptions import ClientError

from mirror.addresses import is_aws_endpoint
from mirror.aws.errors import admin_error, admin_errors_translated, code_of, stated_code
from mirror.aws.iam_policy import AccessBlock, opened, provider_url, read_policy
from mirror.aws.public_access import account_access_block, bucket_access_block, bucket_policy_text, unless_not_set
from mirror.aws.sessions import short_timeouts
from mirror.config.settings import PublishSettings
from mirror.errors import BucketError
from mirror.federation.provision.bucket import OWNERSHIP, BucketChange, BucketState
from mirror.federation.provision.iam_provider import Provider, ProviderState
from mirror.model import IssuerUrl, ObjectKey

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_s3 import S3Client


T = TypeVar("T")
_SHORT = Config(connect_timeout=2.0, read_timeout=3.0, retries={"mode": "standard", "total_max_attempts": 1})


class AccountReader:
    """The account behind a session. In place of AWS another store may stand: then nothing of it is more than a note.

    What could not be seen is added to `unknown`, as sentences.
    """

    def __init__(self, session: boto3.session.Session, region: str, *, is_aws: bool, unknown: list[str]) -> None:
        self._session = session
        self._region = region
        self._is_aws = is_aws
        self._unknown = unknown
        self._config = short_timeouts() if is_aws else short_timeouts().merge(_SHORT)

    def caller(self) -> str | None:
        """The account of the credentials.

        Raises:
            BucketError: AWS could not be asked.
        """
        sentence = "The account of the credentials could not be read from AWS."
        try:
            with admin_errors_translated(sentence, "sts:GetCallerIdentity"):
                client = self._session.client("sts", region_name=self._region, config=self._config)
                return str(client.get_caller_identity()["Account"])
        except BucketError as error:
            if self._is_aws:
                raise
            self._unknown.append(f"The account is not known: only AWS says it ({error.code}).")
            return None

    def access_block(self, account: str) -> AccessBlock | None:
        """What the account forbids to all its buckets; None where that could not be seen, or is not AWS.

        An administrator of one bucket may do without the right to see it: the bucket's own answer decides in the end.
        """
        if not self._is_aws:
            return None
        sentence = "Block Public Access could not be read from AWS."
        try:
            with admin_errors_translated(sentence, "s3:GetAccountPublicAccessBlock"):
                client = self._session.client("s3control", region_name=self._region, config=self._config)
                return account_access_block(client, account)
        except BucketError as error:
            self._unknown.append(
                f"Block Public Access of the account could not be seen ({error.code}); if it is on, it wins."
            )
            return None


FIRST_REGION = "us-east-1"
"""S3 takes no location for it (S3 API, CreateBucket)."""
_TRIES = 6
_PAUSE_SECONDS = 2.0
_SETTLING = frozenset({"AccessDenied", "NoSuchBucket", "ConditionalRequestConflict"})
"""How S3 answers for some seconds after a bucket, or its public access block, changed."""
_LOCATION_MISSING = "IllegalLocationConstraintException"
_UNSUPPORTED = frozenset({"NotImplemented", "MethodNotAllowed", "405"})


class S3Admin:
    """One bucket of AWS, or of a store that speaks S3. Every method raises `BucketError` and nothing else.

    `session` has the credentials of who administers the bucket, not the mirror's own.
    """

    def __init__(
        self, publish: PublishSettings, session: boto3.session.Session, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._publish = publish
        self._session = session
        self._pause = pause
        # What makes S3 refuse a bucket of another account (facts.md#38).
        self._owner: Any = {}
        self._unknown: list[str] = []
        self._is_aws = publish.endpoint_url is None or is_aws_endpoint(publish.endpoint_url)
        self._demands_owner = self._is_aws or publish.expected_bucket_owner is not None
        self._aws = AccountReader(session, publish.region, is_aws=self._is_aws, unknown=self._unknown)

    def look(self, desired_keys: Collection[ObjectKey] = ()) -> BucketState:
        """The bucket as it is now; of the objects that our statement opens, those beyond `desired_keys` are read too.

        Raises:
            BucketError: Something that decides could not be seen.
        """
        self._unknown.clear()
        caller = self._aws.caller()
        account = self._publish.expected_bucket_owner or caller
        self._owner = {"ExpectedBucketOwner": account} if account is not None and self._demands_owner else {}
        state, region = self._head()
        if state == "absent" and None not in (account, caller) and account != caller:
            state = "elsewhere"
        account_block = None if account is None else self._aws.access_block(account)
        seen = BucketState(state, region, account_block=account_block, is_aws=self._is_aws)
        if state == "ours":
            seen = replace(
                seen,
                versioning=self._get("versioning", "s3:GetBucketVersioning", self._versioning, None),
                ownership=self._get("object ownership", "s3:GetBucketOwnershipControls", self._ownership, None),
                block=self._get("public access block", "s3:GetBucketPublicAccessBlock", self._block, None),
                policy=self._policy(),
            )
            seen = replace(seen, existing=frozenset(self._existing(seen.policy, desired_keys)))
        return replace(seen, unknown=tuple(self._unknown))

    def apply(
        self, differences: tuple[BucketChange, ...], observed: BucketState, done: Callable[[BucketChange], None]
    ) -> None:
        """Carry out every difference, in order; `done` is called with each.

        Crash window: after any of them the bucket opens less than it should, never more, and the next run goes on.

        Raises:
            BucketError: One could not be carried out; those before it are done.
        """
        for number, difference in enumerate(differences):
            settles = any(each.code in ("create_bucket", "set_access_block") for each in differences[:number])
            self._until_settled(partial(self._apply, difference, observed), tries=_TRIES if settles else 1)
            done(difference)

    def _until_settled(self, call: Callable[[], None], *, tries: int) -> None:
        for _ in range(tries - 1):
            try:
                return call()
            except BucketError as error:
                if error.code not in _SETTLING:
                    raise
            self._pause(_PAUSE_SECONDS)
        return call()

    # ------------------------------------------------------------------------------------------------- looking

    def _head(self) -> tuple[Any, str]:
        """Whose the bucket is, and where; botocore itself follows to another region."""
        sentence = f"Whether the bucket `{self._name}` exists could not be seen."
        with admin_errors_translated(sentence, "s3:ListBucket"):
            try:
                answer = self._s3.head_bucket(Bucket=self._name, **self._owner)
            except ClientError as error:
                code = code_of(error, error.response)
                if code in ("404", "NoSuchBucket"):
                    return "absent", ""
                if code == "AccessDenied":
                    return "foreign", ""
                raise
        return "ours", answer.get("BucketRegion", "") if self._is_aws else ""

    def _get(self, what: str, action: str, ask: Callable[[Any], T], empty: T) -> T:
        """One setting of the bucket; `empty` when it is not set, or when a store other than AWS has no such thing."""
        names = {"Bucket": self._name, **self._owner}
        with admin_errors_translated(f"The {what} of the bucket `{self._name}` could not be seen.", action):
            try:
                return unless_not_set(lambda: ask(names), empty)
            except ClientError as error:
                if code_of(error, error.response) not in _UNSUPPORTED or self._is_aws:
                    raise
                self._unknown.append(f"The store knows no {what}.")
                return empty

    def _versioning(self, names: Any) -> str | None:
        return self._s3.get_bucket_versioning(**names).get("Status")

    def _ownership(self, names: Any) -> str | None:
        rules = self._s3.get_bucket_ownership_controls(**names).get("OwnershipControls", {}).get("Rules", [])
        return str(rules[0]["ObjectOwnership"]) if rules else None

    def _block(self, names: Any) -> AccessBlock | None:
        return bucket_access_block(self._s3, names)

    def _policy(self) -> str | None:
        return self._get("policy", "s3:GetBucketPolicy", lambda names: bucket_policy_text(self._s3, names), "") or None

    def _existing(self, policy: str | None, desired_keys: Collection[ObjectKey]) -> Iterator[ObjectKey]:
        document = None if policy is None else read_policy(policy)
        for arn in sorted(opened(document)) if document is not None else ():
            _, colons, key = arn.partition(f":s3:::{self._name}/")
            if colons and not set("*?$") & set(key) and key not in desired_keys and self._may_exist(ObjectKey(key)):
                yield ObjectKey(key)

    def _may_exist(self, key: ObjectKey) -> bool:
        """Whether the object exists, or that cannot be seen: on doubt nothing is closed."""
        with admin_errors_translated(f"The object `{key}` of the bucket could not be looked at.", "s3:GetObject"):
            try:
                self._s3.head_object(Bucket=self._name, Key=key, **self._owner)
            except ClientError as error:
                return code_of(error, error.response) not in ("404", "NoSuchKey")
        return True

    # ------------------------------------------------------------------------------------------------ applying

    def _apply(self, difference: BucketChange, observed: BucketState) -> None:
        sentence = f"The bucket `{self._name}`: {difference.what} could not be set."
        match difference.code:
            case "create_bucket":
                with admin_errors_translated(f"The bucket `{self._name}` could not be made.", "s3:CreateBucket"):
                    self._create()
            case "enable_versioning":
                with admin_errors_translated(sentence, "s3:PutBucketVersioning"):
                    self._s3.put_bucket_versioning(
                        Bucket=self._name, VersioningConfiguration={"Status": "Enabled"}, **self._owner
                    )
            case "set_access_block":
                with admin_errors_translated(sentence, "s3:PutBucketPublicAccessBlock"):
                    self._s3.put_public_access_block(
                        Bucket=self._name, PublicAccessBlockConfiguration=json.loads(difference.payload), **self._owner
                    )
            case "put_policy":
                self._put_policy(difference.payload, observed, sentence)
            case _:
                raise ValueError(difference.code)

    def _create(self) -> None:
        """AWS wants its regions named; other stores refuse a location (radosgw), or refuse to do without one."""
        region = self._publish.region
        location: Any = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        if self._is_aws:
            more: Any = {} if region == FIRST_REGION else location
            more = {"ObjectOwnership": OWNERSHIP, **more}
            self._s3.create_bucket(Bucket=self._name, **more)
            return
        try:
            self._s3.create_bucket(Bucket=self._name)
        except ClientError as error:
            if stated_code(error.response) != _LOCATION_MISSING:
                raise
            self._s3.create_bucket(Bucket=self._name, **location)

    def _put_policy(self, text: str, observed: BucketState, sentence: str) -> None:
        # S3 has no conditional write for policies: another writer's change in between must not get lost.
        if self._policy() != observed.policy:
            raise admin_error("PolicyChanged", sentence)
        with admin_errors_translated(sentence, "s3:PutBucketPolicy"):
            self._s3.put_bucket_policy(Bucket=self._name, Policy=text, **self._owner)

    # ------------------------------------------------------------------------------------------------- clients

    @property
    def _name(self) -> str:
        return self._publish.bucket

    @cached_property
    def _s3(self) -> "S3Client":
        style: Any = {"addressing_style": "path"} if self._publish.endpoint_url else None
        config = short_timeouts().merge(Config(request_checksum_calculation="when_required", s3=style))
        return self._session.client(
            "s3", region_name=self._publish.region, endpoint_url=self._publish.endpoint_url, config=config
        )


_AWS_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]+")
_PREFIX = ":oidc-provider/"


class IamProviderAdmin:
    """The OIDC providers of the account of `session`. Every method raises `BucketError` and nothing else.

    `region` gives the partition; that of a store other than AWS gives none, and is left out.
    """

    def __init__(self, session: boto3.session.Session, region: str) -> None:
        self._session = session
        self._region = region if _AWS_REGION.fullmatch(region) else "us-east-1"

    def look(self, issuer: IssuerUrl) -> ProviderState:
        """The provider of `issuer`, and which others there are.

        Raises:
            BucketError: IAM or STS could not be asked.
        """
        with admin_errors_translated("The account of the credentials could not be asked.", "sts:GetCallerIdentity"):
            sts = self._session.client("sts", region_name=self._region, config=short_timeouts())
            account = str(sts.get_caller_identity()["Account"])
        with admin_errors_translated(
            "The OIDC providers of the account could not be listed.", "iam:ListOpenIDConnectProviders"
        ):
            listed = self._iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
            arns = {arn.partition(_PREFIX)[2]: arn for arn in (entry["Arn"] for entry in listed)}
        arn = arns.get(provider_url(issuer))
        return ProviderState(account, None if arn is None else self._get(arn), frozenset(arns))

    def apply(
        self,
        differences: tuple[BucketChange, ...],
        issuer: IssuerUrl,
        audiences: tuple[str, ...],
        observed: ProviderState,
        done: Callable[[BucketChange], None],
    ) -> None:
        """Carry out every difference, in order; `done` is called with each.

        Raises:
            BucketError: One could not be carried out; those before it are done.
        """
        for difference in differences:
            if difference.code == "create_provider":
                self._create(issuer, audiences)
            else:
                self._add(observed, difference.payload)
            done(difference)

    def _create(self, issuer: IssuerUrl, audiences: tuple[str, ...]) -> None:
        with admin_errors_translated(f"The provider of {issuer} could not be made.", "iam:CreateOpenIDConnectProvider"):
            # Without ThumbprintList: IAM fills one in, and compares it only where no public CA helps (facts.md#29).
            self._iam.create_open_id_connect_provider(Url=issuer, ClientIDList=sorted(set(audiences)))

    def _add(self, observed: ProviderState, audience: str) -> None:
        with admin_errors_translated(
            f"The audience {audience} could not be added.", "iam:AddClientIDToOpenIDConnectProvider"
        ):
            arn = "" if observed.found is None else observed.found.arn
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

    @cached_property
    def _iam(self) -> "IAMClient":
        return self._session.client("iam", region_name=self._region, config=short_timeouts())
