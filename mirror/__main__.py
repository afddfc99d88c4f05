"""`python -m mirror` is `oidc-mirror`."""

from mirror.cli.startup import lean, leave


def main() -> None:
    """Run the command line, and end the process with its exit status."""
    lean()
    from mirror.cli.main import main as run  # noqa: PLC0415  after `lean`, so that it holds for every import

    leave(run())


if __name__ == "__main__":
    main()
