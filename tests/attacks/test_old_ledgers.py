"""An attacker restores old signed states: no revoked key is public again while any source has the revocation."""

import pytest

from mirror.model import ObjectKey
from support.fleet_states import DISKS, demand_quiet, demand_signed, on, revoke_v, steady
from support.fleets import EC, HOUR, OTHER, SECOND, SECOND_URL, A, B, Fleet, V, kids, public_kids
from support.pushers import SIGNATURE, contains, record, statuses
from support.situations import JWKS_KEY, LEDGER

pytestmark = pytest.mark.unmeasured  # unit tests reach the same lines

# ------------------------------------------------------------------------------------------- old states brought back


@pytest.mark.parametrize("what", ["the branch", "one ledger"])
@DISKS
def test_older_signed_state_brings_no_revoked_key_back(fleet: Fleet, disk: str, what: str) -> None:
    """The branch, or one ledger with its signature, is what it was before V was revoked: `history.rewritten`."""
    mirror = steady(fleet, A, V)
    before = revoke_v(mirror)
    puts = fleet.puts()
    _bring_back(fleet, before, what)
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert "history.rewritten" in ended.names
    assert public_kids(fleet) == kids(A)
    assert fleet.puts() == puts
    assert statuses(fleet.remote) == {"A": "published", "V": "revoked"}
    demand_signed(fleet)
    demand_quiet(fleet, on(disk, mirror))


def _bring_back(fleet: Fleet, commit: str, what: str) -> None:
    pusher = fleet.pusher()
    pusher.fetch()
    if what == "the branch":
        pusher.rewind(commit)
    else:
        pusher.restore(commit, LEDGER, SIGNATURE)
        pusher.push()


@pytest.mark.parametrize("what", ["the branch", "one ledger"])
def test_older_state_does_not_mislead_a_kept_disk_that_missed_the_revocation(fleet: Fleet, what: str) -> None:
    """Another mirror was itself at the older state, so its disk does not show the change: the objects do."""
    mirror = steady(fleet, A, V)
    behind = fleet.mirror()
    assert behind.run().status == 0
    before = revoke_v(mirror)
    _bring_back(fleet, before, what)
    ended = behind.run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A)
    assert statuses(fleet.remote)["V"] == "revoked"
    demand_quiet(fleet, mirror, behind)


@pytest.mark.parametrize("signed", [False], ids=["trusted"])
@pytest.mark.parametrize("what", ["the branch", "one ledger", "another branch"])
def test_older_state_of_a_trusted_remote_is_merged_with_a_kept_disk(fleet: Fleet, what: str) -> None:
    """Anyone who can push is trusted; the state of this machine is still merged back, and none of it is lost."""
    mirror = steady(fleet, A, V)
    before = revoke_v(mirror)
    ours = fleet.head()
    if what == "another branch":
        pusher = fleet.pusher()
        pusher.fetch()
        pusher.write_records([record(A)])
        pusher.orphan()
    else:
        _bring_back(fleet, before, what)
    ended = mirror.run()
    assert ended.status == 0, ended.text()
    assert "history.rewritten" in ended.names
    assert public_kids(fleet) == kids(A)
    assert statuses(fleet.remote) == {"A": "published", "V": "revoked"}
    assert contains(fleet.remote, ours)
    demand_quiet(fleet, mirror)


def test_ledger_that_is_stripped_while_others_are_mirrored_loses_nothing(fleet: Fleet) -> None:
    """A pass of another issuer moves the branch on over a ledger without its revocation, which it does not read."""
    fleet.issuers[SECOND] = SECOND_URL
    fleet.show((OTHER,), (OTHER,), name=SECOND)
    mirror = steady(fleet, A, V)
    revoke_v(mirror)
    pusher = fleet.pusher()
    pusher.fetch()
    pusher.edit(lambda each: None if each["kid"] == "V" else each)
    pusher.push()
    fleet.show((OTHER, EC), (OTHER, EC), name=SECOND)
    assert mirror.run(only=SECOND).status == 0
    for _ in range(2):
        assert mirror.run().status == 0
        assert public_kids(fleet) == kids(A)
    assert statuses(fleet.remote) == {"A": "published", "V": "revoked"}
    demand_signed(fleet)
    demand_quiet(fleet, mirror)


def test_older_state_is_what_a_pod_knows_when_the_server_lost_the_newer_one(fleet: Fleet) -> None:
    """A pod has no sign that V was revoked: it reports `snapshot.unknown`. SECURITY.md names this rewind."""
    mirror = steady(fleet, A, V)
    before = revoke_v(mirror)
    fleet.forget(before)
    ended = on("empty", mirror).run()
    assert "snapshot.unknown" in ended.names
    assert public_kids(fleet) == kids(A, V)
    assert mirror.run().status == 0, "the kept disk brings the revocation back"
    assert public_kids(fleet) == kids(A)


def test_older_ledger_on_top_of_ours_loses_nothing(fleet: Fleet) -> None:
    """Without force: an older signed pair on our head, from before B was added."""
    mirror = steady(fleet, A)
    before = fleet.head()
    fleet.show((A, B), (A, B))
    assert mirror.run().status == 0
    _bring_back(fleet, before, "one ledger")
    ended = mirror.run()
    assert ended.status == 0, ended.text()
    assert "history.rewritten" in ended.names
    assert public_kids(fleet) == kids(A, B)
    assert statuses(fleet.remote) == {"A": "published", "B": "published"}
    demand_quiet(fleet, mirror)


@DISKS
def test_key_that_was_revoked_while_dropped_stays_out(fleet: Fleet, disk: str) -> None:
    """The revocation changed no byte of the public set; the object names its commit all the same."""
    mirror = steady(fleet, A, V)
    fleet.show((A,), (A,))
    assert mirror.run().status == 0
    assert mirror.run(after=25 * HOUR).status == 0
    assert public_kids(fleet) == kids(A)
    before = revoke_v(mirror)
    named = fleet.bucket.objects[ObjectKey(JWKS_KEY)].snapshot
    assert named == fleet.head(), "the object names a commit that knows the revocation"
    _bring_back(fleet, before, "one ledger")
    fleet.show((A, V), (A, V))
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert "history.rewritten" in ended.names
    assert public_kids(fleet) == kids(A)
    assert statuses(fleet.remote)["V"] == "revoked"
    demand_quiet(fleet, on(disk, mirror))


@DISKS
def test_orphan_branch_on_a_server_that_lost_ours_is_merged_with_what_the_disk_has(fleet: Fleet, disk: str) -> None:
    """A kept disk merges its own head back; a pod decides nothing, because it knows no revocation (`ledger.lost`)."""
    mirror = steady(fleet, A, V)
    revoke_v(mirror)
    pusher = fleet.pusher()
    pusher.fetch()
    pusher.write_records([record(A), record(V)])
    fleet.forget(pusher.orphan())
    puts = fleet.puts()
    ended = on(disk, mirror).run()
    assert (public_kids(fleet), fleet.puts()) == (kids(A), puts)
    if disk == "empty":
        assert (ended.status, "ledger.lost" in ended.names) == (1, True)
    assert mirror.run().status == 0
    assert statuses(fleet.remote) == {"A": "published", "V": "revoked"}
    demand_quiet(fleet, mirror)
