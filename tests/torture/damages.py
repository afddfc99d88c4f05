"""Damage of a repository by a power cut: objects, packs, references and configuration are cut, empty or missing."""

from collections.abc import Callable
from pathlib import Path

from support.gits import git


def _objects(repository: Path) -> list[Path]:
    return sorted(path for path in (repository / "objects").glob("??/*"))


def _truncate(repository: Path) -> None:
    for path in _objects(repository):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:7])


def _empty(repository: Path) -> None:
    for path in _objects(repository):
        path.chmod(0o644)
        path.write_bytes(b"")


def _lose_pack(repository: Path) -> None:
    git(repository, "gc", "--quiet")
    for path in (repository / "objects" / "pack").iterdir():
        path.unlink()


def _cut_pack(repository: Path) -> None:
    git(repository, "gc", "--quiet")
    (pack,) = (repository / "objects" / "pack").glob("*.pack")
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[:40])


def _write(name: str, text: str) -> Callable[[Path], None]:
    def write(repository: Path) -> None:
        (repository / name).write_text(text)

    return write


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut objects": _truncate,
    "empty objects": _empty,
    "a lost pack": _lose_pack,
    "a cut pack": _cut_pack,
    "an empty branch": _write("refs/heads/main", ""),
    "a branch of zeros": _write("refs/heads/main", "\0" * 41),
    "a branch without its commit": _write("refs/heads/main", "1" * 40 + "\n"),
    "an empty HEAD": _write("HEAD", ""),
    "no HEAD": lambda repository: (repository / "HEAD").unlink(),
    "an empty configuration": _write("config", ""),
    "a torn configuration": _write("config", "[core"),
}
