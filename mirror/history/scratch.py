"""A copy of the repository for a dry run: it sees every object of the real one, and moves none of its refs."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mirror.config.settings import Repository as Settings
from mirror.errors import HistoryError
from mirror.history.creation import is_repository
from mirror.history.repository import Repository


@contextmanager
def scratch(settings: Settings, environ: Mapping[str, str]) -> Iterator[Settings]:
    """Settings of a temporary repository that borrows the real one's objects and starts from its branch.

    Where there is no repository yet the copy is empty, as a first pass would find it. What a fetch brings stays in
    the copy, and goes with it.

    Raises:
        HistoryError: The real repository cannot be read, or the temporary folder cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="oidc-mirror-dry-run-") as folder:
        copy = replace(settings, path=Path(folder) / "snapshots.git")
        if is_repository(settings.path):
            _borrow(settings, copy, environ)
        yield copy


def _borrow(real: Settings, copy: Settings, environ: Mapping[str, str]) -> None:
    with Repository(real, environ) as repository:
        head = repository.heads().local
    with Repository(copy, environ) as repository:
        repository.prepare()
        try:
            # gitrepository-layout(5): objects of the folders named here are read as if they were our own.
            (copy.path / "objects" / "info").mkdir(exist_ok=True)
            (copy.path / "objects" / "info" / "alternates").write_text(f"{real.path.resolve() / 'objects'}\n")
            if (real.path / "shallow").is_file():
                shutil.copyfile(real.path / "shallow", copy.path / "shallow")
        except OSError as error:
            raise HistoryError(
                "The temporary folder of the dry run cannot be written.",
                cause=error.strerror or "",
                remedy="Free space there, or set TMPDIR to another folder.",
            ) from error
        if head is not None:
            repository.advance(head, expect=None)
