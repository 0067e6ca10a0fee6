"""Keypoints of a photograph's views: which view detects, which describes, which keypoints are kept."""

import cv2
import numpy as np
import pytest
import torch

from idsr_cli import extraction, features
from idsr_cli.errors import DeviceError, UsageError
from idsr_cli.extraction import GreyOptions, extract, plain_device, sift_fields, unrestored
from idsr_cli.features import SiftOptions, sift
from idsr_cli.formats.descriptors import convert
from idsr_cli.keypoints import Keypoints
from idsr_cli.restoration import Restored
from idsr_cli.scale_space import grey_image

OPTIONS = SiftOptions()


def texture(seed: int = 0) -> np.ndarray:
    """(96, 128, 3) float32 with blobs that SIFT likes."""
    noise = np.random.default_rng(seed).random((96, 128, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip(0.5 + 6 * (smooth - smooth.mean()), 0, 1).astype(np.float32)


def assert_same(first: Keypoints, second: Keypoints) -> None:
    for name in ("xy", "scale", "angle", "response", "octave", "layer", "descriptors"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_the_first_view_detects_and_the_last_describes() -> None:
    first, last = Restored(texture(), True), Restored(texture(1), True)
    found = extract([first, last], OPTIONS)
    assert len(found) > 50
    assert_same(found, features.splice(grey_image(first.rgb), grey_image(last.rgb)))
    assert_same(extract([first], OPTIONS), sift(grey_image(first.rgb)))
    assert_same(extract([first, first], OPTIONS), sift(grey_image(first.rgb)))


@pytest.mark.parametrize(("seen", "pyramids"), [((False, False), 1), ((True, False), 2), ((True, True), 2)])
def test_one_image_needs_one_pyramid(monkeypatch: pytest.MonkeyPatch, seen: tuple[bool, bool], pyramids: int) -> None:
    rgb, given = texture(), []
    real = features.splice

    def splice(detect: torch.Tensor, describe: torch.Tensor, *rest: object) -> Keypoints:
        given.append(1 if detect is describe else 2)
        return real(detect, describe, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(features, "splice", splice)
    found = extract([Restored(rgb, seen[0]), Restored(rgb.copy(), seen[1])], OPTIONS)
    assert given == [pyramids]
    assert_same(found, sift(grey_image(rgb)))


def test_mask_limit_and_kind_of_descriptors() -> None:
    view, mask = unrestored(texture()), np.zeros((96, 128), bool)
    mask[:, 64:] = True
    every = extract([view], OPTIONS)
    right = extract([view], OPTIONS, mask=mask)
    assert 0 < len(right) < len(every)
    assert right.xy[:, 0].min() >= 63.5
    few = extract([view], SiftOptions(max_keypoints=5), mask=mask, descriptors="rootsift_f32")
    assert_same(few, convert(right.select(np.arange(5)), "rootsift_f32"))
    assert few.descriptors.dtype == np.float32


def test_the_device_of_sift_is_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(features, "splice", lambda detect, *rest: seen.append(detect.device) or Keypoints.empty((1, 1)))
    extract([unrestored(texture())], OPTIONS, device="meta")
    assert seen == [torch.device("meta")]
    assert plain_device("auto") == "cpu"
    with pytest.raises(DeviceError):
        plain_device("tpu")


def test_views_of_two_sizes() -> None:
    other = Restored(texture()[:50], True)
    with pytest.raises(ValueError, match="differ"):
        extract([Restored(texture(), True), other], OPTIONS)


def test_an_image_that_is_not_restored_has_no_rain_seen() -> None:
    rgb = texture()
    view = extraction.unrestored(rgb)
    assert (view.rgb is rgb, view.rain_seen) == (True, False)


def test_what_has_no_keypoints() -> None:
    with pytest.raises(UsageError, match="no view"):
        extract([], OPTIONS)
    with pytest.raises(UsageError, match="`descriptors` is one of sift_u8, rootsift_u8, rootsift_f32, not 'bogus'"):
        extract([unrestored(texture())], OPTIONS, descriptors="bogus")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [{"max_keypoints": 1.5}, {"max_keypoints": "3"}, {"max_keypoints": True}, {"n_layers": 2.5}, {"n_layers": None},
     {"sigma": None}, {"sigma": "1.6"}, {"contrast_threshold": None}, {"edge_threshold": "ten"},
     {"first_octave": 1}, {"first_octave": None}, {"n_octaves": 0}, {"max_orientations": 0}, {"soft_limit": 1.5},
     {"rules": "lowe"}],
    ids=str,
)  # fmt: skip
def test_settings_of_the_wrong_type(wrong) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SiftOptions(**wrong)


def test_settings_may_be_numbers_of_numpy() -> None:
    made = SiftOptions(np.int64(5), np.int32(3), np.float64(0.04), 10, np.float32(1.5))  # type: ignore[arg-type]
    assert made == SiftOptions(5, 3, 0.04, 10.0, 1.5)
    assert [type(value) for value in vars(made).values()][:5] == [int, int, float, float, float]
    made = SiftOptions(first_octave=np.int8(0), n_octaves=np.int64(4), max_orientations=np.int16(2))  # type: ignore[arg-type]
    assert [type(value) for value in (made.first_octave, made.n_octaves, made.max_orientations)] == [int, int, int]


def test_like_colmap_its_grey_and_its_limits() -> None:
    """COLMAP's numbers, and those that the user gives instead."""
    fields = sift_fields("colmap", edge_threshold=5.0)
    assert fields == {
        "max_keypoints": None, "n_layers": 3, "contrast_threshold": 0.02, "edge_threshold": 5.0, "sigma": 1.6,
        "n_octaves": 4, "max_orientations": 2, "soft_limit": 8192, "rules": "vlfeat",
    }  # fmt: skip
    assert sift_fields("colmap", max_keypoints=50)["soft_limit"] is None
    assert sift_fields("colmap", max_keypoints=0) == {**sift_fields("colmap"), "soft_limit": None}
    assert sift_fields("opencv") == {name: getattr(SiftOptions(), name) for name in sift_fields("opencv")}
    red = np.zeros((64, 64, 3), np.float32)
    red[20:40, 20:40, 0] = 1
    grey = {luma: extraction._grey(unrestored(red), GreyOptions(luma), "cpu")[30, 30] for luma in ("bt601", "bt709")}
    assert {luma: round(float(value) / 255, 4) for luma, value in grey.items()} == {"bt601": 0.299, "bt709": 0.2126}


def test_a_large_photograph_is_made_smaller_for_sift() -> None:
    """Positions stay within a fraction of a pixel of the small image, and no keypoint is under the mask."""
    small = texture()
    height, width = small.shape[:2]
    large = cv2.resize(small, (3 * width, 3 * height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    expected = extract([unrestored(small)], OPTIONS)
    found = extract([unrestored(large)], OPTIONS, grey=GreyOptions(max_side=max(width, height)))
    assert found.image_size == (3 * width, 3 * height)
    place = (found.xy + 0.5) / 3 - 0.5
    gap = np.hypot(*(place[:, None] - expected.xy).transpose(2, 0, 1))
    assert np.median(gap.min(1)) < 0.2
    nearest = gap.argmin(1)[gap.min(1) < 0.2]
    np.testing.assert_allclose(np.median(found.scale[gap.min(1) < 0.2] / expected.scale[nearest]), 3, rtol=0.02)
    mask = np.zeros((3 * height, 3 * width), bool)
    mask[: 3 * height // 2] = True
    upper = extract([unrestored(large)], OPTIONS, grey=GreyOptions(max_side=max(width, height)), mask=mask)
    assert 0 < len(upper) < len(found)
    assert upper.on(mask).all()
    with pytest.raises(ValueError, match="mask"):
        extract([unrestored(large)], OPTIONS, grey=GreyOptions(max_side=width), mask=mask[:-1])
