"""Poll the apiservers of all issuers at once, each within a hard deadline."""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from threading import Lock, Thread
from typing import Any, TypeVar

from mirror.apiserver.client import ConnectionSettings, KeptConnections, Response, connect, fetch_both, fetch_documents
from mirror.apiserver.credentials import IssuerConnection, open_issuer_connection
from mirror.apiserver.endpoints import DiscoveredReplicas, discover_replicas
from mirror.apiserver.errors import FailureKind
from mirror.apiserver.tls import MOST_KEPT, TlsContextCache
from mirror.config.settings import LOAD_BALANCER_CONNECTIONS, Issuer, LimitSettings
from mirror.model import Answer, IssuerName, Reason, Unusable

_GOLDEN_RATIO = 0.6180339887498949

OnAnswer = Callable[[IssuerName, tuple[Answer | Unusable, ...]], None]
"""Called for an issuer once, when it is complete: its name, and its answers in configured order."""


@dataclass(frozen=True, slots=True)
class PollRequest:
    """One conversation to be had: `index` is its place among the answers of its issuer.

    `lookup` means that the apiservers must be found first. `spent_seconds` is what finding this one took: it counts
    towards the apiserver's limit.
    """

    issuer: Issuer
    index: int
    apiserver: str
    lookup: bool = False
    spent_seconds: float = 0.0


class PollQueue:
    """The answers of a pass, by issuer, in configured order; `on_answer` is called for each issuer that is complete.

    Reported answers are dropped. An issuer without apiservers has no requests and is never reported.
    """

    def __init__(self, issuers: Sequence[Issuer], on_answer: OnAnswer) -> None:
        requests = {issuer.name: _requests_of(issuer) for issuer in issuers}
        self._questions = {name: asked for name, asked in requests.items() if asked}
        self._answers: dict[IssuerName, dict[int, Answer | Unusable]] = {name: {} for name in self._questions}
        self._on_answer = on_answer

    def requests(self, turn: int) -> Iterator[PollRequest]:
        """All questions, those of one issuer together, beginning with another issuer each `turn`.

        The steps are the golden ratio of the number of issuers: when time is over after a part of them, a few
        turns reach every apiserver, where steps of one would starve the same ones for hundreds of passes.
        """
        all_questions = list(self._questions.values())
        begin = int(len(all_questions) * (turn * _GOLDEN_RATIO % 1.0))
        for questions in (*all_questions[begin:], *all_questions[:begin]):
            yield from questions

    def put_answer(self, request: PollRequest, answer: Answer | Unusable) -> None:
        """Note `answer`."""
        name = request.issuer.name
        answers = self._answers[name]
        answers[request.index] = answer
        if len(answers) == len(self._questions[name]):
            del self._answers[name]
            self._on_answer(name, tuple(answers[slot] for slot in sorted(answers)))

    def is_complete(self, name: IssuerName) -> bool:
        """Whether nothing more is to be asked for that issuer."""
        return name not in self._answers

    def replace_lookup(
        self, lookup: PollRequest, apiservers: Sequence[str], unusable: Sequence[Unusable], *, spent_seconds: float
    ) -> tuple[PollRequest, ...]:
        """Put what a lookup found in its place: the questions that are to be asked now."""
        name, slots = lookup.issuer.name, _slots(lookup.issuer, apiservers)
        asked = tuple(PollRequest(lookup.issuer, slot, text, False, spent_seconds) for slot, text in enumerate(slots))
        failed = tuple(PollRequest(lookup.issuer, len(asked) + at, each.apiserver) for at, each in enumerate(unusable))
        self._questions[name] = asked + failed
        for request, answer in zip(failed, unusable, strict=True):
            self.put_answer(request, answer)
        return asked

    def fail_pending(self, reason: Reason) -> None:
        """Give every apiserver that has not answered `reason`."""
        for name, answers in list(self._answers.items()):
            for request in [each for each in self._questions[name] if each.index not in answers]:
                self.put_answer(request, Unusable(request.apiserver, (reason,)))


