"""The HTML page: complete, in one file, safe against file names, and bounded in size."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from idsr_cli.evaluation import pictures, report_tables
from idsr_cli.evaluation.charts import HEIGHT, WIDTH, Line, histogram, line_chart, nice_step, nice_ticks
from idsr_cli.evaluation.evaluate import RAINY, Attempt, Row
from idsr_cli.evaluation.metrics import Recovered
from idsr_cli.evaluation.pictures import Example, best_and_worst, circles, data_address, panel_html, panels
from idsr_cli.evaluation.report import Report, html_page
from idsr_cli.evaluation.result import Result
from idsr_cli.keypoints import Keypoints

EVIL = '<img src=x onerror="alert(1)">&\'.png'


class Page(HTMLParser):
    """Counts tags and checks that they nest."""

    VOID = ("meta", "input", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: dict[str, int] = {}
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def keypoints(xy: list[tuple[float, float]], descriptors: np.ndarray, scale: float = 2.0) -> Keypoints:
    n = len(xy)
    f, i = np.full(n, scale, np.float32), np.zeros(n, np.int32)
    return Keypoints(np.array(xy, np.float32).reshape(n, 2), f, f, f, i, i, descriptors, (64, 48))


def row(pair: str, method: str, true: int) -> Row:
    counts = Recovered(200, 150, 100, true, true)
    return Row(pair, method, counts, 30.0, 0.9, 31.0, 0.9, [1.0] * 5, [1.0] * 4, [200] + 8 * [0], [true] + 8 * [0])


@pytest.fixture
def example() -> Example:
    descriptors = np.random.default_rng(0).integers(0, 120, (5, 128)).astype(np.uint8)
    clean = keypoints([(10, 10), (20, 10), (30, 10), (40, 10), (50, 10)], descriptors)
    # Two at the right place (one of them twice), one far away, one at the right place with another descriptor.
    found = keypoints([(10, 11), (20, 10), (20, 11), (60, 40), (40, 10)], descriptors[[0, 1, 1, 2, 3]])
    found.descriptors[4] = 60
    image = np.random.default_rng(1).random((48, 64, 3), dtype=np.float32)
    rainy = Attempt(RAINY, image, image, Keypoints.empty((64, 48)))
    return Example(EVIL, 3, panels(rainy, Attempt("ours", image, image, found), image, clean))


def page(example: Example, count: int = 4) -> str:
    rows = [row(f"{i}{EVIL}", method, true + i) for i in range(count) for method, true in ((RAINY, 50), ("ours", 60))]
    header = {"pairs": count, "rainy": EVIL, "clean": "clean", "weights": [], "sift": {"sigma": 1.6}}
    result = Result(header, rows)
    result.close({r.pair: r.pair for r in rows})
    return html_page(Report(result, result.shown([]), [example], [example]))


def test_keypoints_are_sorted_into_true_false_and_missed(example) -> None:
    rainy, ours, clean = example.panels
    assert (rainy.recovered, len(rainy.true), len(rainy.false), len(rainy.missed)) == (0, 0, 0, 5)
    assert (ours.recovered, len(ours.true), len(ours.false), len(ours.missed)) == (2, 3, 1, 3)
    assert ours.false.xy.tolist() == [[60, 40]]
    assert ours.missed.xy[:, 0].tolist() == [30, 40, 50]  # where they are in the clean image
    assert (clean.recovered, len(clean.true), len(clean.false), len(clean.missed)) == (2, 2, 0, 3)


def test_the_page_is_one_file_and_names_are_text(example) -> None:
    text = page(example)
    parsed = Page(text)
    assert "<img" not in text
    assert "onerror=&quot;" in text
    assert {name for name, _ in parsed.attributes} & {"onerror", "onload", "onclick"} == set()
    for name, value in parsed.attributes:  # nothing is fetched
        if name in ("href", "src"):
            assert value.startswith("data:image/webp;base64,")
    style = re.search(r"<style>(.*)</style>", text, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert "prefers-color-scheme: dark" in style[1]
    assert 'name="viewport"' in text
    assert parsed.tags["figure"] == 6
    assert parsed.tags["dialog"] == 1
    assert re.findall("https?:", text) == []


def test_the_page_tells_the_numbers(example) -> None:
    text = page(example)
    for words in ("4 pairs", "61.5", "+10.0", "Best 1", "Worst 1", "What the numbers depend on", "Recall by scale"):
        assert words in text
    for words in ("2 found again, 1 false, 3 missed", "2 of 5 keypoints found again", "sigma 1.6"):
        assert words in text
    body = text[text.index('class="sorts"') :]
    assert body.count("<tr>") == 5  # a head (the groups' line has a class) and four images
    assert 'data-v="60" class=gain' not in body
    assert '<td data-v="10" class=gain>+10</td>' in body


def test_only_the_rainy_image() -> None:
    rows = [row("a.png", RAINY, 5)]
    result = Result({"rainy": "r", "clean": "c"}, rows)
    result.close({"a.png": "a.png"})
    assert result.shown(["DD"]) == ""
    text = html_page(Report(result))
    Page(text)
    assert "Best" not in text
    assert "gain over rainy" not in text


def test_many_images_stay_bounded(example, monkeypatch) -> None:
    monkeypatch.setattr(report_tables, "MOST_ROWS", 3)
    text = page(example)
    assert "The first 3 of 4." in text
    assert text[text.index('class="sorts"') :].count("<tr>") == 4


def test_pictures_stay_bounded(monkeypatch) -> None:
    noise = np.random.default_rng(0).random((1500, 2400, 3), dtype=np.float32)
    smooth = np.linspace(0, 1, 1500, dtype=np.float32)[:, None, None] * np.ones((1, 2400, 3), np.float32)
    assert len(data_address(noise)) < 1_000_000
    assert len(data_address(smooth)) < 20_000
    monkeypatch.setattr(pictures, "CIRCLES", 10)
    many = keypoints([(i % 64, i % 48) for i in range(100)], np.zeros((100, 128), np.uint8))
    html = panel_html(pictures.Panel("m", smooth, 50, many.select(np.arange(50)), many.select(np.arange(0)), many), "c")
    assert sum(path.count("M") for path in re.findall(r' d="(.*?)"', html)) == 10
    assert "the strongest 7% of the keypoints are drawn" in html


def test_circles_sit_on_the_pixel() -> None:
    """The centre of pixel (0, 0) is half a pixel from the picture's corner."""
    [x, y, radius] = map(float, re.match(r"M(\S+) (\S+)a(\S+) ", circles(keypoints([(10, 7)], np.zeros((1, 128)))))
                         .groups())  # fmt: skip
    assert (x + radius, y, radius) == pytest.approx((10.5, 7.5, 4.0))
    assert circles(keypoints([], np.zeros((0, 128)))) == ""


