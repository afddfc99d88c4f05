"""Every `oidc-mirror …` in the documents is valid: its command, options and arguments exist.

Other tests run the commands of console blocks (tests/e2e). This file checks those in shell blocks and in sentences.
"""

import re
import shlex
from pathlib import Path

import click
import pytest

from mirror.cli.main import cli

pytestmark = pytest.mark.unmeasured  # it reads documents

ROOT = Path(__file__).resolve().parents[2]
PAGES = (*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md")
PROGRAM = re.compile(r"(?:^|[\s(;|])oidc-mirror(?:-admin)?(?= |$)([^|>;&#)`]*)")


def typed(text: str) -> list[str]:
    """The arguments of each `oidc-mirror` call in shell blocks."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    code = (line.partition(" # ")[0] for line in lines if not line.lstrip().startswith("kubectl -n oidc-mirror"))
    return [words for line in code for words in PROGRAM.findall(re.sub(r"^\s*\S+=\S+ ", "", line))]


def mentioned(text: str) -> list[str]:
    """The arguments of each `oidc-mirror` call in inline code."""
    found = re.findall(r"(?<!`)`(?:sudo )?oidc-mirror(?:-admin)? ([^`|>\n]+)[^`\n]*`", text)
    return [words for words in found if words != "COMMAND"]


def parse(words: list[str]) -> None:
    """Parse the arguments as the program does, without running anything.

    Raises:
        click.UsageError: a command, option or argument does not exist.
    """
    context = cli.make_context("oidc-mirror", list(words), obj={})
    command: click.Command = cli
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]  # click's own `invoke` resolves the same list
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, found.make_context(name, rest, parent=context)


CALLS = [(page.name, words, True) for page in PAGES for words in typed(page.read_text("utf-8"))]
CALLS += [(page.name, words, False) for page in PAGES for words in mentioned(page.read_text("utf-8"))]


@pytest.mark.parametrize(("page", "words", "is_whole"), CALLS, ids=lambda value: str(value).strip()[:60])
def test_command_of_a_document_is_taken(page: str, words: str, is_whole: bool) -> None:
    """A sentence may omit required arguments, and use a placeholder such as `OLD` for a value."""
    try:
        parse(shlex.split(words.replace("…", "")))
    except click.exceptions.Exit:  # --help or --version
        return
    except click.BadParameter as error:  # includes MissingParameter
        is_sketch = not is_whole or re.search(r"\b[A-Z]{3,}\b", words) is not None
        if not is_sketch:
            pytest.fail(f"{page}: oidc-mirror {words}: {error.message}")
    except click.UsageError as error:
        pytest.fail(f"{page}: oidc-mirror {words}: {error.message}")


def test_commands_are_found() -> None:
    """The patterns find commands, so the test above can fail."""
    assert sum(is_whole for _, _, is_whole in CALLS) > 15
    assert len(CALLS) > 50
    with pytest.raises(click.UsageError):
        parse(["status", "--no-such-option"])
    with pytest.raises(click.UsageError):
        parse(["no-such-command"])
