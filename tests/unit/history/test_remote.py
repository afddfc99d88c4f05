"""Fetching and pushing: malformed commits, objects that git rejects, equal commits, and errors of git hosts."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from mirror.errors import PushRefusedError, RemoteError
from mirror.history.git_command import Git
from mirror.history.remote import GitRemote
from mirror.model import CommitId
from support.gits import WHEN, bare, commit, fsck_strict, git, head_of, open_repository
from support.users import SERVICE_UID, give, open_folder, reported_as

FILE = "ledger/a/keys.json"


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A remote with one commit."""
    path = bare(tmp_path / "remote.git")
    with open_repository(tmp_path, name="first.git", remote=path) as repository:
        commit(repository, {FILE: b"1"})
        repository.push()
    return path


def write_object(remote: Path, kind: str, body: bytes) -> str:
    return git(remote, "hash-object", "-w", "--literally", "-t", kind, "--stdin", stdin=body)


def push_commit(remote: Path, *, author: str = "a <a@b> 1800000000 +0000", extra: str = "", tree: str = "") -> str:
    """A commit on the remote's branch with the given lines."""
    tree, head = tree or git(remote, "rev-parse", "main^{tree}"), git(remote, "rev-parse", "main")
    body = f"tree {tree}\nparent {head}\nauthor {author}\ncommitter a <a@b> 1800000000 +0000\n{extra}\nx\n"
    made = write_object(remote, "commit", body.encode())
    git(remote, "update-ref", "refs/heads/main", made)
    return made


# ------------------------------------------------------------------------------------------------- fetching


@pytest.mark.parametrize(
    ("author", "reported"),
    [
        ("a <a@b> 1800000000 +9999", ""),
        ("a <a@b> 1800000000 -999999", "badTimezone"),
        ("a <a@b> 01800000000 +0000", "zeroPaddedDate"),
        ("a <a@b> 99999999999999999999 +0000", "badDateOverflow"),
        ("a<a@b> 1800000000 +0000", "missingSpaceBeforeEmail"),
        ("nobody", "missingEmail"),
    ],
    ids=["time-zone", "long-time-zone", "zero-padded-date", "far-future", "no-space-before-email", "no-email"],
)
def test_malformed_commit_is_fetched_and_reported(tmp_path: Path, remote: Path, author: str, reported: str) -> None:
    """Format errors in a commit are harmless: it is fetched, and reported once."""
    with open_repository(tmp_path, remote=remote) as repository:
        assert repository.fetch(shallow=False) == ""
        made = push_commit(remote, author=author)
        said = repository.fetch(shallow=False)
        assert (reported in said, made in said) == (True, reported != "")
        assert repository.heads().remote == made
        assert repository.read(CommitId(made), [FILE]) == {FILE: b"1"}
        assert repository.fetch(shallow=False) == ""


@pytest.mark.parametrize("shallow", [True, False], ids=["pod", "whole"])
def test_empty_disk_fetches_commits_of_a_wrong_form_too(tmp_path: Path, remote: Path, shallow: bool) -> None:
    """A malformed commit may be the newest one or an older one."""
    for zone in ("+9999", "+0000"):
        push_commit(remote, author=f"a <a@b> 1800000000 {zone}")
    made = push_commit(remote, author="a <a@b> 1800000000 +99999")
    with open_repository(tmp_path, remote=remote) as repository:
        assert made in repository.fetch(shallow=shallow)
        assert repository.heads().remote == made
        assert [len(each.subject) for each in repository.versions(None, most=9, at=CommitId(made))] == [6, 1, 1, 1]


def dot_git(remote: Path) -> None:
    blob = write_object(remote, "blob", b"x")
    push_commit(remote, tree=write_object(remote, "tree", b"100644 .git\0" + bytes.fromhex(blob)))


def no_tree(remote: Path) -> None:
    push_commit(remote, tree=write_object(remote, "tree", b"100644 x\0short"))


def no_author(remote: Path) -> None:
    tree, head = git(remote, "rev-parse", "main^{tree}"), git(remote, "rev-parse", "main")
    made = write_object(remote, "commit", f"tree {tree}\nparent {head}\n\nx\n".encode())
    git(remote, "update-ref", "refs/heads/main", made)


@pytest.mark.parametrize("push", [dot_git, no_tree, no_author])
def test_objects_that_git_refuses_are_no_unreachable_remote(
    tmp_path: Path, remote: Path, push: Callable[[Path], None]
) -> None:
    """The error says that the remote is damaged and what to check; our branch stays, and commits are still possible."""
    with open_repository(tmp_path, remote=remote) as repository:
        repository.fetch(shallow=False)
        before = repository.heads()
        push(remote)
        with pytest.raises(RemoteError) as refused:
            repository.fetch(shallow=False)
        assert refused.value.damaged
        assert "git fsck --strict" in refused.value.remedy
        assert repository.heads() == before
        commit(repository, {FILE: b"2"})
    fsck_strict(tmp_path / "snapshots.git")


