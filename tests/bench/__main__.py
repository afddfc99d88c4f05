"""`make bench`: whole processes, side by side with the shell pipeline that the mirror replaces, in turn.

A world of N clusters, each with addresses, a CA and so handshakes of its own, is served by nginx; the bucket is a light
S3 server on plain HTTP. The jobs mirror the same documents; the pipeline brings them to S3 by `aws s3 sync` (it looks
at the bucket, as the mirror does), by one `aws s3 cp` of what changed (it never looks), or by s5cmd where that is
installed. Figures hold for one machine at one time: quote the ratios, which are made pair by pair.

    python tests/bench [--clusters 1,10,100,1000] [--replicas 1] [--runs 5] [--minutes 30] [--json FILE]
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from bench.clusters import Fleet, running_fleet  # noqa: E402  found by the path above
from bench.crowd import CROWD, crowd  # noqa: E402  as above
from bench.crowd import reported as reported_crowd  # noqa: E402  as above
from bench.freshness import FRESHNESS, REPLICAS, Plan, freshness  # noqa: E402  as above
from bench.freshness import reported as reported_freshness  # noqa: E402  as above
from bench.jobs import MIRROR, Job, Run, from_cron, jobs  # noqa: E402  as above
from bench.keys import rsa_keys  # noqa: E402  as above
from bench.memory import MEMORY, memory  # noqa: E402  as above
from bench.memory import reported as reported_memory  # noqa: E402  as above
from bench.situations import SITUATIONS, Situation  # noqa: E402  as above
from bench.store import BUCKET_OF_MIRROR, Store, running_store  # noqa: E402  as above

NEEDED = {"nginx": "nginx-light", "curl": "curl", "jq": "jq", "git": "git", "aws": "awscli (from PyPI)"}
KEYS = HERE.parent.parent / "build" / "bench-keys.json"
INSIDE = "inside"
REPORTS = {FRESHNESS: reported_freshness, MEMORY: reported_memory, CROWD: reported_crowd}
HEAD = "clusters  situation    job       runs  wall s   cpu s  peak MiB  S3 requests  git  mirror/job: wall   cpu"


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of one job in one situation. `mirror_to_job` is the mirror's wall time by this job's, pair by pair."""

    clusters: int
    replicas: int
    situation: str
    job: str
    runs: int
    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    s3_requests: float
    git_processes: float
    mirror_to_job: float
    mirror_to_job_cpu: float

    def __str__(self) -> str:
        """One line of the table."""
        return (
            f"{self.clusters:8}  {self.situation:11}  {self.job:8}  {self.runs:4}  {self.wall_seconds:6.3f}  "
            f"{self.cpu_seconds:6.3f}  {self.peak_mib:8.0f}  {self.s3_requests:11.0f}  {self.git_processes:3.0f}  "
            f"{self.mirror_to_job:16.2f}  {self.mirror_to_job_cpu:4.2f}"
        )


@contextmanager
def running_world(size: int, replicas: int) -> Iterator[tuple[Fleet, Store]]:
    """N clusters, a bucket for each kind of job, and the configuration of the mirror."""
    memory = Path("/dev/shm")  # on a disk the many small files of the pipeline would be measured
    with ExitStack() as stack:
        base = memory if memory.is_dir() else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oidc-mirror-bench-", dir=base)))
        store = stack.enter_context(running_store(folder))
        target = (store.url, BUCKET_OF_MIRROR)
        yield stack.enter_context(running_fleet(folder, size, replicas, store=target, cache=KEYS)), store


def rows_of(situation: Situation, world: tuple[Fleet, Store], todo: tuple[Job, ...], runs: int) -> Iterator[Row]:
    """Run all jobs in turn, as often as the situation allows."""
    fleet, store = world
    runs = min(runs, situation.most_runs or runs)
    found: dict[str, list[Run]] = {job.name: [] for job in todo}
    for _ in range(runs):
        situation.before(fleet, store)
        for job in todo:
            found[job.name].append(job.run(fleet, store, ends_with=situation.ends_with))
    ours = found[MIRROR]
    for job in todo:
        yield row(fleet, situation, job.name, found[job.name], ours)


def row(fleet: Fleet, situation: Situation, job: str, runs: list[Run], ours: list[Run]) -> Row:
    """The medians."""
    middle = statistics.median
    return Row(
        fleet.size,
        fleet.replicas,
        situation.name,
        job,
        len(runs),
        middle(each.wall_seconds for each in runs),
        middle(each.cpu_seconds for each in runs),
        middle(each.peak_mib for each in runs),
        middle(each.s3_requests for each in runs),
        middle(each.git_processes for each in runs),
        middle(our.wall_seconds / each.wall_seconds for our, each in zip(ours, runs, strict=True)),
        middle(our.cpu_seconds / each.cpu_seconds for our, each in zip(ours, runs, strict=True)),
    )


def inside(fleet: Fleet, runs: int) -> dict[str, object]:
    """A pass inside a running process against one curl: medians, and the ratio pair by pair."""
    words = [sys.executable, str(HERE / "inside.py"), str(fleet.config), str(fleet.list), str(runs)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GIT_"))}
    environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "HOME": str(fleet.folder)}
    timed = json.loads(subprocess.run(words, env=environ, stdout=subprocess.PIPE, check=True).stdout)
    ratio = statistics.median(ours / theirs for ours, theirs in zip(timed["pass"], timed["curl"], strict=True))
    return {
        "clusters": fleet.size,
        "replicas": fleet.replicas,
        "situation": INSIDE,
        "pass_seconds": statistics.median(timed["pass"]),
        "curl_seconds": statistics.median(timed["curl"]),
        "ratio": ratio,
    }


