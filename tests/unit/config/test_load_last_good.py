"""The copy of the last good configuration: it is restored completely, and other copies are rejected."""

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.config.load import DEFAULT_STATE_DIR, LAST_GOOD_FILE, LastGood, load
from mirror.config.settings import Settings
from support.users import OTHER_UID, SERVICE_UID, as_user, open_folder

EXAMPLE = Path(__file__).parents[3] / "config" / "mirror.example.yaml"


@pytest.fixture
def settings() -> Settings:
    return load(EXAMPLE)


@pytest.fixture
def copy(tmp_path: Path) -> LastGood:
    return LastGood.of(EXAMPLE, {"STATE_DIRECTORY": f"{tmp_path}:/another"})


def test_settings_come_back_whole(copy: LastGood, settings: Settings) -> None:
    """Every value of the example is restored without another read of the files."""
    assert copy.save(settings) == ""
    assert copy.load({}) == settings


def test_copy_is_private(copy: LastGood, settings: Settings) -> None:
    """The mode is 0600, and the copy is in the first folder that systemd names."""
    copy.save(settings)
    assert stat.S_IMODE(copy.path.stat().st_mode) == 0o600
    assert copy.path.name == LAST_GOOD_FILE


def test_issuers_that_were_left_out_are_kept(copy: LastGood, settings: Settings) -> None:
    """The copy of a shard keeps all issuers, so that it also works for another shard."""
    copy.save(settings.narrowed(lambda _: False))
    found = copy.load({})
    assert found is not None
    assert found.issuers == settings.issuers


def test_signing_key_of_the_environment_wins(copy: LastGood, settings: Settings) -> None:
    """systemd changes the credentials path at each start of a service."""
    copy.save(settings)
    found = copy.load({"OIDC_MIRROR_SIGNING_KEY": "/run/credentials/key"})
    assert found is not None
    assert found.repository.signing_key == Path("/run/credentials/key")


def test_copy_of_another_file_is_not_taken(copy: LastGood, settings: Settings, tmp_path: Path) -> None:
    """Two daemons on one machine may share the folder."""
    copy.save(settings)
    assert LastGood.of(tmp_path / "other.yaml", {"STATE_DIRECTORY": str(tmp_path)}).load({}) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"form": 2}', "null", "[" * 100_000], ids=repr)
def test_damaged_copy_is_none(copy: LastGood, text: str) -> None:
    """The daemon then exits with 2, as without a copy."""
    copy.path.write_text(text)
    assert copy.load({}) is None


def test_changed_copy_is_judged(copy: LastGood, settings: Settings) -> None:
    """A value of another type is rejected."""
    copy.save(settings)
    found = json.loads(copy.path.read_text())
    found["settings"]["issuers"] = 7
    copy.path.write_text(json.dumps(found))
    assert copy.load({}) is None


def test_missing_folder_keeps_nothing(settings: Settings, tmp_path: Path) -> None:
    """A daemon without systemd and without the default folder keeps no copy, and reports nothing."""
    copy = LastGood.of(EXAMPLE, {"STATE_DIRECTORY": str(tmp_path / "none")})
    assert copy.save(settings) == ""
    assert copy.load({}) is None


def test_unchanged_settings_are_not_written_again(copy: LastGood, settings: Settings) -> None:
    """A daemon that reloads an unchanged file writes nothing."""
    copy.save(settings)
    before = copy.path.stat().st_ino
    copy.save(replace(settings))
    assert copy.path.stat().st_ino == before


def test_folder_is_known_without_the_configuration() -> None:
    """Without a folder from systemd, the default `state_dir` is used."""
    assert LastGood.of(EXAMPLE, {}).path == DEFAULT_STATE_DIR / LAST_GOOD_FILE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_folder_of_another_user_is_left_alone(copy: LastGood, settings: Settings) -> None:
    """A daemon that root starts by hand leaves no file that the service cannot read."""
    os.chown(copy.path.parent, 65532, 65532)
    assert copy.save(settings) == ""
    assert not copy.path.exists()


def test_copy_that_cannot_be_written_says_why(copy: LastGood, settings: Settings) -> None:
    """The daemon continues and reports the error."""
    copy.path.mkdir()
    assert "could not be kept" in copy.save(settings)


def test_copy_lies_where_this_user_may_write(settings: Settings) -> None:
    """A volume may belong to root and a group. As root, no copy is written to another user's folder."""
    with open_folder() as folder:
        copy = LastGood.of(EXAMPLE, {"STATE_DIRECTORY": str(folder)})
        os.chown(folder, OTHER_UID, SERVICE_UID)
        folder.chmod(0o770)
        copy.save(settings)
        assert not copy.path.exists()
        with as_user(OTHER_UID + 1):
            assert (copy.save(settings), copy.load({})) == ("", None)
        with as_user(OTHER_UID + 1, gid=SERVICE_UID):
            assert (copy.save(settings), copy.load({})) == ("", settings)
