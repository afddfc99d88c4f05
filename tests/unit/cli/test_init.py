"""`init --kubeconfig` prints a valid configuration entry for a running cluster."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mirror.addresses import issuer_problems
from mirror.apiserver.poller import ApiserverPoller
from mirror.cli.init import first_kubeconfig, name_from, unfit_issuer
from mirror.cli.main import main
from mirror.config.load import parse
from mirror.config.schema import json_schema
from mirror.config.settings import Issuer, Settings
from mirror.model import IssuerUrl
from support.apiserver import Apiserver, raw_answer
from support.askers import codes, ignore, limits
from support.captures import capture
from support.endpointslices import FIRST_PAGE, endpoint, endpointslice, listed, slice_list
from support.kubeconfigs import content, kubeconfig
from support.replicas import replicas
from support.situations import ISSUER
from support.tls import server_context

pytestmark = pytest.mark.server

SCHEMA = jsonschema.Draft202012Validator(json_schema())
NAME = "kubernetes.default.svc"
PUBLISH = "publish: {bucket: oidc-bucket, region: ap-southeast-2}\nissuers:\n"
FORBIDDEN = raw_answer("403 Forbidden", b'{"message":"no"}', content_type="application/json")

Out = pytest.CaptureFixture[str]


def init(capsys: Out, path: Path, *words: str) -> tuple[int, str, str]:
    status = main(["init", "--kubeconfig", str(path), *words])
    reported = capsys.readouterr()
    return status, reported.out, reported.err


def loaded(text: str) -> Issuer:
    """The printed entry as loaded configuration, in `issuers` and as a file of issuers_dir."""
    (issuer,) = parse(PUBLISH + text, base=Path("/etc/oidc-mirror")).issuers
    main_file = PUBLISH.replace("issuers:\n", "issuers_dir: clusters.d\n")
    (other,) = parse(main_file, base=Path("/etc/oidc-mirror"), issuer_files={"a.yaml": text}).issuers
    assert issuer == other
    SCHEMA.validate(yaml.safe_load(PUBLISH + text))
    return issuer


def test_replicas_that_answer_are_listed(capsys: Out, tmp_path: Path) -> None:
    """Readable EndpointSlices give the apiservers, and a pass accepts the printed entry unchanged."""
    with Apiserver() as api, replicas(2, NAME) as servers:
        found = endpointslice(*(endpoint(each.host) for each in servers), port=servers[0].port)
        api.answer(FIRST_PAGE, listed(slice_list([found])))
        path = kubeconfig(tmp_path, api.url, user={"token": "s3cr3t"})
        status, out, err = init(capsys, path)
        assert (status, err) == (0, "")
        issuer = loaded(out)
        assert (issuer.name, issuer.issuer) == ("admin-syd", ISSUER)
        assert issuer.apiservers == tuple(each.url for each in servers)
        assert (issuer.tls.server_name, issuer.load_balancer) == (NAME, False)
        assert (issuer.auth.kubeconfig, issuer.auth.context) == (path, "admin@syd")
        assert "bucket oidc-bucket in ap-southeast-2" in out
        assert "set `repository.signing_key`" in out
        assert "ssh-keygen -t ed25519 -N '' -f signing_key" in out
        assert "s3cr3t" not in out
        answers = ApiserverPoller(limits()).poll([issuer], turn=0, progress=ignore)[issuer.name]
        assert codes(answers) == [(), ()]


def test_list_that_may_not_be_read_leaves_the_server(capsys: Out, tmp_path: Path) -> None:
    """Without the right to list endpoints, the server is proposed as a load balancer, with the missing role."""
    with Apiserver() as api:
        api.answer(FIRST_PAGE, FORBIDDEN)
        status, out, _ = init(capsys, kubeconfig(tmp_path, api.url))
        issuer = loaded(out)
        assert (status, issuer.apiservers, issuer.load_balancer) == (0, (api.url,), True)
        assert "kubectl create role oidc-mirror-endpointslices" in out


def test_replicas_that_cannot_be_reached_are_reported(capsys: Out, tmp_path: Path) -> None:
    """Private addresses that are unreachable from here become a comment."""
    with Apiserver() as api, replicas(1, NAME) as (server,):
        found = endpointslice(endpoint(server.host), endpoint("127.0.0.99"), port=server.port)
        api.answer(FIRST_PAGE, listed(slice_list([found])))
        status, out, _ = init(capsys, kubeconfig(tmp_path, api.url))
        issuer = loaded(out)
        assert (status, issuer.apiservers, issuer.load_balancer) == (0, (api.url,), True)
        assert f"list {server.url}, https://127.0.0.99:{server.port}," in out
        assert f"of which {server.url} answered" in out


def test_single_replica_is_no_load_balancer(capsys: Out, tmp_path: Path) -> None:
    """A cluster with one apiserver needs no five connections, even if its own address is unreachable."""
    with Apiserver() as api:
        api.answer(FIRST_PAGE, listed(slice_list([endpointslice(endpoint("127.0.0.99"), port=1)])))
        _, out, _ = init(capsys, kubeconfig(tmp_path, api.url))
        assert (loaded(out).apiservers, loaded(out).load_balancer) == ((api.url,), False)


def test_server_name_of_the_kubeconfig_needs_no_other(capsys: Out, tmp_path: Path) -> None:
    """If the kubeconfig has a TLS server name, the replicas are asked under it. The entry does not repeat it."""
    with Apiserver(server_context("kubernetes")) as api, replicas(1, "kubernetes") as (server,):
        api.answer(FIRST_PAGE, listed(slice_list([endpointslice(endpoint(server.host), port=server.port)])))
        path = kubeconfig(tmp_path, api.url, cluster={"tls-server-name": "kubernetes"})
        _, out, _ = init(capsys, path)
        assert (loaded(out).apiservers, loaded(out).tls.server_name) == ((server.url,), None)


def test_context_is_written_even_if_it_was_the_current_one(capsys: Out, tmp_path: Path) -> None:
    """The current context may change later, so the entry names the context."""
    with Apiserver() as api:
        data = content("https://127.0.0.1:1")
        data["clusters"].append({"name": "fra", "cluster": content(api.url)["clusters"][0]["cluster"]})
        data["contexts"].append({"name": "1e3", "context": {"cluster": "fra", "user": "admin"}})
        (tmp_path / "config").write_text(json.dumps(data))
        status, out, _ = init(capsys, tmp_path / "config", "--context", "1e3")
        assert (status, loaded(out).auth.context, loaded(out).name) == (0, "1e3", "1e3")


def test_external_signer_is_proposed_with_its_key_ids(capsys: Out, tmp_path: Path) -> None:
    """Key ids that Kubernetes would not compute give `kid: opaque`, with a request to check it."""
    jwks = json.loads(capture("01-rsa1/anonymous-bound-jwks").body())
    jwks["keys"][0]["kid"] = "signer-2026"
    with Apiserver() as api:
        body = json.dumps(jwks).encode()
        api.serve(jwks=raw_answer("200 OK", body, content_type="application/jwk-set+json"))
        status, out, _ = init(capsys, kubeconfig(tmp_path, api.url))
        assert (status, loaded(out).keys.kid) == (0, "opaque")


def discovery(**members: Any) -> bytes:
    found = json.loads(capture("01-rsa1/anonymous-bound-discovery").body()) | members
    return raw_answer("200 OK", json.dumps(found).encode(), content_type="application/json")


def test_issuer_on_a_custom_domain_names_no_bucket(capsys: Out, tmp_path: Path) -> None:
    """If the host is not a bucket's own, no bucket is named."""
    with Apiserver() as api:
        api.serve(discovery=discovery(issuer="https://oidc.example.com/syd"))
        status, out, _ = init(capsys, kubeconfig(tmp_path, api.url))
    assert (status, "issuer: https://oidc.example.com/syd\n" in out, "belong into bucket" in out) == (0, True, False)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"discovery": FORBIDDEN, "jwks": FORBIDDEN}, ("forbidden [discovery]", "forbidden [jwks]", "--group=system:")),
        ({"discovery": raw_answer("401 Unauthorized")}, ("unauthorized", "auth.token_file")),
        ({"discovery": raw_answer("404 Not Found")}, ("not_found", "--service-account-issuer")),
        ({"discovery": discovery(issuer="https://kubernetes.default.svc.cluster.local")}, ("cannot be published",)),
        ({"discovery": discovery(issuer="\x1b[2Jhttp://x?y")}, ("cannot be published", "\\x1b")),
        ({"discovery": discovery(issuer=5)}, ("cannot be published",)),
        ({"discovery": discovery(subject_types_supported=[])}, ("wrong_subject_types",)),
        ({"discovery": raw_answer("200 OK", b"{", content_type="application/json")}, ("not_json",)),
    ],
    ids=["403", "401", "404", "private-issuer", "hostile-issuer", "issuer-number", "subject-types", "no-json"],
)
def test_cluster_that_cannot_be_mirrored_is_reported(
    capsys: Out, tmp_path: Path, answers: dict[str, bytes], words: tuple[str, ...]
) -> None:
    """Nothing is printed on stdout. Each reason has its remedy, exit 1, and no escape sequence reaches the terminal."""
    with Apiserver() as api:
        api.serve(**answers)
        status, out, err = init(capsys, kubeconfig(tmp_path, api.url))
    assert (status, out, [word for word in words if word not in err]) == (1, "", [])
    assert "remedy:" in err
    assert "\x1b[2J" not in err


