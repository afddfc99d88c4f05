"""`status`, `history` and `wait` as users run them, against real TLS, S3 and git. Looking changes nothing."""

import json
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest

from mirror.model import Key, KeyPolicy
from mirror.trust.jwks import KeySet, read_jwks
from support.gits import bare
from support.situations import BASE_URL, DISCOVERY_KEY, JWKS_KEY
from support.terminals import at_terminal
from support.worlds import World

ONE = "01-rsa1/anonymous-bound-"
BOTH = "02-rsa1-ec2-overlap/"
REFERENCE = Path(__file__).parents[2] / "docs/reference"

pytestmark = pytest.mark.s3


def keys(world: World) -> tuple[Key, ...]:
    found = read_jwks(world.public(JWKS_KEY).body, policy=KeyPolicy())
    assert isinstance(found, KeySet)
    return found.keys


def rotate(world: World) -> None:
    for case in (ONE, BOTH):
        world.show(case, case)
        assert world.mirror("--once").status == 0


def validate(document: object, schema: str) -> None:
    jsonschema.Draft202012Validator(json.loads((REFERENCE / schema).read_text())).validate(document)


def test_rotation_is_shown_in_every_format(world: World) -> None:
    """Text, JSON and page name both full kids, the commits and the rotation; nothing changes by looking."""
    rotate(world)
    before = world.state()
    kids = {key.kid for key in keys(world)}
    text, page = world.mirror("history"), world.mirror("history", "syd-prod", "--output", "html")
    document = world.mirror("history", "--output", "json")
    assert (text.status, page.status, document.status) == (0, 0, 0)
    validate(document.report(), "history.schema.json")
    (issuer,) = document.report()["issuers"]
    assert {key["kid"] for key in issuer["keys"]} == kids
    assert {key["status"] for key in issuer["keys"]} == {"published"}
    commits = world.git("log", "--reverse", "--format=%H", "main").split()
    assert [each["commit"] for each in issuer["rotations"]] == [commits[-1]]
    assert {key["steps"][0]["commit"] for key in issuer["keys"]} == set(commits)
    assert all(kid in text.out and kid in page.out for kid in kids)
    HTMLParser().feed(page.out)
    assert page.out.startswith("<!doctype html>")
    assert world.state() == before


def test_history_from_a_laptop_needs_only_the_remote(world: World, tmp_path: Path) -> None:
    """Without a repository of its own the command clones to a temporary folder, and leaves none behind."""
    remote = bare(tmp_path / "remote.git")
    world.config["repository"] = {"remote": str(remote)}
    rotate(world)
    reported = world.mirror("history", "--output", "json").out
    shutil.rmtree(world.folder / "state")
    assert world.mirror("history", "--output", "json").out == reported
    assert world.mirror("status").status == 0
    assert not (world.folder / "state").exists()


def test_history_before_the_first_pass_says_so(world: World) -> None:
    """Exit 1 with the command to begin; nothing is created."""
    done = world.mirror("history")
    assert (done.status, done.out) == (1, "")
    assert "oidc-mirror --once" in done.err
    assert not (world.folder / "state").exists()


def test_history_of_an_empty_remote_says_so(world: World, tmp_path: Path) -> None:
    """A remote without the branch is no history either."""
    world.config["repository"] = {"remote": str(bare(tmp_path / "remote.git"))}
    done = world.mirror("history")
    assert done.status == 1
    assert "none in the git remote" in done.err


@pytest.mark.parametrize("words", [("history", "nobody"), ("status", "nobody"), ("wait", "nobody", "x")])
def test_unknown_name_is_a_usage_error(world: World, words: tuple[str, ...]) -> None:
    """Exit 2, and the configured names are listed."""
    done = world.mirror(*words)
    assert done.status == 2
    assert "Configured are: syd-prod." in done.err


def test_status_shows_what_is_public_and_changes_nothing(world: World) -> None:
    """Keys with the moment they are safe, both objects current, exit 0; as JSON it obeys its schema."""
    rotate(world)
    before = world.state()
    done = world.mirror("status", "--output", "json")
    assert (done.status, done.err) == (0, "")
    validate(done.report(), "status.schema.json")
    (issuer,) = done.report()["issuers"]
    assert {key["in_public_jwks"] for key in issuer["keys"]} == {True}
    assert all(key["safe_to_sign_at"] for key in issuer["keys"])
    assert [each["state"] for each in issuer["objects"]] == ["current", "current"]
    assert done.report()["last_commit"]["commit"] == world.git("rev-parse", "main").strip()
    assert world.state() == before


