"""A relying party as people write it with joserfc: the whole key set is imported, strictly."""

from joserfc import jwt
from joserfc.jwk import KeySet

from relying_parties.public import Question, answer, discovery, fetch


def verify(asked: Question) -> str:
    """The `sub` of a good token; raises what joserfc raises."""
    document = discovery(asked.issuer)
    keys = KeySet.import_key_set(fetch(document["jwks_uri"]))
    token = jwt.decode(asked.token, keys, algorithms=document["id_token_signing_alg_values_supported"])
    rules = jwt.JWTClaimsRegistry(
        now=asked.at,
        iss={"essential": True, "value": asked.issuer},
        aud={"essential": True, "value": asked.audience},
        exp={"essential": True},
    )
    rules.validate(token.claims)
    return str(token.claims["sub"])


answer(verify)
