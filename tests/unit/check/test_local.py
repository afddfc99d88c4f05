"""Local checks: configured files, tokens, AWS credentials, git and the state directory."""

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirror.check.cluster import tokens
from mirror.check.local import circular, configuration, credentials, git, issuer_files, state
from mirror.check.ports import HistoryFacts, Unavailable
from mirror.config.settings import AuthSettings, Issuer, ReadbackSettings, RepositorySettings, TlsSettings
from mirror.model import Reason
from mirror.ports import WebIdentityToken
from support.askers import AUDIENCE, issuer
from support.check_clients import ACCOUNT, HEAD, FakeAws, FakeHistoryView, reported, worst
from support.fakes import FakeWorld
from support.situations import ISSUER, Situation
from support.tls import ca_file, client_files, server_certificate
from support.users import SERVICE_UID, as_user, give, open_folder

NOW = datetime.now(UTC)
AT = NOW.timestamp()


def token(claims: Mapping[str, object]) -> str:
    parts = ({"alg": "RS256"}, claims, "signature-of-a-secret")
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


def with_token(folder: Path, text: str, mode: int = 0o600) -> Issuer:
    path = folder / "token"
    path.write_text(text)
    path.chmod(mode)
    return issuer("https://10.0.0.1:6443", token_file=path)


def test_warnings_of_the_configuration_are_reported(tmp_path: Path) -> None:
    """Unwise settings are warnings, listed with the number of issuers."""
    settings = replace(Situation(tmp_path).settings(), warnings=("issuers[0]: short.",))
    assert reported(configuration(settings)) == [("warning", "configuration.unwise"), ("ok", "configuration.valid")]


@pytest.mark.parametrize(("mode", "expected"), [(0o600, []), (0o644, [("warning", "file.not_private")])])
def test_signing_key_that_every_user_can_read_is_a_warning(
    tmp_path: Path, mode: int, expected: list[tuple[str, str]]
) -> None:
    """Anyone who can read the key can sign ledgers. Other problems of the key are reported by the git checks."""
    settings = Situation(tmp_path).settings()
    (tmp_path / "key").touch()
    (tmp_path / "key").chmod(mode)
    for path, wanted in ((tmp_path / "key", expected), (tmp_path / "none", [])):
        repository = replace(settings.repository, signing_key=path)
        assert worst(configuration(replace(settings, repository=repository))) == wanted


def test_good_files_are_reported_with_their_expiry(tmp_path: Path) -> None:
    """A CA, a client certificate, its private key, a kubeconfig and the read-back's CA are reported."""
    files, ca = client_files(tmp_path), ca_file(tmp_path)
    (tmp_path / "kubeconfig").touch(0o600)
    files.key.chmod(0o600)
    tls = TlsSettings(ca_file=ca, client_cert_file=files.certificate, client_key_file=files.key)
    one = issuer("https://10.0.0.1:6443", tls=tls)
    one = replace(
        one,
        auth=AuthSettings(kubeconfig=tmp_path / "kubeconfig"),
        publish=replace(one.publish, readback=ReadbackSettings(ca_file=ca)),
    )
    assert reported(issuer_files(one, NOW)) == [("ok", "file.certificate")] * 3


def test_missing_files_are_each_reported(tmp_path: Path) -> None:
    """All missing files are reported at once, each with its configuration key. A folder is not a file."""
    tls = TlsSettings(ca_file=tmp_path / "none", client_cert_file=tmp_path, client_key_file=tmp_path / "none")
    found = list(issuer_files(issuer("https://10.0.0.1:6443", tls=tls), NOW))
    assert reported(found) == [("failed", "file.unreadable")] * 3
    assert [each.sentence.partition(":")[0] for each in found] == [
        "tls.ca_file",
        "tls.client_cert_file",
        "tls.client_key_file",
    ]


