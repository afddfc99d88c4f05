"""The schema of the configuration file: every key with its type, its default as text, and its purpose.

`oidc-mirror schema` and the reference are generated from here. What concerns several keys at once is in `rules`.
A value of null is as if the key were not written; that is taken care of before a shape is filled.

The kinds of values that the configuration's keys have: what is read, how it is checked, how the schema says it.
Each kind is a pydantic annotation around a check that raises `ValueError` with sentences for operators.
"""

import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    Tag,
    WithJsonSchema,
)
from pydantic_core import CoreSchema

from mirror.config import fields
from mirror.config.settings import NotifyKind
from mirror.model import AWS_AUDIENCE_CHARACTERS, AWS_AUDIENCES, GCP_AUDIENCES

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, object]:
    """A JSON Schema (2020-12) of the file: every key with its kind, default and description.

    What it refuses is refused by `load` as well; rules about several keys are only known to `load`.
    """
    schema = Root.model_json_schema()
    return {"$schema": DIALECT, **schema, "title": "Configuration of oidc-mirror"}


MAX_TEXT_CHARACTERS = 1024
MAX_GOOGLE_AUDIENCE_CHARACTERS = 256
MAX_AZURE_AUDIENCE_CHARACTERS = 600
MAX_EXTRA_MEMBERS = 64
NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
THUMBPRINT_PATTERN = r"^[A-Za-z0-9_-]{43}$"
DAY_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
OUR_MEMBERS = frozenset(  # of the discovery document, facts.md#2: built from what was validated, never configured
    {
        "issuer",
        "jwks_uri",
        "response_types_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
    }
)
_Read = TypeVar("_Read")


def _text(value: object) -> str:
    if isinstance(value, int | float):
        raise ValueError("This must be text. Put it in quotes.")  # noqa: TRY004 - pydantic reports ValueError
    if not isinstance(value, str):
        raise ValueError("This must be text. Write one line of it.")  # noqa: TRY004 - pydantic reports ValueError
    if not 0 < len(value) <= MAX_TEXT_CHARACTERS:
        raise ValueError(f"This must have 1 to {MAX_TEXT_CHARACTERS} characters. Correct it, or remove the key.")
    if not value.isprintable():
        raise ValueError("This has control or invisible characters. Type it again without them.")
    return value


def _from_text(check: Callable[[str], _Read]) -> Callable[[object], _Read]:
    """A check of a printable text, as one validator: pydantic's own text type would speak its own words."""
    return lambda value: check(_text(value))


def _name(text: str) -> str:
    mistake = "This is not a name. Use up to 63 lower-case letters, digits and hyphens, and no hyphen at the beginning."
    return fields.fitting(NAME_PATTERN, text, mistake)


def _audience(text: str) -> str:
    if len(text) > AWS_AUDIENCE_CHARACTERS:
        raise ValueError(f"AWS takes audiences of 1 to {AWS_AUDIENCE_CHARACTERS} characters. Choose a shorter one.")
    return text


def _google_audience(text: str) -> str:
    if len(text) > MAX_GOOGLE_AUDIENCE_CHARACTERS:
        raise ValueError(f"Google takes audiences of 1 to {MAX_GOOGLE_AUDIENCE_CHARACTERS} characters. Shorten it.")
    return text


def _azure_audience(text: str) -> str:
    if len(text) > MAX_AZURE_AUDIENCE_CHARACTERS:
        raise ValueError(f"Entra takes audiences of 1 to {MAX_AZURE_AUDIENCE_CHARACTERS} characters. Shorten it.")
    return text


def one_or_list(value: object) -> object:
    """A text in place of a list of one."""
    return [value] if isinstance(value, str) else value


