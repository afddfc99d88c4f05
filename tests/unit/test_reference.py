"""`docs/reference` agrees with the program: generated pages are current, written pages are complete."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mirror.model import Status
from mirror.report import ExitStatus
from support.reference import FOLDER, PAGES, commands

pytestmark = pytest.mark.unmeasured  # it compares documents with the program

PROGRAM = Path(__file__).parents[2] / "mirror"
DOTTED = re.compile(r"[a-z][a-z_]*(?:\.[a-z][a-z_]*)+")
NO_EVENTS = frozenset(  # dotted names that are neither events nor codes
    (
        *("amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "csp.hci.ic.gov", "sts.amazonaws.com"),
        *("kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"),
        *("audit.json", "local-state.json", "notebook.json", "gc.pid", "cpu.max", "snapshots.git", "daemon.log"),
        *("ca.crt", "server.crt", "server.key"),
        *("history.css", "history.html", "status.css", "status.html", "publish.profile"),
        *("notified.json", "daemon.log", "notify.webhook_url_file", "notify.heartbeat_url_file"),
        *("data.aws_caller_identity.current.account_id", "data.aws_partition.current.partition"),
        *(
            "aws_iam_role.pods.name",
            "connection.connect_tcp.complete",
            "connection.connect_tcp.started",
            "http.response.start",
        ),
    )
)
LOGGED = ("debug", "info", "warning", "error")


@pytest.mark.parametrize("name", PAGES)
def test_generated_page_is_fresh(name: str) -> None:
    """`make reference` would change nothing. With OIDC_MIRROR_WRITE_DOCS=1 this test writes the page."""
    # A process of its own, because click caches the first help text of a command, and other tests use other contexts.
    command = [sys.executable, "-c", f"from support.reference import PAGES; print(PAGES[{name!r}](), end='')"]
    environ = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(map(str, (PROGRAM.parent, PROGRAM.parent / "tests")))}
    path = FOLDER / name
    wanted = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    if os.environ.get("OIDC_MIRROR_WRITE_DOCS"):
        path.write_text(wanted)
    assert path.read_text() == wanted, "stale: run `make reference`, and read the difference"


def test_every_command_and_option_is_on_the_page() -> None:
    """The section of each command lists all its options and arguments, also those that the help hides."""
    page = (FOLDER / "commands.md").read_text()
    for words, command, _ in commands():
        part = page.partition(f"\n## {' '.join(('oidc-mirror', *words))}\n")[2].partition("\n## ")[0]
        options = [option for each in command.params for option in each.opts if option.startswith("--")]
        assert [each for each in options if each not in part] == []


def trees() -> Iterator[tuple[Path, ast.Module]]:
    """The syntax trees of all modules that log events; the findings of `check` have their own codes."""
    for path in sorted(PROGRAM.rglob("*.py")):
        if "check" not in path.relative_to(PROGRAM).parts:
            yield path, ast.parse(path.read_text())


def names_in_the_program() -> frozenset[str]:
    found = {f"key.{status}" for status in Status}  # reconcile/reporting.py builds these names
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and DOTTED.fullmatch(node.value):
                found.add(node.value)
    return frozenset(each for each in found - NO_EVENTS if not each.startswith("mirror."))


def rows(part: str) -> Mapping[str, str]:
    """The rows of a table in a page: the names in the first column, and the rest of the row."""
    found = re.findall(r"^\| (?:<a[^|]*>)?(`[^|]*`) \| (.*) \|$", part, re.MULTILINE)
    return {name: rest for names, rest in found for name in re.findall(r"`([^`]+)`", names)}


EVENTS, _, CODES = (FOLDER / "events.md").read_text().partition("## Codes that are no events")


def test_events_page_names_all_and_only_what_there_is() -> None:
    """The page lists every event and code of the program, and no others."""
    events, codes = rows(EVENTS), rows(CODES)
    assert names_in_the_program() - {*events, *codes} == set()
    assert {*events, *codes} - names_in_the_program() == set()
    assert set(events) & set(codes) == set()
    assert all(len(rest.split(" | ")) == 3 and all(rest.split(" | ")) for rest in events.values())


def test_every_event_and_code_has_an_anchor_of_its_name() -> None:
    """The names in brackets in messages have anchors, which the alerts' runbook_url uses too."""
    page = (FOLDER / "events.md").read_text()
    anchors = re.findall(r'<a id="([^"]+)"></a>', page)
    assert sorted(anchors) == sorted({*rows(EVENTS), *rows(CODES)})


