"""Read discovery documents from an apiserver and from the public URL, and render them (facts.md#2, #3).

The public document is never a copy: it is built from the ledger.
"""

import json
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from mirror.addresses import jwks_uri
from mirror.addresses.issuer_urls import describe_difference
from mirror.errors import UsageError
from mirror.model import (
    Answer,
    Documents,
    IssuerUrl,
    Key,
    KeyId,
    KeyPolicy,
    Ledger,
    Note,
    Observed,
    Reason,
    Thumbprint,
    Unusable,
    key_id,
)
from mirror.trust.jwks import KNOWN_TYPES, MAX_KEYS, is_printable_text, private_members, read_jwks, read_key
from mirror.trust.ledger import ALL_THUMBPRINTS, LedgerRead, ledger_text, read_ledger
from mirror.trust.lifecycle import empty_allowed, published_keys
from mirror.trust.parsing import Rejected, describe_json, quote, read_object

_DOCUMENT = "discovery"


@dataclass(frozen=True, slots=True)
class Discovery:
    """A validated discovery document; a foreign `jwks_uri` is a note (facts.md#12)."""

    issuer: IssuerUrl
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class DiscoveryRule:
    """The rule for one member: `fault(value, issuer)` is the sentence if it does not hold; its remedy and its source.

    `{name}` in the remedy is replaced by the name of the configured entry.
    """

    member: str
    code: str
    fault: Callable[[object, IssuerUrl], str | None]
    remedy: str
    citation: str


def read_discovery(body: bytes, *, issuer: IssuerUrl, jwks_uri: str, name: str = "NAME") -> Discovery | Rejected:
    """Read a discovery document (OpenID Connect Discovery 1.0, section 3); unknown members are ignored.

    Args:
        body: the bytes that the apiserver sent.
        issuer: the configured issuer, compared code point by code point (facts.md#30).
        jwks_uri: where we publish the JWKS; another one in the document is a note.
        name: of the configured entry, for the commands of remedies.

    Returns:
        The validated document, or all reasons: the codes of `read_object`, `wrong_issuer`, `wrong_response_types`,
        `wrong_subject_types`.
    """
    document = read_object(body, _DOCUMENT)
    if isinstance(document, Reason):
        return Rejected((document,))
    reasons = tuple(
        Reason(rule.code, f"{fault} ({rule.citation}).", rule.remedy.format(name=name), f"{_DOCUMENT} {rule.member}")
        for rule in RULES
        if (fault := rule.fault(document.get(rule.member), issuer)) is not None
    )
    return Rejected(reasons) if reasons else Discovery(issuer, _notes(document.get("jwks_uri"), jwks_uri))


def _notes(value: object, jwks_uri: str) -> tuple[Note, ...]:
    if value == jwks_uri:
        return ()
    sentence = f"The apiserver's jwks_uri is {describe_json(value)}; the mirror publishes {quote(jwks_uri)}."
    return (Note("foreign_jwks_uri", sentence),)


def _wrong_issuer(value: object, issuer: IssuerUrl) -> str | None:
    if value == issuer:
        return None
    sentence = f"The apiserver's issuer is {describe_json(value)}, the configured one {quote(issuer)}"
    if isinstance(value, str) and value.removesuffix("/") == issuer.removesuffix("/"):
        return f"{sentence}; they differ only in the trailing slash, which counts"
    return sentence


def _lacks(member: str, expected: str) -> Callable[[object, IssuerUrl], str | None]:
    sentence = f"The member {member} is not an array that contains {expected}"
    return lambda value, _: None if isinstance(value, list) and expected in value else sentence


_NOT_KUBERNETES = "Check which server answers at this address; kube-apiserver always sends it."

RULES = (
    DiscoveryRule(
        "issuer",
        "wrong_issuer",
        _wrong_issuer,
        "If the apiserver's issuer is the public URL, correct `issuer` of this entry. If you move the cluster to the "
        "configured one, this is expected until an apiserver has it as its first --service-account-issuer: "
        "`oidc-mirror render apiserver-flags {name} --keep-issuer OLD` prints the flags of the first step, with OLD "
        "the issuer that the cluster has now.",
        "OpenID Connect Discovery 1.0, section 4.3",
    ),
    DiscoveryRule(
        "response_types_supported",
        "wrong_response_types",
        _lacks("response_types_supported", "id_token"),
        _NOT_KUBERNETES,
        "OpenID Connect Discovery 1.0, section 3",
    ),
    DiscoveryRule(
        "subject_types_supported",
        "wrong_subject_types",
        _lacks("subject_types_supported", "public"),
        _NOT_KUBERNETES,
        "OpenID Connect Discovery 1.0, section 3",
    ),
)


