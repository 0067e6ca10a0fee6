"""`idsr match` on a photograph and a warped copy of it, with small networks."""

import io
import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from idsr_cli import networks
from idsr_cli.formats.npz import read_npz
from idsr_cli.weights import ROLE_FILES, save_weights

# From a.png to b.png, both 200x150.
HOMOGRAPHY = np.array([[0.92, 0.1, 9.0], [-0.08, 0.97, 12.0], [2e-4, -1e-4, 1.0]])


def texture(height: int, width: int) -> np.ndarray:
    """Grey blobs of several sizes, uint8."""
    rng = np.random.default_rng(5)
    layers = [cv2.GaussianBlur(rng.normal(0, s, (height, width)), (0, 0), s) * s for s in (1.5, 3.0, 6.0)]
    total = sum(layers)
    return np.clip(128 + 45 * total / total.std(), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.png, b.png (a.png seen from elsewhere), flat.png, tiny.png, a.png.npz and b.png.npz."""
    folder = tmp_path_factory.mktemp("scene")
    a = texture(150, 200)
    b = cv2.warpPerspective(a, HOMOGRAPHY, (200, 150), flags=cv2.INTER_CUBIC, borderValue=128)
    Image.fromarray(a).save(folder / "a.png")
    Image.fromarray(b).save(folder / "b.png")
    Image.new("RGB", (90, 60), "grey").save(folder / "flat.png")
    Image.new("L", (1, 1)).save(folder / "tiny.png")
    from idsr_cli.features import sift
    from idsr_cli.scale_space import grey_image

    for name, image in (("a.png", a), ("b.png", b)):
        keypoints = sift(grey_image(np.repeat(image[:, :, None], 3, 2).astype(np.float32) / 255))
        save_npz(folder / f"{name}.npz", keypoints, "sift_u8")
    return folder


def save_npz(path: Path, keypoints, kind: str) -> None:
    from idsr_cli.formats.descriptors import convert
    from idsr_cli.formats.npz import encode

    path.write_bytes(encode(convert(keypoints, kind), {"descriptors": kind, "weights": None}))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks that take 0.02 from every pixel, DPRNet, or 0.04, GGIRNet: 5 and 10 grey levels. Dry is below 7."""
    folder = tmp_path_factory.mktemp("weights") / "darker"
    for (role, file), amount in zip(ROLE_FILES.items(), (0.02, 0.04), strict=True):
        config = {**networks.BASE, "widths": (8, 8), "blocks": (1, 1, 1), "attention": networks.ROLES[role]}
        network = networks.build("unet", config)
        with torch.no_grad():
            network.tail.weight.zero_()  # type: ignore[union-attr, operator]
            network.tail.bias.fill_(amount)  # type: ignore[union-attr, operator]
        metadata = {"idsr.arch": role, "idsr.layout": "unet", "idsr.config": json.dumps(config),
                    "idsr.splice": "DG", "idsr.dry_threshold": "7"}  # fmt: skip
        save_weights(folder / file, network, metadata)
    return folder


PLAIN = ("--derain", "none")


def event(run, *arguments: object) -> dict:
    (one,) = run.events("match", *arguments)
    return one


# --- the result ------------------------------------------------------------------------------------------------------


def test_a_known_scene(run, scene) -> None:
    result = event(run, scene / "a.png", scene / "b.png", *PLAIN)
    assert (result["schema"], result["event"], result["model"]) == (1, "match", "homography")
    assert result["inputs"] == [f"{scene}/a.png", f"{scene}/b.png"]
    assert (result["sizes"], result["derained"]) == ([[200, 150]] * 2, [False, False])
    counts = [len(read_npz(scene / f"{name}.png.npz")[0]) for name in "ab"]
    assert result["keypoints"] == counts
    assert 60 < result["inliers"] <= result["matches"] <= min(counts)
    assert result["inliers"] > 0.9 * result["matches"]
    grid = np.stack(np.meshgrid(np.linspace(20, 180, 9), np.linspace(20, 130, 9)), -1).reshape(-1, 1, 2)
    found, true = (cv2.perspectiveTransform(grid, np.array(m)) for m in (result["matrix"], HOMOGRAPHY))
    assert np.median(np.linalg.norm(found - true, axis=2)) < 0.15
    assert result["median_error"] < 0.5
    assert (result["weights"], result["splice"], result["device"]) == (None, None, None)


def test_text(run, scene) -> None:
    json_result = event(run, scene / "a.png", scene / "b.png", *PLAIN)
    result = run("match", scene / "a.png", scene / "b.png", *PLAIN)
    assert (result.exit_code, result.stderr) == (0, "")
    a, b, matches, inliers, *matrix = result.stdout.splitlines()
    assert a == f"A  {scene}/a.png  200x150  {json_result['keypoints'][0]} keypoints  not derained"
    assert b.startswith(f"B  {scene}/b.png")
    assert matches == f"matches  {json_result['matches']}  mutual, ratio 0.8, RootSIFT"
    assert inliers.startswith(f"inliers  {json_result['inliers']}  ")
    assert "follow the homography within 3 px" in inliers
    rows = [[float(cell) for cell in row.removeprefix("homography").split()] for row in matrix]
    np.testing.assert_allclose(rows, json_result["matrix"], rtol=1e-4)
    assert max(map(len, matrix)) <= 80


def test_models(run, scene) -> None:
    pair = (scene / "a.png.npz", scene / "b.png.npz")
    fundamental = event(run, *pair, "--model", "fundamental")
    assert fundamental["model"] == "fundamental"
    assert abs(np.linalg.det(fundamental["matrix"])) < 1e-9
    none = event(run, *pair, "--model", "none")
    assert (none["model"], none["matrix"], none["inliers"], none["median_error"]) == (None,) * 4
    assert none["matches"] == fundamental["matches"]
    assert len(run("match", *pair, "--model", "none").stdout.splitlines()) == 3


def test_options_of_matching(run, scene) -> None:
    pair = (scene / "a.png.npz", scene / "b.png.npz")
    usual = event(run, *pair)
    strict = event(run, *pair, "--ratio", 0.5)
    loose = event(run, *pair, "--ratio", 1)
    one_way = event(run, *pair, "--ratio", 1, "--no-mutual")
    assert strict["matches"] < usual["matches"] < loose["matches"] < one_way["matches"] == usual["keypoints"][0]
    assert "matches  " + str(one_way["matches"]) + "  RootSIFT" in run(
        "match", *pair, "--ratio", 1, "--no-mutual"
    ).stdout.splitlines()  # fmt: skip
    sift = event(run, *pair, "--no-rootsift")
    assert (sift["descriptors"], usual["descriptors"]) == ("sift", "rootsift")
    assert sift["matches"] != usual["matches"]
    exact, wide = (event(run, *pair, "--threshold", value) for value in (0.3, 5))
    assert exact["inliers"] < usual["inliers"] <= wide["inliers"]
    assert exact["median_error"] < 0.3
    assert event(run, *pair, "--max-keypoints", 40)["keypoints"] == [40, 40]


def test_min_inliers_decides_the_exit_code(run, scene) -> None:
    pair = (scene / "a.png.npz", scene / "b.png.npz")
    count = event(run, *pair)["inliers"]
    assert run("match", *pair, "--min-inliers", count).exit_code == 0
    short = run("match", *pair, "--min-inliers", count + 1)
    assert (short.exit_code, f"inliers  {count}" in short.stdout) == (1, True)
    assert run("match", *pair, "--min-inliers", 1, "--model", "none").exit_code == 2


# --- deraining -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "splice", "expected"),
    [
        ("auto", "DG", [True, True]),  # GGIRNet changes 10 grey levels
        ("auto", "GG", [True, True]),
        ("auto", "DD", [False, False]),  # DPRNet 5, which counts as dry
        ("both", "DD", [True, True]),
        ("A", "DD", [True, False]),
        ("B", "DD", [False, True]),
        ("none", None, [False, False]),
    ],
)
def test_derain(run, scene, weights, mode, splice, expected) -> None:
    arguments = [scene / "flat.png", scene / "flat.png", "--derain", mode, "--device", "cpu"]
    arguments += ["--weights", weights] if mode != "none" else []
    arguments += ["--splice", splice] if splice else []
    result = event(run, *arguments)
    assert result["derained"] == expected
    assert (result["derain"], result["splice"]) == (mode, splice)
    if mode == "none":
        assert result["weights"] is None
    else:
        assert (result["weights"]["name"], result["device"], result["precision"]) == ("darker", "cpu", "fp32")
    words = [line.split("keypoints  ")[1] for line in run("match", *arguments).stdout.splitlines()[:2]]
    spoken = {True: "derained", False: "no rain seen, not derained" if mode == "auto" else "not derained"}
    assert words == [spoken[one] for one in expected]


