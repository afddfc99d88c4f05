"""Sessions of boto3 for the tests' own clients, which share what botocore reads: each would parse megabytes again."""

from functools import cache
from typing import Any

import boto3.session
import botocore.session
from botocore.loaders import Loader


def new_session(**settings: Any) -> boto3.session.Session:
    """A session like `boto3.session.Session(**settings)`, with the settings of the environment."""
    made = botocore.session.Session()
    made.register_component("data_loader", _loader())
    return boto3.session.Session(botocore_session=made, **settings)


@cache
def _loader() -> Loader:
    return Loader()
