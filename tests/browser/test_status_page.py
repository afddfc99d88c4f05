"""The status page in a real browser, served by the daemon's own server: two widths, light and dark, hostile text."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import pytest

from mirror.daemon.metrics import render
from mirror.daemon.scheduler import HealthResult
from mirror.daemon.status_page import Page as StatusPage
from mirror.daemon.web import Server, Sources, application, listen
from support.pass_histories import HOSTILE, NAMES, everything

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REQUIRED = os.environ.get("OIDC_MIRROR_REQUIRE_CHROMIUM") == "1"
ALIVE = HealthResult(ok=True, sentence="Alive.")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pass_history = everything()
    page = StatusPage(lambda: pass_history, lambda: ALIVE)
    sources = Sources(lambda: ALIVE, lambda: ALIVE, lambda: render(pass_history), page.render)
    listener = listen(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = Server(application(sources, listen_host="127.0.0.1"), listener)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        assert not REQUIRED, "OIDC_MIRROR_REQUIRE_CHROMIUM=1, and there is no chromium"
        pytest.skip("there is no chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  a fifth of a second, for these tests alone

    with tempfile.TemporaryDirectory(prefix="c") as short, sync_playwright() as playwright:
        environ: dict[str, str | float | bool] = {"PATH": os.environ["PATH"], "HOME": short, "TMPDIR": short}
        launched = playwright.chromium.launch(executable_path=found, args=list(FLAGS), env=environ)
        yield launched
        launched.close()


Opened: TypeAlias = "tuple[Page, list[str], list[str]]"


@contextmanager
def opened(browser: "Browser", url: str, *, width: int, dark: bool = False) -> Iterator["Opened"]:
    """The page, every URL that was asked for, and every word on the console."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    try:
        page = context.new_page()
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url)
        yield page, asked, said
    finally:
        context.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(("dark", "background"), [(False, "rgb(246, 247, 249)"), (True, "rgb(15, 19, 24)")])
def test_page_fits_and_follows_the_scheme(
    browser: "Browser", url: str, *, width: int, dark: bool, background: str
) -> None:
    """Its style passes its own policy, and nothing is wider than the window, whatever a cluster calls its keys."""
    with opened(browser, url, width=width, dark=dark) as (page, _, said):
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background
        wider = "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
        assert page.evaluate(f"{wider}.map(e => e.outerHTML.slice(0, 80))") == []
        assert [text for text in said if "favicon" not in text] == []


def test_hostile_text_is_only_text(browser: "Browser", url: str) -> None:
    """The kid is there to be read, no script ran, and nothing outside was asked for."""
    with opened(browser, url, width=1280) as (page, asked, _):
        assert page.title() == "1 of 4 issuers failed · oidc-mirror"
        assert page.get_by_text(HOSTILE.kid, exact=True).count() == 1
        assert page.evaluate("document.scripts.length") == 0
        assert {each for each in asked if not each.startswith(url)} == set()


def test_cards_show_what_they_promise(browser: "Browser", url: str) -> None:
    """A card an issuer; the bars of keys have a width; the command can be selected; links lead to the documents."""
    with opened(browser, url, width=1280) as (page, _, _):
        assert sorted(page.eval_on_selector_all("section[id]", "all => all.map(e => e.id)")) == sorted(NAMES)
        widths = page.eval_on_selector_all(".bar rect", "all => all.map(e => e.getBoundingClientRect().width)")
        assert len(widths) == 10
        assert min(widths) > 1
        assert page.locator("#syd-stage .command").inner_text().startswith("oidc-mirror approve syd-stage ")
        boxes = page.eval_on_selector_all("#syd-prod .box", "all => all.map(e => e.getBoundingClientRect().top)")
        assert boxes[0] == boxes[1]
        assert page.locator("#lab .documents a").count() == 2


def test_page_needs_no_script(browser: "Browser", url: str) -> None:
    """With scripts switched off it reads the same."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url)
    assert page.locator("h1").inner_text() == "1 of 4 issuers failed"
    assert page.locator("section.card").count() == len(NAMES) + 1
    context.close()
