"""`idsr evaluate` with stand-in networks, the real SIFT and methods whose scores are known."""

import csv
import itertools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

import idsr_cli.weights
from idsr_cli import __version__, restoration
from idsr_cli.evaluation import run as module
from idsr_cli.restoration import Removal, Restored


def table(text: str) -> dict[str, list[str]]:
    """Method -> its cells, from the table of recovered keypoints."""
    body, *_ = text.split("\n\n")
    _, *lines, _ = body.splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines}


def test_tables(run, halving, pairs) -> None:
    rainy, clean = pairs
    result = run("evaluate", "--rainy", rainy, "--clean", clean, "--device", "cpu", "-v")
    assert result.exit_code == 0
    last = result.stdout.split("\n\n")[-1].splitlines()
    assert last[0] == "Made with"
    head = dict(line.split(maxsplit=1) for line in last[1:] if line[:10].strip())
    assert (head["rainy"], head["clean"], head["pairs"]) == (str(rainy), str(clean), "3")
    assert head["weights"] == f"name fake, sha256 {64 * 'f'}, splice DG"
    assert (head["device"], head["precision"], head["tile"], head["methods"]) == ("cpu", "fp32", "auto", "none")
    assert "Lowe ratio 0.8, within 3 px" in head["matching"]
    for name in ("command", "versions", "psnr", "ssim", "pyramid", "intervals", "sift", "splices"):
        assert name in head
    rows = table(result.stdout)
    assert list(rows) == ["method", "rainy", "DD", "GG", "DG"]
    assert rows["method"][:4] == ["true", "median", "ratio", "mutual"]
    assert float(rows["rainy"][0]) > 0
    for title in (
        "Gain in `true`",
        "Difference in `true` to",
        "Images, means",
        "Squared error of the Gaussian",
        "Squared error of the DoG",
    ):
        assert title in result.stdout
    assert (halving.D, halving.G) == (3, 3)  # once a photograph, whatever the splices


def test_what_the_numbers_depend_on_is_short_by_default(run, halving, pairs, monkeypatch) -> None:
    """Two lines below the tables; `-v`, the report and JSON have all of it."""
    monkeypatch.setenv("COLUMNS", "80")
    command = ("evaluate", "--rainy", pairs[0], "--clean", pairs[1], "--count", 1, "--device", "cpu")
    shown = run(*command).stdout.splitlines()
    pixels = run.events(*command)[-1]["header"]["pixels"]["sha256"]
    end = shown[shown.index("", len(shown) - 5) + 1 :]
    assert max(map(len, end)) <= 80
    assert " ".join(end) == (
        f"Made with idsr {__version__}, weights fake {12 * 'f'}, fp32 on cpu, pixels {pixels[:12]}; "
        "-v, -o and --json tell all that the numbers depend on."
    )


@pytest.mark.parametrize(("letter", "asked", "method"), [("D", (), "DD"), ("G", (), "GG"), ("G", ("DG",), "DG")])
def test_one_network_for_both_roles_is_one_row(run, halving, pairs, monkeypatch, letter, asked, method) -> None:
    role = {"D": "dprnet", "G": "ggirnet"}[letter]
    one = SimpleNamespace(identity=letter * 64, sha256=letter * 64, arch=role)
    pair = SimpleNamespace(name="last", dprnet=one, ggirnet=one, splice=2 * letter, sha256="f" * 64, remarks=[])
    monkeypatch.setattr(idsr_cli.weights, "find_weights", lambda spec: pair)

    def network(rgb: np.ndarray, removal: Removal) -> Restored:
        return Restored(rgb, True)  # gains nothing

    network.engine, network.remark = "torch", ""  # type: ignore[attr-defined]
    monkeypatch.setattr(restoration, "load_network", lambda *_: network)
    splice = [word for name in asked for word in ("--splice", name)]
    result = run("evaluate", "--rainy", pairs[0], "--clean", pairs[1], "--count", 1, "--weights", "last", "-v", *splice)
    assert list(table(result.stdout)) == ["method", "rainy", method]
    assert "-0.0" not in result.stdout
    assert f"splices  {method} " in result.stdout