def test_remote_that_is_away_is_not_damaged(tmp_path: Path, remote: Path) -> None:
    """An unreachable remote is not reported as damaged."""
    remote.rename(tmp_path / "away.git")
    with open_repository(tmp_path, remote=remote) as repository:
        with pytest.raises(RemoteError) as refused:
            repository.fetch(shallow=False)
        assert not refused.value.damaged
        with pytest.raises(RemoteError):
            repository.remote_head()


# -------------------------------------------------------------------------------------------------- pushing


def same_commit(tmp_path: Path, remote: Path, name: str) -> CommitId:
    """The commit of a mirror that makes the same decision in the same second as another one."""
    with open_repository(tmp_path, name=name, remote=remote) as repository:
        repository.fetch(shallow=False)
        head = repository.heads().remote
        assert head is not None
        repository.fast_forward(head, expect=None)
        return commit(repository, {FILE: b"same"})


def test_equal_commit_that_another_mirror_pushed_is_a_success(tmp_path: Path, remote: Path) -> None:
    """Another mirror pushed the same commit: the remote's head is our commit."""
    assert same_commit(tmp_path, remote, "one.git") == (ours := same_commit(tmp_path, remote, "two.git"))
    for name in ("one.git", "two.git"):
        with open_repository(tmp_path, name=name, remote=remote) as repository:
            repository.push()
            assert (repository.unpushed(), repository.heads().remote) == (0, ours)
    assert git(remote, "rev-parse", "main") == ours


def test_equal_commit_that_is_pushed_inside_our_push_is_a_success(tmp_path: Path, remote: Path) -> None:
    """The other mirror pushes during our push: the server rejects ours, but already has the commit."""
    ours = same_commit(tmp_path, remote, "one.git")
    git(remote, "fetch", "--quiet", str(tmp_path / "one.git"), "main")
    hook = remote / "hooks" / "pre-receive"
    hook.write_text(
        f"#!/bin/sh\nunset GIT_QUARANTINE_PATH\nexec git --git-dir={remote} update-ref refs/heads/main {ours}\n"
    )
    hook.chmod(0o755)
    with open_repository(tmp_path, name="one.git", remote=remote) as repository:
        repository.push()
        assert repository.unpushed() == 0
        assert repository.remote_head() == ours


def test_head_that_contains_our_commit_is_a_success(tmp_path: Path, remote: Path) -> None:
    """Another mirror pushed the same commit and a newer one, which we have fetched."""
    ours = same_commit(tmp_path, remote, "one.git")
    with open_repository(tmp_path, name="two.git", remote=remote) as other:
        other.fetch(shallow=False)
        same_commit_in = other.heads().remote
        assert same_commit_in is not None
        other.fast_forward(same_commit_in, expect=None)
        assert commit(other, {FILE: b"same"}) == ours
        newest = commit(other, {FILE: b"more"}, minutes=1)
        other.push()
    with open_repository(tmp_path, name="one.git", remote=remote) as repository:
        repository.fetch(shallow=False)
        repository.push()
    assert git(remote, "rev-parse", "main") == newest


def test_other_commit_refuses_the_push(tmp_path: Path, remote: Path) -> None:
    """A different commit of the same second wins the race: our push is rejected, and theirs stays."""
    with open_repository(tmp_path, name="one.git", remote=remote) as repository:
        repository.fetch(shallow=False)
        head = repository.heads().remote
        assert head is not None
        repository.fast_forward(head, expect=None)
        commit(repository, {FILE: b"other"})
        with open_repository(tmp_path, name="two.git", remote=remote) as winner:
            winner.fetch(shallow=False)
            winner.fast_forward(head, expect=None)
            theirs = commit(winner, {FILE: b"same"})
            winner.push()
        with pytest.raises(PushRefusedError):
            repository.push()
        assert repository.remote_head() == theirs


def test_head_of_the_remote_is_read_without_a_fetch(tmp_path: Path, remote: Path) -> None:
    """The remote's current head is returned without a fetch; None if the branch does not exist."""
    with open_repository(tmp_path, remote=remote) as repository:
        assert repository.remote_head() == git(remote, "rev-parse", "main")
        assert repository.heads().remote is None
    with open_repository(tmp_path, name="other.git", remote=bare(tmp_path / "empty.git")) as repository:
        assert repository.remote_head() is None


# ------------------------------------------------------------------------------------------- asking for commits


