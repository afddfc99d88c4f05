"""The report: its exit status is computed, its JSON is as documented, its words are safe for a terminal."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest
from click import unstyle

from mirror.cli.text import lines
from mirror.log import escaped
from mirror.model import Event, IssuerName, IssuerUrl, KeyPolicy, Level, Note, Observed, Reason, Unusable
from mirror.report import Effect, ExitStatus, IssuerReport, ObjectReport, Report, State, to_json
from support.fakes import MOMENT
from support.situations import BOTH, LAST, ONE, Situation, silent

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/reference/report.schema.json").read_text())
WHY = Reason("some_code", "It did not work.", "Mend it.", "jwks keys[0]")
REFUSED = Unusable("https://one", (replace(WHY, code="wrong_issuer"),))
FORBIDDEN = Unusable("https://two", (replace(WHY, code="forbidden"),))
SLOW = Unusable("https://two", (replace(WHY, code="timeout"),))
GOOD = Observed("https://three", (), certificate_expires_at=MOMENT)
STANDS = ObjectReport("https://x/openid/v1/jwks", "openid/v1/jwks", Effect.UNCHANGED)
PUT = ObjectReport("https://x/openid/v1/jwks", "openid/v1/jwks", Effect.PUT, "update")


def issuer(**fields: object) -> IssuerReport:
    plain = IssuerReport(IssuerName("syd"), IssuerUrl("https://issuer.example.com"), (GOOD,), objects=(STANDS,))
    return replace(plain, **fields)  # type: ignore[arg-type]  # fields of IssuerReport by name


def report(*issuers: IssuerReport, **fields: object) -> Report:
    return replace(Report(MOMENT, dry_run=False, issuers=issuers), **fields)  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(
    ("given", "state", "status"),
    [
        (issuer(), State.CURRENT, ExitStatus.CURRENT),
        (issuer(objects=(PUT,)), State.CHANGED, ExitStatus.CURRENT),
        (issuer(observations=(GOOD, SLOW)), State.DEGRADED, ExitStatus.CURRENT),
        (issuer(objects=(replace(PUT, effect=Effect.WAITING),)), State.DEGRADED, ExitStatus.CURRENT),
        (issuer(events=(Event("issuer.emptied", "None left.", Level.WARNING),)), State.DEGRADED, ExitStatus.CURRENT),
        (issuer(expected_apiservers=2), State.DEGRADED, ExitStatus.CURRENT),
        (issuer(observations=(GOOD, FORBIDDEN)), State.DEGRADED, ExitStatus.CURRENT),
        (issuer(observations=(FORBIDDEN,)), State.FAILED, ExitStatus.FAILED),
        (issuer(objects=()), State.UNPUBLISHED, ExitStatus.FAILED),
        (issuer(objects=(), must_be_public=False), State.CURRENT, ExitStatus.CURRENT),
        (issuer(objects=(), blocked_by="push.failed"), State.WAITING_FOR_PUSH, ExitStatus.FAILED),
        (issuer(blocked_by="push.failed", held=(WHY,)), State.WAITING_FOR_PUSH, ExitStatus.FAILED),
        (issuer(blocked_by="history.failed"), State.FAILED, ExitStatus.FAILED),
        (issuer(held=(WHY,)), State.HELD, ExitStatus.HELD),
        (issuer(observations=(SLOW,)), State.FAILED, ExitStatus.FAILED),
        (issuer(observations=(GOOD, REFUSED)), State.FAILED, ExitStatus.FAILED),
        (issuer(failures=(WHY,), held=(WHY,)), State.FAILED, ExitStatus.FAILED),
    ],
    ids=[
        "current",
        "changed",
        "one_slow",
        "waiting",
        "emptied",
        "one_not_found",
        "forbidden_beside_a_good_one",
        "forbidden_alone",
        "never_published",
        "former_never_published",
        "push_refused",
        "push_refused_and_held",
        "commit_failed",
        "held",
        "none_usable",
        "refused",
        "failed_and_held",
    ],
)
def test_state_and_exit_status(given: IssuerReport, state: State, status: ExitStatus) -> None:
    """The worst that holds decides; 1 comes before 3; transient trouble of some replicas is no failure."""
    assert given.state is state
    assert report(given).exit_status is status


def test_silent_apiserver_is_reported_with_other_failures() -> None:
    """All reasons at once: a bucket that cannot be read does not hide that no apiserver answered."""
    both = issuer(observations=(SLOW,), failures=(replace(WHY, code="bucket.denied"),))
    assert [reason.code for reason in both.all_failures()] == ["bucket.denied", "no_usable_apiserver"]


def test_failure_of_the_pass_fails_it() -> None:
    """A failed commit fails a pass, even if all issuers are healthy."""
    assert report(issuer(), failures=(WHY,)).exit_status is ExitStatus.FAILED


def situations(here: Situation) -> list[Report]:
    """Reports of every kind, from real passes."""
    found = [here.plan(ONE, ONE), here.run(ONE, ONE), here.run(BOTH, silent()), here.run(REFUSED, BOTH)]
    here.policy = KeyPolicy(new_keys="hold")
    found.append(here.run("04d-all-algs/"))
    found.append(here.run(LAST, LAST, after=timedelta(hours=30)))
    here.world.bucket.write("cluster/identifier/openid/v1/jwks", b"evil")
    found.append(here.run())
    here.world.history.broken = True
    found.append(here.run())
    return found


def test_json_fits_its_schema(tmp_path: Path) -> None:
    """Every report that a pass can give is what docs/reference/report.schema.json says."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for each in situations(Situation(tmp_path)):
        validator.validate(json.loads(json.dumps(to_json(each))))


