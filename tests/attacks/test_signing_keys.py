"""Keys that sign ledgers: missing, strange, new on one mirror alone, rotated, an operator's, taken back."""

import json
from dataclasses import replace

import pytest

from support.fleet_states import REVOKES_V, demand_quiet, demand_signed, on, push_x, revoke_v, steady
from support.fleets import (
    MIRROR,
    OPERATOR,
    UNLISTED_SIGNER,
    A,
    B,
    Fleet,
    V,
    kids,
    public_kids,
)
from support.gits import git
from support.ledger_signers import signers_file
from support.pushers import signed_by, statuses
from support.situations import NAME

pytestmark = pytest.mark.unmeasured  # unit tests reach the same lines

SIGNERS = {
    "missing": None,
    "empty": b"",
    "only-a-comment": b"# nobody yet\n",
    "no-key": b"not a key\n",
    "a-good-line-and-a-bad-one": f"{OPERATOR.line()}\nssh-ed25519 AAAA\n".encode(),
    "options": f"cert-authority {OPERATOR.line()}\n".encode(),
    "principals": f"ada@example.com {OPERATOR.line()}\n".encode(),
}


@pytest.mark.parametrize("body", SIGNERS.values(), ids=SIGNERS)
def test_useless_allowed_signers_are_a_usage_error(fleet: Fleet, body: bytes | None) -> None:
    """Missing, empty, or with a line that is no key: exit 2, and nothing changes."""
    mirror = steady(fleet, A)
    push_x(fleet)
    config = mirror.config()
    path = mirror.disk / "bad_signers"
    if body is not None:
        path.write_bytes(body)
    config["repository"]["allowed_signers"] = str(path)
    before = fleet.head(), git(mirror.disk / "snapshots.git", "rev-parse", "main")
    done = mirror.command("--once", config=config)
    assert done.returncode == 2, done.stderr
    assert "bad_signers" in done.stderr
    assert (fleet.head(), git(mirror.disk / "snapshots.git", "rev-parse", "main")) == before


# --------------------------------------------------------------------------------------------- several mirrors, keys


@pytest.mark.parametrize("signed", [False], ids=["trusted at first"])
def test_first_pass_with_a_signing_key_signs_what_it_trusted(fleet: Fleet) -> None:
    """A kept disk with a trusted head: that one pass signs what it finds; a pod does not sign what it finds."""
    mirror = steady(fleet, A, V)
    mirror.signing_key = MIRROR
    pod = on("empty", mirror)
    waiting = pod.run()
    assert (waiting.status, "ledger.lost" in waiting.names) == (1, True), waiting.text()
    assert signed_by(fleet.remote, MIRROR) is None
    ended = mirror.run()
    assert ended.status == 0, ended.text()
    demand_signed(fleet)
    assert public_kids(fleet) == kids(A, V)
    demand_quiet(fleet, mirror, on("empty", mirror))
    push_x(fleet)
    assert "ledger.unsigned" in mirror.run().names
    assert public_kids(fleet) == kids(A, V)


@pytest.mark.parametrize("signed", [False], ids=["mixed"])
def test_mirror_without_a_signing_key_stops_at_a_signature(fleet: Fleet) -> None:
    """One of two mirrors has no `signing_key` yet: exit 2, `repository.signed`, and it changes nothing."""
    one = steady(fleet, A)
    two = fleet.mirror()
    assert two.run().status == 0
    one.signing_key = MIRROR
    assert one.run().status == 0
    fleet.show((A,), (A, B))
    two.source = replace(fleet.source, answers=dict(fleet.source.answers))
    fleet.show((A,), (A,))
    before = fleet.commits(), fleet.puts()
    for _ in range(40):
        stopped = two.run()
        assert stopped.status == 2, stopped.text()
        assert "repository.signed" in stopped.names or "signing_key" in stopped.error
        assert one.run().status == 0
    assert (fleet.commits(), fleet.puts()) == before
    assert public_kids(fleet) == kids(A)


