"""What must hold of the repository itself: lock files, documents, the Makefile, programs."""

import hashlib
import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")
PROGRAMS = (".ci/run", *sorted(f"scripts/{path.name}" for path in (ROOT / "scripts").iterdir()))
DOCUMENTS = sorted(str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
ADRS = sorted(path.name for path in (ROOT / "docs/adr").glob("*.md"))

LOCK_LINE = re.compile(
    r"""(?x)
      [a-z0-9][a-z0-9.-]*(\[[a-z0-9,-]+\])?==[^\s;]+(\ ;\ [^\\]+)?\ \\   # a pinned package, its hashes follow
    | \ {4}--hash=sha256:[0-9a-f]{64}(\ \\)?
    | \ {4}\#\ .*                                                     # who asked for it
    """
)


def pins(lock: str) -> dict[str, Version]:
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    heads = (line.split(" ")[0].split("==") for line in lines if not line.startswith(" "))
    return {name.split("[")[0]: Version(version) for name, version in heads}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def development_requirements(table: dict[str, Any]) -> Iterator[str]:
    for entries in (*table["project"]["optional-dependencies"].values(), *table["dependency-groups"].values()):
        yield from (entry for entry in entries if isinstance(entry, str))


def unmet(requirements: Iterator[str], pinned: dict[str, Version]) -> list[str]:
    parsed = [Requirement(text) for text in requirements]
    return [
        str(one)
        for one in parsed
        if (version := pinned.get(canonicalize_name(one.name))) is None or version not in one.specifier
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_file_has_pins_and_hashes_only(lock: str) -> None:
    """A lock file names no place to download from, no option and no unpinned package."""
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not LOCK_LINE.fullmatch(line) or "://" in line] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_locked_package_has_a_hash(lock: str) -> None:
    """Every pinned package is followed by at least one hash of it."""
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    assert lines
    bare = [a for a, b in zip(lines, [*lines[1:], ""], strict=True) if "==" in a and "--hash=sha256:" not in b]
    assert bare == []


def test_javascript_lock_file_has_hashes_only() -> None:
    """The lock file of the relying party in JavaScript names no place to download from, and every package's hash."""
    text = (ROOT / "tests/relying_parties/package-lock.json").read_text(encoding="utf-8")
    packages = {name: entry for name, entry in json.loads(text)["packages"].items() if name}
    assert packages
    assert "://" not in text
    assert [name for name, entry in packages.items() if not entry["integrity"].startswith("sha512-")] == []


def test_runtime_requirement_is_locked() -> None:
    """The runtime lock has a fitting version of each dependency in pyproject.toml; otherwise: make lock."""
    assert unmet(iter(project()["project"]["dependencies"]), pins("requirements.lock")) == []


def test_development_requirement_is_locked() -> None:
    """The development lock has a fitting version of each package that tests and tools ask for."""
    assert unmet(development_requirements(project()), pins("requirements-dev.lock")) == []


def test_shipped_versions_are_the_tested_ones() -> None:
    """The two lock files agree on every package of the runtime lock."""
    shipped, tested = pins("requirements.lock"), pins("requirements-dev.lock")
    assert {name: tested.get(name) for name in shipped} == shipped


def test_dependency_has_its_reason() -> None:
    """Each package that pyproject.toml asks for is named in the decision record on dependencies."""
    record = (ROOT / "docs/adr/0003-dependencies.md").read_text(encoding="utf-8").lower()
    words = set(re.findall(r"[a-z0-9-]+", record))
    table = project()
    asked = [*table["project"]["dependencies"], *development_requirements(table)]
    assert [text for text in asked if canonicalize_name(Requirement(text).name) not in words] == []


def test_license_is_the_apache_license() -> None:
    """LICENSE is the unchanged text of the Apache License 2.0."""
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_sources_have_no_postponed_work() -> None:
    """Nothing in the program or the scripts is left for later."""
    files = [*(ROOT / "mirror").rglob("*.py"), *(ROOT / name for name in (*PROGRAMS, "Makefile"))]
    assert files
    words = re.compile(r"\b(TODO|FIXME|XXX)\b")
    found = [str(path) for path in files if words.search(path.read_text(encoding="utf-8"))]
    assert found == []


def test_adrs_are_numbered_without_gaps() -> None:
    """The decision records are 0001, 0002 and so on, each number once."""
    assert ADRS
    assert [name[:5] for name in ADRS] == [f"{number:04}-" for number in range(1, len(ADRS) + 1)]


@pytest.mark.parametrize("name", ADRS)
def test_adr_has_its_headings(name: str) -> None:
    """A decision record has its number as title, and the five parts in their order."""
    headings = re.findall(r"^#+ .*", (ROOT / "docs/adr" / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0].startswith(f"# {name[:4]} ")
    assert headings[1:] == ["## Context", "## Decision", "## Consequences", "## Alternatives"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_document_links_lead_somewhere(document: str) -> None:
    """Every relative link of a document leads to a file of the repository."""
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if ":" not in target]
    assert [target for target in targets if not ((ROOT / document).parent / target).exists()] == []


def headings(document: Path) -> set[str]:
    """The anchors of a document, as GitHub and GitLab make them of its headings."""
    plain = re.sub(r"^ *```.*?^ *```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", plain, re.MULTILINE)
    named = re.findall(r'<a id="([^"]+)"></a>', plain)
    return {*named, *(re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles)}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_document_links_lead_to_headings(document: str) -> None:
    """A link into a document leads to one of its headings."""
    here = ROOT / document
    links = re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", here.read_text(encoding="utf-8"))
    assert [(file, name) for file, name in links if name not in headings(here.parent / file if file else here)] == []


FACTS = ROOT / "docs/reference/facts.md"
CITING = [
    path
    for pattern in ("mirror/**/*.py", "tests/**/*.py", "docs/**/*.md", "config/**/*", "systemd/*", "*.md")
    for path in ROOT.glob(pattern)
    if path.is_file() and "node_modules" not in path.parts
]


def test_facts_are_numbered_without_gaps_and_have_their_source() -> None:
    """Each fact has its own anchor, and says how it is known."""
    text = FACTS.read_text(encoding="utf-8")
    facts = re.findall(r'^<a id="([0-9]+)"></a>\*\*([0-9]+)\.\*\* (.*?)(?=\n\n)', text, re.MULTILINE | re.DOTALL)
    assert [(int(anchor), int(number)) for anchor, number, _ in facts] == [(n, n) for n in range(1, len(facts) + 1)]
    assert [n for n, _, body in facts if not re.search(r"\*(Seen|Documented|Reported|Conclusion)\b", body)] == []


def test_cited_facts_exist() -> None:
    """`facts.md#9, #11` in a docstring, a comment or a message leads to an anchor of the page."""
    anchors = headings(FACTS)
    cited = {
        (str(path.relative_to(ROOT)), number)
        for path in CITING
        for run in re.findall(r"facts\.md((?:,? ?(?:and )?#[0-9]+)+)", path.read_text(encoding="utf-8"))
        for number in re.findall(r"[0-9]+", run)
    }
    assert len(cited) > 100
    assert [each for each in sorted(cited) if each[1] not in anchors] == []


def test_no_fact_is_cited_without_its_page() -> None:
    """Users and readers see no number of a list that they do not have."""
    number = re.compile(r"(?<!\[)\b[Ff]acts? [0-9]+(?! of this page)")
    found = [(path.name, number.findall(path.read_text(encoding="utf-8"))) for path in CITING if path != FACTS]
    assert [each for each in found if each[1]] == []


def test_readme_is_short_and_its_pictures_are_there() -> None:
    """At most 120 lines, a quick start of at most 15, pictures for light and dark pages, a diagram that is both."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    (quick,) = re.findall(r"## Quick start\n.*?```sh\n(.*?)```", text, re.DOTALL)
    assert len(quick.splitlines()) <= 15
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', text)
    assert sorted({name.rpartition("-")[2] for name in pictures}) == ["dark.png", "light.png"]
    assert [name for name in pictures if not (ROOT / name).is_file()] == []
    assert "prefers-color-scheme: dark" in (ROOT / "docs/images/overview.svg").read_text(encoding="utf-8")


def test_make_help_lists_every_target() -> None:
    """`make` alone prints each target of the Makefile with a sentence."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    run = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30, env=environment)
    reported = dict(re.findall(r"^make ([a-z-]+) +(\S.*\.|\S.*ARGS=\S+)$", run.stdout, re.MULTILINE))
    assert set(reported) == targets
    assert targets == set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split())


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_is_executable(program: str) -> None:
    """A program can be started by name in the work tree, and in every clone once git knows it."""
    assert os.access(ROOT / program, os.X_OK)
    command = ["git", "-C", str(ROOT), "ls-files", "--stage", "--", program]
    tracked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout
    assert tracked[:6] in ("", "100755")


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_is_strict_bash(program: str) -> None:
    """A program is a bash script that parses and that stops at the first error."""
    lines = (ROOT / program).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    subprocess.run(["bash", "-n", program], cwd=ROOT, check=True, timeout=30)


def threats() -> list[tuple[str, str, str]]:
    """The rows of the table in SECURITY.md: the threat, what stops it, the tests that show it."""
    lines = (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("|").split(" | ") for line in lines if line.startswith("| ")]
    return [(threat.strip(), stops.strip(), shown.strip()) for threat, stops, shown in rows[2:]]


@pytest.mark.parametrize(("threat", "stops", "shown"), threats(), ids=lambda text: text[:40])
def test_threat_has_a_test_that_shows_what_stops_it(threat: str, stops: str, shown: str) -> None:
    """Each threat of SECURITY.md names tests that exist, by file and name."""
    assert threat
    assert stops
    names = re.findall(r"`([\w/]+\.py)::(test_\w+)`", shown)
    assert names
    assert shown == ", ".join(f"`{file}::{test}`" for file, test in names)
    for file, test in names:
        assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")
