"""The status page in a real browser, served by the daemon's own server: two widths, light and dark, hostile text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from mirror.daemon.metrics import render
from mirror.daemon.scheduler import HealthResult
from mirror.daemon.status_page import Page as StatusPage
from mirror.daemon.status_page import render as render_page
from mirror.daemon.web import Server, Sources, application, listen
from support.browsers import Tabs, opened
from support.fakes import MOMENT
from support.pass_histories import HOSTILE, NAMES, after, everything, issuer, report

if TYPE_CHECKING:
    from playwright.sync_api import Page

ALIVE = HealthResult(ok=True, sentence="Alive.")


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


OPEN_ALL = "document.querySelectorAll('details').forEach(each => each.open = true)"


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(("dark", "background"), [(False, "rgb(246, 247, 249)"), (True, "rgb(15, 19, 24)")])
def test_page_fits_and_follows_the_scheme(tabs: Tabs, url: str, *, width: int, dark: bool, background: str) -> None:
    """Its style passes its own policy, and nothing is wider than the window, whatever a cluster calls its keys."""
    with opened(tabs, url, width=width, dark=dark) as (page, _, said):
        page.evaluate(OPEN_ALL)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background
        wider = "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
        assert page.evaluate(f"{wider}.map(e => e.outerHTML.slice(0, 80))") == []
        assert [text for text in said if "favicon" not in text] == []


def test_hostile_text_is_only_text(tabs: Tabs, url: str) -> None:
    """The kid is there to be read, no script ran, and nothing outside was asked for."""
    with opened(tabs, url, width=1280) as (page, asked, _):
        assert page.title() == "1 of 4 issuers failed · oidc-mirror"
        assert page.get_by_text(HOSTILE.kid, exact=True).count() == 1
        assert page.evaluate("document.scripts.length") == 0
        assert {each for each in asked if not each.startswith(url)} == set()


def test_details_show_what_they_promise(tabs: Tabs, url: str) -> None:
    """Closed at first; the bars of keys have a width; the command can be selected; links lead to the documents."""
    with opened(tabs, url, width=1280) as (page, _, _):
        assert sorted(page.eval_on_selector_all(".details", "all => all.map(e => e.id)")) == sorted(NAMES)
        assert page.locator(".details:visible").count() == 0
        for summary in page.locator(".more summary").all():
            summary.click()
        assert page.locator(".details:visible").count() == len(NAMES)
        widths = page.eval_on_selector_all(".bar rect", "all => all.map(e => e.getBoundingClientRect().width)")
        assert len(widths) == 10
        assert min(widths) > 1
        assert page.locator("#syd-stage .command").inner_text().startswith("oidc-mirror approve syd-stage ")
        boxes = page.eval_on_selector_all("#syd-prod .box", "all => all.map(e => e.getBoundingClientRect().top)")
        assert boxes[0] == boxes[1]
        assert page.locator("#lab .documents a").count() == 2


def without_scripts(tabs: Tabs, url: str, width: int) -> "Page":
    page = tabs.show(width=width, scripts=False)
    page.goto(url)
    return page


def shown(page: "Page") -> list[str]:
    return [each.inner_text() for each in page.locator(".line th a").all()]


@pytest.mark.parametrize("width", [390, 1280])
def test_page_needs_no_script(tabs: Tabs, url: str, width: int) -> None:
    """With scripts switched off: details open by their mark and by the name, the filter and the counts work."""
    page = without_scripts(tabs, url, width)
    assert page.locator("h1").inner_text() == "1 of 4 issuers failed"
    assert shown(page) == ["fra-prod", "syd-stage", "syd-prod", "lab"]
    page.locator(".more summary").first.click()
    assert page.locator("#fra-prod").is_visible()
    page.locator(".line th a", has_text="lab").click()
    page.wait_for_url("**/?show=lab#lab")
    page.reload()
    assert page.locator("#lab").is_visible()
    page.locator("input[name=q]").fill("prod")
    page.locator(".filter button").click()
    page.wait_for_url("**/?q=prod*")
    assert shown(page) == ["fra-prod", "syd-prod"]
    page.locator(".counts a", has_text="1 rotating").click()
    page.wait_for_url("**state=rotating*")
    assert shown(page) == ["syd-prod"]
    assert page.locator("#syd-prod").is_visible()


def test_columns_sort_without_a_script(tabs: Tabs, url: str) -> None:
    """By the heads of the columns; on a narrow window by the form."""
    page = without_scripts(tabs, url, 1280)
    page.locator("thead a", has_text="state").click()
    page.wait_for_url("**sort=-state*")
    assert shown(page) == ["lab", "syd-prod", "syd-stage", "fra-prod"]
    page = without_scripts(tabs, url, 390)
    page.locator("select[name=sort]").select_option("-name")
    page.locator(".filter button").click()
    page.wait_for_url("**sort=-name*")
    assert shown(page) == ["syd-stage", "syd-prod", "lab", "fra-prod"]


CONTRAST = """() => {
  const channels = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const over = (top, below) => top.slice(0, 3).map((c, i) => c * (top[3] ?? 1) + below[i] * (1 - (top[3] ?? 1)));
  const light = rgb => rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => {
    const all = [];
    for (; e; e = e.parentElement) all.push(channels(getComputedStyle(e).backgroundColor));
    return all.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const found = new Map();
  const note = (e, colour) => {
    const back = behind(e), [a, b] = [light(over(channels(colour), back)), light(back)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const name = `${e.tagName}.${e.getAttribute("class")} ${colour}`;
    found.set(name, Math.min(ratio, found.get(name) ?? 99));
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; node = walker.nextNode();) {
    const e = node.parentElement, style = getComputedStyle(e);
    if (node.data.trim() && e.checkVisibility({visibilityProperty: true}))
      note(e, e instanceof SVGElement ? style.fill : style.color);
  }
  const input = document.querySelector("input[name=q]");
  note(input, getComputedStyle(input, "::placeholder").color);
  return [...found];
}"""


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_has_contrast(tabs: Tabs, url: str, *, width: int, dark: bool) -> None:
    """At least 4.5:1 (WCAG 2.2, success criterion 1.4.3), with all details open."""
    with opened(tabs, url, width=width, dark=dark) as (page, _, _):
        page.evaluate(OPEN_ALL)
        found = dict(page.evaluate(CONTRAST))
        assert len(found) > 30
        assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}


@pytest.mark.parametrize(("width", "most"), [(1280, 2600), (390, 5200)])
def test_fifty_healthy_issuers_are_short(tabs: Tabs, width: int, most: int) -> None:
    """A line each, in the same form as for five; nothing is wider than the window."""
    healthy = after(report(*(issuer(f"cluster-{number:02}") for number in range(50))))
    page = tabs.show(width=width)
    page.set_content(render_page(healthy, ALIVE, MOMENT))
    assert page.locator(".line").count() == page.locator(".more details").count() == 50
    assert page.evaluate("document.documentElement.scrollHeight") < most
    assert page.evaluate("document.documentElement.scrollWidth") == width
