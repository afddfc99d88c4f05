"""The limits of AWS, Google and Entra: the table of relying parties in the facts, as rows that can be told."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from mirror.model import IssuerUrl, Key
from mirror.trust.compatibility import (
    AWS_ISSUER_CHARACTERS,
    AWS_KEYS_OF_A_TYPE,
    ENTRA_ISSUER_CHARACTERS,
)
from mirror.trust.tokens import Token


class Party(StrEnum):
    """A cloud that trusts the public documents."""

    AWS = "AWS"
    GCP = "GCP"
    ENTRA = "Entra"


ALGORITHMS: dict[Party, tuple[str, ...]] = {
    Party.AWS: ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512"),
    Party.GCP: ("RS256", "ES256"),
    Party.ENTRA: ("RS256",),
}
AWS_AUDIENCE_CHARACTERS = 255
GCP_AUDIENCE_CHARACTERS = 256
GCP_AUDIENCES = 10
GCP_LIFETIME = timedelta(hours=48)
GCP_SUBJECT_BYTES = 127
ENTRA_AUDIENCE_CHARACTERS = 600


@dataclass(frozen=True, slots=True)
class Shown:
    """What a relying party looks at: the issuer, its public keys, the configured audiences and perhaps a token.

    `has_unknown_key` tells that the JWKS also holds a key of a type that nobody here knows.
    """

    issuer: IssuerUrl
    keys: tuple[Key, ...]
    audiences: tuple[str, ...] = ()
    token: Token | None = None
    has_unknown_key: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One limit of a relying party; `holds` is true where it does not apply."""

    party: Party
    code: str
    holds: Callable[[Shown], bool]
    sentence: str
    remedy: str = ""
    is_note: bool = False


def _can_use_a_key(party: Party) -> Callable[[Shown], bool]:
    return lambda shown: not shown.keys or any(key.alg in ALGORITHMS[party] for key in shown.keys)


def _can_use_every_key(party: Party) -> Callable[[Shown], bool]:
    """Whether no key is of a foreign algorithm; where all are, that is a refusal, and not told twice."""
    return lambda shown: not _can_use_a_key(party)(shown) or all(key.alg in ALGORITHMS[party] for key in shown.keys)


def _takes_the_algorithm(party: Party) -> Callable[[Shown], bool]:
    return lambda shown: shown.token is None or shown.token.alg in ALGORITHMS[party]


def _issuer_up_to(characters: int) -> Callable[[Shown], bool]:
    return lambda shown: len(shown.issuer) <= characters


def _audience_up_to(characters: int) -> Callable[[Shown], bool]:
    return lambda shown: shown.token is None or any(len(each) <= characters for each in _meant(shown, shown.token))


def _meant(shown: Shown, token: Token) -> tuple[str, ...]:
    """The token's audiences that count: the configured ones, or all where none are configured (or none is common)."""
    return tuple(each for each in token.audiences if each in shown.audiences) or token.audiences or ("",)


def _few_keys_of_each_type(shown: Shown) -> bool:
    return all(count <= AWS_KEYS_OF_A_TYPE for count in Counter(key.kty for key in shown.keys).values())


def _has_no_port(shown: Shown) -> bool:
    return ":" not in shown.issuer.removeprefix("https://").partition("/")[0]


def _is_short_lived(shown: Shown) -> bool:
    token = shown.token
    if token is None or token.expires_at is None or token.issued_at is None:
        return True
    return token.expires_at - token.issued_at < GCP_LIFETIME


def _says_when_issued(shown: Shown) -> bool:
    return shown.token is None or shown.token.issued_at is not None


def _has_short_subject(shown: Shown) -> bool:
    return shown.token is None or len(shown.token.subject.encode()) <= GCP_SUBJECT_BYTES


def _has_one_audience(shown: Shown) -> bool:
    return shown.token is None or len(shown.token.audiences) <= 1  # none at all is told for everybody


_RSA = "Sign with an RSA key: RS256 works everywhere (fact 26)."
_SHORTER = "Choose a shorter audience."