def _requests_of(issuer: Issuer) -> tuple[PollRequest, ...]:
    if issuer.apiservers and issuer.discover is None:
        return tuple(PollRequest(issuer, slot, text) for slot, text in enumerate(_slots(issuer, issuer.apiservers)))
    if issuer.apiservers or issuer.auth.kubeconfig is not None or issuer.auth.in_cluster:
        return (PollRequest(issuer, 0, _label(issuer), lookup=True),)
    return ()


def _slots(issuer: Issuer, apiservers: Sequence[str]) -> tuple[str, ...]:
    connections = LOAD_BALANCER_CONNECTIONS if issuer.load_balancer else 1
    return tuple(apiserver for apiserver in apiservers for _ in range(connections))


def _label(issuer: Issuer) -> str:
    """What the apiservers are called before any of them is known."""
    if issuer.apiservers:
        return issuer.apiservers[0]
    return "https://kubernetes.default.svc" if issuer.auth.in_cluster else f"kubeconfig {issuer.auth.kubeconfig}"


Resolve = Callable[..., list[Any]]
"""As `socket.getaddrinfo`."""


class ResolverLoop(asyncio.SelectorEventLoop):
    """A loop that looks each name up in a daemon thread of its own.

    asyncio's thread pool has few threads: a few hanging lookups would block all others, and both
    the loop's end and the interpreter's would wait for them.
    """

    def __init__(self, resolve: Resolve = socket.getaddrinfo) -> None:
        super().__init__()
        self._resolve = resolve

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - the signature is asyncio's
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """As in asyncio.

        Raises:
            OSError: The name could not be resolved.
        """
        found: asyncio.Future[list[Any]] = self.create_future()

        def look_up() -> None:
            result: list[Any] | Exception
            try:
                result = self._resolve(host, port, family, type, proto, flags)
            except Exception as error:  # noqa: BLE001 - a future carries it to who asked
                result = error
            with suppress(RuntimeError):  # the loop has ended in between: no caller waits any more
                self.call_soon_threadsafe(_settle, found, result)

        Thread(target=look_up, name="resolver", daemon=True).start()
        return await found


def _settle(found: asyncio.Future[list[Any]], result: list[Any] | Exception) -> None:
    if found.done():  # cancelled: the deadline came first
        return
    if isinstance(result, Exception):
        found.set_exception(result)
    else:
        found.set_result(result)


_TRIED_AGAIN = frozenset({"unreachable", "timeout", "rate_limited", "server_error", "forbidden"})
_PAUSE_SECONDS = 0.1
# A starting apiserver refuses for 50 to 110 ms what it is about to allow (facts.md#17).
_PAUSE_AFTER_FORBIDDEN_SECONDS = 0.3

_Outcome = TypeVar("_Outcome", Response, DiscoveredReplicas)


@dataclass(slots=True)
class _PollState:
    """What is still to be asked in a pass, and who is at it; the issuers that are being asked, opened, by name."""

    queue: PollQueue
    waiting: deque[PollRequest]
    group: asyncio.TaskGroup
    workers: int = 0
    opened: dict[IssuerName, IssuerConnection | tuple[Reason, ...]] = field(default_factory=dict)


