"""AWS sessions with the credentials that an issuer's `publish` settings name, for S3 and every other service.

Whatever botocore reads from the environment holds: credentials, `AWS_CA_BUNDLE`, `AWS_ENDPOINT_URL_*`, proxies.
"""

from datetime import datetime
from functools import partial
from pathlib import Path

import boto3.session
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, Credentials, DeferredRefreshableCredentials
from botocore.exceptions import NoCredentialsError
from botocore.loaders import Loader
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
    paths = made.get_component("data_loader").search_paths
    made.register_component("data_loader", _Loader(extra_search_paths=paths, include_default_search_paths=False))
    made.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=moment)
    if publish.role_arn is not None:
        made.register_component("credential_provider", _Role(made, publish.region, publish.role_arn))
    return boto3.session.Session(botocore_session=made)


def moment(value: str) -> datetime:
    """A timestamp in an answer, as botocore reads it; aware where the text names a zone, as all that S3 sends does.

    The standard library reads the form of S3's listings, botocore all others: its reader tries every form that anybody
    ever wrote, which took half the time of reading a listing.

    Raises:
        ValueError: It is no timestamp.
    """
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):  # TypeError: JSON answers count seconds instead
        return parse_timestamp(value)


def impatient() -> Config:
    """The configuration of clients that ask small questions: short timeouts, two attempts."""
    return Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": READ_ATTEMPTS},
        user_agent_extra="oidc-mirror",
    )


class _Loader(Loader):
    """Reads the descriptions of services from where botocore does, but looks only into those that are asked for.

    botocore looks into all folders of all services, more than a thousand, before it reads one of them.
    """

    # Whether there is a description of that type is seen when it is read.
    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002  the signature is the base's
        """The folders of all services."""
        folders = [Path(path) for path in self.search_paths]
        return sorted({each.name for folder in folders if folder.is_dir() for each in folder.iterdir()})


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
