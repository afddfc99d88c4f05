"""Run one command and say what it cost: `python -S meter.py RESULT.json COMMAND...`.

A separate process, because Linux counts the memory of the starting process as the new process's high-water mark,
until it has another program: started from here that is next to nothing. What the command prints is thrown away.
"""

import json
import os
import sys
import time


def main() -> None:
    """Wall and CPU seconds, those of all children included, and the largest process among them, in MiB."""
    result, command = sys.argv[1], sys.argv[2:]
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.execvp(command[0], command)  # noqa: S606  the point: no shell between that would be measured
    _, status, usage = os.wait4(child, 0)
    cost = {
        "wall_seconds": time.monotonic() - begun,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
        "status": os.waitstatus_to_exitcode(status),
    }
    with open(result, "w") as file:  # noqa: PTH123  pathlib is a megabyte more
        json.dump(cost, file)


if __name__ == "__main__":
    main()
