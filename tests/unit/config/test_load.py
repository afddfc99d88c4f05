"""Configuration files become settings: defaults, layers, paths, and all mistakes at once."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.config.load import load, parse
from mirror.config.settings import (
    AuthSettings,
    Issuer,
    LimitSettings,
    PublishSettings,
    ReadbackSettings,
    RepositorySettings,
    Settings,
    TlsSettings,
)
from mirror.errors import UsageError
from mirror.model import Cloud, IssuerName, IssuerUrl, KeyPolicy, TokenAudiences

BASE = Path("/etc/oidc-mirror")
S3 = "https://oidc-bucket.s3.ap-southeast-2.amazonaws.com"
THUMBPRINTS = ("A" * 43, "B" * 43)


def _text(entry: str = "", *, top: str = "", publish: str = "", name: str = "a", issuer: str = f"{S3}/a") -> str:
    return f"""
publish: {{bucket: oidc-bucket, region: ap-southeast-2, {publish}}}
{top}
issuers:
  - name: {name}
    issuer: {issuer}
    apiservers: [https://10.0.0.11:6443]
    {entry}
"""


def _parse(text: str) -> Settings:
    return parse(text, base=BASE)


def _problems(text: str, **files: str) -> tuple[str, ...]:
    with pytest.raises(UsageError) as caught:
        parse(text, base=BASE, issuer_files={f"{name}.yaml": body for name, body in files.items()})
    return caught.value.problems


def test_least_configuration_has_every_default() -> None:
    """With only bucket, region and one issuer, every other value is the default of `Settings`."""
    publish = PublishSettings("oidc-bucket", "ap-southeast-2", S3)
    assert _parse(_text()) == Settings(
        state_dir=Path("/var/lib/oidc-mirror"),
        repository=RepositorySettings(Path("/var/lib/oidc-mirror/snapshots.git")),
        issuers=(Issuer(IssuerName("a"), IssuerUrl(f"{S3}/a"), publish, ("https://10.0.0.11:6443",)),),
    )


def test_every_key_arrives() -> None:
    """Each key reaches the settings with its unit. Paths become absolute."""
    settings = _parse(
        _text(
            "expect_replicas: 1\n    proxy: http://proxy:3128/\n    audiences: [x]\n"
            "    tls: {ca_file: ca.crt, server_name: '::1', client_cert_file: c, client_key_file: /k}\n"
            "    auth: {token_file: t}\n    discovery_extra: {a: [1, null]}\n"
            f"    keys: {{new_keys: hold, retain_removed: 12h, kid: opaque, unknown_keys: refuse, "
            f"revoked: [{THUMBPRINTS[0]}]}}",
            top="interval: 1m\nstate_dir: state\nmax_failures: 3\nhttp: {listen: '[::1]:0'}\n"
            "limits: {connect: 1s, total: 2s, source_deadline: 3s, max_body: 2KiB, concurrency: 4, puts: 5}\n"
            "repository: {path: r.git, remote: git@h:x.git, branch: b/c, sign: true, require_push: true,"
            " signing_key: keys/ledger, allowed_signers: /s, name: a.b_c-1, author: 'A B <a@b>'}",
            publish="prefix: p/, base_url: 'https://oidc-bucket.s3.ap-southeast-2.amazonaws.com/p/',"
            " expected_bucket_owner: 123456789012, profile: q, role_arn: 'arn:aws:iam::123456789012:role/r',"
            " conditional_writes: false, cache_control: 'max-age=60, must-revalidate',"
            " jwks_content_type: application/json, audit_interval: 0s,"
            " readback: {enabled: false, ca_file: r.crt, connect_to: '127.0.0.1:1'}",
            issuer=f"{S3}/p/a",
        )
    )
    publish = PublishSettings(
        "oidc-bucket", "ap-southeast-2", f"{S3}/p", prefix="p", expected_bucket_owner="123456789012", profile="q",
        role_arn="arn:aws:iam::123456789012:role/r", conditional_writes=False, max_age_seconds=60,
        cache_control="max-age=60, must-revalidate", jwks_content_type="application/json", audit_interval_seconds=0,
        readback=ReadbackSettings(enabled=False, ca_file=BASE / "r.crt", connect_to=("127.0.0.1", 1)),
    )  # fmt: skip
    issuer = Issuer(
        IssuerName("a"), IssuerUrl(f"{S3}/p/a"), publish, ("https://10.0.0.11:6443",), expect_replicas=1,
        proxy="http://proxy:3128", tls=TlsSettings(BASE / "ca.crt", "::1", BASE / "c", Path("/k")), audiences=("x",),
        auth=AuthSettings(token_file=BASE / "t"), discovery_extra={"a": [1, None]},
        keys=KeyPolicy("hold", timedelta(hours=12), "opaque", "refuse", frozenset({THUMBPRINTS[0]})),  # type: ignore[arg-type]  # plain text instead of its NewType
    )  # fmt: skip
    assert settings == Settings(
        state_dir=BASE / "state",
        repository=RepositorySettings(
            BASE / "state" / "r.git", "git@h:x.git", "b/c", sign=True, require_push=True,
            signing_key=BASE / "keys/ledger", allowed_signers=Path("/s"), name="a.b_c-1", author_name="A B",
            author_email="a@b",
        ),
        issuers=(issuer,),
        limits=LimitSettings(1, 2, 3, 2048, 4, 5),
        interval=timedelta(minutes=1),
        max_failures=3,
        http_listen=("::1", 0),
    )  # fmt: skip


def test_json_is_a_configuration() -> None:
    """JSON and YAML give the same settings."""
    text = (
        '{"publish": {"bucket": "oidc-bucket", "region": "ap-southeast-2"}, "issuers": [{"name": "a", '
        f'"issuer": "{S3}/a", "apiservers": ["https://10.0.0.11:6443"]}}]}}'
    )
    assert _parse(text) == _parse(_text())


def test_http_false_switches_the_pages_off() -> None:
    """`http: false` gives no address. An empty section gives the default address."""
    assert _parse(_text(top="http: false")).http_listen is None
    assert _parse(_text(top="http:")).http_listen == ("127.0.0.1", 9797)


def test_issuer_overrides_defaults_section_by_section() -> None:
    """The issuer's own keys take precedence, null removes an inherited key, and the rest of a section is inherited."""
    defaults = "defaults: {tls: {ca_file: ca, server_name: s}, auth: {token_file: t}, audiences: [x],"
    defaults += " discovery_extra: {a: {b: c}, d: e}}"
    own = "tls: {server_name: own}\n    auth: null\n    audiences: [y]\n    discovery_extra: {a: {f: null}}"
    issuer = _parse(_text(own, top=defaults)).issuers[0]
    assert issuer.tls == TlsSettings(BASE / "ca", "own")
    assert (issuer.auth, issuer.audiences) == (AuthSettings(), ("y",))
    assert issuer.discovery_extra == {"a": {"f": None}, "d": "e"}


def test_revocation_in_defaults_is_never_overridden() -> None:
    """An issuer's revoked keys are added to those of the defaults."""
    top = f"defaults: {{keys: {{revoked: [{THUMBPRINTS[0]}]}}}}"
    issuer = _parse(_text(f"keys: {{revoked: [{THUMBPRINTS[1]}]}}", top=top)).issuers[0]
    assert issuer.keys.revoked == set(THUMBPRINTS)


def test_publish_is_overridden_in_three_layers() -> None:
    """Global, defaults and issuer are merged. Issuers without own keys share one value."""
    text = _text("publish: {readback: {enabled: false}, profile: own}", publish="readback: {ca_file: c}, profile: g")
    text += f"  - {{name: b, issuer: {S3}/b, apiservers: [https://b]}}\n"
    text += f"  - {{name: c, issuer: {S3}/c, apiservers: [https://c]}}\n"
    first, second, third = _parse(text + "defaults: {publish: {role_arn: null, audit_interval: 2h}}\n").issuers
    assert (first.publish.profile, first.publish.audit_interval_seconds) == ("own", 7200)
    assert first.publish.readback == ReadbackSettings(enabled=False, ca_file=BASE / "c")
    assert (second.publish.profile, second.publish.readback.enabled) == ("g", True)
    assert second.publish is third.publish


@pytest.mark.parametrize(
    ("publish", "issuer", "base_url"),
    [
        ("endpoint_url: 'https://s3.example.com:9000/'", "https://s3.example.com:9000/oidc-bucket/a",
         "https://s3.example.com:9000/oidc-bucket"),
        ("endpoint_url: 'https://s3.example.com', prefix: p", "https://s3.example.com/oidc-bucket/p/a",
         "https://s3.example.com/oidc-bucket/p"),
        ("endpoint_url: 'https://s3.ap-southeast-2.amazonaws.com'", f"{S3}/a", S3),
        ("endpoint_url: 'http://127.0.0.1:9000', base_url: 'https://oidc.example.com'", "https://oidc.example.com/a",
         "https://oidc.example.com"),
        ("endpoint_url: 'http://127.0.0.1:9000', base_url: '" + S3 + "'", f"{S3}/a", S3),
        ("base_url: 'https://oidc.example.com/x/', prefix: live", "https://oidc.example.com/x/a",
         "https://oidc.example.com/x"),
        ("base_url: 'https://s3-ap-southeast-2.amazonaws.com/oidc-bucket'", f"{S3}/a",
         "https://s3-ap-southeast-2.amazonaws.com/oidc-bucket"),
        ("prefix: p", f"{S3}/p/a", f"{S3}/p"),
    ],
)  # fmt: skip
def test_public_url_follows_from_bucket_and_server(publish: str, issuer: str, base_url: str) -> None:
    """Without base_url the URL is the bucket's own on AWS, and path style on another https server."""
    assert _parse(_text(publish=publish, issuer=issuer)).issuers[0].publish.base_url == base_url


def test_inherited_base_url_can_be_taken_away() -> None:
    """An issuer with its own bucket sets base_url to null."""
    own = "publish: {bucket: other, base_url: null}"
    text = _text(own, publish="base_url: 'https://x.example'", issuer="https://other.s3.ap-southeast-2.amazonaws.com")
    assert _parse(text).issuers[0].publish.base_url == "https://other.s3.ap-southeast-2.amazonaws.com"


def test_issuer_at_the_legacy_global_host_is_a_warning() -> None:
    """The legacy host is accepted, also as base_url, with a warning. In a new region it is rejected."""
    legacy = "https://oidc-bucket.s3.amazonaws.com"
    for publish in ("", f"base_url: '{legacy}'"):
        (warning,) = _parse(_text(publish=publish, issuer=f"{legacy}/a")).warnings
        assert warning.startswith("issuers[0].issuer")
        assert "redirect" in warning
    (problem,) = _problems(_text(issuer=f"{legacy}/a").replace("southeast-2", "southeast-4"))
    assert "is not inside" in problem


def test_distribution_is_taken_for_all_and_for_one() -> None:
    """`cloudfront_distribution` is inherited, and an issuer may override it."""
    text = _text("publish: {cloudfront_distribution: E1}", publish="cloudfront_distribution: E2QWRUHAPOMQZL")
    text += f"  - {{name: b, issuer: '{S3}/b', apiservers: [https://b]}}\n"
    assert [each.publish.cloudfront_distribution for each in _parse(text).issuers] == ["E1", "E2QWRUHAPOMQZL"]


def test_unwise_settings_are_warnings() -> None:
    """A valid but unwise setting gives one warning, at the layer that sets it."""
    text = _text(
        top="limits: {connect: 20s, total: 90s}\ndefaults: {keys: {retain_removed: 1h}}",
        publish="base_url: 'https://oidc.example.com:8443'",
        issuer="https://oidc.example.com:8443/a",
    )
    text += "  - {name: b, issuer: 'https://oidc.example.com:8443/b', apiservers: [https://b]}\n"
    warnings = _parse(text).warnings
    assert [warning.partition(":")[0] for warning in warnings] == [
        "limits.total",
        "issuers[0].issuer",
        "defaults.keys.retain_removed",
        "issuers[1].issuer",
    ]
    assert "limits.connect" in _parse(_text(top="limits: {connect: 20s}")).warnings[0]


def test_every_mistake_is_reported_at_once() -> None:
    """Mistakes of syntax, values, rules and conflicts between issuers are reported together, in line order."""
    text = """interval: 300
state_dir: &x a
publish: {bucket: oidc-bucket, region: ap-southeast-2}
issuers:
  - {name: a, issuer: https://oidc-bucket.s3.ap-southeast-2.amazonaws.com/a, apiservers: []}
  - {name: a, issuer: https://elsewhere.example/b, apiservers: [https://b], tls: {ca_file: 1, client_key_file: k}}
  - 5
  - {name: c, issuer: 7, apiservers: [http://c]}
  - {issuer: https://oidc-bucket.s3.ap-southeast-2.amazonaws.com/d, apiservers: [https://d]}
"""
    reported = [problem.partition(":")[0] for problem in _problems(text)]
    assert reported == [
        "interval (line 1)",
        "state_dir (line 2)",
        "issuers[0].apiservers (line 5)",
        "issuers[1].issuer (line 6)",
        "issuers[1].name (line 6)",
        "issuers[1].tls.ca_file (line 6)",
        "issuers[2] (line 7)",
        "issuers[3].apiservers[0] (line 8)",
        "issuers[3].issuer (line 8)",
        "issuers[4].name (line 9)",
    ]


def test_mistake_in_defaults_is_reported_once() -> None:
    """Thousands of issuers that inherit a mistake do not repeat it."""
    text = _text(top="defaults: {keys: {kid: x}, tls: {client_cert_file: c}}")
    text += f"  - {{name: b, issuer: {S3}/b, apiservers: [https://b]}}\n"
    reported = [problem.partition(" (")[0] for problem in _problems(text)]
    assert reported == ["defaults.keys.kid", "defaults.tls.client_cert_file"]


def test_unreadable_value_is_reported_once() -> None:
    """An alias has no value. The key gets only that one report."""
    assert [it.partition(":")[0] for it in _problems(_text("tls: {ca_file: *x, bad: 1}"))] == [
        "issuers[0].tls.bad (line 8)",
        "issuers[0].tls.ca_file (line 8)",
    ]


def test_mistake_in_publish_does_not_accuse_the_issuers() -> None:
    """If the publish section is unusable, its content is unknown and gives no further mistakes."""
    reported = _problems(_text(publish="base_url: 5"))
    assert [it.partition(" (")[0] for it in reported] == ["publish.base_url"]
    assert [it.partition(" (")[0] for it in _problems(_text("publish: 5"))] == ["issuers[0].publish"]


def test_former_issuers_are_checked_like_issuers() -> None:
    """The same rules apply to a former issuer, and its paths count in conflict checks."""
    rows = ("ftp://x", "https://elsewhere.example/x", f"{S3}/a", f"{S3}/A")
    entry = "former_issuers: [" + ", ".join(f"{{issuer: '{row}', until: 2027-01-31}}" for row in rows) + "]"
    reported = [problem.partition(":")[0].partition(" (")[0] for problem in _problems(_text(entry))]
    assert reported == [f"issuers[0].former_issuers[{number}].issuer" for number in range(4)]


def test_discover_excludes_a_load_balancer() -> None:
    """With both `discover` and `load_balancer`, a mistake is reported at each key."""
    reported = [problem.partition(" (")[0] for problem in _problems(_text("discover: dns\n    load_balancer: true"))]
    assert reported == ["issuers[0].discover", "issuers[0].load_balancer"]


def test_kubeconfig_and_in_cluster_exclude_each_other() -> None:
    """A second source of the same setting is rejected."""
    reported = _problems(_text("auth: {kubeconfig: a, in_cluster: true}\n    keys: {retain_removed: 1h}"))
    assert any(it.startswith("issuers[0].auth.in_cluster") and "auth.kubeconfig says this" in it for it in reported)
    assert any(it.startswith("issuers[0].keys.retain_removed") for it in reported)


@pytest.mark.parametrize(
    ("entry", "answers", "behind_balancer"),
    [
        ("apiservers: [https://api.example.com]\n    discover: dns\n    expect_replicas: 3", 3, False),
        ("discover: endpointslices\n    expect_replicas: 3\n    auth: {in_cluster: true}", 3, False),
        ("auth: {in_cluster: true}", 5, True),
        ("apiservers: [https://kubernetes.default.svc]\n    auth: {in_cluster: true}", 5, True),
        ("auth: {kubeconfig: a, context: b}", 1, False),
        ("auth: {kubeconfig: a}\n    expect_replicas: 1", 1, False),
        ("auth: {kubeconfig: a}\n    load_balancer: true", 5, True),
        ("apiservers: [https://a, https://b]\n    auth: {kubeconfig: a}", 2, False),
        ("auth: {kubeconfig: a}\n    discover: dns\n    expect_replicas: 2", 2, False),
    ],
    ids=[
        "dns",
        "endpointslices",
        "in-cluster",
        "own-service",
        "kubeconfig",
        "kubeconfig-counted",
        "kubeconfig-balancer",
        "kubeconfig-list",
        "kubeconfig-dns",
    ],
)
def test_every_way_to_find_apiservers_is_counted(entry: str, answers: int, behind_balancer: bool) -> None:
    """For every way to find apiservers, the expected number of answers is known."""
    issuer = parse(_bare(entry), base=Path("/etc/oidc-mirror")).issuers[0]
    assert (issuer.expected_answers, issuer.load_balancer) == (answers, behind_balancer)


def test_in_cluster_uses_the_pods_own_files() -> None:
    """The pod's token and cluster CA have the same path in every pod. A server name may be added."""
    issuer = parse(_bare("auth: {in_cluster: true}\n    tls: {server_name: kubernetes}"), base=Path("/x")).issuers[0]
    folder = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    assert (issuer.auth.token_file, issuer.auth.in_cluster) == (folder / "token", True)
    assert issuer.tls == TlsSettings(folder / "ca.crt", "kubernetes")


def _bare(entry: str) -> str:
    """A configuration with one issuer that has only name, issuer and `entry`."""
    return _text(entry).replace("    apiservers: [https://10.0.0.11:6443]\n", "")


def test_issuer_files_are_added() -> None:
    """Entries of issuers_dir follow those of the main file. A mistake in them names the file."""
    entry = f"- {{name: b, issuer: {S3}/b, apiservers: [https://b]}}\n"
    settings = parse(_text(), base=BASE, issuer_files={"d/b.yaml": entry})
    assert [issuer.name for issuer in settings.issuers] == ["a", "b"]
    reported = _problems(
        _text(), x="- {name: a, issuer: x, apiservers: [https://b]}\n", y="a: b\n", z="a: [\n", w="- 5\n"
    )
    assert [problem.partition(": ")[0] for problem in reported] == [
        "w.yaml[0] (line 1)",
        "x.yaml[0].issuer (line 1)",
        "x.yaml[0].name (line 1)",
        "y.yaml",
        "z.yaml (line 2)",
    ]


def test_load_reads_every_yaml_file_of_the_folder(tmp_path: Path) -> None:
    """Files are read in name order. Hidden files are skipped, and other extensions are reported."""
    folder = tmp_path / "clusters.d"
    folder.mkdir()
    (folder / "b.yaml").write_text(f"- {{name: b, issuer: {S3}/b, apiservers: [https://b], tls: {{ca_file: b.crt}}}}\n")
    (folder / "c.yaml").write_text(f"- {{name: c, issuer: {S3}/c, apiservers: [https://c]}}\n")
    (folder / ".hidden.yaml").write_text("{")
    (folder / "d.yml").write_text("{")
    (folder / "README").write_text("{")
    main = tmp_path / "mirror.yaml"
    main.write_text(_text(top="issuers_dir: clusters.d"))
    settings = load(main)
    assert [issuer.name for issuer in settings.issuers] == ["a", "b", "c"]
    assert settings.issuers[1].tls.ca_file == tmp_path / "b.crt"
    assert settings.warnings == ("clusters.d/d.yml is not read. End its name in .yaml.",)


def test_load_reports_unreadable_files_with_the_rest(tmp_path: Path) -> None:
    """A missing folder or an unreadable file in it is one mistake among the others."""
    main = tmp_path / "mirror.yaml"
    main.write_text(_text(top="issuers_dir: clusters.d\ninterval: 5"))
    with pytest.raises(UsageError) as caught:
        load(main)
    assert [it.split(": ")[1] for it in caught.value.problems] == ["issuers_dir", "interval"]
    main.write_text(_text(top="issuers_dir: clusters.d\ninterval: 5").partition("issuers:")[0])
    with pytest.raises(UsageError) as caught:
        load(main)
    assert [it.split(": ")[1] for it in caught.value.problems] == ["issuers_dir", "interval"]
    (tmp_path / "clusters.d" / "x.yaml").mkdir(parents=True)
    (tmp_path / "clusters.d" / "y.yaml").write_bytes(b"\xff")
    with pytest.raises(UsageError) as caught:
        load(main)
    reported = [it.partition(": It cannot be read (")[::2] for it in caught.value.problems]
    assert reported[1][0] == "clusters.d/x.yaml"
    assert reported[2] == ("clusters.d/y.yaml", "not UTF-8). Check the path, the rights and the encoding.")


@pytest.mark.parametrize(
    ("body", "cause"),
    [(None, "No such file"), (b"\xff\xfe", "not UTF-8"), (b"#" * (16 * 1024 * 1024 + 1), "larger than 16 MiB")],
    ids=["missing", "not UTF-8", "too large"],
)
def test_unreadable_main_file_is_one_sentence(tmp_path: Path, body: bytes | None, cause: str) -> None:
    """Without the main file, nothing else is reported."""
    main = tmp_path / "mirror.yaml"
    if body is not None:
        main.write_bytes(body)
    with pytest.raises(UsageError, match="cannot be read") as caught:
        load(main)
    assert cause in caught.value.cause
    assert caught.value.problems == ()


@pytest.mark.parametrize("text", ["repository: {signing_key: of-the-file}", "interval: 1m"], ids=["set", "not set"])
def test_environment_names_another_signing_key(tmp_path: Path, text: str) -> None:
    """`$OIDC_MIRROR_SIGNING_KEY` takes precedence. Empty means unset, and it is relative to the working directory."""
    main = tmp_path / "mirror.yaml"
    main.write_text(_text(top=text))
    from_file = load(main).repository.signing_key
    assert from_file == (tmp_path / "of-the-file" if "of-the-file" in text else None)
    for value, expected in (("/run/key", Path("/run/key")), ("key", Path.cwd() / "key"), ("", from_file)):
        assert load(main, {"OIDC_MIRROR_SIGNING_KEY": value}).repository.signing_key == expected


@pytest.mark.parametrize("name", ["", "-a", ".a", "A", "a/b", "a" * 64, "a\n", "ä", "7"])
def test_name_of_a_repository_is_plain(name: str) -> None:
    """The name is part of every signature, so it is short and has one spelling. A number must be quoted."""
    with pytest.raises(UsageError) as caught:
        _parse(_text(top=f"repository: {{name: {name if name == '7' else json.dumps(name)}}}"))
    assert all(problem.startswith("repository.name") for problem in caught.value.problems)
    assert _parse(_text(top="repository: {name: 0a._-}")).repository.name == "0a._-"


def test_unreadable_path_is_one_sentence() -> None:
    """An invalid path gives no traceback."""
    with pytest.raises(UsageError, match="cannot be read") as caught:
        load(Path("a\0b"))
    assert "null" in caught.value.cause


def test_settings_are_values() -> None:
    """Two loads of one text are equal, so that a reload without change is recognised."""
    assert _parse(_text()) == _parse(_text())
    assert replace(_parse(_text()), max_failures=1) != _parse(_text())


LIST = (
    "[sts.amazonaws.com, 'api://AzureADTokenExchangeUSGov', '//iam.googleapis.com/p', 'https://iam.googleapis.com/q']"
)


@pytest.mark.parametrize(
    ("written", "clouds", "everything"),
    [
        pytest.param(
            LIST,
            TokenAudiences(
                ("sts.amazonaws.com",),
                ("//iam.googleapis.com/p", "https://iam.googleapis.com/q"),
                ("api://AzureADTokenExchangeUSGov",),
            ),
            4,
            id="list",
        ),
        pytest.param("{aws: [a, b], gcp: g, azure: z}", TokenAudiences(("a", "b"), ("g",), ("z",)), 4, id="map"),
        pytest.param("{azure: [z]}", TokenAudiences(azure=("z",)), 1, id="one cloud"),
        pytest.param("{}", TokenAudiences(), 0, id="empty map"),
        pytest.param("[]", TokenAudiences(), 0, id="empty list"),
    ],
)
def test_audiences_are_those_of_their_cloud(written: str, clouds: TokenAudiences, everything: int) -> None:
    """In a map, each audience belongs to its cloud. In a list, the text of an audience determines its cloud."""
    text = _text(f"audiences: {written}")
    issuer = _parse(text).issuers[0]
    assert (issuer.clouds, len(issuer.audiences)) == (clouds, everything)


def test_cloud_without_audiences_takes_its_usual_one() -> None:
    """Google's usual audience is a pattern: the full name of a pool's provider."""
    provider = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/p"
    for found in (TokenAudiences(), TokenAudiences(("a",), (), ()), TokenAudiences((), (), ("z",))):
        assert found.of(Cloud.AWS) == (found.aws or ("sts.amazonaws.com",))
        assert found.of(Cloud.AZURE) == (found.azure or ("api://AzureADTokenExchange",))
        assert found.of(Cloud.GCP) == ()
        assert found.accepts(Cloud.GCP, provider)
        assert found.accepts(Cloud.GCP, f"https:{provider}")
        assert not found.accepts(Cloud.GCP, f"{provider}/x")
    assert not TokenAudiences(gcp=("g",)).accepts(Cloud.GCP, provider)


def test_audience_that_is_good_at_two_clouds_is_a_warning() -> None:
    """A token for one cloud would also log in at the other."""
    for written in ("{aws: [a], azure: [a]}", "{aws: ['api://AzureADTokenExchange']}"):
        text = _text(f"audiences: {written}")
        assert any("a token for one cloud is good at the other" in each for each in _parse(text).warnings)
    text = _text("audiences: {aws: [a], gcp: [g], azure: [z]}")
    assert not any("audience" in each for each in _parse(text).warnings)


def test_issuer_replaces_the_default_audiences_in_whatever_form() -> None:
    """A list replaces a map and a map replaces a list. Two maps are merged by cloud."""
    for below, own, found in (
        ("[x]", "{azure: z}", TokenAudiences(azure=("z",))),
        ("{azure: z}", "[x]", TokenAudiences(("x",))),
        ("{aws: a, azure: z}", "{aws: b}", TokenAudiences(("b",), (), ("z",))),
    ):
        text = _text(f"audiences: {own}", top=f"defaults: {{audiences: {below}}}")
        assert _parse(text).issuers[0].clouds == found


@pytest.mark.parametrize(
    "url",
    [
        "https://rancher.example.com/k8s/clusters/c-m-abc123",
        "https://rancher.example.com:8443/k8s/clusters/c-1/",
        "https://[::1]:6443/a~b/c_d.e",
    ],
)
def test_apiserver_may_stand_behind_a_prefix(url: str) -> None:
    """A gateway serves several clusters on one host. Two prefixes are two apiservers."""
    text = _text().replace(
        "[https://10.0.0.11:6443]", f"['{url}', https://10.0.0.11:6443/other, https://10.0.0.11:6443]"
    )
    assert _parse(text).issuers[0].apiservers[0] == url


def test_same_prefix_twice_is_one_apiserver() -> None:
    """A final slash makes no difference."""
    text = _text().replace("[https://10.0.0.11:6443]", "[https://r.example.com/c, 'https://R.example.com:443/c/']")
    assert any("the same apiserver as apiservers[0]" in each for each in _problems(text))


@pytest.mark.parametrize(
    ("entry", "reported"),
    [
        ("tls: {insecure_skip_verify: true}", "TLS is always verified. Set tls.ca_file"),
        ("tls: {verify: false}", "TLS is always verified. Set tls.ca_file"),
        ("tls: {insecure-skip-tls-verify: true}", "TLS is always verified. Set tls.ca_file"),
        ("tls: {ca_file: ~/ca.crt}", '"~/ca.crt" begins with ~, which is not expanded'),
        ("auth: {token_file: '${HOME}/token'}", "has a variable, which is not expanded"),
    ],
)
def test_usual_slips_are_named(entry: str, reported: str) -> None:
    """Spellings from other tools are rejected, and the message gives the right one."""
    assert any(reported in problem for problem in _problems(_text(entry)))


def test_pages_are_switched_off_by_false() -> None:
    """In YAML 1.2 `off` is text. The message suggests false."""
    assert any("Write false." in problem for problem in _problems(_text(top="http: off")))


def test_one_apiserver_in_two_issuers_is_a_warning() -> None:
    """An apiserver serves one issuer. The answers for the other one are rejected in every pass."""
    text = _text() + f"  - {{name: b, issuer: {S3}/b, apiservers: ['https://10.0.0.11:6443/']}}\n".replace(
        ":6443/", ":6443"
    )
    assert any(
        "issuers[1].apiservers[0]: This apiserver also belongs to a," in warning for warning in _parse(text).warnings
    )


def test_mistake_begins_with_file_and_line(tmp_path: Path) -> None:
    """Messages have the format of compilers and linters, so that editors can jump to the line."""
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "b.yaml").write_text("\n- {name: B}\n")
    (tmp_path / "mirror.yaml").write_text("issuers_dir: d\ninterval: 5 min\n" + _text())
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "mirror.yaml")
    reported = caught.value.problems
    assert any(each.startswith(f"{tmp_path}/mirror.yaml:2: interval: ") for each in reported), reported
    assert any(each.startswith("d/b.yaml:2: [0].name: ") for each in reported), reported
