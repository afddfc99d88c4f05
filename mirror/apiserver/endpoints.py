"""Finding the replicas of an issuer: behind a host name, or in the EndpointSlices of its cluster (design, 4.1)."""

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address

from mirror.apiserver.client import judge, retry_after_seconds
from mirror.apiserver.credentials import Opened
from mirror.apiserver.endpointslices import MAX_PAGES, Address, Page, can_be_apiserver, page_document, read_page
from mirror.apiserver.errors import shown
from mirror.apiserver.line import Access, Line, connected
from mirror.apiserver.lookup_failures import LookupFailure
from mirror.apiserver.transport_errors import explain
from mirror.config.fields import place_of_apiserver, prefix_of_apiserver
from mirror.config.settings import Issuer, Limits
from mirror.model import Reason, Unusable

MAX_REPLICAS = 100
Replica = tuple[Address, int]


@dataclass(frozen=True, slots=True)
class Found:
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


async def find(issuer: Issuer, opened: Opened, limits: Limits, deadline: float) -> Found:
    """The apiservers of `issuer`; who could not be found is `Unusable`, so that nothing retires for lack of it.

    Args:
        issuer: Its `discover` says how.
        opened: Its addresses, of which the first is looked behind.
        limits: What a lookup may cost.
        deadline: When it must have ended, in the event loop's time.
    """
    if issuer.discover is None:
        return Found(opened.addresses)
    address = opened.addresses[0]
    try:
        if issuer.discover == "dns":
            return await _behind_name(address, limits, deadline)
        return await find_endpoints(address, opened.access, limits, deadline)
    except Exception as error:  # noqa: BLE001 - whatever one lookup provokes, the others' answers must survive
        return _failed(address, explain(error, where="", connect_seconds=limits.connect_seconds))


async def _behind_name(address: str, limits: Limits, deadline: float) -> Found:
    host, port = place_of_apiserver(address)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(deadline):
            answers = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except TimeoutError:
        return _failed(address, LookupFailure.LOOKUP_TIMEOUT.reason(f"{limits.total_seconds:g}"))
    texts = {str(place[0]) for *_, place in answers}
    # A link-local address is good on one of our own network cards only: it says nothing about an apiserver.
    scoped = sorted(text for text in texts if "%" in text)
    found = _found(address, [(ip_address(text), int(port)) for text in texts - set(scoped)], scoped)
    # Behind the name of a gateway stand gateways: each has the cluster at the same prefix.
    return replace(found, urls=tuple(url + prefix_of_apiserver(address) for url in found.urls))


async def find_endpoints(address: str, access: Access, limits: Limits, deadline: float) -> Found:
    """What the apiserver at `address` lists as the ready endpoints of `default/kubernetes`."""
    replicas: set[Replica] = set()
    bad: dict[str, None] = {}
    on_loopback = _is_on_loopback(address)
    async with connected(address, access, limits, deadline) as line:
        if isinstance(line, Reason):
            return _failed(address, line)
        token = ""
        for _ in range(MAX_PAGES):
            page = await _page(line, token)
            if isinstance(page, Found):
                return page
            good = {each for each in page.replicas if can_be_apiserver(each[0], on_loopback=on_loopback)}
            replicas |= good
            bad |= dict.fromkeys((*page.bad, *(str(each[0]) for each in page.replicas if each not in good)))
            token = page.token
            if not token:
                return _found(address, replicas, bad)
    return _failed(address, LookupFailure.TOO_MANY_REPLICAS.reason(f"the list has more than {MAX_PAGES} pages"))


async def _page(line: Line, token: str) -> Page | Found:
    document = page_document(token)
    reply = await line.fetch(document)
    if isinstance(reply, Reason):
        return _failed(line.apiserver, reply)
    secret, max_body_bytes = line.access.token, line.limits.max_body_bytes
    flaw = judge(document, reply, line.access.login, max_body_bytes=max_body_bytes, secret=secret)
    page = flaw or read_page(reply.body)
    if isinstance(page, Reason):
        unusable = Unusable(line.apiserver, (page,), None, reply.certificate_expires_at)
        return Found((), (unusable,), retry_after_seconds(reply))
    return page


def _found(address: str, replicas: Iterable[Replica], bad: Iterable[str]) -> Found:
    # Written in two ways, one replica must not count as two.
    plain = {(_plain(where), port) for where, port in replicas}
    unique = sorted(plain, key=lambda each: (each[0].version, int(each[0]), each[1]))
    wrong = tuple(bad)
    count = len(unique) + len(wrong)
    if count > MAX_REPLICAS:
        return _failed(address, LookupFailure.TOO_MANY_REPLICAS.reason(f"{count}, at most {MAX_REPLICAS}"))
    if not unique and not wrong:
        return _failed(address, LookupFailure.NOTHING_FOUND.reason(f"nothing stands behind {address}"))
    unusable = tuple(Unusable(address, (LookupFailure.BAD_ENDPOINT.reason(shown(text)),)) for text in wrong)
    return Found(tuple(_url(*each) for each in unique), unusable)


def _plain(address: Address) -> Address:
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _failed(address: str, reason: Reason) -> Found:
    return Found((), (Unusable(address, (reason,)),))


def _url(address: Address, port: int) -> str:
    return f"https://[{address}]:{port}" if isinstance(address, IPv6Address) else f"https://{address}:{port}"


def _is_on_loopback(address: str) -> bool:
    try:
        return ip_address(place_of_apiserver(address)[0].strip("[]")).is_loopback
    except ValueError:
        return False
