"""HTML pages that are one file: style, script and pictures inside, nothing fetched, so they open offline."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# The browser itself holds the page to it: nothing is loaded from anywhere.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
# Control characters, lone surrogates, and marks that turn the direction of the text around them.
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def opening(title: str, styles: Sequence[Path] = ()) -> str:
    """The page up to its content.

    Args:
        title: plain text.
        styles: CSS files after the common `page.css`.
    """
    style = "".join(map(_read, (Path(__file__).with_name("page.css"), *styles)))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
    )


def closing(script: Path) -> str:
    """The page after its content, with a JavaScript file."""
    return f"<script>\n{_read(script)}</script>\n</body>\n</html>\n"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def text(value: object) -> str:
    """Any text, such as a file name, for use between tags or in a quoted attribute.

    Bytes that are no UTF-8, control characters and marks of direction become U+FFFD, so that a name cannot look like
    another one.
    """
    return escape(_UNSHOWN.sub("\ufffd", str(value)))


def webp(rgb: np.ndarray, quality: int) -> bytes:
    """(H, W, 3) uint8 -> the bytes of a lossy WebP; `quality` is 0..100."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(rgb).save(data, "WEBP", quality=quality)
    return data.getvalue()


def data_address(picture: bytes) -> str:
    """A WebP as the address of an image in a page."""
    return f"data:image/webp;base64,{base64.b64encode(picture).decode()}"
