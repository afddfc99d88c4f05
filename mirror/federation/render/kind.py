"""What every kind of `render` is given, and what it gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mirror.config.settings import Issuer, Settings
from mirror.errors import UsageError
from mirror.federation.policies import subject
from mirror.federation.provision.provider import audience_problems

NAMESPACE, SERVICE_ACCOUNT = "default", "app"
"""Whose the pieces are where nobody says; every kind uses them, so that the pieces fit together."""

Syntax = Literal["json", "yaml", "hcl", "shell"]


@dataclass(frozen=True, slots=True)
class Workload:
    """Whose tokens a role is for, and what the role is. The defaults are the same for every kind, so they agree.

    `subjects` are whole `sub` texts and win over namespace and ServiceAccount; `account` is twelve digits.
    """

    namespace: str = NAMESPACE
    service_account: str = SERVICE_ACCOUNT
    subjects: tuple[str, ...] = ()
    role_name: str | None = None
    managed_policies: tuple[str, ...] = ()
    session_seconds: int | None = None
    account: str | None = None

    def all_subjects(self) -> tuple[str, ...]:
        """The `sub` of every token that is meant, none twice."""
        return tuple(dict.fromkeys(self.subjects)) or (subject(self.namespace, self.service_account),)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: the piece for `issuer` in one of the kind's formats."""

    settings: Settings
    issuer: Issuer
    format: str
    workload: Workload = Workload()

    def audiences(self) -> tuple[str, ...]:
        """The audiences of the issuer's tokens, as configured.

        Raises:
            UsageError: There is none, or AWS does not take them.
        """
        for problem in audience_problems(self.issuer.audiences):
            raise UsageError(problem.sentence, remedy=problem.remedy)
        return self.issuer.audiences

    def role_name(self) -> str:
        """How the role is called: as asked for, else after the issuer and the ServiceAccount; at most 64 characters."""
        return self.workload.role_name or f"{self.issuer.name}-{self.workload.service_account}"[:64]


@dataclass(frozen=True, slots=True)
class Rendered:
    """One piece. `comments` say what to do with it, one line each; JSON has no place for them.

    `value` is what a library writes: for `shell` a tuple of commands, each a tuple of words; for `hcl` blocks.
    `notes` are sentences for the operator, beside the piece.
    """

    syntax: Syntax
    value: Any
    comments: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of piece: its name, a sentence of help, and how it is made in each format; the first is the default."""

    name: str
    sentence: str
    formats: Mapping[str, Callable[[Request], Rendered]]

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
    return f"For issuer {request.issuer.issuer}, by: oidc-mirror render {kind} {request.issuer.name}"