def test_private_key_that_all_may_read_is_a_warning(tmp_path: Path) -> None:
    """The remedy is the command that fixes the mode."""
    files = client_files(tmp_path)
    files.key.chmod(0o644)
    found = list(issuer_files(issuer("https://10.0.0.1:6443", tls=TlsSettings(client_key_file=files.key)), NOW))
    assert reported(found) == [("warning", "file.not_private")]
    assert f"chmod o= {files.key}" in found[0].remedy


@pytest.mark.parametrize(
    ("valid_for", "expected"),
    [
        (timedelta(days=20), ("warning", "file.certificate_expires")),
        (timedelta(days=-1, hours=1), ("failed", "file.certificate_expired")),
    ],
    ids=["soon", "over"],
)
def test_expiring_certificate_is_reported(tmp_path: Path, valid_for: timedelta, expected: tuple[str, str]) -> None:
    """An expired client certificate locks the mirror out of the cluster."""
    leaf = server_certificate("client", valid_for=valid_for, made=timedelta(days=-2))
    path = tmp_path / "client.crt"
    path.write_bytes(leaf.cert_chain_pems[0].bytes())
    assert reported(issuer_files(issuer("https://10.0.0.1:6443", tls=TlsSettings(client_cert_file=path)), NOW)) == [
        expected
    ]


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        pytest.param({"exp": AT + 3600, "iat": AT - 60}, ("ok", "token.valid"), id="good"),
        pytest.param({"exp": AT + 3600}, ("ok", "token.valid"), id="without-iat"),
        pytest.param({"exp": AT + 60, "iat": AT - 3540}, ("warning", "token.expires"), id="soon"),
        pytest.param({"exp": AT + 3600, "iat": AT - 864000}, ("note", "token.long"), id="long"),
        pytest.param({"exp": AT - 3600}, ("failed", "token.expired"), id="over"),
        pytest.param({}, ("note", "token.endless"), id="endless"),
        pytest.param({"exp": True}, ("note", "token.endless"), id="exp-is-no-number"),
        pytest.param({"exp": 1e300}, ("note", "token.endless"), id="exp-is-beyond-every-calendar"),
        pytest.param({"exp": AT + 60, "aud": ["sts.amazonaws.com"]}, ("failed", "wrong_token"), id="for-aws"),
        pytest.param({"exp": AT + 60, "aud": AUDIENCE}, ("failed", "wrong_token"), id="for-a-pod"),
    ],
)
def test_token_is_checked_and_never_printed(
    tmp_path: Path, claims: dict[str, object], expected: tuple[str, str]
) -> None:
    """The token's age and expiry are reported. No part of the token appears in any finding."""
    text = token(claims)
    found = list(tokens(with_token(tmp_path, text), NOW))
    assert reported(found) == [expected]
    assert not [part for part in text.split(".") if part in repr(found)]


def test_token_file_faults_are_reported(tmp_path: Path) -> None:
    """Missing, empty and world-readable files are independent findings."""
    missing = issuer("https://10.0.0.1:6443", token_file=tmp_path / "none")
    assert reported(tokens(missing, NOW)) == [("failed", "token_unreadable")]
    assert reported(tokens(with_token(tmp_path, "\n"), NOW)) == [("failed", "token_malformed")]
    open_to_all = tokens(with_token(tmp_path, "opaque", 0o644), NOW)
    assert reported(open_to_all) == [("warning", "file.not_private"), ("note", "token.endless")]


def test_issuer_without_token_has_no_finding() -> None:
    """Without a token, requests are anonymous."""
    assert list(tokens(issuer("https://10.0.0.1:6443"), NOW)) == []


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": AT + 3600, "aud": AUDIENCE}, [("ok", "token.valid")]),
        ({"exp": AT - 60, "aud": "sts.amazonaws.com"}, [("failed", "token.expired")]),
    ],
    ids=["good", "over-and-for-aws"],
)
def test_probe_token_is_one_for_a_cloud(
    tmp_path: Path, claims: dict[str, object], expected: list[tuple[str, str]]
) -> None:
    """The audience of a probe token is that of a relying party, as intended."""
    one = with_token(tmp_path, token(claims))
    probing = replace(one, auth=AuthSettings(), probe_token_file=one.auth.token_file)
    assert reported(tokens(probing, NOW)) == expected


