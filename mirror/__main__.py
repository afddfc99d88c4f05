"""`python -m mirror` is `oidc-mirror`."""

from mirror.cli.startup import INTERRUPTED, lean, leave, steady


def main() -> None:
    """Run the command line, and end the process with its exit status."""
    output = steady()
    try:
        lean()
        from mirror.cli.main import main as run  # noqa: PLC0415  after `lean`, so that it holds for every import

        status = run()
    except KeyboardInterrupt:  # while Python was still importing: nothing was begun
        status = INTERRUPTED
    leave(status, output)


if __name__ == "__main__":
    main()