def _thumbprint(text: str) -> str:
    mistake = "This is not a thumbprint. Copy the 43 characters that `oidc-mirror status` shows for the key (RFC 7638)."
    return fields.fitting(THUMBPRINT_PATTERN, text, mistake)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text if re.fullmatch(DAY_PATTERN, text) else "")
    except ValueError:
        raise ValueError("This is not a day. Write it as year-month-day, such as 2027-01-31.") from None


def _prefix(value: object) -> str:
    return "" if value == "" else fields.prefix(_text(value))


def _positive(value: object) -> timedelta:
    length = fields.duration(value)
    if not length:
        raise ValueError("The duration is zero. Write a longer one, such as 5s.")
    return length


def _extra(members: dict[str, JsonValue]) -> dict[str, JsonValue]:
    ours = sorted(OUR_MEMBERS & members.keys())
    mistakes = [f"The member {name} is made from what was validated. Remove it here." for name in ours]
    if not all(name and name.isprintable() for name in members):
        mistakes.append("A member has an empty or unprintable name. Correct it.")
    if len(members) > MAX_EXTRA_MEMBERS:
        mistakes.append(f"There are more than {MAX_EXTRA_MEMBERS} members. Remove what no relying party needs.")
    if mistakes:
        raise ValueError(*mistakes)
    return members


def _schema(pattern: str | None = None, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **({"pattern": pattern} if pattern else {}), **more})


_TEXT_SCHEMA = _schema(minLength=1, maxLength=MAX_TEXT_CHARACTERS)

Text = Annotated[str, BeforeValidator(_text), _TEXT_SCHEMA]
FileName = Annotated[
    str,
    BeforeValidator(_from_text(fields.file_name)),
    _schema(r"^(?!~)(?!.*\$[A-Za-z_{])", minLength=1, maxLength=MAX_TEXT_CHARACTERS),
]
IssuerText = Annotated[str, BeforeValidator(_text), _schema("^https://[^/?#@]+(/[^?#@]*)?$", maxLength=255)]
Name = Annotated[str, BeforeValidator(_from_text(_name)), _schema(NAME_PATTERN)]
Duration = Annotated[timedelta, BeforeValidator(fields.duration), _schema(fields.DURATION_PATTERN)]
PositiveDuration = Annotated[timedelta, BeforeValidator(_positive), _schema(fields.DURATION_PATTERN)]
Size = Annotated[int, BeforeValidator(fields.size_bytes), _schema(fields.SIZE_PATTERN)]
Day = Annotated[date, BeforeValidator(_from_text(_day)), _schema(DAY_PATTERN)]
Audience = Annotated[
    str, BeforeValidator(_from_text(_audience)), _schema(minLength=1, maxLength=AWS_AUDIENCE_CHARACTERS)
]
GoogleAudience = Annotated[str, BeforeValidator(_from_text(_google_audience)), _schema(minLength=1, maxLength=256)]
AzureAudience = Annotated[str, BeforeValidator(_from_text(_azure_audience)), _schema(minLength=1, maxLength=600)]
ThumbprintText = Annotated[str, BeforeValidator(_from_text(_thumbprint)), _schema(THUMBPRINT_PATTERN)]
Apiserver = Annotated[str, BeforeValidator(_from_text(fields.apiserver)), _schema("^https://[^/?#@]+(/[^?#@]+)?$")]
Proxy = Annotated[str, BeforeValidator(_from_text(fields.proxy)), _schema("^https?://[^/?#@]+/?$")]
BaseUrl = Annotated[str, BeforeValidator(_from_text(fields.base_url)), _schema("^https://[^?#@]+$")]
EndpointUrl = Annotated[str, BeforeValidator(_from_text(fields.endpoint_url)), _schema("^https?://[^?#@]+$")]
HostName = Annotated[str, BeforeValidator(_from_text(fields.host)), _TEXT_SCHEMA]
HostAndPort = Annotated[tuple[str, int], BeforeValidator(_from_text(fields.host_and_port)), _schema("^.+:[0-9]{1,5}$")]
ListenAddress = Annotated[
    tuple[str, int], BeforeValidator(_from_text(fields.listen_address)), _schema("^.+:[0-9]{1,5}$")
]
BucketName = Annotated[str, BeforeValidator(_from_text(fields.bucket)), _schema(fields.BUCKET_PATTERN)]
Region = Annotated[str, BeforeValidator(_from_text(fields.region)), _schema(fields.REGION_PATTERN)]
AccountId = Annotated[
    str,
    BeforeValidator(fields.account),
    WithJsonSchema({"type": ["string", "integer"], "pattern": fields.ACCOUNT_PATTERN}),
]
RoleArn = Annotated[str, BeforeValidator(_from_text(fields.role_arn)), _schema(fields.ROLE_ARN_PATTERN)]
Distribution = Annotated[str, BeforeValidator(_from_text(fields.distribution)), _schema(fields.DISTRIBUTION_PATTERN)]
Prefix = Annotated[str, BeforeValidator(_prefix), _schema(maxLength=MAX_TEXT_CHARACTERS)]
CacheControl = Annotated[str, BeforeValidator(_from_text(fields.cache_control)), _TEXT_SCHEMA]
RemoteUrl = Annotated[str, BeforeValidator(_from_text(fields.remote)), _TEXT_SCHEMA]
Branch = Annotated[str, BeforeValidator(_from_text(fields.branch)), _TEXT_SCHEMA]
RepositoryName = Annotated[str, BeforeValidator(_from_text(fields.name)), _schema(fields.NAME_PATTERN)]
Author = Annotated[tuple[str, str], BeforeValidator(_from_text(fields.author)), _schema("^[^<>]+ <[^<> ]+>$")]
ExtraMembers = Annotated[dict[str, JsonValue], AfterValidator(_extra)]
Count = Annotated[int, Field(ge=1, le=10_000)]


