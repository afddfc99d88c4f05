"""The history page in a real browser: what it looks like at two widths, light and dark, with a hostile kid in it."""

import struct

import pytest

from mirror.history.key_history import KeyHistories, LedgerVersion, build_histories
from mirror.model import CommitId, IssuerName, IssuerUrl, Key, KeyRecord, Ledger, Revocation, Status, Version, key_id
from mirror.status.timeline import page
from support.browsers import Tabs, opened
from support.fakes import MOMENT
from support.keys import EC_KEYS, RSA_KEYS, with_kid

HOSTILE = with_kid(EC_KEYS[0], "<script>document.title='owned'</script>" + "k" * 900)
OLD, NEW = RSA_KEYS[0], RSA_KEYS[1]


def record(key: Key, status: Status, generation: int) -> KeyRecord:
    revocation = Revocation(MOMENT, "the laptop was stolen") if status is Status.REVOKED else None
    held = "policy" if status is Status.HELD else None
    return KeyRecord(key, status, generation, MOMENT, held_because=held, revocation=revocation)


def histories() -> KeyHistories:
    published, retiring, dropped, held, revoked = (
        Status.PUBLISHED,
        Status.RETIRING,
        Status.DROPPED,
        Status.HELD,
        Status.REVOKED,
    )
    steps: tuple[dict[Key, Status], ...] = (
        {OLD: published},
        {OLD: published, NEW: published},
        {OLD: retiring, NEW: published, HOSTILE: held},
        {OLD: dropped, NEW: published, HOSTILE: published},
        {OLD: dropped, NEW: revoked, HOSTILE: published},
    )
    entries = []
    for number, step in enumerate(steps):
        records = sorted((record(key, status, number + 1) for key, status in step.items()), key=lambda r: key_id(r.key))
        parents = (CommitId(f"{number - 1:040x}"),) if number else ()
        version = Version(CommitId(f"{number:040x}"), parents, MOMENT.replace(month=number + 1), "operator", "subject")
        entries.append(LedgerVersion(version, Ledger(IssuerUrl("https://issuer.example.com"), tuple(records))))
    return build_histories(entries)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a written page."""
    text = page([(IssuerName("syd-prod"), IssuerUrl("https://issuer.example.com"), histories())], now=MOMENT)
    path = tmp_path_factory.mktemp("page") / "history.html"
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(("dark", "background"), [(False, "rgb(246, 247, 249)"), (True, "rgb(15, 19, 24)")])
def test_page_fits_and_follows_the_scheme(tabs: Tabs, written: str, *, width: int, dark: bool, background: str) -> None:
    """Its style sheet passes its own policy, nothing is wider than the window, each key has a bar, no script ran."""
    with opened(tabs, written, width=width, dark=dark) as (page, asked, said):

        def style(selector: str, name: str) -> object:
            return page.eval_on_selector(selector, f"e => getComputedStyle(e).{name}")

        assert page.title() == "The life of every key"
        assert (asked, said) == ([written], [])
        assert style("body", "backgroundColor") == background
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("document.scripts.length") == 0
        assert page.locator(".bar").count() == 3
        assert page.locator(".bar .rotation").count() == 6
        assert style("thead", "position") == ("absolute" if width == 390 else "static")
        assert style("rect.published", "fill") == ("rgb(63, 178, 127)" if dark else "rgb(31, 122, 77)")
        widths = page.eval_on_selector_all(".bar rect", "all => all.map(e => e.getBoundingClientRect().width)")
        assert min(widths) > 5


def test_page_is_drawn(tabs: Tabs, written: str) -> None:
    """A screenshot has the size of the window and far more in it than an empty page."""
    page = tabs.show(width=1280)
    page.goto(written)
    picture = page.screenshot()
    page.goto("about:blank")
    assert struct.unpack(">II", picture[16:24]) == (1280, 900)
    assert len(picture) > 5 * len(page.screenshot())
