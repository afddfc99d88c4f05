"""S3 as who administers a bucket sees it: look at everything that counts, and carry out one difference."""

import json
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3.session
from botocore.config import Config
from botocore.exceptions import ClientError

from mirror.addresses import is_aws_endpoint
from mirror.aws.errors import admin_error, admin_errors_translated, code_of
from mirror.aws.sessions import impatient
from mirror.config.settings import Publish
from mirror.errors import BucketError
from mirror.federation.provision.account import NO_ACCESS_BLOCK, Account, access_block
from mirror.federation.provision.bucket import OWNERSHIP, BucketSight
from mirror.federation.provision.plan import Difference

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FIRST_REGION = "us-east-1"
"""S3 takes no location for it (S3 API, CreateBucket)."""
_TRIES = 6
_PAUSE_SECONDS = 2.0
_SETTLING = frozenset({"AccessDenied", "NoSuchBucket", "ConditionalRequestConflict"})
"""How S3 answers for some seconds after a bucket, or its public access block, changed."""
_UNSET = frozenset(
    {
        "NoSuchBucketPolicy",
        NO_ACCESS_BLOCK,
        "OwnershipControlsNotFoundError",
    }
)
_UNSUPPORTED = frozenset({"NotImplemented", "MethodNotAllowed", "405"})


class BucketOffice:
    """One bucket of AWS, or of a store that speaks S3. Every method raises `BucketError` and nothing else.

    `session` has the credentials of who administers the bucket, not the mirror's own.
    """

    def __init__(
        self, publish: Publish, session: boto3.session.Session, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._publish = publish
        self._session = session
        self._pause = pause
        self._client: S3Client | None = None
        self._owner: dict[str, str] = {}
        self._unknown: list[str] = []
        self._is_aws = publish.endpoint_url is None or is_aws_endpoint(publish.endpoint_url)
        self._demands_owner = self._is_aws or publish.expected_bucket_owner is not None
        self._aws = Account(session, publish.region, is_aws=self._is_aws, unknown=self._unknown)

    def look(self) -> BucketSight:
        """The bucket as it is now.

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
        if state != "ours":
            return BucketSight(
                state, region, account_block=account_block, unknown=tuple(self._unknown), is_aws=self._is_aws
            )
        versioning = self._get("versioning", "s3:GetBucketVersioning", "get_bucket_versioning")
        ownership = self._get("object ownership", "s3:GetBucketOwnershipControls", "get_bucket_ownership_controls")
        block = self._get("public access block", "s3:GetBucketPublicAccessBlock", "get_public_access_block")
        return BucketSight(
            state="ours",
            region=region,
            versioning=versioning.get("Status"),
            ownership=_ownership(ownership),
            block=access_block(block),
            policy=self._policy(),
            account_block=account_block,
            unknown=tuple(self._unknown),
            is_aws=self._is_aws,
        )

    def apply(self, differences: tuple[Difference, ...], seen: BucketSight, done: Callable[[Difference], None]) -> None:
        """Carry out every difference, in order; `done` is told each.

        Crash window: after any of them the bucket opens less than it should, never more, and the next run goes on.

        Raises:
            BucketError: One could not be carried out; those before it are done.
        """
        for number, difference in enumerate(differences):
            settles = any(each.code in ("create_bucket", "set_access_block") for each in differences[:number])
            self._until_settled(partial(self._apply, difference, seen), tries=_TRIES if settles else 1)
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
                answer = self._s3.head_bucket(Bucket=self._name, **self._ours())
            except ClientError as error:
                code = code_of(error, error.response)
                if code in ("404", "NoSuchBucket"):
                    return "absent", ""
                if code == "AccessDenied":
                    return "foreign", ""
                raise
        return "ours", answer.get("BucketRegion", "") if self._is_aws else ""

    def _get(self, what: str, action: str, call: str) -> dict[str, Any]:
        """One setting of the bucket; empty when it is not set, or when a store other than AWS has no such thing."""
        with admin_errors_translated(f"The {what} of the bucket `{self._name}` could not be seen.", action):
            try:
                answer: dict[str, Any] = getattr(self._s3, call)(Bucket=self._name, **self._ours())
            except ClientError as error:
                code = code_of(error, error.response)
                if code in _UNSET:
                    return {}
                if code in _UNSUPPORTED and not self._is_aws:
                    self._unknown.append(f"The store knows no {what}.")
                    return {}
                raise
        return answer

    def _policy(self) -> str | None:
        text = self._get("policy", "s3:GetBucketPolicy", "get_bucket_policy").get("Policy")
        return str(text) if text else None

    # ------------------------------------------------------------------------------------------------ applying

    def _apply(self, difference: Difference, seen: BucketSight) -> None:
        sentence = f"The bucket `{self._name}`: {difference.what} could not be set."
        match difference.code:
            case "create_bucket":
                with admin_errors_translated(f"The bucket `{self._name}` could not be made.", "s3:CreateBucket"):
                    self._create()
            case "enable_versioning":
                with admin_errors_translated(sentence, "s3:PutBucketVersioning"):
                    self._s3.put_bucket_versioning(
                        Bucket=self._name, VersioningConfiguration={"Status": "Enabled"}, **self._ours()
                    )
            case "set_access_block":
                with admin_errors_translated(sentence, "s3:PutBucketPublicAccessBlock"):
                    self._s3.put_public_access_block(
                        Bucket=self._name, PublicAccessBlockConfiguration=json.loads(difference.payload), **self._ours()
                    )
            case "put_policy":
                self._put_policy(difference.payload, seen, sentence)
            case _:
                raise ValueError(difference.code)

    def _create(self) -> None:
        region = self._publish.region
        more: dict[str, Any] = {"ObjectOwnership": OWNERSHIP} if self._is_aws else {}
        if self._is_aws and region != FIRST_REGION:
            more["CreateBucketConfiguration"] = {"LocationConstraint": region}
        self._s3.create_bucket(Bucket=self._name, **more)

    def _put_policy(self, text: str, seen: BucketSight, sentence: str) -> None:
        # S3 has no conditional write for policies: what somebody else put meanwhile must not get lost.
        if self._policy() != seen.policy:
            raise admin_error("PolicyChanged", sentence)
        with admin_errors_translated(sentence, "s3:PutBucketPolicy"):
            self._s3.put_bucket_policy(Bucket=self._name, Policy=text, **self._ours())

    # ------------------------------------------------------------------------------------------------- clients

    @property
    def _name(self) -> str:
        return self._publish.bucket

    @property
    def _s3(self) -> "S3Client":
        if self._client is None:
            config = impatient().merge(
                Config(
                    request_checksum_calculation="when_required",
                    s3={"addressing_style": "path"} if self._publish.endpoint_url else None,
                )
            )
            self._client = self._session.client(
                "s3", region_name=self._publish.region, endpoint_url=self._publish.endpoint_url, config=config
            )
        return self._client

    def _ours(self) -> Any:
        """What makes S3 refuse a bucket of another account (fact 38)."""
        return self._owner


def _ownership(answer: dict[str, Any]) -> str | None:
    rules = answer.get("OwnershipControls", {}).get("Rules", [])
    return str(rules[0]["ObjectOwnership"]) if rules else None
