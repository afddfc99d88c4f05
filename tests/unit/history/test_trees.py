from collections.abc import Sequence

import pytest

from mirror.history.trees import MAX_ENTRIES, BadTreeError, Entry, files, find, parse_tree


def line(mode: str, name: str, number: int) -> bytes:
    return f"{mode} {name}".encode("utf-8", "surrogateescape") + b"\0" + bytes([number]) * 20


def tree_id(number: int) -> str:
    return (bytes([number]) * 20).hex()


class Trees:
    """A store of tree objects; each id is one number, twenty times."""

    def __init__(self, **trees: bytes) -> None:
        self.trees = {tree_id(int(name[1:])): body for name, body in trees.items()}
        self.asked: list[str] = []

    def read(self, ids: Sequence[str]) -> list[bytes]:
        self.asked += ids
        return [self.trees[each] for each in ids]


def test_tree_is_parsed() -> None:
    """Files and folders are read with mode and id; submodules are neither; odd names keep their bytes."""
    body = line("40000", "a", 1) + line("100644", "b", 2) + line("160000", "sub", 3) + line("100755", "\udcff", 4)
    assert parse_tree(body, id_bytes=20) == {
        "a": Entry(b"40000", tree_id(1)),
        "b": Entry(b"100644", tree_id(2)),
        "sub": Entry(b"160000", tree_id(3)),
        "\udcff": Entry(b"100755", tree_id(4)),
    }


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(line("100644", "a", 1)[:-1], id="cut-id"),
        pytest.param(b"100644 a", id="no-zero"),
        pytest.param(b"100644\0" + b"x" * 30, id="no-space"),
        pytest.param(b" a\0" + b"x" * 20, id="no-mode"),
        pytest.param(line("1006_44", "a", 1), id="mode-no-number"),
        pytest.param(line("100688", "a", 1), id="mode-not-octal"),
    ],
)
def test_damaged_tree_is_refused(body: bytes) -> None:
    """A tree that is cut or garbled is an error, never a smaller tree."""
    with pytest.raises(BadTreeError):
        parse_tree(body, id_bytes=20)


@pytest.mark.parametrize(
    ("mode", "is_tree"),
    [("040000", True), ("40755", True), ("100666", False), ("0100644", False), ("120000", False)],
)
def test_odd_mode_is_read_as_git_reads_it(mode: str, is_tree: bool) -> None:
    """A mode that git accepts with a warning hides nothing: folders stay folders, files stay files."""
    assert parse_tree(line(mode, "a", 1), id_bytes=20)["a"].is_tree is is_tree


def test_paths_are_found_reading_each_folder_once() -> None:
    """Only folders on the way to a path are read, once each, all of one depth together; what is absent is absent."""
    store = Trees(
        t1=line("40000", "a", 2) + line("40000", "b", 2) + line("40000", "far", 9) + line("100644", "x", 50),
        t2=line("40000", "c", 3) + line("100644", "x", 51),
        t3=line("100644", "f", 52) + line("100644", "g", 53),
    )
    wanted = ("b/c/f", "a/c/g", "a/c/f", "x", "a/x", "a", "absent", "a/absent/f", "x/below-a-file", "a/c/absent")
    found = find(store.read, tree_id(1), wanted)
    assert {path: entry.id for path, entry in found.items()} == {
        "b/c/f": tree_id(52),
        "a/c/g": tree_id(53),
        "a/c/f": tree_id(52),
        "x": tree_id(50),
        "a/x": tree_id(51),
        "a": tree_id(2),
    }
    assert store.asked == [tree_id(1), tree_id(2), tree_id(3)]
    assert find(store.read, tree_id(9), ()) == {}


def test_every_file_is_listed_and_nothing_else() -> None:
    """Files of all depths are given with the folder's own name before; links and submodules are no files."""
    store = Trees(
        t1=line("40000", "x", 2) + line("100644", "f", 50) + line("120000", "link", 51) + line("160000", "sub", 52),
        t2=line("100755", "g", 53),
    )
    assert set(files(store.read, tree_id(1), under="public")) == {"public/f", "public/x/g"}
    assert files(store.read, None) == {}


def test_git_bomb_is_refused() -> None:
    """Trees that name each other many times unfold to billions of files: the walk gives up instead."""
    store = Trees(
        **{f"t{level}": b"".join(line("40000", f"{n:02}", level + 1) for n in range(60)) for level in range(1, 9)},
        t9=line("100644", "f", 50),
    )
    with pytest.raises(BadTreeError, match=str(MAX_ENTRIES)):
        files(store.read, tree_id(1))
