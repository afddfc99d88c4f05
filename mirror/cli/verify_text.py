"""What `oidc-mirror verify` found, in words. Everything from outside is escaped; no token is in it."""

import json
from collections.abc import Iterator

import click

from mirror.cli.text import QUIET_FROM
from mirror.federation.verify_result import IssuerResult, StsResult, TokenResult, Verification, failures_of
from mirror.log import escaped
from mirror.model import Reason
from mirror.trust.relying_parties import Party, PartyVerdict
from mirror.trust.tokens import TokenCheck, TokenCheckStatus

_WORDS = {
    TokenCheckStatus.PASSED: ("ok", "green"),
    TokenCheckStatus.NOTED: ("note", "yellow"),
    TokenCheckStatus.FAILED: ("failed", "red"),
}
_NAMES = {Party.AWS: "AWS", Party.GCP: "GCP", Party.ENTRA: "Entra"}
_MAX_CLAIM_CHARACTERS = 300


def lines(verification: Verification) -> Iterator[str]:
    """The whole answer, line by line, with colours (click takes them away where there is no terminal)."""
    if verification.token is not None:
        yield from _token(verification.token)
    for issuer in verification.issuers:
        if len(verification.issuers) < QUIET_FROM or not _is_quiet(issuer):
            yield from _issuer(issuer, verification.token)
    if verification.login is not None:
        yield from _login(verification.login)
    yield _closing(verification)


def _is_quiet(issuer: IssuerResult) -> bool:
    """Whether there is nothing to report about an issuer among many."""
    return all(answer.accepts for answer in issuer.answers) and all(
        check.finding is TokenCheckStatus.PASSED for check in issuer.checks + issuer.token_checks
    )


# -------------------------------------------------------------------------------------------------- token


def _token(view: TokenResult) -> Iterator[str]:
    yield click.style("token", bold=True)
    token = view.token
    if token is not None:
        yield f"  header  alg {escaped(token.alg)}, kid {escaped(token.kid)}"
        for name, value in token.claims.items():
            yield f"  claim   {escaped(name)}: {_value(value)}"
    for reason in view.problems:
        yield from _reason("failed", reason)


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    shown = escaped(text[:_MAX_CLAIM_CHARACTERS])
    return f"{shown}…" if len(text) > _MAX_CLAIM_CHARACTERS else shown


# ------------------------------------------------------------------------------------------------- issuer


def _issuer(issuer: IssuerResult, token: TokenResult | None) -> Iterator[str]:
    former = "  (former issuer)" if issuer.is_former else ""
    yield f"{click.style(issuer.name, bold=True)}  {escaped(issuer.issuer)}{former}"
    for check in issuer.checks:
        yield from _check(check)
    for key in issuer.keys:
        yield f"          key        {escaped(key.kid)} ({key.alg})"
    for check in issuer.token_checks:
        yield from _check(check)
    reasons = failures_of(issuer.checks + issuer.token_checks) + (token.problems if token is not None else ())
    for answer in issuer.answers:
        yield from _answer(answer, reasons, with_token=token is not None)


def _check(check: TokenCheck) -> Iterator[str]:
    word, colour = _WORDS[check.finding]
    yield f"  {click.style(f'{word:<6}', fg=colour)}  {check.subject:<10} {escaped(check.sentence)}"
    if check.remedy:
        yield f"          {'':<10} remedy: {escaped(check.remedy)}"


def _answer(answer: PartyVerdict, reasons: tuple[Reason, ...], *, with_token: bool) -> Iterator[str]:
    name = click.style(f"{_NAMES[answer.party]:<6}", bold=True)
    own = [reason for reason in answer.reasons if reason not in reasons]
    if answer.accepts:
        what = "these documents and this token" if with_token else "these documents"
        yield f"  {name}  {click.style('would accept', fg='green')} {what}"
    else:
        codes = ", ".join(reason.code for reason in answer.reasons)
        yield f"  {name}  {click.style('would refuse', fg='red')}: {codes}"
    for reason in own:
        yield f"          {escaped(reason.sentence)}"
        yield f"          remedy: {escaped(reason.remedy)}"
    for note in answer.notes:
        yield f"          {click.style('note', fg='yellow')}: {escaped(note.sentence)}"


# --------------------------------------------------------------------------------------------------- STS


def _login(login: StsResult) -> Iterator[str]:
    head = f"{click.style('STS', bold=True)} in {login.region}"
    if login.accepted:
        yield f"{head} {click.style('accepts', fg='green')}: {escaped(login.assumed_role_arn)}"
        return
    yield f"{head} {click.style('refuses', fg='red')} {escaped(login.role_arn)}"
    yield f"  {escaped(login.error_code)}: {escaped(login.error)}"
    if not login.causes:
        yield "  Nothing is known about this error: see the API reference of AssumeRoleWithWebIdentity."
    for number, cause in enumerate(login.causes, 1):
        yield f"  {number}. {cause.sentence}"
        yield f"     {cause.remedy}"


def _reason(word: str, reason: Reason) -> Iterator[str]:
    where = f" [{reason.where}]" if reason.where else ""
    yield f"  {click.style(word, fg='red')}  {reason.code}{escaped(where)}: {escaped(reason.sentence)}"
    yield f"          remedy: {escaped(reason.remedy)}"


def _closing(verification: Verification) -> str:
    if not verification.issuers:
        return "No issuer was looked at."
    accepted = sum(issuer.accepted_by(Party.AWS) for issuer in verification.issuers)
    what = (
        "with this token"
        if verification.token is not None and verification.token.token is not None
        else "as they are public"
    )
    noun = "issuer" if len(verification.issuers) == 1 else "issuers"
    return f"AWS would accept {accepted} of {len(verification.issuers)} {noun} {what}."
