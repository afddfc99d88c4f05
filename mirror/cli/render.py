"""`oidc-mirror render`: print the resources of a federation, filled in from the configuration."""

import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.x509.oid import NameOID

from mirror.cli.options import F, all_of, common, common_options, examples, issuer_names, named, read_by
from mirror.config.fields import account as checked_account
from mirror.config.fields import duration
from mirror.config.fields import role_arn as checked_arn
from mirror.config.settings import Issuer
from mirror.errors import UsageError
from mirror.federation.render import FORMATS, KINDS
from mirror.federation.render.base import (
    NAMESPACE,
    SERVICE_ACCOUNT,
    ControlPlane,
    MirrorIdentity,
    RenderRequest,
    Workload,
    text_of,
)
from mirror.files import read_small
from mirror.log import escaped
from mirror.trust.parsing import unverified_claims

MAX_FILE_BYTES = 1024 * 1024
# Nothing else: the name comes from the cluster, and stands in commands that are printed for copying.
_SERVICE_ACCOUNT = re.compile(r"system:serviceaccount:([a-z0-9-]{1,63}):([a-z0-9.-]{1,253})")


def apiserver_identity(issuer: Issuer, identity: MirrorIdentity) -> MirrorIdentity:
    """`identity`, completed from files of this machine; an unreadable file adds nothing."""
    from mirror.apiserver.kubeconfig import Kubeconfig, read_kubeconfig  # noqa: PLC0415  it imports httpx

    if identity.user is not None:
        return replace(identity, way="user")
    if issuer.auth.kubeconfig is not None:
        found = read_kubeconfig(issuer.auth.kubeconfig, issuer.auth.context)
        if not isinstance(found, Kubeconfig):
            return replace(identity, way="user")
        if found.token or found.token_file is not None:
            return _of_token(found.token if found.token_file is None else _read(found.token_file), identity)
        return _of_certificate(found.client_cert, identity) if found.client_cert else identity
    if issuer.auth.token_file is not None:
        return _of_token(_read(issuer.auth.token_file), identity)
    if issuer.tls.client_cert_file is not None:
        return _of_certificate(_read(issuer.tls.client_cert_file), identity)
    return identity


def _of_certificate(pem: bytes, identity: MirrorIdentity) -> MirrorIdentity:
    return replace(identity, way="user", user=common_name(pem))


def _of_token(token: bytes, identity: MirrorIdentity) -> MirrorIdentity:
    """The ServiceAccount of its `sub`, unverified: it only selects the subject of a binding.

    A token that is not here counts as the mirror's own; one without a ServiceAccount belongs to some user.
    """
    found = _SERVICE_ACCOUNT.fullmatch(str(unverified_claims(token).get("sub")))
    if found is not None:
        return replace(identity, way="service-account", namespace=found[1], service_account=found[2])
    return replace(identity, way="user" if token else "service-account")


def common_name(pem: bytes) -> str | None:
    """The user that Kubernetes makes of a client certificate (Kubernetes documentation, "Authenticating"), if any."""
    try:
        names = x509.load_pem_x509_certificate(pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return None
    # Go keeps the last one of several; a name with control characters is rejected.
    name = str(names[-1].value) if names else ""
    return name if name and name.isprintable() else None


def _read(path: Path) -> bytes:
    try:
        return read_small(path, MAX_FILE_BYTES)
    except OSError:
        return b""


MIN_SESSION_SECONDS, MAX_SESSION_SECONDS = 3600, 43_200
"""What IAM takes as a role's longest session (IAM API, CreateRole)."""
MIN_TOKEN_SECONDS, MAX_TOKEN_SECONDS = 600, 2**32
"""What an apiserver takes as the life of a token (facts.md#21; Kubernetes API, TokenRequestSpec)."""

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"  # Kubernetes: names of namespaces are RFC 1123 labels
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"  # names of ServiceAccounts are RFC 1123 subdomains
_SUBJECT = r"[\x21-\x7e]{1,255}"
_ROLE_NAME = r"[A-Za-z0-9+=,.@_-]{1,64}"  # IAM API, CreateRole
_POOL = r"(?!gcp-)[a-z0-9-]{4,32}"  # Workload Identity Federation, ids of pools and providers
_CREDENTIAL = r"[A-Za-z0-9][A-Za-z0-9_-]{2,119}"  # Entra, names of federated identity credentials
_POLICY_ARN = r"arn:aws[a-z-]*:iam::(aws|[0-9]{12}):policy/[\x21-\x7e]{1,512}"
_PATH = r"/[A-Za-z0-9._/-]+"  # what needs no quoting in a unit, a manifest or a shell
_URL = r"[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x2b\x2d-\x7e]+"  # no comma: --api-audiences separates by it
_AUDIENCE = r"[\x21-\x2b\x2d-\x7e]{1,255}"
_IMAGE = r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}"
_USER = r"[^\x00-\x1f\x7f]{1,512}"


