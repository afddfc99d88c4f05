"""A public host for the read-back: TLS for names that look like AWS, raw bytes as answers, responders for faults."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.config.settings import ReadbackSettings
from mirror.publish.public_endpoint import PublicHttpClient
from support.apiserver import Apiserver
from support.s3 import CA_NAME, CERTIFICATE_NAMES
from support.tls import ca_file, server_context

HOST = "bucket.s3.ap-southeast-2.amazonaws.com"
URL = f"https://{HOST}/id/openid/v1/jwks"
BODY = b'{"keys":[]}'
HEADERS = {
    "content_type": "application/jwk-set+json",
    "cache_control": "public, max-age=300",
    "last_modified": "Mon, 23 Nov 2026 08:00:00 GMT",
}


def public_host(*names: str, by: str = CA_NAME) -> Apiserver:
    """A server, not yet started, whose certificate covers `names` (by default every bucket's host)."""
    return Apiserver(server_context(*(names or CERTIFICATE_NAMES), by=by))


def readback_of(host: Apiserver, folder: Path) -> ReadbackSettings:
    """The settings that lead every public URL to `host`, trusting its CA alone."""
    return ReadbackSettings(ca_file=ca_file(folder, CA_NAME), connect_to=("127.0.0.1", host.port))


@pytest.fixture
def web() -> Iterator[PublicHttpClient]:
    """A client of public URLs with the program's own limits."""
    with PublicHttpClient() as view:
        yield view
