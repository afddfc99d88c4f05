"""moto's server, an IAM, STS and S3 that grants everything, as a subprocess on a free loopback port."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.processes import serving
from support.s3 import REGION, aws_environment

ACCOUNT = "123456789012"
START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Moto:
    """A running server; every account is emptied before each test."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/moto-api/reset")
            assert connection.getresponse().status == 200
        finally:
            connection.close()

    def is_up(self) -> bool:
        try:
            self.reset()
        except OSError:
            return False
        return True


@contextmanager
def running_moto(directory: Path) -> Iterator[Moto]:
    """Run the server until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (directory / "moto.log").open("wb") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, env=plain, stdout=log, stderr=log)
    server = Moto(port)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not server.is_up():
            assert process.poll() is None, "moto ended at its start: see moto.log in its directory"
            assert time.monotonic() < deadline, "moto did not answer"
            time.sleep(0.05)
        with serving(process.pid):
            yield server
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    with running_moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def moto(moto_server: Moto, tmp_path: Path) -> Iterator[Moto]:
    """An empty account, with the environment that reaches it instead of AWS."""
    moto_server.reset()
    with aws_environment(
        tmp_path / "unused.pem", tmp_path, AWS_ENDPOINT_URL=moto_server.url, AWS_DEFAULT_REGION=REGION
    ):
        yield moto_server
