"""What is public at an issuer's URL, read as a relying party reads it: begin at the issuer, follow its `jwks_uri`."""

from dataclasses import dataclass, replace

from mirror.addresses import jwks_uri
from mirror.addresses.issuer_urls import difference
from mirror.model import IssuerUrl, Key, KeyPolicy, Note, Reason, Thumbprint
from mirror.trust.jwk import is_printable_text
from mirror.trust.jwks import read_jwks
from mirror.trust.parsing import read_object
from mirror.trust.refused import Refused
from mirror.trust.words import described, quoted

MAX_URL_CHARACTERS = 2048
_MIRROR = "Run a pass: `oidc-mirror run --once`; if it finds nothing to do, find out what else serves this URL."
UNKNOWN_KEY = "unknown_key_skipped"
"""The code of the note about a key of a type that nobody here knows."""
_PUBLIC = KeyPolicy(kid="opaque")


@dataclass(frozen=True, slots=True)
class PublicDiscovery:
    """A discovery document that relying parties can use: where it sends them, and the algorithms that it names."""

    jwks_uri: str
    algorithms: tuple[str, ...]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """A JWKS that relying parties can use.

    `with_key_ops` tells that a key has the member key_ops, which not every relying party takes.
    """

    keys: tuple[Key, ...]
    notes: tuple[Note, ...] = ()
    with_key_ops: bool = False


def read_public_discovery(body: bytes, issuer: IssuerUrl) -> PublicDiscovery | Refused:
    """Read a public discovery document (OpenID Connect Discovery 1.0, sections 3 and 4.3).

    Args:
        body: what the world gets.
        issuer: the issuer at whose URL it stands, compared code point by code point (fact 30).

    Returns:
        The document, or all reasons: the codes of `read_object`, `wrong_issuer`, `wrong_jwks_uri`, `missing_member`.
    """
    document = read_object(body, "discovery")
    if isinstance(document, Reason):
        return Refused((replace(document, remedy=_MIRROR),))
    reasons = _issuer_reasons(document.get("issuer"), issuer) + _uri_reasons(document.get("jwks_uri"))
    reasons += tuple(_missing(name) for name in _LISTS if not _is_list_of_texts(document.get(name)))
    if reasons:
        return Refused(reasons)
    found = str(document["jwks_uri"])
    algorithms = document["id_token_signing_alg_values_supported"]
    assert isinstance(algorithms, list)  # noqa: S101  the table of lists said so; this tells mypy
    return PublicDiscovery(found, tuple(algorithms), _uri_notes(found, issuer))


def read_public_jwks(body: bytes, *, known: frozenset[Thumbprint]) -> PublicKeys | Refused:
    """Read a public JWKS by the rules that apiservers' answers are read by; any kid will do.

    Args:
        body: what the world gets.
        known: thumbprints of keys whose strength was checked before.

    Returns:
        The keys with a note for each that relying parties may not know, or all reasons of `read_jwks`.
    """
    keys = read_jwks(body, policy=_PUBLIC, known=known)
    if isinstance(keys, Refused):
        return Refused(tuple(replace(reason, remedy=_MIRROR) for reason in keys.reasons))
    notes = tuple(Note(note.code, _unknown_key(note)) for note in keys.notes)
    return PublicKeys(keys.keys, notes, _has_key_ops(body))


def _has_key_ops(body: bytes) -> bool:
    document = read_object(body, "jwks")
    entries = document.get("keys") if isinstance(document, dict) else None
    return isinstance(entries, list) and any(isinstance(each, dict) and "key_ops" in each for each in entries)


def caching_note(cache_control: str) -> Note | None:
    """Give a note where caches may not keep a document at all, which makes logins fail in the crowd (fact 27)."""
    said = {part.strip().lower().replace(" ", "") for part in cache_control.split(",")}
    forbidding = sorted(said & {"no-cache", "no-store", "max-age=0", "private"})
    if not forbidding:
        return None
    sentence = f"Cache-Control says {', '.join(forbidding)}: many logins at once make AWS fetch too often (fact 27)."
    return Note("not_cacheable", sentence)


def media_type_note(content_type: str, expected: tuple[str, ...]) -> Note | None:
    """Give a note where the media type is not one of `expected`: some relying parties look at it (facts 32, 35)."""
    if content_type.partition(";")[0].strip().lower() in expected:
        return None
    shown = quoted(content_type) if content_type else "missing"
    return Note("content_type", f"The content type is {shown}, not {' or '.join(expected)} (facts 32, 35).")


_LISTS = ("response_types_supported", "subject_types_supported", "id_token_signing_alg_values_supported")


def _issuer_reasons(shown: object, issuer: IssuerUrl) -> tuple[Reason, ...]:
    if shown == issuer:
        return ()
    how = f"; {difference(shown, issuer)}" if isinstance(shown, str) else ""
    sentence = f"The document's issuer is {described(shown)}, not {quoted(issuer)}{how} (fact 30)."
    return (Reason("wrong_issuer", sentence, _MIRROR, "discovery issuer"),)


def _uri_reasons(shown: object) -> tuple[Reason, ...]:
    is_url = (
        is_printable_text(shown, MAX_URL_CHARACTERS) and str(shown).startswith("https://") and " " not in str(shown)
    )
    if is_url:
        return ()
    sentence = f"The document's jwks_uri is {described(shown)}, and no https URL."
    return (Reason("wrong_jwks_uri", sentence, _MIRROR, "discovery jwks_uri"),)


def _uri_notes(shown: str, issuer: IssuerUrl) -> tuple[Note, ...]:
    if shown == jwks_uri(issuer):
        return ()
    sentence = f"The jwks_uri {quoted(shown)} is not where this mirror publishes; clouds follow it all the same."
    return (Note("foreign_jwks_uri", sentence),)


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)


def _missing(name: str) -> Reason:
    sentence = f"The document's {name} is no array of texts (OpenID Connect Discovery 1.0, section 3)."
    return Reason("missing_member", sentence, _MIRROR, f"discovery {name}")


def _unknown_key(note: Note) -> str:
    return note.sentence.removesuffix(" It is left out.")
