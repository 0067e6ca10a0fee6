"""Every usual layout of rainy/clean pairs is paired; errors name both files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from idsr_cli.errors import ItemError, PairingError
from idsr_cli.images.folders import photos_in
from idsr_cli.images.pairs import (
    Pair,
    find_pairs,
    images_for,
    names_for,
    pairs_in_folders,
    pairs_in_list,
    pairs_side_by_side,
)


def put(folder: Path, *names: str, size: tuple[int, int] = (6, 4)) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "grey").save(folder / name)
    return folder


def names(pairs: list[Pair]) -> list[tuple[str, str]]:
    return [(pair.rainy.name, pair.clean.name) for pair in pairs]


def test_equal_names_in_natural_order_and_below(tmp_path: Path) -> None:
    rainy = put(tmp_path / "rainy", "img10.png", "img2.png", "a/b/x.png", ".hidden.png", ".git/y.png")
    clean = put(tmp_path / "clean", "img10.png", "img2.jpg", "a/b/x.png", "more.png")
    (rainy / "notes.txt").write_text("no photograph")
    pairs = pairs_in_folders(rainy, clean)
    assert names(pairs) == [("x.png", "x.png"), ("img2.png", "img2.jpg"), ("img10.png", "img10.png")]
    assert pairs[0].clean == clean / "a" / "b" / "x.png"
    assert [pair.name for pair in pairs] == ["a/b/x.png", "img2.png", "img10.png"]
    assert pairs[1].clean_side == ""


def test_the_same_suffix_comes_first(tmp_path: Path) -> None:
    rainy, clean = put(tmp_path / "rainy", "a.png", "a.bmp"), put(tmp_path / "clean", "a.bmp", "a.jpg", "a.png")
    assert sorted(names(pairs_in_folders(rainy, clean))) == [("a.bmp", "a.bmp"), ("a.png", "a.png")]


def test_rain1400(tmp_path: Path) -> None:
    rainy, clean = (
        put(tmp_path / "r", "901_1.jpg", "901_14.jpg", "s/7_2.jpg"),
        put(tmp_path / "c", "901.jpg", "s/7.png"),
    )
    expected = [("901_1.jpg", "901.jpg"), ("901_14.jpg", "901.jpg"), ("7_2.jpg", "7.png")]
    assert names(pairs_in_folders(rainy, clean)) == expected


def test_rain100(tmp_path: Path) -> None:
    rainy, clean = (
        put(tmp_path / "r", "rain-001.png", "s/rain-2.png"),
        put(tmp_path / "c", "norain-001.png", "s/norain-2.png"),
    )
    assert names(pairs_in_folders(rainy, clean)) == [
        ("rain-001.png", "norain-001.png"), ("rain-2.png", "norain-2.png")
    ]  # fmt: skip


def test_rain100_in_one_folder(tmp_path: Path) -> None:
    """Names that are equal win; so rainy and clean must not share a folder unless a list says which is which."""
    clean = put(tmp_path / "c", "rain-001.png", "norain-001.png")
    assert names(pairs_in_folders(put(tmp_path / "r", "rain-001.png"), clean)) == [("rain-001.png", "rain-001.png")]


def test_no_clean_version(tmp_path: Path) -> None:
    rainy, clean = put(tmp_path / "r", "a.png", "b_3.png"), put(tmp_path / "c", "a.png")
    with pytest.raises(PairingError) as caught:
        pairs_in_folders(rainy, clean)
    assert caught.value.path == str(rainy / "b_3.png")
    assert caught.value.reason == f"has no clean version: looked for {clean / 'b_3.png'}"
    assert caught.value.hint == "also under the names b_3, b"
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("which", ["rainy", "clean"])
def test_missing_and_empty_folders(tmp_path: Path, which: str) -> None:
    folders = {name: put(tmp_path / name, "a.png") for name in ("rainy", "clean")}
    with pytest.raises(PairingError, match="no such folder") as caught:
        pairs_in_folders(**{**folders, which: tmp_path / "nothing"})
    assert caught.value.path == str(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PairingError, match=r"no photographs in this folder \(looked for .*\.png"):
        photos_in(tmp_path / "empty")


def test_images_of_another_method(tmp_path: Path) -> None:
    pairs = pairs_in_folders(
        put(tmp_path / "r", "1.png", "a/1.png", "2_1.jpg"), put(tmp_path / "c", "1.png", "a/1.png", "2.png")
    )
    other = put(tmp_path / "o", "1.jpg", "1.png", "a/1.webp", "2_1.png", "unused.png")
    expected = {"1.png": "1.png", "a/1.png": "a/1.webp", "2_1.jpg": "2_1.png"}
    images = images_for(pairs, other)
    assert {pair.name: path.relative_to(other).as_posix() for pair, path in zip(pairs, images, strict=True)} == expected
    (other / "2_1.png").unlink()
    with pytest.raises(PairingError, match=r"no image for .*2_1\.jpg \(looked for .*o/2_1\.jpg\)"):
        images_for(pairs, other)


def halves(path: Path, width: int) -> Path:
    """Left half dark, right half bright; an odd column in the middle is neither."""
    image = np.full((4, width, 3), 128, np.uint8)
    image[:, : width // 2] = 51
    image[:, width - width // 2 :] = 204
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(image).save(path)
    return path.parent


@pytest.mark.parametrize("width", [12, 13])
@pytest.mark.parametrize(("side", "rainy_value", "clean_value"), [("left", 0.8, 0.2), ("right", 0.2, 0.8)])
def test_side_by_side(tmp_path: Path, width: int, side: str, rainy_value: float, clean_value: float) -> None:
    [pair] = pairs_side_by_side(halves(tmp_path / "both" / "1.png", width), side)
    rainy, clean = pair.read()
    assert rainy.shape == clean.shape == (4, 6, 3)
    assert pair.rainy == pair.clean
    np.testing.assert_allclose(rainy, rainy_value, atol=1e-6)
    np.testing.assert_allclose(clean, clean_value, atol=1e-6)


def test_unknown_side(tmp_path: Path) -> None:
    with pytest.raises(PairingError, match="unknown side `top`"):
        pairs_side_by_side(tmp_path, "top")


def test_reading_folders(tmp_path: Path) -> None:
    for name, value in (("r", 255), ("c", 51)):
        (tmp_path / name).mkdir()
        Image.new("L", (6, 4), value).save(tmp_path / name / "a.png")
    rainy, clean = pairs_in_folders(tmp_path / "r", tmp_path / "c")[0].read()
    assert (rainy.shape, rainy.dtype) == ((4, 6, 3), np.float32)
    assert rainy.min() == 1.0
    np.testing.assert_allclose(clean, 0.2, atol=1e-6)


def test_sizes_that_differ(tmp_path: Path) -> None:
    rainy, clean = put(tmp_path / "r", "a.png"), put(tmp_path / "c", "a.png", size=(5, 4))
    with pytest.raises(PairingError) as caught:
        pairs_in_folders(rainy, clean)[0].read()
    assert caught.value.path == str(rainy / "a.png")
    assert caught.value.reason == f"is 6x4 but its clean version {clean / 'a.png'} is 5x4"


def test_damaged_photograph(tmp_path: Path) -> None:
    rainy, clean = put(tmp_path / "r", "a.png"), put(tmp_path / "c", "a.png")
    (clean / "a.png").write_bytes(b"")
    with pytest.raises(ItemError) as caught:
        pairs_in_folders(rainy, clean)[0].read()
    assert caught.value.path == str(clean / "a.png")


def test_list_files(tmp_path: Path) -> None:
    put(tmp_path, "r/a.png", "c/a.png", "r/mit Leerzeichen.png", "c/später.png", "r/雨 1.png")
    lines = ["# rainy then clean", "", "r/a.png c/a.png", "  r/a.png\tc/später.png  ", "r/mit Leerzeichen.png\tc/a.png",
             f"{tmp_path / 'r' / '雨 1.png'}\t{tmp_path / 'c' / 'a.png'}"]  # fmt: skip
    for ending in ("\n", "\r\n"):
        (tmp_path / "list.txt").write_bytes((ending.join(lines) + ending).encode())
        pairs = pairs_in_list(tmp_path / "list.txt")
        assert names(pairs) == [("a.png", "a.png"), ("a.png", "später.png"), ("mit Leerzeichen.png", "a.png"),
                                ("雨 1.png", "a.png")]  # fmt: skip
        assert pairs[0] == Pair(tmp_path / "r/a.png", tmp_path / "c/a.png", relative="r/a.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png\n", "line 1 is no pair: a.png"),
        ("# x\na.png b.png c.png\n", "line 2 is no pair: a.png b.png c.png"),
        ("a.png\tb.png\tc.png\n", "line 1 is no pair"),
        ("# nothing\n\n", "holds no pairs"),
        ("", "holds no pairs"),
    ],
)
def test_lines_that_are_no_pairs(tmp_path: Path, text: str, message: str) -> None:
    file = put(tmp_path, "a.png", "b.png") / "list.txt"
    file.write_text(text)
    with pytest.raises(PairingError) as caught:
        pairs_in_list(file)
    assert message in caught.value.reason
    assert caught.value.path == str(file)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("line", ["a.png\tgone.png", "gone.png\ta.png"])
def test_listed_photographs_that_are_not_there(tmp_path: Path, line: str) -> None:
    file = put(tmp_path, "a.png") / "list.txt"
    file.write_text(f"a.png a.png\n{line}\n")
    with pytest.raises(PairingError) as caught:
        pairs_in_list(file)
    assert caught.value.reason == f"line 2: no file {tmp_path / 'gone.png'} (paired with {tmp_path / 'a.png'})"


def test_list_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("größe.png\ta.png\n".encode("latin-1"))
    for name in ("latin.txt", "nothing.txt"):
        with pytest.raises(PairingError, match="cannot be read") as caught:
            pairs_in_list(tmp_path / name)
        assert caught.value.path == str(tmp_path / name)


def test_unicode_names(tmp_path: Path) -> None:
    rainy, clean = (
        put(tmp_path / "r", "雨-1.png", "Straße_2.jpg", "rain-٣.png"),
        put(tmp_path / "c", "雨-1.png", "Straße.jpg", "norain-٣.png"),
    )
    pairs = dict(names(pairs_in_folders(rainy, clean)))
    assert pairs == {"雨-1.png": "雨-1.png", "Straße_2.jpg": "Straße.jpg", "rain-٣.png": "norain-٣.png"}


@pytest.mark.parametrize("lost", ["", "clean", "method"])
def test_orientation_is_applied_to_both_images(tmp_path: Path, lost: str) -> None:
    """Also if the other image has lost its tag, unless its shape would not fit then."""
    scene = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)  # as a viewer shows it
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(scene)))  # EXIF 6: turn it clockwise
    exif = Image.Exif()
    exif[274] = 6
    for name in ("rainy", "clean", "method"):
        stored.save(tmp_path / f"{name}.png", exif=None if name == lost else exif)
    pair = Pair(tmp_path / "rainy.png", tmp_path / "clean.png")
    expected = np.float32(scene) / np.float32(255)
    for image in (*pair.read(), pair.read_version(tmp_path / "method.png", (6, 4, 3))):
        np.testing.assert_array_equal(image, expected)
        assert image.flags.c_contiguous
    if lost == "method":
        assert pair.read_version(tmp_path / "method.png", (9, 9, 3)).shape == (4, 6, 3)


def test_halves_are_cut_after_the_orientation_is_applied(tmp_path: Path) -> None:
    both = np.zeros((4, 12, 3), np.uint8)
    both[:, 6:] = 255
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(both))).save(tmp_path / "a.png", exif=exif)
    (pair,) = pairs_side_by_side(tmp_path, "left")
    rainy, clean = pair.read()
    assert (rainy.shape, rainy.min(), clean.max()) == ((4, 6, 3), 1.0, 0.0)


# --- layouts, and pairs that are none --------------------------------------------------------------------------------


def in_one_folder(folder: Path) -> Path:
    return put(
        folder, "norain-1.png", "norain-10.png", "rain-1.png", "rain-10.png", "rainstreak-1.png", "rainstreak-10.png"
    )


def test_rain_train_keeps_both_in_one_folder(tmp_path: Path) -> None:
    folder = in_one_folder(tmp_path / "RainTrainL")
    (tmp_path / "link").symlink_to(folder)
    for clean in (folder, tmp_path / "link"):
        expected = [("rain-1.png", "norain-1.png"), ("rain-10.png", "norain-10.png")]
        assert names(pairs_in_folders(folder, clean)) == expected
    put(folder, "odd.png")
    with pytest.raises(PairingError, match="has no clean version") as caught:
        pairs_in_folders(folder, folder)
    assert caught.value.path == str(folder / "odd.png")


@pytest.mark.parametrize(
    ("rainy", "clean"),
    [
        ("norain-1x2.png", "norain-1.png"),
        ("rain-1x2.png", "norain-1.png"),
        ("rain-100x2.png", "norain-100.png"),
        ("001.png", "001gt.png"),
        ("0_rain.png", "0_clean.png"),
        ("sub/12_rain.png", "sub/12_clean.jpg"),
        ("901_3.jpg", "901.png"),
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_known_layouts(tmp_path: Path, rainy: str, clean: str, together: bool) -> None:
    first = put(tmp_path / "r", rainy)
    second = put(first if together else tmp_path / "c", clean)
    assert names(pairs_in_folders(first, second)) == [(Path(rainy).name, Path(clean).name)]


@pytest.mark.parametrize("files", [["a.png", "b.png"], ["1.png", "1.jpg"], ["x_1.png", "x_2.png"]])
def test_one_folder_whose_names_tell_nothing(tmp_path: Path, files: list[str]) -> None:
    folder = put(tmp_path, *files)
    with pytest.raises(PairingError, match="are one folder, and no names in it tell which is which"):
        pairs_in_folders(folder, folder)


@pytest.mark.parametrize(
    ("rainy", "clean"),
    [
        ("1.jpg", ("1.bmp", "1.tif")),
        ("rain-1x2.png", ("norain-1.png", "norain-1x2.png")),
        ("a/7_1.png", ("a/7.png", "a/7.jpg")),
    ],
)
def test_two_candidates_are_named(tmp_path: Path, rainy: str, clean: tuple[str, str]) -> None:
    first, second = put(tmp_path / "r", rainy), put(tmp_path / "c", *clean)
    with pytest.raises(PairingError) as caught:
        pairs_in_folders(first, second)
    assert all(str(second / name) in caught.value.reason for name in clean)
    assert caught.value.path == rainy


def test_two_candidates_of_another_method(tmp_path: Path) -> None:
    pairs = pairs_in_folders(put(tmp_path / "r", "1.png"), put(tmp_path / "c", "1.png"))
    with pytest.raises(PairingError, match=r"could be paired with .*1\.bmp or with .*1\.jpg"):
        images_for(pairs, put(tmp_path / "o", "1.jpg", "1.bmp"))


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_two_links_to_one_file_are_no_pair(tmp_path: Path, link: str) -> None:
    rainy = put(tmp_path / "r", "a.png")
    (tmp_path / "c").mkdir()
    make = (tmp_path / "c" / "a.png").symlink_to if link == "symbolic" else (tmp_path / "c" / "a.png").hardlink_to
    make(rainy / "a.png")
    with pytest.raises(PairingError, match=r"is paired with itself: .*c/a\.png is the same file") as caught:
        pairs_in_folders(rainy, tmp_path / "c")
    assert caught.value.path == str(rainy / "a.png")
    (tmp_path / "list.txt").write_text("r/a.png\tc/a.png\n")
    with pytest.raises(PairingError, match="is paired with itself"):
        pairs_in_list(tmp_path / "list.txt")


def test_photographs_that_come_twice(tmp_path: Path) -> None:
    put(tmp_path, "r/a.png", "c/a.png", "c/b.png")
    (tmp_path / "r" / "b.png").symlink_to("a.png")
    with pytest.raises(PairingError, match=r"is listed twice: .*r/a\.png is the same file"):
        pairs_in_folders(tmp_path / "r", tmp_path / "c")
    with pytest.raises(PairingError, match="is listed twice"):
        pairs_side_by_side(tmp_path / "r", "left")
    (tmp_path / "list.txt").write_text("r/a.png c/a.png\nr/a.png c/a.png\n")
    with pytest.raises(PairingError, match="is listed twice"):
        pairs_in_list(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("r/a.png c/a.png\nr/a.png c/b.png\n")
    with pytest.raises(PairingError, match="is listed twice"):
        find_pairs(None, None, None, "left", tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("c/a.png c/a.png\n")
    with pytest.raises(PairingError, match="is paired with itself"):
        pairs_in_list(tmp_path / "list.txt")


def test_names_of_files_that_belong_to_photographs(tmp_path) -> None:
    """Keypoint files go by the photograph's name: with its suffix, with another one, or with none."""
    rainy = put(tmp_path / "rainy", "rain-1.png", "s/rain-2.png")
    pairs = pairs_in_folders(rainy, put(tmp_path / "clean", "norain-1.jpg", "s/norain-2.jpg"))
    for names in (("rain-1.png", "s/rain-2.png"), ("rain-1", "s/rain-2"), ("rain-1.jpg", "s/rain-2.webp", "other")):
        assert names_for(pairs, names, tmp_path) == list(names[:2])
    for names in (("norain-1.jpg", "s/norain-2"), ("clean/norain-1", "clean/s/norain-2"), ("rain-1", "s/rain-2.png")):
        assert names_for(pairs, names, tmp_path, clean=True) == list(names)
    assert names_for(pairs[:1], ["rain.1", "rain-1"], tmp_path) == ["rain-1"]  # ".1" is no photograph's suffix
    with pytest.raises(PairingError, match=r"no keypoints of .*rain-1\.png and of 1 more \(files go by"):
        names_for(pairs, ["norain-1.jpg"], tmp_path)
    with pytest.raises(PairingError, match=r"could be paired with rain-1\.jpg or with rain-1\.bmp"):
        names_for(pairs, ["rain-1.jpg", "rain-1.bmp"], tmp_path)


def test_one_file_does_not_belong_to_two_photographs(tmp_path) -> None:
    names = ("a/1.png", "b/1.png")
    pairs = pairs_in_folders(put(tmp_path / "rainy", *names), put(tmp_path / "clean", *names))
    with pytest.raises(PairingError, match=r"`1` could be .*a/1\.png or .*b/1\.png"):
        names_for(pairs, ["1"], tmp_path, clean=True)
    with pytest.raises(PairingError, match="no keypoints of"):
        names_for(pairs, ["1"], tmp_path)


def test_two_rainy_photographs_share_the_keypoints_of_their_clean_one(tmp_path) -> None:
    pairs = pairs_in_folders(put(tmp_path / "rainy", "901_1.jpg", "901_2.jpg"), put(tmp_path / "clean", "901.jpg"))
    assert names_for(pairs, ["901"], tmp_path, clean=True) == ["901", "901"]
