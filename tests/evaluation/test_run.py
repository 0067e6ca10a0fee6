"""An evaluation without a console: a listener receives the progress, and stand-in networks are scored."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import idsr_cli.weights
from idsr_cli.cli.evaluate_options import SPLICES
from idsr_cli.errors import UsageError
from idsr_cli.evaluation import run
from idsr_cli.evaluation.run import EvaluationSettings
from idsr_cli.restoration import Restored


@pytest.fixture
def settings(tmp_path: Path) -> EvaluationSettings:
    """Three pairs; the rainy one has bright columns."""
    for i, name in enumerate(("1.png", "2.png", "3.png")):
        noise = np.random.default_rng(i).uniform(0, 255, (48, 64, 3)).astype(np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
        clean = np.clip((smooth - smooth.mean()) * 6 + 128, 0, 255)
        rainy = clean.copy()
        rainy[:, ::8] += 70
        for folder, image in (("clean", clean), ("rainy", np.clip(rainy, 0, 255))):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(image.astype(np.uint8)).save(tmp_path / folder / name)
    return EvaluationSettings(tmp_path / "rainy", tmp_path / "clean")


class Told:
    """Records the calls of a listener; can simulate Ctrl-C."""

    def __init__(self, stop_after: int = -1) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.begun: list[str] = []
        self.stop_after = stop_after

    def begin(self, doing: str, total: int) -> None:
        self.heard.append((doing, total))

    def started(self, path: Path) -> None:
        self.begun.append(path.name)

    def scored(self, rows: Any) -> None:
        self.heard.append((rows[0].pair, *(row.method for row in rows)))

    def matched(self, rows: Any) -> None:
        raise AssertionError

    def followed(self, rows: Any) -> None:
        self.heard.append((rows[0].pair, *(row.method for row in rows)))

    def failed(self, error: Exception, cause: Exception) -> None:
        self.heard.append(("failed", str(error)))

    def advance(self) -> None:
        self.stop_after -= 1
        if self.stop_after == 0:
            raise KeyboardInterrupt

    def end(self) -> None:
        self.heard.append(("end",))


def no_networks(pair: object, roles: str) -> Any:
    raise AssertionError


def test_a_run_is_told_item_by_item(settings: EvaluationSettings, tmp_path: Path) -> None:
    (tmp_path / "rainy" / "2.png").write_bytes(b"no picture")
    evaluation = run.prepare(settings, no_networks)
    told = Told()
    result = evaluation.run(told)
    assert [event[0] for event in told.heard] == ["evaluating", "1.png", "failed", "3.png", "end", "matching", "end"]
    assert told.heard[1] == ("1.png", "rainy")
    assert told.begun == ["1.png", "2.png", "3.png"]
    assert (result.failed, evaluation.left, evaluation.interrupted) == (1, 0, False)
    assert result.header["pairs"] == 2
    page = evaluation.report(tmp_path / "report", lambda what, hint: None)
    assert page.read_text().startswith("<!doctype html>")
    assert (tmp_path / "report" / "summary.json").is_file()


def test_an_interrupted_run_keeps_what_it_has(settings: EvaluationSettings) -> None:
    evaluation = run.prepare(settings, no_networks)
    result = evaluation.run(Told(stop_after=1))
    assert (evaluation.interrupted, evaluation.left, len(result.rows)) == (True, 2, 1)
    assert [summary.pairs for summary in result.summaries] == [1]


def test_our_networks_are_built_by_the_caller(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (
        SimpleNamespace(identity=letter * 64, sha256=letter * 64, arch=role)
        for letter, role in (("d", "dprnet"), ("g", "ggirnet"))
    )
    monkeypatch.setattr(
        idsr_cli.weights,
        "find_weights",
        lambda spec: SimpleNamespace(name=spec, dprnet=one, ggirnet=two, splice="DG", sha256="f" * 64),
    )
    asked = []

    def unchanged(rgb: Any, letters: str) -> list[Restored]:
        return [Restored(rgb, rain_seen=False) for _ in letters]

    def build(pair: Any, letters: str) -> Any:
        asked.append((pair.name, letters))
        return SimpleNamespace(device="cpu", precision="fp32", engine="torch", restore=unchanged)

    evaluation = run.prepare(replace(settings, splices=("DG", "DD"), weights=("a", "b"), count=1), build)
    assert asked == [("a", "DGDD"), ("b", "DGDD")]
    told = Told()
    result = evaluation.run(told)
    assert told.heard[1] == ("1.png", "rainy", "a DG", "a DD", "b DG", "b DD")
    assert len({row.recovered.true for row in result.rows}) == 1  # these networks change nothing
    assert (result.header["device"], result.header["tile"], result.header["pairs"]) == ("cpu", "auto", 1)


def test_what_cannot_be_scored(settings: EvaluationSettings, tmp_path: Path) -> None:
    for changes, message in (
        ({"rainy": None, "clean": None}, "nothing to score"),
        ({"logs": [tmp_path / "log.jsonl"]}, "`--log` is for the report"),
        ({"methods": [("rainy", tmp_path / "clean")]}, "two methods are called `rainy`"),
    ):
        with pytest.raises(UsageError, match=message):
            run.prepare(replace(settings, **changes), no_networks)  # type: ignore[arg-type]


def test_the_command_line_knows_the_splices() -> None:
    assert set(SPLICES) == set(run.SPLICE_WORDS)


def test_frames_that_fail_have_no_neighbours(tmp_path: Path) -> None:
    """Of five frames the third is broken: two pairs are left, and Ctrl-C after the first keeps it."""
    for i in range(5):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    settings = EvaluationSettings(frames=tmp_path)
    evaluation, told = run.prepare(settings, no_networks), Told()
    result = evaluation.run(told)
    name = tmp_path.name
    assert [entry[0] for entry in told.heard if entry[0] != "failed"][-4:] == [
        "matching frames", f"{name} 0-1", f"{name} 3-4", "end"
    ]  # fmt: skip
    assert any(entry[0] == "failed" and "2.png" in entry[1] for entry in told.heard)
    assert (result.failed, result.frames[0].pairs, evaluation.interrupted) == (1, 2, False)
    stopped = run.prepare(settings, no_networks)
    assert stopped.run(Told(stop_after=1)).frames[0].pairs == 1
    assert (stopped.interrupted, stopped.left) == (True, 3)
    few = run.prepare(replace(settings, frames_count=1), no_networks)
    assert (few.run(Told()).frames[0].pairs, few.left) == (1, 0)
    with pytest.raises(UsageError, match="`--frames-count` has no pairs to choose from"):
        run.prepare(EvaluationSettings(side_by_side=tmp_path, frames_count=1), no_networks)
