"""A pass by root leaves files of root in the state directory: passes fail until the desired state is public."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.history.repository import GitRepository
from mirror.reconcile.controller import reconcile
from mirror.report import FAILING_STATES, Report
from support.gits import environment
from support.situations import BOTH, LAST, ONE, Situation
from support.users import SERVICE_UID, as_user, give, open_folder


@dataclass
class Service:
    """A mirror that runs as a separate user, with real git."""

    here: Situation
    folder: Path

    def run(self, *cases: str, uid: int = SERVICE_UID) -> Report:
        """A pass, five minutes after the last one."""
        self.here.show(*cases)
        self.here.now += timedelta(minutes=5)
        settings = self.here.settings()
        with as_user(uid), GitRepository(settings.repository, environment(self.folder)) as history:
            return reconcile(settings, replace(self.here.world.ports(), history=history), self.here.now)

    @property
    def repository(self) -> Path:
        return self.here.settings().repository.path


@pytest.fixture
def service() -> Iterator[Service]:
    with ExitStack() as stack:
        # The modules may be readable by root alone: a first pass as root imports those that are imported late.
        make_service(stack.enter_context(open_folder())).run(ONE, ONE, uid=0)
        yield make_service(stack.enter_context(open_folder()))


def make_service(folder: Path) -> Service:
    state = folder / "state"
    state.mkdir()
    give(folder, SERVICE_UID)
    return Service(Situation(state), folder)


def by_a_pass_of_root(service: Service) -> None:
    """Root wrote the branch, so the service can neither lock nor move it."""
    service.run(BOTH, BOTH, uid=0)


def references(service: Service) -> None:
    give(service.repository / "refs", 0)


def objects(service: Service) -> None:
    give(service.repository / "objects", 0)


def lock_file(service: Service) -> None:
    lock = service.repository / "refs/heads/main.lock"
    lock.touch()
    give(service.repository / "refs/heads", 0)


def private_files(service: Service) -> None:
    """Files that root wrote with umask 077."""
    for path in (service.here.state_dir / "local-state.json", service.repository / "HEAD"):
        give(path, 0).chmod(0o600)


def whole_repository(service: Service) -> None:
    give(service.repository, 0)


@pytest.mark.parametrize(
    "leave",
    [by_a_pass_of_root, references, objects, lock_file, private_files, whole_repository],
    ids=lambda f: f.__name__,
)
def test_no_pass_is_well_while_the_key_is_not_public(service: Service, leave: Callable[[Service], None]) -> None:
    """The pass whose commit fails and all later ones fail, and none reports the issuer as current."""
    service.run(ONE, ONE)
    leave(service)
    before = service.here.public()
    for _ in range(3):
        report = service.run(BOTH, LAST)
        is_public = service.here.public() != before
        assert (int(report.exit_status) == 0) is is_public
        assert (report.issuers[0].state not in FAILING_STATES) is is_public
    give(service.folder, SERVICE_UID)
    mended = service.run(BOTH, LAST)
    assert (int(mended.exit_status), len(mended.issuers[0].records)) == (0, 3)
    assert service.here.public() != before
