"""The state directory."""

from pathlib import Path

from mirror.check.state import state
from support.doctor import told


def test_state_directory_is_told(tmp_path: Path) -> None:
    """Writable, not there yet, no folder, in somebody's hands; looking creates nothing."""
    (tmp_path / "file").touch()
    assert told(state(tmp_path, lambda _: None)) == [("ok", "state.writable")]
    assert told(state(tmp_path / "a/b", lambda _: None)) == [("note", "state.absent")]
    assert told(state(tmp_path / "file", lambda _: None)) == [("failed", "state.no_folder")]
    assert told(state(tmp_path / "file/below", lambda _: None)) == [("failed", "state.unwritable")]
    (held,) = state(tmp_path, lambda path: f"process 1 with {path.name}")
    assert (held.code, "process 1 with lock" in held.sentence) == ("state.locked", True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
