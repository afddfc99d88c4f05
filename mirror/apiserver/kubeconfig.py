"""A kubeconfig: server, CA, token and client certificate of one context, read as kubectl reads it, or refused.

What would make us run a program (`exec`), log in with a password or trust blindly is refused with a sentence.
"""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mirror.apiserver.errors import DiscoveryFailureKind, printable
from mirror.config import fields, yaml_reader
from mirror.files import read_small, why_unreadable
from mirror.model import Reason

MAX_KUBECONFIG_BYTES = 1024 * 1024
MAX_MEMBER_BYTES = 1024 * 1024
_NOT_TAKEN = {
    "exec": "it runs a program to log in",
    "auth-provider": "it logs in through an auth-provider plugin",
    "username": "it logs in with a password",
    "password": "it logs in with a password",
    "as": "it acts as another user",
    "as-uid": "it acts as another user",
    "as-groups": "it acts as another user",
    "as-user-extra": "it acts as another user",
}


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """One context of a kubeconfig. `ca`, `client_cert` and `client_key` are PEM; neither key nor token prints.

    `ca` is None where it names none: then the system's trust holds, as with kubectl. Of the token either `token_file`
    or `token` is set, or none.
    """

    server: str
    context: str
    ca: bytes | None = None
    server_name: str | None = None
    proxy: str | None = field(default=None, repr=False)
    token: bytes = field(default=b"", repr=False)
    token_file: Path | None = None
    client_cert: bytes = b""
    client_key: bytes = field(default=b"", repr=False)


def read_kubeconfig(path: Path, context: str | None) -> Kubeconfig | tuple[Reason, ...]:
    """The context of that name (None: the current one) of the file at `path`, or every reason why it is not used.

    It is read in each pass, because a rotation of its token or certificates writes the file again (facts.md#20).
    Relative paths in it begin at its own folder.
    """
    try:
        text = read_small(path, MAX_KUBECONFIG_BYTES).decode()
    except UnicodeDecodeError:
        return (DiscoveryFailureKind.KUBECONFIG_INVALID.reason(f"{path} is not UTF-8"),)
    except OSError as error:
        return (DiscoveryFailureKind.KUBECONFIG_UNREADABLE.reason(f"{path}: {why_unreadable(error)}"),)
    # The reader of our own configuration: neither aliases nor tags, no name twice, bounded in depth.
    read = yaml_reader.load_strict_yaml(text)
    if not read.readable or read.problems or not isinstance(read.data, dict):
        return (DiscoveryFailureKind.KUBECONFIG_INVALID.reason(f"{path}: {_first_problem(read)}"),)
    return _KubeconfigReader(path, read.data).read(context)


def _first_problem(read: yaml_reader.YamlDocument) -> str:
    if not read.problems:
        return "it is not a mapping of keys"
    first = read.problems[0]
    sentence = printable(first.text.partition(". ")[0]).removesuffix(".")
    return f"line {first.line}: {sentence}" if first.line else sentence


