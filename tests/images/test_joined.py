"""Two pictures on one pipe are told from one with something behind it."""

import io
from itertools import product

import numpy as np
import pytest
from PIL import Image

from idsr_cli.images.joined import has_second_picture

KINDS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM", "GIF", "JPEG2000", "AVIF"]


def picture(kind: str, seed: int = 0, **options: object) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 37, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind, **options)
    return data.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_one_picture(kind: str) -> None:
    assert not has_second_picture(picture(kind))
    assert not has_second_picture(picture(kind) + b"\0" * 5)
    assert not has_second_picture(picture(kind) + b"some notes of a camera")
    assert not has_second_picture(picture(kind)[:-7])
    assert not has_second_picture(picture(kind)[:9])


@pytest.mark.parametrize(("first", "second"), list(product(KINDS, ["JPEG", "PNG", "same"])))
def test_two_pictures(first: str, second: str) -> None:
    if first == "TIFF" and second != "same":
        pytest.skip("where such a file ends is not said")
    other = picture(first if second == "same" else second, 1)
    for between in (b"", b"\n"):
        if between and first in ("AVIF", "JPEG2000"):
            continue
        assert has_second_picture(picture(first) + between + other)
        assert has_second_picture(picture(first) + between + other + other)


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 1}, {"quality": 100}])
def test_kinds_of_jpeg(options: dict[str, object]) -> None:
    data = picture("JPEG", **options)
    assert not has_second_picture(data)
    assert has_second_picture(data + data)


def test_a_thumbnail_inside_is_no_second_picture() -> None:
    exif = Image.Exif()
    exif[270] = "x"
    thumbnail = picture("JPEG", 5)
    data = picture("JPEG", exif=exif.tobytes() + thumbnail, comment=thumbnail[:200])
    assert not has_second_picture(data)
    assert has_second_picture(data + data)


def test_pictures_that_the_first_one_announces() -> None:
    images = [Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (10, 90)]
    data = io.BytesIO()
    images[0].save(data, "MPO", save_all=True, append_images=images[1:])
    assert not has_second_picture(data.getvalue())


def test_a_video_behind_a_photograph_is_no_picture() -> None:
    assert not has_second_picture(picture("JPEG") + b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(100))


def test_portable_maps() -> None:
    grey = b"P5\n# a comment\n3 2\n255\nabcdef"
    deep = b"P5 3 2 65535 abcdefghijkl"
    bits = b"P4\n9 2\nabcd"
    for data in (grey, deep, bits):
        assert not has_second_picture(data)
        assert has_second_picture(data + picture("PPM"))
