"""The pass history as metrics, read with Prometheus' own parser."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mirror import __version__
from mirror.config.settings import FormerIssuerSettings
from mirror.daemon.metrics import families, render, resumed
from mirror.daemon.pass_history import PassHistory
from mirror.model import Event, IssuerName, Level, Reason, Status, Unusable
from mirror.reconcile.state import publications
from mirror.report import Effect, PublicReadback
from support.fakes import MOMENT
from support.keys import with_kid
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

DOCUMENT = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
Samples = Mapping[tuple[str, ...], float]


def samples(pass_history: PassHistory) -> Samples:
    """{(name without prefix, label values in the order of their names…): value}"""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(render(pass_history).decode()):
        for sample in family.samples:
            key = (sample.name.removeprefix("oidc_mirror_"), *(sample.labels[name] for name in sorted(sample.labels)))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def test_pass_is_reported() -> None:
    """Duration, end, result, unpushed commits and the version are exported."""
    found = samples(after(report(issuer("a"), unpushed_commits=3)))
    assert found["pass_duration_seconds",] == 0.5
    assert found["pass_last_end_timestamp_seconds",] == MOMENT.timestamp()
    assert [found["passes_total", result] for result in ("current", "failed", "held")] == [1, 0, 0]
    assert found["unpushed_commits",] == 3
    assert found["build_info", __version__] == 1


def test_before_the_first_pass_nothing_is_claimed() -> None:
    """Counters are zero, an issuer has never succeeded, and unknown values have no sample."""
    found = samples(PassHistory().configured(publications(settings("a"))))
    assert found["issuer_last_success_timestamp_seconds", "a"] == 0
    assert found["passes_total", "failed"] == 0
    assert {name for name, *labels in found if "a" in labels} == {
        "issuer_last_success_timestamp_seconds",
        "drift_repaired_total",
    }
    assert not {"pass_duration_seconds", "unpushed_commits"} & {name for name, *_ in found}


def test_apiservers_are_counted_by_state() -> None:
    """An apiserver is usable, unreachable for now, or rejected, which needs an operator."""
    timeout, forbidden = (Reason(code, "", "") for code in ("timeout", "forbidden"))
    observations = (
        shows("https://1", NEW),
        Unusable("https://2", (timeout,)),
        Unusable("https://3", (timeout, forbidden)),
    )
    found = samples(after(report(issuer("a", observations=observations))))
    assert {key[2]: value for key, value in found.items() if key[0] == "issuer_apiservers"} == {
        "usable": 1,
        "unreachable": 1,
        "refused": 1,
    }


def test_certificate_of_an_apiserver_is_the_one_that_ends_first() -> None:
    """Behind a load balancer, one URL shows several certificates. Without a certificate there is no sample."""
    first, second = shows("https://1", NEW), replace(shows("https://1", NEW), certificate_expires_at=MOMENT + DAY)
    unknown = replace(shows("https://2", NEW), certificate_expires_at=None)
    found = samples(after(report(issuer("a", observations=(first, second, unknown)))))
    name = "issuer_apiserver_certificate_expiry_timestamp_seconds"
    assert {key: value for key, value in found.items() if key[0] == name} == {
        (name, "https://1", "a"): (MOMENT + DAY).timestamp()
    }


def test_keys_are_counted_and_dated() -> None:
    """Keys are counted by status. A published key has a safe-to-sign date, a retiring key a removal date."""
    records = (
        record(OLD, Status.RETIRING, missing=DAY / 2),
        record(NEW, Status.PUBLISHED),
        record(HOSTILE, Status.HELD),
    )
    found = samples(after(report(issuer("a", records=records, held=(Reason("key.held", "", ""),)))))
    statuses = {key[2]: value for key, value in found.items() if key[0] == "issuer_keys"}
    assert statuses == {"held": 1, "published": 1, "retiring": 1, "dropped": 0, "revoked": 0}
    assert found["key_safe_to_sign_timestamp_seconds", "a", NEW.kid] == (MOMENT - 11 * DAY).timestamp()
    assert found["key_leaves_timestamp_seconds", "a", OLD.kid] == (MOMENT + DAY / 2).timestamp()
    assert found["issuer_held", "a"] == 1
    assert ("key_safe_to_sign_timestamp_seconds", "a", OLD.kid) not in found


def test_kid_from_outside_stays_a_label() -> None:
    """Quotes, backslashes and tags survive as text. A kid on two records is one series."""
    nasty = with_kid(NEW, 'a"b\\c{}<script>')
    twin = with_kid(OLD, nasty.kid)
    records = (record(nasty, Status.PUBLISHED), record(twin, Status.PUBLISHED))
    found = samples(after(report(issuer("a", records=records))))
    assert ("key_safe_to_sign_timestamp_seconds", "a", nasty.kid) in found


def test_keys_that_are_shown_but_not_public_are_counted() -> None:
    """The key is held or its put failed. Relying parties reject the tokens that it signs."""
    observations = (shows("https://1", NEW, HOSTILE), shows("https://2", NEW))
    found = samples(after(report(issuer("a", observations=observations))))
    assert found["issuer_keys_not_public", "a"] == 1
    assert found["issuer_replicas_disagree", "a"] == 1
    assert samples(after(report(issuer("a"))))["issuer_replicas_disagree", "a"] == 0


def test_token_of_a_non_public_key_is_reported() -> None:
    """A probe found a key that no JWKS has. Pods are about to lose their access."""
    event = Event("signing_key.not_public", "Signed in vain.", Level.ERROR)
    assert samples(after(report(issuer("a", events=(event,)))))["issuer_signing_key_not_public", "a"] == 1
    assert samples(after(report(issuer("a"))))["issuer_signing_key_not_public", "a"] == 0


def test_readback_is_the_worst_of_an_entry() -> None:
    """An entry with a former issuer has one series: all must succeed, the slowest counts, and repairs add up."""
    former = (FormerIssuerSettings(url_of("old"), date(2027, 1, 1)),)
    bad = replace(
        issuer("old", look=PublicReadback(ok=False, seconds=2.5), objects=documents("old", Effect.PUT, "repair")),
        name=IssuerName("a"),
    )
    found = samples(after(report(issuer("a"), bad), of=settings("a", former=former)))
    assert (found["readback_ok", "a"], found["readback_seconds", "a"]) == (0, 2.5)
    assert found["drift_repaired_total", "a"] == 2
    assert found["issuer_keys", "a", "published"] == 1


def test_series_of_issuers_that_left_vanish() -> None:
    """No series has the name of a former entry of the configuration."""
    before = after(report(issuer("a"), issuer("b")))
    assert any("b" in key for key in samples(before))
    assert not any("b" in key for key in samples(before.configured(publications(settings("a")))))


def test_counters_go_on_after_a_restart() -> None:
    """Counts continue from those of the previous process, and its last success stays known."""
    first = after(
        report(issuer("a", objects=documents("a", Effect.PUT, "repair"))),
        report(failures=(Reason("x", "", ""),)),
        of=settings("a"),
    )
    begun = resumed(render(first).decode()).configured(publications(settings("a")))
    found = samples(begun)
    assert [found["passes_total", result] for result in ("current", "failed")] == [1, 1]
    assert found["issuer_last_success_timestamp_seconds", "a"] == MOMENT.timestamp()
    assert samples(after(report(issuer("a")), begin=begun))["drift_repaired_total", "a"] == 2


@pytest.mark.parametrize("text", ["", "nonsense {", 'oidc_mirror_passes_total{result="current"} NaN\n', "a 1\n\0"])
def test_file_that_is_none_resumes_nothing(text: str) -> None:
    """A foreign or damaged file loses only the earlier counts."""
    assert not resumed(text).passes


def test_document_and_metrics_say_the_same() -> None:
    """The document explains every metric with its labels, and no others."""
    wanted = {
        (family.name + ("_total" if family.type == "counter" else ""), family.type)
        for family in families(PassHistory())
    }
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(render(everything()).decode()):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    rows = re.findall(r"^\| `(oidc_mirror_\w+)` \| (\w+) \|([^|]*)\|", DOCUMENT.read_text(), re.MULTILINE)
    assert {(name, kind) for name, kind, _ in rows} == wanted
    assert {name: set(re.findall(r"`(\w+)`", reported)) for name, _, reported in rows} == labels