def test_splice_of_the_weights_and_tiles(run, scene, weights) -> None:
    pair = (scene / "a.png", scene / "b.png", "--weights", weights, "--device", "cpu")
    whole = event(run, *pair)
    assert whole["splice"] == "DG"
    tiled = event(run, *pair, "--tile", 160, "--precision", "fp32")
    assert (tiled["keypoints"], tiled["inliers"]) == (whole["keypoints"], whole["inliers"])


def test_damaged_weights_and_absent_devices(run, scene, tmp_path) -> None:
    (tmp_path / "dprnet.safetensors").write_bytes(b"")
    pair = (scene / "a.png", scene / "b.png")
    for arguments in (["--weights", tmp_path], ["--device", "cuda:99"]):
        result = run("match", *pair, *arguments)
        assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)


# --- keypoint files --------------------------------------------------------------------------------------------------


def test_keypoint_files_are_their_photographs(run, scene) -> None:
    photos = event(run, scene / "a.png", scene / "b.png", *PLAIN)
    files = event(run, scene / "a.png.npz", scene / "b.png.npz")
    mixed = event(run, scene / "a.png", scene / "b.png.npz", *PLAIN)
    for result in (files, mixed):
        assert [result[k] for k in ("keypoints", "matches", "inliers", "matrix")] == [
            photos[k] for k in ("keypoints", "matches", "inliers", "matrix")
        ]
    assert (files["derained"], mixed["derained"]) == ([None, None], [False, None])
    assert "from a file, plain SIFT" in run("match", scene / "a.png.npz", scene / "b.png.npz").stdout
    assert event(run, scene / "a.png.npz", scene / "b.png", *PLAIN, "--max-keypoints", 30)["keypoints"] == [30, 30]