_Items = Field(strict=False)  # a list in the file, a tuple here
_OneOrList = BeforeValidator(one_or_list)


class _Declared:
    """Declares in the JSON Schema which other forms are valid: `change` gets the schema of the section."""

    def __init__(self, change: Callable[[dict[str, Any]], dict[str, object]]) -> None:
        self._change = change

    def __get_pydantic_json_schema__(self, section: CoreSchema, describe: GetJsonSchemaHandler) -> dict[str, object]:
        return self._change(describe(section))


_OrText = _Declared(lambda listed: {"anyOf": [listed["items"], listed]})  # one text stands for a list of it
_OrFalse = _Declared(lambda section: {"anyOf": [{"const": False}, section]})
_TwoForms = _Declared(lambda section: {"anyOf": section["oneOf"]})


def _key(default: Any = ..., *, description: str) -> Any:
    """A key whose default is written as in the file: text for a duration, `{}` for a section."""
    return Field(default, description=description)


class Section(BaseModel):
    """A section: nothing is converted silently, and an unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, defer_build=True)


class Limits(Section):
    """What a slow or hostile outside world may cost."""

    connect: PositiveDuration = _key("5s", description="How long a connection to an apiserver may take.")
    total: PositiveDuration = _key(
        "15s", description="How long an apiserver may take for both documents, second tries included."
    )
    source_deadline: PositiveDuration = _key(
        "60s", description="How long asking all apiservers of a pass may take; who was not asked by then is late."
    )
    max_body: Size = _key("1MiB", description="The largest document that is read; a larger one is refused.")
    concurrency: Count = _key(256, description="How many apiservers are asked at the same time.")
    puts: Count = _key(16, description="How many objects are written at the same time.")


class Http(Section):
    """The daemon's own pages: health, readiness, metrics and status."""

    listen: ListenAddress | None = _key("127.0.0.1:9797", description="Address and port to listen on, host:port.")


