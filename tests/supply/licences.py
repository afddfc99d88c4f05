"""The licence of every package that is shipped, and which licences nobody has accepted yet."""

import re
from collections.abc import Callable, Mapping
from email.message import Message
from importlib.metadata import PackageMetadata, PackageNotFoundError

from supply.verdict import Verdict

PERMISSIVE = frozenset(
    {"MIT", "MIT-0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "PSF-2.0", "0BSD", "Zlib", "Unlicense"}
)
"""SPDX names of licences that ask for no more than their text and their notices."""

WITH_REASON: Mapping[str, tuple[str, str]] = {
    "certifi": ("MPL-2.0", "copyleft for its own files alone; it is used unchanged, as data"),
    "jwcrypto": (
        "LGPL-3.0-or-later",
        "a library that is imported, unchanged, from a package that users can replace",
    ),
}
"""Packages under another licence, the licence that was looked at, and why it is accepted."""

NAMES: Mapping[str, str] = {
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "ISC License (ISCL)": "ISC",
}
"""What packages say in place of SPDX's names."""

Lookup = Callable[[str], PackageMetadata | Message]


def judge_licences(lock: str, metadata: Lookup) -> Verdict:
    """A line a package of the lock file; fails on a licence that is neither permissive nor accepted with a reason."""
    lines: list[str] = []
    refused: list[str] = []
    for name in locked_names(lock):
        licence = licence_of(name, metadata)
        accepted, note = _judged(name, licence)
        lines.append(f"{name:20} {licence or 'unknown'}{note}")
        if not accepted:
            refused.append(name)
    fails = bool(refused) or not lines
    good = f"licences: {len(lines)} packages, all permissive or accepted with a reason."
    bad = f"licences: look at {', '.join(refused) or 'the lock file'}; what is accepted goes into supply/licences.py."
    return Verdict((*lines, bad if fails else good), fails)


def locked_names(lock: str) -> tuple[str, ...]:
    """The packages of a lock file that this machine needs, in its order: those for another system are left out."""
    found = re.findall(r"^([a-z0-9][a-z0-9.-]*)(?:\[[^\]]*\])?==[^\s;]+( ;[^\\\n]*)?", lock, re.MULTILINE)
    return tuple(name for name, marker in found if "win32" not in marker)


def licence_of(name: str, metadata: Lookup) -> str:
    """The licence as an SPDX expression, as far as the package says it; "" where it says nothing that we understand."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return ""
    said = _first(found, "License-Expression")
    if said:
        return said
    short = _first(found, "License")
    known = NAMES.get(short, short if short in PERMISSIVE | {licence for licence, _ in WITH_REASON.values()} else "")
    classifiers = [each.rpartition(" :: ")[2] for each in found.get_all("Classifier") or () if "License ::" in each]
    return known or " OR ".join(dict.fromkeys(NAMES.get(each, each) for each in classifiers))


def _first(found: PackageMetadata | Message, name: str) -> str:
    return str((found.get_all(name) or [""])[0]).strip()


def _judged(name: str, licence: str) -> tuple[bool, str]:
    reason = WITH_REASON.get(name)
    if reason is not None and reason[0] == licence:
        return True, f": {reason[1]}"
    return _is_permissive(licence), ""


def _is_permissive(licence: str) -> bool:
    """Whether one side of an OR, with all that its AND demands, is permissive; brackets are for people to read."""
    if "(" in licence:
        return False
    choices = [choice.split(" AND ") for choice in licence.split(" OR ")]
    return any(all(part.strip() in PERMISSIVE for part in choice) for choice in choices)
