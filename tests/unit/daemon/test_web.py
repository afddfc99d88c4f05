"""HTTP responses of the daemon to any client, and its listening socket with its error messages."""

import asyncio
import json
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Timer

import httpx
import jsonschema
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mirror.daemon.metrics import render
from mirror.daemon.pass_history import PassHistory
from mirror.daemon.scheduler import HealthResult
from mirror.daemon.status_page import Page, render_status
from mirror.daemon.web import MOST_OF_A_CLIENT, Server, Sources, accepts, application, listen
from mirror.errors import UsageError
from support.fakes import MOMENT
from support.pass_histories import after, everything, issuer, report

ALIVE, DEAD = HealthResult(ok=True, sentence="Alive."), HealthResult(ok=False, sentence="The scheduler is silent.")


class Client:
    """Sends requests to an application like a browser on this machine."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def request(self, method: str, path: str, **headers: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9797") as client:
                return await client.request(method, path, headers=headers)

        return asyncio.run(ask())

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.request("GET", path, **headers)


def client(pass_history: PassHistory, health: HealthResult = ALIVE, readiness: HealthResult = ALIVE) -> Client:
    page = Page(lambda: pass_history, lambda: health)
    sources = Sources(
        lambda: health,
        lambda: readiness,
        lambda: render(pass_history),
        page.render,
        lambda: render_status(pass_history, MOMENT),
    )
    return Client(application(sources, listen_host="127.0.0.1"))


@pytest.mark.parametrize(("verdict", "status"), [(ALIVE, 200), (DEAD, 503)])
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_say_why(path: str, verdict: HealthResult, status: int) -> None:
    """Each probe answers 200 or 503 with one sentence."""
    answer = client(PassHistory(), verdict, verdict).get(path)
    assert (answer.status_code, answer.text) == (status, f"{verdict.sentence}\n")
    assert parsedate_to_datetime(answer.headers["Date"]).tzinfo is not None


@pytest.mark.parametrize("pass_history", [PassHistory(), everything()], ids=["no-pass-yet", "everything"])
def test_status_is_that_of_the_command(pass_history: PassHistory) -> None:
    """`/status.json` is the output of `status --output json`, from memory."""
    answer = client(pass_history).get("/status.json")
    assert answer.headers["content-type"] == "application/json"
    schema = json.loads((Path(__file__).parents[3] / "docs/reference/status.schema.json").read_text())
    jsonschema.validate(answer.json(), schema)
    reported = {each["issuer"]: each["state"] for each in answer.json()["issuers"]}
    assert reported == {url: str(each.report.state) for url, each in pass_history.issuers.items() if each.report}


def test_metrics_have_the_type_of_prometheus() -> None:
    """The metrics of the passes have the text format, version 0.0.4."""
    answer = client(after(report(issuer("a")))).get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'oidc_mirror_issuer_held{issuer="a"} 0.0' in answer.text


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/nothing"])
def test_every_answer_is_guarded(path: str) -> None:
    """Security headers forbid scripts, frames, external content, caching and sniffing. No header names the server."""
    headers = client(everything()).get(path).headers
    policy = headers["content-security-policy"]
    forms = "'self'" if path == "/" else "'none'"  # the page filters itself with GET
    assert policy.startswith(f"default-src 'none'; base-uri 'none'; form-action {forms}; frame-ancestors 'none'")
    assert "script" not in policy
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


def test_page_is_filtered_by_its_url() -> None:
    """`?q=` and `?state=` reach the page, and each query has its own page."""
    here = client(everything())
    every, found, failed = (here.get(path).text for path in ("/", "/?q=syd", "/?state=failed"))
    assert [every.count('<section class="details"'), found.count('<section class="details"')] == [4, 2]
    assert failed.count('<section class="details"') == 1
    assert here.get("/").text == every


def test_page_allows_exactly_its_own_style() -> None:
    """The hash in the policy is that of the style sheet in the page."""
    answer = client(everything()).get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert re.search(r"style-src 'sha256-[A-Za-z0-9+/=]{44}'", answer.headers["content-security-policy"])


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics"])
def test_head_answers_as_get_without_a_body(path: str) -> None:
    """Load balancers use HEAD requests."""
    answer = client(everything()).request("HEAD", path)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/", "/metrics"])
def test_other_methods_are_refused_in_plain_words(path: str, method: str) -> None:
    """The pages are read-only."""
    answer = client(PassHistory()).request(method, path)
    assert (answer.status_code, answer.text) == (405, "Only GET and HEAD.\n")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("path", ["/favicon.ico", "/../etc/passwd", "/%00", "/healthz/", "/<script>"])
def test_other_pages_are_not_there(path: str) -> None:
    """The 404 sentence repeats nothing of the request."""
    answer = client(PassHistory()).get(path)
    assert answer.status_code == 404
    assert answer.text == "There is no such page. This daemon serves /, /healthz, /readyz, /metrics and /status.json.\n"


@pytest.mark.parametrize(
    ("host", "listen", "answered"),
    [
        ("127.0.0.1:9797", "127.0.0.1", True),
        ("localhost:9797", "127.0.0.1", True),
        ("LOCALHOST", "127.0.0.1", True),
        ("[::1]:9797", "::1", True),
        ("evil.example:9797", "127.0.0.1", False),
        ("127.0.0.1.evil.example", "127.0.0.1", False),
        ("localhost.evil.example", "localhost", False),
        ("[evil.example]", "::1", False),
        ("", "127.0.0.1", False),
        ("mirror.example.com", "0.0.0.0", True),  # noqa: S104  nothing listens here
        ("10.1.2.3:9797", "10.1.2.3", True),
    ],
)
def test_names_that_were_pointed_here_by_others_are_refused(host: str, listen: str, *, answered: bool) -> None:
    """DNS rebinding: a page in a local browser must not read what listens on loopback."""
    assert accepts(host, listen) is answered


def test_rebound_name_reads_nothing() -> None:
    """The answer is 421 with the security headers, and no content of the page."""
    answer = client(everything()).get("/", Host="evil.example")
    assert answer.status_code == 421
    assert "syd-prod" not in answer.text
    assert "content-security-policy" in answer.headers


def test_host_header_is_never_repeated() -> None:
    """No link contains the client's Host header."""
    assert "10.9.8.7" not in client(everything()).get("/", Host="10.9.8.7").text


