"""parliament, the linter of IAM policies that knows every action, resource and condition key, as a judge of ours."""

import json
import warnings
from typing import Any

# It knows policies of identities only: a trust policy has no resource, and any federation but three is new to it.
_TRUST_ONLY = (
    "UNKNOWN_FEDERATION_SOURCE",
    "Statement contains neither Resource nor NotResource",
)


def lint(policy: Any) -> list[str]:
    """Everything that is wrong with a policy of an identity or of a bucket."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its own two data files open
        import parliament  # noqa: PLC0415  half a second, for a few tests
    findings = parliament.analyze_policy_string(json.dumps(policy)).findings
    return [f"{each.issue}: {each.detail}" for each in findings]


def lint_trust(policy: Any) -> list[str]:
    """Everything that is wrong with the trust policy of a role."""
    return [each for each in lint(policy) if not any(known in each for known in _TRUST_ONLY)]
