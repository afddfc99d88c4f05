"""Operator decisions as operators make them: real commands, real git, a real S3 server, real apiservers."""

import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from support.apiserver import slowly
from support.captures import capture
from support.gits import bare, git, log
from support.situations import DISCOVERY_KEY, ISSUER, JWKS_KEY, LEDGER
from support.terminals import Shown, at_terminal
from support.worlds import PROJECT, Done, World, run

ONE = "01-rsa1/anonymous-bound-"
BOTH = "02-rsa1-ec2-overlap/"
LAST = "04b-rotated-away-rsa3-only/"
EMPTY = b'{"keys":[]}'

pytestmark = pytest.mark.s3


@pytest.fixture
def remote(world: World) -> Path:
    path = bare(world.folder / "remote.git")
    world.config["repository"] = {"remote": str(path)}
    return path


def kids(body: bytes) -> set[str]:
    return {key["kid"] for key in json.loads(body)["keys"]}


def keys_of(case: str) -> list[dict[str, str]]:
    found = json.loads(capture(f"{case}jwks").body())["keys"]
    assert isinstance(found, list)
    return found


def statuses(world: World) -> dict[str, str]:
    """The status of each key on the branch, by thumbprint."""
    return {record["thumbprint"]: record["status"] for record in json.loads(world.committed(LEDGER))["keys"]}


def show_now(world: World, case: str) -> None:
    """A capture without its `Date`, which is long ago: nothing begins to retire when clocks differ."""
    for replica in world.replicas:
        discovery, jwks = (capture(f"{case}{name}").raw for name in ("discovery", "jwks"))
        replica.serve(discovery=_DATE.sub(b"", discovery), jwks=_DATE.sub(b"", jwks))


_DATE = re.compile(rb"\r\nDate: [^\r]*", re.IGNORECASE)


def first_pass(world: World, case: str = ONE) -> None:
    world.show(case, case)
    done = world.mirror("--once")
    assert done.status == 0, done.err


def held_key(world: World) -> str:
    """The thumbprint of a key that is held, while another is public."""
    first_pass(world)
    world.issuer["keys"] = {"new_keys": "hold"}
    world.show(BOTH, BOTH)
    assert world.mirror("--once").status == 3
    (held,) = (thumbprint for thumbprint, status in statuses(world).items() if status == "held")
    return held


def beside(world: World, folder: Path, *words: str) -> Done:
    """A command with the test's configuration, while another one may run."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "mirror", "--config", str(world.folder / "mirror.yaml"), *words]
    return run(command, world.environ(), folder)


def on_laptop(world: World, *words: str) -> Done:
    """A command on a machine that has the configuration alone, and the operator's git identity."""
    folder = world.folder / "laptop"
    folder.mkdir(exist_ok=True)
    (folder / "cluster-ca.crt").write_bytes((world.folder / "cluster-ca.crt").read_bytes())
    (folder / "mirror.yaml").write_text(json.dumps(world.config))
    (folder / "gitconfig").write_text("[user]\n\tname = Ada Operator\n\temail = ada@example.com\n")
    environ = world.environ() | {"GIT_CONFIG_GLOBAL": str(folder / "gitconfig")}
    return run([sys.executable, "-m", "mirror", "--config", str(folder / "mirror.yaml"), *words], environ, folder)


# ------------------------------------------------------------------------------------------------- approve


def test_approved_key_is_public_when_the_command_ends(world: World) -> None:
    """The held key is in the bucket, the commit names it, and a second approval finds nothing to do."""
    thumbprint = held_key(world)
    assert kids(world.public(JWKS_KEY).body) == {keys_of(ONE)[0]["kid"]}
    done = world.mirror("approve", "syd-prod", thumbprint[:8])
    assert (done.status, done.err.count("Traceback")) == (0, 0), done.err
    assert kids(world.public(JWKS_KEY).body) == {key["kid"] for key in keys_of(BOTH)}
    assert world.public(DISCOVERY_KEY).body == capture(f"{BOTH}discovery").body()
    subject, _, body = world.git("log", "-1", "--format=%B", "main").partition("\n")
    assert subject.startswith("syd-prod: publish key ")
    assert f"{thumbprint}\n" in body
    assert "was approved by an operator" in body
    public = next(each for each in statuses(world) if each != thumbprint)
    assert world.mirror("revoke", "syd-prod", "--reason", "x", "--no-pass", "--", public).status == 0
    refused = world.mirror("approve", "syd-prod", "--", public)
    assert (refused.status, "never comes back" in refused.err) == (2, True)
    head = world.git("rev-parse", "main")
    again = world.mirror("approve", "syd-prod", "--no-pass", "--", thumbprint)
    assert (again.status, world.git("rev-parse", "main")) == (0, head)
    assert "Recorded already" in again.out


