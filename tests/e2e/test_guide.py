"""The guide tells the truth: each command of it is run, and answers what is written.

After a change of what is said, `OIDC_MIRROR_WRITE_DOCS=1 python -m pytest tests/e2e/test_guide.py` writes the outputs
anew; look at the difference before it is committed.
"""

import os
from pathlib import Path

import pytest

from support.documents import rehearse
from support.guide_stage import guide_stage
from support.worlds import PROJECT

GUIDE = PROJECT / "docs" / "guide.md"
REFRESH = os.environ.get("OIDC_MIRROR_WRITE_DOCS") == "1"


@pytest.mark.s3
@pytest.mark.timeout(300)  # two score of processes, one after the other
def test_outputs_are_shown_as_they_are(tmp_path: Path) -> None:
    """Whoever walks the road sees on the terminal what the guide says."""
    written = GUIDE.read_text("utf-8")
    with guide_stage(tmp_path) as stage:
        rehearsed = rehearse(written, stage, refresh=REFRESH)
    if REFRESH:
        GUIDE.write_text(rehearsed, "utf-8")
    else:
        assert rehearsed == written
