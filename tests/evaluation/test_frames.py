"""Matching between neighbouring frames: streaks do not repeat, the scene does; folders, clips, and frames that fail."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from idsr_cli.errors import ItemError, PairingError
from idsr_cli.evaluation import frames
from idsr_cli.evaluation.evaluate import RAINY, ScoredWeights
from idsr_cli.evaluation.frames import FrameRow, find_footage, judge, keypoints_of, summarise_frames
from idsr_cli.evaluation.table import frame_lines
from idsr_cli.restoration import Restored


def texture(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (140, 180, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip((smooth - smooth.mean()) * 6 + 128, 0, 255) / 255


def street(number: int) -> np.ndarray:
    """A frame of a camera that moves 4 px a frame, and without rain."""
    return texture()[:, 4 * number : 4 * number + 140].astype(np.float32)


def rain(number: int) -> np.ndarray:
    """Strong streaks, others in each frame."""
    drops = np.random.default_rng(100 + number).random((140, 140)) > 0.985
    return cv2.filter2D(drops.astype(np.float32), -1, np.ones((13, 1), np.float32))[..., None] * 0.5


def test_streaks_have_no_inliers_and_the_scene_has() -> None:
    rainy = [np.clip(street(i) + rain(i), 0, 1) for i in range(2)]
    dry = iter([street(0), street(1)])
    ours = {"": ScoredWeights(lambda rgb, roles: [Restored(next(dry), rain_seen=True)], ["DD"])}
    wet, cleared = judge("street 0-1", *(keypoints_of(frame, ours) for frame in rainy))
    assert (wet.method, cleared.method, wet.pair) == (RAINY, "DD", "street 0-1")
    assert cleared.inliers > 1.5 * wet.inliers
    assert cleared.inliers > 0.9 * cleared.matches
    # Rain that stays would be followed: that is what the measure cannot see.
    still = [np.clip(street(0) + rain(0), 0, 1)] * 2
    [stays] = judge("s", *(keypoints_of(frame, {}) for frame in still))
    assert stays.inliers == stays.matches == stays.keypoints


def test_one_model_for_all_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the rainy frames, a homography if they have none; a fundamental matrix keeps more of any matches."""
    found = keypoints_of(street(0), {}), keypoints_of(street(1), {})
    asked = []
    right = frames.estimate

    def watched(first: np.ndarray, second: np.ndarray, model: str, radius: float) -> object:
        asked.append(model)
        return right(first, second, model, radius)

    monkeypatch.setattr(frames, "estimate", watched)
    first, second = ({**found[i], "other": found[i][RAINY]} for i in range(2))
    rows = judge("s", first, second)
    assert asked == ["auto", *[rows[0].model] * 2]
    asked.clear()
    empty = found[0][RAINY].select(np.zeros(0, int))
    rows = judge("s", {**first, RAINY: empty}, second)
    assert asked == ["auto", "homography", "homography"]
    assert (rows[0].matches, rows[0].inliers, rows[1].model) == (0, 0, "homography")
    assert rows[1].inliers > 50


def test_what_counts_as_footage(tmp_path: Path) -> None:
    def photo(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(street(0) * 255)).save(path)

    with pytest.raises(PairingError, match="no folder of frames and no clip there"):
        find_footage(tmp_path / "gone")
    photo(tmp_path / "one" / "a.png")
    with pytest.raises(PairingError, match="holds no neighbouring frames"):
        find_footage(tmp_path)
    photo(tmp_path / "two" / "f10.png")
    photo(tmp_path / "two" / "f9.png")
    (tmp_path / "b.mp4").write_bytes(b"")
    folder, clip = find_footage(tmp_path)
    assert (folder.name, [path.name for path in folder.photos], folder.pairs()) == ("two", ["f9.png", "f10.png"], 1)
    assert (clip.name, clip.photos) == ("b.mp4", ())
    assert find_footage(tmp_path / "two") == [folder]
    (tmp_path / "two" / "f9.png").write_bytes(b"no picture")
    (name, broken), (_, frame) = folder.frames()
    assert (name, type(broken), frame.shape) == ("f9", ItemError, (140, 140, 3))


def test_frames_are_upright(tmp_path: Path) -> None:
    image = Image.fromarray(np.uint8(texture() * 255))
    exif = image.getexif()
    exif[0x0112] = 6
    for name in ("a", "b"):
        image.save(tmp_path / f"{name}.jpg", exif=exif)
    [footage] = find_footage(tmp_path)
    assert [frame.shape for _, frame in footage.frames()] == [(180, 140, 3)] * 2


def test_summaries_and_their_table() -> None:
    rows = [FrameRow(f"s {i}-{i + 1}", m, 100, n, k, "homography") for i in range(3)
            for m, n, k in ((RAINY, 20, 10 + i), ("DD", 40, 30 - 10 * i))]  # fmt: skip
    rainy, ours = summarise_frames(rows)
    assert (rainy.inliers, ours.inliers, ours.pairs, ours.matches) == (11.0, 20.0, 3, 40.0)
    assert ours.precision == pytest.approx(60 / 120)
    assert ours.lost == pytest.approx(1 / 3)
    assert ours.difference[RAINY].mean == pytest.approx(9.0)
    assert (rainy.difference["DD"].mean, rainy.lost) == (pytest.approx(-9.0), 0.0)
    for width in (80, 120):
        lines = list(frame_lines([rainy, ours], width))
        assert max(map(len, lines)) <= width
    assert lines[0] == "Matching of neighbouring frames, means of 3 pairs"
    assert any(line.split() == ["DD", "100", "40.0", "20.0", "0.500"] for line in lines)
    assert any(line.split()[:2] == ["DD", "+9.0"] for line in lines)
    nothing = summarise_frames([FrameRow("s 0-1", RAINY, 0, 0, 0, "homography")])
    assert "nan" in "\n".join(frame_lines(nothing, 80))
