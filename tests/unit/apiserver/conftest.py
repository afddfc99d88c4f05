"""What the tests of asking share: one apiserver, and the configuration that trusts it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.config.settings import TlsSettings
from support.apiserver import Apiserver
from support.tls import ca_file


@pytest.fixture
def server() -> Iterator[Apiserver]:
    with Apiserver() as running:
        yield running


@pytest.fixture
def trusted(tmp_path: Path) -> TlsSettings:
    return TlsSettings(ca_file=ca_file(tmp_path))
