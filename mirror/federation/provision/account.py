"""What only AWS knows of an account: whose the credentials are, and what Block Public Access forbids there."""

from collections.abc import Callable
from typing import Any

import boto3.session
from botocore.config import Config
from botocore.exceptions import ClientError

from mirror.aws.errors import admin_errors_translated, code_of
from mirror.aws.sessions import impatient
from mirror.errors import BucketError
from mirror.federation.provision.bucket import AccessBlock

NO_ACCESS_BLOCK = "NoSuchPublicAccessBlockConfiguration"
_SHORT = Config(connect_timeout=2.0, read_timeout=3.0, retries={"mode": "standard", "total_max_attempts": 1})


class Account:
    """The account behind a session. In place of AWS another store may stand: then nothing of it is more than a note.

    What could not be seen is added to `unknown`, as sentences.
    """

    def __init__(self, session: boto3.session.Session, region: str, *, is_aws: bool, unknown: list[str]) -> None:
        self._session = session
        self._region = region
        self._is_aws = is_aws
        self._unknown = unknown
        self._config = impatient() if is_aws else impatient().merge(_SHORT)

    def caller(self) -> str | None:
        """The account of the credentials.

        Raises:
            BucketError: AWS could not be asked.
        """

        def ask() -> str:
            client = self._session.client("sts", region_name=self._region, config=self._config)
            return client.get_caller_identity()["Account"]

        try:
            return str(_asked("the account of the credentials", "sts:GetCallerIdentity", ask))
        except BucketError as error:
            if self._is_aws:
                raise
            self._unknown.append(f"The account is not known: only AWS tells it ({error.code}).")
            return None

    def access_block(self, account: str) -> AccessBlock | None:
        """What the account forbids to all its buckets; None where that could not be seen.

        An administrator of one bucket may do without the right to see it: the bucket's own answer tells in the end.
        """
        try:
            return access_block(
                _asked("Block Public Access", "s3:GetAccountPublicAccessBlock", lambda: self._ask_block(account))
            )
        except BucketError as error:
            self._unknown.append(
                f"Block Public Access of the account could not be seen ({error.code}); if it is on, it wins."
            )
            return None

    def _ask_block(self, account: str) -> dict[str, Any]:
        # The account stands before the host's name, which only AWS resolves.
        config = self._config.merge(Config(inject_host_prefix=self._is_aws))
        client = self._session.client("s3control", region_name=self._region, config=config)
        try:
            return dict(client.get_public_access_block(AccountId=account))
        except ClientError as error:
            if code_of(error, error.response) == NO_ACCESS_BLOCK:
                return {}
            raise


def _asked(what: str, action: str, ask: Callable[[], Any]) -> Any:
    with admin_errors_translated(f"AWS could not be asked for {what}.", action):
        return ask()


def access_block(answer: dict[str, Any]) -> AccessBlock | None:
    """The four switches out of an answer of S3; None when none is set."""
    told = answer.get("PublicAccessBlockConfiguration")
    if told is None:
        return None
    return AccessBlock(
        block_acls=bool(told.get("BlockPublicAcls")),
        ignore_acls=bool(told.get("IgnorePublicAcls")),
        block_policy=bool(told.get("BlockPublicPolicy")),
        restrict_buckets=bool(told.get("RestrictPublicBuckets")),
    )
