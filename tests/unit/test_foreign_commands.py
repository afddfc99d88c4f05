"""Every command of another program in the documents is valid, as far as that can be checked without the program.

bash and shellcheck also check the shell blocks. `oidc-mirror` commands: test_typed_commands.py.
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from support.foreign_programs import (
    APISERVER_FLAGS,
    USAGES,
    Usage,
    WrongCommandError,
    judge,
    mentions,
    scripts,
    simple_commands,
)
from support.worlds import PROJECT

pytestmark = pytest.mark.unmeasured  # it reads documents

PAGES = (
    *sorted((PROJECT / "docs").rglob("*.md")),
    *(PROJECT / f"{name}.md" for name in ("README", "SECURITY", "CONTRIBUTING")),
)
BLOCKS = [(page.name, script) for page in PAGES for script in scripts(page.read_text("utf-8"))]
COMMANDS = [(page, words, True) for page, script in BLOCKS for words in simple_commands(script)]
COMMANDS += [
    (page.name, words, False)
    for page in PAGES
    for code in mentions(page.read_text("utf-8"))
    for words in simple_commands(code)
]


def shown(value: object) -> str:
    return (shlex.join(value) if isinstance(value, list) else str(value)).strip()[:60]


@pytest.mark.parametrize("page", sorted({page for page, _, _ in COMMANDS}))
def test_commands_of_other_programs_are_taken(page: str, tmp_path: Path) -> None:
    """Program, verb, option, arguments, units, paths and objects exist. A command in a sentence may omit values."""
    wrong = []
    for _, words, is_whole in (each for each in COMMANDS if each[0] == page):
        try:
            judge(words, tmp_path / "repository.git", is_whole=is_whole)
        except WrongCommandError as error:
            wrong.append(str(error))
    assert wrong == []


@pytest.mark.parametrize(("page", "script"), BLOCKS, ids=shown)
def test_shell_block_is_read_by_bash(page: str, script: str) -> None:
    """Every quote, substitution and here-document is closed."""
    done = subprocess.run(("bash", "-n"), input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), page


@pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="shellcheck is not installed (Debian: apt-get install it)"
)
@pytest.mark.parametrize("page", sorted({page for page, script in BLOCKS if not script.startswith("--")}))
def test_shell_blocks_have_no_trap(page: str, tmp_path: Path) -> None:
    """shellcheck reports neither an error nor a warning for a block that is pasted into bash."""
    pasted = [script for name, script in BLOCKS if name == page and not script.startswith("--")]
    for number, script in enumerate(pasted):
        (tmp_path / str(number)).write_text(script)
    words = ("shellcheck", "--shell=bash", "--severity=warning", *map(str, range(len(pasted))))
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_commands_are_found() -> None:
    """The patterns find commands of every program in the table, so the tests above can fail."""
    others = [words for _, words, _ in COMMANDS if not words[0].startswith("oidc-mirror")]
    assert len(others) > 100
    assert {words[0] for words in others} >= {
        "aws",
        "kubectl",
        "systemctl",
        "journalctl",
        "git",
        "sudo",
        "make",
        "curl",
    }
    used = {name for name in USAGES if any(words[: len(name.split())] == name.split() for words in map(plain, others))}
    assert set(USAGES) - used == set(), "a table has what no document uses"


def plain(words: list[str]) -> list[str]:
    """The command without sudo, and with kubectl's verb first."""
    words = words[1:] if words[0] == "sudo" else words
    return [words[0], *words[3:]] if words[:2] == ["kubectl", "-n"] else words


