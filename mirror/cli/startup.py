"""Make the start of a process cheap: most of the time of a pass over few clusters is Python importing packages.

Each measure below was measured on a `--once` pass over one unchanged cluster (docs/adr/0007).
"""

import gc
import os
import sys
from contextlib import suppress
from types import ModuleType
from typing import NoReturn


def lean() -> None:
    """Prepare this process for many imports; call it first.

    - The garbage collector runs rarely: what imports allocate lives as long as the process.
    - pydantic does not search all installed packages for plugins, none of which has any business here.
    - `httpx` imports its own command line, and with it rich, pygments and markdown, whenever these are installed; it
      gets a stand-in, because nobody calls that command line from here.
    """
    gc.set_threshold(100_000, 20, 20)
    # A stream that the caller closed is None: what is said there goes nowhere, and nothing else changes.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123  for the life of the process
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123  as above
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if "httpx" not in sys.modules:
        sys.modules.setdefault("httpx._main", _without_command_line())


def _without_command_line() -> ModuleType:
    def main() -> NoReturn:
        raise SystemExit("The command line of httpx is not loaded inside oidc-mirror.")

    module = ModuleType("httpx._main")
    module.__dict__["main"] = main
    return module


def leave(status: int) -> NoReturn:
    """End the process with `status` without tearing every module down; what was written is flushed.

    Only for the end of the command line: all servers, threads, child processes and temporary files are gone by then,
    because each lives in a `with` block.
    """
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        status = status or 1  # a full disk, or a reader that went away: the report was not heard
    os._exit(status)
