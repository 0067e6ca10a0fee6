"""The whole path with real networks (untrained: they return their input) and the real SIFT."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from idsr_cli.formats.npz import read_npz


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with two small untrained networks."""
    from idsr_cli import networks
    from idsr_cli.weights import ROLE_FILES, save_weights, write_manifest

    folder = tmp_path_factory.mktemp("weights") / "untrained"
    folder.mkdir()
    for role, file in ROLE_FILES.items():
        config = {**networks.BASE, "widths": (8, 8, 8), "blocks": (1, 1, 1, 1, 1), "attention": networks.ROLES[role]}
        metadata = {"idsr.arch": role, "idsr.layout": "unet", "idsr.config": json.dumps(config)}
        save_weights(folder / file, networks.build("unet", config), metadata)
    write_manifest(folder)
    return folder


def test_derain_returns_the_photograph(run, weights, photos, tmp_path) -> None:
    arguments = ["-o", tmp_path / "out", "--weights", weights, "--device", "cpu"]
    *items, summary = run.events("derain", photos, *arguments)
    assert [item["status"] for item in items] == ["ok"] * 3
    assert (summary["device"], summary["precision"], summary["weights"]) == ("cpu", "fp32", "untrained")
    for name in ("img2.png", "img10.png"):
        before, after = (
            np.asarray(Image.open(io.BytesIO((f / name).read_bytes()))) for f in (photos, tmp_path / "out")
        )
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("tile", ["auto", "0", "32"])
def test_spliced_is_plain_sift_where_networks_change_nothing(run, weights, photos, tmp_path, tile) -> None:
    common = [photos, "--device", "cpu"]
    assert run("sift", *common, "-o", tmp_path / "a", "--weights", weights, "--tile", tile, "-j", 2).exit_code == 0
    assert run("sift", *common, "-o", tmp_path / "b", "--no-derain").exit_code == 0
    for name in ("img2.png.npz", "a/b/x.jpg.npz"):
        (a, meta), (b, _) = read_npz(tmp_path / "a" / name), read_npz(tmp_path / "b" / name)
        assert meta["tile"] == (tile if tile == "auto" else int(tile))
        assert len(a) == len(b) > 0
        np.testing.assert_allclose(a.xy, b.xy, atol=0.01)


def test_damaged_weights_stop_everything(run, weights, photos, tmp_path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in weights.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    data = bytearray((broken / "dprnet.safetensors").read_bytes())
    data[-3] ^= 1
    (broken / "dprnet.safetensors").write_bytes(data)
    result = run("derain", photos, "-o", tmp_path / "out", "--weights", broken)
    assert result.exit_code == 2
    assert "sha256 differs" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_out_of_memory_halves_the_tile_and_says_so_once(run, weights, tmp_path, monkeypatch) -> None:
    import torch

    from idsr_cli import inference
    from tests.cli.conftest import texture

    real = inference.run_padded

    def limited(runner: object, rgb: np.ndarray, place: object = None) -> np.ndarray:
        if max(rgb.shape[:2]) > 400:
            torch.empty(2**60, dtype=torch.uint8)  # what torch raises on a CPU is its own affair
        return real(runner, rgb)  # type: ignore[arg-type]

    monkeypatch.setattr(inference, "run_padded", limited)
    (tmp_path / "in").mkdir()
    for name in "ab":
        Image.fromarray(texture(40, 500)).save(tmp_path / "in" / f"{name}.png")
    result = run("sift", tmp_path / "in", "-o", tmp_path / "out", "--weights", weights, "--tile", "0", "--splice", "DG")
    assert result.exit_code == 0
    warnings = [line for line in result.stderr.splitlines() if "out of memory" in line]
    assert warnings == [
        "warning: out of memory; going on with tiles of 256 pixels (start with `--tile 256` to avoid this)"
    ]
    assert "extracted 2 (" in result.stderr


@pytest.mark.parametrize("what", ["derain", "sift"])
def test_same_bytes_for_any_jobs_and_threads(run, weights, photos, tmp_path, what) -> None:
    import cv2
    import torch

    threads = torch.get_num_threads(), cv2.getNumThreads()
    written = []
    try:
        for jobs, count in ((1, 1), (2, 2), (4, 1), (1, 3)):
            torch.set_num_threads(count)
            cv2.setNumThreads(count)
            out = tmp_path / f"{jobs}-{count}"
            assert run(what, photos, "-o", out, "--weights", weights, "-j", jobs, "--tile", "32").exit_code == 0
            written.append({p.relative_to(out): p.read_bytes() for p in out.rglob("*.???") if p.suffix != ".jsonl"})
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    assert len(written[0]) == 3
    assert all(files == written[0] for files in written)
