"""Summaries of rows made by hand, and their text, JSON and CSV."""

import csv
import io
import json
import math
from dataclasses import replace

import pytest

from idsr_cli.evaluation import records
from idsr_cli.evaluation.evaluate import RAINY, Row
from idsr_cli.evaluation.metrics import Recovered
from idsr_cli.evaluation.must_stay import MustStay, summarise_must_stay
from idsr_cli.evaluation.summary import Summary, gains, groups, summarise
from idsr_cli.evaluation.table import header_lines, must_stay_lines, signed, summary_lines


def row(pair: str, method: str, true: int, psnr: float = 30.0, ratio: int = 100) -> Row:
    scales = [true, 0, 0, 0, 0, 0, 0, 0, 0]
    counts = Recovered(200, 150, ratio, true, true + 1)
    return Row(
        pair, method, counts, psnr, 0.9, psnr + 1, 0.91, [5.0, 4, 3, 2, 1], [4.0, 3, 2, 1], [200] + 8 * [0], scales
    )


TRUE = {RAINY: [50, 60, 70, 10], "ours": [80, 55, 90, 10], "a method with a very long name": [60, 60, 60, 60]}


@pytest.fixture
def rows() -> list[Row]:
    return [row(f"s/{i}.png", method, true[i]) for i in range(4) for method, true in TRUE.items()]


def summaries(rows: list[Row]) -> list[Summary]:
    return summarise(rows, {row.pair: row.pair for row in rows})


def test_means_medians_and_losses(rows) -> None:
    rainy, ours, other = summaries(rows)
    assert (ours.true, ours.median["true"], ours.pairs) == (58.75, 67.5, 4)
    assert (ours.recall, ours.precision) == pytest.approx((58.75 / 200, 0.5875))
    assert (ours.lost, ours.worst) == (0.25, -5)
    assert (other.lost, other.worst) == (0.25, -10)
    assert (rainy.lost, rainy.worst) == (0, 0)
    assert ours.true_by_scale[0] == 235
    assert gains(rows, "ours") == {"s/0.png": 30, "s/1.png": -5, "s/2.png": 20, "s/3.png": 0}


def test_differences_are_paired_and_go_both_ways(rows) -> None:
    rainy, ours, other = summaries(rows)
    assert set(ours.difference) == {RAINY, other.method}
    to_rainy = ours.difference[RAINY]["true"]
    assert to_rainy.mean == pytest.approx(11.25)
    assert -5 <= to_rainy.low < to_rainy.mean < to_rainy.high <= 30
    back = rainy.difference["ours"]["true"]
    assert (back.mean, back.low, back.high) == (-to_rainy.mean, -to_rainy.high, -to_rainy.low)
    assert {"psnr_rgb", "ssim_y", "recall"} <= set(ours.difference[RAINY])


def test_equal_images_and_no_matches_are_left_out_of_means() -> None:
    some = [row("a", RAINY, 5), row("a", "m", 9, psnr=math.inf), row("b", RAINY, 5), row("b", "m", 0, 20.0, ratio=0)]
    _, m = summaries(some)
    assert (m.psnr_rgb, m.precision) == (20.0, 0.09)
    assert m.difference[RAINY]["psnr_rgb"].mean == -10
    assert math.isnan(summaries(some[:2])[1].psnr_rgb)


@pytest.mark.parametrize("width", [80, 160])
def test_the_text_fits(rows, width) -> None:
    header = {"command": "idsr evaluate " + "--method name=folder " * 9, "methods": {}, "sift": {"sigma": 1.6}}
    lines = [*header_lines(header, width), *summary_lines(summaries(rows), width)]
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "methods  none" in text
    assert "sift  sigma 1.6" in text
    for words in ("|C| = 200.0", "lost: share", "+11.2 [", "25 %", "a method wit…y long name", "1.6-2.3", "mutual"):
        assert words in text
    assert "Gain in `true`" not in "\n".join(summary_lines(summaries(rows)[:1], width))


