"""The command line: parse the arguments, run one command, return the exit status.

Commands are imported when they are called, so that `--help` is quick.
"""

import importlib
import os
import platform
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import click

import mirror
from mirror.cli.options import GLOBAL_OPTIONS, examples, global_options
from mirror.cli.text import admin_command
from mirror.errors import BUSY_CODE, MirrorError, UsageError
from mirror.log import LogFormat, configure, escaped, journal_prefix, wants_no_colours
from mirror.redaction import describe, redact_foreign
from mirror.report import ExitStatus


class Commands(click.Group):
    """The group of commands; without one, `run` is meant."""

    TABLE: ClassVar[dict[str, tuple[str, str]]] = {
        "run": ("mirror.cli.commands:run", "The daemon; with --once one pass, with --dry-run its plan."),
        "status": ("mirror.cli.commands:status", "Show what is public, what waits, and what leaves when."),
        "history": ("mirror.cli.commands:history", "Show the life of every key, from git."),
        "wait": ("mirror.cli.commands:wait", "Return when a key is safe to sign with."),
        "verify": ("mirror.cli.commands:verify", "Act as a relying party: what AWS, GCP and Entra would accept."),
        "approve": ("mirror.cli.commands:approve", "Publish a key that is held."),
        "revoke": ("mirror.cli.commands:revoke", "Remove a key from the public set permanently."),
        "adopt": ("mirror.cli.commands:adopt", "Take over documents that another tool published."),
        "check": ("mirror.cli.commands:check", "Find out what is wrong, each finding with its remedy."),
        "init": ("mirror.cli.commands:init", "Print an issuer entry from a live cluster."),
        "render": ("mirror.cli.render", "Print a piece of the federation, filled in from the configuration."),
        "provision": ("mirror.cli.commands:provision", "Make or correct the bucket, or the OIDC provider in IAM."),
        "schema": ("mirror.cli.commands:schema", "Print the JSON Schema of the configuration."),
        "demo": ("mirror.cli.demo", "Show the main job in a small world on loopback."),
    }
    """name: (module, and after a colon its command where that is not `command`; one line of help)"""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """All names, in the order of the table."""
        return list(self.TABLE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        """Import and give one command."""
        if cmd_name not in self.TABLE:
            return None
        module, _, name = self.TABLE[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name or "command")
        assert isinstance(command, click.Command)  # noqa: S101  the table is ours; for mypy
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's signature
        """The list of commands in the help, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in self.TABLE.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `run` where no command is named: `oidc-mirror --once` is `oidc-mirror run --once`."""
        if ctx.resilient_parsing:  # the shell asks what could stand here
            return super().parse_args(ctx, args)
        at = _first_word(args)
        if at == len(args) or (args[at].startswith("-") and args[at] not in ("--help", "-h", "--version")):
            args = [*args[:at], "run", *args[at:]]
        return super().parse_args(ctx, args)


def _first_word(args: Sequence[str]) -> int:
    """The index of what follows the global options."""
    at = 0
    while at < len(args):
        name = args[at].partition("=")[0]
        if name not in GLOBAL_OPTIONS:
            break
        at += 1 if "=" in args[at] else 2
    return min(at, len(args))


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(version_text())
        ctx.exit()


@click.group(
    cls=Commands,
    epilog=examples("oidc-mirror check", "oidc-mirror --once", "oidc-mirror status syd-prod", "oidc-mirror demo"),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version, its commit, Python and git, and exit.",
)
@global_options
@click.pass_context
def cli(ctx: click.Context, config: str, log_level: str | None, log_format: str) -> None:
    """Mirror the OIDC discovery documents of private Kubernetes clusters to git and a public S3 bucket.

    Without a command, `run` is meant. The options below are accepted before and after the command.

    \b
    Exit status:
      0  everything is current        2  usage or configuration error: nothing was done
      1  something failed             3  nothing failed, but a change waits for an operator
      75  another process holds the lock, or the port is taken: nothing was done, try again
      130  interrupted: the next pass finishes what was begun
    """  # noqa: D301  \b is click's mark for a paragraph that is not re-wrapped
    ctx.ensure_object(dict).update(config=config, log_level=log_level, log_format=log_format)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line, and give its exit status."""
    options: dict[str, Any] = {}
    words = list(sys.argv[1:] if args is None else args)
    try:
        status = cli.main(words, "oidc-mirror", standalone_mode=False, obj=options, color=_colours())
    except click.exceptions.Exit as stop:
        status = stop.exit_code
    except click.Abort as abort:
        status = _aborted(abort.__cause__, options)
    except KeyboardInterrupt as interrupt:
        status = _aborted(interrupt, options)
    except click.ClickException as error:
        error.show()
        status = ExitStatus.USAGE
    except MirrorError as error:
        show(error)
        status = ExitStatus.FAILED
        if isinstance(error, UsageError):
            status = ExitStatus.BUSY if error.code == BUSY_CODE else ExitStatus.USAGE
    except OSError as error:
        status = _denied(error, options)
    except Exception as error:  # noqa: BLE001  the last resort: people get a sentence, not our traceback
        status = _internal_error(error, options)
    return int(status or 0)


def _denied(error: OSError, options: dict[str, Any]) -> ExitStatus | int:
    """A file that this user may not look at, wherever it was met; any other failure is a defect."""
    if not isinstance(error, PermissionError) or error.filename is None:
        return _internal_error(error, options)
    show(
        MirrorError(
            f"This user cannot read {os.fsdecode(error.filename)}.",
            cause=error.strerror or "",
            remedy=f"Run it as the service does: `{admin_command(sys.argv[1:])}`; "
            "where there is no such service, as the user that runs the mirror.",
        )
    )
    return ExitStatus.FAILED


def _colours() -> bool | None:
    """What click calls `color`: False for never, None for wherever a terminal shows them."""
    return False if wants_no_colours(os.environ) else None


def _aborted(cause: BaseException | None, options: dict[str, Any]) -> int:
    """Ctrl-C. Click makes one exception of it, of Ctrl-C or Ctrl-D at a question, and of a stray EOFError of ours."""
    if isinstance(cause, EOFError):
        return _internal_error(cause, options)
    if isinstance(cause, KeyboardInterrupt):
        click.echo("Interrupted; the next pass finishes what this one began.", err=True)
    else:
        click.echo("\nNothing was done.", err=True)
    return ExitStatus.INTERRUPTED


def _internal_error(error: Exception, options: dict[str, Any]) -> int:
    if options.get("log_level") == "debug":
        log(error, options["log_format"])
    show(internal_error(error))
    return ExitStatus.FAILED


def show(error: MirrorError) -> None:
    """An error as people meet it: the sentence, the cause, the remedy; every problem of a configuration."""
    lines = [f"{click.style('error:', fg='red', bold=True)} {escaped(error.sentence)}"]
    lines += [f"  - {escaped(problem)}" for problem in (error.problems if isinstance(error, UsageError) else ())]
    lines += [f"  cause: {escaped(error.cause)}"] if error.cause else []
    lines += [f"  remedy: {escaped(error.remedy)}"] if error.remedy else []
    priority = journal_prefix("error")
    click.echo("\n".join(priority + line for line in lines), err=True, color=_colours())


_PACKAGE = Path(mirror.__file__).parent


def internal_error(error: BaseException) -> MirrorError:
    """`error` in one sentence: what it is, and which line of ours it came from."""
    said, name = describe(error), type(error).__name__
    said = said if said == name else f"{name}: {said}"
    return MirrorError(
        f"oidc-mirror met a defect of its own: {said} ({_place(error)}).",
        remedy="Please report it with this line; with `--log-level debug` the traceback is logged too.",
    )


def log(error: BaseException, log_format: LogFormat) -> None:
    """Write the traceback as one event of level debug."""
    text = redact_foreign("".join(traceback.format_exception(error)))
    lines = [escaped(line) for line in text.splitlines()]
    configure("debug", log_format).debug("program.defect", traceback=lines)


def _place(error: BaseException) -> str:
    """The innermost line of this package that the error came through, such as `mirror/reconcile/controller.py:12`."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_relative_to(_PACKAGE):
            return f"{file.relative_to(_PACKAGE.parent)}:{frame.lineno}"
    return "outside of its own files"


COMMIT_FILE = "COMMIT"
"""Stands in the package where it was built (`hatch_build.py`); a checkout has none, and asks git."""
UNKNOWN = "unknown"
_SECONDS = 5.0


def version_text(package: Path = Path(mirror.__file__).parent) -> str:
    """The lines of `--version`; `package` is the folder of the program."""
    found = (("commit", commit_of(package)), ("Python", platform.python_version()), ("git", _git_version()))
    return "\n".join((f"oidc-mirror, version {mirror.__version__}", *(f"{name:<6}  {value}" for name, value in found)))


def commit_of(package: Path) -> str:
    """The whole id of the commit: as the build wrote it, else that of the checkout; `unknown` outside of both."""
    try:
        return (package / COMMIT_FILE).read_text("ascii").strip() or UNKNOWN
    except (OSError, ValueError):
        pass
    if not (package.parent / ".git").exists():  # some other repository may lie around an installation
        return UNKNOWN
    return _git("--git-dir", str(package.parent / ".git"), "rev-parse", "--verify", "HEAD") or UNKNOWN


def _git_version() -> str:
    return _git("--version").removeprefix("git version ") or "not found"


def _git(*words: str) -> str:
    """What git prints; empty where there is none, or where it fails."""
    program = shutil.which("git")
    if program is None:
        return ""
    import subprocess  # noqa: PLC0415  only this option asks git

    try:
        done = subprocess.run(  # noqa: S603  fixed words
            (program, *words), capture_output=True, text=True, check=False, timeout=_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
