"""Takes the pictures of the README: the demo's status page and key history, light and dark, by a headless Chromium.

Usage: python tests/browser/screenshots.py FOLDER
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
)
WIDTH, HEIGHT = 1100, 640
SECONDS = 120


def program(*words: str) -> list[str]:
    return [sys.executable, "-m", "mirror", *words]


def take(folder: Path) -> None:
    demo = subprocess.Popen(
        program("demo", "--serve"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
    )
    try:
        shoot(reported_by(demo), folder)
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait()


def reported_by(demo: "subprocess.Popen[str]") -> tuple[str, Path]:
    """The status page of the demo after its last step, and the command of its configuration."""
    assert demo.stdout is not None
    reported = ""
    for line in demo.stdout:
        reported += line
        if "verify demo" in line:
            break
    (page,) = set(re.findall(r"the status page is (\S+)", reported))
    (program,) = set(re.findall(r"\$ (\S+/oidc-mirror) --once\n", reported))
    return page, Path(program)


def shoot(world: tuple[str, Path], folder: Path) -> None:
    page, program = world
    history = program.with_name("history.html")
    done = subprocess.run((program, "history", "--output", "html"), check=True, capture_output=True, text=True)
    history.write_text(done.stdout)
    pictures({"status": page, "history": history.as_uri()}, folder)


def pictures(pages: dict[str, str], folder: Path) -> None:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory(prefix="c") as short, sync_playwright() as playwright:
        environ: dict[str, str | float | bool] = {"PATH": os.environ["PATH"], "HOME": short, "TMPDIR": short}
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS), env=environ)
        for scheme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="dark" if scheme == "dark" else "light"
            )
            page = context.new_page()
            for name, url in pages.items():
                response = page.goto(url)
                assert response is not None
                assert response.ok or url.startswith("file:"), f"{url}: {response.status}"
                page.screenshot(path=folder / f"{name}-{scheme}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]))
