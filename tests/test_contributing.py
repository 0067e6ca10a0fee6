"""The walkthroughs in CONTRIBUTING.md are diffs that apply to this tree."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DIFFS = re.findall(r"```diff\n(.+?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)


def test_there_are_two_walkthroughs() -> None:
    assert len(DIFFS) == 2


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="needs git and a checkout")
@pytest.mark.parametrize("diff", DIFFS, ids=["network", "format"])
def test_the_diff_applies(diff: str) -> None:
    run = subprocess.run(["git", "apply", "--check", "-"], input=diff, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, f"update the diff in CONTRIBUTING.md: {run.stderr}"
