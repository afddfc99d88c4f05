"""Full and read-only disks, power cuts, clock steps, and certificates that expire between passes."""

import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.config.settings import TlsSettings
from mirror.report import ExitStatus
from support.apiserver import Apiserver
from support.askers import ask_one, codes, issuer
from support.gits import fsck_strict, git
from support.mirrors import branch
from support.situations import BOTH, LAST, ONE, Situation, answer
from support.tls import ca_file, server_context
from torture.damages import DAMAGES
from torture.on_disk import HOUR, OnDisk, fill, small_disk
from torture.scale import tally

DAY = timedelta(days=1)


# ---------------------------------------------------------------------------------------------- after a power cut


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_repository_heals_or_has_a_remedy_that_works(world: OnDisk, damage: str) -> None:
    """The pass succeeds, or it names a remedy and publishes nothing. The remedy, a new clone, loses no commit."""
    before, published = branch(world.tmp / "remote.git"), dict(world.situation.world.bucket.objects)
    DAMAGES[damage](world.repository)
    report = world.run(BOTH)
    if report.exit_status is not ExitStatus.CURRENT:
        reasons = [*report.failures, *(reason for each in report.issuers for reason in each.failures)]
        assert reasons
        assert all(reason.sentence and reason.remedy for reason in reasons)
        assert dict(world.situation.world.bucket.objects) == published
        shutil.move(world.repository, world.tmp / "damaged.git")
        assert world.run(BOTH).exit_status is ExitStatus.CURRENT
    git(world.tmp / "remote.git", "merge-base", "--is-ancestor", before, "main")
    assert branch(world.repository) == branch(world.tmp / "remote.git") != before
    for repository in (world.repository, world.tmp / "remote.git"):
        fsck_strict(repository)
    tally("disk", "a power cut damaged the repository", damages=1, lost=0)


@pytest.mark.parametrize(
    "name",
    ["refs/heads/main.lock", "packed-refs.lock", "config.lock", "HEAD.lock", "objects/maintenance.lock", "gc.pid"],
)
def test_lock_that_a_power_cut_left_is_removed(world: OnDisk, name: str) -> None:
    """The next pass removes the lock file and commits."""
    (world.repository / name).touch()
    assert world.run(BOTH).exit_status is ExitStatus.CURRENT
    assert not (world.repository / name).exists()
    tally("disk", "a lock was left", locks=1)


# ---------------------------------------------------------------------------------------- a full or read-only disk


def test_full_disk_fails_the_pass_and_heals_with_room(tmp_path: Path) -> None:
    """On a full disk nothing is published that is not in git, and the error names the disk. With space, all is well."""
    (tmp_path / "state").mkdir()
    with small_disk(tmp_path / "state"):
        world = OnDisk(tmp_path)
        world.run(ONE)
        published = dict(world.situation.world.bucket.objects)
        ballast = fill(tmp_path / "state")
        report = world.run(BOTH)
        assert report.exit_status is ExitStatus.FAILED
        assert dict(world.situation.world.bucket.objects) == published
        ballast.unlink()
        assert world.run(BOTH).exit_status is ExitStatus.CURRENT
        assert dict(world.situation.world.bucket.objects) != published
        fsck_strict(world.repository)
    tally("disk", "the disk was full", disks=1)


def test_read_only_state_directory_fails_the_pass_with_a_remedy(tmp_path: Path) -> None:
    """A new key that cannot be committed is not published, and the failure has a remedy."""
    (tmp_path / "state").mkdir()
    with small_disk(tmp_path / "state"):
        world = OnDisk(tmp_path)
        world.run(ONE)
        published = dict(world.situation.world.bucket.objects)
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "state")], check=True)
        report = world.run(BOTH)
        assert report.exit_status is ExitStatus.FAILED
        reasons = [*report.failures, *(reason for each in report.issuers for reason in each.failures)]
        assert reasons
        assert all(reason.remedy for reason in reasons)
        assert dict(world.situation.world.bucket.objects) == published
        subprocess.run(["mount", "-o", "remount,rw", str(tmp_path / "state")], check=True)
        assert world.run(BOTH).exit_status is ExitStatus.CURRENT
    tally("disk", "the state directory was read-only", disks=1)


# -------------------------------------------------------------------------------------------- clocks, certificates


def test_clock_that_steps_by_a_day_removes_no_key(tmp_path: Path) -> None:
    """The apiservers' dates show that the clock is wrong, so a clock step removes no key."""
    situation = Situation(tmp_path, apiservers=("https://10.0.0.11:6443",))
    true_time = situation.now

    def show(case: str) -> None:
        situation.show(replace(answer(case), date=true_time))

    show(BOTH)
    situation.run()
    both = situation.public()
    show(LAST)
    situation.run()  # the new key is published, and the two others begin to retire
    for step in (DAY, -DAY, 2 * DAY, -2 * DAY, DAY, -DAY):
        true_time += HOUR
        show(LAST)
        situation.now = true_time + step
        situation.run()
        public = situation.public()
        assert public is not None
        assert public.count(b'"kid"') == 3
    assert both is not None
    true_time += DAY
    show(LAST)
    situation.now = true_time
    situation.run()
    left = situation.public()
    assert left is not None
    assert left.count(b'"kid"') == 1
    tally("disk", "the clock stepped by a day", steps=6)


def test_certificate_that_expires_between_passes_is_reported_and_its_successor_trusted(tmp_path: Path) -> None:
    """One poller over three passes: the certificate is valid, then expired, then renewed."""
    good, expired = server_context("127.0.0.1"), server_context("127.0.0.1", valid_for=-HOUR)
    with Apiserver(good) as server:
        asked = issuer(server.url, tls=TlsSettings(ca_file=ca_file(tmp_path)))
        found = []
        for context in (good, expired, good):
            server.context = context
            found += codes(ask_one(asked))
    assert found == [(), ("tls_expired",), ()]
    tally("disk", "a certificate ended between passes", passes=3)
