"""`oidc-mirror verify`: act as a relying party on the public URLs, and hold a token against what is there.

In the text everything from outside is escaped; no token is in it.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from mirror.cli.options import common, selected
from mirror.cli.text import QUIET_FROM
from mirror.cli.wiring import known_ledgers
from mirror.concurrency import thread_map
from mirror.config.settings import Settings
from mirror.errors import HistoryError, UsageError
from mirror.federation.verify import (
    IssuerResult,
    StsResult,
    TokenResult,
    Verification,
    VerifiedIssuer,
    VerifyRequest,
    failures_of,
    question,
    to_json,
    verify_issuer,
)
from mirror.log import escaped
from mirror.model import Reason
from mirror.publish.public_endpoint import PublicHttpClient
from mirror.reconcile.state import publications
from mirror.text import counted
from mirror.trust.relying_parties import Party, PartyVerdict
from mirror.trust.tokens import TokenCheck, TokenCheckStatus

MAX_FILE_BYTES = 20_003
"""The longest token, a line break, and one byte more that says that it is too long."""


def main(ctx: click.Context, *, name: str | None, token_file: str | None, role_arn: str | None, output: str) -> None:
    """See `mirror.cli.commands.verify`."""
    if role_arn is not None and token_file is None:
        raise UsageError("STS cannot be asked without a token.", remedy="Add --token-file FILE (- is stdin).")
    settings = selected(common(ctx).load(), () if name is None else (name,))
    body = None if token_file is None else _token(token_file)
    found = _verified(question(_subjects(settings), body, named=name is not None), settings)
    if body is not None and role_arn is not None:
        found = _with_login(found, body, role_arn, settings)
    click.echo(json.dumps(to_json(found), indent=2) if output == "json" else "\n".join(lines(found)))
    ctx.exit(int(found.exit_status))


def _token(file: str) -> bytes:
    """What the file holds, a little more than the longest token at most; a pipe will do.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        if file == "-":
            return sys.stdin.buffer.read(MAX_FILE_BYTES)
        with Path(file).open("rb") as opened:
            return opened.read(MAX_FILE_BYTES)
    except OSError as error:
        raise UsageError(
            f"The token file {file} cannot be read.",
            cause=str(error.strerror),
            remedy="Name a file with a token, or - for stdin: kubectl create token NAME | oidc-mirror verify "
            "--token-file -",
        ) from error


def _subjects(settings: Settings) -> "tuple[VerifiedIssuer, ...]":
    """Every issuer, followed by its former ones, with what git on this machine knows of it.

    Raises:
        UsageError: Not one of them may be looked at.
    """
    if not any(issuer.publish.readback.enabled for issuer in settings.issuers):
        raise UsageError(
            "The public URL may not be looked at: `publish.readback.enabled` is false.",
            remedy="Run `oidc-mirror verify` where the public URL can be reached, with read-back enabled.",
        )
    everything = publications(settings)
    urls = tuple(each.url for each in everything)
    try:
        ledgers = known_ledgers(settings, urls)
    except HistoryError:
        ledgers = dict.fromkeys(urls)  # it only makes sentences better; who looks from outside has none either
    return tuple(
        VerifiedIssuer(
            each.issuer.name,
            each.url,
            each.issuer.publish,
            each.issuer.clouds,
            is_former=each.url != each.issuer.issuer,
            ledger=ledgers[each.url],
        )
        for each in everything
    )


def _verified(request: "VerifyRequest", settings: Settings) -> "Verification":
    now = datetime.now(UTC)
    with PublicHttpClient() as web:
        issuers = thread_map(
            lambda subject: verify_issuer(subject, request.token, web, now),
            request.subjects,
            workers=settings.limits.puts,
            cancel=web.close,
        )
    return Verification(now, issuers, request.token)


def _with_login(verification: "Verification", body: bytes, role_arn: str, settings: Settings) -> "Verification":
    """The verification, with the answer of STS in the region of the token's issuer; unasked where it has none."""
    from mirror.federation.sts import log_in  # noqa: PLC0415  boto3 only when it is needed

    if verification.token is None or verification.token.token is None or not verification.issuers:
        return verification
    name = verification.issuers[0].name
    region = next(issuer.publish.region for issuer in settings.issuers if issuer.name == name)
    return replace(verification, login=log_in(body.decode("ascii").strip(), role_arn, region))


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
        yield from _token_of(verification.token)
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


def _token_of(view: TokenResult) -> Iterator[str]:
    yield click.style("token", bold=True)
    token = view.token
    if token is not None:
        yield f"  header  alg {escaped(token.alg)}, kid {escaped(token.kid)}"
        for name, value in token.claims.items():
            yield f"  claim   {escaped(name)}: {_value(value)}"
    for reason in view.problems:
        where = f" [{reason.where}]" if reason.where else ""
        yield f"  {click.style('failed', fg='red')}  {reason.code}{escaped(where)}: {escaped(reason.sentence)}"
        yield f"          remedy: {escaped(reason.remedy)}"


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


def _closing(verification: Verification) -> str:
    if not verification.issuers:
        return "No issuer was looked at."
    accepted = sum(issuer.accepted_by(Party.AWS) for issuer in verification.issuers)
    has_token = verification.token is not None and verification.token.token is not None
    what = "with this token" if has_token else "as they are public"
    return f"AWS would accept {accepted} of {counted(len(verification.issuers), 'issuer')} {what}."
