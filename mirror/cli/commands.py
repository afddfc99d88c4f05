"""The commands: their arguments, options and help, and nothing that takes long to import.

`oidc-mirror COMMAND --help` and the mistakes of a configuration answer before what a command needs is imported.
"""

import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mirror.cli.options import (
    KeyCommand,
    all_of,
    common,
    common_options,
    decision_options,
    examples,
    issuer_names,
    output_option,
    read_by,
    yes_option,
)
from mirror.cli.startup import end_quietly, share_one_heap
from mirror.config.fields import duration
from mirror.config.fields import role_arn as checked_arn
from mirror.errors import UsageError


def carry_out(
    ctx: click.Context, where: str, given: dict[str, Any], *, has_copy: Callable[[], bool] = lambda: False
) -> None:
    """Read the configuration, then `call`; with a broken one too, where it `has_copy` of a good one."""
    try:
        common(ctx).load_early()
    except UsageError:
        if not has_copy():
            raise
    call(ctx, where, given)


def call(ctx: click.Context, where: str, given: dict[str, Any]) -> None:
    """Import the function that `where` (`module:name`) names, and call it."""
    module, _, name = where.partition(":")
    getattr(importlib.import_module(module), name)(ctx, **given)


@click.command(
    "run",
    epilog=examples(
        "oidc-mirror --once",
        "oidc-mirror --dry-run --only syd-prod",
        "oidc-mirror run --config /etc/oidc-mirror/mirror.yaml",
    ),
)
@click.option("--once", is_flag=True, help="One pass, then exit.")
@click.option("--dry-run", is_flag=True, help="Show what a pass would do and change nothing (implies --once).")
@click.option(
    "--now",
    is_flag=True,
    help="Let the daemon make its pass now, wait for it and exit with its status; without a daemon as --once.",
)
@click.option(
    "--only",
    metavar="NAME",
    multiple=True,
    shell_complete=issuer_names,
    help="Only this issuer; may be given several times.",
)
@click.option("--shard", metavar="I/N", help="Only the issuers of part I (from 0) of N: for an Indexed Job.")
@output_option("Format of the report. The daemon writes only JSON, one line for each pass.")
@click.option(
    "--last-good/--no-last-good",
    default=True,
    show_default=True,
    help="The daemon starts with a copy of its last good configuration when the files are broken.",
)
@common_options
def run(ctx: click.Context, /, **given: Any) -> None:
    """Poll every apiserver, validate the answers, commit changes, publish them, and read them back anonymously.

    Without --once, --now or --dry-run this is the daemon: a pass every `interval`, a status page and metrics on
    `http.listen`. SIGHUP reads the configuration again, SIGUSR1 makes a pass now, SIGTERM ends it within 10 seconds.

    Exit status of a pass: 0 everything is current; 1 something failed; 2 usage or configuration error; 3 a change waits
    for an operator, and nothing failed. The daemon's: 0 after a stop; 1 after `max_failures` failed passes; 2.
    """
    is_daemon = not (given["once"] or given["dry_run"] or given["now"])
    if is_daemon:
        end_quietly()
        share_one_heap()
    may_begin = is_daemon and given["last_good"]
    carry_out(ctx, "mirror.cli.run:main", given, has_copy=lambda: may_begin and _has_copy(common(ctx).config))


def _has_copy(config: Path) -> bool:
    """Whether a daemon of this file may begin with its last good configuration."""
    from mirror.config.load import LastGood  # noqa: PLC0415  only where the files are broken

    return LastGood.of(config, os.environ).load(os.environ) is not None


