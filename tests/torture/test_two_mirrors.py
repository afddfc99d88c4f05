"""Two mirrors as real processes with one git remote and one S3 bucket converge, although they are killed at any moment.

The suite runs a few interleavings, `make torture ARGS="--only crowd"` a hundred. The number of an interleaving
determines everything except the machine's speed.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from mirror.model import IssuerUrl, Ledger
from mirror.trust.discovery import render
from mirror.trust.ledger import LedgerRead, read_ledger
from support.gits import bare, fsck_strict, git
from support.mirrors import Mirror, branch, commits_left_out
from support.s3 import S3Server
from support.situations import DISCOVERY_KEY, ISSUER, JWKS_KEY, LEDGER
from support.worlds import World, running_world
from torture.scale import scale, tally

pytestmark = pytest.mark.s3

CASES = (
    "01-rsa1/anonymous-bound-",
    "02-rsa1-ec2-overlap/",
    "03-ec2-signs-rsa1-kept/",
    "04-rsa1-ec2-rsa3/",
    "04b-rotated-away-rsa3-only/",
    "04d-all-algs/",
)
INTERLEAVINGS = 100 if scale().everything else 2
LONGEST_LIFE_SECONDS = 2.0
"""The longest time before a kill: about two passes, so that some passes end before it."""


@pytest.fixture
def pair(s3_server: S3Server, tmp_path: Path) -> Iterator[tuple[Mirror, Mirror]]:
    """Two mirrors of one cluster with one remote and one bucket."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    remote = bare(tmp_path / "remote.git")
    with running_world(s3_server, folders[0]) as first:
        second = World(folders[1], first.replicas, s3_server)
        for world in (first, second):
            world.config["repository"] = {"remote": str(remote)}
        yield Mirror(first), Mirror(second)


def disturbed_step(pair: tuple[Mirror, Mirror], chance: Random) -> None:
    """Change the replicas' keys, start one or both mirrors, and kill some of them."""
    pair[0].world.show(chance.choice(CASES), chance.choice(CASES))
    started = []
    for mirror in chance.sample(pair, chance.choice([1, 2, 2])):
        dies_after = chance.uniform(0, LONGEST_LIFE_SECONDS) if chance.random() < 0.6 else None
        started.append((time.monotonic(), dies_after, mirror, mirror.start()))
        time.sleep(chance.uniform(0, 0.3))
    for began, dies_after, _, running in sorted(started, key=lambda each: each[1] or LONGEST_LIFE_SECONDS):
        if dies_after is None:
            running.end()
        else:
            time.sleep(max(0.0, began + dies_after - time.monotonic()))
            running.kill()
    for _, _, mirror, running in started:
        mirror.note(running)


def ledger_of(mirror: Mirror) -> Ledger:
    found = read_ledger(git(mirror.repository, "cat-file", "blob", f"main:{LEDGER}").encode(), issuer=IssuerUrl(ISSUER))
    assert isinstance(found, LedgerRead)
    return found.ledger


def effects(report: dict[str, object]) -> set[str]:
    issuers = report["issuers"]
    assert isinstance(issuers, list)
    return {each["effect"] for issuer in issuers for each in issuer["objects"]}


@pytest.mark.parametrize("number", range(INTERLEAVINGS))
def test_killed_and_racing_mirrors_end_as_one(pair: tuple[Mirror, Mirror], tmp_path: Path, number: int) -> None:
    """Heads and ledgers are equal and match the bucket, repositories are intact, and no commit is missed."""
    one, two = pair
    remote = tmp_path / "remote.git"
    chance = Random(number)  # noqa: S311  a seed, not a secret
    pushed = set()
    for _ in range(chance.randint(2, 4)):
        disturbed_step(pair, chance)
        pushed |= {branch(remote)} - {""}
    one.world.show(CASES[0], CASES[1])
    for mirror in (one, two, one, two):
        mirror.run()
    reports = [mirror.run() for mirror in pair]
    assert [report["committed"] for report in reports] == [False, False]
    assert [effects(report) for report in reports] == [{"unchanged"}, {"unchanged"}], reports
    head = branch(remote)
    assert {branch(mirror.repository) for mirror in pair} == {head}
    for commit in pushed:
        git(remote, "merge-base", "--is-ancestor", commit, head)
    commits_left_out(one.repository, pair)
    ledger = ledger_of(one)
    assert ledger == ledger_of(two)
    rendered = render(ledger)
    assert rendered is not None
    assert one.world.public(JWKS_KEY).body == rendered.jwks
    assert one.world.public(DISCOVERY_KEY).body == rendered.discovery
    for repository in (remote, one.repository, two.repository):
        fsck_strict(repository)
    tally("crowd", "2 mirrors", interleavings=1, lost=0)
