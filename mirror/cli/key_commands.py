"""`oidc-mirror approve`, `revoke` and `adopt`: what an operator decides about keys."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import click

from mirror.addresses import discovery_url, jwks_uri, object_key_of, object_keys
from mirror.cli.operator_session import (
    WORST_FIRST,
    KeyDecision,
    OperatorSession,
    ask,
    ask_for_name,
    commit,
    describe_keys,
    one_pass,
    open_session,
    reject,
    run_pass_and_exit,
)
from mirror.cli.options import common
from mirror.errors import BucketError, RemoteError, UsageError
from mirror.history.ledger_store import LedgerChange, commit_ledgers
from mirror.log import escaped
from mirror.model import (
    PUBLIC_STATUSES,
    KeyId,
    KeyPolicy,
    Ledger,
    ObjectKey,
    Observation,
    Reason,
    Status,
    Thumbprint,
    Unusable,
    key_id,
    key_name,
)
from mirror.ports import Ports, PublicResponse
from mirror.publish.publisher import reason_of
from mirror.reconcile.state import PublishedIssuer, ValidatedAnswers, validate_answers
from mirror.report import ExitStatus, Report
from mirror.text import moment
from mirror.trust.discovery import other_jwks_uri, parse_public_jwks
from mirror.trust.ledger import ALL_THUMBPRINTS
from mirror.trust.lifecycle import PassContext
from mirror.trust.operator_actions import (
    Adoption,
    adopt,
    approve,
    find_key,
    find_key_material,
    revoke,
)


@dataclass(frozen=True, slots=True)
class _Found:
    """What one publication would become, or why it cannot be adopted.

    `former_jwks` is the URL of the JWKS that the public discovery document names, where that is not ours.
    """

    publication: PublishedIssuer
    observations: tuple[Observation, ...]
    result: Adoption | Reason
    bodies: frozenset[bytes] = frozenset()
    former_jwks: str | None = None


def adopt_issuers(
    ctx: click.Context,
    *,
    names: tuple[str, ...],
    everything: bool,
    branch: bool,
    yes: bool,
    no_pass: bool,
    signing_key: Path | None,
) -> None:
    """See `mirror.cli.commands.adopt`."""
    if [bool(names), everything, branch].count(True) != 1:
        remedy = "Give one NAME or more, or `--all`, or `--branch`."
        raise UsageError("It must be clear what is adopted.", remedy=remedy)
    if branch:
        with open_session(common(ctx), (), signing_key=signing_key, as_it_is=True) as session:
            adopt_branch(ctx, session, yes=yes)
            run_pass_and_exit(ctx, session, no_pass=no_pass)
    with open_session(common(ctx), names, signing_key=signing_key, adopts=True) as session:
        wanted = _unknown(session, demanded=not everything)
        if not wanted:
            click.echo("The history knows every issuer already: there is nothing to adopt.")
            ctx.exit(ExitStatus.CURRENT)
        chosen = tuple(each for each in session.issuers if each in [publication.issuer for publication in wanted])
        adopt_documents(ctx, replace(session, issuers=chosen), wanted, yes=yes, no_pass=no_pass)


def adopt_branch(ctx: click.Context, session: OperatorSession, *, yes: bool) -> None:
    """Sign every ledger of the branch as it is, by compare-and-swap on the head that was shown.

    Raises:
        UsageError: Ledgers are not signed here.
        HistoryError: It could not be committed.
        RemoteError: It could not be pushed, or another push came first.
    """
    if session.trust.keys is None:
        raise UsageError(
            "Ledgers are not signed here: the branch needs no adoption.", remedy="Set `repository.signing_key` first."
        )
    ask(ctx, _branch_lines(session), "Sign these ledgers as they are?", yes=yes)
    changes = {each.url: LedgerChange(ledger, each.issuer.discovery_extra) for each, ledger in session.ledgers()}
    shared = session.settings.repository.remote is not None
    message = "Sign the ledgers of the branch as they are\n"
    result = commit_ledgers(
        session.committer(), session.history, changes, message=message, now=session.now, push=shared, attempts=1
    )
    if result.push_error is not None:
        raise RemoteError(
            "The signed ledgers were not pushed; the branch may have moved since it was shown.",
            cause=str(result.push_error),
            remedy="Read the history again, then: oidc-mirror adopt --branch",
        )
    click.echo(f"Committed as {result.commit}." if result.made else "Every ledger was signed already.")


def _branch_lines(session: OperatorSession) -> list[str]:
    """What an operator must see: the head and its author, and the keys of every issuer."""
    base = session.history.base
    versions = session.ports.history.versions(None, most=1, at=base) if base is not None else ()
    lines = [f"head    {base or 'none'}"]
    lines += [f"author  {escaped(each.author)} at {moment(each.when)}: {escaped(each.subject)}" for each in versions]
    for each, ledger in session.ledgers():
        lines.append(f"{each.issuer.name}: {escaped(each.url)}")
        lines += [
            f"  {record.status}: {key_name(record.key)}, thumbprint {record.key.thumbprint}"
            for record in ledger.records
            if record.status in PUBLIC_STATUSES or record.status is Status.REVOKED
        ]
    return lines


def adopt_documents(
    ctx: click.Context, session: OperatorSession, chosen: list[PublishedIssuer], *, yes: bool, no_pass: bool
) -> NoReturn:
    """Adopt what can be adopted of `chosen` in one commit, and end the command; what cannot be is reported (status 1).

    Raises:
        HistoryError: It could not be committed.
        RemoteError: It could not be pushed.
    """
    # All apiservers are asked at once.
    answers = session.ports.source.poll(session.issuers, turn=0, progress=lambda _: None)
    validated = validate_answers(session.issuers, answers, session.history)
    found = [_find(session, each, validated) for each in chosen]
    summary = [line for each in found for line in _lines(each)]
    decisions = [
        KeyDecision(each.publication, each.result.outcome, replaces=each.bodies, former_jwks=each.former_jwks)
        for each in found
        if isinstance(each.result, Adoption)
    ]
    if not decisions:
        click.echo("\n".join(summary))
        ctx.exit(ExitStatus.FAILED)
    ask(ctx, summary, "Adopt this?", yes=yes)
    commit(session, lambda _: decisions)
    so_far = ExitStatus.CURRENT if len(decisions) == len(found) else ExitStatus.FAILED
    run_pass_and_exit(ctx, session, no_pass=no_pass, so_far=so_far)


def _unknown(session: OperatorSession, *, demanded: bool) -> list[PublishedIssuer]:
    """The publications without a ledger; when `demanded`, each issuer must have one."""
    wanted = [each for each in session.publications() if session.history.issuers[each.url].ledger is None]
    left = [issuer.name for issuer in session.issuers if issuer not in [each.issuer for each in wanted]]
    if left and demanded:
        raise UsageError(
            f"The history knows {', '.join(left)} already; only what it does not know can be adopted.",
            remedy="See `oidc-mirror status`; decide about single keys with `approve` and `revoke`.",
        )
    return wanted


def _find(session: OperatorSession, publication: PublishedIssuer, validated: ValidatedAnswers) -> _Found:
    issuer = publication.issuer
    if issuer.name in validated.internal_errors:
        return _Found(publication, (), validated.internal_errors[issuer.name])
    observations = validated.observations[issuer.name]
    body = _public_jwks(publication, session.ports)
    if isinstance(body, Reason):
        return _Found(publication, observations, body)
    discovery = _public_discovery(publication, session.ports)
    former_jwks = other_jwks_uri(discovery, jwks_uri(publication.url))
    named = None if former_jwks is None else _named_jwks(publication, former_jwks, session.ports)
    if isinstance(named, Reason):
        return _Found(publication, observations, named)
    policy = replace(issuer.keys, revoked=session.revoked(issuer))
    given = PassContext(observations, issuer.expected_answers, session.now, suspects=validated.suspects)
    bodies = frozenset(each for each in (body, discovery) if each is not None)
    result = adopt(publication.url, body, policy, given, named_jwks=named)
    return _Found(publication, observations, result, bodies, former_jwks)


def _named_jwks(publication: PublishedIssuer, url: str, ports: Ports) -> bytes | Reason:
    """The JWKS that relying parties follow now; without it the keys that sign live tokens would be dropped unseen."""
    shown = _shown(publication, url, ports)
    if isinstance(shown, bytes):
        return shown
    if shown is not None:
        why = f"{shown.sentence} {shown.remedy}"
    else:
        publish = publication.issuer.publish
        key = object_key_of(url, publish.base_url, publish.prefix)
        stored = None if key is None else _stored(publication, key, ports)
        if stored is not None:
            return stored
        why = "It is not in the bucket, and `publish.readback.enabled` is false."
    sentence = f"The public discovery document names {url} as its keys, and that cannot be read: {why}"
    remedy = (
        "Make it readable, or remove the public discovery document if nothing trusts it any more; then adopt again."
    )
    return Reason("adopt.jwks_unread", sentence, remedy)


def _public_discovery(publication: PublishedIssuer, ports: Ports) -> bytes | None:
    """The discovery document that is replaced, as an anonymous client reads it, else as the bucket has it.

    It may be absent or unreadable for us: then the JWKS at our own place is all that there is.
    """
    publish = publication.issuer.publish
    found = _shown(publication, discovery_url(publication.url), ports)
    if not isinstance(found, bytes):
        discovery_key, _ = object_keys(publication.url, publish.base_url, publish.prefix)
        found = _stored(publication, discovery_key, ports)
    return found if isinstance(found, bytes) else None


def _public_jwks(publication: PublishedIssuer, ports: Ports) -> bytes | Reason | None:
    """The JWKS as an anonymous client reads it (`publish.readback` says how, and whether); None when there is none."""
    publish = publication.issuer.publish
    shown = _shown(publication, jwks_uri(publication.url), ports)
    if isinstance(shown, bytes):
        return shown
    # S3 answers 403 to anonymous requests for absent and for private objects: only the bucket itself knows.
    _, jwks_key = object_keys(publication.url, publish.base_url, publish.prefix)
    stored = _stored(publication, jwks_key, ports)
    return shown if shown is not None and isinstance(stored, bytes) else stored


def _shown(publication: PublishedIssuer, url: str, ports: Ports) -> bytes | Reason | None:
    """A document as an anonymous client reads it, or why it cannot; None where `publish.readback` is off."""
    readback = publication.issuer.publish.readback
    if not readback.enabled:
        return None
    look = ports.view.get_document(url, readback=readback)
    return look.body if isinstance(look, PublicResponse) else look.reason


def _stored(publication: PublishedIssuer, key: ObjectKey, ports: Ports) -> bytes | Reason | None:
    """A document as the bucket has it, or why it cannot be read; None where there is none."""
    try:
        stored = ports.bucket(publication.issuer.publish).get(key)
    except BucketError as error:
        return reason_of(error)
    return None if stored is None else stored.body


def _lines(found: _Found) -> list[str]:
    summary = [f"{found.publication.issuer.name}: {escaped(found.publication.url)}"]
    summary += [_unusable(each) for each in found.observations if isinstance(each, Unusable)]
    if isinstance(found.result, Reason):
        return [
            *summary,
            f"  not adopted: {escaped(found.result.sentence)}",
            f"    remedy: {escaped(found.result.remedy)}",
        ]
    outcome = found.result.outcome
    summary += [f"  {t.status}: key {key_name(t.key)} {t.sentence}" for t in outcome.transitions]
    summary += [f"  {event.level}: {escaped(event.sentence)}" for event in outcome.events]
    if found.former_jwks is not None:
        summary.append(
            f"  its keys were read from {escaped(found.former_jwks)}, which stays; `status` says when it may go"
        )
    summary += [f"  left out [{escaped(each.where)}]: {escaped(each.sentence)}" for each in found.result.left_out]
    return summary


def _unusable(each: Unusable) -> str:
    said = "; ".join(f"{reason.code}: {reason.sentence}" for reason in each.reasons)
    return f"  {escaped(each.apiserver)} gave no usable answer: {escaped(said)}"


def approve_key(ctx: click.Context, *, name: str, key: str, yes: bool, no_pass: bool, signing_key: Path | None) -> None:
    """See `mirror.cli.commands.approve`."""
    with open_session(common(ctx), (name,), signing_key=signing_key) as session:
        named = find_key(session.every_key(), key)
        if isinstance(named, Reason):
            reject(named)
        identity = key_id(named.key)
        decide_approval(session, identity)
        summary = describe_keys(session, lambda record: key_id(record.key) == identity)
        ask(ctx, summary, "Publish this key?", yes=yes)
        commit(session, lambda newest: decide_approval(newest, identity))
        run_pass_and_exit(ctx, session, no_pass=no_pass)


def decide_approval(session: OperatorSession, identity: KeyId) -> list[KeyDecision]:
    """The decision under each of the issuer's texts that has the key.

    Raises:
        UsageError: It cannot be approved under any of them.
    """
    decisions, refusals = [], []
    for each, ledger in session.ledgers():
        if all(key_id(record.key) != identity for record in ledger.records):
            continue
        outcome = approve(ledger, identity, session.now, revoked=session.revoked(each.issuer))
        if isinstance(outcome, Reason):
            refusals.append(outcome)
        else:
            decisions.append(KeyDecision(each, outcome, lambda merged: identity in map(key_id, merged.public_keys())))
    if not decisions:
        reject(refusals[0])
    return decisions


def revoke_key(
    ctx: click.Context,
    *,
    name: str,
    key: str | None,
    everything: bool,
    reason: str,
    last: bool,
    yes: bool,
    no_pass: bool,
    signing_key: Path | None,
) -> None:
    """See `mirror.cli.commands.revoke`."""
    if (key is None) is not everything:
        raise UsageError("It must be clear what is revoked.", remedy="Give one KEY, or `--all`.")
    if last and not yes and not sys.stdin.isatty():
        raise UsageError(
            (
                f"`--last` may remove the last public key of {name}, and there is no "
                "terminal to confirm it; nothing was changed."
            ),
            remedy="If that is meant, repeat the command with `--yes`.",
        )
    with open_session(common(ctx), (name,), signing_key=signing_key) as session:
        material = _material(session, name, key)
        decisions, held = decide_revocation(session, material, reason=reason, last=last)
        for each in held:
            click.echo(f"held: {escaped(each.sentence)}\n  remedy: {escaped(each.remedy)}", err=True)
        if held and not any(each.outcome.transitions for each in decisions):
            ctx.exit(ExitStatus.HELD)
        _ask_to_revoke(ctx, session, material, decisions, yes=yes)
        decisions = list(
            commit(session, lambda newest: decide_revocation(newest, material, reason=reason, last=last)[0])
        )
        status = ExitStatus.HELD if held else ExitStatus.CURRENT
        if no_pass:
            if any(_has_public_material(ledger, material) for _, ledger in session.ledgers()):
                click.echo("The key is still public: the next pass of a mirror takes it away.")
            ctx.exit(status)
        report = one_pass(session)
        found = {status, *(_public_state(session, each.publication, material, report) for each in decisions)}
        click.echo("Relying parties may trust it until they fetch the set again: deny its tokens there until then.")
        ctx.exit(min(found, key=WORST_FIRST.index))


def _ask_to_revoke(
    ctx: click.Context,
    session: OperatorSession,
    material: frozenset[Thumbprint],
    decisions: list[KeyDecision],
    *,
    yes: bool,
) -> None:
    """Ask; where no public key would be left, what is lost is named and the issuer's name has to be typed."""
    lines = describe_keys(session, lambda record: record.key.thumbprint in material)
    emptied = [each for each in decisions if not tuple(each.outcome.ledger.public_keys())]
    lost = [each for each in emptied if any(t.key.thumbprint in material for t in each.outcome.transitions)]
    if not lost:
        ask(ctx, lines, "Revoke permanently?", yes=yes)
        return
    name = lost[0].publication.issuer.name
    urls = " and ".join(escaped(each.publication.url) for each in lost)
    warning = (
        f"This removes the last public key of {name} ({urls}): clouds refuse every token of the cluster, and every pod "
        "loses its access. A revoked key never comes back."
    )
    ask_for_name(ctx, lines, warning, name, yes=yes)


