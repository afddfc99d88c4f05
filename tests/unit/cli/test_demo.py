"""How the demo ends; tests/e2e/test_demo.py runs it."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mirror.cli.demo import _Demo, _ended_by_signals


class EndsInItsFinalizer:
    """Python reports an exception of a finalizer and goes on."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_signal_in_a_finalizer_ends_the_demo_at_its_next_step(tmp_path: Path) -> None:
    """Every further signal is ignored, so the demo would never end."""
    world: Any = None  # no command is started
    touched = tmp_path / "touched"
    with _ended_by_signals() as is_ended:
        story = _Demo(world, is_ended)
        story._run(("true",))
        assert not is_ended()
        EndsInItsFinalizer()
        with pytest.raises(KeyboardInterrupt):
            story._run(("touch", str(touched)))
    assert not touched.exists()
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN
