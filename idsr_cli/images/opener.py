"""Opening an image with Pillow: without warnings, and with our own limit on its size."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from idsr_cli.errors import ItemError

if TYPE_CHECKING:
    from PIL import Image

# Larger than the sensors of telephones and aerial cameras; Pillow's own limit refuses photographs of 200 megapixels.
# A picture of this size takes some 3 GB decoded.
MAX_PIXELS = 256_000_000

# Pillow's warnings and its size limit can only be switched off for the whole process, so one thread does it at a time.
_pillow_lock = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Switch off Pillow's warnings and its size limit, for one thread at a time."""
    from PIL import Image

    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bound, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = bound


def open_image(data: bytes) -> Image.Image:
    """An image whose header is read and whose pixels are not decoded yet."""
    from PIL import Image

    with quiet():
        return Image.open(io.BytesIO(data))


def open_file(file: BinaryIO) -> Image.Image:
    """An open file as an image whose header is read, and no more of the file than that if its kind allows."""
    from PIL import Image

    with quiet():
        return Image.open(file)


def check_size(width: int, height: int) -> None:
    """Refuse an image too large to hold in memory.

    Raises:
        ItemError: more pixels than `MAX_PIXELS`.
    """
    if width * height > MAX_PIXELS:
        raise ItemError(f"too large: {width}x{height} pixels, the limit is {MAX_PIXELS // 1_000_000} million")
