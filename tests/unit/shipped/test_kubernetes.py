"""The kustomize tree: what it renders to fits Kubernetes' own schemas, restricted Pod Security, and the program."""

import json
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml
from starlette.routing import Route

from mirror.cli.main import cli
from mirror.cli.options import DEFAULT_CONFIG
from mirror.config.load import load
from mirror.config.settings import SERVICE_ACCOUNT
from mirror.daemon.scheduler import HealthResult
from mirror.daemon.web import Sources, application
from support.machine import demand

pytestmark = pytest.mark.unmeasured  # it reads manifests

FOLDER = Path(__file__).parents[3] / "config/kubernetes"
OVERLAYS = ("cronjob", "deployment", "sharded")
VERSIONS = ("1.29", "1.37")
OLDEST_MINOR = 25
Object = dict[str, Any]
ALIVE = HealthResult(ok=True, sentence="Alive.")


@cache
def rendered(overlay: str) -> tuple[Object, ...]:
    kubectl = demand("kubectl", variable="OIDC_MIRROR_REQUIRE_KUBECTL", package="kubernetes-client")
    reported = subprocess.run(
        [kubectl, "version", "--client", "-o", "json"], capture_output=True, text=True, check=True
    )
    if int(json.loads(reported.stdout)["clientVersion"]["minor"].rstrip("+")) < OLDEST_MINOR:
        pytest.skip(f"kubectl is older than 1.{OLDEST_MINOR}, whose kustomize knows `labels` with `includeTemplates`")
    done = subprocess.run(
        [kubectl, "kustomize", str(FOLDER / "overlays" / overlay)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return tuple(yaml.safe_load_all(done.stdout))


def files() -> Iterator[tuple[str, Object]]:
    """Every Kubernetes object of the tree as in its file, without patches and kustomizations."""
    for path in sorted(FOLDER.rglob("*.yaml")):
        for number, found in enumerate(yaml.safe_load_all(path.read_text())):
            if "kind" in found and found["kind"] not in ("Kustomization", "Component") and path.name != "sharded.yaml":
                yield f"{path.relative_to(FOLDER)}:{number}", found


def only(objects: tuple[Object, ...], kind: str) -> Object:
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def pod(overlay: str) -> Object:
    """The pod's specification of an overlay."""
    objects = rendered(overlay)
    if overlay == "deployment":
        spec = only(objects, "Deployment")["spec"]["template"]["spec"]
    else:
        spec = only(objects, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


KNOWN = {name: found for name, found in files() if not found["apiVersion"].startswith("monitoring.coreos.com")}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", KNOWN)
def test_file_fits_the_schema(name: str, version: str) -> None:
    """Every member is known to Kubernetes; this also runs without kubectl to render an overlay."""
    kubernetes_validate.validate(KNOWN[name], version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_fits_the_schema(overlay: str, version: str) -> None:
    """Old and new apiservers accept the objects that kubectl would send."""
    for each in rendered(overlay):
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pod_is_restricted(overlay: str) -> None:
    """Pod Security "restricted", a read-only root, a user by number, no token but the projected one."""
    spec = pod(overlay)
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert {next(iter(set(volume) - {"name"})) for volume in spec["volumes"]} <= {
        "configMap",
        "secret",
        "emptyDir",
        "projected",
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_mounts_have_their_volumes(overlay: str) -> None:
    """Each mount names a volume of the pod, each generated ConfigMap its hashed name, and state can be written."""
    spec, objects = pod(overlay), rendered(overlay)
    (container,) = spec["containers"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    maps = {each["metadata"]["name"] for each in objects if each["kind"] == "ConfigMap"}
    assert {volumes[name]["configMap"]["name"] for name in ("config", "known-hosts")} == maps
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/var/lib/oidc-mirror", "/tmp"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_signing_key_is_a_mounted_secret(overlay: str) -> None:
    """The variable names a file of the mounted secret that the group of the pod alone can read."""
    (container,) = pod(overlay)["containers"]
    (path,) = (Path(each["value"]) for each in container["env"] if each["name"] == "OIDC_MIRROR_SIGNING_KEY")
    (mount,) = (each for each in container["volumeMounts"] if each["mountPath"] == str(path.parent))
    (volume,) = (each for each in pod(overlay)["volumes"] if each["name"] == mount["name"])
    assert mount["readOnly"] is True
    assert volume["secret"]["defaultMode"] & 0o007 == 0
    text = (FOLDER / "overlays" / ("cronjob" if overlay == "sharded" else overlay)).glob("*.yaml")
    command = f"create secret generic {volume['secret']['secretName']} --from-file={path.name}"
    assert any(command in each.read_text() for each in text)


def test_workloads_differ_only_in_how_they_run() -> None:
    """The CronJob's and the Deployment's pods have the same mounts, settings and rights."""
    first, second = pod("cronjob"), pod("deployment")
    for spec in (first, second):
        for name in ("args", "ports", "livenessProbe", "readinessProbe"):
            spec["containers"][0].pop(name, None)
    assert {**first, "restartPolicy": None} == {**second, "restartPolicy": None}


def words(overlay: str) -> list[str]:
    rendered.cache_clear()  # the test above takes members away
    (container,) = pod(overlay)["containers"]
    return [str(word).replace("$(JOB_COMPLETION_INDEX)", "7") for word in container["args"]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_arguments_are_words_of_the_program(overlay: str) -> None:
    """The command line accepts the containers' arguments."""
    name, *rest = words(overlay)
    command = cli.get_command(click.Context(cli, **cli.context_settings), name)
    assert command is not None
    assert command.make_context(name, rest, parent=click.Context(cli, **cli.context_settings)).params


def test_cronjob_never_repeats_or_overtakes() -> None:
    """One pass at a time, and a failed one is left to the next."""
    spec = only(rendered("cronjob"), "CronJob")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0


def test_shard_that_fails_ends_no_other() -> None:
    """Of shards that push at the same time one may lose every race: it runs again at the next tick."""
    spec = only(rendered("sharded"), "CronJob")["spec"]["jobTemplate"]["spec"]
    assert spec["backoffLimitPerIndex"] == 0
    assert "backoffLimit" not in spec


def test_shards_are_as_many_as_pods() -> None:
    """The number behind the slash is the number of completions."""
    spec = only(rendered("sharded"), "CronJob")["spec"]["jobTemplate"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert words("sharded")[-1] == f"7/{spec['completions']}"
    assert spec["completions"] == spec["parallelism"] == 8


def test_role_stands_where_the_endpoint_slices_are() -> None:
    """The apiservers' EndpointSlices are in `default`, for any namespace of the mirror."""
    for kind in ("Role", "RoleBinding"):
        assert only(rendered("cronjob"), kind)["metadata"]["namespace"] == "default"


def test_configuration_fits_the_pods(tmp_path: Path) -> None:
    """The generated ConfigMap's mirror.yaml is valid where it is mounted, and agrees with volumes, ports and rights."""
    (container,) = pod("deployment")["containers"]
    maps = [each["data"] for each in rendered("deployment") if each["kind"] == "ConfigMap"]
    (text,) = (data["mirror.yaml"] for data in maps if "mirror.yaml" in data)
    (tmp_path / "mirror.yaml").write_text(text)
    settings = load(tmp_path / "mirror.yaml")
    assert settings.warnings == ()
    paths = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(settings.state_dir) in paths
    assert str(Path(DEFAULT_CONFIG).parent) in paths
    assert str(SERVICE_ACCOUNT) in paths
    assert settings.http_listen is not None
    host, port = settings.http_listen
    assert host == "0.0.0.0"  # noqa: S104  what the kubelet can reach
    assert [each["containerPort"] for each in container["ports"]] == [port]
    assert settings.repository.remote is not None
    (issuer,) = settings.issuers
    assert issuer.discover == "endpointslices"
    (rule,) = only(rendered("deployment"), "Role")["rules"]
    assert rule == {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]}


def test_probes_ask_what_the_daemon_answers() -> None:
    """Liveness is /healthz, readiness /readyz, on the port of http.listen."""
    (container,) = pod("deployment")["containers"]
    probes = {name: container[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")}
    assert {each["port"] for each in probes.values()} == {container["ports"][0]["name"]}
    silent = Sources(lambda: ALIVE, lambda: ALIVE, lambda: b"", lambda _: ("", ""))
    # The address that pods listen on; nothing is bound here.
    served = {route.path for route in application(silent, listen_host="0.0.0.0").routes if isinstance(route, Route)}  # noqa: S104  see above
    assert {each["path"] for each in probes.values()} == {"/healthz", "/readyz"} <= served


def test_monitoring_component_has_the_alerts() -> None:
    """The PrometheusRule holds the alerts of config/prometheus, which are checked there."""
    (rule,) = yaml.safe_load_all((FOLDER / "components/monitoring/prometheusrule.yaml").read_text())
    alerts = yaml.safe_load((FOLDER.parent / "prometheus/alerts.yaml").read_text())
    assert json.dumps(rule["spec"]) == json.dumps(alerts)
