"""Mirrors that die, race, lose their disks or see different replicas: no mirror waits, and none conflicts."""

from dataclasses import replace
from typing import Any

import pytest

from mirror.model import ObjectKey
from support.fleet_states import DISKS, HOLD, MODES, demand_quiet, on, overwrite, retiring, revoke_v, steady
from support.fleets import (
    EVIL,
    HOUR,
    MINUTE,
    OTHER,
    POLICY,
    A,
    B,
    Fleet,
    K,
    Killed,
    R,
    V,
    kids,
    kill,
    once,
    public_kids,
)
from support.pushers import statuses
from support.situations import DISCOVERY_KEY, JWKS_KEY

pytestmark = pytest.mark.unmeasured  # unit tests reach the same lines

# --------------------------------------------------------------------- mirrors that died, and disks that are empty


@MODES
@pytest.mark.parametrize("who", ["the mirror itself", "another mirror"])
def test_key_of_a_mirror_that_died_is_published_and_retires(fleet: Fleet, who: str) -> None:
    """It pushed K and died before its put; no apiserver shows K any more. No mirror waits: {A, B, K}, then {A, B}."""
    mirror = steady(fleet, A)
    other = fleet.mirror()
    assert other.run().status == 0
    fleet.show((A, K), (A, K))
    with pytest.raises(Killed):
        replace(mirror, before_put=kill).run()
    assert statuses(fleet.remote)["K"] == "published"
    fleet.show((A,), (A, B))
    goes_on = mirror if who == "the mirror itself" else other
    ended = goes_on.run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A, B, K)
    fleet.show((A, B), (A, B))
    assert goes_on.run(after=25 * HOUR).status == 0
    assert public_kids(fleet) == kids(A, B)
    demand_quiet(fleet, mirror, other)


@MODES
def test_new_key_never_waits_for_another_mirror(fleet: Fleet) -> None:
    """Both mirrors died with a key of their own that no apiserver shows any more; B is public in the very next pass."""
    one = steady(fleet, A)
    two = fleet.mirror()
    assert two.run().status == 0
    fleet.show((A, K), (A, K))
    with pytest.raises(Killed):
        replace(one, before_put=kill).run()
    fleet.show((A, OTHER), (A, OTHER))
    with pytest.raises(Killed):
        replace(two, before=lambda step: kill() if step == "push" else None).run()
    fleet.show((A, B), (A, B))
    for mirror in (two, one):
        ended = mirror.run()
        assert ended.status == 0, ended.text()
        assert public_kids(fleet) == kids(A, B, K, OTHER)
        assert ended.report is not None
        assert ended.report.unpushed_commits == 0
    for mirror in (one, two):
        mirror.run(after=13 * HOUR)
    assert public_kids(fleet) == kids(A, B)
    demand_quiet(fleet, one, two)


@MODES
@DISKS
def test_overwritten_jwks_is_repaired_while_a_key_retires(fleet: Fleet, disk: str) -> None:
    """{EVIL, A} becomes {A, R} again: drift, reported and repaired, R is not lost."""
    mirror = retiring(fleet)
    overwrite(fleet, EVIL, A)
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert "bucket.drift" in ended.names
    assert public_kids(fleet) == kids(A, R)
    demand_quiet(fleet, on(disk, mirror))


@MODES
@DISKS
def test_deleted_objects_are_repaired_while_apiservers_are_silent(fleet: Fleet, disk: str) -> None:
    """Both objects are deleted: git says what they were; the silence is reported (exit 1)."""
    mirror = retiring(fleet)
    fleet.bucket.objects.clear()
    fleet.show(None, None)
    ended = on(disk, mirror).run()
    assert ended.status == 1, ended.text()
    assert "no_usable_apiserver" in ended.names
    assert public_kids(fleet) == kids(A, R)
    assert ObjectKey(DISCOVERY_KEY) in fleet.bucket.objects
    demand_quiet(fleet, on(disk, mirror), status=1)


@MODES
@DISKS
def test_overwritten_jwks_is_repaired_while_apiservers_are_silent(fleet: Fleet, disk: str) -> None:
    """No rotation at all: {EVIL, A} becomes {A} again, in a pod too."""
    mirror = steady(fleet, A)
    fleet.show(None, None)
    overwrite(fleet, EVIL, A)
    ended = on(disk, mirror).run()
    assert ended.status == 1, ended.text()
    assert {"bucket.drift", "no_usable_apiserver"} <= ended.names
    assert public_kids(fleet) == kids(A)


BODIES = {
    "empty": b"",
    "garbage": b"<html>",
    "no-key": b'{"keys":[]}',
    "oversized": b'{"keys":[]}' + b" " * (4 * 1024 * 1024),
}


@MODES
@DISKS
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_unreadable_object_is_written_over(fleet: Fleet, disk: str, body: bytes) -> None:
    """Whatever stands there, and whatever commit it claims, is overwritten with what the ledger says."""
    mirror = retiring(fleet)
    fleet.bucket.write(JWKS_KEY, body, "application/jwk-set+json", "public, max-age=300", "f" * 40)
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert "bucket.drift" in ended.names
    assert public_kids(fleet) == kids(A, R)
    demand_quiet(fleet, on(disk, mirror))


@MODES
def test_pod_without_a_remote_decides_nothing(fleet: Fleet) -> None:
    """An empty disk and a remote that is away: exit 1, nothing is put and no key is lost."""
    mirror = steady(fleet, A)
    fleet.away()
    puts = fleet.puts()
    fleet.show((B,), (B,))
    ended = on("empty", mirror).run()
    assert ended.status == 1, ended.text()
    assert (public_kids(fleet), fleet.puts()) == (kids(A), puts)