def test_answer_to_an_event_is_about_it() -> None:
    """The section of docs/troubleshooting.md that an event links to mentions the event."""
    page = (FOLDER.parent / "troubleshooting.md").read_text()
    parts = {}
    for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        parts[re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")] = body
    answers = re.findall(r"^\| <a id=\S+></a>`([a-z_.]+)` \|.*\| \[here\]\(#([^)]+)\)", page, re.MULTILINE)
    assert len(answers) > 30
    assert [name for name, part in answers if f"`{name}`" not in parts[part]] == []


def levels_in_the_program() -> Iterator[tuple[str, str]]:
    """The level of every event whose name and level are in the same call."""
    for _, tree in trees():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args):
            name = call.args[0].value if isinstance(call.args[0], ast.Constant) else None
            if not isinstance(name, str) or not DOTTED.fullmatch(name):
                continue
            if isinstance(call.func, ast.Name) and call.func.id == "Event":
                level = call.args[2] if len(call.args) > 2 else None
                if level is None or isinstance(level, ast.Attribute):
                    yield name, "info" if level is None else level.attr.lower()
            elif isinstance(call.func, ast.Attribute) and call.func.attr in LOGGED:
                yield name, call.func.attr


def test_events_page_has_the_levels_of_the_program() -> None:
    """The page states the level of each event, so that operators can filter by level."""
    events, found = rows(EVENTS), list(levels_in_the_program())
    assert len(found) > 40
    wrong = [(name, level) for name, level in found if level not in events[name].partition(" | ")[0].split(" or ")]
    assert wrong == []


def test_page_lists_all_exit_statuses() -> None:
    """The page has a row for each exit status of the program, and no others."""
    page = (FOLDER / "exit-statuses.md").read_text()
    reported = [int(each) for each in re.findall(r"^\| ([0-9]+) \|", page, re.MULTILINE)]
    assert reported == [int(each) for each in ExitStatus]


def test_page_lists_all_files_of_the_state_directory() -> None:
    """The page lists every file and folder that the program creates there."""
    page = (FOLDER / "files.md").read_text()
    program = "".join(path.read_text() for path in PROGRAM.rglob("*.py"))
    found = set(re.findall(r'^(?:\w*FILE_NAME|LAST_ERROR) = "([^"]+)"', program, re.MULTILINE))
    found |= set(re.findall(r'state_dir / "([^"]+)"', program))
    assert {"lock", "audit.json", "local-state.json", "last_error"} <= found
    assert [each for each in sorted(found) if f"| `{each}` |" not in page] == []


@pytest.mark.parametrize("page", sorted(path.name for path in FOLDER.glob("*.md")))
def test_links_lead_somewhere(page: str) -> None:
    """Every relative link points to an existing file, and every anchor to a heading of that page."""
    text = (FOLDER / page).read_text()
    headings = {f"#{each.strip().lower().replace(' ', '-')}" for each in re.findall(r"^## (.*)$", text, re.MULTILINE)}
    headings |= {f"#{each}" for each in re.findall(r'<a id="([^"]+)"></a>', text)}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target in headings
        elif "://" not in target:
            assert (FOLDER / target.partition("#")[0]).exists(), target


ALERTS = re.findall(r"- alert: (\w+)", (PROGRAM.parent / "config/prometheus/alerts.yaml").read_text())
ANCHORS = re.findall(r'<a id="([^"]+)"></a>', (PROGRAM.parent / "docs/troubleshooting.md").read_text())


def test_each_warning_and_error_links_to_its_answer() -> None:
    """docs/troubleshooting.md lists every warning and error, and the reference links to it."""
    grave = [name for name, rest in rows(EVENTS).items() if re.match(r"warning|error", rest)]
    assert len(grave) > 40
    assert [name for name in grave if name not in ANCHORS] == []
    assert [name for name in grave if f"../troubleshooting.md#{name})" not in rows(EVENTS)[name]] == []


def test_each_alert_links_to_its_answer() -> None:
    """The annotation `runbook_url` has the anchor of each alert; no anchor belongs to a removed alert or event."""
    text = (PROGRAM.parent / "config/prometheus/alerts.yaml").read_text()
    linked = re.findall(r"runbook_url: docs/troubleshooting\.md#(\S+)", text)
    assert linked == [name.lower() for name in ALERTS]
    assert {each for each in ANCHORS if "." not in each} == set(linked)
    assert [each for each in ANCHORS if "." in each and each not in rows(EVENTS)] == []
