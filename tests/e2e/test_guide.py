"""The guide and the pages that continue it: each command of them is run, and answers what is written.

After a change of what is said, `OIDC_MIRROR_WRITE_DOCS=1 python -m pytest tests/e2e/test_guide.py` writes the outputs
again; look at the difference before it is committed.
"""

import json
import os
import re
from pathlib import Path

import pytest

from mirror.federation import causes
from mirror.federation.error_catalog import explain
from support.documents import rehearse
from support.guide_stage import guide_stage
from support.iam_linter import lint
from support.worlds import PROJECT

PAGES = tuple(PROJECT / "docs" / f"{name}.md" for name in ("guide", "cloudfront", "gcp", "azure", "troubleshooting"))
GUIDE, CLOUDFRONT, _, _, TROUBLESHOOTING = PAGES
BETWEEN = "\n<!-- the next page -->\n"
REFRESH = os.environ.get("OIDC_MIRROR_WRITE_DOCS") == "1"


@pytest.mark.s3
@pytest.mark.timeout(300)  # two score of processes, one after the other
def test_outputs_are_shown_as_they_are(tmp_path: Path) -> None:
    """An operator who follows the guide gets the output that it shows."""
    written = BETWEEN.join(page.read_text("utf-8") for page in PAGES)
    with guide_stage(tmp_path) as stage:
        rehearsed = rehearse(written, stage, refresh=REFRESH)
    if REFRESH:
        for page, text in zip(PAGES, rehearsed.split(BETWEEN), strict=True):
            page.write_text(text, "utf-8")
    else:
        assert rehearsed == written


def test_policy_for_cloudfront_is_whole() -> None:
    """S3 takes it, and it is for the very bucket and distribution of the configuration above it."""
    text = CLOUDFRONT.read_text("utf-8")
    (block,) = re.findall(r"^```json\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    policy = json.loads(block)
    (statement,) = policy["Statement"]
    (name,) = set(re.findall(r"cloudfront_distribution: (\S+)", text))
    assert lint(policy) == []
    assert statement["Resource"] == "arn:aws:s3:::oidc-bucket/*"
    assert statement["Condition"]["StringEquals"]["AWS:SourceArn"].endswith(f":distribution/{name}")


def test_table_of_errors_has_the_causes_of_each() -> None:
    """What the guide says of an error is what `check --explain` says, in the same order."""
    known = {each.code for each in vars(causes).values() if isinstance(each, causes.Cause)}
    rows = re.findall(r"^\| \*(.+?)\* \| (.+) \|$", TROUBLESHOOTING.read_text("utf-8"), re.MULTILINE)
    reported = {text: [code for code in re.findall(r"`(\w+)`", meaning) if code in known] for text, meaning in rows}
    assert len(reported) == 9
    assert reported == {text: [cause.code for cause in explain(text)] for text in reported}
