"""`oidc-mirror verify`: act as a relying party on the public URLs, and hold a token against what is there."""

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli.options import common, common_options
from mirror.cli.run import selected
from mirror.cli.wiring import known_ledgers
from mirror.config.fields import role_arn as checked_arn
from mirror.config.settings import Settings
from mirror.errors import HistoryError, UsageError

if TYPE_CHECKING:
    from mirror.federation.verify import VerifiedIssuer, VerifyRequest
    from mirror.federation.verify_result import Verification

MAX_FILE_BYTES = 20_003
"""The longest token, a line break, and one byte more that tells that it is too long."""


def _arn(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The option's text as the ARN of a role."""
    try:
        return None if value is None else checked_arn(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


@click.command("verify")
@click.argument("name", required=False)
@click.option("--token-file", metavar="FILE", help="A token that is held against the public documents; - is stdin.")
@click.option("--role-arn", metavar="ARN", callback=_arn, help="Log in to this role at AWS STS with the token, really.")
@click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the answer is written.",
)
@common_options
@click.pass_context
def command(ctx: click.Context, *, name: str | None, token_file: str | None, role_arn: str | None, output: str) -> None:
    """Read the public documents of issuer NAME, or of all, as AWS, GCP and Entra do, and tell what each would answer.

    Begins at the issuer and follows its jwks_uri; needs no credentials and changes nothing. A token chooses its issuer
    by its iss; it is not printed, and sent nowhere but to STS with --role-arn.

    \b
    Exit status: 0 when AWS would accept the documents, the token if there is one, and STS if it was asked; 1 otherwise.
    """  # noqa: D301  \b is click's mark for a paragraph that is not re-wrapped
    from mirror.cli.verify_text import lines  # noqa: PLC0415  `--help` does without
    from mirror.federation.verify import question  # noqa: PLC0415  `--help` does without
    from mirror.federation.verify_result import to_json  # noqa: PLC0415  `--help` does without

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
    from mirror.federation.verify import VerifiedIssuer  # noqa: PLC0415  `--help` does without
    from mirror.reconcile.state import publications  # noqa: PLC0415  `--help` does without

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
    from mirror.concurrency import thread_map  # noqa: PLC0415  `--help` does without
    from mirror.federation.verify import verify_issuer  # noqa: PLC0415  `--help` does without
    from mirror.federation.verify_result import Verification  # noqa: PLC0415  `--help` does without
    from mirror.publish.public_endpoint import PublicHttpClient  # noqa: PLC0415  httpx only when it is needed

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
