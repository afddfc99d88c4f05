"""`oidc-mirror demo`: the main job, shown on a small world that starts, lives and ends on loopback."""

import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli.options import common_options
from mirror.errors import UsageError
from mirror.redaction import describe

if TYPE_CHECKING:
    from mirror.demo.world import DemoKey, DemoWorld


@click.command("demo")
@click.option("--serve", is_flag=True, help="Keep the small world running afterwards, until Ctrl-C.")
@common_options
@click.pass_context
def command(ctx: click.Context, *, serve: bool) -> None:
    """Two apiserver replicas, an S3 server and a git repository: first pass, rotation, retirement, a refusal."""
    try:
        from mirror.demo.world import running_demo_world  # noqa: PLC0415  only with the extra
    except ImportError as error:
        raise UsageError(
            "The demo needs packages that are not installed.",
            cause=describe(error),
            remedy="In the checkout run `make demo`, or `pip install '.[demo]'` and then this command again.",
        ) from error
    with tempfile.TemporaryDirectory(prefix="oidc-mirror-demo-") as name, running_demo_world(Path(name)) as world:
        story = _Demo(world)
        story.tell()
        if serve:
            story.wait()
        else:
            click.secho("\nThe small world ends here. `oidc-mirror demo --serve` keeps it, to look around.", bold=True)
        ctx.exit(0 if story.went_as_told else 1)


class _Demo:
    """The steps of the demo. Each runs the real command in a process of its own."""

    def __init__(self, world: "DemoWorld") -> None:
        self.world = world
        self.went_as_told = True
        self._step = 0

    def tell(self) -> None:
        """All steps, then how to look around."""
        from mirror.demo.world import new_key  # noqa: PLC0415  only with the extra

        old, new = new_key(), new_key()
        public, history, change = self._curl("openid/v1/jwks"), self._git("log", "--stat"), self._git("show")
        click.echo(f"A small world runs in {self.world.folder}.")
        self._pass("First pass: both replicas show one key.", lambda: self._show((old,), (old,)), public)
        self._pass("Second pass: nothing changed: no commit, no put.", lambda: None, history)
        self._pass(
            "A rotation begins: one replica has restarted with the new key. It is public at once, the old one stays.",
            lambda: self._show((old, new), (old,)),
            public,
        )
        self._pass("The second replica has it too.", lambda: self._show((old, new), (old, new)), history)
        self._pass(
            "Both forgot the old key. It is retiring: its tokens live on.", lambda: self._show((new,), (new,)), change
        )
        self._pass("Its time is over (3 s here, 24 h by default): it leaves.", self._let_time_pass, public)
        self._pass("One replica answers 403: refused; nothing public changes.", self._forbid, public, status=1)
        self._look_around()

    def _show(self, first: "tuple[DemoKey, ...]", second: "tuple[DemoKey, ...]") -> None:
        for replica, keys in zip(self.world.replicas, (first, second), strict=True):
            replica.keys = keys

    def _let_time_pass(self) -> None:
        from mirror.demo.world import RETAIN_REMOVED_SECONDS  # noqa: PLC0415  only with the extra

        time.sleep(RETAIN_REMOVED_SECONDS + 1)

    def _forbid(self) -> None:
        self.world.replicas[1].forbids = True

    def _pass(self, sentence: str, prepare: Callable[[], None], look: Sequence[str], *, status: int = 0) -> None:
        self._step += 1
        prepare()
        click.secho(f"\n{self._step}. {sentence}", bold=True)
        click.echo(f"   $ oidc-mirror --config {self.world.config_file} --once")
        done = subprocess.run(  # noqa: S603  our own command
            self.world.mirror_command, env=dict(self.world.environ), capture_output=True, text=True, check=False
        )
        click.echo("\n".join(f"   {line}" for line in done.stdout.splitlines()))
        if done.returncode != status:
            self.went_as_told = False
            click.echo(done.stderr)
            click.secho(f"   This pass should have ended with {status}, and ended with {done.returncode}.", fg="red")
        click.secho(f"   look: {shlex.join(look)}", dim=True)

    def _look_around(self) -> None:
        click.secho("\nWhat git remembers:", bold=True)
        self._run(*self._git("log", "--format=%h %s"))
        click.secho("\nWhat the public sees:", bold=True)
        self._run(*self._curl("openid/v1/jwks"), quiet_when_missing=True)

    def _git(self, *words: str) -> tuple[str, ...]:
        return ("git", "--git-dir", str(self.world.git_dir), *words, "main")

    def _curl(self, path: str) -> tuple[str, ...]:
        from mirror.demo.world import ISSUER  # noqa: PLC0415  only with the extra

        to = f"::localhost:{self.world.s3_port}"
        return ("curl", "-sS", "-i", "--cacert", str(self.world.ca_file), "--connect-to", to, f"{ISSUER}/{path}")

    def _run(self, *words: str, quiet_when_missing: bool = False) -> None:
        click.echo(f"   $ {shlex.join(words)}")
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603  words of ours
        except FileNotFoundError:
            if not quiet_when_missing:
                raise
            click.echo(f"   ({words[0]} is not installed)")
            return
        click.echo("\n".join(f"   {line}" for line in (done.stdout + done.stderr).splitlines()))
        self.went_as_told &= done.returncode == 0

    def wait(self) -> None:
        """Keep everything running until Ctrl-C."""
        click.secho("\nEverything keeps running; Ctrl-C ends it and removes the folder.", bold=True)
        prefix = [f"{name}={value}" for name, value in self.world.environ.items() if name.startswith("AWS_")]
        once = ["oidc-mirror", "--config", str(self.world.config_file), "--once"]
        click.echo(f"   $ {shlex.join(['env', *prefix, *once])}")
        click.echo(f"   $ {shlex.join(['oidc-mirror', '--config', str(self.world.config_file), 'verify'])}")
        click.echo(f"   $ {shlex.join(self._curl('.well-known/openid-configuration'))}")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            click.echo()