def test_approval_without_a_pass_is_carried_out_by_the_next_one(world: World) -> None:
    """`--no-pass` commits and touches no object."""
    thumbprint = held_key(world)
    public = world.public(JWKS_KEY).body
    assert world.mirror("approve", "syd-prod", thumbprint, "--no-pass").status == 0
    assert world.public(JWKS_KEY).body == public
    assert statuses(world)[thumbprint] == "published"
    assert world.mirror("--once").status == 0
    assert len(kids(world.public(JWKS_KEY).body)) == 2


def test_approval_during_a_running_pass_is_not_lost(world: World) -> None:
    """A pass read git before the approval and commits after it: the branch moved, and both are in it."""
    thumbprint = held_key(world)
    world.config["limits"] = {"connect": "2s", "total": "9s", "source_deadline": "20s"}
    world.show(LAST, LAST)
    for replica in world.replicas:
        replica.once(slowly(4), slowly(0))
    seen = [replica.connections for replica in world.replicas]
    passes: list[Done] = []
    running = threading.Thread(target=lambda: passes.append(world.mirror("--once")))
    running.start()
    while [replica.connections for replica in world.replicas] == seen:
        time.sleep(0.02)
    approved = beside(world, world.folder / "laptop", "approve", "syd-prod", thumbprint, "--no-pass")
    running.join()
    assert (approved.status, passes[0].status) == (0, 3), (approved.err, passes[0].err)
    assert "published" in statuses(world).values()
    assert statuses(world)[thumbprint] in ("published", "retiring")
    messages = world.git("log", "-2", "--format=%B%x00", "main").split("\0")
    assert "was approved by an operator" in messages[1]
    assert thumbprint in messages[1]


def test_key_of_a_wrong_name_is_a_usage_error(world: World) -> None:
    """Unknown issuers and keys end with 2, say what is known, and change nothing."""
    first_pass(world)
    before = world.state()
    for words, reported in [
        (("approve", "syd-test", "12345678"), "Configured are: syd-prod."),
        (("approve", "syd-prod", "12345678"), "Known are: "),
        (("approve", "syd-prod", "1234567"), "its first 8 characters"),
        (("revoke", "syd-prod", "12345678", "--reason", "stolen"), "keys.revoked"),
        (("revoke", "syd-prod", "--reason", "stolen"), "--all"),
        (("revoke", "syd-prod", "12345678", "--all", "--reason", "stolen"), "--all"),
        (("revoke", "syd-prod", "12345678"), "--reason"),
        (("revoke", "syd-prod", "--all", "--last", "--yes", "--reason", "\x1b[2J"), "printable"),
        (("revoke", "syd-test", "--all", "--reason", "stolen"), "Configured are"),
        (("adopt",), "--all"),
        (("adopt", "syd-prod"), "knows syd-prod already"),
    ]:
        done = world.mirror(*words)
        assert (done.status, reported in done.err) == (2, True), (words, done.err)
    assert world.state() == before


def test_issuer_without_any_key_has_none_to_revoke(world: World) -> None:
    """Before the first pass there is nothing to decide about: exit 2, and no commit."""
    done = world.mirror("revoke", "syd-prod", "--all", "--last", "--yes", "--reason", "stolen")
    assert (done.status, "No key of syd-prod is known yet" in done.err) == (2, True)
    assert world.git("for-each-ref") == ""


# -------------------------------------------------------------------------------------------------- revoke


def test_revoked_key_is_gone_when_the_command_ends_and_for_ever(world: World) -> None:
    """Apiservers keep showing it, the configuration knows nothing of it, and no pass brings it back."""
    first_pass(world, BOTH)
    rsa = next(key["kid"] for key in keys_of(BOTH) if key["kty"] == "RSA")
    done = world.mirror("revoke", "syd-prod", "--reason", "a laptop was stolen", "--", rsa)
    assert (done.status, done.err.count("Traceback")) == (0, 0), done.err
    assert "until they fetch the set again" in done.out
    left = {key["kid"] for key in keys_of(BOTH)} - {rsa}
    assert kids(world.public(JWKS_KEY).body) == left
    assert "a laptop was stolen" in world.git("log", "-1", "--format=%B", "main")
    assert "Key-Revoked: " in world.git("log", "-1", "--format=%(trailers)", "main")
    world.show(BOTH, ONE)
    for _ in range(2):
        later = world.mirror("--once")
        assert later.status == 0
        assert "still shows it" in later.out
        assert kids(world.public(JWKS_KEY).body) == left


