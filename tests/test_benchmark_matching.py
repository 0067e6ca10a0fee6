"""The benchmark of real photographs in training: what it reads from the reports, and its table."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from idsr_cli.evaluation.evaluate import Row
from idsr_cli.evaluation.frames import FrameRow
from idsr_cli.evaluation.metrics import Recovered
from idsr_cli.evaluation.result import Result

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "real_matching.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="a sdist has the tests without the benchmarks")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_matching", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["real_matching"] = module
    spec.loader.exec_module(module)
    return module


def test_scores_of_a_report(benchmark: ModuleType, tmp_path: Path) -> None:
    """What `idsr evaluate` writes, of pairs and of frames."""
    counts = dict.fromkeys(Recovered.__dataclass_fields__, 9)
    pairs = [
        Row("a.png", method, Recovered(**{**counts, "true": true}), *[1.0] * 4, [1.0], [1.0], [1], [1])
        for method, true in (("rainy", 3), ("DD", 7))
    ]
    frames = [
        FrameRow("clip 0-1", method, 50, 20, inliers, "homography") for method, inliers in (("rainy", 8), ("DD", 12))
    ]
    for result, expected in (
        (Result({}, rows=pairs), {"rainy": {"a.png": 3}, "DD": {"a.png": 7}}),
        (Result({}, frame_rows=frames), {"rainy": {"clip 0-1": 8}, "DD": {"clip 0-1": 12}}),
    ):
        (tmp_path / "rows.jsonl").write_bytes(result.files()["rows.jsonl"])
        assert benchmark.read_scores(tmp_path / "rows.jsonl") == expected


def test_the_table_compares_arms_of_one_seed(benchmark: ModuleType) -> None:
    def scores(*values: float) -> dict[str, dict[str, dict[str, float]]]:
        each = {f"{i}.png": value for i, value in enumerate(values)}
        return {"light": {"rainy": dict.fromkeys(each, 2.0), "DD": each}}

    arms = {(0.0, 0): scores(10, 20), (1.0, 0): scores(11, 23), (0.0, 1): scores(12, 12), (1.0, 1): scores(12, 12)}
    assert benchmark.table_lines(scores(4, 5), arms, "base") == [
        "| matching | seed | light: true |",
        "| --- | --- | --- |",
        "| rainy |  | 2.0 |",
        "| base |  | 4.5 |",
        "| 0 | 0 | 15.0 |",
        "| 1 | 0 | 17.0 |",
        "| 0 | 1 | 12.0 |",
        "| 1 | 1 | 12.0 |",
        "| 1 less 0 | 0 | +2.0 [+1.0, +3.0] |",
        "| 1 less 0 | 1 | +0.0 [+0.0, +0.0] |",
    ]


def test_arms_are_the_same_command_but_for_seed_and_weight(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each can be continued; existing reports are not made again."""
    from argparse import Namespace

    calls: list[list[str]] = []
    monkeypatch.setattr(benchmark, "idsr", lambda *words: calls.append([str(word) for word in words]))
    options = Namespace(network="dprnet", init="base", rate=3e-4, steps=9, batch=4, patch=96, threads=1,
                        photos=[Path("p")], streaks=[], real=[Path("r")], output=tmp_path, rainy=[Path("light")],
                        clean=Path("c"), count=2, frames=Path("f"))  # fmt: skip
    benchmark.train(0.0, 0, options)
    benchmark.train(1.0, 1, options)
    changed = [(a, b) for a, b in zip(*calls, strict=True) if a != b]
    folders = (str(tmp_path / "matching0-seed0"), str(tmp_path / "matching1-seed1"))
    assert changed == [("0", "1"), ("matching=0", "matching=1"), folders]
    assert calls[0][calls[0].index("--resume") + 1] == "auto"
    for group in ("light", "frames"):
        report = tmp_path / "scores" / "start" / group / "rows.jsonl"
        report.parent.mkdir(parents=True)
        report.write_text("")
    calls.clear()
    benchmark.score("base", "start", options)
    assert not calls
