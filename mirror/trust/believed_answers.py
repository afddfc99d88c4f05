"""Answers of apiservers that were believed in the pass before: the same bytes need no second judgement."""

from dataclasses import replace

from mirror.model import Answer, IssuerUrl, KeyPolicy, Observed, Thumbprint, Unusable
from mirror.trust.discovery import observe

MOST_BYTES = 64 * 1024
"""Larger answers are judged in each pass: whoever sends them shall not fill the memory."""

_Question = tuple[bytes, bytes, IssuerUrl, KeyPolicy, frozenset[Thumbprint]]
_Judged = tuple[_Question, Observed]


class BelievedAnswers:
    """What one process believed in its last pass, in memory alone.

    `observe` is a function of both bodies, the issuer, its key policy and the thumbprints that were checked before; its
    result is used again only where all of these are equal. What an answer says of time, its `Date` and the end of the
    certificate, is taken from each answer. What was refused is judged in each pass.
    """

    def __init__(self) -> None:
        self._before: dict[_Question, _Judged] = {}
        self._now: dict[_Question, _Judged] = {}

    def begin_pass(self) -> None:
        """Forget what the last pass did not see."""
        self._before, self._now = self._now, {}

    def knows(
        self, answer: Answer, *, issuer: IssuerUrl, policy: KeyPolicy, already_checked: frozenset[Thumbprint]
    ) -> bool:
        """Tell whether that answer was believed under these rules."""
        return self._recall((answer.discovery, answer.jwks, issuer, policy, already_checked)) is not None

    def observe(
        self, answer: Answer, *, issuer: IssuerUrl, policy: KeyPolicy, already_checked: frozenset[Thumbprint]
    ) -> Observed | Unusable:
        """Give what `mirror.trust.discovery.observe` gives."""
        question = (answer.discovery, answer.jwks, issuer, policy, already_checked)
        known = self._recall(question)
        if known is None:
            found = observe(answer, issuer=issuer, policy=policy, already_checked=already_checked)
            if isinstance(found, Unusable):
                return found
            known = (question, found)
        if len(answer.discovery) + len(answer.jwks) <= MOST_BYTES:
            # The first objects are kept, not their equals of this pass: memory of threads that ended can be given back.
            self._now[known[0]] = known
        return replace(
            known[1],
            apiserver=answer.apiserver,
            date=answer.date,
            certificate_expires_at=answer.certificate_expires_at,
        )

    def _recall(self, question: _Question) -> _Judged | None:
        return self._now.get(question) or self._before.get(question)
