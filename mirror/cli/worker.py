"""One process of the pool that polls the apiservers (`mirror.apiserver.process_pool`).

`mirror.concurrency.worker_command` starts it; the number of its descriptor is to be added.
"""

import os
import signal
import sys

from mirror.cli.startup import speed_up_imports


def main() -> None:
    """Do the one job that comes over the descriptor, and end."""
    # Ctrl-C, and what systemd sends to all processes of a unit, reach us too: who started us decides and ends us.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    speed_up_imports()
    from multiprocessing.connection import Connection  # noqa: PLC0415  after `speed_up_imports`

    from mirror.apiserver.poller import ApiserverPoller, OnAnswer  # noqa: PLC0415  as above
    from mirror.apiserver.process_pool import Task, run_task  # noqa: PLC0415  as above

    def poll(job: Task, on_answer: OnAnswer) -> None:
        apiservers = ApiserverPoller(job.limits, environ=os.environ, keep_contexts=0)
        apiservers.poll_each(job.issuers, turn=job.turn, on_answer=on_answer, ends_at=job.ends_at)

    with Connection(int(sys.argv[1])) as line:
        done = run_task(line, poll)
        os._exit(0 if done else 1)  # without tearing every module down, see `mirror.cli.startup.exit_now`
