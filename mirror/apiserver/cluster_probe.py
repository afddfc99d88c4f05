"""Looking at one cluster through a kubeconfig, to suggest how it may be configured. Nothing is written anywhere."""

import asyncio
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mirror.apiserver.client import fetch_documents
from mirror.apiserver.credentials import IssuerConnection, open_issuer_connection
from mirror.apiserver.endpoints import find_endpoints
from mirror.apiserver.poller import Resolve, ResolverLoop
from mirror.apiserver.tls import TlsContextCache
from mirror.config.settings import AuthSettings, Issuer, LimitSettings, PublishSettings
from mirror.model import Answer, IssuerName, IssuerUrl, Reason, Unusable


@dataclass(frozen=True, slots=True)
class ClusterProbe:
    """What was seen: the server's answer, where its replicas stand, and which of them answered from here.

    `replica_reasons` are the reasons why the replicas are not known; then `replicas` is empty.
    """

    answer: Answer
    replicas: tuple[str, ...] = ()
    answered: tuple[str, ...] = ()
    replica_reasons: tuple[Reason, ...] = ()


def probe_cluster(
    kubeconfig: Path, context: str | None, limits: LimitSettings, *, resolve: Resolve = socket.getaddrinfo
) -> ClusterProbe | tuple[Reason, ...]:
    """Ask the server of a kubeconfig for its documents and its replicas, and each replica for its documents.

    Args:
        kubeconfig: The file.
        context: Its context; None for the current one.
        limits: What a slow or hostile apiserver may cost; `total_seconds` holds for each step.
        resolve: How names are looked up; as `socket.getaddrinfo`.

    Returns:
        What was seen; or every reason why the cluster could not be asked.
    """
    # A stand-in: which issuer this is will only be known from the answer.
    issuer = Issuer(
        IssuerName("init"),
        IssuerUrl(""),
        PublishSettings("", "", ""),
        auth=AuthSettings(kubeconfig=kubeconfig, context=context),
        discover="endpointslices",
    )
    opened = open_issuer_connection(issuer, TlsContextCache(), {})
    if isinstance(opened, tuple):
        return opened
    with asyncio.Runner(loop_factory=partial(ResolverLoop, resolve)) as runner:
        return runner.run(_look(opened, limits))


async def _look(opened: IssuerConnection, limits: LimitSettings) -> ClusterProbe | tuple[Reason, ...]:
    server, loop = opened.addresses[0], asyncio.get_running_loop()
    result = await fetch_documents(server, opened.access, limits, loop.time() + limits.total_seconds)
    answer = result.outcome(server)
    if isinstance(answer, Unusable):
        return answer.reasons
    found = await find_endpoints(server, opened.access, limits, loop.time() + limits.total_seconds)
    if found.unusable:
        return ClusterProbe(answer, replica_reasons=found.reasons)
    deadline = loop.time() + limits.total_seconds
    responses = await asyncio.gather(*(fetch_documents(url, opened.replicas, limits, deadline) for url in found.urls))
    outcomes = [each.outcome(url) for url, each in zip(found.urls, responses, strict=True)]
    return ClusterProbe(answer, found.urls, tuple(each.apiserver for each in outcomes if isinstance(each, Answer)))