_NOTHING: Mapping[str, object] = MappingProxyType({})

# Go's json.Marshal, which kube-apiserver uses, escapes these so that HTML and JavaScript can contain the JSON.
_GO_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def render(ledger: Ledger, extra: Mapping[str, object] = _NOTHING) -> Documents | None:
    """Give the documents for `ledger`, or None when nothing of this issuer must be public.

    An empty key set is published only when a revocation with `last` emptied it. If other revocations left no key,
    the key of `mirror.trust.lifecycle.kept_key` stays public.

    Raises:
        UsageError, ValueError: as `documents`.
    """
    keys = published_keys(ledger)
    return documents(ledger.issuer, keys, extra) if keys or empty_allowed(ledger) else None


def documents(issuer: IssuerUrl, keys: tuple[Key, ...], extra: Mapping[str, object] = _NOTHING) -> Documents:
    """Build both documents; for one key and our `jwks_uri` they equal the apiserver's own bytes (facts.md#2, #3).

    Args:
        issuer: the configured issuer.
        keys: validated keys, in any order; they are published by kid, then thumbprint.
        extra: further members of the discovery document (`discovery_extra`); they follow after the five, sorted.

    Raises:
        UsageError: `extra` would change one of the five members that the mirror itself writes.
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
    # The five members keep kube-apiserver's order; only the members after them are sorted.
    ours, theirs = _go_json(members), _go_json(extra, sort_keys=True)
    discovery = f"{ours[:-1]},{theirs[1:]}" if extra else ours
    jwks = _go_json({"keys": [key.members() for key in sorted(keys, key=key_id)]})
    return Documents(discovery.encode(), jwks.encode())


def _refuse_overlap(extra: Mapping[str, object], members: Mapping[str, object]) -> None:
    overlap = sorted(extra.keys() & members.keys())
    if overlap:
        raise UsageError(
            f"discovery_extra cannot set {', '.join(overlap)}: the mirror builds these from accepted keys.",
            remedy="Remove them from discovery_extra.",
        )


def _go_json(value: Mapping[str, object], *, sort_keys: bool = False) -> str:
    """Give `value` as Go's json.Marshal does: compact, UTF-8 unescaped but for what Go escapes."""
    text = json.dumps(dict(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sort_keys)
    return text.translate(_GO_ESCAPES)


def observe(
    answer: Answer,
    *,
    issuer: IssuerUrl,
    policy: KeyPolicy,
    already_checked: frozenset[Thumbprint],
    name: str = "NAME",
) -> Observed | Unusable:
    """Validate both documents of one apiserver; one bad document makes the whole observation unusable.

    Args:
        answer: the two bodies, not yet validated.
        issuer: the configured issuer.
        policy: the issuer's key policy.
        already_checked: thumbprints of keys whose strength was checked when they came into our own ledger.
        name: of the configured entry, for the commands of remedies.

    Returns:
        The validated keys with the notes of both documents, or all reasons of both documents.
    """
    discovery = read_discovery(answer.discovery, issuer=issuer, jwks_uri=jwks_uri(issuer), name=name)
    jwks = read_jwks(answer.jwks, policy=policy, already_checked=already_checked)
    if isinstance(discovery, Rejected) or isinstance(jwks, Rejected):
        reasons = tuple(reason for each in (discovery, jwks) if isinstance(each, Rejected) for reason in each.reasons)
        return Unusable(answer.apiserver, reasons, answer.date, answer.certificate_expires_at)
    notes = discovery.notes + jwks.notes
    return Observed(answer.apiserver, jwks.keys, notes, answer.date, answer.certificate_expires_at)


MAX_URL_CHARACTERS = 2048
_MIRROR = "Run a pass: `oidc-mirror run --once`; if it finds nothing to do, find out what else serves this URL."
UNKNOWN_KEY = "unknown_key_skipped"
"""The code of the note about a key of an unknown type."""
_PUBLIC = KeyPolicy(kid="opaque")


@dataclass(frozen=True, slots=True)
class PublicDiscovery:
    """A discovery document that relying parties can use: its `jwks_uri` and the algorithms that it names."""

    jwks_uri: str
    algorithms: tuple[str, ...]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """A JWKS that relying parties can use.

    `with_key_ops`: a key has the member key_ops, which not every relying party accepts.
    """

    keys: tuple[Key, ...]
    notes: tuple[Note, ...] = ()
    with_key_ops: bool = False


def other_jwks_uri(discovery: bytes | None, ours: str) -> str | None:
    """The `jwks_uri` of a public discovery document, if it is an https URL other than `ours`."""
    document = None if discovery is None else read_object(discovery, "discovery")
    uri = document.get("jwks_uri") if isinstance(document, Mapping) else None
    is_other = isinstance(uri, str) and uri != ours and uri.startswith("https://") and uri.isprintable()
    return uri if is_other and isinstance(uri, str) and len(uri) <= MAX_URL_CHARACTERS else None


def read_public_discovery(body: bytes, issuer: IssuerUrl) -> PublicDiscovery | Rejected:
    """Read a public discovery document (OpenID Connect Discovery 1.0, sections 3 and 4.3).

    Args:
        body: what anonymous requests get.
        issuer: the issuer at this URL, compared code point by code point (facts.md#30).

    Returns:
        The document, or all reasons: the codes of `read_object`, `wrong_issuer`, `wrong_jwks_uri`, `missing_member`.
    """
    document = read_object(body, "discovery")
    if isinstance(document, Reason):
        return Rejected((replace(document, remedy=_MIRROR),))
    reasons = _issuer_reasons(document.get("issuer"), issuer) + _uri_reasons(document.get("jwks_uri"))
    reasons += tuple(_missing(name) for name in _LISTS if not _is_list_of_texts(document.get(name)))
    if reasons:
        return Rejected(reasons)
    found = str(document["jwks_uri"])
    algorithms = document["id_token_signing_alg_values_supported"]
    assert isinstance(algorithms, list)  # noqa: S101  the table of lists said so; for mypy
    return PublicDiscovery(found, tuple(algorithms), _uri_notes(found, issuer))


def read_public_jwks(body: bytes, *, already_checked: frozenset[Thumbprint]) -> PublicKeys | Rejected:
    """Read a public JWKS by the same rules as apiservers' answers; any kid is accepted.

    Args:
        body: what anonymous requests get.
        already_checked: thumbprints of keys whose strength was checked before.

    Returns:
        The keys with a note for each that relying parties may not know, or all reasons of `read_jwks`.
    """
    named, repeated = _without_unnamed_copies(body)
    keys = read_jwks(named, policy=_PUBLIC, already_checked=already_checked)
    if isinstance(keys, Rejected):
        return Rejected(tuple(replace(reason, remedy=_MIRROR) for reason in keys.reasons))
    notes = tuple(Note(note.code, note.sentence.removesuffix(" It is left out.")) for note in keys.notes) + repeated
    return PublicKeys(keys.keys, notes, _has_key_ops(body))


def _without_unnamed_copies(body: bytes) -> tuple[bytes, tuple[Note, ...]]:
    """The set without entries with an empty kid that another entry repeats with a kid, and a note if there were any.

    The guide of AWS's pod identity webhook (SELF_HOSTED_SETUP.md) creates such sets, and AWS accepts them.
    """
    document = read_object(body, _DOCUMENT)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(entries, list):
        return body, ()
    named = [_material(each) for each in entries if isinstance(each, dict) and each.get("kid")]
    kept = [
        each for each in entries if not (isinstance(each, dict) and each.get("kid") == "" and _material(each) in named)
    ]
    if len(kept) == len(entries):
        return body, ()
    sentence = f"{len(entries) - len(kept)} of its keys have an empty kid and stand there with a kid as well."
    return json.dumps({**document, "keys": kept}).encode(), (Note("empty_kid", sentence),)


def _material(entry: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in entry.items() if name != "kid"}


def _has_key_ops(body: bytes) -> bool:
    document = read_object(body, "jwks")
    entries = document.get("keys") if isinstance(document, dict) else None
    return isinstance(entries, list) and any(isinstance(each, dict) and "key_ops" in each for each in entries)


def caching_note(cache_control: str) -> Note | None:
    """Give a note if caches may not store a document at all: many logins at once then fail (facts.md#27)."""
    said = {part.strip().lower().replace(" ", "") for part in cache_control.split(",")}
    forbidding = sorted(said & {"no-cache", "no-store", "max-age=0", "private"})
    if not forbidding:
        return None
    sentence = f"Cache-Control says {', '.join(forbidding)}: many logins at once make AWS fetch too often."
    return Note("not_cacheable", sentence)


def media_type_note(content_type: str, expected: tuple[str, ...]) -> Note | None:
    """Give a note if the media type is not one of `expected`: some relying parties check it."""
    if content_type.partition(";")[0].strip().lower() in expected:
        return None
    shown = quote(content_type) if content_type else "missing"
    return Note("content_type", f"The content type is {shown}, not {' or '.join(expected)}.")


_LISTS = ("response_types_supported", "subject_types_supported", "id_token_signing_alg_values_supported")


def _issuer_reasons(value: object, issuer: IssuerUrl) -> tuple[Reason, ...]:
    if value == issuer:
        return ()
    how = f"; {describe_difference(value, issuer)}" if isinstance(value, str) else ""
    sentence = (
        f"The document's issuer is {describe_json(value)}, not {quote(issuer)}{how} (OpenID Connect Discovery 1.0,"
        " section 4.3)."
    )
    return (Reason("wrong_issuer", sentence, _MIRROR, "discovery issuer"),)


def _uri_reasons(value: object) -> tuple[Reason, ...]:
    is_url = (
        is_printable_text(value, MAX_URL_CHARACTERS) and str(value).startswith("https://") and " " not in str(value)
    )
    if is_url:
        return ()
    sentence = f"The document's jwks_uri is {describe_json(value)}, and no https URL."
    return (Reason("wrong_jwks_uri", sentence, _MIRROR, "discovery jwks_uri"),)


def _uri_notes(value: str, issuer: IssuerUrl) -> tuple[Note, ...]:
    if value == jwks_uri(issuer):
        return ()
    sentence = f"The jwks_uri {quote(value)} is not where this mirror publishes; clouds follow it all the same."
    return (Note("foreign_jwks_uri", sentence),)


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)


