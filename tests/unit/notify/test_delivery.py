"""One request to a webhook: two tries, one deadline, TLS always verified, and a URL that is never shown."""

import socket
from pathlib import Path

import pytest

from mirror.config.settings import NotifySettings
from mirror.model import Reason
from mirror.notify.delivery import MAX_URL_BYTES, PAUSE_SECONDS, read_url, send
from mirror.redaction import MASK, redact
from support.proxy import Proxy
from support.webhook import SECRET_PATH, Webhook, running_webhook

KEY = "notify.webhook_url_file"


def settings(folder: Path, webhook: Webhook, proxy: str | None = None) -> NotifySettings:
    return NotifySettings(ca_file=webhook.ca_file(folder), proxy=proxy)


def test_message_is_posted_once_when_it_is_taken(tmp_path: Path) -> None:
    """To the URL of the file, over TLS that the CA file verifies."""
    with running_webhook() as webhook:
        url = read_url(KEY, webhook.url_file(tmp_path))
        assert isinstance(url, str)
        assert send(settings(tmp_path, webhook), "POST", url, b'{"text":"x"}') is None
        assert webhook.got == [("POST", SECRET_PATH, b'{"text":"x"}')]


@pytest.mark.parametrize(
    ("statuses", "tries", "is_taken"),
    [
        ([500], 2, True),
        ([429], 2, True),
        ([500, 503, 200], 2, False),
        ([404], 1, False),
        ([302], 1, False),
    ],
    ids=["server_error", "busy", "twice", "gone", "redirect"],
)
def test_second_try_is_the_last(tmp_path: Path, statuses: list[int], tries: int, is_taken: bool) -> None:
    """A permanent failure is not retried, and no redirect is followed."""
    pauses: list[float] = []
    with running_webhook() as webhook:
        webhook.statuses = [*statuses]
        failure = send(settings(tmp_path, webhook), "POST", webhook.url, b"{}", pause=pauses.append)
    assert len(webhook.got) == tries
    assert pauses == [PAUSE_SECONDS] * (tries - 1)
    assert (failure is None) is is_taken
    if failure is not None:
        assert f"status {statuses[tries - 1]}" in failure.sentence
        assert "check --notify" in failure.remedy


def test_webhook_that_hangs_is_left_at_the_deadline(tmp_path: Path) -> None:
    """It accepts and never answers: both tries end."""
    with running_webhook() as webhook:
        webhook.hangs = True
        failure = send(settings(tmp_path, webhook), "POST", webhook.url, b"{}", total_seconds=0.3, pause=lambda _: None)
        assert failure is not None
        assert len(webhook.got) == 2


def test_failure_does_not_show_the_url(tmp_path: Path) -> None:
    """The path of such a URL is a password: anyone who has it can write into the chat."""
    with running_webhook() as webhook:
        url = read_url(KEY, webhook.url_file(tmp_path))
        assert isinstance(url, str)
        webhook.statuses = [404]
        failure = send(settings(tmp_path, webhook), "POST", url, b"{}")
    assert failure is not None
    assert "https://127.0.0.1" in failure.sentence
    assert "s3cr3t" not in str(failure)
    assert redact(f"POST {url} and {SECRET_PATH}") == f"POST {MASK} and {MASK}"


def test_certificate_is_always_verified(tmp_path: Path) -> None:
    """Neither another CA nor another name is accepted."""
    with running_webhook() as webhook, running_webhook(names=("elsewhere.example",)) as other:
        unknown = send(NotifySettings(), "POST", webhook.url, b"{}", pause=lambda _: None)
        wrong_name = send(settings(tmp_path, other), "POST", other.url, b"{}", pause=lambda _: None)
        missing = send(NotifySettings(ca_file=tmp_path / "none.crt"), "POST", webhook.url, pause=lambda _: None)
    assert unknown is not None
    assert wrong_name is not None
    assert missing is not None
    assert webhook.got == other.got == []


def test_proxy_is_used_and_that_of_the_environment_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `notify.proxy` counts."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with running_webhook() as webhook, Proxy() as proxy:
        assert send(settings(tmp_path, webhook), "GET", webhook.url) is None
        assert proxy.tunnels == []
        assert send(settings(tmp_path, webhook, proxy.url), "GET", webhook.url) is None
        assert proxy.tunnels == [webhook.url.removeprefix("https://")]


def test_webhook_that_is_not_there_is_a_reason() -> None:
    """A refused connection, tried twice, names what the system says."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    failure = send(NotifySettings(), "POST", f"https://127.0.0.1:{port}/x", b"{}", pause=lambda _: None)
    assert failure is not None
    assert "refused" in failure.sentence.lower()


def test_plain_http_works_for_local_services() -> None:
    """`check` warns of it."""
    with running_webhook(tls=False) as webhook:
        assert send(NotifySettings(), "GET", f"{webhook.url}/ping") is None
        assert webhook.paths("GET") == ["/ping"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hooks.example.com/x",
        "ftp://hooks.example.com/x",
        "https://user:secret-word@hooks.example.com/x",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/x\nhttps://hooks.example.com/y",
        "https://[half/secret-word",
        "https://h\u00f6oks.example.com/secret-word",
        "https://hooks.example.com:99999/secret-word",
        "https:///secret-word",
        "x" * (MAX_URL_BYTES + 1),
    ],
)
def test_file_that_holds_no_url_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    """It may hold a secret all the same."""
    path = tmp_path / "url"
    path.write_text(text, encoding="utf-8")
    found = read_url(KEY, path)
    assert isinstance(found, Reason)
    assert str(path) in found.sentence
    assert "secret-word" not in str(found)


def test_file_that_is_missing_is_named(tmp_path: Path) -> None:
    """With what the system says."""
    found = read_url(KEY, tmp_path / "none")
    assert isinstance(found, Reason)
    assert "No such file" in found.sentence
