"""A git server over https: `git http-backend` behind real TLS and a password, with a switch for who may log in."""

import os
import ssl
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

USER = "mirror"
SILENT_SECONDS = 5.0
"""Who says nothing for so long is hung up on."""


@dataclass
class GitServer:
    """Serves the repositories in `root` to clients with `USER` and `password`; both may change at any time."""

    root: Path
    password: str
    host: str = "127.0.0.1"
    port: int = 0
    takes_pushes: bool = True
    """Whether a push is accepted; a read-only client gets 403."""
    answered: list[tuple[str, int]] = field(default_factory=list)
    """Path and status of each request that was answered."""
    bodies: list[tuple[int, int]] = field(default_factory=list)
    """The number of bytes in each accepted request, and in its answer."""

    def url(self, name: str = "remote.git", *, host: str | None = None) -> str:
        return f"https://{host or self.host}:{self.port}/{name}"

    def statuses(self) -> set[int]:
        """Every status since the last look."""
        found = {status for _, status in self.answered}
        self.answered.clear()
        return found

    def authorization(self) -> str:
        """The header that is accepted."""
        return "Basic " + b64encode(f"{USER}:{self.password}".encode()).decode()

    def environ(self, ca_file: Path) -> dict[str, str]:
        """What lets a git in that trusts this CA."""
        return {
            "GIT_SSL_CAINFO": str(ca_file),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "http.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: {self.authorization()}",
        }

    def refusal(self, authorization: str, path: str) -> int | None:
        """The status with which a request is turned away."""
        if authorization != self.authorization():
            return 401
        return 403 if "receive-pack" in path and not self.takes_pushes else None


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left, or never shook hands, is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SILENT_SECONDS

    def __init__(self, git_server: GitServer, *arguments: object) -> None:
        self.git_server = git_server
        super().__init__(*arguments)  # type: ignore[arg-type]  # as socketserver gives them

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Not onto the stderr of the tests."""

    def _answer(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        refused = self.git_server.refusal(self.headers.get("Authorization", ""), self.path)
        self.git_server.answered.append((self.path, refused or 200))
        if refused is None:
            self._pass_on(body)
            return
        self.send_response(refused)
        if refused == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
        # git shows such a text to its user. A careless host repeats in it what it was given.
        self.send_header("Content-Type", "text/plain")
        given = b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        self._end(f"No entry for https://{given}@{self.git_server.host}/\n".encode())

    def _pass_on(self, body: bytes) -> None:
        """Let git answer, by the rules of CGI (RFC 3875)."""
        path, _, query = self.path.partition("?")
        done = subprocess.run(
            ["git", "http-backend"], env=self._environ(path, query), input=body, capture_output=True, check=False
        )
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        self.git_server.bodies.append((len(body), len(answer)))
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self._end(answer)

    def _environ(self, path: str, query: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_PROJECT_ROOT": str(self.git_server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_USER": USER,
            "REMOTE_ADDR": "127.0.0.1",
        }

    def _end(self, answer: bytes) -> None:
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer)


@contextmanager
def running_git_server(
    root: Path, context: ssl.SSLContext, *, password: str = "s3cret-of-git", host: str = "127.0.0.1"
) -> Iterator[GitServer]:
    """Serve on a free port until the block ends; no thread outlives the block."""
    git_server = GitServer(root, password, host)
    with _Server((host, 0), partial(_Handler, git_server)) as server:
        git_server.port = server.server_address[1]
        # The handshake is made at the first read, in the connection's own thread: a silent client blocks no other.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        acceptor = Thread(target=partial(server.serve_forever, poll_interval=0.05))
        acceptor.start()
        try:
            yield git_server
        finally:
            server.shutdown()
            acceptor.join()