def test_last_key_is_revoked_only_with_last(world: World) -> None:
    """Without `--last` nothing is committed or put and the status is 3; with it the public set is empty."""
    first_pass(world)
    before = world.state()
    kid = keys_of(ONE)[0]["kid"]
    held = world.mirror("revoke", "syd-prod", "--reason", "stolen", "--", kid)
    assert (held.status, world.state()) == (3, before)
    assert "--last" in held.err
    done = world.mirror("revoke", "syd-prod", "--all", "--last", "--yes", "--reason", "stolen")
    assert done.status == 0, done.err
    assert world.public(JWKS_KEY).body == EMPTY
    later = world.mirror("--once", "--log-format", "json")
    assert later.status == 0
    assert "issuer.emptied" in {json.loads(line)["event"] for line in later.err.splitlines()}
    assert world.public(JWKS_KEY).body == EMPTY
    world.show(LAST, LAST)
    assert "issuer.emptied" not in world.mirror("--once", "--log-format", "json").err
    assert kids(world.public(JWKS_KEY).body) == {key["kid"] for key in keys_of(LAST)}


# --------------------------------------------------------------------------------------------------- adopt


def test_foreign_documents_are_adopted(world: World) -> None:
    """Shown keys are published, the others of the public set retire, and what is no key is listed and left out."""
    foreign = json.dumps({"keys": [*keys_of(LAST), {"kty": "AKP"}]}).encode()
    world.overwrite(JWKS_KEY, foreign)
    show_now(world, ONE)
    assert world.mirror("--once").status == 3
    assert world.public(JWKS_KEY).body == foreign
    done = world.mirror("adopt", "syd-prod")
    assert done.status == 0, done.out + done.err
    assert "left out [public jwks keys[1]]" in done.out
    assert kids(world.public(JWKS_KEY).body) == {keys_of(ONE)[0]["kid"], keys_of(LAST)[0]["kid"]}
    assert sorted(statuses(world).values()) == ["published", "retiring"]
    assert world.mirror("--once").status == 0
    known = world.mirror("adopt", "--all")
    assert (known.status, "nothing to adopt" in known.out) == (0, True)


def test_nothing_is_adopted_while_no_apiserver_answers(world: World) -> None:
    """Exit 1, the reason, and nothing changes."""
    world.overwrite(JWKS_KEY, capture(f"{ONE}jwks").body())
    for replica in world.replicas:
        replica.greeting = "close"
    done = world.mirror("adopt", "--all")
    assert done.status == 1
    assert world.public(JWKS_KEY).body == capture(f"{ONE}jwks").body()
    assert world.git("for-each-ref") == ""
    assert "not adopted" in done.out


def test_bucket_is_read_without_public_read_back(world: World) -> None:
    """With `publish.readback.enabled: false` the document is read with our own credentials."""
    world.config["publish"]["readback"] = {"enabled": False}
    world.overwrite(JWKS_KEY, capture(f"{BOTH}jwks").body())
    show_now(world, ONE)
    done = world.mirror("adopt", "syd-prod")
    assert done.status == 0, done.out + done.err
    assert sorted(statuses(world).values()) == ["published", "retiring"]


@pytest.mark.parametrize(
    ("publish", "reported"),
    [
        ({"readback": {"connect_to": "localhost:1"}}, "cannot be reached"),
        ({"readback": {"enabled": False}, "bucket": "no-such-bucket"}, "no-such-bucket"),
    ],
    ids=["the public URL", "the bucket"],
)
def test_public_document_that_cannot_be_read_is_not_adopted(
    world: World, publish: dict[str, object], reported: str
) -> None:
    """Not reading it is not reading that there is none: exit 1, the cause, and no commit."""
    world.overwrite(JWKS_KEY, capture(f"{ONE}jwks").body())
    world.config["publish"] |= publish
    show_now(world, ONE)
    done = world.mirror("adopt", "syd-prod")
    assert done.status == 1
    assert "not adopted" in done.out
    assert reported in done.out
    assert world.git("for-each-ref") == ""


