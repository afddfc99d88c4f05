"""Configuration files that change while the daemon runs."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mirror.config.load import load
from mirror.config.settings import Settings
from mirror.daemon.config_watcher import Configuration, aws_digest
from mirror.errors import UsageError
from mirror.log import configure
from support.pass_histories import url_of

LOGGER = configure("info", "json")
PUBLISH = {"bucket": "oidc-bucket", "region": "ap-southeast-2"}


def entry(name: str) -> dict[str, object]:
    return {"name": name, "issuer": url_of(name), "apiservers": ["https://10.0.0.11:6443"]}


def write(path: Path, *names: str, **changes: object) -> None:
    content = {"publish": PUBLISH, "state_dir": "state", "issuers": [entry(name) for name in names], **changes}
    path.write_text(json.dumps(content))


def opened(path: Path) -> Configuration:
    return Configuration(lambda: load(path), path, LOGGER)


def names(configuration: Configuration) -> list[str]:
    return [issuer.name for issuer in configuration.settings.issuers]


def reported(logs: list[Any], event: str) -> list[Mapping[str, Any]]:
    return [each for each in logs if each["event"] == event]


def test_unchanged_bytes_are_not_read_again(tmp_path: Path) -> None:
    """A new modification time alone is no change."""
    path = tmp_path / "mirror.yaml"
    write(path, "a")
    configuration = opened(path)
    before = configuration.settings
    os.utime(path, (1, 1))
    assert not configuration.refresh()
    assert configuration.settings is before


def test_changed_file_is_obeyed(tmp_path: Path) -> None:
    """The change applies from the next refresh on, and is loaded once."""
    path = tmp_path / "mirror.yaml"
    write(path, "a")
    configuration = opened(path)
    write(path, "a", "b")
    assert configuration.refresh()
    assert names(configuration) == ["a", "b"]
    assert not configuration.refresh()


@pytest.mark.parametrize("change", ["changed", "added", "removed"])
def test_folder_of_issuers_is_watched(tmp_path: Path, change: str) -> None:
    """A file of `issuers_dir` that changes, appears or disappears is noticed."""
    path, folder = tmp_path / "mirror.yaml", tmp_path / "d"
    folder.mkdir()
    write(path, "a", issuers_dir="d")
    (folder / "one.yaml").write_text(json.dumps([entry("b")]))
    configuration = opened(path)
    if change == "removed":
        (folder / "one.yaml").unlink()
    else:
        (folder / ("one.yaml" if change == "changed" else "two.yaml")).write_text(json.dumps([entry("c")]))
    assert configuration.refresh()
    assert names(configuration) == {"changed": ["a", "c"], "added": ["a", "b", "c"], "removed": ["a"]}[change]


def test_config_map_that_is_swapped_is_seen(tmp_path: Path) -> None:
    """Kubernetes renames a symbolic link to a folder. The file's own path and date may stay the same."""
    for number, name in enumerate(("a", "b")):
        (tmp_path / f"..{number}").mkdir()
        write(tmp_path / f"..{number}" / "mirror.yaml", name)
    data, path = tmp_path / "..data", tmp_path / "mirror.yaml"
    data.symlink_to("..0")
    path.symlink_to("..data/mirror.yaml")
    configuration = opened(path)
    (tmp_path / "..new").symlink_to("..1")
    (tmp_path / "..new").replace(data)
    assert configuration.refresh()
    assert names(configuration) == ["b"]


def test_broken_file_keeps_the_old_configuration_and_logs_every_mistake(tmp_path: Path) -> None:
    """Mistakes are logged once, not at every pass. The corrected file is loaded."""
    path = tmp_path / "mirror.yaml"
    write(path, "a")
    configuration = opened(path)
    write(path, "a", interval="soon", colour="red")
    with capture_logs() as logs:
        assert not configuration.refresh()
        assert not configuration.refresh()
    assert names(configuration) == ["a"]
    assert len(reported(logs, "configuration.refused")) == 1
    mistakes = [each["sentence"] for each in reported(logs, "configuration.mistake")]
    assert len(mistakes) == 2
    assert any("interval" in each for each in mistakes)
    assert any("colour" in each for each in mistakes)
    write(path, "b")
    assert configuration.refresh()
    assert names(configuration) == ["b"]


def test_mended_file_of_a_new_folder_is_seen(tmp_path: Path) -> None:
    """The watched folder is that of the newest text, even if the text has other mistakes."""
    path, folder = tmp_path / "mirror.yaml", tmp_path / "d"
    write(path, "a")
    configuration = opened(path)
    folder.mkdir()
    (folder / "one.yaml").write_text("{")
    write(path, "a", issuers_dir="d")
    assert not configuration.refresh()
    (folder / "one.yaml").write_text(json.dumps([entry("b")]))
    assert configuration.refresh()
    assert names(configuration) == ["a", "b"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"", b"issuers_dir: missing\n"])
def test_file_that_is_gone_or_garbage_keeps_the_old_one(tmp_path: Path, content: bytes | None) -> None:
    """A missing or broken file never ends a running daemon."""
    path = tmp_path / "mirror.yaml"
    write(path, "a")
    configuration = opened(path)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert not configuration.refresh()
    assert names(configuration) == ["a"]


