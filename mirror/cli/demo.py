"""`oidc-mirror demo`: the main job, shown on a small world that starts, lives and ends on loopback."""

import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from mirror.cli.options import common_options, examples
from mirror.errors import UsageError
from mirror.redaction import describe
from mirror.report import ExitStatus

if TYPE_CHECKING:
    from mirror.demo import DemoKey, DemoWorld


@click.command("demo", epilog=examples("oidc-mirror demo", "oidc-mirror demo --serve"))
@click.option("--serve", is_flag=True, help="Keep the small world and its status page running, until Ctrl-C.")
@common_options
def command(ctx: click.Context, *, serve: bool) -> None:
    """Two apiserver replicas, an S3 server and a git repository: first pass, rotation, retirement, a refusal.

    Ctrl-C, SIGTERM and SIGHUP end it, its servers and its folder.
    """
    try:
        from mirror.demo import running_daemon, running_demo_world  # noqa: PLC0415  only with the extra
    except ImportError as error:
        raise UsageError(
            "The demo needs packages that are not installed.",
            cause=describe(error),
            remedy="In the checkout run `make demo`, or `pip install '.[demo]'` and then this command again.",
        ) from error
    status = ExitStatus.INTERRUPTED
    try:
        with _ended_by_signals() as is_ended, ExitStack() as stack:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="oidc-mirror-demo-"))
            world = stack.enter_context(running_demo_world(Path(name)))
            story = _Demo(world, is_ended)
            story.run()
            stack.enter_context(running_daemon(world))
            story.look_around()
            status = ExitStatus.CURRENT if story.succeeded else ExitStatus.FAILED
            if serve:
                story.wait()
            else:
                click.secho("\nThe small world ends here. `oidc-mirror demo --serve` keeps it running.", bold=True)
    except KeyboardInterrupt:
        click.echo("\nThe small world has ended.")
    ctx.exit(int(status))


@contextmanager
def _ended_by_signals() -> Iterator[Callable[[], bool]]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does; a shell that runs it in the background ignores SIGINT for it.

    A further signal does not break off the cleaning up. Gives a function that tells whether a signal came: Python drops
    an exception that is raised in a finalizer, so each step asks again.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    came: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        came.append(number)
        raise KeyboardInterrupt

    before = [(number, signal.signal(number, end)) for number in numbers]
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before:
            signal.signal(number, handler)


class _Demo:
    """The steps of the demo. Each runs the real command in a process of its own, exactly as it is printed."""

    def __init__(self, world: "DemoWorld", is_ended: Callable[[], bool]) -> None:
        self.world = world
        self._is_ended = is_ended
        self.succeeded = True
        self._step = 0

    def run(self) -> None:
        """Print all steps; at the end the issuer is healthy."""
        from mirror.demo import RETAIN_REMOVED_SECONDS, new_key  # noqa: PLC0415  only with the extra

        old, new = new_key(), new_key()
        click.echo(f"A small world runs in {self.world.folder}.")
        self._do("Create a bucket with exactly two public objects.", "provision", "bucket", "demo")
        self._pass("First pass: both replicas show one key.", lambda: self._show((old,), (old,)))
        self._pass("Second pass: nothing changed: no commit, no put.", lambda: None)
        self._pass(
            "A rotation begins: one replica has restarted with the new key. It is public at once, the old one stays.",
            lambda: self._show((old, new), (old,)),
        )
        self._pass("The second replica has it too.", lambda: self._show((old, new), (old, new)))
        self._pass("Both forgot the old key. It is retiring: its tokens live on.", lambda: self._show((new,), (new,)))
        self._pass(
            "Its time is over (3 s here, 24 h by default): it leaves.", lambda: time.sleep(RETAIN_REMOVED_SECONDS + 1)
        )
        self._pass(
            "One replica answers 403: nothing is taken from it, nothing public changes.", lambda: self._forbid(True)
        )
        self._pass("It is repaired, and all is well.", lambda: self._forbid(False))
        self.world.configure()  # from here on as in production

    def _show(self, first: "tuple[DemoKey, ...]", second: "tuple[DemoKey, ...]") -> None:
        for replica, keys in zip(self.world.replicas, (first, second), strict=True):
            replica.keys = keys

    def _forbid(self, forbids: bool) -> None:
        self.world.replicas[1].forbids = forbids

    def _pass(self, sentence: str, prepare: Callable[[], None]) -> None:
        prepare()
        self._do(sentence, "--once")

    def _do(self, sentence: str, *words: str) -> None:
        self._step += 1
        click.secho(f"\n{self._step}. {sentence}", bold=True)
        self._run(self._mirror(*words), with_errors=False)

    def look_around(self) -> None:
        """What is there in the end, by the commands that an operator uses; the daemon runs by now."""
        click.secho("\nA daemon goes on from here. How things stand:", bold=True)
        self._run(self._mirror("status"))
        click.secho("\nThe life of every key:", bold=True)
        self._run(self._mirror("history"))
        click.secho("\nWhat git remembers:", bold=True)
        self._run(("git", "--git-dir", str(self.world.git_dir), "log", "--format=%h %s", "main"))
        click.secho("\nWhat the public sees:", bold=True)
        self._run(self._curl("openid/v1/jwks"), may_be_missing=True)
        click.secho("\nThe daemon's status page:", bold=True)
        self._run(
            ("curl", "-sS", "-o", "/dev/null", "-w", r"%{http_code} %{content_type}\n", self.world.page_url),
            may_be_missing=True,
        )

    def _mirror(self, *words: str) -> tuple[str, ...]:
        return (str(self.world.program), *words)

    def _curl(self, path: str) -> tuple[str, ...]:
        from mirror.demo import ISSUER  # noqa: PLC0415  only with the extra

        to = f"::localhost:{self.world.s3_port}"
        return ("curl", "-sS", "-i", "--cacert", str(self.world.ca_file), "--connect-to", to, f"{ISSUER}/{path}")

    def _run(self, words: Sequence[str], *, with_errors: bool = True, may_be_missing: bool = False) -> None:
        """Print a command as it can be pasted, and what it prints; logs only where it failed."""
        self._end_if_asked()
        click.echo(f"   $ {shlex.join(words)}")
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603  words of ours
        except FileNotFoundError:
            if not may_be_missing:
                raise
            click.echo(f"   ({words[0]} is not installed)")
            return
        failed = done.returncode != 0
        said = done.stdout + (done.stderr if with_errors or failed else "")
        click.echo("\n".join(f"   {line}" for line in said.splitlines()))
        if failed:
            self.succeeded = False
            click.secho(f"   This should have ended with 0, and ended with {done.returncode}.", fg="red")

    def wait(self) -> None:
        """Keep everything running until the user ends it."""
        click.secho(f"\nEverything keeps running; the status page is {self.world.page_url}", bold=True)
        click.echo("Ctrl-C ends it and removes the folder. Until then, for another terminal:")
        history = f"{shlex.quote(str(self.world.folder / 'history.html'))}"
        click.echo(f"   $ {shlex.join(self._mirror('history', '--output', 'html'))} > {history}")
        for words in (("status",), ("--once", "--now"), ("check",), ("verify", "demo")):
            click.echo(f"   $ {shlex.join(self._mirror(*words))}")
        click.echo(f"   $ {shlex.join(self._curl('.well-known/openid-configuration'))}")
        while True:
            self._end_if_asked()
            time.sleep(3600)

    def _end_if_asked(self) -> None:
        if self._is_ended():
            raise KeyboardInterrupt
