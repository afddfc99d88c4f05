"""Where the apiservers of a cluster stand, as its EndpointSlices of `default/kubernetes` say: pure, nothing trusted.

Whoever may write EndpointSlices could send us anywhere. So an address counts only where an apiserver can be, and even
there nothing is said before TLS has proved the cluster's own certificate.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import urlencode

from mirror.apiserver.client import Document
from mirror.apiserver.errors import shown
from mirror.apiserver.lookup_failures import LookupFailure
from mirror.model import MEDIA_TYPE_DISCOVERY, Reason
from mirror.trust.parsing import read_object

Address = IPv4Address | IPv6Address
PAGE_ITEMS = 100
MAX_PAGES = 10
_PATH = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
_LABEL = "kubernetes.io/service-name"
_WHERE = "endpointslices"
_MAX_TOKEN_CHARACTERS = 4096
_FAILURES = {403: LookupFailure.FORBIDDEN_ENDPOINTSLICES, 404: LookupFailure.NO_ENDPOINTSLICES}


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the list: the ready replicas as (address, port), what is no address, and how the list goes on."""

    replicas: tuple[tuple[Address, int], ...] = ()
    bad: tuple[str, ...] = ()
    token: str = ""


def page_document(token: str) -> Document:
    """The request for the page that begins at `token`, "" for the first (API concepts, "Retrieving large results")."""
    query = {"labelSelector": f"{_LABEL}=kubernetes", "limit": str(PAGE_ITEMS)} | ({"continue": token} if token else {})
    path = f"{_PATH}?{urlencode(query)}"
    return Document(_WHERE, path, MEDIA_TYPE_DISCOVERY, frozenset({MEDIA_TYPE_DISCOVERY}), _FAILURES)


def read_page(body: bytes) -> Page | Reason:
    """The page in `body`, a discovery.k8s.io/v1 EndpointSliceList; or why it is not taken as a whole."""
    found = read_object(body, _WHERE)
    if isinstance(found, Reason):
        return found
    try:
        return _page(found)
    except _WrongShapeError as error:
        return LookupFailure.ENDPOINTSLICES_INVALID.reason(str(error), where=_WHERE)


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


def _page(found: Mapping[str, Any]) -> Page:
    if found.get("kind") != "EndpointSliceList":
        raise _WrongShapeError(f"its kind is {shown(repr(found.get('kind')))}")
    token = _member(found, "metadata", dict).get("continue") or ""
    if not isinstance(token, str) or len(token) > _MAX_TOKEN_CHARACTERS:
        raise _WrongShapeError("metadata.continue is no text of a usual length")
    replicas: list[tuple[Address, int]] = []
    bad: list[str] = []
    for item in _member(found, "items", list):
        for text, port in _ready(item):
            address = _address(text, item.get("addressType"))
            if address is None:
                bad.append(shown(text))
            else:
                replicas.append((address, port))
    return Page(tuple(replicas), tuple(bad), token)


def _ready(item: Any) -> Iterator[tuple[str, int]]:
    """The first address of each ready endpoint of a slice: the others are only further ways to the same one."""
    if not isinstance(item, dict):
        raise _WrongShapeError("an item is no object")
    metadata = _member(item, "metadata", dict)
    if metadata.get("namespace") != "default" or _member(metadata, "labels", dict).get(_LABEL) != "kubernetes":
        raise _WrongShapeError("an item belongs to another service than default/kubernetes")
    for endpoint in _member(item, "endpoints", list):
        if not isinstance(endpoint, dict):
            raise _WrongShapeError("an endpoint is no object")
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
