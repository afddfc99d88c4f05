"""The README.md of the snapshot repository, written by its very first commit and never again."""

_README = """\
# OIDC discovery snapshots

This repository is written by `oidc-mirror`. It keeps what is public about the ServiceAccount issuers of private
Kubernetes clusters: the documents that clouds (AWS, GCP, Entra) check tokens against, and the life of every key.
It holds public keys only. **Who can push here has a say in which keys are trusted**: protect the branch.

| path | what it is |
| --- | --- |
| `ledger/<host>/<path>/keys.json` | the truth: every key ever seen, its status and dates |
| `public/<host>/<path>/.well-known/openid-configuration` | rendered from the ledger; the exact bytes of the bucket |
| `public/<host>/<path>/openid/v1/jwks` | rendered from the ledger; the exact bytes of the bucket |

## Read it

    oidc-mirror history                    # the life of every key
    git log --stat                         # one commit for each change, with what happened in its message
    git log --format='%H %(trailers)'      # the same for machines

A trailer is `Issuer: <url>` and, for each of its keys, `Key-Published:`, `Key-Retiring:`, `Key-Dropped:`, `Key-Held:`
or `Key-Revoked:` with kid and RFC 7638 thumbprint. A kid of other characters than `A-Z a-z 0-9 . _ ~ + / = -` is
written as a JSON string.

## Change it

Not by hand: use `oidc-mirror approve`, `revoke` and `adopt`. A text under `public/` that differs from its ledger is
written anew by the next pass. Never force-push: the mirror brings its own commits back.

## Restore it

- The mirror lost its disk: nothing to do, it fetches this repository.
- This repository is lost: create an empty one under the same URL; the next pass of any mirror pushes its whole history.
- The bucket is lost: the next pass puts every object again. By hand, without the mirror: copy each
  `public/<host>/<path>/…` to the object `<path>/…`, with content type `application/json` for the discovery document
  and `application/jwk-set+json` for the JWKS, the JWKS first.
"""


def first_files() -> dict[str, bytes]:
    """What the first commit of a repository holds besides ledgers and documents."""
    return {"README.md": _README.encode()}
