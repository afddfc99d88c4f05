"""The history page in a real browser: what it looks like at two widths, light and dark, with a hostile kid in it."""

import html
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest

from mirror.history.key_history import KeyHistories, LedgerVersion, build_histories
from mirror.model import CommitId, IssuerName, IssuerUrl, Key, KeyRecord, Ledger, Revocation, Status, Version, key_id
from mirror.status.timeline import page
from support.fakes import MOMENT
from support.keys import EC_KEYS, RSA_KEYS, with_kid

REQUIRED = os.environ.get("OIDC_MIRROR_REQUIRE_CHROMIUM") == "1"
HOSTILE = with_kid(EC_KEYS[0], "<script>document.title='owned'</script>" + "k" * 900)
OLD, NEW = RSA_KEYS[0], RSA_KEYS[1]


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        assert not REQUIRED, "OIDC_MIRROR_REQUIRE_CHROMIUM=1, and there is no chromium"
        pytest.skip("there is no chromium on this machine (Debian: apt-get install chromium)")
    return found


def record(key: Key, status: Status, generation: int) -> KeyRecord:
    revocation = Revocation(MOMENT, "the laptop was stolen") if status is Status.REVOKED else None
    held = "policy" if status is Status.HELD else None
    return KeyRecord(key, status, generation, MOMENT, held_because=held, revocation=revocation)


def biography() -> KeyHistories:
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
        version = Version(CommitId(f"{number:040x}"), parents, MOMENT.replace(month=number + 1), "somebody", "subject")
        entries.append(LedgerVersion(version, Ledger(IssuerUrl("https://issuer.example.com"), tuple(records))))
    return build_histories(entries)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = page([(IssuerName("syd-prod"), IssuerUrl("https://issuer.example.com"), biography())], now=MOMENT)
    path = tmp_path_factory.mktemp("page") / "history.html"
    path.write_text(text, encoding="utf-8")
    return path


def browse(chromium: str, folder: Path, url: str, *options: str) -> str:
    """What the browser prints; it has a profile of its own and no network."""
    command = [
        chromium,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}",
        *options,
        url,
    ]
    with tempfile.TemporaryDirectory(prefix="c") as short:  # path of a socket in it: 108 bytes at most
        environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": short}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


MEASURE = """<!doctype html><meta charset="utf-8">
<iframe src="history.html" style="width:{width}px;height:900px;border:0"></iframe>
<pre id="out"></pre><script>
document.querySelector("iframe").onload = event => {{
  const inner = event.target.contentDocument, style = (s, p) => getComputedStyle(inner.querySelector(s))[p];
  document.getElementById("out").textContent = JSON.stringify({{
    title: inner.title, overflow: inner.documentElement.scrollWidth - {width},
    background: style("body", "backgroundColor"), published: style("rect.published", "fill"),
    bars: inner.querySelectorAll(".bar").length, scripts: inner.querySelectorAll("script").length,
    marks: inner.querySelectorAll(".bar .rotation").length, head: style("thead", "position"),
    widths: [...inner.querySelectorAll(".bar rect")].map(each => Math.round(each.getBoundingClientRect().width)),
  }});
}};
</script>"""


def measure(chromium: str, written: Path, folder: Path, *, width: int, dark: bool) -> dict[str, object]:
    """The page in a frame of that width, measured by a script of the frame's parent."""
    wrapper = written.with_name(f"measure-{width}.html")
    wrapper.write_text(MEASURE.format(width=width), encoding="utf-8")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    dom = browse(chromium, folder, wrapper.as_uri(), "--allow-file-access-from-files", scheme, "--dump-dom")
    (text,) = re.findall(r'<pre id="out">(.*?)</pre>', dom, re.DOTALL)
    found = json.loads(html.unescape(text))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(("dark", "background"), [(False, "rgb(246, 247, 249)"), (True, "rgb(15, 19, 24)")])
def test_page_fits_and_follows_the_scheme(
    chromium: str, written: Path, tmp_path: Path, *, width: int, dark: bool, background: str
) -> None:
    """Its style sheet passes its own policy, nothing is wider than the window, each key has a bar, no script ran."""
    found = measure(chromium, written, tmp_path, width=width, dark=dark)
    assert found["title"] == "The life of every key"
    assert found["background"] == background
    assert found["overflow"] == 0
    assert (found["bars"], found["scripts"]) == (3, 0)
    assert found["marks"] == 6
    assert found["head"] == ("absolute" if width == 390 else "static")
    assert found["published"] == ("rgb(63, 178, 127)" if dark else "rgb(31, 122, 77)")
    widths = found["widths"]
    assert isinstance(widths, list)
    assert all(each > 5 for each in widths)


def test_page_is_drawn(chromium: str, written: Path, tmp_path: Path) -> None:
    """A screenshot has the size of the window and far more in it than an empty page."""
    picture, empty = tmp_path / "page.png", tmp_path / "empty.png"
    (tmp_path / "empty.html").write_text("<!doctype html><title>empty</title>", encoding="utf-8")
    window = "--window-size=1280,1200"
    browse(chromium, tmp_path, written.as_uri(), window, f"--screenshot={picture}")
    browse(chromium, tmp_path, (tmp_path / "empty.html").as_uri(), window, f"--screenshot={empty}")
    assert struct.unpack(">II", picture.read_bytes()[16:24]) == (1280, 1200)
    assert picture.stat().st_size > 5 * empty.stat().st_size
