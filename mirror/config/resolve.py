"""Filled shapes to `Settings`: layers applied, units in numbers, paths absolute. Nothing can fail here any more."""

from collections.abc import Callable
from pathlib import Path

from mirror.config import settings
from mirror.config.bucket_fields import max_age_seconds
from mirror.config.layers import Entry, Layers
from mirror.config.places import public_base_url
from mirror.config.shape import IssuerEntry, Keys, Publish, Readback
from mirror.config.shape import Limits as LimitsShape
from mirror.config.shape import Repository as RepositoryShape
from mirror.model import Audiences, IssuerName, IssuerUrl, KeyPolicy, Thumbprint

_Locate = Callable[[str | None], Path | None]


def to_settings(layers: Layers, base: Path, warnings: tuple[str, ...]) -> settings.Settings:
    """The settings of files without any mistake.

    Args:
        layers: What the files hold; every rule was asked and found nothing.
        base: The absolute folder that relative paths begin at.
        warnings: Sentences for the operator.
    """
    root = layers.root

    def locate(text: str | None) -> Path | None:
        return None if text is None else base / text

    publishes = _Publishes(locate)
    state_dir = base / root.state_dir
    revoked = root.defaults.keys.revoked
    return settings.Settings(
        state_dir=state_dir,
        repository=_repository(root.repository, state_dir, locate),
        issuers=tuple(_issuer(entry, publishes.of(entry.publish), revoked, locate) for entry in layers.entries),
        limits=_limits(root.limits),
        interval=root.interval,
        max_failures=root.max_failures,
        metrics_file=locate(root.metrics_file),
        http_listen=root.http.listen,
        warnings=warnings,
    )


def _limits(limits: LimitsShape) -> settings.Limits:
    return settings.Limits(
        connect_seconds=limits.connect.total_seconds(),
        total_seconds=limits.total.total_seconds(),
        source_deadline_seconds=limits.source_deadline.total_seconds(),
        max_body_bytes=limits.max_body,
        concurrency=limits.concurrency,
        puts=limits.puts,
    )


def _repository(repository: RepositoryShape, state_dir: Path, locate: _Locate) -> settings.Repository:
    author_name, author_email = repository.author
    return settings.Repository(
        path=state_dir / repository.path,
        remote=repository.remote,
        branch=repository.branch,
        sign=repository.sign,
        require_push=repository.require_push,
        signing_key=locate(repository.signing_key),
        allowed_signers=locate(repository.allowed_signers),
        name=repository.name,
        author_name=author_name,
        author_email=author_email,
    )


class _Publishes:
    """Resolves each publish section once: thousands of issuers share one."""

    def __init__(self, locate: _Locate) -> None:
        self._locate = locate
        self._known: dict[int, settings.Publish] = {}

    def of(self, publish: Publish) -> settings.Publish:
        # The shapes outlive this object, so their ids stay theirs.
        if id(publish) not in self._known:
            self._known[id(publish)] = _publish(publish, self._locate)
        return self._known[id(publish)]


def _publish(publish: Publish, locate: _Locate) -> settings.Publish:
    return settings.Publish(
        bucket=publish.bucket or "",
        region=publish.region or "",
        base_url=public_base_url(publish),
        endpoint_url=publish.endpoint_url,
        prefix=publish.prefix,
        expected_bucket_owner=publish.expected_bucket_owner,
        profile=publish.profile,
        role_arn=publish.role_arn,
        conditional_writes=publish.conditional_writes,
        cache_control=publish.cache_control,
        max_age_seconds=max_age_seconds(publish.cache_control),
        jwks_content_type=publish.jwks_content_type,
        audit_interval_seconds=publish.audit_interval.total_seconds(),
        cloudfront_distribution=publish.cloudfront_distribution,
        readback=_readback(publish.readback, locate),
    )


def _readback(readback: Readback, locate: _Locate) -> settings.Readback:
    return settings.Readback(readback.enabled, locate(readback.ca_file), readback.connect_to)


def _issuer(
    entry: Entry, publish: settings.Publish, revoked_everywhere: tuple[str, ...], locate: _Locate
) -> settings.Issuer:
    filled = entry.shape
    return settings.Issuer(
        name=IssuerName(filled.name),
        issuer=IssuerUrl(filled.issuer),
        publish=publish,
        apiservers=filled.apiservers,
        load_balancer=filled.load_balancer or (filled.auth.in_cluster and not filled.discover),
        discover=filled.discover,
        expect_replicas=filled.expect_replicas,
        proxy=filled.proxy,
        tls=_tls(filled, locate),
        auth=_auth(filled, locate),
        audiences=filled.audiences if isinstance(filled.audiences, tuple) else _audiences(filled).all(),
        audiences_by_cloud=None if isinstance(filled.audiences, tuple) else _audiences(filled),
        keys=_policy(filled.keys, revoked_everywhere),
        former_issuers=tuple(settings.FormerIssuer(IssuerUrl(it.issuer), it.until) for it in filled.former_issuers),
        discovery_extra=filled.discovery_extra,
        probe_token_file=locate(filled.probe_token_file),
    )


def _audiences(filled: IssuerEntry) -> Audiences:
    found = filled.audiences
    return Audiences.sorted_out(found) if isinstance(found, tuple) else Audiences(found.aws, found.gcp, found.azure)


def _tls(filled: IssuerEntry, locate: _Locate) -> settings.Tls:
    tls = filled.tls
    if filled.auth.in_cluster:
        return settings.Tls(settings.SERVICE_ACCOUNT / "ca.crt", tls.server_name)
    return settings.Tls(locate(tls.ca_file), tls.server_name, locate(tls.client_cert_file), locate(tls.client_key_file))


def _auth(filled: IssuerEntry, locate: _Locate) -> settings.Auth:
    auth = filled.auth
    token_file = settings.SERVICE_ACCOUNT / "token" if auth.in_cluster else locate(auth.token_file)
    return settings.Auth(token_file, locate(auth.kubeconfig), auth.context, auth.in_cluster)


def _policy(keys: Keys, revoked_everywhere: tuple[str, ...]) -> KeyPolicy:
    # A revocation is never overridden: what `defaults` revoke stays revoked under an issuer's own list.
    return KeyPolicy(
        new_keys=keys.new_keys,
        retain_removed=keys.retain_removed,
        kid=keys.kid,
        unknown_keys=keys.unknown_keys,
        revoked=frozenset(Thumbprint(text) for text in (*keys.revoked, *revoked_everywhere)),
    )
