"""Fixtures that every test may ask for, and how Hypothesis behaves in all of them."""

import sys

from hypothesis import HealthCheck, settings

from support.collected import (
    pytest_collection,
    pytest_collection_modifyitems,
    pytest_fixture_setup,
    pytest_measure_once,
    pytest_pyfunc_call,
    pytest_runtest_protocol,
)
from support.limits import (
    _no_process_outlives_its_test,
    pytest_configure,
    pytest_runtest_call,
    pytest_runtest_setup,
    pytest_runtest_teardown,
    pytest_timeout_cancel_timer,
    pytest_timeout_set_timer,
)
from support.moto import moto, moto_server
from support.program import pytest_sessionstart, pytest_unconfigure
from support.radosgw import radosgw, radosgw_environment
from support.s3 import s3_server, store

# jsonschema would build 38 grammars with it, two seconds of CPU, for formats that no schema of ours has. None says that
# there is no such module (Python's reference, section 5.3.1).
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # modules alone, says typeshed

# How many examples a property gets: `suite` in the suite, `quick` in the loop of an edit, `long` in `make torture`.
# A clean checkout on two busy cores draws its first examples slowly: speed is no property here.
for name, max_examples in {"quick": 10, "suite": 25, "long": 1000}.items():
    settings.register_profile(
        name, deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=max_examples
    )
settings.load_profile("suite")

__all__ = [
    "_no_process_outlives_its_test",
    "moto",
    "moto_server",
    "pytest_collection",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_fixture_setup",
    "pytest_measure_once",
    "pytest_pyfunc_call",
    "pytest_runtest_call",
    "pytest_runtest_protocol",
    "pytest_runtest_setup",
    "pytest_runtest_teardown",
    "pytest_sessionstart",
    "pytest_timeout_cancel_timer",
    "pytest_timeout_set_timer",
    "pytest_unconfigure",
    "radosgw",
    "radosgw_environment",
    "s3_server",
    "store",
]