@click.command(
    "status", epilog=examples("oidc-mirror status", "oidc-mirror status syd-prod", "oidc-mirror status --watch")
)
@click.argument("name", required=False, shell_complete=issuer_names)
@output_option("How the status is written; JSON always has every detail.")
@click.option("--verbose", is_flag=True, help="The details of every issuer, as with NAME.")
@click.option("--watch", is_flag=True, help="Print the status again every few seconds, until Ctrl-C; needs a terminal.")
@common_options
def status(ctx: click.Context, /, **given: Any) -> None:
    """Show one line for each issuer, the worst first; with NAME all details of that issuer.

    A line has the state, the keys, and what happens next. The details are keys with their dates, pending changes,
    drift, events of the last seven days, and public objects that no configured issuer owns.

    Reads git, the buckets and the public URLs; asks no apiserver and changes nothing.

    \b
    Exit status: as that of a pass. 1 when the last pass failed, nothing was ever public, or something could not be
    read; 3 when a change waits for an operator; else 0. With --watch it is that of the last drawing.
    """  # noqa: D301  \b is click's mark for a paragraph that is not re-wrapped
    carry_out(ctx, "mirror.cli.status:main", given)


@click.command(
    "history", epilog=examples("oidc-mirror history syd-prod", "oidc-mirror history --output html > history.html")
)
@click.argument("name", required=False, shell_complete=issuer_names)
@output_option("How the histories are written.", "html")
@common_options
def history(ctx: click.Context, /, **given: Any) -> None:
    """Show the life of every key of the issuer NAME, or of all: first seen, published, retiring, gone.

    Reads the repository on this machine, or else a temporary copy of the git remote. Changes nothing and takes no
    lock.

    Exit status: 0; 1 the repository could not be read; 2 usage or configuration error.
    """
    carry_out(ctx, "mirror.cli.history:main", given)


@click.command("wait", cls=KeyCommand, epilog=examples("oidc-mirror wait syd-prod 8HqzGbq1 --timeout 1h"))
@click.argument("name", shell_complete=issuer_names)
@click.argument("key")
@click.option(
    "--timeout",
    metavar="DURATION",
    default="30m",
    callback=read_by(duration),
    show_default=True,
    help="When to give up (exit status 1).",
)
@common_options
def wait(ctx: click.Context, /, **given: Any) -> None:
    """Return when KEY of the issuer NAME is safe to sign with: public, and no cache without it any more.

    KEY is a kid or a thumbprint, or a beginning of one, unique and of 8 characters or more; a kid that begins with
    `-` follows `--`. Looks at the public JWKS as an anonymous client does; needs no credentials.

    Exit status: 0 it is safe; 1 not within --timeout, or something could not be read; 2 usage or configuration error.
    """
    carry_out(ctx, "mirror.cli.status:wait", given)


@click.command("verify", epilog=examples("oidc-mirror verify syd-prod", "oidc-mirror verify --token-file token"))
@click.argument("name", required=False, shell_complete=issuer_names)
@click.option("--token-file", metavar="FILE", help="A token that is held against the public documents; - is stdin.")
@click.option(
    "--role-arn",
    metavar="ARN",
    callback=read_by(checked_arn),
    help="Log in to this role at AWS STS with the token, really.",
)
@output_option("How the answer is written.")
@common_options
def verify(ctx: click.Context, /, **given: Any) -> None:
    """Read the public documents of issuer NAME, or of all, as AWS, GCP and Entra do, and say what each would answer.

    Begins at the issuer and follows its jwks_uri; needs no credentials and changes nothing. A token chooses its issuer
    by its iss; it is not printed, and sent nowhere but to STS with --role-arn.

    \b
    Exit status: 0 when AWS would accept the documents, the token if there is one, and STS if it was asked; 1 otherwise.
    """  # noqa: D301  \b is click's mark for a paragraph that is not re-wrapped
    carry_out(ctx, "mirror.cli.verify:main", given)


@click.command("approve", cls=KeyCommand, epilog=examples("oidc-mirror approve syd-prod 8HqzGbq1"))
@click.argument("name", shell_complete=issuer_names)
@click.argument("key")
@decision_options
def approve(ctx: click.Context, /, **given: Any) -> None:
    """Publish the held KEY of the issuer NAME; another public key of the same kid begins to retire.

    KEY is a kid or a thumbprint, or the first 8 or more characters of one. A kid that begins with - follows --.

    Exit status: 0 the key is public by the ledger, and the pass found everything current; 1 the decision was not
    committed or not pushed, or the pass failed; 2 usage; 3 a change waits for an operator. The answer no changes
    nothing, and is 0.
    """
    carry_out(ctx, "mirror.cli.key_commands:approve_key", given)