def test_equal_names_in_two_folders_are_two_pairs(run, tmp_path) -> None:
    for folder in ("rainy", "clean"):
        for name, seed in (("a/1.png", 1), ("b/1.png", 2), ("1.png", 3)):
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            image = np.random.default_rng(seed).integers(0, 200, (32, 40, 3))
            image[::3] += 50 * (folder == "rainy")
            Image.fromarray(image.astype(np.uint8)).save(tmp_path / folder / name)
    rainy, clean = tmp_path / "rainy", tmp_path / "clean"
    *items, summary = run.events("evaluate", "--rainy", rainy, "--clean", clean, "--splice", "none",
                                 "--method", f"copy={clean}", "-o", tmp_path / "report")  # fmt: skip
    rows = [(item["pair"], item["method"]) for item in items]
    assert rows == [(pair, method) for pair in ("1.png", "a/1.png", "b/1.png") for method in ("rainy", "copy")]
    assert summary["methods"][1]["pairs"] == 3
    by_pair = {item["pair"]: item["psnr_rgb"] for item in items if item["method"] == "rainy"}
    assert len(set(by_pair.values())) == 3


def test_a_line_a_pair_if_asked_for(run, pairs) -> None:
    rainy, clean = pairs
    result = run("evaluate", "--rainy", rainy, "--clean", clean, "--splice", "none", "--method", f"m={clean}", "-v")
    rows = table(result.stdout)
    lines = result.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["a/b/x.png", "img2.png", "img10.png"]
    counts = [[int(word) for word in line.replace(",", "").split() if word.isdigit()] for line in lines]
    assert np.mean(counts, 0).round(1).tolist() == [float(rows["rainy"][0]), float(rows["m"][0])]
    images = result.stdout.split("Images, means")[1].split("\n\n")[0].splitlines()
    assert images[-1].split() == ["m", "equal", "1.0000", "equal", "1.0000"]


def test_several_weights(run, halving, pairs, monkeypatch) -> None:
    rainy, clean = pairs
    *_, summary = run.events("evaluate", "--rainy", rainy, "--clean", clean, "--weights", "one", "--weights", "two",
                             "--splice", "DG,DD", "--count", 1)  # fmt: skip
    assert [m["method"] for m in summary["methods"]] == ["rainy", "one DG", "one DD", "two DG", "two DD"]
    assert [w["name"] for w in summary["header"]["weights"]] == ["one", "two"]
    assert (halving.D, halving.G) == (2, 2)
    again = run("evaluate", "--rainy", rainy, "--clean", clean, "--weights", "one", "--weights", "one")
    assert (again.exit_code, again.stderr) == (2, "idsr: two sets of weights are called `one` (give each once)\n")


def test_pairs_side_by_side_and_in_a_list(run, pairs, tmp_path) -> None:
    rainy, clean = pairs
    both = tmp_path / "both"
    for name in ("s/1.png", "2.png"):
        (both / name).parent.mkdir(parents=True, exist_ok=True)
        halves = [np.asarray(Image.open(folder / "img2.png")) for folder in (clean, rainy)]
        Image.fromarray(np.hstack(halves)).save(both / name)
    *items, _ = run.events("evaluate", "--side-by-side", both, "--splice", "none")
    assert [item["pair"] for item in items] == ["2.png", "s/1.png"]
    (tmp_path / "list.txt").write_text(f"rainy/img2.png\t{clean / 'img2.png'}\n")
    [item, _] = run.events("evaluate", "--list", tmp_path / "list.txt", "--splice", "none")
    assert item["pair"] == "rainy/img2.png"
    assert item["recovered"] == items[0]["recovered"]
    assert item["psnr_rgb"] < 40
    alone = run("evaluate", "--rainy", both, "--clean", both, "--splice", "none")
    assert (alone.exit_code, len(alone.stderr.splitlines())) == (2, 1)
    assert "--rainy and --clean are one folder" in alone.stderr
    copies = [shutil.copytree(both, tmp_path / name) for name in ("copy", "copy2")]
    both_ways = run("evaluate", "--side-by-side", both, "--rainy", both, "--clean", copies[0], "--splice", "none")
    assert (both_ways.exit_code, "2.png: is listed twice" in both_ways.stderr) == (2, True)
    twice = run("evaluate", "--side-by-side", both, "--rainy", copies[0], "--clean", copies[1], "--splice", "none")
    assert (twice.exit_code, len(twice.stderr.splitlines())) == (2, 1)
    assert "two pairs are called `2.png`" in twice.stderr


