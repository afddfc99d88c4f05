"""Many apiservers at once: order, connections, deadlines, cancellation and name lookups."""

import asyncio
import socket
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from mirror.apiserver.poller import ApiserverPoller, PollQueue, ResolverLoop
from mirror.config.settings import LOAD_BALANCER_CONNECTIONS, TlsSettings
from mirror.model import Answer, IssuerName, Reason, Unusable
from support.apiserver import (
    Apiserver,
    never_answer,
)
from support.askers import ask_one, codes, ignore, issuer, limits

pytestmark = pytest.mark.server


def test_each_issuer_is_reported_once(server: Apiserver, trusted: TlsSettings) -> None:
    """Progress is reported once per issuer. All answers come back under their names in configured order."""
    reported: list[IssuerName] = []
    issuers = [issuer(server.url, server.url, name=name, tls=trusted) for name in ("one", "two", "three")]
    answers = ApiserverPoller(limits(concurrency=2)).poll(issuers, turn=1, progress=reported.append)
    assert list(answers) == ["one", "two", "three"]
    assert sorted(reported) == ["one", "three", "two"]
    assert [codes(each) for each in answers.values()] == [[(), ()]] * 3


def test_no_apiserver_to_poll_is_no_error() -> None:
    """Without issuers, the result is empty."""
    assert ApiserverPoller(limits()).poll([], turn=0, progress=ignore) == {}


def test_error_of_the_caller_comes_back_to_it(server: Apiserver, trusted: TlsSettings) -> None:
    """An exception from `progress` is raised to the caller."""

    def fail(_: IssuerName) -> None:
        raise KeyError("caller")

    with pytest.raises(ExceptionGroup) as caught:
        ApiserverPoller(limits()).poll([issuer(server.url, tls=trusted)], turn=0, progress=fail)
    assert caught.group_contains(KeyError)


def test_slow_issuer_does_not_take_the_other_along(server: Apiserver, trusted: TlsSettings) -> None:
    """At the pass deadline, received answers are kept and the others are `timeout`."""
    with Apiserver() as slow:
        slow.respond_with(never_answer)
        issuers = [issuer(slow.url, name="slow", tls=trusted), issuer(server.url, name="quick", tls=trusted)]
        within = limits(source_deadline_seconds=1.0)
        answers = ApiserverPoller(within).poll(issuers, turn=0, progress=ignore)
    assert codes(answers[IssuerName("quick")]) == [()]
    assert codes(answers[IssuerName("slow")]) == [("timeout",)]


def test_who_was_not_asked_in_time_is_timeout(server: Apiserver, trusted: TlsSettings) -> None:
    """With one connection and a silent first apiserver, the second is never asked and is `timeout`."""
    server.respond_with(never_answer)
    within = limits(source_deadline_seconds=0.7, concurrency=1)
    first, second = ask_one(issuer(server.url, server.url, tls=trusted), within)
    assert isinstance(first, Unusable)
    assert isinstance(second, Unusable)
    assert "limits.source_deadline" in second.reasons[0].sentence
    assert server.connections == 1


def test_cancel_ends_a_running_ask(server: Apiserver, trusted: TlsSettings) -> None:
    """`cancel` from another thread ends the poll soon, long before any deadline."""
    server.respond_with(never_answer)
    apiservers = ApiserverPoller(limits(total_seconds=60, source_deadline_seconds=60))
    answers: list[Any] = []
    asking = threading.Thread(
        target=lambda: answers.append(apiservers.poll([issuer(server.url, tls=trusted)], turn=0, progress=ignore))
    )
    asking.start()
    while not server.requests:
        time.sleep(0.01)
    apiservers.cancel()
    apiservers.cancel()
    asking.join(10)
    assert not asking.is_alive()
    (answer,) = answers[0][IssuerName("syd-prod")]
    assert (answer.reasons[0].code, "interrupted" in answer.reasons[0].sentence) == ("timeout", True)