def test_methods_with_another_reference_are_compared_among_themselves(rows) -> None:
    """`true` of another extractor says nothing beside that of SIFT; two of one extractor can be compared."""
    nan = float("nan")
    for i in range(4):
        for method, true in (("learned, rain", 20 + i), ("learned, dry", 90)):
            of = row(f"s/{i}.png", method, true, nan)
            rows.append(replace(of, gaussian=[nan] * 5, dog=[nan] * 4, compared_with="a/folder/with/a/long/name/" * 3))
    found = summaries(rows)
    assert [[s.method for s in group] for group in groups(found)] == [list(TRUE), ["learned, rain", "learned, dry"]]
    rained = found[3]
    assert math.isnan(rained.lost)
    assert math.isnan(rained.worst)
    assert not rained.has_images
    assert rained.difference["learned, dry"]["true"].mean == -68.5
    lines = list(summary_lines(found, 80))
    assert max(map(len, lines)) <= 80
    sections = {part.splitlines()[0]: part for part in "\n".join(lines).split("\n\n")}
    assert "ours" in sections["Gain in `true` over the rainy image"]
    assert sum("learned, rain  " in part for part in sections.values()) == 2  # all methods, and those like it
    assert "-68.5 [" in sections["Difference in `true` to learned, dry, the best of those compared with"]


def test_zero_is_never_negative(rows) -> None:
    assert [signed(value) for value in (-0.04, -0.0, 0.0, -0.06)] == ["+0.0", "+0.0", "+0.0", "-0.1"]
    same = [row("a", RAINY, 5), row("a", "m", 5)]
    for summary in summaries(same):
        for difference in summary.difference.values():
            assert str(difference["true"].mean) == "0.0"


@pytest.mark.parametrize("width", [80, 160])
def test_photographs_that_must_stay(rows, width) -> None:
    """Only dry pairs count, and of those only methods with images; means are of the photographs that did change."""
    changes = {"ours": [(0.0, 0.0), (2.0, 0.5), (4.0, 0.1)], RAINY: [(0.0, 0.0)] * 3, "all kept": [(0.0, 0.0)] * 3}
    dry = [
        replace(row(f"dry/{i}.png", method, 9), must_stay=True, removed=removed, changed=changed)
        for method, mine in changes.items()
        for i, (removed, changed) in enumerate(mine)
    ]
    dry.append(replace(row("dry/0.png", "files", 9), must_stay=True))
    rained = [replace(one, removed=9.0, changed=1.0) for one in rows]
    assert summarise_must_stay(rained) == []
    ours, kept = summarise_must_stay(rained + dry)
    assert ours == MustStay("ours", 3, 1, 3.0, 4.0, pytest.approx(0.3))
    assert (kept.unchanged, math.isnan(kept.removed)) == (3, True)
    lines = list(must_stay_lines([ours, kept], width))
    assert lines[0] == "Photographs that must stay: rainy and clean are the same, 3 pairs"
    assert [line.split() for line in lines[2:4]] == [
        ["ours", "1", "of", "3", "3.00", "4.00", "30.0", "%"], ["all", "kept", "3", "of", "3"]
    ]  # fmt: skip
    assert max(map(len, lines)) <= width


def test_json_and_csv(rows) -> None:
    rows.append(row('=a"b,\n.png', "m", 1, psnr=math.inf))
    lines = records.json_lines(("item", records.row_record(r)) for r in rows).decode().splitlines()
    last = json.loads(lines[-1])
    assert (len(lines), last["event"], last["schema"], last["psnr_rgb"]) == (13, "item", 1, None)
    assert last["recovered"] == {"clean": 200, "found": 150, "ratio": 100, "true": 1, "mutual": 2, "recall": 0.005,
                                 "precision": 0.01}  # fmt: skip
    table = list(csv.DictReader(io.StringIO(records.csv_table([records.flat(r) for r in rows]).decode())))
    assert (table[-1]["pair"], table[-1]["psnr_rgb"], table[1]["true"]) == ('=a"b,\n.png', "inf", "80")
    assert records.csv_table([{"name": "\udcff.png"}]) == b"name\n\\udcff.png\n"