def test_the_header_names_the_pixels(run, pairs) -> None:
    rainy, clean = pairs
    command = ("evaluate", "--rainy", rainy, "--clean", clean, "--splice", "none")
    first, second = (run.events(*command)[-1]["header"]["pixels"] for _ in range(2))
    assert first == second
    image = np.asarray(Image.open(clean / "img2.png")).copy()
    image[0, 0] ^= 1
    Image.fromarray(image).save(clean / "img2.png")
    assert run.events(*command)[-1]["header"]["pixels"] != first


def test_a_perfect_method(run, pairs, tmp_path) -> None:
    rainy, clean = pairs
    command = ("evaluate", "--rainy", rainy, "--clean", clean, "--splice", "none", "--method", f"best={clean}")
    *items, summary = run.events(*command)
    assert [item["event"] for item in items] == ["item"] * 6
    best = [item for item in items if item["method"] == "best"]
    assert [item["pair"] for item in best] == ["a/b/x.png", "img2.png", "img10.png"]
    for item in best:
        counts = item["recovered"]
        assert counts["true"] == counts["clean"] == counts["found"] == counts["mutual"] > 5
        assert item["psnr_rgb"] is None  # infinite, which is no JSON
        assert item["ssim_rgb"] == pytest.approx(1)
        assert item["gaussian"] == [0] * 5
    first, second = summary["methods"]
    assert (first["method"], second["method"], summary["failed"]) == ("rainy", "best", 0)
    assert (second["recall"], second["precision"], second["lost"]) == (1, 1, 0)
    assert second["true"] == second["clean"] > first["true"]
    assert (first["lost"], first["worst"]) == (0, 0)
    assert summary["header"]["weights"] == []
    assert second["difference"]["rainy"]["true"]["low"] > 0


def test_photographs_without_rain_are_told_apart(run, halving, pairs, tmp_path) -> None:
    """A pair whose two versions are the same says how much is removed where nothing should be."""
    rainy, clean = pairs
    shutil.copy(clean / "img2.png", rainy / "img2.png")
    kept, out = tmp_path / "kept", tmp_path / "report"
    shutil.copytree(rainy, kept)
    image = np.asarray(Image.open(kept / "img10.png")).copy()
    image[0, 0] ^= 1
    Image.fromarray(image).save(kept / "img10.png")
    command = ("evaluate", "--rainy", rainy, "--clean", clean, "--splice", "DG", "--method", f"kept={kept}", "-o", out)
    *items, summary = run.events(*command)
    told = {(item["pair"], item["method"]): item for item in items}
    assert {pair for (pair, _), item in told.items() if item["must_stay"]} == {"img2.png"}
    assert (told["img10.png", "kept"]["changed"], told["img10.png", "kept"]["removed"]) == pytest.approx(
        (1 / image[..., 0].size, 1 / image[..., 0].size)
    )
    ours, theirs = summary["must_stay"]
    dry = np.asarray(Image.open(rainy / "img2.png").convert("RGB"), np.float64)
    # GGIRNet quarters the brightness, so three quarters are removed; DPRNet removes less.
    assert (ours["method"], ours["photographs"], ours["unchanged"]) == ("DG", 1, 0)
    assert ours["removed"] == ours["most"] == pytest.approx(0.75 * dry.max(2).mean(), rel=1e-4)
    assert ours["changed"] == pytest.approx(dry.any(2).mean())
    assert theirs == {
        "method": "kept", "photographs": 1, "unchanged": 1, "removed": None, "most": None, "changed": None
    }  # fmt: skip
    assert "Photographs that must stay" in (out / "report.html").read_text()
    assert "Photographs that must stay: rainy and clean are the same, 1 pair\n" in run(*command[:-2]).stdout


