"""Several worker processes ask many apiservers. Only the run time differs from a single process."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import pytest

from mirror.apiserver.poller import ApiserverPoller, OnAnswer
from mirror.apiserver.process_pool import WorkerPool
from mirror.concurrency import worker_command
from mirror.config.settings import Issuer, LimitSettings, TlsSettings
from mirror.model import Answer, IssuerName, Unusable
from support.apiserver import Apiserver, never_answer
from support.askers import codes, ignore, issuer, limits
from support.tls import ca_file

pytestmark = pytest.mark.server

START_SECONDS = 15.0
"""A busy machine takes its time to start two processes."""


def command() -> tuple[str, ...]:
    return worker_command("mirror.cli.worker")


@dataclass
class CountingPoller:
    """Polls in this process and records the names of the polled issuers."""

    within: LimitSettings
    asked: list[IssuerName] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._apiservers = ApiserverPoller(self.within)

    def poll_each(self, issuers: Sequence[Issuer], *, turn: int, on_answer: OnAnswer, ends_at: float | None) -> None:
        self.asked += [issuer.name for issuer in issuers]
        self._apiservers.poll_each(issuers, turn=turn, on_answer=on_answer, ends_at=ends_at)

    def cancel(self) -> None:
        self._apiservers.cancel()

    def close(self) -> None:
        self._apiservers.close()


def pool(
    within: LimitSettings | None = None,
    words: Sequence[str] = (),
    *,
    poller: CountingPoller | None = None,
) -> WorkerPool:
    """A pool of two workers that treats any number of apiservers as many."""
    within = within or limits()
    return WorkerPool(
        within,
        single_process=poller or CountingPoller(within),
        command=words or command(),
        cores=2,
        apiservers_a_process=1,
    )


def named(server: Apiserver, trusted: TlsSettings, *names: str) -> list[Issuer]:
    """Issuers with those names and that one apiserver."""
    return [issuer(server.url, name=name, tls=trusted) for name in names]


@pytest.fixture(autouse=True)
def all_have_ended() -> Iterator[None]:
    """No worker process outlives its test. Other tests have their own servers in this process."""
    before = children()
    yield
    assert children() - before == set()


def children() -> set[str]:
    """The child processes of this thread that have not been waited for."""
    ours = f"/proc/self/task/{threading.get_native_id()}/children"
    return set(Path(ours).read_text(encoding="ascii").split())


def test_crew_answers_as_one_process_does(server: Apiserver, trusted: TlsSettings) -> None:
    """The answers are those of one process, and each is reported once. This process sends no request."""
    reported: list[IssuerName] = []
    issuers = [issuer(server.url, server.url, name=name, tls=trusted) for name in ("one", "two", "three")]
    poller = CountingPoller(limits())
    answers = pool(poller=poller).poll(issuers, turn=1, progress=reported.append)
    assert list(answers) == ["one", "two", "three"]
    assert sorted(reported) == ["one", "three", "two"]
    assert poller.asked == []
    by_one = ApiserverPoller(limits()).poll(issuers, turn=1, progress=ignore)
    assert [replace(each, date=None) for each in answers[IssuerName("three")]] == [
        replace(each, date=None) for each in by_one[IssuerName("three")]
    ]
    assert [codes(each) for each in answers.values()] == [[(), ()]] * 3


@pytest.mark.parametrize(
    ("cores", "worth_it", "concurrency"),
    [(1, 1, 16), (2, 2, 16), (2, 1, 1)],
    ids=["one core", "few apiservers", "one connection at a time"],
)
def test_where_a_crew_is_not_worth_it_this_process_asks(
    server: Apiserver, trusted: TlsSettings, cores: int, worth_it: int, concurrency: int
) -> None:
    """On one core, for few apiservers, or with one connection, no worker process is started."""
    within = limits(concurrency=concurrency)
    poller = CountingPoller(within)
    asking = WorkerPool(within, single_process=poller, command=("false",), cores=cores, apiservers_a_process=worth_it)
    issuers = named(server, trusted, "one", "two", "three")
    assert [codes(each) for each in asking.poll(issuers, turn=0, progress=ignore).values()] == [[()]] * 3
    assert poller.asked == ["one", "two", "three"]


@pytest.mark.parametrize(("keeps", "asked"), [(3, ["one", "two", "three"]), (2, [])], ids=["as many", "more"])
def test_process_that_keeps_its_connections_asks_alone(
    server: Apiserver, trusted: TlsSettings, keeps: int, asked: list[str]
) -> None:
    """Short-lived workers would reconnect in every pass. They help only where not all connections can be kept."""
    within = limits()
    poller = CountingPoller(within)
    asking = WorkerPool(
        within,
        single_process=poller,
        command=command(),
        cores=2,
        apiservers_a_process=1,
        keeps=keeps,
    )
    issuers = named(server, trusted, "one", "two", "three")
    assert [codes(each) for each in asking.poll(issuers, turn=0, progress=ignore).values()] == [[()]] * 3
    assert poller.asked == asked
    asking.close()


def test_what_asking_does_not_need_stays_here(server: Apiserver, trusted: TlsSettings) -> None:
    """Discovery document members may be of any type, and are not sent to a worker."""
    extra = MappingProxyType({"a": 1})
    issuers = [replace(each, discovery_extra=extra) for each in named(server, trusted, "one", "two")]
    poller = CountingPoller(limits())
    answers = pool(poller=poller).poll(issuers, turn=0, progress=ignore)
    assert [codes(each) for each in answers.values()] == [[()]] * 2
    assert poller.asked == []


def test_issuer_without_apiservers_has_no_answers(server: Apiserver, trusted: TlsSettings) -> None:
    """An issuer without apiservers is no error and does not affect the others."""
    issuers = [issuer(name="none"), *(issuer(server.url, name=name, tls=trusted) for name in ("one", "two"))]
    answers = pool().poll(issuers, turn=0, progress=ignore)
    assert [codes(each) for each in answers.values()] == [[], [()], [()]]


LOST: Mapping[str, Callable[[Path], Sequence[str]]] = {
    # The first worker works, the second one ends at once.
    "one ends": lambda folder: (
        *("sh", "-c", f'mkdir {folder / "first"} 2>/dev/null || exit 1; exec "$@"', "sh"),
        *command(),
    ),
    "all end": lambda _: ("false",),
    "none can start": lambda folder: (str(folder / "missing"),),
    "another version": lambda _: _of_another_version(),
    "no answer that can be read": lambda _: (
        sys.executable,
        "-c",
        "import os, sys; os.write(int(sys.argv[1]), b'x' * 99)",
    ),
}


def _of_another_version() -> tuple[str, ...]:
    *words, program = command()
    return (*words, f"import mirror; mirror.__version__ = '0'; {program}")


@pytest.mark.parametrize("lost", LOST)
def test_apiservers_of_a_lost_worker_are_polled_by_the_parent(
    server: Apiserver, trusted: TlsSettings, tmp_path: Path, lost: str
) -> None:
    """A worker lost to memory, a process limit or an upgrade costs only time."""
    reported: list[IssuerName] = []
    poller = CountingPoller(limits())
    asking = pool(words=LOST[lost](tmp_path), poller=poller)
    answers = asking.poll(named(server, trusted, "one", "two"), turn=0, progress=reported.append)
    assert [codes(each) for each in answers.values()] == [[()]] * 2
    assert sorted(reported) == ["one", "two"]
    assert len(poller.asked) == (1 if lost == "one ends" else 2)


def test_slow_issuer_does_not_take_the_other_along(server: Apiserver, trusted: TlsSettings) -> None:
    """At the deadline, received answers are kept and the others are reported as late."""
    with Apiserver() as slow:
        slow.respond_with(never_answer)
        issuers = [issuer(slow.url, name="slow", tls=trusted), issuer(server.url, name="quick", tls=trusted)]
        answers = pool(limits(total_seconds=60, source_deadline_seconds=START_SECONDS)).poll(
            issuers, turn=0, progress=ignore
        )
    assert codes(answers[IssuerName("quick")]) == [()]
    (late,) = answers[IssuerName("slow")]
    assert isinstance(late, Unusable)
    assert "limits.source_deadline" in late.reasons[0].sentence


def test_half_an_answer_is_kept_at_the_deadline(server: Apiserver, trusted: TlsSettings) -> None:
    """The answer of one replica counts although another one hangs, even if its worker began late."""
    late = ("sh", "-c", 'sleep 1.5; exec "$@"', "sh", *command())
    with Apiserver() as slow:
        slow.respond_with(never_answer)
        issuers = [issuer(slow.url, server.url, name=name, tls=trusted) for name in ("one", "two")]
        within = limits(total_seconds=60, source_deadline_seconds=START_SECONDS)
        poller = CountingPoller(within)
        answers = pool(within, late, poller=poller).poll(issuers, turn=0, progress=ignore)
    assert [codes(each) for each in answers.values()] == [[("timeout",), ()]] * 2
    assert poller.asked == []


@pytest.mark.parametrize("count", [2, 8000], ids=["a small job", "a job that no buffer holds"])
def test_process_that_never_ends_is_ended(trusted: TlsSettings, count: int) -> None:
    """The deadline also ends worker processes that no longer read their input."""
    issuers = [issuer("https://127.0.0.1:1", name=f"n{number}", tls=trusted) for number in range(count)]
    within = limits(source_deadline_seconds=1.0)
    answers = pool(within, ("sh", "-c", "exec sleep 600")).poll(issuers, turn=0, progress=ignore)
    assert {tuple(codes(each)) for each in answers.values()} == {(("timeout",),)}
    assert len(answers) == count


def test_cancel_ends_a_running_ask(server: Apiserver, trusted: TlsSettings) -> None:
    """`cancel` from another thread ends the poll and its workers, long before any deadline."""
    server.respond_with(never_answer)
    asking = pool(limits(total_seconds=60, source_deadline_seconds=60))
    issuers = named(server, trusted, "one", "two")
    left: list[set[str]] = []
    answers: list[Mapping[IssuerName, tuple[Answer | Unusable, ...]]] = []

    def ask() -> None:
        answers.append(asking.poll(issuers, turn=0, progress=ignore))
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


def test_after_cancel_no_request_is_sent(server: Apiserver, trusted: TlsSettings) -> None:
    """A `poll` that begins after `cancel` sends no request. A stop between two passes is not lost."""
    asking = pool()
    asking.cancel()
    answers = asking.poll(named(server, trusted, "one", "two"), turn=0, progress=ignore)
    assert [codes(each) for each in answers.values()] == [[("timeout",)]] * 2
    assert server.connections == 0


def test_error_of_the_caller_comes_back_to_it(server: Apiserver, trusted: TlsSettings) -> None:
    """An exception from `progress` is raised to the caller, and no worker is left behind."""

    def fail(_: IssuerName) -> None:
        raise KeyError("caller")

    with pytest.raises(KeyError):
        pool().poll(named(server, trusted, "one", "two"), turn=0, progress=fail)


def test_processes_end_with_the_one_that_started_them(server: Apiserver, tmp_path: Path) -> None:
    """After kill -9 of the mirror, no worker continues."""
    server.respond_with(never_answer)
    ca = ca_file(tmp_path)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mirror.config.settings import TlsSettings\n"
        "from support.askers import issuer, limits, ignore\n"
        "from unit.apiserver.test_process_pool_workers import pool\n"
        f"tls = TlsSettings(ca_file=Path({str(ca)!r}))\n"
        f"issuers = [issuer({server.url!r}, name=n, tls=tls) for n in ('one', 'two')]\n"
        "pool(limits(total_seconds=60, source_deadline_seconds=60)).poll(issuers, turn=0, progress=ignore)\n"
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
    for each in workers:
        with suppress(ChildProcessError):
            os.waitpid(int(each), 0)  # orphans are reparented to the test process (support/limits.py)


def is_worker(number: str) -> bool:
    """Whether that worker process still runs. Its pid may have been reused."""
    try:
        return b"mirror.cli.worker" in Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return False


def test_signals_to_the_whole_unit_end_no_worker_early(server: Apiserver, trusted: TlsSettings) -> None:
    """systemd sends SIGTERM and SIGHUP to all processes. Workers continue until the mirror decides."""
    server.respond_with(never_answer)
    asking = pool(limits(total_seconds=60, source_deadline_seconds=60))
    issuers = named(server, trusted, "one", "two")
    thread = threading.Thread(target=lambda: asking.poll(issuers, turn=0, progress=ignore))
    thread.start()
    while len(server.requests) < len(issuers):
        time.sleep(0.01)
    workers = Path(f"/proc/self/task/{thread.native_id}/children").read_text(encoding="ascii").split()
    for worker in workers:
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            os.kill(int(worker), number)
    time.sleep(0.3)  # a process that a signal ends has ended by now
    assert all(is_worker(worker) for worker in workers)
    asking.cancel()
    thread.join(10)
    assert not thread.is_alive()


def test_nothing_is_imported_from_the_current_directory(
    server: Apiserver, trusted: TlsSettings, tmp_path: Path
) -> None:
    """A user who can write the current directory must not run code in the worker processes."""
    evidence = tmp_path / "evidence"
    for name in ("httpx", "socket", "mirror"):
        (tmp_path / f"{name}.py").write_text(f"open({str(evidence)!r}, 'w')\n", encoding="utf-8")
    words = ("sh", "-c", f'cd {tmp_path} && exec "$@"', "sh", *command())
    poller = CountingPoller(limits())
    answers = pool(words=words, poller=poller).poll(named(server, trusted, "one", "two"), turn=0, progress=ignore)
    assert [codes(each) for each in answers.values()] == [[()]] * 2
    assert poller.asked == []
    assert not evidence.exists()
