"""Pictures in a TIFF file: which of them is the photograph, and its pixels.

Pillow decodes the compressions, through libtiff. It does not choose the photograph among previews and masks, it reads
no 16-bit colour, no holes in a file, and some orders of bits wrongly. So it is given a new directory, appended to the
file, that describes what it can read.

Source of the layout: TIFF 6.0 and its supplements 1 and 2; sparse files as GDAL writes them.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idsr_cli.errors import ItemError
from idsr_cli.images.metadata import tiff_directory as directories
from idsr_cli.images.opener import check_size, open_image

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

NO_RANGE = "convert the image to 8 or 16 bits per channel first"
# NewSubfileType: bits of a preview, of a mask, of a map of depth.
_REDUCED, _MASK, _DEPTH = 1, 4, 8
# PhotometricInterpretation of a camera's sensor values: a colour filter array, and linear raw.
_SENSOR = frozenset({32803, 34892})
# Raw files that do not say so in a directory begin with these after the header: Canon's, Phase One's.
_RAW_MARKS = (b"CR\2\0", b"IIIITwaR", b"MMMMRawT")
_JPEG, _WEBP = 7, 50001
_FAX = frozenset({2, 3, 4})
# Compressions for which libtiff applies the predictor: LZW, deflate (two codes), LZMA, Zstandard.
_PREDICTED = frozenset({5, 8, 32946, 34925, 50000})
_READ = frozenset({1, *_FAX, 5, 6, _JPEG, 8, 32773, 32946, 34925, 50000, _WEBP})
_NAMES = {
    32767: "Sony raw", 32771: "word-aligned CCITT", 32809: "ThunderScan", 33003: "JPEG 2000", 33005: "JPEG 2000",
    34661: "JBIG", 34676: "SGILog", 34677: "SGILog", 34712: "JPEG 2000", 34713: "Nikon raw", 34887: "LERC",
    34892: "lossy JPEG", 50002: "JPEG XL", 52546: "JPEG XL", 65535: "Pentax raw",
}  # fmt: skip
# How Pillow names the compressions in which a hole is filled through it.
_FILLERS = {5: "tiff_lzw", 32773: "packbits", 34925: "lzma", 50000: "zstd"}
# Fields that decoding needs.
_DECODING = frozenset({
    256, 257, 258, 259, 262, 277, 278, 284, 292, 293, 317, 320, 322, 323, 332, 334, 338, 339, 347, *range(512, 522),
    *range(529, 533), 34675,
})  # fmt: skip
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class Picture:
    """The photograph of a TIFF file.

    Attributes:
        head: the file's header.
        fields: those of its directory.
        described: the same, and those of the file's first directory that it lacks: cameras describe a photograph there.
        pages: number of pictures in the file, without previews and masks.
        mask: fields of the mask of its size, or None.
        is_first: its directory is the file's first.
    """

    head: directories.Header
    fields: directories.Fields
    described: directories.Fields
    pages: int = 1
    mask: directories.Fields | None = None
    is_first: bool = False

    def value(self, tag: int, default: int) -> int:
        """The first whole number of a field."""
        return (directories.whole(self.fields, tag, self.head.order) or (default,))[0]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.value(256, 0), self.value(257, 0)

    @property
    def bits(self) -> int:
        """Most bits of a channel."""
        return max(directories.whole(self.fields, 258, self.head.order, (1,)))


# --- which picture ---------------------------------------------------------------------------------------------------


def find(data: bytes) -> Picture | None:
    """The photograph of a TIFF file; None for any other file.

    It is the first picture that is not marked as a preview or a mask, of those that follow each other and then of those
    below them.

    Raises:
        ItemError: raw, or nothing but previews.
        struct.error: the file is cut short.
    """
    head = directories.header(data)
    if head is None:
        return None
    chain: list[directories.Fields] = []
    at, seen = head.first, set()
    while at and at not in seen:
        seen.add(at)
        fields, at = directories.read(data, at, head)
        chain.append(fields)
    below, lost = _below(data, head, chain, seen)
    everything = chain + below
    if data[8:16].startswith(_RAW_MARKS) or any(_first(each, 262, head) in _SENSOR for each in everything):
        raise ItemError(
            "a raw photograph, which needs developing; its preview is not taken for it", hint="convert it to TIFF first"
        )
    whole = [fields for fields in chain if _is_whole(fields, head)]
    largest = max((_area(fields, head) for fields in whole), default=0)
    # Levels of a pyramid may lie below a picture without being marked, and are smaller.
    whole += [fields for fields in below if _is_whole(fields, head) and _area(fields, head) > largest]
    if not whole:
        if lost:
            raise struct.error("a directory is cut short")
        raise ItemError("holds only a preview of a photograph (marked as reduced), or a mask, and not the photograph")
    main = whole[0]
    masks = [fields for fields in chain if _is_mask_of(fields, main, head)]
    return Picture(head, main, {**chain[0], **main}, len(whole), masks[0] if masks else None, main is chain[0])


def _below(
    data: bytes, head: directories.Header, chain: list[directories.Fields], seen: set[int]
) -> tuple[list[directories.Fields], bool]:
    """Directories below these, nested ones too, and True if one of them cannot be read."""
    found: list[directories.Fields] = []
    pending = list(chain)
    lost = False
    while pending:
        for at in directories.whole(pending.pop(0), directories.SUB_DIRECTORIES, head.order):
            if at in seen:
                continue
            seen.add(at)
            try:
                fields, _ = directories.read(data, at, head)
            except struct.error:
                lost = True
                continue
            found.append(fields)
            pending.append(fields)
    return found, lost


def _first(fields: directories.Fields, tag: int, head: directories.Header, default: int = 0) -> int:
    return (directories.whole(fields, tag, head.order) or (default,))[0]


def _area(fields: directories.Fields, head: directories.Header) -> int:
    return _first(fields, 256, head) * _first(fields, 257, head)


def _is_whole(fields: directories.Fields, head: directories.Header) -> bool:
    # The older SubfileType says 2 for a preview.
    return not _first(fields, 254, head) & (_REDUCED | _MASK | _DEPTH) and _first(fields, 255, head) != 2


def _is_mask_of(fields: directories.Fields, main: directories.Fields, head: directories.Header) -> bool:
    is_mask = _first(fields, 254, head) & (_REDUCED | _MASK) == _MASK
    return is_mask and all(_first(fields, tag, head) == _first(main, tag, head) for tag in (256, 257))


# --- what can be read ------------------------------------------------------------------------------------------------


def check(picture: Picture, length: int) -> None:
    """Refuse what cannot be decoded, or would be decoded wrongly.

    Args:
        picture: the photograph.
        length: of the file, bytes.

    Raises:
        ItemError: with the reason.
    """
    order = picture.head.order
    bits = set(directories.whole(picture.fields, 258, order, (1,)))
    kinds = set(directories.whole(picture.fields, 339, order, (1,)))
    channels, photometric, compression = picture.value(277, 1), picture.value(262, 1), picture.value(259, 1)
    if len(bits) > 1 or not bits <= {1, 2, 4, 8, 16} or not kinds <= {1, 4}:
        named = {2: "signed", 3: "float"}.get(max(kinds), "integer")
        depth = "/".join(map(str, sorted(bits)))
        raise ItemError(f"{depth}-bit {named} pixels have no agreed range", hint=NO_RANGE)
    colours = {2: 3, 5: 4, 6: 3, 8: 3}.get(photometric, 1)
    if channels > colours + 1 or (photometric == 5 and channels > 4):
        raise ItemError(f"has {channels} channels", hint="keep the colours, and at most one other channel")
    if photometric not in (0, 1, 2) and bits == {16}:
        raise ItemError("16-bit pixels that are neither grey nor RGB", hint="convert the image to RGB first")
    check_size(*picture.size)
    by_parts = _is_by_parts(picture)
    # libjpeg gives four channels as they are stored, and does not know two.
    strange = (
        compression == _JPEG
        and by_parts
        and ((photometric == 6 and channels != 3) or (channels == 2 and not _is_planar(picture)))
    )
    if compression not in _READ or strange or (by_parts and bits != {8}):
        name = {_JPEG: "JPEG", _WEBP: "WebP"}.get(compression, _NAMES.get(compression, f"number {compression}"))
        more = f" of {channels} channels" if strange else f" with {max(bits)} bits" if by_parts else ""
        raise ItemError(
            f"a TIFF whose compression ({name}{more}) is not supported", hint="save it with another, or none"
        )
    starts, sizes = _segments(picture, length)
    if any(start + size > length for start, size in zip(starts, sizes, strict=True)):
        raise ItemError("damaged image: it is cut short")  # libtiff would print to standard error
    if 0 in sizes and compression in _FAX | {6} | ({_JPEG} if not by_parts else set()):
        raise ItemError("a TIFF with holes in this compression is not supported", hint="save it without holes")


def _is_planar(picture: Picture) -> bool:
    return picture.value(284, 1) == 2 and picture.value(277, 1) > 1


def _is_by_parts(picture: Picture) -> bool:
    """True if each strip or tile is an image file of its own, which libtiff in Pillow does not read."""
    compression, photometric, channels = picture.value(259, 1), picture.value(262, 1), picture.value(277, 1)
    if compression == _JPEG:
        has_holes = 0 in directories.whole(picture.fields, 325 if 322 in picture.fields else 279, picture.head.order)
        return photometric != 5 and (channels in (2, 4) or has_holes)
    return compression == _WEBP


def _grid(picture: Picture) -> tuple[int, int, int, int]:
    """Width and height of a strip or tile, and their number across and down."""
    width, height = picture.size
    if 322 in picture.fields:
        across, down = picture.value(322, 0), picture.value(323, 0)
    else:
        across, down = width, min(picture.value(278, height), height)
    if min(width, height, across, down) <= 0:
        raise ItemError("damaged image: a size is 0")
    return across, down, -(-width // across), -(-height // down)


def _segments(picture: Picture, length: int) -> tuple[list[int], list[int]]:
    """Offset and bytes of each strip or tile, plane by plane; 0 bytes = a hole."""
    where, how_long = (324, 325) if 322 in picture.fields else (273, 279)
    starts, sizes = (list(directories.whole(picture.fields, tag, picture.head.order)) for tag in (where, how_long))
    across, down, columns, rows = _grid(picture)
    planes = picture.value(277, 1) if _is_planar(picture) else 1
    count = columns * rows * planes
    if len(starts) < count and picture.value(259, 1) != 6:  # the old JPEG has its own fields for this
        raise ItemError("damaged image: strips or tiles are missing")
    if not sizes and starts:
        # Old programs leave the sizes out. In one strip the rest of the file is taken.
        spread = 1 if planes > 1 else picture.value(277, 1)
        plain = (across * spread * picture.bits + 7) // 8 * down
        is_plain = picture.value(259, 1) == 1
        sizes = [min(plain, length - start) if is_plain else length - start for start in starts]
    if len(sizes) < len(starts):
        raise ItemError("damaged image: strips or tiles are missing")
    count = min(count, len(starts))
    starts, sizes = starts[:count], sizes[:count]
    return starts, [0 if start == 0 else size for start, size in zip(starts, sizes, strict=True)]


# --- pixels ----------------------------------------------------------------------------------------------------------


def samples(data: bytes, picture: Picture) -> np.ndarray | None:
    """The pixels of a photograph that Pillow cannot decode in one piece; None if it can, from `plain_file`.

    Returns:
        (H, W, C) uint8 or uint16, C = 1 (grey), 2 (grey and another), 3 (RGB) or 4 (RGB and another). Colours that were
        multiplied by the transparency are divided by it.
    """
    extra = directories.whole(picture.fields, 338, picture.head.order)
    if _is_by_parts(picture):
        array = _parts(data, picture)
    elif picture.bits == 16 or (extra == (0,) and picture.bits == 8 and picture.value(262, 1) in (0, 1, 2)):
        array = _spread(data, picture)
    else:
        return None
    if picture.value(262, 1) == 0:  # white is zero
        array[:, :, 0] = _top(array) - array[:, :, 0]
    if array.shape[2] in (2, 4) and extra == (1,):
        array = _divided(array)
    return array


def _top(array: np.ndarray) -> int:
    """The largest value of an array's type."""
    return 2 ** (8 * array.dtype.itemsize) - 1


