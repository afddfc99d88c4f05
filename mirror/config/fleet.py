"""Rules between issuers: names and issuers are unique, and no two publish over each other."""

from collections.abc import Iterator

from mirror.addresses import Conflict, Place, is_aws_endpoint, object_keys, path_conflicts
from mirror.config.layers import Entry
from mirror.config.places import issuers_of, public_base_url
from mirror.config.problems import Location, path_text
from mirror.model import IssuerUrl

FleetFinding = tuple[Entry, Location, str]


def fleet_findings(entries: tuple[Entry, ...]) -> Iterator[FleetFinding]:
    """Equal names and issuers, told at the later entry; covering paths, told at the issuer whose path is covered."""
    yield from _equal_names(entries)
    owners: dict[IssuerUrl, str] = {}
    origins: dict[str, tuple[Entry, Location]] = {}
    places: list[Place] = []
    for entry in entries:
        for path, issuer in issuers_of(entry):
            label = _label(entry, path)
            first = owners.setdefault(issuer, label)
            if first != label:
                yield entry, path, f"This is the issuer of {first} as well. Remove one of the two."
                continue
            origins[label] = (entry, path)
            places.extend(_place(entry, label, issuer))
    for conflict in path_conflicts(places):
        yield *origins[conflict.second.label], _conflict_text(conflict)


def _label(entry: Entry, path: Location = ()) -> str:
    return entry.file + path_text(entry.path + path, inside=bool(entry.file))


def _equal_names(entries: tuple[Entry, ...]) -> Iterator[FleetFinding]:
    owners: dict[str, str] = {}
    for entry in entries:
        if "name" in entry.bad:
            continue
        label = _label(entry)
        first = owners.setdefault(entry.shape.name, label)
        if first != label:
            yield entry, ("name",), f"The name {entry.shape.name} belongs to {first}. Choose another one."


def _place(entry: Entry, label: str, issuer: IssuerUrl) -> Iterator[Place]:
    """Where an issuer is published; nothing when that is a mistake of its own."""
    publish = entry.publish
    if "publish" in entry.bad:
        return
    try:
        base_url = public_base_url(publish)
        object_keys(issuer, base_url, publish.prefix)
    except ValueError:
        return
    endpoint = publish.endpoint_url or ""
    server = "" if is_aws_endpoint(endpoint) else endpoint
    yield Place(label, issuer, f"{server}/{publish.bucket}", base_url, publish.prefix)


def _conflict_text(conflict: Conflict) -> str:
    first = conflict.first
    return (
        f"The file {conflict.path} of {first.label} ({first.issuer}) and those of this issuer cannot stand beside"
        " each other. Choose an issuer with another path."
    )
