"""`oidc-mirror history`: the life of every key, from git."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from mirror.cli.options import common, selected
from mirror.cli.text import KEY_COLOURS
from mirror.config.settings import RepositorySettings, Settings
from mirror.errors import HistoryError
from mirror.history.key_history import KeyHistories, KeyHistory, load_histories, to_json
from mirror.history.ledger_store import load_verification_keys
from mirror.history.repository import GitRepository, temporary_clone
from mirror.log import escaped
from mirror.model import IssuerName, IssuerUrl
from mirror.reconcile.state import publications
from mirror.text import moment

NamedHistories = tuple[IssuerName, IssuerUrl, KeyHistories]
"""An entry of the configuration, an issuer that is published for it, and the histories of that issuer's keys."""


def main(ctx: click.Context, *, name: str | None, output: str) -> None:
    """See `mirror.cli.commands.history`."""
    settings = selected(common(ctx).load(), () if name is None else (name,))
    histories = read(settings)
    if output == "json":
        click.echo(json.dumps(document(histories), indent=2))
    elif output == "html":
        from mirror.status.timeline import page  # noqa: PLC0415  jinja2 for the page alone

        click.echo(page(histories, now=datetime.now(UTC)), nl=False)
    else:
        click.echo("\n".join(lines(histories)))


def read(settings: Settings) -> tuple[NamedHistories, ...]:
    """The histories of the keys of every issuer of `settings`, former ones included.

    Raises:
        HistoryError: There is no history yet, or it cannot be read.
        RemoteError: There is none on this machine, and the remote cannot be fetched from.
    """
    keys = load_verification_keys(settings.repository)
    with opened(settings.repository) as repository:
        return tuple(
            (each.issuer.name, each.url, load_histories(repository, each.url, keys=keys))
            for each in publications(settings)
        )


@contextmanager
def opened(settings: RepositorySettings) -> Iterator["GitRepository"]:
    """A temporary view of the history: the local repository, or, where there is none, a copy of the remote.

    Raises:
        HistoryError: There is neither, or it cannot be read.
        RemoteError: The remote cannot be fetched from.
    """
    with temporary_clone(settings, os.environ) as copy, GitRepository(copy, os.environ) as repository:
        repository.prepare()
        if repository.heads().local is None and settings.remote is not None:
            repository.fetch(shallow=False)
            newest = repository.heads().remote
            if newest is not None:
                repository.fast_forward(newest, expect=None)
        if repository.heads().local is None:
            raise HistoryError(
                f"There is no history in {settings.path}"
                + (" and none in the git remote." if settings.remote else "."),
                remedy="It begins with the first pass: oidc-mirror --once",
            )
        yield repository


def document(histories: tuple[NamedHistories, ...]) -> dict[str, object]:
    """What `--output json` gives; its JSON Schema is `docs/reference/history.schema.json`."""
    issuers = [{"name": name, "issuer": issuer, **to_json(keys)} for name, issuer, keys in histories]
    return {"version": 1, "issuers": issuers}


# --------------------------------------------------------------------------------------------------- text


def lines(histories: tuple[NamedHistories, ...]) -> Iterator[str]:
    """The histories in words, line by line; everything from outside is escaped."""
    for name, issuer, found in histories:
        yield f"{click.style(name, bold=True)}  {escaped(issuer)}"
        if not found.keys:
            yield "  no keys yet"
        for history in found.keys:
            yield from _key_lines(history)
        for rotation in found.rotations:
            yield f"  rotation  {moment(rotation.at)}  commit {rotation.commit[:12]}"
            yield from (f"      new: {escaped(kid)}" for kid, _ in rotation.keys)
        for commit in found.unreadable:
            yield f"  commit {commit[:12]} is skipped: its ledger is missing or does not count"


def _key_lines(history: KeyHistory) -> Iterator[str]:
    record, status = history.record, str(history.status)
    shown = click.style(status, fg=KEY_COLOURS[status], bold=True)
    yield f"  key {escaped(record.key.kid)}  {record.key.alg or '-'}  {shown}"
    yield f"      thumbprint  {record.key.thumbprint}"
    yield f"      first seen  {moment(record.first_seen)}"
    for step in history.steps:
        until = "now" if step.until is None else moment(step.until)
        yield (
            f"      {step.status:<10}  {moment(step.since)}  to {until:<20}  "
            f"commit {step.commit[:12]}  {escaped(step.author)}"
        )
    if record.revocation is not None:
        yield f"      reason      {escaped(record.revocation.reason)}"
    elif record.held_because is not None:
        yield f"      held because  {escaped(record.held_because)}"
