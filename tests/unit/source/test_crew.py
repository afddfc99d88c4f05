"""Many apiservers are asked by several processes: nobody can tell, but by the time it takes."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from mirror.config.settings import Issuer, Limits, Tls
from mirror.model import Answer, IssuerName, Unusable
from mirror.source.apiservers import Apiservers
from mirror.source.crew import Crew
from support.apiserver import Apiserver, never_answer
from support.askers import codes, ignore, issuer, limits
from support.tls import ca_file

WORKER = (sys.executable, "-m", "mirror.cli.worker")
SLOW_START_SECONDS = 20.0
"""A busy machine takes its time to start two processes."""


class Nobody:
    """A source that must not be asked."""

    def ask(
        self, issuers: Sequence[Issuer], *, turn: int, progress: Callable[[IssuerName], None]
    ) -> Mapping[IssuerName, tuple[Answer | Unusable, ...]]:
        raise AssertionError((issuers, turn, progress))

    def cancel(self) -> None:
        return


@pytest.fixture
def server() -> Iterator[Apiserver]:
    with Apiserver() as running:
        yield running


@pytest.fixture
def trusted(tmp_path: Path) -> Tls:
    return Tls(ca_file=ca_file(tmp_path))


def crew(within: Limits | None = None, command: Sequence[str] = WORKER) -> Crew:
    """A crew of two that thinks that every apiserver is many."""
    return Crew(within or limits(), alone=Nobody(), command=command, cores=2, apiservers_a_process=1)


def children() -> set[str]:
    """The processes of this one that run a worker, or became nothing yet."""
    ours = f"/proc/self/task/{threading.get_native_id()}/children"
    return set(Path(ours).read_text(encoding="ascii").split())


def test_crew_answers_as_one_process_does(server: Apiserver, trusted: Tls) -> None:
    """The same answers under the same names in configured order, each issuer told once."""
    told: list[IssuerName] = []
    issuers = [issuer(server.url, server.url, name=name, tls=trusted) for name in ("one", "two", "three")]
    answers = crew().ask(issuers, turn=1, progress=told.append)
    assert list(answers) == ["one", "two", "three"]
    assert sorted(told) == ["one", "three", "two"]
    alone = Apiservers(limits()).ask(issuers, turn=1, progress=ignore)
    assert [replace(each, date=None) for each in answers[IssuerName("three")]] == [
        replace(each, date=None) for each in alone[IssuerName("three")]
    ]
    assert [codes(each) for each in answers.values()] == [[(), ()]] * 3


@pytest.mark.parametrize(("cores", "worth_it"), [(1, 1), (2, 2)], ids=["one core", "few apiservers"])
def test_where_a_crew_is_not_worth_it_this_process_asks(
    server: Apiserver, trusted: Tls, cores: int, worth_it: int
) -> None:
    """On one core, and for few apiservers, no process is started: the command is one that would fail."""
    alone = Apiservers(limits())
    asking = Crew(limits(), alone=alone, command=("false",), cores=cores, apiservers_a_process=worth_it)
    issuers = [issuer(server.url, name=name, tls=trusted) for name in ("one", "two", "three")]
    assert [codes(each) for each in asking.ask(issuers, turn=0, progress=ignore).values()] == [[()]] * 3


def test_what_asking_does_not_need_stays_here(server: Apiserver, trusted: Tls) -> None:
    """Members for the discovery document may be of any type, and are not sent to another process."""
    extra = MappingProxyType({"a": 1})
    issuers = [replace(issuer(server.url, name=name, tls=trusted), discovery_extra=extra) for name in ("one", "two")]
    answers = crew().ask(issuers, turn=0, progress=ignore)
    assert [codes(each) for each in answers.values()] == [[()]] * 2


def test_issuer_without_apiservers_has_no_answers(server: Apiserver, trusted: Tls) -> None:
    """Nobody to ask is no error, and takes nothing from the others."""
    issuers = [issuer(name="none"), *(issuer(server.url, name=name, tls=trusted) for name in ("one", "two"))]
    answers = crew().ask(issuers, turn=0, progress=ignore)
    assert [codes(each) for each in answers.values()] == [[], [()], [()]]


def test_lost_process_is_told_and_costs_its_own_issuers(server: Apiserver, trusted: Tls, tmp_path: Path) -> None:
    """A process that ends before it answered, as for want of memory, leaves a reason; the others' answers stand."""
    # Who comes first works, the second one ends at once.
    first = f'mkdir {tmp_path / "first"} 2>/dev/null && exec "$0" -m mirror.cli.worker "$1"; exit 1'
    issuers = [issuer(server.url, name=name, tls=trusted) for name in ("one", "two")]
    told: list[IssuerName] = []
    answers = crew(command=("sh", "-c", first, sys.executable)).ask(issuers, turn=0, progress=told.append)
    assert sorted(codes(each)[0] for each in answers.values()) == [(), ("unexpected",)]
    (lost,) = [each for (each,) in answers.values() if isinstance(each, Unusable)]
    assert "ended before the answer was complete" in lost.reasons[0].sentence
    assert sorted(told) == ["one", "two"]


