"""The jobs that are compared, each a command that mirrors the whole fleet once, and what one run of it costs."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.clusters import Fleet
from bench.store import BUCKET_OF_PIPELINE, Store

HERE = Path(__file__).resolve().parent
MIRROR = "mirror"
DONE, DONE_FOR_OTHERS = 0, 1
"""Everything is current; some apiserver did not answer. Both jobs say so by it, and have done the rest."""

_GIT_THAT_COUNTS = """#!/bin/sh
echo >> "$BENCH_GIT_COUNT"
exec {git} "$@"
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One whole process with its children: seconds, the largest process among them, and what it asked of others.

    `git_processes` are those that the job itself started; git may start more.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    s3_requests: int
    git_processes: int


@dataclass(frozen=True, slots=True)
class Job:
    """`name` is `mirror`, or how the pipeline brings its files to S3, unless `leg` says that."""

    name: str
    command: tuple[str, ...]
    leg: str = ""

    def run(self, fleet: Fleet, store: Store, *, ends_with: int = DONE) -> Run:
        """One run that has to end with `ends_with`; what it prints is thrown away.

        Raises:
            SystemExit: It failed.
        """
        result, counted = fleet.folder / f"{self.name}-result.json", fleet.folder / f"{self.name}-git-count"
        counted.write_bytes(b"")
        before = store.requests()
        words = [sys.executable, "-S", str(HERE / "meter.py"), str(result), *self.command]
        done = subprocess.run(
            words, env=environment(fleet, self.leg or self.name, counted), stderr=subprocess.PIPE, check=True
        )
        cost = json.loads(result.read_text())
        if cost["status"] != ends_with:
            raise SystemExit(f"{self.name} ended with {cost['status']}:\n{done.stderr.decode()}")
        return Run(
            cost["wall_seconds"],
            cost["cpu_seconds"],
            cost["peak_mib"],
            store.requests() - before,
            len(counted.read_bytes()),
        )


def environment(fleet: Fleet, leg: str, counted: Path = Path(os.devnull)) -> dict[str, str]:
    """What every job finds in its environment. `counted` gets a line for each process of git."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GIT_"))}
    return plain | {
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "ap-southeast-2",
        "AWS_ENDPOINT_URL": fleet.store_url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "S3_ENDPOINT_URL": fleet.store_url,
        "S3_LEG": leg,
        "HOME": str(fleet.folder),
        "BENCH_GIT_COUNT": str(counted),
        "PATH": f"{fleet.folder / 'bin'}:{plain['PATH']}",
    }


def jobs(fleet: Fleet, legs: tuple[str, ...], git: str) -> tuple[Job, ...]:
    """The mirror, and the pipeline with each of `legs`. `git` is the program that is counted."""
    tool = fleet.folder / "bin" / "git"
    tool.parent.mkdir()
    tool.write_text(_GIT_THAT_COUNTS.format(git=git))
    tool.chmod(0o755)
    mirror = (sys.executable, "-m", "mirror", "--config", str(fleet.config), "--log-level", "error", "--once")
    return (Job(MIRROR, mirror), *(Job(leg, _pipeline(fleet, leg)) for leg in legs))


def from_cron(fleet: Fleet, minutes: tuple[int, ...], leg: str) -> dict[int, Job]:
    """The pipeline by one leg, once for each schedule, with files and objects of its own."""
    named = {each: f"cron-{each}m" for each in minutes}
    return {each: Job(name, _pipeline(fleet, name), leg) for each, name in named.items()}


def _pipeline(fleet: Fleet, leg: str) -> tuple[str, ...]:
    target = f"s3://{BUCKET_OF_PIPELINE}/{leg}"
    return (str(HERE / "pipeline.sh"), str(fleet.list), str(fleet.repository(leg)), target)
