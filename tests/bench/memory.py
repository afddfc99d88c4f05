"""Resident memory of the daemon over a thousand passes in which nothing changes, one a second."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from bench.clusters import Fleet
from bench.freshness import running_daemon

MEMORY = "memory"
LOOKS = (10, 100, 500, 1000)
"""After so many passes the daemon is looked at, and after the last one."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the daemon had come to after `passes`."""

    passes: int
    resident_mib: float
    cpu_seconds: float


def memory(fleet: Fleet, passes: int) -> dict[str, object]:
    """One size: the looks as data."""
    found = []
    with running_daemon(fleet, settings={"interval": "1s"}) as daemon:
        for wanted in sorted({each for each in (*LOOKS, passes) if each <= passes}):
            daemon.wait_for(wanted)
            look = Look(daemon.passes(), daemon.resident_mib(), daemon.cpu_seconds())
            found.append(look)
    return {"clusters": fleet.size, "replicas": fleet.replicas, "situation": MEMORY, "looks": list(map(asdict, found))}


def reported(found: Mapping[str, object]) -> str:
    """A line for each look."""
    looks = found["looks"]
    assert isinstance(looks, list)
    return "\n".join(
        f"{found['clusters']:8}  {MEMORY}      after {each['passes']:4} passes: {each['resident_mib']:.1f} MiB, "
        f"{each['cpu_seconds'] / each['passes']:.3f} CPU s a pass"
        for each in looks
    )
