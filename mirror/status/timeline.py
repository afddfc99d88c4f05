"""The histories of keys as one self-contained page: no script, nothing from outside, and a policy that says so."""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template

from mirror.history.key_history import GONE_STATUSES, KeyHistories, KeyHistory, Rotation, StatusPeriod
from mirror.model import PUBLIC_STATUSES, IssuerName, IssuerUrl, Status, short_kid
from mirror.text import distance, in_words, iso_time, moment

TICKS = 4
_SHORTEST_SPAN = timedelta(minutes=1)
_SPAN_IN_MINUTES = timedelta(hours=1)
_SPAN_IN_DAYS = timedelta(days=30)
"""From these on the axis says minutes, or days alone."""
_MARGIN_PERCENT = 1.0


@dataclass(frozen=True, slots=True)
class Axis:
    """The time that a timeline shows; never empty."""

    start: datetime
    end: datetime

    def percent(self, moment: datetime) -> float:
        """Where `moment` stands, 0 to 100, rounded; what is outside stands at the edge."""
        share = (moment - self.start) / (self.end - self.start)
        width = 100 - 2 * _MARGIN_PERCENT
        return round(_MARGIN_PERCENT + width * min(max(share, 0.0), 1.0), 3)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar: where it begins, how wide it is (percent), and what it says."""

    status: Status
    x: float
    width: float
    step: StatusPeriod
    is_public: bool


@dataclass(frozen=True, slots=True)
class Bar:
    """One key's row. `gone` is where it left, percent; None while it is there."""

    history: KeyHistory
    segments: tuple[Segment, ...]
    gone: float | None


@dataclass(frozen=True, slots=True)
class Mark:
    """A rotation on the timeline."""

    x: float
    rotation: Rotation


@dataclass(frozen=True, slots=True)
class Tick:
    """A date on the axis; `anchor` is how its text stands to it."""

    x: float
    text: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One issuer's part of the page. `public` is how many of its keys are public; `anchor` is where links lead."""

    name: IssuerName
    issuer: IssuerUrl
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    ticks: tuple[Tick, ...]
    unreadable: tuple[str, ...]
    public: int
    anchor: str = ""


def page(issuers: Iterable[tuple[IssuerName, IssuerUrl, KeyHistories]], *, now: datetime) -> str:
    """The page; `now` (aware) is where the bars of living keys end."""
    charts = _anchored(chart(name, issuer, keys, now=now) for name, issuer, keys in issuers)
    template, css, css_hash = page_template("mirror.status", "history")
    return template.render(charts=charts, statuses=tuple(Status), css=css, css_hash=css_hash, now=now) + "\n"


@cache
def page_template(package: str, name: str) -> tuple[Template, str, str]:
    """The page `name` of a package, its style sheet, and the hash by which the page's policy allows that and no other.

    All values are escaped; our own text forms are filters. The hash: CSP level 3, section 2.3.1.
    """
    folder = resources.files(package) / "templates"
    css = (folder / f"{name}.css").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"moment": moment, "machine": iso_time}
    environment.filters |= {each.__name__: each for each in (distance, in_words, short_kid)}
    template = environment.from_string((folder / f"{name}.html").read_text("utf-8"))
    return template, css, base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()


def chart(name: IssuerName, issuer: IssuerUrl, histories: KeyHistories, *, now: datetime) -> Chart:
    """One issuer's timeline, from its first key to `now`; where that is less than a minute, there is room after it."""
    start = min((key.steps[0].since for key in histories.keys), default=now)
    end = max(now, start + _SHORTEST_SPAN)
    axis = Axis(start, end)
    marks = tuple(Mark(axis.percent(each.at), each) for each in histories.rotations)
    bars = tuple(_bar(axis, key, now) for key in histories.keys)
    public = sum(key.status in PUBLIC_STATUSES for key in histories.keys)
    return Chart(name, issuer, bars, marks, ticks(axis), histories.unreadable, public)


def _anchored(charts: Iterable[Chart]) -> tuple[Chart, ...]:
    """Each with its name as its anchor; former issuers, which have the name of their entry, with a number behind it."""
    counts: Counter[str] = Counter()
    found = []
    for each in charts:
        counts[each.name] += 1
        number = counts[each.name]
        # A name holds no dot, so no other entry has this anchor.
        found.append(replace(each, anchor=each.name if number == 1 else f"{each.name}.{number}"))
    return tuple(found)


def _bar(axis: Axis, history: KeyHistory, now: datetime) -> Bar:
    steps = (step for step in history.steps if step.status not in GONE_STATUSES or step is not history.steps[-1])
    segments = tuple(_segment(axis, step, now) for step in steps)
    return Bar(history, segments, None if history.gone_at is None else axis.percent(history.gone_at))


def _segment(axis: Axis, step: StatusPeriod, now: datetime) -> Segment:
    x = axis.percent(step.since)
    width = axis.percent(step.until or now) - x
    return Segment(step.status, x, round(max(width, 0.0), 3), step, step.status in PUBLIC_STATUSES)


def ticks(axis: Axis) -> tuple[Tick, ...]:
    """Dates along the axis, its ends included."""
    span = axis.end - axis.start
    form = _form(span)
    anchors = ("start", *("middle",) * (TICKS - 2), "end")
    moments = (axis.start + span * number / (TICKS - 1) for number in range(TICKS))
    return tuple(
        Tick(axis.percent(moment), moment.astimezone(UTC).strftime(form), anchor)
        for moment, anchor in zip(moments, anchors, strict=True)
    )


def _form(span: timedelta) -> str:
    """How precisely an axis of that length says its moments."""
    if span >= _SPAN_IN_DAYS:
        return "%Y-%m-%d"
    return "%m-%d %H:%M" if span >= _SPAN_IN_MINUTES else "%m-%d %H:%M:%S"
