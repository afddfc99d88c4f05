"""Every call to AWS that a session makes, written down."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3.session

from mirror.federation.provision.bucket import ProvisionPlan

READS = ("Get", "Head", "List")


@dataclass
class Recorded:
    """The names of the operations that a session sent, such as `s3.PutBucketPolicy`, in their order."""

    operations: list[str] = field(default_factory=list)

    @property
    def writes(self) -> list[str]:
        return [each for each in self.operations if not each.partition(".")[2].startswith(READS)]


@contextmanager
def recorded(session: boto3.session.Session) -> Iterator[Recorded]:
    """Write down what every client that `session` makes sends while the block lasts."""
    found = Recorded()

    def note(model: Any, **_: object) -> None:
        found.operations.append(f"{model.service_model.service_name}.{model.name}")

    session.events.register("before-call", note)
    try:
        yield found
    finally:
        session.events.unregister("before-call", note)


def codes_of(plan: ProvisionPlan) -> list[str]:
    """What a plan would change, in order."""
    return [each.code for each in plan.differences]