def test_cluster_out_of_reach_is_reported(capsys: Out, tmp_path: Path) -> None:
    """A closed port gives `unreachable` and exit 1."""
    status, out, err = init(capsys, kubeconfig(tmp_path, "https://127.0.0.1:1"))
    assert (status, out, "unreachable" in err) == (1, "", True)


def test_kubeconfig_that_cannot_be_used_is_a_mistake_of_usage(capsys: Out, tmp_path: Path) -> None:
    """A missing file, an exec plugin and a missing CA file: all reasons are printed, exit 2."""
    status, out, err = init(capsys, tmp_path / "missing")
    assert (status, out, "kubeconfig_unreadable" in err) == (2, "", True)
    cluster = {"certificate-authority-data": None, "certificate-authority": "ca.crt"}
    path = kubeconfig(tmp_path, "https://a", cluster=cluster, user={"exec": {"command": "aws"}})
    status, out, err = init(capsys, path)
    assert (status, out, err.count("error:")) == (2, "", 2)


def test_cloud_token_is_not_sent(capsys: Out, tmp_path: Path) -> None:
    """A token for AWS in the kubeconfig is `wrong_token`, as in a pass."""
    token = "e30.eyJhdWQiOiJzdHMuYW1hem9uYXdzLmNvbSJ9.c2ln"
    with Apiserver() as api:
        status, out, err = init(capsys, kubeconfig(tmp_path, api.url, user={"token": token}))
        assert (status, out, "wrong_token" in err, api.connections) == (1, "", True, 0)