@pytest.mark.parametrize(
    "command",
    [
        "frobnicate",
        "aws iam put-role-polices --role-name R",
        "aws iam put-role-policy --role-name R --policy-name P",
        "aws iam put-role-policy --role R --policy-name P --policy-document file://p",
        "aws imaginary do-it",
        "aws s3 teleport a b",
        "kubectl -n oidc-mirror create tokens oidc-mirror",
        "kubectl apply --file x",
        "kubectl apply -f",
        "kubectl -n oidc-mirror exec deploy/oidc-mirrors -- oidc-mirror status",
        "kubectl -n oidc-mirror patch cronjob mirror -p x",
        "systemctl restart oidc-mirrord",
        "systemctl rest oidc-mirror",
        "systemctl kill -s KILL oidc-mirror",
        "journalctl -u oidc-mirror-daily",
        "journalctl --unit oidc-mirror",
        "sudo systemctl start --now oidc-mirror",
        "sudo -u mirror cat x",
        "git log --no-such",
        "git frob",
        "git -C x fsck --stricter",
        "make instal",
        "sudo rm -r /etc/systemd/system/oidc-mirror.service",
        "sudo ssh-keygen -t ed25519 -N '' -f /etc/oidc-mirror/credentials/other_key",
        "cat a b c",
        "chmod --silent 640 a",
        "--service-account-issuers=x",
        ".venv/bin/python tests/bench/nothing.py",
        "echo $(frobnicate)",
        "cat a && echo a | frobnicate",
    ],
)
def test_wrong_command_is_found(command: str, tmp_path: Path) -> None:
    """A program, verb, option, value, unit, path or object that does not exist is reported."""
    with pytest.raises(WrongCommandError):
        judge_all(command, tmp_path / "repository.git")


def judge_all(script: str, folder: Path) -> None:
    for words in simple_commands(script):
        judge(words, folder)


def test_right_script_is_taken(tmp_path: Path) -> None:
    """Quotes, comments, redirections and here-documents are accepted, so the errors above have the stated cause."""
    script = "A=b sudo -u oidc-mirror cat '' > x  # then\ncat <<END\nfrobnicate\nEND\n"
    script += 'echo "$(git log -p \\\n -- x)" | tr -d ='
    assert len(list(simple_commands(script))) == 5
    judge_all(script, tmp_path / "repository.git")


@pytest.mark.parametrize("name", sorted(set(USAGES) - {"echo", "eval", "export", "source"}))
def test_table_agrees_with_the_program(name: str) -> None:
    """If the program is installed, its own help lists every option of the table."""
    words = name.split()
    usage: Usage = USAGES[name]
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    if words[0] in ("ssh-keygen", "aws", "docker", "podman", "systemd-analyze"):
        pytest.skip(f"{words[0]} has no help that can be read without a terminal or a service")
    asked = [*words, "-help" if words[0] == "openssl" else "--help"]
    if words[0] == "curl":
        asked.append("all")
    done = subprocess.run(asked, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    text = done.stdout + done.stderr
    if words[0] == "kubectl":
        text += subprocess.run(("kubectl", "options"), capture_output=True, text=True, check=False).stdout
    for option in (each.rstrip("=") for each in usage.options.split()):
        if option != "-sha256":  # openssl lists digests in another help text
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), (name, option, text[:500])


def test_addresses_of_the_daemon_are_its_own() -> None:
    """The documents use the default port, and the table of pages lists every path that the daemon serves."""
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    assert set(re.findall(r"127\.0\.0\.1:(9\d{3})\b", text)) == {"9797"}
    page = (PROJECT / "docs/running.md").read_text("utf-8")
    table = page.partition("### Pages\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    source = (PROJECT / "mirror/daemon/web.py").read_text()
    assert set(re.findall(r"^\| `(/[a-z.]*)`", table, re.MULTILINE)) == set(re.findall(r'Route\("(/[^"]*)"', source))


def test_flags_of_the_runbook_are_those_that_we_render() -> None:
    """`render` writes every flag of the list, so the list is not merely copied from the documents."""
    source = (PROJECT / "mirror/federation/render/apiserver.py").read_text()
    assert [each for each in APISERVER_FLAGS if f'"{each}"' not in source] == []
