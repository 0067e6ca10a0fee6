"""Opening an image with Pillow: quietly, and with a bound on its size."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from idsr_cli.errors import ItemError

if TYPE_CHECKING:
    from PIL import Image

# Beyond the largest sensors of telephones and aerial cameras; Pillow's own bound refuses photographs of 200 megapixels.
# A picture this large takes some 3 GB decoded.
MAX_PIXELS = 256_000_000

# Pillow warns about odd metadata, and has one bound for the process. Both can be set aside only for all threads.
_pillow_lock = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings and no bound on size, for one thread at a time."""
    from PIL import Image

    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bound, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = bound


def open_image(data: bytes) -> Image.Image:
    """An image with its header read and its pixels not yet decoded."""
    from PIL import Image

    with quiet():
        return Image.open(io.BytesIO(data))


def check_size(width: int, height: int) -> None:
    """Refuse what would fill the memory.

    Raises:
        ItemError: more pixels than `MAX_PIXELS`.
    """
    if width * height > MAX_PIXELS:
        raise ItemError(f"too large: {width}x{height} pixels, the limit is {MAX_PIXELS // 1_000_000} million")
