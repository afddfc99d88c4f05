"""All components together: independent, bounded, ordered."""

import time
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from mirror.addresses import object_keys
from mirror.check.ports import HistoryFacts
from mirror.check.result import CheckReport, Component
from mirror.check.runner import run_checks
from mirror.model import IssuerName, IssuerUrl, Reason
from mirror.report import ExitStatus
from support.check_clients import FakeAws, FakeHistoryView, allow, clients_of, policy_of, worst
from support.situations import NAME, ONE, Situation, silent

ALL = frozenset({NAME})


@pytest.fixture
def situation(tmp_path: Path) -> Situation:
    made = Situation(tmp_path, apiservers=("https://10.0.0.11:6443", "https://10.0.0.12:6443"))
    made.run(ONE, ONE)
    return made


def examined(situation: Situation, aws: FakeAws | None = None, history: FakeHistoryView | None = None) -> CheckReport:
    tools = clients_of(situation.world, aws, history)
    return run_checks(situation.settings(), tools, situation.now, names=ALL, component_seconds=1)


def test_healthy_setup_needs_no_repair(situation: Situation) -> None:
    """Every component reports, and none has more than a note."""
    found = examined(situation)
    assert {each.component for each in found.findings} == set(Component) - {
        Component.FLEET,
        Component.NOTIFY,
    }  # only with its own option
    assert [each for each in worst(found.findings) if each[0] != "note"] == []
    assert found.exit_status is ExitStatus.CURRENT


def test_looking_changes_nothing(situation: Situation) -> None:
    """No put, no commit, no push."""
    before = dict(situation.world.bucket.objects), situation.world.history.head
    examined(situation)
    assert (dict(situation.world.bucket.objects), situation.world.history.head) == before


def test_what_is_shared_comes_first_and_the_worst_first_in_a_component(situation: Situation) -> None:
    """This is the order in which people read the report."""
    situation.show(ONE, silent(code="forbidden"))
    found = examined(situation).findings
    assert [each.issuer for each in found] == sorted((each.issuer for each in found), key=lambda name: name or "")
    assert next(each for each in found if each.component is Component.APISERVERS).code == "forbidden"


def test_failed_finding_is_exit_status_1(situation: Situation) -> None:
    """One replica that rejects our requests is enough."""
    situation.show(ONE, silent(code="forbidden"))
    assert examined(situation).exit_status is ExitStatus.FAILED


def test_component_that_hangs_hides_no_other(situation: Situation) -> None:
    """The timeout is a finding of its own. All other findings arrive in time."""
    forever = Event()
    before = time.monotonic()
    found = examined(situation, history=FakeHistoryView(before=forever.wait))
    forever.set()
    assert time.monotonic() - before < 30
    assert [each.code for each in found.findings if each.component is Component.GIT] == ["station.timeout"]
    assert {each.component for each in found.findings} == set(Component) - {
        Component.FLEET,
        Component.NOTIFY,
    }  # only with its own option


def test_failing_component_hides_no_other_and_prints_no_secret(situation: Situation) -> None:
    """Only the type of an unknown error is reported."""
    found = examined(situation, FakeAws(raises=RuntimeError("AKIA-secret")))
    (broken,) = [each for each in found.findings if each.code == "station.broken"]
    assert (broken.component, "RuntimeError" in broken.sentence) == (Component.BUCKET, True)
    assert "AKIA-secret" not in repr(found)


def test_failing_poll_is_reported_once(situation: Situation) -> None:
    """After that, nothing is reported about apiservers and keys."""
    tools = clients_of(situation.world)
    settings = situation.settings()
    situation.world.source.answers = None  # type: ignore[assignment]  # a defect of the source
    found = run_checks(settings, tools, situation.now, names=ALL)
    assert [e.code for e in found.findings if e.component in (Component.APISERVERS, Component.KEYS)] == [
        "station.broken"
    ]


def test_other_issuers_are_not_asked_but_their_keys_count(situation: Situation) -> None:
    """The policy of a shared bucket is right if it allows reads of every issuer's documents."""
    settings = situation.settings()
    other = replace(settings.issuers[0], name=IssuerName("other"), issuer=IssuerUrl(f"{settings.issuers[0].issuer}-2"))
    both = replace(settings, issuers=(*settings.issuers, other))
    found = run_checks(both, clients_of(situation.world), situation.now, names=ALL)
    assert {each.issuer for each in found.findings} == {None, NAME}
    (narrow,) = [each for each in found.findings if each.code == "policy.narrow"]
    assert "identifier-2/" in narrow.sentence
    assert situation.world.source.asked.count("other") == 0


def test_bucket_that_is_written_with_two_credentials_has_one_policy(situation: Situation) -> None:
    """Objects published with the other credentials do not count as too wide access."""
    settings = situation.settings()
    first = settings.issuers[0]
    publish = replace(first.publish, profile="other")
    other = replace(first, name=IssuerName("other"), issuer=IssuerUrl(f"{first.issuer}-2"), publish=publish)
    keys = [key for each in (first, other) for key in object_keys(each.issuer, publish.base_url, "")]
    aws = FakeAws().set(policy=policy_of(allow(*keys)))
    both = replace(settings, issuers=(first, other))
    found = run_checks(both, clients_of(situation.world, aws), situation.now, names=ALL)
    assert [each.code for each in found.findings if each.code.startswith("policy.")][-1] == "policy.exact"
    assert {each.code for each in found.findings} & {"policy.wider", "policy.narrow"} == set()


def test_only_wanted_components_are_reported(situation: Situation) -> None:
    """The keys component also needs the apiservers and the public URLs."""
    wanted = frozenset({Component.KEYS})
    found = run_checks(situation.settings(), clients_of(situation.world), situation.now, names=ALL, components=wanted)
    assert {each.component for each in found.findings} == {Component.KEYS}
    assert "keys.public" in {each.code for each in found.findings}


def test_broken_history_is_reported_with_everything_else(situation: Situation) -> None:
    """An unreadable repository stops no other component."""
    state = HistoryFacts(unreadable=Reason("git.unreadable", "No.", "Mend it."))
    found = examined(situation, history=FakeHistoryView(state))
    assert [each for each in worst(found.findings) if each[0] == "failed"] == [("failed", "git.unreadable")]
