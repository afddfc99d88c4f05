"""Each bad file has one mistake, reported at its key with a remedy."""

import re
from pathlib import Path

import pytest

from mirror.config.load import load
from mirror.errors import UsageError

DATA = Path(__file__).parents[2] / "data" / "config"
MISTAKES = (  # the file's name after `bad-`, the place of the mistake, the message
    ("name", "issuers[0].name", "This is not a name."),
    ("name-missing", "issuers[0].name", "This key is missing."),
    ("name-number", "issuers[0].name", "This must be text."),
    ("name-twice", "issuers[1].name", "belongs to issuers[0]"),
    ("issuer-twice", "issuers[1].issuer", "the issuer of issuers[0].issuer"),
    ("issuer-slash-twice", "issuers[1].issuer", "cannot exist together with"),
    ("issuer-case", "issuers[1].issuer", "cannot exist together with"),
    ("issuer-below-document", "issuers[1].issuer", "cannot exist together with"),
    ("issuer-http", "issuers[0].issuer", "not an https URL"),
    ("issuer-query", "issuers[0].issuer", "has a query"),
    ("issuer-private", "issuers[0].issuer", "exists only inside"),
    ("issuer-outside", "issuers[0].issuer", "is not inside https://oidc-bucket.s3.ap-southeast-2.amazonaws.com"),
    ("issuer-other-region", "issuers[0].issuer", "correct publish.region"),
    ("issuer-global-host", "issuers[0].issuer", "only if it is in us-east-1; else it redirects or refuses"),
    ("no-issuers", "issuers", "No issuer is configured."),
    ("issuers-no-list", "issuers", "This is not a list."),
    ("issuer-no-section", "issuers[0]", "This is not an issuer."),
    ("apiservers-none", "issuers[0].apiservers", "There is no apiserver to ask."),
    ("apiserver-http", "issuers[0].apiservers[0]", "not an https URL"),
    ("apiserver-slash", "issuers[0].apiservers[0]", "is only a slash"),
    ("apiserver-path-dot", "issuers[0].apiservers[0]", "segment that is empty"),
    ("apiserver-path-empty", "issuers[0].apiservers[0]", "segment that is empty"),
    ("apiserver-path-percent", "issuers[0].apiservers[0]", "segment that is empty"),
    ("apiserver-path-git", "issuers[0].apiservers[0]", "segment that is empty"),
    ("apiserver-user", "issuers[0].apiservers[0]", "user information"),
    ("apiserver-query", "issuers[0].apiservers[0]", "has a query"),
    ("apiserver-port", "issuers[0].apiservers[0]", "The port is not a number"),
    ("apiserver-twice", "issuers[0].apiservers[1]", "the same apiserver as apiservers[0]"),
    ("apiservers-no-list", "issuers[0].apiservers", "This is not a list."),
    ("expect-replicas", "issuers[0].expect_replicas", "Only 1 apiservers are listed."),
    ("expect-behind-balancer", "issuers[0].expect_replicas", "cannot be counted"),
    ("retain-behind-balancer", "issuers[0].keys.retain_removed", "Behind a load balancer"),
    ("proxy", "issuers[0].proxy", "not an http or https URL"),
    ("proxy-path", "issuers[0].proxy", "has a path"),
    ("client-cert-alone", "issuers[0].tls.client_cert_file", "needs its key"),
    ("client-key-alone", "defaults.tls.client_key_file", "needs its client certificate"),
    ("tls-insecure", "issuers[0].tls.insecure_skip_tls_verify", "There is no key"),
    ("server-name", "issuers[0].tls.server_name", "This is not a host name."),
    ("context-alone", "issuers[0].auth.context", "belongs to a kubeconfig"),
    ("kubeconfig-and-token", "issuers[0].auth.token_file", "auth.kubeconfig says this already"),
    ("in-cluster-and-ca", "issuers[0].tls.ca_file", "auth.in_cluster says this already"),
    ("discover-uncounted", "issuers[0].discover", "Add expect_replicas"),
    ("discover-word", "issuers[0].discover", "Write 'dns' or 'endpointslices'."),
    ("discover-several", "issuers[0].apiservers[1]", "behind one address"),
    ("discover-dns-nowhere", "issuers[0].apiservers", "no host name to look behind"),
    ("discover-endpointslices-nowhere", "issuers[0].apiservers", "Add auth.in_cluster"),
    ("discover-dns-in-cluster", "issuers[0].discover", "Write endpointslices"),
    ("discover-behind-balancer", "issuers[0].load_balancer", "discover finds the single replicas"),
    ("in-cluster-elsewhere", "issuers[0].apiservers[0]", "only for its own cluster"),
    ("in-cluster-and-token", "issuers[0].auth.token_file", "auth.in_cluster says this already"),
    ("in-cluster-counted", "issuers[0].expect_replicas", "cannot be counted"),
    ("in-cluster-retain", "issuers[0].keys.retain_removed", "Behind a load balancer"),
    ("kubeconfig-and-ca", "issuers[0].tls.ca_file", "auth.kubeconfig says this already"),
    ("kubeconfig-and-in-cluster", "issuers[0].auth.in_cluster", "auth.kubeconfig says this already"),
    ("kubeconfig-counted", "issuers[0].expect_replicas", "apiservers are listed"),
    ("boolean-yes", "issuers[0].load_balancer", "neither true nor false"),
    ("audience-long", "issuers[0].audiences[0]", "1 to 255 characters"),
    ("audience-twice", "issuers[0].audiences[1]", "the same audience as audiences[0]"),
    ("audiences-map-twice", "issuers[0].audiences.aws[1]", "the same audience as audiences.aws[0]"),
    ("audiences-map-cloud", "issuers[0].audiences.azur", "Did you mean azure?"),
    ("audiences-map-long", "issuers[0].audiences.azure[0]", "1 to 600 characters"),
    ("audiences-map-google-long", "issuers[0].audiences.gcp[0]", "1 to 256 characters"),
    ("audiences-map-google-many", "issuers[0].audiences.gcp", "more than 10 items"),
    ("audiences-text", "issuers[0].audiences", "This is not a list."),
    ("audiences-many", "issuers[0].audiences", "more than 100 items"),
    ("new-keys", "issuers[0].keys.new_keys", "Write 'publish' or 'hold'."),
    ("retain-no-unit", "issuers[0].keys.retain_removed", " has no unit."),
    ("revoked", "issuers[0].keys.revoked[0]", "This is not a thumbprint."),
    ("discovery-extra", "issuers[0].discovery_extra", "The member jwks_uri"),
    ("until", "issuers[0].former_issuers[0].until", "This is not a day."),
    ("bucket-missing", "publish.bucket", "This key is missing."),
    ("publish-missing", "publish.region", "This key is missing."),
    ("bucket-dots", "publish.bucket", "has a dot"),
    ("bucket-name", "publish.bucket", "This is not a bucket name."),
    ("bucket-reserved", "publish.bucket", "for itself"),
    ("region", "publish.region", "This is not a region."),
    ("owner", "publish.expected_bucket_owner", "12 digits"),
    ("role-arn", "publish.role_arn", "not a role ARN"),
    ("prefix", "publish.prefix", "The prefix has a segment"),
    ("prefix-base-url", "publish.prefix", "reads another folder"),
    ("base-url-http", "publish.base_url", "not an https URL"),
    ("base-url-other-bucket", "publish.base_url", "It is bucket other in ap-southeast-2"),
    ("base-url-inherited", "issuers[0].publish.bucket", "another bucket"),
    ("endpoint-url", "publish.endpoint_url", "user information"),
    ("endpoint-http", "publish.endpoint_url", "Add publish.base_url"),
    ("cache-no-store", "publish.cache_control", "no-store"),
    ("cache-no-max-age", "publish.cache_control", "exactly one max-age"),
    ("cache-short", "publish.cache_control", "outside 60 to 3600"),
    ("cache-long", "publish.cache_control", "outside 60 to 3600"),
    ("content-type", "publish.jwks_content_type", "'application/jwk-set+json' or 'application/json'"),
    ("connect-to", "publish.readback.connect_to", "This is not a host:port."),
    ("remote-password", "repository.remote", "a user name or a password"),
    ("remote-ext", "repository.remote", "This remote is not allowed"),
    ("remote-hyphen", "repository.remote", "This remote is not allowed"),
    ("branch", "repository.branch", "Git does not allow"),
    ("repository-name", "repository.name", "This is not a repository name."),
    ("author", "repository.author", "This is not an author."),
    ("push-nowhere", "repository.require_push", "nowhere to push to"),
    ("interval-no-unit", "interval", " has no unit."),
    ("interval-zero", "interval", "The duration is zero."),
    ("interval-sexagesimal", "interval", "is not a duration."),
    ("size-unit", "limits.max_body", "is not a size."),
    ("concurrency", "limits.concurrency", "Write 1 or more."),
    ("concurrency-octal", "limits.concurrency", "leading zeros"),
    ("listen", "http.listen", "This is not a host:port."),
    ("http-true", "http", "This is not a section."),
    ("unknown-key", "intervall", "Did you mean interval?"),
    ("unknown-key-far", "xyzzy", "Known here are: interval, state_dir"),
    ("path-nul", "state_dir", "control or invisible"),
    ("yaml-duplicate", "interval", "stands twice"),
    ("yaml-anchor", "state_dir", "An anchor"),
    ("yaml-tag", "state_dir", "A tag"),
    ("yaml-merge", "limits", "A merge key"),
    ("yaml-key", "limits", "is not text"),
    ("yaml-documents", "the file", "A second document"),
    ("yaml-syntax", "the file", "not valid YAML"),
    ("yaml-empty", "the file", "The file is empty."),
    ("yaml-list", "the file", "not a mapping of keys"),
)


@pytest.mark.parametrize(("name", "where", "words"), MISTAKES, ids=[name for name, _, _ in MISTAKES])
def test_bad_file_is_refused_at_its_key(name: str, where: str, words: str) -> None:
    """The mistake is reported at its key, with its line, in the words of the table."""
    with pytest.raises(UsageError) as caught:
        load(DATA / f"bad-{name}.yaml")
    place = "" if where == "the file" else f" {re.escape(where)}:"
    reported = re.compile(rf".*/bad-{name}\.yaml(:[1-9][0-9]*)?:{place} .*{re.escape(words)}")
    assert any(reported.match(problem) for problem in caught.value.problems), caught.value.problems


def test_every_bad_file_is_in_the_table() -> None:
    """The tests read every bad file."""
    assert {path.stem.removeprefix("bad-") for path in DATA.glob("bad-*.yaml")} == {name for name, _, _ in MISTAKES}


@pytest.mark.parametrize("name", [name for name, _, _ in MISTAKES])
def test_bad_file_never_shows_a_secret(name: str) -> None:
    """No message repeats a password from a URL."""
    with pytest.raises(UsageError) as caught:
        load(DATA / f"bad-{name}.yaml")
    assert "secret" not in " ".join((str(caught.value), *caught.value.problems))
