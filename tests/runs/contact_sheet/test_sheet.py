"""The contact sheet: one file that needs no other, states what became of each photograph, and is complete or absent."""

import errno
import re
import tempfile
import tracemalloc
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from idsr_cli.errors import ItemError, UsageError
from idsr_cli.images.photo import Photo
from idsr_cli.rain_estimate import Rain
from idsr_cli.runs.batch import Result, Summary
from idsr_cli.runs.contact_sheet.entry import entry_html
from idsr_cli.runs.contact_sheet.sheet import ContactSheet, check_page
from idsr_cli.runs.contact_sheet.thumbnails import LARGE, Thumbnails, make

EVIL = '<img src=x onerror="alert(1)">&\'\n\u202e.png'


class Page(HTMLParser):
    """Collects tags with their attributes, and checks that they nest."""

    VOID = ("meta", "input", "img")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def written(folder: Path, *results: Result, planned: int | None = None, **summary: Any) -> str:
    sheet = ContactSheet(folder / "new" / "sheet.html", "idsr sift")
    for result in results:
        sheet.add(result)
    sheet.facts["command"] = EVIL
    sheet.write(planned or len(results), Summary(seconds=12.3, **summary))
    assert [path.name for path in (folder / "new").iterdir()] == ["sheet.html"]  # nothing is left beside it
    return (folder / "new" / "sheet.html").read_text(encoding="utf-8")


def test_every_state_is_told(tmp_path: Path, a_result: Callable[..., Result], thumbnails: Thumbnails) -> None:
    page = written(
        tmp_path,
        a_result("1.jpg", derained=True, keypoints=12, thumbnails=thumbnails, rain=Rain(31.418, 0.41, -8.2)),
        a_result("2.jpg", derained=False, keypoints=5, rain=Rain(0.25, 0.0, None)),
        a_result("3.jpg", derained=None, keypoints=0),
        a_result("4.jpg", status="failed"),
        a_result("5.jpg", status="skipped", stale="made with other settings (weights)"),
    )
    found = {entry["data-order"]: entry for entry in Page(page).all("li")}
    states = ["derained", "unchanged", "plain", "failed", "skipped"]
    assert [found[str(i)]["data-state"] for i in range(5)] == states
    assert [found[str(i)].get("data-rain") for i in range(4)] == ["31.42", "0.25", None, None]
    assert (found["0"]["data-keypoints"], found["0"]["data-change"], found["0"]["data-seconds"]) == ("12", "5", "1.500")
    assert found["2"]["data-keypoints"] == "0"
    assert (found["1"]["data-keypoints"], found["1"]["data-change"]) == ("5", "0")
    assert "data-seconds" not in found["4"]
    for words in (
        "31.4 <small>",
        "41 %",
        "-8°",
        "7 → 12",
        "left as it is (1)",
        "it is &lt;b&gt;torn",
        "made with other settings (weights)",
        "12.3 s",
    ):
        assert words in page
    boxes = [box["value"] for box in Page(page).all("input") if box.get("name") == "state"]
    assert boxes == states
    orders = [button["data-order"] for button in Page(page).all("button")]
    assert orders == ["order", "name", "rain", "keypoints", "change", "seconds"]


def test_a_skipped_photograph_and_a_clip(
    tmp_path: Path, a_result: Callable[..., Result], thumbnails: Thumbnails
) -> None:
    page = written(
        tmp_path,
        a_result("done.jpg", status="skipped", thumbnails=thumbnails),
        a_result("a.mp4", derained=True, keypoints=500, frames=30, thumbnails=thumbnails),
    )
    skipped, clip = Page(page).all("li")
    assert skipped["data-rain"] == f"{thumbnails.difference:.4g}"  # between the two files
    assert "data-seconds" not in skipped
    # The keypoints are those of all frames, and only the first is shown.
    assert clip["data-keypoints"] == "500"
    assert "data-change" not in clip
    assert "30, the first is shown" in page


def test_only_what_there_is_can_be_sorted_and_filtered(tmp_path: Path, a_result: Callable[..., Result]) -> None:
    page = Page(written(tmp_path, a_result(derained=True), a_result(derained=True)))
    assert [button["data-order"] for button in page.all("button")] == ["order", "name", "seconds"]
    assert [box["value"] for box in page.all("input") if box.get("name") == "state"] == ["derained"]
    assert not [box for box in page.all("input") if box.get("id") == "marks"]


