"""Names of roles, stacks, pools and credentials: two workloads never share one. Pure.

A name is made of the issuer's name, the namespace and the ServiceAccount, with hyphens between. Where other workloads
could have the same text, because a part has a hyphen or a dot or the name is cut, a hash of the parts follows.
"""

import re
from hashlib import sha256

HASH_CHARACTERS = 8
MAX_ROLE_CHARACTERS = 64  # IAM API, CreateRole
MAX_STACK_CHARACTERS = 128  # CloudFormation API, CreateStack
MAX_CREDENTIAL_CHARACTERS = 120  # Entra, "Important considerations for federated identity credentials"
POOL_CHARACTERS = 4, 32  # Workload Identity Federation, ids of pools and providers
_POOL_RESERVED = "gcp-"
_PLAIN_PART = re.compile(r"[a-z0-9]+")
_STACK = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,127}")
_ACCOUNT = re.compile(r"system:serviceaccount:([a-z0-9-]+):([a-z0-9.-]+)")


def account_of(subject: str) -> tuple[str, str] | None:
    """Give namespace and ServiceAccount of a `sub`; None for any other text."""
    match = _ACCOUNT.fullmatch(subject)
    return None if match is None else (match[1], match[2])


def workload_name(issuer: str, subjects: tuple[str, ...], max_characters: int) -> str:
    """Give the name of what is made for `subjects` of an issuer.

    The same subjects always give the same name, and no others give it: read from the right, a name without a hash has
    exactly one ServiceAccount, one namespace and one issuer.

    Args:
        issuer: the issuer's name in the configuration.
        subjects: whole `sub` texts, at least one.
        max_characters: how long the name may be.
    """
    account = account_of(subjects[0])
    parts = (issuer, *account) if account is not None else (issuer, "subjects")
    text = "-".join(parts).replace(".", "-")
    is_plain = len(subjects) == 1 and account is not None and all(map(_PLAIN_PART.fullmatch, account))
    if is_plain and len(text) <= max_characters:
        return text
    return hashed(text, max_characters, issuer, *sorted(subjects))


def hashed(text: str, max_characters: int, *parts: str) -> str:
    """Give the beginning of `text` with a hash of `parts`, in `max_characters`."""
    digest = sha256("\0".join(parts).encode()).hexdigest()[:HASH_CHARACTERS]
    return f"{text[: max_characters - HASH_CHARACTERS - 1].rstrip('-')}-{digest}"


def stack_name(role: str) -> str:
    """Give the CloudFormation stack of a role: the role's own name where a stack may have it.

    A stack's name begins with a letter and has letters, digits and hyphens alone.
    """
    if _STACK.fullmatch(role):
        return role
    return hashed(f"oidc-role-{re.sub(r'[^A-Za-z0-9-]', '-', role)}", MAX_STACK_CHARACTERS, role)


def pool_id(issuer: str) -> str:
    """Give the id of Google's pool and of its provider: the issuer's name where Google takes it, else with a hash.

    Ids have 4 to 32 characters, and those that begin with `gcp-` are Google's own.
    """
    shortest, longest = POOL_CHARACTERS
    if shortest <= len(issuer) <= longest and not issuer.startswith(_POOL_RESERVED) and not issuer.endswith("-"):
        return issuer
    stem = re.sub(rf"^({_POOL_RESERVED}|-)+", "", issuer)
    return hashed(stem or "k8s", longest, issuer)


def terraform_label(name: str) -> str:
    """Give a name as a label of Terraform: it begins with a letter or `_`, and has letters, digits, `_` and `-`."""
    label = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    plain = label if label == name else hashed(label, MAX_STACK_CHARACTERS, name)
    return plain if plain[0].isalpha() else f"_{plain}"