def _public_state(
    session: OperatorSession, publication: PublishedIssuer, material: frozenset[Thumbprint], report: Report
) -> ExitStatus:
    """What became of the key in public: gone, still shown by a cache or kept as the last one (held), or failed."""
    publish, url = publication.issuer.publish, jwks_uri(publication.url)
    _, jwks_key = object_keys(publication.url, publish.base_url, publish.prefix)
    try:
        stored = session.ports.bucket(publish).get(jwks_key)
    except BucketError as error:
        click.echo(f"Whether {escaped(url)} still has the key is not known: {escaped(str(error))}", err=True)
        return ExitStatus.FAILED
    if stored is not None and _has_any(stored.body, material):
        click.echo(f"The key is still public in {escaped(url)}; the report above says why.", err=True)
        return ExitStatus.HELD if report.exit_status is ExitStatus.HELD else ExitStatus.FAILED
    if not publish.readback.enabled:
        return ExitStatus.CURRENT
    look = session.ports.view.get_document(url, readback=publish.readback)
    if isinstance(look, PublicResponse) and _has_any(look.body, material):
        click.echo(f"The key is gone from the bucket, and a cache still shows it in {escaped(url)}.", err=True)
        return ExitStatus.HELD
    return ExitStatus.CURRENT


def _has_any(jwks: bytes, material: frozenset[Thumbprint]) -> bool:
    keys, _ = parse_public_jwks(jwks, KeyPolicy(kid="opaque"), already_checked=ALL_THUMBPRINTS)
    return any(thumbprint in material for _, thumbprint in keys)