def _missing(name: str) -> Reason:
    sentence = f"The document's {name} is not an array of texts (OpenID Connect Discovery 1.0, section 3)."
    return Reason("missing_member", sentence, _MIRROR, f"discovery {name}")


# ------------------------------------------------------------------------------ a public JWKS, key by key


PUBLIC_JWKS = "public jwks"
LOOK_AT_PUBLISHER = (
    "Find out who published it: relying parties reject tokens of this key once the document is replaced."
)


def parse_public_jwks(
    body: bytes | None, policy: KeyPolicy, *, already_checked: Container[Thumbprint] = frozenset()
) -> tuple[Mapping[KeyId, Key], tuple[Reason, ...]]:
    """The acceptable keys of the public JWKS, and every reason why others are rejected; both empty if it is absent.

    The strength of `already_checked` keys is not checked.
    Unlike an apiserver's answer, it is read key by key: one bad key must not remove the good keys from the public set.
    """
    if body is None:
        return {}, ()
    document = read_object(body, PUBLIC_JWKS)
    if isinstance(document, Reason):
        return {}, (document,)
    private = private_members(document, PUBLIC_JWKS)
    entries = document.get("keys")
    if private or not isinstance(entries, list) or len(entries) > MAX_KEYS:
        shape = Reason("no_keys", f"It holds no array of at most {MAX_KEYS} keys.", LOOK_AT_PUBLISHER, PUBLIC_JWKS)
        return {}, private or (shape,)
    read = [
        _read_public_entry(entry, f"{PUBLIC_JWKS} keys[{i}]", policy, already_checked)
        for i, entry in enumerate(entries)
    ]
    reasons = tuple(reason for each in read if isinstance(each, tuple) for reason in each)
    return {key_id(each): each for each in read if not isinstance(each, tuple)}, reasons


