"""ministack, a light S3 server, as a subprocess on a free loopback port, with our own certificate."""

import http.client
import os
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.config.settings import PublishSettings, ReadbackSettings
from support.processes import serving
from support.tls import ca_file, server_certificate

REGION = "ap-southeast-2"
ACCESS_KEY = "test"
SECRET_KEY = "testsecret"
STORE_HOST = "store.example.com"
CERTIFICATE_NAMES = (
    "localhost",
    "127.0.0.1",
    STORE_HOST,
    f"*.s3.{REGION}.amazonaws.com",
    f"*.s3-{REGION}.amazonaws.com",
    "*.s3.eu-central-1.amazonaws.com",  # of the quick start
)
CA_NAME = "s3"
START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: the CA that clients trust, and a server's chain and key under it."""

    ca_file: Path
    chain_file: Path
    key_file: Path


def write_certificates(directory: Path) -> Certificates:
    """A certificate of the CA `s3` for loopback and for the regional hosts of every bucket."""
    directory.mkdir(parents=True, exist_ok=True)
    leaf = server_certificate(*CERTIFICATE_NAMES, by=CA_NAME)
    files = Certificates(ca_file(directory, CA_NAME), directory / "server.crt", directory / "server.key")
    files.chain_file.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    files.key_file.write_bytes(leaf.private_key_pem.bytes())
    return files


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running S3 server; everything about it is reached at `https://localhost:port`."""

    port: int
    certificates: Certificates
    access_log: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def requests(self) -> list[str]:
        """Every request that was answered so far, as the server notes it: first line, status, `Authorization`."""
        return [line.partition(" [INFO] ")[2] for line in self.access_log.read_text().splitlines()]

    def new_bucket(self, name: str | None = None) -> str:
        """Make an empty bucket and give its name."""
        bucket = name or f"oidc-{uuid.uuid4().hex[:12]}"
        status = self.request("PUT", f"/{bucket}", host=f"localhost:{self.port}")
        assert status == 200, status
        return bucket

    def put(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        """Put these objects, all over one connection."""
        context = ssl.create_default_context(cafile=str(self.certificates.ca_file))
        connection = http.client.HTTPSConnection("localhost", self.port, context=context, timeout=10)
        try:
            for key, body in objects.items():
                connection.request("PUT", f"/{bucket}/{key}", body=body)
                answer = connection.getresponse()
                assert answer.status == 200, answer.read()
                answer.read()
        finally:
            connection.close()

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object, or none."""
        status = self.request("DELETE", f"/{bucket}/{key}", host=f"localhost:{self.port}")
        assert status in (204, 404), status

    def request(self, method: str, path: str, *, host: str) -> int:
        """Send one anonymous request with this `Host` and give the status."""
        context = ssl.create_default_context(cafile=str(self.certificates.ca_file))
        connection = http.client.HTTPSConnection("localhost", self.port, context=context, timeout=10)
        try:
            connection.request(method, path, headers={"Host": host})
            return connection.getresponse().status
        finally:
            connection.close()

    def publish(self, bucket: str) -> PublishSettings:
        """Settings whose issuers look like AWS, and whose every connection goes to this server."""
        return PublishSettings(
            bucket=bucket,
            region=REGION,
            base_url=f"https://{bucket}.s3.{REGION}.amazonaws.com",
            endpoint_url=self.url,
            readback=ReadbackSettings(ca_file=self.certificates.ca_file, connect_to=("localhost", self.port)),
        )


@contextmanager
def aws_environment(bundle: Path, home: Path, **more: str) -> Iterator[None]:
    """The environment that boto3 reads: throw-away credentials, our CA, no files of the machine, no metadata service.

    It is the real environment of the process, because that is where boto3 looks.
    """
    ours = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_CA_BUNDLE": str(bundle),
        "AWS_CONFIG_FILE": str(home / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        **more,
    }
    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    _replace_aws(ours)
    try:
        yield
    finally:
        _replace_aws(before)


def _replace_aws(wanted: dict[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(wanted)


@contextmanager
def running_ministack(directory: Path) -> Iterator[S3Server]:
    """Run ministack until the block ends. It inherits a bound socket, so no other process can take its port."""
    certificates = write_certificates(directory)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with (directory / "ministack.log").open("wb") as log:
            process = subprocess.Popen(
                _command(listener.fileno(), certificates, directory / "access.log"),
                pass_fds=[listener.fileno()],
                env=_environment(directory, port),
                cwd=directory,
                stdout=log,
                stderr=log,
            )
    server = S3Server(port, certificates, directory / "access.log")
    try:
        with serving(process.pid):
            _wait_until_ready(server, process)
            yield server
    finally:
        _end(process)


def _command(descriptor: int, certificates: Certificates, access_log: Path) -> list[str]:
    # Not `-m ministack`: with TLS it would also bind port 443 where it may.
    return [
        *(sys.executable, "-m", "hypercorn", "--workers", "0", "--bind", f"fd://{descriptor}"),
        *("--access-logfile", str(access_log), "--access-logformat", "%(r)s %(s)s %({authorization}i)s"),
        *("--certfile", str(certificates.chain_file), "--keyfile", str(certificates.key_file)),
        "ministack.app:app",
    ]


def _environment(directory: Path, port: int) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **plain,
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": "localhost",
        "MINISTACK_REGION": REGION,
        "IOT_MTLS_ENABLED": "0",  # else it would listen on the fixed port 8883 too
        "HOME": str(directory),
        "TMPDIR": str(directory),
    }


def _wait_until_ready(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "ministack ended at its start: see ministack.log in its directory"
        try:
            server.request("GET", "/", host=f"localhost:{server.port}")
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("ministack did not answer")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


@dataclass(frozen=True, slots=True)
class Store:
    """A fresh bucket of the session's server, with the environment that reaches it."""

    server: S3Server
    publish: PublishSettings
    home: Path


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_ministack(tmp_path_factory.mktemp("ministack")) as server:
        yield server


@pytest.fixture
def store(s3_server: S3Server, tmp_path: Path) -> Iterator[Store]:
    with aws_environment(s3_server.certificates.ca_file, tmp_path):
        yield Store(s3_server, s3_server.publish(s3_server.new_bucket()), tmp_path)
