"""`oidc-mirror render`, as its words and exit statuses."""

import json
from pathlib import Path

import pytest

from mirror.cli.main import main
from mirror.federation.render.kinds import KINDS

ROLE = "arn:aws:iam::111122223333:role/teams/deployer"
ISSUER = "https://oidc-bucket.s3.ap-southeast-2.amazonaws.com/a"


@pytest.fixture
def config(tmp_path: Path) -> str:
    entry = {
        "name": "syd",
        "issuer": ISSUER,
        "apiservers": ["https://10.0.0.11:6443"],
        "audiences": ["sts.amazonaws.com"],
    }
    path = tmp_path / "mirror.yaml"
    publish = {"bucket": "oidc-bucket", "region": "ap-southeast-2"}
    path.write_text(json.dumps({"state_dir": "state", "publish": publish, "issuers": [entry]}))
    return str(path)


def test_piece_is_alone_on_stdout(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is piped into a file is the piece; what else to know is on stderr."""
    assert main(["--config", config, "render", "bucket-policy", "syd"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["Statement"][0]["Principal"] == "*"
    assert err.startswith("note: ")


def test_options_reach_the_piece(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Namespace, ServiceAccount and session stand where the role has them."""
    words = ["--namespace", "n", "--service-account", "s", "--session-duration", "2h", "--account", "111122223333"]
    assert main(["render", "iam-role", "syd", "--config", config, *words, "--format", "cli"]) == 0
    out = capsys.readouterr().out
    for word in ("system:serviceaccount:n:s", "--max-session-duration 7200", "arn:aws:iam::111122223333:", "syd-n-s"):
        assert word in out


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["nothing", "syd"], id="kind"),
        pytest.param(["bucket-policy", "nobody"], id="name"),
        pytest.param(["bucket-policy", "syd", "--format", "terraform"], id="format"),
        pytest.param(["iam-role", "syd", "--session-duration", "13h"], id="session-too-long"),
        pytest.param(["iam-role", "syd", "--session-duration", "soon"], id="session-no-duration"),
        pytest.param(["iam-role", "syd", "--account", "12"], id="account"),
        pytest.param(["iam-role", "syd", "--namespace", "A b"], id="namespace"),
        pytest.param(["iam-role", "syd", "--service-account", ""], id="service-account"),
        pytest.param(["iam-role", "syd", "--subject", "a\nb"], id="subject"),
        pytest.param(["iam-role", "syd", "--role-name", "a b"], id="role-name"),
        pytest.param(["iam-role", "syd", "--managed-policy", "ReadOnlyAccess"], id="policy"),
        pytest.param(["iam-role", "syd", "--role-arn", "deployer"], id="role-arn"),
        pytest.param(["iam-role", "syd", "--role-arn", ROLE, "--role-name", "x"], id="role-twice"),
        pytest.param(["iam-role", "syd", "--role-arn", ROLE, "--account", "111122223333"], id="account-twice"),
        pytest.param(["pod", "syd", "--expiration", "9m"], id="token-too-short"),
        pytest.param(["pod", "syd", "--expiration", "60000d"], id="token-too-long"),
        pytest.param(["pod", "syd", "--image", "a b"], id="image"),
        pytest.param(["pod", "syd", "--audience", "other"], id="audience"),
        pytest.param(["apiserver-flags", "syd", "--key-file", "relative.pub"], id="key-file"),
        pytest.param(["apiserver-flags", "syd", "--signing-key-file", "/a;b"], id="signing-key-file"),
        pytest.param(["apiserver-flags", "syd", "--api-audience", "a,b"], id="api-audience"),
        pytest.param(["apiserver-flags", "syd", "--keep-issuer", "https://a,https://b"], id="keep-issuer"),
        pytest.param(["rbac", "syd", "--mirror", "one-word"], id="mirror"),
        pytest.param(["rbac", "syd", "--user", "a\nb"], id="user"),
    ],
)
def test_words_that_mean_nothing_are_usage_errors(
    config: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, and not one byte on stdout."""
    assert main(["--config", config, "render", *words]) == 2
    assert capsys.readouterr().out == ""


def test_role_with_a_path_is_the_same_everywhere(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--role-arn says name, folder and account of the role, to the pod and to each way of making it."""

    def rendered(kind: str, form: str) -> str:
        assert main(["render", kind, "syd", "--config", config, "--role-arn", ROLE, "--format", form]) == 0
        return capsys.readouterr().out

    properties = json.loads(rendered("iam-role", "json"))["Resources"]["Role"]["Properties"]
    assert (properties["RoleName"], properties["Path"]) == ("deployer", "/teams/")
    assert '  path = "/teams/"' in rendered("iam-role", "terraform")
    assert "--role-name deployer --path /teams/" in rendered("iam-role", "cli")
    assert ROLE in rendered("pod", "yaml")
    assert "oidc-provider" in rendered("iam-role", "trust-policy")


def test_login_is_read_for_rbac_alone(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The name is told by option; without one the configuration says who asks."""
    assert main(["render", "rbac", "syd", "--config", config]) == 0
    assert "system:unauthenticated" in capsys.readouterr().out
    assert main(["render", "rbac", "syd", "--config", config, "--user", "mirror"]) == 0
    out = capsys.readouterr().out
    assert "system:unauthenticated" not in out
    assert "name: mirror" in out


def test_help_names_every_kind_with_its_formats(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever asks for help sees what there is."""
    assert main(["render", "--help"]) == 0
    out = capsys.readouterr().out
    for kind in KINDS.values():
        assert kind.name in out
        assert kind.sentence in out
        assert ", ".join(kind.formats) in out
