"""The time that signing and verifying ledgers takes: `python tests/bench/signing.py [KIND]`; kinds as in ssh-keygen.

N ledgers of about 3 kB, all different, as a pod with an empty disk reads them. CPU time, so that neighbours count less.
"""

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mirror.model import IssuerUrl
from mirror.trust.ledger_signature import LedgerTrust, SignatureHeader
from support.signers import signer

SIZES = (1, 100, 1000)
LEDGER_BYTES = 3000
ROUNDS = 5
ISSUER = "https://oidc-bucket.s3-ap-southeast-2.amazonaws.com/cluster"


def main() -> None:
    """Print the best of `ROUNDS` for each number of ledgers: the time without other load."""
    kind = sys.argv[1] if len(sys.argv) > 1 else "ed25519"
    key = signer(kind)
    trust = LedgerTrust("bench", {key.kid: key.public()}, key, "mirror")
    print(f"{kind}, ledgers of {LEDGER_BYTES} bytes, best of {ROUNDS}\nledgers   sign ms  verify ms  verify ms each")
    for size in SIZES:
        found = [timed(trust, size) for _ in range(ROUNDS)]
        sign, verify = (min(each[part] for each in found) for part in (0, 1))
        print(f"{size:7}  {sign * 1000:8.2f}  {verify * 1000:9.2f}  {verify * 1000 / size:14.3f}")


def timed(trust: LedgerTrust, size: int) -> tuple[float, float]:
    """Seconds of CPU for signing and for verifying `size` ledgers; there is one thread."""
    ledgers = [(IssuerUrl(f"{ISSUER}/{number}"), body(number)) for number in range(size)]
    begun = time.process_time()
    signatures = [trust.sign(text, issuer) for issuer, text in ledgers]
    signed = time.process_time()
    pairs = zip(ledgers, signatures, strict=True)
    found = [trust.verify(text, signature, issuer) for (issuer, text), signature in pairs]
    ended = time.process_time()
    if not all(isinstance(each, SignatureHeader) for each in found):
        raise SystemExit("a signature is not believed")
    return signed - begun, ended - signed


def body(number: int) -> bytes:
    """Text as long as a ledger of some keys."""
    return json.dumps({"issuer": f"{ISSUER}/{number}", "keys": "x" * LEDGER_BYTES}).encode()[:LEDGER_BYTES]


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
