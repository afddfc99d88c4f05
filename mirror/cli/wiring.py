"""The composition root: the only place that puts real clients behind the protocols of `mirror.ports`."""

import fcntl
import os
import pwd
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from mirror.cli.text import admin_command
from mirror.concurrency import BUSY_SECONDS, available_cpus, within, worker_command
from mirror.config.settings import PublishSettings, Settings
from mirror.errors import BUSY_CODE, UsageError
from mirror.files import lock_owner
from mirror.history.ledger_reader import load_history
from mirror.history.ledger_store import load_ledger_trust, load_verification_keys
from mirror.history.repository import GitRepository, is_repository, temporary_clone
from mirror.log import logs_calls
from mirror.model import IssuerUrl, Ledger
from mirror.ports import Bucket, Ports, WebIdentityToken
from mirror.publish.listing import Target, bucket_identity
from mirror.reconcile import local_state
from mirror.reconcile.state import publications, trust_of

if TYPE_CHECKING:
    from mirror.check.ports import CheckClients
    from mirror.publish.s3 import S3Bucket
    from mirror.trust.ledger_signature import LedgerTrust


class _Buckets:
    """One adapter, and so one boto3 client, for all issuers that share a bucket and its credentials."""

    def __init__(self, puts: int) -> None:
        self._puts = puts
        self._lock = Lock()
        self._buckets: dict[Target, S3Bucket] = {}

    def __call__(self, publish: PublishSettings) -> Bucket:
        """The adapter for `publish`; boto3 is imported here, at the first call."""
        from mirror.publish.s3 import S3Bucket  # noqa: PLC0415  see the docstring

        identity = bucket_identity(publish)
        with self._lock:
            if identity not in self._buckets:
                self._buckets[identity] = S3Bucket(publish, puts=self._puts)
            return self._buckets[identity]

    def cancel(self) -> None:
        """Make whatever runs end soon."""
        for bucket in tuple(self._buckets.values()):
            bucket.cancel()

    def close(self) -> None:
        """Give the connections back."""
        for bucket in self._buckets.values():
            bucket.close()


def web_identity_token(publish: PublishSettings) -> WebIdentityToken | None:
    """See `mirror.ports.Ports`; read at each call, because such tokens are rotated on disk (facts.md#20)."""
    from mirror.aws.sessions import issuer_of_file, token_file  # noqa: PLC0415  botocore takes long to import

    path = token_file(publish, os.environ)
    issuer = issuer_of_file(path) if path is not None else None
    return WebIdentityToken(path, issuer) if path is not None and issuer is not None else None


@contextmanager
def open_ports(
    settings: Settings,
    *,
    dry_run: bool,
    ledger_trust: "Callable[[], LedgerTrust | None] | None" = None,
    keep_connections: bool = False,
) -> Iterator[Ports]:
    """The real world. A dry run sees git through a scratch copy, so that no ref and no file of ours moves.

    `ledger_trust` has the keys of an operator instead of the mirror's. `keep_connections`: another pass
    follows after `interval`, which may use the connections to apiservers of the one before.
    """
    # Not every command that imports this module opens the ports, and httpx and boto3 take long to import.
    from mirror.apiserver.client import KeptConnections, most_connections  # noqa: PLC0415  see above
    from mirror.apiserver.poller import ApiserverPoller  # noqa: PLC0415  see above
    from mirror.apiserver.process_pool import WorkerPool, process_count  # noqa: PLC0415  see above
    from mirror.publish.cloudfront import CloudFront  # noqa: PLC0415  see above
    from mirror.publish.public_endpoint import PublicHttpClient  # noqa: PLC0415  see above

    with ExitStack() as stack:
        repository = (
            stack.enter_context(temporary_clone(settings.repository, os.environ)) if dry_run else settings.repository
        )
        history = stack.enter_context(GitRepository(repository, environ=os.environ))
        buckets, web, cdn = _Buckets(settings.limits.puts), PublicHttpClient(), CloudFront()
        most = most_connections(settings.interval) if keep_connections else 0
        kept = KeptConnections(most) if most else None
        poller = ApiserverPoller(settings.limits, environ=os.environ, kept=kept)
        source: ApiserverPoller | WorkerPool = poller
        cores = 1 if logs_calls() else available_cpus()
        if process_count(settings.issuers, settings.limits, cores=cores, keeps=most) > 1:
            words = worker_command("mirror.cli.worker")
            source = WorkerPool(settings.limits, single_process=poller, command=words, cores=cores, keeps=most)
        for each in (buckets, web, cdn, source):
            stack.callback(each.close)

        def cancel() -> None:
            buckets.cancel()
            cdn.cancel()
            history.cancel()

        yield Ports(
            source=source,
            history=history,
            bucket=buckets,
            view=web,
            cdn=cdn,
            ledger_trust=ledger_trust
            or partial(load_verification_keys if dry_run else load_ledger_trust, settings.repository),
            own_token=web_identity_token,
            cancel=cancel,
        )