@pytest.mark.parametrize("signed", [False], ids=["trusted at first"])
def test_disk_of_an_earlier_program_brings_its_revocation_into_a_signed_repository(fleet: Fleet) -> None:
    """It was never pushed, and another mirror signed the repository in between: the own head still counts."""
    one = steady(fleet, A, V)
    two = fleet.mirror()
    assert two.run().status == 0
    fleet.away()
    two.policy = REVOKES_V
    two.run()
    two.policy = None
    fleet.back()
    state = two.disk / "local-state.json"
    apiservers = {url: each["apiservers"] for url, each in json.loads(state.read_text())["issuers"].items()}
    state.unlink()
    (two.disk / "notebook.json").write_text(json.dumps({"sources": apiservers, "has_pushed": True}))
    one.signing_key = MIRROR
    assert one.run().status == 0
    assert statuses(fleet.remote)["V"] == "published"
    two.signing_key = MIRROR
    ended = two.run()
    assert ended.status == 0, ended.text()
    assert statuses(fleet.remote) == {"A": "published", "V": "revoked"}
    assert public_kids(fleet) == kids(A)
    demand_signed(fleet)
    one.run()
    demand_quiet(fleet, one, two)


def test_mirrors_that_do_not_know_each_others_keys_shout_and_do_not_fight(fleet: Fleet) -> None:
    """`ledger.unknown_signer`, exit 1, with the line to add; at most one ledger and one put an `audit_interval`."""
    one = steady(fleet, A)
    two = replace(fleet.mirror(), signing_key=UNLISTED_SIGNER)
    before = fleet.commits(), fleet.puts()
    ended = [mirror.run() for _ in range(10) for mirror in (two, one)]
    assert "ledger.unknown_signer" in ended[0].names
    assert ended[0].status == 1
    assert MIRROR.line().split()[1] in ended[0].text() or MIRROR.fingerprint() in ended[0].text()
    assert fleet.commits() - before[0] <= 2
    assert fleet.puts() - before[1] <= 2
    assert public_kids(fleet) == kids(A)


def test_signing_key_is_rotated_without_a_gap(fleet: Fleet) -> None:
    """The new key is listed, then used, then the old one goes: V, which was revoked before, stays out."""
    mirror = steady(fleet, A, V)
    revoke_v(mirror)
    mirror.allowed = (MIRROR, OPERATOR)
    demand_quiet(fleet, mirror)
    mirror.signing_key = OPERATOR
    fleet.show((A, V, B), (A, V, B))
    assert mirror.run().status == 0
    assert signed_by(fleet.remote, OPERATOR) is not None
    mirror.allowed = ()
    pod = on("empty", mirror)
    ended = pod.run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A, B)
    demand_quiet(fleet, mirror, on("empty", mirror))


def test_operators_line_may_go_after_the_next_pass(fleet: Fleet) -> None:
    """The operator signs `revoke V`; a mirror's pass signs the ledger again, so V stays out without that line."""
    mirror = steady(fleet, A, V, allowed=(OPERATOR,))
    key = OPERATOR.private_file(fleet.folder / "operators_key")
    laptop = fleet.mirror()
    config = laptop.config()
    config["repository"]["signing_key"] = str(fleet.folder / "not-on-this-machine")
    config["repository"]["allowed_signers"] = str(signers_file(fleet.folder / "signers", MIRROR, OPERATOR))
    words = ("--reason", "stolen", "--no-pass", "--yes", "--signing-key", str(key), "--", V.thumbprint)
    done = laptop.command("revoke", NAME, *words, config=config)
    assert done.returncode == 0, done.stderr
    header = signed_by(fleet.remote, OPERATOR)
    assert header is not None
    assert header["role"] == "operator"
    assert mirror.run().status == 0
    assert public_kids(fleet) == kids(A)
    demand_signed(fleet)
    mirror.allowed = ()
    ended = on("empty", mirror).run()
    assert ended.status == 0, ended.text()
    assert "ledger.unknown_signer" not in ended.names
    assert public_kids(fleet) == kids(A)
    assert statuses(fleet.remote)["V"] == "revoked"
    demand_quiet(fleet, mirror)


def test_operator_without_an_accepted_signature_decides_nothing(fleet: Fleet) -> None:
    """His key is not listed: the command fails before it commits, with the remedy."""
    mirror = steady(fleet, A, V, allowed=(OPERATOR,))
    key = UNLISTED_SIGNER.private_file(fleet.folder / "unlisted_key")
    config = mirror.config()
    config["repository"]["signing_key"] = str(fleet.folder / "not-on-this-machine")
    config["repository"]["allowed_signers"] = str(signers_file(fleet.folder / "signers", MIRROR, OPERATOR))
    before = fleet.head()
    words = ("--reason", "stolen", "--no-pass", "--yes", "--signing-key", str(key), "--", V.thumbprint)
    done = fleet.mirror().command("revoke", NAME, *words, config=config)
    assert done.returncode != 0
    assert "allowed_signers" in done.stderr
    assert fleet.head() == before