def _read_public_entry(
    entry: object, where: str, policy: KeyPolicy, already_checked: Container[Thumbprint]
) -> Key | tuple[Reason, ...]:
    if not isinstance(entry, dict) or entry.get("kty") not in KNOWN_TYPES:
        return (Reason("bad_key", "An entry of keys is no RSA or EC key.", LOOK_AT_PUBLISHER, where),)
    return read_key(entry, where, kid=policy.kid, already_checked=already_checked)


# ------------------------------------------------------------- the results of the previous pass, in memory

MAX_REMEMBERED_BYTES = 64 * 1024
"""Larger answers and ledgers are parsed in each pass, because they must not fill the memory."""

_Question = tuple[bytes, bytes, IssuerUrl, KeyPolicy, frozenset[Thumbprint]]
_Judged = tuple[_Question, Observed]


class BelievedAnswers:
    """What one process accepted in its last pass, only in memory.

    `observe` is a function of both bodies, the issuer, its key policy and the thumbprints that were checked before. Its
    result is reused only where all of these are equal. The times of an answer, its `Date` and the end of the
    certificate, come from each answer. A rejected answer is validated again in each pass.
    """

    def __init__(self) -> None:
        self._before: dict[_Question, _Judged] = {}
        self._now: dict[_Question, _Judged] = {}

    def begin_pass(self) -> None:
        """Drop the entries that the last pass did not see."""
        self._before, self._now = self._now, {}

    def knows(
        self, answer: Answer, *, issuer: IssuerUrl, policy: KeyPolicy, already_checked: frozenset[Thumbprint]
    ) -> bool:
        """Whether that answer was accepted under these rules."""
        return self._recall((answer.discovery, answer.jwks, issuer, policy, already_checked)) is not None

    def observe(
        self,
        answer: Answer,
        *,
        issuer: IssuerUrl,
        policy: KeyPolicy,
        already_checked: frozenset[Thumbprint],
        name: str = "NAME",
    ) -> Observed | Unusable:
        """Give what `mirror.trust.discovery.observe` gives."""
        question = (answer.discovery, answer.jwks, issuer, policy, already_checked)
        known = self._recall(question)
        if known is None:
            found = observe(answer, issuer=issuer, policy=policy, already_checked=already_checked, name=name)
            if isinstance(found, Unusable):
                return found
            known = (question, found)
        if len(answer.discovery) + len(answer.jwks) <= MAX_REMEMBERED_BYTES:
            # Keep the first objects, not the equal ones of this pass, so that memory of ended threads can be freed.
            self._now[known[0]] = known
        return replace(
            known[1],
            apiserver=answer.apiserver,
            date=answer.date,
            certificate_expires_at=answer.certificate_expires_at,
        )

    def _recall(self, question: _Question) -> _Judged | None:
        return self._now.get(question) or self._before.get(question)


