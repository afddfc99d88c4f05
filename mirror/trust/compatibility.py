"""What a relying party may not accept although we believe it: notes, from the table of relying parties in the facts."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from mirror.model import IssuerUrl, Key, Note
from mirror.trust.documents import documents

Keys = tuple[Key, ...]

AWS_ISSUER_CHARACTERS = 255
AWS_KEYS_OF_A_TYPE = 100
ENTRA_ISSUER_CHARACTERS = 600
NIMBUS_JWKS_BYTES = 51_200
_PORT = re.compile(r"https://[^/]*:[0-9]+(?:/|$)")


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a relying party: whether it `is_met`, the sentence when it is not, and the source."""

    code: str
    is_met: Callable[[IssuerUrl, Keys], bool]
    sentence: str
    citation: str


def compatibility(issuer: IssuerUrl, keys: tuple[Key, ...]) -> tuple[Note, ...]:
    """Give a note for each relying party limit that the documents of `issuer` with `keys` do not meet.

    Args:
        issuer: the configured issuer.
        keys: the public keys, believed.
    """
    return tuple(
        Note(limit.code, f"{limit.sentence} ({limit.citation}).") for limit in LIMITS if not limit.is_met(issuer, keys)
    )


def _signs_with(*algorithms: str) -> Callable[[IssuerUrl, Keys], bool]:
    return lambda _, keys: all(key.alg in algorithms for key in keys)


def _issuer_up_to(max_characters: int) -> Callable[[IssuerUrl, Keys], bool]:
    return lambda issuer, _: len(issuer) <= max_characters


def _has_no_port(issuer: IssuerUrl, _: Keys) -> bool:
    return _PORT.match(issuer) is None


def _few_of_each_type(_: IssuerUrl, keys: Keys) -> bool:
    return all(count <= AWS_KEYS_OF_A_TYPE for count in Counter(key.kty for key in keys).values())


def _fits_nimbus(issuer: IssuerUrl, keys: Keys) -> bool:
    return len(documents(issuer, keys).jwks) <= NIMBUS_JWKS_BYTES


LIMITS = (
    Limit(
        "aws_algorithm",
        _signs_with("RS256", "RS384", "RS512", "ES256", "ES384", "ES512"),
        "AWS accepts only RS256/384/512 and ES256/384/512",
        "relying parties",
    ),
    Limit(
        "aws_issuer_length",
        _issuer_up_to(AWS_ISSUER_CHARACTERS),
        "AWS accepts at most 255 characters of issuer",
        "relying parties",
    ),
    Limit("aws_issuer_port", _has_no_port, "AWS discourages an issuer with a port", "relying parties"),
    Limit(
        "aws_key_count", _few_of_each_type, "AWS accepts at most 100 RSA and 100 EC keys", "relying parties; fact 34"
    ),
    Limit("gcp_algorithm", _signs_with("RS256", "ES256"), "GCP accepts only RS256 and ES256", "relying parties"),
    Limit("entra_algorithm", _signs_with("RS256"), "Entra accepts only RS256", "relying parties"),
    Limit(
        "entra_issuer_length",
        _issuer_up_to(ENTRA_ISSUER_CHARACTERS),
        "Entra accepts at most 600 characters of issuer",
        "relying parties",
    ),
    Limit("nimbus_size", _fits_nimbus, "Relying parties built on Nimbus refuse a JWKS over 51 200 bytes", "fact 33"),
)
