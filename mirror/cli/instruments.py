"""The doctor's instruments, put together: the adapters of a pass, and what only the doctor needs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mirror.check.ports import Instruments
from mirror.cli.wiring import open_ports
from mirror.config.settings import Settings


@contextmanager
def open_instruments(settings: Settings) -> Iterator[Instruments]:
    """The real world, for looking only."""
    from mirror.check.clients import RealAws, RealHistory, lock_holder  # noqa: PLC0415  boto3 takes long to import
    from mirror.reconcile.state import publications  # noqa: PLC0415  `--help` does without

    aws = RealAws()
    try:
        with open_ports(settings, dry_run=True) as ports:
            yield Instruments(
                source=ports.source,
                view=ports.view,
                bucket=ports.bucket,
                aws=aws,
                own_token=ports.own_token,
                history=RealHistory(
                    settings.repository, os.environ, issuers=[each.url for each in publications(settings)]
                ),
                lock_holder=lock_holder,
                cancel=ports.cancel,
            )
    finally:
        aws.close()
