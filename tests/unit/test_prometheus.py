"""The files for Prometheus and Grafana: every expression parses, and names only metrics that exist."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mirror.daemon.metrics import families
from mirror.daemon.pass_history import PassHistory

FOLDER = Path(__file__).parents[2] / "config" / "prometheus"
ALERTS, TESTS, DASHBOARD = (FOLDER / name for name in ("alerts.yaml", "alerts.test.yaml", "dashboard.json"))
REQUIRED = os.environ.get("OIDC_MIRROR_REQUIRE_PROMTOOL") == "1"
NAMES = {family.name + ("_total" if family.type == "counter" else "") for family in families(PassHistory())}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        assert not REQUIRED, "OIDC_MIRROR_REQUIRE_PROMTOOL=1, and there is no promtool"
        pytest.skip("there is no promtool on this machine (Debian: apt-get install prometheus)")
    return found


def run(promtool: str, *words: str) -> str:
    done = subprocess.run([promtool, *words], capture_output=True, text=True, cwd=FOLDER, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alert_expressions() -> Iterator[str]:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def panels() -> list[dict[str, Any]]:
    found = json.loads(DASHBOARD.read_text())["panels"]
    assert isinstance(found, list)
    return found


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"oidc_mirror_\w+", expression))


def test_alerts_are_valid_rules(promtool: str) -> None:
    """By Prometheus' own judgement."""
    assert "SUCCESS" in run(promtool, "check", "rules", ALERTS.name)


def test_alerts_fire_when_they_should(promtool: str) -> None:
    """Each of them on a day when all is wrong, none on a good day: the file with the situations is shipped too."""
    assert "SUCCESS" in run(promtool, "test", "rules", TESTS.name)
    names = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
    assert names == set(re.findall(r'alertname="(\w+)"\}', TESTS.read_text()))


def test_dashboard_shows_which_issuer_fails_from_which_instance() -> None:
    """A table of them, with both columns, above the curves."""
    (panel,) = [each for each in panels() if each["title"].startswith("Failing issuers")]
    hidden = panel["transformations"][0]["options"]["excludeByName"]
    assert (panel["type"], "issuer" in hidden, "instance" in hidden) == ("table", False, False)
    assert panel["gridPos"]["y"] < min(each["gridPos"]["y"] for each in panels() if each["type"] == "timeseries")


def test_dashboard_expressions_parse(promtool: str, tmp_path: Path) -> None:
    """Each as the expression of a rule, with Grafana's variables filled in."""
    filled = [each.replace("$__rate_interval", "5m").replace("$issuer", ".*") for each in dashboard_expressions()]
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(filled)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(filled)} rules found" in run(promtool, "check", "rules", str(path))


@pytest.mark.parametrize("expression", [*alert_expressions(), *dashboard_expressions()])
def test_expression_names_metrics_that_exist(expression: str) -> None:
    """An expression with a renamed metric would silently never match."""
    assert metrics_in(expression)
    assert metrics_in(expression) <= NAMES


def test_dashboard_shows_every_metric() -> None:
    """All but the version are on it."""
    shown = {name for each in dashboard_expressions() for name in metrics_in(each)}
    assert NAMES - shown == {"oidc_mirror_build_info"}


def test_panels_do_not_overlap() -> None:
    """No two overlap, ids are unique, and each fits into Grafana's 24 columns."""
    cells: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        columns, rows = (range(place[at], place[at] + place[size]) for at, size in (("x", "w"), ("y", "h")))
        mine = {(x, y) for x in columns for y in rows}
        assert not mine & cells
        cells |= mine
    assert len({panel["id"] for panel in panels()}) == len(panels())