PUBLISH = FakeWorld().publish()
STORE = replace(PUBLISH, endpoint_url="https://store.example.com")


def test_identity_is_reported() -> None:
    """The source of the credentials is reported, and the ARN with its account."""
    found = list(credentials(PUBLISH, FakeAws(source="iam-role")))
    assert reported(found) == [("ok", "credentials.found"), ("ok", "credentials.identity")]
    assert "metadata service" in found[0].sentence
    assert ACCOUNT in found[1].sentence


@pytest.mark.parametrize(
    ("aws", "expected"),
    [
        pytest.param(FakeAws(source=None), ("failed", "credentials.none"), id="none"),
        pytest.param(
            FakeAws(source=Unavailable("ProfileNotFound", "no", "Correct it.")),
            ("failed", "credentials.unusable"),
            id="profile",
        ),
        pytest.param(
            FakeAws(who=Unavailable("ExpiredToken", "old", "Renew.")), ("failed", "credentials.expired"), id="expired"
        ),
        pytest.param(
            FakeAws(who=Unavailable("InvalidAccessKeyId", "", "Correct.")),
            ("failed", "credentials.refused"),
            id="unknown-key",
        ),
    ],
)
def test_unusable_credentials_are_failures(aws: FakeAws, expected: tuple[str, str]) -> None:
    """Missing, unavailable, expired and rejected credentials each have a code and a remedy."""
    found = list(credentials(PUBLISH, aws))[-1]
    assert reported([found]) == [expected]
    assert found.remedy


def test_sts_that_is_not_reached_is_a_warning() -> None:
    """Keys from the environment need no STS. Some networks only allow S3."""
    aws = FakeAws(who=Unavailable("ConnectTimeout", "", "Look."))
    assert reported(credentials(PUBLISH, aws))[-1] == ("warning", "credentials.unknown")


def test_store_without_sts_is_a_note() -> None:
    """A store other than AWS does not need STS."""
    aws = FakeAws(who=Unavailable("NoSuchHost", "", "Look."), source="something-new")
    assert reported(credentials(STORE, aws)) == [("ok", "credentials.found"), ("note", "credentials.unknown")]


def test_token_of_an_own_issuer_is_circular(tmp_path: Path) -> None:
    """The finding and its remedy are those of a pass."""
    issuers = Situation(tmp_path).settings().issuers
    (found,) = circular(issuers, lambda _: WebIdentityToken(tmp_path, ISSUER))
    assert reported([found]) == [("warning", "credentials.circular")]
    assert list(circular(issuers, lambda _: None)) == []


REASON = Reason("code", "It is so.", "Do it.")
REMOTE = "https://git.example.com/x"
FETCHED, MAY_PUSH = ("ok", "git.fetched"), ("ok", "git.may_push")
WHOLE = ("ok", "git.whole")
UNSIGNED = ("warning", "repository.unsigned")


