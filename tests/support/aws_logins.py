"""Every way in which botocore gets credentials, and the services that it asks for them: a small server on loopback."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs

_FUTURE = "2099-01-01T00:00:00Z"
_PAST = "2020-01-01T00:00:00Z"
_SECRET = "SecretThatNobodyMaySee"
_STATIC = "aws_access_key_id = AKIASTATIC\naws_secret_access_key = secret\n"
_SSO = "sso_account_id = 123456789012\nsso_role_name = mirror\n"
_SESSION = "session"
_PROCESS = r"""[profile process]
credential_process = echo '{"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "x"}'
"""
_ROLE = f"""[profile role]
role_arn = arn:aws:iam::123456789012:role/r
source_profile = base
[profile base]
{_STATIC}"""
_LOGIN = "arn:aws:iam::123456789012:user/mirror"


@dataclass(frozen=True)
class Login:
    """One way. `expected` is the access key id that shows it, or what is said of it."""

    expected: str
    profile: str = ""
    config: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    files: Callable[[str], Mapping[str, object]] = field(default=lambda _: {})

    def prepare(self, folder: Path, url: str, seen_as: Path, home: Path) -> dict[str, str]:
        """Write its files into `folder` (the program sees it as `seen_as`) and `home`; gives the environment."""
        (folder / "aws-config").write_text(self.config.replace("FOLDER", str(seen_as)))
        (folder / "web-identity").write_text("header.e30.signature")
        for name, content in self.files(url).items():
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
            for each in (path, *path.relative_to(home).parents[:-1]):
                (home / each).chmod(0o770)
        every = {"AWS_CONFIG_FILE": str(seen_as / "aws-config"), "AWS_DEFAULT_REGION": "us-east-1"}
        services = ("STS", "SSO", "SSO_OIDC", "SIGNIN")
        every |= {f"AWS_ENDPOINT_URL_{service}": url for service in services}
        if "AWS_EC2_METADATA_SERVICE_ENDPOINT" not in self.environ:
            every["AWS_EC2_METADATA_DISABLED"] = "true"
        return every | {
            name: value.replace("URL", url).replace("FOLDER", str(seen_as)) for name, value in self.environ.items()
        }


def _sso_cache(key: str, start_url: str, expires: str) -> Mapping[str, object]:
    token = {"startUrl": start_url, "region": "us-east-1", "accessToken": "old", "expiresAt": expires}
    token |= {"clientId": "id", "clientSecret": _SECRET, "refreshToken": "refresh", "registrationExpiresAt": _FUTURE}
    return {f".aws/sso/cache/{sha1(key.encode()).hexdigest()}.json": token}  # noqa: S324  the name that botocore gives it


_START = "https://start.example.com"
_SESSION_CONFIG = f"[profile sso]\nsso_session = {_SESSION}\n{_SSO}[sso-session {_SESSION}]\n"
_SESSION_CONFIG += f"sso_region = us-east-1\nsso_start_url = {_START}\n"
LOGINS = {
    "environment": Login(
        "AKIAENVIRON", environ={"AWS_ACCESS_KEY_ID": "AKIAENVIRON", "AWS_SECRET_ACCESS_KEY": "secret"}
    ),
    "configuration-file": Login("AKIASTATIC", config=f"[default]\n{_STATIC}"),
    "credentials-file": Login(
        "AKIASTATIC",
        config=f"[default]\n{_STATIC}",
        environ={"AWS_SHARED_CREDENTIALS_FILE": "FOLDER/aws-config", "AWS_CONFIG_FILE": "/nowhere"},
    ),
    "process": Login("AKIAPROCESS", "process", _PROCESS),
    "assume-role": Login("ASIAASSUMED", "role", _ROLE),
    "web-identity": Login(
        "ASIAWEB",
        environ={
            "AWS_WEB_IDENTITY_TOKEN_FILE": "FOLDER/web-identity",
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r",
        },
    ),
    "sso": Login(
        "ASIASSO",
        "sso",
        f"[profile sso]\nsso_region = us-east-1\nsso_start_url = {_START}\n{_SSO}",
        files=lambda _: _sso_cache(_START, _START, _FUTURE),
    ),
    "sso-refreshed": Login("ASIASSO", "sso", _SESSION_CONFIG, files=lambda _: _sso_cache(_SESSION, _START, _PAST)),
    # botocore wants a library of AWS in C for it, which is not among the dependencies: the reason names it.
    "login": Login("botocore[crt]", "login", f"[profile login]\nlogin_session = {_LOGIN}\n"),
    "container": Login("ASIACONTAINER", environ={"AWS_CONTAINER_CREDENTIALS_FULL_URI": "URL/container"}),
    "instance": Login("ASIAINSTANCE", environ={"AWS_EC2_METADATA_SERVICE_ENDPOINT": "URL/"}),
}


@contextmanager
def running_logins() -> Iterator[str]:
    """STS, IAM Identity Center, a container's agent and an instance's metadata, until the block ends; gives the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        self._answer("text/plain", "a-token")

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/federation/credentials":
            keys = {"accessKeyId": "ASIASSO", "secretAccessKey": "x", "sessionToken": "x", "expiration": 4070908800000}
            self._answer("application/json", json.dumps({"roleCredentials": keys}))
        elif path == "/container":
            self._answer("application/json", json.dumps(_keys("ASIACONTAINER")))
        elif path.endswith("/security-credentials/"):
            self._answer("text/plain", "role")
        else:
            self._answer("application/json", json.dumps(_keys("ASIAINSTANCE") | {"Code": "Success"}))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/token":
            token = {"accessToken": "new", "expiresIn": 3600, "tokenType": "Bearer", "refreshToken": "next"}
            self._answer("application/json", json.dumps(token))
            return
        action = parse_qs(body)["Action"][0]
        key = "ASIAWEB" if action == "AssumeRoleWithWebIdentity" else "ASIAASSUMED"
        self._answer(
            "text/xml",
            f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result><Credentials>'
            f"<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>x</SecretAccessKey><SessionToken>x</SessionToken>"
            f"<Expiration>{_FUTURE}</Expiration></Credentials></{action}Result></{action}Response>",
        )

    def _answer(self, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _keys(key: str) -> dict[str, str]:
    return {"AccessKeyId": key, "SecretAccessKey": "x", "Token": "x", "Expiration": _FUTURE}
