"""What every kind of `render` takes and returns, and how its values become text (YAML, JSON, Terraform). Pure.

Names of roles, stacks, pools and credentials: two workloads never share one. A name is made of the issuer's name, the
namespace and the ServiceAccount, with hyphens between. Where other workloads could have the same text, because a part
has a hyphen or a dot or the name is cut, a hash of the parts follows.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from textwrap import wrap
from typing import Any, Literal, assert_never

from mirror.aws.iam_policy import partition_of, role_arn, subject
from mirror.config.settings import Issuer, Settings
from mirror.errors import UsageError
from mirror.federation.provision.iam_provider import audience_problems
from mirror.model import GOOGLE_PREFIXES, STS_AUDIENCE, Cloud, cloud_of

NAMESPACE, SERVICE_ACCOUNT = "default", "app"
"""The default owner of the pieces; every kind uses it, so that the pieces fit together."""

Syntax = Literal["json", "yaml", "hcl", "shell"]

ACCOUNT_TO_FILL_IN = "ACCOUNT"
"""In an ARN without a given account: no account is guessed, and AWS rejects this one at once."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Whose tokens a role is for, and what the role is. The defaults are the same for every kind, so they agree.

    `subjects` are whole `sub` texts and win over namespace and ServiceAccount; `account` is twelve digits. `audience`
    is that of the pods' tokens, one of the issuer's; `is_webhook` says that a webhook in the cluster mounts them.
    `pool` and `credential_name` keep a name that Google's pool or Entra's credential has already.
    """

    namespace: str = NAMESPACE
    service_account: str = SERVICE_ACCOUNT
    subjects: tuple[str, ...] = ()
    role_name: str | None = None
    managed_policies: tuple[str, ...] = ()
    session_seconds: int | None = None
    account: str | None = None
    role_arn: str | None = None
    audience: str | None = None
    expiration_seconds: int = 3600
    image: str = "amazon/aws-cli"
    is_webhook: bool = False
    pool: str | None = None
    credential_name: str | None = None

    def all_subjects(self) -> tuple[str, ...]:
        """The `sub` of every token that is meant, none twice."""
        return tuple(dict.fromkeys(self.subjects)) or (subject(self.namespace, self.service_account),)


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """What the configuration does not know of the apiservers: their key files, as paths on their own hosts.

    `rotation_step` (1, 2 or 3) puts the new files in the place of the others. `kept_issuers` are issuers that a live
    cluster has now; `migration_step` (1, 2 or 3) puts ours in their place. `api_audiences` come to the apiserver's own.
    """

    key_files: tuple[str, ...] = ("/etc/kubernetes/pki/sa.pub",)
    signing_key_file: str = "/etc/kubernetes/pki/sa.key"
    rotation_step: int | None = None
    new_key_files: tuple[str, ...] = ("/etc/kubernetes/pki/sa-new.pub",)
    new_signing_key_file: str = "/etc/kubernetes/pki/sa-new.key"
    kept_issuers: tuple[str, ...] = ()
    migration_step: int | None = None
    api_audiences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MirrorIdentity:
    """The identity of the mirror at the apiservers.

    `namespace` and `service_account` are its own in a cluster. `user` is the name that a client certificate or a
    kubeconfig gives it, None where it is not known.
    """

    namespace: str = "oidc-mirror"
    service_account: str = "oidc-mirror"
    user: str | None = None
    way: Literal["anonymous", "service-account", "user"] = "anonymous"


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """What is asked for: the piece for `issuer` in one of the kind's formats."""

    settings: Settings
    issuer: Issuer
    format: str
    workload: Workload = Workload()
    control_plane: ControlPlane = ControlPlane()
    login: MirrorIdentity = MirrorIdentity()

    def audiences(self, cloud: Cloud = Cloud.AWS) -> tuple[str, ...]:
        """The audiences that a cloud is configured to accept: the chosen one alone, else its own of the configuration.

        Without any in the configuration it is the usual one; none for Google, which then accepts its provider's name.

        Raises:
            UsageError: The chosen one is not in the configuration, or AWS does not take them.
        """
        chosen = self.workload.audience
        if chosen is not None:
            return (self._demanded(chosen),)
        found = self.issuer.clouds.of(cloud)
        for problem in audience_problems(found) if cloud is Cloud.AWS else ():
            raise UsageError(problem.sentence, remedy=problem.remedy)
        return found

    def _demanded(self, chosen: str) -> str:
        clouds = self.issuer.clouds
        if chosen not in clouds.all() and not any(clouds.accepts(cloud, chosen) for cloud in Cloud):
            raise UsageError(
                f"The issuer {self.issuer.name} has no such audience in its configuration.",
                remedy="Choose one of its `audiences`, or add it there: the clouds accept no other.",
            )
        return chosen

    def audience(self, cloud: Cloud = Cloud.AWS) -> str:
        """The one audience of the pods' tokens for a cloud: as asked for, else the usual one if the cloud has it.

        For Google without a configured audience it is the full name of the provider, with PROJECT_NUMBER in it.

        Raises:
            UsageError: As `audiences`.
        """
        found = self.audiences(cloud)
        if not found:
            return f"{GOOGLE_PREFIXES[1]}projects/PROJECT_NUMBER/{self.pool_path()}/providers/{self.pool()}"
        usual = [each for each in found if each == STS_AUDIENCE or cloud_of(each) is not Cloud.AWS]
        return (*usual, *found)[0]

    def audience_notes(self, cloud: Cloud) -> tuple[str, ...]:
        """What is worth a second look: an audience that is usual at another cloud."""
        foreign = [each for each in self.audiences(cloud) if cloud_of(each) not in (cloud, Cloud.AWS)]
        foreign += [each for each in self.audiences(cloud) if each == STS_AUDIENCE and cloud is not Cloud.AWS]
        return tuple(
            f"The audience {each} is another cloud's: a token for the one is good at the other. Give each cloud its own"
            f" in `audiences` ({cloud}: …)."
            for each in foreign
        )

    def pool(self) -> str:
        """The id of Google's pool and provider: as asked for, else after the issuer."""
        return self.workload.pool or pool_id(self.issuer.name)

    def pool_path(self) -> str:
        """Where the pool stands below its project."""
        return f"locations/global/workloadIdentityPools/{self.pool()}"

    def role_name(self) -> str:
        """How the role is called: as asked for, else after issuer, namespace and ServiceAccount."""
        if self.workload.role_arn is not None:
            return self.workload.role_arn.rpartition("/")[2]
        subjects = self.workload.all_subjects()
        return self.workload.role_name or workload_name(self.issuer.name, subjects, MAX_ROLE_CHARACTERS)

    def role_path(self) -> str:
        """The folder of the role, as IAM has it: between slashes."""
        words = (self.workload.role_arn or "").partition(":role")[2]
        return f"{words.rpartition('/')[0]}/"

    def account(self) -> str | None:
        """The account of the role, where it was said."""
        return self.workload.account if self.workload.role_arn is None else self.workload.role_arn.split(":")[4]

    def role_arn(self) -> str:
        """The ARN of the role that the pods assume; it contains `ACCOUNT_TO_FILL_IN` if no account was given."""
        partition = partition_of(self.issuer.publish.region)
        account = self.workload.account or ACCOUNT_TO_FILL_IN
        return self.workload.role_arn or role_arn(account, self.role_name(), partition)


