"""The bare repository of the history: made atomically where it is missing."""

import glob
import os
import re
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

from mirror.errors import HistoryError
from mirror.files import drafting
from mirror.history.git import Git, presentable, why

OLDEST_GIT = (2, 36)


def is_repository(path: Path) -> bool:
    """Whether `path` looks like a git directory, as git itself decides."""
    return (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()


def create(path: Path, *, branch: str, environ: Mapping[str, str], stop: threading.Event) -> None:
    """Make a bare repository at `path`, complete or not at all: it is initialised beside it, then renamed.

    Raises:
        HistoryError: git is missing or too old, or the folder cannot be made or is something else.
    """
    # The name is ours alone as long as this process lives.
    draft = path.with_name(f"{path.name}.new-{os.getpid()}-{threading.get_ident()}")
    git = Git(draft, environ, stop=stop)
    _demand_version(git)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Crash window: a draft stays. Whoever makes the repository next removes it.
        with drafting(draft, f"{glob.escape(path.name)}.new-*", draft.mkdir):
            git.demand(
                "init", "--quiet", "--bare", "--template=", f"--initial-branch={branch}",
                sentence=f"A git repository could not be made at {path}.",
                remedy="See that this user may write there and that the disk is not full.",
            )  # fmt: skip
            draft.rename(path)
    except OSError as error:
        if is_repository(path):
            return  # Another process was faster; its repository is as good as ours.
        raise HistoryError(
            f"A git repository could not be made at {path}.",
            cause=error.strerror or "",
            remedy="Move away what is there, or see that this user may write there.",
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _demand_version(git: Git) -> None:
    said = git.run("version")
    found = re.search(rb"version (\d+)\.(\d+)", said.out)
    if not said.ok or found is None:
        raise HistoryError(
            "The version of git could not be told.", cause=why(said), remedy="Install git 2.36 or newer."
        )
    if (int(found[1]), int(found[2])) < OLDEST_GIT:
        text = presentable(said.out.decode("utf-8", "replace"))
        raise HistoryError("The git command is too old.", cause=text, remedy="Install git 2.36 or newer.")
