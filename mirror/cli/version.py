"""`--version`: the release, the commit that it was built from, and the Python and git that it runs with."""

import platform
import shutil
import subprocess
from pathlib import Path

import mirror
from mirror import __version__

COMMIT_FILE = "COMMIT"
"""Stands in the package where it was built (`hatch_build.py`); a checkout has none, and asks git."""
UNKNOWN = "unknown"
_SECONDS = 5.0


def version_text(package: Path = Path(mirror.__file__).parent) -> str:
    """The lines of `--version`; `package` is where the program lies."""
    found = (("commit", commit_of(package)), ("Python", platform.python_version()), ("git", _git_version()))
    return "\n".join((f"oidc-mirror, version {__version__}", *(f"{name:<6}  {value}" for name, value in found)))


def commit_of(package: Path) -> str:
    """The whole id of the commit: as the build wrote it, else that of the checkout; `unknown` outside of both."""
    try:
        return (package / COMMIT_FILE).read_text("ascii").strip() or UNKNOWN
    except (OSError, ValueError):
        pass
    if not (package.parent / ".git").exists():  # some other repository may lie around an installation
        return UNKNOWN
    return _git("--git-dir", str(package.parent / ".git"), "rev-parse", "--verify", "HEAD") or UNKNOWN


def _git_version() -> str:
    return _git("--version").removeprefix("git version ") or "not found"


def _git(*words: str) -> str:
    """What git prints; empty where there is none, or where it fails."""
    program = shutil.which("git")
    if program is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603  fixed words
            (program, *words), capture_output=True, text=True, check=False, timeout=_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
