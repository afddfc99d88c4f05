"""What a relying party would make of our public documents and of a token, as one value; its JSON and exit status.

A token is not part of it: its claims are, its text and its signature are not.
"""

from dataclasses import dataclass
from datetime import datetime

from mirror.federation.causes import Cause
from mirror.model import IssuerName, IssuerUrl, Key, Reason
from mirror.report import ExitStatus, note_json, reason_json
from mirror.text import iso_time_or_none
from mirror.trust.relying_parties import Party, PartyVerdict
from mirror.trust.tokens import Token, TokenCheck, TokenCheckStatus


@dataclass(frozen=True, slots=True)
class DocumentResult:
    """A public document as it came: `seconds` is the whole look."""

    url: str
    size_bytes: int
    content_type: str
    cache_control: str
    seconds: float


@dataclass(frozen=True, slots=True)
class IssuerResult:
    """One issuer as relying parties see it: `checks` of its documents, `token_checks` of the token where it has one."""

    name: IssuerName
    issuer: IssuerUrl
    is_former: bool = False
    documents: tuple[DocumentResult, ...] = ()
    keys: tuple[Key, ...] = ()
    checks: tuple[TokenCheck, ...] = ()
    token_checks: tuple[TokenCheck, ...] = ()
    answers: tuple[PartyVerdict, ...] = ()

    def accepted_by(self, party: Party) -> bool:
        """Whether the relying party would accept the documents, and the token where there is one."""
        return any(answer.party is party and answer.accepts for answer in self.answers)


@dataclass(frozen=True, slots=True)
class TokenResult:
    """The token that was given: what it says, or why it is none; `problems` also say that it is nobody's."""

    token: Token | None
    problems: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class StsResult:
    """What STS said to AssumeRoleWithWebIdentity: who one would be, or its error and what that means."""

    role_arn: str
    region: str
    assumed_role_arn: str = ""
    error_code: str = ""
    error: str = ""
    causes: tuple[Cause, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether STS gave credentials (they are thrown away)."""
        return self.assumed_role_arn != ""


@dataclass(frozen=True, slots=True)
class Verification:
    """Everything that was looked at. `token` is None where none was given, `login` where STS was not asked."""

    now: datetime
    issuers: tuple[IssuerResult, ...]
    token: TokenResult | None = None
    login: StsResult | None = None

    @property
    def exit_status(self) -> ExitStatus:
        """0 only when AWS would accept everything that was asked about."""
        is_good = (
            bool(self.issuers)
            and all(issuer.accepted_by(Party.AWS) for issuer in self.issuers)
            and (self.token is None or not self.token.problems)
            and (self.login is None or self.login.accepted)
        )
        return ExitStatus.CURRENT if is_good else ExitStatus.FAILED


def failures_of(checks: tuple[TokenCheck, ...]) -> tuple[Reason, ...]:
    """The reasons of the checks that failed."""
    return tuple(
        Reason(check.code, check.sentence, check.remedy, check.subject)
        for check in checks
        if check.finding is TokenCheckStatus.FAILED
    )


# --------------------------------------------------------------------------------------------------- JSON


def to_json(verification: Verification) -> dict[str, object]:
    """The verification as plain data; its JSON Schema is `docs/reference/verify.schema.json`."""
    return {
        "version": 1,
        "time": iso_time_or_none(verification.now),
        "exit_status": int(verification.exit_status),
        "token": None if verification.token is None else _token(verification.token),
        "issuers": [_issuer(issuer) for issuer in verification.issuers],
        "sts": None if verification.login is None else _login(verification.login),
    }


def _token(view: TokenResult) -> dict[str, object]:
    token = view.token
    claims: dict[str, object] | None = None
    if token is not None:
        claims = {
            "alg": token.alg,
            "kid": token.kid,
            "issuer": token.issuer,
            "subject": token.subject,
            "audiences": list(token.audiences),
            "issued_at": iso_time_or_none(token.issued_at),
            "not_before": iso_time_or_none(token.not_before),
            "expires_at": iso_time_or_none(token.expires_at),
            "claims": dict(token.claims),
        }
    return {"content": claims, "problems": [reason_json(reason) for reason in view.problems]}


def _issuer(issuer: IssuerResult) -> dict[str, object]:
    return {
        "name": issuer.name,
        "issuer": issuer.issuer,
        "former": issuer.is_former,
        "documents": [
            {
                "url": each.url,
                "size_bytes": each.size_bytes,
                "content_type": each.content_type,
                "cache_control": each.cache_control,
                "seconds": round(each.seconds, 3),
            }
            for each in issuer.documents
        ],
        "keys": [{"kid": key.kid, "thumbprint": key.thumbprint, "alg": key.alg} for key in issuer.keys],
        "checks": [_check(check) for check in issuer.checks],
        "token_checks": [_check(check) for check in issuer.token_checks],
        "relying_parties": [_answer(answer) for answer in issuer.answers],
    }


def _check(check: TokenCheck) -> dict[str, object]:
    return {
        "check": check.subject,
        "finding": str(check.finding),
        "code": check.code or None,
        "sentence": check.sentence,
        "remedy": check.remedy or None,
    }


def _answer(answer: PartyVerdict) -> dict[str, object]:
    return {
        "name": str(answer.party),
        "accepts": answer.accepts,
        "reasons": [reason_json(reason) for reason in answer.reasons],
        "notes": [note_json(note) for note in answer.notes],
    }


def _login(login: StsResult) -> dict[str, object]:
    return {
        "role_arn": login.role_arn,
        "region": login.region,
        "accepted": login.accepted,
        "assumed_role_arn": login.assumed_role_arn or None,
        "error": None if login.accepted else {"code": login.error_code, "message": login.error},
        "causes": [
            {"code": each.code, "station": str(each.area), "sentence": each.sentence, "remedy": each.remedy}
            for each in login.causes
        ],
    }
