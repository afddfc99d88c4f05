"""`oidc-mirror provision`: the bucket and the OIDC provider, made or corrected; a second run does nothing."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from mirror.cli.options import common, common_options
from mirror.config.fields import role_arn as checked_arn
from mirror.errors import UsageError
from mirror.log import escaped
from mirror.model import Cloud
from mirror.report import ExitStatus

if TYPE_CHECKING:
    import boto3.session

    from mirror.config.settings import Issuer, Settings
    from mirror.federation.provision.bucket import BucketChange, ProvisionPlan

F = TypeVar("F", bound=Callable[..., Any])


def _arn(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The option's text as the ARN of a role."""
    try:
        return None if value is None else checked_arn(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def provision_options(function: F) -> F:
    """The options of everything that is provisioned, and the global ones."""
    for option in (
        click.option("--role-arn", metavar="ARN", callback=_arn, help="Assume this role first, to administer."),
        click.option(
            "--profile", metavar="PROFILE", help="The profile of the AWS configuration files to administer with."
        ),
        click.option("--yes", is_flag=True, help="Do not ask on a terminal."),
        click.option("--dry-run", is_flag=True, help="Only tell the differences."),
    ):
        function = option(function)
    return common_options(function)


@click.group("provision")
def command() -> None:
    """Make or correct what the mirror needs in AWS. Each command looks first, tells the differences, and asks.

    The credentials are those of whoever runs it (environment, --profile, --role-arn), never the mirror's own of
    `publish.profile` and `publish.role_arn`: these need, and should have, no such rights.

    \b
    Exit status: 0 when all is as it should be; 1 when something could not be done; 2 usage or configuration error.
    """  # noqa: D301  \b is click's mark for a paragraph that is not re-wrapped


@command.command("bucket")
@click.argument("name")
@provision_options
@click.pass_context
def bucket(
    ctx: click.Context, *, name: str, dry_run: bool, yes: bool, profile: str | None, role_arn: str | None
) -> None:
    """Make or correct the bucket of the issuer NAME, for all issuers of the configuration that stand in it.

    Versioning on; a policy may open objects, ACLs may not; and the policy lets the world read exactly the published
    documents. Statements of others are kept.
    """
    from mirror.aws.iam_policy import partition_of  # noqa: PLC0415  `--help` does without
    from mirror.federation.bucket_objects import document_keys, in_same_bucket  # noqa: PLC0415  `--help` does without
    from mirror.federation.provision.aws_admin import S3Admin  # noqa: PLC0415  `--help` does without
    from mirror.federation.provision.bucket import DesiredBucket, plan_bucket  # noqa: PLC0415  `--help` does without

    settings = common(ctx).load()
    publish = named(settings, name).publish
    issuers = in_same_bucket(settings, publish)
    wanted = DesiredBucket(
        bucket=publish.bucket,
        region=publish.region,
        partition=partition_of(publish.region),
        keys=document_keys(issuers),
        base_urls=tuple({each.publish.base_url for each in issuers}),
    )
    office = S3Admin(publish, _session(publish, profile, role_arn))
    seen = office.look()
    carry_out(
        ctx,
        plan_bucket(seen, wanted),
        lambda plan, done: office.apply(plan.differences, seen, done),
        dry_run=dry_run,
        yes=yes,
    )


@command.command("provider")
@click.argument("name")
@provision_options
@click.pass_context
def provider(
    ctx: click.Context, *, name: str, dry_run: bool, yes: bool, profile: str | None, role_arn: str | None
) -> None:
    """Make or correct the IAM OIDC provider of the issuer NAME in the account of the credentials.

    Its URL is exactly the issuer. Its audiences are those that the configuration has for AWS, else sts.amazonaws.com;
    more audiences are reported and left. No thumbprint is set: IAM fills one in, which is reported.
    """
    from mirror.federation.provision.aws_admin import IamProviderAdmin  # noqa: PLC0415  `--help` does without
    from mirror.federation.provision.iam_provider import (  # noqa: PLC0415  `--help` does without
        audience_problems,
        plan_provider,
    )

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


def named(settings: "Settings", name: str) -> "Issuer":
    """The issuer of that name.

    Raises:
        UsageError: There is none.
    """
    from mirror.cli.run import selected  # noqa: PLC0415  `--help` does without

    return selected(settings, (name,)).issuers[0]


def _session(publish: Any, profile: str | None, role_arn: str | None) -> "boto3.session.Session":
    from mirror.aws.errors import admin_errors_translated  # noqa: PLC0415  `--help` does without
    from mirror.aws.sessions import session  # noqa: PLC0415  `--help` does without

    with admin_errors_translated("There are no credentials to administer with.", "sts:GetCallerIdentity"):
        return session(replace(publish, profile=profile, role_arn=role_arn))


# ---------------------------------------------------------------------------------------- what all of them share


def carry_out(
    ctx: click.Context,
    plan: "ProvisionPlan",
    apply: "Callable[[ProvisionPlan, Callable[[BucketChange], None]], None]",
    *,
    dry_run: bool,
    yes: bool,
) -> NoReturn:
    """Tell the plan, ask, apply it, and end the command; a dry run ends before the question.

    Raises:
        BucketError: A difference could not be mended; those told as done before it are.
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
        after = escaped_lines(each.after)
        output.append(
            f"  {click.style('change', fg='yellow')} {escaped(each.what)}: {escaped(each.before)} -> {after[0]}"
        )
        output += [f"    {line}" for line in after[1:]]
    for note in plan.notes:
        output.append(f"  {click.style('note', fg='cyan')} {note.code}: {escaped(note.sentence)}")
    for problem in plan.problems:
        output.append(f"  {click.style('problem', fg='red')} {problem.code}: {escaped(problem.sentence)}")
        output.append(f"    remedy: {escaped(problem.remedy)}")
    if not plan.differences and not plan.problems:
        output.append("  All is as it should be: there is nothing to do.")
    return output


def escaped_lines(text: str) -> list[str]:
    """Each line of a text of ours that holds words from outside."""
    return [escaped(line) for line in text.split("\n")]