@pytest.mark.parametrize(
    ("context", "name"),
    [
        ("admin@Syd.Prod", "admin-syd-prod"),
        ("arn:aws:eks:ap-southeast-2:123456789012:cluster/a", "arn-aws-eks-ap-southeast-2-123456789012-cluster-a"),
        ("--", "cluster"),
        ("Zürich", "z-rich"),
        ("x" * 62 + "-y", "x" * 62),
        ("no", "no"),
    ],
)
def test_name_is_made_from_the_context(context: str, name: str) -> None:
    """Every context gives a name that the configuration accepts."""
    assert name_from(context) == name
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name)


def test_first_kubeconfig_of_a_list_is_taken(tmp_path: Path) -> None:
    """`$KUBECONFIG` may list several files, and some may be missing."""
    there = tmp_path / "there"
    there.write_text("")
    assert first_kubeconfig(Path(f"{tmp_path}/missing:{there}:{tmp_path}/other")) == there
    assert first_kubeconfig(tmp_path / "missing") == tmp_path / "missing"


def test_private_issuer_is_refused_with_the_steps_that_lead_to_a_public_one() -> None:
    """kubeadm's default issuer: the steps add a public issuer first and keep existing pods logged in."""
    old = IssuerUrl("https://kubernetes.default.svc.cluster.local")
    (problem,) = issuer_problems(old, allow_private=False)
    remedy = unfit_issuer(problem, old).remedy
    assert f"oidc-mirror render apiserver-flags NAME --keep-issuer {old}" in remedy
    assert "https://BUCKET.s3-REGION.amazonaws.com/NAME" in remedy


