"""What a pass has not heard whole yet: one place an apiserver (five behind a load balancer), filled as they answer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mirror.config.settings import LOAD_BALANCER_CONNECTIONS, Issuer
from mirror.model import Answer, IssuerName, Reason, Unusable

_GOLDEN_RATIO = 0.6180339887498949

Told = Callable[[IssuerName, tuple[Answer | Unusable, ...]], None]
"""Hears of an issuer once, when it is complete: its name, and its answers in configured order."""


@dataclass(frozen=True, slots=True)
class Question:
    """One conversation to be had: `slot` is its place among the answers of its issuer.

    `lookup` means that the apiservers must be found first. `spent_seconds` is what finding this one took: it counts
    towards the apiserver's limit.
    """

    issuer: Issuer
    slot: int
    apiserver: str
    lookup: bool = False
    spent_seconds: float = 0.0


class Board:
    """The answers of a pass, by issuer, in configured order; `told` hears of each issuer that is complete.

    What was told is forgotten. An issuer without apiservers has no questions and is never told.
    """

    def __init__(self, issuers: Sequence[Issuer], told: Told) -> None:
        questions = {issuer.name: _questions_of(issuer) for issuer in issuers}
        self._questions = {name: asked for name, asked in questions.items() if asked}
        self._answers: dict[IssuerName, dict[int, Answer | Unusable]] = {name: {} for name in self._questions}
        self._told = told

    def questions(self, turn: int) -> Iterator[Question]:
        """All questions, those of one issuer together, beginning with another issuer each `turn`.

        The steps are the golden ratio of the number of issuers: when time is over after a part of them, a few
        turns reach everybody, where steps of one would starve the same ones for hundreds of passes.
        """
        all_questions = list(self._questions.values())
        begin = int(len(all_questions) * (turn * _GOLDEN_RATIO % 1.0))
        for questions in (*all_questions[begin:], *all_questions[:begin]):
            yield from questions

    def put(self, question: Question, answer: Answer | Unusable) -> None:
        """Note `answer`."""
        name = question.issuer.name
        answers = self._answers[name]
        answers[question.slot] = answer
        if len(answers) == len(self._questions[name]):
            del self._answers[name]
            self._told(name, tuple(answers[slot] for slot in sorted(answers)))

    def is_complete(self, name: IssuerName) -> bool:
        """Whether nothing more is to be asked for that issuer."""
        return name not in self._answers

    def found(
        self, lookup: Question, apiservers: Sequence[str], unusable: Sequence[Unusable], *, spent_seconds: float
    ) -> tuple[Question, ...]:
        """Put what a lookup found in its place: the questions that are to be asked now."""
        name, slots = lookup.issuer.name, _slots(lookup.issuer, apiservers)
        asked = tuple(Question(lookup.issuer, slot, text, False, spent_seconds) for slot, text in enumerate(slots))
        failed = tuple(Question(lookup.issuer, len(asked) + at, each.apiserver) for at, each in enumerate(unusable))
        self._questions[name] = asked + failed
        for question, answer in zip(failed, unusable, strict=True):
            self.put(question, answer)
        return asked

    def fill(self, reason: Reason) -> None:
        """Give every apiserver that has not answered `reason`."""
        for name, answers in list(self._answers.items()):
            for question in [each for each in self._questions[name] if each.slot not in answers]:
                self.put(question, Unusable(question.apiserver, (reason,)))


def _questions_of(issuer: Issuer) -> tuple[Question, ...]:
    if issuer.apiservers and issuer.discover is None:
        return tuple(Question(issuer, slot, text) for slot, text in enumerate(_slots(issuer, issuer.apiservers)))
    if issuer.apiservers or issuer.auth.kubeconfig is not None or issuer.auth.in_cluster:
        return (Question(issuer, 0, _label(issuer), lookup=True),)
    return ()


def _slots(issuer: Issuer, apiservers: Sequence[str]) -> tuple[str, ...]:
    connections = LOAD_BALANCER_CONNECTIONS if issuer.load_balancer else 1
    return tuple(apiserver for apiserver in apiservers for _ in range(connections))


def _label(issuer: Issuer) -> str:
    """What the apiservers are called before any of them is known."""
    if issuer.apiservers:
        return issuer.apiservers[0]
    return "https://kubernetes.default.svc" if issuer.auth.in_cluster else f"kubeconfig {issuer.auth.kubeconfig}"
