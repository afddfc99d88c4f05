"""Takes the pictures of the README: the demo's status page and key history, light and dark, by a headless Chromium.

Usage: python tests/browser/screenshots.py FOLDER
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
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
        shoot(told_by(demo), folder)
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait()


def told_by(demo: "subprocess.Popen[str]") -> tuple[Path, dict[str, str]]:
    """The demo's configuration, once its story is told, and the environment that its commands need."""
    assert demo.stdout is not None
    told = ""
    for line in demo.stdout:
        told += line
        if "env AWS_" in line:
            break
    (config,) = set(re.findall(r"--config (\S+)", told))
    exports = dict(word.split("=", 1) for word in shlex.split(line.strip(" $\n")) if word.startswith("AWS_"))
    return Path(config), dict(os.environ) | exports


def shoot(world: tuple[Path, dict[str, str]], folder: Path) -> None:
    config, environ = world
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    served = config.with_name("served.yaml")
    served.write_text(f"{config.read_text()}\nhttp: {{listen: '127.0.0.1:{port}'}}\n")
    history = config.with_name("history.html")
    history.write_text(
        subprocess.run(
            program("--config", str(config), "history", "--output", "html"),
            env=environ,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    daemon = subprocess.Popen(program("--config", str(served), "run"), env=environ, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz")
        pictures({"status": f"http://127.0.0.1:{port}/", "history": history.as_uri()}, folder)
    finally:
        daemon.terminate()
        daemon.wait()


def wait_for(url: str) -> None:
    end = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own URL
                if answer.status == 200:
                    return
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(0.5)


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
