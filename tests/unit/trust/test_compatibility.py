"""What relying parties may not accept."""

from dataclasses import replace

import pytest

from mirror.model import IssuerUrl, Key
from mirror.trust.compatibility import LIMITS, compatibility
from support.keys import EC_KEYS, RSA_KEYS, with_kid

HOST = "https://oidc.example.com"
RSA = RSA_KEYS[0]
P256 = next(key for key in EC_KEYS if key.crv == "P-256")
P384 = next(key for key in EC_KEYS if key.crv == "P-384")


def many(key: Key, count: int) -> tuple[Key, ...]:
    return tuple(with_kid(key, f"{key.kty}-{number:03}") for number in range(count))


def test_one_rsa_key_works_everywhere() -> None:
    """RS256 with 2048 bits under a short https issuer gives no note (fact 26)."""
    assert compatibility(IssuerUrl(HOST + "/cluster"), (RSA,)) == ()


@pytest.mark.parametrize(
    ("issuer", "keys", "codes"),
    [
        pytest.param(HOST, (RSA, P256), {"entra_algorithm"}, id="P-256"),
        pytest.param(HOST, (P384,), {"gcp_algorithm", "entra_algorithm"}, id="P-384"),
        pytest.param(HOST, (replace(RSA, alg="RS512"),), {"gcp_algorithm", "entra_algorithm"}, id="RS512"),
        pytest.param(
            HOST, (replace(RSA, alg="PS256"),), {"aws_algorithm", "gcp_algorithm", "entra_algorithm"}, id="PS256"
        ),
        pytest.param(HOST + ":8443/a", (RSA,), {"aws_issuer_port"}, id="port and path"),
        pytest.param(HOST + ":8443", (RSA,), {"aws_issuer_port"}, id="port"),
        pytest.param(HOST + "/a:1", (RSA,), set(), id="colon in the path"),
        pytest.param(HOST + "/" + "a" * (254 - len(HOST)), (RSA,), set(), id="255 characters"),
        pytest.param(HOST + "/" + "a" * (255 - len(HOST)), (RSA,), {"aws_issuer_length"}, id="256 characters"),
        pytest.param(
            HOST + "/" + "a" * (600 - len(HOST)), (RSA,), {"aws_issuer_length", "entra_issuer_length"}, id="601"
        ),
        pytest.param(HOST, many(RSA, 100), set(), id="100 RSA keys"),
        pytest.param(HOST, many(RSA, 101), {"aws_key_count"}, id="101 RSA keys"),
        pytest.param(HOST, many(P256, 101), {"aws_key_count", "entra_algorithm"}, id="101 EC keys"),
        pytest.param(HOST, many(RSA, 60) + many(P256, 60), {"entra_algorithm"}, id="120 keys of both types"),
        pytest.param(HOST, many(RSA, 130), {"aws_key_count", "nimbus_size"}, id="over 51 200 bytes"),
        pytest.param(HOST, (), set(), id="emptied"),
    ],
)
def test_limits_are_told(issuer: str, keys: tuple[Key, ...], codes: set[str]) -> None:
    """Each limit that is passed gives its note, and no other."""
    assert {note.code for note in compatibility(IssuerUrl(issuer), keys)} == codes


def test_every_limit_has_a_source() -> None:
    """Each row has a code of its own and cites the table of relying parties or a fact."""
    assert len({limit.code for limit in LIMITS}) == len(LIMITS)
    assert all("relying parties" in limit.citation or "fact" in limit.citation for limit in LIMITS)
