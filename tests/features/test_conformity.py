"""`sift` against OpenCV's on 8-bit pictures, and against kornia_rs on float ones."""

from __future__ import annotations

import runpy
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from idsr_cli import scale_space
from idsr_cli.features import SiftOptions, sift
from idsr_cli.keypoints import Keypoints

EXAMPLES = Path(__file__).parents[2] / "examples"
SCENES = [
    "photo-like", "rough", "smooth", "polygons", "text", "blobs", "checkers", "rings", "tiny", "strip", "white noise",
    "megapixel",
]  # fmt: skip


def as_tensor(grey: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(grey.astype(np.float32))


def opencv(grey: np.ndarray, **options: float) -> tuple[np.ndarray, np.ndarray]:
    """(N, 6) x, y, size, angle, response, octave word; (N, 128) descriptors."""
    detector = cv2.SIFT_create(enable_precise_upscale=True, **options)
    points, descriptors = detector.detectAndCompute(grey, None)
    rows = np.array([(*p.pt, p.size, p.angle, p.response, p.octave) for p in points], np.float64).reshape(-1, 6)
    return rows, np.zeros((0, 128), np.float32) if descriptors is None else descriptors


def pair(ours: Keypoints, theirs: np.ndarray) -> np.ndarray:
    """For each of their keypoints the index of ours within 0.01 px, 0.1 % size and 1 degree, or -1."""
    result = np.full(len(theirs), -1)
    for i, (x, y, size, angle, *_) in enumerate(theirs):
        near = np.flatnonzero(np.hypot(ours.xy[:, 0] - x, ours.xy[:, 1] - y) <= 0.01)
        turn = np.abs((ours.angle[near] - angle + 180) % 360 - 180)
        near = near[(turn <= 1) & (np.abs(2 * ours.scale[near] / size - 1) <= 1e-3)]
        if len(near):
            result[i] = near[0]
    return result


def check(ours: Keypoints, theirs: np.ndarray, descriptors: np.ndarray) -> np.ndarray:
    """Check the project's limits; returns the L1 distances between the descriptors of the pairs."""
    pairs = pair(ours, theirs)
    found = pairs >= 0
    assert (~found).sum() <= 0.005 * len(theirs)
    assert len(ours) - len(np.unique(pairs[found])) <= 0.005 * len(theirs)
    distance = np.abs(ours.descriptors[pairs[found]].astype(float) - descriptors[found]).sum(1)
    assert distance.mean() <= 0.5
    return distance


@pytest.mark.parametrize("scene", SCENES)
def test_equals_opencv(scenes, scene):
    theirs, descriptors = opencv(scenes[scene])
    assert len(theirs) > 10
    ours = sift(as_tensor(scenes[scene]))
    distance = check(ours, theirs, descriptors)
    assert (distance == 0).mean() >= 0.8
    pairs = pair(ours, theirs)
    theirs, pairs = theirs[pairs >= 0], pairs[pairs >= 0]
    np.testing.assert_allclose(ours.response[pairs], theirs[:, 4], atol=1e-5)
    word = theirs[:, 5].astype(np.int64)
    octave = (word & 255).astype(np.uint8).astype(np.int8)
    assert (ours.octave[pairs] == octave).mean() >= 0.995
    assert (ours.layer[pairs] == (word >> 8 & 255)).mean() >= 0.995


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"n_layers": 5}, {"nOctaveLayers": 5}),
        ({"n_layers": 1}, {"nOctaveLayers": 1}),
        ({"contrast_threshold": 0.02}, {"contrastThreshold": 0.02}),  # OpenCV's integer pre-threshold is 0 here
        ({"contrast_threshold": 0.09}, {"contrastThreshold": 0.09}),
        ({"edge_threshold": 5.0}, {"edgeThreshold": 5}),
        ({"sigma": 2.0}, {"sigma": 2.0}),
    ],
)
def test_options_mean_the_same(scenes, ours, theirs):
    grey = scenes["photo-like"]
    check(sift(as_tensor(grey), SiftOptions(**ours)), *opencv(grey, **theirs))


def test_float_input_equals_kornia(scenes, monkeypatch):
    """OpenCV takes 8 bits only. kornia_rs does the same on floats, but with the biased doubling, which is used here."""
    imgproc = pytest.importorskip("kornia_rs").imgproc
    if not hasattr(imgproc, "Sift"):
        pytest.skip("this kornia_rs has no SIFT")
    grey = cv2.GaussianBlur(scenes["photo-like"].astype(np.float32), (0, 0), 0.6)[:200, :231]
    assert not np.array_equal(grey, grey.round())

    def biased(image: np.ndarray, out: np.ndarray) -> np.ndarray:
        return cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)

    monkeypatch.setattr(scale_space, "double_array", biased)
    points, descriptors = imgproc.Sift().detect_and_compute(np.ascontiguousarray(grey[..., None]))
    rows = np.array([(p.x, p.y, p.size, p.angle) for p in points])
    assert len(rows) > 100
    check(sift(as_tensor(grey)), rows, descriptors)


