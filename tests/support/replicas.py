"""Several apiservers on one port of different loopback addresses, like the replicas of one cluster."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from support.apiserver import Apiserver
from support.tls import server_context

HOST = "api.syd.example.com"


@contextmanager
def replicas(count: int, *names: str) -> Iterator[list[Apiserver]]:
    """`count` servers at 127.0.0.2, 127.0.0.3 …, all on one port, with a certificate for `names` alone."""
    with ExitStack() as stack:
        servers: list[Apiserver] = []
        for number in range(2, 2 + count):
            port = servers[0].port if servers else 0
            context = server_context(*(names or (HOST,)))
            servers.append(stack.enter_context(Apiserver(context, host=f"127.0.0.{number}", wanted_port=port)))
        yield servers


class FakeResolver:
    """As `socket.getaddrinfo`, for names that the test chooses; numeric addresses resolve to themselves."""

    def __init__(self, **addresses: Sequence[str]) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    def __call__(self, host: Any, port: Any, *_: object) -> list[Any]:
        host = host.decode() if isinstance(host, bytes) else host
        self.asked.append(host)
        if host.replace(".", "").isdigit() or ":" in host:
            return [_entry(host, port)]
        found = self.addresses.get(host.replace(".", "_"))
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [_entry(address, port) for address in found]


def _entry(address: str, port: Any) -> Any:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, int(port), 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port)))