def test_status_of_drift_and_abandonment(world: World) -> None:
    """An overwritten object is drift; after the issuer moved, its old documents are listed with their command."""
    rotate(world)
    world.overwrite(JWKS_KEY, b"evil")
    assert "the next pass repairs drift in 1 object" in world.mirror("status").out
    world.issuer["issuer"] = f"{BASE_URL}/moved"
    assert "2 public objects of no configured issuer" in world.mirror("status").out
    done = world.mirror("status", "--verbose")
    assert done.status == 1
    for key in (JWKS_KEY, DISCOVERY_KEY):
        assert f"aws s3 rm s3://oidc-bucket/{key} --region" in done.out


def test_status_with_held_key_exits_3(world: World) -> None:
    """A new key under `new_keys: hold` waits, and the command to approve it is printed."""
    rotate(world)
    world.issuer["keys"] = {"new_keys": "hold"}
    world.show("04d-all-algs/", "04d-all-algs/")
    assert world.mirror("--once").status == 3
    assert "  approve or revoke " in world.mirror("status").out
    done = world.mirror("status", "syd-prod")
    assert done.status == 3
    assert "oidc-mirror approve syd-prod" in done.out


def test_status_without_the_bucket_exits_1(world: World) -> None:
    """An unreadable part is a failure with its remedy; the keys are still printed from git."""
    rotate(world)
    world.config["publish"]["bucket"] = "no-such-bucket"
    assert "NoSuchBucket" in world.mirror("status").out
    done = world.mirror("status", "syd-prod")
    assert done.status == 1
    assert "NoSuchBucket" in done.out
    assert "thumbprint" in done.out


def test_watch_draws_until_ctrl_c(world: World) -> None:
    """The screen has the issuer and the summary; after Ctrl-C the last drawing stays, cut to the terminal."""
    rotate(world)
    command = [sys.executable, "-m", "mirror", "--config", str(world.folder / "mirror.yaml"), "status", "--watch"]
    environ = world.environ() | {"TERM": "xterm"}
    done = at_terminal(command, environ, world.folder, columns=60, interrupt_at="1 issuer: 1 changed.")
    assert done.status == 0
    assert "every 5 s; Ctrl-C" in done.text
    left = done.text.rpartition("\x1b[?1049l")[2].splitlines()
    (line,) = (line for line in left if line.startswith("changed  syd-prod  2 published  key "))
    assert len(line) <= 60
    assert left[-1].startswith("1 issuer: 1 changed.")
    assert "Interrupted" not in done.text


@pytest.mark.parametrize(
    ("words", "why"),
    [((), "needs a terminal"), (("--output", "json"), "does not go with `--output json`")],
    ids=["no-terminal", "json"],
)
def test_watch_says_where_it_does_not_work(world: World, words: tuple[str, ...], why: str) -> None:
    """A usage error with what to run instead, before anything is asked."""
    done = world.mirror("status", "--watch", *words)
    assert (done.status, done.out) == (2, "")
    assert why in done.err
    assert "oidc-mirror status --output json" in done.err


def test_watch_on_a_dumb_terminal_is_refused(world: World) -> None:
    """It could draw nothing there, and would never end."""
    rotate(world)
    command = [sys.executable, "-m", "mirror", "--config", str(world.folder / "mirror.yaml"), "status", "--watch"]
    done = at_terminal(command, world.environ() | {"TERM": "dumb"}, world.folder)
    assert done.status == 2
    assert "needs a terminal that can draw" in done.text


def test_wait_times_out_while_caches_may_lack_the_key(world: World) -> None:
    """A key that was just published is not safe: exit 1 within the timeout, and the missing condition is printed."""
    rotate(world)
    key = keys(world)[0]
    done = world.mirror("wait", "syd-prod", "--timeout", "1s", "--", key.thumbprint)
    assert done.status == 1
    assert key.kid in done.out
    assert "caches have turned over at" in done.out


def test_wait_without_history_uses_the_public_jwks(world: World) -> None:
    """From a laptop without repository; an unknown key is waited for in vain, a bad duration is a usage error."""
    rotate(world)
    shutil.rmtree(world.folder / "state")
    done = world.mirror("wait", "syd-prod", "nosuchkey", "--timeout", "1s")
    assert done.status == 1
    assert "does not contain the key yet" in done.out
    assert world.mirror("wait", "syd-prod", "nosuchkey", "--timeout", "1").status == 2


def test_wait_without_readback_is_a_usage_error(world: World) -> None:
    """Where the public URL may not be looked at, nothing can be waited for."""
    world.config["publish"]["readback"] = {"enabled": False}
    assert world.mirror("wait", "syd-prod", "nosuchkey").status == 2