def test_issuer_without_public_documents_is_adopted_as_a_first_pass(world: World) -> None:
    """Anonymous requests get 404 and the bucket is empty: the keys of the apiservers are published."""
    show_now(world, ONE)
    done = world.mirror("adopt", "--all", "--no-pass")
    assert done.status == 0, done.out + done.err
    assert list(statuses(world).values()) == ["published"]


def test_one_issuer_that_fails_does_not_stop_the_others(world: World) -> None:
    """Those that can be adopted are; the status is 1."""
    dead = {**world.issuer, "name": "syd-test", "issuer": f"{ISSUER}-test", "apiservers": ["https://127.0.0.1:1"]}
    world.config["issuers"].append(dead)
    world.overwrite(JWKS_KEY, capture(f"{BOTH}jwks").body())
    show_now(world, ONE)
    done = world.mirror("adopt", "--all")
    assert done.status == 1
    assert "gave no usable answer: unreachable" in done.out
    assert sorted(statuses(world).values()) == ["published", "retiring"]


# -------------------------------------------------------------------------------------- laptops and remotes


def test_revocation_from_a_laptop_is_executed_by_the_mirrors_next_pass(world: World, remote: Path) -> None:
    """The laptop has the configuration and the remote alone; its commit carries the operator's own identity."""
    first_pass(world, BOTH)
    public = world.public(JWKS_KEY).body
    rsa = next(key["kid"] for key in keys_of(BOTH) if key["kty"] == "RSA")
    done = on_laptop(world, "revoke", "syd-prod", "--reason", "stolen", "--no-pass", "--", rsa)
    assert done.status == 0, done.err
    assert not (world.folder / "laptop" / "state").exists()
    assert world.public(JWKS_KEY).body == public
    assert git(remote, "log", "-1", "--format=%an <%ae>", "main") == "Ada Operator <ada@example.com>"
    later = world.mirror("--once")
    assert later.status == 0, later.err
    assert kids(world.public(JWKS_KEY).body) == kids(public) - {rsa}
    assert world.git("rev-parse", "main").strip() == git(remote, "rev-parse", "main")


def test_pass_from_a_laptop_publishes(world: World, remote: Path) -> None:
    """Without `--no-pass` the laptop's own pass takes the key from the bucket, and leaves nothing behind."""
    first_pass(world, BOTH)
    rsa = next(key["kid"] for key in keys_of(BOTH) if key["kty"] == "RSA")
    done = on_laptop(world, "revoke", "syd-prod", "--reason", "stolen", "--", rsa)
    assert done.status == 0, done.err
    assert rsa not in kids(world.public(JWKS_KEY).body)
    assert not (world.folder / "laptop" / "state").exists()
    assert len(log(remote)) == 2


def test_repository_that_cannot_even_be_looked_for_is_done_without(world: World, remote: Path) -> None:
    """With a remote the configured path need not be usable: a temporary copy is."""
    first_pass(world, BOTH)
    world.config["repository"]["path"] = "x" * 300
    rsa = next(key["kid"] for key in keys_of(BOTH) if key["kty"] == "RSA")
    done = world.mirror("revoke", "syd-prod", "--reason", "stolen", "--no-pass", "--", rsa)
    assert done.status == 0, done.err
    assert len(log(remote)) == 2


def test_unreachable_remote_decides_nothing(world: World, remote: Path) -> None:
    """A fetch that fails ends the command with 1 before anything is committed."""
    first_pass(world, BOTH)
    before = world.state()
    remote.rename(remote.with_name("away.git"))
    done = world.mirror("revoke", "syd-prod", "--all", "--last", "--yes", "--reason", "stolen")
    assert (done.status, world.state()) == (1, before)


@pytest.mark.parametrize("where", ["mirror", "laptop"])
def test_refused_push_is_reported_and_nothing_is_put(world: World, remote: Path, where: str) -> None:
    """Exit 1; on the mirror the commit stays and is reported, on a laptop nothing was decided."""
    first_pass(world, BOTH)
    public, head = world.public(JWKS_KEY).body, git(remote, "rev-parse", "main")
    hook = remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    rsa = next(key["kid"] for key in keys_of(BOTH) if key["kty"] == "RSA")
    words = ("revoke", "syd-prod", "--reason", "stolen", "--", rsa)
    done = world.mirror(*words) if where == "mirror" else on_laptop(world, *words)
    assert done.status == 1
    assert ("is committed on this machine" if where == "mirror" else "nothing was decided") in done.err
    assert (world.public(JWKS_KEY).body, git(remote, "rev-parse", "main")) == (public, head)
    assert ("revoked" in statuses(world).values()) is (where == "mirror")