def test_without_networks(run, pairs) -> None:
    rainy, clean = pairs
    result = run("evaluate", "--rainy", rainy, "--clean", clean, "--splice", "none", "--weights", "nonsense")
    assert result.exit_code == 0
    assert list(table(result.stdout)) == ["method", "rainy"]


def test_report(run, halving, pairs, tmp_path) -> None:
    rainy, clean = pairs
    out = tmp_path / "report"
    result = run("evaluate", "--rainy", rainy, "--clean", clean, "--count", 2, "--splice", "DG", "--device", "cpu",
                 "--method", f"copy={clean}", "-o", out)  # fmt: skip
    assert result.exit_code == 0
    assert result.stderr == f"wrote {out}/report.html\n"
    assert sorted(path.name for path in out.iterdir()) == ["images.csv", "report.html", "rows.jsonl", "summary.json"]
    summary = json.loads((out / "summary.json").read_text())
    header = summary["header"]
    assert (summary["schema"], header["pairs"], header["device"]) == (1, 2, "cpu")
    assert {"idsr", "torch", "opencv"} <= header["versions"].keys()
    assert header["weights"] == [{"name": "fake", "sha256": 64 * "f", "splice": "DG"}]
    lines = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert [line["method"] for line in lines] == ["rainy", "DG", "copy"] * 2
    assert [m["method"] for m in summary["methods"]] == ["rainy", "DG", "copy"]
    with (out / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["pair"], row["method"]) for row in rows] == [
        (pair, method) for pair in ("a/b/x.png", "img2.png") for method in ("rainy", "DG", "copy")
    ]
    for method in summary["methods"]:
        mine = [float(row["true"]) for row in rows if row["method"] == method["method"]]
        assert method["true"] == pytest.approx(np.mean(mine))
    assert {"psnr_y", "ssim_y", "gaussian_4", "dog_3", "clean", "found"} <= rows[0].keys()


def test_a_method_without_an_image(run, pairs, tmp_path) -> None:
    rainy, clean = pairs
    (tmp_path / "partly").mkdir()
    Image.open(rainy / "img2.png").save(tmp_path / "partly" / "img2.png")
    result = run(
        "evaluate", "--rainy", rainy, "--clean", clean, "--splice", "none", "--method", f"m={tmp_path / 'partly'}"
    )
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{tmp_path / 'partly'}: no image for {rainy / 'a' / 'b' / 'x.png'} (looked for")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("a fault"), KeyboardInterrupt()])
def test_what_is_scored_outlives_faults_and_interruption(run, pairs, tmp_path, monkeypatch, error) -> None:
    rightly = module.evaluate_pair
    calls = itertools.count()

    def once(*arguments):
        if next(calls) == 1:
            raise error
        return rightly(*arguments)

    monkeypatch.setattr(module, "evaluate_pair", once)
    out = tmp_path / "report"
    result = run("evaluate", "--rainy", pairs[0], "--clean", pairs[1], "--splice", "none", "-o", out)
    stopped = isinstance(error, KeyboardInterrupt)
    assert result.exit_code == (130 if stopped else 1)
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == (1 if stopped else 2)
    assert "true" in result.stdout
    assert ("interrupted with 2 pairs to go" if stopped else f"{pairs[0]}/") in result.stderr


def test_a_report_outlives_its_pictures(run, pairs, tmp_path, monkeypatch) -> None:
    def fails(*arguments):
        raise MemoryError

    monkeypatch.setattr("idsr_cli.evaluation.pictures.examples", fails)
    out = tmp_path / "page.html"
    result = run("evaluate", "--rainy", pairs[0], "--clean", pairs[1], "--splice", "none",
                 "--method", f"same={pairs[0]}", "-o", out)  # fmt: skip
    assert result.exit_code == 0
    assert "no pictures in the report: out of memory" in result.stderr
    assert out.stat().st_size > 1000


def test_a_pair_that_differs_in_size(run, pairs, tmp_path) -> None:
    rainy, clean = pairs
    Image.new("RGB", (20, 20)).save(rainy / "img2.png")
    result = run("evaluate", "--rainy", rainy, "--clean", clean, "--splice", "none")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"{rainy / 'img2.png'}: is 20x20 but its clean version {clean / 'img2.png'} is 64x48"
    )
    assert list(table(result.stdout)) == ["method", "rainy"]  # the others go on
    for name in ("img10.png", "a/b/x.png"):
        Image.new("RGB", (20, 20)).save(rainy / name)
    none = run("evaluate", "--rainy", rainy, "--clean", clean, "--splice", "none", "-o", tmp_path / "report")
    assert none.exit_code == 2
    assert none.stderr.splitlines()[-1] == "idsr: no pair could be evaluated"
    assert not (tmp_path / "report").exists()


