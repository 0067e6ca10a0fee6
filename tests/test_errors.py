"""The advice in messages can be followed."""

import re
from pathlib import Path

import pytest

from idsr_cli.errors import extra_hint

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_extras_that_are_advised_exist() -> None:
    used = {
        extra
        for path in (ROOT / "idsr_cli").rglob("*.py")
        for extra in re.findall(r"""extra_hint\(["'](\w+)["']\)""", path.read_text(encoding="utf-8"))
    }
    assert used >= {"video", "heic", "plots"}
    part = SETTINGS.split("[project.optional-dependencies]")[1].split("\n[")[0]
    assert used <= set(re.findall(r"^(\w+) = ", part, re.MULTILINE))


@pytest.mark.parametrize("folder", ["idsr_cli", "docs", "README.md"])
def test_no_text_advises_installing_from_an_index(folder: str) -> None:
    """The package is installed from a clone: `pip install 'idsr[...]'` finds nothing, or something else."""
    paths = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")] or [ROOT / folder]
    for path in paths:
        assert "idsr[" not in path.read_text(encoding="utf-8"), path
    assert "pip install -c constraints.txt '.[video]'" in extra_hint("video")
