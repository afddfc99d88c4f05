"""The shape of the configuration file: every key with its kind, its default as text, and what it is for.

`oidc-mirror schema` and the reference are generated from here. What concerns several keys at once is in `rules`.
A value of null is as if the key were not written; that is taken care of before a shape is filled.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, GetJsonSchemaHandler, Tag
from pydantic_core import CoreSchema

from mirror.config import types

_Items = Field(strict=False)  # a list in the file, a tuple here
_OneOrList = BeforeValidator(types.one_or_list)


class _OrText:
    """Tells the JSON Schema that one text stands for a list of it."""

    def __get_pydantic_json_schema__(self, section: CoreSchema, describe: GetJsonSchemaHandler) -> dict[str, object]:
        listed = describe(section)
        return {"anyOf": [listed["items"], listed]}


def _key(default: Any = ..., *, description: str) -> Any:
    """A key whose default is written as in the file: text for a duration, `{}` for a section."""
    return Field(default, description=description)


class Shape(BaseModel):
    """A section: nothing is converted silently, and an unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, defer_build=True)


class Limits(Shape):
    """What a slow or hostile outside world may cost."""

    connect: types.PositiveDuration = _key("5s", description="How long a connection to an apiserver may take.")
    total: types.PositiveDuration = _key(
        "15s", description="How long an apiserver may take for both documents, second tries included."
    )
    source_deadline: types.PositiveDuration = _key(
        "60s", description="How long asking all apiservers of a pass may take; who was not asked by then is late."
    )
    max_body: types.Size = _key("1MiB", description="The largest document that is read; a larger one is refused.")
    concurrency: types.Count = _key(256, description="How many apiservers are asked at the same time.")
    puts: types.Count = _key(16, description="How many objects are written at the same time.")


class Http(Shape):
    """The daemon's own pages: health, readiness, metrics and status."""

    listen: types.ListenAddress | None = _key("127.0.0.1:9797", description="Address and port to listen on, host:port.")


class Repository(Shape):
    """The git repository that keeps every state."""

    path: types.FileName = _key("snapshots.git", description="The bare repository; relative to state_dir.")
    remote: types.Remote | None = _key(
        None,
        description="Where the history is fetched from and pushed to: https://, ssh://, user@host:path or an"
        " absolute path. Mirrors that write to one bucket must share one remote.",
    )
    branch: types.Branch = _key("main", description="The branch that holds the history.")
    sign: bool = _key(False, description="Sign commits with git's own signing configuration.")
    require_push: bool = _key(
        default=False, description="Push every commit before anything is published; needs remote."
    )
    signing_key: types.FileName | None = _key(
        None,
        description="OpenSSH private key without passphrase that signs every ledger; only signed ledgers are believed"
        " then. Without it the remote is trusted. $OIDC_MIRROR_SIGNING_KEY overrides it.",
    )
    allowed_signers: types.FileName | None = _key(
        None,
        description="File of the ssh public keys of other mirrors and of operators, a line TYPE BASE64 [comment] each:"
        " ledgers that they signed are believed too.",
    )
    name: types.RepositoryName = _key(
        "oidc-mirror",
        description="What a signature is for. Give each repository that shares a key another name: test and"
        " production, or one that is made anew.",
    )
    author: types.Author = _key(
        "oidc-mirror <oidc-mirror@localhost>", description="Who commits, as Name <mail address>."
    )


class Readback(Shape):
    """How the public URL is read, as a relying party would."""

    enabled: bool = _key(True, description="Read the public URL after each change and every audit_interval.")
    ca_file: types.FileName | None = _key(
        None, description="Certificates that alone are trusted for the public URL; without it the system's."
    )
    connect_to: types.HostAndPort | None = _key(
        None, description="host:port that is connected to instead of the URL's own, as curl's --connect-to."
    )


