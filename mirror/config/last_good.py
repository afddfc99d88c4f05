"""The last good configuration: what a daemon starts with when the files on disk are broken by then.

A copy of the resolved settings, written whenever a daemon took new ones. It is used by the daemon alone, and said so
loudly: `--once` in a pipeline must fail on a broken file, a machine that reboots must go on removing revoked keys.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mirror.config.load import signing_key_of
from mirror.config.settings import Settings
from mirror.errors import HistoryError
from mirror.files import write_atomically

FILE_NAME = "last-good-config.json"
DEFAULT_STATE_DIR = Path("/var/lib/oidc-mirror")
_FORM = 1
_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LastGood:
    """The copy for one configuration file; `path` is where it lies, `config` whose copy it is."""

    path: Path
    config: Path

    @classmethod
    def of(cls, config: Path, environ: Mapping[str, str]) -> "LastGood":
        """Where the copy is kept, which must be known without the configuration.

        That is the first folder of `$STATE_DIRECTORY`, which systemd sets, else the default `state_dir`.
        """
        folder = environ.get("STATE_DIRECTORY", "").partition(":")[0]
        return cls((Path(folder) if folder else DEFAULT_STATE_DIR) / FILE_NAME, config.absolute())

    def save(self, settings: Settings) -> str:
        """Keep `settings`, all issuers included; gives why that could not be, or nothing.

        Where the folder is missing or is not this daemon's nothing is kept. A common user's is any that it may write
        to: a volume belongs to root or to another uid of its group. Root may write to all, so only its own counts.
        """
        whole = replace(settings, issuers=settings.issuers + settings.left_out, left_out=())
        resolved = _adapter().dump_python(whole, mode="json")
        text = json.dumps({"form": _FORM, "config": str(self.config), "settings": resolved}, indent=1, sort_keys=True)
        try:
            if not self._is_ours():
                return ""
            if self.path.exists() and self.path.read_text() == text:
                return ""
            write_atomically(self.path, text, mode=0o600)
        except FileNotFoundError:
            return ""
        except (OSError, HistoryError) as error:
            cause = error.cause if isinstance(error, HistoryError) else error.strerror
            return f"The last good configuration could not be kept in {self.path} ({cause})."
        return ""

    def _is_ours(self) -> bool:
        folder = self.path.parent
        if os.geteuid() == 0:
            return folder.stat().st_uid == 0
        return folder.exists() and os.access(folder, os.W_OK | os.X_OK)

    def load(self, environ: Mapping[str, str]) -> Settings | None:
        """The settings that were kept for this configuration file; None where there are none that can be read."""
        try:
            if self.path.stat().st_uid not in (os.geteuid(), 0) or self.path.stat().st_size > _MAX_BYTES:
                return None
            found = json.loads(self.path.read_bytes())
            if found["form"] != _FORM or found["config"] != str(self.config):
                return None
            settings: Settings = _adapter().validate_python(found["settings"], strict=False)
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None
        # As when the file was read: systemd gives the key of each service another path.
        key = signing_key_of(environ, settings.repository.signing_key)
        return replace(settings, repository=replace(settings.repository, signing_key=key))


def _adapter() -> Any:
    from pydantic import TypeAdapter  # noqa: PLC0415  only a daemon needs it

    return TypeAdapter(Settings)
