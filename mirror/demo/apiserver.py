"""A small kube-apiserver: the two documents over TLS, and 403 for everything else."""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from mirror.demo.keys import DemoKey

FORBIDDEN = json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403})


@dataclass(slots=True)
class Replica:
    """One running apiserver. Its keys can be changed at any time, as by a restart with other flags."""

    issuer: str
    keys: tuple[DemoKey, ...] = ()
    forbids: bool = False
    url: str = field(default="")

    def answer(self, path: str) -> tuple[int, str, str]:
        """Status, content type and body, as a real apiserver gives them (facts 2, 3, 4, 16)."""
        bodies = {
            "/.well-known/openid-configuration": ("application/json", self._discovery()),
            "/openid/v1/jwks": ("application/jwk-set+json", {"keys": [key.jwk for key in self.keys]}),
        }
        if self.forbids or path not in bodies:
            return 403, "application/json", FORBIDDEN
        content_type, body = bodies[path]
        return 200, content_type, json.dumps(body, separators=(",", ":"))

    def _discovery(self) -> dict[str, object]:
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }


@contextmanager
def running_replica(issuer: str, tls: ssl.SSLContext) -> Iterator[Replica]:
    """Serve a replica on a free loopback port until the block ends."""
    replica = Replica(issuer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, content_type, body = replica.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing: the demo tells what happens."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    replica.url = f"https://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield replica
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
