"""A relying party as people write it with PyJWT: `PyJWKClient` on the issuer's `jwks_uri`."""

import time

import jwt

from relying_parties.public import Question, answer, context, discovery


def verify(asked: Question) -> str:
    """The `sub` of a good token; raises what PyJWT raises."""
    document = discovery(asked.issuer)
    client = jwt.PyJWKClient(document["jwks_uri"], ssl_context=context())
    claims = jwt.decode(
        asked.token,
        client.get_signing_key_from_jwt(asked.token),
        algorithms=document["id_token_signing_alg_values_supported"],
        audience=asked.audience,
        issuer=asked.issuer,
        leeway=time.time() - asked.at,  # PyJWT takes no time: this sets back what `exp` is compared with
    )
    return str(claims["sub"])


answer(verify)
