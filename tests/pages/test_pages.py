"""The frame of a page: complete, forbidden to load anything, and safe against file names."""

from pathlib import Path

import numpy as np
import pytest

from idsr_cli import pages


def test_a_page_is_whole_and_may_load_nothing(tmp_path: Path) -> None:
    (tmp_path / "own.css").write_text(".own { color: red }\n")
    (tmp_path / "own.js").write_text("let own;\n")
    page = pages.opening("a < b", [tmp_path / "own.css"]) + "<p>c</p>" + pages.closing(tmp_path / "own.js")
    assert page.startswith("<!doctype html>")
    assert "<title>a &lt; b</title>" in page
    assert "default-src 'none'" in page
    assert page.index("prefers-color-scheme: dark") < page.index(".own {") < page.index("<p>c</p>")
    assert page.endswith("let own;\n</script>\n</body>\n</html>\n")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<b>\"&'", "&lt;b&gt;&quot;&amp;&#x27;"),
        ("caf\u00e9 \u96e8", "caf\u00e9 \u96e8"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\ufffd"),
        ("\ud800", "\ufffd"),  # a lone surrogate that stands for no byte
        ("a\nb\x1b[31m", "a\ufffdb\ufffd[31m"),
        ("gpj\u202e.png", "gpj\ufffd.png"),  # would be read backwards
    ],
)
def test_names_are_shown_as_text(name: str, shown: str) -> None:
    assert pages.text(name) == shown
    shown.encode()


def test_pictures_are_in_the_page() -> None:
    data = pages.webp(np.full((8, 12, 3), 200, np.uint8), 50)
    assert data[8:12] == b"WEBP"
    assert pages.data_address(data).startswith("data:image/webp;base64,UklGR")