class Publish(Shape):
    """Where objects are published and how. Every key can be overridden in `defaults` and for each issuer."""

    bucket: types.BucketName | None = _key(None, description="The bucket's name, without dots. Required.")
    region: types.Region | None = _key(None, description="The bucket's region. Required.")
    endpoint_url: types.EndpointUrl | None = _key(None, description="Another S3 server than AWS.")
    prefix: types.Prefix = _key("", description="Folder of the bucket in which the objects are put.")
    base_url: types.BaseUrl | None = _key(
        None,
        description="The public https URL of the folder, where it is not the bucket's own: a custom domain or"
        " CloudFront. Every issuer must be inside.",
    )
    expected_bucket_owner: types.Account | None = _key(
        None, description="AWS account that must own the bucket; protects against a bucket made anew by others."
    )
    profile: types.Text | None = _key(None, description="Profile of the AWS configuration files.")
    role_arn: types.RoleArn | None = _key(None, description="Role that is assumed for writing.")
    conditional_writes: bool = _key(
        default=True, description="Write only over what was seen. Switch off for stores that cannot, with one mirror."
    )
    cache_control: types.CacheControl = _key(
        "public, max-age=300", description="Cache-Control of the objects; max-age 60 to 3600 seconds."
    )
    jwks_content_type: Literal["application/jwk-set+json", "application/json"] = _key(
        "application/jwk-set+json", description="Content type of the JWKS; some relying parties know only the second."
    )
    audit_interval: types.Duration = _key(
        "1h", description="How often headers are compared and public URLs are read although nothing changed."
    )
    cloudfront_distribution: types.Distribution | None = _key(
        None, description="CloudFront distribution in front of the bucket, whose cache is told to drop changed paths."
    )
    readback: Readback = _key({}, description="How the public URL is checked.")


class Tls(Shape):
    """How an issuer's apiservers are verified. It cannot be switched off."""

    ca_file: types.FileName | None = _key(
        None, description="Certificates that alone are trusted; without it the system's."
    )
    server_name: types.HostName | None = _key(
        None, description="Name that the certificate must have, where it is not the URL's host."
    )
    client_cert_file: types.FileName | None = _key(None, description="Client certificate, PEM.")
    client_key_file: types.FileName | None = _key(None, description="Key of the client certificate, PEM.")


class Auth(Shape):
    """How the mirror logs in at the apiservers; anonymous when empty."""

    token_file: types.FileName | None = _key(
        None, description="File with a ServiceAccount token; read again in every pass."
    )
    kubeconfig: types.FileName | None = _key(
        None, description="kubeconfig with server, CA and token or client certificate; replaces tls and token_file."
    )
    context: types.Text | None = _key(None, description="Context of the kubeconfig; without it the current one.")
    in_cluster: bool = _key(False, description="Use the pod's own ServiceAccount, for its own cluster only.")


class Keys(Shape):
    """How an issuer's keys are treated."""

    new_keys: Literal["publish", "hold"] = _key(
        "publish", description="Publish a new key at once, or hold it until an operator approves."
    )
    retain_removed: types.Duration = _key(
        "24h", description="How long a key stays public after every apiserver stopped showing it."
    )
    kid: Literal["kubernetes", "opaque"] = _key(
        "kubernetes",
        description="Recompute and enforce key ids as Kubernetes makes them, or take any (external signer).",
    )
    unknown_keys: Literal["skip", "refuse"] = _key(
        "skip", description="Leave a key of unknown type out with a note, or refuse the whole answer."
    )
    revoked: Annotated[tuple[types.Thumbprint, ...], _Items] = _key(
        (), description="RFC 7638 thumbprints that are never public; those of defaults are added, not replaced."
    )


class FormerIssuer(Shape):
    """An issuer of the past under which the same keys stay public while tokens of it live."""

    issuer: types.Text = _key(description="The former issuer, exactly as tokens have it.")
    until: types.Day = _key(description="The last day, UTC, on which it gets new keys.")


class Audiences(Shape):
    """The audiences of the pods' tokens by cloud; a cloud with none takes its usual one."""

    aws: Annotated[tuple[types.Audience, ...], _OneOrList, _Items, Field(max_length=100), _OrText()] = _key(
        (), description="Audiences that AWS accepts; without any sts.amazonaws.com."
    )
    gcp: Annotated[tuple[types.GoogleAudience, ...], _OneOrList, _Items, Field(max_length=10), _OrText()] = _key(
        (), description="Audiences that Google accepts; without any the full name of the pool's provider."
    )
    azure: Annotated[tuple[types.AzureAudience, ...], _OneOrList, _Items, Field(max_length=20), _OrText()] = _key(
        (), description="Audiences that Entra accepts, one a credential; without any api://AzureADTokenExchange."
    )


LIST_FORM, MAP_FORM = "(list)", "(map)"
"""Stand in pydantic's paths where a key has two forms; no path that an operator sees has them."""


