"""The README's commands run as written, on the example photographs and with the shipped weights."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from idsr_cli.cli.app import COMMANDS
from idsr_cli.formats.npz import read_npz
from idsr_cli.weights import find_weights

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.+?)\n```", README, re.DOTALL)


def test_main_command_does_what_it_says(tmp_path: Path) -> None:
    steps = [step.strip() for step in BLOCKS[0].split("&&") if step.strip().startswith("idsr ")]
    assert [step.split()[1] for step in steps] == ["sift"]
    for step in steps:
        words = [
            word.replace("out/", f"{tmp_path}/", 1) if word.startswith("out/") else word for word in shlex.split(step)
        ]
        subprocess.run([sys.executable, "-m", "idsr_cli", *words[1:]], check=True, cwd=ROOT, capture_output=True)
    photographs = sorted(p.relative_to(ROOT / "examples/rainy") for p in (ROOT / "examples/rainy").rglob("*.jpg"))
    assert len(photographs) >= 3
    for photograph in photographs:
        assert (tmp_path / "derained" / photograph).is_file()
        keypoints, _ = read_npz(tmp_path / "keypoints" / f"{photograph}.npz")
        assert len(keypoints) > 200
    assert len([p for p in (tmp_path / "pictures").rglob("*") if p.is_file()]) == len(photographs)


def test_ci_runs_the_test_command() -> None:
    assert BLOCKS[1].strip() in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_command_is_described() -> None:
    assert set(re.findall(r"^\| `idsr (\w+)", README, re.MULTILINE)) == set(COMMANDS)


def test_every_file_it_links_to_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert all((ROOT / link).exists() for link in links)


def test_shipped_weights_bring_keypoints_back() -> None:
    """The tool's purpose, on one example: it finds more of the dry photograph's keypoints than plain SIFT."""
    from idsr_cli.evaluation.evaluate import RAINY, ScoredWeights, evaluate_pair
    from idsr_cli.images.pairs import Pair
    from idsr_cli.restoration import RestorationOptions

    networks = RestorationOptions(find_weights(), "DG", "cpu", "fp32").build()
    ours = {"": ScoredWeights(networks.restore, ("DD", "GG", "DG"))}
    pair = Pair(ROOT / "examples/rainy/lighthouse.jpg", ROOT / "examples/clean/lighthouse.jpg")
    rows = {row.method: row for row in evaluate_pair(pair, ours, {})}
    before = rows[RAINY].recovered.true
    for splice in ("DD", "GG", "DG"):
        assert rows[splice].recovered.true > 3 * before
        assert rows[splice].psnr_rgb > rows[RAINY].psnr_rgb + 3


@pytest.mark.parametrize("name", ["lighthouse.jpg", "town/doors.jpg"])
def test_a_dry_photograph_comes_back_unchanged(name: str) -> None:
    from idsr_cli.images.photo import encode, read_photo
    from idsr_cli.restoration import RestorationOptions

    photo = read_photo(ROOT / "examples/clean" / name)
    for view in RestorationOptions(find_weights(), "DG", "cpu", "fp32").build().restore_photo(photo, "DG"):
        assert not view.rain_seen
        np.testing.assert_array_equal(view.rgb, photo.rgb)
        assert encode(photo, view.rgb) == photo.source


def test_python_snippet_runs(tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```python\n(.+?)\n```", README, re.DOTALL)
    assert len(snippet.splitlines()) <= 10
    run = subprocess.run([sys.executable, "-c", snippet], check=True, cwd=ROOT, capture_output=True, text=True)
    assert [len(line.split()) for line in run.stdout.splitlines()] == [5, 4, 4]
