"""Asking all apiservers of all issuers at once, each under a hard deadline (design, section 4.1)."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from threading import Lock

from mirror.config.settings import Issuer, Limits
from mirror.model import Answer, IssuerName, Reason, Unusable
from mirror.source.board import Board, Question
from mirror.source.exchange import Access, Heard, converse
from mirror.source.failures import Failure
from mirror.source.island import Island, Resolve
from mirror.source.replies import Login
from mirror.source.tls import Contexts
from mirror.source.tokens import read_token

_TRIED_AGAIN = frozenset({"unreachable", "timeout", "rate_limited", "server_error", "forbidden"})
_PAUSE_SECONDS = 0.1
# A starting apiserver refuses for 50 to 110 ms what it is about to allow (fact 17).
_PAUSE_AFTER_FORBIDDEN_SECONDS = 0.3


class Apiservers:
    """The apiservers of all issuers as the source of a pass.

    One object serves one pass at a time, from any thread. After `cancel` it asks nobody any more.

    Args:
        limits: What a slow or hostile apiserver may cost.
        resolve: How names are looked up; as `socket.getaddrinfo`.
    """

    def __init__(self, limits: Limits, *, resolve: Resolve = socket.getaddrinfo) -> None:
        self._limits = limits
        self._resolve = resolve
        self._contexts = Contexts()
        self._lock = Lock()
        self._cancelled = False
        self._interrupt: Callable[[], object] | None = None

    def ask(
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
        self._contexts.begin_pass()
        board = Board(issuers, progress)
        with asyncio.Runner(loop_factory=partial(Island, self._resolve)) as runner:
            runner.run(self._work_within_deadline(board, turn))
        return board.answers()

    def cancel(self) -> None:
        """End a running `ask` at once, and every later one before it begins; from any thread, as often as one likes."""
        with self._lock:
            self._cancelled = True
            if self._interrupt is not None:
                self._interrupt()

    async def _work_within_deadline(self, board: Board, turn: int) -> None:
        work = asyncio.ensure_future(self._work(board, tuple(board.questions(turn))))
        self._arm(work)
        try:
            await asyncio.wait({work}, timeout=self._limits.source_deadline_seconds)
        finally:
            self._disarm()
        work.cancel()
        await asyncio.wait({work})
        if not work.cancelled():
            work.result()  # raises what `progress` raised
        late = Failure.NOT_IN_TIME.reason(f"{self._limits.source_deadline_seconds:g}")
        board.fill(Failure.INTERRUPTED.reason() if self._cancelled else late)

    def _arm(self, work: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            # A task that is done ignores being cancelled, so that coming too late does no harm.
            self._interrupt = partial(loop.call_soon_threadsafe, work.cancel)
            if self._cancelled:
                work.cancel()

    def _disarm(self) -> None:
        with self._lock:
            self._interrupt = None

    async def _work(self, board: Board, questions: Sequence[Question]) -> None:
        shared = iter(questions)
        accesses: dict[IssuerName, Access | Reason] = {}
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(self._limits.concurrency, len(questions))):
                workers.create_task(self._worker(board, shared, accesses))

    async def _worker(
        self, board: Board, questions: Iterator[Question], accesses: dict[IssuerName, Access | Reason]
    ) -> None:
        for question in questions:
            name = question.issuer.name
            # Opened when first needed: a thousand CAs read at once would hold up the first connections.
            if name not in accesses:
                accesses[name] = self._open(question.issuer)
            board.put(question, await self._answer(question.apiserver, accesses[name]))

    async def _answer(self, apiserver: str, access: Access | Reason) -> Answer | Unusable:
        if isinstance(access, Reason):
            return Unusable(apiserver, (access,))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.total_seconds
        heard = await converse(apiserver, access, self._limits, deadline)
        pause_seconds = _pause_seconds(heard)
        if pause_seconds is not None and loop.time() + pause_seconds < deadline:
            await asyncio.sleep(pause_seconds)
            heard = await converse(apiserver, access, self._limits, deadline)
        return heard.outcome(apiserver)

    def _open(self, issuer: Issuer) -> Access | Reason:
        token: str | Reason = ""
        if issuer.auth.token_file is not None:
            token = read_token(issuer.auth.token_file, issuer.audiences)
        if isinstance(token, Reason):
            return token
        context = self._contexts.context(issuer.tls)
        if isinstance(context, Reason):
            return context
        return Access(context, _login(issuer), token, issuer.proxy, self._proxy_context(issuer.proxy))

    def _proxy_context(self, proxy: str | None) -> ssl.SSLContext | None:
        return self._contexts.system() if proxy is not None and proxy.startswith("https:") else None


def _login(issuer: Issuer) -> Login:
    if issuer.auth.token_file is not None:
        return "token"
    return "anonymous" if issuer.tls.client_cert_file is None else "certificate"


def _pause_seconds(heard: Heard) -> float | None:
    """How long to wait before the second try; None when a second try would hear the same."""
    codes = {reason.code for reason in heard.reasons}
    if not codes & _TRIED_AGAIN:
        return None
    pause_seconds = _PAUSE_AFTER_FORBIDDEN_SECONDS if "forbidden" in codes else _PAUSE_SECONDS
    return max(pause_seconds, heard.retry_after_seconds or 0)
