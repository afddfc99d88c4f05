"""The main job as users run it: `oidc-mirror --once`, real TLS, real git, a real S3 server, a process of its own."""

import json
import subprocess
import sys

import pytest

from support.captures import capture
from support.situations import DISCOVERY_KEY, ISSUER, JWKS_KEY, LEDGER, PUBLIC
from support.worlds import World

ONE = "01-rsa1/anonymous-bound-"
BOTH = "02-rsa1-ec2-overlap/"
LAST = "04b-rotated-away-rsa3-only/"

pytestmark = pytest.mark.s3


def test_captured_cluster_is_mirrored_byte_for_byte(world: World) -> None:
    """Case 01: the two public objects and the two files in git equal the apiserver's bodies, with the right types."""
    world.show(ONE, ONE)
    done = world.mirror("--once")
    assert (done.status, done.err.count("Traceback")) == (0, 0)
    discovery, jwks = capture(f"{ONE}discovery").body(), capture(f"{ONE}jwks").body()
    seen = world.public(DISCOVERY_KEY), world.public(JWKS_KEY)
    assert [each.body for each in seen] == [discovery, jwks]
    assert [each.headers["content-type"] for each in seen] == ["application/json", "application/jwk-set+json"]
    assert {each.headers["cache-control"] for each in seen} == {"public, max-age=300"}
    assert {each.headers["x-amz-meta-snapshot"] for each in seen} == {world.git("rev-parse", "main").strip()}
    assert world.committed(f"{PUBLIC}/.well-known/openid-configuration") == discovery
    assert world.committed(f"{PUBLIC}/openid/v1/jwks") == jwks


def test_second_pass_makes_no_commit_and_no_put(world: World) -> None:
    """The branch and the objects' versions stay what they were."""
    world.show(ONE, ONE)
    world.mirror("--once")
    before = world.state()
    done = world.mirror("--once", "--output", "json")
    assert done.status == 0
    assert world.state() == before
    assert done.report()["committed"] is False
    assert {o["effect"] for o in done.report()["issuers"][0]["objects"]} == {"unchanged"}


def test_dry_run_writes_nothing_anywhere(world: World) -> None:
    """Neither a state directory nor an object comes into being; the plan says what would be done."""
    world.show(ONE, ONE)
    done = world.mirror("--dry-run")
    assert done.status == 0
    assert not (world.folder / "state").exists()
    assert world.public(JWKS_KEY).status == 404
    assert "Would commit: syd-prod: publish key" in done.out


def test_dry_run_on_a_history_moves_no_ref(world: World) -> None:
    """With a history in place the plan is made on a copy: no ref, no file, no object changes."""
    world.show(ONE, ONE)
    world.mirror("--once")
    files = {path: path.read_bytes() for path in (world.folder / "state").rglob("*") if path.is_file()}
    before = world.state()
    world.show(BOTH, ONE)
    done = world.mirror("--dry-run", "--output", "json")
    assert done.status == 0
    assert [change["status"] for change in done.report()["issuers"][0]["changes"]] == ["published"]
    assert world.state() == before
    assert {path: path.read_bytes() for path in (world.folder / "state").rglob("*") if path.is_file()} == files


def test_rotation_on_one_replica_is_public_at_once(world: World) -> None:
    """Case 02 on one replica, 01 on the other: both keys are public, JWKS and discovery agree."""
    world.show(ONE, ONE)
    world.mirror("--once")
    world.show(BOTH, ONE)
    assert world.mirror("--once").status == 0
    assert world.public(DISCOVERY_KEY).body == capture(f"{BOTH}discovery").body()
    kids = [key["kid"] for key in json.loads(world.public(JWKS_KEY).body)["keys"]]
    assert sorted(kids) == sorted(key["kid"] for key in json.loads(capture(f"{BOTH}jwks").body())["keys"])


def test_commit_names_its_changes_for_machines(world: World) -> None:
    """The trailers are git's own: `git interpret-trailers` finds the issuer and the key."""
    world.show(ONE, ONE)
    world.mirror("--once")
    trailers = world.git("log", "-1", "--format=%(trailers)", "main").split("\n")
    key = json.loads(world.committed(LEDGER))["keys"][0]
    assert trailers[:2] == [f"Issuer: {ISSUER}", f"Key-Published: {key['kid']} {key['thumbprint']}"]


def test_history_passes_fsck(world: World) -> None:
    """After several passes git itself finds nothing wrong."""
    for case in (ONE, BOTH, LAST):
        world.show(case, case)
        assert world.mirror("--once").status == 0
    world.git("fsck", "--strict")
    assert len(world.git("log", "--format=%h", "main").split()) == 3


def test_remote_gets_every_commit(world: World) -> None:
    """With a remote the branch is pushed in the same pass, from an empty state directory too."""
    remote = world.folder / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(remote)], check=True, env=world.environ())
    world.config["repository"] = {"remote": str(remote)}
    world.show(ONE, ONE)
    assert world.mirror("--once").status == 0
    world.config["state_dir"] = "other-state"
    world.show(BOTH, BOTH)
    assert world.mirror("--once").status == 0
    log = subprocess.run(
        ["git", "--git-dir", str(remote), "log", "--format=%s", "main"],
        check=True,
        capture_output=True,
        text=True,
        env=world.environ(),
    ).stdout.splitlines()
    assert len(log) == 2
    assert all(subject.startswith("syd-prod: publish key") for subject in log)


def test_documents_of_another_writer_are_held(world: World) -> None:
    """They have a key that our put would take away: exit 3, the advice to adopt, and nothing is touched."""
    theirs = capture(f"{BOTH}jwks").body()
    world.overwrite(JWKS_KEY, theirs)
    world.show(ONE, ONE)
    done = world.mirror("--once")
    assert done.status == 3
    assert "adopt syd-prod" in done.out
    assert world.public(JWKS_KEY).body == theirs


def test_documents_of_another_writer_that_lose_nothing_are_replaced(world: World) -> None:
    """What only adds keys is put: exit 0."""
    world.overwrite(JWKS_KEY, b'{"keys":[]}')
    world.show(ONE, ONE)
    assert world.mirror("--once").status == 0
    assert world.public(JWKS_KEY).body == capture(f"{ONE}jwks").body()


def test_drift_is_repaired(world: World) -> None:
    """A foreign body is reported as an error event and replaced in the same pass."""
    world.show(ONE, ONE)
    world.mirror("--once")
    world.overwrite(JWKS_KEY, b'{"keys":[]}')
    done = world.mirror("--once", "--log-format", "json")
    assert done.status == 0
    assert "bucket.drift" in {json.loads(line)["event"] for line in done.err.splitlines()}
    assert world.public(JWKS_KEY).body == capture(f"{ONE}jwks").body()


def test_second_run_on_one_state_directory_is_refused(world: World) -> None:
    """A second process on the same state directory ends with 75 and a sentence."""
    world.show(ONE, ONE)
    (world.folder / "state").mkdir()
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print('held', flush=True); input()"
    command = [sys.executable, "-c", hold, str(world.folder / "state" / "lock")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        done = world.mirror("--once")
        asked = world.mirror("--once", "--now")  # the holder does not catch SIGUSR1, and must not be ended by it
        assert holder.poll() is None
        holder.communicate("\n")
    assert (done.status, asked.status) == (75, 75)
    assert "nother oidc-mirror" in done.err