def test_kinds_of_descriptors(run, scene, tmp_path) -> None:
    a, _ = read_npz(scene / "a.png.npz")
    usual = event(run, scene / "a.png.npz", scene / "b.png.npz")
    for kind in ("rootsift_u8", "rootsift_f32"):
        save_npz(tmp_path / f"{kind}.npz", a, kind)
        same = event(run, tmp_path / f"{kind}.npz", scene / "b.png.npz")
        assert (same["matches"], same["matrix"]) == (usual["matches"], usual["matrix"])
        result = run("match", tmp_path / f"{kind}.npz", scene / "b.png.npz", "--no-rootsift")
        assert (result.exit_code, "holds RootSIFT descriptors" in result.stderr) == (1, True)


def test_keypoint_files_have_nothing_to_derain(run, scene) -> None:
    for mode in ("A", "both"):
        result = run("match", scene / "a.png.npz", scene / "b.png", "--derain", mode)
        assert (result.exit_code, "holds keypoints" in result.stderr) == (2, True)
    result = run("match", scene / "a.png.npz", scene / "b.png.npz", "--splice", "DD")
    assert (result.exit_code, "`--splice` has no effect: no network is used" in result.stderr) == (2, True)


def test_damaged_keypoint_files(run, scene, tmp_path) -> None:
    whole = (scene / "a.png.npz").read_bytes()
    arrays = dict(np.load(io.BytesIO(whole)))
    broken = {"cut": whole[:-300], "text": b"no npz", "empty": b""}
    for name, change in (("short", {"xy": arrays["xy"][:5]}), ("nan", {"xy": arrays["xy"] * np.nan}),
                         ("size", {"image_size": np.int32([0, 0])})):  # fmt: skip
        stream = io.BytesIO()
        np.savez(stream, **{**arrays, **change})
        broken[name] = stream.getvalue()
    for name, data in broken.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(data)
        result = run("match", path, scene / "b.png.npz")
        assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
        assert result.stderr.startswith(f"{path}: ")


# --- outputs ---------------------------------------------------------------------------------------------------------


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_picture(run, scene, tmp_path, suffix, kind) -> None:
    out = tmp_path / "new" / f"picture.{suffix}"
    result = event(run, scene / "a.png.npz", scene / "b.png.npz", "-o", out)
    assert result["output"] == str(out)
    image = opened(out.read_bytes())
    assert image.format == kind
    assert image.width > 2 * 200
    assert image.height > 150


