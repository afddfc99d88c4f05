"""`oidc-mirror verify`: act as a relying party on the public URLs, and hold a token against what is there."""

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from mirror.cli.options import common, selected
from mirror.cli.verify_text import lines
from mirror.cli.wiring import known_ledgers
from mirror.concurrency import thread_map
from mirror.config.settings import Settings
from mirror.errors import HistoryError, UsageError
from mirror.federation.verify import VerifiedIssuer, VerifyRequest, question, verify_issuer
from mirror.federation.verify_result import Verification, to_json
from mirror.publish.public_endpoint import PublicHttpClient
from mirror.reconcile.state import publications

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