def test_lost_crew_is_told_for_everybody(trusted: Tls) -> None:
    """Nothing hangs and nothing raises when no process can work."""
    issuers = [issuer("https://127.0.0.1:1", name=name, tls=trusted) for name in ("one", "two")]
    answers = crew(command=("false",)).ask(issuers, turn=0, progress=ignore)
    assert [codes(each) for each in answers.values()] == [[("unexpected",)]] * 2


def test_slow_issuer_does_not_take_the_other_along(server: Apiserver, trusted: Tls) -> None:
    """When the time is over, who has answered keeps the answer, and the rest say that they were late."""
    with Apiserver() as slow:
        slow.pull(never_answer)
        issuers = [issuer(slow.url, name="slow", tls=trusted), issuer(server.url, name="quick", tls=trusted)]
        answers = crew(limits(source_deadline_seconds=SLOW_START_SECONDS / 4)).ask(issuers, turn=0, progress=ignore)
    assert codes(answers[IssuerName("quick")]) == [()]
    (late,) = answers[IssuerName("slow")]
    assert isinstance(late, Unusable)
    assert "limits.source_deadline" in late.reasons[0].sentence


def test_process_that_never_ends_is_ended(trusted: Tls) -> None:
    """The deadline holds for the processes too, whatever they do."""
    issuers = [issuer("https://127.0.0.1:1", name=name, tls=trusted) for name in ("one", "two")]
    within = limits(source_deadline_seconds=1.0)
    answers = crew(within, ("sh", "-c", "exec sleep 600")).ask(issuers, turn=0, progress=ignore)
    assert [codes(each) for each in answers.values()] == [[("timeout",)]] * 2
    assert children() == set()


def test_cancel_ends_a_running_ask(server: Apiserver, trusted: Tls) -> None:
    """`cancel` from another thread ends asking and its processes, long before any deadline."""
    server.pull(never_answer)
    asking = crew(limits(total_seconds=60, source_deadline_seconds=60))
    issuers = [issuer(server.url, name=name, tls=trusted) for name in ("one", "two")]
    left: list[set[str]] = []
    answers: list[Mapping[IssuerName, tuple[Answer | Unusable, ...]]] = []

    def ask() -> None:
        answers.append(asking.ask(issuers, turn=0, progress=ignore))
        left.append(children())

    thread = threading.Thread(target=ask)
    thread.start()
    while len(server.requests) < len(issuers):
        time.sleep(0.01)
    asking.cancel()
    asking.cancel()
    thread.join(10)
    assert not thread.is_alive()
    (answer,) = answers[0][IssuerName("two")]
    assert isinstance(answer, Unusable)
    assert (answer.reasons[0].code, "interrupted" in answer.reasons[0].sentence) == ("timeout", True)
    assert left == [set()]


def test_after_cancel_nobody_is_asked(server: Apiserver, trusted: Tls) -> None:
    """An `ask` that begins after `cancel` asks nobody, so that a stop between two passes is not lost."""
    asking = crew()
    asking.cancel()
    answers = asking.ask(
        [issuer(server.url, name=name, tls=trusted) for name in ("one", "two")], turn=0, progress=ignore
    )
    assert [codes(each) for each in answers.values()] == [[("timeout",)]] * 2
    assert server.connections == 0


def test_error_of_the_caller_comes_back_to_it(server: Apiserver, trusted: Tls) -> None:
    """What `progress` raises is not swallowed, and no process is left behind."""

    def fail(_: IssuerName) -> None:
        raise KeyError("caller")

    with pytest.raises(KeyError):
        crew().ask([issuer(server.url, name=name, tls=trusted) for name in ("one", "two")], turn=0, progress=fail)
    assert children() == set()


def test_processes_end_with_the_one_that_started_them(server: Apiserver, tmp_path: Path) -> None:
    """After kill -9 of the mirror nobody goes on asking for it."""
    server.pull(never_answer)
    ca = ca_file(tmp_path)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mirror.config.settings import Tls\n"
        "from support.askers import issuer, limits, ignore\n"
        "from unit.source.test_crew import crew\n"
        f"issuers = [issuer({server.url!r}, name=n, tls=Tls(ca_file=Path({str(ca)!r}))) for n in ('one', 'two')]\n"
        "crew(limits(total_seconds=60, source_deadline_seconds=60)).ask(issuers, turn=0, progress=ignore)\n"
    )
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", program], env=environ) as process:
        while len(server.requests) < 2 and process.poll() is None:
            time.sleep(0.01)
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
        process.kill()
    assert len(workers) == 2
    ends = time.monotonic() + 10
    while any(Path(f"/proc/{each}/cmdline").exists() and is_worker(each) for each in workers):
        assert time.monotonic() < ends
        time.sleep(0.01)


def is_worker(number: str) -> bool:
    """Whether that process still runs; a number may belong to somebody else meanwhile."""
    try:
        return b"mirror.cli.worker" in Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return False
