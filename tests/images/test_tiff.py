"""Pictures in TIFF files: which is the photograph, and its pixels in layouts that Pillow does not read.

Files are made by hand or by tifffile, and results are read by tifffile where it can.
"""

import io
import lzma
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from idsr_cli.errors import ItemError
from idsr_cli.images.photo import check_single, decode, dropped, encode

DATA = Path(__file__).parent.parent / "data"
H, W = 24, 36
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def ramp(channels: int = 3, dtype: type = np.uint8, height: int = H, width: int = W, seed: float = 0) -> np.ndarray:
    """(height, width, channels), smooth, with most values in it."""
    top = np.iinfo(dtype).max
    y, x = np.mgrid[:height, :width]
    planes = [top * (0.5 + 0.45 * np.sin((i + 1) * (x + 2 * y) / 19 + i + seed)) for i in range(channels)]
    return np.stack(planes, axis=2).astype(dtype)


def levels(photo) -> np.ndarray:
    return np.round(photo.rgb * (2**photo.bits - 1)).astype(int)


def darker(photo) -> np.ndarray:
    return photo.rgb * np.float32(0.5)


# --- files by hand ---------------------------------------------------------------------------------------------------

Values = tuple[int, ...]


def picture(
    array: np.ndarray, extra: dict[int, tuple[int, Values]] | None = None, order: str = "<", rows: int = 7, **how
) -> tuple[dict[int, tuple[int, Values]], list[bytes]]:
    """Fields and strips of an array; `how` has `pack` (strip of samples -> bytes), `compression`, `bits`, `planar`."""
    height, width, channels = array.shape
    pack, bits = how.get("pack", bytes), how.get("bits", 8 * array.itemsize)
    planes = [array[:, :, i] for i in range(channels)] if how.get("planar") else [array]
    strips = []
    for plane in planes:
        for top in range(0, height, rows):
            part = plane[top : top + rows].astype(array.dtype.newbyteorder(order))
            raw = part.tobytes()
            if bits < 8:
                lines = part.reshape(len(part), -1)
                digits = (lines[:, :, None] >> np.arange(bits - 1, -1, -1, dtype=np.uint8)) & 1
                raw = np.packbits(digits.reshape(len(part), -1), axis=1).tobytes()
            strips.append(pack(raw))
    fields = {
        256: (3, (width,)), 257: (3, (height,)), 258: (3, (bits,) * channels), 259: (3, (how.get("compression", 1),)),
        262: (3, (2 if channels > 2 else 1,)), 277: (3, (channels,)), 278: (3, (rows,)),
        284: (3, (2 if how.get("planar") else 1,)), **(extra or {}),
    }  # fmt: skip
    return fields, strips


def file_of(*pictures, order: str = "<", big: bool = False, below: tuple = (), reverse: bool = False) -> bytes:
    """A TIFF of pictures that follow each other; `below` are those below the first one. b"" is a hole."""
    letters = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q"}
    pointer = "Q" if big else "I"
    size = struct.calcsize("<" + pointer)
    out = bytearray((b"II" if order == "<" else b"MM") + (struct.pack(order + "HHHQ", 43, 8, 0, 0) if big
                                                          else struct.pack(order + "HI", 42, 0)))  # fmt: skip
    links = [8 if big else 4]

    def put(fields: dict, strips: list[bytes]) -> int:
        starts = []
        for strip in strips:
            starts.append(len(out) if strip else 0)
            out.extend(strip.translate(REVERSED) if reverse else strip)
            out.extend(bytes(len(out) % 2))
        every = {**fields, 273: (4, tuple(starts)), 279: (4, tuple(map(len, strips)))} if strips else fields
        if 324 in fields:  # tiles
            every = {**every, 324: every.pop(273), 325: every.pop(279)}
        values = {}
        for tag, (kind, numbers) in every.items():
            packed = struct.pack(f"{order}{len(numbers)}{letters[kind]}", *numbers)
            if len(packed) > size:
                values[tag] = len(out)
                out.extend(packed + bytes(len(packed) % 2))
            else:
                values[tag] = packed.ljust(size, b"\0")
        at = len(out)
        out.extend(struct.pack(order + ("Q" if big else "H"), len(every)))
        for tag, (kind, numbers) in sorted(every.items()):
            out.extend(struct.pack(order + "HH" + pointer, tag, kind, len(numbers)))
            value = values[tag]
            out.extend(struct.pack(order + pointer, value) if isinstance(value, int) else value)
        links.append(len(out))
        out.extend(bytes(size))
        return at

    children = tuple(put(*each) for each in below)
    del links[1:]
    for i, (fields, strips) in enumerate(pictures):
        before = links[-1]
        at = put({**fields, 330: (4, children)} if children and i == 0 else fields, strips)
        struct.pack_into(order + pointer, out, before, at)
    return bytes(out)


