"""The files of `signing_key` and `allowed_signers`: how they are read, and how errors in them are reported."""

import os
import subprocess
from pathlib import Path

import pytest

from mirror.config.settings import RepositorySettings
from mirror.errors import UsageError
from mirror.history.ledger_store import load_ledger_trust, load_verification_keys, signing_key_warning
from mirror.model import IssuerUrl
from mirror.trust.ledger_signature import SignatureHeader
from support.signers import key_file, public_line, signer, write_key

ISSUER = IssuerUrl("https://oidc-bucket.s3.ap-southeast-2.amazonaws.com/a")


def repository(tmp_path: Path, *, key: bool = False, signers: str | None = None) -> RepositorySettings:
    """Settings in `tmp_path`, with valid files where requested."""
    key_path, signers_path = tmp_path / "key", tmp_path / "signers"
    if key:
        write_key(key_path)
    if signers is not None:
        signers_path.write_text(signers)
    return RepositorySettings(
        tmp_path / "snapshots.git",
        signing_key=key_path if key else None,
        allowed_signers=None if signers is None else signers_path,
        name="prod",
    )


def test_without_a_signing_key_the_remote_is_trusted(tmp_path: Path) -> None:
    """Without both settings the mode is trusted: there is no key to sign or verify with."""
    assert load_ledger_trust(repository(tmp_path)) is None
    assert load_verification_keys(repository(tmp_path)) is None


@pytest.mark.parametrize("listed", [None, ("P-256", "RSA"), ("ed25519",)], ids=["no file", "others", "its own"])
def test_own_key_is_always_accepted(tmp_path: Path, listed: tuple[str, ...] | None) -> None:
    """With `signing_key`, the mirror's own signatures and those of every listed key are accepted."""
    signers = None if listed is None else "".join(map(public_line, listed))
    settings = repository(tmp_path, key=True, signers=signers)
    trust = load_ledger_trust(settings)
    assert trust is not None
    assert (trust.repository, trust.role, trust.signing_key) == ("prod", "mirror", signer())
    assert trust.keys.keys() == {signer().kid, *(signer(kind).kid for kind in listed or ())}
    assert isinstance(trust.verify(b"x", trust.sign(b"x", ISSUER), ISSUER), SignatureHeader)
    verifier = load_verification_keys(settings)
    assert verifier is not None
    assert (verifier.repository, verifier.keys) == ("prod", trust.keys)


def test_allowed_signers_alone_are_for_reading(tmp_path: Path) -> None:
    """Without `signing_key`, commands that write are refused with the missing setting; commands that read continue."""
    settings = repository(tmp_path, signers=public_line("P-256"))
    with pytest.raises(UsageError) as caught:
        load_ledger_trust(settings)
    assert "set `repository.signing_key`" in caught.value.remedy
    assert "ssh-keygen -t ed25519 -N '' -f signing_key" in caught.value.remedy
    verifier = load_verification_keys(settings)
    assert verifier is not None
    assert verifier.keys == {signer("P-256").kid: signer("P-256").public()}


def refused(settings: RepositorySettings) -> UsageError:
    """The error, which is the same for every command."""
    with pytest.raises(UsageError) as caught:
        load_ledger_trust(settings)
    return caught.value


