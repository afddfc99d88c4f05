"""Fixtures that every test may ask for."""

from support.radosgw import radosgw, radosgw_environment
from support.s3 import s3_server, store

__all__ = ["radosgw", "radosgw_environment", "s3_server", "store"]