@MODES
def test_two_mirrors_without_the_remote_do_not_fight(fleet: Fleet) -> None:
    """B is shown to one of them alone: it publishes B, the other one leaves it public; one put in 20 passes."""
    one = steady(fleet, A)
    two = fleet.mirror()
    assert two.run().status == 0
    two.source = replace(fleet.source, answers=dict(fleet.source.answers))
    fleet.show((A, B), (A, B))
    fleet.away()
    puts = fleet.puts()
    for _ in range(10):
        for mirror in (one, two):
            mirror.run()
            assert public_kids(fleet) == kids(A, B)
    assert fleet.puts() == puts + 1
    fleet.back()
    for mirror in (one, two, one):
        mirror.run()
    assert public_kids(fleet) == kids(A, B)
    demand_quiet(fleet, one, two)


@pytest.mark.parametrize(
    ("signed", "apart"),
    [pytest.param(True, MINUTE, id="signed-a minute"), pytest.param(False, 2 * HOUR, id="trusted-two hours")],
)
def test_mirrors_with_different_replicas_agree_about_a_held_key(fleet: Fleet, apart: Any) -> None:
    """K is shown to one of them and held: in 40 passes each no put, and at most three commits in all."""
    one = steady(fleet, A)
    two = fleet.mirror()
    assert two.run().status == 0
    for mirror in (one, two):
        mirror.policy = HOLD
    two.source = replace(fleet.source, answers=dict(fleet.source.answers))
    fleet.show((A, K), (A, K))
    before = fleet.commits(), fleet.puts()
    for _ in range(40):
        one.run(after=apart)
        two.run(after=MINUTE)
    assert public_kids(fleet) == kids(A)
    assert fleet.puts() == before[1]
    assert fleet.commits() - before[0] <= 3


# ---------------------------------------------------------------------------------------------- races between mirrors


@MODES
def test_slow_mirror_does_not_bring_a_revoked_key_back(fleet: Fleet) -> None:
    """ABA: it pushed {A, V} and is slow; then another one puts {A, V}, revokes V and puts {A}, the old ETag."""
    slow = steady(fleet, A)
    other = fleet.mirror()
    assert other.run().status == 0
    fleet.show((A, V), (A, V))

    def overtake() -> None:
        assert other.run(after=0 * MINUTE).status == 0
        assert public_kids(fleet) == kids(A, V)
        revoke_v(other)

    ended = replace(slow, before_put=once(overtake)).run()
    assert public_kids(fleet) == kids(A), ended.text()
    for mirror in (slow, other):
        assert mirror.run().status == 0
    demand_quiet(fleet, slow, other)


@MODES
def test_revocations_that_would_empty_the_set_together_are_held_at_once(fleet: Fleet) -> None:
    """One mirror drops A while another one revokes B, the last but one: one key is kept, exit 3 in that very pass."""
    one = steady(fleet, A, B)
    two = fleet.mirror()
    assert two.run().status == 0
    fleet.show((B,), (B,))
    assert one.run().status == 0
    two.policy = replace(POLICY, revoked=frozenset({B.thumbprint}))

    def overtake() -> None:
        assert two.run(after=0 * MINUTE).status == 0

    racing = replace(one, before=once(overtake, at="commit"))
    ended = racing.run(after=25 * HOUR)
    assert statuses(fleet.remote)["B"] == "revoked"
    assert ended.status == 3, ended.text()
    assert {"revocation.held", "emptied.held"} & ended.names
    for mirror in (two, one):
        ended = mirror.run()
        assert ended.status == 3, ended.text()
        assert public_kids(fleet) == kids(B), "the key is kept that was revoked last"
    demand_quiet(fleet, two, one, status=3)


@MODES
def test_equal_commits_of_two_mirrors_are_one_success(fleet: Fleet) -> None:
    """Another mirror pushes the same commit between our asking and our writing: no `push.failed`, no lock to remove."""
    mirror = steady(fleet, A)
    fleet.show((A, B), (A, B))
    hook = fleet.remote / "hooks" / "pre-receive"
    hook.write_text(
        '#!/bin/sh\nread old new ref\nrm -f "$0"\nunset GIT_QUARANTINE_PATH\ngit update-ref "$ref" "$new"\n'
    )
    hook.chmod(0o755)
    ended = mirror.run()
    assert not hook.exists()
    assert ended.status == 0, ended.text()
    assert "push.failed" not in ended.names
    assert ended.report is not None
    assert (ended.report.commit, ended.report.unpushed_commits) == (fleet.head(), 0)
    assert public_kids(fleet) == kids(A, B)
    demand_quiet(fleet, mirror)


@MODES
def test_mirrors_that_work_in_step_make_one_commit(fleet: Fleet) -> None:
    """The same change in the same second on two pods, one inside the other's push: both succeed, one commit."""
    mirror = steady(fleet, A)
    pods = [on("empty", mirror), on("empty", mirror)]
    fleet.show((A, B), (A, B))
    commits = fleet.commits()

    def overtake() -> None:
        ended = pods[1].run(after=0 * MINUTE)
        assert ended.status == 0, ended.text()

    first = replace(pods[0], before=once(overtake, at="push"))
    ended = first.run()
    assert ended.status == 0, ended.text()
    assert "push.failed" not in ended.names
    assert fleet.commits() == commits + 1
    assert public_kids(fleet) == kids(A, B)
