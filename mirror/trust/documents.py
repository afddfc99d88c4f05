"""The two public documents, built from believed values alone, in the very bytes of kube-apiserver (facts 2, 3)."""

import json
from collections.abc import Mapping
from types import MappingProxyType

from mirror.addresses import jwks_uri
from mirror.errors import UsageError
from mirror.model import Documents, IssuerUrl, Key, Ledger, key_id
from mirror.trust.emptiness import may_be_empty, published_keys

_NOTHING: Mapping[str, object] = MappingProxyType({})

# Go's json.Marshal, which kube-apiserver uses, escapes these so that JSON can stand inside HTML and JavaScript.
_GO_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def render(ledger: Ledger, extra: Mapping[str, object] = _NOTHING) -> Documents | None:
    """Give the documents that `ledger` says, or None when nothing of this issuer is to be public.

    A set without keys goes public only when a revocation with `last` emptied it. Where other revocations left no key,
    the one of `mirror.trust.emptiness.kept_key` stays public.

    Raises:
        UsageError, ValueError: as `documents`.
    """
    keys = published_keys(ledger)
    return documents(ledger.issuer, keys, extra) if keys or may_be_empty(ledger) else None


def documents(issuer: IssuerUrl, keys: tuple[Key, ...], extra: Mapping[str, object] = _NOTHING) -> Documents:
    """Build both documents; for one key and our `jwks_uri` they equal the apiserver's own bytes (facts 2, 3).

    Args:
        issuer: the configured issuer.
        keys: believed keys, in any order; they are published by kid, then thumbprint.
        extra: further members of the discovery document (`discovery_extra`); they follow after the five, sorted.

    Raises:
        UsageError: `extra` would change one of the five members that the mirror vouches for.
        ValueError: `extra` holds what JSON cannot say (NaN, a lone surrogate).
    """
    members = {
        "issuer": issuer,
        "jwks_uri": jwks_uri(issuer),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": sorted({key.alg for key in keys}),
    }
    _refuse_overlap(extra, members)
    # The five keep kube-apiserver's order; only what follows them is sorted.
    ours, theirs = _go_json(members), _go_json(extra, sort_keys=True)
    discovery = f"{ours[:-1]},{theirs[1:]}" if extra else ours
    jwks = _go_json({"keys": [key.members() for key in sorted(keys, key=key_id)]})
    return Documents(discovery.encode(), jwks.encode())


def _refuse_overlap(extra: Mapping[str, object], members: Mapping[str, object]) -> None:
    overlap = sorted(extra.keys() & members.keys())
    if overlap:
        raise UsageError(
            f"discovery_extra cannot set {', '.join(overlap)}: the mirror builds these from what it believes.",
            remedy="Remove them from discovery_extra.",
        )


def _go_json(value: Mapping[str, object], *, sort_keys: bool = False) -> str:
    """Give `value` as Go's json.Marshal does: compact, UTF-8 unescaped but for what Go escapes."""
    text = json.dumps(dict(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sort_keys)
    return text.translate(_GO_ESCAPES)
