"""`idsr evaluate --keypoints`: files of idsr and of other extractors beside the methods that give images."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from PIL import Image

from idsr_cli.evaluation.metrics import recovered_keypoints
from idsr_cli.formats.npz import read_npz

PAIRS = ("a/b/x.png", "img2.png", "img10.png")


@pytest.fixture
def command(pairs: tuple[Path, Path]) -> tuple[Any, ...]:
    rainy, clean = pairs
    return ("evaluate", "--rainy", rainy, "--clean", clean, "--splice", "none")


def orb(photograph: Path) -> dict[str, np.ndarray]:
    """Strings of 256 bits, as bytes."""
    grey = cv2.imread(str(photograph), cv2.IMREAD_GRAYSCALE)
    found, descriptors = cv2.ORB_create(nfeatures=200, patchSize=15, edgeThreshold=8).detectAndCompute(grey, None)
    return {"keypoints": np.array([k.pt for k in found]), "descriptors": descriptors}


def learned(photograph: Path) -> dict[str, np.ndarray]:
    """Floats of length 1, with negative numbers: patches of a fixed grid, projected, as a network would."""
    grey = cv2.imread(str(photograph), cv2.IMREAD_GRAYSCALE).astype(np.float32)
    xy = np.array([(x, y) for y in range(8, 40, 4) for x in range(8, 56, 4)], np.float32)
    patches = np.stack([grey[y - 6 : y + 7, x - 6 : x + 7].ravel() for x, y in xy.astype(int)])
    values = (patches - patches.mean(1, keepdims=True)) @ np.random.default_rng(0).normal(size=(169, 64))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return {"keypoints": xy, "descriptors": values.astype(np.float32), "image_size": np.array([64, 48])}


def extract(folder: Path, out: Path, extractor: Any) -> Path:
    """One .npz per photograph, without the photograph's suffix."""
    for path in folder.rglob("*.[pj][np]g"):
        if not path.name.startswith("."):
            target = (out / path.relative_to(folder)).with_suffix(".npz")
            target.parent.mkdir(parents=True, exist_ok=True)
            np.savez(target, **extractor(path))
    return out


