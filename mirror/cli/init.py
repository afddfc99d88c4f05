"""`oidc-mirror init`: print an issuer entry for a live cluster, to be checked and put into the configuration."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from mirror.addresses import bucket_url, issuer_problems
from mirror.apiserver.cluster_probe import probe_cluster
from mirror.apiserver.credentials import IN_CLUSTER_NAME
from mirror.apiserver.kubeconfig import read_kubeconfig
from mirror.cli.main import show
from mirror.config import yaml_reader
from mirror.config.settings import LimitSettings
from mirror.errors import MirrorError, UsageError
from mirror.log import escaped
from mirror.model import IssuerUrl, KeyPolicy, Reason, Unusable
from mirror.report import ExitStatus
from mirror.trust.discovery import observe
from mirror.trust.parsing import read_object

if TYPE_CHECKING:
    from mirror.apiserver.cluster_probe import ClusterProbe
    from mirror.apiserver.kubeconfig import Kubeconfig


def main(ctx: click.Context, *, kubeconfig: Path, context: str | None, complete: bool) -> None:
    """See `mirror.cli.commands`."""
    text = entry_of(first_kubeconfig(kubeconfig).absolute(), context, complete=complete)
    if isinstance(text, str):
        click.echo(text, nl=False)
        return
    _refuse(ctx, text)


def first_kubeconfig(named: Path) -> Path:
    """Of a list as `$KUBECONFIG` may hold, the first file that exists; what is no such list stays as it is."""
    return next((each for each in map(Path, str(named).split(os.pathsep)) if each.is_file()), named)


def entry_of(kubeconfig: Path, context: str | None, *, complete: bool) -> str | tuple[Reason, ...]:
    """The cluster's answer, validated and written as YAML; or every reason why nothing can be proposed.

    With `complete` the entry stands in a whole configuration.
    """
    read = read_kubeconfig(kubeconfig, context)
    if isinstance(read, tuple):
        return read
    seen = probe_cluster(kubeconfig, read.context, LimitSettings())
    found = seen if isinstance(seen, tuple) else suggest_issuer(kubeconfig, read, seen, complete=complete)
    if isinstance(found, tuple):
        return found
    return complete_yaml(found) if complete else to_yaml(found)


def _refuse(ctx: click.Context, reasons: tuple[Reason, ...]) -> None:
    for reason in reasons[:-1]:
        show(_error(reason))
    last = _error(reasons[-1])
    if isinstance(last, UsageError):
        raise last
    show(last)
    ctx.exit(ExitStatus.FAILED)


def _error(reason: Reason) -> MirrorError:
    kind = UsageError if reason.code.startswith("kubeconfig_") else MirrorError
    where = f" [{reason.where}]" if reason.where else ""
    return kind(f"{reason.code}{where}: {reason.sentence}", remedy=reason.remedy)


_MAX_NAME_CHARACTERS = 63


@dataclass(frozen=True, slots=True)
class IssuerSuggestion:
    """A cluster with an accepted answer; `opaque` if its key ids are not those that Kubernetes computes.

    `present` is the cluster's own issuer where that cannot be published, and `issuer` one that is proposed; else empty.
    """

    name: str
    issuer: IssuerUrl
    kubeconfig: Path
    login: "Kubeconfig"
    seen: "ClusterProbe"
    opaque: bool = False
    present: str = ""


def suggest_issuer(
    kubeconfig: Path, login: "Kubeconfig", probe: "ClusterProbe", *, complete: bool = False
) -> IssuerSuggestion | tuple[Reason, ...]:
    """Validate the answer as a pass would; or every reason why the cluster cannot be mirrored as it is.

    With `complete` another issuer is proposed where the cluster's own cannot be published.
    """
    read = read_object(probe.answer.discovery, "discovery")
    if isinstance(read, Reason):
        return (read,)
    issuer = IssuerUrl(str(read.get("issuer") or ""))
    problems = issuer_problems(issuer, allow_private=False)
    name, present = name_from(login.context), ""
    if problems and complete and _PLAIN_URL.fullmatch(issuer):
        issuer, present = IssuerUrl(f"https://{UNKNOWN_BUCKET}.s3.{UNKNOWN_REGION}.amazonaws.com/{name}"), issuer
    elif problems:
        return tuple(unfit_issuer(problem, issuer) for problem in problems)
    found = IssuerSuggestion(name, issuer, kubeconfig, login, probe, present=present)
    strict, opaque = (observe_as(found, policy) for policy in (KeyPolicy(), KeyPolicy(kid="opaque")))
    if not isinstance(strict, Unusable):
        return found
    return strict.reasons if isinstance(opaque, Unusable) else replace(found, opaque=True)


def observe_as(suggestion: IssuerSuggestion, policy: KeyPolicy) -> object:
    """What a pass with this key policy would make of the answer."""
    issuer = IssuerUrl(suggestion.present) if suggestion.present else suggestion.issuer
    return observe(suggestion.seen.answer, issuer=issuer, policy=policy, already_checked=frozenset())


def name_from(context: str) -> str:
    """A valid name that reminds of the context: `admin@Syd.Prod` becomes `admin-syd-prod`."""
    words = re.sub(r"[^a-z0-9]+", "-", context.lower()).strip("-")
    return words[:_MAX_NAME_CHARACTERS].strip("-") or "cluster"


def unfit_issuer(problem: Reason, issuer: IssuerUrl) -> Reason:
    """Why the issuer of the cluster cannot be published, and the steps that lead to one that can."""
    sentence = f"The cluster's issuer {escaped(issuer)!r} cannot be published: {problem.sentence}"
    remedy = (
        "Choose the public URL, such as https://BUCKET.s3-REGION.amazonaws.com/NAME, and write an entry with that "
        "`issuer`. Then `oidc-mirror render apiserver-flags NAME --keep-issuer "
        f"{escaped(issuer)}` prints the flags with which every apiserver accepts it too, and `--migration 2` those "
        "that make it the first --service-account-issuer, while tokens of the old one stay valid. Restart the "
        "apiservers one by one for each step, then try again."
    )
    return replace(problem, sentence=sentence, remedy=remedy)


# ------------------------------------------------------------------------------------------------------ YAML


def to_yaml(suggestion: IssuerSuggestion, *, alone: bool = True) -> str:
    """The entry as YAML that the configuration takes, in `issuers` or as a file of `issuers_dir`.

    Where it does not stand `alone`, what belongs into the main file is left out of the comments.
    """
    origin = escaped(f"context {suggestion.login.context} of {suggestion.kubeconfig}")
    head = (
        f"An issuer entry for oidc-mirror, from {origin}.",
        "Put it under `issuers`, or into a file of issuers_dir, and check what the comments say.",
    )
    lines = [f"# {line}" for line in head]
    for number, (comments, part) in enumerate(_parts(suggestion)):
        lines += [f"  # {comment}" for comment in comments] if number else []
        dumped = _dump(part).splitlines()
        lines += [f"{'- ' if number == 0 and at == 0 else '  '}{line}" for at, line in enumerate(dumped)]
    return "\n".join([*lines, *(f"  # {line}" for line in _hints(suggestion, alone=alone))]) + "\n"


_COMPLETE = """\
# A first configuration of oidc-mirror, from {origin}.
# Check each line that says Check; then, with this file as mirror.yaml:
#   oidc-mirror --config mirror.yaml check                        what is wrong, with remedies; changes nothing
#   oidc-mirror --config mirror.yaml provision bucket {name}      makes or corrects the bucket; needs an administrator
#   oidc-mirror --config mirror.yaml --dry-run                    what the first pass would do
#   oidc-mirror --config mirror.yaml --once                       the first pass
#   oidc-mirror --config mirror.yaml verify {name}                what AWS makes of it
# config/mirror.example.yaml and docs/reference/configuration.md explain every other key.

