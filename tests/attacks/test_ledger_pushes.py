"""An attacker pushes ledgers to the git remote: what is public after the next pass.

Git is signed or trusted (docs/adr/0008). In signed mode a push without a key changes no accepted ledger;
in trusted mode anyone who can push is trusted. In both modes no push stops another key, another issuer, a
revocation, a retirement, a repair or a push. A and B are keys that apiservers show, R retires, V is revoked, K was
shown once, X and EVIL belong to attackers. A disk is kept, or empty as that of a CronJob's pod. See: damaged ledgers,
old ledgers, signing keys, mirrors together, pushes and operators.
"""

import json
from collections.abc import Callable

import pytest

from support.fleet_states import (
    DISKS,
    MODES,
    REVOKES_V,
    demand_quiet,
    demand_signed,
    event,
    on,
    overwrite,
    push_x,
    steady,
)
from support.fleets import (
    EVIL,
    HOUR,
    MINUTE,
    MIRROR,
    OPERATOR,
    SECOND,
    SECOND_LEDGER,
    SECOND_URL,
    UNLISTED_SIGNER,
    A,
    B,
    Fleet,
    K,
    V,
    X,
    kids,
    public_bytes,
    public_kids,
)
from support.gits import git
from support.ledger_signers import canonical
from support.pushers import SIGNATURE, Pusher, dropped, record, statuses
from support.situations import ISSUER, JWKS_KEY, LEDGER, NAME

pytestmark = pytest.mark.unmeasured  # unit tests reach the same lines

# ------------------------------------------------------------------------------- a pusher adds a published record


@DISKS
def test_added_key_is_reported_and_written_over(fleet: Fleet, disk: str) -> None:
    """A pass with nothing else to do: `ledger.unsigned` names the commit, X is never public, git is as before."""
    mirror = steady(fleet, A)
    commit, puts = push_x(fleet), fleet.puts()
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert commit[:7] in event(ended, "ledger.unsigned")
    assert public_kids(fleet) == kids(A)
    assert fleet.puts() == puts
    assert statuses(fleet.remote) == {"A": "published"}
    demand_signed(fleet)
    demand_quiet(fleet, on(disk, mirror))


@MODES
@DISKS
def test_added_key_does_not_stop_a_configured_revocation(fleet: Fleet, disk: str, *, signed: bool) -> None:
    """V leaves in the next pass; what is overwritten afterwards is drift, and is repaired."""
    mirror = steady(fleet, A, V)
    push_x(fleet)
    mirror.policy = REVOKES_V
    expected = kids(A) if signed else kids(A, X)
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert ("ledger.unsigned" in ended.names) is signed
    assert public_kids(fleet) == expected
    assert statuses(fleet.remote)["V"] == "revoked"
    overwrite(fleet, EVIL, V, A)
    repaired = on(disk, mirror).run()
    assert repaired.status == 0, repaired.text()
    assert "bucket.drift" in repaired.names
    assert public_kids(fleet) == expected
    demand_quiet(fleet, on(disk, mirror))


@pytest.mark.parametrize("claims", ["nothing", "the pusher's commit"])
def test_added_key_does_not_stop_a_repair(fleet: Fleet, claims: str) -> None:
    """The JWKS is overwritten with {EVIL, A}, whatever its metadata claims: drift, repaired in one put."""
    mirror = steady(fleet, A)
    commit = push_x(fleet)
    overwrite(fleet, EVIL, A, snapshot=commit if claims != "nothing" else None)
    puts = fleet.puts()
    ended = mirror.run()
    assert ended.status == 0, ended.text()
    assert {"bucket.drift", "ledger.unsigned"} <= ended.names
    assert public_kids(fleet) == kids(A)
    assert fleet.puts() == puts + 1
    demand_quiet(fleet, mirror)


