"""Who signed a token: the public key that did, or why none did. Algorithms follow from keys, never from a token."""

from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from mirror.model import IssuerName, Key, KeyName, KeyRecord, Ledger, Reason, Status
from mirror.trust.material import public_key
from mirror.trust.tokens import Token
from mirror.trust.words import as_argument, quoted

_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_SHOWN_KIDS = 10


def is_signed_by(token: Token, key: Key) -> bool:
    """Tell whether `key` made the token's signature (RFC 7518, sections 3.3 and 3.4).

    The token's alg must be the key's own: another one of the same family is refused like any other.
    """
    if token.alg != key.alg:
        return False
    try:
        _verify(token, key)
    except (InvalidSignature, ValueError):
        return False
    return True


def _verify(token: Token, key: Key) -> None:
    verifier, digest = public_key(key), _HASHES[key.alg[2:]]
    if isinstance(verifier, rsa.RSAPublicKey):
        verifier.verify(token.signature, token.signing_input, padding.PKCS1v15(), digest)
    else:
        size_bytes = (verifier.key_size + 7) // 8
        verifier.verify(_der(token.signature, size_bytes), token.signing_input, ec.ECDSA(digest))


def _der(signature: bytes, size_bytes: int) -> bytes:
    """Give R and S, each of the curve's full length and side by side, as the library wants them.

    Raises:
        ValueError: it has another length: it is cut off, or in DER already (RFC 7518, section 3.4).
    """
    if len(signature) != 2 * size_bytes:
        raise ValueError("not R and S of full length")
    return encode_dss_signature(int.from_bytes(signature[:size_bytes]), int.from_bytes(signature[size_bytes:]))


def signing_key(token: Token, public: Iterable[Key], *, name: IssuerName, ledger: Ledger | None) -> Key | Reason:
    """Give the public key that signed the token, or why none did.

    Args:
        token: a well-formed token.
        public: the keys of the public JWKS.
        name: the issuer's label, for commands.
        ledger: what is known of the issuer's keys, public or not; only for the reason.

    Returns:
        The key, or `key_not_public` (the kid is not in the JWKS), `alg_mismatch`, or `bad_signature`.
    """
    keys = tuple(public)
    named = tuple(key for key in keys if key.kid == token.kid)
    found = next((key for key in named if is_signed_by(token, key)), None)
    if found is not None:
        return found
    record = recorded_signer(token, ledger)
    if record is not None and record.key not in keys and not (named and isinstance(record.key, KeyName)):
        return _not_public(token, record, name, keys)
    if not named:
        return _unknown(token, keys, name)
    if all(key.alg != token.alg for key in named):
        algorithms = ", ".join(sorted({key.alg for key in named}))
        sentence = f"The public key of kid {quoted(token.kid)} signs with {algorithms}, and the token says {token.alg}."
        return Reason("alg_mismatch", sentence, "Nobody but a forger would change it: find out who made this token.")
    sentence = f"The public key of kid {quoted(token.kid)} did not make this signature."
    remedy = "The token was changed or cut off, or another cluster's signer names its key alike: take a fresh one."
    return Reason("bad_signature", sentence, remedy)


def recorded_signer(token: Token, ledger: Ledger | None) -> KeyRecord | None:
    """Give the record of the key that signed the token, whatever its status; None when none is known.

    Where the material is not kept (dropped and most revoked keys) the kid alone must do: nothing is decided by it.
    """
    records = ledger.records if ledger is not None else ()
    named = [record for record in records if record.key.kid == token.kid]
    signed = (r for r in named if not isinstance(r.key, KeyName) and is_signed_by(token, r.key))
    return next(signed, None) or next((r for r in named if isinstance(r.key, KeyName)), None)


def _not_public(token: Token, record: KeyRecord, name: IssuerName, keys: tuple[Key, ...]) -> Reason:
    what, remedy = _FATES[record.status]
    words = {"name": name, "key": as_argument(record.key.thumbprint), "because": record.held_because or "by policy"}
    did = "is named by the token" if isinstance(record.key, KeyName) else "signed it"
    sentence = f"Key {record.key.thumbprint} (kid {quoted(token.kid)}) {did} and is not public: "
    told = f"{sentence}{what.format_map(words)}; {_shown(keys)}."
    return Reason("key_not_public", told, remedy.format_map(words))


def _unknown(token: Token, keys: tuple[Key, ...], name: IssuerName) -> Reason:
    sentence = f"The token is signed by kid {quoted(token.kid)}, which is not in the public JWKS; {_shown(keys)}."
    remedy = (
        f"Run `oidc-mirror run --dry-run --only {name}`: does an apiserver show this key? The public half of its"
        " signing key must stand in a --service-account-key-file too (fact 9)."
    )
    return Reason("key_not_public", sentence, remedy)


def _shown(keys: tuple[Key, ...]) -> str:
    return f"public is {', '.join(_kids(keys))}" if keys else "no key is public"


def _kids(keys: tuple[Key, ...]) -> Iterator[str]:
    yield from (quoted(key.kid) for key in keys[:_SHOWN_KIDS])
    if len(keys) > _SHOWN_KIDS:
        yield f"and {len(keys) - _SHOWN_KIDS} more"


_WAIT = "Wait for the next pass, and see `oidc-mirror status {name}`; `oidc-mirror wait {name} {key}` tells when."
_FATES: dict[Status, tuple[str, str]] = {
    Status.HELD: ("it is held ({because})", "Check it, then: oidc-mirror approve {name} {key}"),
    Status.PUBLISHED: ("the mirror publishes it, but the public JWKS does not have it (yet)", _WAIT),
    Status.RETIRING: ("the mirror publishes it, but the public JWKS does not have it", _WAIT),
    Status.DROPPED: (
        "it was dropped, since no apiserver had shown it for `retain_removed`",
        "Take a token of the current signing key, or put this one's public half back into --service-account-key-file.",
    ),
    Status.REVOKED: (
        "it is revoked, for ever",
        "Give the cluster a new signing key; every token of this one is refused on purpose.",
    ),
}
