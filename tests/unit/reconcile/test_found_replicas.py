"""Discovered replicas: with fewer than expected, keys are added, but no retirement begins or ends."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.config.settings import AuthSettings, Issuer
from mirror.model import Answer, Status, Unusable
from mirror.reconcile.local_state import apiserver_fingerprint
from mirror.report import Report
from support.kubeconfigs import kubeconfig
from support.situations import BOTH, LAST, ONE, Situation, answer, silent, statuses_of

HOST = ("https://api.syd.example.com:6443",)
DAY = timedelta(hours=24)


@pytest.fixture
def here(tmp_path: Path) -> Situation:
    """Two replicas are expected behind a name; both showed two keys."""
    made = Situation(tmp_path, apiservers=HOST, discover="dns", expect_replicas=2)
    made.run(found(BOTH, 1), found(BOTH, 2))
    return made


def found(case: str, number: int) -> Answer:
    return answer(case, f"https://10.0.0.{number}:6443")


def blocked(report: Report) -> bool:
    return any(event.name == "retirement.blocked" for event in report.issuers[0].events)


def test_all_expected_replicas_let_a_key_retire_and_leave(here: Situation) -> None:
    """If all expected replicas answer, a missing key retires and is dropped after its time."""
    gone = here.run(found(LAST, 1), found(LAST, 2))
    assert statuses_of(gone) == [Status.PUBLISHED, Status.RETIRING, Status.RETIRING]
    assert statuses_of(here.run(after=DAY)) == [Status.DROPPED, Status.DROPPED, Status.PUBLISHED]


FEWER: tuple[tuple[Answer | Unusable, ...], ...] = (
    (found(LAST, 1),),
    (found(LAST, 1), silent("https://10.0.0.2:6443")),
    (found(LAST, 1), silent(HOST[0], "unreachable")),
    (found(LAST, 1), found(LAST, 2), silent(HOST[0], "bad_endpoint")),
)
FEWER_IDS = ["one-found", "one-silent", "lookup-broken", "one-poisoned"]


@pytest.mark.parametrize("answers", FEWER, ids=FEWER_IDS)
def test_fewer_answers_add_keys_and_begin_no_retirement(
    here: Situation, answers: tuple[Answer | Unusable, ...]
) -> None:
    """A replica that was not found may still show the missing keys: they stay, and the new key is public."""
    report = here.run(*answers)
    assert (statuses_of(report), blocked(report)) == ([Status.PUBLISHED] * 3, True)


@pytest.mark.parametrize("answers", FEWER, ids=FEWER_IDS)
def test_fewer_answers_end_no_retirement(here: Situation, answers: tuple[Answer | Unusable, ...]) -> None:
    """A key that already retires is not dropped while a replica is missing."""
    here.run(found(LAST, 1), found(LAST, 2))
    report = here.run(*answers, after=DAY)
    assert statuses_of(report) == [Status.PUBLISHED, Status.RETIRING, Status.RETIRING]


def test_more_replicas_than_expected_must_all_answer(here: Situation) -> None:
    """A third replica that was discovered counts: a key that only it shows stays."""
    report = here.run(found(LAST, 1), found(LAST, 2), found(BOTH, 3))
    assert statuses_of(report) == [Status.PUBLISHED] * 3


def test_replicas_that_come_and_go_are_no_other_source(here: Situation) -> None:
    """A change of the discovered addresses is no event; a change of the discovery method is."""
    assert "sources.changed" not in names(here.run(found(BOTH, 7), found(BOTH, 8)))
    here.discover, here.expect_replicas = None, None
    assert "sources.changed" in names(here.run(found(BOTH, 7)))


def names(report: Report) -> list[str]:
    return [event.name for event in report.issuers[0].events]


def test_apiserver_of_a_kubeconfig_is_one_source(tmp_path: Path) -> None:
    """Server, TLS name and CA of the kubeconfig count; its token, which is renewed all the time, does not."""
    plain = Situation(tmp_path, apiservers=()).settings().issuers[0]

    def digest(server: str = "https://10.0.0.1", **parts: dict[str, str]) -> str:
        path = kubeconfig(tmp_path, server, **parts)
        return apiserver_fingerprint(replace(plain, auth=AuthSettings(kubeconfig=path)))

    first = digest(user={"token": "one"})
    assert digest(user={"token": "two"}) == first
    others = {
        apiserver_fingerprint(plain),
        digest("https://10.0.0.2"),
        digest(cluster={"certificate-authority-data": "Yw=="}),
        digest(cluster={"tls-server-name": "kubernetes"}),
        apiserver_fingerprint(replace(plain, auth=AuthSettings(kubeconfig=tmp_path / "missing"))),
    }
    assert len(others | {first}) == 6


def test_one_answer_is_enough_only_where_one_is_expected(tmp_path: Path) -> None:
    """The Service of the own cluster, polled over five connections, is not complete with one answer."""
    publish = Situation(tmp_path).settings().issuers[0]
    in_cluster = replace(publish, apiservers=(), load_balancer=True, auth=AuthSettings(in_cluster=True))
    by_kubeconfig: Issuer = replace(publish, apiservers=(), auth=AuthSettings(kubeconfig=tmp_path / "config"))
    assert (in_cluster.expected_answers, by_kubeconfig.expected_answers) == (5, 1)


def test_first_pass_publishes_what_a_single_replica_shows(tmp_path: Path) -> None:
    """If a lookup finds one of three replicas, its keys are still published."""
    here = Situation(tmp_path, apiservers=HOST, discover="dns", expect_replicas=3)
    assert statuses_of(here.run(found(ONE, 1))) == [Status.PUBLISHED]
