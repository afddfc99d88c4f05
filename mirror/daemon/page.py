"""The status page: rendered from what the daemon remembers, at most once in a few seconds, however many look at it."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from threading import Lock

from jinja2 import Template

from mirror import __version__
from mirror.daemon.freshness import Verdict
from mirror.daemon.pass_history import Chronicle
from mirror.daemon.status_page import MARKS, MOST_CARDS, Card, advice, cards
from mirror.report import State
from mirror.status.timeline import page_template, style_hash

REFRESH_SECONDS = 30
_KEPT_SECONDS = 2.0
_QUIET = frozenset({State.CURRENT, State.CHANGED})


class Page:
    """Renders the page for many readers at once; safe for many threads."""

    def __init__(self, chronicle: Callable[[], Chronicle], health: Callable[[], Verdict]) -> None:
        self._chronicle = chronicle
        self._health = health
        self._lock = Lock()
        self._made: tuple[float, Chronicle, str] | None = None

    def render(self) -> tuple[str, str]:
        """The page, and the hash of its style sheet for the policy that goes with it."""
        chronicle = self._chronicle()
        with self._lock:  # who comes while it is made gets the same one
            made = self._made
            if made is None or made[1] is not chronicle or time.monotonic() - made[0] > _KEPT_SECONDS:
                html = render(chronicle, self._health(), datetime.now(UTC))
                made = self._made = (time.monotonic(), chronicle, html)
        return made[2], _style()[1]


def render(chronicle: Chronicle, health: Verdict, now: datetime) -> str:
    """The page of a chronicle at `now` (aware, UTC)."""
    every = cards(chronicle, now)
    many = len(every) > MOST_CARDS
    lines = tuple(card for card in every if many and _is_quiet(card))
    full = tuple(card for card in every if card not in lines) if many else every
    mark, headline = _headline(chronicle, every, health)
    report = chronicle.report
    return _template().render(
        cards=full,
        lines=lines,
        mark=mark,
        headline=headline,
        counts=_counts(every),
        chronicle=chronicle,
        report=report,
        failures=() if report is None else tuple(map(advice, report.failures)),
        health=health,
        now=now,
        css=_style()[0],
        refresh=REFRESH_SECONDS,
        version=__version__,
    )


def _is_quiet(card: Card) -> bool:
    return card.known.report is not None and card.known.report.state in _QUIET


def _headline(chronicle: Chronicle, every: tuple[Card, ...], health: Verdict) -> tuple[str, str]:
    """The whole in one sentence, and its mark."""
    if not health.ok:  # whatever the last pass said, it is no longer so for sure
        return "bad", "The mirror is stuck"
    if chronicle.report is None:
        return "quiet", "The first pass has not ended yet"
    if chronicle.report.failures:
        return "bad", "The last pass failed"
    words = {
        State.FAILED: "failed",
        State.HELD: "waiting for an operator",
        State.DEGRADED: "degraded",
    }
    states = [card.known.report.state for card in every if card.known.report is not None]
    for state, word in words.items():
        if state in states:
            return MARKS[state], f"{states.count(state)} of {_issuers(len(every))} {word}"
    return "good", "Everything is current" if every else "No issuer is configured"


def _issuers(number: int) -> str:
    return f"{number} issuer" if number == 1 else f"{number} issuers"


def _counts(every: tuple[Card, ...]) -> tuple[tuple[str, str, int], ...]:
    """(mark, word, how many) for each state that occurs, the worst first."""
    counted = Counter((card.mark, card.word) for card in every)
    return tuple((mark, word, number) for (mark, word), number in counted.items())


@cache
def _style() -> tuple[str, str]:
    css = _read("status.css")
    return css, style_hash(css)


@cache
def _template() -> Template:
    return page_template(_read("status.html"))


def _read(name: str) -> str:
    return (resources.files("mirror.daemon") / "templates" / name).read_text("utf-8")