def test_many_readers_get_one_rendering() -> None:
    """Simultaneous requests share one rendering. A new pass renders the page again."""
    histories = [after(report(issuer("a")))]
    asked = []

    def pass_history() -> PassHistory:
        return histories[-1]

    def health() -> HealthResult:
        asked.append(1)
        return ALIVE

    page = Page(pass_history, health)
    with ThreadPoolExecutor(8) as pool:
        found = {made for made, _ in pool.map(lambda _: page.render({}), range(50))}
    assert len(found) == len(asked) <= 3  # a slow machine may take longer than the page cache lifetime
    histories.append(after(report(issuer("a"), issuer("b"))))
    assert page.render({})[0] not in found


def test_pages_of_few_queries_are_kept() -> None:
    """Invented queries cannot fill the memory: the oldest page is dropped from the cache."""
    history, asked = after(report(issuer("a"))), []

    def health() -> HealthResult:
        asked.append(1)
        return ALIVE

    page = Page(lambda: history, health)
    for number in range(20):
        page.render({"q": str(number)})
    page.render({"q": "0"})
    assert len(asked) == 21


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("yes")(scope, receive, send)


def test_served_until_stopped() -> None:
    """After the stop the port is free."""
    listener = listen(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = Server(app, listener)
    server.start()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        assert answer.read() == b"yes"
        assert answer.headers["server"] is None
    server.stop()
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "::2"])
def test_address_of_another_machine_is_refused(host: str) -> None:
    """The message has the cause and the remedy."""
    with pytest.raises(UsageError, match="cannot listen on") as caught:
        listen((host, 0))
    assert caught.value.cause
    assert "http.listen" in caught.value.remedy


def test_taken_port_is_refused() -> None:
    """Two daemons on one machine need two ports."""
    with listen(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="cannot listen on"):
        listen(("127.0.0.1", taken.getsockname()[1]), busy_seconds=0.2)