# The git repository and small caches; only the mirror's user should be able to write here.
state_dir: /var/lib/oidc-mirror

repository:
  branch: main
  # Check: a remote keeps the history when this disk is lost, and several mirrors must share one. Set it before the
  # first pass.
  #remote: git@git.example.com:platform/oidc-snapshots.git
  # Have every ledger signed; without a key anyone who can push to the remote can publish a key. This makes one:
  #   ssh-keygen -t ed25519 -N '' -f signing_key
  #signing_key: signing_key

{publish}
defaults:
  keys:
    # How long a key stays public after the last apiserver stopped showing it: longer than tokens live.
    retain_removed: 24h

issuers:
{entry}"""


def complete_yaml(suggestion: IssuerSuggestion) -> str:
    """A whole configuration with the entry: what a first pass needs, and what should be decided before it."""
    entry = [line for line in to_yaml(suggestion, alone=False).splitlines(keepends=True) if not line.startswith("#")]
    return _COMPLETE.format(
        origin=escaped(f"context {suggestion.login.context} of {suggestion.kubeconfig}"),
        name=suggestion.name,
        publish=_publish(suggestion.issuer, is_proposed=bool(suggestion.present)),
        entry="".join(entry),
    )


def _publish(issuer: IssuerUrl, *, is_proposed: bool) -> str:
    """The section `publish`: from the issuer's own URL where that is a bucket's, else with what must be filled in."""
    place = bucket_url(issuer)
    if place is not None:
        known = "# The bucket that the issuer's URL names. Check: it exists, or `provision bucket` makes it."
        lines = ("# Check: your bucket and its region." if is_proposed else known, "publish:")
        return "\n".join((*lines, f"  bucket: {place.bucket}", f"  region: {place.region}", ""))
    host = issuer.removeprefix("https://").partition("/")[0]
    return "\n".join(
        (
            "publish:",
            "  # Check: the bucket behind the issuer's host, and its region.",
            f"  bucket: {UNKNOWN_BUCKET}",
            f"  region: {UNKNOWN_REGION}",
            "  # The public URL of the bucket's root.",
            f"  base_url: https://{host}",
            "",
        )
    )


UNKNOWN_BUCKET, UNKNOWN_REGION = "name-of-your-bucket", "us-east-1"
_PLAIN_URL = re.compile(r"https://[A-Za-z0-9./:_~-]{1,200}")
"""An issuer that can stand in a comment and in a command as it is."""


def _dump(part: Mapping[str, object]) -> str:

    text = yaml.safe_dump(dict(part), sort_keys=False, width=10_000)
    # Our reader knows numbers that YAML 1.1 takes for text, such as 1e3.
    return (
        text
        if yaml_reader.load_strict_yaml(text).data == part
        else yaml.safe_dump(dict(part), width=10_000, default_style='"')
    )


def _parts(suggestion: IssuerSuggestion) -> Iterator[tuple[tuple[str, ...], Mapping[str, object]]]:
    yield (), {"name": suggestion.name}
    comments: tuple[str, ...] = ("Check: this is what tokens of the cluster have as `iss`, to the letter.",)
    if suggestion.present:
        comments = (
            f"The cluster's issuer is {suggestion.present}, which cannot be published. Check: choose the",
            "public one, in your bucket, and write it here and into `publish` above. Then these print the flags of",
            "every apiserver; restart them one by one. Step 1: they accept the new issuer too. Step 2: they sign for",
            "it, and a pass takes what they say; tokens of the old one stay valid.",
            f"  oidc-mirror render apiserver-flags {suggestion.name} --keep-issuer {suggestion.present}",
            f"  oidc-mirror render apiserver-flags {suggestion.name} --keep-issuer {suggestion.present} --migration 2",
        )
    yield comments, {"issuer": str(suggestion.issuer)}
    yield from _apiservers(suggestion)
    if suggestion.opaque:
        opaque = ("Check: an external signer makes the key ids; they are not those of Kubernetes.",)
        yield opaque, {"keys": {"kid": "opaque"}}
    comments = (
        "Server, CA and login come from this kubeconfig, read again in every pass. For a mirror that runs for years a",
        "ServiceAccount token is better: it may read the documents and nothing else. Then write, instead of this:",
        f"  tls: {{ca_file: {suggestion.name}-ca.crt}}   and   auth: {{token_file: …}}",
    )
    yield comments, {"auth": {"kubeconfig": str(suggestion.kubeconfig), "context": suggestion.login.context}}


def _apiservers(suggestion: IssuerSuggestion) -> Iterator[tuple[tuple[str, ...], Mapping[str, object]]]:

    seen, server = suggestion.seen, suggestion.seen.answer.apiserver
    if seen.replicas and seen.replicas == seen.answered:
        comments = ("Check: every replica, as the EndpointSlices of the cluster list them. All of them answered.",)
        yield comments, {"apiservers": list(seen.replicas)}
        if not suggestion.login.server_name:
            comments = ("The name in their certificates, because their addresses need not be in there.",)
            yield comments, {"tls": {"server_name": IN_CLUSTER_NAME}}
        return
    yield tuple(_why_the_server(seen)), {"apiservers": [server]}
    if len(seen.replicas) != 1:
        comments = ("Check: false when this URL is a single apiserver. With true keys stay for 24 hours at least.",)
        yield comments, {"load_balancer": True}


def _why_the_server(probe: "ClusterProbe") -> Iterator[str]:
    for reason in probe.replica_reasons:
        yield f"The replicas are not known. {escaped(reason.sentence)}"
        yield f"  {escaped(reason.remedy)}"
    if probe.replicas:
        yield f"The EndpointSlices list {', '.join(probe.replicas)},"
        yield f"of which {', '.join(probe.answered) or 'none'} answered from here."
    yield "Better than the URL of a load balancer: list every replica, where this machine reaches them."


def _hints(suggestion: IssuerSuggestion, *, alone: bool) -> Iterator[str]:
    yield "Check: the audiences of the pods' tokens; a token with one of them is never sent to an apiserver."
    yield "audiences: [sts.amazonaws.com]"
    if not alone:
        return
    place = bucket_url(suggestion.issuer)
    if place is not None:
        yield f"Its documents belong into bucket {place.bucket} in {place.region}: see `publish` in the main file."
    yield "Have every ledger in git signed: set `repository.signing_key` in the main file to the key that this makes:"
    yield "  ssh-keygen -t ed25519 -N '' -f signing_key"
