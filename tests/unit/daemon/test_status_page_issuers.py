"""One issuer on the page: its line, its details, and its keys on a time axis."""

import pytest

from mirror.daemon.pass_history import PassHistory
from mirror.daemon.status_page import Advice, IssuerLine, Step, advice, issuer_lines, issuer_panel, key_bars
from mirror.model import Event, Level, Reason, Status, Unusable
from mirror.reconcile.state import publications
from mirror.report import Effect, IssuerReport, PublicReadback
from support.fakes import MOMENT
from support.keys import EC_KEYS, KEYS
from support.pass_histories import (
    DAY,
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

SUSPENDED = Event("issuer.suspended", "The issuer is suspended.", Level.WARNING)
SILENT = Unusable("https://2", (Reason("timeout", "Late.", "Look at the network."),))


def lines(pass_history: PassHistory) -> dict[str, IssuerLine]:
    return {str(line.state.name): line for line in issuer_lines(pass_history, MOMENT)}


def line_of(**changes: object) -> IssuerLine:
    return lines(after(report(issuer("a", **changes))))["a"]


def sentence(given: IssuerReport) -> str:
    return issuer_panel(after(report(given)).issuers[url_of(given.name)], MOMENT).sentence


def test_issuers_that_need_action_come_first() -> None:
    """The order is failed, held, rotating, then the rest in configured order."""
    assert list(lines(everything())) == ["fra-prod", "syd-stage", "syd-prod", "lab"]


def test_line_says_how_an_issuer_is() -> None:
    """The line shows keys by status, apiservers that answered, the last change, and the next step."""
    line = lines(everything())["syd-prod"]
    assert (line.word, line.mark, line.rotating, line.pending) == ("current", "good", True, 0)
    assert (line.keys, line.apiservers) == ("2 published, 1 retiring", "2/2")
    assert line.changed_at == MOMENT - DAY / 48
    assert line.next is not None
    assert (line.next.words, line.next.after) == ("key", "may sign from")
    failed = lines(everything())["fra-prod"]
    assert (failed.word, failed.mark, failed.apiservers) == ("failed", "bad", "0/2")
    held = lines(everything())["syd-stage"]
    assert (held.word, held.pending, held.keys) == ("held", 1, "1 published, 1 held")


def test_expected_apiservers_are_counted() -> None:
    """Apiservers that were not found count too."""
    assert line_of(expected_apiservers=3).apiservers == "2/3"


def test_line_before_the_first_pass_claims_nothing() -> None:
    """The line has no state and no number."""
    line = lines(PassHistory().configured(publications(settings("a"))))["a"]
    assert (line.word, line.mark, line.keys, line.apiservers, line.next) == ("unknown", "quiet", "-", "-", None)
    assert (line.rotating, line.pending, line.changed_at) == (False, 0, None)


def test_degraded_line_says_what_an_apiserver_did() -> None:
    """The line shows the code of the answer. A change that waits for an operator comes before it."""
    given = {"observations": (shows("https://1", NEW), SILENT)}
    step = line_of(**given).next
    assert step is not None
    assert step.words == "1 apiserver not usable (timeout), asked again in the next pass"
    held = line_of(**given, held=(Reason("takeover.held", "Documents are there.", ""),)).next
    assert held is not None
    assert held.words == "takeover.held: Documents are there."


def test_suspended_line_says_so_before_anything_that_waits() -> None:
    """This also holds while an apiserver does not answer, because a retry in the next pass changes nothing."""
    step = line_of(observations=(shows("https://1", NEW), SILENT), events=(SUSPENDED,)).next
    assert step is not None
    assert step.words == "suspended: remove `suspend` from the configuration to go on"


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("syd-pr", True),
        ("SYD-PR", True),
        ("cluster/syd-prod", True),
        ("10.0.0.12:6443", True),
        (EC_KEYS[1].kid[5:30], True),
        (EC_KEYS[1].thumbprint, True),
        ("fra", False),
    ],
)
def test_line_is_found_by_what_people_know(text: str, held: bool) -> None:
    """The search matches name, URL, apiserver, kid or thumbprint, or a part of one."""
    assert lines(everything())["syd-prod"].holds(text) is held


