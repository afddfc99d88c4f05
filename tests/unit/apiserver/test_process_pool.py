"""The number of usable cores respects the limits of a container or a systemd unit."""

from pathlib import Path

import pytest

from mirror.concurrency import available_cpus


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", 8),
        ("400000 100000", 4),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("100000 0", 8),
        ("", 8),
        (None, 8),
    ],
    ids=["none", "four", "one and a half", "half", "more than there are", "no period", "empty", "no file"],
)
def test_quota_of_the_control_group_counts(tmp_path: Path, limit: str | None, cores: int) -> None:
    """The result is the whole cores of the quota, at least one and at most the existing ones."""
    group = tmp_path / "system.slice/oidc-mirror.service"
    group.mkdir(parents=True)
    if limit is not None:
        (group / "cpu.max").write_text(f"{limit}\n", encoding="ascii")
    own = tmp_path / "cgroup"
    own.write_text("0::/system.slice/oidc-mirror.service\n", encoding="ascii")
    assert available_cpus(cgroups=tmp_path, own_cgroup=own, affinity=lambda: 8) == cores


@pytest.mark.parametrize("text", [None, "", "2:cpu:/elsewhere\n"], ids=["no file", "empty", "cgroup v1"])
def test_without_a_group_of_our_own_the_affinity_counts(tmp_path: Path, text: str | None) -> None:
    """Without cgroup v2 the quota is unknown."""
    own = tmp_path / "cgroup"
    if text is not None:
        own.write_text(text, encoding="ascii")
    assert available_cpus(cgroups=tmp_path, own_cgroup=own, affinity=lambda: 3) == 3


def test_this_machine_has_cores() -> None:
    """The real files of this machine give a plausible number."""
    assert available_cpus() >= 1
