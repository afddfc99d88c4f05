"""The resolved configuration: frozen values with units in their names, every default and override applied.

`mirror.config.load` makes them out of YAML; the components take from here what they need and know no YAML.
Paths are absolute.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Literal, get_args

from mirror.model import IssuerName, IssuerUrl, KeyPolicy, TokenAudiences


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What a hostile or slow outside world may cost us."""

    connect_seconds: float = 5.0
    total_seconds: float = 15.0
    source_deadline_seconds: float = 60.0
    max_body_bytes: int = 1024 * 1024
    concurrency: int = 256
    puts: int = 16


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How an issuer's apiservers are verified; with `ca_file` against that file alone."""

    ca_file: Path | None = None
    server_name: str | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None


SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds the token of its ServiceAccount, and the CA of its cluster."""
LOAD_BALANCER_CONNECTIONS = 5
"""Separate connections a pass to a URL that hides several replicas: enough to meet most of three to five of them."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How we log in at an issuer's apiservers; anonymous when nothing is set.

    With `in_cluster` the pod's own files stand in `token_file` and in `TlsSettings.ca_file`.
    """

    token_file: Path | None = None
    kubeconfig: Path | None = None
    context: str | None = None
    in_cluster: bool = False


@dataclass(frozen=True, slots=True)
class ReadbackSettings:
    """How the public URL is looked at; `connect_to` is (host, port), as curl's `--connect-to`."""

    enabled: bool = True
    ca_file: Path | None = None
    connect_to: tuple[str, int] | None = None
    proxy: str | None = None


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """Where and how an issuer's objects are published. `base_url` has no trailing slash."""

    bucket: str
    region: str
    base_url: str
    endpoint_url: str | None = None
    prefix: str = ""
    expected_bucket_owner: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    conditional_writes: bool = True
    checksums: bool = True
    cache_control: str = "public, max-age=300"
    max_age_seconds: int = 300
    jwks_content_type: str = "application/jwk-set+json"
    audit_interval_seconds: float = 3600.0
    cloudfront_distribution: str | None = None
    readback: ReadbackSettings = field(default_factory=ReadbackSettings)


@dataclass(frozen=True, slots=True)
class FormerIssuerSettings:
    """An issuer text of the past under which the same keys stay public; `until` is the last day, UTC."""

    issuer: IssuerUrl
    until: date


@dataclass(frozen=True, slots=True)
class Issuer:
    """One entry of `issuers`, with `defaults` and the global `publish` merged in.

    Without `apiservers` the kubeconfig's server is asked, or the cluster's own service. `load_balancer` is also true
    where that is implied. `audiences` are all that are configured; `audiences_by_cloud` says which cloud takes which,
    where the configuration says so.
    """

    name: IssuerName
    issuer: IssuerUrl
    publish: PublishSettings
    apiservers: tuple[str, ...] = ()
    load_balancer: bool = False
    discover: Literal["dns", "endpointslices"] | None = None
    expect_replicas: int | None = None
    proxy: str | None = None
    tls: TlsSettings = field(default_factory=TlsSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    audiences: tuple[str, ...] = ()
    audiences_by_cloud: TokenAudiences | None = None
    keys: KeyPolicy = field(default_factory=KeyPolicy)
    former_issuers: tuple[FormerIssuerSettings, ...] = ()
    discovery_extra: Mapping[str, object] = field(default_factory=dict)
    probe_token_file: Path | None = None
    suspend: bool = False

    @property
    def urls(self) -> tuple[IssuerUrl, ...]:
        """Every text under which the issuer's keys are public: its own, then its former ones."""
        return (self.issuer, *(former.issuer for former in self.former_issuers))

    @property
    def clouds(self) -> TokenAudiences:
        """The audiences by cloud: as configured, else a plain list sorted out by the texts themselves."""
        return TokenAudiences.sorted_out(self.audiences) if self.audiences_by_cloud is None else self.audiences_by_cloud

    @property
    def expected_answers(self) -> int:
        """How many answers of a pass make "every apiserver answered"; never less than one."""
        if self.discover is not None:
            return max(1, self.expect_replicas or 0)
        asked = max(1, len(self.apiservers)) * (LOAD_BALANCER_CONNECTIONS if self.load_balancer else 1)
        return max(asked, self.expect_replicas or 0)


@dataclass(frozen=True, slots=True)
class RepositorySettings:
    """The git repository that keeps the history.

    With `signing_key` only signed ledgers count; without it the remote is trusted. `name` is what the signatures
    are for.
    """

    path: Path
    remote: str | None = None
    branch: str = "main"
    sign: bool = False
    require_push: bool = False
    signing_key: Path | None = None
    allowed_signers: Path | None = None
    name: str = "oidc-mirror"
    author_name: str = "oidc-mirror"
    author_email: str = "oidc-mirror@localhost"


NotifyKind = Literal["issuer.failed", "issuer.degraded", "pass.failed", "key.held", "keys.replaced", "bucket.drift"]
"""What a message can be about. The first three and `key.held` also bring the message that it is over."""


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """Who gets messages over HTTP: the URLs are secrets, so their files are named here."""

    webhook_url_file: Path | None = None
    heartbeat_url_file: Path | None = None
    message_format: Literal["slack", "generic"] = "slack"
    events: tuple[NotifyKind, ...] = get_args(NotifyKind)
    ca_file: Path | None = None
    proxy: str | None = None

    @property
    def is_off(self) -> bool:
        """Whether nothing is ever sent."""
        return self.webhook_url_file is None and self.heartbeat_url_file is None


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration. `warnings` are sentences about what is allowed but unwise.

    `left_out` are entries that this process leaves alone (`--only`, `--shard`, a command about one issuer).
    """

    state_dir: Path
    repository: RepositorySettings
    issuers: tuple[Issuer, ...]
    limits: LimitSettings = field(default_factory=LimitSettings)
    interval: timedelta = timedelta(minutes=1)
    max_failures: int = 0
    fail_on_drift: bool = False
    metrics_file: Path | None = None
    notify: NotifySettings = field(default_factory=NotifySettings)
    http_listen: tuple[str, int] | None = ("127.0.0.1", 9797)
    warnings: tuple[str, ...] = ()
    left_out: tuple[Issuer, ...] = ()

    def narrowed(self, is_wanted: Callable[[Issuer], bool]) -> "Settings":
        """The settings with those issuers alone that are `is_wanted`; the others are left out, not forgotten."""
        left_out = tuple(issuer for issuer in self.issuers if not is_wanted(issuer))
        kept = tuple(issuer for issuer in self.issuers if is_wanted(issuer))
        return replace(self, issuers=kept, left_out=self.left_out + left_out)
