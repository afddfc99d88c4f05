"""`make torture`: runs the tests of this folder for longer, and prints a table of what they tried.

`--write FILE` replaces the table in FILE between the lines `<!-- torture -->` and `<!-- /torture -->`.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
PARTS = {
    "crash": ("test_crash.py",),
    "crowd": ("test_two_mirrors.py", "test_crowd.py"),
    "input": ("test_hostile_input.py",),
    "disk": ("test_disk.py",),
    "network": ("test_network.py", "test_names.py", "test_lost_names.py", "test_rough_lines.py"),
    "remote": ("test_remote.py", "test_credentials.py"),
    "shards": ("test_shards.py",),
    "histories": ("../machines",),
    "properties": ("../unit", "../attacks"),
}
MODES = ("all", "one")
_MARKS = re.compile(r"(?s)(<!-- torture -->\n).*(<!-- /torture -->)")


def options(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make torture ARGS=…", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="one part; may be given several times")
    parser.add_argument("--case", action="append", help="crash: one situation, as the table names it; several times")
    parser.add_argument("--mode", action="append", choices=MODES, help="crash: who is killed; all is as a power cut")
    parser.add_argument("--call", action="append", type=int, help="crash: one call by its number; several times")
    parser.add_argument("--every", type=int, default=1, help="crash: kill only at every n-th call (1)")
    parser.add_argument("--seconds", type=float, default=60.0, help="crowd: how long (60)")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="input: how many, of all readers (1000000)")
    parser.add_argument("--histories", type=int, default=300, help="histories: how many with real git (300)")
    parser.add_argument("--seed", type=int, default=1, help="another number tries other things (1)")
    parser.add_argument("--write", type=Path, help="a document whose table is replaced")
    return parser.parse_args(words)


def summary(lines: list[str], when: datetime, command: str, *, held: bool) -> str:
    """The table of passed cases: a row for each case in the order of the tests; counts of equal cases are added."""
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for line in lines:
        figures = json.loads(line)
        row = rows.setdefault((figures.pop("part"), figures.pop("case")), {})
        for name, count in figures.items():
            row[name] = row.get(name, 0) + count
    table = [f"| {part} | {case} | {_words(row)} |" for (part, case), row in rows.items()]
    verdict = "every row passed" if held else "FAILED: only these rows passed"
    head = f"`{command}`, {when:%Y-%m-%d %H:%M} UTC; {verdict}.\n\n| part | case | tried |\n| --- | --- | --- |\n"
    return head + "\n".join(table) + "\n"


def _words(row: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in row.items())


def _runs(parts: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The arguments of each run of pytest: one run for the files of all parts, and one for the property tests."""
    files = [str(HERE / name) for part in parts if part != "properties" for name in PARTS[part]]
    if files:
        yield tuple(files)
    if "properties" in parts:
        folders = [str(HERE / name) for name in PARTS["properties"]]
        yield ("-m", "hypothesis", "--hypothesis-profile=long", *folders)


def _run(environ: Mapping[str, str], *words: str) -> int:
    command = [sys.executable, "-m", "pytest", "--timeout=0", "-q", *words]
    return subprocess.run(command, env=environ, cwd=HERE.parents[1], check=False).returncode


def main() -> int:
    chosen = options()
    scale = {
        "kills": 0,
        "every": chosen.every,
        "everything": True,
        "cases": chosen.case or [],
        "modes": chosen.mode or MODES,
        "calls": chosen.call or [],
        "seconds": chosen.seconds,
        "inputs": chosen.inputs,
        "histories": chosen.histories,
        "seed": chosen.seed,
    }
    with tempfile.TemporaryDirectory() as folder:
        tally = Path(folder) / "tally"
        tally.touch()
        environ = os.environ | {"OIDC_MIRROR_TORTURE": json.dumps(scale), "OIDC_MIRROR_TORTURE_TALLY": str(tally)}
        parts = chosen.only or tuple(PARTS)
        status = max(_run(environ, *words) for words in _runs(parts))
        words = shlex.join(name for name in sys.argv[1:] if "write" not in name and not name.endswith(".md"))
        reported = summary(
            tally.read_text().splitlines(), datetime.now(UTC), f'make torture ARGS="{words}"', held=status == 0
        )
    print(reported)
    if chosen.write is not None and status == 0:
        page = chosen.write.read_text(encoding="utf-8")
        chosen.write.write_text(_MARKS.sub(lambda found: found[1] + reported + found[2], page), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
