"""One conversation with one apiserver: both documents over one HTTP/1.1 connection, each step under the deadline."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from mirror.apiserver.client import DISCOVERY, JWKS, Document, Reply, date_of, judge, retry_after_seconds
from mirror.apiserver.line import Access, Line, connected
from mirror.config.settings import Limits
from mirror.model import TRANSIENT_CODES, Answer, Reason, Unusable


@dataclass(frozen=True, slots=True)
class Heard:
    """What one conversation gave: the bodies that were taken, by document, or every reason why not.

    `retry_after_seconds` is the server's wish where it had one.
    """

    bodies: Mapping[str, bytes]
    reasons: tuple[Reason, ...] = ()
    date: datetime | None = None
    retry_after_seconds: int | None = None
    certificate_expires_at: datetime | None = None

    def outcome(self, apiserver: str) -> Answer | Unusable:
        """The value for the pass, under the apiserver's configured text."""
        if self.reasons:
            return Unusable(apiserver, self.reasons, self.date, self.certificate_expires_at)
        discovery, jwks = (self.bodies[document.where] for document in (DISCOVERY, JWKS))
        return Answer(apiserver, discovery, jwks, self.date, self.certificate_expires_at)


async def converse(apiserver: str, access: Access, limits: Limits, deadline: float) -> Heard:
    """Ask `apiserver` for discovery, then for the JWKS, over a connection of its own.

    After an answer that refuses discovery the JWKS is asked for all the same, so that the operator hears of both;
    not after a broken connection or a server in trouble. The arguments are those of `mirror.apiserver.line.connected`.
    """
    heard = Heard({})
    async with connected(apiserver, access, limits, deadline) as line:
        if isinstance(line, Reason):
            return Heard({}, (line,))
        for document in (DISCOVERY, JWKS):
            reply = await line.fetch(document)
            heard = _add(heard, document, reply, line)
            if isinstance(reply, Reason) or any(reason.code in TRANSIENT_CODES for reason in heard.reasons):
                break
    return heard


def _add(heard: Heard, document: Document, reply: Reply | Reason, line: Line) -> Heard:
    if isinstance(reply, Reason):
        return replace(heard, bodies={}, reasons=(*heard.reasons, reply))
    max_body_bytes, secret = line.limits.max_body_bytes, line.access.token
    flaw = judge(document, reply, line.access.login, max_body_bytes=max_body_bytes, secret=secret)
    return Heard(
        {**heard.bodies, document.where: reply.body},
        (*heard.reasons, flaw) if flaw else heard.reasons,
        date_of(reply) or heard.date,
        retry_after_seconds(reply) if flaw else heard.retry_after_seconds,
        reply.certificate_expires_at,
    )