@pytest.mark.parametrize(
    ("state", "remote", "expected"),
    [
        pytest.param(
            HistoryFacts(HEAD, remote=HEAD, unpushed=0), REMOTE, [WHOLE, FETCHED, MAY_PUSH, UNSIGNED], id="in-order"
        ),
        pytest.param(HistoryFacts(HEAD), None, [WHOLE, ("note", "git.no_remote")], id="no-remote"),
        pytest.param(HistoryFacts(), None, [("note", "git.empty"), ("note", "git.no_remote")], id="empty"),
        pytest.param(HistoryFacts(unreadable=REASON), REMOTE, [("failed", "code")], id="unreadable"),
        pytest.param(
            HistoryFacts(HEAD, damaged=REASON), None, [("failed", "code"), ("note", "git.no_remote")], id="damaged"
        ),
        pytest.param(
            HistoryFacts(HEAD, broken=(REASON, REASON)),
            None,
            [WHOLE, ("failed", "code"), ("failed", "code"), ("note", "git.no_remote")],
            id="ledgers-broken",
        ),
        pytest.param(HistoryFacts(HEAD, fetch=REASON), REMOTE, [WHOLE, ("failed", "code"), UNSIGNED], id="remote-down"),
        pytest.param(
            HistoryFacts(HEAD, push=REASON, unpushed=1),
            REMOTE,
            [WHOLE, FETCHED, ("failed", "code"), UNSIGNED],
            id="denied",
        ),
        pytest.param(
            HistoryFacts(HEAD, unpushed=2),
            REMOTE,
            [WHOLE, FETCHED, MAY_PUSH, ("warning", "git.unpushed"), UNSIGNED],
            id="unpushed",
        ),
    ],
)
def test_history_is_reported(
    tmp_path: Path, state: HistoryFacts, remote: str | None, expected: list[tuple[str, str]]
) -> None:
    """Local repository, remote and push permission each have their own finding."""
    assert reported(git(RepositorySettings(tmp_path, remote=remote), FakeHistoryView(state), issuers=1)) == expected


def test_absent_repository_is_a_note(tmp_path: Path) -> None:
    """Before the first pass there is no repository."""
    found = git(RepositorySettings(tmp_path / "none.git"), FakeHistoryView(HistoryFacts()), issuers=1)
    assert reported(found) == [("note", "git.absent"), ("note", "git.no_remote")]


def test_state_directory_is_reported(tmp_path: Path) -> None:
    """The directory is writable, missing, not a folder, or locked by a process. The check creates nothing."""
    (tmp_path / "file").touch()
    assert reported(state(tmp_path, lambda _: None)) == [("ok", "state.writable")]
    assert reported(state(tmp_path / "a/b", lambda _: None)) == [("note", "state.absent")]
    assert reported(state(tmp_path / "file", lambda _: None)) == [("failed", "state.no_folder")]
    assert reported(state(tmp_path / "file/below", lambda _: None)) == [("failed", "state.unwritable")]
    (held,) = state(tmp_path, lambda path: f"process 1 with {path.name}")
    assert (held.code, "process 1 with lock" in held.sentence) == ("state.locked", True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_files_of_another_user_are_reported() -> None:
    """The check runs as the service and as root. The remedy is the command that fixes the file's owner."""
    with open_folder() as folder:
        there = folder / "state"
        (there / "snapshots.git/objects").mkdir(parents=True)
        (there / "snapshots.git/objects/ab").touch()
        give(there, SERVICE_UID)
        with as_user(SERVICE_UID):
            assert reported(state(there, lambda _: None)) == [("ok", "state.writable")]
        assert reported(state(there, lambda _: None)) == [("ok", "state.writable")]
        os.chown(there / "snapshots.git/objects/ab", 0, 0)
        (there / "audit.json").touch()
        by_root = list(state(there, lambda _: None))
        with as_user(SERVICE_UID):
            found = list(state(there, lambda _: None))
    assert reported(by_root) == reported(found) == [("failed", "state.foreign_owner"), ("ok", "state.writable")]
    assert found[0].sentence.startswith("2 files of the state directory")
    assert f"sudo chown -R {SERVICE_UID} {there}" in str(found[0].remedy)


def test_volume_of_root_with_files_of_the_service_is_in_order() -> None:
    """A Kubernetes volume: owned by root, writable by its group, with the file system's own `lost+found`."""
    with open_folder() as folder:
        os.chown(folder, 0, SERVICE_UID)
        folder.chmod(0o2770)
        (folder / "lost+found").mkdir(mode=0o700)
        give(make_folder(folder / "snapshots.git"), SERVICE_UID)
        with as_user(SERVICE_UID):
            assert reported(state(folder, lambda _: None)) == [("ok", "state.writable")]


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path