def test_missing_signing_key_is_refused_with_the_command_that_makes_it(tmp_path: Path) -> None:
    """The remedy is a shell command that creates the missing key."""
    path = tmp_path / "my keys" / "ledger"
    path.parent.mkdir()
    error = refused(RepositorySettings(tmp_path, signing_key=path))
    assert error.sentence == f"The signing key {path} cannot be read."
    assert error.cause == "No such file or directory"
    command = error.remedy.partition(": ")[2]
    subprocess.run(command, shell=True, check=True, capture_output=True)  # noqa: S602  our own remedy, as a shell runs it
    assert load_ledger_trust(RepositorySettings(tmp_path, signing_key=path)) is not None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is empty"),
        (public_line().encode(), "is a public key"),
        (b"nonsense", "is no OpenSSH private key"),
        (key_file()[:-60] + key_file()[-40:], "is damaged"),
        (b"x" * (64 * 1024 + 1), "cannot be read"),
    ],
    ids=["empty", "public", "nonsense", "damaged", "huge"],
)
def test_file_that_is_no_signing_key_is_refused(tmp_path: Path, body: bytes, said: str) -> None:
    """The error has the problem and the file, and the remedy has the file's path."""
    settings = repository(tmp_path, key=True)
    (tmp_path / "key").write_bytes(body)
    error = refused(settings)
    assert said in error.sentence
    assert str(tmp_path / "key") in str(error)
    assert "FILE" not in error.remedy


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A folder, a pipe that never ends, and an impossible path are refused."""
    os.mkfifo(tmp_path / "pipe")
    for path, cause in ((tmp_path, "not a regular file"), (tmp_path / "pipe", "not a regular file"), ("a\0b", "null")):
        assert cause in refused(RepositorySettings(tmp_path, signing_key=Path(path))).cause


@pytest.mark.parametrize("path", ["/run/credentials/oidc-mirror.service/mirror_signing_key", "/var/run/secrets/x/key"])
def test_missing_secret_of_a_unit_or_pod_is_made_elsewhere(path: str) -> None:
    """The mount points of secrets in systemd and Kubernetes are read-only, so the remedy does not write there."""
    error = refused(RepositorySettings(Path("/r"), signing_key=Path(path)))
    assert path in error.sentence
    assert path not in error.remedy
    assert "LoadCredential=" in error.remedy


def test_linked_key_is_read(tmp_path: Path) -> None:
    """A symbolic link is read, because Kubernetes mounts secrets as links."""
    write_key(tmp_path / "real")
    (tmp_path / "key").symlink_to("real")
    assert load_ledger_trust(RepositorySettings(tmp_path, signing_key=tmp_path / "key")) is not None


def test_every_bad_line_of_the_allowed_signers_is_reported(tmp_path: Path) -> None:
    """Each problem begins with path and line, also for commands that only read."""
    settings = repository(tmp_path, key=True, signers=f"# team\nme@example.com {public_line()}nonsense\n")
    path = tmp_path / "signers"
    for read in (load_ledger_trust, load_verification_keys):
        with pytest.raises(UsageError) as caught:
            read(settings)
        assert [problem.partition(": ")[0] for problem in caught.value.problems] == [f"{path}:2", f"{path}:3"]


@pytest.mark.parametrize("signers", ["", "# nobody\n"])
def test_empty_allowed_signers_are_refused(tmp_path: Path, signers: str) -> None:
    """An empty file is a mistake, not a request to trust no signer."""
    assert "list no key" in refused(repository(tmp_path, key=True, signers=signers)).problems[0]


def test_missing_allowed_signers_are_refused(tmp_path: Path) -> None:
    """A configured file that cannot be read is refused; it does not count as empty."""
    settings = repository(tmp_path, key=True, signers="")
    (tmp_path / "signers").unlink()
    error = refused(settings)
    assert error.sentence == f"The file of allowed signers {tmp_path / 'signers'} cannot be read."
    assert "Correct `repository.allowed_signers`" in error.remedy


# --------------------------------------------------------------------------------------------------- operators


def test_listed_operator_signs_as_operator(tmp_path: Path) -> None:
    """An operator's own key signs if `allowed_signers` lists it; the mirror's own ledgers stay trusted."""
    settings = repository(tmp_path, key=True, signers=public_line("P-256"))
    own = write_key(tmp_path / "operator", "P-256")
    trust = load_ledger_trust(settings, signing_key=own, role="operator")
    assert trust is not None
    assert (trust.role, trust.signing_key.kid) == ("operator", signer("P-256").kid)
    assert trust.keys.keys() == {signer().kid, signer("P-256").kid}


def test_operator_without_the_mirrors_key_file_signs_too(tmp_path: Path) -> None:
    """On a laptop the mirror's private key does not exist; the listed keys are still trusted."""
    settings = repository(tmp_path, key=True, signers=public_line("P-256") + public_line())
    (tmp_path / "key").unlink()
    trust = load_ledger_trust(settings, signing_key=write_key(tmp_path / "operator", "P-256"), role="operator")
    assert trust is not None
    assert trust.keys.keys() == {signer().kid, signer("P-256").kid}
    verifier = load_verification_keys(settings)
    assert verifier is not None
    assert verifier.keys == trust.keys


def test_reader_without_any_key_is_refused(tmp_path: Path) -> None:
    """If only `signing_key` defines a trusted signer, commands that read need that file."""
    settings = repository(tmp_path, key=True)
    (tmp_path / "key").unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        load_verification_keys(settings)


def test_mirrors_own_key_is_the_mirrors(tmp_path: Path) -> None:
    """An operator with the mirror's key signs as the mirror, so no mirror signs again."""
    settings = repository(tmp_path, key=True)
    trust = load_ledger_trust(settings, signing_key=write_key(tmp_path / "copy"), role="operator")
    assert trust is not None
    assert (trust.role, set(trust.keys)) == ("mirror", {signer().kid})


@pytest.mark.parametrize("signers", [None, public_line(number=1)], ids=["no file", "another key listed"])
def test_unlisted_operator_is_refused_before_anything_is_signed(tmp_path: Path, signers: str | None) -> None:
    """A key that no mirror trusts is refused before anything is signed; the remedy is a command that lists it."""
    settings = repository(tmp_path, key=True, signers=signers)
    own = write_key(tmp_path / "operator", "P-256")
    with pytest.raises(UsageError) as caught:
        load_ledger_trust(settings, signing_key=own, role="operator")
    assert caught.value.cause == signer("P-256").kid
    command = caught.value.remedy.rpartition(": ")[2]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)  # noqa: S602  our own remedy, as a shell runs it
    path = tmp_path / ("signers" if signers else "allowed_signers")
    listed = RepositorySettings(tmp_path, signing_key=tmp_path / "key", allowed_signers=path)
    assert load_ledger_trust(listed, signing_key=own, role="operator") is not None


# ---------------------------------------------------------------------------------------------------- warnings


@pytest.mark.parametrize(("mode", "is_open"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
def test_world_readable_signing_key_is_a_warning(tmp_path: Path, mode: int, is_open: bool) -> None:
    """The key is used, and a warning has the command that corrects its mode."""
    settings = repository(tmp_path, key=True)
    (tmp_path / "key").chmod(mode)
    warning = signing_key_warning(settings)
    assert (warning is not None) == is_open
    assert load_ledger_trust(settings) is not None
    if warning is not None:
        assert warning.remedy == f"Run `chmod o= {tmp_path / 'key'}`."


def test_absent_signing_key_is_no_warning(tmp_path: Path) -> None:
    """The code that reads the file reports that it is missing."""
    assert signing_key_warning(RepositorySettings(tmp_path)) is None
    assert signing_key_warning(RepositorySettings(tmp_path, signing_key=tmp_path / "none")) is None
