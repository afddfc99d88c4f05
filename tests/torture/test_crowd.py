"""Eight mirrors with one remote and one bucket converge while keys rotate and mirrors are killed.

The suite runs them for some seconds, `make torture ARGS="--only crowd --seconds 1800"` for half an hour.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mirror.model import Key
from mirror.trust.discovery import render
from support.gits import bare, fsck_strict
from support.keys import EC_KEYS, RSA_KEYS
from support.mirrors import Mirror, branch, commits_left_out, ledgers_of
from support.s3 import S3Server
from support.situations import DISCOVERY_KEY, JWKS_KEY, LEDGER
from support.worlds import World, running_world
from torture.scale import scale, tally
from torture.scenes import show

pytestmark = [pytest.mark.s3, pytest.mark.timeout(300 + scale().seconds)]

MIRRORS = 8
STEADY = RSA_KEYS[0]
"""The first replica always shows this key: once public, it stays public."""
ROTATING: tuple[Key, ...] = (*RSA_KEYS[1:4], *EC_KEYS[:4])
ROUNDS = 4
LONGEST_LIFE_SECONDS = 6.0
"""The longest time before a kill. Eight passes share the machine, so a kill can hit any part of a pass."""


@pytest.fixture
def crowd(s3_server: S3Server, tmp_path: Path) -> Iterator[tuple[Mirror, ...]]:
    folders = [tmp_path / str(number) for number in range(MIRRORS)]
    for folder in folders:
        folder.mkdir()
    remote = bare(tmp_path / "remote.git")
    with running_world(s3_server, folders[0]) as first:
        worlds = [first, *(World(folder, first.replicas, s3_server) for folder in folders[1:])]
        for world in worlds:
            world.config["repository"] = {"remote": str(remote)}
            world.config["limits"] = {"connect": "10s", "total": "20s", "source_deadline": "30s"}
            world.issuer["keys"] = {"retain_removed": "1s"}
        show(first, (STEADY,), (STEADY,))
        yield tuple(Mirror(world) for world in worlds)


def live(mirror: Mirror, until: float, chance: Random) -> tuple[int, int]:
    """Run passes, and kill some of them. Returns the numbers of passes and of kills."""
    passes = kills = 0
    while time.monotonic() < until:
        running, passes = mirror.start(), passes + 1
        if chance.random() < 0.5:
            time.sleep(chance.uniform(0, min(LONGEST_LIFE_SECONDS, scale().seconds)))
            if running.process.poll() is None:
                running.kill()
                kills += 1
        running.end()
        mirror.note(running)
    return passes, kills


def rotate(world: World, until: float, chance: Random) -> int:
    """Change the additional keys of both replicas at random. Returns the number of changes."""
    changes = 0
    while time.monotonic() < until:
        first, second = (tuple(chance.sample(ROTATING, chance.randrange(3))) for _ in range(2))
        show(world, (STEADY, *first), (STEADY, *second))
        changes += 1
        time.sleep(chance.uniform(0.5, 2.0))
    return changes


def look(world: World, until: float) -> int:
    """Read the JWKS anonymously: it always has the steady key. Returns the number of reads."""
    looks, was_public = 0, False
    while time.monotonic() < until:
        public = world.public(JWKS_KEY)
        if public.status == 200:
            kids = {key["kid"] for key in json.loads(public.body)["keys"]}
            assert STEADY.kid in kids
            assert kids <= {key.kid for key in (STEADY, *ROTATING)}
        assert public.status == 200 or not was_public
        was_public, looks = public.status == 200, looks + 1
        time.sleep(0.2)
    return looks


def settle(crowd: tuple[Mirror, ...], remote: Path) -> None:
    """Run rounds without kills until no mirror reports or changes anything. Missing keys retire and are dropped."""
    reported, heads = set[str](), set[str]()
    for _ in range(ROUNDS):
        before = branch(remote)
        reported = set[str]().union(*(_reported(mirror.run()) for mirror in crowd))
        heads = {branch(remote), *(branch(mirror.repository) for mirror in crowd)}
        if not reported and heads == {before}:
            return
    pytest.fail(f"After {ROUNDS} rounds mirrors still report changes: {sorted(reported)}, {sorted(heads)}")


def _reported(report: dict[str, Any]) -> set[str]:
    """The names of all events in the report."""
    return {event["event"] for each in (report, *report["issuers"]) for event in each["events"]}


def test_crowd_ends_as_one(crowd: tuple[Mirror, ...], tmp_path: Path) -> None:
    """Heads and ledgers are equal, the bucket matches, repositories are intact, no commit or public key was lost."""
    remote, world = tmp_path / "remote.git", crowd[0].world
    until = time.monotonic() + scale().seconds
    chances = [Random(f"{scale().seed}/{number}") for number in range(MIRRORS + 1)]  # noqa: S311  no secrets
    with ThreadPoolExecutor(MIRRORS + 2) as pool:
        runs = [pool.submit(live, each, until, chance) for each, chance in zip(crowd, chances, strict=False)]
        changes, looks = pool.submit(rotate, world, until, chances[-1]), pool.submit(look, world, until)
    counts = [each.result() for each in runs]
    show(world, (STEADY, *ROTATING[:2]), (STEADY, *ROTATING[:2]))
    settle(crowd, remote)
    commits = frozenset[str]().union(*(mirror.commits for mirror in crowd))
    left_out = commits_left_out(remote, crowd)
    ledger = ledgers_of(remote, "main")[LEDGER]
    rendered = render(ledger)
    assert rendered is not None
    assert (world.public(JWKS_KEY).body, world.public(DISCOVERY_KEY).body) == (rendered.jwks, rendered.discovery)
    for repository in (remote, *(mirror.repository for mirror in crowd)):
        fsck_strict(repository)
    passes, kills = (sum(each) for each in zip(*counts, strict=True))
    assert min(passes, changes.result(), looks.result()) > 0  # on a fast machine every pass may end before its kill
    tally(
        "crowd",
        f"{MIRRORS} mirrors, {int(scale().seconds)} s",
        passes=passes,
        kills=kills,
        changes=changes.result(),
        looks=looks.result(),
        commits=len(commits),
        left_out=left_out,
        lost=0,
    )