@pytest.mark.parametrize(
    ("remedy", "steps"),
    [
        ("Check it, then: oidc-mirror approve a b", (Step("Check it, then:", "oidc-mirror approve a b"),)),
        (
            "With: kubectl create clusterrolebinding oidc-mirror",
            (Step("With:", "kubectl create clusterrolebinding oidc-mirror"),),
        ),
        ("Restart oidc-mirror and wait.", (Step("Restart oidc-mirror and wait."),)),
        ("", ()),
    ],
)
def test_command_is_distinguished_from_words(remedy: str, steps: tuple[Step, ...]) -> None:
    """Only the text at the end, after a colon, is a command."""
    assert advice(Reason("code", "S", remedy)) == Advice("S", steps)


def test_failure_of_apiservers_has_their_own_remedies() -> None:
    """Each remedy is separate, so that each command can be copied. None refers to another box."""
    state = everything().issuers[url_of("fra-prod")]
    none, refused = issuer_panel(state, MOMENT).failures
    binding = "kubectl create clusterrolebinding oidc-mirror --clusterrole=system:service-account-issuer-discovery"
    (first, second) = none.steps
    assert first.command == f"{binding} --group=system:unauthenticated"
    assert second == Step("Look at it.")
    assert refused.steps == (first,)


def test_failure_that_is_none_of_an_apiserver_keeps_its_remedy() -> None:
    """An example is a failure of the bucket."""
    broken = issuer("a", failures=(Reason("x", "Broken.", "Mend it: oidc-mirror check a"),))
    (found,) = issuer_panel(after(report(broken)).issuers[url_of("a")], MOMENT).failures
    assert found == Advice("Broken.", (Step("Mend it:", "oidc-mirror check a"),))


def test_failed_look_takes_back_that_the_last_state_is_public() -> None:
    """The page does not show both sentences, because they contradict each other."""
    failed = issuer("a", failures=(Reason("x", "Broken.", ""),), look=PublicReadback(ok=False, seconds=None))
    assert sentence(failed) == "Something failed, and the public documents are not those that were committed."


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"failures": (Reason("x", "Broken.", ""),)}, "Something failed; the last good state stays public."),
        ({"blocked_by": "push.failed"}, "the git remote must take the push first"),
        ({"records": (), "objects": ()}, "Nothing of this issuer was ever public"),
        ({"held": (Reason("key.held", "Held.", ""),)}, "1 change pending approval; what is public stays as it is."),
        ({"expected_apiservers": 3}, "Mirrored, but only 2 of 3 expected apiservers were found."),
        (
            {"observations": (shows("https://1", NEW), SILENT)},
            "Mirrored, but 1 of 2 apiservers gave no usable answer.",
        ),
        ({"events": (SUSPENDED,)}, "Suspended: only revocations change it. Remove `suspend` from the configuration"),
        ({"events": (SUSPENDED,), "expected_apiservers": 3}, "Suspended: only revocations change it."),
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
        ({}, "Everything is current."),
    ],
)
def test_state_is_reported_in_words(changes: dict[str, object], said: str) -> None:
    """The details have one sentence for the state."""
    assert said in sentence(issuer("a", **changes))


def test_readback_is_shown_with_its_time() -> None:
    """The read-back is not done yet, successful or failed."""
    quiet = issuer_panel(after(report(issuer("a", look=None))).issuers[url_of("a")], MOMENT)
    assert (quiet.look_mark, quiet.look) == ("quiet", "The public URLs were not read back yet.")
    good = issuer_panel(
        after(report(issuer("a", look=PublicReadback(ok=True, seconds=None)))).issuers[url_of("a")], MOMENT
    )
    assert good.look == "Anonymous read-back succeeded, at 2026-11-23 08:00:00Z (0 s ago)."


def test_events_that_only_inform_are_left_out() -> None:
    """Only warnings and errors are shown, each sentence once."""
    events = (Event("a", "Fine.", Level.INFO), Event("b", "Odd.", Level.WARNING), Event("c", "Odd.", Level.ERROR))
    assert issuer_panel(after(report(issuer("a", events=events))).issuers[url_of("a")], MOMENT).events == ("Odd.",)


# ------------------------------------------------------------------------------------------------ timeline


def test_timeline_shows_a_month_and_what_is_planned() -> None:
    """A retiring key has three parts: published until it was missed, retiring until now, and the planned rest."""
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


def test_issuer_without_keys_has_no_timeline() -> None:
    """An issuer has no timeline before its first key."""
    assert key_bars(after(report(issuer("a", records=()))).issuers[url_of("a")], MOMENT) is None