@click.command(
    "revoke",
    cls=KeyCommand,
    epilog=examples('oidc-mirror revoke syd-prod 8HqzGbq1 --reason "the key of node 3 leaked"'),
)
@click.argument("name", shell_complete=issuer_names)
@click.argument("key", required=False)
@click.option("--all", "everything", is_flag=True, help="Every key that is known, public or not.")
@click.option("--reason", metavar="TEXT", required=True, help="The reason; it stays in the history.")
@click.option(
    "--last",
    is_flag=True,
    help="Even if no public key is left. Asks for the issuer's name; without a terminal it needs --yes.",
)
@decision_options
def revoke(ctx: click.Context, /, **given: Any) -> None:
    """Remove KEY of the issuer NAME from the public set, permanently and under every kid.

    KEY is a kid or a thumbprint, or the first 8 or more characters of one. A kid that begins with - follows --.

    Exit status: 0 the key is not public any more (with --no-pass: the revocation is committed and pushed); 1 it was not
    committed or not pushed, or the key is still public; 2 usage, also `--last` without `--yes` if there is no
    terminal; 3 it is held because nothing else is public, or a cache still shows the key. The answer no changes
    nothing, and is 0.
    """
    carry_out(ctx, "mirror.cli.key_commands:revoke_key", given)


@click.command("adopt", epilog=examples("oidc-mirror adopt syd-prod", "oidc-mirror adopt --branch"))
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=issuer_names)
@click.option("--all", "everything", is_flag=True, help="Every issuer that the history does not know yet.")
@click.option("--branch", is_flag=True, help="Sign the ledgers on the branch as they are, after reading the history.")
@decision_options
def adopt(ctx: click.Context, /, **given: Any) -> None:
    """Take over the public documents of issuers that the history does not know yet.

    Keys that an apiserver shows become published, the others of the public document begin to retire; what cannot be
    accepted is listed and left out.

    With --branch every ledger of the configuration is signed as it is on the branch, whatever its author: after the
    signing key was changed or stolen, or the branch was restored. Read the history first.

    Exit status: 0 adopted, and its pass found everything current; 1 something was not adopted, committed or pushed, or
    the pass failed; 2 usage; 3 a change waits for an operator. The answer no changes nothing, and is 0.
    """
    carry_out(ctx, "mirror.cli.key_commands:adopt_issuers", given)


@click.command(
    "check",
    epilog=examples(
        "oidc-mirror check",
        "oidc-mirror check syd-prod --verbose",
        'oidc-mirror check --explain "InvalidIdentityToken: Incorrect token audience"',
    ),
)
@click.argument("name", required=False, shell_complete=issuer_names)
@click.option("--fleet", is_flag=True, help="Compare every key of every issuer with every other one, and nothing else.")
@click.option(
    "--configuration", is_flag=True, help="Check only the configuration: no network, no secret, no other file."
)
@click.option(
    "--files", is_flag=True, help="With --configuration: also the CA, certificate, kubeconfig and token files it names."
)
@click.option("--notify", is_flag=True, help="Send a test message to notify.webhook_url_file, and nothing else.")
@click.option("--explain", metavar="TEXT", help="An error message of STS: print its causes, and check these first.")
@output_option("How the findings are written.")
@click.option("--verbose", is_flag=True, help="List what is in order too, and every issuer and place of a cause.")
@common_options
def check(ctx: click.Context, /, **given: Any) -> None:
    """Print what is wrong with the issuer NAME, or with all: each cause once, with its remedy and who shares it.

    Warnings come first, failures last, root causes before what follows from them. Looks at the configuration and its
    files, the apiservers and their keys, the git remote, the AWS credentials, the bucket, its policy and the writer's
    rights, and at the public URLs as AWS does. Changes nothing, also while a daemon runs. `status` reports whether a
    change waits for an operator.

    \b
    Exit status:
      0  nothing failed (there may be warnings)
      1  a finding failed; with --fleet: two keys share a prime, so the owner of one can compute the other
      2  usage or configuration error
    """  # noqa: D301  \b is click's mark for a paragraph that is not re-wrapped
    carry_out(ctx, "mirror.cli.check:main", given)


