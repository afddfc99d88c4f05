"""Writes the commit into what is built: `mirror/COMMIT`, which `oidc-mirror --version` prints.

It is that of `$OIDC_MIRROR_COMMIT` (a container build has no git history), else the checkout's. An sdist has the file
already. Outside of all three there is none, and the version says `unknown`.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
FILE = "mirror/COMMIT"


class CommitHook(BuildHookInterface[Any]):
    """The build hook; hatchling finds it by its base class."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the file. An editable installation is the checkout itself, which is asked when it runs."""
        root = Path(self.root)
        commit = "" if version == "editable" or (root / FILE).exists() else commit_of(root)
        if not commit:
            return
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "COMMIT"
        path.write_text(f"{commit}\n")
        path.chmod(0o644)
        build_data["force_include"][str(path)] = FILE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002  hatchling's
        """Remove what was made for the build."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()


def commit_of(root: Path) -> str:
    """The commit of the checkout in `root`; empty where nothing says it."""
    named = os.environ.get("OIDC_MIRROR_COMMIT", "").strip()
    if COMMIT.fullmatch(named):
        return named
    if not (root / ".git").exists():
        return ""
    try:
        # With --git-dir git reads the checkout of another user, as `sudo make install` must; this runs nothing of it.
        done = subprocess.run(  # noqa: S603  fixed words
            ("git", "--git-dir", str(root / ".git"), "rev-parse", "--verify", "HEAD"),  # noqa: S607  the builder's git
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    found = done.stdout.strip()
    return found if COMMIT.fullmatch(found) else ""
