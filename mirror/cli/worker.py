"""`python -m mirror.cli.worker DESCRIPTOR`: one process of the crew that asks the apiservers (`mirror.source.crew`)."""

import os
import signal
import sys

from mirror.cli.startup import lean


def main() -> None:
    """Do the one job that comes over the descriptor, and end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us too; who started us decides
    lean()
    from multiprocessing.connection import Connection  # noqa: PLC0415  after `lean`

    from mirror.source.apiservers import Apiservers  # noqa: PLC0415  as above
    from mirror.source.board import Told  # noqa: PLC0415  as above
    from mirror.source.job import Job, work  # noqa: PLC0415  as above

    def ask(job: Job, told: Told) -> None:
        Apiservers(job.limits, environ=os.environ).tell(job.issuers, turn=job.turn, told=told)

    with Connection(int(sys.argv[1])) as line:
        work(line, ask)
        os._exit(0)  # without tearing every module down, see `mirror.cli.startup.leave`


if __name__ == "__main__":
    main()
