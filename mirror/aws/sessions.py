"""AWS sessions with the credentials that an issuer's `publish` settings name, for S3 and every other service.

Whatever botocore reads from the environment holds: credentials, `AWS_CA_BUNDLE`, `AWS_ENDPOINT_URL_*`, proxies.
"""

from datetime import datetime
from functools import partial

import boto3.session
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, Credentials, DeferredRefreshableCredentials
from botocore.exceptions import NoCredentialsError
from botocore.session import Session as BotocoreSession
from botocore.utils import parse_timestamp

from mirror.config.settings import Publish

CONNECT_SECONDS = 5.0
READ_SECONDS = 5.0
READ_ATTEMPTS = 2


def session(publish: Publish) -> boto3.session.Session:
    """A session as `publish.profile` and `publish.role_arn` say; the role is assumed at the first request.

    Raises:
        botocore.exceptions.ProfileNotFound: There is no such profile.
    """
    made = BotocoreSession(profile=publish.profile)
    made.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=moment)
    if publish.role_arn is not None:
        made.register_component("credential_provider", _Role(made, publish.region, publish.role_arn))
    return boto3.session.Session(botocore_session=made)


def moment(value: str) -> datetime:
    """A timestamp in an answer, aware.

    The standard library reads the form of S3's listings, botocore all others: its reader tries every form that anybody
    ever wrote, which took as long as all else together for a listing of thousands of objects.

    Raises:
        ValueError: It is no timestamp.
    """
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):  # TypeError: JSON answers count seconds instead
        found = None
    return found if found is not None and found.tzinfo is not None else parse_timestamp(value)


def impatient() -> Config:
    """The configuration of clients that ask small questions: short timeouts, two attempts."""
    return Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": READ_ATTEMPTS},
        user_agent_extra="oidc-mirror",
    )


class _Role:
    """A source of credentials that assumes `role_arn` with what the session has, again before they expire."""

    def __init__(self, made: BotocoreSession, region: str, role_arn: str) -> None:
        self._base = made.get_component("credential_provider")
        self._sts = partial(made.create_client, region_name=region, config=impatient())
        self._role_arn = role_arn

    def load_credentials(self) -> Credentials:
        source = self._base.load_credentials()
        if source is None:
            raise NoCredentialsError
        fetcher = AssumeRoleCredentialFetcher(
            client_creator=self._sts,
            source_credentials=source,
            role_arn=self._role_arn,
            extra_args={"RoleSessionName": "oidc-mirror"},
        )
        return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