@dataclass(frozen=True, slots=True)
class Rendered:
    """One piece. `comments` say what to do with it, one line each; JSON has no place for them.

    `value` is what a library writes: for `yaml` also a tuple of documents, for `shell` a tuple of commands, each a
    tuple of words, or `Lines`; for `hcl` blocks.
    `notes` are sentences for the operator, printed with the piece.
    """

    syntax: Syntax
    value: Any
    comments: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_json(self) -> "Rendered":
        """The same value as JSON: what the comments say, but for where it comes from, is printed with the piece."""
        return Rendered("json", self.value, notes=(*self.comments[1:], *self.notes))


@dataclass(frozen=True, slots=True)
class Renderer:
    """One kind of piece: its name, a sentence of help, and how it is made in each format; the first is the default.

    `needs_login` means that its request must name the identity of the mirror.
    """

    name: str
    sentence: str
    formats: Mapping[str, Callable[[RenderRequest], Rendered]]
    needs_login: bool = False

    @property
    def default_format(self) -> str:
        """The format without `--format`."""
        return next(iter(self.formats))

    def render(self, request: RenderRequest) -> Rendered:
        """The piece.

        Raises:
            UsageError: The configuration lacks something that the piece needs.
        """
        return self.formats[request.format](request)


def made_by(kind: str, request: RenderRequest) -> str:
    """The first comment of every piece: what it is of, and where it comes from."""
    return f"Made by `oidc-mirror render {kind} {request.issuer.name}` for issuer {request.issuer.issuer}"


