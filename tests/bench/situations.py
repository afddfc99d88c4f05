"""What the jobs are put into: what is true before each of them runs."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.clusters import Fleet
from bench.jobs import DONE, DONE_FOR_OTHERS
from bench.store import Store

_DEAD, _SLOW = 0.01, 0.1


@dataclass(frozen=True, slots=True)
class Situation:
    """`before` makes it true before each run of each job; `most_runs` is how often at most; so the jobs have to end."""

    name: str
    before: Callable[[Fleet, Store], None]
    most_runs: int | None = None
    ends_with: int = DONE


def _nothing(_fleet: Fleet, _store: Store) -> None:
    return


def _first(fleet: Fleet, store: Store) -> None:
    fleet.forget()
    store.empty()


def _one_changed(fleet: Fleet, _: Store) -> None:
    fleet.rotate(1)


def _all_rotated(fleet: Fleet, _: Store) -> None:
    fleet.rotate(fleet.size)


def _dead(fleet: Fleet, _: Store) -> None:
    fleet.write_lists(dead=max(1, round(fleet.size * _DEAD)))


def _slow(fleet: Fleet, _: Store) -> None:
    fleet.write_lists()
    fleet.slow_down(max(1, round(fleet.size * _SLOW)))


SITUATIONS = (
    Situation("first pass", _first, 3),
    Situation("unchanged", _nothing),
    Situation("one changed", _one_changed),
    Situation("all rotated", _all_rotated, 3),
    Situation("1 % dead", _dead, 1, DONE_FOR_OTHERS),
    Situation("10 % slow", _slow, 2),
)
"""In this order: each but the first needs what the ones before it left."""
