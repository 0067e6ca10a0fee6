"""Keypoint files: one module per format, one line here.

A writer turns keypoints and a description of how they were made (`meta`) into the bytes of a file, the same input into
the same bytes. `Keypoints` has one convention (see `idsr_cli.keypoints`); each writer converts to its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from idsr_cli.formats import colmap, lowe, npz, opencv, oxford, vlfeat
from idsr_cli.formats.descriptors import DescriptorKind, convert
from idsr_cli.keypoints import Keypoints

Meta = Mapping[str, Any]


@dataclass(frozen=True)
class FileFormat:
    """A way to write the keypoints of one photograph to one file.

    Attributes:
        suffix: appended to the full name of the photograph ("x.jpg" -> "x.jpg.npz").
        write: the writer; descriptors are of the kind that `meta["descriptors"]` says.
        kinds: descriptors that the format's readers take, the default first.
        is_text: the file is safe to print on a terminal.
    """

    suffix: str
    write: Callable[[Keypoints, Meta], bytes]
    kinds: tuple[DescriptorKind, ...]
    is_text: bool = True

    def encode(self, keypoints: Keypoints, meta: Meta) -> bytes:
        """The file's bytes.

        Args:
            keypoints: with SIFT descriptors, (N, 128) uint8.
            meta: how they were made; "descriptors" says which kind to write, "sift" has the fields of `SiftOptions`.

        Raises:
            ItemError: a number is NaN or infinite.
        """
        keypoints.check_finite()
        return self.write(convert(keypoints, meta["descriptors"]), meta)


FORMATS: dict[str, FileFormat] = {
    "npz": FileFormat(".npz", npz.encode, ("sift_u8", "rootsift_u8", "rootsift_f32"), is_text=False),
    "colmap": FileFormat(".txt", colmap.encode, ("rootsift_u8", "sift_u8")),
    "opencv": FileFormat(".yml", opencv.encode, ("sift_u8", "rootsift_u8", "rootsift_f32")),
    "lowe": FileFormat(".key", lowe.encode, ("sift_u8", "rootsift_u8")),
    "vlfeat": FileFormat(".sift", vlfeat.encode, ("sift_u8", "rootsift_u8")),
    "oxford": FileFormat(".oxford", oxford.encode, ("sift_u8", "rootsift_u8")),
}
