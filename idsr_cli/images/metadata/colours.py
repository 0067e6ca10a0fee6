"""Colours that a file describes by numbers (ITU-T H.273, "cICP" or "nclx"), as a colour profile for other formats.

Source of the numbers: ITU-T H.273, tables 2 and 3. Of the profile: ICC.1:2022 (version 4), matrix and curves.
"""

from __future__ import annotations

import struct

# Red, green and blue, and the white point: x and y of each.
Chromaticities = tuple[float, float, float, float, float, float, float, float]

_D65, _C = (0.3127, 0.329), (0.31, 0.316)
_PRIMARIES: dict[int, Chromaticities] = {
    1: (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *_D65),  # BT.709, sRGB
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, *_C),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *_D65),
    6: (0.63, 0.34, 0.31, 0.595, 0.155, 0.07, *_D65),
    7: (0.63, 0.34, 0.31, 0.595, 0.155, 0.07, *_D65),
    8: (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, *_C),
    9: (0.708, 0.292, 0.17, 0.797, 0.131, 0.046, *_D65),  # BT.2020
    11: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.314, 0.351),  # DCI P3
    12: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, *_D65),  # Display P3
    22: (0.63, 0.34, 0.295, 0.605, 0.155, 0.077, *_D65),
}
SRGB = _PRIMARIES[1]
_BT_709 = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
# Parameters of the curve to linear light: a power, or power, factor and offset above a limit, and a slope below it.
_CURVES: dict[int, tuple[float, ...]] = {
    1: _BT_709, 4: (2.2,), 5: (2.8,), 6: _BT_709, 8: (1.0,), 14: _BT_709, 15: _BT_709,
    13: (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
}  # fmt: skip
_UNKNOWN = 2
_D50 = (0.9642, 1.0, 0.8249)
# From the cone response of one white to another: Bradford.
_BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))


def is_plain(cicp: tuple[int, int]) -> bool:
    """True for colours that readers take for sRGB, or that are not known."""
    return cicp[0] in (1, _UNKNOWN) and cicp[1] in (1, _UNKNOWN, 6, 13, 14, 15)


def is_unknown(cicp: tuple[int, int]) -> bool:
    """True for numbers that say nothing which readers do not take for granted."""
    return _UNKNOWN in cicp and is_plain(cicp)


def profile(cicp: tuple[int, int], grey: bool) -> bytes:
    """A colour profile of these colours; b"" where a profile cannot say them (PQ, HLG).

    Args:
        cicp: numbers of the primaries and of the transfer function; an unknown one counts as sRGB's.
        grey: for pixels with one channel.
    """
    primaries, transfer = (_PRIMARIES.get(cicp[0] if cicp[0] != _UNKNOWN else 1),
                           _CURVES.get(cicp[1] if cicp[1] != _UNKNOWN else 13))  # fmt: skip
    if primaries is None or transfer is None:
        return b""
    return _profile(primaries, transfer, grey, f"H.273 {cicp[0]}/{cicp[1]}")


def profile_of_gamma(gamma: float | None, primaries: Chromaticities | None, grey: bool) -> bytes:
    """A colour profile for a PNG's gamma (of the file, such as 0.45455) and chromaticities; None = sRGB's.

    b"" if they say sRGB, or no colours that there are.
    """
    if (gamma is not None and gamma <= 0) or (primaries is not None and min(primaries[1::2]) <= 0):
        return b""
    near_gamma = gamma is None or abs(gamma - 0.45455) < 0.002
    near = primaries is None or max(abs(a - b) for a, b in zip(primaries, SRGB, strict=True)) < 0.002
    if near_gamma and near:
        return b""
    try:
        curve = _CURVES[13] if gamma is None else (1 / gamma,)
        return _profile(primaries or SRGB, curve, grey, "PNG gAMA and cHRM")
    except (ArithmeticError, ValueError, struct.error):
        return b""


def _profile(primaries: Chromaticities, curve: tuple[float, ...], grey: bool, name: str) -> bytes:
    import numpy as np

    x, y = np.array(primaries[::2]), np.array(primaries[1::2])
    columns = np.stack([x / y, np.ones(4), (1 - x - y) / y])  # XYZ of red, green, blue, white, each of brightness 1
    bradford = np.array(_BRADFORD)
    ratio = (bradford @ np.array(_D50)) / (bradford @ columns[:, 3])
    adapt = np.linalg.solve(bradford, ratio[:, None] * bradford)
    scale = np.linalg.solve(columns[:, :3], columns[:, 3])
    colorants = adapt @ (columns[:, :3] * scale)
    response = b"para" + struct.pack(">4xHxx", 0 if len(curve) == 1 else 3) + _fixed(*curve)
    tags = {b"desc": _text(name), b"cprt": _text("CC0"), b"wtpt": b"XYZ \0\0\0\0" + _fixed(*_D50)}
    if grey:
        tags[b"kTRC"] = response
    else:
        tags[b"chad"] = b"sf32\0\0\0\0" + _fixed(*adapt.ravel())
        for i, letter in enumerate((b"r", b"g", b"b")):
            tags[letter + b"XYZ"] = b"XYZ \0\0\0\0" + _fixed(*colorants[:, i])
            tags[letter + b"TRC"] = response
    at = 128 + 4 + 12 * len(tags)
    table, content = [struct.pack(">I", len(tags))], b""
    for tag, data in tags.items():
        table.append(struct.pack(">4sII", tag, at + len(content), len(data)))
        content += data + b"\0" * (-len(data) % 4)
    head = struct.pack(
        ">I4sI4s4s4s12s4s28s12s48x", at + len(content), b"", 0x04400000, b"mntr", b"GRAY" if grey else b"RGB ", b"XYZ ",
        struct.pack(">6H", 2026, 1, 1, 0, 0, 0), b"acsp", b"", _fixed(*_D50),
    )  # fmt: skip
    return head + b"".join(table) + content


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(encoded), 28) + encoded
