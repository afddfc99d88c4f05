"""The bucket of the benchmark: ministack on plain HTTP, in a process of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

BUCKET_OF_MIRROR = "mirror"
BUCKET_OF_PIPELINE = "pipeline"
START_SECONDS = 30.0
_DELETED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Store:
    """A running server, and its log with one line a request."""

    url: str
    log: Path

    def requests(self) -> int:
        """How many requests were answered so far."""
        return self.log.read_bytes().count(b"\n")

    def empty(self) -> None:
        """Delete every object of both buckets."""
        import boto3  # noqa: PLC0415  only where the situation asks for it

        client: Any = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="ap-southeast-2",
            aws_access_key_id="bench",
            aws_secret_access_key="bench",
        )
        for bucket in (BUCKET_OF_MIRROR, BUCKET_OF_PIPELINE):
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                keys = [{"Key": each["Key"]} for each in page.get("Contents", ())]
                if keys:
                    client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})


@contextmanager
def running_store(folder: Path) -> Iterator[Store]:
    """Run the server until the block ends. Both buckets are there and empty."""
    access = folder / "store-requests.log"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with (folder / "store.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "hypercorn", "--workers", "0", "--access-logfile", str(access)),
                    *("--access-logformat", "%(m)s %(U)s", "--bind", f"fd://{listener.fileno()}", "ministack.app:app"),
                ],
                pass_fds=[listener.fileno()],
                env=_environment(folder, port),
                stdout=log,
                stderr=log,
            )
    try:
        _wait(port, process)
        for bucket in (BUCKET_OF_MIRROR, BUCKET_OF_PIPELINE):
            _request(port, "PUT", f"/{bucket}")
        yield Store(f"http://127.0.0.1:{port}", access)
    finally:
        process.terminate()
        process.wait(10)


def _environment(folder: Path, port: int) -> dict[str, str]:
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
