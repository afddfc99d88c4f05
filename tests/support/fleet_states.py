"""The states in which mirrors are attacked, what attackers and operators do in them, and what must hold afterwards."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.fleets import (
    MIRROR,
    POLICY,
    A,
    Ended,
    Fleet,
    GitMirror,
    R,
    V,
    X,
    kids,
    public_bytes,
    public_kids,
)
from support.pushers import record, signed_by, statuses
from support.situations import JWKS_KEY, LEDGER

HOLD = replace(POLICY, new_keys="hold")
REVOKES_V = replace(POLICY, revoked=frozenset({V.thumbprint}))

MODES = pytest.mark.parametrize("signed", [True, False], ids=["signed", "trusted"])
DISKS = pytest.mark.parametrize("disk", ["kept", "empty"])


@pytest.fixture
def signed() -> bool:
    """Whether the mirrors have a signing key; `MODES` makes a test of both."""
    return True


@pytest.fixture
def fleet(tmp_path: Path, *, signed: bool) -> Fleet:
    return Fleet(tmp_path, signed=signed)


def steady(fleet: Fleet, *keys: Any, **changes: Any) -> GitMirror:
    """A mirror with apiservers that show `keys`, which are public and pushed."""
    mirror = fleet.mirror(**changes)
    fleet.show(keys, keys)
    ended = mirror.run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(*keys)
    return mirror


def retiring(fleet: Fleet) -> GitMirror:
    """A mirror with A public and R retiring."""
    mirror = steady(fleet, A, R)
    fleet.show((A,), (A,))
    assert mirror.run().status == 0
    assert statuses(fleet.remote) == {"A": "published", "R": "retiring"}
    return mirror


def on(disk: str, mirror: GitMirror) -> GitMirror:
    """The mirror that makes the next pass: the same one, or a pod with its configuration and an empty disk."""
    if disk == "kept":
        return mirror
    pod = mirror.fleet.mirror()
    return replace(mirror, disk=pod.disk)


def revoke_v(mirror: GitMirror) -> str:
    """V is revoked, so that git and the bucket say so; gives the commit before."""
    before = mirror.fleet.head()
    mirror.policy, configured = REVOKES_V, mirror.policy
    assert mirror.run().status == 0
    mirror.policy = configured
    assert "V" not in (public_kids(mirror.fleet) or frozenset("V"))
    return before


def overwrite(fleet: Fleet, *keys: Any, snapshot: str | None = None) -> None:
    """Another writer writes the JWKS object past the mirrors."""
    fleet.bucket.write(JWKS_KEY, public_bytes(*keys), "application/jwk-set+json", "public, max-age=300", snapshot)


def demand_quiet(fleet: Fleet, *mirrors: GitMirror, status: int = 0) -> None:
    """A further pass of each mirror does nothing at all."""
    before = fleet.commits(), fleet.puts(), fleet.head()
    for mirror in mirrors:
        ended = mirror.run()
        assert ended.status == status, ended.text()
    assert (fleet.commits(), fleet.puts(), fleet.head()) == before


def demand_signed(fleet: Fleet, path: str = LEDGER) -> None:
    """The ledger on the remote is signed by the mirrors' key, as another implementation reads it."""
    header = signed_by(fleet.remote, MIRROR, path=path)
    assert header is not None
    assert header["role"] == "mirror"


def event(ended: Ended, name: str) -> str:
    """What a pass reported under a name, as text."""
    assert ended.report is not None, ended.error
    found = [*ended.report.events, *(each for issuer in ended.report.issuers for each in issuer.events)]
    (first, *_) = [each for each in found if each.name == name] or pytest.fail(f"no {name} in {ended.names}")
    return f"{first.sentence} {dict(first.fields)}"


def push_x(fleet: Fleet, *, signer: Any = None, **more: Any) -> str:
    """The pusher adds X as published; gives the commit."""
    pusher = fleet.pusher()
    pusher.fetch()
    pusher.add(record(X, **more), signer=signer)
    return pusher.push()
