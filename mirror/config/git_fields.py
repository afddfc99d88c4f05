"""Checks of single values of `repository`. Each returns the value or raises ValueError with sentence and remedy.

What reaches git's command line or a shell at the other end of ssh is held to forms that mean nothing else there.
"""

import re

_HOST = r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])"
_USER = r"[A-Za-z0-9_][A-Za-z0-9._+-]*"
_PLACE = r"(?!-)[^\x00-\x20\x7f?#\\]+"
_FORMS = tuple(
    re.compile(form)
    for form in (
        rf"https://{_HOST}(?::[0-9]{{1,5}})?/{_PLACE}",
        rf"ssh://(?:{_USER}@)?{_HOST}(?::[0-9]{{1,5}})?/{_PLACE}",
        rf"{_USER}@{_HOST}:{_PLACE}",
        r"/[^\x00-\x1f\x7f]*",
    )
)
_USER_INFO = re.compile(r"(?:https?://[^/]*@|ssh://[^/@]*:[^/]*@)")
# git-check-ref-format(1), rules 1 and 3 to 10, and no leading hyphen as `git branch` wants it.
_BAD_BRANCH = re.compile(
    r"^[-/]|[/.]$|\.\.|//|@\{|(?:^|/)\.|\.lock(?:/|$)|[\x00-\x20\x7f~^:?*\[\\]|^@$|^HEAD$|^refs/",
)
_AUTHOR = re.compile(r"(?P<name>[^<>]*[^<>\s])[ ]<(?P<email>[^<>\s]+)>")
_MAX_BRANCH_CHARACTERS = 200
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"


def remote(text: str) -> str:
    """A git remote: `https://…`, `ssh://…`, `user@host:path` or an absolute path."""
    if _USER_INFO.match(text):
        raise ValueError(
            "The remote has a user name or a password in it. Remove it; git asks its credential helper or ssh for it."
        )
    if not (text.isprintable() and any(form.fullmatch(text) for form in _FORMS)):
        raise ValueError(
            "This is no remote that is allowed. Write https://host/path, ssh://user@host/path, user@host:path"
            " or an absolute path."
        )
    return text


def branch(text: str) -> str:
    """The name of a branch, as git-check-ref-format allows it."""
    if not text.isprintable() or len(text) > _MAX_BRANCH_CHARACTERS or _BAD_BRANCH.search(text):
        raise ValueError("Git does not allow this name for a branch. Write a plain one, such as main.")
    return text


def name(text: str) -> str:
    """The name that signatures of ledgers are made for."""
    if re.fullmatch(NAME_PATTERN, text) is None:
        raise ValueError(
            "This is no name of a repository. Use up to 63 lower-case letters, digits, dots, hyphens and underscores,"
            " and begin with a letter or a digit."
        )
    return text


def author(text: str) -> tuple[str, str]:
    """`Name <mail>`, as (name, mail)."""
    match = _AUTHOR.fullmatch(text) if text.isprintable() else None
    if match is None:
        raise ValueError('This is no author. Write "Name <mail address>" on one line.')
    return match["name"].strip(), match["email"]
