"""moto's server as AWS's other services (CloudFront here), as a thread on a free loopback port."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def running_moto() -> Iterator[str]:
    """Serve until the block ends; the value is the URL to be set as `AWS_ENDPOINT_URL_…`."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415  half a second, for a few tests

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()