def test_after_cancel_no_request_is_sent(server: Apiserver, trusted: TlsSettings) -> None:
    """A `poll` that begins after `cancel` sends no request. A stop between two passes is not lost."""
    apiservers = ApiserverPoller(limits())
    apiservers.cancel()
    answers = apiservers.poll([issuer(server.url, tls=trusted)], turn=0, progress=ignore)
    assert codes(answers[IssuerName("syd-prod")]) == [("timeout",)]
    assert server.connections == 0


def test_hanging_name_lookup_does_not_hold_up_the_pass(server: Apiserver, trusted: TlsSettings) -> None:
    """A lookup that never ends costs its own apiserver its total limit. Other apiservers are not delayed."""
    release = threading.Event()

    def resolve(*_: object) -> list[Any]:
        release.wait()
        return []

    issuers = [issuer("https://hangs.invalid:6443", name="hangs"), issuer(server.url, name="quick", tls=trusted)]
    answers = ApiserverPoller(limits(total_seconds=0.5), resolve=resolve).poll(issuers, turn=0, progress=ignore)
    release.set()
    assert [codes(each) for each in answers.values()] == [[("timeout",)], [()]]


def test_name_that_does_not_resolve_is_unreachable() -> None:
    """The sentence quotes the resolver's error."""

    def resolve(*_: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    asked = issuer("https://nowhere.invalid:6443")
    answers = ApiserverPoller(limits(), resolve=resolve).poll([asked], turn=0, progress=ignore)
    (answer,) = answers[asked.name]
    assert isinstance(answer, Unusable)
    assert answer.reasons[0].code == "unreachable"
    assert "DNS: Name or service not known" in answer.reasons[0].sentence


def test_fault_of_an_unknown_kind_stays_with_its_apiserver(server: Apiserver, trusted: TlsSettings) -> None:
    """An unexpected error makes one apiserver `unexpected`. The answers of the others are kept."""

    def resolve(*_: object) -> list[Any]:
        raise KeyError("a fault of ours")

    issuers = [issuer("https://broken.invalid", name="broken"), issuer(server.url, name="good", tls=trusted)]
    answers = ApiserverPoller(limits(), resolve=resolve).poll(issuers, turn=0, progress=ignore)
    assert [codes(each) for each in answers.values()] == [[("unexpected",)], [()]]


LATE = Reason("timeout", "Late.", "Wait.")


@dataclass
class Listener:
    """Records each call and counts them."""

    heard: list[tuple[IssuerName, tuple[Answer | Unusable, ...]]] = field(default_factory=list)

    def __call__(self, name: IssuerName, answers: tuple[Answer | Unusable, ...]) -> None:
        self.heard.append((name, answers))


def nobody(_name: IssuerName, _answers: tuple[Answer | Unusable, ...]) -> None:
    """A progress callback that does nothing."""


def test_load_balancer_has_five_places() -> None:
    """A URL in front of several replicas is asked over five connections, each with its own slot."""
    listener = Listener()
    PollQueue([issuer("https://a", load_balancer=True)], listener).fail_pending(LATE)
    ((_, answers),) = listener.heard
    assert [answer.apiserver for answer in answers] == ["https://a"] * LOAD_BALANCER_CONNECTIONS


def test_answers_stand_in_configured_order() -> None:
    """Answers are in configured order, not in the order of arrival."""
    listener = Listener()
    queue = PollQueue([issuer("https://a", "https://b", name="one")], listener)
    first, second = queue.requests(0)
    queue.put_answer(second, Answer("https://b", b"", b""))
    assert listener.heard == []
    assert not queue.is_complete(IssuerName("one"))
    queue.put_answer(first, Answer("https://a", b"", b""))
    assert queue.is_complete(IssuerName("one"))
    ((name, answers),) = listener.heard
    assert name == "one"
    assert [answer.apiserver for answer in answers] == ["https://a", "https://b"]


def test_fill_keeps_received_answers() -> None:
    """Only apiservers without an answer get the reason, and each issuer is completed once."""
    listener = Listener()
    queue = PollQueue([issuer("https://a", "https://b", name="one"), issuer("https://c", name="two")], listener)
    first, *_ = queue.requests(0)
    queue.put_answer(first, Answer("https://a", b"", b""))
    queue.fail_pending(LATE)
    queue.fail_pending(LATE)
    assert [name for name, _ in listener.heard] == ["one", "two"]
    assert [type(answer) for answer in listener.heard[0][1]] == [Answer, Unusable]


def test_issuer_without_apiservers_is_complete_and_not_reported() -> None:
    """An issuer without apiservers is complete at once."""
    listener = Listener()
    queue = PollQueue([issuer(name="none")], listener)
    queue.fail_pending(LATE)
    assert queue.is_complete(IssuerName("none"))
    assert listener.heard == []


@pytest.mark.parametrize("step", [1, 5, 15, 30, 60])
@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_every_issuer_is_first_before_long(count: int, step: int) -> None:
    """If each pass reaches only a tenth of the issuers, thirty passes reach every one.

    A turn is one minute by default. `step` is the number of turns between two passes of a daemon, timer or CI schedule.
    """
    issuers = [issuer("https://a", name=f"i{number}") for number in range(count)]
    queue = PollQueue(issuers, nobody)
    reach = max(1, count // 10)
    reached = {
        question.issuer.name for turn in range(0, 30 * step, step) for question in list(queue.requests(turn))[:reach]
    }
    assert len(reached) == count


def test_turn_changes_the_order_only() -> None:
    """Each turn sends the same requests and keeps those of one issuer together."""
    queue = PollQueue([issuer("https://a", "https://b", name=f"i{number}") for number in range(5)], nobody)
    orders = [[(q.issuer.name, q.index) for q in queue.requests(turn)] for turn in (0, 1, 10**9)]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert orders[0] != orders[1]


def look_up(resolve: Any, timeout_seconds: float = 5.0) -> list[Any]:
    async def once() -> list[Any]:
        async with asyncio.timeout(timeout_seconds):
            return await asyncio.get_running_loop().getaddrinfo("name", 1, type=socket.SOCK_STREAM)

    with asyncio.Runner(loop_factory=partial(ResolverLoop, resolve)) as runner:
        return runner.run(once())


def test_found_addresses_come_back() -> None:
    """The resolver's addresses are returned unchanged."""
    assert look_up(lambda *_: ["address"]) == ["address"]


def test_failed_lookup_raises_its_error() -> None:
    """The caller gets the resolver's error."""

    def fail(*_: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(socket.gaierror, match="not known"):
        look_up(fail)


def test_hanging_lookups_hold_nothing_up() -> None:
    """A lookup that never ends is abandoned at the deadline. Neither loop nor thread waits for it."""
    release = threading.Event()
    entered = threading.Event()

    def hang(*_: object) -> list[Any]:
        entered.set()
        release.wait()
        return []

    with pytest.raises(TimeoutError):
        look_up(hang, 0.1)
    assert entered.is_set()
    hanging = [thread for thread in threading.enumerate() if thread.name == "resolver"]
    assert all(thread.daemon for thread in hanging)
    release.set()
    for thread in hanging:  # they end quietly although their loop is closed
        thread.join(5)
        assert not thread.is_alive()


def test_lookup_that_ends_after_its_deadline_is_ignored() -> None:
    """A late result is ignored if the loop still runs."""
    release = threading.Event()
    failures: list[object] = []

    def late(*_: object) -> list[Any]:
        release.wait()
        return ["late"]

    async def give_up_then_release() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(context))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.getaddrinfo("name", 1), 0.05)
        release.set()
        await asyncio.sleep(0.1)

    with asyncio.Runner(loop_factory=partial(ResolverLoop, late)) as runner:
        runner.run(give_up_then_release())
    assert failures == []