def test_text_has_issuer_apiserver_reason_and_remedy() -> None:
    """A rejected item is named with all details that are needed to correct it."""
    text = unstyle("\n".join(lines(report(issuer(observations=(GOOD, REFUSED))))))
    for word in ("syd: failed", "https://one", "wrong_issuer", "jwks keys[0]", "It did not work.", "Mend it."):
        assert word in text


def test_remedy_is_printed_once_for_an_entry() -> None:
    """Two apiservers, the failure that follows and a former issuer need the same; another entry has its own."""
    refused = (REFUSED, replace(REFUSED, apiserver="https://two"))
    current = issuer(observations=refused)
    former = replace(current, issuer=IssuerUrl("https://former.example.com"))
    other = replace(current, name=IssuerName("mel"))
    text = unstyle("\n".join(lines(report(current, former))))
    assert (text.count("Mend it."), text.count("It did not work."), text.count("no_usable_apiserver")) == (1, 4, 2)
    assert unstyle("\n".join(lines(report(current, other)))).count("Mend it.") == 2


def test_words_of_a_plan_say_would(tmp_path: Path) -> None:
    """An operator can judge a plan: what key, what status, what object, what commit; and that nothing was done."""
    text = unstyle("\n".join(lines(Situation(tmp_path).plan(ONE, ONE))))
    assert text.startswith("Plan: nothing was changed.")
    assert "would be published" in text
    assert "would put https://oidc-bucket.s3-ap-southeast-2.amazonaws.com/cluster/identifier/openid/v1/jwks" in text
    assert "Would commit: syd-prod: publish key" in text


def test_words_of_a_pass_name_the_commit(tmp_path: Path) -> None:
    """After a pass its commit can be looked up."""
    done = Situation(tmp_path).run(ONE, ONE)
    text = unstyle("\n".join(lines(done)))
    assert f"Committed {done.commit}: syd-prod: publish key" in text
    assert text.endswith("1 issuer: 1 changed.")


def test_notes_events_held_and_unpushed_are_reported() -> None:
    """The text contains everything in the report."""
    noted = replace(GOOD, notes=(Note("foreign_jwks_uri", "It names another place."),))
    reported = Event("clock.skewed", "The clock is off.", Level.WARNING)
    one = report(
        issuer(observations=(noted,), events=(reported,), held=(WHY,)),
        unpushed_commits=2,
        events=(reported,),
        failures=(WHY,),
    )
    text = unstyle("\n".join(lines(one)))
    for word in (
        "It names another place.",
        "warning [clock.skewed]: The clock is off.",
        "held some_code",
        "2 commits not pushed yet.",
    ):
        assert word in text


@pytest.mark.parametrize(
    ("code", "also_good", "expected"),
    [
        ("tls_untrusted", False, ["no_usable_apiserver"]),
        ("tls_untrusted", True, ["apiserver_not_asked"]),
        ("token_unreadable", True, ["apiserver_not_asked"]),
        ("forbidden", False, ["no_usable_apiserver", "answer_refused"]),
        ("forbidden", True, []),  # another one took the same credential in this pass
        ("wrong_issuer", True, ["answer_refused"]),
        ("unreachable", True, []),
    ],
)
def test_only_what_was_received_is_refused(code: str, expected: list[str], *, also_good: bool) -> None:
    """A CA that is missing refuses no answer; the remedy is the apiserver's own, where it is needed."""
    bad = Unusable("https://b", (Reason(code, "It is wrong.", "Mend it."),))
    one = issuer(observations=(bad, GOOD) if also_good else (bad,))
    assert [reason.code for reason in one.all_failures()] == expected
    assert all(reason.remedy == "Mend it." for reason in one.all_failures())


def test_many_remedies_lead_to_check() -> None:
    """Three are repeated; beyond them one command lists all."""
    bad = tuple(Unusable(f"https://{n}", (Reason("forbidden", "No.", f"Mend {n}."),)) for n in range(5))
    (refused,) = [each for each in issuer(observations=bad).all_failures() if each.code == "answer_refused"]
    assert refused.remedy.startswith("Mend 0. Mend 1. Mend 2. `oidc-mirror check ")


def test_large_quiet_fleet_is_counted_only() -> None:
    """From 20 issuers on, issuers without news take no line."""
    text = unstyle("\n".join(lines(report(*(issuer() for _ in range(30)), issuer(failures=(WHY,))))))
    assert text.count("https://issuer.example.com") == 1
    assert "31 issuers: 1 failed, 30 current." in text


def test_empty_report_says_so() -> None:
    """A pass that decided nothing does not look like a success."""
    assert list(lines(report()))[-1] == "0 issuers: none decided."


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain kid", "plain kid"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb", "a\\nb"),
        ("\u202egnirts", "\\u202egnirts"),
        ("Straße", "Straße"),
    ],
    ids=["plain", "escape_sequence", "line_break", "right_to_left", "letters"],
)
def test_text_from_outside_is_escaped(raw: str, shown: str) -> None:
    """Nothing that a terminal obeys reaches it."""
    assert escaped(raw) == shown
