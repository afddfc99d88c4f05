"""Pushed changes, and the operators' commands: a decision is for the key it names, and ends when it is public."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.apiserver import raw_answer
from support.fleet_states import DISKS, HOLD, MODES, demand_quiet, on, revoke_v, steady
from support.fleets import DAY, EVIL, MIRROR, OPERATOR, A, B, Fleet, V, X, kids, once, public_bytes, public_kids
from support.gits import bare, git
from support.keys import jwks_body, with_kid
from support.pushers import Pusher, dropped, record, signed_by, statuses
from support.s3 import S3Server
from support.situations import ISSUER, JWKS_KEY, NAME
from support.stages import discovery_body
from support.worlds import World, running_world

pytestmark = pytest.mark.unmeasured  # unit tests reach the same lines

# ------------------------------------------------------------------------------ a pusher, and operators' decisions


def test_held_record_of_a_pusher_does_not_exist(fleet: Fleet) -> None:
    """X is `held` under a kid that is a prefix of B's thumbprint: B alone is offered, and `approve PREFIX` means B."""
    mirror = steady(fleet, A)
    mirror.policy = HOLD
    fleet.show((A, B), (A, B))
    assert mirror.run().status == 3
    prefix = B.thumbprint[:8]
    pusher = fleet.pusher()
    pusher.fetch()
    pusher.add(record(with_kid(X, prefix), "held", held_because="policy"))
    pusher.push()
    ended = mirror.run()
    assert ended.report is not None
    assert [X.thumbprint in reason.sentence for reason in ended.report.issuers[0].held] == [False]
    pusher.fetch()
    pusher.add(record(with_kid(X, prefix), "held", held_because="policy"))
    pusher.push()
    done = mirror.command("approve", NAME, "--no-pass", "--yes", "--", prefix)
    assert done.returncode == 0, done.stderr
    assert mirror.run().status == 0
    assert public_kids(fleet) == kids(A, B)
    assert statuses(fleet.remote) == {"A": "published", "B": "published"}
    demand_quiet(fleet, mirror)


def test_held_record_of_an_allowed_signer_makes_a_prefix_ambiguous(fleet: Fleet) -> None:
    """The same in a ledger that an allowed signer signed: exit 2, nothing changes."""
    mirror = steady(fleet, A, allowed=(OPERATOR,))
    mirror.policy = HOLD
    fleet.show((A, B), (A, B))
    assert mirror.run().status == 3
    prefix = B.thumbprint[:8]
    pusher = fleet.pusher()
    pusher.fetch()
    pusher.add(record(with_kid(X, prefix), "held", held_because="policy"), signer=OPERATOR, role="operator")
    pusher.push()
    before = fleet.head(), dict(fleet.bucket.objects)
    done = mirror.command("approve", NAME, "--no-pass", "--yes", "--", prefix)
    assert done.returncode == 2, done.stderr
    assert (fleet.head(), dict(fleet.bucket.objects)) == before


@MODES
@pytest.mark.parametrize("pushed_by", ["nobody", "an allowed signer"])
def test_dropped_records_do_not_hide_a_key_from_its_revocation(fleet: Fleet, pushed_by: str, *, signed: bool) -> None:
    """Two `dropped` records are named like V's thumbprint and like V's kid: the full thumbprint still means V."""
    mirror = steady(fleet, A, V, allowed=(OPERATOR,) if signed else ())
    pusher = fleet.pusher()
    pusher.fetch()
    by_thumbprint, by_kid = dropped(V.thumbprint, X.thumbprint), dropped(V.kid, EVIL.thumbprint)
    pusher.add(by_thumbprint, by_kid, signer=OPERATOR if signed and pushed_by != "nobody" else None, role="operator")
    pusher.push()
    done = mirror.command("revoke", NAME, "--reason", "stolen", "--no-pass", "--yes", "--", V.thumbprint)
    assert done.returncode == 0, done.stderr
    assert "still" in done.stdout + done.stderr, "the text says that the key is still public"
    assert mirror.run().status == 0
    assert public_kids(fleet) == kids(A)
    demand_quiet(fleet, mirror)


@MODES
@DISKS
def test_revoking_the_last_key_brings_no_older_one_back(fleet: Fleet, disk: str) -> None:
    """V was revoked long ago; `revoke --last A` empties the set, and it stays empty though both are shown."""
    mirror = steady(fleet, A, V)
    revoke_v(mirror)
    fleet.now += 90 * DAY
    done = mirror.command("revoke", NAME, "--last", "--yes", "--reason", "stolen", "--no-pass", "--", A.thumbprint)
    assert done.returncode == 0, done.stderr
    for _ in range(3):
        ended = on(disk, mirror).run()
        assert "issuer.emptied" in ended.names, ended.text()
        assert public_kids(fleet) == frozenset()
    demand_quiet(fleet, on(disk, mirror))


@MODES
def test_decision_at_the_end_of_a_pass_is_kept(fleet: Fleet) -> None:
    """The pass ends after the operator's command, and knows nothing of it: it takes nothing of that away."""
    mirror = steady(fleet, A, V)

    def decide() -> None:
        words = ("--all", "--last", "--reason", "leaked", "--no-pass", "--yes")
        assert mirror.decide("revoke", NAME, *words) == 0

    assert replace(mirror, before=once(decide, at="collect")).run().status == 0
    ended = mirror.run()
    assert "issuer.emptied" in ended.names, ended.text()
    assert public_kids(fleet) == frozenset()
    demand_quiet(fleet, mirror)


