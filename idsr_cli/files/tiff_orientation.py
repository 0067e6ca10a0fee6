"""Take the orientation tag out of a TIFF's bytes before decoding.

Both Pillow and OpenCV turn a TIFF by its orientation tag on loading (unlike a JPEG or PNG), and neither can be told
not to. Photographs are processed on the stored grid, so the tag is set to 1 for them and handed back separately.
"""

from __future__ import annotations

import struct

_ORIENTATION = 274
_SHORT = 3


def without_orientation(data: bytes) -> tuple[bytes, int]:
    """The bytes with orientation 1, and the orientation (1..8) that was there; other data comes back as is, with 1."""
    order = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}.get(data[:4])
    if order is None:
        return data, 1
    big = data[2:4] in (b"+\0", b"\0+")
    try:
        (directory,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, directory)
        first, step, value_at = (directory + 8, 20, 12) if big else (directory + 2, 12, 8)
        for entry in range(first, first + step * count, step):
            tag, kind = struct.unpack_from(order + "HH", data, entry)
            if tag == _ORIENTATION and kind == _SHORT:
                (orientation,) = struct.unpack_from(order + "H", data, entry + value_at)
                if not 2 <= orientation <= 8:
                    return data, 1
                upright = bytearray(data)
                struct.pack_into(order + "H", upright, entry + value_at, 1)
                return bytes(upright), orientation
    except struct.error:  # cut short; the decoder will say so
        pass
    return data, 1
