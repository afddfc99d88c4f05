"""What one apiserver answered becomes an observation: believed as a whole, or not at all."""

from mirror.addresses import jwks_uri
from mirror.model import Answer, IssuerUrl, KeyPolicy, Observed, Thumbprint, Unusable
from mirror.trust.discovery import read_discovery
from mirror.trust.jwks import read_jwks
from mirror.trust.refused import Refused


def observe(
    answer: Answer, *, issuer: IssuerUrl, policy: KeyPolicy, known: frozenset[Thumbprint]
) -> Observed | Unusable:
    """Judge both documents of one apiserver; one bad one makes the whole observation unusable.

    Args:
        answer: the two bodies, not yet believed.
        issuer: the configured issuer.
        policy: the issuer's key policy.
        known: thumbprints of keys whose strength was checked when they came into our own ledger.

    Returns:
        The believed keys with the notes of both documents, or all reasons of both at once.
    """
    discovery = read_discovery(answer.discovery, issuer=issuer, jwks_uri=jwks_uri(issuer))
    jwks = read_jwks(answer.jwks, policy=policy, known=known)
    if isinstance(discovery, Refused) or isinstance(jwks, Refused):
        reasons = tuple(reason for each in (discovery, jwks) if isinstance(each, Refused) for reason in each.reasons)
        return Unusable(answer.apiserver, reasons, answer.date, answer.certificate_expires_at)
    notes = discovery.notes + jwks.notes
    return Observed(answer.apiserver, jwks.keys, notes, answer.date, answer.certificate_expires_at)
