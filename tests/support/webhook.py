"""A webhook on loopback, with TLS: it records its requests, and has a switch for its answers."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

from support.tls import ca_file, server_context

SECRET_PATH = "/services/T0000/B0000/s3cr3t-in-the-path"


@dataclass(slots=True)
class Webhook:
    """`got` are the requests so far, as (method, path, body). `statuses` are answered one by one, then 200."""

    got: list[tuple[str, str, bytes]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    hangs: bool = False
    on_request: Callable[[], None] = lambda: None
    released: Event = field(default_factory=Event)
    url: str = ""
    authority: str = ""

    def bodies(self) -> list[dict[str, Any]]:
        """The JSON of every POST."""
        return [json.loads(body) for method, _, body in self.got if method == "POST"]

    def paths(self, method: str) -> list[str]:
        return [path for each, path, _ in self.got if each == method]

    def url_file(self, folder: Path, name: str = "webhook-url", path: str = SECRET_PATH) -> Path:
        """A file with a URL of this webhook."""
        file = folder / name
        file.write_text(f"{self.url}{path}\n")
        file.chmod(0o600)
        return file

    def ca_file(self, folder: Path) -> Path:
        return ca_file(folder, self.authority)


@contextmanager
def running_webhook(*, tls: bool = True, names: tuple[str, ...] = ("127.0.0.1",)) -> Iterator[Webhook]:
    """Serve until the block ends; its certificate covers `names`."""
    webhook = Webhook(authority="webhook")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            webhook.got.append((self.command, self.path, body))
            webhook.on_request()
            if webhook.hangs:
                webhook.released.wait()
            status = webhook.statuses.pop(0) if webhook.statuses else 200
            self.send_response(status)
            if status in (301, 302, 307, 308):
                self.send_header("Location", f"{webhook.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        context = server_context(*names, by=webhook.authority)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    webhook.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield webhook
    finally:
        webhook.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