@pytest.mark.parametrize("given", [True, False], ids=["kept", "lost"])
@pytest.mark.parametrize("shallow", [True, False], ids=["pod", "whole"])
def test_commit_that_no_branch_has_is_asked_for_by_its_id(
    tmp_path: Path, remote: Path, *, given: bool, shallow: bool
) -> None:
    """The branch was reset: the server still sends the commit by its id, as long as it keeps it."""
    with open_repository(tmp_path, name="first.git", remote=remote) as repository:
        lost = commit(repository, {FILE: b"2"})
        repository.push()
    git(remote, "update-ref", "refs/heads/main", f"{lost}~1")
    if not given:
        git(remote, "gc", "--quiet", "--prune=now")
    with open_repository(tmp_path, remote=f"file://{remote}") as repository:
        repository.fetch(shallow=shallow)
        assert not repository.has_commit(lost)
        assert repository.obtain(lost) is given
        assert repository.obtain(lost) is given
        assert (repository.read(lost, [FILE]) if given else {FILE: b"2"}) == {FILE: b"2"}
        assert repository.heads().remote == git(remote, "rev-parse", "main")


@pytest.mark.parametrize("name", ["", "main", "abc", "--upload-pack=x", "ab" * 20, "AB" * 20, "a" * 41])
def test_what_is_no_commit_is_not_given(tmp_path: Path, remote: Path, name: str) -> None:
    """Object metadata is untrusted: its value is never taken for an option, a reference or a partial id."""
    with open_repository(tmp_path, remote=remote) as repository:
        repository.fetch(shallow=False)
        assert not repository.obtain(name)


def test_past_of_a_file_names_the_commits_that_changed_it(tmp_path: Path) -> None:
    """The commits are newest first, each with its predecessors; both sides of a merge are included."""
    with open_repository(tmp_path) as repository:
        base = commit(repository, {FILE: b"1"})
        commit(repository, {"x": b"x"})
        left = commit(repository, {FILE: b"2"})
        right = repository.commit(
            base=base, parents=(base,), changes={FILE: b"3"}, message="x", when=WHEN, expect=head_of(repository)
        )
        merged = repository.commit(
            base=right, parents=(left, right), changes={FILE: b"4"}, message="x", when=WHEN, expect=right
        )
        found = repository.path_history([FILE], at=merged)
        assert next(iter(found)) == merged
        assert dict(found) == {merged: (left, right), left: (base,), right: (base,), base: ()}
        assert repository.path_history(["absent"], at=base) == {}
        names = [f"{each}:{FILE}" for each in (base, merged)]
        blobs = repository.blobs([*names, f"{base}:absent", f"{base}:ledger"])
        assert blobs[2:] == (None, None)
        known = [blob for blob in blobs if blob is not None]
        assert list(repository.contents([*known, "ab" * 20]).values()) == [b"1", b"4"]


# -------------------------------------------------------------------------------------- error messages of hosts

# The exact output of the hosts, as their users quote it in public threads.
RULE = """remote: error: GH013: Repository rule violations found for refs/heads/main.
remote: Review all repository rules at https://github.com/o/r/rules?ref=refs%2Fheads%2Fmain
remote:
remote: - {}
remote:
 ! [remote rejected] main -> main (push declined due to repository rule violations)"""
PROTECTED = """remote: error: GH006: Protected branch update failed for refs/heads/main.
remote: error: {}
 ! [remote rejected] main -> main (protected branch hook declined)"""
FRAMED = """remote:
remote: ========================================================================
remote:
remote: {}
remote:
remote: ========================================================================
remote:
fatal: Could not read from remote repository."""
AZURE = " ! [remote rejected] main -> main (TF402455: Pushes to this branch are not permitted; {}"
DECLINED = "{}\n ! [remote rejected] main -> main ({})"
OVER_HTTPS = "remote: {}\nfatal: unable to access 'https://git.example.com/o/r/': The requested URL returned error: 403"
OVER_SSH = "ERROR: {}\nfatal: Could not read from remote repository."
EMAIL = "remote: error: GH007: Your push would publish a private email address."
GITLAB = "remote: GitLab: You are not allowed to push code to protected branches on this project."
REFUSALS = {
    "github-signatures": (RULE.format("Commits must have verified signatures."), "repository.sign: true"),
    "github-branch-signatures": (PROTECTED.format("Commits must have valid signatures."), "repository.sign: true"),
    "github-rule": (RULE.format("Changes must be made through a pull request."), "bypass"),
    "github-branch": (PROTECTED.format('Required status check "Build" is expected.'), "Allow this user"),
    "github-email": (DECLINED.format(EMAIL, "push declined due to email privacy restrictions"), "repository.author"),
    "github-archived": (OVER_SSH.format("This repository was archived so it is read-only."), "archive"),
    "github-archived-https": (OVER_HTTPS.format("This repository was archived so it is read-only."), "archive"),
    "gitlab-archived": (FRAMED.format("ERROR: You can't push code to an archived project."), "archive"),
    "github-deploy-key": (
        OVER_SSH.format("The key you are authenticating with has been marked as read only."),
        "write access",
    ),
    "gitlab-deploy-key": (
        FRAMED.format("ERROR: This deploy key does not have write access to this project."),
        "write access",
    ),
    "bitbucket-deploy-key": (OVER_HTTPS.format("Write access to repository not granted."), "write access"),
    "gitlab-protected": (DECLINED.format(GITLAB, "pre-receive hook declined"), "Allow this user"),
    "gitlab-role": (OVER_HTTPS.format("You are not allowed to push code to this project."), "Allow this user"),
    "azure-policy": (AZURE.format("you must use a pull request to update this branch.)"), "Bypass policies"),
    "azure-rights": (
        "remote: TF401027: You need the Git 'GenericContribute' permission to perform this action.",
        "Allow this user",
    ),
    "unknown-ca": ("fatal: server certificate verification failed. CAfile: none", "http.sslCAInfo"),
    "self-signed": ("fatal: SSL certificate problem: self-signed certificate", "http.sslCAInfo"),
    "sha256": ("fatal: mismatched algorithms: client sha1; server sha256", "--object-format=sha1"),
    "host-key": ("WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nHost key verification failed.", "may be an attack"),
    "ownership": ("fatal: detected dubious ownership in repository at '/srv/x.git'", "safe.directory"),
}


