"""The page of key histories: the place of each part, and text from outside stays text."""

import base64
import hashlib
import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from mirror.history.key_history import KeyHistories, LedgerVersion, build_histories
from mirror.model import CommitId, IssuerName, IssuerUrl, Key, KeyRecord, Ledger, Revocation, Status, Version, key_id
from mirror.status.timeline import Axis, chart, page
from support.fakes import MOMENT
from support.keys import EC_KEYS, RSA_KEYS, with_kid

NAME, ISSUER = IssuerName("syd-prod"), IssuerUrl("https://issuer.example.com")
OLD, NEW = RSA_KEYS[0], RSA_KEYS[1]
HOSTILE = with_kid(EC_KEYS[0], "\"'><script>alert(1)</script><img src=https://evil.example onerror=x>&amp;")
DAY = timedelta(days=1)


def entry(day: int, *states: tuple[Key, Status]) -> LedgerVersion:
    records = tuple(
        KeyRecord(
            key,
            status,
            day + 1,
            MOMENT,
            revocation=Revocation(MOMENT, "<b>lost</b>") if status is Status.REVOKED else None,
            held_because="policy" if status is Status.HELD else None,
        )
        for key, status in sorted(states, key=lambda state: key_id(state[0]))
    )
    parents = (CommitId(f"{day - 1:040x}"),) if day else ()
    version = Version(CommitId(f"{day:040x}"), parents, MOMENT + day * DAY, "<i>ann</i>", "subject")
    return LedgerVersion(version, Ledger(ISSUER, records))


FOUND = build_histories(
    [
        entry(0, (OLD, Status.PUBLISHED)),
        entry(1, (OLD, Status.PUBLISHED), (NEW, Status.PUBLISHED)),
        entry(2, (OLD, Status.RETIRING), (NEW, Status.PUBLISHED), (HOSTILE, Status.HELD)),
        entry(3, (OLD, Status.DROPPED), (NEW, Status.PUBLISHED), (HOSTILE, Status.HELD)),
    ]
)
NOW = MOMENT + 4 * DAY