def bench(size: int, words: argparse.Namespace, deadline: float) -> Iterator[Row | dict[str, object]]:
    """All situations for one size; those that would begin after the deadline are left out."""
    with running_world(size, words.replicas) as world:
        fleet = world[0]
        todo = jobs(fleet, legs(words.jobs), shutil.which("git") or "git")
        for situation in SITUATIONS:
            if time.monotonic() > deadline:
                print(f"{size:8}  {situation.name}: left out, the time is over", flush=True)
                continue
            if situation.name not in words.situations.split(","):
                continue
            yield from rows_of(situation, world, todo, words.runs)
            if situation.name == "one changed":
                yield inside(fleet, words.runs)
    for name, run in {FRESHNESS: fresh, MEMORY: over_passes, CROWD: crowded}.items():
        if name in words.situations.split(","):
            yield run(size, words)


def fresh(size: int, words: argparse.Namespace) -> dict[str, object]:
    """The situation `freshness`, in a world of its own."""
    schedules = tuple(int(each) for each in words.cron.split(",") if each)
    plan = Plan(words.fresh_minutes, words.rotations, words.revocations, words.idle_passes, schedules)
    with running_world(size, REPLICAS) as (fleet, store):
        jobs(fleet, (), shutil.which("git") or "git")
        fleet.write_lists()
        keys = tuple(rsa_keys(3 * size + plan.rotations, KEYS)[3 * size :])
        return freshness(fleet, store, plan, from_cron(fleet, schedules, "aws-sync"), keys)


def over_passes(size: int, words: argparse.Namespace) -> dict[str, object]:
    """The situation `memory`, in a world of its own."""
    with running_world(size, REPLICAS) as (fleet, _):
        return memory(fleet, words.passes)


def crowded(size: int, words: argparse.Namespace) -> dict[str, object]:
    """The situation `crowd`, in a world of its own."""
    plan = Plan(words.crowd_minutes, words.rotations, 0, 0, ())
    with running_world(size, REPLICAS) as (fleet, store):
        return crowd(fleet, store, plan, tuple(rsa_keys(3 * size + plan.rotations, KEYS)[3 * size :]))


def legs(text: str) -> tuple[str, ...]:
    """The pipeline's ways to S3 that were asked for, and whose program is installed."""
    asked = tuple(each for each in text.split(",") if each)
    return tuple(each for each in asked if shutil.which(each.partition("-")[0]) is not None)


def main() -> None:
    """Print one table, and write it as JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", default="1,10", help="sizes, with commas between")
    parser.add_argument("--replicas", type=int, default=1, help="apiservers a cluster")
    parser.add_argument("--runs", type=int, default=5, help="at most so many a job and situation; slow ones have fewer")
    parser.add_argument("--jobs", default="aws-sync,aws,s5cmd", help="what the mirror is compared with")
    parser.add_argument(
        "--situations",
        default=",".join(each.name for each in SITUATIONS),
        help="freshness, memory and crowd are further ones",
    )
    parser.add_argument("--minutes", type=float, default=30, help="no situation begins later")
    parser.add_argument("--fresh-minutes", type=float, default=15, help="freshness: so long new keys begin to show")
    parser.add_argument("--rotations", type=int, default=200, help="freshness and crowd: how many new keys")
    parser.add_argument(
        "--revocations", type=int, default=5, help="freshness: how many keys are revoked, one a cluster"
    )
    parser.add_argument(
        "--idle-passes", type=int, default=10, help="freshness: passes of the idle daemon that are watched"
    )
    parser.add_argument("--cron", default="1,5", help="freshness: minutes between runs of the pipeline (aws-sync)")
    parser.add_argument("--passes", type=int, default=1000, help="memory: how many, one a second")
    parser.add_argument("--crowd-minutes", type=float, default=30, help="crowd: so long new keys begin to show")
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    missing = [package for name, package in NEEDED.items() if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"The benchmark needs what is not installed: {', '.join(missing)}.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end with us
    deadline, found = time.monotonic() + words.minutes * 60, []
    print(HEAD)
    for size in (int(text) for text in words.clusters.split(",")):
        for each in bench(size, words, deadline):
            found.append(asdict(each) if isinstance(each, Row) else each)
            print(each if isinstance(each, Row) else reported(each), flush=True)
    if words.json:
        words.json.write_text(json.dumps(found, indent=2) + "\n")


def reported(timed: dict[str, object]) -> str:
    """The lines of a pass inside a running process, or of a situation with a world of its own."""
    if timed["situation"] in REPORTS:
        return REPORTS[str(timed["situation"])](timed)
    return (
        f"{timed['clusters']:8}  {INSIDE:11}  a running process's pass {timed['pass_seconds']:.3f} s, curl --parallel "
        f"{timed['curl_seconds']:.3f} s, ratio {timed['ratio']:.2f}"
    )


if __name__ == "__main__":
    main()
