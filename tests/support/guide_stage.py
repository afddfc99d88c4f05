"""The environment in which the guide is executed: a private network, an AWS account and a git host, all on loopback.

The guide's configuration is used unchanged, except for the state directory. Its host names are redirected outside of
it: by a proxy for the private network, by git's `insteadOf` for the git host, by environment variables for AWS, and by
`readback.connect_to` for DNS.

    the next block is mirror.yaml                       the configuration
    the next block is laid over it, behind CloudFront   these changes, and a CDN that serves the bucket
    mirror.yaml is as it was                            without the CDN
    the pod has a token of an issuer with a slash       in `token`: for ServiceAccount default/web; only iss is wrong
    the mirror has a token of key 2                     for the apiservers, signed with that key
    nobody may read the bucket                          until the next direction the public URLs answer 403
    replica 2 answers as in CASE                        a captured answer of a real apiserver, such as 14-accept/
    replica 2 is overloaded                             it answers 503

It also accepts the directions of `support.stages`. The output shows the guide's folder as /etc/oidc-mirror.
"""

import json
import re
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import yaml

from support.apiserver import Apiserver, always, raw_answer
from support.aws_stub import running_moto
from support.captures import capture
from support.cdn import make_distribution, running_cdn, serving
from support.documents import Direction, Ran
from support.endpointslices import FIRST_PAGE, endpoint, endpointslice, listed, slice_list
from support.gits import bare
from support.keys import RSA_KEYS
from support.kubeconfigs import kubeconfig
from support.kubectl import GUIDE_KEY
from support.moto import Moto
from support.proxy import Proxy
from support.s3 import REGION, S3Server, running_ministack
from support.situations import ISSUER
from support.stages import Act, DemoStage, discovery_body
from support.tls import ca_file, server_context
from support.tokens import Signer, claims, derived_signer, mint
from support.web import public_host
from support.worlds import PROJECT, World, running_world

FOLDER = "/etc/oidc-mirror"
OWN_TOKEN = "tokens/syd-prod"
REPLICAS = ("10.0.0.11", "10.0.0.12")
API = "api.syd-prod.example.com"
REMOTE = "git@git.example.com:platform/oidc-snapshots.git"
SUBJECT = "system:serviceaccount:default:web"
SIGNERS = (derived_signer(GUIDE_KEY), derived_signer("guide 2"))


@dataclass(slots=True)
class GuideStage(DemoStage):
    """The stage of the guide. `proxy` leads to the private network, `before` is the configuration without a CDN.

    `distribution` has two ids of the CloudFront distribution: the stub's, and the one in the guide.
    """

    proxy: Proxy | None = None
    before: dict[str, Any] = field(default_factory=dict)
    distribution: tuple[str, str] = ("E2QWRUHAPOMQZL", "E2QWRUHAPOMQZL")

    def run(self, script: str, status: int) -> Ran:
        """Run it as any stage does; the output names the folder as on the reader's machine."""
        ran = DemoStage.run(self, script, status)
        output = ran.output.replace(str(self.world.folder), FOLDER)
        return Ran(output.replace(self.distribution[0], self.distribution[1]), ran.status)

    def directions(self) -> dict[str, Act]:
        """The directions of every stage, and those of the guide."""
        return DemoStage.directions(self) | {
            r"the next block is mirror\.yaml": self.write_configuration,
            r"the next block is laid over it, behind CloudFront": self.go_behind_cloudfront,
            r"mirror\.yaml is as it was": self.come_back,
            r"the pod has a token of an issuer with a slash": self.give_token,
            r"the mirror has a token of key (?P<key>[12])": self.give_own_token,
            r"nobody may read the bucket": self.forbid_reading,
            r"replica (?P<replica>[12]) answers as in (?P<case>\S+)": self.answer_as,
            r"replica (?P<replica>[12]) is overloaded": self.overload,
        }

    def write_configuration(self, _: re.Match[str], direction: Direction) -> None:
        assert self.proxy is not None
        readback = self.world.config["publish"]["readback"]
        self.world.config = json.loads(json.dumps(yaml.safe_load(direction.block), default=str))
        self.world.config["state_dir"] = "state"  # the default is the folder of the systemd service
        self.world.config["publish"]["readback"] = readback
        self.world.config["defaults"] = {"proxy": self.proxy.url}

    def go_behind_cloudfront(self, _: re.Match[str], direction: Direction) -> None:
        self.before = deepcopy(self.world.config)
        changes = yaml.safe_load(direction.block)
        self.world.config["publish"] |= changes["publish"]
        self.world.issuer.update(changes["issuers"][0])
        name = self.world.config["publish"]["base_url"].removeprefix("https://")
        port = self.stack.enter_context(running_cdn(self.world.server, name))
        self.world.config["publish"]["readback"]["connect_to"] = f"localhost:{port}"
        made = make_distribution(self.world.further_environ["AWS_ENDPOINT_URL_CLOUDFRONT"])
        self.distribution = (made, changes["publish"]["cloudfront_distribution"])
        self.world.config["publish"]["cloudfront_distribution"] = made
        self.show_key_one()

    def come_back(self, _: re.Match[str], __: Direction) -> None:
        self.world.config = self.before
        self.show_key_one()

    def show_key_one(self) -> None:
        """Both replicas show key 1 under the issuer of the configuration."""
        for replica in self.world.replicas:
            discovery = discovery_body(self.world.issuer["issuer"], self.keys[:1])
            replica.serve(discovery=raw_answer("200 OK", discovery, content_type="application/json"))

    def give_token(self, _: re.Match[str], __: Direction) -> None:
        token = mint(SIGNERS[0], claims(time.time() - 1, sub=SUBJECT, iss=f"{ISSUER}/"))
        (self.world.folder / "token").write_bytes(token)

    def give_own_token(self, found: re.Match[str], _: Direction) -> None:
        (self.world.folder / OWN_TOKEN).write_bytes(own_token(SIGNERS[int(found["key"]) - 1]))

    def forbid_reading(self, _: re.Match[str], __: Direction) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        host = self.stack.enter_context(public_host())
        host.respond_with(always(raw_answer("403 Forbidden", body, content_type="application/xml", server="AmazonS3")))
        self.world.config["publish"]["readback"]["connect_to"] = f"localhost:{host.port}"

    def answer_as(self, found: re.Match[str], _: Direction) -> None:
        discovery, jwks = (capture(f"{found['case']}{part}").raw for part in ("discovery", "jwks"))
        self._replica(found).serve(discovery=discovery, jwks=jwks)

    def overload(self, found: re.Match[str], _: Direction) -> None:
        self._replica(found).respond_with(always(raw_answer("503 Service Unavailable", b"apiserver not ready")))

    def _replica(self, found: re.Match[str]) -> Apiserver:
        return self.world.replicas[int(found["replica"]) - 1]


