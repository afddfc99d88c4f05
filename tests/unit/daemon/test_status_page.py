"""The status page as HTML: what it says, that it escapes, and that it asks nobody."""

import re
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser

import pytest

from mirror.config.settings import FormerIssuerSettings
from mirror.daemon.pass_history import PassHistory
from mirror.daemon.scheduler import HealthResult
from mirror.daemon.status_page import MOST_CARDS, REFRESH_SECONDS, Advice, advice, issuer_panels, key_bars, render
from mirror.model import Event, IssuerName, Level, Reason, Status, Unusable
from mirror.reconcile.state import publications
from mirror.report import Effect, PublicReadback
from support.fakes import MOMENT
from support.keys import EC_KEYS, KEYS
from support.pass_histories import (
    DAY,
    HOSTILE,
    NEW,
    OLD,
    after,
    documents,
    everything,
    issuer,
    record,
    report,
    settings,
    shows,
    url_of,
)

SILENT = Unusable("https://2", (Reason("timeout", "Late.", ""),))
ALIVE = HealthResult(ok=True, sentence="Alive.")


class Tags(HTMLParser):
    """Every tag with its attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page(pass_history: PassHistory, health: HealthResult = ALIVE) -> str:
    return render(pass_history, health, MOMENT)


def text(pass_history: PassHistory, health: HealthResult = ALIVE) -> str:
    return re.sub(r"\s+", " ", Tags(page(pass_history, health)).text)


def test_page_has_nothing_that_acts_or_loads() -> None:
    """No script, no frame, no form, no picture, no handler, no style attribute, whatever apiservers said."""
    found = Tags(page(everything()))
    assert {tag for tag, _ in found.tags} & {"script", "iframe", "img", "form", "object", "link", "base"} == set()
    names = {name for _, attributes in found.tags for name in attributes}
    assert not [name for name in names if name.startswith("on") or name == "style"]
    assert {each["href"] for tag, each in found.tags if tag == "a"} == {
        "/metrics",
        "/healthz",
        "/readyz",
        *(f"#{name}" for name in ("syd-prod", "syd-stage", "fra-prod", "lab")),
        *(each.url for name in ("syd-prod", "syd-stage", "fra-prod", "lab") for each in documents(name, Effect.PUT)),
    }


def test_text_from_outside_is_text() -> None:
    """Kids, sentences about answers, subjects of commits: whole, and harmless."""
    said = text(everything())
    assert HOSTILE.kid in said
    assert '<img src="https://evil.example/x.png">' in said
    assert "<script>alert(1)</script> & more" in said


def test_page_renews_itself_without_a_script() -> None:
    """By a meta element."""
    assert f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">' in page(everything())


def test_what_needs_somebody_comes_first() -> None:
    """Failed, then held, then the rest in the order of the configuration."""
    assert [card.state.name for card in issuer_panels(everything(), MOMENT)] == [
        "fra-prod",
        "syd-stage",
        "syd-prod",
        "lab",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Everything is current"),
        ({"held": (Reason("key.held", "Held.", ""),)}, "1 of 1 issuer waiting for an operator"),
        ({"failures": (Reason("x", "Broken.", ""),)}, "1 of 1 issuer failed"),
        ({"objects": documents("a", Effect.WAITING)}, "1 of 1 issuer degraded"),
    ],
)
def test_headline_is_the_worst(changes: dict[str, object], said: str) -> None:
    """One sentence for who looks for a second; it is the title too."""
    html = page(after(report(issuer("a", **changes))))
    assert f"<h1>{said}</h1>" in html
    assert f"<title>{said} · oidc-mirror</title>" in html


def test_page_before_the_first_pass() -> None:
    """It claims nothing."""
    said = text(PassHistory().configured(publications(settings("a"))))
    assert "The first pass has not ended yet" in said
    assert "No pass has decided about it yet." in said
    assert "No commit yet." in said


def test_failed_pass_is_told_with_its_remedy() -> None:
    """And what was known of the issuer stands below it, as something old."""
    broken = report(failures=(Reason("history.failed", "The disk is full.", "Free some."),))
    said = text(after(report(issuer("a")), broken, of=settings("a")))
    assert "The last pass failed" in said
    assert "The disk is full. Free some." in said
    assert "what stands below is from an earlier one" in said
    assert NEW.kid in said


def test_stuck_daemon_says_that_it_is_old() -> None:
    """The page must not look fresh, let alone green, when nothing runs any more."""
    stuck = HealthResult(ok=False, sentence="No pass has ended for 1:00:00.")
    said = text(after(report(issuer("a"))), stuck)
    assert "No pass has ended for 1:00:00. What stands below is old." in said
    assert '<header class="bad">' in page(after(report(issuer("a"))), stuck)
    assert "The mirror is stuck · oidc-mirror" in said


def test_command_of_a_held_change_can_be_copied() -> None:
    """It stands by itself."""
    html = page(everything())
    assert f"<code>oidc-mirror approve syd-stage {HOSTILE.thumbprint}</code>" in html


@pytest.mark.parametrize(
    ("remedy", "expected"),
    [
        ("Check it, then: oidc-mirror approve a b", Advice("S", "Check it, then:", "oidc-mirror approve a b")),
        (
            "With: kubectl create clusterrolebinding oidc-mirror",
            Advice("S", "With:", "kubectl create clusterrolebinding oidc-mirror"),
        ),
        ("Restart oidc-mirror and wait.", Advice("S", "Restart oidc-mirror and wait.", "")),
        ("", Advice("S", "", "")),
    ],
)
def test_command_is_told_from_words(remedy: str, expected: Advice) -> None:
    """Only what stands at the end, behind a colon."""
    assert advice(Reason("code", "S", remedy)) == expected


def test_apiservers_stand_beside_each_other() -> None:
    """Which keys one does not show, why another is not believed, and when certificates end."""
    said = text(everything())
    assert f"https://10.0.0.12:6443 reachable, 1 key does not show {EC_KEYS[1].kid}" in said
    assert "certificate ends 2026-11-29 08:00:00Z" in said
    assert "https://10.2.0.12:6443 timeout It did not answer within 15 s." in said
    assert "certificate end unknown" in said


def test_keys_say_what_may_be_done_with_them() -> None:
    """Safe or not yet, held, retiring until, revoked."""
    said = text(everything())
    assert "do not sign with it before 2026-11-23 08:14:24Z" in said
    assert "safe to sign since 2026-11-12 08:00:00Z" in said
    assert "leaves at 2026-11-24 00:00:00Z" in said
    assert "not public; held because: policy" in said
    assert "revoked 2026-11-22 08:00:00Z: the laptop was stolen" in said


def test_drift_and_readback_are_told() -> None:
    """What was repaired, and that the world does not see it."""
    said = text(everything())
    assert "drift repaired in the last pass" in said
    assert "Somebody else wrote <i>openid/v1/jwks</i>; it is as committed again." in said
    assert "The world does not see what is meant" in said
    assert "The world read these documents as meant within 0.21 s" in said
    assert "2 commits are not pushed yet." in said


def test_former_issuer_is_marked() -> None:
    """It has a card of its own, which the list of issuers leads to."""
    former = (FormerIssuerSettings(url_of("old"), date(2027, 1, 1)),)
    old = replace(issuer("old"), name=IssuerName("a"))
    html = page(after(report(issuer("a"), old), of=settings("a", former=former)))
    found = Tags(html)
    assert found.text.count("former issuer") == 1
    cards_of = [each["id"] for tag, each in found.tags if tag == "section" and "id" in each]
    assert cards_of == ["a", f"a:{url_of('old')}"]
    leads = [each["href"] for tag, each in found.tags if tag == "a"]
    assert [f"#{each}" for each in cards_of] == [each for each in leads if each and each.startswith("#")]


def test_list_of_issuers_names_what_needs_somebody() -> None:
    """Above all cards, the worst first, with its state in words beside the colour; one issuer needs no list."""
    said = text(everything())
    assert "fra-prod failed syd-stage held syd-prod lab" in said
    assert "<nav" not in page(after(report(issuer("a"))))


def test_failed_look_takes_back_that_the_last_state_is_public() -> None:
    """Both sentences cannot be true."""
    failed = issuer("a", failures=(Reason("x", "Broken.", ""),), look=PublicReadback(ok=False, seconds=None))
    assert (
        issuer_panels(after(report(failed)), MOMENT)[0].sentence
        == "Something failed, and what is public is not what was meant."
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"observations": (shows("https://1", NEW), Unusable("https://2", (Reason("timeout", "Late.", ""),)))},
            "Mirrored, but 1 of 2 apiservers gave no usable answer.",
        ),
        ({"objects": documents("a", Effect.WAITING)}, "Mirrored, but not all of it is public yet."),
        (
            {
                "records": (record(NEW, Status.REVOKED),),
                "events": (Event("issuer.emptied", "Every key is revoked.", Level.WARNING),),
            },
            "No key is public, so no token of this cluster is accepted anywhere.",
        ),
        ({"objects": documents("a", Effect.PUT, "create")}, "Changed in the last pass, and public."),
        ({"observations": (shows("https://1", NEW), shows("https://2", OLD))}, "a rotation is under way"),
    ],
)
def test_state_is_told_in_words(changes: dict[str, object], said: str) -> None:
    """One sentence a card."""
    assert said in text(after(report(issuer("a", **changes))))


def test_events_that_only_inform_are_left_out() -> None:
    """Warnings and errors are told, each sentence once."""
    events = (Event("a", "Fine.", Level.INFO), Event("b", "Odd.", Level.WARNING), Event("c", "Odd.", Level.ERROR))
    assert issuer_panels(after(report(issuer("a", events=events))), MOMENT)[0].events == ("Odd.",)


def test_many_quiet_issuers_are_lines() -> None:
    """Beyond a hundred only those that need somebody get a card."""
    quiet = [issuer(f"c{number}") for number in range(MOST_CARDS)]
    found = Tags(page(after(report(*quiet, issuer("bad", failures=(Reason("x", "Broken.", ""),))))))
    assert [each.get("id") for tag, each in found.tags if tag == "section"] == ["bad", ":quiet", None]
    assert sum(tag == "tr" for tag, _ in found.tags) == MOST_CARDS + 1


# ------------------------------------------------------------------------------------------------ timeline


def test_timeline_shows_a_month_and_what_is_planned() -> None:
    """A retiring key: public until it was missed, retiring until now, and what is left of it beyond."""
    found = key_bars(
        after(report(issuer("a", records=(record(OLD, Status.RETIRING, age=90 * DAY, missing=DAY / 2),)))).issuers[
            url_of("a")
        ],
        MOMENT,
    )
    assert found is not None
    (bar,) = found.bars
    published, retiring, planned = bar.stretches
    assert (published.x, published.status) == (1.0, Status.PUBLISHED)
    assert published.x + published.width == pytest.approx(retiring.x, abs=0.01)
    assert planned.planned
    assert planned.x == pytest.approx(found.now_x, abs=0.01)
    assert planned.x + planned.width <= 99.01
    assert [tick.text for tick in found.ticks] == ["2026-10-24", "2026-11-04", "2026-11-14"]


def test_dropped_keys_are_counted_not_drawn_without_end() -> None:
    """Years of rotations do not make the page long."""
    gone = [record(KEYS[0], Status.DROPPED, age=number * DAY) for number in range(1, 30)]
    found = key_bars(after(report(issuer("a", records=tuple(gone)))).issuers[url_of("a")], MOMENT)
    assert found is not None
    assert (len(found.bars), found.left_out) == (8, 21)
    assert all(bar.stretches == () for bar in found.bars)
    assert "21 more that are gone" in text(after(report(issuer("a", records=tuple(gone)))))


def test_issuer_without_keys_has_no_timeline() -> None:
    """Before its first key."""
    assert key_bars(after(report(issuer("a", records=()))).issuers[url_of("a")], MOMENT) is None
