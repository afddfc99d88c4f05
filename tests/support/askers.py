"""Issuers and limits for tests that ask apiservers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mirror.apiserver.poller import ApiserverPoller
from mirror.config.settings import AuthSettings, Issuer, LimitSettings, PublishSettings, TlsSettings
from mirror.model import Answer, IssuerName, IssuerUrl, Unusable

PUBLISH = PublishSettings("oidc-bucket", "ap-southeast-2", "https://oidc-bucket.s3-ap-southeast-2.amazonaws.com")
AUDIENCE = "cluster.identifier.kubernetes.domain"


def issuer(
    *apiservers: str,
    name: str = "syd-prod",
    tls: TlsSettings | None = None,
    token_file: Path | None = None,
    load_balancer: bool = False,
    proxy: str | None = None,
    auth: AuthSettings | None = None,
    discover: Literal["dns", "endpointslices"] | None = None,
    expect_replicas: int | None = None,
) -> Issuer:
    """One configured issuer with those apiservers; the rest as by default."""
    return Issuer(
        name=IssuerName(name),
        issuer=IssuerUrl(f"{PUBLISH.base_url}/{name}"),
        publish=PUBLISH,
        apiservers=apiservers,
        tls=tls or TlsSettings(),
        auth=auth or AuthSettings(token_file=token_file),
        load_balancer=load_balancer,
        proxy=proxy,
        audiences=(AUDIENCE,),
        discover=discover,
        expect_replicas=expect_replicas,
    )


def limits(
    *,
    connect_seconds: float = 5.0,
    total_seconds: float = 10.0,
    source_deadline_seconds: float = 20.0,
    max_body_bytes: int = 64 * 1024,
    concurrency: int = 16,
) -> LimitSettings:
    """Limits wide enough for a busy machine; a test of one limit makes that one small."""
    return LimitSettings(
        connect_seconds=connect_seconds,
        total_seconds=total_seconds,
        source_deadline_seconds=source_deadline_seconds,
        max_body_bytes=max_body_bytes,
        concurrency=concurrency,
    )


def ignore(_: IssuerName) -> None:
    """A progress callback for tests that do not look at progress."""


def ask_one(asked: Issuer, within: LimitSettings | None = None) -> tuple[Answer | Unusable, ...]:
    """What the apiservers of one issuer answer."""
    return ApiserverPoller(within or limits()).poll([asked], turn=0, progress=ignore)[asked.name]


def codes(answers: Sequence[Answer | Unusable]) -> list[tuple[str, ...]]:
    """The codes of each answer, none for a good one."""
    return [tuple(reason.code for reason in each.reasons) if isinstance(each, Unusable) else () for each in answers]


def urls(answers: tuple[Answer | Unusable, ...]) -> list[str]:
    """Where each answer is from, in order."""
    return [each.apiserver for each in answers]
