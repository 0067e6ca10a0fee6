"""The verbs give the commands' results, for every kind of image they accept."""

import io
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import idsr_cli
from idsr_cli import api, restoration
from idsr_cli.cli.app import app
from idsr_cli.errors import DeviceError, IdsrError, ItemError, UsageError, WeightsError
from idsr_cli.features import sift as plain_sift
from idsr_cli.formats.npz import read_npz
from idsr_cli.images.photo import apply_orientation, from_array, from_pillow, read_photo
from idsr_cli.keypoints import Keypoints
from idsr_cli.rain_estimate import Rain
from idsr_cli.restoration import Removal, Restored
from idsr_cli.scale_space import grey_image

pytestmark = pytest.mark.usefixtures("one_thread")

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
RAINY = sorted((EXAMPLES / "rainy").rglob("*.jpg"))
LIGHTHOUSE = EXAMPLES / "rainy" / "lighthouse.jpg"


def command(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"], prog_name="idsr")
    assert result.exit_code == 0, result.stderr
    return result.stdout


def assert_same(first: Keypoints, second: Keypoints) -> None:
    assert first.image_size == second.image_size
    for name in ("xy", "scale", "angle", "response", "octave", "layer", "descriptors"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        assert getattr(first, name).dtype == getattr(second, name).dtype


# --- as the commands -------------------------------------------------------------------------------------------------


def test_derain_is_the_command(tmp_path: Path) -> None:
    command("derain", EXAMPLES / "rainy", "-o", tmp_path, "--format", "png")
    for path in RAINY:
        written = np.asarray(Image.open(tmp_path / path.relative_to(EXAMPLES / "rainy").with_suffix(".png")))
        result = idsr_cli.derain(path, device="cpu")
        assert (result.dtype, result.shape) == (np.uint8, written.shape)
        np.testing.assert_array_equal(result, written)
    with Image.open(path) as image:
        np.testing.assert_array_equal(idsr_cli.derain(image, device="cpu"), written)
        np.testing.assert_array_equal(idsr_cli.derain(np.asarray(image), device="cpu"), written)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ((), {}),
        (("--splice", "DG", "--max-keypoints", 300), {"splice": "DG", "max_keypoints": 300}),
        (("--no-derain", "--layers", 4, "--contrast-threshold", 0.06, "--edge-threshold", 8, "--sigma", 1.8,
          "--descriptors", "rootsift_f32"),
         {"derain": False, "n_layers": 4, "contrast_threshold": 0.06, "edge_threshold": 8, "sigma": 1.8,
          "descriptors": "rootsift_f32"}),
    ],
    ids=["default", "splice", "plain"],
)  # fmt: skip
def test_sift_is_the_command(tmp_path: Path, options, arguments) -> None:
    command("sift", EXAMPLES / "rainy", "-o", tmp_path, *options)
    for path in RAINY:
        written, _ = read_npz(tmp_path / f"{path.relative_to(EXAMPLES / 'rainy')}.npz")
        assert len(written) > 100
        assert_same(idsr_cli.sift(path, device="cpu", **arguments), written)


@pytest.mark.parametrize("derain", ["auto", "none", "A", "both"])
def test_match_is_the_command(derain: str) -> None:
    pair = (LIGHTHOUSE, EXAMPLES / "clean" / "lighthouse.jpg")
    told = json.loads(command("match", *pair, "--json", "--derain", derain))
    result = idsr_cli.match(*pair, device="cpu", derain=derain)  # type: ignore[arg-type]
    assert [len(points) for points in result.keypoints] == told["keypoints"]
    assert (len(result.matches), int(result.geometry.inliers.sum())) == (told["matches"], told["inliers"])
    assert result.geometry.fits == told["model"]
    assert result.geometry.matrix is not None
    assert result.geometry.matrix.tolist() == told["matrix"]
    assert list(result.derained) == told["derained"]


# --- what an image may be --------------------------------------------------------------------------------------------