def test_the_page_is_one_file_and_names_are_text(
    tmp_path: Path, a_result: Callable[..., Result], thumbnails: Thumbnails
) -> None:
    text = written(tmp_path, a_result(EVIL, derained=True, keypoints=12, thumbnails=thumbnails))
    page = Page(text)
    assert "<img src=x" not in text
    assert "\u202e" not in text
    attributes = [pair for _, attributes in page.tags for pair in attributes.items()]
    assert not [name for name, _ in attributes if name.startswith("on")]
    for name, value in attributes:  # nothing is fetched
        if name in ("href", "src"):
            assert value.startswith("data:image/webp;base64,")
    assert "default-src 'none'" in text
    assert re.findall("https?:|@import", text) == []
    assert set(re.findall(r"url\((.)", text)) == {"#"}


def test_the_page_works_with_a_keyboard_and_a_screen_reader(
    tmp_path: Path, a_result: Callable[..., Result], thumbnails: Thumbnails
) -> None:
    text = written(tmp_path, a_result("a.jpg", derained=True, keypoints=12, thumbnails=thumbnails))
    page = Page(text)
    pictures, [slider] = page.all("img"), [box for box in page.all("input") if box["type"] == "range"]
    assert [picture["alt"] for picture in pictures] == [
        "a.jpg, the photograph",
        "a.jpg, derained",
        "a.jpg, the removed rain, 4 times as strong",
    ]
    assert slider["aria-label"].startswith("a.jpg: ")
    assert slider["aria-valuetext"]
    assert not [attributes for _, attributes in page.tags if "tabindex" in attributes]
    assert {tag for tag, _ in page.tags} >= {"main", "h1", "h2", "h3", "ol", "figure", "figcaption", "fieldset", "dl"}
    for words in ("prefers-color-scheme: dark", "prefers-reduced-motion", ":focus-visible", ":focus-within"):
        assert words in text
    assert 'lang="en"' in text
    assert 'name="viewport"' in text


def test_500_photographs_take_less_than_30_megabytes(a_result: Callable[..., Result], points) -> None:
    """The worst there is: noise, and more keypoints than are drawn."""
    rng = np.random.default_rng(0)
    noise = rng.random((600, 800, 3), dtype=np.float32)
    many = [points(rng.random((3000, 2)) * (799, 599), (800, 600), rng.uniform(1, 20, 3000)) for _ in range(2)]
    shown = make(Photo(noise), LARGE, noise[::-1], *many)
    entry = entry_html(499, a_result(f"folder/{'x' * 200}.jpg", derained=True, keypoints=3000, thumbnails=shown))
    assert 40_000 < len(entry) < 30_000_000 / 500 - 100  # and the page around them


def test_memory_does_not_grow(tmp_path: Path, a_result: Callable[..., Result]) -> None:
    sheet = ContactSheet(tmp_path / "sheet.html", "idsr derain")
    one = a_result(derained=True, thumbnails=Thumbnails((400, 300), bytes(12_000), bytes(12_000), bytes(12_000), 5.0))
    sheet.add(one)
    tracemalloc.start()
    for _ in range(100):
        sheet.add(one)
    sheet.write(1, Summary())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "sheet.html").stat().st_size > 4_800_000
    assert peak < 2_500_000  # one photograph, and a block of the copy


def test_a_run_that_ended_early_says_so(tmp_path: Path, a_result: Callable[..., Result]) -> None:
    text = written(tmp_path, a_result(derained=True), planned=3, interrupted=True)
    assert "The run was interrupted: 2 of 3 are not here." in text
    assert "stopped early: 1 of 2" in written(tmp_path, a_result(derained=True), planned=2, stopped=True)
    empty = written(tmp_path, planned=2, interrupted=True)
    Page(empty)
    assert "0 photographs" in empty


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, a_result: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **more: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "sheet.html"
    path.write_text("old")
    sheet = ContactSheet(path, "idsr derain")
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    sheet.add(a_result(derained=True))  # the run goes on
    sheet.add(a_result(derained=True))
    with pytest.raises(ItemError, match=r"sheet.html: the contact sheet cannot be written: no space left"):
        sheet.write(1, Summary())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_page_that_cannot_be_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("")
    check_page(tmp_path / "new" / "x.HTM")
    for name, words in (
        ("x.jpg", "writes an HTML page"),
        ("-", "writes an HTML page"),
        ("folder.html", "is a folder"),
        ("file/x.html", "is a file"),
    ):
        with pytest.raises(UsageError, match=words):
            check_page(tmp_path / name)
