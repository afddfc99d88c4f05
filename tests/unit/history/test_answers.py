import threading

import pytest

from mirror.history.answers import MOST_ANSWERS, Answers


def test_answer_is_searched_once_a_state() -> None:
    """What is known is not searched again; another state forgets it, also when the first one comes back."""
    known: Answers[bool] = Answers()
    searched: list[str] = []

    def ask(state: str, question: str) -> bool:
        return known.get(state, question, lambda: _noted(searched, f"{state} {question}") == 1)

    for state, question in (("s", "a"), ("s", "a"), ("s", "b"), ("s", "a"), ("t", "a"), ("t", "a"), ("s", "a")):
        assert ask(state, question) is False
    assert searched == ["s a", "s b", "t a", "s a"]


def test_none_is_an_answer() -> None:
    """An answer that is None is kept like any other."""
    known: Answers[int | None] = Answers()
    searched: list[str] = []

    def search() -> int | None:
        searched.append("a")
        return None

    for _ in range(2):
        assert known.get("s", "a", search) is None
    assert searched == ["a"]


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
    """Somebody who makes us ask something else each time cannot fill the memory: what is over the limit makes room."""
    known: Answers[int] = Answers()
    searched: list[str] = []

    def ask(question: str) -> None:
        known.get("s", question, lambda: _noted(searched, question))

    for number in range(MOST_ANSWERS):
        ask(str(number))
    ask("0")
    assert len(searched) == MOST_ANSWERS
    ask("one more")
    ask("0")
    assert searched[MOST_ANSWERS:] == ["one more", "0"]


def _noted(searched: list[str], question: str) -> int:
    searched.append(question)
    return 0