def by_method(events: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Method -> pair -> its row."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for event in events:
        if event["event"] == "item":
            rows.setdefault(event["method"], {})[event["pair"]] = event
    return rows


def test_our_files_score_as_the_images_they_were_made_from(run, pairs, command, tmp_path) -> None:
    rainy, _ = pairs
    assert run("sift", rainy, "-o", tmp_path / "npz", "--no-derain").exit_code == 0
    assert (
        run("sift", rainy, "-o", tmp_path / "k.h5", "--no-derain", "--format", "hloc", "--like", "opencv").exit_code
        == 0
    )
    files = ("--keypoints", f"npz={tmp_path / 'npz'}", "--keypoints", f"h5={tmp_path / 'k.h5'}")
    *items, summary = run.events(*command, *files)
    rows = by_method(items)
    assert list(rows) == ["rainy", "npz", "h5"]
    for pair in PAIRS:
        assert rows["npz"][pair]["recovered"] == rows["rainy"][pair]["recovered"]
        assert rows["npz"][pair]["true_by_scale"] == rows["rainy"][pair]["true_by_scale"]
        assert rows["h5"][pair]["recovered"]["clean"] == rows["rainy"][pair]["recovered"]["clean"]
        assert rows["h5"][pair]["recovered"]["mutual"] > 0  # RootSIFT, compared with RootSIFT
        assert (rows["npz"][pair]["psnr_rgb"], rows["npz"][pair]["gaussian"]) == (None, [None] * 5)
        assert rows["npz"][pair]["compared_with"] == ""
    own = summary["methods"][1]
    assert (own["lost"], own["worst"], own["difference"]["rainy"]["true"]["mean"]) == (0, 0, 0)
    assert summary["header"]["keypoints"][0] == {
        "name": "npz",
        "files": str(tmp_path / "npz"),
        "compared with": "the SIFT of the clean photographs",
        "descriptors": "128 uint8 by L2 distance",
    }
    text = run(*command, *files).stdout
    assert "|C|  " not in text.split("\n\n")[0]
    gain = text.split("Gain in `true`")[1].split("\n\n")[0]
    assert re.search(r"npz +\+0\.0 \[\+0\.0, \+0\.0\] +0 %", gain)
    images = text.split("Images, means")[1].split("\n\n")[0]
    assert [line.split()[0] for line in images.splitlines()[2:]] == ["rainy"]


def test_our_files_of_other_settings_have_a_reference_of_these(run, pairs, command, tmp_path) -> None:
    rainy, clean = pairs
    for name, folder in (("rainy", rainy), ("clean", clean)):
        run("sift", folder, "-o", tmp_path / name, "--no-derain", "--contrast-threshold", 0.005)
    rows = by_method(run.events(*command, "--keypoints", f"many={tmp_path / 'rainy'}"))
    for pair in PAIRS:
        found, _ = read_npz(tmp_path / "rainy" / f"{pair}.npz")
        [file] = (tmp_path / "clean").glob(f"{pair.removesuffix('.png')}.*.npz")
        expected = recovered_keypoints(found, read_npz(file)[0])
        counts = rows["many"][pair]["recovered"]
        assert {name: counts[name] for name in ("clean", "found", "ratio", "true", "mutual")} == vars(expected)
        assert counts["clean"] > rows["rainy"][pair]["recovered"]["clean"]
        assert rows["many"][pair]["compared_with"] == "contrast_threshold 0.005"


@pytest.mark.parametrize("extractor", [orb, learned])
def test_another_extractor_is_compared_with_itself(run, pairs, command, tmp_path, extractor) -> None:
    _rainy, _clean = pairs
    wet, dry = (extract(folder, tmp_path / folder.name, extractor) for folder in pairs)
    options = []
    for name, files in (("wet", wet), ("dry", dry)):
        options += ["--keypoints", f"{name}={files}", "--clean-keypoints", f"{name}={dry}"]
    out = tmp_path / "report"
    *items, summary = run.events(*command, *options, "-o", out)
    rows = by_method(items)
    for pair in PAIRS:
        best, rained = rows["dry"][pair], rows["wet"][pair]
        assert best["compared_with"] == rained["compared_with"] == str(dry)
        assert best["recovered"]["clean"] == best["recovered"]["found"] == best["recovered"]["mutual"]
        assert best["recovered"]["true"] >= rained["recovered"]["true"]
    methods = {method["method"]: method for method in summary["methods"]}
    assert methods["dry"]["true"] > methods["wet"]["true"] > 0
    assert methods["dry"]["recall"] > 0.8
    assert (methods["wet"]["lost"], methods["wet"]["worst"], methods["wet"]["psnr_y"]) == (None, None, None)
    assert methods["dry"]["difference"]["wet"]["true"]["mean"] > 0
    kind = {orb: "32 uint8 by Hamming distance", learned: "64 float32 by L2 distance"}[extractor]
    assert summary["header"]["keypoints"][0] == {
        "name": "wet", "files": str(wet), "compared with": str(dry), "descriptors": kind
    }  # fmt: skip
    with (out / "images.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["compared_with"] for row in table if row["method"] == "wet"] == [str(dry)] * 3
    assert json.loads((out / "summary.json").read_text())["methods"] == summary["methods"]


def test_tables_and_page_do_not_mix_what_cannot_be_compared(run, halving, pairs, command, tmp_path) -> None:
    _rainy, _clean = pairs
    wet, dry = (extract(folder, tmp_path / folder.name, learned) for folder in pairs)
    options = [f"--keypoints=wet={wet}", f"--keypoints=dry={dry}"]
    options += [f"--clean-keypoints=wet={dry}", f"--clean-keypoints=dry={dry}"]
    page = tmp_path / "page.html"
    text = run(*command[:-2], "--splice", "DD", *options, "-o", page).stdout
    first, *others = text.split("\n\n")
    assert first.splitlines()[1].split()[-2:] == ["|R|", "|C|"]
    assert "read their recall" in first.replace("\n", " ")
    sections = {section.splitlines()[0]: section for section in others}
    gain = sections["Gain in `true` over the rainy image"]
    assert [line.split()[0] for line in gain.splitlines()[2:3]] == ["DD"]
    assert "wet" not in gain
    [best] = [section for title, section in sections.items() if title.startswith("Difference in `true` to dry")]
    assert "wet" in best
    assert "DD" not in best.splitlines()[-1]
    html = page.read_text()
    assert "Best and worst images of DD" in html
    charts = dict(re.findall(r'<h3>([^<]+)</h3><svg class="chart"[^>]*aria-label="([^"]+)"', html))
    assert charts["DD"] == "histogram of gain in true keypoints over the rainy image"
    assert charts["wet"] == charts["dry"] == "histogram of recall"  # no gain over another extractor
    assert f"wet: {dry}" in html
    assert html.count('<td title="img2.png">') == 1
    [line] = [part for part in html.split("<tr>") if part.startswith('<td title="img2.png">')]
    assert line.count("<td") == 2 + 4 + 1 + 2  # name, |C|; true of four; one gain; PSNR of two


def test_our_files_are_pictured_if_they_are_all_there_is(run, pairs, command, tmp_path) -> None:
    _rainy, clean = pairs
    run("sift", clean, "-o", tmp_path / "k.h5", "--no-derain", "--format", "hloc", "--like", "opencv")
    page = tmp_path / "page.html"
    result = run(*command, "--keypoints", f"dry={tmp_path / 'k.h5'}", "-o", page)
    assert (result.exit_code, result.stderr) == (0, f"wrote {page}\n")
    html = page.read_text()
    assert "Best and worst images of dry" in html
    assert "dB PSNR on RGB" not in html
    assert not re.search(r"\bnan\b", html)


def test_hloc_files_by_name(run, pairs, command, tmp_path) -> None:
    """Names in hloc's file are those of the folder it was made from, here with another suffix."""
    for folder in pairs:
        with h5py.File(tmp_path / f"{folder.name}.h5", "w") as file:
            for pair in PAIRS:
                [photograph] = [p for p in folder.glob(f"{pair.removesuffix('.png')}.*") if not p.name.startswith(".")]
                for name, array in learned(photograph).items():
                    file[f"{pair.removesuffix('.png')}.jpeg/{name}"] = array.T if name == "descriptors" else array
    files = ("--keypoints", f"h={tmp_path / pairs[0].name}.h5", "--clean-keypoints", f"h={tmp_path / pairs[1].name}.h5")
    *_, summary = run.events(*command, *files)
    assert summary["methods"][1]["pairs"] == 3
    assert summary["methods"][1]["true"] > 0


def test_missing_files_are_told_before_the_work(run, pairs, command, tmp_path) -> None:
    rainy, clean = pairs
    wet, dry = (extract(folder, tmp_path / folder.name, learned) for folder in pairs)
    (wet / "img2.npz").unlink()
    (wet / "img10.npz").unlink()
    result = run(*command, "--keypoints", f"m={wet}", "--clean-keypoints", f"m={dry}")
    assert (result.exit_code, result.stdout) == (2, "")
    hint = "(files go by the photograph's name: x.jpg.npz, x.npz)"
    assert result.stderr == f"{wet}: no keypoints of {rainy / 'img2.png'} and of 1 more {hint}\n"
    assert run(*command, "--keypoints", f"m={wet}", "--clean-keypoints", f"m={dry}", "--count", 1).exit_code == 0
    (dry / "a" / "b" / "x.npz").unlink()
    clean_one = run(*command, "--keypoints", f"m={wet}", "--clean-keypoints", f"m={dry}", "--count", 1)
    assert clean_one.exit_code == 2
    assert clean_one.stderr.startswith(f"{dry}: no keypoints of {clean}/a/b/x.")


def test_a_pair_whose_files_do_not_fit_fails_and_the_others_go_on(run, pairs, command, tmp_path) -> None:
    wet, dry = (extract(folder, tmp_path / folder.name, learned) for folder in pairs)
    options = ("--keypoints", f"m={wet}", "--clean-keypoints", f"m={dry}")
    good = learned(pairs[0] / "img2.png")
    broken = good | {"keypoints": np.where(good["keypoints"] == 8, np.nan, good["keypoints"])}
    for arrays, message in (
        (broken, f"{wet / 'img2.npz'}: keypoint 0 is NaN or infinite"),
        (good | {"descriptors": good["descriptors"][:, :32]},
         f"{wet}, img2: descriptors are 32 float, but 64 float for the clean one"),
        (good | {"descriptors": (good["descriptors"] > 0).astype(np.uint8)},
         f"{wet}, img2: descriptors are 64 uint8, but 64 float for the clean one"),
        (good | {"image_size": np.array([128, 96])},
         f"{wet / 'img2.npz'}: is of a photograph of 128 x 96 pixels, not of 64 x 48"),
    ):  # fmt: skip
        np.savez(wet / "img2.npz", **arrays)
        result = run(*command, *options)
        assert (result.exit_code, result.stderr) == (1, f"{message}\n")
        assert "means of 2 pairs" in result.stdout
    for file in wet.rglob("*.npz"):
        file.write_bytes(b"PK")
    none = run(*command, *options)
    assert (none.exit_code, none.stdout) == (2, "")
    assert none.stderr == f"{wet / 'a' / 'b' / 'x.npz'}: damaged, or no keypoint file\n"


def test_files_of_different_settings_in_one_folder(run, pairs, command, tmp_path) -> None:
    rainy, _ = pairs
    run("sift", rainy, "-o", tmp_path / "npz", "--no-derain")
    run("sift", rainy / "img2.png", "-o", tmp_path / "other", "--no-derain", "--descriptors", "rootsift_u8")
    (tmp_path / "other" / "img2.png.npz").replace(tmp_path / "npz" / "img2.png.npz")
    result = run(*command, "--keypoints", f"m={tmp_path / 'npz'}")
    assert result.exit_code == 1
    assert result.stderr == f"{tmp_path / 'npz'}, img2.png: was made with other settings than the first of its folder\n"


def test_photographs_turned_by_exif(run, pairs, command, tmp_path) -> None:
    """Nobody knows on which grid another program worked."""
    rainy, _clean = pairs
    exif = Image.Exif()
    exif[0x0112] = 3
    for folder in pairs:
        [path] = [p for p in folder.glob("img2.*") if not p.name.startswith(".")]
        Image.open(path).save(path, exif=exif)
    wet, dry = (extract(folder, tmp_path / folder.name, learned) for folder in pairs)
    result = run(*command, "--keypoints", f"m={wet}", "--clean-keypoints", f"m={dry}")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{rainy / 'img2.png'}: is turned by EXIF, and keypoint files do not say")


def test_options_that_do_not_go_together(run, pairs, command, tmp_path) -> None:
    wet, dry = (extract(folder, tmp_path / folder.name, learned) for folder in pairs)
    files = ("--keypoints", f"m={wet}")
    for arguments, message in (
        (files, f"{wet}: `m` is of another extractor than idsr, so its keypoints of the clean photographs are needed "
                "too (add --clean-keypoints m=DIR)"),
        ((*files, "--clean-keypoints", f"n={dry}"),
         "idsr: `--clean-keypoints n` belongs to no `--keypoints n` (add --keypoints n=DIR)"),
        ((*files, *2 * ("--clean-keypoints", f"m={dry}")),
         "idsr: two sets of clean keypoints are called `m` (give each once)"),
        ((*files, "--clean-keypoints", f"m={tmp_path / 'gone'}"),
         f"{tmp_path / 'gone'}: no such folder or file (give a folder of .npz files, or hloc's features.h5)"),
        ((*files, "--clean-keypoints", f"m={dry}", "--method", f"m={pairs[1]}"),
         "idsr: two methods are called `m` (give each another name)"),
    ):  # fmt: skip
        result = run(*command, *arguments)
        assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"{message}\n")
    alone = run("evaluate", "--matching", pairs[1], "--splice", "none", *files)
    assert alone.exit_code == 2
    assert run(*command, "--keypoints", "m").exit_code == 2
