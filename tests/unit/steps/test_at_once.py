"""Each issuer here and now where nobody must be asked, and in threads where somebody must be."""

from threading import current_thread, main_thread

import pytest

from mirror.config.settings import Publish
from mirror.model import IssuerUrl, ObjectKey
from mirror.ports import Ports
from mirror.steps.at_once import for_each
from support.fakes import FakeWorld

PUBLISH = Publish("bucket", "region", "https://oidc.example.com")


def test_work_that_asks_nobody_is_done_in_this_thread() -> None:
    """No thread is begun for what is only computed, and results keep the order."""
    ports = FakeWorld().ports()

    def work(number: int, _: Ports) -> tuple[int, bool]:
        return number, current_thread() is main_thread()

    assert for_each(work, range(5), ports, workers=2) == tuple((number, True) for number in range(5))


@pytest.mark.parametrize("port", ["bucket", "history", "view"])
def test_work_that_asks_is_done_in_a_thread_with_the_real_ports(port: str) -> None:
    """Whoever asks gets a real answer in its place, even where it takes every exception for its own."""
    ports = FakeWorld().ports()
    asks = {
        "bucket": lambda given: given.bucket(PUBLISH).get(ObjectKey("a")),
        "history": lambda given: given.history.changed_at("public/a"),
        "view": lambda given: given.view.look("https://a.example/", readback=PUBLISH.readback),
    }

    def work(number: int, given: Ports) -> object:
        if number != 1:
            return number
        try:
            return (asks[port](given), current_thread() is main_thread(), given is ports)
        except Exception as error:  # noqa: BLE001  as the steps of a pass do
            return error

    first, asked, last = for_each(work, range(3), ports, workers=2)
    assert (first, last) == (0, 2)
    assert asked == (asks[port](ports), False, True)


def test_exception_of_work_is_raised() -> None:
    """A defect is not taken for a wish to ask."""

    def work(_: IssuerUrl, __: Ports) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        for_each(work, [IssuerUrl("https://a.example")], FakeWorld().ports(), workers=1)