@DISKS
def test_added_key_does_not_stop_a_new_one(fleet: Fleet, disk: str) -> None:
    """B appears on one apiserver: {A, B} is public, and signed."""
    mirror = steady(fleet, A)
    push_x(fleet)
    fleet.show((A,), (A, B))
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A, B)
    assert statuses(fleet.remote) == {"A": "published", "B": "published"}
    demand_signed(fleet)
    demand_quiet(fleet, on(disk, mirror))


@DISKS
@pytest.mark.parametrize("signed", [False], ids=["trusted"])
def test_added_key_is_trusted_without_a_signing_key(fleet: Fleet, disk: str) -> None:
    """Anyone who can push is trusted, and the program reports it: X is public, and retires normally."""
    mirror = steady(fleet, A)
    push_x(fleet)
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A, X)
    assert on("kept", mirror).run(after=25 * HOUR).status == 0
    assert mirror.run(after=25 * HOUR).status == 0
    assert public_kids(fleet) == kids(A)
    demand_quiet(fleet, mirror)


@pytest.mark.parametrize("signed", [False], ids=["trusted"])
def test_trusted_remote_is_said_by_check_and_status(fleet: Fleet) -> None:
    """`repository.unsigned` in `check`, and the mode in the JSON of `status`."""
    mirror = steady(fleet, A)
    check = mirror.command("check", "--output", "json")
    codes = {each["code"] for each in json.loads(check.stdout)["findings"]}
    assert "repository.unsigned" in codes
    status = mirror.command("status", "--output", "json")
    assert json.loads(status.stdout)["repository"]["mode"] == "trusted"
    assert "repository.unsigned" in status.stdout


def test_public_text_alone_is_written_over(fleet: Fleet) -> None:
    """`public/` is rendered from the ledger, and needs no signature: another text there is a mismatch, not a key."""
    mirror = steady(fleet, A)
    pusher = fleet.pusher()
    pusher.fetch()
    path = f"public/oidc-bucket.s3-ap-southeast-2.amazonaws.com/{JWKS_KEY}"
    pusher.write(path, public_bytes(A, EVIL))
    pusher.push()
    ended = mirror.run()
    assert ended.status == 0, ended.text()
    assert "history.mismatch" in ended.names
    assert public_kids(fleet) == kids(A)
    assert git(fleet.remote, "cat-file", "blob", f"main:{path}").encode() == public_bytes(A).rstrip(b"\n")
    demand_quiet(fleet, mirror)


_REVOKED = {"at": "2026-11-01T08:00:00Z", "reason": "because I can", "last": True}
CHANGES: dict[str, Callable[[Pusher], object]] = {
    "adds": lambda p: p.add(record(X)),
    "adds-retiring": lambda p: p.add(record(X, "retiring", 9, missing_since="2026-11-01T08:00:00Z")),
    "adds-held": lambda p: p.add(record(X, "held", held_because="policy")),
    "demotes": lambda p: p.edit(
        lambda r: {**r, "status": "retiring", "generation": 9, "missing_since": "2026-11-01T08:00:00Z"}
    ),
    "drops": lambda p: p.write_records([dropped(r["kid"], r["thumbprint"], 9) for r in p.records()]),
    "revokes": lambda p: p.write_records(
        [{**r, "status": "revoked", "generation": 9, "revoked": _REVOKED} for r in p.records()]
    ),
    "ages": lambda p: p.edit(lambda r: {**r, "first_seen": "2000-01-01T00:00:00Z", "generation": 2**53}),
    "duplicates": lambda p: p.write_records([*p.records(), *p.records()]),
    "changes-the-alg": lambda p: p.edit(lambda r: {**r, "key": {**r["key"], "alg": "RS384"}}),
    "damages": lambda p: p.write(LEDGER, p.read()[:-40]),
    "damages-the-signature": lambda p: p.write(SIGNATURE, p.read(SIGNATURE)[:-9] + b"AAAAAAAA\n"),
    "lengthens-the-signature": lambda p: p.write(SIGNATURE, p.read(SIGNATURE) + b"\n"),
    "deletes-the-signature": lambda p: p.delete(SIGNATURE),
    "deletes-the-ledger": lambda p: p.delete(LEDGER, SIGNATURE),
    "deletes-everything": lambda p: p._git("rm", "-r", "--quiet", "."),
    "fills": lambda p: p.write(LEDGER, b" " * (5 * 1024 * 1024)),
    "fills-the-signature": lambda p: p.write(SIGNATURE, p.read(SIGNATURE).rstrip() * 100),
    "signs-with-another-key": lambda p: p.add(record(X), signer=UNLISTED_SIGNER),
    "plants-a-private-key": lambda p: p.edit(lambda r: {**r, "key": {**r["key"], "d": "AQAB"}}),
    "links": lambda p: p.link(LEDGER, "/etc/passwd"),
    "makes-it-a-folder": lambda p: p.make_folder(LEDGER),
}


