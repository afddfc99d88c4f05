"""The documents for operators tell the truth: each command of them is run, and answers what is written.

After a change of what is said, `OIDC_MIRROR_WRITE_DOCS=1 python -m pytest tests/e2e/test_runbook.py` writes the
outputs anew; look at the difference before it is committed.
"""

import os
from pathlib import Path

import pytest

from support.documents import rehearse
from support.s3 import S3Server
from support.stages import demo_stage
from support.worlds import PROJECT

pytestmark = pytest.mark.s3
REFRESH = os.environ.get("OIDC_MIRROR_WRITE_DOCS") == "1"


@pytest.mark.parametrize("name", ["docs/runbook.md"])
def test_outputs_are_shown_as_they_are(s3_server: S3Server, tmp_path: Path, name: str) -> None:
    """Whoever follows the document at night sees on the terminal what it says."""
    document = PROJECT / name
    written = document.read_text("utf-8")
    with demo_stage(s3_server, tmp_path) as stage:
        rehearsed = rehearse(written, stage, refresh=REFRESH)
    if REFRESH:
        document.write_text(rehearsed, "utf-8")
    else:
        assert rehearsed == written
