"""Listening, and what is said when that cannot be."""

import socket
import urllib.request

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from mirror.daemon.server import Server, listen
from mirror.errors import UsageError


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("yes")(scope, receive, send)


def test_served_until_stopped() -> None:
    """Afterwards the port is free."""
    listener = listen(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = Server(app, listener)
    server.start()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        assert answer.read() == b"yes"
        assert answer.headers["server"] is None
    server.stop()
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "::2"])
def test_address_of_another_machine_is_refused(host: str) -> None:
    """With the cause and the remedy."""
    with pytest.raises(UsageError, match="cannot listen on") as caught:
        listen((host, 0))
    assert caught.value.cause
    assert "http.listen" in caught.value.remedy


def test_taken_port_is_refused() -> None:
    """Two daemons of one machine need two ports."""
    with listen(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="cannot listen on"):
        listen(("127.0.0.1", taken.getsockname()[1]))
