"""Fixtures for the apiserver tests: a running apiserver, and settings that trust it."""

from collections.abc import Iterator

import pytest

from support.apiserver import Apiserver
from support.tls import trusted

__all__ = ["trusted"]


@pytest.fixture
def server() -> Iterator[Apiserver]:
    with Apiserver() as running:
        yield running