class LedgerCache:
    """The last result of three pure functions for each issuer, only in memory.

    It caches the meaning of a ledger, not whether it is trusted: each pass checks signatures, their keys, heads and
    times. Each issuer has one entry per function, so the cache does not grow.
    """

    def __init__(self) -> None:
        self._read: dict[IssuerUrl, tuple[bytes, LedgerRead]] = {}
        self._texts: dict[IssuerUrl, tuple[Ledger, bytes]] = {}
        self._documents: dict[IssuerUrl, tuple[Ledger, str, Documents | None]] = {}

    def read(self, body: bytes, issuer: IssuerUrl) -> LedgerRead | Rejected:
        """Give what `mirror.trust.ledger.read_ledger` gives for `ALL_THUMBPRINTS`."""
        last = self._read.get(issuer)
        if last is not None and last[0] == body:
            return last[1]
        found = read_ledger(body, issuer=issuer, already_checked=ALL_THUMBPRINTS)
        if isinstance(found, LedgerRead) and len(body) <= MAX_REMEMBERED_BYTES:
            self._read[issuer] = (body, found)
        return found

    def text(self, ledger: Ledger) -> bytes:
        """Give what `mirror.trust.ledger.ledger_text` gives.

        Raises:
            ValueError: as `ledger_text`.
        """
        last = self._texts.get(ledger.issuer)
        if last is not None and last[0] == ledger:
            return last[1]
        text = ledger_text(ledger)
        if len(text) <= MAX_REMEMBERED_BYTES:
            self._texts[ledger.issuer] = (ledger, text)
        return text

    def render(self, ledger: Ledger, extra: Mapping[str, object]) -> Documents | None:
        """Give what `render` gives.

        Raises:
            UsageError, ValueError: as `render`.
        """
        # Compare as text, because differently written members can be equal: {"a": 1} equals {"a": True}.
        written = repr(dict(extra))
        last = self._documents.get(ledger.issuer)
        if last is not None and last[:2] == (ledger, written):
            return last[2]
        found = render(ledger, extra)
        if found is None or len(found.discovery) + len(found.jwks) <= MAX_REMEMBERED_BYTES:
            self._documents[ledger.issuer] = (ledger, written, found)
        return found