class Notify(Section):
    """Messages to operators, by HTTP. The URLs are secrets, so each URL has its own file."""

    webhook_url_file: FileName | None = _key(
        None,
        description="File with the URL that gets a POST when an issuer's state changes, and when it recovers. It is"
        " read for each message.",
    )
    format: Literal["slack", "generic"] = _key(
        "slack",
        description="Form of the message: Slack's, which others take too, or everything as data"
        " (docs/reference/notification.schema.json).",
    )
    events: Annotated[tuple[NotifyKind, ...], _Items, Field(min_length=1)] = _key(
        get_args(NotifyKind), description="What a message may be about."
    )
    heartbeat_url_file: FileName | None = _key(
        None, description="File with the URL that gets a GET after each pass in which nothing failed."
    )
    ca_file: FileName | None = _key(
        None, description="The only CA certificates that are trusted for both URLs. Default: the system's."
    )
    proxy: Proxy | None = _key(None, description="HTTP proxy for both URLs, without password.")


class Repository(Section):
    """The git repository that keeps every state."""

    path: FileName = _key("snapshots.git", description="The bare repository; relative to state_dir.")
    remote: RemoteUrl | None = _key(
        None,
        description="Where the history is fetched from and pushed to: https://, ssh://, user@host:path or an"
        " absolute path. Mirrors that write to one bucket must share one remote.",
    )
    branch: Branch = _key("main", description="The branch that holds the history.")
    sign: bool = _key(False, description="Sign commits with git's own signing configuration.")
    require_push: bool = _key(
        default=False, description="Push every commit before anything is published; needs remote."
    )
    signing_key: FileName | None = _key(
        None,
        description="OpenSSH private key without passphrase that signs every ledger; only signed ledgers count"
        " then. Without it the remote is trusted. $OIDC_MIRROR_SIGNING_KEY overrides it.",
    )
    allowed_signers: FileName | None = _key(
        None,
        description="File of the ssh public keys of other mirrors and of operators, a line TYPE BASE64 [comment] each:"
        " ledgers that they signed count too.",
    )
    name: RepositoryName = _key(
        "oidc-mirror",
        description="What a signature is for. Give each repository that shares a key another name: test and"
        " production, or a repository that replaces a lost one.",
    )
    author: Author = _key("oidc-mirror <oidc-mirror@localhost>", description="Who commits, as Name <mail address>.")


class Readback(Section):
    """How the public URL is read, as a relying party would."""

    enabled: bool = _key(True, description="Read the public URL after each change and every audit_interval.")
    ca_file: FileName | None = _key(
        None, description="The only CA certificates that are trusted for the public URL. Default: the system's."
    )
    connect_to: HostAndPort | None = _key(
        None, description="host:port that is connected to instead of the URL's own, as curl's --connect-to."
    )
    proxy: Proxy | None = _key(
        None, description="HTTP proxy for reading the public URL, where nothing else leads out; without password."
    )


class Publish(Section):
    """Where objects are published and how. Every key can be overridden in `defaults` and for each issuer."""

    bucket: BucketName | None = _key(None, description="The bucket's name, without dots. Required.")
    region: Region | None = _key(None, description="The bucket's region. Required.")
    endpoint_url: EndpointUrl | None = _key(None, description="Another S3 server than AWS.")
    prefix: Prefix = _key("", description="Folder of the bucket in which the objects are put.")
    base_url: BaseUrl | None = _key(
        None,
        description="The public https URL of the folder, where it is not the bucket's own: a custom domain or"
        " CloudFront. Every issuer must be inside.",
    )
    expected_bucket_owner: AccountId | None = _key(
        None,
        description=(
            "AWS account that must own the bucket; protects against a bucket that another account created again."
        ),
    )
    profile: Text | None = _key(None, description="Profile of the AWS configuration files.")
    role_arn: RoleArn | None = _key(None, description="Role that is assumed for writing.")
    conditional_writes: bool = _key(
        default=True, description="Write only over what was seen. Switch off for stores that cannot, with one mirror."
    )
    checksums: bool = _key(
        default=True, description="Send x-amz-checksum-sha256 with each object. Switch off for stores that refuse it."
    )
    cache_control: CacheControl = _key(
        "public, max-age=300", description="Cache-Control of the objects; max-age 60 to 3600 seconds."
    )
    jwks_content_type: Literal["application/jwk-set+json", "application/json"] = _key(
        "application/jwk-set+json", description="Content type of the JWKS; some relying parties know only the second."
    )
    audit_interval: Duration = _key(
        "1h", description="How often headers are compared and public URLs are read although nothing changed."
    )
    cloudfront_distribution: Distribution | None = _key(
        None, description="CloudFront distribution in front of the bucket, whose cache drops changed paths."
    )
    readback: Readback = _key({}, description="How the public URL is checked.")