def failure(folder: Path, said: str, **environ: str) -> RemoteError:
    """The error of a fetch if the ssh command prints this text and fails."""
    program, words = folder / "ssh", folder / "said"
    words.write_text(said)
    program.write_text(f"#!/bin/sh\ncat {words} >&2\nexit 128\n")
    program.chmod(0o755)
    git_environ = dict(os.environ) | {"GIT_SSH": str(program), "GIT_SSH_VARIANT": "simple", **environ}
    client = Git(bare(folder / "local.git"), git_environ, stop=Event())
    with pytest.raises(RemoteError) as caught:
        GitRemote(client, "ssh://host/path", "main").fetch("refs/x")
    return caught.value


@pytest.fixture
def speaking(tmp_path: Path) -> Callable[..., RemoteError]:
    """`failure` in the test's folder."""
    return partial(failure, tmp_path)


@pytest.mark.parametrize(("said", "word"), REFUSALS.values(), ids=REFUSALS)
def test_refusal_has_a_remedy_of_its_own(speaking: Callable[..., RemoteError], said: str, word: str) -> None:
    """The remedy fits each host's message, and is never "Try git ls-remote"."""
    assert word in speaking(said).remedy


def test_program_for_passwords_that_is_not_used_is_named(speaking: Callable[..., RemoteError]) -> None:
    """GIT_ASKPASS is ignored because a mirror has no user to ask, and the error says so."""
    refused = "fatal: could not read Username for 'https://host': terminal prompts disabled"
    assert "GIT_ASKPASS is set and not used" in speaking(refused, GIT_ASKPASS="/bin/ask").cause
    config = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.askPass", "GIT_CONFIG_VALUE_0": "/bin/ask"}
    assert "core.askPass is set and not used" in speaking(refused, **config).cause
    assert "not used" not in speaking(refused).cause


@pytest.mark.skipif(
    os.geteuid() != 0, reason="root alone reads whatever it likes; the other case is that of every user"
)
def test_known_hosts_that_is_missing_is_named(speaking: Callable[..., RemoteError], tmp_path: Path) -> None:
    """The error names a missing known_hosts file, because ssh treats it as empty."""
    missing = tmp_path / "known_hosts"
    refused = "No ED25519 host key is known for host and you have requested strict checking."
    command = f"{tmp_path / 'ssh'} -o UserKnownHostsFile={missing}"
    assert f"{missing} cannot be read" in speaking(refused, GIT_SSH_COMMAND=command).cause
    missing.write_text("")
    assert "cannot be read" not in speaking(refused, GIT_SSH_COMMAND=command).cause


def test_known_hosts_that_this_user_may_not_read_is_named() -> None:
    """Root created known_hosts with mode 0600: the error says that this user cannot read it, unlike ssh's message."""
    with open_folder() as folder:
        hosts = folder / "known_hosts"
        hosts.write_text("host ssh-ed25519 AAAA\n")
        hosts.chmod(0o600)
        own = make_folder(folder / "own")
        refused = "No ED25519 host key is known for host and you have requested strict checking."
        environ = {"GIT_SSH_COMMAND": f"{own / 'ssh'} -o UserKnownHostsFile={hosts}", "HOME": str(own)}
        failure(own, refused, **environ)  # modules that are imported late may be readable by root alone
        give(own, SERVICE_UID)
        reported = reported_as(SERVICE_UID, lambda: failure(own, refused, **environ).cause)
    assert f"this user may not read {hosts}" in reported
    assert f"chmod a+r {hosts}" in reported


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path
