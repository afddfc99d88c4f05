"""The status page: rendered from the daemon's memory, and cached for a few seconds for each query."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from threading import Lock
from urllib.parse import urlencode

from jinja2 import Template

from mirror import __version__
from mirror.daemon.issuer_panels import MARKS, IssuerLine, advice, issuer_lines, issuer_panel
from mirror.daemon.pass_history import PassHistory
from mirror.daemon.scheduler import HealthResult
from mirror.report import State
from mirror.status.timeline import page_template, style_hash
from mirror.text import counted

REFRESH_SECONDS = 30
MOST_LINES = 500
"""How many issuers one page shows: more would only make it slow, and the worst come first."""
SHOWN_EVENTS = 12
"""How many recent events are open; the others stand behind them, closed."""
_MOST_CHARACTERS = 400
"""Of a value in the URL; an issuer may have 255, and its name 63."""
_KEPT_SECONDS = 2.0
_KEPT_PAGES = 4
ROTATING, PENDING = "rotating", "pending"
"""What can be asked for as a state, beside those of a report."""
WORDS = {ROTATING: "rotating", PENDING: "pending approval"}
SORTS = {"state": "state", "name": "name", "changed": "last change"}
_REVERSE = "-"


@dataclass(frozen=True, slots=True)
class PageQuery:
    """What a reader asked for; `sort` is one of `SORTS`, with `-` in front the other way round.

    `show` is the anchor of the issuer whose details are open: what a reader opens by hand, a page that renews itself
    closes again.
    """

    q: str = ""
    state: str = ""
    sort: str = "state"
    refresh: bool = True
    show: str = ""

    @classmethod
    def parse(cls, parameters: Mapping[str, str]) -> "PageQuery":
        """From the parameters of a URL. A sort that does not exist is the usual one; texts are cut."""
        sort = parameters.get("sort", "state")
        return cls(
            parameters.get("q", "").strip()[:_MOST_CHARACTERS],
            parameters.get("state", "")[:_MOST_CHARACTERS],
            sort if sort.removeprefix(_REVERSE) in SORTS else "state",
            parameters.get("refresh", "") != "off",
            parameters.get("show", "")[:_MOST_CHARACTERS],
        )

    @property
    def filters(self) -> bool:
        """Whether not all issuers are asked for."""
        return bool(self.q or self.state)

    @property
    def state_word(self) -> str:
        """The state that is asked for, in words."""
        return WORDS.get(self.state, self.state)

    def link(self, **changes: str | bool) -> str:
        """A URL on this page with some of it changed."""
        changed = replace(self, **changes)  # type: ignore[arg-type]  # fields by name
        given = {"q": changed.q, "state": changed.state, "sort": changed.sort if changed.sort != "state" else ""}
        given |= {"refresh": "" if changed.refresh else "off", "show": changed.show}
        return "/?" + urlencode({name: value for name, value in given.items() if value})

    def details(self, line: IssuerLine) -> str:
        """The link to an issuer's details, which stay open from then on."""
        return f"{self.link(show=line.anchor)}#{line.anchor}"

    def sorted_by(self, column: str) -> str:
        """The link at the head of a column: it sorts by it, or turns the order round."""
        return self.link(sort=f"{_REVERSE}{column}" if self.sort == column else column)

    def direction(self, column: str) -> str:
        """How the column is sorted, as `aria-sort` says it; empty when the page is sorted by another one."""
        names = ("descending", "ascending") if column == "changed" else ("ascending", "descending")  # newest first
        return {column: names[0], f"{_REVERSE}{column}": names[1]}.get(self.sort, "")

    def select(self, lines: Iterable[IssuerLine]) -> tuple[IssuerLine, ...]:
        """The lines that are asked for, in the order that is asked for; `lines` come the worst first."""
        found = [each for each in lines if self._has_state(each) and (not self.q or each.holds(self.q))]
        match self.sort.removeprefix(_REVERSE):
            case "name":
                found.sort(key=lambda each: (each.state.name, each.state.is_former))
            case "changed":
                never = datetime.min.replace(tzinfo=UTC)
                found.sort(key=lambda each: each.changed_at or never, reverse=True)
            case _:
                pass
        return tuple(reversed(found) if self.sort.startswith(_REVERSE) else found)

    def _has_state(self, line: IssuerLine) -> bool:
        if self.state == ROTATING:
            return line.rotating
        if self.state == PENDING:
            return line.pending > 0
        return self.state in ("", line.word)


