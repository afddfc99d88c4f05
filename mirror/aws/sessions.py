"""AWS sessions with the credentials of an issuer's `publish` settings, and the web-identity token behind them.

Whatever botocore reads from the environment holds: credentials, `AWS_CA_BUNDLE`, `AWS_ENDPOINT_URL_*`, proxies.

The web-identity token that the mirror's own AWS credentials would come from.
Which one botocore takes follows from its chain of credentials (`botocore.credentials.create_credential_resolver`):
static keys of the environment come first, and a profile that is named explicitly switches the environment off.

What that chain lacks: it looks at what it finds, and a `credential_process` may not hang.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import boto3.session
from botocore import exceptions as boto
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    Credentials,
    DeferredRefreshableCredentials,
    ProcessProvider,
    ProfileProviderBuilder,
    ReadOnlyCredentials,
)
from botocore.hooks import HierarchicalEmitter
from botocore.loaders import Loader
from botocore.session import Session
from botocore.utils import parse_timestamp

from mirror.aws.errors import PROFILE_VARIABLES, CredentialsError
from mirror.concurrency import DeadlineExecutor, reap
from mirror.config.settings import PublishSettings
from mirror.log import log_call, logs_calls
from mirror.redaction import redact_foreign, remember
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
    made = Session(profile=publish.profile, event_hooks=copy(_own_handlers()), include_builtin_handlers=False)
    made.register_component("data_loader", _loader(*made.get_component("data_loader").search_paths))
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

    A service of credentials that hangs would block the first caller for minutes: botocore's own clients wait
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

    The standard library reads the form of S3's listings, botocore all others: its reader tries every form that a
    service ever wrote, which took half the time of reading a listing.

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
    url = request.url.partition("?")[0]
    log_call("aws.request", operation=_operation(sent["event_name"]), method=request.method, url=url)


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
        # A home that this user may not enter, as botocore takes it, has no descriptions. Paths take twice as long.
        folders = [each for each in self.search_paths if os.path.isdir(each)]  # noqa: PTH112  see above
        return sorted({name for folder in folders for name in os.listdir(folder)})  # noqa: PTH208  see above


@cache
def _own_handlers() -> HierarchicalEmitter:
    """The handlers of events that botocore has itself, registered once in a process: each session gets a copy."""
    handlers = HierarchicalEmitter()
    Session(event_hooks=handlers)  # registers them
    return handlers


@cache
def _loader(*search_paths: str) -> _Loader:
    """One for all sessions with these folders: what a loader has read it keeps, and a client's share is 50 ms."""
    return _Loader(extra_search_paths=list(search_paths), include_default_search_paths=False)


class _Role:
    """A source of credentials that assumes `role_arn` with what the session has, again before they expire."""

    def __init__(self, made: Session, region: str, role_arn: str) -> None:
        self._base = made.get_component("credential_provider")
        self._sts = partial(made.create_client, region_name=region, config=short_timeouts())
        self._role_arn = role_arn

    def load_credentials(self) -> Credentials:
        source = self._base.load_credentials()
        if source is None:
            raise boto.NoCredentialsError
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
        return None  # the real session reports what is wrong with the files


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


PROCESS_SECONDS = 10.0
"""The longest that a `credential_process` may take: less than a request to the bucket (`mirror.publish.s3`)."""

_VARIABLES = {
    "access key id": ("AWS_ACCESS_KEY_ID",),
    "secret access key": ("AWS_SECRET_ACCESS_KEY",),
    "session token": ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"),
}


class CheckedProvider:
    """Stands before a session's provider: whatever it finds is checked at each use, and never printed afterwards."""

    def __init__(self, made: Session) -> None:
        self._session = made
        self._base = made.get_component("credential_provider")
        _limit_processes(made, self._base)

    def load_credentials(self) -> Any:
        """What botocore finds, or None.

        Raises:
            CredentialsError: The token for the container's credentials has space around it.
        """
        if not self._from_environment():
            _check_container_token(os.environ)
        with _explained():
            found = self._base.load_credentials()
        return None if found is None else _Checked(found, self._session)

    def _from_environment(self) -> bool:
        return self._session.instance_variables().get("profile") is None and bool(os.environ.get("AWS_ACCESS_KEY_ID"))


class _Checked:
    """Credentials of botocore that are looked at whenever a request is signed with them; they may renew themselves."""

    def __init__(self, base: Any, made: Session) -> None:
        self._base = base
        self._session = made

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        with _explained():
            frozen: ReadOnlyCredentials = self._base.get_frozen_credentials()
        remember(frozen.secret_key, frozen.token)
        values = (frozen.access_key, frozen.secret_key, frozen.token)
        for name, value in zip(_VARIABLES, values, strict=True):
            if value and (fault := fault_of(value)):
                raise CredentialsError("MalformedCredentials", f"the {name}{self._place(name)} {fault}")
        return frozen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)

    def _place(self, name: str) -> str:
        method, profile = self._base.method, self._session.profile or "default"
        if method == "env":
            variable = next((each for each in _VARIABLES[name] if os.environ.get(each)), _VARIABLES[name][0])
            return f" in the environment variable {variable}"
        if method == "custom-process":
            return f" from the credential_process of profile {profile} in {self._file('config_file')}"
        if method == "shared-credentials-file":
            return f" of profile {profile} in {self._file('credentials_file')}"
        if method == "config-file":
            return f" of profile {profile} in {self._file('config_file')}"
        return f" (source: {method})"

    def _file(self, variable: str) -> str:
        return os.path.expanduser(str(self._session.get_config_variable(variable)))  # noqa: PTH111  only to be shown


