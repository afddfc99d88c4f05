"""How many cores this process may use: what is set for it, and what its control group leaves it."""

import os
from collections.abc import Callable
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cores(
    *,
    cgroups: Path = CGROUPS,
    own_cgroup: Path = OWN_CGROUP,
    affinity: Callable[[], int] = lambda: len(os.sched_getaffinity(0)),
) -> int:
    """At least one.

    The limit of a container or a unit is a share of time (`cpu.max` of cgroup v2): with half a core, sixteen cores
    only run into it sooner.

    Args:
        cgroups: Where the control groups are mounted.
        own_cgroup: The file that names our own.
        affinity: How many cores we may run on.
    """
    try:
        name = own_cgroup.read_text(encoding="utf-8").partition("0::")[2].splitlines()[0]
        quota, period = (cgroups / name.lstrip("/") / "cpu.max").read_text(encoding="ascii").split()
        return max(1, min(affinity(), int(quota) // int(period)))
    except (OSError, ValueError, IndexError, ZeroDivisionError):  # no such limit: "max", or cgroup v1
        return affinity()
