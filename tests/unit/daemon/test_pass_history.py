"""The state that is kept from pass to pass, and its invalidation."""

from dataclasses import replace
from datetime import date

import pytest

from mirror.config.settings import FormerIssuerSettings
from mirror.daemon.pass_history import PassHistory
from mirror.model import IssuerName, Reason, Status, key_id
from mirror.reconcile.state import publications
from mirror.report import Effect, IssuerReport, PublicReadback, State
from support.fakes import MOMENT
from support.pass_histories import DAY, NEW, OLD, after, documents, issuer, record, report, settings, url_of

BROKEN = Reason("history.failed", "The disk is full.", "Free some.")


def test_passes_are_counted_by_result() -> None:
    """Current, held and failed passes are counted apart. A pass that did not fail resets the consecutive failures."""
    held = report(issuer("a", held=(Reason("key.held", "Held.", ""),)))
    failed = report(failures=(BROKEN,))
    found = after(report(issuer("a")), failed, held, failed, failed, of=settings("a"))
    assert found.passes == {"current": 1, "held": 1, "failed": 3}
    assert found.failed_in_a_row == 2
    assert after(failed, held).failed_in_a_row == 0


def test_pass_that_decided_nothing_leaves_what_was_known() -> None:
    """If git cannot be read, no issuer is reported. Its keys and its last success stay known."""
    found = after(report(issuer("a")), report(failures=(BROKEN,), now=MOMENT + DAY), of=settings("a"))
    known = found.issuers[url_of("a")]
    assert known.report == replace(issuer("a"), blocked_by=BROKEN.code)
    assert known.report is not None
    assert known.report.state is State.FAILED
    assert known.succeeded_at == MOMENT


def test_issuer_that_left_the_configuration_is_forgotten() -> None:
    """A new issuer starts as unknown."""
    found = after(report(issuer("a"))).configured(publications(settings("b")))
    assert [(each.name, each.report) for each in found.issuers.values()] == [("b", None)]


def test_renamed_issuer_keeps_what_is_known() -> None:
    """The name is only a label. The issuer's URL identifies it."""
    before = after(report(issuer("a")))
    renamed = replace(settings("a").issuers[0], name=IssuerName("z"))
    found = before.configured(publications(replace(settings("a"), issuers=(renamed,))))
    assert found.issuers[url_of("a")].name == "z"
    assert found.issuers[url_of("a")].succeeded_at == MOMENT


def test_former_issuers_stand_behind_their_entry() -> None:
    """Each entry is one group, with the issuer itself first."""
    former = (FormerIssuerSettings(url_of("old"), date(2027, 1, 1)),)
    found = PassHistory().configured(publications(settings("a", former=former))).groups()
    assert [(each.url, each.is_former) for each in found[IssuerName("a")]] == [
        (url_of("a"), False),
        (url_of("old"), True),
    ]


def test_failed_issuer_keeps_its_last_success() -> None:
    """The last success of the other issuers is updated."""
    failed = issuer("a", failures=(BROKEN,))
    found = after(report(issuer("a"), issuer("b")), report(failed, issuer("b"), now=MOMENT + DAY))
    assert found.issuers[url_of("a")].succeeded_at == MOMENT
    assert found.issuers[url_of("b")].succeeded_at == MOMENT + DAY


LOOKED = PublicReadback(ok=True, seconds=0.1)


@pytest.mark.parametrize(
    ("second", "known"),
    [
        pytest.param({"look": None, "safe_to_sign_at": None}, True, id="nothing changed and nobody looked"),
        pytest.param({"look": None, "safe_to_sign_at": None, "objects": ()}, True, id="nothing was decided"),
        pytest.param(
            {"look": None, "safe_to_sign_at": None, "objects": documents("a", Effect.PUT)}, False, id="put, not seen"
        ),
        pytest.param(
            {"look": None, "safe_to_sign_at": None, "objects": documents("a", Effect.WAITING)}, False, id="put waits"
        ),
        pytest.param({"look": PublicReadback(ok=False, seconds=None), "safe_to_sign_at": None}, False, id="seen wrong"),
        pytest.param({"look": LOOKED, "safe_to_sign_at": None}, False, id="seen without a date"),
    ],
)
def test_safe_to_sign_is_void_after_an_unobserved_change(second: dict[str, object], *, known: bool) -> None:
    """A date for the earlier keys never applies to a newer key."""
    found = after(report(issuer("a")), report(issuer("a", **second))).issuers[url_of("a")]
    assert found.safe_to_sign_at == (MOMENT - 11 * DAY if known else None)


def test_newest_look_counts() -> None:
    """A new read-back replaces the previous one. A pass without a read-back keeps it, with its date."""
    bad = PublicReadback(ok=False, seconds=None)
    reports = (
        report(issuer("a")),
        report(issuer("a", look=bad), now=MOMENT + DAY),
        report(issuer("a", look=None), now=MOMENT + 2 * DAY),
    )
    found = after(*reports).issuers[url_of("a")]
    assert (found.look, found.looked_at) == (bad, MOMENT + DAY)


def test_public_keys_are_those_that_stood_in_the_bucket() -> None:
    """A published key with a failed put is not public yet."""
    both = (record(OLD, Status.PUBLISHED), record(NEW, Status.PUBLISHED))
    failed: IssuerReport = issuer("a", records=both, objects=documents("a", Effect.FAILED))
    put = replace(failed, objects=documents("a", Effect.PUT))
    assert after(report(issuer("a")), report(failed)).issuers[url_of("a")].public == {key_id(NEW)}
    assert after(report(issuer("a")), report(put)).issuers[url_of("a")].public == {key_id(OLD), key_id(NEW)}


def test_repairs_are_counted() -> None:
    """Repaired objects are summed over all passes. A failed repair does not count."""
    repaired = report(issuer("a", objects=documents("a", Effect.PUT, "repair")))
    failed = report(issuer("a", objects=documents("a", Effect.FAILED, "repair")))
    updated = report(issuer("a", objects=documents("a", Effect.PUT, "update")))
    assert after(repaired, failed, updated, repaired).issuers[url_of("a")].repaired == 4