_FILE_VARIABLES = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
_UNREACHED = (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ReadTimeoutError, boto.ConnectionClosedError)


@contextmanager
def _explained() -> Iterator[None]:
    """Say of what goes wrong while credentials are got that it is that, and not the bucket.

    Raises:
        CredentialsError: A file cannot be read or is empty, or a service that gives credentials cannot be reached.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        cause = f"the file {error.filename}{_of_variable(str(error.filename))} cannot be read: {error.strerror}"
        raise CredentialsError("CredentialRetrieval", cause) from None
    except boto.ParamValidationError as error:
        if "WebIdentityToken" not in str(error):
            raise
        path = os.environ.get(_FILE_VARIABLES[0], "of the web identity token")
        raise CredentialsError("CredentialRetrieval", f"the file {path}{_of_variable(path)} is empty") from None
    except _UNREACHED as error:
        url = getattr(error, "kwargs", {}).get("endpoint_url", "")
        cause = f"the service that gives the credentials, {url}, cannot be reached ({type(error).__name__})"
        raise CredentialsError("CredentialRetrieval", redact_foreign(cause)) from None


def _of_variable(path: str) -> str:
    return next((f" ({each})" for each in _FILE_VARIABLES if os.environ.get(each) == path), "")


def refuse_empty_profile(environ: Mapping[str, str]) -> None:
    """Name a variable that is set and empty, where botocore looks for a profile without a name.

    Raises:
        CredentialsError: There is one.
    """
    variable = next((each for each in PROFILE_VARIABLES if each in environ), None)
    if variable is not None and not environ[variable]:
        raise CredentialsError("EmptyProfile", f"the environment variable {variable} is set and empty")


def fault_of(value: str) -> str:
    """Why a credential cannot be right, such as `ends with a line feed`; empty where nothing shows."""
    if value != value.rstrip():
        return f"ends with {_character(value[-1])}"
    if value != value.lstrip():
        return f"begins with {_character(value[0])}"
    odd = next((each for each in value if each.isspace() or not each.isprintable()), None)
    return "" if odd is None else f"holds {_character(odd)}"


def _character(one: str) -> str:
    names = {"\n": "a line feed", "\r": "a carriage return", " ": "a space", "\t": "a tab"}
    return names.get(one, f"the character U+{ord(one):04X}")


def _check_container_token(environ: Mapping[str, str]) -> None:
    """The authorization token of ECS and of EKS Pod Identity goes into a header too."""
    if not (environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") or environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")):
        return
    token, path = (environ.get(f"AWS_CONTAINER_AUTHORIZATION_TOKEN{end}", "") for end in ("", "_FILE"))
    found = {"the environment variable AWS_CONTAINER_AUTHORIZATION_TOKEN": token}
    with suppress(OSError, UnicodeDecodeError), open(path, encoding="utf-8") as file:  # noqa: PTH123  as botocore
        found[f"the file {path} (AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE)"] = file.read()
    for place, value in found.items():
        remember(value)
        if fault := fault_of(value):
            cause = f"the token for the container's credentials in {place} {fault}"
            raise CredentialsError("MalformedCredentials", cause)


# -- credential_process ------------------------------------------------------------------------------------


def _limit_processes(made: Session, resolver: Any) -> None:
    """Let botocore start programs through `_LimitedProcess`, also those of a role's source profile."""
    for provider in resolver.providers:
        if isinstance(provider, ProcessProvider):
            vars(provider)["_popen"] = _LimitedProcess  # botocore gives the argument only to its own builder
        if hasattr(provider, "_profile_provider_builder"):
            vars(provider)["_profile_provider_builder"] = _Builder(made)


class _Builder(ProfileProviderBuilder):
    def __init__(self, made: Session) -> None:
        super().__init__(made, cache={})
        self._made = made

    def _create_process_provider(self, profile_name: str) -> ProcessProvider:
        popen: Any = _LimitedProcess
        return ProcessProvider(profile_name=profile_name, load_config=lambda: self._made.full_config, popen=popen)


class _LimitedProcess:
    """What botocore uses of `subprocess.Popen`; the program and its children are killed when their time is over."""

    def __init__(self, command: list[str], **pipes: Any) -> None:
        self._command = command
        self._start: Any = partial(subprocess.Popen, command, start_new_session=True, stdin=subprocess.DEVNULL, **pipes)
        self.returncode = 0

    def communicate(self) -> tuple[bytes, bytes]:
        with self._start() as process:
            try:
                out, err = process.communicate(timeout=PROCESS_SECONDS)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                reap(process.pid, killed=True)
                cause = f"the credential_process {self._command[0]} did not end within {PROCESS_SECONDS:g} s"
                raise CredentialsError("CredentialRetrieval", cause) from None
            self.returncode = process.returncode
        reap(process.pid)
        return out, err
