"""The board of a pass: order, slots and progress."""

from dataclasses import dataclass, field

import pytest

from mirror.apiserver.board import Board
from mirror.config.settings import LOAD_BALANCER_CONNECTIONS
from mirror.model import Answer, IssuerName, Reason, Unusable
from support.askers import issuer

LATE = Reason("timeout", "Late.", "Wait.")


@dataclass
class Listener:
    """Keeps what it is told, and how often."""

    heard: list[tuple[IssuerName, tuple[Answer | Unusable, ...]]] = field(default_factory=list)

    def __call__(self, name: IssuerName, answers: tuple[Answer | Unusable, ...]) -> None:
        self.heard.append((name, answers))


def nobody(_name: IssuerName, _answers: tuple[Answer | Unusable, ...]) -> None:
    """Is told, and does nothing."""


def test_load_balancer_has_five_places() -> None:
    """A URL that hides replicas is asked over five connections, each with a place of its own."""
    listener = Listener()
    Board([issuer("https://a", load_balancer=True)], listener).fill(LATE)
    ((_, answers),) = listener.heard
    assert [answer.apiserver for answer in answers] == ["https://a"] * LOAD_BALANCER_CONNECTIONS


def test_answers_stand_in_configured_order() -> None:
    """Answers come back in the order of the configuration, whatever the order in which they came in."""
    listener = Listener()
    board = Board([issuer("https://a", "https://b", name="one")], listener)
    first, second = board.questions(0)
    board.put(second, Answer("https://b", b"", b""))
    assert listener.heard == []
    assert not board.is_complete(IssuerName("one"))
    board.put(first, Answer("https://a", b"", b""))
    assert board.is_complete(IssuerName("one"))
    ((name, answers),) = listener.heard
    assert name == "one"
    assert [answer.apiserver for answer in answers] == ["https://a", "https://b"]


def test_fill_keeps_what_was_heard() -> None:
    """Filling gives the reason to those alone that have not answered, and completes each issuer once."""
    listener = Listener()
    board = Board([issuer("https://a", "https://b", name="one"), issuer("https://c", name="two")], listener)
    first, *_ = board.questions(0)
    board.put(first, Answer("https://a", b"", b""))
    board.fill(LATE)
    board.fill(LATE)
    assert [name for name, _ in listener.heard] == ["one", "two"]
    assert [type(answer) for answer in listener.heard[0][1]] == [Answer, Unusable]


def test_issuer_without_apiservers_is_complete_and_not_told() -> None:
    """For an issuer for which nobody is configured there is nothing to ask."""
    listener = Listener()
    board = Board([issuer(name="none")], listener)
    board.fill(LATE)
    assert board.is_complete(IssuerName("none"))
    assert listener.heard == []


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_every_issuer_is_first_before_long(count: int) -> None:
    """When time is over after a tenth of the issuers, thirty turns reach every one."""
    issuers = [issuer("https://a", name=f"i{number}") for number in range(count)]
    board = Board(issuers, nobody)
    reach = max(1, count // 10)
    reached = {question.issuer.name for turn in range(30) for question in list(board.questions(turn))[:reach]}
    assert len(reached) == count


def test_turn_changes_the_order_only() -> None:
    """Each turn asks the same questions, those of one issuer together."""
    board = Board([issuer("https://a", "https://b", name=f"i{number}") for number in range(5)], nobody)
    orders = [[(q.issuer.name, q.slot) for q in board.questions(turn)] for turn in (0, 1, 10**9)]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert orders[0] != orders[1]