def _divided(array: np.ndarray) -> np.ndarray:
    import numpy as np

    top = _top(array)
    alpha = np.maximum(array[:, :, -1:], 1).astype(np.float64)
    array[:, :, :-1] = np.minimum(np.round(array[:, :, :-1] * float(top) / alpha), top)
    return array


def plain_file(data: bytes, picture: Picture) -> bytes:
    """The file with a new directory for the photograph: the only one, with no orientation, in plain order of bits.

    Pillow and OpenCV apply an orientation when they load a TIFF (unlike a JPEG or PNG); it cannot be switched off. A
    file that is so already is not copied.
    """
    fields = {tag: field for tag, field in picture.fields.items() if tag in _DECODING}
    starts, sizes = _segments(picture, len(data))
    tags = set(picture.fields)
    is_whole = 0 not in sizes and ({273, 279} <= tags or {324, 325} <= tags)
    is_usual = data[2 if picture.head.order == "<" else 3] == 42  # Pillow does not read every BigTIFF
    if picture.is_first and is_whole and is_usual and not tags & {266, directories.ORIENTATION}:
        return data
    fill = _filler(picture, picture.value(277, 1)) if 0 in sizes else b""
    return _with_directory(data, picture, fields, starts, sizes, fill)


def _with_directory(
    data: bytes,
    picture: Picture,
    fields: directories.Fields,
    starts: list[int],
    sizes: list[int],
    fill: bytes,
) -> bytes:
    """The file with one directory, appended to it. `fill` is a compressed strip or tile, the content of holes."""
    order, size = picture.head.order, len(data)
    if picture.value(266, 1) == 2 and picture.value(259, 1) not in (6, _JPEG, _WEBP):
        data = data.translate(_REVERSED)
    tail = b"\0" * (size % 2) + fill + b"\0" * (len(fill) % 2)
    holes = [length == 0 for length in sizes]
    starts = [size + size % 2 if hole else start for start, hole in zip(starts, holes, strict=True)]
    sizes = [len(fill) if hole else length for length, hole in zip(sizes, holes, strict=True)]
    fields = {
        tag: directories.numbers(order, directories.LONG, directories.whole(fields, tag, order))
        if field.kind in (16, 17, 18)
        else field
        for tag, field in fields.items()
    }
    tiled = 322 in picture.fields
    if starts:
        fields[324 if tiled else 273] = directories.numbers(order, directories.LONG, starts)
        fields[325 if tiled else 279] = directories.numbers(order, directories.LONG, sizes)
    at = size + len(tail)
    directory = directories.write(fields, order, at)
    return b"".join([directories.file_header(order, at), memoryview(data)[8:], tail, directory])