def test_picture_shows_what_was_matched(run, scene, weights, tmp_path) -> None:
    """The derained photograph, of a scene without keypoints: nothing is drawn over it."""
    levels = {}
    for mode in ("none", "both"):
        out = tmp_path / f"{mode}.png"
        chosen = ("--weights", weights) if mode == "both" else ()
        run("match", scene / "flat.png", scene / "flat.png", "--derain", mode, *chosen, "-o", out)
        levels[mode] = np.asarray(opened(out.read_bytes()).convert("L"))[20, 20]
    assert levels["none"] - levels["both"] == pytest.approx(0.75 * 5, abs=1)


def test_picture_of_keypoint_files(run, scene, tmp_path) -> None:
    """The photograph beside the file is drawn, if it is the one."""
    pictures = {}
    for place in ("beside", "alone", "other"):
        folder = tmp_path / place
        folder.mkdir()
        for name in ("a.png", "b.png"):
            (folder / f"{name}.npz").write_bytes((scene / f"{name}.npz").read_bytes())
            if place != "alone":
                source = scene / (name if place == "beside" else "flat.png")
                (folder / name).write_bytes(source.read_bytes())
        result = run("match", folder / "a.png.npz", folder / "b.png.npz", "-o", folder / "out.png")
        assert result.exit_code == 0
        first, *others = result.stderr.splitlines()
        assert others[-1:] == ([f"wrote {folder}/out.png"] if place != "beside" else [])
        if place == "beside":
            assert first == f"wrote {folder}/out.png"
        if place == "alone":
            names = f"{folder}/a.png.npz and {folder}/b.png.npz"
            assert (
                first == f"warning: no photograph beside {names}: drawn on grey (x.jpg is looked for beside x.jpg.npz)"
            )
        assert ("drawn on grey instead" in first) == (place == "other")
        pictures[place] = (folder / "out.png").read_bytes()
    run("match", scene / "a.png", scene / "b.png", *PLAIN, "-o", tmp_path / "photos.png")
    assert pictures["beside"] == (tmp_path / "photos.png").read_bytes()
    assert pictures["alone"] == pictures["other"] != pictures["beside"]


def test_picture_without_a_model_colours_by_distance(run, scene, tmp_path) -> None:
    pair = (scene / "a.png.npz", scene / "b.png.npz", "-o", tmp_path / "out.png")
    assert run("match", *pair, "--model", "none").exit_code == 0
    first = (tmp_path / "out.png").read_bytes()
    run("match", *pair)
    assert first != (tmp_path / "out.png").read_bytes()


def test_tables_of_matches(run, scene, tmp_path) -> None:
    pair = (scene / "a.png.npz", scene / "b.png.npz")
    result = event(run, *pair, "--matches", tmp_path / "m.txt")
    event(run, *pair, "--matches", tmp_path / "m.npz")
    table = np.loadtxt(tmp_path / "m.txt")
    assert table.shape == (result["matches"], 9)
    comments = dict(line[2:].split(": ", 1) for line in (tmp_path / "m.txt").read_text().splitlines() if ": " in line)
    assert json.loads(comments["A"]) == str(pair[0])
    assert json.loads(comments["matrix"]) == result["matrix"]
    assert "# i j xA yA xB yB distance error inlier" in (tmp_path / "m.txt").read_text()
    a, b = (read_npz(path)[0] for path in pair)
    i, j = table[:, :2].astype(int).T
    np.testing.assert_allclose(table[:, 2:4], a.xy[i], atol=1e-4)
    np.testing.assert_allclose(table[:, 4:6], b.xy[j], atol=1e-4)
    assert table[:, 8].sum() == result["inliers"]
    np.testing.assert_array_equal(table[:, 8] == 1, table[:, 7] <= 3)
    with np.load(tmp_path / "m.npz") as arrays:
        np.testing.assert_array_equal(arrays["index"], table[:, :2])
        np.testing.assert_array_equal(arrays["xy_a"], a.xy[i])
        np.testing.assert_array_equal(arrays["xy_b"], b.xy[j])
        np.testing.assert_allclose(arrays["distance"], table[:, 6], atol=0.006)
        np.testing.assert_allclose(arrays["error"], table[:, 7], atol=6e-5)
        np.testing.assert_array_equal(arrays["inlier"], table[:, 8] == 1)
        assert arrays["matrix"].tolist() == result["matrix"]
        meta = json.loads(str(arrays["meta"]))
    assert (meta["model"], meta["ratio"], meta["inputs"]) == ("homography", 0.8, [str(path) for path in pair])


