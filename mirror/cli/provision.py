"""`oidc-mirror provision`: the bucket and the OIDC provider, made or corrected; a second run does nothing."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import click

from mirror.aws.errors import admin_errors_translated
from mirror.aws.iam_policy import partition_of
from mirror.aws.sessions import session_with_credentials
from mirror.cli.options import common, named
from mirror.errors import UsageError
from mirror.federation.provision.aws_admin import IamProviderAdmin, S3Admin
from mirror.federation.provision.bucket import DesiredBucket, document_keys, in_same_bucket, plan_bucket
from mirror.federation.provision.iam_provider import audience_problems, plan_provider
from mirror.log import escaped
from mirror.model import Cloud
from mirror.report import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3.session

    from mirror.federation.provision.bucket import BucketChange, ProvisionPlan


def provision_bucket(
    ctx: click.Context,
    *,
    name: str,
    remove_unlisted: bool,
    dry_run: bool,
    yes: bool,
    profile: str | None,
    role_arn: str | None,
) -> None:
    """See `mirror.cli.commands`."""
    settings = common(ctx).load()
    publish = named(settings, name).publish
    issuers = in_same_bucket(settings, publish)
    wanted = DesiredBucket(
        bucket=publish.bucket,
        region=publish.region,
        partition=partition_of(publish.region),
        keys=document_keys(issuers),
        base_urls=tuple({each.publish.base_url for each in issuers}),
        remove_unlisted=remove_unlisted,
    )
    admin = S3Admin(publish, _session(publish, profile, role_arn))
    seen = admin.look(wanted.keys)
    carry_out(
        ctx,
        plan_bucket(seen, wanted),
        lambda plan, done: admin.apply(plan.differences, seen, done),
        dry_run=dry_run,
        yes=yes,
    )


def provision_provider(
    ctx: click.Context, *, name: str, dry_run: bool, yes: bool, profile: str | None, role_arn: str | None
) -> None:
    """See `mirror.cli.commands`."""
    issuer = named(common(ctx).load(), name)
    audiences = issuer.clouds.of(Cloud.AWS)
    for problem in audience_problems(audiences):
        raise UsageError(problem.sentence, remedy=problem.remedy)
    registry = IamProviderAdmin(_session(issuer.publish, profile, role_arn), issuer.publish.region)
    seen = registry.look(issuer.issuer)
    former = tuple(each.issuer for each in issuer.former_issuers)
    carry_out(
        ctx,
        plan_provider(seen, issuer.issuer, audiences, former),
        lambda plan, done: registry.apply(plan.differences, issuer.issuer, audiences, seen, done),
        dry_run=dry_run,
        yes=yes,
    )


CREDENTIALS_SECONDS = 20.0
"""How long an administrator's credentials may take: longer than a `credential_process` may."""


def _session(publish: Any, profile: str | None, role_arn: str | None) -> "boto3.session.Session":
    with admin_errors_translated("There are no credentials to administer with.", "sts:GetCallerIdentity"):
        settings = replace(publish, profile=profile, role_arn=role_arn)
        return session_with_credentials(settings, CREDENTIALS_SECONDS)


# ---------------------------------------------------------------------------------------- what all of them share


def carry_out(
    ctx: click.Context,
    plan: "ProvisionPlan",
    apply: "Callable[[ProvisionPlan, Callable[[BucketChange], None]], None]",
    *,
    dry_run: bool,
    yes: bool,
) -> NoReturn:
    """Print the plan, ask, apply it, and end the command; a dry run ends before the question.

    Raises:
        BucketError: A difference could not be mended; those that were reported as done before it are.
    """
    click.echo("\n".join(lines(plan)))
    status = ExitStatus.FAILED if plan.problems else ExitStatus.CURRENT
    if dry_run or not plan.differences:
        ctx.exit(status)
    if not yes and sys.stdin.isatty() and not click.confirm("Do this?"):
        click.echo("Nothing was changed.")
        ctx.exit(ExitStatus.CURRENT)
    apply(plan, lambda difference: click.echo(f"{click.style('done', fg='green')} {escaped(difference.what)}"))
    ctx.exit(status)


def lines(plan: "ProvisionPlan") -> list[str]:
    """A plan in words."""
    output = [escaped(plan.title)]
    for each in plan.differences:
        first, *more = map(escaped, each.after.split("\n"))
        output.append(f"  {click.style('change', fg='yellow')} {escaped(each.what)}: {escaped(each.before)} -> {first}")
        output += [f"    {line}" for line in more]
    for note in plan.notes:
        output.append(f"  {click.style('note', fg='cyan')} {note.code}: {escaped(note.sentence)}")
    for problem in plan.problems:
        output.append(f"  {click.style('problem', fg='red')} {problem.code}: {escaped(problem.sentence)}")
        output.append(f"    remedy: {escaped(problem.remedy)}")
    if not plan.differences and not plan.problems:
        output.append("  All is as it should be: there is nothing to do.")
    return output
