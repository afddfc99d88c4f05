"""`make soak`: a thousand passes of the real daemon at an interval of 1 s, and what they cost; by hand, 18 minutes.

    make soak [ARGS="--passes 1000"]

Two replicas with TLS, a git repository, an S3 server. Now and then the apiservers are down for a few passes, and AWS
credentials are rotated on disk, so that what is opened and closed then is in the figures too. It ends with 1 when
something was missed, overlapped or grew. On a machine that is busy otherwise passes are late, and then left out.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from itertools import dropwhile, pairwise
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.apiserver import close_without_answer
from support.daemons import Daemon, Footprint, running_daemon
from support.s3 import running_ministack
from support.worlds import World, running_world

ONE = "01-rsa1/anonymous-bound-"
WARM_UP = 310
"""Passes until everything is imported, and was opened again and failed once: from here on it should be flat."""
MOST_GROWTH_BYTES = 5 * 1024 * 1024
FAILING_EVERY = 100
ROTATED_EVERY = 50


@dataclass(frozen=True, slots=True)
class Sample:
    """A look at the daemon after so many passes."""

    passes: int
    footprint: Footprint


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--passes", type=int, default=1000, help="after the warm-up")
    words.add_argument("--interval", default="1s")
    wanted = words.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("s3", "world"):
            (folder / part).mkdir()
        with running_ministack(folder / "s3") as server, running_world(server, folder / "world") as world:
            world.show(ONE, ONE)
            credentials = folder / "credentials"
            credentials.write_text("")
            named = {"AWS_SHARED_CREDENTIALS_FILE": str(credentials)}
            with running_daemon(world, interval=wanted.interval, **named) as daemon:
                samples = watch(daemon, world, credentials, wanted.passes)
                commits = len(world.git("log", "--format=%h", "main").split())
                status, seconds = daemon.stop()
                return judge(daemon.events(), samples, commits, status, seconds)


def watch(daemon: Daemon, world: World, credentials: Path, passes: int) -> list[Sample]:
    samples: list[Sample] = []
    while not samples or samples[-1].passes < WARM_UP + passes:
        time.sleep(5)
        done = len(daemon.events("pass.finished"))
        failing = done % FAILING_EVERY > FAILING_EVERY - 6
        for replica in world.replicas:
            replica.respond_with(close_without_answer) if failing else replica.serve()
        credentials.write_text(f"# rotated {done // ROTATED_EVERY} times\n")
        if done < WARM_UP:
            continue
        samples.append(Sample(done, daemon.footprint()))
        last = samples[-1].footprint
        print(f"{done:5} passes  {last.resident_bytes / 2**20:7.2f} MiB  {last.descriptors:3} descriptors", flush=True)
    return samples


def judge(events: list[dict[str, Any]], samples: list[Sample], commits: int, status: int, seconds: float) -> int:
    """Print the figures, and give 1 when one of them is wrong."""
    order = [each["event"] for each in events if each["event"] in ("pass.began", "pass.finished")]
    overlaps = sum(a == b for a, b in pairwise(order))
    # The first pass imports what it needs and makes the repository: it may be longer than a second.
    later = dropwhile(lambda each: each["event"] != "pass.finished", events)
    left_out = sum(each["event"] == "pass.still_running" for each in later)
    behind = sum(each["event"] == "schedule.behind" for each in events)
    failed = sum(each["event"] == "pass.finished" and each["exit_status"] == 1 for each in events)
    took = sorted(durations(events))
    first, last = samples[0].footprint, samples[-1].footprint
    # A look can fall into a pass, whose connections are open: the least of several is what stays.
    before, after = (min(each.footprint.descriptors for each in few) for few in (samples[:10], samples[-10:]))
    growth = last.resident_bytes - first.resident_bytes
    print(f"passes {order.count('pass.finished')}, of them failed on purpose {failed}")
    print(f"overlapping {overlaps}, left out {left_out}, behind {behind}, commits {commits}")
    rare = took[-len(took) // 100]
    print(f"a pass took {median(took):.2f} s, one in a hundred {rare:.2f} s or more, the longest {took[-1]:.2f} s")
    print(
        f"resident: {first.resident_bytes / 2**20:.2f} -> {last.resident_bytes / 2**20:.2f} MiB ({growth / 2**20:+.2f})"
    )
    print(f"descriptors: {before} -> {after}")
    print(f"SIGTERM: status {status} after {seconds:.2f} s")
    bad = overlaps or left_out or behind or commits != 1 or status or growth >= MOST_GROWTH_BYTES
    return int(bool(bad or after > before))


def durations(events: list[dict[str, Any]]) -> list[float]:
    """How many seconds each pass took, by the times of its first and its last event."""
    times: dict[str, list[datetime]] = {each["event"]: [] for each in events}
    for each in events:
        times[each["event"]].append(datetime.fromisoformat(each["timestamp"]))
    pairs = zip(times["pass.began"], times["pass.finished"], strict=False)  # the last may have been broken off
    return [(finished - began).total_seconds() for began, finished in pairs]


if __name__ == "__main__":
    sys.exit(main())
