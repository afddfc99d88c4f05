"""Configuration files to `Settings`: read, checked whole and resolved, with every mistake at once.

The last good configuration is what a daemon starts with when the files on disk are broken by then: a copy of the
resolved settings, written whenever a daemon took new ones. It is used by the daemon alone, and said so loudly:
`--once` in a pipeline must fail on a broken file, a machine that reboots must go on removing revoked keys.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mirror.config import rules, settings, yaml_reader
from mirror.config.fields import max_age_seconds
from mirror.config.layers import IssuerConfig, MergedConfig, merge_layers
from mirror.config.rules import fleet_findings, public_base_url, publish_findings
from mirror.config.schema import IssuerEntry, Keys, Limits, Notify, Publish, Readback, Repository
from mirror.config.settings import Settings
from mirror.config.yaml_reader import Location, Problem, refusal
from mirror.errors import HistoryError, UsageError
from mirror.files import DAMAGED, write_atomically
from mirror.model import IssuerName, IssuerUrl, KeyPolicy, Thumbprint, TokenAudiences
from mirror.redaction import describe

_NOTHING: Mapping[str, str] = MappingProxyType({})
_NO_FILE = (
    "Name the file with `--config` or in `$OIDC_MIRROR_CONFIG`; config/mirror.example.yaml shows how to write one."
)
SIGNING_KEY_VARIABLE = "OIDC_MIRROR_SIGNING_KEY"
_PUBLISH_RULE = rules.ConfigRule(frozenset({"publish", "issuer", "former_issuers"}), publish_findings)


class _TooLargeError(ValueError):
    """The file is larger than `MAX_FILE_BYTES`."""


def load(path: Path, environ: Mapping[str, str] = _NOTHING) -> Settings:
    """Read the configuration file and, where it names one, every `*.yaml` file of `issuers_dir`.

    Args:
        path: The file.
        environ: The environment, of which `SIGNING_KEY_VARIABLE` replaces `repository.signing_key`; a relative path
            there begins at the working directory.

    Raises:
        UsageError: A file cannot be read, or anything in them is wrong; `problems` has every mistake.
    """
    text = _main_text(path)
    base = path.absolute().parent
    main = yaml_reader.load_strict_yaml(text)
    folder = _issuers_dir(main)
    found = _Folder() if folder is None else _folder(base / folder, folder)
    settings = _settings({"": text, **found.texts}, main, base, found.problems, name=str(path))
    return _with_key_of(environ, replace(settings, warnings=(*settings.warnings, *found.warnings)))


def _with_key_of(environ: Mapping[str, str], settings: Settings) -> Settings:
    """The settings with the key that signs ledgers: what the environment names, else what is configured."""
    named = environ.get(SIGNING_KEY_VARIABLE)
    key = Path(named).absolute() if named else settings.repository.signing_key
    return replace(settings, repository=replace(settings.repository, signing_key=key))


def issuers_folder(text: str, *, base: Path) -> Path | None:
    """The folder of issuers that a configuration names, whatever else is wrong in it; nothing is read from the disk."""
    folder = _issuers_dir(yaml_reader.load_strict_yaml(text))
    return None if folder is None else base / folder


def _issuers_dir(main: yaml_reader.YamlDocument) -> str | None:
    folder = main.data.get("issuers_dir") if isinstance(main.data, dict) else None
    return folder if isinstance(folder, str) and folder and folder.isprintable() else None


def parse(text: str, *, base: Path, issuer_files: Mapping[str, str] = _NOTHING) -> Settings:
    """Turn the text of a configuration file into settings; nothing is read from the disk.

    Args:
        text: YAML or JSON.
        base: The absolute folder that relative paths begin at.
        issuer_files: The texts of the files of `issuers_dir`, by the name that problems call them.

    Raises:
        UsageError: Anything is wrong; `problems` has every mistake, each as `path: sentence remedy`.
    """
    return _settings({"": text, **issuer_files}, yaml_reader.load_strict_yaml(text), base)


def _settings(
    texts: Mapping[str, str],
    main: yaml_reader.YamlDocument,
    base: Path,
    unfound: Iterable[Problem] = (),
    *,
    name: str = "",
) -> Settings:
    files = {file: yaml_reader.load_strict_yaml(text, file=file) for file, text in texts.items() if file}
    unfound = tuple(unfound)
    layers = merge_layers(main, files | {problem.file: yaml_reader.YamlDocument() for problem in unfound})
    unread = [*unfound, *(problem for read in (main, *files.values()) for problem in read.problems)]
    problems = [*unread, *_uncovered(layers.problems, unread)]
    if main.readable:
        problems += _uncovered(_rule_problems(layers), unread)
    if problems:
        wanted = {problem.file for problem in problems}
        lines = {
            file: yaml_reader.load_strict_yaml(texts[file], with_lines=True).lines for file in wanted & texts.keys()
        }
        raise refusal(problems, lines, main=name)
    return to_settings(layers, base, tuple(dict.fromkeys(_warnings(layers))))


def _uncovered(problems: Iterable[Problem], unread: Iterable[Problem]) -> list[Problem]:
    """Without what is at, above or below a value that could not be read properly: it was reported already."""
    covers = {(problem.file, problem.path) for problem in unread}
    above = {(file, path[:end]) for file, path in covers for end in range(len(path))}
    return [
        problem
        for problem in problems
        if (problem.file, problem.path) not in above
        and not any((problem.file, problem.path[:end]) in covers for end in range(len(problem.path) + 1))
    ]


def _rule_problems(layers: MergedConfig) -> Iterator[Problem]:
    yield from (Problem("", path, text) for path, text in rules.root_findings(layers))
    for entry in layers.entries:
        for rule in (*rules.ISSUER_RULES, _PUBLISH_RULE):
            if not rule.needs & entry.bad:
                yield from (Problem(*layers.trace(entry, path), text) for path, text in rule.check(entry))
    for entry, path, text in fleet_findings(layers.entries):
        yield Problem(entry.file, entry.path + path, text)


def _warnings(layers: MergedConfig) -> Iterator[str]:
    yield from (str(Problem("", path, text)) for path, text in rules.root_warnings(layers.root))
    for entry in layers.entries:
        yield from (str(Problem(*layers.trace(entry, path), text)) for path, text in rules.entry_warnings(entry))
    for entry, path, text in rules.fleet_warnings(layers.entries):
        yield str(Problem(entry.file, entry.path + path, text))


@dataclass(frozen=True, slots=True)
class _Folder:
    """The files of `issuers_dir`: texts by the name that problems call them, and what is wrong with the others."""

    texts: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def _folder(folder: Path, value: str) -> _Folder:
    """Read every `*.yaml` file in the order of the names; hidden files are Kubernetes' own."""
    result = _Folder()
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except (OSError, ValueError) as error:
        result.problems.append(_unread("", ("issuers_dir",), error))
        return result
    for file in files:
        name = f"{value}/{file.name}"
        if file.suffix in (".yml", ".json"):
            result.warnings.append(f"{name} is not read. End its name in .yaml.")
        if file.suffix != ".yaml":
            continue
        try:
            result.texts[name] = _text_of(file)
        except (OSError, ValueError) as error:
            result.problems.append(_unread(name, (), error))
    return result