def test_outputs_are_the_same_every_time(run, scene, tmp_path) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)
            folder = tmp_path / str(threads)
            run(
                "match", scene / "a.png", scene / "b.png", *PLAIN, "-o", folder / "p.png", "--matches", folder / "m.npz"
            )
            run("match", scene / "a.png", scene / "b.png", *PLAIN, "--matches", folder / "m.txt")
    finally:
        torch.set_num_threads(before)
        cv2.setNumThreads(-1)
    for name in ("p.png", "m.npz"):
        assert len({(tmp_path / threads / name).read_bytes() for threads in "123"}) == 1


def test_pipes(run, scene) -> None:
    data = (scene / "a.png").read_bytes()
    result = run("match", "-", scene / "b.png", *PLAIN, stdin=data)
    assert result.stdout.startswith("A  -  ")
    picture = run("match", "-", scene / "b.png", *PLAIN, "-o", "-", stdin=data)
    assert opened(picture.stdout_bytes).format == "PNG"
    assert "inliers  " in picture.stderr
    table = run("match", "-", scene / "b.png", *PLAIN, "--matches", "-", stdin=data)
    assert np.loadtxt(io.StringIO(table.stdout)).shape[1] == 9
    assert "inliers  " in table.stderr


def test_what_contradicts_is_refused(run, scene, tmp_path) -> None:
    a, b = scene / "a.png", scene / "b.png"
    for arguments, words in (
        ([a, b, "-o", "-", "--matches", "-"], "`-o -` and `--matches -` all want standard output"),
        ([a, b, "-o", "-", "--json"], "want standard output"),
        ([a, b, "-o", tmp_path / "x.npz"], "x.npz: unknown suffix for `-o`"),
        ([a, b, "--matches", tmp_path / "x.png"], "x.png: unknown suffix for `--matches`"),
        ([a, b, "-o", a], "would replace another file"),
        ([scene / "a.png.npz", b, "--matches", scene / "a.png.npz"], "would replace another file"),
        ([a, b, "-o", tmp_path], "unknown suffix for `-o`"),
        ([a, scene / "none.png"], f"{scene}/none.png: no such file"),
        ([a, scene], "is a folder"),
        (["-", "-"], "holds one photograph, not two"),
        ([a, b, "--splice", "DD", "--derain", "none"], "`--splice` has no effect: no network is used"),
        ([a, b, "--weights", "base", "--derain", "none"], "`--weights` has no effect: no network is used"),
        ([a, b, "--precision", "fp32", "--derain", "none"], "`--precision` has no effect: no network is used"),
        ([scene / "a.png.npz", scene / "a.png.npz", "--tile", 64], "`--tile` has no effect: no network is used"),
    ):
        result = run("match", *arguments, stdin=b"")
        assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
        assert words in result.stderr
    for arguments in (["--ratio", 0], ["--ratio", 1.2], ["--threshold", 0], ["--max-keypoints", 0]):
        assert run("match", a, b, *arguments).exit_code == 2


# --- hardly anything to match ----------------------------------------------------------------------------------------


def test_the_same_photograph_twice(run, scene) -> None:
    result = event(run, scene / "a.png", scene / "a.png", *PLAIN)
    assert result["inliers"] == result["matches"] > 0.8 * result["keypoints"][0]
    np.testing.assert_allclose(result["matrix"], np.eye(3), atol=1e-6)


@pytest.mark.parametrize("model", ["auto", "homography", "fundamental", "none"])
@pytest.mark.parametrize("other", ["flat.png", "tiny.png"])
def test_no_keypoints_is_a_result(run, scene, tmp_path, other, model) -> None:
    pair = (scene / "a.png", scene / other, *PLAIN, "--model", model)
    result = event(run, *pair, "-o", tmp_path / "p.png", "--matches", tmp_path / "m.txt")
    assert (result["keypoints"][1], result["matches"], result["matrix"]) == (0, 0, None)
    assert result["inliers"] == (None if model == "none" else 0)
    assert result["model"] is None
    assert "# model: null\n" in (tmp_path / "m.txt").read_text()
    text = run("match", *pair, "--matches", tmp_path / "m.npz")
    assert text.exit_code == 0
    none = {"auto": "neither a homography nor a fundamental matrix", "homography": "no homography",
            "fundamental": "no fundamental matrix"}  # fmt: skip
    if model != "none":
        assert f"inliers  0  {none[model]} fits: too few matches, or all on one line\n" in text.stdout
    opened((tmp_path / "p.png").read_bytes()).load()
    assert not [line for line in (tmp_path / "m.txt").read_text().splitlines() if not line.startswith("#")]
    with np.load(tmp_path / "m.npz") as arrays:
        assert arrays["index"].shape == (0, 2)
        assert np.isnan(arrays["matrix"]).all()


