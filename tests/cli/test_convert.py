"""`idsr convert`: the files that `idsr sift --format` would have written, or a plain refusal."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from idsr_cli.formats import FORMATS, FileFormat
from idsr_cli.formats.npz import read_npz

NAMES = ["a/b/x.jpg", "img10.png", "img2.png"]
PER_PHOTO = [name for name, kind in FORMATS.items() if isinstance(kind, FileFormat)]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".idsr.jsonl")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def formats(*names: str) -> list[str]:
    return [word for name in names for word in ("--format", name)]


@pytest.fixture
def made(run, photos, tmp_path) -> Path:
    """The keypoints of the photographs in every format with a file for each photograph."""
    assert (
        run("sift", photos, "-o", tmp_path / "made", *formats(*PER_PHOTO), "--like", "opencv", "--no-derain").exit_code
        == 0
    )
    return tmp_path / "made"


def test_npz_becomes_what_sift_writes(run, made, tmp_path) -> None:
    result = run("convert", made, "-o", tmp_path / "out", *formats(*PER_PHOTO))
    assert (result.exit_code, contents(tmp_path / "out")) == (0, contents(made))
    assert "converted 3 (" in result.stderr
    assert "not kept in lowe: response, octave, image size, settings\n" in result.stderr
    assert "not kept in npz" not in result.stderr
    again = run("convert", made, "-o", tmp_path / "out", *formats(*PER_PHOTO))
    assert ("skipped 3" in again.stderr, "stale" in again.stderr) == (True, False)


@pytest.mark.parametrize("source", ["opencv", "colmap", "lowe", "vlfeat"])
def test_text_becomes_other_text(run, made, tmp_path, source) -> None:
    wanted = [name for name in ("colmap", "lowe", "vlfeat", "oxford") if name != source]
    result = run("convert", made, "--from", source, "-o", tmp_path / "out", *formats(*wanted))
    assert result.exit_code == 0, result.stderr
    found = contents(tmp_path / "out")
    assert sorted(found) == sorted(f"{name}{FORMATS[kind].suffix}" for name in NAMES for kind in wanted)
    if source == "opencv":  # it has more digits than text
        kept = {name: data for name, data in contents(made).items() if name in found and not name.endswith(".txt")}
        assert kept.items() <= found.items()


def test_hlocs_file_becomes_what_sift_writes(run, photos, made, tmp_path) -> None:
    pytest.importorskip("h5py")
    run("sift", photos, "-o", tmp_path / "f.h5", "--format", "hloc", "--like", "opencv", "--no-derain")
    result = run("convert", tmp_path / "f.h5", "-o", tmp_path / "out", *formats(*PER_PHOTO))
    assert result.exit_code == 0, result.stderr
    wanted = contents(made)
    found = contents(tmp_path / "out")
    assert sorted(found) == sorted(wanted)
    assert all(found[name] == wanted[name] for name in found if not name.endswith(".npz"))
    for name in NAMES:
        (one, meta), (other, before) = (read_npz(folder / f"{name}.npz") for folder in (tmp_path / "out", made))
        for field in ("xy", "scale", "angle", "response", "octave", "layer", "descriptors"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
        assert (meta["converted"], meta["sift"], meta["descriptors"]) == ("hloc", before["sift"], "sift_u8")


def test_which_photograph_of_a_common_file(run, photos, tmp_path) -> None:
    """Messages and JSON tell the photographs of one file apart; npz files tell by their own name."""
    pytest.importorskip("h5py")
    source, out = tmp_path / "f.h5", tmp_path / "out"
    run("sift", photos, "-o", source, "--format", "hloc", "--no-derain")
    convert, in_order = ("convert", source, "-o", out, "--format", "npz"), ["a/b/x.jpg", "img2.png", "img10.png"]
    assert run(*convert, "-n").stdout.splitlines() == [f"{source}: {name} -> {out}/{name}.npz" for name in in_order]
    for command in (("--json", "-n"), ("--json",)):
        told = [json.loads(line) for line in run(*convert, *command).stdout.splitlines()]
        assert [line["photo"] for line in told if line["event"] != "summary"] == in_order
        assert {line["input"] for line in told if line["event"] != "summary"} == {str(source)}
    assert "photo" not in json.loads(
        run("convert", out, "-o", out, "--format", "lowe", "--json").stdout.split("\n", 1)[0]
    )


def test_common_files_of_npz(run, photos, made, tmp_path) -> None:
    pytest.importorskip("h5py")
    pytest.importorskip("pycolmap")
    out, photo = tmp_path / "out", ("--photos", photos)
    result = run("convert", made, "-o", out, *formats("colmap-db", "hloc", "lowe"), *photo)
    assert result.exit_code == 0, result.stderr
    run("sift", photos, "-o", tmp_path / "alone", *formats("colmap-db", "hloc"), "--like", "opencv", "--no-derain")
    for name, file in (("colmap-db", "database.db"), ("hloc", "features.h5")):
        for photograph in NAMES:
            one, other = (FORMATS[name].read(folder / file, photograph) for folder in (out, tmp_path / "alone"))
            np.testing.assert_array_equal(one.keypoints.xy, other.keypoints.xy)
            np.testing.assert_array_equal(one.keypoints.descriptors, other.keypoints.descriptors)
    assert not [path for path in out.iterdir() if path.name.endswith(".parts")]
    assert "skipped 3" in run("convert", made, "-o", out, *formats("colmap-db", "hloc", "lowe"), *photo).stderr
    # Without photographs, and from file to file.
    assert run("convert", out / "features.h5", "-o", tmp_path / "b.db", *formats("colmap-db")).exit_code == 0
    assert sorted(FORMATS["colmap-db"].contents(tmp_path / "b.db")) == NAMES
    assert run("convert", tmp_path / "b.db", "-o", tmp_path / "texts", *formats("lowe")).exit_code == 0
    assert len(contents(tmp_path / "texts")) == 3


def test_descriptors(run, made, tmp_path) -> None:
    photo = made / "img2.png.npz"
    run("convert", photo, "-o", tmp_path / "root.npz", "--format", "npz", "--descriptors", "rootsift_u8")
    _, meta = read_npz(tmp_path / "root.npz")
    assert meta["descriptors"] == "rootsift_u8"
    # `lowe` takes both, and SIFT cannot be made again.
    run("convert", tmp_path / "root.npz", "-o", tmp_path / "x.key", "--format", "lowe")
    found = FORMATS["lowe"].read(tmp_path / "x.key").keypoints.descriptors
    np.testing.assert_array_equal(found, read_npz(tmp_path / "root.npz")[0].descriptors)
    command = ("convert", tmp_path / "root.npz", "-o", tmp_path / "y.key", "--format", "lowe")
    result = run(*command, "--descriptors", "sift_u8")
    assert (result.exit_code, "SIFT cannot be made of RootSIFT in bytes" in result.stderr) == (1, True)
    result = run("convert", made / "img2.png.key", "-o", tmp_path / "z", *formats("vlfeat"), "--descriptors", "sift_u8")
    assert (result.exit_code, "does not say whether its descriptors are SIFT or RootSIFT" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["made", "--from", "colmap", "-o", "out", "--format", "npz"],
         "made/a/b/x.jpg.txt: colmap holds no response and no octave and no image size, which npz needs"),
        (["made", "--from", "oxford", "-o", "out", "--format", "lowe"], "oxford holds no angle, which lowe needs"),
        (["made", "--from", "lowe", "-o", "out", "--format", "lowe"], "the format is lowe already"),
        (["made", "-o", "out"], "which format to write is missing (add `--format NAME`)"),
        (["made", "--format", "lowe"], "where to write is missing"),
        (["nothing", "-o", "out", "--format", "lowe"], "nothing: no such file or folder"),
        (["photos/notes.png", "-o", "out", "--format", "lowe"], "not the name of a keypoint file (known: .npz .txt"),
        (["photos", "-o", "out", "--format", "lowe"], "photos: no keypoints found (looked for npz; `--from` names"),
        (["made", "-o", "k.key", "--format", "lowe"], "k.key: is the name of one file, and the input is a folder"),
        (["made", "-o", "out", "--format", "lowe", "--photos", "photos"], "`--photos` is for `--format colmap-db`"),
        (["made", "--from", "hloc", "-o", "out", "--format", "lowe"], "is a folder, and `hloc` is one file"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted(run, photos, made, tmp_path, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    (photos / "notes.png").touch()
    result = run("convert", *arguments)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "photos"]


def test_damaged_files_fail_alone_and_a_pipe(run, made, tmp_path) -> None:
    (made / "img2.png.npz").write_bytes(b"damaged")
    *items, summary = run.events("convert", made, "-o", tmp_path / "out", *formats("lowe", "vlfeat"))
    assert (summary["ok"], summary["failed"]) == (2, 1)
    assert {item["status"] for item in items if item["input"].endswith("img2.png.npz")} == {"failed"}
    assert len(contents(tmp_path / "out")) == 4
    piped = run("convert", made / "img10.png.npz", "-o", "-", "--format", "lowe")
    assert piped.stdout.encode() == (made / "img10.png.key").read_bytes()


def test_what_is_incomplete_in_a_common_file_fails_alone(run, made, tmp_path) -> None:
    """A photograph without keypoints or descriptors is named; it is not left out in silence."""
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("pycolmap")
    run("convert", made, "-o", tmp_path, *formats("hloc", "colmap-db"))
    with h5py.File(tmp_path / "features.h5", "a") as file:
        del file["a/b/x.jpg/descriptors"]
        del file["img2.png/keypoints"]
    with closing(sqlite3.connect(tmp_path / "database.db")) as database, database:
        number = "(SELECT image_id FROM images WHERE name = ?)"
        database.execute(f"DELETE FROM descriptors WHERE image_id = {number}", ["a/b/x.jpg"])
        database.execute(f"DELETE FROM keypoints WHERE image_id = {number}", ["img2.png"])
    for file in (tmp_path / "features.h5", tmp_path / "database.db"):
        out = tmp_path / f"of {file.stem}"
        result = run("convert", file, "-o", out, "--format", "lowe")
        assert result.exit_code == 1
        told = [line for line in result.stderr.splitlines() if line.startswith(str(file))]
        assert told == [f"{file}: a/b/x.jpg: has no descriptors", f"{file}: img2.png: has no keypoints"]
        assert list(contents(out)) == ["img10.png.key"]
        refused = run("merge", file, "-o", tmp_path / f"merged{file.suffix}")
        assert (refused.exit_code, "has no " in refused.stderr) == (2, True)
    # A file without features at all, as hloc's matches.
    with h5py.File(tmp_path / "matches.h5", "w") as file:
        file["a.jpg/b.jpg/matches0"] = np.zeros(3, np.int16)
    result = run("convert", tmp_path / "matches.h5", "-o", tmp_path / "out", "--format", "lowe")
    assert (result.exit_code, "a.jpg/b.jpg: has no keypoints and no descriptors" in result.stderr) == (2, True)


def test_from_a_pipe(run, made, tmp_path) -> None:
    """Standard input is npz, as `idsr sift - -o -` writes it, or what `--from` names."""
    npz = (made / "img2.png.npz").read_bytes()
    assert run("convert", "-", "--format", "lowe", stdin=npz).stdout_bytes == (made / "img2.png.key").read_bytes()
    run("convert", "-", "-o", tmp_path / "x.sift", "--format", "vlfeat", stdin=npz)
    assert (tmp_path / "x.sift").read_bytes() == (made / "img2.png.sift").read_bytes()
    key = (made / "img2.png.key").read_bytes()
    run("convert", made / "img2.png.key", "-o", tmp_path / "y.sift", "--format", "vlfeat")
    piped = run("convert", "-", "--from", "lowe", "-o", "-", "--format", "vlfeat", stdin=key)
    assert piped.stdout_bytes == (tmp_path / "y.sift").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "message"),
    [
        (["-"], b"1 128\n", 1, "standard input: not a keypoint file of idsr, or damaged"),
        (
            ["-", "--from", "colmap"],
            b"words",
            1,
            "standard input: not a keypoint file of the format colmap, or damaged",
        ),
        (["-"], b"", 1, "standard input: it is empty (the command before the pipe wrote nothing)"),
        (["-", "made"], b"", 2, "`-` (standard input) stands alone"),
        (["-", "--from", "hloc"], b"", 2, "`hloc` is read from a file, not from standard input (name the file)"),
        (["-", "-o", "out"], b"", 2, "standard input has no name, so OUT must be a file or `-`"),
        (["-", "--format", "vlfeat"], b"", 2, "2 formats are asked for, which do not fit into one pipe"),
    ],
)
def test_pipes_that_cannot_be_read(run, made, tmp_path, monkeypatch, arguments, stdin, code, message) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("convert", *arguments, "--format", "lowe", stdin=stdin)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr


def test_names_that_lead_out_of_the_folder(run, made, tmp_path) -> None:
    pytest.importorskip("pycolmap")
    run("convert", made, "-o", tmp_path / "x.db", "--format", "colmap-db")
    with closing(sqlite3.connect(tmp_path / "x.db")) as database, database:
        database.execute("UPDATE images SET name = '../../img2.png' WHERE name = 'img2.png'")
    result = run("convert", tmp_path / "x.db", "-o", tmp_path / "out", "--format", "lowe")
    assert (result.exit_code, "its name leads out of the folder of photographs" in result.stderr) == (1, True)
    assert sorted(contents(tmp_path / "out")) == ["a/b/x.jpg.key", "img10.png.key"]
    assert not (tmp_path / "img2.png.key").exists()