@dataclass(frozen=True, slots=True)
class Expression:
    """Something that Terraform computes, such as `data.aws_partition.current.partition`."""

    text: str


@dataclass(frozen=True, slots=True)
class Template:
    """A string that is put together of texts and expressions."""

    parts: tuple[str | Expression, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function of Terraform, with one argument."""

    function: str
    argument: Any


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its type and labels, and its attributes in their order."""

    labels: tuple[str, ...]
    attributes: Mapping[str, Any]


def write(blocks: tuple[Block, ...]) -> str:
    """The text of a file of these blocks, as `terraform fmt` likes it but for the alignment of its signs."""
    return "\n".join("\n".join(_block(each)) + "\n" for each in blocks)


def _block(block: Block) -> Iterator[str]:
    kind, *labels = block.labels
    head = " ".join([kind, *(json.dumps(label) for label in labels)])
    if not block.attributes:
        yield f"{head} {{}}"
        return
    yield f"{head} {{"
    for name, value in block.attributes.items():
        yield f"  {name} = {_value(value, '  ')}"
    yield "}"


def _value(value: Any, indent: str) -> str:
    deeper = f"{indent}  "
    match value:
        case Expression():
            return value.text
        case Template():
            return f'"{"".join(_part(each) for each in value.parts)}"'
        case Call():
            return f"{value.function}({_value(value.argument, indent)})"
        case Mapping():
            entries = "".join(f"{deeper}{_text(key)} = {_value(each, deeper)}\n" for key, each in value.items())
            return f"{{\n{entries}{indent}}}"
        case list() | tuple():
            return f"[{', '.join(_value(each, indent) for each in value)}]"
        case str():
            return _text(value)
        case _:
            return json.dumps(value)


def _part(part: str | Expression) -> str:
    return f"${{{part.text}}}" if isinstance(part, Expression) else _text(part)[1:-1]


def _text(text: str) -> str:
    """A string that means itself: Terraform reads `${` and `%{` as the beginning of a template."""
    return json.dumps(text, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")


def text_of(piece: Rendered) -> str:
    """The text of a piece, comments in front where its syntax has them, with a line break at its end."""
    match piece.syntax:
        case "json":
            return json.dumps(piece.value, indent=2) + "\n"
        case "yaml":
            return _comments(piece.comments) + _yaml(piece.value)
        case "hcl":
            return _comments(piece.comments) + write(piece.value)
        case "shell":
            return "#!/bin/sh\n" + _comments(piece.comments) + "".join(f"{_command(each)}\n" for each in piece.value)
        case _:
            assert_never(piece.syntax)


def _comments(lines: tuple[str, ...]) -> str:
    return "".join(f"# {part}\n" for line in lines for part in _wrapped(line))


def _wrapped(line: str) -> list[str]:
    """A sentence in lines that can be read; what is indented is a command, and stays whole."""
    # What came from the configuration has no line break where it matters; one would end the comment.
    safe = " ".join(line.splitlines())
    return [safe] if safe.startswith(" ") else wrap(safe, 118, break_long_words=False, break_on_hyphens=False)


def _yaml(value: Any) -> str:
    """One document, or several where the value is a tuple."""
    import yaml  # noqa: PLC0415  only where it is needed

    if isinstance(value, tuple):
        return "".join(f"---\n{_yaml(each)}" for each in value)
    written: str = yaml.safe_dump(value, sort_keys=False, width=120, allow_unicode=True)
    return written


class Lines(tuple[str, ...]):
    """Lines of a shell script that are written already."""

    __slots__ = ()


STRICT = Lines(("# shellcheck disable=SC2016  # what stands in single quotes means itself", "set -eu"))
"""The first lines of a script that makes something: it stops at the first error and at a name that is not set."""


def _command(words: tuple[str, ...]) -> str:
    return "\n".join(words) if isinstance(words, Lines) else shlex.join(words)


HASH_CHARACTERS = 8
MAX_ROLE_CHARACTERS = 64  # IAM API, CreateRole
MAX_STACK_CHARACTERS = 128  # CloudFormation API, CreateStack
MAX_CREDENTIAL_CHARACTERS = 120  # Entra, "Important considerations for federated identity credentials"
POOL_CHARACTERS = 4, 32  # Workload Identity Federation, ids of pools and providers
_POOL_RESERVED = "gcp-"
_PLAIN_PART = re.compile(r"[a-z0-9]+")
_STACK = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,127}")
_ACCOUNT = re.compile(r"system:serviceaccount:([a-z0-9-]+):([a-z0-9.-]+)")


def account_of(subject: str) -> tuple[str, str] | None:
    """Give namespace and ServiceAccount of a `sub`; None for any other text."""
    match = _ACCOUNT.fullmatch(subject)
    return None if match is None else (match[1], match[2])


def workload_name(issuer: str, subjects: tuple[str, ...], max_characters: int) -> str:
    """Give the name of what is made for `subjects` of an issuer.

    The same subjects always give the same name, and no others give it: read from the right, a name without a hash has
    exactly one ServiceAccount, one namespace and one issuer.

    Args:
        issuer: the issuer's name in the configuration.
        subjects: whole `sub` texts, at least one.
        max_characters: how long the name may be.
    """
    account = account_of(subjects[0])
    parts = (issuer, *account) if account is not None else (issuer, "subjects")
    text = "-".join(parts).replace(".", "-")
    is_plain = len(subjects) == 1 and account is not None and all(map(_PLAIN_PART.fullmatch, account))
    if is_plain and len(text) <= max_characters:
        return text
    return hashed(text, max_characters, issuer, *sorted(subjects))


def hashed(text: str, max_characters: int, *parts: str) -> str:
    """Give the beginning of `text` with a hash of `parts`, in `max_characters`."""
    digest = sha256("\0".join(parts).encode()).hexdigest()[:HASH_CHARACTERS]
    return f"{text[: max_characters - HASH_CHARACTERS - 1].rstrip('-')}-{digest}"


def stack_name(role: str) -> str:
    """Give the CloudFormation stack of a role: the role's own name where a stack may have it.

    A stack's name begins with a letter and has letters, digits and hyphens alone.
    """
    if _STACK.fullmatch(role):
        return role
    return hashed(f"oidc-role-{re.sub(r'[^A-Za-z0-9-]', '-', role)}", MAX_STACK_CHARACTERS, role)


def pool_id(issuer: str) -> str:
    """Give the id of Google's pool and of its provider: the issuer's name where Google takes it, else with a hash.

    Ids have 4 to 32 characters, and those that begin with `gcp-` are Google's own.
    """
    shortest, longest = POOL_CHARACTERS
    if shortest <= len(issuer) <= longest and not issuer.startswith(_POOL_RESERVED) and not issuer.endswith("-"):
        return issuer
    stem = re.sub(rf"^({_POOL_RESERVED}|-)+", "", issuer)
    return hashed(stem or "k8s", longest, issuer)


def terraform_label(name: str) -> str:
    """Give a name as a label of Terraform: it begins with a letter or `_`, and has letters, digits, `_` and `-`."""
    label = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    plain = label if label == name else hashed(label, MAX_STACK_CHARACTERS, name)
    return plain if plain[0].isalpha() else f"_{plain}"