class Tls(Section):
    """How an issuer's apiservers are verified. It cannot be switched off."""

    ca_file: FileName | None = _key(
        None, description=("The only CA certificates that are trusted. Default: the system's.")
    )
    server_name: HostName | None = _key(
        None, description="Name that the certificate must have, where it is not the URL's host."
    )
    client_cert_file: FileName | None = _key(None, description="Client certificate, PEM.")
    client_key_file: FileName | None = _key(None, description="Key of the client certificate, PEM.")


class Auth(Section):
    """How the mirror logs in at the apiservers; anonymous when empty."""

    token_file: FileName | None = _key(None, description="File with a ServiceAccount token; read again in every pass.")
    kubeconfig: FileName | None = _key(
        None, description="kubeconfig with server, CA and token or client certificate; replaces tls and token_file."
    )
    context: Text | None = _key(None, description="Context of the kubeconfig; without it the current one.")
    in_cluster: bool = _key(False, description="Use the pod's own ServiceAccount, for its own cluster only.")


class Keys(Section):
    """How an issuer's keys are treated."""

    new_keys: Literal["publish", "hold"] = _key(
        "publish", description="Publish a new key at once, or hold it until an operator approves."
    )
    retain_removed: Duration = _key(
        "24h", description="How long a key stays public after every apiserver stopped showing it."
    )
    kid: Literal["kubernetes", "opaque"] = _key(
        "kubernetes",
        description="Recompute and enforce key ids as Kubernetes makes them, or take any (external signer).",
    )
    unknown_keys: Literal["skip", "refuse"] = _key(
        "skip", description="Leave a key of unknown type out with a note, or refuse the whole answer."
    )
    revoked: Annotated[tuple[ThumbprintText, ...], _Items] = _key(
        (), description="RFC 7638 thumbprints that are never public; those of defaults are added, not replaced."
    )


class FormerIssuer(Section):
    """An issuer of the past under which the same keys stay public while tokens of it live."""

    issuer: IssuerText = _key(description="The former issuer, exactly as tokens have it.")
    until: Day = _key(description="The last day, UTC, on which it gets new keys.")


class Audiences(Section):
    """The audiences of the pods' tokens by cloud; a cloud with none takes its usual one."""

    aws: Annotated[tuple[Audience, ...], _OneOrList, _Items, Field(max_length=AWS_AUDIENCES), _OrText] = _key(
        (), description="Audiences that AWS accepts; without any sts.amazonaws.com."
    )
    gcp: Annotated[tuple[GoogleAudience, ...], _OneOrList, _Items, Field(max_length=GCP_AUDIENCES), _OrText] = _key(
        (), description="Audiences that Google accepts; without any the full name of the pool's provider."
    )
    azure: Annotated[tuple[AzureAudience, ...], _OneOrList, _Items, Field(max_length=20), _OrText] = _key(
        (), description="Audiences that Entra accepts, one a credential; without any api://AzureADTokenExchange."
    )


LIST_FORM, MAP_FORM = "(list)", "(map)"
"""Stand in pydantic's paths where a key has two forms; no path that an operator sees has them."""


