import threading

import pytest

from mirror.history import answers
from mirror.history.answers import Answers


def test_answer_is_searched_once_a_state() -> None:
    """What is known is not searched again; another state forgets it, also when the first one comes back."""
    known: Answers[bool] = Answers()
    searched: list[str] = []

    def ask(state: str, question: str) -> bool:
        return known.get(state, question, lambda: bool(searched.append(f"{state} {question}")))

    for state, question in (("s", "a"), ("s", "a"), ("s", "b"), ("s", "a"), ("t", "a"), ("t", "a"), ("s", "a")):
        assert ask(state, question) is False
    assert searched == ["s a", "s b", "t a", "s a"]


def test_none_is_an_answer() -> None:
    """An answer that is None is kept like any other."""
    known: Answers[None] = Answers()
    searched: list[int] = []
    for _ in range(2):
        assert known.get("s", "a", lambda: searched.append(1)) is None
    assert searched == [1]


def test_failed_search_is_kept_by_nobody() -> None:
    """A search that raised is told to the one who asked, and the next one searches again."""
    known: Answers[int] = Answers()
    with pytest.raises(ZeroDivisionError):
        known.get("s", "a", lambda: 1 // 0)
    assert known.get("s", "a", lambda: 7) == 7


def test_same_question_of_two_threads_is_searched_once() -> None:
    """Who asks what is being searched waits for that answer; another question is searched meanwhile."""
    known: Answers[int] = Answers()
    searching, go_on = threading.Event(), threading.Event()
    searches: list[str] = []
    found: list[int] = []

    def slow() -> int:
        searches.append("a")
        searching.set()
        assert go_on.wait(10)
        return 7

    threads = [threading.Thread(target=lambda: found.append(known.get("s", "a", slow))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert searching.wait(10)
    assert known.get("s", "b", lambda: 8) == 8
    assert not found
    go_on.set()
    for thread in threads:
        thread.join()
    assert found == [7] * 4
    assert searches == ["a"]


def test_memory_is_bounded() -> None:
    """Somebody who makes us ask something else each time costs bounded memory, and the answers stay right."""
    known: Answers[int] = Answers()
    for number in range(answers.MOST_ANSWERS + 1):
        assert known.get("s", str(number), lambda number=number: number) == number  # type: ignore[misc]  # a default binds the loop's value
    searched: list[int] = []
    known.get("s", "0", lambda: len(searched))
    assert known.get("s", "0", lambda: 99) != 99