def damage(world: World, *, past: bool) -> None:
    """Another commit makes the ledger unreadable, with the earlier state below it, or on its own branch."""
    repository = world.folder / "state" / "snapshots.git"
    blob = git(repository, "hash-object", "-w", "--stdin", stdin=b"{}")
    text = "commit refs/heads/main\ncommitter x <x@x> 1795000000 +0000\ndata 1\nx\n"
    text += "from refs/heads/main^0\n" if past else ""
    git(repository, "fast-import", "--quiet", "--force", stdin=f"{text}M 100644 {blob} {LEDGER}\n".encode())


def test_damaged_ledger_stops_no_revocation(world: World) -> None:
    """The earlier state counts; the fault is reported, and the decision rewrites the ledger: 0, the set is empty."""
    first_pass(world)
    damage(world, past=True)
    done = world.mirror("revoke", "syd-prod", "--all", "--last", "--yes", "--reason", "stolen")
    assert done.status == 0, done.err
    assert "warning [ledger.damaged]: " in done.err
    assert world.public(JWKS_KEY).body == EMPTY
    assert set(statuses(world).values()) == {"revoked"}


def test_ledger_of_which_nothing_can_be_read_stops_the_decision(world: World) -> None:
    """Exit 1 with the fault: it is unknown which keys there are."""
    first_pass(world)
    damage(world, past=False)
    (world.folder / "state" / "local-state.json").unlink()
    before = world.state()
    done = world.mirror("revoke", "syd-prod", "--all", "--last", "--yes", "--reason", "stolen")
    assert (done.status, world.state()) == (1, before)
    assert "does not count" in done.err


# ------------------------------------------------------------------------------------------------ terminals


@pytest.mark.parametrize(("answer", "status"), [("n", 0), ("y", 0)])
def test_terminal_is_asked_with_everything_that_names_the_key(world: World, answer: str, status: int) -> None:
    """Full kid, thumbprint, alg, first seen and issuer are shown; only yes goes on."""
    thumbprint = held_key(world)
    before = world.state()
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "mirror", "--config", str(world.folder / "mirror.yaml"), "approve", "syd-prod"]
    with subprocess.Popen(
        [*command, thumbprint, "--no-pass"],
        env=world.environ(),
        cwd=PROJECT,
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        os.write(controller, f"{answer}\n".encode())
        said, _ = process.communicate(timeout=60)
    os.close(controller)
    os.close(terminal)
    assert process.returncode == status, said
    held = next(key for key in keys_of(BOTH) if key["kid"] not in {each["kid"] for each in keys_of(ONE)})
    assert all(text in said for text in (held["kid"], thumbprint, held["alg"], ISSUER, "first seen", "Publish this"))
    assert (world.state() == before) is (answer == "n")
    assert ("Nothing was changed." in said) is (answer == "n")


def revoke_last_at_a_terminal(world: World, typed: str) -> Shown:
    command = [sys.executable, "-m", "mirror", "--config", str(world.folder / "mirror.yaml"), "revoke", "syd-prod"]
    words = ("--all", "--last", "--reason", "stolen", "--no-pass")
    return at_terminal([*command, *words], world.environ(), PROJECT, typed=f"{typed}\n")


def test_last_key_stays_unless_the_issuers_name_is_typed(world: World) -> None:
    """What is lost is named; a yes out of habit changes nothing, and is no failure."""
    first_pass(world)
    before = world.state()
    for typed in ("y", "yes", "", "syd"):
        shown = revoke_last_at_a_terminal(world, typed)
        assert (typed, shown.status, world.state()) == (typed, 0, before)
        assert "last public key of syd-prod" in shown.text
        assert ISSUER in shown.text
        assert "Nothing was changed." in shown.text


def test_last_key_is_revoked_when_the_issuers_name_is_typed(world: World) -> None:
    """The name says that this issuer is meant."""
    first_pass(world)
    assert revoke_last_at_a_terminal(world, "syd-prod").status == 0
    assert set(statuses(world).values()) == {"revoked"}


def test_last_key_off_a_terminal_needs_yes(world: World) -> None:
    """A script without it gets a message and status 2, and nothing is changed."""
    first_pass(world)
    before = world.state()
    done = world.mirror("revoke", "syd-prod", "--all", "--last", "--reason", "stolen")
    assert (done.status, world.state()) == (2, before)
    assert "--yes" in done.err
