"""Where the replicas of an issuer's apiserver are: DNS and EndpointSlices.

It parses the EndpointSlices of `default/kubernetes`; this is pure, and trusts nothing in them. An attacker who can
write EndpointSlices can name any host. So only addresses where an apiserver can be are accepted, and nothing is sent
before TLS has verified the certificate with the cluster's CA.
"""

import asyncio
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import urlencode

from mirror.apiserver.client import (
    Connection,
    ConnectionSettings,
    DocumentRequest,
    check_response,
    connect,
    reason_for_exception,
    retry_after_seconds,
)
from mirror.apiserver.credentials import IssuerConnection
from mirror.apiserver.errors import DiscoveryFailureKind, printable
from mirror.config.fields import place_of_apiserver, prefix_of_apiserver
from mirror.config.settings import Issuer, LimitSettings
from mirror.model import MEDIA_TYPE_DISCOVERY, Reason, Unusable
from mirror.trust.parsing import read_object

Address = IPv4Address | IPv6Address
PAGE_ITEMS = 100
MAX_PAGES = 10
_PATH = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
_LABEL = "kubernetes.io/service-name"
_WHERE = "endpointslices"
_MAX_TOKEN_CHARACTERS = 4096
_FAILURES = {403: DiscoveryFailureKind.FORBIDDEN_ENDPOINTSLICES, 404: DiscoveryFailureKind.NO_ENDPOINTSLICES}


@dataclass(frozen=True, slots=True)
class EndpointSlicePage:
    """One page of the list: the ready replicas as (address, port), what is no address, and how the list goes on."""

    replicas: tuple[tuple[Address, int], ...] = ()
    bad: tuple[str, ...] = ()
    token: str = ""


def page_document(token: str) -> DocumentRequest:
    """The request for the page that begins at `token`, "" for the first (API concepts, "Retrieving large results")."""
    query = {"labelSelector": f"{_LABEL}=kubernetes", "limit": str(PAGE_ITEMS)} | ({"continue": token} if token else {})
    path = f"{_PATH}?{urlencode(query)}"
    return DocumentRequest(_WHERE, path, MEDIA_TYPE_DISCOVERY, frozenset({MEDIA_TYPE_DISCOVERY}), _FAILURES)


def read_page(body: bytes) -> EndpointSlicePage | Reason:
    """The page in `body`, a discovery.k8s.io/v1 EndpointSliceList; or why it is not taken as a whole."""
    found = read_object(body, _WHERE)
    if isinstance(found, Reason):
        return found
    try:
        return _parsed_page(found)
    except _WrongShapeError as error:
        return DiscoveryFailureKind.ENDPOINTSLICES_INVALID.reason(str(error), where=_WHERE)


def can_be_apiserver(address: Address, *, on_loopback: bool) -> bool:
    """Whether Kubernetes itself would take `address` for an endpoint; loopback only where the API is there as well.

    Its validation refuses unspecified, loopback, link-local (cloud metadata!) and multicast addresses.
    """
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    for each in (address, *((inner,) if inner is not None else ())):
        if each.is_unspecified or each.is_link_local or each.is_multicast or (each.is_loopback and not on_loopback):
            return False
    return inner is None


class _WrongShapeError(ValueError):
    """The answer is JSON, but not what the API gives; the text says in which respect."""


def _parsed_page(found: Mapping[str, Any]) -> EndpointSlicePage:
    if found.get("kind") != "EndpointSliceList":
        raise _WrongShapeError(f"its kind is {printable(repr(found.get('kind')))}")
    token = _member(found, "metadata", dict).get("continue") or ""
    if not isinstance(token, str) or len(token) > _MAX_TOKEN_CHARACTERS:
        raise _WrongShapeError("metadata.continue is not text of a usual length")
    replicas: list[tuple[Address, int]] = []
    bad: list[str] = []
    for item in _member(found, "items", list):
        for text, port in _ready(item):
            address = _address(text, item.get("addressType"))
            if address is None:
                bad.append(printable(text))
            else:
                replicas.append((address, port))
    return EndpointSlicePage(tuple(replicas), tuple(bad), token)