def test_few_matches(run, scene) -> None:
    pair = (scene / "a.png.npz", scene / "a.png.npz")
    assert event(run, *pair, "--max-keypoints", 3)["inliers"] == 0
    assert event(run, *pair, "--max-keypoints", 7, "--model", "fundamental")["inliers"] == 0
    few = run("match", *pair, "--max-keypoints", 9, "--model", "homography")
    assert (few.exit_code, "fewer than 15 inliers can be chance" in few.stderr) == (0, True)


def test_damaged_photographs(run, scene, tmp_path) -> None:
    for name, data in (("empty.png", b""), ("cut.png", (scene / "a.png").read_bytes()[:500]), ("text.jpg", b"text")):
        (tmp_path / name).write_bytes(data)
        result = run("match", scene / "a.png", tmp_path / name, "-o", tmp_path / "out.png")
        assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
        assert result.stderr.startswith(f"{tmp_path / name}: ")
        assert not (tmp_path / "out.png").exists()


def test_orientation_is_not_applied(run, scene, tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    opened((scene / "b.png").read_bytes()).save(tmp_path / "turned.png", exif=exif)
    turned = event(run, scene / "a.png", tmp_path / "turned.png", *PLAIN)
    usual = event(run, scene / "a.png", scene / "b.png", *PLAIN)
    assert (turned["sizes"], turned["matrix"]) == (usual["sizes"], usual["matrix"])


def test_verbose_says_how_much_rain_was_seen(run, scene, weights) -> None:
    """Of photographs that count as dry, too, as `derain -v` does."""
    command = ("match", scene / "a.png", scene / "b.png", "--weights", weights, "--splice", "DD", "-v")
    told = re.findall(r"no rain seen \((\d\.\d\d) grey levels\)", run(*command).stderr)
    assert [float(level) for level in told] == pytest.approx([5.1, 5.1], abs=0.2)
    assert run(*command, "--force").stderr.count("rain of 5.") == 2


def test_verbose_and_quiet(run, scene) -> None:
    pair = (scene / "a.png.npz", scene / "b.png.npz")
    assert "A: " in run("match", *pair, "-v").stderr
    few = run("match", *pair, "--max-keypoints", 8, "-q")
    assert (few.stderr, "inliers" in few.stdout) == ("", True)


def test_results_to_the_null_device(run, tmp_path) -> None:
    import os

    from PIL import Image

    noise = np.random.default_rng(3).uniform(0, 255, (12, 16, 3)).astype(np.uint8)
    Image.fromarray(noise).resize((160, 120), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    both = (tmp_path / "a.png", tmp_path / "a.png")
    result = run("match", *both, "--derain", "none", "-o", os.devnull, "--matches", os.devnull)
    assert result.exit_code == 0, result.stderr


def test_a_long_path_is_cut_on_a_terminal_only(run, scene, tmp_path, in_terminal) -> None:
    """Each photograph has one line; what is piped elsewhere has the whole path."""
    folder = tmp_path / ("a rather long name of a folder " * 3).strip()
    folder.mkdir()
    names = [folder / f"{name}.png.npz" for name in "ab"]
    for name in names:
        name.write_bytes((scene / name.name).read_bytes())
    code, shown = in_terminal([sys.executable, "-m", "idsr_cli"], ["match", *names])
    assert code == 0, shown
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "\n", shown.replace("\r", "\n"))  # the progress bar is before them
    lines = [line for line in plain.splitlines() if line[:3] in ("A  ", "B  ")]
    assert max(map(len, lines)) <= 80
    for line, name in zip(lines, ("a.png.npz", "b.png.npz"), strict=True):
        assert re.match(rf"[AB]  /.*….*{name}  200x150  +\d+ keypoints  from a file, plain SIFT$", line)
    assert str(names[0]) in run("match", *names).stdout
