"""Decides like STS in an AWS account: compares the provider and the role's conditions with a token's claims.

It shares no code with the program. It reads what IAM stores, not what was rendered. It checks neither the signature nor
the public documents: `verify` does.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

_PREFIX = ":oidc-provider/"
_MARK = "https://"


def refusals(iam: Any, role: str, claims: Mapping[str, Any]) -> list[str]:
    """The reasons why STS would reject the claims for the role, one sentence each; none means that it accepts."""
    return list(_refusals(iam, role, claims))


def _refusals(iam: Any, role: str, claims: Mapping[str, Any]) -> Iterator[str]:
    arns = [each["Arn"] for each in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]]
    issuer = claims["iss"].removeprefix(_MARK)
    mine = next((arn for arn in arns if arn.partition(_PREFIX)[2] == issuer), None)
    audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if mine is None:
        yield f"No OpenIDConnect provider found in your account for {claims['iss']}"
    else:
        known = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=mine)["ClientIDList"]
        if not set(audiences) & set(known):
            yield f"Incorrect token audience: {audiences}"
    (statement,) = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]["Statement"]
    if (statement["Effect"], statement["Action"]) != ("Allow", "sts:AssumeRoleWithWebIdentity"):
        yield "The role cannot be assumed with a token at all"
    if statement["Principal"] != {"Federated": mine}:
        yield f"The role trusts {statement['Principal']}, not the provider of {claims['iss']}"
    yield from _conditions(statement["Condition"], issuer, {"aud": audiences, "sub": [claims["sub"]]})


def _conditions(block: Mapping[str, Any], issuer: str, found: Mapping[str, list[str]]) -> Iterator[str]:
    """Every operator and every key must match (IAM user guide, "Condition block"); an unknown one never matches."""
    compared = set()
    for operator, wanted in block.items():
        for key, value in wanted.items():
            values = value if isinstance(value, list) else [value]
            of, _, claim = key.rpartition(":")
            compared.add(claim)
            given = found.get(claim, []) if of == issuer else []
            if not any(_holds(operator, each, value) for each in given for value in values):
                yield f"{operator} {key} is {values}, and the token has {given}"
    if compared != {"aud", "sub"}:
        yield f"The role compares {sorted(compared)}: it is open to others"


def _holds(operator: str, given: str, wanted: str) -> bool:
    match operator:
        case "StringEquals":
            return given == wanted
        case "StringLike":
            return fnmatchcase(given, wanted.replace("[", "[[]"))
        case _:
            return False
