"""The small world of the demo: two apiserver replicas, an S3 server, keys, a repository and a configuration."""

import hashlib
import json
import os
import shlex
import socket
import ssl
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.client import HTTPConnection, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import BinaryIO

import trustme
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwcrypto.jwk import JWK

from mirror.errors import BucketError


@dataclass(frozen=True, slots=True)
class DemoKey:
    """A public key as kube-apiserver shows it."""

    jwk: Mapping[str, str]

    @property
    def kid(self) -> str:
        """Its key id."""
        return self.jwk["kid"]


def new_key() -> DemoKey:
    """Generate an RSA 2048 key and forget its private half (kid: facts.md#7)."""
    public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    kid = urlsafe_b64encode(hashlib.sha256(spki).digest()).rstrip(b"=").decode()
    members = JWK.from_pyca(public).export_public(as_dict=True)
    return DemoKey({**members, "kid": kid, "use": "sig", "alg": "RS256"})


FORBIDDEN = json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403})


@dataclass(slots=True)
class DemoReplica:
    """One running apiserver. Its keys can be changed at any time, as by a restart with other flags."""

    issuer: str
    keys: tuple[DemoKey, ...] = ()
    forbids: bool = False
    url: str = ""

    def answer(self, path: str) -> tuple[int, str, str]:
        """Status, content type and body, as a real apiserver gives them (facts.md#2, #3, #4, #16)."""
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
def running_replica(issuer: str, tls: ssl.SSLContext) -> Iterator[DemoReplica]:
    """Serve a replica on a free loopback port until the block ends."""
    replica = DemoReplica(issuer)

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
            """Log nothing: the demo prints its own steps."""

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


BUCKET = "demo-bucket"
REGION = "ap-southeast-2"
ISSUER = f"https://{BUCKET}.s3.{REGION}.amazonaws.com/demo/cluster"
RETAIN_REMOVED_SECONDS = 3
"""How long a key is kept while the demo runs its steps; afterwards it is the default."""
CERTIFICATE_LIFE = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class DemoWorld:
    """Everything that runs. `environ` is what the mirror's process needs to reach it.

    `program` is a command that has all of that, so that it can be pasted. `page_port` is where the daemon listens.
    """

    folder: Path
    replicas: tuple[DemoReplica, DemoReplica]
    s3_port: int
    ca_file: Path
    config_file: Path
    environ: Mapping[str, str]
    program: Path
    page_port: int

    def configure(self, retain_removed: str = "24h") -> None:
        """Write the configuration file; without an argument it is one as for a real cluster."""
        content = configuration(self.replicas, self.s3_port, self.page_port, retain_removed)
        self.config_file.write_text(yaml.safe_dump(content, sort_keys=False))

    @property
    def page_url(self) -> str:
        """The status page of the daemon."""
        return f"http://127.0.0.1:{self.page_port}/"

    @property
    def git_dir(self) -> Path:
        """The history."""
        return self.folder / "state" / "snapshots.git"


@contextmanager
def running_demo_world(folder: Path) -> Iterator[DemoWorld]:
    """Run the demo's apiservers and its store, without a bucket, in `folder` until the block ends."""
    ca = trustme.CA(organization_name="oidc-mirror demo")
    now = datetime.now(UTC)
    leaf = ca.issue_cert(
        *("127.0.0.1", "localhost", f"*.s3.{REGION}.amazonaws.com"),
        not_before=now - timedelta(hours=1),
        not_after=now + CERTIFICATE_LIFE,
    )
    ca_file, chain_file, key_file = folder / "ca.crt", folder / "server.crt", folder / "server.key"
    ca_file.write_bytes(ca.cert_pem.bytes())
    chain_file.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key_file.touch(mode=0o600)
    key_file.write_bytes(leaf.private_key_pem.bytes())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(tls)
    with ExitStack() as stack:
        first, second = (stack.enter_context(running_replica(ISSUER, tls)) for _ in range(2))
        port = stack.enter_context(running_s3(folder, REGION, ca_file, chain_file, key_file))
        config_file = folder / "mirror.yaml"
        environ = _mirror_environment(ca_file, port)
        program = _write_program(folder, config_file, environ)
        world = DemoWorld(folder, (first, second), port, ca_file, config_file, environ, program, _free_port())
        world.configure(f"{RETAIN_REMOVED_SECONDS}s")
        yield world


@contextmanager
def running_daemon(world: DemoWorld) -> Iterator[None]:
    """Run the mirror's daemon until the block ends; its status page answers from the beginning.

    Raises:
        BucketError: It did not answer in time.
    """
    words = ("--config", str(world.config_file), "run", "--no-last-good")
    with (world.folder / "daemon.log").open("wb") as log, _ending_with_us("mirror", words, world.environ, log) as ended:
        page = HTTPConnection("127.0.0.1", world.page_port, timeout=10)
        _wait("daemon", "daemon.log", ended, lambda: _status(page, "/readyz") == HTTPStatus.OK)
        yield


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _write_program(folder: Path, config_file: Path, environ: Mapping[str, str]) -> Path:
    """A command that runs the mirror in this world, whatever AWS settings the shell has that it is pasted into."""
    program = folder / "oidc-mirror"
    ours = {name: value for name, value in environ.items() if name.startswith("AWS_")}
    lines = [
        "#!/bin/sh",
        "# oidc-mirror in the small world of the demo; it ends with it.",
        'for name in $(env | sed -n "s/^\\(AWS_[A-Z0-9_]*\\)=.*/\\1/p"); do unset "$name"; done',
        *(f"export {name}={shlex.quote(value)}" for name, value in ours.items()),
        f"export OIDC_MIRROR_CONFIG={shlex.quote(str(config_file))}",
        f'exec {shlex.quote(sys.executable)} -P -c {shlex.quote(_PROGRAM)} "$@"',
    ]
    program.write_text("\n".join(lines) + "\n")
    program.chmod(0o700)
    return program