def _option(name: str, pattern: str, text: str, *, plural: str = "", **more: Any) -> Callable[[F], F]:
    """An option whose values must fit `pattern`; with a `plural`, the name of its parameter, it may be repeated.

    `text` is its help, and shows the default where there is one; `more` is click's.
    """

    def fitting(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None and re.fullmatch(pattern, each) is None:
                raise click.BadParameter(f"{each!a} is not a valid name.", ctx, param)
        return value

    more |= {"callback": fitting, "show_default": "default" in more, "help": text}
    return click.option(name, plural, multiple=True, **more) if plural else click.option(name, **more)


def _seconds(low: int, high: int, words: str) -> Callable[[str], int]:
    """Reads a duration between `low` and `high` seconds, or says in `words` what is accepted."""

    def read(value: str) -> int:
        seconds = int(duration(value).total_seconds())
        if not low <= seconds <= high:
            raise ValueError(words)
        return seconds

    return read


_NEW, _PLANE = Workload(), ControlPlane()
render_options = all_of(
    (  # in the order of the help
        _option("--namespace", _LABEL, "The namespace of the pods.", default=NAMESPACE),
        _option("--service-account", _SUBDOMAIN, "The ServiceAccount of the pods.", default=SERVICE_ACCOUNT),
        _option("--subject", _SUBJECT, "A whole `sub` in place of both; may be repeated.", plural="subjects"),
        click.option("--audience", help="The audience of the pods' tokens; one of the issuer's `audiences`."),
        click.option(
            "--expiration",
            "expiration_seconds",
            default="1h",
            show_default=True,
            metavar="DURATION",
            callback=read_by(
                _seconds(MIN_TOKEN_SECONDS, MAX_TOKEN_SECONDS, "An apiserver takes 10m and more, below 50000d.")
            ),
            help="The life of the pods' tokens.",
        ),
        _option(
            "--role-name",
            _ROLE_NAME,
            "The role's name; without it <NAME>-<namespace>-<ServiceAccount>, with a hash where that is needed.",
        ),
        _option("--pool", _POOL, "Google's pool and provider; without it after the issuer's name."),
        _option("--credential-name", _CREDENTIAL, "The name of Entra's credential."),
        click.option(
            "--account",
            callback=read_by(checked_account),
            help="The AWS account of the role, where the format cannot find it out.",
        ),
        click.option(
            "--role-arn", metavar="ARN", callback=read_by(checked_arn), help="The role's ARN, in place of both."
        ),
        _option(
            "--managed-policy",
            _POLICY_ARN,
            "A policy of the role; may be repeated.",
            plural="managed_policies",
            metavar="ARN",
        ),
        click.option(
            "--session-duration",
            "session_seconds",
            metavar="DURATION",
            callback=read_by(_seconds(MIN_SESSION_SECONDS, MAX_SESSION_SECONDS, "IAM takes 1h to 12h.")),
            help="The longest session, 1h to 12h.",
        ),
        _option("--image", _IMAGE, "The pod's image.", default=_NEW.image),
        click.option(
            "--webhook",
            "is_webhook",
            is_flag=True,
            help="amazon-eks-pod-identity-webhook runs in the cluster and mounts.",
        ),
        click.option(
            "--rotation",
            "rotation_step",
            type=click.IntRange(1, 3),
            metavar="1|2|3",
            help="One step of a key rotation: 1 verifies with both keys, 2 signs with the new one, "
            "3 forgets the old one.",
        ),
        _option(
            "--key-file",
            _PATH,
            "A file of public keys, on the apiservers' hosts; may be repeated.",
            plural="key_files",
            default=_PLANE.key_files,
        ),
        _option(
            "--signing-key-file",
            _PATH,
            "The file of the signing key, on the apiservers' hosts.",
            default=_PLANE.signing_key_file,
        ),
        _option(
            "--new-key-file", _PATH, "The same after a rotation.", plural="new_key_files", default=_PLANE.new_key_files
        ),
        _option("--new-signing-key-file", _PATH, "The same after a rotation.", default=_PLANE.new_signing_key_file),
        _option(
            "--keep-issuer",
            _URL,
            "The present issuer of a live cluster, which apiservers go on accepting; may be repeated.",
            plural="kept_issuers",
            metavar="URL",
        ),
        click.option(
            "--migration",
            "migration_step",
            type=click.IntRange(1, 3),
            metavar="1|2|3",
            help="One step of a change of the issuer: 1 accepts the new one (the default with --keep-issuer), 2 puts it"
            " first, 3 forgets the former ones.",
        ),
        _option(
            "--api-audience",
            _AUDIENCE,
            "Another audience of the apiserver itself; may be repeated.",
            plural="api_audiences",
        ),
        _option(
            "--mirror",
            f"{_LABEL}/{_SUBDOMAIN}",
            "The mirror's own ServiceAccount in the cluster.",
            default=f"{MirrorIdentity().namespace}/{MirrorIdentity().service_account}",
            metavar="NAMESPACE/NAME",
        ),
        _option(
            "--user", _USER, "The mirror's user name at the apiservers, where its certificate cannot be read here."
        ),
    )
)
"""Every option of `render` that says what the configuration does not know."""


def workload_of(options: dict[str, Any]) -> Workload:
    """The pods that are meant, and their role.

    Raises:
        UsageError: The role is named twice, differently perhaps.
    """
    if options["role_arn"] is not None and (options["role_name"] is not None or options["account"] is not None):
        raise UsageError("The role is named twice.", remedy="Give only --role-arn, or only --role-name and --account.")
    return Workload(**_of(Workload, options))


def _of(noun: type, options: dict[str, Any]) -> dict[str, Any]:
    """The options that have the names of the noun's fields."""
    return {field.name: options[field.name] for field in fields(noun)}


def _kinds(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:  # noqa: ARG001  click's signature
    from click.shell_completion import CompletionItem  # noqa: PLC0415  only the shell asks

    return [CompletionItem(name, help=kind.sentence) for name, kind in KINDS.items() if name.startswith(incomplete)]


def help_of_kinds() -> str:
    """Every kind with its sentence and its formats, as a paragraph of help that is not wrapped."""
    width = max(map(len, KINDS))
    lines = [
        f"  {name:<{width}}  {kind.sentence}\n  {'':<{width}}  {', '.join(kind.formats)}"
        for name, kind in KINDS.items()
    ]
    return "\b\nKinds, each with its formats; the first is the default:\n" + "\n".join(lines)


EXAMPLES = examples(
    "oidc-mirror render rbac syd-prod | kubectl apply -f -",
    "oidc-mirror render iam-role syd-prod --format terraform --namespace shop --service-account api > role.tf",
)


@click.command("render", epilog=f"{help_of_kinds()}\n\n{EXAMPLES}")
@click.argument("kind", type=click.Choice(list(KINDS)), shell_complete=_kinds, metavar="KIND")
@click.argument("name", shell_complete=issuer_names)
@click.option("--format", "form", type=click.Choice(FORMATS), help="How it is written, where there are several ways.")
@render_options
@common_options
def command(ctx: click.Context, /, *, kind: str, name: str, form: str | None, **options: Any) -> None:
    """Print the piece KIND for the issuer NAME on stdout; what else to know is on stderr. Changes nothing."""
    chosen = KINDS[kind]
    if form is not None and form not in chosen.formats:
        raise UsageError(f"{kind} has no format {form}.", remedy=f"Use --format {' or '.join(chosen.formats)}.")
    workload, control_plane = workload_of(options), ControlPlane(**_of(ControlPlane, options))
    settings = common(ctx).load()
    issuer = named(settings, name)
    login = MirrorIdentity()
    if chosen.needs_login:
        namespace, _, account = options["mirror"].partition("/")
        login = apiserver_identity(issuer, MirrorIdentity(namespace, account, options["user"]))
    piece = chosen.render(
        RenderRequest(settings, issuer, form or chosen.default_format, workload, control_plane, login)
    )
    click.echo(text_of(piece), nl=False)
    for note in piece.notes:
        click.echo(f"note: {escaped(note)}", err=True)