@contextmanager
def serving(**limits: float) -> Iterator[int]:
    listener = listen(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = Server(app, listener, **limits)
    server.start()
    try:
        yield port
    finally:
        server._server.force_exit = True
        server.stop()
        server._thread.join()
        server.stop()


def test_idle_server_sleeps() -> None:
    """Its thread is never woken, so a waiting daemon costs almost nothing."""
    before = set(threading.enumerate())
    with serving() as port:
        (thread,) = set(threading.enumerate()) - before
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            assert answer.read() == b"yes"
        status = Path(f"/proc/self/task/{thread.native_id}/status")
        seen: list[list[str]] = []
        while len(seen) < 2 or (seen[-1] != seen[-2] and len(seen) < 20):  # the last steps of the answer may still run
            time.sleep(0.5)
            seen.append([line for line in status.read_text().splitlines() if "ctxt_switches" in line])
    assert seen[-1] == seen[-2]


def slow_clients(stack: ExitStack, port: int, count: int) -> list[socket.socket]:
    """Clients that begin a request and never finish it."""
    made = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(count)]
    for each in made:
        with suppress(OSError):  # the server may have closed it already
            each.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
    return made


def test_probe_is_answered_with_300_slow_clients() -> None:
    """Each of ten probes is answered, although one address opens more connections than the server keeps."""
    with serving(head_seconds=60) as port, ExitStack() as stack:
        slow_clients(stack, port, 300)
        for _ in range(10):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                assert answer.read() == b"yes"
            slow_clients(stack, port, 30)


def test_stop_hangs_up_on_slow_clients() -> None:
    """No connection outlives the server."""
    with ExitStack() as stack:
        with serving(head_seconds=60) as port:
            clients = slow_clients(stack, port, 100)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                assert answer.read() == b"yes"
        for each in clients:
            with suppress(ConnectionResetError):
                assert each.recv(100) == b""


def test_clients_that_connect_at_once_are_limited_too() -> None:
    """The server accepts all of them in one turn of its loop, and keeps no more of one address than otherwise."""
    with ExitStack() as stack:
        listener = listen(("127.0.0.1", 0))
        server, port = Server(app, listener), listener.getsockname()[1]
        slow_clients(stack, port, 100)
        server.start()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            assert answer.read() == b"yes"
        kept = len(server._server.server_state.connections)
        server.stop()
        server._thread.join()
    assert MOST_OF_A_CLIENT // 2 < kept <= MOST_OF_A_CLIENT


def test_stop_hangs_up_on_clients_that_have_just_connected() -> None:
    """Nobody waits for a server that stops in the turn of its loop in which it accepts."""
    clients: list[socket.socket] = []
    with ExitStack() as stack:

        async def connect_and_stop(scope: Scope, receive: Receive, send: Send) -> None:
            clients.extend(slow_clients(stack, port, 50))
            server._server.stop()
            await app(scope, receive, send)

        listener = listen(("127.0.0.1", 0))
        server, port = Server(connect_and_stop, listener), listener.getsockname()[1]
        server.start()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            assert answer.read() == b"yes"
        for each in clients:
            with suppress(ConnectionResetError):
                assert each.recv(100) == b""
        server._thread.join()
        server.stop()
    assert len(clients) == 50


def test_request_that_does_not_arrive_is_ended() -> None:
    """The server closes a connection with unfinished headers, without a request, or with an unfinished next request."""
    with serving(head_seconds=0.3) as port, ExitStack() as stack:
        (half,) = slow_clients(stack, port, 1)
        silent, second = (stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in "12")
        second.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTT")
        for each in (half, silent):
            with suppress(ConnectionResetError):
                assert each.recv(100) == b""
        answer = b""
        with suppress(ConnectionResetError):
            while more := second.recv(1000):
                answer += more
        assert answer.count(b"HTTP/1.1 200 OK") == 1


def test_port_that_becomes_free_is_taken() -> None:
    """The daemon waits for a port that another process is about to release."""
    taken = listen(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    timer = Timer(0.3, taken.close)
    timer.start()
    with listen(("127.0.0.1", port), busy_seconds=60) as listener:
        assert listener.getsockname()[1] == port
    timer.join()