def _material(session: OperatorSession, name: str, key: str | None) -> frozenset[Thumbprint]:
    """The key material that is meant; without `key` all that is known."""
    known = session.every_key()
    if key is None:
        if not known.records:
            raise UsageError(f"No key of {name} is known yet.", remedy="Let a mirror make its first pass.")
        return frozenset(record.key.thumbprint for record in known.records)
    found = find_key_material(known, key)
    if isinstance(found, Reason):
        keep_out = "A key that is not known yet is kept out by its thumbprint in `keys.revoked` of the configuration."
        reject(replace(found, remedy=f"{found.remedy} {keep_out}"))
    return frozenset({found})


def decide_revocation(
    session: OperatorSession, material: frozenset[Thumbprint], *, reason: str, last: bool
) -> tuple[list[KeyDecision], list[Reason]]:
    """The revocation under each of the issuer's texts, and why it is held under others.

    Raises:
        UsageError: The reason is no text that the ledger can keep.
    """
    decisions, held = [], []
    for each, ledger in session.ledgers():
        outcome = revoke(ledger, material, now=session.now, reason=reason, last=last)
        if not isinstance(outcome, Reason):
            decisions.append(KeyDecision(each, outcome, lambda merged: not _has_public_material(merged, material)))
        elif outcome.code == "revocation.held":
            held.append(outcome)
        else:
            reject(outcome)
    return decisions, held


def _has_public_material(ledger: Ledger, material: frozenset[Thumbprint]) -> bool:
    return any(key.thumbprint in material for key in ledger.public_keys())