# --- which picture ---------------------------------------------------------------------------------------------------

REDUCED = {254: (4, (1,))}
OLD_REDUCED = {255: (3, (2,))}
SMALL = ramp(3, height=6, width=9, seed=2)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("mark", [REDUCED, OLD_REDUCED, {254: (3, (1,))}, {254: (4, (9,))}], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("where", ["next", "below"])
def test_a_preview_before_the_photograph_is_not_taken_for_it(order, big, mark, dtype, where) -> None:
    array = ramp(3, dtype)
    # As cameras do, with make and orientation in the first directory.
    described = {271: (2, tuple(b"Camera\0")), 274: (3, (6,))}
    first, main = picture(SMALL, mark | described, order), picture(array, {254: (4, (0,))}, order)
    data = file_of(first, main, order=order, big=big) if where == "next" else file_of(
        first, order=order, big=big, below=(picture(SMALL, REDUCED, order), main)
    )  # fmt: skip
    photo = decode(data)
    np.testing.assert_array_equal(levels(photo), array)
    assert (photo.pages, photo.orientation) == (1, 6)
    assert encode(photo, photo.rgb) == data
    result = encode(photo, darker(photo))
    with tifffile.TiffFile(io.BytesIO(result)) as file:
        assert len(file.pages) == 1
        page = file.pages[0]
        assert (page.shape, page.dtype, page.subfiletype) == (array.shape, dtype, 0)
        assert (page.tags[271].value, page.tags[274].value) == ("Camera", 6)
        assert np.abs(page.asarray().astype(int) - array / 2).max() <= 1


def test_a_preview_that_pillow_writes_first() -> None:
    small, main = Image.fromarray(SMALL), Image.fromarray(ramp())
    stream = io.BytesIO()
    small.save(stream, "TIFF", save_all=True, append_images=[main], tiffinfo={254: 1})
    data = bytearray(stream.getvalue())
    pages = tifffile.TiffFile(io.BytesIO(bytes(data))).pages
    if 254 in pages[1].tags:  # written for both
        tag = pages[1].tags[254]
        data[tag.valueoffset] = 0
    np.testing.assert_array_equal(levels(decode(bytes(data))), ramp())


@pytest.mark.parametrize("photometric", [32803, 34892])
@pytest.mark.parametrize("where", ["first", "next", "below"])
def test_raw_photographs_are_refused_whatever_their_preview(photometric, where) -> None:
    sensor = picture(ramp(1, np.uint16), {262: (3, (photometric,))})
    preview = picture(SMALL, REDUCED if where != "first" else {})
    data = {
        "first": lambda: file_of(sensor, preview),
        "next": lambda: file_of(preview, sensor),
        "below": lambda: file_of(preview, below=(sensor,)),
    }[where]()
    with pytest.raises(ItemError, match="a raw photograph, which needs developing"):
        decode(data)


def test_raw_photographs_that_only_their_maker_marks() -> None:
    data = file_of(picture(SMALL))
    for mark in (b"CR\2\0", b"IIIITwaR"):
        with pytest.raises(ItemError, match="a raw photograph"):
            decode(data[:4] + struct.pack("<I", len(data)) + mark + data[8 + len(mark) :] + data_directory(data))


def data_directory(data: bytes) -> bytes:
    """The directory of a file of one picture."""
    (at,) = struct.unpack_from("<I", data, 4)
    return data[at:]


@pytest.mark.parametrize("count", [1, 2])
def test_nothing_but_previews_is_refused(count) -> None:
    with pytest.raises(ItemError, match="holds only a preview of a photograph"):
        decode(file_of(*[picture(SMALL, REDUCED)] * count))


def test_a_photograph_whose_directory_is_cut_off_is_damaged() -> None:
    data = file_of(picture(SMALL, REDUCED | {330: (4, (1 << 20,))}))
    with pytest.raises(ItemError, match="damaged image"):
        decode(data)


def test_pictures_are_counted_without_previews_masks_and_levels_of_a_pyramid() -> None:
    main, small = picture(ramp()), picture(SMALL)
    mask = picture(ramp(1, height=H), {254: (4, (4,)), 262: (3, (4,))})
    assert decode(file_of(main, picture(SMALL, REDUCED), mask)).pages == 1
    assert decode(file_of(main, below=(small,))).pages == 1
    assert decode(file_of(picture(SMALL, REDUCED), main, main)).pages == 2
    two = decode(file_of(small, below=(main,)))  # a larger one below that is not marked: which is meant?
    with pytest.raises(ItemError, match="holds 2 pictures"):
        check_single(two, "a.tif")


def test_fields_of_a_dng_are_not_written_to_a_tiff() -> None:
    data = file_of(picture(SMALL, REDUCED | {50706: (1, (1, 4, 0, 0)), 305: (2, tuple(b"x\0"))}), picture(ramp()))
    photo = decode(data)
    tags = tifffile.TiffFile(io.BytesIO(encode(photo, darker(photo)))).pages[0].tags
    assert 50706 not in tags
    assert tags[305].value == "x"


# --- order of bits ---------------------------------------------------------------------------------------------------


def through_pillow(compression: str):
    """Compress a strip as libtiff does."""

    def pack(raw: bytes) -> bytes:
        stream = io.BytesIO()
        Image.frombytes("L", (len(raw), 1), raw).save(stream, "TIFF", compression=compression)
        page = tifffile.TiffFile(io.BytesIO(stream.getvalue())).pages[0]
        start = page.dataoffsets[0]
        return stream.getvalue()[start : start + page.databytecounts[0]]

    return pack


PACKERS = {
    1: bytes, 5: through_pillow("tiff_lzw"), 8: zlib.compress, 32946: zlib.compress,
    32773: through_pillow("packbits"), 34925: lzma.compress, 50000: through_pillow("zstd"),
}  # fmt: skip


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", PACKERS)
@pytest.mark.parametrize(
    ("channels", "bits"), [(1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (3, 8), (3, 16), (4, 8), (4, 16)]
)
@pytest.mark.parametrize("reverse", [False, True])
def test_both_orders_of_bits_at_all_depths_and_compressions(order, compression, channels, bits, reverse, capfd) -> None:
    array = ramp(channels, np.uint16 if bits == 16 else np.uint8)
    stored = array >> (8 - bits) if bits < 8 else array
    extra = ({266: (3, (2,))} if reverse else {}) | ({338: (3, (2,))} if channels == 4 else {})
    how = {"pack": PACKERS[compression], "compression": compression, "bits": bits}
    photo = decode(file_of(picture(stored, extra, order, **how), order=order, reverse=reverse))
    want = stored.astype(int) * (255 // (2**bits - 1)) if bits < 8 else array
    np.testing.assert_array_equal(levels(photo), np.broadcast_to(want[:, :, :3], (H, W, 3)))
    if channels == 4:
        np.testing.assert_array_equal(photo.alpha, array[:, :, 3])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("big", [False, True])
def test_reversed_bits_as_tifffile_reads_them(dtype, big) -> None:
    array = ramp(3, dtype)
    for planar in (False, True):
        how = {"pack": zlib.compress, "compression": 8, "planar": planar}
        data = file_of(picture(array, {266: (3, (2,))}, **how), big=big, reverse=True)
        read = tifffile.imread(io.BytesIO(data))
        np.testing.assert_array_equal(np.moveaxis(read, 0, 2) if planar else read, array)
        photo = decode(data)
        np.testing.assert_array_equal(levels(photo), array)
        written = tifffile.TiffFile(io.BytesIO(encode(photo, darker(photo)))).pages[0]
        assert written.fillorder == 1
        assert np.abs(written.asarray().astype(int) - array / 2).max() <= 1


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("reverse", [False, True])
def test_fax_in_both_orders_of_bits(compression, reverse) -> None:
    black_and_white = Image.fromarray(ramp(1)[:, :, 0] > 120)
    stream = io.BytesIO()
    black_and_white.save(stream, "TIFF", compression=compression)
    page = tifffile.TiffFile(io.BytesIO(stream.getvalue())).pages[0]
    strip = stream.getvalue()[page.dataoffsets[0] :][: page.databytecounts[0]]
    fields = {tag.code: (3, (int(tag.value),)) for tag in page.tags if tag.code in (256, 257, 258, 259, 262, 277, 278)}
    if reverse:
        fields[266] = (3, (2,))
    data = file_of((fields, [strip]), reverse=reverse)
    np.testing.assert_array_equal(levels(decode(data))[:, :, 0] > 0, np.asarray(black_and_white))


# --- orientation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [1, 3, 4, 7, 13, 16])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_orientation_of_any_type_is_that_orientation(kind, order, dtype) -> None:
    array = ramp(3, dtype)
    data = file_of(picture(array, {274: (kind, (6,))}, order), order=order, big=kind == 16)
    photo = decode(data)
    np.testing.assert_array_equal(levels(photo), array)  # on the stored grid
    want = 1 if kind == 7 else 6  # bytes of no known meaning
    assert photo.orientation == want
    for format in ("TIFF", "PNG", "JPEG"):
        assert decode(encode(photo, darker(photo), format)).orientation == want
    tag = tifffile.TiffFile(io.BytesIO(encode(photo, darker(photo)))).pages[0].tags[274]
    assert (tag.dtype.name, tag.value) == ("SHORT", want)


# --- holes and compressions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", PACKERS)
@pytest.mark.parametrize(("channels", "bits"), [(1, 1), (1, 4), (1, 8), (1, 16), (3, 8), (3, 16), (4, 16)])
@pytest.mark.parametrize("nodata", [None, b"7", b"nan"])
def test_holes_have_the_value_for_no_data_or_zero(order, compression, channels, bits, nodata, capfd) -> None:
    array = ramp(channels, np.uint16 if bits == 16 else np.uint8)
    array = array >> (8 - bits) if bits < 8 else array
    extra = {42113: (2, tuple(nodata + b"\0"))} if nodata else {}
    how = {"pack": PACKERS[compression], "compression": compression, "bits": bits}
    fields, strips = picture(array, extra, order, **how)
    for holes in ((1, 3), range(4)):
        data = file_of((fields, [b"" if i in holes else strip for i, strip in enumerate(strips)]), order=order)
        want = array.astype(int)
        value = 7 if nodata == b"7" and bits > 1 else 0
        for i in holes:
            want[7 * i : 7 * i + 7] = value
        if bits < 8:
            want *= 255 // (2**bits - 1)
        photo = decode(data)
        np.testing.assert_array_equal(levels(photo), np.broadcast_to(want[:, :, :3], (H, W, 3)))
        if channels == 4:
            np.testing.assert_array_equal(photo.alpha, want[:, :, 3])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("predictor", [False, True])
def test_holes_among_tiles_as_tifffile_reads_them(dtype, planar, predictor, capfd) -> None:
    array = np.moveaxis(ramp(3, dtype, 40, 50), 2, 0) if planar == "separate" else ramp(3, dtype, 40, 50)
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, tile=(16, 16), compression="zlib", photometric="rgb", planarconfig=planar,
                     metadata=None, extratags=[(42113, 2, 2, "9", True)])  # fmt: skip
    data = bytearray(stream.getvalue())
    page = tifffile.TiffFile(io.BytesIO(bytes(data))).pages[0]
    for tag in (324, 325):
        field = page.tags[tag]
        size = field.valuebytecount // field.count
        for tile in (0, 5, 11):
            data[field.valueoffset + size * tile : field.valueoffset + size * (tile + 1)] = bytes(size)
    want = tifffile.imread(io.BytesIO(bytes(data)))
    photo = decode(bytes(data))
    np.testing.assert_array_equal(levels(photo), np.moveaxis(want, 0, 2) if planar == "separate" else want)
    assert capfd.readouterr() == ("", "")


def parts(array: np.ndarray, save, planar: bool = False) -> list[bytes]:
    channels = [array[:, :, i] for i in range(array.shape[2])] if planar else [array]
    return [save(np.ascontiguousarray(each[top : top + 8])) for each in channels for top in range(0, H, 8)]


def webp(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "WEBP", lossless=True, exact=True)
    return stream.getvalue()


def jpeg(array: np.ndarray) -> bytes:
    """As libtiff stores four channels: without a marker that says what they are. Pillow writes inks turned round."""
    stream = io.BytesIO()
    if array.ndim == 3 and array.shape[2] == 4:
        Image.frombytes("CMYK", array.shape[1::-1], (255 - array).tobytes()).save(stream, "JPEG", quality=100)
        data = stream.getvalue()
        at = data.find(b"\xff\xee")
        return data if at < 0 else data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    Image.fromarray(array).save(stream, "JPEG", quality=100, subsampling=0)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("channels", "compression", "planar", "extra"),
    [(3, 50001, False, {}), (4, 50001, False, {338: (3, (2,))}), (4, 50001, False, {338: (3, (0,))}),
     (4, 7, False, {338: (3, (0,))}), (4, 7, False, {338: (3, (2,))}), (4, 7, True, {338: (3, (0,))}),
     (2, 7, True, {338: (3, (2,))})],
)  # fmt: skip
@pytest.mark.parametrize("hole", [False, True])
def test_strips_that_are_images_of_their_own(channels, compression, planar, extra, hole, capfd) -> None:
    array = ramp(channels)
    strips = parts(array, jpeg if compression == 7 else webp, planar)
    fields, _ = picture(array, extra, rows=8, compression=compression, planar=planar)
    want = array.copy()
    if hole:
        for i in range(channels if planar else 1):
            strips[1 + 3 * i] = b""
        want[8:16] = 0
    photo = decode(file_of((fields, strips)))
    tolerance = 0 if compression == 50001 else 3
    colour = want[:, :, : 3 if channels > 2 else 1]
    assert np.abs(levels(photo) - colour).max() <= tolerance
    if channels in (2, 4):
        assert np.abs(photo.alpha.astype(int) - want[:, :, -1]).max() <= tolerance
        assert photo.metadata.extra_sample == extra[338][1][0]
    assert capfd.readouterr() == ("", "")


def test_a_jpeg_compressed_tiff_with_holes(capfd) -> None:
    array = ramp()
    fields, _ = picture(array, {262: (3, (6,)), 530: (3, (1, 1))}, rows=8, compression=7)
    strips = parts(array, jpeg)
    whole = levels(decode(file_of((fields, strips))))
    assert np.abs(whole - array).max() <= 3
    holed = levels(decode(file_of((fields, [strips[0], b"", strips[2]]))))
    np.testing.assert_array_equal(holed[8:16], 0)
    assert np.abs(holed[16:] - whole[16:]).max() <= 1
    assert capfd.readouterr() == ("", "")


def test_files_of_gdal() -> None:
    """Four channels in JPEG with tables that all strips share, and WebP: one picture, lossy in two ways."""
    one, other = (decode((DATA / name).read_bytes()) for name in ("rgb_and_infrared_jpeg.tif", "rgb_webp.tif"))
    assert one.rgb.shape == other.rgb.shape == (96, 128, 3)
    assert np.abs(one.rgb - other.rgb).mean() < 4 / 255
    assert (one.metadata.extra_sample, other.alpha) == (0, None)


@pytest.mark.parametrize(
    ("compression", "extra", "name"),
    [(34887, {}, "LERC"), (50002, {}, "JPEG XL"), (33003, {}, "JPEG 2000"), (34712, {}, "JPEG 2000"),
     (12345, {}, "number 12345"), (7, {338: (3, (0,)), 262: (3, (6,))}, "JPEG of 4 channels")],
)  # fmt: skip
def test_a_compression_that_is_not_read_is_named(compression, extra, name, capfd) -> None:
    data = file_of(picture(ramp(4 if extra else 3), extra, compression=compression))
    with pytest.raises(ItemError) as caught:
        decode(data)
    assert caught.value.reason == f"a TIFF whose compression ({name}) is not supported"
    assert capfd.readouterr() == ("", "")


def test_missing_strips_are_damage_and_print_nothing(capfd) -> None:
    fields, strips = picture(ramp(3), compression=8, pack=zlib.compress)
    for data in (file_of((fields, strips[:2])), file_of((fields, strips))[:-40]):
        with pytest.raises(ItemError, match="damaged image"):
            decode(data)
    fields[278] = (3, (0,))
    with pytest.raises(ItemError, match="a size is 0"):
        decode(file_of((fields, strips)))
    assert capfd.readouterr() == ("", "")


def test_one_strip_without_its_size() -> None:
    array = ramp()
    data = file_of(picture(array, rows=H))
    page = tifffile.TiffFile(io.BytesIO(data)).pages[0]
    at = page.tags[279].offset
    photo = decode(data[:at] + struct.pack("<H", 65000) + data[at + 2 :])
    np.testing.assert_array_equal(levels(photo), array)


# --- masks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bits", [1, 8])
def test_an_internal_mask_is_written_again_or_named(order, big, dtype, bits) -> None:
    array = ramp(3, dtype)
    valid = (ramp(1) > 90).astype(np.uint8)
    mask = picture(valid * (255 if bits == 8 else 1), {254: (4, (4,)), 262: (3, (4,))}, order, bits=bits,
                   pack=zlib.compress, compression=8)  # fmt: skip
    tiny = picture(valid[::4, ::4], {254: (4, (5,)), 262: (3, (4,))}, order, bits=1)
    photo = decode(file_of(picture(array, {}, order), mask, tiny, order=order, big=big))
    assert photo.pages == 1
    result = encode(photo, darker(photo))
    with tifffile.TiffFile(io.BytesIO(result)) as file:
        assert len(file.pages) == 2
        assert file.pages[1].subfiletype == 4
        assert int(file.pages[1].photometric) == 4
        np.testing.assert_array_equal(file.pages[1].asarray(), valid[:, :, 0] > 0)
        assert np.abs(file.pages[0].asarray().astype(int) - array / 2).max() <= 1
    assert dropped(photo, result) == ()
    again = decode(result)
    assert (again.pages, again.metadata.mask) == (1, photo.metadata.mask)
    for format in ("PNG", "JPEG"):
        assert dropped(photo, encode(photo, photo.rgb, format), format) == ("internal mask",)
    assert dropped(photo, encode(photo, photo.rgb)) == ()  # the very file


def test_a_damaged_mask_is_named() -> None:
    mask = picture(ramp(1), {254: (4, (4,)), 262: (3, (4,)), 259: (3, (34887,))})
    photo = decode(file_of(picture(ramp()), mask))
    assert dropped(photo, encode(photo, darker(photo))) == ("internal mask",)