def _unread(file: str, path: Location, error: Exception) -> Problem:
    return Problem(file, path, f"It cannot be read ({_cause(error)}). {_remedy(error)}")


def _main_text(path: Path) -> str:
    try:
        return _text_of(path)
    except (OSError, ValueError) as error:
        remedy = _NO_FILE if isinstance(error, FileNotFoundError) else _remedy(error)
        raise UsageError(f"The configuration {path} cannot be read.", cause=_cause(error), remedy=remedy) from None


def _text_of(path: Path) -> str:
    """The text of a file of at most `MAX_FILE_BYTES`.

    Raises:
        OSError: It cannot be read.
        _TooLargeError: It is larger than that.
        ValueError: It is not UTF-8, or no operating system has such a path.
    """
    with path.open("rb") as file:
        body = file.read(yaml_reader.MAX_FILE_BYTES + 1)
    if len(body) > yaml_reader.MAX_FILE_BYTES:
        raise _TooLargeError("larger than 16 MiB")
    return body.decode()


def _remedy(error: Exception) -> str:
    if isinstance(error, _TooLargeError):
        return "Spread the issuers over several files of `issuers_dir`."
    return "Check the path, the rights and the encoding."


def _cause(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return error.strerror if isinstance(error, OSError) and error.strerror else describe(error)


_Locate = Callable[[str | None], Path | None]


def to_settings(layers: MergedConfig, base: Path, warnings: tuple[str, ...]) -> settings.Settings:
    """The settings of files without any mistake.

    Args:
        layers: What the files hold; every rule was asked and found nothing.
        base: The absolute folder that relative paths begin at.
        warnings: Sentences for the operator.
    """
    root = layers.root

    def locate(text: str | None) -> Path | None:
        return None if text is None else base / text

    @cache  # thousands of issuers share one section
    def published(publish: Publish) -> settings.PublishSettings:
        return _publish(publish, locate)

    state_dir = base / root.state_dir
    revoked = root.defaults.keys.revoked
    return settings.Settings(
        state_dir=state_dir,
        repository=_repository(root.repository, state_dir, locate),
        issuers=tuple(_issuer(entry, published(entry.publish), revoked, locate) for entry in layers.entries),
        limits=_limits(root.limits),
        interval=root.interval,
        max_failures=root.max_failures,
        fail_on_drift=root.fail_on_drift,
        metrics_file=locate(root.metrics_file),
        notify=_notify(root.notify, locate),
        http_listen=root.http.listen,
        warnings=warnings,
    )


def _notify(notify: Notify, locate: _Locate) -> settings.NotifySettings:
    return settings.NotifySettings(
        webhook_url_file=locate(notify.webhook_url_file),
        heartbeat_url_file=locate(notify.heartbeat_url_file),
        message_format=notify.format,
        events=notify.events,
        ca_file=locate(notify.ca_file),
        proxy=notify.proxy,
    )


def _limits(limits: Limits) -> settings.LimitSettings:
    return settings.LimitSettings(
        connect_seconds=limits.connect.total_seconds(),
        total_seconds=limits.total.total_seconds(),
        source_deadline_seconds=limits.source_deadline.total_seconds(),
        max_body_bytes=limits.max_body,
        concurrency=limits.concurrency,
        puts=limits.puts,
    )


def _repository(repository: Repository, state_dir: Path, locate: _Locate) -> settings.RepositorySettings:
    author_name, author_email = repository.author
    return settings.RepositorySettings(
        path=state_dir / repository.path,
        remote=repository.remote,
        branch=repository.branch,
        sign=repository.sign,
        require_push=repository.require_push,
        signing_key=locate(repository.signing_key),
        allowed_signers=locate(repository.allowed_signers),
        name=repository.name,
        author_name=author_name,
        author_email=author_email,
    )


def _publish(publish: Publish, locate: _Locate) -> settings.PublishSettings:
    return settings.PublishSettings(
        bucket=publish.bucket or "",
        region=publish.region or "",
        base_url=public_base_url(publish),
        endpoint_url=publish.endpoint_url,
        prefix=publish.prefix,
        expected_bucket_owner=publish.expected_bucket_owner,
        profile=publish.profile,
        role_arn=publish.role_arn,
        conditional_writes=publish.conditional_writes,
        checksums=publish.checksums,
        cache_control=publish.cache_control,
        max_age_seconds=max_age_seconds(publish.cache_control),
        jwks_content_type=publish.jwks_content_type,
        audit_interval_seconds=publish.audit_interval.total_seconds(),
        cloudfront_distribution=publish.cloudfront_distribution,
        readback=_readback(publish.readback, locate),
    )


def _readback(readback: Readback, locate: _Locate) -> settings.ReadbackSettings:
    return settings.ReadbackSettings(readback.enabled, locate(readback.ca_file), readback.connect_to, readback.proxy)


def _issuer(
    entry: IssuerConfig, publish: settings.PublishSettings, revoked_everywhere: tuple[str, ...], locate: _Locate
) -> settings.Issuer:
    filled = entry.shape
    return settings.Issuer(
        name=IssuerName(filled.name),
        issuer=IssuerUrl(filled.issuer),
        publish=publish,
        apiservers=filled.apiservers,
        load_balancer=filled.load_balancer or (filled.auth.in_cluster and not filled.discover),
        discover=filled.discover,
        expect_replicas=filled.expect_replicas,
        proxy=filled.proxy,
        tls=_tls(filled, locate),
        auth=_auth(filled, locate),
        audiences=filled.audiences if isinstance(filled.audiences, tuple) else _audiences(filled).all(),
        audiences_by_cloud=None if isinstance(filled.audiences, tuple) else _audiences(filled),
        keys=_policy(filled.keys, revoked_everywhere),
        former_issuers=tuple(
            settings.FormerIssuerSettings(IssuerUrl(it.issuer), it.until) for it in filled.former_issuers
        ),
        discovery_extra=filled.discovery_extra,
        probe_token_file=locate(filled.probe_token_file),
        suspend=filled.suspend,
    )


def _audiences(filled: IssuerEntry) -> TokenAudiences:
    found = filled.audiences
    return (
        TokenAudiences.sorted_out(found)
        if isinstance(found, tuple)
        else TokenAudiences(found.aws, found.gcp, found.azure)
    )


def _tls(filled: IssuerEntry, locate: _Locate) -> settings.TlsSettings:
    tls = filled.tls
    if filled.auth.in_cluster:
        return settings.TlsSettings(settings.SERVICE_ACCOUNT / "ca.crt", tls.server_name)
    return settings.TlsSettings(
        locate(tls.ca_file), tls.server_name, locate(tls.client_cert_file), locate(tls.client_key_file)
    )


def _auth(filled: IssuerEntry, locate: _Locate) -> settings.AuthSettings:
    auth = filled.auth
    token_file = settings.SERVICE_ACCOUNT / "token" if auth.in_cluster else locate(auth.token_file)
    return settings.AuthSettings(token_file, locate(auth.kubeconfig), auth.context, auth.in_cluster)


def _policy(keys: Keys, revoked_everywhere: tuple[str, ...]) -> KeyPolicy:
    # A revocation is never overridden: what `defaults` revoke stays revoked under an issuer's own list.
    return KeyPolicy(
        new_keys=keys.new_keys,
        retain_removed=keys.retain_removed,
        kid=keys.kid,
        unknown_keys=keys.unknown_keys,
        revoked=frozenset(Thumbprint(text) for text in (*keys.revoked, *revoked_everywhere)),
    )


LAST_GOOD_FILE = "last-good-config.json"
DEFAULT_STATE_DIR = Path("/var/lib/oidc-mirror")
_COPY_FORM = 1
_MAX_COPY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LastGood:
    """The copy for one configuration file; `path` is where it is, `config` whose copy it is."""

    path: Path
    config: Path

    @classmethod
    def of(cls, config: Path, environ: Mapping[str, str]) -> "LastGood":
        """Where the copy is kept, which must be known without the configuration.

        That is the first folder of `$STATE_DIRECTORY`, which systemd sets, else the default `state_dir`.
        """
        folder = environ.get("STATE_DIRECTORY", "").partition(":")[0]
        return cls((Path(folder) if folder else DEFAULT_STATE_DIR) / LAST_GOOD_FILE, config.absolute())

    def save(self, settings: Settings) -> str:
        """Keep `settings`, all issuers included; gives why that could not be, or nothing.

        Where the folder is missing or is not this daemon's nothing is kept. A common user's is any that it may write
        to: a volume belongs to root or to another uid of its group. Root may write to all, so only its own counts.
        """
        whole = replace(settings, issuers=settings.issuers + settings.left_out, left_out=())
        resolved = _adapter().dump_python(whole, mode="json")
        text = json.dumps(
            {"form": _COPY_FORM, "config": str(self.config), "settings": resolved}, indent=1, sort_keys=True
        )
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
            if self.path.stat().st_uid not in (os.geteuid(), 0) or self.path.stat().st_size > _MAX_COPY_BYTES:
                return None
            found = json.loads(self.path.read_bytes())
            if found["form"] != _COPY_FORM or found["config"] != str(self.config):
                return None
            settings: Settings = _adapter().validate_python(found["settings"], strict=False)
        except DAMAGED:
            return None
        # As when the file was read: systemd gives the key of each service another path.
        return _with_key_of(environ, settings)


def _adapter() -> Any:
    from pydantic import TypeAdapter  # noqa: PLC0415  only a daemon needs it

    return TypeAdapter(Settings)
