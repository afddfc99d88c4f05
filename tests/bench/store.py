"""The bucket of the benchmark: ministack on plain HTTP, in a process of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

BUCKET_OF_MIRROR = "mirror"
BUCKET_OF_PIPELINE = "pipeline"
START_SECONDS = 30.0


@contextmanager
def running_store(folder: Path) -> Iterator[str]:
    """Run the server until the block ends; gives its URL. Both buckets are there and empty."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with (folder / "store.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "hypercorn", "--workers", "0"),
                    *("--bind", f"fd://{listener.fileno()}", "ministack.app:app"),
                ],
                pass_fds=[listener.fileno()],
                env=dict(os.environ)
                | {
                    "GATEWAY_PORT": str(port),
                    "IOT_MTLS_ENABLED": "0",
                    "MINISTACK_REGION": "ap-southeast-2",
                    "HOME": str(folder),
                },
                stdout=log,
                stderr=log,
            )
    try:
        _wait(port, process)
        for bucket in (BUCKET_OF_MIRROR, BUCKET_OF_PIPELINE):
            _request(port, "PUT", f"/{bucket}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def environment(folder: Path, port: int) -> dict[str, str]:
    return dict(os.environ) | {
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": "ap-southeast-2",
        "IOT_MTLS_ENABLED": "0",  # else it would listen on a fixed port too
        "HOME": str(folder),
    }


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            _request(port, "GET", "/")
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("The S3 server of the benchmark did not start.")


def _request(port: int, method: str, path: str) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        connection.getresponse().read()
    finally:
        connection.close()