ROWS = (
    Row(
        Party.AWS,
        "aws_issuer_length",
        _issuer_up_to(AWS_ISSUER_CHARACTERS),
        "AWS accepts at most 255 characters of issuer.",
        "Give the cluster a shorter issuer.",
    ),
    Row(Party.AWS, "aws_issuer_port", _has_no_port, "AWS discourages an issuer with a port.", is_note=True),
    Row(
        Party.AWS,
        "aws_key_count",
        _few_keys_of_each_type,
        "AWS accepts at most 100 RSA and 100 EC keys (fact 34).",
        "Remove old key files from the apiservers.",
    ),
    Row(
        Party.AWS,
        "aws_audience_length",
        _audience_up_to(AWS_AUDIENCE_CHARACTERS),
        "AWS takes audiences of at most 255 characters.",
        _SHORTER,
    ),
    Row(
        Party.GCP,
        "gcp_keys",
        _can_use_a_key(Party.GCP),
        "Google accepts only RS256 and ES256, and no public key is for them.",
        _RSA,
    ),
    Row(
        Party.GCP,
        "gcp_some_keys",
        _can_use_every_key(Party.GCP),
        "Google accepts only tokens of the keys for RS256 and ES256.",
        is_note=True,
    ),
    Row(
        Party.GCP,
        "gcp_algorithm",
        _takes_the_algorithm(Party.GCP),
        "Google accepts only RS256 and ES256; the token is signed with another algorithm.",
        _RSA,
    ),
    Row(
        Party.GCP,
        "gcp_audience_length",
        _audience_up_to(GCP_AUDIENCE_CHARACTERS),
        "Google takes audiences of at most 256 characters.",
        _SHORTER,
    ),
    Row(
        Party.GCP,
        "gcp_audiences",
        lambda shown: len(shown.audiences) <= GCP_AUDIENCES,
        "Google takes at most 10 audiences a provider, and more are configured.",
        is_note=True,
    ),
    Row(
        Party.GCP,
        "gcp_lifetime",
        _is_short_lived,
        "Google accepts only tokens that live less than 48 hours.",
        "Set expirationSeconds of the projected token below 172800.",
    ),
    Row(
        Party.GCP,
        "gcp_no_iat",
        _says_when_issued,
        "Google wants to know when a token was issued, and this one has no iat.",
        "Take a projected token.",
    ),
    Row(
        Party.GCP,
        "gcp_subject_length",
        _has_short_subject,
        "Google takes at most 127 bytes as google.subject; this sub has more, so map a shorter attribute.",
        is_note=True,
    ),
    Row(
        Party.ENTRA,
        "entra_issuer_length",
        _issuer_up_to(ENTRA_ISSUER_CHARACTERS),
        "Entra accepts at most 600 characters of issuer.",
        "Give the cluster a shorter issuer.",
    ),
    Row(
        Party.ENTRA,
        "entra_unknown_key",
        lambda shown: not shown.has_unknown_key,
        "Entra refuses a whole JWKS for one key of a type that it does not know (fact 31).",
        "Run a pass: the mirror leaves such keys out.",
    ),
    Row(
        Party.ENTRA,
        "entra_keys",
        _can_use_a_key(Party.ENTRA),
        "Entra accepts only RS256, and no public key is for it.",
        _RSA,
    ),
    Row(
        Party.ENTRA,
        "entra_some_keys",
        _can_use_every_key(Party.ENTRA),
        "Entra accepts only tokens of the keys for RS256.",
        is_note=True,
    ),
    Row(
        Party.ENTRA,
        "entra_algorithm",
        _takes_the_algorithm(Party.ENTRA),
        "Entra accepts only RS256; the token is signed with another algorithm.",
        _RSA,
    ),
    Row(
        Party.ENTRA,
        "entra_one_audience",
        _has_one_audience,
        "Entra accepts only tokens with exactly one audience.",
        "Project a token of its own for Entra, with one audience.",
    ),
    Row(
        Party.ENTRA,
        "entra_audience_length",
        _audience_up_to(ENTRA_AUDIENCE_CHARACTERS),
        "Entra takes audiences of at most 600 characters.",
        _SHORTER,
    ),
)
