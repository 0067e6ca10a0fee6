"""`--engine`: which library runs the networks, and where it is said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from idsr_cli.errors import extra_hint
from idsr_cli.formats.npz import read_npz
from idsr_cli.runtime import engines, ncnn_engine, ncnn_store
from tests.conftest import make_weights

needs_ncnn = pytest.mark.skipif(not ncnn_engine.is_installed(), reason="ncnn is not installed")
ENGINES = ["torch", pytest.param("ncnn", marks=needs_ncnn)]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return make_weights(tmp_path, "dprnet").path


@pytest.mark.parametrize("engine", ENGINES)
def test_the_engine_is_told(run, weights, photos, tmp_path, engine) -> None:
    common = ["--weights", weights, "--engine", engine, "--device", "cpu"]
    shown = run("derain", photos, "-o", tmp_path / "dry", *common, "-v").stderr
    assert f"deraining on cpu, {engine}, fp32, weights dprnet" in shown
    summary = run.events("sift", photos / "img2.png", "-o", tmp_path / "out", *common)[-1]
    assert summary["engine"] == engine
    assert read_npz(tmp_path / "out" / "img2.png.npz")[1]["engine"] == engine
    pair = (photos / "img2.png", photos / "img10.png")
    assert json.loads(run("match", *pair, *common, "--json").stdout)["engine"] == engine
    folders = [tmp_path / name for name in ("clean", "rainy")]
    for folder in folders:
        folder.mkdir()
        (folder / "x.png").write_bytes(pair[0].read_bytes())
    scored = run.events("evaluate", "--clean", folders[0], "--rainy", folders[1], *common)[-1]
    assert scored["header"]["engine"] == engine


@needs_ncnn
def test_pictures_do_not_depend_on_the_engine(run, weights, photos, tmp_path) -> None:
    for engine in ("torch", "ncnn"):
        run("derain", photos / "img2.png", "-o", tmp_path / engine, "--weights", weights, "--engine", engine)
    first, second = (np.asarray(Image.open(tmp_path / engine / "img2.png"), int) for engine in ("torch", "ncnn"))
    assert np.abs(first - second).max() <= 1
    assert (first != second).mean() < 0.001
    assert np.abs(first - np.asarray(Image.open(photos / "img2.png"), int)).max() > 3


# Runs a command, and tells which of two libraries it has imported.
COMMAND = """
import sys
from idsr_cli.__main__ import main
try:
    main()
finally:
    print("imported", [name for name in ("torch", "ncnn") if name in sys.modules])
"""


@needs_ncnn
def test_ncnn_does_without_torch_in_later_runs(run, weights, photos, tmp_path, monkeypatch) -> None:
    """Importing torch takes longer than a photograph."""
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    monkeypatch.setattr(ncnn_store, "cache_folder", lambda: tmp_path / "cache" / "idsr")
    common = ["derain", photos / "img2.png", "--weights", weights, "--engine", "ncnn", "-q", "-o"]
    assert run(*common, tmp_path / "first").exit_code == 0
    words = [str(word) for word in (*common, tmp_path / "later")]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *words], env={**os.environ, **cache}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "imported ['ncnn']\n")
    first, later = (tmp_path / name / "img2.png" for name in ("first", "later"))
    assert first.read_bytes() == later.read_bytes() != (photos / "img2.png").read_bytes()


def test_outputs_of_another_engine_may_be_stale(run, halving, photos, tmp_path) -> None:
    for command in ("derain", "sift"):
        out = tmp_path / command
        assert run(command, photos, "-o", out, "--engine", "torch").exit_code == 0
        assert "stale" not in run(command, photos, "-o", out, "--engine", "torch").stderr
        assert "made with other settings (engine)" in run(command, photos, "-o", out).stderr


def test_outputs_from_before_there_were_engines_are_not_stale(run, halving, photos, tmp_path) -> None:
    for command in ("derain", "sift"):
        out = tmp_path / command
        assert run(command, photos, "-o", out).exit_code == 0
        record = out / ".idsr.jsonl"
        lines = [json.loads(line) for line in record.read_text().splitlines()]
        for line in lines:
            assert line["settings"].pop("engine") is None
        record.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        assert "made with other settings" not in run(command, photos, "-o", out).stderr


def test_the_reason_for_torch_is_told_once(run, weights, photos, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(ncnn_engine, "is_installed", lambda: False)
    monkeypatch.setattr(engines, "torch_is_as_fast", lambda: False)
    shown = run("derain", photos, "-o", tmp_path / "a", "--weights", weights, "--device", "cpu", "-v").stderr
    assert shown.count("ncnn is not installed") == 1
    assert "ncnn" not in run("derain", photos, "-o", tmp_path / "b", "--weights", weights, "--device", "cpu").stderr


def test_what_ncnn_cannot_do_is_refused(run, weights, photos, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("IDSR_ENGINE", "ncnn")
    common = ["derain", photos, "-o", tmp_path / "out", "--weights", weights]
    result = run(*common, "--device", "cpu", "--precision", "bf16")
    assert (result.exit_code, result.stderr) == (
        2,
        "idsr: ncnn runs networks on the device `cpu`, in the precision `fp32` (use the engine `torch`)\n",
    )
    monkeypatch.setattr(ncnn_engine, "is_installed", lambda: False)
    result = run(*common)
    assert (result.exit_code, result.stderr) == (
        2, f"idsr: ncnn is not installed ({extra_hint('fast')})\n",
    )  # fmt: skip
    assert not (tmp_path / "out").exists()
