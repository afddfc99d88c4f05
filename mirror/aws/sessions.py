"""AWS sessions with the credentials of an issuer's `publish` settings, and the web-identity token behind them.

Whatever botocore reads from the environment holds: credentials, `AWS_CA_BUNDLE`, `AWS_ENDPOINT_URL_*`, proxies.

The web-identity token that the mirror's own AWS credentials would come from.
Which one botocore takes follows from its chain of credentials (`botocore.credentials.create_credential_resolver`):
static keys of the environment come first, and a profile that is named explicitly switches the environment off.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import boto3.session
from botocore import exceptions as boto
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, Credentials, DeferredRefreshableCredentials
from botocore.exceptions import NoCredentialsError
from botocore.loaders import Loader
from botocore.session import Session
from botocore.session import Session as BotocoreSession
from botocore.utils import parse_timestamp

from mirror.aws.credentials import CheckedProvider, refuse_empty_profile
from mirror.aws.errors import CredentialsError
from mirror.concurrency import DeadlineExecutor
from mirror.config.settings import PublishSettings
from mirror.log import log_call, logs_calls
from mirror.trust.parsing import unverified_claims

CONNECT_SECONDS = 5.0
READ_SECONDS = 5.0
READ_ATTEMPTS = 2


def session(publish: PublishSettings) -> boto3.session.Session:
    """A session as `publish.profile` and `publish.role_arn` say; the role is assumed at the first request.

    Raises:
        botocore.exceptions.ProfileNotFound: There is no such profile.
    """
    if publish.profile is None:
        refuse_empty_profile(os.environ)
    made = BotocoreSession(profile=publish.profile)
    paths = made.get_component("data_loader").search_paths
    made.register_component("data_loader", _Loader(extra_search_paths=paths, include_default_search_paths=False))
    made.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=moment)
    if logs_calls():
        made.register("before-send", _log_request)
        made.register("response-received", _log_response)
    made.register_component("credential_provider", CheckedProvider(made))
    if publish.role_arn is not None:
        made.register_component("credential_provider", _Role(made, publish.region, publish.role_arn))
    return boto3.session.Session(botocore_session=made)


def session_with_credentials(publish: PublishSettings, seconds: float) -> boto3.session.Session:
    """A session whose credentials were got, or are known to be missing, within `seconds`.

    A service that gives credentials and hangs would hold whoever asks first for minutes: botocore's own clients wait
    for 60 s, several times.

    Raises:
        CredentialsError: They were not given in time.
        botocore.exceptions.BotoCoreError: They could not be got.
    """
    made = session(publish)

    def look() -> None:
        found = made.get_credentials()
        if found is not None:
            found.get_frozen_credentials()

    try:
        DeadlineExecutor(seconds).call(look)
    except TimeoutError:
        cause = f"what gives the credentials did not answer within {seconds:g} s"
        raise CredentialsError("CredentialRetrieval", cause) from None
    return made


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


def _log_request(**sent: Any) -> None:
    request = sent["request"]
    # The URL alone: headers hold the signature, bodies of STS hold tokens, a query may hold either.
    log_call(
        "aws.request",
        operation=_operation(sent["event_name"]),
        method=request.method,
        url=request.url.partition("?")[0],
    )


def _log_response(**received: Any) -> None:
    answer = received["response_dict"]
    outcome = type(received["exception"]).__name__ if answer is None else answer["status_code"]
    log_call("aws.response", operation=_operation(received["event_name"]), outcome=outcome)


def _operation(event_name: str) -> str:
    """`s3.PutObject` of `before-send.s3.PutObject`."""
    return event_name.partition(".")[2]


def short_timeouts() -> Config:
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
        # os.path.isdir: a home that this user may not enter, as botocore takes it, has no descriptions.
        found = (folder for folder in folders if os.path.isdir(folder))  # noqa: PTH112  see above
        return sorted({each.name for folder in found for each in folder.iterdir()})


class _Role:
    """A source of credentials that assumes `role_arn` with what the session has, again before they expire."""

    def __init__(self, made: BotocoreSession, region: str, role_arn: str) -> None:
        self._base = made.get_component("credential_provider")
        self._sts = partial(made.create_client, region_name=region, config=short_timeouts())
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


MAX_TOKEN_BYTES = 16 * 1024


def token_file(publish: PublishSettings, environ: Mapping[str, str]) -> Path | None:
    """The file of the web-identity token behind the credentials for `publish`; None when there is none.

    `environ` is the process's own environment, which is where botocore looks.
    """
    if publish.profile is None:
        if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
            return None
        named = environ.get("AWS_WEB_IDENTITY_TOKEN_FILE")
        if named:
            return Path(named)
    try:
        made = Session(profile=publish.profile)
        return _of_profile(made.full_config.get("profiles", {}), made.profile or "default")
    except boto.BotoCoreError:
        return None  # whoever makes the real session says what is wrong with the files


def _of_profile(profiles: Mapping[str, Mapping[str, Any]], name: str) -> Path | None:
    """Follows `source_profile`: a role's credentials rest on those of the profile that assumes it."""
    passed: set[str] = set()
    while name not in passed:
        passed.add(name)
        profile = profiles.get(name, {})
        if profile.get("web_identity_token_file"):
            return Path(profile["web_identity_token_file"]).expanduser()
        name = profile.get("source_profile", name)
    return None


def issuer_of_file(path: Path) -> str | None:
    """The `iss` that the token in a file claims; None when it cannot be read. Nothing else of the token is kept."""
    try:
        with path.open("rb") as file:
            issuer = unverified_claims(file.read(MAX_TOKEN_BYTES)).get("iss")
    except OSError:
        return None
    return issuer if isinstance(issuer, str) else None