class Page:
    """Renders the page for many readers at once; safe for many threads."""

    def __init__(self, pass_history: Callable[[], PassHistory], health: Callable[[], HealthResult]) -> None:
        self._pass_history = pass_history
        self._health = health
        self._lock = Lock()
        self._made: dict[PageQuery, tuple[float, PassHistory, str]] = {}

    def render(self, parameters: Mapping[str, str]) -> tuple[str, str]:
        """The page for the parameters of a URL, and the hash of its style sheet for the policy that goes with it."""
        query, pass_history = PageQuery.parse(parameters), self._pass_history()
        with self._lock:  # who comes while it is made gets the same one
            made = self._made.pop(query, None)
            if made is None or made[1] is not pass_history or time.monotonic() - made[0] > _KEPT_SECONDS:
                html = render(pass_history, self._health(), datetime.now(UTC), query)
                made = (time.monotonic(), pass_history, html)
            while len(self._made) >= _KEPT_PAGES:
                del self._made[next(iter(self._made))]
            self._made[query] = made
        return made[2], _style()[1]


def render(pass_history: PassHistory, health: HealthResult, now: datetime, query: PageQuery | None = None) -> str:
    """The page of a pass history at `now` (aware, UTC)."""
    query = query or PageQuery()
    every = issuer_lines(pass_history, now)
    found = query.select(every)
    mark, headline = _headline(pass_history, every, health)
    report = pass_history.report
    events = () if pass_history.last_pass is None else tuple(reversed(pass_history.last_pass.events))
    return _template().render(
        query=query,
        sorts=SORTS,
        lines=found[:MOST_LINES],
        panel_of=lambda line: issuer_panel(line.state, now),
        found=len(found),
        every=len(every),
        mark=mark,
        headline=headline,
        counts=_counts(every),
        pass_history=pass_history,
        report=report,
        failures=() if report is None else tuple(map(advice, report.failures)),
        refused=None if pass_history.refused is None else advice(pass_history.refused),
        events=events[:SHOWN_EVENTS],
        older_events=events[SHOWN_EVENTS:],
        health=health,
        now=now,
        css=_style()[0],
        refresh=REFRESH_SECONDS,
        version=__version__,
    )


def _headline(pass_history: PassHistory, every: tuple[IssuerLine, ...], health: HealthResult) -> tuple[str, str]:
    """The whole in one sentence, and its mark."""
    if not health.ok:  # whatever the last pass said, it is no longer so for sure
        return "bad", "The mirror is stuck"
    if pass_history.refused is not None:
        return "bad", "The configuration on disk is refused"
    if pass_history.report is None:
        return "quiet", "The first pass has not ended yet"
    if pass_history.report.failures:
        return "bad", "The last pass failed"
    words = {
        State.FAILED: "failed",
        State.WAITING_FOR_PUSH: "waiting for the git remote",
        State.UNPUBLISHED: "never published",
        State.HELD: "pending approval",
        State.DEGRADED: "degraded",
    }
    states = [line.status.state for line in every if line.status is not None]
    for state, word in words.items():
        if state in states:
            return MARKS[state], f"{states.count(state)} of {_issuers(len(every))} {word}"
    return "good", "Everything is current" if every else "No issuer is configured"


def _issuers(number: int) -> str:
    return counted(number, "issuer")


def _counts(every: tuple[IssuerLine, ...]) -> tuple[tuple[str, str, str, int], ...]:
    """(mark, state to ask for, word, how many) for each state that occurs, the worst first, then the flags."""
    states = Counter((line.mark, line.word, line.word) for line in every)
    pending = sum(line.pending > 0 for line in every)
    flags = (
        ("held", PENDING, pending if pending > states["held", State.HELD, State.HELD] else 0),
        ("rotating", ROTATING, sum(line.rotating for line in every)),
    )
    by_state = tuple((*each, number) for each, number in states.items())
    return by_state + tuple((mark, flag, WORDS[flag], number) for mark, flag, number in flags if number)


@cache
def _style() -> tuple[str, str]:
    css = _read("status.css")
    return css, style_hash(css)


@cache
def _template() -> Template:
    return page_template(_read("status.html"))


def _read(name: str) -> str:
    return (resources.files("mirror.daemon") / "templates" / name).read_text("utf-8")
