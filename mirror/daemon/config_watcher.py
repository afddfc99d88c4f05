"""Read the configuration of a running daemon again when its bytes change; keep the old one if the new has mistakes."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from mirror.config.load import issuers_folder
from mirror.config.settings import Settings
from mirror.errors import UsageError
from mirror.model import Reason
from mirror.redaction import describe

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


REFUSED_CODE = "configuration.refused"
_REFUSED_REMEDY = "Run `oidc-mirror check --configuration`, correct the file, then `systemctl reload oidc-mirror`."

_AWS_FILES = (
    ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
    ("AWS_CONFIG_FILE", ".aws/config"),
    ("AWS_CA_BUNDLE", ""),
)
"""What boto3 reads once for a client: the variable that names it, and where it is in `$HOME` without one."""


class Configuration:
    """The settings that are in effect; safe for many threads.

    Args:
        load: Reads the files again; raises UsageError with every mistake.
        path: The main file.
        logger: Where a refused file is reported.
        last_good: Reads the copy of the last good settings; None where there is none.
        keep: Keeps settings that were taken as the last good ones, and gives why it could not.

    Raises:
        UsageError: There is nothing to begin with.
    """

    def __init__(
        self,
        load: Callable[[], Settings],
        path: Path,
        logger: "FilteringBoundLogger",
        *,
        last_good: Callable[[], Settings | None] = lambda: None,
        keep: Callable[[Settings], str] = lambda _: "",
    ) -> None:
        self._load = load
        self._files = ConfigurationFiles(path)
        self._path = path
        self._logger = logger
        self._keep = keep
        self._lock = RLock()
        self._seen = self._files.digest()
        self.refused: Reason | None = None
        """Why the files on disk are refused, as long as they are."""
        self.is_last_good = False
        """Whether the settings are a copy, because the files were refused when the daemon started."""
        try:
            self.settings = load()
            """The last good ones."""
        except UsageError as error:
            found = last_good()
            if found is None:
                raise
            self.settings, self.is_last_good = found, True
            self._refuse(error)
        self._warn(self.settings)

    def keep_copy(self) -> None:
        """Keep what the daemon began with as the last good settings: once its folder is there, and locked."""
        if not self.is_last_good:
            self._kept(self.settings)

    def refresh(self) -> bool:
        """Read the files if their bytes changed (a swapped ConfigMap sends no signal); True for new settings."""
        with self._lock:
            return self._files.digest() != self._seen and self.reload()

    def reload(self) -> bool:
        """Read the files; False when they have mistakes, each of which is logged, and the old settings go on."""
        with self._lock:
            self._seen = self._files.digest()  # first: what changes while they are read is seen the next time
            try:
                settings = self._load()
                _require_same_place(self.settings, settings)
            except UsageError as error:
                self._refuse(error)
                return False
            except Exception as error:  # noqa: BLE001  no file, whatever is in it, ends a running daemon
                self._refuse(UsageError(f"Reading it failed unexpectedly: {type(error).__name__}: {describe(error)}"))
                return False
            if settings.http_listen != self.settings.http_listen:
                sentence = "http.listen changed; it is obeyed after a restart."
                self._logger.warning("configuration.restart_needed", sentence=sentence)
            self.settings, self.refused, self.is_last_good = settings, None, False
            self._kept(settings)
            self._logger.info("configuration.loaded", issuers=len(settings.issuers))
            self._warn(settings)
            return True

    def _refuse(self, error: UsageError) -> None:
        before = "the copy of the last good one is used" if self.is_last_good else "the one before goes on"
        sentence = f"The configuration {self._path} has mistakes; {before}."
        said = " ".join(part.rstrip(".") + "." for part in (error.sentence, error.cause, *error.problems) if part)
        self.refused = Reason(REFUSED_CODE, f"{sentence} {said}", error.remedy or _REFUSED_REMEDY)
        self._logger.error(
            "configuration.refused", sentence=sentence, why=error.sentence, cause=error.cause, remedy=error.remedy
        )
        for problem in error.problems:
            self._logger.error("configuration.mistake", sentence=problem)

    def _kept(self, settings: Settings) -> None:
        if why := self._keep(settings):
            self._logger.warning("configuration.not_kept", sentence=why)

    def _warn(self, settings: Settings) -> None:
        for warning in settings.warnings:
            self._logger.warning("configuration.unwise", sentence=warning)


def _require_same_place(before: Settings, after: Settings) -> None:
    """The lock that keeps a second daemon away belongs to one state directory."""
    if before.state_dir != after.state_dir:
        raise UsageError("state_dir cannot change while the daemon runs.", remedy="Restart it.")


class ConfigurationFiles:
    """What the configuration is made of: the main file, and the folder that it names."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._base = path.absolute().parent
        self._main: bytes | None = None
        self._folder: Path | None = None

    def digest(self) -> str:
        """A digest of every byte; what cannot be read counts as absent."""
        main = _bytes(self._path)
        if main != self._main:  # reading YAML costs more than comparing bytes
            self._main = main
            self._folder = issuers_folder((main or b"").decode("utf-8", "replace"), base=self._base)
        return _digest([self._path, *_members(self._folder)])


def aws_digest(environ: Mapping[str, str]) -> str:
    """A digest of the files that AWS credentials are read from: rotated ones need new clients."""
    home = Path(environ.get("HOME", "/"))
    named = (environ.get(variable) or (str(home / usual) if usual else "") for variable, usual in _AWS_FILES)
    return _digest(Path(name) for name in named if name)


def _members(folder: Path | None) -> list[Path]:
    try:
        return [] if folder is None else sorted(folder.glob("*.yaml"))
    except (OSError, ValueError):
        return []


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        body = _bytes(path)
        digest.update(f"{path}\0{'absent' if body is None else len(body)}\0".encode("utf-8", "surrogateescape"))
        digest.update(body or b"")
    return digest.hexdigest()


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (OSError, ValueError):
        return None