def test_a_method_of_another_size(run, pairs, tmp_path) -> None:
    rainy, clean = pairs
    other = tmp_path / "other"
    for name in ("img2.png", "img10.png", "a/b/x.png"):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9) if name == "img2.png" else (64, 48)).save(other / name)
    *_, summary = run.events(
        "evaluate", "--rainy", rainy, "--clean", clean, "--splice", "none", "--method", f"o={other}"
    )
    assert summary["failed"] == 1
    assert {method["method"]: method["pairs"] for method in summary["methods"]} == {"rainy": 2, "o": 2}


@pytest.mark.parametrize("arguments", [("--splice", "XX"), ("--method", "name"), ("--method", "=dir"), ("--count", -1)])
def test_options_that_cannot_be_read(run, pairs, arguments) -> None:
    result = run("evaluate", "--rainy", pairs[0], "--clean", pairs[1], *arguments)
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize("name", ["rainy", "DD"])
def test_a_method_with_a_name_of_ours(run, halving, pairs, name) -> None:
    result = run("evaluate", "--rainy", pairs[0], "--clean", pairs[1], "--method", f"{name}={pairs[1]}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"idsr: two methods are called `{name}` (give each another name)\n"


def test_nothing_to_score(run, pairs) -> None:
    for arguments, reason in (((), "nothing to score"), (("--rainy", pairs[0]), "--rainy and --clean go together")):
        result = run("evaluate", "--splice", "none", *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"idsr: {reason}")


def test_folders_that_are_not_there(run, pairs, tmp_path) -> None:
    result = run("evaluate", "--rainy", pairs[0], "--clean", tmp_path / "gone")
    assert (result.exit_code, result.stderr) == (2, f"{tmp_path / 'gone'}: no such folder\n")


def test_a_page_alone_and_a_training_log(run, halving, pairs, tmp_path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "loss": 2.0, "terms": {}}\n{"step": 2, "loss": 1.0, "terms": {}}\n')
    command = ("evaluate", "--rainy", pairs[0], "--clean", pairs[1], "--splice", "DG", "--count", 2)
    result = run(*command, "-o", tmp_path / "page.html", "--log", log)
    assert result.exit_code == 0
    assert result.stderr == f"wrote {tmp_path}/page.html\n"
    page = (tmp_path / "page.html").read_text()
    assert "Best and worst images of DG" in page
    assert f"<h3>{log}</h3>" in page
    assert (halving.D, halving.G) == (4, 4)  # two pairs scored, and the same two pictured
    for arguments, message in (
        (("--log", log), "idsr: `--log` is for the report (add `-o REPORT`)\n"),
        (
            ("--log", pairs[0], "-o", tmp_path / "r"),
            f"{pairs[0]}: cannot be read (give the log.jsonl of a training run)\n",
        ),
        (("-o", log), f"{log}: is a file (`-o` takes a folder, or a page, x.html)\n"),
        (("-o", log / "report"), f"{log}: is a file (`-o` takes a folder, or a page, x.html)\n"),
    ):
        failed = run(*command, *arguments)
        assert (failed.exit_code, failed.stdout, failed.stderr) == (2, "", message)
    assert (halving.D, halving.G) == (4, 4)


def test_the_page_shows_another_method_if_ours_is_left_out(run, pairs, tmp_path) -> None:
    rainy, clean = pairs
    out = tmp_path / "report"
    assert run("evaluate", "--rainy", rainy, "--clean", clean, "--splice", "none", "--method", f"copy={clean}",
               "-o", out).exit_code == 0  # fmt: skip
    assert "Best and worst images of copy" in (out / "report.html").read_text()
    assert run("evaluate", "--rainy", rainy, "--clean", clean, "--splice", "none", "-o", out).exit_code == 0
    assert "Best and worst" not in (out / "report.html").read_text()


@pytest.fixture
def oxford(tmp_path: Path) -> Path:
    """Two pictures of one plane in the folder oxford/wall, the second moved by 5 and 3 pixels."""
    folder = tmp_path / "oxford" / "wall"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(5).uniform(0, 255, (90, 120, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    image = np.clip((smooth - smooth.mean()) * 6 + 128, 0, 255).astype(np.uint8)
    Image.fromarray(image).save(folder / "img1.png")
    Image.fromarray(np.roll(image, (3, 5), (0, 1))).save(folder / "img2.png")
    (folder / "H1to2p").write_text("1 0 5\n0 1 3\n0 0 1\n")
    return folder.parent


def test_matching(run, halving, oxford, tmp_path) -> None:
    out = tmp_path / "report"
    *items, summary = run.events("evaluate", "--matching", oxford, "--splice", "DG,DD", "-o", out)
    assert [(item["event"], item["pair"], item["method"]) for item in items] == [
        ("geometry", "wall 1-2", method) for method in ("rainy", "DG", "DD", "dry")
    ]
    by_method = {item["method"]: item for item in items}
    assert by_method["dry"]["inliers"] > 30
    assert by_method["dry"]["inliers"] > by_method["rainy"]["inliers"]
    assert "methods" not in summary
    assert {"geometry", "sift", "intervals"} <= summary["header"].keys()
    assert summary["header"]["rain"]["seed"] == 0
    assert "psnr" not in summary["header"]
    assert sorted(path.name for path in out.iterdir()) == ["geometry.csv", "report.html", "rows.jsonl", "summary.json"]
    page = (out / "report.html").read_text()
    assert "Matching with known geometry" in page
    assert "Recovered keypoints" not in page
    again = [run.events("evaluate", "--matching", oxford, "--splice", "none", "--seed", seed)[0] for seed in (0, 0, 1)]
    assert again[0] == again[1] == by_method["rainy"]
    assert again[2] != again[0]


def test_matching_rains_like_the_rain_command(run, oxford, tmp_path) -> None:
    """What was matched can be looked at: `idsr rain` with the same seed makes the same picture."""
    from idsr_cli.evaluation.evaluate import plain_attempt
    from idsr_cli.evaluation.sequences import find_pairs, judge
    from idsr_cli.images.photo import read_photo

    assert run("rain", oxford, "-o", tmp_path / "rained", "--seed", 4).exit_code == 0
    rainy = run.events("evaluate", "--matching", oxford, "--splice", "none", "--seed", 4)[0]
    [pair] = find_pairs(oxford)
    first, second = (
        plain_attempt("", read_photo(path).rgb).keypoints for path in (pair.first, tmp_path / "rained" / pair.relative)
    )
    by_hand = judge(pair, "rainy", first, second)
    assert by_hand.inliers == pytest.approx(rainy["inliers"], abs=2)  # the file is rounded to 8 bits


def test_pairs_and_matching_together(run, pairs, oxford, tmp_path) -> None:
    out = tmp_path / "report"
    result = run("evaluate", "--rainy", pairs[0], "--clean", pairs[1], "--matching", oxford, "--splice", "none",
                 "--count", 1, "-o", out)  # fmt: skip
    assert result.exit_code == 0
    assert "Recovered keypoints, means of 1 pair;" in result.stdout
    assert "Matching with known geometry, means of 1 image pair" in result.stdout
    assert {path.name for path in out.iterdir()} == {
        "geometry.csv", "images.csv", "report.html", "rows.jsonl", "summary.json"
    }  # fmt: skip


def test_each_count_is_of_its_own_pairs(run, pairs, oxford) -> None:
    wall = oxford / "wall"
    for name in ("img3.png", "H1to3p"):
        (wall / name).write_bytes((wall / name.replace("3", "2")).read_bytes())
    command = ("evaluate", "--rainy", pairs[0], "--clean", pairs[1], "--matching", oxford, "--splice", "none")
    for counts, scored in (((), (3, 2)), (("--count", 2), (2, 2)), (("--matching-count", 1), (3, 1))):
        events = run.events(*command, *counts)
        found = [{event["pair"] for event in events if event["event"] == kind} for kind in ("item", "geometry")]
        assert tuple(map(len, found)) == scored


def test_matching_that_cannot_run(run, pairs, oxford, tmp_path) -> None:
    looked = "looked for homographies H1to2p, H1to3p, ..."
    for arguments, message in (
        (("--matching", tmp_path / "gone"), f"{tmp_path / 'gone'}: no such folder\n"),
        (("--matching", pairs[0]), f"{pairs[0]}: no image sequence there ({looked})\n"),
        (("--matching", oxford, "--count", 1),
         "idsr: `--count` has no pairs to choose from (use `--matching-count` or `--frames-count`)\n"),
        (("--matching", oxford, "--method", f"m={pairs[0]}"),
         "idsr: `--method` has no pairs to be scored on (give --rainy and --clean)\n"),
    ):  # fmt: skip
        result = run("evaluate", "--splice", "none", *arguments)
        assert (result.exit_code, result.stdout, result.stderr) == (2, "", message)
    (oxford / "wall" / "img2.png").write_bytes(b"nothing")
    result = run("evaluate", "--splice", "none", "--matching", oxford)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0].startswith(f"{oxford / 'wall' / 'img2.png'}: ")
    assert result.stderr.splitlines()[-1] == "idsr: no pair could be evaluated"


def test_pairs_of_frames(run, halving, photos, tmp_path) -> None:
    """A folder of frames: no clean version, each frame restored once."""
    folder, out = tmp_path / "frames", tmp_path / "report"
    folder.mkdir()
    for i in range(3):
        image = np.asarray(Image.open(photos / "img2.png"))
        Image.fromarray(np.roll(image, 2 * i, 1)).save(folder / f"{i}.png")
    *items, summary = run.events("evaluate", "--pairs-of-frames", folder, "--splice", "DD", "-o", out)
    assert [(item["event"], item["pair"], item["method"]) for item in items] == [
        ("frames", f"frames {pair}", method) for pair in ("0-1", "1-2") for method in ("rainy", "DD")
    ]
    assert halving.D == 3
    assert all(item["inliers"] <= item["matches"] for item in items)
    rainy, ours = summary["frames"]
    assert (rainy["method"], rainy["pairs"], ours["method"]) == ("rainy", 2, "DD")
    assert {"frames", "neighbours"} <= summary["header"].keys()
    assert {path.name for path in out.iterdir()} == {"frames.csv", "report.html", "rows.jsonl", "summary.json"}
    page = (out / "report.html").read_text()
    assert "Matching of neighbouring frames" in page
    assert "Recovered keypoints" not in page
    told = run("evaluate", "--pairs-of-frames", folder, "--splice", "none", "--frames-count", 1)
    assert told.exit_code == 0
    assert "Matching of neighbouring frames, means of 1 pair\n" in told.stdout
    empty = run("evaluate", "--pairs-of-frames", tmp_path / "gone", "--splice", "none")
    assert (empty.exit_code, empty.stderr) == (2, f"{tmp_path / 'gone'}: no folder of frames and no clip there\n")


def test_pairs_of_frames_of_a_clip(run, halving, clips) -> None:
    path = clips.make("rain.mp4", 4)
    *items, _ = run.events("evaluate", "--pairs-of-frames", path, "--splice", "DD")
    assert [item["pair"] for item in items[::2]] == [f"rain.mp4 {i}-{i + 1}" for i in range(3)]
    path.write_bytes(path.read_bytes()[:200])
    broken = run("evaluate", "--pairs-of-frames", path, "--splice", "none")
    assert broken.exit_code == 2
    assert "rain.mp4: " in broken.stderr.splitlines()[0]
    assert "no pair could be evaluated" in broken.stderr