EMPTY_TOO = (
    "adds",
    "demotes",
    "revokes",
    "deletes-the-ledger",
    "deletes-everything",
    "signs-with-another-key",
    "links",
)
"""What is tried with empty disks too: the others take the same way there."""
CASES = [
    pytest.param(disk, change, id=f"{name}-{disk}")
    for name, change in CHANGES.items()
    for disk in ("kept", *(("empty",) if name in EMPTY_TOO else ()))
]


@pytest.mark.parametrize(("disk", "change"), CASES)
def test_pusher_without_a_key_changes_nothing(fleet: Fleet, disk: str, change: Callable[[Pusher], object]) -> None:
    """No object is put, A stays public and signed, and a pass, a day and a new key later all is as it should be."""
    mirror = steady(fleet, A)
    pusher, objects, puts = fleet.pusher(), dict(fleet.bucket.objects), fleet.puts()
    pusher.fetch()
    change(pusher)
    pusher.push()
    for after in (MINUTE, 25 * HOUR):
        on(disk, mirror).run(after=after)
        assert fleet.bucket.objects == objects
    assert fleet.puts() == puts
    fleet.show((A,), (A, B))
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A, B)
    demand_signed(fleet)
    demand_quiet(fleet, on(disk, mirror))


@pytest.mark.parametrize("signed", [False], ids=["trusted"])
def test_endless_generation_does_not_stop_a_revocation(fleet: Fleet) -> None:
    """A trusted ledger with the highest generation that there is: V can still be revoked, and leaves at once."""
    mirror = steady(fleet, A, V)
    pusher = fleet.pusher()
    pusher.fetch()
    pusher.edit(lambda each: {**each, "generation": 2**53})
    pusher.push()
    mirror.policy = REVOKES_V
    ended = mirror.run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A)
    demand_quiet(fleet, mirror)


@MODES
@pytest.mark.parametrize("count", [511, 3000])
def test_dropped_records_never_keep_a_new_key_out(fleet: Fleet, count: int, *, signed: bool) -> None:
    """An external signer's half year, and four years: what is shown is published, and nothing is forgotten."""
    mirror = steady(fleet, A, allowed=(OPERATOR,) if signed else ())
    pusher = fleet.pusher()
    pusher.fetch()
    old = [dropped(f"signer/{n:05}", _thumbprint(n)) for n in range(count)]
    pusher.add(*old, signer=OPERATOR if signed else None, role="operator")
    pusher.push()
    fleet.show((A, B), (A, B))
    ended = mirror.run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A, B)
    assert len(statuses(fleet.remote)) == count + 2
    fleet.show((B, K), (B, K))
    assert mirror.run().status == 0
    assert public_kids(fleet) == kids(A, B, K)
    demand_quiet(fleet, mirror)


def _thumbprint(number: int) -> str:
    return f"{number:043}"


# ----------------------------------------------------------------------------------------------- borrowed signatures