@click.command(
    "init",
    epilog=examples(
        "oidc-mirror init --kubeconfig ~/.kube/config --complete > mirror.yaml",
        "oidc-mirror init --kubeconfig ~/.kube/config --context syd-prod > clusters.d/syd-prod.yaml",
    ),
)
@click.option(
    "--kubeconfig",
    metavar="FILE",
    required=True,
    envvar="KUBECONFIG",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="The kubeconfig.",
)
@click.option("--context", metavar="NAME", default=None, help="Its context; without it the current one.")
@click.option("--complete", is_flag=True, help="Print a whole first configuration, not only the entry.")
@common_options
def init(ctx: click.Context, /, **given: Any) -> None:
    """Ask a cluster, and print an issuer entry for it on stdout: YAML, a list of one, with what to check in comments.

    With --complete it is a whole first configuration with that entry: bucket and region come from the issuer.

    It needs no configuration, and changes nothing.

    \b
    Exit status: 0 the entry was printed; 1 the cluster did not answer, or its answer was rejected; 2 usage.
    """  # noqa: D301  \b is click's mark for a paragraph that is not re-wrapped
    call(ctx, "mirror.cli.init:main", given)


provision_options = all_of(
    (
        click.option("--dry-run", is_flag=True, help="Only list the differences."),
        yes_option,
        click.option(
            "--profile", metavar="PROFILE", help="The profile of the AWS configuration files to administer with."
        ),
        click.option(
            "--role-arn", metavar="ARN", callback=read_by(checked_arn), help="Assume this role first, to administer."
        ),
        common_options,
    )
)
"""The options of everything that is provisioned, and the global ones."""


@click.group("provision", epilog=examples("oidc-mirror provision bucket syd-prod --dry-run"))
def provision() -> None:
    """Make or correct what the mirror needs in AWS. Each command looks first, lists the differences, and asks.

    The credentials are those of the caller (environment, --profile, --role-arn), never the mirror's own of
    `publish.profile` and `publish.role_arn`: these need, and should have, no such rights.

    \b
    Exit status: 0 when all is as it should be; 1 when something could not be done; 2 usage or configuration error.
    """  # noqa: D301  \b is click's mark for a paragraph that is not re-wrapped


@provision.command("bucket", epilog=examples("oidc-mirror provision bucket syd-prod --dry-run --profile admin"))
@click.argument("name", shell_complete=issuer_names)
@click.option(
    "--remove-unlisted",
    is_flag=True,
    help="Close objects that exist and that this configuration does not publish.",
)
@provision_options
def bucket(ctx: click.Context, /, **given: Any) -> None:
    """Make or correct the bucket of the issuer NAME, for all issuers of the configuration that stand in it.

    Versioning on; a policy may open objects, ACLs may not; and the policy lets the public read exactly the published
    documents. Statements of others are kept; so is every object that our statement opened before, for another
    configuration, as long as it exists: they are listed, and --remove-unlisted closes them.
    """
    carry_out(ctx, "mirror.cli.provision:provision_bucket", given)


@provision.command("provider", epilog=examples("oidc-mirror provision provider syd-prod --profile admin"))
@click.argument("name", shell_complete=issuer_names)
@provision_options
def provider(ctx: click.Context, /, **given: Any) -> None:
    """Make or correct the IAM OIDC provider of the issuer NAME in the account of the credentials.

    Its URL is exactly the issuer. Its audiences are those that the configuration has for AWS, else sts.amazonaws.com;
    more audiences are reported and left. No thumbprint is set: IAM fills one in, which is reported.
    """
    carry_out(ctx, "mirror.cli.provision:provision_provider", given)


@click.command("schema", epilog=examples("oidc-mirror schema > mirror.schema.json"))
@common_options
def schema(_ctx: click.Context) -> None:
    """Print the JSON Schema of the configuration on stdout."""
    from mirror.config.schema import json_schema  # noqa: PLC0415  pydantic only when it is needed

    click.echo(json.dumps(json_schema(), indent=2))