@MODES
def test_empty_set_that_another_machine_decided_is_accepted(fleet: Fleet) -> None:
    """`revoke --all --last` on a laptop: every mirror empties the set, until the cluster has a new key."""
    mirror = steady(fleet, A, V)
    words = ("--all", "--last", "--reason", "leaked", "--no-pass", "--yes")
    assert fleet.mirror().decide("revoke", NAME, *words) == 0
    assert "issuer.emptied" in mirror.run().names
    assert public_kids(fleet) == frozenset()
    fleet.show((A, V, B), (A, V, B))
    ended = mirror.run()
    assert ended.status == 0, ended.text()
    assert "issuer.emptied" not in ended.names
    assert public_kids(fleet) == kids(B)
    demand_quiet(fleet, mirror)


# --------------------------------------------------------------------------------- operators, with the whole program


@pytest.fixture
def world(s3_server: S3Server, tmp_path: Path, *, signed: bool) -> Iterator[World]:
    """Two apiservers, an S3 server and a git remote, all real."""
    with running_world(s3_server, tmp_path) as made:
        repository = {"remote": str(bare(tmp_path / "remote.git"))}
        if signed:
            repository["signing_key"] = str(MIRROR.private_file(tmp_path / "signing_key"))
        made.config["repository"] = repository
        made.issuer["keys"] = {"kid": "opaque"}
        git(tmp_path / "remote.git", "config", "uploadpack.allowAnySHA1InWant", "true")
        yield made


def shows(world: World, *shown: tuple[Any, ...]) -> None:
    for replica, keys in zip(world.replicas, shown, strict=True):
        replica.serve(
            discovery=raw_answer("200 OK", discovery_body(ISSUER, keys), content_type="application/json"),
            jwks=raw_answer("200 OK", jwks_body(*keys), content_type="application/jwk-set+json"),
        )


def seen(world: World) -> frozenset[str]:
    """The kids that an anonymous request gets from the public URL."""
    return frozenset(each["kid"] for each in json.loads(world.public(JWKS_KEY).body)["keys"])


@pytest.mark.s3
@DISKS
def test_revoke_is_about_the_key_whatever_a_pusher_added(world: World, disk: str) -> None:
    """`revoke V` exits 0 when V is gone from what is public, and not before; X never was there."""
    remote = world.folder / "remote.git"
    shows(world, (A, V), (A, V))
    assert world.mirror("--once").status == 0
    pusher = Pusher(world.folder / "pusher", remote)
    pusher.fetch()
    pusher.add(record(X))
    commit = pusher.push()
    if disk == "empty":
        (world.folder / "state").rename(world.folder / "gone")
    done = world.mirror("revoke", "syd-prod", "--reason", "stolen", "--yes", "--", V.thumbprint)
    assert done.status == 0, (done.out, done.err)
    assert seen(world) == kids(A)
    assert "ledger.unsigned" in done.out + done.err
    assert commit[:7] in done.out + done.err
    assert statuses(remote) == {"A": "published", "V": "revoked"}
    assert signed_by(remote, MIRROR) is not None
    world.overwrite(JWKS_KEY, public_bytes(A, EVIL))
    repaired = world.mirror("--once")
    assert (repaired.status, "bucket.drift" in repaired.err) == (0, True), repaired.err
    assert seen(world) == kids(A)


@pytest.mark.s3
def test_revoke_fails_while_the_key_is_public(world: World) -> None:
    """The bucket takes no put: V is revoked in git and still public, so the command says so and does not exit 0."""
    shows(world, (A, V), (A, V))
    assert world.mirror("--once").status == 0
    world.config["publish"]["expected_bucket_owner"] = "1" * 12
    world.further_environ["AWS_SECRET_ACCESS_KEY"] = "wrong"
    world.config["publish"]["endpoint_url"] = "https://localhost:1"
    done = world.mirror("revoke", "syd-prod", "--reason", "stolen", "--yes", "--", V.thumbprint)
    assert done.status == 1, (done.out, done.err)
    assert seen(world) == kids(A, V)
    assert statuses(world.folder / "remote.git")["V"] == "revoked"


@pytest.mark.s3
def test_approve_is_done_when_the_key_is_public(world: World) -> None:
    """`approve PREFIX` with a pusher's X under that very kid: exit 0, {A, B}."""
    remote = world.folder / "remote.git"
    shows(world, (A,), (A,))
    assert world.mirror("--once").status == 0
    world.issuer["keys"] = {"kid": "opaque", "new_keys": "hold"}
    shows(world, (A, B), (A, B))
    assert world.mirror("--once").status == 3
    pusher = Pusher(world.folder / "pusher", remote)
    pusher.fetch()
    pusher.add(record(with_kid(X, B.thumbprint[:8]), "held", held_because="policy"))
    pusher.push()
    done = world.mirror("approve", "syd-prod", "--yes", "--", B.thumbprint[:8])
    assert done.status == 0, (done.out, done.err)
    assert seen(world) == kids(A, B)


@pytest.mark.s3
def test_adopt_branch_signs_what_a_person_looked_at(world: World) -> None:
    """A signing key on an unsigned repository: pods wait (`ledger.lost`) until `adopt --branch`."""
    remote = world.folder / "remote.git"
    key = world.config["repository"].pop("signing_key")
    shows(world, (A, V), (A, V))
    assert world.mirror("--once").status == 0
    (world.folder / "state").rename(world.folder / "gone")
    world.config["repository"]["signing_key"] = key
    waiting = world.mirror("--once")
    assert (waiting.status, "ledger.lost" in waiting.err) == (1, True), waiting.err
    assert seen(world) == kids(A, V)
    (world.folder / "state").rename(world.folder / "gone-too")
    done = world.mirror("adopt", "--branch", "--yes")
    assert done.status == 0, (done.out, done.err)
    assert signed_by(remote, MIRROR) is not None
    assert world.mirror("--once").status == 0
    assert seen(world) == kids(A, V)
