"""Do something for each issuer: here and now where nobody must be asked, in threads where the bucket or git must be.

Most issuers of most passes need nothing but what was read before they are decided. A thousand of them in a pool of
threads would only take the interpreter's lock from each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeVar, cast

from mirror.pool import each_at_once
from mirror.ports import Ports

T = TypeVar("T")
R = TypeVar("R")


class _Asks(BaseException):
    """The work wants to ask the outside world. No `Exception`, because work turns those into its issuer's failure."""


class _Nobody:
    """Stands for every port: whoever asks it anything is interrupted before anything has happened."""

    def __getattr__(self, name: str) -> NoReturn:
        raise _Asks(name)


def for_each(work: Callable[[T, Ports], R], things: Sequence[T], ports: Ports, *, workers: int) -> tuple[R, ...]:
    """The results of `work`, in the order of `things`; what `work` raises is raised here.

    Args:
        work: What is to be done. Until it first asks a port it changes nothing, because then it is begun anew.
        things: One argument of `work` each.
        ports: The outside world.
        workers: How many ask at the same time.
    """
    nobody = _nobody(ports)
    done: dict[int, R] = {}
    for at, thing in enumerate(things):
        try:
            done[at] = work(thing, nobody)
        except _Asks:
            continue
    asking = [at for at in range(len(things)) if at not in done]
    if asking:
        answers = each_at_once(lambda at: work(things[at], ports), asking, workers=workers, cancel=ports.cancel)
        done.update(zip(asking, answers, strict=True))
    return tuple(done[at] for at in range(len(things)))


def _nobody(ports: Ports) -> Ports:
    nobody = cast("Any", _Nobody())
    return replace(ports, source=nobody, history=nobody, view=nobody, cdn=nobody, bucket=lambda _: nobody)
