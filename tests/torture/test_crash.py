"""Kills all processes or one before any system call that changes something: one more run repairs everything.

The suite tries a few calls of two situations; `make torture ARGS="--only crash"` tries every call of all.
"""

from pathlib import Path

import pytest

from support.s3 import S3Server
from torture.crashes import MODES, expected, kill_and_settle
from torture.scale import scale, tally
from torture.scenes import SITUATIONS, running_scene

pytestmark = pytest.mark.s3

IN_SUITE = ("first pass", "replacement")


def numbers(calls: int) -> list[int]:
    """The numbers of the calls before which the command is killed."""
    if scale().kills:
        return [1 + calls * (2 * each + 1) // (2 * scale().kills) for each in range(scale().kills)]
    return list(scale().calls or range(scale().seed, calls + 1, scale().every))


@pytest.mark.parametrize("name", (scale().cases or SITUATIONS) if scale().everything else IN_SUITE)
def test_killed_at_any_call_the_next_run_finishes(s3_server: S3Server, tmp_path: Path, name: str) -> None:
    """Git and bucket equal those of an undisturbed run, `git fsck --strict` passes, no lock is left, no commit lost."""
    with running_scene(s3_server, tmp_path, name) as scene:
        wanted = expected(scene)
        scene.set_back()
        calls = scene.killed(0, "all").calls
        assert calls > 100, "this situation changes too little to be one"
        kills, failures = 0, []
        modes = tuple(mode for mode in MODES if mode in scale().modes)
        for number in numbers(calls):
            # In the suite the modes alternate.
            for mode in modes if scale().everything else modes[number % 2 :][:1]:
                try:
                    kills += kill_and_settle(scene, wanted, number, mode).at is not None
                except AssertionError as error:  # all failures are reported, not only the first
                    failures.append((number, mode, str(error)))
                    print(name, *failures[-1], flush=True)
        assert failures == []
        assert kills
        tally("crash", name, calls=calls, kills=kills)
