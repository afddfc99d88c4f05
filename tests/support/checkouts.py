"""A copy of the scripts with fake commands: no network, no root, no change to the machine."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = (
    "bash",
    "cat",
    "chmod",
    "cp",
    "date",
    "dirname",
    "env",
    "flock",
    "grep",
    "mkdir",
    "mktemp",
    "paste",
    "rm",
    "seq",
    "sha256sum",
    "tail",
    "tee",
    "timeout",
    "tr",
    "xargs",
)

FAKE_PYTHON = """
case "$*" in
-I*) echo "$0" ;;
-VV) echo "Python 3.99" ;;
-V) echo "Python 3.99" ;;
"-m venv --clear "*) rm -rf "$4" && mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
"-m pip install "*"-r requirements-build.lock") ;;
"-m pip install "*-r*) echo packages >>"$CALLS"; exit "${PACKAGES:-0}" ;;
"-m pip install "*-e*) echo project >>"$CALLS"; exit "${PROJECT:-0}" ;;
"-m pip check") exit "${CHECK:-0}" ;;
"-m compileall -q mirror" | "-m compileall -qq -j 0 .venv"*"/lib") ;;
"-m coverage erase") ;;
"-m pytest "*) echo "===== 7 passed in 0.10s ====="; exit "${PYTEST:-0}" ;;
"-m coverage report "*trust*) echo trust >>"$CALLS"; exit "${TRUST:-0}" ;;
"-m coverage report "*) echo all >>"$CALLS"; exit "${ALL:-0}" ;;
*) exit 99 ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A copy of the scripts in `folder`, and all commands that they can find in `commands`."""

    folder: Path
    commands: Path
    calls_file: Path

    def fake(self, name: str, body: str) -> None:
        program = self.commands / name
        program.unlink(missing_ok=True)  # the tools are links to those of this machine
        program.write_text(f"#!{shutil.which('bash')}\n{body}\n", encoding="utf-8")
        program.chmod(0o755)

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / script, *arguments],
            env={"PATH": str(self.commands), "CALLS": str(self.calls_file), "SYSTEM_PYTHON": "", **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def calls(self) -> list[str]:
        """The calls of the fakes since the last read."""
        lines = self.calls_file.read_text(encoding="utf-8").splitlines()
        self.calls_file.write_text("", encoding="utf-8")
        return lines


def make_checkout(tmp_path: Path) -> Checkout:
    """Copy the scripts into a checkout below `tmp_path`, with a fake Python and the usual tools."""
    made = Checkout(tmp_path / "a checkout", tmp_path / "commands", tmp_path / "calls")
    for folder in ("scripts", ".ci"):
        shutil.copytree(ROOT / folder, made.folder / folder)
    (made.folder / "mirror").mkdir()
    for name in ("requirements-dev.lock", "requirements-demo.lock", "pyproject.toml", "mirror/__init__.py"):
        (made.folder / name).write_text("as it was\n", encoding="utf-8")
    made.commands.mkdir()
    for name in TOOLS:
        (made.commands / name).symlink_to(shutil.which(name) or "")
    made.calls_file.touch()
    made.fake("python3", FAKE_PYTHON)
    return made


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout without an environment."""
    return make_checkout(tmp_path)
