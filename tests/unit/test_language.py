"""Docs, messages and docstrings are spelled correctly, and avoid the words of a list."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unmeasured  # it reads texts

ROOT = Path(__file__).resolve().parents[2]
PLACES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs",
    "mirror",
    "config",
    "systemd",
    "scripts",
)
CODE = ("tests", "Makefile", "Dockerfile", "hatch_build.py", ".ci")
"""Besides the places above these too avoid the words of the list; tests contain wrong spellings on purpose."""
KNOWN = "intoto,aks,couldn"  # a provenance format, Azure Kubernetes Service, and the first part of "couldn't"
WORDS = {
    r"set aside": "is skipped, is left out",
    r"\bvouch(?!ed\")": "trusts, has seen, proves",
    r"\bstrangers?\b": "an untrusted key, another writer",
    r"\bdeaf\b": "is unreachable",
    r"\banother hand\b": "published by another tool",
    r"\b[Nn]ot hearing\b": "an unreachable apiserver never removes a key",
    r"\bwhat is less important\b": "the lowest level that is logged",
    r"\bas long as nobody needs to look\b": "healthy",
    r"\bThis is no\b": "This is not a …",
    r"\b(can|could) ?not be told\b": "is not known, could not be read",
    r"\bwas (not )?told (to|what)\b": "was asked to; did not get",
    r"\bis told (at|in|by|beside|below|once)\b": "is reported",
    r"\btells (the|of|on|us|you|nothing|much|them)\b": "lists, reports, shows, distinguishes",
    r"\b(nobody|nobody here) can tell\b": "nobody knows",
    r"\bother hand left\b": "left by another tool",
    r"\bfor ever\b": "permanently, always, never expires",
    r"\b[Ww]hoever (can|may) (push|write)\b": "anyone who can push, an attacker who can write",
    r"\b[Ss]omebody else (wrote|writes|deleted)\b": "another writer, another tool",
    r"\btold\b": "reported, listed, shown",
    r"\b[Ww]hoever\b": "anyone who, the user who",
    r"\b[Ss]omebody\b": "an operator, another writer, an attacker",
    r"\b[Aa]nybody\b": "anyone, any user",
    r"\b[Ee]verybody\b": "public, every user, all mirrors",
    r"\bthe world\b": "anonymous requests, the public URL",
    r"(?<!egin )(?<!egins )\banew\b": "again",
    r"\bwhom\b": "which user, which issuer",
    r"\bthe article\b": "the design that this generalises (docs/reference/facts.md)",
}


def codespell(*paths: str | Path) -> "subprocess.CompletedProcess[str]":
    program = Path(sys.executable).with_name("codespell")
    skipped = "*.png,*.json,*/__pycache__/*"
    words = [str(program), "--ignore-words-list", KNOWN, "--skip", skipped, *map(str, paths)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def test_texts_are_spelled_right() -> None:
    """codespell finds nothing."""
    done = codespell(*PLACES)
    assert (done.returncode, done.stdout) == (0, "")


def test_spelling_check_sees_a_mistake(tmp_path: Path) -> None:
    """codespell finds a misspelled word, so the test above can fail."""
    (tmp_path / "page.md").write_text("A key is recieved.\n")
    assert "recieved ==> received" in codespell(tmp_path).stdout


def texts() -> list[Path]:
    places = [ROOT / place for place in PLACES + CODE]
    left_out = {"CHANGELOG.md", "test_language.py", "node_modules", "fixtures", "__pycache__"}
    return [
        path
        for path in [*places, *(path for place in places for path in place.rglob("*"))]
        if path.is_file()
        and path.suffix in {"", ".md", ".py", ".sh", ".yaml", ".html", ".service"}
        and left_out.isdisjoint(path.relative_to(ROOT).parts)
    ]


@pytest.mark.parametrize(("word", "better"), WORDS.items())
def test_words_that_went_do_not_come_back(word: str, better: str) -> None:
    """No text uses a word of the list; the message suggests a plain one."""
    files = texts()
    assert len(files) > 100
    found = [str(path.relative_to(ROOT)) for path in files if re.search(word, path.read_text(encoding="utf-8"))]
    assert found == [], f"say: {better}"
