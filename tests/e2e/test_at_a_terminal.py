"""What an operator sees at a terminal: every fact once."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.s3 import S3Server
from support.situations import JWKS_KEY
from support.terminals import Shown, at_terminal
from support.worlds import PROJECT, World, running_world

ONE = "01-rsa1/anonymous-bound-"

pytestmark = pytest.mark.s3


@pytest.fixture
def world(s3_server: S3Server, tmp_path: Path) -> Iterator[World]:
    with running_world(s3_server, tmp_path) as made:
        yield made


def shown(world: World, *words: str, typed: str = "") -> Shown:
    command = [sys.executable, "-m", "mirror", "--config", str(world.folder / "mirror.yaml"), *words]
    return at_terminal(command, world.environ(), PROJECT, typed=typed)


def test_report_alone_is_on_the_terminal(world: World) -> None:
    """The report says what the log would say: no line of the log comes before it, warnings of the pass included."""
    world.show(ONE, ONE)
    world.mirror("--once")
    world.overwrite(JWKS_KEY, b"{}")
    found = shown(world, "--once")
    assert found.status == 0
    assert "pass.finished" not in found.text
    assert found.text.count("bucket.drift") == 1
    assert len([line for line in found.text.splitlines() if "syd-prod: " in line]) == 1


def test_what_the_report_does_not_say_is_logged(world: World) -> None:
    """An unwise setting is no event of the pass."""
    world.show(ONE, ONE)
    world.issuer["keys"] = {"retain_removed": "1h"}
    world.mirror("--once")
    assert "configuration.unwise" in shown(world, "--once").text


@pytest.mark.parametrize("words", [("--log-level", "info"), ("--output", "json")], ids=["asked for", "JSON"])
def test_log_is_there_where_it_is_asked_for_or_reads_apart(world: World, words: tuple[str, ...]) -> None:
    """`--log-level info` logs the rest; with JSON nothing is printed twice."""
    world.show(ONE, ONE)
    world.mirror("--once")
    assert "pass.finished" in shown(world, "--once", *words).text


def test_log_is_whole_off_a_terminal(world: World) -> None:
    """Units and pipelines keep every event."""
    world.show(ONE, ONE)
    assert '"event": "pass.finished"' in world.mirror("--once").err


def test_debug_shows_every_call_and_no_secret(world: World) -> None:
    """Requests to apiservers and the public URL, git commands and S3 calls; neither token nor signature."""
    token = "ZXhhbXBsZQ.c2VjcmV0LXRva2Vu.c2lnbmF0dXJl"
    (world.folder / "token").write_text(token)
    world.issuer["auth"] = {"token_file": "token"}
    world.show(ONE, ONE)
    log = world.mirror("--once", "--log-level", "debug").err
    assert log.count('"url": "https://127.0.0.1:') >= 4
    for event in ("http.request", "git.ended", "aws.request", "aws.response"):
        assert f'"event": "{event}"' in log
    assert "s3.ListObjectsV2" in log
    assert "s3.PutObject" in log
    assert token not in log
    assert "Signature=" not in log
    assert "Authorization" not in log
