"""The README.md of the snapshot repository: written by its first commit, and anew where an earlier program wrote it."""

import hashlib

README = "README.md"

_README = """\
# OIDC discovery snapshots

This repository is written by `oidc-mirror`. It keeps what is public about the ServiceAccount issuers of private
Kubernetes clusters: the documents that clouds (AWS, GCP, Entra) check tokens against, and the life of every key.
It holds public keys only. Where ledgers are signed (`repository.signing_key`), only signed ledgers are believed. Where
they are not, **whoever can push here decides which keys are trusted**: protect the branch.

| path | what it is |
| --- | --- |
| `ledger/<host>/<path>/keys.json` | the truth: every key ever seen, its status and dates |
| `ledger/<host>/<path>/keys.json.jws` | its signature, where ledgers are signed |
| `public/<host>/<path>/.well-known/openid-configuration` | rendered from the ledger; the exact bytes of the bucket |
| `public/<host>/<path>/openid/v1/jwks` | rendered from the ledger; the exact bytes of the bucket |

## Read it

    oidc-mirror history                    # the life of every key
    git log --stat                         # one commit for each change, with what happened in its message
    git log --format='%H %(trailers)'      # the same for machines

A trailer is `Issuer: <url>` and, for each of its keys, `Key-Published:`, `Key-Retiring:`, `Key-Dropped:`, `Key-Held:`
or `Key-Revoked:` with kid and RFC 7638 thumbprint. A kid of other characters than `A-Z a-z 0-9 . _ ~ + / = -` is
written as a JSON string.

## Verify a ledger by hand

`keys.json.jws` is one line, `HEADER..SIGNATURE`: a detached JWS (RFC 7515, appendix F) over the exact bytes of
`keys.json`. The header names the key by its ssh fingerprint (`kid`), the issuer, the repository's name and the role.

    cut -d. -f1 keys.json.jws | tr '_-' '/+' | base64 -d 2>/dev/null    # the header
    ssh-keygen -l -f mirror.pub                                         # the fingerprint of the right key

To verify the signature, put the base64url text of `keys.json` between the two dots and give the line to any JWS
library together with the public key. `oidc-mirror check` does it for every ledger.

Commits, authors, dates, tags and signatures of commits are not part of it: nothing but the ledger files is believed.

## Change it

Not by hand: use `oidc-mirror approve`, `revoke` and `adopt`. A text under `public/` that differs from its ledger is
written anew by the next pass, a ledger that is not believed too, and notes made by hand are never read. Never
force-push: the mirror brings its own commits back.

## Restore it

- The mirror lost its disk: nothing to do, it fetches this repository.
- This repository is lost: create an empty one under the same URL; the next pass of any mirror pushes its whole history.
- The bucket is lost: the next pass puts every object again, rendered from the ledgers that are believed. Do not copy
  `public/` by hand: nobody signed it.
"""


_EARLIER = frozenset({"10f0c8f4ece9b5c2c07d62cf7976ac2c684277f7daf04134f61c9ddfcadb5371"})
"""SHA-256 of the texts that earlier programs wrote; any other text is somebody's own and stays."""


def readme_files(standing: bytes | None) -> dict[str, bytes]:
    """The README where the next commit shall write it.

    Args:
        standing: The file on the branch; None where there is none.
    """
    is_earlier = standing is not None and hashlib.sha256(standing).hexdigest() in _EARLIER
    return {README: _README.encode()} if standing is None or is_earlier else {}