def test_best_and_worst_do_not_overlap() -> None:
    rows = [row(f"{i}", method, true) for i in range(5) for method, true in ((RAINY, 50), ("m", 50 + (i - 2) ** 3))]
    assert best_and_worst(rows, "m") == (["4", "3", "2"], ["0", "1"])
    assert best_and_worst(rows, "m", 1) == (["4"], ["0"])
    assert best_and_worst(rows[:2], "m") == (["0"], [])


def test_round_numbers() -> None:
    assert [nice_step(span) for span in (1.0, 7, 12, 100, 0.03)] == pytest.approx([0.2, 2, 2.5, 20, 0.01])
    assert nice_ticks(-3, 7) == [-2, 0, 2, 4, 6]


def test_a_histogram_counts_and_keeps_losses_apart() -> None:
    values = [-12, -0.5, 0, 0, 3, 40]
    chart = histogram(values, (-12, 40), "gain", 1)
    bars = re.findall(r'class="bar (\S+)".*?<title>(\S+) to (\S+): (\d+)</title>', chart)
    assert sum(int(count) for *_, count in bars) == len(values)
    losses = [(low, high, count) for kind, low, high, count in bars if kind == "loss"]
    assert losses == [("−12.5", "−10", "1"), ("−2.5", "0", "1")]


def test_a_line_chart_stays_inside_and_leaves_gaps_out() -> None:
    line = Line("a<b", [0, 1, 2, 3], [0.5, float("nan"), 0.7, 1.0], 2)
    chart = line_chart([line], "x", "recall", names=["p", "q", "r", "s"], top=1.0)
    dots = re.findall(r'<circle class="dot c2" cx="(\S+)" cy="(\S+)"', chart)
    assert len(dots) == 3
    assert all(0 < float(x) < WIDTH and 0 < float(y) < HEIGHT for x, y in dots)
    assert float(dots[0][1]) > float(dots[1][1])  # up is more
    assert "a&lt;b, s: 1" in chart
    falling = line_chart([Line("loss", [0, 10], [1.0, 0.001], 1)], "step", "loss", logarithmic=True)
    assert ">0.01<" in falling
    assert ">0.1<" in falling
