"""Fixtures that every test may ask for, and how Hypothesis behaves in all of them."""

from hypothesis import HealthCheck, settings

from support.moto import moto, moto_server
from support.radosgw import radosgw, radosgw_environment
from support.s3 import s3_server, store

# A clean checkout under coverage on two busy cores draws its first examples slowly: speed is no property here.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

__all__ = ["moto", "moto_server", "radosgw", "radosgw_environment", "s3_server", "store"]