class _KubeconfigReader:
    """Takes one kubeconfig apart, collecting every reason against it."""

    def __init__(self, path: Path, data: Mapping[str, object]) -> None:
        self._path = path
        self._data = data
        self._reasons: list[Reason] = []

    def read(self, name: str | None) -> Kubeconfig | tuple[Reason, ...]:
        chosen = name if name is not None else self._text(self._data, "current-context", "the file")
        context = self._named("contexts", "context", chosen) if chosen else None
        if not chosen:
            self._invalid(f"no context is chosen: it has {self._names('contexts')}")
        if context is None:
            return tuple(self._reasons)
        cluster = self._part("clusters", "cluster", context)
        # A context without a user is anonymous, as with kubectl.
        user = self._part("users", "user", context) if context.get("user") else {}
        if cluster is None or user is None:
            return tuple(self._reasons)
        found = self._taken(chosen, cluster, user)
        return tuple(self._reasons) or found

    def _taken(self, chosen: str, cluster: Mapping[str, object], user: Mapping[str, object]) -> Kubeconfig:
        self._refuse(cluster, user)
        token_file = self._file(user, "tokenFile")
        client_cert, client_key = self._pem(user, "client-certificate"), self._pem(user, "client-key")
        if (client_cert is None) != (client_key is None):
            self._invalid("its user has a client certificate without key, or a key without certificate")
        return Kubeconfig(
            server=self._url(cluster, "server", fields.apiserver) or "",
            context=chosen,
            ca=self._pem(cluster, "certificate-authority"),
            server_name=self._url(cluster, "tls-server-name", fields.host),
            proxy=self._url(cluster, "proxy-url", fields.proxy),
            # As in client-go: the file comes before the token itself.
            token=b"" if token_file else self._text(user, "token", "its user").encode(),
            token_file=token_file,
            client_cert=client_cert or b"",
            client_key=client_key or b"",
        )

    def _refuse(self, cluster: Mapping[str, object], user: Mapping[str, object]) -> None:
        why = [words for key, words in _NOT_TAKEN.items() if user.get(key)]
        if cluster.get("insecure-skip-tls-verify"):
            why.append("insecure-skip-tls-verify switches verification off")
        self._reasons += [
            DiscoveryFailureKind.KUBECONFIG_REFUSED.reason(f"{self._path}: {each}") for each in dict.fromkeys(why)
        ]
        if not cluster.get("server"):
            self._invalid("its cluster names no server")

    def _part(self, section: str, key: str, context: Mapping[str, object]) -> Mapping[str, object] | None:
        name = self._text(context, key, "its context")
        if not name:
            self._invalid(f"its context names no {key}")
            return None
        return self._named(section, key, name)

    def _named(self, section: str, key: str, name: str) -> Mapping[str, object] | None:
        """The one entry of that name."""
        found = [each.get(key) for each in self._entries(section) if each.get("name") == name]
        if len(found) == 1 and isinstance(found[0], dict):
            return found[0]
        many = "stands several times" if len(found) > 1 else "is not a mapping" if found else "is missing"
        self._invalid(f"the {key} {printable(name)} {many}: it has {self._names(section)}")
        return None

    def _entries(self, section: str) -> Iterator[Mapping[str, object]]:
        entries = self._data.get(section)
        return (each for each in (entries if isinstance(entries, list) else ()) if isinstance(each, dict))

    def _names(self, section: str) -> str:
        names = [str(each.get("name")) for each in self._entries(section)]
        return printable(", ".join(names)) if names else f"no {section}"

    def _text(self, part: Mapping[str, object], key: str, whose: str) -> str:
        value = part.get(key)
        if value is None or isinstance(value, str):
            return value or ""
        self._invalid(f"{key} of {whose} is not text")
        return ""

    def _url(self, part: Mapping[str, object], key: str, check: Callable[[str], str]) -> str | None:
        text = self._text(part, key, "its cluster").removesuffix("/")
        try:
            return check(text) if text else None
        except ValueError as error:
            self._invalid(f"{key} of its cluster: {error.args[0]}".removesuffix("."))
            return None

    def _file(self, part: Mapping[str, object], key: str) -> Path | None:
        text = self._text(part, key, "its user")
        if not text.isprintable():
            self._invalid(f"{key} is not a path")
            return None
        return self._path.absolute().parent / text if text else None

    def _pem(self, part: Mapping[str, object], key: str) -> bytes | None:
        """Inline data, which comes first as in client-go, or the content of the file."""
        data = self._text(part, f"{key}-data", "it")
        if data:
            try:
                return b64decode("".join(data.split()), validate=True)
            except (Base64Error, ValueError):
                self._invalid(f"{key}-data is not base64")
                return None
        path = self._file(part, key)
        try:
            return None if path is None else read_small(path, MAX_MEMBER_BYTES)
        except OSError as error:
            self._reasons.append(DiscoveryFailureKind.KUBECONFIG_UNREADABLE.reason(f"{path}: {why_unreadable(error)}"))
            return None

    def _invalid(self, words: str) -> None:
        self._reasons.append(DiscoveryFailureKind.KUBECONFIG_INVALID.reason(f"{self._path}: {words}"))