def _ready(item: Any) -> Iterator[tuple[str, int]]:
    """The first address of each ready endpoint of a slice: the others are only further ways to the same one."""
    if not isinstance(item, dict):
        raise _WrongShapeError("an item is not an object")
    metadata = _member(item, "metadata", dict)
    if metadata.get("namespace") != "default" or _member(metadata, "labels", dict).get(_LABEL) != "kubernetes":
        raise _WrongShapeError("an item belongs to another service than default/kubernetes")
    for endpoint in _member(item, "endpoints", list):
        if not isinstance(endpoint, dict):
            raise _WrongShapeError("an endpoint is not an object")
        # No condition means ready (discovery.k8s.io/v1, EndpointConditions).
        ready = _member(endpoint, "conditions", dict).get("ready")
        if ready not in (None, True, False):
            raise _WrongShapeError("conditions.ready of an endpoint is neither true nor false")
        if ready is not False:
            addresses = _member(endpoint, "addresses", list)
            if not addresses or not isinstance(addresses[0], str):
                raise _WrongShapeError("an endpoint has no address")
            yield addresses[0], _port(item)


def _port(item: Mapping[str, Any]) -> int:
    for port in _member(item, "ports", list):
        if isinstance(port, dict) and port.get("name") == "https" and port.get("protocol", "TCP") == "TCP":
            number = port.get("port")
            if type(number) is int and 0 < number <= 65535:  # noqa: PLR2004 - the largest TCP port
                return number
            raise _WrongShapeError("the port named https has no number")
    raise _WrongShapeError("a slice has no TCP port named https")


def _address(text: str, kind: object) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    scoped = isinstance(address, IPv6Address) and address.scope_id is not None
    return None if scoped or kind != f"IPv{address.version}" else address


def _member(found: Mapping[str, Any], name: str, kind: type) -> Any:
    """A member that the API leaves out, or sends as null, where it is empty."""
    value = found.get(name)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise _WrongShapeError(f"{name} is no {'object' if kind is dict else 'list'}")
    return value


MAX_REPLICAS = 100
Replica = tuple[Address, int]


