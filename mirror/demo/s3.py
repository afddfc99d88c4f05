"""An S3 server of our own for the demo: ministack in a process of its own, on a free loopback port, with TLS."""

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path

from mirror.errors import BucketError

START_SECONDS = 30.0


@contextmanager
def running_s3(folder: Path, region: str, ca_file: Path, chain_file: Path, key_file: Path) -> Iterator[int]:
    """Run the server until the block ends; gives its port.

    Raises:
        BucketError: It ended at its start, or did not answer in time.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with (folder / "s3.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603  our own interpreter and fixed words
                # Not `-m ministack`: with TLS it would also bind port 443 where it may.
                [
                    *(sys.executable, "-m", "hypercorn", "--workers", "0", "--bind", f"fd://{listener.fileno()}"),
                    *("--certfile", str(chain_file), "--keyfile", str(key_file), "ministack.app:app"),
                ],
                pass_fds=[listener.fileno()],
                env=_environment(folder, port, region),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
    try:
        _wait(process, port, ca_file)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def create_bucket(port: int, ca_file: Path, name: str) -> None:
    """Make an empty bucket."""
    _request(port, ca_file, "PUT", f"/{name}")


def _environment(folder: Path, port: int, region: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **plain,
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": "localhost",
        "MINISTACK_REGION": region,
        "IOT_MTLS_ENABLED": "0",  # else it would listen on a fixed port too
        "HOME": str(folder),
        "TMPDIR": str(folder),
    }


def _wait(process: "subprocess.Popen[bytes]", port: int, ca_file: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            _request(port, ca_file, "GET", "/")
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise BucketError("The demo's S3 server did not start.", remedy="Look at s3.log in the demo's folder.")


def _request(port: int, ca_file: Path, method: str, path: str) -> None:
    context = ssl.create_default_context(cafile=str(ca_file))
    connection = HTTPSConnection("localhost", port, context=context, timeout=10)
    try:
        connection.request(method, path)
        connection.getresponse().read()
    finally:
        connection.close()