def _spread(data: bytes, picture: Picture) -> np.ndarray:
    """(H, W, C) pixels of 8 or 16 bits in strips or tiles, chunky or planar, of any lossless compression.

    The new directory describes a grey image: the samples of a pixel become neighbouring pixels of a wider image, or
    each plane becomes an image. The predictor would then use the wrong neighbours, so its differences are summed here.
    """
    import numpy as np

    value, order = picture.value, picture.head.order
    width, height = picture.size
    channels, bits, compression = value(277, 1), picture.bits, value(259, 1)
    planar = _is_planar(picture)
    predictor = value(317, 1) if compression in _PREDICTED else 1
    undo = not planar and channels > 1 and predictor == 2
    spread = 1 if planar else channels
    tiled = 322 in picture.fields
    common = {256: width * spread, 257: height} | (
        {322: value(322, 0) * spread, 323: value(323, 0)} if tiled else {278: min(value(278, height), height)}
    )
    fields = {tag: directories.numbers(order, directories.LONG, [each]) for tag, each in common.items()}
    for tag, each in {258: bits, 259: compression, 262: 1, 277: 1, 317: 1 if undo else predictor}.items():
        fields[tag] = directories.numbers(order, directories.SHORT, [each])
    starts, sizes = _segments(picture, len(data))
    planes = channels if planar else 1
    each = len(starts) // planes
    images = []
    for plane in range(planes):
        part = slice(plane * each, (plane + 1) * each)
        fill = _filler(picture, spread) if 0 in sizes[part] else b""
        file = _with_directory(data, picture, fields, starts[part], sizes[part], fill)
        images.append(np.array(open_image(file)).astype(f"u{bits // 8}"))
    array = np.dstack(images) if planar else images[0].reshape(height, width, channels)
    if undo:
        step = value(322, width) if tiled else width
        for left in range(0, width, step):
            array[:, left : left + step] = np.cumsum(array[:, left : left + step], axis=1, dtype=array.dtype)
    return array


