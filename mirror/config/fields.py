"""Checks of single values that name a place on the network. Each returns the value or raises ValueError.

A `ValueError` here carries one text for each mistake: a sentence and its remedy.
"""

from collections.abc import Callable

from mirror.addresses import UrlParts, is_host, is_port, is_safe_path, split_url, url_problems

_Check = tuple[Callable[[UrlParts], bool], str]

_HOST_AND_PORT: tuple[_Check, ...] = (
    (lambda url: bool(url.host) and not is_host(url.host.lower()), "The host is no valid host name. Correct it."),
    (
        lambda url: url.port is not None and not is_port(url.port),
        "The port is no number from 1 to 65535. Correct it, or remove it together with its colon.",
    ),
    (lambda url: url.query is not None, "The URL has a query. Remove the question mark and what follows it."),
    (lambda url: url.fragment is not None, "The URL has a fragment. Remove the # and what follows it."),
)
_APISERVER: tuple[_Check, ...] = (
    (
        lambda url: url.scheme != "https" or not url.host,
        "This is no https URL. Write https://host:port; apiservers are asked over verified TLS only.",
    ),
    (
        lambda url: url.user_info is not None,
        "The URL has user information. Remove everything up to and including the @; credentials belong to auth.",
    ),
    (
        lambda url: url.path == "/",
        "The URL has a path of a slash alone. Remove it: apiservers serve the documents at fixed paths.",
    ),
    (
        lambda url: not is_safe_path(url.path.removeprefix("/").removesuffix("/")),
        (
            "The path of the URL has a segment that is empty, begins with a dot, or has other characters than A-Z a-z"
            " 0-9 . _ ~ -. Write the prefix of the gateway, such as /k8s/clusters/c-1, or remove the path."
        ),
    ),
    *_HOST_AND_PORT,
)
_PLAIN_URL: tuple[_Check, ...] = (
    (
        lambda url: url.scheme not in ("http", "https") or not url.host,
        "This is no http or https URL. Write https://host:port.",
    ),
    (
        lambda url: url.user_info is not None,
        "The URL has user information. Remove everything up to and including the @; this file holds no passwords.",
    ),
    *_HOST_AND_PORT,
)
_PROXY: tuple[_Check, ...] = (
    *_PLAIN_URL,
    (lambda url: url.path not in ("", "/"), "The URL of a proxy has a path. Remove it."),
)
_ENDPOINT: tuple[_Check, ...] = (
    *_PLAIN_URL,
    (
        lambda url: not is_safe_path(url.path.removeprefix("/").removesuffix("/")),
        "The path of the URL has a segment that is empty, begins with a dot or needs escaping. Correct it.",
    ),
)


def _checked(text: str, checks: tuple[_Check, ...]) -> str:
    parts = split_url(text)
    mistakes = [mistake for broken, mistake in checks if broken(parts)]
    if mistakes:
        raise ValueError(*mistakes)
    return text


def apiserver(text: str) -> str:
    """An apiserver's URL, `https://host[:port][/prefix]`.

    The paths of the documents are fixed (fact 1); the prefix is that of a gateway in front of several clusters.
    """
    return _checked(text, _APISERVER)


def proxy(text: str) -> str:
    """The URL of an HTTP proxy without credentials."""
    return _checked(text, _PROXY).removesuffix("/")


def endpoint_url(text: str) -> str:
    """The URL of an S3 server, without a slash at its end."""
    return _checked(text, _ENDPOINT).removesuffix("/")


def base_url(text: str) -> str:
    """An https URL of plain segments, without a slash at its end."""
    mistakes = [f"{reason.sentence} {reason.remedy}" for reason in url_problems(text)]
    if mistakes:
        raise ValueError(*mistakes)
    return text.removesuffix("/")


def host(text: str) -> str:
    """A host name or an IP address; IPv6 without brackets is allowed, as certificates name it so."""
    if not (is_host(text.lower()) or is_host(f"[{text.lower()}]")):
        raise ValueError("This is no host name. Write the name that the certificate has, without scheme and port.")
    return text


def host_and_port(text: str) -> tuple[str, int]:
    """`host:port` with a port from 1 to 65535; IPv6 hosts stand in brackets and come back without them."""
    name, port = _split_host_and_port(text)
    if port == 0:
        raise ValueError("The port is 0. Write a port from 1 to 65535.")
    return name, port


def listen_address(text: str) -> tuple[str, int]:
    """`host:port` to listen on; port 0 lets the system choose."""
    return _split_host_and_port(text)


def _split_host_and_port(text: str) -> tuple[str, int]:
    name, colon, port = text.rpartition(":")
    if not (colon and is_host(name.lower()) and (port == "0" or is_port(port))):
        raise ValueError("This is no host:port. Write it such as 127.0.0.1:9797, with an IPv6 address in brackets.")
    return name.removeprefix("[").removesuffix("]"), int(port)


def place_of_apiserver(url: str) -> tuple[str, str]:
    """Host and port of an apiserver's URL."""
    parts = split_url(url)
    return parts.host.lower(), parts.port or "443"


def prefix_of_apiserver(url: str) -> str:
    """The path of an apiserver's URL without a slash at its end: where a gateway has this cluster. Mostly empty."""
    return split_url(url).path.removesuffix("/")
