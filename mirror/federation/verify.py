"""Act as a relying party: begin at the issuer, follow its `jwks_uri`, and hold a token against what is found.

What comes of it is one value, with its JSON and exit status. A token is not part of it: its claims are, its text and
its signature are not.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from mirror.addresses import discovery_url
from mirror.addresses.issuer_urls import closest_issuer, describe_difference
from mirror.config.settings import PublishSettings
from mirror.federation.causes import Cause
from mirror.model import (
    MEDIA_TYPE_DISCOVERY,
    MEDIA_TYPE_JWKS,
    NO_AUDIENCES,
    Cloud,
    IssuerName,
    IssuerUrl,
    Key,
    Ledger,
    Note,
    Reason,
    TokenAudiences,
    key_name,
)
from mirror.ports import PublicEndpoint, PublicFailure, PublicResponse
from mirror.report import ExitStatus, note_json, reason_json
from mirror.text import counted, iso_time_or_none
from mirror.trust.discovery import (
    UNKNOWN_KEY,
    PublicDiscovery,
    PublicKeys,
    caching_note,
    media_type_note,
    read_public_discovery,
    read_public_jwks,
)
from mirror.trust.parsing import Rejected, quote
from mirror.trust.relying_parties import Party, PartyInput, PartyVerdict, answers
from mirror.trust.tokens import (
    Token,
    TokenCheck,
    TokenCheckStatus,
    check_claims,
    check_failed,
    check_passed,
    check_warning,
    leading_token,
    read_token,
    signing_key,
)


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
    """The given token: its claims, or why it is malformed; `problems` also say that it matches no issuer."""

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
        "documents": [{**asdict(each), "seconds": round(each.seconds, 3)} for each in issuer.documents],
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


_SHOWN_ISSUERS = 10
KEY_OPS = "key_ops"
"""The code of the note about a key with the member key_ops."""


@dataclass(frozen=True, slots=True)
class VerifiedIssuer:
    """One public issuer that is looked at. `ledger` is what git on this machine knows of it, for better sentences."""

    name: IssuerName
    issuer: IssuerUrl
    publish: PublishSettings
    audiences: TokenAudiences = NO_AUDIENCES
    is_former: bool = False
    ledger: Ledger | None = None


def verify_issuer(
    subject: VerifiedIssuer, given: TokenResult | None, view: PublicEndpoint, now: datetime
) -> IssuerResult:
    """Look at an issuer's documents as a relying party does, and at the token; it never raises for what the web does.

    Args:
        subject: whose documents are read; `publish.readback` says how.
        given: the token to hold against it; None for the documents alone.
        view: the public URLs.
        now: aware, UTC.
    """
    found = _with_documents(IssuerResult(subject.name, subject.issuer, subject.is_former), subject, view)
    token = given.token if given is not None else None
    if token is not None:
        found = replace(found, token_checks=_token_checks(token, found, subject, now))
    problems = given.problems if given is not None else ()
    common = failures_of(found.checks + found.token_checks) + problems
    has_unknown_key = any(check.code == UNKNOWN_KEY for check in found.checks)
    has_key_ops = any(check.code == KEY_OPS for check in found.checks)
    shown = PartyInput(subject.issuer, found.keys, subject.audiences, token, has_unknown_key, has_key_ops)
    return replace(found, answers=answers(shown, common))


# ---------------------------------------------------------------------------------------------- documents


def _with_documents(result: IssuerResult, subject: VerifiedIssuer, view: PublicEndpoint) -> IssuerResult:
    if not subject.publish.readback.enabled:
        sentence = "The public URL may not be looked at: `publish.readback.enabled` is false."
        remedy = "Run `oidc-mirror verify` where the public URL can be reached, with read-back enabled."
        return replace(result, checks=(check_failed("discovery", Reason("readback_disabled", sentence, remedy)),))
    url = discovery_url(subject.issuer)
    look = view.get_document(url, readback=subject.publish.readback)
    if isinstance(look, PublicFailure):
        return replace(result, checks=(_unseen("discovery", url, look),))
    result = replace(result, documents=(_document(url, look),))
    discovery = read_public_discovery(look.body, subject.issuer)
    if isinstance(discovery, Rejected):
        return replace(result, checks=tuple(check_failed("discovery", reason) for reason in discovery.reasons))
    checks = (
        _read_check("discovery", url, look),
        *_notes("discovery", look, discovery.notes, (MEDIA_TYPE_DISCOVERY,)),
    )
    return _with_keys(replace(result, checks=checks), discovery, subject, view)


def _with_keys(
    result: IssuerResult, discovery: PublicDiscovery, subject: VerifiedIssuer, view: PublicEndpoint
) -> IssuerResult:
    url = discovery.jwks_uri
    look = view.get_document(url, readback=subject.publish.readback)
    if isinstance(look, PublicFailure):
        return replace(result, checks=(*result.checks, _unseen("jwks", url, look)))
    result = replace(result, documents=(*result.documents, _document(url, look)))
    records = subject.ledger.records if subject.ledger is not None else ()
    keys = read_public_jwks(look.body, already_checked=frozenset(record.key.thumbprint for record in records))
    if isinstance(keys, Rejected):
        return replace(result, checks=result.checks + tuple(check_failed("jwks", reason) for reason in keys.reasons))
    media_types = (MEDIA_TYPE_JWKS, MEDIA_TYPE_DISCOVERY)
    notes = _notes("jwks", look, keys.notes + _unnamed_algorithms(discovery, keys) + _key_ops(keys), media_types)
    return replace(
        result, keys=keys.keys, checks=(*result.checks, _read_check("jwks", url, look, len(keys.keys)), *notes)
    )


def _unnamed_algorithms(discovery: PublicDiscovery, keys: PublicKeys) -> tuple[Note, ...]:
    missing = sorted({key.alg for key in keys.keys} - set(discovery.algorithms))
    if not missing:
        return ()
    sentence = f"The discovery document does not name {', '.join(missing)}, which keys of the JWKS are for."
    return (Note("unnamed_algorithm", sentence),)


def _key_ops(keys: PublicKeys) -> tuple[Note, ...]:
    if not keys.with_key_ops:
        return ()
    return (Note(KEY_OPS, "A key has the member key_ops, which STS does not take (RFC 7517, section 4.3)."),)


def _document(url: str, look: PublicResponse) -> DocumentResult:
    return DocumentResult(url, len(look.body), look.content_type, look.cache_control, look.seconds)


def _read_check(subject: str, url: str, look: PublicResponse, keys: int | None = None) -> TokenCheck:
    count = "" if keys is None else f"{counted(keys, 'key')}, "
    return check_passed(subject, f"{url} ({count}{len(look.body)} bytes in {look.seconds:.2f} s)")


def _unseen(subject: str, url: str, look: PublicFailure) -> TokenCheck:
    reason = look.reason
    return check_failed(subject, replace(reason, sentence=f"{url}: {reason.sentence}"))


def _notes(
    subject: str, look: PublicResponse, notes: tuple[Note, ...], media_types: tuple[str, ...]
) -> Iterator[TokenCheck]:
    headers = (caching_note(look.cache_control), media_type_note(look.content_type, media_types))
    for note in (*notes, *headers):
        if note is not None:
            yield check_warning(subject, note.code, note.sentence)


# -------------------------------------------------------------------------------------------------- token


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """The issuers to verify, and the token to compare with them; none, if the token matches no issuer."""

    subjects: tuple[VerifiedIssuer, ...]
    token: TokenResult | None = None


def question(subjects: tuple[VerifiedIssuer, ...], body: bytes | None, *, named: bool) -> VerifyRequest:
    """Read the token, and let its iss choose among the issuers.

    Args:
        subjects: all that were asked about, at least one.
        body: the token; None when none was given.
        named: whether the operator chose the issuer: then a token of another one is held against it all the same.
    """
    if body is None:
        return VerifyRequest(subjects)
    token, problems = _read(body)
    if token is None:
        return VerifyRequest(subjects[:1] if named else (), TokenResult(None, problems))
    matching = tuple(subject for subject in subjects if subject.issuer == token.issuer)
    if matching or named:
        return VerifyRequest((matching or subjects)[:1], TokenResult(token, problems))
    nobody = _of_nobody(token, tuple(subject.issuer for subject in subjects))
    return VerifyRequest((), TokenResult(token, (*problems, nobody)))


def _read(body: bytes) -> tuple[Token | None, tuple[Reason, ...]]:
    """Read the token, and why the clouds would refuse what stands in the file; its claims are reported all the same."""
    token = read_token(body)
    if not isinstance(token, Rejected):
        return token, ()
    first = read_token(leading_token(body))
    return (None if isinstance(first, Rejected) else first), token.reasons


def _of_nobody(token: Token, issuers: tuple[IssuerUrl, ...]) -> Reason:
    like = closest_issuer(token.issuer, issuers)
    sentence = f"The token's iss {quote(token.issuer)} is not an issuer of this configuration"
    if like is not None:
        return Reason(
            "unknown_issuer",
            f"{sentence}; the nearest is {quote(like)}: {describe_difference(token.issuer, like)}.",
            "Make them the same, to the letter: the cluster's --service-account-issuer, the configuration, the clouds.",
            "token claims.iss",
        )
    shown = ", ".join(map(quote, issuers[:_SHOWN_ISSUERS]))
    more = f" and {len(issuers) - _SHOWN_ISSUERS} more" if len(issuers) > _SHOWN_ISSUERS else ""
    remedy = f"Configured: {shown}{more}."
    return Reason("unknown_issuer", f"{sentence}, and none is like it.", remedy, "token claims.iss")


def _token_checks(token: Token, result: IssuerResult, subject: VerifiedIssuer, now: datetime) -> tuple[TokenCheck, ...]:
    signature = _signature(token, result, subject)
    ignored = tuple(
        check_warning(
            "header", "key_in_header", f"The header's {name} is ignored: keys come only from the public JWKS."
        )
        for name in token.ignored
    )
    claims = check_claims(token, subject.issuer, subject.audiences.all(), now, _usual(subject.audiences, token))
    return (signature, *claims, *ignored)


def _usual(audiences: TokenAudiences, token: Token) -> tuple[str, ...]:
    """Give those audiences of the token that a cloud accepts for which none is configured."""
    unconfigured = [cloud for cloud in Cloud if not audiences.of_cloud(cloud)]
    return tuple(each for each in token.audiences if any(audiences.accepts(cloud, each) for cloud in unconfigured))


def _signature(token: Token, result: IssuerResult, subject: VerifiedIssuer) -> TokenCheck:
    if not result.keys:
        sentence = "No public key could be read, so the signature cannot be verified."
        return check_failed(
            "signature", Reason("no_public_keys", sentence, "Mend what is reported of the documents first.")
        )
    key = signing_key(token, result.keys, name=subject.name, ledger=subject.ledger)
    if isinstance(key, Reason):
        return check_failed("signature", key)
    return check_passed("signature", f"by public key {key_name(key)}")