class Outline(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_bars_stand_where_time_says() -> None:
    """Four days: each step begins at its quarter, a living key ends at the right, a dropped one where it left."""
    found = chart(NAME, ISSUER, FOUND, now=NOW)
    old, new, held = found.bars
    assert [(s.status, s.x, s.width) for s in old.segments] == [
        (Status.PUBLISHED, 1.0, 49.0),
        (Status.RETIRING, 50.0, 24.5),
    ]
    assert old.gone == 74.5
    assert [(s.x, s.width, s.is_public) for s in new.segments] == [(25.5, 73.5, True)]
    assert [(s.x, s.width, s.is_public) for s in held.segments] == [(50.0, 49.0, False)]
    assert [mark.x for mark in found.marks] == [25.5]
    assert [(tick.x, tick.text) for tick in found.ticks] == [
        (1.0, "11-23 08:00"),
        (33.667, "11-24 16:00"),
        (66.333, "11-26 00:00"),
        (99.0, "11-27 08:00"),
    ]


@pytest.mark.parametrize(
    ("age", "texts"),
    [
        (timedelta(0), ["11-23 08:00:00", "11-23 08:00:20", "11-23 08:00:40", "11-23 08:01:00"]),
        (timedelta(hours=1), ["11-23 08:00", "11-23 08:20", "11-23 08:40", "11-23 09:00"]),
        (30 * DAY, ["2026-11-23", "2026-12-03", "2026-12-13", "2026-12-23"]),
    ],
    ids=["just_seen", "an_hour", "a_month"],
)
def test_axis_says_what_its_length_needs(age: timedelta, texts: list[str]) -> None:
    """A key that was seen just now still has an axis, of a minute; a long history has days."""
    found = chart(NAME, ISSUER, build_histories([entry(0, (OLD, Status.PUBLISHED))]), now=MOMENT + age)
    assert [tick.text for tick in found.ticks] == texts


@pytest.mark.parametrize(("hours", "percent"), [(-5, 1.0), (0, 1.0), (12, 50.0), (24, 99.0), (99999, 99.0)])
def test_moment_outside_of_the_axis_stands_at_its_edge(hours: int, percent: float) -> None:
    """A commit dated in the future does not push a bar out of the page."""
    assert Axis(MOMENT, MOMENT + DAY).percent(MOMENT + timedelta(hours=hours)) == percent


def test_bar_of_a_living_key_ends_now() -> None:
    """The first minute of a history has room for what is to come, and no bar claims it."""
    found = chart(
        NAME, ISSUER, build_histories([entry(0, (OLD, Status.PUBLISHED))]), now=MOMENT + timedelta(seconds=30)
    )
    assert [(segment.x, segment.width) for segment in found.bars[0].segments] == [(1.0, 49.0)]


def test_key_that_came_back_shows_its_absence() -> None:
    """Between two lives there is a thin dropped part; only the last end is a cross."""
    states = (Status.PUBLISHED, Status.DROPPED, Status.PUBLISHED, Status.REVOKED)
    found = build_histories([entry(day, (OLD, status)) for day, status in enumerate(states)])
    (bar,) = chart(NAME, ISSUER, found, now=NOW).bars
    assert [segment.status for segment in bar.segments] == [*states[:3]]
    assert bar.gone == 74.5


def test_text_from_outside_stays_text() -> None:
    """A kid full of markup adds no tag and no attribute, and is shown whole."""
    plain = Outline(page([(NAME, ISSUER, _with(NEW))], now=NOW))
    hostile = Outline(page([(NAME, ISSUER, _with(HOSTILE))], now=NOW))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert [list(attributes) for _, attributes in hostile.tags] == [list(attributes) for _, attributes in plain.tags]
    assert hostile.text.count(HOSTILE.kid) == 2
    assert "<b>lost</b>" in hostile.text


def _with(key: Key) -> KeyHistories:
    return build_histories([entry(0, (key, Status.PUBLISHED)), entry(1, (key, Status.REVOKED))])


def test_page_needs_nothing_from_outside_and_allows_nothing() -> None:
    """No script, no link, no image; the policy allows the one style sheet by its hash and nothing else."""
    text = page([(NAME, ISSUER, FOUND)], now=NOW)
    outline = Outline(text)
    assert {tag for tag, _ in outline.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "form"})
    assert not [name for _, attributes in outline.tags for name in attributes if name in {"style", "src"}]
    links = [attributes["href"] for _, attributes in outline.tags if "href" in attributes]
    assert links == ["#syd-prod"]
    assert not [name for _, attributes in outline.tags for name in attributes if name.startswith("on")]
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = (
        attributes["content"]
        for tag, attributes in outline.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "url(" not in style


def test_contents_lead_to_every_issuer() -> None:
    """Former issuers, which have their entry's name, too; the list says how many keys each has."""
    other = IssuerName("syd-prod-2")
    text = page(
        [(NAME, ISSUER, FOUND), (NAME, IssuerUrl("https://old.example"), _with(OLD)), (other, ISSUER, FOUND)], now=NOW
    )
    outline = Outline(text)
    links = [attributes["href"] for tag, attributes in outline.tags if tag == "a"]
    assert links == ["#syd-prod", "#syd-prod.2", "#syd-prod-2"]
    assert [f"#{each['id']}" for tag, each in outline.tags if tag == "section"] == links
    contents = outline.text.partition("Contents")[2].partition("syd-prod-2")[0]
    assert "3 keys, 1 public" in contents
    assert "1 key, 0 public" in contents


def test_page_says_who_decided() -> None:
    """Each step names its commit's author, the table that of the last one; a note says that git proves no author."""
    text = Outline(page([(NAME, ISSUER, _with(OLD))], now=NOW)).text
    assert text.count("by <i>ann</i>, commit 000000000000") == 2
    assert "decided by" in text
    assert text.count("<i>ann</i>") == 3
    assert "git does not prove it" in text


def test_every_status_is_said_in_words() -> None:
    """Colour is never alone: the badge, the steps and the table name the status, and kids are whole."""
    text = Outline(page([(NAME, ISSUER, FOUND)], now=NOW)).text
    assert all(text.count(key.kid) >= 2 for key in (OLD, NEW, HOSTILE))
    assert all(text.count(key.thumbprint) == 1 for key in (OLD, NEW, HOSTILE))
    assert text.count("dropped") >= 4
    assert "rotation" in text


def test_issuer_without_keys_and_unreadable_commit_are_said() -> None:
    """An empty chart is a sentence, and what could not be read is named."""
    empty = KeyHistories(unreadable=(CommitId("ab" * 20),))
    text = Outline(page([(NAME, ISSUER, empty)], now=NOW)).text
    assert "No key has been seen yet." in text
    assert "Commit abababababab is skipped" in text