@dataclass(frozen=True, slots=True)
class DiscoveredReplicas:
    """The URLs of the replicas, and what else a lookup gave: each is an apiserver that did not answer.

    `retry_after_seconds` is the server's wish where it had one.
    """

    urls: tuple[str, ...]
    unusable: tuple[Unusable, ...] = ()
    retry_after_seconds: int | None = None

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Every reason in it."""
        return tuple(reason for each in self.unusable for reason in each.reasons)


async def discover_replicas(
    issuer: Issuer, opened: IssuerConnection, limits: LimitSettings, deadline: float
) -> DiscoveredReplicas:
    """The apiservers of `issuer`; who could not be found is `Unusable`, so that nothing retires for lack of it.

    Args:
        issuer: Its `discover` says how.
        opened: Its addresses, of which the first is looked behind.
        limits: What a lookup may cost.
        deadline: When it must have ended, in the event loop's time.
    """
    if issuer.discover is None:
        return DiscoveredReplicas(opened.addresses)
    address = opened.addresses[0]
    try:
        if issuer.discover == "dns":
            return await _behind_name(address, limits, deadline)
        return await find_endpoints(address, opened.access, limits, deadline)
    except Exception as error:  # noqa: BLE001 - whatever one lookup provokes, the others' answers must survive
        return _failed(address, reason_for_exception(error, where="", connect_seconds=limits.connect_seconds))


async def _behind_name(address: str, limits: LimitSettings, deadline: float) -> DiscoveredReplicas:
    host, port = place_of_apiserver(address)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(deadline):
            answers = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except TimeoutError:
        return _failed(address, DiscoveryFailureKind.LOOKUP_TIMEOUT.reason(f"{limits.total_seconds:g}"))
    texts = {str(place[0]) for *_, place in answers}
    # A link-local address is good on one of our own network cards only: it says nothing about an apiserver.
    scoped = sorted(text for text in texts if "%" in text)
    found = _found(address, [(ip_address(text), int(port)) for text in texts - set(scoped)], scoped)
    # Behind the name of a gateway stand gateways: each has the cluster at the same prefix.
    return replace(found, urls=tuple(url + prefix_of_apiserver(address) for url in found.urls))


async def find_endpoints(
    address: str, access: ConnectionSettings, limits: LimitSettings, deadline: float
) -> DiscoveredReplicas:
    """What the apiserver at `address` lists as the ready endpoints of `default/kubernetes`."""
    replicas: set[Replica] = set()
    bad: dict[str, None] = {}
    on_loopback = False
    with suppress(ValueError):  # a host name
        on_loopback = ip_address(place_of_apiserver(address)[0].strip("[]")).is_loopback
    async with connect(address, access, limits, deadline) as line:
        if isinstance(line, Reason):
            return _failed(address, line)
        token = ""
        for _ in range(MAX_PAGES):
            page = await _fetched_page(line, token)
            if isinstance(page, DiscoveredReplicas):
                return page
            good = {each for each in page.replicas if can_be_apiserver(each[0], on_loopback=on_loopback)}
            replicas |= good
            bad |= dict.fromkeys((*page.bad, *(str(each[0]) for each in page.replicas if each not in good)))
            token = page.token
            if not token:
                return _found(address, replicas, bad)
    return _failed(address, DiscoveryFailureKind.TOO_MANY_REPLICAS.reason(f"the list has more than {MAX_PAGES} pages"))


async def _fetched_page(line: Connection, token: str) -> EndpointSlicePage | DiscoveredReplicas:
    document = page_document(token)
    reply = await line.fetch(document)
    if isinstance(reply, Reason):
        return _failed(line.apiserver, reply)
    secret, max_body_bytes = line.access.token, line.limits.max_body_bytes
    flaw = check_response(document, reply, line.access.login, max_body_bytes=max_body_bytes, secret=secret)
    page = flaw or read_page(reply.body)
    if isinstance(page, Reason):
        unusable = Unusable(line.apiserver, (page,), None, reply.certificate_expires_at)
        return DiscoveredReplicas((), (unusable,), retry_after_seconds(reply))
    return page


def _found(address: str, replicas: Iterable[Replica], bad: Iterable[str]) -> DiscoveredReplicas:
    # Written in two ways, one replica must not count as two.
    plain = {(_plain(where), port) for where, port in replicas}
    unique = sorted(plain, key=lambda each: (each[0].version, int(each[0]), each[1]))
    wrong = tuple(bad)
    count = len(unique) + len(wrong)
    if count > MAX_REPLICAS:
        return _failed(address, DiscoveryFailureKind.TOO_MANY_REPLICAS.reason(f"{count}, at most {MAX_REPLICAS}"))
    if not unique and not wrong:
        return _failed(address, DiscoveryFailureKind.NOTHING_FOUND.reason(f"nothing stands behind {address}"))
    unusable = tuple(Unusable(address, (DiscoveryFailureKind.BAD_ENDPOINT.reason(printable(text)),)) for text in wrong)
    return DiscoveredReplicas(tuple(_url(*each) for each in unique), unusable)


def _plain(address: Address) -> Address:
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _failed(address: str, reason: Reason) -> DiscoveredReplicas:
    return DiscoveredReplicas((), (Unusable(address, (reason,)),))


def _url(address: Address, port: int) -> str:
    return f"https://[{address}]:{port}" if isinstance(address, IPv6Address) else f"https://{address}:{port}"
