"""A headless Chromium for the pages that the program writes and serves."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from support.machine import demand

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

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


@dataclass
class Tabs:
    """A browser with one tab that runs scripts and one that runs none: opening a tab costs more than most tests."""

    browser: "Browser"
    _opened: "dict[bool, Page]" = field(default_factory=dict)

    def show(self, *, width: int, dark: bool = False, scripts: bool = True) -> "Page":
        """The tab, as wide as that, in such a scheme, with whatever the last test left in it."""
        if scripts not in self._opened:
            self._opened[scripts] = self.browser.new_context(java_script_enabled=scripts).new_page()
        page = self._opened[scripts]
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if dark else "light")
        return page


Opened: TypeAlias = "tuple[Page, list[str], list[str]]"


@contextmanager
def opened(tabs: Tabs, url: str, *, width: int, dark: bool = False) -> Iterator["Opened"]:
    """The page, every URL that was asked for, and every word on the console."""
    page = tabs.show(width=width, dark=dark)
    asked: list[str] = []
    said: list[str] = []
    listeners: dict[Any, Callable[[Any], None]] = {
        "request": lambda request: asked.append(request.url),
        "console": lambda message: said.append(message.text),
        "pageerror": lambda error: said.append(str(error)),
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    try:
        page.goto(url)
        yield page, asked, said
    finally:
        for event, listener in listeners.items():
            page.remove_listener(event, listener)


@pytest.fixture(scope="module")  # as long as it is there, no test of its worker can run an event loop of its own
def tabs() -> Iterator[Tabs]:
    """One browser for the tests of a file; they are skipped where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    found = found or demand("chromium", variable="OIDC_MIRROR_REQUIRE_CHROMIUM", package="chromium")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  a fifth of a second, for these tests alone

    with tempfile.TemporaryDirectory(prefix="c") as short, sync_playwright() as playwright:
        environ: dict[str, str | float | bool] = {"PATH": os.environ["PATH"], "HOME": short, "TMPDIR": short}
        launched = playwright.chromium.launch(executable_path=found, args=list(FLAGS), env=environ)
        yield Tabs(launched)
        launched.close()