def _nodata(picture: Picture) -> int:
    """The value of pixels in holes: what GDAL's field for it says, or 0."""
    field = picture.fields.get(42113)
    try:
        value = float(field.data.split(b"\0")[0]) if field else 0.0
    except ValueError:
        return 0
    return int(value) if 0 <= value < 2**picture.bits and value == int(value) else 0


def _filler(picture: Picture, spread: int) -> bytes:
    """A compressed strip or tile of the value of holes; `spread` samples a pixel."""
    import numpy as np
    from PIL import Image

    across, down, _, _ = _grid(picture)
    bits, compression, value = picture.bits, picture.value(259, 1), _nodata(picture)
    if bits < 8:
        row = np.full((across * spread * bits + 7) // 8, sum(value << at for at in range(0, 8, bits)), np.uint8)
    else:
        numbers = np.full((across, spread), value, f"{picture.head.order}u{bits // 8}")
        if compression in _PREDICTED and picture.value(317, 1) == 2:
            numbers[1:] = 0
        row = numbers.reshape(-1).view(np.uint8)
    raw = np.broadcast_to(row, (down, len(row)))
    if compression == 1:
        return raw.tobytes()
    if compression in (8, 32946):
        packed = zlib.compress(raw.tobytes())
    else:
        stream = io.BytesIO()
        strip = Image.fromarray(np.ascontiguousarray(raw))
        strip.save(stream, "TIFF", compression=_FILLERS[compression], strip_size=raw.size)
        file = stream.getvalue()
        head = directories.header(file)
        assert head is not None
        fields, _ = directories.read(file, head.first, head)
        (start,), (size,) = (directories.whole(fields, tag, head.order) for tag in (273, 279))
        packed = file[start : start + size]
    return packed.translate(_REVERSED) if picture.value(266, 1) == 2 else packed


def _parts(data: bytes, picture: Picture) -> np.ndarray:
    """(H, W, C) uint8 pixels whose strips or tiles are JPEG or WebP files of their own."""
    import numpy as np

    width, height = picture.size
    channels = picture.value(277, 1)
    planes = channels if _is_planar(picture) else 1
    each = channels // planes
    across, down, columns, rows = _grid(picture)
    tables = picture.fields[347].data if 347 in picture.fields else b""
    starts, sizes = _segments(picture, len(data))
    array = np.full((height, width, channels), _nodata(picture), np.uint8)
    for i, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        if not size:
            continue
        plane, (row, column) = i // (rows * columns), divmod(i % (rows * columns), columns)
        file = data[start : start + size]
        if tables and picture.value(259, 1) == _JPEG:  # quantisation and code tables, which all parts share
            file = tables.removesuffix(b"\xff\xd9") + file[2:]
        image = open_image(file)
        part = np.asarray(_in_channels(image, each))
        if image.mode == "CMYK":  # which Pillow takes for ink, and turns round
            part = 255 - part
        part = part[:, :, None] if part.ndim == 2 else part
        top, left = row * down, column * across
        room = array[top : top + down, left : left + across, plane * each : (plane + 1) * each]
        if part.shape[0] < room.shape[0] or part.shape[1] < room.shape[1]:
            raise ItemError("damaged image: a strip or tile is too small")
        room[:] = part[: room.shape[0], : room.shape[1]]
    return array


def _in_channels(image: Image.Image, channels: int) -> Image.Image:
    """An image with this number of channels."""
    if len(image.getbands()) == channels:
        return image
    if image.mode in ("RGB", "RGBA") and channels in (3, 4):  # an opaque WebP has no alpha channel
        return image.convert("RGBA" if channels == 4 else "RGB")
    raise ItemError("damaged image: a strip or tile has another number of channels")


def mask(data: bytes, picture: Picture) -> np.ndarray | None:
    """(H, W) bool: the mask of the photograph, True where it is valid; None if there is none, or it is damaged."""
    import numpy as np

    if picture.mask is None:
        return None
    # Pillow does not know masks: it is given a picture of black and white.
    fields = picture.mask | {262: directories.numbers(picture.head.order, directories.SHORT, [1])}
    alone = Picture(picture.head, fields, fields)
    try:
        check(alone, len(data))
        if alone.value(277, 1) != 1:
            return None
        array = np.asarray(open_image(plain_file(data, alone)))
    except (ItemError, OSError, ValueError, SyntaxError, struct.error):
        return None
    return array > 0 if array.ndim == 2 else None