@pytest.fixture
def darker(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A network that halves the image, or sees no rain; counts how often networks are loaded and run."""
    state: dict[str, Any] = {"rain": True, "loads": 0, "seen": []}

    class Network:
        def __call__(self, rgb: np.ndarray, removal: Removal) -> Restored:
            state["seen"].append(rgb)
            state["removal"] = removal
            return Restored(rgb * np.float32(0.5), True) if state["rain"] else Restored(rgb, False)

    def load(*_: object) -> Network:
        state["loads"] += 1
        return Network()

    monkeypatch.setattr(api, "load_network", load)
    monkeypatch.setattr(api, "_networks", type(api._networks)())
    return state


def pixels(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    generator = np.random.default_rng(0)
    if np.issubdtype(dtype, np.floating):
        return generator.random(shape).astype(dtype)
    return generator.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("channels", [(), (2,), (3,), (4,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.float16])
def test_arrays_come_back_in_their_form(darker, channels, dtype) -> None:
    array = pixels(20, 30, *channels, dtype=dtype)
    alpha = channels in ((2,), (4,))
    if alpha:
        array[..., -1] = np.maximum(array[..., -1], array.dtype.type(1) / 2 if array.dtype.kind == "f" else 1)
        array[0, 0, -1] = 0
    before = array.copy()
    result = idsr_cli.derain(array)
    expected = np.float32 if np.issubdtype(dtype, np.floating) else dtype
    assert (result.shape, result.dtype) == (array.shape, expected)
    half = array.astype(np.float64) / 2
    if alpha:  # kept, and so are colours under full transparency
        half[..., -1] *= 2
        half[0, 0] *= 2
    step = 1e-6 if np.issubdtype(dtype, np.floating) else 0.51
    np.testing.assert_allclose(result.astype(np.float64), half, atol=step)
    darker["rain"] = False
    dry = idsr_cli.derain(array)
    np.testing.assert_array_equal(dry, array.astype(expected))
    dry[:] = 0
    np.testing.assert_array_equal(array, before)


def test_paths_pillow_images_and_arrays_are_one(darker, tmp_path: Path) -> None:
    for mode, shape, dtype in (("L", (9, 12), np.uint8), ("LA", (9, 12, 2), np.uint8), ("RGB", (9, 12, 3), np.uint8),
                               ("RGBA", (9, 12, 4), np.uint8), ("I;16", (9, 12), np.uint16)):  # fmt: skip
        array = pixels(*shape, dtype=dtype)
        path = tmp_path / f"{mode.replace(';', '')}.png"
        Image.fromarray(array).save(path)
        from_array = idsr_cli.derain(array)
        with Image.open(path) as image:
            for form in (path, str(path), image, read_photo(path)):
                result = idsr_cli.derain(form)
                assert result.dtype == dtype
                np.testing.assert_array_equal(result, from_array)


@pytest.mark.parametrize("channels", [(), (2,), (3,), (4,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pixels_left_alone_come_back_bit_for_bit(darker, monkeypatch, channels, dtype) -> None:
    def half_of_it(rgb: np.ndarray, removal: Removal) -> Restored:
        result = rgb.copy()
        result[:, 15:] *= np.float32(0.5)
        return Restored(result, rain_seen=True)

    monkeypatch.setattr(api, "load_network", lambda *_: half_of_it)
    array = pixels(20, 30, *channels, dtype=dtype)
    result = idsr_cli.derain(array)
    np.testing.assert_array_equal(result[:, :15], array[:, :15].astype(np.float32))
    colours = np.s_[:, 15:, : channels[0] - (channels[0] != 3)] if channels else np.s_[:, 15:]
    np.testing.assert_allclose(result[colours], array[colours] / 2, atol=1e-6)


def test_arrays_of_the_other_byte_order(darker) -> None:
    for dtype in (np.uint16, np.float32, np.float64):
        array = pixels(9, 12, 3, dtype=dtype)
        other = array.astype(array.dtype.newbyteorder())
        result = idsr_cli.derain(other)
        assert result.dtype.isnative
        np.testing.assert_array_equal(result, idsr_cli.derain(array))
    mask = np.ones((9, 12), np.uint16).astype(">u2")
    idsr_cli.sift(array, derain=False, mask=mask)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "tiff_deflate"])
def test_a_tiff_of_pillow_stays_on_its_grid(darker, tmp_path, orientation, compression) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    array = pixels(9, 12, 3)
    Image.fromarray(array).save(tmp_path / "x.tif", exif=exif, compression=compression)
    expected = idsr_cli.derain(tmp_path / "x.tif")
    assert expected.shape == array.shape
    for look in (False, True):  # at the tags, before
        with Image.open(tmp_path / "x.tif") as image:
            if look:
                image.getexif()
            np.testing.assert_array_equal(idsr_cli.derain(image), expected)
            # Now Pillow has turned it for good.
            again = idsr_cli.derain(image)
        np.testing.assert_array_equal(again, apply_orientation(expected, orientation))
    assert len({rgb.tobytes() for rgb in darker["seen"]}) == 1


@pytest.mark.parametrize("name", ["x.tif", "x.png", "x.jpg", "x.webp"])
@pytest.mark.parametrize("tagged", [False, True])
def test_orientation_is_that_of_exif_not_of_xmp(darker, tmp_path, name, tagged) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    array = np.full((9, 12, 3), (90, 60, 30), np.uint8)
    array[:3, :4] = 0
    exif = Image.Exif()
    if tagged:
        exif[274] = 3
    if name == "x.tif":
        exif[700] = xmp
    Image.fromarray(array).save(tmp_path / name, exif=exif, **({} if name == "x.tif" else {"xmp": xmp}))
    from_path = idsr_cli.derain(tmp_path / name)
    for look in (False, True):
        with Image.open(tmp_path / name) as image:
            if look:
                image.getexif()
            from_pillow = idsr_cli.derain(image)
        assert from_pillow.shape == from_path.shape == array.shape
        np.testing.assert_allclose(from_pillow, from_path, atol=3)  # two JPEG decoders
    assert {rgb.shape for rgb in darker["seen"]} == {(9, 12, 3)}
    assert {bool(rgb[0, 0].max() < 0.2) for rgb in darker["seen"]} == {not tagged}


def test_a_webp_of_pillow_is_grey_as_its_file_is(darker, tmp_path) -> None:
    array = np.full((16, 16, 3), 100, np.uint8)
    array[3, 3, 0] = 101  # one level apart: a colour if lossless
    Image.fromarray(array).save(tmp_path / "x.webp", lossless=True)
    Image.fromarray(np.repeat(pixels(16, 16, 1), 3, axis=2)).save(tmp_path / "grey.webp", quality=80)
    for name in ("x.webp", "grey.webp"):
        photo = read_photo(tmp_path / name)
        assert photo.grey == (name == "grey.webp")
        with Image.open(tmp_path / name) as image:
            assert from_pillow(image).grey == photo.grey
        with Image.open(io.BytesIO((tmp_path / name).read_bytes())) as image:
            assert from_pillow(image).grey == photo.grey


@pytest.mark.parametrize("name", ["x.gif", "x.tif", "x.webp", "x.png", "x.avif"])
def test_one_picture_at_a_time_in_every_form(darker, tmp_path, name) -> None:
    frames = [Image.fromarray(pixels(9, 12, 3) // (i + 1)) for i in range(2)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / name) as image:
        for form in (tmp_path / name, image, read_photo(tmp_path / name)):
            for verb in (idsr_cli.derain, idsr_cli.sift, lambda x: idsr_cli.sift(frames[0], derain=False, mask=x)):
                with pytest.raises(ItemError, match="holds 2 pictures"):
                    verb(form)
        image.seek(1)
        assert idsr_cli.derain(image.copy()).shape[:2] == (9, 12)


def test_previews_are_no_second_picture(darker, tmp_path) -> None:
    photo, small = (Image.fromarray(pixels(*size, 3)) for size in ((9, 12), (4, 5)))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    photo.save(tmp_path / "x.tif", save_all=True, append_images=[small])
    photo.save(tmp_path / "x.mpo", save_all=True, append_images=[small])
    for name in ("x.tif", "x.mpo"):
        with Image.open(tmp_path / name) as image:
            assert image.n_frames == 2
            assert idsr_cli.derain(image).shape == idsr_cli.derain(tmp_path / name).shape == (9, 12, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_for_the_networks_alone(darker, tmp_path, orientation) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    array = pixels(9, 12, 3)
    for name in ("x.png", "x.tif"):
        Image.fromarray(array).save(tmp_path / name, exif=exif)
    np.testing.assert_array_equal(idsr_cli.derain(tmp_path / "x.tif"), idsr_cli.derain(tmp_path / "x.png"))
    with Image.open(tmp_path / "x.png") as image:
        result = idsr_cli.derain(image)
    assert result.shape == array.shape
    assert np.abs(result - array / 2.0).max() <= 0.5
    assert len({rgb.tobytes() for rgb in darker["seen"]}) == 1
    assert darker["seen"][0].shape == ((9, 12, 3) if orientation < 5 else (12, 9, 3))


def test_masks_may_be_of_any_kind(tmp_path: Path) -> None:
    array = np.asarray(Image.open(LIGHTHOUSE))[:200, :200]
    allowed = np.zeros((200, 200), bool)
    allowed[:, 100:] = True
    Image.fromarray(allowed.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    found = [
        idsr_cli.sift(array, derain=False, mask=mask)
        for mask in (
            allowed, allowed[:, :, None], allowed.astype(np.uint8), tmp_path / "mask.png",
            Image.open(tmp_path / "mask.png"),
        )
    ]  # fmt: skip
    assert 0 < len(found[0]) < len(idsr_cli.sift(array, derain=False))
    assert found[0].xy[:, 0].min() >= 99.5
    for other in found[1:]:
        assert_same(found[0], other)


def test_plain_sift_is_that_of_features() -> None:
    rgb = read_photo(LIGHTHOUSE).rgb
    assert_same(idsr_cli.sift(rgb, derain=False), plain_sift(grey_image(rgb)))


# --- networks --------------------------------------------------------------------------------------------------------


def test_networks_are_loaded_once_for_each_setting(darker) -> None:
    array = pixels(20, 30, 3)
    for _ in range(3):
        idsr_cli.derain(array)
    assert darker["loads"] == 1
    idsr_cli.sift(array, splice="DG")  # DPRNet is loaded already
    assert darker["loads"] == 2
    idsr_cli.match(array, array, splice="DG")
    assert darker["loads"] == 2
    idsr_cli.match(array, array, splice="DG", derain="both")  # without the dry test
    assert darker["loads"] == 2
    idsr_cli.derain(array, tile=64)
    idsr_cli.derain(array, tile=96)
    idsr_cli.derain(array, precision="bf16")
    assert darker["loads"] == 5
    assert len(api._networks) == api.KEPT_NETWORKS


def test_threads_share_the_networks(darker) -> None:
    array, results = pixels(40, 50, 3), []
    threads = [threading.Thread(target=lambda: results.append(idsr_cli.derain(array))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert darker["loads"] == 1
    assert len({result.tobytes() for result in results}) == 1
    assert len(results) == 8


def test_one_photograph_at_a_time(monkeypatch) -> None:
    """The networks are not made for several threads: neither loading nor running overlaps."""
    state = {"inside": 0, "most": 0, "calls": 0}

    def busy() -> None:
        state["inside"] += 1
        state["most"] = max(state["most"], state["inside"])
        state["calls"] += 1
        time.sleep(0.01)
        state["inside"] -= 1

    def load(*_: object) -> Any:
        busy()
        return lambda rgb, removal: busy() or Restored(rgb, rain_seen=False)

    monkeypatch.setattr(api, "load_network", load)
    monkeypatch.setattr(api, "_networks", type(api._networks)())
    array = pixels(20, 30, 3)
    calls = [
        lambda: idsr_cli.derain(array),
        lambda: idsr_cli.derain(array, tile=64),
        lambda: idsr_cli.sift(array, splice="DG"),
        lambda: idsr_cli.match(array, array),
    ]
    threads = [threading.Thread(target=call) for call in calls * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state["calls"] >= 10
    assert state["most"] == 1


def test_results_print_in_one_line() -> None:
    keypoints = idsr_cli.sift(pixels(40, 60, 3), derain=False)
    assert repr(keypoints) == f"<{len(keypoints)} keypoints of a 60x40 image>"
    text = repr(idsr_cli.match(pixels(40, 60, 3), pixels(40, 60, 3), derain="none"))
    assert text.count("keypoints of a 60x40 image") == 2
    assert len(text.splitlines()) == 1
    assert len(text) < 160


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("nowhere.jpg", "no such file"),
        (pixels(4, 5, 5), "no image"),
        (pixels(4, 5, 1), "no image"),
        (pixels(4), "no image"),
        (np.zeros((0, 5)), "no image"),
        (np.full((4, 5), 255.0), "outside"),
        (np.full((4, 5), np.nan), "outside"),
        (np.full((4, 5), -0.1), "outside"),
        (np.zeros((4, 5), np.int64), "int64 have no agreed range"),
        (np.zeros((4, 5), bool), "bool have no agreed range"),
        (Image.new("F", (4, 5)), "kind F"),
        (Image.new("RGB", (0, 0)), "0x0 pixels is empty"),
        (Image.new("L", (0, 7)), "0x7 pixels is empty"),
    ],
)
def test_what_is_no_image(image, reason) -> None:
    for verb in (idsr_cli.derain, idsr_cli.sift, lambda x: idsr_cli.match(x, x)):
        with pytest.raises(ItemError, match=reason) as error:
            verb(image)
        assert "\n" not in error.value.reason


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"x.png"


def test_wrong_arguments(tmp_path: Path) -> None:
    array = pixels(20, 30, 3)
    calls: list[tuple[type[IdsrError], Any]] = [
        (UsageError, lambda: idsr_cli.derain(None)),  # type: ignore[arg-type]
        (UsageError, lambda: idsr_cli.derain(b"x.png")),  # type: ignore[arg-type]
        (UsageError, lambda: idsr_cli.derain("a\0b")),
        (UsageError, lambda: idsr_cli.derain(BytesPath())),  # type: ignore[arg-type]
        (UsageError, lambda: read_photo(BytesPath())),  # type: ignore[arg-type]
        (ItemError, lambda: read_photo("x.png")),
        (UsageError, lambda: idsr_cli.derain(array, tile=-1)),
        (UsageError, lambda: idsr_cli.derain(array, tile=True)),
        (WeightsError, lambda: idsr_cli.derain(array, weights="")),
        (WeightsError, lambda: idsr_cli.derain(array, weights="x" * 5000)),
        (UsageError, lambda: idsr_cli.derain(array, weights=b"base")),  # type: ignore[arg-type]
        (UsageError, lambda: idsr_cli.derain(array, weights=5)),  # type: ignore[arg-type]
        (UsageError, lambda: idsr_cli.derain(array, weights=["base"])),  # type: ignore[arg-type]
        (DeviceError, lambda: idsr_cli.derain(array, precision=["fp32"])),  # type: ignore[arg-type]
        (DeviceError, lambda: idsr_cli.derain(array, device=5)),  # type: ignore[arg-type]
        (UsageError, lambda: idsr_cli.sift(array, derain="none")),  # type: ignore[arg-type]
        (UsageError, lambda: idsr_cli.sift(array, derain=None)),  # type: ignore[arg-type]
        (UsageError, lambda: idsr_cli.sift(array, derain=False, max_keypoints=1.5)),  # type: ignore[arg-type]
        (UsageError, lambda: idsr_cli.sift(array, derain=False, max_keypoints="3")),  # type: ignore[arg-type]
        (UsageError, lambda: idsr_cli.sift(array, derain=False, n_layers=2.5)),  # type: ignore[arg-type]
        (UsageError, lambda: idsr_cli.sift(array, derain=False, sigma="1.6")),  # type: ignore[arg-type]
        (UsageError, lambda: idsr_cli.match(array, array, derain="none", ratio=None)),  # type: ignore[arg-type]
        (UsageError, lambda: idsr_cli.match(array, array, derain="none", mutual="no")),  # type: ignore[arg-type]
        (ItemError, lambda: idsr_cli.sift(array, derain=False, mask=np.ones((20, 30, 3), bool))),
        (UsageError, lambda: idsr_cli.sift(array, splice="GD")),
        (UsageError, lambda: idsr_cli.sift(array, splice="DG", derain=False)),
        (UsageError, lambda: idsr_cli.sift(array, descriptors="orb")),  # type: ignore[arg-type]
        (UsageError, lambda: idsr_cli.sift(array, derain=False, max_keypoints=-1)),
        (UsageError, lambda: idsr_cli.sift(array, derain=False, like="vlfeat")),  # type: ignore[arg-type]
        (UsageError, lambda: idsr_cli.match(array, array, derain="C")),  # type: ignore[arg-type]
        (UsageError, lambda: idsr_cli.match(array, array, derain="none", splice="DG")),
        (UsageError, lambda: idsr_cli.match(array, array, derain="none", model="affine")),  # type: ignore[arg-type]
        (UsageError, lambda: idsr_cli.match(array, array, derain="none", ratio=0)),
        (UsageError, lambda: idsr_cli.match(array, array, derain="none", threshold=-1)),
        (WeightsError, lambda: idsr_cli.derain(array, weights="nothing")),
        (ItemError, lambda: idsr_cli.sift(array, derain=False, mask=np.ones((3, 3), bool))),
    ]
    for kind, call in calls:
        with pytest.raises(kind) as error:
            call()
        assert error.value.reason
        assert "\n" not in error.value.reason
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "GIF", save_all=True, append_images=[Image.fromarray(255 - array)])
    (tmp_path / "two.gif").write_bytes(stream.getvalue())
    with pytest.raises(ItemError, match="holds 2 pictures"):
        idsr_cli.derain(tmp_path / "two.gif")


@pytest.mark.parametrize("given", [{"splice": "DG"}, {"weights": "base"}, {"engine": "ncnn"}, {"tile": 0}], ids=str)
def test_arguments_for_networks_that_do_not_run_are_refused(given) -> None:
    array = pixels(20, 30, 3)
    (name,) = given
    for call, words in (
        (lambda: idsr_cli.sift(array, derain=False, **given), "derain=False"),
        (lambda: idsr_cli.match(array, array, derain="none", **given), "derain='none'"),
        (lambda: idsr_cli.match(array, array, derain=False, **given), "derain='none'"),
    ):
        with pytest.raises(UsageError, match=f"`{name}` has no effect with {words}"):
            call()
    idsr_cli.sift(array, derain=False, precision="auto", tile=None, weights=None, device="cpu")


def test_derain_is_on_or_off_in_sift_and_in_match(darker) -> None:
    array = pixels(20, 30, 3)
    idsr_cli.sift(array, derain=np.True_)  # type: ignore[arg-type]
    idsr_cli.match(array, array, derain=True)
    assert darker["loads"] == 1
    seen = len(darker["seen"])
    idsr_cli.sift(array, derain=np.False_)  # type: ignore[arg-type]
    idsr_cli.match(array, array, derain=False)
    assert len(darker["seen"]) == seen


def test_a_restorer_made_elsewhere_gives_the_same(darker, monkeypatch) -> None:
    """The options of the verbs' networks, built as a worker process would."""
    monkeypatch.setattr(restoration, "load_network", api.load_network)
    rgb = pixels(20, 30, 3, dtype=np.float32)
    restorer = idsr_cli.RestorationOptions(idsr_cli.find_weights(), "D", "cpu").build()
    np.testing.assert_array_equal(restorer.restore(rgb, "D")[0].rgb, idsr_cli.derain(rgb, device="cpu"))


def test_hints_name_every_form_that_is_taken() -> None:
    with pytest.raises(ItemError) as caught:
        from_array(pixels(4, 5, 5))
    assert caught.value.hint == "give (H, W), (H, W, 2), (H, W, 3) or (H, W, 4)"


def test_how_rain_is_taken_out(darker) -> None:
    array = pixels(20, 30, 3)
    knobs: dict[str, Any] = {"strength": 0.5, "force": True, "scale": 1, "dry_threshold": 4, "mirror": True}
    for call in (idsr_cli.derain, idsr_cli.sift, lambda image, **k: idsr_cli.match(image, image, **k)):
        call(array, **knobs)
        assert darker.pop("removal") == Removal(**knobs)
    for wanted, forced in (("auto", False), ("both", True), ("A", True)):
        idsr_cli.match(array, array, derain=wanted, strength=0.5)  # type: ignore[arg-type]
        assert darker.pop("removal") == Removal(0.5, force=forced)
    idsr_cli.derain(array)
    assert darker["removal"] == Removal()
    assert darker["loads"] == 1  # the same network, however its result is used
    with pytest.raises(UsageError, match="strength must be from 0 to"):
        idsr_cli.derain(array, strength=2)


@pytest.mark.parametrize(
    "knob", [{"strength": 0.5}, {"force": True}, {"scale": 2}, {"dry_threshold": 0}, {"mirror": True}]
)
def test_how_rain_is_taken_out_means_nothing_without_networks(darker, knob) -> None:
    array = pixels(20, 30, 3)
    (name,) = knob
    with pytest.raises(UsageError, match=f"`{name}` has no effect with derain=False"):
        idsr_cli.sift(array, derain=False, **knob)
    with pytest.raises(UsageError, match=f"`{name}` has no effect with derain='none'"):
        idsr_cli.match(array, array, derain="none", **knob)


def test_the_rain_of_both_photographs(monkeypatch) -> None:
    def network(rgb: np.ndarray, removal: Removal) -> Restored:
        return Restored(rgb, True, Rain(float(rgb.max()), 0.5, 10.0))

    monkeypatch.setattr(api, "load_network", lambda *_: network)
    monkeypatch.setattr(api, "_networks", type(api._networks)())
    bright, dark = pixels(20, 30, 3), pixels(20, 30, 3) // 2
    first, second = idsr_cli.match(bright, dark).rain
    assert first == Rain(1.0, 0.5, 10.0)
    assert second is not None
    assert second.level < 0.51
    assert idsr_cli.match(bright, dark, derain="B").rain == (None, second)
