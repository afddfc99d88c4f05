"""Programs of the machine that some tests need: if one is missing, the test is skipped; in CI it fails instead."""

import os
import shutil
from typing import NoReturn

import pytest


def demand(program: str, *, variable: str, package: str) -> str:
    """The path of `program`; without it the test is skipped, and fails where `variable` is 1."""
    found = shutil.which(program)
    if found is None:
        refuse_or_skip(f"there is no {program} on this machine (Debian: apt-get install {package})", variable)
    return found


def refuse_or_skip(why: str, variable: str) -> NoReturn:
    """Skip the test and say why; fail it where `variable` is 1."""
    assert os.environ.get(variable) != "1", f"{variable}=1, and {why}"
    pytest.skip(why)
