"""Homes, locales, masks and folders as containers and old machines have them: none of them is a defect."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.s3 import S3Server
from support.worlds import World, running_world

pytestmark = pytest.mark.s3

ONE = "01-rsa1/anonymous-bound-"


@pytest.fixture
def world(s3_server: S3Server, tmp_path: Path) -> Iterator[World]:
    with running_world(s3_server, tmp_path) as made:
        made.show(ONE, ONE)
        yield made


def test_state_directory_of_any_name_works_in_an_ascii_locale(world: World) -> None:
    """Names of folders are UTF-8, whatever the locale says."""
    world.config["state_dir"] = "stätt-状態"
    world.further_environ = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = world.mirror("--once")
    assert done.status == 0, done.err
    assert (world.folder / "stätt-状態" / "snapshots.git").exists()
    assert "defect" not in world.mirror("status").err


def test_open_umask_makes_nothing_writable_for_all(world: World) -> None:
    """The repository is a trust anchor: nobody else may write it, whatever the mask was."""
    before = os.umask(0)
    try:
        assert world.mirror("--once").status == 0
    finally:
        os.umask(before)
    state = world.folder / "state"
    assert [each for each in (state, *state.rglob("*")) if each.lstat().st_mode & 0o002 and not each.is_symlink()] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can close a folder to itself by giving up its rights")
def test_home_that_may_not_be_entered_costs_nothing(world: World) -> None:
    """As with uid 65532 and `HOME=/root`: the credentials of the environment are enough, as they are for boto3."""
    home = world.folder / "home"
    home.mkdir(mode=0o700)
    (home / "within").mkdir()
    world.further_environ = {"HOME": str(home / "within")}
    home.chmod(0o000)
    # Root enters every folder; without this capability it is like any user.
    done = world.mirror(
        "--once", prefix=("setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search")
    )
    home.chmod(0o700)
    assert done.status == 0, done.out + done.err
