"""The probe of a pass: read the token that the cluster signed, and hold it against the keys that the public sees.

The file is read in every pass, because kubelet renews it (facts.md#20); its token is sent nowhere. Without
`probe_token_file` the mirror's own `auth.token_file` serves, where it is a fresh token of the issuer: the same key
signed it.
"""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mirror.addresses import jwks_uri
from mirror.config.settings import Issuer
from mirror.files import read_small, why_unreadable
from mirror.model import Event, Key, Ledger, Level, Observation, Reason, Unusable
from mirror.publish.publisher import ObjectResults
from mirror.reconcile.state import IssuerPlan
from mirror.report import Effect
from mirror.trust.discovery import PublicKeys, read_public_jwks
from mirror.trust.lifecycle import published_keys
from mirror.trust.parsing import quote
from mirror.trust.token_probe import (
    EndingToken,
    ProbeResult,
    ending_token,
    is_fresh,
    read_probe_token,
    unusable,
    verify_probe_token,
)
from mirror.trust.tokens import MAX_TOKEN_BYTES, Token, read_token

_STANDING = (Effect.UNCHANGED, Effect.PUT, Effect.PLANNED)
_MAX_FILE_BYTES = MAX_TOKEN_BYTES + 2  # a line break


def attach_probe_token(planned: IssuerPlan, now: datetime) -> IssuerPlan:
    """The plan with the token to probe with, or with the warning why there is none."""
    try:
        found = _read(planned.issuer, now)
    except Exception as error:  # noqa: BLE001  looking on never costs the pass
        return replace(planned, events=(*planned.events, _internal_error(error)))
    if isinstance(found, Token) and found.issuer == planned.url:
        return replace(planned, probe=found)
    if isinstance(found, Event) and planned.url == planned.issuer.issuer:  # reported once, not for each former issuer
        return replace(planned, events=(*planned.events, found))
    return planned


def _read(issuer: Issuer, now: datetime) -> Token | Event | None:
    """The token of `probe_token_file`, or why there is none; without the key the mirror's own, where it will do."""
    if issuer.probe_token_file is not None:
        return _token_in(issuer.probe_token_file, issuer, now)
    if issuer.auth.token_file is None:
        return None
    own = _token_in(issuer.auth.token_file, issuer, now)
    return own if isinstance(own, Token) and is_fresh(own, now) else None


def check_own_token(planned: IssuerPlan, now: datetime) -> IssuerPlan:
    """The plan with the warning `credentials.retiring_key` where apiservers are about to refuse the mirror's own token.

    At a 401 in this pass that cause stands first in the apiserver's reason. The token is sent nowhere from here.
    """
    try:
        found = _ending(planned, now)
    except Exception as error:  # noqa: BLE001  looking on never costs the pass
        return replace(planned, events=(*planned.events, _internal_error(error)))
    if found is None:
        return planned
    observations = tuple(_explained(each, found) for each in planned.observations)
    if planned.url != planned.issuer.issuer:  # the warning once, not for each former issuer
        return replace(planned, observations=observations)
    file = str(planned.issuer.auth.token_file)
    sentence = f"The mirror's own token in {quote(file)} is about to be refused. {found.sentence} {found.remedy}"
    event = Event("credentials.retiring_key", sentence, Level.WARNING, {"cause": found.cause, "token_file": file})
    return replace(planned, observations=observations, events=(*planned.events, event))


def _ending(planned: IssuerPlan, now: datetime) -> EndingToken | None:
    file, outcome = planned.issuer.auth.token_file, planned.transition_result
    ledger = outcome.ledger if outcome is not None else planned.previous_ledger
    if file is None or ledger is None:
        return None
    try:
        token = read_token(read_small(file, _MAX_FILE_BYTES))
    except OSError:
        return None  # the apiservers' own reasons say so
    if not isinstance(token, Token):
        return None
    former = tuple(each.issuer for each in planned.issuer.former_issuers)
    unusable_answers = (each for each in planned.observations if isinstance(each, Unusable))
    is_refused = any(reason.code == "unauthorized" for each in unusable_answers for reason in each.reasons)
    return ending_token(token, ledger, former, file=str(file), is_refused=is_refused, now=now)


def _explained(observation: Observation, found: EndingToken) -> Observation:
    if not isinstance(observation, Unusable):
        return observation
    return replace(observation, reasons=tuple(_with_cause(each, found) for each in observation.reasons))


def _with_cause(reason: Reason, found: EndingToken) -> Reason:
    if reason.code != "unauthorized":
        return reason
    return replace(
        reason, sentence=f"{reason.sentence} {found.sentence}", remedy=f"{found.remedy} Otherwise: {reason.remedy}"
    )


def _token_in(file: Path, issuer: Issuer, now: datetime) -> Token | Event:
    try:
        body = read_small(file, _MAX_FILE_BYTES)
    except OSError as error:
        remedy = "Give the mirror the right to read it, or remove `probe_token_file`."
        return unusable(str(file), "unreadable", f"It cannot be read: {why_unreadable(error)}.", remedy)
    return read_probe_token(body, issuer.urls, file=str(file), now=now)


def check_probe_token(
    planned: IssuerPlan, published: ObjectResults, ledger: Ledger | None, public_jwks: bytes | None
) -> ProbeResult:
    """What the probe of one publication finds after (or, in a dry run, without) publishing.

    Args:
        planned: the plan, with its probe.
        published: what became of the objects.
        ledger: the ledger of the snapshot.
        public_jwks: the public JWKS as read back in this pass; None when it was not read or nothing came.
    """
    if planned.probe is None or ledger is None or not ledger.records:
        return ProbeResult()  # what is public, if anything, is not ours yet
    try:
        public = _public(planned, published, ledger, public_jwks)
        return verify_probe_token(planned.probe, public, name=planned.issuer.name, ledger=ledger)
    except Exception as error:  # noqa: BLE001  looking on never costs the pass
        return ProbeResult((_internal_error(error),))


def _public(
    planned: IssuerPlan, published: ObjectResults, ledger: Ledger, public_jwks: bytes | None
) -> tuple[Key, ...]:
    """The keys that the public sees: as read back in this pass, else as the snapshot has them."""
    if public_jwks is not None:
        shown = read_public_jwks(
            public_jwks, already_checked=frozenset(record.key.thumbprint for record in ledger.records)
        )
        return shown.keys if isinstance(shown, PublicKeys) else ()
    keys, url = published_keys(ledger), jwks_uri(planned.url)
    if any(each.url == url and each.effect in _STANDING for each in published.objects):
        return keys
    # It did not come to stand there: a key that is new in this pass is not public.
    before = published_keys(planned.previous_ledger) if planned.previous_ledger is not None else ()
    return tuple(key for key in keys if key in before)


def _internal_error(error: Exception) -> Event:
    # Only the kind: the text could repeat a part of the token.
    sentence = f"The probe failed unexpectedly ({type(error).__name__}), so the signing key is not checked."
    return Event("probe.unusable", f"{sentence} Please report this as a defect.", Level.WARNING, {"cause": "defect"})
