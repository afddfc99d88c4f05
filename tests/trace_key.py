"""Prints the files of mirror/ that one key passes through on its way from an apiserver to the bucket.

A file counts when one of its functions ran with the key's kid in an argument or in its result: in a text, in bytes, or
in a value that is made of them. The pass is a first one of one issuer with one key, against real TLS, git and S3 on
loopback. Run it from the project's folder: `.venv/bin/python -m tests.trace_key`.
"""

import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import mirror
from mirror.cli.wiring import open_ports
from mirror.config.load import load
from mirror.demo import new_key, running_demo_world
from mirror.reconcile.controller import reconcile
from mirror.report import ExitStatus

PACKAGE = f"{Path(mirror.__file__).parent}{os.sep}"
NOT_OURS = f"{PACKAGE}demo.py"
"""The apiservers of the demo show the key; they are not on its way through the mirror."""
DEEPEST = 12


def holds(value: object, kid: str, depth: int = 0) -> bool:
    """Whether `kid` is in `value`: in a text, in bytes, or in a collection or dataclass that holds one with it."""
    match value:
        case str():
            return kid in value
        case bytes() | bytearray():
            return kid.encode() in value
    if depth == DEEPEST or isinstance(value, type):
        return False
    if isinstance(value, Mapping):
        return any(holds(part, kid, depth + 1) for pair in list(value.items()) for part in pair)
    if isinstance(value, Collection):
        return any(holds(part, kid, depth + 1) for part in list(value))
    if is_dataclass(value):
        return any(holds(getattr(value, each.name, None), kid, depth + 1) for each in fields(value))
    return False


def arguments(frame: FrameType) -> Iterator[object]:
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)  # *args and **kwargs
    yield from (frame.f_locals[name] for name in code.co_varnames[:count] if name in frame.f_locals)


@contextmanager
def traced(kid: str) -> Iterator[Counter[str]]:
    """How often a function of each file ran with `kid`, in every thread that the block starts and in this one."""
    seen: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, result: object) -> None:
        file = frame.f_code.co_filename
        if event not in ("call", "return") or not file.startswith(PACKAGE) or file.startswith(NOT_OURS):
            return
        values: Iterable[object] = arguments(frame) if event == "call" else (result,)
        if any(holds(value, kid) for value in values):
            seen[file.removeprefix(PACKAGE)] += 1

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield seen
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def files_of_a_key(folder: Path) -> Counter[str]:
    """The files of `mirror/` that the only key of the only issuer passes through in a first pass."""
    with running_demo_world(folder) as world:
        subprocess.run([world.program, "provision", "bucket", "demo"], check=True, capture_output=True)
        key = new_key()
        for replica in world.replicas:
            replica.keys = (key,)
        os.environ.update(world.environ)
        settings = load(world.config_file)
        settings.state_dir.mkdir()
        with open_ports(settings, dry_run=False) as ports, traced(key.kid) as seen:
            report = reconcile(settings, ports, datetime.now(UTC))
    assert report.exit_status is ExitStatus.CURRENT, report
    return seen


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        seen = files_of_a_key(Path(folder))
    for file, count in sorted(seen.items()):
        print(f"{count:6} {file}")
    print(f"{len(seen)} files")


if __name__ == "__main__":
    main()
