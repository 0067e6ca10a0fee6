"""The advice in messages can be followed."""

import re
from pathlib import Path

import pytest

from idsr_cli.errors import choices_hint, extra_hint, mistyped, nearest

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


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("jgp", "jpg"),  # two letters in the wrong order
        ("gpj", None),
        ("jp", "jpg"),  # one left out
        ("pg", "jpg"),
        ("jpgg", "jpg"),  # one added
        ("pnf", "png"),  # one wrong
        ("tmp", None),  # the first one wrong: `tmp` is a common name, and no `bmp`
        ("jpg", None),  # right
        ("g", None),
        ("", None),
    ],
)
def test_typing_errors(typed: str, meant: str | None) -> None:
    assert mistyped(typed, ("jpg", "png", "bmp", "tif")) == meant


def test_the_nearest_word() -> None:
    losses = ("pixel", "alp", "alp-derivative", "gradient")
    assert [nearest(word, losses) for word in ("gradint", "ALP", "alp_derivative", "beauty")] == [
        "gradient", "alp", "alp-derivative", None,
    ]  # fmt: skip
    assert nearest("pgn", ("pnm", "png")) == "png"  # one typing error comes before as many letters in common
    assert choices_hint("gradint", losses[2:]) == "did you mean `gradient`? use alp-derivative, gradient"
    assert choices_hint("beauty", losses[:1], "known:") == "known: pixel"
