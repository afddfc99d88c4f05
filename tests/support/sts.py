"""A small STS on loopback that answers AssumeRoleWithWebIdentity as AWS does, with a switch for each error."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
SECRET = "SecretThatNobodyMaySee"
ACCEPTED = f"""<AssumeRoleWithWebIdentityResponse xmlns="{NAMESPACE}"><AssumeRoleWithWebIdentityResult>
<AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/pod/oidc-mirror-verify</Arn>
<AssumedRoleId>AROA:x</AssumedRoleId></AssumedRoleUser>
<Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>
<SessionToken>{SECRET}</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


@dataclass
class Sts:
    """A running one. `error` is what it answers, as (code, message); `body` any other answer. `asked` are the forms."""

    url: str = ""
    error: tuple[str, str] | None = None
    body: str | None = None
    asked: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def answer(self) -> tuple[int, str]:
        if self.error is None:
            return 200, ACCEPTED if self.body is None else self.body
        code, message = self.error
        inner = f"<Type>Sender</Type><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        return 400, f'<ErrorResponse xmlns="{NAMESPACE}"><Error>{inner}</Error><RequestId>r</RequestId></ErrorResponse>'


@contextmanager
def running_sts() -> Iterator[Sts]:
    """Serve one on a free port until the block ends."""
    sts = Sts()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            sts.asked.append(dict(parse_qsl(form)))
            sts.headers.append({name.lower(): value for name, value in self.headers.items()})
            status, text = sts.answer()
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    sts.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield sts
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
