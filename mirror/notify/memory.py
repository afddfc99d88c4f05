"""What was reported already: `notified.json` in the state directory, so that a restart reports nothing twice."""

import json
from datetime import UTC, datetime
from pathlib import Path

from mirror.files import write_atomically
from mirror.model import IssuerUrl
from mirror.notify.changes import Memory, Notified
from mirror.report import State
from mirror.text import iso_time

FILE_NAME = "notified.json"
VERSION = 1


def load(state_dir: Path) -> Memory | None:
    """What was reported; None when there is no file, or none that can be read."""
    try:
        content = json.loads((state_dir / FILE_NAME).read_bytes())
        if content["version"] != VERSION:
            return None
        return {
            IssuerUrl(url): Notified(
                State(each["state"]),
                tuple(_moment(at) for at in each["sent"]),
                {str(name): _moment(at) for name, at in each["events"].items()},
            )
            for url, each in content["issuers"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def save(state_dir: Path, memory: Memory) -> None:
    """Write the file by rename.

    Raises:
        HistoryError: The state directory cannot be written.
    """
    issuers = {
        url: {
            "state": str(each.state),
            "sent": [iso_time(at) for at in each.sent],
            "events": {name: iso_time(at) for name, at in sorted(each.events.items())},
        }
        for url, each in sorted(memory.items())
    }
    write_atomically(state_dir / FILE_NAME, json.dumps({"version": VERSION, "issuers": issuers}, indent=1) + "\n")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