@DISKS
@pytest.mark.parametrize("of", ["another repository", "another issuer"])
def test_ledger_that_was_signed_for_something_else_counts_nothing(fleet: Fleet, disk: str, of: str) -> None:
    """The same key signed it, for another repository or another issuer: `ledger.unsigned`, {A}."""
    fleet.issuers[SECOND] = SECOND_URL
    fleet.show((X,), (X,), name=SECOND)
    mirror = steady(fleet, A)
    pusher, puts = fleet.pusher(), fleet.puts()
    pusher.fetch()
    if of == "another repository":
        pusher.write_records([record(A), record(X)], signer=MIRROR, repository="oidc-mirror-test")
    else:
        pusher.write(LEDGER, pusher.read(SECOND_LEDGER))
        pusher.write(SIGNATURE, pusher.read(f"{SECOND_LEDGER}.jws"))
    pusher.push()
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert "ledger.unsigned" in ended.of(NAME)
    assert (public_kids(fleet), fleet.puts()) == (kids(A), puts)
    demand_signed(fleet)
    demand_quiet(fleet, on(disk, mirror))


HEADERS: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "another-typ": lambda header: {**header, "typ": "JWT"},
    "another-issuer": lambda header: {**header, "issuer": SECOND_URL},
    "another-kid": lambda header: {**header, "kid": UNLISTED_SIGNER.fingerprint()},
    "one-more-member": lambda header: {**header, "cty": "JWT"},
}


@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS)
def test_good_signature_under_another_header_counts_nothing(
    fleet: Fleet, change: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    """The right key, but not the header that we would write (attacks/test_ledger_signature.py has all of them)."""
    mirror = steady(fleet, A)
    pusher, puts = fleet.pusher(), fleet.puts()
    pusher.fetch()
    pusher.add(record(X))
    header = canonical(change(MIRROR.header(ISSUER)))
    pusher.write(SIGNATURE, MIRROR.sign_header(pusher.read(), header))
    pusher.push()
    for after in (MINUTE, HOUR, MINUTE):
        mirror.run(after=after)
    assert (public_kids(fleet), fleet.puts()) == (kids(A), puts)
    assert statuses(fleet.remote) == {"A": "published"}
    demand_signed(fleet)
    demand_quiet(fleet, mirror)


@DISKS
def test_ledger_signed_by_the_key_is_accepted_from_any_pusher(fleet: Fleet, disk: str) -> None:
    """The other way round: a good signature of another implementation is all that counts."""
    mirror = steady(fleet, A)
    push_x(fleet, signer=MIRROR)
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A, X)
    assert not {"ledger.unsigned", "ledger.damaged", "ledger.unknown_signer"} & ended.names


@DISKS
def test_note_on_top_of_a_pusher_lends_him_nothing(fleet: Fleet, disk: str) -> None:
    """An operator's own commit on top of the pusher's X: {A}, as without it."""
    mirror = steady(fleet, A)
    push_x(fleet)
    ada = fleet.pusher("ada")
    ada.fetch()
    ada.write("NOTES.md", b"Seen and fine.\n")
    ada.push("A note by hand")
    puts = fleet.puts()
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert "ledger.unsigned" in ended.names
    assert (public_kids(fleet), fleet.puts()) == (kids(A), puts)
    assert git(fleet.remote, "cat-file", "blob", "main:NOTES.md") == "Seen and fine."
    demand_quiet(fleet, on(disk, mirror))


@DISKS
def test_unsigned_commit_stops_no_fetch(fleet: Fleet, disk: str) -> None:
    """With `allowed_signers`, an unsigned commit that changes no ledger has no effect."""
    mirror = steady(fleet, A, allowed=(OPERATOR,))
    ada = fleet.pusher("ada")
    ada.fetch()
    ada.write("NOTES.md", b"x\n")
    ada.push()
    fleet.show((A, B), (A, B))
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert not {"remote.unreachable", "push.failed", "ledger.unsigned"} & ended.names
    assert public_kids(fleet) == kids(A, B)
    demand_quiet(fleet, on(disk, mirror))