_PROGRAM = f"import sys; sys.path[:] = {sys.path!r}; from mirror.__main__ import main; main()"
"""Imports from where this process does, wherever it is pasted."""


def configuration(
    replicas: tuple[DemoReplica, DemoReplica], s3_port: int, page_port: int, retain_removed: str
) -> dict[str, object]:
    """The configuration file of the demo; relative paths are in its folder."""
    return {
        "state_dir": "state",
        "interval": "10s",
        "http": {"listen": f"127.0.0.1:{page_port}"},
        "publish": {
            "bucket": BUCKET,
            "region": REGION,
            "endpoint_url": f"https://localhost:{s3_port}",
            "base_url": f"https://{BUCKET}.s3.{REGION}.amazonaws.com",
            "readback": {"ca_file": "ca.crt", "connect_to": f"localhost:{s3_port}"},
        },
        "issuers": [
            {
                "name": "demo",
                "issuer": ISSUER,
                "apiservers": [replica.url for replica in replicas],
                "tls": {"ca_file": "ca.crt"},
                "keys": {"retain_removed": retain_removed},
            }
        ],
    }


def _without_aws() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


def _mirror_environment(ca_file: Path, port: int) -> dict[str, str]:
    return _without_aws() | {
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_CA_BUNDLE": str(ca_file),
        "AWS_ENDPOINT_URL": f"https://localhost:{port}",  # for every service: nothing leaves this machine
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


START_SECONDS = 30.0


@contextmanager
def running_s3(folder: Path, region: str, ca_file: Path, chain_file: Path, key_file: Path) -> Iterator[int]:
    """Run the server until the block ends; gives its port.

    Raises:
        BucketError: It ended at its start, or did not answer in time.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        words = (
            *("--workers", "0", "--bind", f"fd://{listener.fileno()}"),
            # Not `-m ministack`: with TLS it would also bind port 443 where it may.
            *("--certfile", str(chain_file), "--keyfile", str(key_file), "ministack.app:app"),
        )
        environ = _without_aws() | {
            "GATEWAY_PORT": str(port),
            "MINISTACK_HOST": "localhost",
            "MINISTACK_REGION": region,
            "IOT_MTLS_ENABLED": "0",  # else it would listen on a fixed port too
            "HOME": str(folder),
            "TMPDIR": str(folder),
        }
        with (
            (folder / "s3.log").open("wb") as log,
            _ending_with_us("hypercorn", words, environ, log, folder=folder, listener=listener) as ended,
        ):
            listener.close()
            context = ssl.create_default_context(cafile=str(ca_file))
            store = HTTPSConnection("localhost", port, context=context, timeout=10)
            _wait("S3 server", "s3.log", ended, lambda: _status(store, "/") is not None)
            yield port


_WATCHING = f"""
import os, runpy, sys, threading
def end_with_parent(descriptor):
    os.read(descriptor, 1)
    os._exit(1)
threading.Thread(target=end_with_parent, args=(int(sys.argv[1]),), daemon=True).start()
module, sys.argv[:2] = sys.argv[2], []
sys.path[:] = {sys.path!r}
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
"""Runs a module until it ends, or until the other end of a pipe closes: when the demo is gone, however it went."""


@contextmanager
def _ending_with_us(
    module: str,
    words: Sequence[str],
    environ: Mapping[str, str],
    log: BinaryIO,
    *,
    folder: Path | None = None,
    listener: socket.socket | None = None,
) -> Iterator[Callable[[], bool]]:
    """Run a module in a process of its own until the block ends, or this process does, even by SIGKILL.

    Gives whether it has ended by itself.
    """
    watched, held = os.pipe()
    process = subprocess.Popen(  # noqa: S603  our own interpreter and fixed words
        (sys.executable, "-P", "-c", _WATCHING, str(watched), module, *words),
        pass_fds=[watched, *([listener.fileno()] if listener is not None else [])],
        env=dict(environ),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    os.close(watched)
    try:
        yield lambda: process.poll() is not None
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(held)


def _wait(server: str, log: str, ended: Callable[[], bool], is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_ready():
        if ended() or time.monotonic() > deadline:
            raise BucketError(f"The demo's {server} did not start.", remedy=f"Check {log} in the demo's folder.")
        time.sleep(0.05)


def _status(connection: HTTPConnection, path: str) -> int | None:
    """The status of the answer; None where nothing answers."""
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()
