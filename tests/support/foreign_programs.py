"""Commands of other programs in documents: found, split into words, and checked without the services that they call.

The options of each program are listed here with their source, and only as far as a document uses them. A document that
uses more fails until the option is looked up and added. git, make and the AWS models check their own commands.
"""

import os
import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import botocore.session
import yaml
from botocore import xform_name

from support.worlds import PROJECT


class WrongCommandError(Exception):
    """A document has a command that its program would refuse, or that is not known here."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command takes: options (`=` at the end: with a value), and how many arguments at most.

    `rest` says that its arguments are a command of their own.
    """

    options: str = ""
    arguments: int = 0
    rest: bool = False

    def takes_value(self, name: str) -> bool | None:
        """None for an option that there is not."""
        options = self.options.split()
        return True if f"{name}=" in options else False if name in options else None


USAGES: Mapping[str, Usage] = {
    # kubernetes.io, "kubectl reference": every verb also takes `-n`.
    "kubectl apply": Usage("-n= -f= -k="),
    "kubectl config view": Usage("-n= --raw --minify -o="),
    "kubectl create job": Usage("-n= --from= --dry-run= -o=", 1),
    "kubectl create namespace": Usage("", 1),
    "kubectl create role": Usage("-n= --verb= --resource=", 1),
    "kubectl create rolebinding": Usage("-n= --role= --serviceaccount= --user=", 1),
    "kubectl create secret generic": Usage("-n= --from-file= --type=", 1),
    "kubectl create token": Usage("-n= --audience= --duration=", 1),
    "kubectl delete": Usage("-n= -k="),
    "kubectl exec": Usage("-n=", 1, rest=True),
    "kubectl get": Usage("-n= --all-namespaces --field-selector=", 1),
    "kubectl logs": Usage("-n=", 1),
    "kubectl patch": Usage("-n= -p=", 2),
    "kubectl scale": Usage("-n= --replicas=", 2),
    # kubernetes.io, "kubeadm certs".
    "kubeadm certs renew": Usage("", 1),
    # systemctl(1), journalctl(1), systemd-analyze(1).
    "systemctl edit": Usage("", 1),
    "systemctl enable": Usage("--now", 3),
    "systemctl kill": Usage("-s=", 1),
    "systemctl reload": Usage("", 1),
    "systemctl restart": Usage("", 1),
    "systemctl start": Usage("", 1),
    "systemctl status": Usage("", 1),
    "systemctl stop": Usage("", 3),
    "journalctl": Usage("-u="),
    "systemd-analyze security": Usage("", 1),
    # AWS CLI Command Reference: what is no operation of a service's model.
    "aws cloudformation deploy": Usage("--capabilities= --stack-name= --template-file="),
    "aws login": Usage(""),
    "aws s3 cp": Usage("--content-type= --cache-control=", 2),
    "aws s3 sync": Usage("", 2),
    # docs.docker.com, "docker container run"; podman-load(1).
    "docker run": Usage("--read-only --cap-drop= --security-opt= --user= -v=", 1),
    "podman load": Usage("-i="),
    # docs.sigstore.dev, "cosign verify", "cosign verify-blob"; README of slsa-verifier.
    "cosign verify": Usage("--certificate-oidc-issuer= --certificate-identity=", 1),
    "cosign verify-blob": Usage("--bundle= --certificate-oidc-issuer= --certificate-identity=", 1),
    "slsa-verifier verify-artifact": Usage("--provenance-path= --source-uri= --source-tag=", 1),
    # Installers: pip's, pipx's and uv's references.
    "pip install": Usage("--require-hashes --no-deps -r=", 1),
    "pipx install": Usage("", 1),
    "uvx": Usage("--from=", 0, rest=True),
    # ssh-keygen(1), openssl-genrsa(1), openssl-pkey(1), openssl-dgst(1), curl(1), jq(1).
    "ssh-keygen": Usage("-q -t= -N= -C= -f="),
    "openssl genrsa": Usage("-out=", 1),
    "openssl pkey": Usage("-in= -out= -pubout -outform="),
    "openssl dgst": Usage("-sha256 -binary"),
    "curl": Usage("--parallel"),
    "jq": Usage("", 1),
    # GNU coreutils, grep, sed.
    "base64": Usage("-d"),
    "basenc": Usage("--base64url"),
    "cat": Usage("", 2),
    "chmod": Usage("", 2),
    "grep": Usage("-v -A=", 1),
    "install": Usage("-m=", 2),
    "mv": Usage("", 2),
    "rm": Usage("-r", 3),
    "sed": Usage("-n", 1),
    "sha256sum": Usage("--check --ignore-missing", 1),
    "tail": Usage("-n="),
    "tr": Usage("-d="),
    # The shell's own.
    "echo": Usage("", 1),
    "eval": Usage("", 1),
    "export": Usage("", 1),
    "source": Usage(""),
}
ASKED = ("aws", "git", "make")
"""Programs that are asked themselves, or whose models are."""
OURS = ("oidc-mirror", "oidc-mirror-admin")
"""test_typed_commands.py judges these."""
PROGRAMS = frozenset({name.partition(" ")[0] for name in USAGES} | {*ASKED, "sudo"})
APISERVER_FLAGS = (  # kubernetes.io, "kube-apiserver" and "kube-controller-manager"
    *("service-account-issuer", "service-account-jwks-uri", "service-account-key-file", "api-audiences"),
    *("service-account-signing-key-file", "service-account-private-key-file"),
)


