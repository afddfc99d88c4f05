"""What every kind of `render` is given, and what it gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mirror.config.settings import Issuer, Settings
from mirror.errors import UsageError
from mirror.federation.policies import partition_of, role_arn, subject
from mirror.federation.provision.provider import audience_problems

NAMESPACE, SERVICE_ACCOUNT = "default", "app"
"""Whose the pieces are where nobody says; every kind uses them, so that the pieces fit together."""

Syntax = Literal["json", "yaml", "hcl", "shell"]

STS_AUDIENCE, AZURE_AUDIENCE, GOOGLE_AUDIENCE = (
    "sts.amazonaws.com",
    "api://AzureADTokenExchange",
    "https://iam.googleapis.com/",
)
"""How an audience begins that is usual at one cloud."""
ACCOUNT_TO_FILL_IN = "ACCOUNT"
"""Stands in an ARN where nobody gave the account: no account is guessed, and AWS refuses this one at once."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Whose tokens a role is for, and what the role is. The defaults are the same for every kind, so they agree.

    `subjects` are whole `sub` texts and win over namespace and ServiceAccount; `account` is twelve digits. `audience`
    is that of the pods' tokens, one of the issuer's; `is_webhook` says that a webhook in the cluster mounts them.
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

    def all_subjects(self) -> tuple[str, ...]:
        """The `sub` of every token that is meant, none twice."""
        return tuple(dict.fromkeys(self.subjects)) or (subject(self.namespace, self.service_account),)


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """What the configuration does not know of the apiservers: their key files, as paths on their own hosts.

    With `is_rotation` the new files take the place of the others, step by step. `kept_issuers` are issuers that are
    accepted besides ours; `api_audiences` come to the apiserver's own.
    """

    key_files: tuple[str, ...] = ("/etc/kubernetes/pki/sa.pub",)
    signing_key_file: str = "/etc/kubernetes/pki/sa.key"
    is_rotation: bool = False
    new_key_files: tuple[str, ...] = ("/etc/kubernetes/pki/sa-new.pub",)
    new_signing_key_file: str = "/etc/kubernetes/pki/sa-new.key"
    kept_issuers: tuple[str, ...] = ()
    api_audiences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Login:
    """As whom the mirror asks the apiservers.

    `namespace` and `service_account` are its own in a cluster. `user` is the name that a client certificate or a
    kubeconfig gives it, None where it is not known.
    """

    namespace: str = "oidc-mirror"
    service_account: str = "oidc-mirror"
    user: str | None = None
    way: Literal["anonymous", "service-account", "user"] = "anonymous"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: the piece for `issuer` in one of the kind's formats."""

    settings: Settings
    issuer: Issuer
    format: str
    workload: Workload = Workload()
    control_plane: ControlPlane = ControlPlane()
    login: Login = Login()

    def audiences(self) -> tuple[str, ...]:
        """The audiences of the issuer's tokens, as configured.

        Raises:
            UsageError: There is none, or AWS does not take them.
        """
        for problem in audience_problems(self.issuer.audiences):
            raise UsageError(problem.sentence, remedy=problem.remedy)
        chosen = self.workload.audience
        if chosen is not None and chosen not in self.issuer.audiences:
            raise UsageError(
                f"The issuer {self.issuer.name} has no such audience in its configuration.",
                remedy="Choose one of its `audiences`, or add it there: the clouds are told of no other.",
            )
        return self.issuer.audiences

    def accepted_audiences(self) -> tuple[str, ...]:
        """The audiences that a role takes: the chosen one alone, else all."""
        return self.audiences() if self.workload.audience is None else (self.audience(),)

    def audience(self, preferred: str = STS_AUDIENCE) -> str:
        """The one audience of the pods' tokens: as asked for, else the cloud's usual one, else one of no other cloud.

        Raises:
            UsageError: There is none.
        """
        audiences = self.audiences()
        own = [each for each in audiences if each.startswith(preferred)]
        neutral = [each for each in audiences if not self.is_of_other_cloud(each, preferred)]
        return self.workload.audience or (*own, *neutral, *audiences)[0]

    def is_of_other_cloud(self, audience: str, preferred: str) -> bool:
        """Whether an audience is the usual one of another cloud than that of `preferred`."""
        others = {STS_AUDIENCE, AZURE_AUDIENCE, GOOGLE_AUDIENCE} - {preferred}
        return audience.startswith(tuple(others))

    def role_name(self) -> str:
        """How the role is called: as asked for, else after the issuer and the ServiceAccount; at most 64 characters."""
        if self.workload.role_arn is not None:
            return self.workload.role_arn.rpartition("/")[2]
        return self.workload.role_name or f"{self.issuer.name}-{self.workload.service_account}"[:64]

    def role_path(self) -> str:
        """The folder of the role, as IAM has it: between slashes."""
        words = (self.workload.role_arn or "").partition(":role")[2]
        return f"{words.rpartition('/')[0]}/"

    def account(self) -> str | None:
        """The account of the role, where it was said."""
        return self.workload.account if self.workload.role_arn is None else self.workload.role_arn.split(":")[4]

    def role_arn(self) -> str:
        """The ARN of the role that the pods assume; `ACCOUNT_TO_FILL_IN` stands in it where nobody gave the account."""
        partition = partition_of(self.issuer.publish.region)
        account = self.workload.account or ACCOUNT_TO_FILL_IN
        return self.workload.role_arn or role_arn(account, self.role_name(), partition)


@dataclass(frozen=True, slots=True)
class Step:
    """One document of several, with comments of its own before it."""

    comments: tuple[str, ...]
    value: Any


@dataclass(frozen=True, slots=True)
class Rendered:
    """One piece. `comments` say what to do with it, one line each; JSON has no place for them.

    `value` is what a library writes: for `yaml` also a tuple of steps, for `shell` a tuple of commands, each a tuple
    of words; for `hcl` blocks.
    `notes` are sentences for the operator, beside the piece.
    """

    syntax: Syntax
    value: Any
    comments: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of piece: its name, a sentence of help, and how it is made in each format; the first is the default.

    `needs_login` tells that its request must say as whom the mirror asks.
    """

    name: str
    sentence: str
    formats: Mapping[str, Callable[[Request], Rendered]]
    needs_login: bool = False

    @property
    def default_format(self) -> str:
        """The format without `--format`."""
        return next(iter(self.formats))

    def render(self, request: Request) -> Rendered:
        """The piece.

        Raises:
            UsageError: The configuration lacks something that the piece needs.
        """
        return self.formats[request.format](request)


def made_by(kind: str, request: Request) -> str:
    """The first comment of every piece: what it is of, and where it comes from."""
    return f"Made by `oidc-mirror render {kind} {request.issuer.name}` for issuer {request.issuer.issuer}"
