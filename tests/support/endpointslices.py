"""EndpointSlices of the service `default/kubernetes` as an apiserver lists them (discovery.k8s.io/v1)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from support.apiserver import raw_answer

FIRST_PAGE = (
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    "?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes&limit=100"
)


def endpoint(address: str, *, ready: bool | None = True) -> dict[str, Any]:
    return {"addresses": [address], "conditions": {} if ready is None else {"ready": ready}}


def endpointslice(
    *endpoints: Mapping[str, Any], port: object = 6443, kind: str = "IPv4", **changes: object
) -> dict[str, Any]:
    """One slice, with the members that a real one has; `changes` replace any."""
    return {
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "uid": "9f9ff2a4-5a6e-4c0a-8f5c-0b7f0b5d6a0e",
            "resourceVersion": "211",
            "generation": 1,
            "creationTimestamp": "2026-11-23T04:21:30Z",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": kind,
        "endpoints": list(endpoints),
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    } | changes


def slice_list(slices: Sequence[object], *, token: str = "", **changes: object) -> bytes:
    """The body of one page."""
    metadata = {"resourceVersion": "1042"} | ({"continue": token, "remainingItemCount": 1} if token else {})
    page = {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": metadata, "items": slices}
    return json.dumps(page | changes).encode()


def listed(body: bytes) -> bytes:
    """The whole answer with this body."""
    return raw_answer("200 OK", body, content_type="application/json")
