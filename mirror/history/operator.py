"""Who decides: the identity that an operator's own git has, for the commits of operator commands."""

import re
import threading
from collections.abc import Mapping
from dataclasses import replace

from mirror.config.settings import Repository
from mirror.history.git import Git

# git-var(1): `Name <address> seconds zone`, already cleaned of what would break the line.
_IDENTITY = re.compile(r"(.+) <([^<>]+)> \d+ [+-]\d{4}\s*")
_VARIABLES = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL")


def as_operator(settings: Repository, environ: Mapping[str, str]) -> Repository:
    """The settings with the name and address that git's configuration or environment gives the caller.

    Where git has none it would make one up from the host's name; then the mirror's own stays.

    Raises:
        HistoryError: git could not be started.
    """
    git = Git(settings.path, environ, stop=threading.Event())
    # The mirror keeps these from git everywhere else, because commits of passes are not the caller's.
    given = {name: environ[name] for name in _VARIABLES if name in environ}
    said = git.run("var", "GIT_AUTHOR_IDENT", config=("user.useConfigOnly=true",), extra_environ=given)
    found = _IDENTITY.fullmatch(said.out.decode("utf-8", "replace"))
    if not said.ok or found is None:
        return settings
    return replace(settings, author_name=found[1], author_email=found[2])