def _form(value: object) -> str:
    return MAP_FORM if isinstance(value, dict | Audiences) else LIST_FORM


class IssuerKeys(Section):
    """What `defaults` may hold: every key of an issuer but its name and its URL."""

    apiservers: Annotated[tuple[Apiserver, ...], _Items] = _key(
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
    expect_replicas: Count | None = _key(
        None, description="How many apiservers there must be before a key may retire; one that is silent blocks it."
    )
    proxy: Proxy | None = _key(None, description="HTTP proxy for this issuer's apiservers, without password.")
    allow_private_issuer: bool = _key(
        default=False, description="Allow an issuer that the public cannot reach: tests and closed networks."
    )
    tls: Tls = _key({}, description="How the apiservers are verified.")
    auth: Auth = _key({}, description="How the mirror logs in.")
    audiences: Annotated[
        Annotated[tuple[Audience, ...], _Items, Field(max_length=AWS_AUDIENCES), Tag(LIST_FORM)]
        | Annotated[Audiences, Tag(MAP_FORM)],
        Discriminator(_form),
        _TwoForms,
    ] = _key(
        (),
        description="Audiences of the pods' tokens, by cloud, or as a list that is sorted out by their texts. A token"
        " with one of them is never sent to an apiserver.",
    )
    keys: Keys = _key({}, description="How keys are published and retired.")
    former_issuers: Annotated[tuple[FormerIssuer, ...], _Items] = _key(
        (), description="Issuers of the past under which the same keys stay public."
    )
    discovery_extra: ExtraMembers = _key(
        {}, description="Members that are added to the discovery document for strict relying parties."
    )
    probe_token_file: FileName | None = _key(
        None, description="A token of this cluster, never sent: is its signing key public? Else auth.token_file."
    )
    suspend: bool = _key(
        default=False, description="Ask and report as always, and change nothing of the issuer but revocations."
    )
    publish: Publish | None = _key(None, description="Overrides of the global publish section.")


class IssuerEntry(IssuerKeys):
    """One cluster."""

    name: Name = _key(description="Label in logs, metrics and commands; changing it changes nothing else.")
    issuer: IssuerText = _key(
        description="The first --service-account-issuer of the apiservers, exactly as they have it."
    )


def _off(value: object) -> object:
    if isinstance(value, str) and value.lower() in ("off", "no", "none", "disabled"):
        raise ValueError(f"{value} does not switch the pages off. Write false.")
    return Http.model_construct(listen=None) if value is False else value


class Root(Section):
    """The whole file."""

    interval: PositiveDuration = _key("1m", description="How often the daemon makes a pass.")
    state_dir: FileName = _key("/var/lib/oidc-mirror", description="Folder of everything that is kept.")
    issuers_dir: FileName | None = _key(
        None, description="Folder whose *.yaml files each hold a list of issuer entries."
    )
    max_failures: Annotated[int, Field(ge=0, le=1_000_000)] = _key(
        0, description="The daemon leaves after so many failed passes in a row; 0 means never."
    )
    fail_on_drift: bool = _key(
        False, description="Exit status 1 for a pass that had to repair a change of another writer, and did."
    )
    metrics_file: FileName | None = _key(
        None, description="File that gets the metrics after each pass, for the textfile collector."
    )
    notify: Notify = _key({}, description="Messages to operators, and a sign of life.")
    http: Annotated[Http, BeforeValidator(_off), _OrFalse] = _key(
        {}, description="The daemon's pages; false switches them off."
    )
    limits: Limits = _key({}, description="Limits with units.")
    repository: Repository = _key({}, description="The history in git.")
    publish: Publish = _key({}, description="The bucket and how it is written.")
    defaults: IssuerKeys = _key({}, description="Keys that every issuer inherits.")
    issuers: Annotated[tuple[IssuerEntry, ...], _Items, Field(json_schema_extra={"minItems": 1})] = _key(
        (), description="The clusters."
    )
