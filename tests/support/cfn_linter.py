"""cfn-lint, which knows the schema of every resource of CloudFormation, as a judge of our templates."""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cfnlint.rules import RulesCollection


@cache
def findings(template: str) -> tuple[str, ...]:
    """Its errors and warnings for all regions; its rules that begin with I give advice, which its command hides too."""
    from cfnlint.api import lint  # noqa: PLC0415  half a second, for a few tests

    found = lint(template, _rules(), config=_options())
    return tuple(str(each) for each in found if not each.rule.id.startswith("I"))


def _options() -> Any:
    """As `cfnlint.api.lint_all`, which loads all its rules at each call."""
    from cfnlint.config import ManualArgs  # noqa: PLC0415  it takes seconds to import
    from cfnlint.helpers import REGIONS  # noqa: PLC0415  it takes seconds to import

    return ManualArgs(include_checks=["I"], include_experimental=True, regions=REGIONS)


@cache
def _rules() -> "RulesCollection":
    from cfnlint.config import ConfigMixIn  # noqa: PLC0415  it takes seconds to import
    from cfnlint.runner import Runner  # noqa: PLC0415  it takes seconds to import

    return Runner(ConfigMixIn(**_options())).rules