def test_defect_while_reading_keeps_the_old_one(tmp_path: Path) -> None:
    """Even an error in our own code never ends a running daemon."""
    path = tmp_path / "mirror.yaml"
    write(path, "a")
    answers = [load(path)]
    configuration = Configuration(answers.pop, path, LOGGER)
    with capture_logs() as logs:
        assert not configuration.reload()
    assert names(configuration) == ["a"]
    assert "IndexError" in reported(logs, "configuration.refused")[0]["why"]


def test_state_directory_cannot_move(tmp_path: Path) -> None:
    """The lock is in the state directory."""
    path = tmp_path / "mirror.yaml"
    write(path, "a")
    configuration = opened(path)
    write(path, "b", state_dir="elsewhere")
    with capture_logs() as logs:
        assert not configuration.reload()
    assert names(configuration) == ["a"]
    assert reported(logs, "configuration.refused")[0]["why"] == "state_dir cannot change while the daemon runs."


def test_address_of_the_pages_needs_a_restart(tmp_path: Path) -> None:
    """All other changes apply, and one event reports the restart. Warnings are logged again."""
    path = tmp_path / "mirror.yaml"
    write(path, "a")
    configuration = opened(path)
    write(path, "b", http=False, defaults={"keys": {"retain_removed": "1h"}})
    with capture_logs() as logs:
        assert configuration.reload()
    assert names(configuration) == ["b"]
    assert len(reported(logs, "configuration.restart_needed")) == 1
    assert reported(logs, "configuration.unwise")


def test_nothing_to_begin_with_is_an_error(tmp_path: Path) -> None:
    """At the start there is no old configuration."""
    with pytest.raises(UsageError, match="cannot be read"):
        opened(tmp_path / "missing.yaml")


def test_rotated_credentials_are_noticed(tmp_path: Path) -> None:
    """The credentials file is the one that a variable names, or the usual one in the home directory."""
    (tmp_path / ".aws").mkdir()
    usual, named = tmp_path / ".aws" / "credentials", tmp_path / "named"
    plain = {"HOME": str(tmp_path)}
    environ = plain | {"AWS_SHARED_CREDENTIALS_FILE": str(named)}
    digests = [aws_digest(plain), aws_digest(environ)]
    usual.write_text("new")
    named.write_text("new")
    assert aws_digest(plain) != digests[0]
    assert aws_digest(environ) != digests[1]
    assert aws_digest({}) == aws_digest({})


def refusal(configuration: Configuration) -> str:
    return "" if configuration.refused is None else configuration.refused.sentence


def test_refusal_stays_until_the_file_is_good(tmp_path: Path) -> None:
    """The refusal and its mistakes are kept until the file on disk is valid again."""
    path = tmp_path / "mirror.yaml"
    write(path, "a")
    configuration = opened(path)
    assert not refusal(configuration)
    write(path, "a", interval="soon", max_failures=-1)
    assert not configuration.refresh()
    assert not configuration.refresh()
    for part in (str(path), "the one before goes on", "interval", "max_failures"):
        assert part in refusal(configuration)
    write(path, "a")
    assert configuration.refresh()
    assert not refusal(configuration)


def test_broken_file_at_start_gives_way_to_the_copy(tmp_path: Path) -> None:
    """The daemon logs this. A valid file later replaces the copy, and every valid file is copied."""
    path = tmp_path / "mirror.yaml"
    write(path, "a")
    kept: list[Settings] = []

    def keep(settings: Settings) -> str:
        kept.append(settings)
        return ""

    good = Configuration(lambda: load(path), path, LOGGER, keep=keep)
    assert kept == []  # the folder may not exist yet
    good.keep_copy()
    assert kept == [good.settings]
    path.write_text("issuers: [")
    with capture_logs() as logs:
        configuration = Configuration(lambda: load(path), path, LOGGER, last_good=lambda: kept[0], keep=keep)
    assert configuration.settings == good.settings
    assert configuration.is_last_good
    assert "the copy of the last good one is used" in reported(logs, "configuration.refused")[0]["sentence"]
    configuration.keep_copy()
    assert len(kept) == 1
    write(path, "a", "b")
    assert configuration.refresh()
    assert [configuration.is_last_good, configuration.refused, len(kept)] == [False, None, 2]


def test_broken_file_without_a_copy_is_the_end(tmp_path: Path) -> None:
    """The daemon has no configuration to start with."""
    path = tmp_path / "mirror.yaml"
    path.write_text("issuers: [")
    with pytest.raises(UsageError):
        Configuration(lambda: load(path), path, LOGGER, last_good=lambda: None)


def test_copy_that_cannot_be_kept_is_reported(tmp_path: Path) -> None:
    """The daemon continues. The next start would need a valid file."""
    path = tmp_path / "mirror.yaml"
    write(path, "a")
    with capture_logs() as logs:
        Configuration(lambda: load(path), path, LOGGER, keep=lambda _: "No room.").keep_copy()
    assert reported(logs, "configuration.not_kept")[0]["sentence"] == "No room."
