"""`make bench`: whole processes, side by side with the shell pipeline that the mirror replaces, in turn.

A world of N clusters, each with an address, a CA and so a handshake of its own, is served by nginx; the bucket is a
light S3 server on plain HTTP. Both jobs mirror the same documents: an unchanged pass, and one in which a single
cluster changed. Figures hold for one machine at one time: quote the ratios.

    python tests/bench [--clusters 1,10] [--runs 11] [--json FILE]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from bench.clusters import Fleet, running_fleet  # noqa: E402  found by the path above
from bench.store import BUCKET_OF_MIRROR, BUCKET_OF_PIPELINE, running_store  # noqa: E402  as above

NEEDED = {"nginx": "nginx-light", "curl": "curl", "jq": "jq", "git": "git", "aws": "awscli (from PyPI)"}


@dataclass(frozen=True, slots=True)
class Run:
    """One whole process: wall and CPU seconds, children included."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of both jobs, and of the ratios run by run."""

    clusters: int
    situation: str
    runs: int
    mirror_wall: float
    pipeline_wall: float
    wall_ratio: float
    mirror_cpu: float
    pipeline_cpu: float


def timed(command: list[str], environ: dict[str, str]) -> Run:
    """Run a command to its end; what it prints is thrown away."""
    before, start = os.times(), time.monotonic()
    done = subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    wall, after = time.monotonic() - start, os.times()
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{done.stderr.decode()}")
    return Run(wall, after.children_user + after.children_system - before.children_user - before.children_system)


def measure(
    fleet: Fleet, situation: str, prepare: Callable[[], None], jobs: tuple[list[str], list[str]], runs: int
) -> Row:
    """Run both jobs in turn, `prepare` before each of them."""
    environ = environment(fleet)
    pairs: list[tuple[Run, Run]] = []
    for _ in range(runs + 1):  # the first pair warms up
        found = []
        for job in jobs:
            prepare()
            found.append(timed(job, environ))
        pairs.append((found[0], found[1]))
    counted = pairs[1:]
    middle = statistics.median
    return Row(
        fleet.size,
        situation,
        runs,
        middle(m.wall for m, _ in counted),
        middle(p.wall for _, p in counted),
        middle(m.wall / p.wall for m, p in counted),
        middle(m.cpu for m, _ in counted),
        middle(p.cpu for _, p in counted),
    )


def environment(fleet: Fleet) -> dict[str, str]:
    """What both jobs see."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GIT_"))}
    return plain | {
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "ap-southeast-2",
        "AWS_ENDPOINT_URL": fleet.store_url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "S3_LEG": "aws-sync",
        "HOME": str(fleet.folder),
    }


@contextmanager
def running_world(size: int) -> Iterator[Fleet]:
    """N clusters, a bucket for each job, and the configuration of the mirror."""
    memory = Path("/dev/shm")  # on a disk the many small files of the pipeline would be measured
    with ExitStack() as stack:
        base = memory if memory.is_dir() else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oidc-mirror-bench-", dir=base)))
        store_url = stack.enter_context(running_store(folder))
        yield stack.enter_context(running_fleet(folder, size, store_url, BUCKET_OF_MIRROR))


def bench(size: int, runs: int) -> Iterator[Row]:
    """All situations for one size."""
    with running_world(size) as fleet:
        mirror = [sys.executable, "-m", "mirror", "--config", str(fleet.config), "--log-level", "error", "--once"]
        pipeline = [
            str(HERE / "pipeline.sh"),
            str(fleet.list),
            str(fleet.folder / "repo"),
            f"s3://{BUCKET_OF_PIPELINE}",
        ]
        yield measure(fleet, "unchanged", lambda: None, (mirror, pipeline), runs)
        yield measure(fleet, "one changed", fleet.rotate_first, (mirror, pipeline), runs)


def main() -> None:
    """Print one table, and write it as JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", default="1,10", help="sizes, with commas between")
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    missing = [package for name, package in NEEDED.items() if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"The benchmark needs what is not installed: {', '.join(missing)}.")
    print("clusters  situation     mirror wall s  pipeline wall s  ratio   mirror cpu s  pipeline cpu s")
    rows = []
    for size in (int(text) for text in words.clusters.split(",")):
        for row in bench(size, words.runs):
            rows.append(row)
            print(
                f"{row.clusters:8}  {row.situation:12}  {row.mirror_wall:13.3f}  {row.pipeline_wall:15.3f}  "
                f"{row.wall_ratio:5.2f}  {row.mirror_cpu:12.3f}  {row.pipeline_cpu:14.3f}",
                flush=True,
            )
    if words.json:
        words.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
