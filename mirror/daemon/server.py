"""The daemon's HTTP server, in a thread of its own beside the passes."""

import socket
from threading import Thread

import uvicorn
from starlette.types import ASGIApp

from mirror.errors import UsageError

_MOST_CONNECTIONS = 256
"""Who opens more gets 503: a pass must not run out of file descriptors because of its spectators."""
_IDLE_SECONDS = 5
_JOIN_SECONDS = 0.2


def listen(address: tuple[str, int]) -> socket.socket:
    """A socket that listens on `address` (host, port; port 0: any free one).

    Raises:
        UsageError: It is in use, not of this machine, or needs rights that this user has not.
    """
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UsageError(
            f"The status page cannot listen on {host}:{port}.",
            cause=error.strerror or str(error),
            remedy="Give `http.listen` a free address of this machine, or switch the pages off with `http: false`.",
        ) from error


class Server:
    """Serves `app` on a listening socket until it is stopped; it owns the socket."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        self._listener = listener
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=1,
            )
        )
        # A daemon thread: a client that hangs must not keep the process from its end.
        self._thread = Thread(target=self._server.run, args=([listener],), name="http", daemon=True)

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Take no further request, and end."""
        self._server.should_exit = True
        self._thread.join(_JOIN_SECONDS)
        self._listener.close()
