"""Keypoints of a photograph's views: which view detects, which describes, which keypoints are kept."""

import cv2
import numpy as np
import pytest
import torch

from idsr_cli import extraction, features
from idsr_cli.errors import DeviceError, UsageError
from idsr_cli.extraction import extract, plain_device, unrestored
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
    assert plain_device("auto") == torch.device("cpu")
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
     {"sigma": None}, {"sigma": "1.6"}, {"contrast_threshold": None}, {"edge_threshold": "ten"}],
    ids=str,
)  # fmt: skip
def test_settings_of_the_wrong_type(wrong) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SiftOptions(**wrong)


def test_settings_may_be_numbers_of_numpy() -> None:
    made = SiftOptions(np.int64(5), np.int32(3), np.float64(0.04), 10, np.float32(1.5))  # type: ignore[arg-type]
    assert made == SiftOptions(5, 3, 0.04, 10.0, 1.5)
    assert [type(value) for value in vars(made).values()] == [int, int, float, float, float]
