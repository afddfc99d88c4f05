"""The status page as HTML: its content, its escaping, and no external requests."""

import re
from dataclasses import replace
from datetime import date, timedelta
from html.parser import HTMLParser
from urllib.parse import parse_qsl

import pytest

from mirror.config.settings import FormerIssuerSettings
from mirror.daemon.pass_history import PassHistory
from mirror.daemon.scheduler import HealthResult
from mirror.daemon.status_page import MOST_LINES, REFRESH_SECONDS, SHOWN_EVENTS, PageQuery, render
from mirror.model import Event, IssuerName, Level, Reason, Status
from mirror.reconcile.local_state import PastEvent
from mirror.reconcile.state import publications
from mirror.report import Effect
from support.fakes import MOMENT
from support.keys import EC_KEYS
from support.pass_histories import (
    DAY,
    HOSTILE,
    NEW,
    after,
    documents,
    everything,
    issuer,
    record,
    report,
    settings,
    url_of,
)

ALIVE = HealthResult(ok=True, sentence="Alive.")
BROKEN = Reason("x", "Broken.", "Mend it.")


class Tags(HTMLParser):
    """Collects every tag with its attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._parts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self._parts.append(data)

    @property
    def text(self) -> str:
        return "".join(self._parts)


def page(pass_history: PassHistory, health: HealthResult = ALIVE, query: str = "") -> str:
    return render(pass_history, health, MOMENT, PageQuery.parse(dict(parse_qsl(query))))


def names(pass_history: PassHistory, query: str = "") -> list[str]:
    """The issuers of the table, from top to bottom."""
    html = page(pass_history, query=query)
    return re.findall(r'<th scope="row"><a href="[^"]*">([^<]*)</a>', html)


def text(pass_history: PassHistory, health: HealthResult = ALIVE) -> str:
    return re.sub(r"\s+", " ", Tags(page(pass_history, health)).text)


def test_page_has_nothing_that_acts_or_loads() -> None:
    """The page has no script, frame, image, handler or style attribute for any input. Its form is a GET."""
    found = Tags(page(everything()))
    assert {tag for tag, _ in found.tags} & {"script", "iframe", "img", "object", "link", "base"} == set()
    assert [(each["action"], each["method"]) for tag, each in found.tags if tag == "form"] == [("/", "get")]
    names = {name for _, attributes in found.tags for name in attributes}
    assert not [name for name in names if name.startswith("on") or name == "style"]
    assert {each["href"] for tag, each in found.tags if tag == "a" and not str(each["href"]).startswith("/?")} == {
        "/status.json",
        "/metrics",
        "/healthz",
        "/readyz",
        *(each.url for name in ("syd-prod", "syd-stage", "fra-prod", "lab") for each in documents(name, Effect.PUT)),
    }


def test_text_from_outside_is_text() -> None:
    """Kids, sentences of apiservers and commit subjects are shown in full, as escaped text."""
    said = text(everything())
    assert HOSTILE.kid in said
    assert '<img src="https://evil.example/x.png">' in said
    assert "<script>alert(1)</script> & more" in said


def test_page_renews_itself_without_a_script() -> None:
    """A meta element refreshes the page, unless the reader stops it."""
    assert f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">' in page(everything())
    assert "http-equiv" not in page(everything(), query="refresh=off")
    assert '<input type="hidden" name="refresh" value="off">' in page(everything(), query="refresh=off")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Everything is current"),
        ({"held": (Reason("key.held", "Held.", ""),)}, "1 of 1 issuer pending approval"),
        ({"failures": (Reason("x", "Broken.", ""),)}, "1 of 1 issuer failed"),
        ({"objects": documents("a", Effect.WAITING)}, "1 of 1 issuer degraded"),
    ],
)
def test_headline_is_the_worst(changes: dict[str, object], said: str) -> None:
    """The headline is one short sentence, and also the title of the page."""
    html = page(after(report(issuer("a", **changes))))
    assert f"<h1>{said}</h1>" in html
    assert f"<title>{said} · oidc-mirror</title>" in html


def test_page_before_the_first_pass() -> None:
    """The page makes no claim before the first pass."""
    said = text(PassHistory().configured(publications(settings("a"))))
    assert "The first pass has not ended yet" in said
    assert "No pass has decided about it yet." in said
    assert "No commit yet." in said


def test_failed_pass_is_reported_with_its_remedy() -> None:
    """The earlier state of the issuer is shown below, marked as old."""
    broken = report(failures=(Reason("history.failed", "The disk is full.", "Free some."),))
    said = text(after(report(issuer("a")), broken, of=settings("a")))
    assert "The last pass failed" in said
    assert "The disk is full. Free some." in said
    assert "what is shown below is from an earlier one" in said
    assert NEW.kid in said


def test_stuck_daemon_says_that_it_is_old() -> None:
    """If no pass runs any more, the page must not look current or healthy."""
    stuck = HealthResult(ok=False, sentence="No pass has ended for 1:00:00.")
    said = text(after(report(issuer("a"))), stuck)
    assert "No pass has ended for 1:00:00. What is shown below is old." in said
    assert '<header class="bad">' in page(after(report(issuer("a"))), stuck)
    assert "The mirror is stuck · oidc-mirror" in said


def test_command_of_a_held_change_can_be_copied() -> None:
    """The command is in an element of its own."""
    html = page(everything())
    assert f"<code>oidc-mirror approve syd-stage {HOSTILE.thumbprint}</code>" in html


@pytest.mark.parametrize(
    ("remedy", "html"),
    [
        ("Run `kubectl get x`, or wait.", "Run <code>kubectl get x</code>, or wait."),
        ("`a` and `<b>`", "<code>a</code> and <code>&lt;b&gt;</code>"),
        ("One ` alone, <i>.", "One ` alone, &lt;i&gt;."),
    ],
)
def test_command_in_a_sentence_is_code(remedy: str, html: str) -> None:
    """The command can be copied. A mark without a second one stays unchanged."""
    failed = after(report(issuer("a", failures=(Reason("x", "Broken.", remedy),))))
    assert f'<p class="remedy">{html}</p>' in page(failed)


def test_apiservers_are_shown_side_by_side() -> None:
    """The page shows the keys missing at an apiserver, why another is rejected, and the expiry of certificates."""
    said = text(everything())
    assert f"https://10.0.0.12:6443 reachable, 1 key does not show {EC_KEYS[1].kid}" in said
    assert "certificate ends 2026-11-29 08:00:00Z (in 6 d)" in said
    assert "https://10.2.0.12:6443 timeout It did not answer within 15 s." in said
    assert "certificate end unknown" in said


def test_keys_say_what_may_be_done_with_them() -> None:
    """Safe or not yet safe, held, retiring until, revoked."""
    said = text(everything())
    assert "do not sign with it before 2026-11-23 08:14:24Z (in 14 min 24 s)" in said
    assert "safe to sign since 2026-11-12 08:00:00Z (11 d ago)" in said
    assert "leaves at 2026-11-24 00:00:00Z (in 16 h)" in said
    assert "not public; held because: policy" in said
    assert "revoked 2026-11-22 08:00:00Z (1 d ago): the laptop was stolen" in said


def test_drift_and_readback_are_reported() -> None:
    """The page shows what was repaired, and that anonymous requests still fail."""
    said = text(everything())
    assert "drift repaired in the last pass" in said
    assert "Another writer changed <i>openid/v1/jwks</i>; it is as committed again." in said
    assert "Anonymous read-back failed at 2026-11-23 08:00:00Z (0 s ago)" in said
    assert "Anonymous read-back succeeded (0.21 s), at" in said
    assert "2 commits are not pushed yet." in said


def test_former_issuer_is_marked() -> None:
    """A former issuer has its own line, and its name links to its details."""
    former = (FormerIssuerSettings(url_of("old"), date(2027, 1, 1)),)
    old = replace(issuer("old"), name=IssuerName("a"))
    html = page(after(report(issuer("a"), old), of=settings("a", former=former)))
    found = Tags(html)
    assert found.text.count("former issuer") == 1
    details = [each["id"] for tag, each in found.tags if tag == "section" and each.get("class") == "details"]
    assert details == ["a", f"a:{url_of('old')}"]
    leads = [str(each["href"]).partition("#")[2] for tag, each in found.tags if tag == "a"]
    assert [each for each in leads if each] == details


def test_details_that_the_url_names_are_open() -> None:
    """They stay open when the page refreshes. All other details are closed."""
    found = Tags(page(everything(), query="q=prod&show=syd-prod"))
    assert [("open" in each) for tag, each in found.tags if tag == "details"] == [False, True]
    links = [each["href"] for tag, each in found.tags if tag == "a" and "#" in str(each["href"])]
    assert links == ["/?q=prod&show=fra-prod#fra-prod", "/?q=prod&show=syd-prod#syd-prod"]


# ----------------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize("number", [1, 2, 5, 50])
def test_every_issuer_has_a_line_and_details(number: int) -> None:
    """The layout is the same for any number. Details are closed, unless there is only one issuer."""
    found = Tags(page(after(report(*(issuer(f"c{each}") for each in range(number))))))
    rows = [each for tag, each in found.tags if tag == "tr" and each.get("class") == "line"]
    details = [each for tag, each in found.tags if tag == "details"]
    assert (len(rows), len(details)) == (number, number)
    assert [("open" in each) for each in details] == [number == 1] * number
    assert ("form" in {tag for tag, _ in found.tags}) is (number > 1)


def test_page_is_bounded() -> None:
    """Beyond 500 issuers, the page shows the worst ones and the total."""
    many = after(report(*(issuer(f"c{each}") for each in range(MOST_LINES + 3)), issuer("z", failures=(BROKEN,))))
    shown = names(many)
    assert (len(shown), shown[0]) == (MOST_LINES, "z")
    assert f"{MOST_LINES} of {MOST_LINES + 4} issuers are shown" in text(many)
    assert names(many, "q=c502") == ["c502"]


def test_line_marks_rotations_and_what_waits() -> None:
    """The marks are words beside the state."""
    html = page(everything())
    assert '<span class="badge good">current</span> <span class="badge rotating">rotating</span>' in html
    assert '<span class="badge held">held</span> <span class="badge held">pending approval</span>' in html
    two = issuer("a", held=(Reason("key.held", "Held.", ""), Reason("key.held", "Held.", "")), failures=(BROKEN,))
    found = page(after(report(two, issuer("b"))))
    assert '<span class="badge bad">failed</span> <span class="badge held">2 pending approval</span>' in found
    assert ">1 pending approval</a>" in found


def test_kid_is_short_in_a_line_and_whole_in_its_title() -> None:
    """The details also show the whole kid."""
    html = page(everything())
    kid = EC_KEYS[1].kid
    row = re.search(r'<td class="next good">key <code title="([^"]+)">([^<]+)</code>', html)
    assert row is not None
    assert row[2] == f"{row[1][:10]}…"
    assert f'<span class="id">{kid}</span>' in html


def test_line_shows_times_twice() -> None:
    """The line shows the date and the relative time."""
    said = text(everything())
    assert "2026-11-23 07:30 30 min ago" in said
    assert "may sign from 2026-11-23 08:14 in 14 min 24 s" in said
    assert "Last pass ended 2026-11-23 08:00:00Z (0 s ago) after 0.5 s." in said


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["fra-prod", "syd-stage", "syd-prod", "lab"]),
        ("sort=state", ["fra-prod", "syd-stage", "syd-prod", "lab"]),
        ("sort=-state", ["lab", "syd-prod", "syd-stage", "fra-prod"]),
        ("sort=name", ["fra-prod", "lab", "syd-prod", "syd-stage"]),
        ("sort=-name", ["syd-stage", "syd-prod", "lab", "fra-prod"]),
        ("sort=changed", ["syd-prod", "fra-prod", "syd-stage", "lab"]),
        ("sort=nonsense", ["fra-prod", "syd-stage", "syd-prod", "lab"]),
        ("q=PROD", ["fra-prod", "syd-prod"]),
        ("q=prod&sort=-name", ["syd-prod", "fra-prod"]),
        ("q=10.1.0.11", ["syd-stage"]),
        ("state=failed", ["fra-prod"]),
        ("state=current", ["syd-prod", "lab"]),
        ("state=rotating", ["syd-prod"]),
        ("state=pending", ["syd-stage"]),
        ("state=current&q=lab", ["lab"]),
        ("state=no-such-state", []),
        ("q=%3Cscript%3Ealert(1)%3C%2Fscript%3Enothing", []),
    ],
)
def test_table_is_sorted_and_filtered_by_the_url(query: str, expected: list[str]) -> None:
    """The page needs no script. An unknown sort key gives the default order."""
    assert names(everything(), query) == expected


def test_filter_says_what_it_hides() -> None:
    """The page shows the matching and total numbers, the search text as text, and a link to all issuers."""
    assert "1 of 4 issuers are pending approval: show all" in text_of("state=pending")
    assert "2 of 4 issuers match “prod”: show all" in text_of("q=prod")
    assert "1 of 4 issuers are current and match “lab”: show all" in text_of("q=lab&state=current")
    assert "No issuer matches. Show all 4" in text_of("q=<b>nobody")
    assert "<b>" not in page(everything(), query="q=<b>nobody")
    assert 'value="&lt;b&gt;nobody"' in page(everything(), query="q=<b>nobody")


def text_of(query: str) -> str:
    return re.sub(r"\s+", " ", Tags(page(everything(), query=query)).text)


def test_counts_lead_to_their_issuers() -> None:
    """Each existing state is a link with its number. The selected state links back."""
    found = Tags(page(everything(), query="q=prod&state=failed"))
    links = {each.get("href"): each for tag, each in found.tags if tag == "a" and "badge" in str(each.get("class"))}
    assert list(links) == [
        "/?q=prod",
        "/?q=prod&state=held",
        "/?q=prod&state=current",
        "/?q=prod&state=rotating",
    ]
    assert links["/?q=prod"]["aria-current"] == "true"
    assert '<input type="hidden" name="state" value="failed">' in page(everything(), query="q=prod&state=failed")


def test_heads_of_columns_sort_and_say_how() -> None:
    """A second click reverses the order."""
    html = page(everything(), query="sort=name")
    assert '<th scope="col" aria-sort="ascending"><a href="/?sort=-name">name</a>' in html
    assert '<a href="/?">state</a>' in html
    newest = '<th scope="col" aria-sort="descending"><a href="/?sort=-changed">last change</a>'
    assert newest in page(everything(), query="sort=changed")
    assert '<th scope="col" aria-sort="descending"><a href="/?sort=name">name</a>' in page(
        everything(), query="sort=-name"
    )


def test_gone_keys_that_are_not_shown_are_counted() -> None:
    """The page gives the command that shows them."""
    gone = tuple(record(EC_KEYS[0], Status.DROPPED, age=number * DAY) for number in range(1, 30))
    assert "21 more that are gone: oidc-mirror history a" in text(after(report(issuer("a", records=gone))))


# ------------------------------------------------------------------------------------------- recent events


def with_events(number: int) -> PassHistory:
    """A history with that many events in its last pass, the oldest first."""
    history = everything()
    assert history.last_pass is not None
    events = tuple(
        PastEvent(
            MOMENT - timedelta(hours=number - at),
            MOMENT - timedelta(hours=number - at) + timedelta(minutes=30 * (at % 2)),
            "fra-prod",
            url_of("fra-prod"),
            Event("bucket.drift", f"Drift {at}, by <b>another tool</b>.", Level.ERROR),
        )
        for at in range(number)
    )
    return replace(history, last_pass=replace(history.last_pass, events=events))


def test_recent_events_are_shown_newest_first() -> None:
    """Each event has first and last time, duration, name and sentence."""
    said = text(with_events(3))
    assert "2026-11-23 07:00:00Z (1 h ago) fra-prod bucket.drift Drift 2, by <b>another tool</b>." in said
    assert "2026-11-23 06:00:00Z (2 h ago, for 30 min) fra-prod bucket.drift Drift 1" in said
    assert said.index("Drift 2") < said.index("Drift 1") < said.index("Drift 0")


def test_older_events_are_closed() -> None:
    """Hundreds of events do not make the page long."""
    assert "older</summary>" not in page(with_events(SHOWN_EVENTS))
    assert "<summary>2 older</summary>" in page(with_events(SHOWN_EVENTS + 2))


def test_page_without_events_says_so() -> None:
    """No events is distinguished from unknown events."""
    assert "None: no drift" in text(after(report(issuer("a"))))
    assert "Not known on this machine before its first pass." in text(PassHistory())
