"""`python -m mirror` is `oidc-mirror`."""

from mirror.cli.startup import INTERRUPTED, exit_now, secure_umask, speak_utf8, speed_up_imports, steady


def main() -> None:
    """Run the command line, and end the process with its exit status."""
    speak_utf8()
    secure_umask()
    output = steady()
    try:
        speed_up_imports()
        from mirror.cli.main import main as run  # noqa: PLC0415  after `speed_up_imports`, so that it holds for every import

        status = run()
    except KeyboardInterrupt:  # while Python was still importing: nothing was begun
        status = INTERRUPTED
    exit_now(status, output)


if __name__ == "__main__":
    main()
