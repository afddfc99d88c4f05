"""EndpointSlices from the API: ready endpoints are accepted, impossible apiserver addresses are rejected."""

import json
from ipaddress import ip_address

import pytest

from mirror.apiserver.endpoints import EndpointSlicePage, can_be_apiserver, page_document, read_page
from mirror.model import Reason
from support.endpointslices import FIRST_PAGE, endpoint, endpointslice, slice_list


def read(*slices: object, **changes: object) -> EndpointSlicePage:
    page = read_page(slice_list(slices, **changes))  # type: ignore[arg-type]  # `token` is text where it is given
    assert isinstance(page, EndpointSlicePage), page
    return page


def replicas(page: EndpointSlicePage) -> list[str]:
    return [f"{address} {port}" for address, port in page.replicas]


def test_request_asks_for_the_slices_of_the_apiservers() -> None:
    """The first page is requested by label, the next page with its continue token, in the API's parameters."""
    assert page_document("").path == FIRST_PAGE
    assert page_document("a/b=").path == f"{FIRST_PAGE}&continue=a%2Fb%3D"


def test_ready_endpoints_of_all_slices_are_taken() -> None:
    """Both address families are included, each with its slice's port. Endpoints that are not ready are left out."""
    four = endpointslice(endpoint("10.0.0.11"), endpoint("10.0.0.12", ready=False), endpoint("10.0.0.13", ready=None))
    six = endpointslice(endpoint("fd00::11"), kind="IPv6", port=443)
    assert replicas(read(four, six)) == ["10.0.0.11 6443", "10.0.0.13 6443", "fd00::11 443"]


def test_further_addresses_of_an_endpoint_are_the_same_replica() -> None:
    """Only the first address of an endpoint is used, so that one replica is not counted twice."""
    assert replicas(read(endpointslice({"addresses": ["10.0.0.11", "10.0.0.12"]}))) == ["10.0.0.11 6443"]


def test_lists_that_the_api_leaves_out_are_empty() -> None:
    """Go writes an empty list as null. A slice without endpoints needs no port."""
    assert read(endpointslice(endpoints=None, ports=None)) == read(items=None) == EndpointSlicePage()


def test_port_is_found_by_its_name() -> None:
    """Other ports of a slice are ignored."""
    ports = [{"name": "metrics", "port": 1}, {"name": "https", "port": 2, "protocol": "UDP"}]
    found = read(endpointslice(endpoint("10.0.0.11"), ports=[*ports, {"name": "https", "port": 6443}]))
    assert replicas(found) == ["10.0.0.11 6443"]


def test_list_goes_on_where_it_says_so() -> None:
    """The continue token of the next page is returned."""
    assert read(endpointslice(endpoint("10.0.0.11")), token="abc").token == "abc"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("metadata.google.internal", "FQDN"),
        ("metadata.google.internal", "IPv4"),
        ("127.1", "IPv4"),
        ("0x7f000001", "IPv4"),
        ("010.0.0.1", "IPv4"),
        ("10.0.0.1:6443", "IPv4"),
        ("10.0.0.1/../..", "IPv4"),
        ("user@10.0.0.1", "IPv4"),
        ("fd00::1%eth0", "IPv6"),
        ("fd00::1", "IPv4"),
        ("10.0.0.1", "IPv6"),
        ("", "IPv4"),
    ],
)
def test_malformed_address_is_reported(text: str, kind: str) -> None:
    """A host name, or a text that other parsers could read as an address, is rejected."""
    page = read(endpointslice(endpoint(text), kind=kind))
    assert (page.replicas, page.bad) == ((), (text,))


@pytest.mark.parametrize(
    ("address", "elsewhere", "on_loopback"),
    [
        ("10.0.0.11", True, True),
        ("203.0.113.9", True, True),
        ("fd00::11", True, True),
        ("127.0.0.1", False, True),
        ("127.9.9.9", False, True),
        ("::1", False, True),
        ("169.254.169.254", False, False),
        ("fe80::1", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("::ffff:10.0.0.1", False, False),
        ("0.0.0.0", False, False),  # noqa: S104 - nothing binds here
        ("::", False, False),
        ("224.0.0.1", False, False),
        ("ff02::1", False, False),
    ],
)
def test_where_an_apiserver_can_be(address: str, elsewhere: bool, on_loopback: bool) -> None:
    """Metadata and loopback addresses are rejected. Loopback is accepted where the API itself is on loopback."""
    given = [can_be_apiserver(ip_address(address), on_loopback=each) for each in (False, True)]
    assert given == [elsewhere, on_loopback]


GOOD = endpointslice(endpoint("10.0.0.11"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"kind":"Status"}',
        b"\xef\xbb\xbf{}",
        b'{"kind":"EndpointSliceList","items":[],"items":[]}',
        b"[" * 100_000,
        slice_list([], kind="PodList"),
        slice_list([], metadata=[]),
        slice_list([], metadata={"continue": 5}),
        slice_list([], metadata={"continue": "x" * 5000}),
        slice_list([], items={}),
        slice_list([5]),
        slice_list([GOOD | {"metadata": None}]),
        slice_list([GOOD | {"metadata": {"namespace": "default"}}]),
        slice_list([GOOD | {"metadata": GOOD["metadata"] | {"namespace": "evil"}}]),
        slice_list([GOOD | {"metadata": GOOD["metadata"] | {"labels": {"kubernetes.io/service-name": "evil"}}}]),
        slice_list([GOOD | {"endpoints": {}}]),
        slice_list([GOOD | {"endpoints": ["10.0.0.1"]}]),
        slice_list([GOOD | {"endpoints": [{"addresses": []}]}]),
        slice_list([GOOD | {"endpoints": [{"addresses": [1]}]}]),
        slice_list([GOOD | {"endpoints": [{"addresses": "10.0.0.1"}]}]),
        slice_list([GOOD | {"endpoints": [{"addresses": ["10.0.0.1"], "conditions": []}]}]),
        slice_list([GOOD | {"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": "yes"}}]}]),
        slice_list([GOOD | {"ports": None}]),
        slice_list([GOOD | {"ports": [{"name": "http", "port": 80}]}]),
        slice_list([endpointslice(endpoint("10.0.0.1"), port="6443")]),
        slice_list([endpointslice(endpoint("10.0.0.1"), port=True)]),
        slice_list([endpointslice(endpoint("10.0.0.1"), port=0)]),
        slice_list([endpointslice(endpoint("10.0.0.1"), port=65536)]),
    ],
)
def test_answer_of_another_shape_is_refused_as_a_whole(body: bytes) -> None:
    """A malformed response is rejected with a reason, and none of its addresses is used."""
    assert isinstance(read_page(body), Reason)


def test_text_in_a_refusal_is_short_and_safe() -> None:
    """Text from the response is escaped and truncated."""
    reason = read_page(json.dumps({"kind": "\x1b[31m" + "x" * 10_000}).encode())
    assert isinstance(reason, Reason)
    assert ("\x1b" in reason.sentence, len(reason.sentence) < 500) == (False, True)