# ------------------------------------------------------------------------------------------------------- finding


def scripts(text: str) -> Iterator[str]:
    """Every shell block of a page, and what is typed in every console block."""
    for kind, block in re.findall(r"^ *```(sh|console)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        body = textwrap.dedent(block)
        if kind == "console":
            body = "\n".join(line[2:] for line in body.splitlines() if line.startswith(("$ ", "> ")))
        yield body


def mentions(text: str) -> Iterator[str]:
    """Every inline code that begins with one of the programs and says more than its name."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose):
        words = re.sub(r"^(\S+=\S+\s+)+", "", code).split()
        if len(words) > 1 and words[0] in PROGRAMS:
            yield " ".join(words)


_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def simple_commands(script: str) -> Iterator[list[str]]:
    """The words of each command, those of command substitutions first; without comments, redirections, assignments."""
    script = re.sub(r"<<'?(\w+)'?\n.*?^\1$", "", script, flags=re.DOTALL | re.MULTILINE)
    script = re.sub(r"(^|\s)#\s.*$", "", script.replace("\\\n", " "), flags=re.MULTILINE)
    while inner := re.search(r"\$\(([^()]*)\)", script):
        yield from simple_commands(inner[1])
        script = script.replace(inner[0], "SUBSTITUTED")
    lexer = shlex.shlex(script, posix=True, punctuation_chars=";|&<>()\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    words: list[str] = []
    tokens = iter(lexer)
    for token in tokens:
        if token and set(token) <= set("<>"):
            next(tokens)
        elif token and set(token) <= set(";|&()\n"):
            if words:
                yield words
            words = []
        elif words or not _ASSIGNMENT.match(token):
            words.append(token)
    if words:
        yield words


# ------------------------------------------------------------------------------------------------------- judging


def judge(words: Sequence[str], folder: Path, *, is_whole: bool = True) -> None:
    """Judge one command; a mention in a sentence need not be whole. `folder` is an empty one for git.

    Raises:
        WrongCommandError: Its program would refuse it, or it is not known here.
    """
    demand_real_paths(words)
    if words[:2] == ["kubectl", "-n"]:
        words = ["kubectl", *words[3:], *words[1:3]] if "--" not in words else ["kubectl", *words[3:]]
    program = words[0]
    if program in OURS:
        return
    if program.startswith("--"):
        _judge_flag(program)
    elif program == "sudo":
        _judge_sudo(words, folder, is_whole=is_whole)
    elif program.endswith("/python"):
        _demand(words[1] == "-m" or (PROJECT / words[1]).is_file(), words, "there is no such file")
    elif program == "git":
        _ask_git(words, folder)
    elif program == "make":
        _judge_make(words)
    elif program == "aws" and " ".join(words[:3]) not in USAGES and " ".join(words[:2]) not in USAGES:
        _judge_aws(words, is_whole=is_whole)
    else:
        name, usage = _usage(words)
        arguments = _arguments(words, usage, len(name.split()), is_whole=is_whole)
        if usage.rest and (not is_whole or arguments):
            judge(arguments[usage.arguments :], folder, is_whole=is_whole)
        if program in ("systemctl", "journalctl"):
            _demand_units(words, name, arguments)
        if program == "kubectl":
            _demand_objects(words, arguments)


def _demand(holds: object, words: Sequence[str], what: str) -> None:
    if not holds:
        raise WrongCommandError(f"{shlex.join(words)}: {what}")


def _usage(words: Sequence[str]) -> tuple[str, Usage]:
    """By the longest name; options of kubectl may stand before its verb."""
    names = [each for each in USAGES if list(words[: len(each.split())]) == each.split()]
    _demand(names, words, "no such command is known here: look it up, and add it to support/foreign_programs.py")
    name = max(names, key=len)
    return name, USAGES[name]


def _arguments(words: Sequence[str], usage: Usage, skipped: int, *, is_whole: bool) -> list[str]:
    """What is no option. Every option is known and has its value; a long one may have it behind `=`."""
    arguments: list[str] = []
    rest = list(words[skipped:])
    while rest:
        word = rest.pop(0)
        if usage.rest and len(arguments) >= usage.arguments and not word.startswith("-"):
            return [*arguments, word, *rest]
        if word == "--":
            _demand(usage.rest, words, "`--` ends options, and nothing may follow here")
            return [*arguments, *rest]
        if not word.startswith("-") or word == "-":
            arguments.append(word)
            continue
        name, equals, _ = word.partition("=")
        takes_value = usage.takes_value(name)
        _demand(takes_value is not None, words, f"no option {name} is known here")
        if takes_value and not equals:
            _demand(rest or not is_whole, words, f"{name} needs a value")
            rest[:1] = []
        _demand(takes_value or not equals, words, f"{name} takes no value")
    _demand(len(arguments) <= usage.arguments, words, f"at most {usage.arguments} arguments, not {arguments}")
    return arguments


def _judge_flag(word: str) -> None:
    """A line of an apiserver's manifest."""
    _demand(word.removeprefix("--").partition("=")[0] in APISERVER_FLAGS, [word], "no such flag is known here")


def _judge_sudo(words: Sequence[str], folder: Path, *, is_whole: bool) -> None:
    rest = list(words[1:])
    if rest[0] == "-u":
        _demand(rest[1] == "oidc-mirror", words, "the service has another user")
        rest = rest[2:]
    judge(rest, folder, is_whole=is_whole)


def _judge_make(words: Sequence[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    for word in words[1:]:
        _demand(word in targets or word.startswith("ARGS="), words, f"the Makefile has no target {word}")


NO_OPTION = "--no-such-option"


def _ask_git(words: Sequence[str], folder: Path) -> None:
    """git itself reads the words, with an option at the end that it must refuse: so it does nothing.

    It names the first option that it does not know, and that has to be ours.
    """
    if not (folder / "HEAD").exists():
        _make_repository(folder)
    asked = [f"--git-dir={folder}" if word.startswith("--git-dir=") else word for word in words]
    if "-C" in asked:
        asked[asked.index("-C") + 1] = str(folder)
    end = asked.index("--") if "--" in asked else len(asked)
    asked.insert(end, NO_OPTION)
    plain = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "LC_ALL": "C"}
    environ = plain | {"PATH": os.environ["PATH"]}
    done = subprocess.run(asked, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    refusal = re.search(r"(?:unknown option|unrecognized argument|unknown switch)[: ]+[`']?([^'\n]+)", done.stderr)
    known = refusal is not None and refusal[1].lstrip("-") == NO_OPTION.lstrip("-")
    _demand(known, words, f"git says: {done.stderr.strip().partition(chr(10))[0]}")


def _make_repository(folder: Path) -> None:
    """With one commit: `git log` looks at revisions before options."""
    git = ("git", f"--git-dir={folder}")
    who = ("-c", "user.name=one", "-c", "user.email=one@example.com")
    subprocess.run((*git, "init", "--quiet", "--bare", "--initial-branch=main"), check=True)
    tree = subprocess.run((*git, "mktree"), check=True, capture_output=True, input=b"").stdout.decode().strip()
    commit = subprocess.run((*git, *who, "commit-tree", "-m", "one", tree), check=True, capture_output=True)
    subprocess.run((*git, "update-ref", "refs/heads/main", commit.stdout.decode().strip()), check=True)


AWS_OPTIONS = ("--profile", "--region", "--output", "--query", "--endpoint-url")


@cache
def _operations(service: str) -> Mapping[str, tuple[frozenset[str], frozenset[str]]]:
    """All and the required options of each operation of a service, by its name at the command line."""
    session = botocore.session.get_session()
    model = session.get_service_model({"s3api": "s3"}.get(service, service))
    found = {}
    for name in model.operation_names:
        shape = model.operation_model(name).input_shape
        members = () if shape is None else shape.members
        required = () if shape is None else shape.required_members
        options, demanded = (frozenset(f"--{xform_name(each, '-')}" for each in some) for some in (members, required))
        found[xform_name(name, "-")] = (options, demanded)
    return found


def _judge_aws(words: Sequence[str], *, is_whole: bool) -> None:
    service, operation = words[1:3]
    services = botocore.session.get_session().get_available_services()
    _demand(service in ("s3api", *services) and service != "s3", words, f"AWS has no service {service}")
    operations = _operations(service)
    _demand(operation in operations, words, f"{service} has no operation {operation}")
    options, required = operations[operation]
    given = {word.partition("=")[0] for word in words[3:] if word.startswith("--")}
    unknown = given - options - set(AWS_OPTIONS)
    _demand(not unknown, words, f"{operation} has no {', '.join(sorted(unknown))}")
    missing = required - given
    _demand(not is_whole or not missing, words, f"{operation} needs {', '.join(sorted(missing))}")


UNITS = frozenset(path.name for path in (PROJECT / "systemd").glob("*.[st]*"))


def _demand_units(words: Sequence[str], name: str, arguments: Sequence[str]) -> None:
    units = [words[words.index("-u") + 1]] if "-u" in words else list(arguments)
    for unit in units:
        _demand({unit, f"{unit}.service"} & UNITS, words, f"there is no unit {unit}")
    if name == "systemctl kill":
        _demand(words[words.index("-s") + 1] in ("HUP", "TERM", "USR1"), words, "the daemon does not take this signal")


@cache
def _kubernetes_objects() -> frozenset[str]:
    files = (PROJECT / "config/kubernetes").rglob("*.yaml")
    documents = [each for file in files for each in yaml.safe_load_all(file.read_text()) if each and "metadata" in each]
    return frozenset(f"{each['kind'].lower()}/{each['metadata']['name']}" for each in documents)


def _demand_objects(words: Sequence[str], arguments: Sequence[str]) -> None:
    """What a command says of our own Deployment and CronJob exists in the kustomize tree."""
    text = " ".join(each.removeprefix("--from=") for each in (*words, *arguments))
    for kind, name in re.findall(r"\b(deploy|deployment|cronjob)[/ ]([a-z][a-z-]+)", text):
        full = {"deploy": "deployment"}.get(kind, kind)
        _demand(f"{full}/{name}" in _kubernetes_objects(), words, f"config/kubernetes has no {kind} {name}")


_OUR_PATH = re.compile(r"(?<![\w./])(/(?:etc|opt|run|usr|var)/[^\s:'\"]*oidc-mirror[^\s:'\"]*)")


def demand_real_paths(words: Sequence[str]) -> None:
    """A path with the program's name is one that `make install` makes, or lies right in such a folder.

    Raises:
        WrongCommandError: Nothing of the kind is made.
    """
    tmpfiles = (PROJECT / "systemd/oidc-mirror.tmpfiles").read_text()
    folders = {*re.findall(r"^d +(\S+)", tmpfiles, re.MULTILINE), "/opt/oidc-mirror", "/opt/oidc-mirror/bin"}
    services = "".join(path.read_text() for path in (PROJECT / "systemd").glob("*.service"))
    for path in (Path(found) for word in words for found in _OUR_PATH.findall(word)):
        _demand({str(path), str(path.parent)} & folders, words, f"{path} is made by nobody")
        if path.parent.name == "credentials":
            _demand(f"%d/mirror_{path.name}" in services, words, f"no unit uses the credential {path.name}")
