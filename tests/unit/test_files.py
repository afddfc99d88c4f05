"""Files of the state directory: whole or not there, and nothing is left of writers that were killed."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mirror.errors import HistoryError
from mirror.files import lock_temp_file, remove_stale_temp_files, temporary_folder, update_atomically, write_atomically


def test_draft_of_a_killed_writer_is_removed_by_the_next(tmp_path: Path) -> None:
    """A kill between writing and renaming leaves a draft, under a number that may never come again."""
    (tmp_path / ".notes.json.4711").write_text("half of")
    write_atomically(tmp_path / "notes.json", "whole")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("notes.json", "whole")]


def test_draft_of_a_living_writer_stays(tmp_path: Path) -> None:
    """An operator's command may write at the same moment; drafts of other files do not matter here."""
    for name in (".notes.json.1", ".audit.json.2"):
        (tmp_path / name).touch()
    with lock_temp_file(tmp_path / ".notes.json.1"):
        write_atomically(tmp_path / "notes.json", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".audit.json.2", ".notes.json.1", "notes.json"]


def test_abandoned_folder_is_removed_with_what_is_in_it(tmp_path: Path) -> None:
    """A draft may be a half-made repository; a living one's stays."""
    for name in ("new-1", "new-2"):
        (tmp_path / name / "refs").mkdir(parents=True)
    with lock_temp_file(tmp_path / "new-2"):
        remove_stale_temp_files(tmp_path, "new-*")
    assert [path.name for path in tmp_path.iterdir()] == ["new-2"]


def test_folder_that_cannot_be_written_is_reported_and_left_clean(tmp_path: Path) -> None:
    """The error names the folder; the old file stays and no draft does."""
    (tmp_path / "notes.json").mkdir()
    with pytest.raises(HistoryError, match="cannot be written"):
        write_atomically(tmp_path / "notes.json", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.json"]


def test_updates_of_several_writers_are_all_there(tmp_path: Path) -> None:
    """Each sees what the one before has written; drafts of those that were killed are removed, and none is left."""
    path = tmp_path / "notes.json"
    (tmp_path / ".notes.json.4711").write_text("half of")

    def add(number: int) -> None:
        update_atomically(path, lambda: f"{path.read_text() if path.exists() else ''}{number}\n")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(50)))
    assert sorted(map(int, path.read_text().split())) == list(range(50))
    assert [each.name for each in tmp_path.iterdir()] == ["notes.json"]


def test_update_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    """A file that already has the desired content is not touched."""
    update_atomically(tmp_path / "notes.json", lambda: None)
    assert list(tmp_path.iterdir()) == []


def test_temporary_folder_is_found_without_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory, or beside the state; gone afterwards. Where there is no place at all the remedy names one."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with temporary_folder("x-", also=tmp_path) as folder:
        assert Path(folder).is_dir()
    assert not Path(folder).exists()
