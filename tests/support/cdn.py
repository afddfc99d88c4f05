"""A CDN in front of a private bucket: TLS under a name of its own, and behind it GETs of the bucket's objects."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

from support.aws_sessions import new_session
from support.s3 import CA_NAME, REGION, S3Server
from support.tls import server_context
from support.worlds import BUCKET, request

if TYPE_CHECKING:
    from mypy_boto3_cloudfront.type_defs import DistributionConfigTypeDef

_DISTRIBUTION: "DistributionConfigTypeDef" = {
    "CallerReference": "guide",
    "Comment": "",
    "Enabled": True,
    "Origins": {"Quantity": 1, "Items": [{"Id": "s3", "DomainName": f"{BUCKET}.s3.{REGION}.amazonaws.com"}]},
    "DefaultCacheBehavior": {"TargetOriginId": "s3", "ViewerProtocolPolicy": "https-only"},
}
_PASSED_ON = ("Content-Type", "Cache-Control", "Last-Modified", "ETag")


@contextmanager
def running_cdn(server: S3Server, name: str) -> Iterator[int]:
    """Serve the objects of the bucket as `https://name`, until the block ends; the value is the port on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with request(server, "GET", f"/{BUCKET}{self.path}", f"localhost:{server.port}") as answer:
                body, headers, status = answer.read(), answer.headers, answer.status
            self.send_response(status)
            for each in _PASSED_ON:
                if each in headers:
                    self.send_header(each, headers[each])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler, server_context(name, by=CA_NAME)) as port:
        yield port


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server on a free loopback port until the block ends; the value is the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_distribution(cloudfront_url: str) -> str:
    """A distribution in front of the bucket at such a stand-in of CloudFront; the value is its id."""
    session = new_session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    client = session.client("cloudfront", endpoint_url=cloudfront_url)
    made = client.create_distribution(DistributionConfig=_DISTRIBUTION)
    client.close()
    return made["Distribution"]["Id"]
