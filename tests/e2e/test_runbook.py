"""The documents for operators tell the truth: each command of them is run, and answers what is written.

After a change of what is said, `OIDC_MIRROR_WRITE_DOCS=1 python -m pytest tests/e2e/test_runbook.py` writes the
outputs again; look at the difference before it is committed.
"""

import json
import os
import re
import textwrap
from pathlib import Path

import pytest

from support.documents import rehearse
from support.iam_linter import lint, lint_trust
from support.s3 import S3Server
from support.situations import ISSUER
from support.stages import demo_stage
from support.worlds import PROJECT

RUNBOOK = PROJECT / "docs" / "runbook.md"
REFRESH = os.environ.get("OIDC_MIRROR_WRITE_DOCS") == "1"


@pytest.mark.s3
@pytest.mark.timeout(300)  # a score of processes, one after the other
@pytest.mark.parametrize("document", [RUNBOOK], ids=["runbook"])
def test_outputs_are_shown_as_they_are(s3_server: S3Server, tmp_path: Path, document: Path) -> None:
    """An operator who follows the document sees on the terminal what it says."""
    written = document.read_text("utf-8")
    with demo_stage(s3_server, tmp_path) as stage:
        rehearsed = rehearse(written, stage, refresh=REFRESH)
    if REFRESH:
        document.write_text(rehearsed, "utf-8")
    else:
        assert rehearsed == written


def test_policies_are_whole() -> None:
    """They are put in place in haste: IAM takes both, and the denial is of the very provider that is allowed."""
    blocks = re.findall(r"^ *```json\n(.*?)```", RUNBOOK.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    trust, sessions = (json.loads(textwrap.dedent(block)) for block in blocks)
    assert (lint_trust(trust), lint(sessions)) == ([], [])
    deny, allow = trust["Statement"]
    assert (deny["Effect"], allow["Effect"]) == ("Deny", "Allow")
    assert all(deny[member] == allow[member] for member in ("Principal", "Action"))
    provider = allow["Principal"]["Federated"].partition(":oidc-provider/")[2]
    assert set(allow["Condition"]["StringEquals"]) == {f"{provider}:sub", f"{provider}:aud"}
    assert f"https://{provider}" == ISSUER
