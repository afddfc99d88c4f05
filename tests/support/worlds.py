"""Runs the whole program in a process of its own against real servers: TLS apiservers, S3 and git."""

import json
import os
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from support.apiserver import Apiserver, Responder
from support.captures import RawAnswer, capture
from support.program import MIRROR, PROJECT, start
from support.s3 import ACCESS_KEY, REGION, SECRET_KEY, S3Server
from support.situations import BASE_URL, DISCOVERY_KEY, ISSUER, JWKS_KEY
from support.tls import ca_file, server_context

__all__ = ["BUCKET", "PROJECT", "Done", "Public", "World", "empty_bucket", "request", "run", "running_world", "world"]

BUCKET = "oidc-bucket"


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a command. `seconds` is wall time; `peak_bytes` is its largest sampled resident set.

    `peak_bytes` is 0 if it was not measured.
    """

    status: int
    out: str
    err: str
    seconds: float
    peak_bytes: int

    def report(self) -> dict[str, Any]:
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True, slots=True)
class Public:
    """The response to an anonymous GET of a public URL."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass
class World:
    """Two replicas of one cluster and an empty bucket. `config` may change between passes."""

    folder: Path
    replicas: tuple[Apiserver, Apiserver]
    server: S3Server
    config: dict[str, Any] = field(init=False)
    further_environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ca_file(self.folder)
        self.config = {
            "state_dir": "state",
            "limits": {"connect": "1s", "total": "2s", "source_deadline": "5s"},
            "publish": {
                "bucket": BUCKET,
                "region": REGION,
                "endpoint_url": self.server.url,
                "base_url": BASE_URL,
                "readback": {
                    "ca_file": str(self.server.certificates.ca_file),
                    "connect_to": f"localhost:{self.server.port}",
                },
            },
            "issuers": [
                {
                    "name": "syd-prod",
                    "issuer": ISSUER,
                    "apiservers": [replica.url for replica in self.replicas],
                    "tls": {"ca_file": "cluster-ca.crt"},
                }
            ],
        }

    @property
    def issuer(self) -> dict[str, Any]:
        """The issuer's entry of the configuration; tests change it in place."""
        entry = self.config["issuers"][0]
        assert isinstance(entry, dict)
        return entry

    def show(self, *cases: str) -> None:
        """Set the replicas' answers: captured cases such as `01-rsa1/anonymous-bound-` or `02-rsa1-ec2-overlap/`."""
        for replica, case in zip(self.replicas, cases, strict=True):
            self.answer(replica, capture(f"{case}discovery"), capture(f"{case}jwks"))

    def answer(self, replica: Apiserver, discovery: RawAnswer, jwks: RawAnswer) -> None:
        replica.serve(discovery=discovery.raw, jwks=jwks.raw)

    def respond_with(self, responder: Responder) -> None:
        for replica in self.replicas:
            replica.respond_with(responder)

    def environ(self) -> dict[str, str]:
        """The program's environment: without this machine's settings."""
        of_others = ("AWS_", "GIT_", "OIDC_")
        plain = {name: value for name, value in os.environ.items() if not name.startswith(of_others)}
        return plain | {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_CA_BUNDLE": str(self.server.certificates.ca_file),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": str(self.folder),
            **self.further_environ,
        }

    def mirror(self, *words: str, prefix: tuple[str, ...] = (), is_measured: bool = False, **environ: str) -> Done:
        """Run `oidc-mirror` with this world's configuration and wait for its end. The command `prefix` starts it."""
        (self.folder / "mirror.yaml").write_text(json.dumps(self.config))
        command = [*prefix, *MIRROR, "--config", str(self.folder / "mirror.yaml"), *words]
        return run(command, self.environ() | environ, self.folder, is_measured=is_measured)

    def git(self, *words: str) -> str:
        command = ["git", "--git-dir", str(self.folder / "state" / "snapshots.git"), *words]
        done = subprocess.run(command, env=self.environ(), capture_output=True, text=True, check=True)
        return done.stdout

    def committed(self, path: str) -> bytes:
        """The bytes of a file on the branch."""
        command = ["git", "--git-dir", str(self.folder / "state" / "snapshots.git"), "show", f"main:{path}"]
        return subprocess.run(command, env=self.environ(), capture_output=True, check=True).stdout

    def public(self, key: str) -> Public:
        """GET an object anonymously, under the issuer's host name."""
        host = BASE_URL.removeprefix("https://")
        with request(self.server, "GET", f"/{key}", host) as answer:
            return Public(answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()})

    def overwrite(self, key: str, body: bytes) -> None:
        """Write an object directly, as another writer would."""
        with request(self.server, "PUT", f"/{BUCKET}/{key}", f"localhost:{self.server.port}", body) as answer:
            assert answer.status == 200

    def state(self) -> tuple[object, ...]:
        """Everything that a refused answer must leave as it is: the branch, and both objects with their versions."""
        objects = [self.public(key) for key in (JWKS_KEY, DISCOVERY_KEY)]
        head = self.git("rev-parse", "main") if (self.folder / "state" / "snapshots.git" / "HEAD").exists() else ""
        return head, *((each.status, each.body, each.headers.get("last-modified")) for each in objects)


def run(command: Sequence[str], environ: Mapping[str, str], folder: Path, *, is_measured: bool = False) -> Done:
    """Run a command and wait for its end. The program is forked (`support.program`)."""
    began, peak_bytes = time.monotonic(), 0
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        process = start(command, environ, stdout=out.fileno(), stderr=err.fileno())
        while is_measured and process.poll() is None:
            peak_bytes = max(peak_bytes, _peak_bytes(process.pid))
            time.sleep(0.01)
        status = process.wait()
        seconds = time.monotonic() - began
        out.seek(0)
        err.seek(0)
        return Done(status, out.read(), err.read(), seconds, peak_bytes)


def _peak_bytes(pid: int) -> int:
    """The peak resident memory of a process; 0 if it has ended. A fork begins with the memory of all imports."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


@contextmanager
def request(server: S3Server, method: str, path: str, host: str, body: bytes | None = None) -> Iterator[HTTPResponse]:
    context = ssl.create_default_context(cafile=str(server.certificates.ca_file))
    connection = HTTPSConnection("localhost", server.port, context=context, timeout=10)
    try:
        connection.request(method, path, body=body, headers={"Host": host})
        yield connection.getresponse()
    finally:
        connection.close()


def empty_bucket(server: S3Server) -> None:
    """Create the bucket of the captured issuer, without objects."""
    host = f"localhost:{server.port}"
    assert server.request("PUT", f"/{BUCKET}", host=host) in (200, 409)  # 409: an earlier test created it
    for key in (JWKS_KEY, DISCOVERY_KEY):
        with request(server, "DELETE", f"/{BUCKET}/{key}", host) as answer:
            assert answer.status in (204, 404)


@contextmanager
def running_world(server: S3Server, folder: Path) -> Iterator[World]:
    """A world with an empty bucket."""
    empty_bucket(server)
    context = server_context("127.0.0.1", "localhost")
    with ExitStack() as stack:
        first, second = (stack.enter_context(Apiserver(context)) for _ in range(2))
        yield World(folder, (first, second), server)


@pytest.fixture
def world(s3_server: S3Server, tmp_path: Path) -> Iterator[World]:
    """A world in the test's folder, on the session's server."""
    with running_world(s3_server, tmp_path) as made:
        yield made