def _form(value: object) -> str:
    return MAP_FORM if isinstance(value, dict | Audiences) else LIST_FORM


class _TwoForms:
    """Tells the JSON Schema that either form will do."""

    def __get_pydantic_json_schema__(self, section: CoreSchema, describe: GetJsonSchemaHandler) -> dict[str, object]:
        return {"anyOf": describe(section)["oneOf"]}


class IssuerKeys(Shape):
    """What `defaults` may hold: every key of an issuer but its name and its URL."""

    apiservers: Annotated[tuple[types.Apiserver, ...], _Items] = _key(
        (),
        description="Every replica, each as https://host:port, or behind the prefix of a gateway as https://host/prefix."
        " All of them are asked in every pass.",
    )
    load_balancer: bool = _key(
        default=False, description="The URLs hide several apiservers; each is asked on five connections."
    )
    discover: Literal["dns", "endpointslices"] | None = _key(
        None, description="Find the replicas behind the host name, or in the cluster."
    )
    expect_replicas: types.Count | None = _key(
        None, description="How many apiservers there must be before a key may retire; one that is silent blocks it."
    )
    proxy: types.Proxy | None = _key(None, description="HTTP proxy for this issuer's apiservers, without password.")
    allow_private_issuer: bool = _key(
        default=False, description="Allow an issuer that the public cannot reach: tests and closed networks."
    )
    tls: Tls = _key({}, description="How the apiservers are verified.")
    auth: Auth = _key({}, description="How the mirror logs in.")
    audiences: Annotated[
        Annotated[tuple[types.Audience, ...], _Items, Field(max_length=100), Tag(LIST_FORM)]
        | Annotated[Audiences, Tag(MAP_FORM)],
        Discriminator(_form),
        _TwoForms(),
    ] = _key(
        (),
        description="Audiences of the pods' tokens, by cloud, or as a list that is sorted out by their texts. A token"
        " with one of them is never sent to an apiserver.",
    )
    keys: Keys = _key({}, description="How keys are published and retired.")
    former_issuers: Annotated[tuple[FormerIssuer, ...], _Items] = _key(
        (), description="Issuers of the past under which the same keys stay public."
    )
    discovery_extra: types.ExtraMembers = _key(
        {}, description="Members that are added to the discovery document for strict relying parties."
    )
    probe_token_file: types.FileName | None = _key(
        None, description="A token of this cluster, never sent: is its signing key public? Else auth.token_file."
    )
    publish: Publish | None = _key(None, description="Overrides of the global publish section.")


class IssuerEntry(IssuerKeys):
    """One cluster."""

    name: types.Name = _key(description="Label in logs, metrics and commands; changing it changes nothing else.")
    issuer: types.Text = _key(
        description="The first --service-account-issuer of the apiservers, exactly as they have it."
    )


def _off(value: object) -> object:
    return Http.model_construct(listen=None) if value is False else value


class _OrFalse:
    """Tells the JSON Schema that `false` is allowed as well."""

    def __get_pydantic_json_schema__(self, section: CoreSchema, describe: GetJsonSchemaHandler) -> dict[str, object]:
        return {"anyOf": [{"const": False}, describe(section)]}


class Root(Shape):
    """The whole file."""

    interval: types.PositiveDuration = _key("5m", description="How often the daemon makes a pass.")
    state_dir: types.FileName = _key("/var/lib/oidc-mirror", description="Folder of everything that is kept.")
    issuers_dir: types.FileName | None = _key(
        None, description="Folder whose *.yaml files each hold a list of issuer entries."
    )
    max_failures: Annotated[int, Field(ge=0, le=1_000_000)] = _key(
        0, description="The daemon leaves after so many failed passes in a row; 0 means never."
    )
    metrics_file: types.FileName | None = _key(
        None, description="File that gets the metrics after each pass, for the textfile collector."
    )
    http: Annotated[Http, BeforeValidator(_off), _OrFalse()] = _key(
        {}, description="The daemon's pages; false switches them off."
    )
    limits: Limits = _key({}, description="Limits with units.")
    repository: Repository = _key({}, description="The history in git.")
    publish: Publish = _key({}, description="The bucket and how it is written.")
    defaults: IssuerKeys = _key({}, description="Keys that every issuer inherits.")
    issuers: Annotated[tuple[IssuerEntry, ...], _Items] = _key((), description="The clusters.")