@contextmanager
def open_state_dir(settings: Settings, *, dry_run: bool) -> Iterator[None]:
    """Create the state directory and hold its lock: one `run` a state directory. A dry run needs neither.

    Another `run` is waited for, for `BUSY_SECONDS`.

    Raises:
        UsageError: It cannot be created or written, it is another user's and we are root, or another `run` holds it.
    """
    if dry_run:
        yield
        return
    refuse_foreign_root(settings)
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(settings.state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(
            f"The state directory {settings.state_dir} cannot be used.",
            cause=str(error.strerror),
            remedy="Create it, give this user the right to write there, or set `state_dir` to another place. "
            f"To run it as the service does: `{admin_command(sys.argv[1:])}`.",
        ) from error
    try:
        if not within(BUSY_SECONDS, lambda: _lock(descriptor)):
            raise _occupied(settings.state_dir)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def refuse_foreign_root(settings: Settings) -> None:
    """Keep root from leaving files in another user's state directory, which that user then cannot read.

    Root with its own directory, as in a container or in CI, is an ordinary user.

    Raises:
        UsageError: We are root, and the directory belongs to another user.
    """
    try:
        owner = settings.state_dir.stat().st_uid
    except OSError:
        return
    if os.geteuid() == 0 and owner != 0:
        raise UsageError(
            f"The state directory {settings.state_dir} belongs to {user_name(owner)}, and root would leave files there "
            "that the service cannot read.",
            remedy=f"Run it as the service does: `{admin_command(sys.argv[1:])}`.",
        )


def user_name(uid: int) -> str:
    """`the user NAME`, or its number where it has no name here."""
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user {uid}"


def _occupied(state_dir: Path) -> UsageError:
    """Who holds the directory, and how a pass is had from it: a daemon makes one at SIGUSR1."""
    pid = lock_owner(state_dir / "lock")
    who = "Another oidc-mirror" if not pid else f"Process {pid}, another oidc-mirror,"
    trigger = f"`kill -USR1 {pid}`" if pid else "SIGUSR1"
    return UsageError(
        f"{who} works in {state_dir}; it did not end within {BUSY_SECONDS:g} s.",
        remedy="If it is a daemon, `oidc-mirror --once --now` lets it make a pass, waits and gives its exit status; "
        f"{trigger} or `systemctl kill -s USR1 oidc-mirror` does not wait. "
        "Otherwise wait until it has ended, or give this one a `state_dir` of its own.",
        code=BUSY_CODE,
    )


@contextmanager
def open_check_clients(settings: Settings) -> "Iterator[CheckClients]":
    """The real world, for looking only."""
    from mirror.check.clients import AwsClient, HistoryInspector, lock_holder  # noqa: PLC0415  boto3 takes long to import
    from mirror.check.ports import CheckClients  # noqa: PLC0415  no pass needs it

    aws = AwsClient()
    try:
        with open_ports(settings, dry_run=True) as ports:
            yield CheckClients(
                source=ports.source,
                view=ports.view,
                bucket=ports.bucket,
                aws=aws,
                own_token=ports.own_token,
                history=HistoryInspector(
                    settings.repository, os.environ, issuers=[each.url for each in publications(settings)]
                ),
                lock_holder=lock_holder,
                cancel=ports.cancel,
            )
    finally:
        aws.close()


def known_ledgers(settings: Settings, issuers: Sequence[IssuerUrl]) -> Mapping[IssuerUrl, Ledger | None]:
    """The ledgers of `issuers`; None if there is none, or if it does not count.

    Raises:
        HistoryError: There is a repository, and it cannot be read.
    """
    if not is_repository(settings.repository.path):
        return dict.fromkeys(issuers)
    keys, local = load_verification_keys(settings.repository), local_state.load_local_state(settings.state_dir)
    with temporary_clone(settings.repository, os.environ) as copy, GitRepository(copy, os.environ) as repository:
        trust = trust_of(settings, repository, local, keys)
        return {url: known.ledger for url, known in load_history(repository, issuers, trust).issuers.items()}