def complete(capsys: Out, path: Path) -> tuple[Settings, str]:
    """The output of `--complete` as loaded configuration."""
    status, out, err = init(capsys, path, "--complete")
    assert (status, err) == (0, "")
    SCHEMA.validate(yaml.safe_load(out))
    return parse(out, base=Path("/etc/oidc-mirror")), out


def test_complete_configuration_is_one_that_a_pass_takes(capsys: Out, tmp_path: Path) -> None:
    """Bucket and region come from the issuer, and the entry is that of plain `init`. The next commands are printed."""
    with Apiserver() as api:
        api.answer(FIRST_PAGE, FORBIDDEN)
        path = kubeconfig(tmp_path, api.url, user={"token": "s3cr3t"})
        settings, out = complete(capsys, path)
        api.answer(FIRST_PAGE, FORBIDDEN)
        _, entry, _ = init(capsys, path)
    (issuer,) = settings.issuers
    assert issuer == replace(loaded(entry), keys=issuer.keys)
    assert (issuer.publish.bucket, issuer.publish.region) == ("oidc-bucket", "ap-southeast-2")
    assert settings.state_dir == Path("/var/lib/oidc-mirror")
    assert "oidc-mirror --config mirror.yaml provision bucket admin-syd" in out
    assert "in the main file" not in out
    assert "s3cr3t" not in out


def test_complete_configuration_of_a_custom_domain_says_what_is_missing(capsys: Out, tmp_path: Path) -> None:
    """The URL of a custom domain does not reveal its bucket."""
    discovery = json.dumps(
        {
            "issuer": "https://oidc.example.com/syd",
            "jwks_uri": "https://oidc.example.com/syd/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
    ).encode()
    with Apiserver() as api:
        api.serve(discovery=raw_answer("200 OK", discovery, content_type="application/json"))
        api.answer(FIRST_PAGE, FORBIDDEN)
        settings, out = complete(capsys, kubeconfig(tmp_path, api.url))
    (issuer,) = settings.issuers
    assert (issuer.publish.bucket, issuer.publish.base_url) == ("name-of-your-bucket", "https://oidc.example.com")
    assert "# Check: the bucket behind the issuer's host" in out


def test_complete_configuration_proposes_a_public_issuer(capsys: Out, tmp_path: Path) -> None:
    """For a kubeadm cluster, the file is valid and names the steps that give the cluster a public issuer."""
    private = "https://kubernetes.default.svc.cluster.local"
    with Apiserver() as api:
        api.serve(discovery=discovery(issuer=private))
        settings, out = complete(capsys, kubeconfig(tmp_path, api.url))
    (issuer,) = settings.issuers
    assert issuer.issuer == "https://name-of-your-bucket.s3.us-east-1.amazonaws.com/admin-syd"
    assert issuer.publish.bucket == "name-of-your-bucket"
    assert f"oidc-mirror render apiserver-flags admin-syd --keep-issuer {private}\n" in out
    assert "# Check: your bucket and its region." in out


def test_complete_configuration_repeats_no_hostile_issuer(capsys: Out, tmp_path: Path) -> None:
    """Characters that are dangerous in a terminal or a shell are rejected, as without --complete."""
    with Apiserver() as api:
        api.serve(discovery=discovery(issuer="https://a.local/$(id)"))
        status, out, err = init(capsys, kubeconfig(tmp_path, api.url), "--complete")
    assert (status, out) == (1, "")
    assert "cannot be published" in err