@contextmanager
def guide_stage(folder: Path) -> Iterator[GuideStage]:
    """A cluster without bucket, provider and history. The AWS stub does not enforce permissions."""
    (folder / "s3").mkdir()
    (folder / "world").mkdir()
    with ExitStack() as stack:
        server = stack.enter_context(running_ministack(folder / "s3"))
        world = stack.enter_context(running_world(server, folder / "world"))
        assert server.request("DELETE", "/oidc-bucket", host=f"localhost:{server.port}") == 204
        aws, account = (stack.enter_context(each) for each in (running_moto(), _account_without_block()))
        # All tests of the process share the stub's state.
        stub = Moto(int(aws.rpartition(":")[2]))
        stub.reset()
        stack.callback(stub.reset)
        proxy = stack.enter_context(Proxy(routes=_private_network(world)))
        stage = GuideStage(world, deepcopy(world.config), stack, (*(by.key for by in SIGNERS), *RSA_KEYS), proxy)
        world.further_environ |= _aws(aws, account, server) | _git(folder)
        _files(world, proxy)
        stage.install()
        yield stage


@contextmanager
def _account_without_block() -> Iterator[str]:
    """An S3 Control API that reports, as for a new account, no Block Public Access. Yields its URL."""
    body = b"<Error><Code>NoSuchPublicAccessBlockConfiguration</Code><Message>none</Message></Error>"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as port:
        yield f"http://127.0.0.1:{port}"


def _private_network(world: World) -> dict[str, tuple[str, int]]:
    """The local port for each address of the private network. The apiservers' EndpointSlices list the replicas."""
    slices = listed(slice_list([endpointslice(*map(endpoint, REPLICAS))]))
    for replica in world.replicas:
        replica.context = server_context(*REPLICAS, API, "kubernetes.default.svc")
        replica.answer(FIRST_PAGE, slices)
    ends = [("127.0.0.1", replica.port) for replica in world.replicas]
    return {f"{name}:6443": end for name, end in zip((*REPLICAS, API), (*ends, ends[0]), strict=True)}


def _aws(url: str, account: str, server: S3Server) -> dict[str, str]:
    elsewhere = {f"AWS_ENDPOINT_URL_{service}": url for service in ("IAM", "STS", "CLOUDFRONT")}
    return elsewhere | {
        "AWS_ENDPOINT_URL_S3": f"https://127.0.0.1:{server.port}",
        # The SDK puts the account id before the host name, so an IP address is not possible: an HTTP proxy answers.
        "AWS_ENDPOINT_URL_S3_CONTROL": "http://s3-control.example.com",
        "http_proxy": account,  # the lower-case name takes precedence over the machine's HTTP_PROXY
        "no_proxy": "127.0.0.1,localhost",
        "AWS_DEFAULT_REGION": REGION,
    }


def _git(folder: Path) -> dict[str, str]:
    remote, config = folder / "remote.git", folder / "gitconfig"
    bare(remote)
    config.write_text(f'[url "{remote}"]\n\tinsteadOf = {REMOTE}\n')
    return {"GIT_CONFIG_GLOBAL": str(config)}


def own_token(by: Signer) -> bytes:
    """The mirror's token for the apiservers, issued ten minutes ago."""
    return mint(by, claims(time.time() - 600, aud=[ISSUER], sub="system:serviceaccount:oidc-mirror:oidc-mirror"))


def _files(world: World, proxy: Proxy) -> None:
    """Create the cluster's files in the configuration's folder: CA, token and kubeconfig."""
    ca_file(world.folder).rename(world.folder / "syd-prod-ca.crt")
    for name in ("credentials", "tokens"):
        (world.folder / name).mkdir()
    token = world.folder / OWN_TOKEN
    token.touch(0o640)
    token.write_bytes(own_token(SIGNERS[0]))
    login = kubeconfig(world.folder, f"https://{API}:6443", cluster={"proxy-url": proxy.url}, user={"token": "t0ken"})
    login.rename(world.folder / "admin.kubeconfig")
    objects, program = world.folder / "objects", world.folder / "bin" / "kubectl"
    objects.mkdir()
    program.parent.mkdir()
    words = shlex.join((sys.executable, "-m", "support.kubectl", str(objects)))
    path = shlex.quote(f"{PROJECT}:{PROJECT / 'tests'}")
    program.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {words} "$@"\n')
    program.chmod(0o755)