@dataclass(eq=False, repr=False)
class ApiserverPoller:
    """The apiservers of all issuers as the source of a pass.

    One object serves one pass at a time, from any thread. After `cancel` it sends no request.

    Args:
        limits: What a slow or hostile apiserver may cost.
        resolve: How names are looked up; as `socket.getaddrinfo`.
        environ: The environment, in which a pod finds the service of its own cluster.
        keep_contexts: How many TLS contexts one pass leaves for the next.
        kept: Keeps connections from one pass to the next; then `close` is to be called at the end. None: none is kept.
    """

    limits: LimitSettings
    _: KW_ONLY
    resolve: Resolve = socket.getaddrinfo
    environ: Mapping[str, str] = field(default_factory=dict)
    keep_contexts: int = MOST_KEPT
    kept: KeptConnections | None = None
    _runner: asyncio.Runner | None = field(init=False, default=None)
    _lock: Lock = field(init=False, default_factory=Lock)
    _cancelled: bool = field(init=False, default=False)
    _interrupt: Callable[[], object] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._contexts = TlsContextCache(self.keep_contexts)

    def poll(
        self, issuers: Sequence[Issuer], *, turn: int, progress: Callable[[IssuerName], None]
    ) -> Mapping[IssuerName, tuple[Answer | Unusable, ...]]:
        """What each apiserver of `issuers` answers, in configured order; behind a load balancer five answers a URL.

        Returns within `limits.source_deadline_seconds`, whatever the apiservers do.

        Args:
            issuers: Whose apiservers are asked; the names are unique.
            turn: A number that grows with each pass: it decides who is asked first.
            progress: Called once an issuer, in this thread, when all its apiservers have answered or time is over.
                It must return at once.
        """
        received: dict[IssuerName, tuple[Answer | Unusable, ...]] = {}

        def on_answer(name: IssuerName, answers: tuple[Answer | Unusable, ...]) -> None:
            received[name] = answers
            progress(name)

        self.poll_each(issuers, turn=turn, on_answer=on_answer)
        return {issuer.name: received.get(issuer.name, ()) for issuer in issuers}

    def poll_each(
        self, issuers: Sequence[Issuer], *, turn: int, on_answer: OnAnswer, ends_at: float | None = None
    ) -> None:
        """Like `poll`, but pass each issuer's answers to `on_answer`, and stop at `ends_at` if it is given.

        `ends_at` is a time of `time.monotonic`, which all processes of a machine share. `on_answer` is not called for
        an issuer without apiservers.
        """
        self._contexts.begin_pass()
        queue = PollQueue(issuers, on_answer)
        left_seconds = self.limits.source_deadline_seconds if ends_at is None else ends_at - time.monotonic()
        # Connections belong to the loop that made them. It is used by one thread after the other, never by two.
        if self._runner is None:
            self._runner = asyncio.Runner(loop_factory=partial(ResolverLoop, self.resolve))
        try:
            self._runner.run(self._work_for(left_seconds, queue, turn))
        finally:
            if self.kept is None:
                self.close()

    def close(self) -> None:
        """Close the connections that are kept; never while a pass asks."""
        runner, self._runner = self._runner, None
        if runner is not None:
            with runner:
                if self.kept is not None:
                    runner.run(self.kept.close())

    def cancel(self) -> None:
        """End a running `poll` at once, and every later one before it begins; callable from any thread, repeatedly."""
        with self._lock:
            self._cancelled = True
            if self._interrupt is not None:
                self._interrupt()

    async def _work_for(self, seconds: float, queue: PollQueue, turn: int) -> None:
        work = asyncio.ensure_future(self._work(queue, queue.requests(turn)))
        with self._lock:
            # A task that is done ignores being cancelled, so that coming too late does no harm.
            self._interrupt = partial(asyncio.get_running_loop().call_soon_threadsafe, work.cancel)
            if self._cancelled:
                work.cancel()
        try:
            await asyncio.wait({work}, timeout=max(0.0, seconds))
        finally:
            with self._lock:
                self._interrupt = None
        work.cancel()
        await asyncio.wait({work})
        if not work.cancelled():
            work.result()  # raises what `progress` raised
        late = FailureKind.NOT_IN_TIME.reason(f"{self.limits.source_deadline_seconds:g}")
        queue.fail_pending(FailureKind.INTERRUPTED.reason() if self._cancelled else late)

    async def _work(self, queue: PollQueue, requests: Iterable[PollRequest]) -> None:
        if self.kept is not None:
            self.kept.begin_pass()
        async with asyncio.TaskGroup() as group:
            work = _PollState(queue, deque(requests), group)
            self._add_workers(work, len(work.waiting))
        if self.kept is not None:
            await self.kept.end_pass()

    def _add_workers(self, work: _PollState, count: int) -> None:
        for _ in range(min(self.limits.concurrency - work.workers, count)):
            work.workers += 1
            work.group.create_task(self._worker(work))

    async def _worker(self, work: _PollState) -> None:
        while work.waiting:
            request = work.waiting.popleft()
            name = request.issuer.name
            # Opened when first needed: a thousand CAs read at once would hold up the first connections.
            if name not in work.opened:
                work.opened[name] = self._open(request.issuer)
            opened = work.opened[name]
            if isinstance(opened, tuple):
                work.queue.put_answer(request, Unusable(request.apiserver, opened))
            elif request.lookup:
                await self._look_up(work, request, opened)
            else:
                work.queue.put_answer(request, await self._answer(request, opened))
            if work.queue.is_complete(name):
                work.opened.pop(name, None)
        work.workers -= 1

    def _open(self, issuer: Issuer) -> IssuerConnection | tuple[Reason, ...]:
        try:
            return open_issuer_connection(issuer, self._contexts, self.environ)
        except Exception as error:  # noqa: BLE001 - whatever one issuer's files provoke, the others must be asked
            return (FailureKind.UNEXPECTED.reason(type(error).__name__),)

    async def _look_up(self, work: _PollState, request: PollRequest, opened: IssuerConnection) -> None:
        """Find the issuer's apiservers; they are asked next, so that its answers stay together."""
        begun = asyncio.get_running_loop().time()
        deadline = begun + self.limits.total_seconds
        found = await _twice(lambda: discover_replicas(request.issuer, opened, self.limits, deadline), deadline)
        spent_seconds = asyncio.get_running_loop().time() - begun
        asked = work.queue.replace_lookup(request, found.urls, found.unusable, spent_seconds=spent_seconds)
        work.waiting.extendleft(reversed(asked))
        self._add_workers(work, len(asked))

    async def _answer(self, request: PollRequest, opened: IssuerConnection) -> Answer | Unusable:
        access = opened.access if request.issuer.discover is None else opened.replicas
        deadline = asyncio.get_running_loop().time() + self.limits.total_seconds - request.spent_seconds
        response = await _twice(lambda: self._ask(request, access, deadline), deadline)
        return response.outcome(request.apiserver)

    async def _ask(self, request: PollRequest, access: ConnectionSettings, deadline: float) -> Response:
        if self.kept is None or request.issuer.load_balancer:  # several replicas are met only by new connections
            return await fetch_documents(request.apiserver, access, self.limits, deadline)
        place = (request.issuer.name, request.index, request.apiserver)
        kept = await self.kept.take(place, access)
        async with connect(request.apiserver, access, self.limits, deadline, kept) as line:
            if isinstance(line, Reason):
                return Response({}, (line,))
            response = await fetch_both(line)
            self.kept.keep(place, line, response)
        return response


async def _twice(once: Callable[[], Awaitable[_Outcome]], deadline: float) -> _Outcome:
    """What `once` gives, or the second time where the first may have passed by itself and time is left."""
    loop = asyncio.get_running_loop()
    outcome = await once()
    pause_seconds = _pause_seconds(outcome)
    if pause_seconds is not None and loop.time() + pause_seconds < deadline:
        await asyncio.sleep(pause_seconds)
        outcome = await once()
    return outcome


def _pause_seconds(outcome: Response | DiscoveredReplicas) -> float | None:
    """How long to wait before the second try; None if a second try would get the same answer."""
    codes = {reason.code for reason in outcome.reasons}
    if not codes & _TRIED_AGAIN:
        return None
    pause_seconds = _PAUSE_AFTER_FORBIDDEN_SECONDS if "forbidden" in codes else _PAUSE_SECONDS
    return max(pause_seconds, outcome.retry_after_seconds or 0)