@pytest.mark.parametrize("size", [(11, 11), (14, 11), (11, 14), (12, 12), (22, 44), (94, 94), (188, 96)])
def test_octaves_whose_interior_is_hardly_a_pixel(size):
    """In an octave of 11x11 one pixel can be a keypoint; the last octaves of large photographs are like that too."""
    rng = np.random.default_rng(size[0])
    grey = cv2.resize(rng.integers(0, 256, (4, 4)).astype(np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    theirs, _ = opencv(grey)
    ours = sift(as_tensor(grey))
    assert len(ours) == len(theirs)
    assert (pair(ours, theirs) >= 0).all()


def test_the_benchmark_takes_files_and_folders(tmp_path, monkeypatch, capsys) -> None:
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "sift_conformity.py"
    if not script.exists():
        pytest.skip("a sdist has no benchmarks")
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/1.png", "a/b/2.png", "3.png"):
        noise = np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / name), cv2.GaussianBlur(noise, (0, 0), 2))

    def rows(*names: str) -> list[str]:
        monkeypatch.syspath_prepend(script.parent)  # as for a script, which imports its neighbours
        monkeypatch.setattr("sys.argv", [str(script), *(str(tmp_path / name) for name in names)])
        runpy.run_path(str(script), run_name="__main__")
        return [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]

    assert rows("a", "3.png") == ["a/1.png", "b/2.png", f"{tmp_path.name}/3.png"[-32:]]
    (tmp_path / "a" / "b" / "4.png").write_bytes(b"no picture")
    for names, said in ((["a/b"], "OpenCV cannot read"), (["gone"], "OpenCV cannot read"), (["a/c"], "no photographs")):
        (tmp_path / "a" / "c").mkdir(exist_ok=True)
        with pytest.raises(SystemExit) as stopped:
            rows(*names)
        assert said in f"{stopped.value}{capsys.readouterr().err}"


# --- COLMAP's rules --------------------------------------------------------------------------------------------------

COLMAP = {"contrast_threshold": 0.02, "n_octaves": 4, "max_orientations": 2, "rules": "vlfeat"}


def colmap(grey: np.ndarray, **options: float) -> np.ndarray:
    """(N, 4) x, y, scale, degrees that COLMAP's own extractor finds; origin at the pixel's centre."""
    pycolmap = pytest.importorskip("pycolmap")
    settings = pycolmap.FeatureExtractionOptions()
    settings.use_gpu, settings.num_threads = False, 1
    for name, value in options.items():
        setattr(settings.sift, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newer name is not in pycolmap 4.0
        found, _ = pycolmap.Sift(settings, pycolmap.Device.cpu).extract(grey.astype(np.float32) / 255)
    x, y, scale, angle = np.asarray(found, np.float64)[:, :4].T
    return np.column_stack([x - 0.5, y - 0.5, scale, np.rad2deg(angle)])


def shares(ours: Keypoints, theirs: np.ndarray) -> tuple[float, float]:
    """Of their keypoints, those within 0.1 px and 5 % of scale of one of ours; of these, those within 10 degrees."""
    located = turned = 0
    for x, y, scale, angle in theirs:
        near = np.flatnonzero(np.hypot(ours.xy[:, 0] - x, ours.xy[:, 1] - y) <= 0.1)
        near = near[np.abs(ours.scale[near] / scale - 1) <= 0.05]
        located += bool(len(near))
        turned += bool((np.abs((ours.angle[near] - angle + 180) % 360 - 180) <= 10).any())
    return located / len(theirs), turned / located


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """(300, 300) uint8, grey."""
    grey = cv2.imread(str(EXAMPLES / "clean" / "lighthouse.jpg"), cv2.IMREAD_GRAYSCALE)
    return np.ascontiguousarray(grey[100:400, :300])


def test_equals_colmap(photo):
    """By OpenCV's rules, with COLMAP's thresholds, 84 % of its positions are found, and 81 % of their directions."""
    theirs = colmap(photo)
    ours = sift(as_tensor(photo), SiftOptions(**COLMAP))
    located, turned = shares(ours, theirs)
    assert located >= 0.95
    assert turned >= 0.93
    assert abs(len(ours) / len(theirs) - 1) <= 0.03
    assert shares(sift(as_tensor(photo), SiftOptions(contrast_threshold=0.02)), theirs)[0] < 0.9


def test_equals_colmap_without_doubling(photo):
    theirs = colmap(photo, first_octave=0, peak_threshold=0.01)
    ours = sift(as_tensor(photo), SiftOptions(**{**COLMAP, "contrast_threshold": 0.03}, first_octave=0))
    assert ours.octave.min() == 0
    # Fewer than with the doubled image: more of them see the border, where VLFeat repeats pixels and we reflect them.
    assert shares(ours, theirs)[0] >= 0.85
    assert abs(len(ours) / len(theirs) - 1) <= 0.05


def test_soft_limit_equals_colmaps(photo):
    """COLMAP drops whole layers, the finest first, and exceeds its limit by a part of the last one."""
    theirs = colmap(photo, max_num_features=200)
    ours = sift(as_tensor(photo), SiftOptions(**COLMAP, soft_limit=200))
    assert 200 < len(theirs) < 500
    assert abs(len(ours) / len(theirs) - 1) <= 0.05
    assert shares(ours, theirs)[0] >= 0.9


def test_strongest_orientations(scenes):
    grey = as_tensor(scenes["photo-like"][:150, :200])
    every, one, two = (sift(grey, SiftOptions(max_orientations=count)) for count in (None, 1, 2))
    counts = [np.unique(found.xy, axis=0, return_counts=True)[1] for found in (every, one, two)]
    assert counts[0].max() >= 3
    assert [len(found) for found in (every, one, two)] == [counts[0].sum(), len(counts[0]), counts[0].clip(max=2).sum()]
