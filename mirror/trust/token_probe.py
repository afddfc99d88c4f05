"""The probe of a pass: compare the signing key of a fresh token of the cluster with the public keys.

If a cluster signs with a key that is not public, its pods lose their access, each at the next renewal of its token.
The token's audience and its rights do not matter here.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from mirror.addresses.issuer_urls import describe_difference
from mirror.model import Event, IssuerName, IssuerUrl, Key, Ledger, Level, Reason, Status
from mirror.text import in_words
from mirror.trust.parsing import Rejected, quote, shell_argument
from mirror.trust.tokens import Token, expired_since, read_token, recorded_signer, signing_key

_NO_FAILURE = frozenset({Status.HELD, Status.REVOKED})
"""A held key waits for an operator, which the exit status already reports. An operator rejected a revoked key."""

RENEWED_WITHIN = timedelta(hours=25)
"""kubelet renews a projected token at 80 % of its life, and after 24 hours at the latest; plus a margin."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of a probe: empty when the signing key is public."""

    events: tuple[Event, ...] = ()
    failures: tuple[Reason, ...] = ()


def read_probe_token(body: bytes, issuers: tuple[IssuerUrl, ...], *, file: str, now: datetime) -> Token | Event:
    """Give the token for the probe, or the warning `probe.unusable` with the reason why it proves nothing.

    Args:
        body: the content of the file.
        issuers: the issuer's text, followed by those of its former ones.
        file: the file's name, for the sentence.
        now: aware, UTC.
    """
    token = read_token(body)
    if isinstance(token, Rejected):
        return unusable(file, token.reasons[0].code, token.reasons[0].sentence, token.reasons[0].remedy)
    if token.issuer not in issuers:
        how = describe_difference(token.issuer, issuers[0])
        sentence = f"Its iss is {quote(token.issuer)}, the issuer {quote(issuers[0])}; {how}."
        return unusable(file, "wrong_issuer", sentence, "Project a token of this cluster into it.")
    since = expired_since(token, now)
    if since is not None:
        sentence = f"It expired {in_words(since)} ago, so the key that signs today may be another one."
        return unusable(file, "expired", sentence, "Let kubelet project it (it renews the file), or write it again.")
    return token


def is_fresh(token: Token, now: datetime) -> bool:
    """Return whether the token's signing key most likely signs today; a token that lives for a year proves nothing."""
    return token.issued_at is not None and now - token.issued_at <= RENEWED_WITHIN


def unusable(file: str, cause: str, sentence: str, remedy: str) -> Event:
    """The warning `probe.unusable`. It is no failure, because no fault is known."""
    text = f"The probe token in {quote(file)} cannot be used, so the signing key is not checked. {sentence} {remedy}"
    return Event("probe.unusable", text.strip(), Level.WARNING, {"cause": cause, "file": file})


_ENDING = frozenset({Status.RETIRING, Status.DROPPED, Status.REVOKED})
_SERVICE_ACCOUNT = re.compile(r"system:serviceaccount:([a-z0-9-]{1,63}):([a-z0-9.-]{1,253})")


@dataclass(frozen=True, slots=True)
class EndingToken:
    """Why apiservers reject the mirror's own token, now or soon: a code, and two texts for the operator."""

    cause: str
    sentence: str
    remedy: str


def ending_token(
    token: Token, ledger: Ledger, former: Collection[IssuerUrl], *, file: str, is_refused: bool, now: datetime
) -> EndingToken | None:
    """Why the token of `auth.token_file` becomes invalid before its expiry, or None if no reason is known.

    kube-apiserver accepts a token while it lists its `iss` (--service-account-issuer) and its key
    (--service-account-key-file).

    Args:
        token: the mirror's own token.
        ledger: what is known of the issuer's keys.
        former: the former issuers of the entry.
        file: the file of the token, for the sentences.
        is_refused: an apiserver answered it with 401 in this pass. Then a key that is only older than another public
            key is a cause too: the first apiservers may no longer have it.
        now: aware, UTC.
    """
    kid, remedy = quote(token.kid), _renewal(token, file)
    if token.issuer in former:
        sentence = f"Its iss is {quote(token.issuer)}, a former issuer. Apiservers that no longer list it refuse it."
        return EndingToken("former_issuer", sentence, remedy)
    records = {record.status: record for record in ledger.records if record.key.kid == token.kid}
    ending = sorted(_ENDING & set(records))
    if ending:
        sentence = f"Key {kid} signed it, and that key is {ending[0]}. Apiservers without the key refuse it."
        return EndingToken("retiring_key", sentence, remedy)
    signed_with = records.get(Status.PUBLISHED)
    if not is_refused or signed_with is None or expired_since(token, now) is not None:
        return None
    newer = [each for each in ledger.records if each.status is Status.PUBLISHED]
    if all(each.first_seen <= signed_with.first_seen for each in newer):
        return None
    sentence = f"Key {kid} signed it, and a newer key is public. An apiserver without the old key refuses it."
    return EndingToken("older_key", sentence, remedy)


def _renewal(token: Token, file: str) -> str:
    found = _SERVICE_ACCOUNT.fullmatch(token.subject)
    namespace, name = found.groups() if found else ("NAMESPACE", "SERVICEACCOUNT")
    command = f"kubectl -n {namespace} create token {name} --duration 24h > {shell_argument(file)}"
    return f"Renew it now: `{command}`. kubelet renews a projected token by itself."


def verify_probe_token(token: Token, public: Iterable[Key], *, name: IssuerName, ledger: Ledger) -> ProbeResult:
    """Return whether the key that signed the probe is public.

    Args:
        token: a token of the issuer that has not expired.
        public: the keys of the public JWKS.
        name: the issuer's label, for commands.
        ledger: what is known of its keys.

    Returns:
        Nothing, or the event `signing_key.not_public` (error), and a failure of the same code. A held signing key is
        no failure (it is reported as held), and neither is a key that an operator revoked.
    """
    found = signing_key(token, public, name=name, ledger=ledger)
    if not isinstance(found, Reason):
        return ProbeResult()
    sentence = (
        f"The cluster signs tokens that relying parties cannot verify; pods will lose their access. {found.sentence}"
    )
    fields = {"kid": token.kid, "cause": found.code}
    event = Event("signing_key.not_public", sentence, Level.ERROR, fields)
    record = recorded_signer(token, ledger)
    if record is not None and record.status in _NO_FAILURE:
        return ProbeResult((event,))
    return ProbeResult((event,), (Reason(event.name, sentence, found.remedy),))
