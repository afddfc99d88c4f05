"""Whose name stands on an operator's commit."""

from pathlib import Path

import pytest

from mirror.config.settings import Repository
from mirror.history.operator import as_operator
from support.gits import environment

ADA = "[user]\n\tname = Ada Operator\n\temail = ada@example.com\n"


@pytest.mark.parametrize(
    ("config", "environ", "expected"),
    [
        (ADA, {}, ("Ada Operator", "ada@example.com")),
        (ADA, {"GIT_AUTHOR_NAME": "Eve"}, ("Eve", "ada@example.com")),
        ("", {"GIT_AUTHOR_NAME": "Eve", "GIT_AUTHOR_EMAIL": "eve@example.com"}, ("Eve", "eve@example.com")),
        ("", {}, ("oidc-mirror", "oidc-mirror@localhost")),
        ("[user]\n\tname = Ada\n", {}, ("oidc-mirror", "oidc-mirror@localhost")),
        ("[user\n", {}, ("oidc-mirror", "oidc-mirror@localhost")),
    ],
    ids=[
        "configured",
        "environment over configuration",
        "environment",
        "nothing",
        "no address",
        "broken configuration",
    ],
)
def test_identity_is_the_operators_where_git_has_one(
    tmp_path: Path, config: str, environ: dict[str, str], expected: tuple[str, str]
) -> None:
    """Git's own is taken whole or not at all; one made up from the host's name is never used."""
    clean = environment(tmp_path, **environ)
    Path(clean["GIT_CONFIG_GLOBAL"]).write_text(config)
    settings = Repository(tmp_path / "absent.git")
    found = as_operator(settings, clean)
    assert (found.author_name, found.author_email) == expected
    assert found.path == settings.path
