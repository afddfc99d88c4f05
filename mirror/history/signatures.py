"""Which commits of a remote carry a signature of `repository.allowed_signers`."""

from collections.abc import Sequence
from pathlib import Path

from mirror.errors import RemoteError
from mirror.history.git import Git, why


def demand_signed(git: Git, incoming: str, *, known: Sequence[str], allowed_signers: Path) -> None:
    """Every commit of `incoming` that no reference of `known` contains is signed by an allowed signer.

    With nothing known, the newest commit alone is looked at: who signed it vouches for what it contains.

    Raises:
        RemoteError: One is not; nothing of the branch is to be believed.
    """
    # Only this file decides: a GPG key that the user's keyring happens to trust does not.
    config = (f"gpg.ssh.allowedSignersFile={allowed_signers}", *(f"gpg.{kind}.program=false" for kind in _OTHER_KINDS))
    reach = [incoming, "--not", *known] if known else ["-1", incoming]
    # `rev-list` would read no signatures; what people's configuration adds to `log` is switched off.
    words = ("log", "--no-patch", "--no-show-signature", "--no-color", "--format=%H %G?")
    finished = git.run(*words, *reach, "--", config=config)
    if not finished.ok:
        raise RemoteError("The signatures of the remote's commits could not be checked.", cause=why(finished))
    for line in finished.out.decode().splitlines():
        commit, _, verdict = line.partition(" ")
        if verdict != "G":
            raise RemoteError(
                "The remote's branch has a commit without the signature of an allowed signer; nothing was taken over.",
                cause=f"commit {commit}, git's verdict {verdict}",
                remedy="Find out who pushed it; to accept its author, add the key to `repository.allowed_signers`.",
            )


_OTHER_KINDS = ("openpgp", "x509")
