"""Fifteen situations: report, exit status, `status`, page, `/status.json` and metrics say one thing of an issuer."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mirror.daemon.metrics import render
from mirror.daemon.pass_history import PassHistory
from mirror.daemon.scheduler import HealthResult
from mirror.daemon.status_page import issuer_lines, render_status
from mirror.daemon.status_page import render as render_page
from mirror.errors import BucketError, HistoryError
from mirror.model import KeyPolicy, Reason
from mirror.reconcile.state import publications
from mirror.report import FAILING_STATES, Report, State, to_json
from mirror.status.collect import collect_status
from mirror.status.result import to_json as status_json
from support.fakes import FakeHistory
from support.situations import BOTH, JWKS_KEY, LAST, NAME, ONE, Situation, silent, with_remote

ALIVE = HealthResult(ok=True, sentence="Alive.")
A_MINUTE = timedelta(minutes=1)


@dataclass
class Row:
    """A situation: its passes (the last one is checked), and the state that all outputs must report."""

    make: Callable[[Path], tuple[Situation, Report]]
    state: State
    exit_status: int
    rotating: bool = False


def healthy(folder: Path) -> tuple[Situation, Report]:
    here = Situation(folder)
    here.run(ONE, ONE)
    return here, here.run(ONE, ONE, after=A_MINUTE)


def first_pass(folder: Path) -> tuple[Situation, Report]:
    here = Situation(folder)
    return here, here.run(ONE, ONE)


def one_replica_silent(folder: Path) -> tuple[Situation, Report]:
    here, _ = healthy(folder)
    return here, here.run(ONE, silent(), after=A_MINUTE)


def one_replica_refuses(folder: Path) -> tuple[Situation, Report]:
    here, _ = healthy(folder)
    return here, here.run(ONE, silent(code="forbidden"), after=A_MINUTE)


def replica_not_found(folder: Path) -> tuple[Situation, Report]:
    here = Situation(folder, discover="endpointslices", expect_replicas=3)
    here.run(ONE, ONE)
    return here, here.run(ONE, ONE, after=A_MINUTE)


def no_apiserver(folder: Path) -> tuple[Situation, Report]:
    here, _ = healthy(folder)
    return here, here.run(silent(), silent(), after=A_MINUTE)


def never_published(folder: Path) -> tuple[Situation, Report]:
    here = Situation(folder)
    return here, here.run(silent(), silent())


def key_held(folder: Path) -> tuple[Situation, Report]:
    here, _ = healthy(folder)
    here.policy = KeyPolicy(new_keys="hold")
    return here, here.run(BOTH, BOTH, after=A_MINUTE)


def push_refused(folder: Path) -> tuple[Situation, Report]:
    one = with_remote(folder)
    one.run(ONE, ONE)
    two = one.beside()
    assert two.world.history.remote is not None
    two.world.history.remote.refuses_pushes = True
    return two, two.run(BOTH, BOTH, after=A_MINUTE)


def commit_refused(folder: Path) -> tuple[Situation, Report]:
    here, _ = healthy(folder)

    def refuse(_: FakeHistory) -> None:
        raise HistoryError("The branch cannot be moved.", remedy="Mend its owner.")

    here.world.history.moved_by = refuse
    return here, here.run(BOTH, BOTH, after=A_MINUTE)


def put_refused(folder: Path) -> tuple[Situation, Report]:
    here, _ = healthy(folder)
    here.world.bucket.fails["put"] = BucketError("The bucket says no.", code="AccessDenied", remedy="Allow it.")
    return here, here.run(BOTH, BOTH, after=A_MINUTE)


def world_is_refused(folder: Path) -> tuple[Situation, Report]:
    here, _ = healthy(folder)
    here.world.web.blocked = Reason("forbidden", "The world gets 403.", "Allow it.")
    return here, here.run(ONE, ONE, after=timedelta(hours=2))


def rotation(folder: Path) -> tuple[Situation, Report]:
    here, _ = healthy(folder)
    here.run(ONE, LAST, after=A_MINUTE)
    return here, here.run(ONE, LAST, after=A_MINUTE)


def drift_repaired(folder: Path) -> tuple[Situation, Report]:
    here, _ = healthy(folder)
    here.world.bucket.write(JWKS_KEY, b"evil")
    return here, here.run(ONE, ONE, after=A_MINUTE)


def suspended(folder: Path) -> tuple[Situation, Report]:
    here, _ = healthy(folder)
    here.suspend = True
    return here, here.run(BOTH, BOTH, after=A_MINUTE)


ROWS = {
    "healthy": Row(healthy, State.CURRENT, 0),
    "first pass": Row(first_pass, State.CHANGED, 0),
    "one replica silent": Row(one_replica_silent, State.DEGRADED, 0),
    "one replica refuses": Row(one_replica_refuses, State.DEGRADED, 0),
    "a replica not found": Row(replica_not_found, State.DEGRADED, 0),
    "no apiserver": Row(no_apiserver, State.FAILED, 1),
    "never published": Row(never_published, State.FAILED, 1),
    "suspended": Row(suspended, State.DEGRADED, 0),
    "a key held": Row(key_held, State.HELD, 3),
    "push refused, empty disk": Row(push_refused, State.WAITING_FOR_PUSH, 1),
    "commit refused": Row(commit_refused, State.FAILED, 1),
    "put refused": Row(put_refused, State.FAILED, 1),
    "world is refused": Row(world_is_refused, State.FAILED, 1),
    "rotation": Row(rotation, State.CURRENT, 0, rotating=True),
    "drift repaired": Row(drift_repaired, State.CHANGED, 0),
}


def of_metrics(text: str) -> tuple[set[str], bool]:
    samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
    states = {each.labels["state"] for each in samples if each.name == "oidc_mirror_issuer_state" and each.value == 1}
    rotating = any(each.value == 1 for each in samples if each.name == "oidc_mirror_issuer_rotating")
    return states, rotating


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_all_outputs_agree(tmp_path: Path, row: Row) -> None:
    """One state, one exit status, one flag; and only a state that does not fail counts as a success."""
    here, report = row.make(tmp_path)
    settings, now = here.settings(), here.now.astimezone(UTC)
    found = collect_status(settings, here.world.ports(), now, names=frozenset({NAME}))
    memory = PassHistory().configured(publications(settings)).after(report, ended_at=now, seconds=1.0, commits=())
    page, metrics = render_page(memory, ALIVE, now), render(memory).decode()
    said = {
        "report": (to_json(report)["issuers"][0]["state"], to_json(report)["issuers"][0]["rotating"]),  # type: ignore[index]  # plain data
        "status": (status_json(found)["issuers"][0]["state"], status_json(found)["issuers"][0]["rotating"]),  # type: ignore[index]  # plain data
        "page": (issuer_lines(memory, now)[0].word, ">rotating<" in page),
    }
    from_memory = json.loads(render_status(memory, now))
    said["status.json"] = (from_memory["issuers"][0]["state"], from_memory["issuers"][0]["rotating"])
    assert said == dict.fromkeys(said, (str(row.state), row.rotating))
    assert of_metrics(metrics) == ({str(row.state)}, row.rotating)
    assert f">{row.state}<" in page
    statuses = {
        "pass": int(report.exit_status),
        "status": int(found.exit_status),
        "status.json": from_memory["exit_status"],
    }
    assert statuses == dict.fromkeys(statuses, row.exit_status)
    succeeded = 'issuer_last_success_timestamp_seconds{issuer="syd-prod"} 0.0' not in metrics
    assert succeeded is (row.state not in FAILING_STATES)


def test_status_without_a_state_directory_does_not_know_how_the_pass_ended(tmp_path: Path) -> None:
    """An operator's own machine: visible state is reported, and the last pass is reported as unknown."""
    here, _ = one_replica_silent(tmp_path)
    (tmp_path / "last-pass.json").unlink()
    found = collect_status(here.settings(), here.world.ports(), here.now, names=frozenset({NAME}))
    assert (found.last_pass, found.issuers[0].state, status_json(found)["last_pass"]) == (None, State.CURRENT, None)


def test_suspended_is_the_reason_on_every_machine(tmp_path: Path) -> None:
    """The configuration says it: also where no pass was made, and the page says it in its line."""
    here, report = suspended(tmp_path)
    memory = PassHistory().configured(publications(here.settings()))
    memory = memory.after(report, ended_at=here.now, seconds=1.0, commits=())
    assert "suspended: remove `suspend` from the configuration" in render_page(memory, ALIVE, here.now)
    (tmp_path / "last-pass.json").unlink()
    (found,) = collect_status(here.settings(), here.world.ports(), here.now, names=frozenset({NAME})).issuers
    assert found.state is State.DEGRADED
    assert "issuer.suspended" in {event.name for event in found.events}


def test_status_before_any_pass_is_unpublished(tmp_path: Path) -> None:
    """Nothing was ever public: no token of the cluster is accepted anywhere."""
    here = Situation(tmp_path)
    found = collect_status(here.settings(), here.world.ports(), here.now, names=frozenset({NAME}))
    assert (found.issuers[0].state, int(found.exit_status)) == (State.UNPUBLISHED, 1)
