"""`--shard` of derain and sift, and `idsr merge`."""

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from idsr_cli.files import volume
from idsr_cli.runs.shards import FOLDER, Shard, shard_number
from idsr_cli.runs.stamps import RECORD


def files(folder: Path) -> dict[str, bytes]:
    paths = (
        path for path in folder.rglob("*") if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
    )
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def many(tmp_path, paint) -> Path:
    """many/cam{0,1}/{0..7}.jpg: of two cameras and with positions in cam0, without EXIF in cam1."""
    for i in range(16):
        path = tmp_path / "many" / f"cam{i % 2}" / f"{i // 2}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if i % 2 == 0:
            exif[0x010F], exif[0x0110] = "Maker", f"Model {i % 4}"
            exif.get_ifd(0x8769)[0x920A] = IFDRational(35)
            exif.get_ifd(0x8769)[0xA405] = 35
            north = (IFDRational(48), IFDRational(i), IFDRational(0))
            exif.get_ifd(0x8825).update({1: "N", 2: north, 3: "E", 4: north, 5: b"\0", 6: IFDRational(100 + i)})
        Image.fromarray(paint(seed=i)).save(path, exif=exif, quality=95)
    return tmp_path / "many"


def test_shards_give_the_files_of_the_whole_run(run, halving, many, tmp_path) -> None:
    assert run("derain", many, "-o", tmp_path / "whole").exit_code == 0
    for i in (1, 2, 3):
        assert run("derain", many, "-o", tmp_path / "parts", "--shard", f"{i}/3").exit_code == 0
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    again = run.events("derain", many, "-o", tmp_path / "parts")
    assert again[-1]["skipped"] == 16
    assert again[-1]["stale"] == 0, "the whole run reads the records of all shards"
    assert not (tmp_path / "parts" / RECORD).exists()


def test_plan_and_summary_say_which_shard(run, halving, many, tmp_path, monkeypatch) -> None:
    plan = run("derain", many, "-o", tmp_path / "out", "--shard", "2/3", "--dry-run")
    count = len(plan.stdout.splitlines())
    assert f"shard 2/3: {count} of 16 photographs" in plan.stderr
    assert not (tmp_path / "out").exists()
    first, *_ = run.events("derain", many, "-o", tmp_path / "out", "--shard", "2/3", "-n")
    assert first == {"schema": 1, "event": "shard", "shard": "2/3", "photographs": count, "of": 16}
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    done = run("derain", many, "-o", tmp_path / "out", "--shard", "auto")
    assert f"shard 2/3: derained {count} in" in done.stderr
    events = run.events("derain", many, "-o", tmp_path / "out", "--shard", "auto")
    assert (events[0]["event"], events[-1]["shard"], events[-1]["skipped"]) == ("shard", "2/3", count)


def test_no_shard_ends_with_2(run, halving, many, tmp_path, monkeypatch) -> None:
    for name in ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for text, reason in (("5/4", "1/4 to 4/4"), ("0/3", "1/3 to 3/3"), ("auto", "none of SLURM_ARRAY_TASK_ID")):
        for command in ("derain", "sift"):
            result = run(command, many, "-o", tmp_path / "out", "--shard", text)
            assert result.exit_code == 2
            assert reason in result.stderr
            assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_empty_shard_does_nothing(run, halving, many, tmp_path) -> None:
    count = next(
        n for n in range(20, 99) if not any(shard_number(p.relative_to(many), n) == 1 for p in many.rglob("*.jpg"))
    )
    for command in (("derain",), ("sift",), ("sift", "--format", "hloc", "--format", "npz")):
        result = run(
            *command, many, "-o", tmp_path / "out", "--shard", f"1/{count}", "--report", tmp_path / "page.html"
        )
        assert result.exit_code == 0, result.stderr
        assert f"shard 1/{count}: 0 of 16" in result.stderr
    assert (halving.D, halving.G) == (0, 0)
    assert not files(tmp_path / "out")


def test_lists_and_pages_are_of_the_shard(run, halving, many, tmp_path) -> None:
    (many / "cam0" / "0.jpg").write_bytes(b"broken")
    codes = [
        run(
            "derain", many, "-o", tmp_path / "out", "--shard", f"{i}/2",
            "--failures", tmp_path / "bad.txt", "--unchanged", tmp_path / "dry.txt", "--report", tmp_path / "page.html",
        ).exit_code
        for i in (1, 2)
    ]  # fmt: skip
    assert sorted(codes) == [0, 1]
    lists = [tmp_path / f"bad.shard-{i}-of-2.txt" for i in (1, 2)]
    assert sorted(path.read_text() for path in lists) == ["", f"{many}/cam0/0.jpg\n"]
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert {f"{name}.shard-{i}-of-2{end}" for name, end in (("dry", ".txt"), ("page", ".html")) for i in (1, 2)} < names
    assert "bad.txt" not in names


def test_a_shard_with_other_settings_is_refused(run, halving, many, tmp_path) -> None:
    out = tmp_path / "out"
    assert run("derain", many, "-o", out, "--shard", "1/2", "--quality", "90").exit_code == 0
    for more in ((), ("--dry-run",)):
        refused = run("derain", many, "-o", out, "--shard", "2/2", *more)
        assert refused.exit_code == 2
        assert "other shards of this output are made with other settings (quality)" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert set(files(out)) == {
        path.relative_to(many).as_posix() for path in many.rglob("*.jpg") if Shard(1, 2).takes(path.relative_to(many))
    }
    assert run("derain", many, "-o", out, "--shard", "2/2", "--quality", "90").exit_code == 0
    for name in ("npz", "hloc"):
        assert run("sift", many, "-o", out, "--format", name, "--shard", "1/2").exit_code == 0
        refused = run("sift", many, "-o", out, "--format", name, "--shard", "2/2", "--max-keypoints", "9")
        assert "max-keypoints" in refused.stderr
        assert refused.exit_code == 2


def test_two_shards_at_the_same_time_lose_no_record(command, many, tmp_path) -> None:
    arguments = [*command, "derain", str(many), "-o", str(tmp_path / "out"), "--json", "--shard"]
    environment = {**os.environ, "SECONDS_EACH": "0.02"}
    shards = [subprocess.Popen([*arguments, f"{i}/2"], env=environment, stdout=subprocess.DEVNULL) for i in (1, 2)]
    assert [shard.wait() for shard in shards] == [0, 0]
    lines = [
        json.loads(line)
        for path in (tmp_path / "out" / FOLDER).glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert sorted(line["file"] for line in lines) == sorted(
        path.relative_to(many).as_posix() for path in many.rglob("*.jpg")
    )


# --- merge -----------------------------------------------------------------------------------------------------------


def sift(run, many: Path, out: Path, *more: object) -> None:
    name = "hloc" if out.suffix == ".h5" else "colmap-db"
    result = run("sift", many, "-o", out, "--format", name, "--no-derain", *more)
    assert result.exit_code == 0, result.stderr


def parts_of(run, many: Path, out: Path, *more: object) -> list[Path]:
    for i in (1, 2, 3):
        sift(run, many, out, "--shard", f"{i}/3", *more)
    assert not out.exists()
    return [Shard(i, 3).path(out) for i in (1, 2, 3)]


def colmap_content(path: Path) -> dict:
    """What COLMAP reads: for each photograph its camera, those that share it, position, features; checks the ids."""
    pycolmap = pytest.importorskip("pycolmap")
    copy = path.with_suffix(".copy.db")  # COLMAP turns the table of positions into its own
    shutil.copyfile(path, copy)
    database = pycolmap.Database.open(str(copy))
    cameras = {camera.camera_id: camera for camera in database.read_all_cameras()}
    images = database.read_all_images()
    priors = {prior.corr_data_id.id: prior for prior in database.read_all_pose_priors()}
    rigs = {rig.rig_id: rig for rig in database.read_all_rigs()}
    framed = {data.id: frame.rig_id for frame in database.read_all_frames() for data in frame.data_ids}
    assert set(framed) == {image.image_id for image in images}
    found = {}
    for image in images:
        camera = cameras[image.camera_id]
        assert rigs[framed[image.image_id]].ref_sensor_id.id == image.camera_id
        prior = priors.pop(image.image_id, None)
        if prior is not None:
            assert prior.corr_data_id.sensor_id.id == image.camera_id
        found[image.name] = (
            camera.model.name, camera.width, camera.height, tuple(camera.params), camera.has_prior_focal_length,
            frozenset(other.name for other in images if other.camera_id == image.camera_id),
            None if prior is None else tuple(prior.position.ravel()),
            database.read_keypoints(image.image_id).tobytes(),
            database.read_descriptors(image.image_id).data.tobytes(),
        )  # fmt: skip
    assert not priors
    database.close()
    with closing(sqlite3.connect(path)) as own:
        meta = dict(own.execute("SELECT name, meta FROM images JOIN idsr USING (image_id)"))
        positions = dict(own.execute("SELECT name, prior_tx FROM images"))
    return {name: (*values, meta[name], positions[name]) for name, values in found.items()}


@pytest.mark.parametrize("more", [(), ("--camera-mode", "single"), ("--camera-mode", "per-folder")], ids=str)
def test_merged_databases_equal_that_of_a_whole_run(run, many, tmp_path, more) -> None:
    pytest.importorskip("pycolmap")
    sift(run, many, tmp_path / "whole.db", *more)
    parts = parts_of(run, many, tmp_path / "database.db", *more)
    before = [part.read_bytes() for part in parts]
    result = run("merge", *reversed(parts), "-o", tmp_path / "database.db")
    assert result.exit_code == 0, result.stderr
    assert f"merged 3 parts into {tmp_path}/database.db: 16 photographs" in result.stderr
    assert colmap_content(tmp_path / "database.db") == colmap_content(tmp_path / "whole.db")
    assert [part.read_bytes() for part in parts] == before
    with closing(sqlite3.connect(tmp_path / "database.db")) as database:
        names = [name for (name,) in database.execute("SELECT name FROM images ORDER BY image_id")]
    assert names == [f"cam{i}/{j}.jpg" for i in (0, 1) for j in range(8)]
    assert not list(tmp_path.glob(".idsr-*"))


def test_photographs_are_added_to_a_database_whose_ids_and_matches_stay(run, many, tmp_path) -> None:
    pytest.importorskip("pycolmap")
    sift(run, many, tmp_path / "whole.db")
    first, *others = parts_of(run, many, tmp_path / "database.db")
    shutil.copyfile(first, tmp_path / "database.db")
    with closing(sqlite3.connect(tmp_path / "database.db")) as database, database:
        ids = dict(database.execute("SELECT name, image_id FROM images"))
        database.execute("INSERT INTO matches VALUES (2147483649, 1, 2, zeroblob(8))")
    assert run("merge", *others, "-o", tmp_path / "database.db").exit_code == 0
    assert colmap_content(tmp_path / "database.db") == colmap_content(tmp_path / "whole.db")
    with closing(sqlite3.connect(tmp_path / "database.db")) as database:
        assert ids.items() <= dict(database.execute("SELECT name, image_id FROM images")).items()
        assert database.execute("SELECT count(*) FROM matches").fetchone() == (1,)
    done = (tmp_path / "database.db").read_bytes()
    again = run("merge", first, *others, tmp_path / "database.db", "-o", tmp_path / "database.db")
    assert "0 photographs, 16 were there already" in again.stderr
    assert (tmp_path / "database.db").read_bytes() == done


def test_merged_hdf5_equals_that_of_a_whole_run(run, many, tmp_path) -> None:
    h5py = pytest.importorskip("h5py")
    sift(run, many, tmp_path / "whole.h5")
    parts = parts_of(run, many, tmp_path / "features.h5")
    events = run.events("merge", *parts, "-o", tmp_path / "features.h5")
    assert events[-1] | {"seconds": 0} == {
        "schema": 1, "event": "summary", "output": str(tmp_path / "features.h5"), "parts": 3, "added": 16, "skipped": 0,
        "seconds": 0,
    }  # fmt: skip
    assert sum(event["photographs"] for event in events[:-1]) == 16

    def content(path: Path) -> dict:
        found: dict = {}
        with h5py.File(path) as file:
            file.visititems(
                lambda name, node: found.update(
                    {
                        name: (
                            dict(node.attrs),
                            np.asarray(node[()]).tobytes() if isinstance(node, h5py.Dataset) else None,
                        )
                    }
                )
            )
        return found

    assert content(tmp_path / "features.h5") == content(tmp_path / "whole.h5")


@pytest.mark.parametrize("name", ["database.db", "features.h5"])
def test_what_cannot_be_merged_is_one_line_and_writes_nothing(run, many, tmp_path, name, paint) -> None:
    pytest.importorskip({".db": "pycolmap", ".h5": "h5py"}[Path(name).suffix])
    out = tmp_path / "merged" / name
    first, second, third = parts_of(run, many, tmp_path / name)
    strict = tmp_path / "strict"
    sift(run, many, strict / name, "--max-keypoints", "5")
    other = tmp_path / "other"
    shutil.copytree(many, other / "photos")
    Image.fromarray(paint(seed=99)).save(other / "photos" / "cam0" / "0.jpg")
    sift(run, other / "photos", other / name)
    npz = tmp_path / "x.jpg.npz"
    npz.touch()
    for parts, reason in (
        ((first, strict / name), f"{strict / name}: made with other settings (max-keypoints) than {first}"),
        ((first, second, third, other / name), "`cam0/0.jpg` is in "),
        ((first, tmp_path / "no.db"), "no.db: no such file"),
        ((npz,), "file per photograph"),
        ((first, npz), "is of another format than"),
        ((tmp_path,), "is a folder"),
        ((), "no parts given"),
    ):
        result = run("merge", *parts, "-o", out)
        assert result.exit_code == 2
        assert reason in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert not out.exists()
        assert not list(tmp_path.rglob(".idsr-*"))
    assert run("merge", first, "-o", out, "--existing", "error").exit_code == 0
    assert "exists already" in run("merge", second, "-o", out, "--existing", "error").stderr
    replaced = run.events("merge", first, second, third, "-o", out, "--existing", "overwrite")
    assert (replaced[-1]["added"], replaced[-1]["skipped"]) == (16, 0)
    swapped = out.with_suffix(".h5" if out.suffix == ".db" else ".db")
    assert "this format is no file of kind" in run("merge", first, "-o", swapped).stderr


def test_missing_shards_are_named(run, many, tmp_path) -> None:
    pytest.importorskip("h5py")
    first, _, third = parts_of(run, many, tmp_path / "features.h5")
    plan = run("merge", first, third, "-o", tmp_path / "features.h5", "--dry-run")
    assert "no part of shard 2/3" in plan.stderr
    assert f"{first} (" in plan.stdout
    assert not (tmp_path / "features.h5").exists()


def test_other_keypoints_of_the_same_photograph_without_settings(run, many, tmp_path) -> None:
    """A part whose photographs have no record cannot be compared."""
    h5py = pytest.importorskip("h5py")
    first, second, _ = parts_of(run, many, tmp_path / "features.h5")
    with h5py.File(second, "a") as file:
        name = next(iter(file["cam0"]))
        del file[f"cam0/{name}"].attrs["idsr"]
    result = run("merge", first, second, "-o", tmp_path / "features.h5")
    assert "there is no record of how the keypoints of" in result.stderr
    assert result.exit_code == 2


@contextmanager
def full_disk(suffix: str) -> Iterator[None]:
    """As if there were no room on the disk, for what writes the files of a suffix."""

    def fail(*arguments: object, **settings: object) -> None:  # as h5py does, with other texts before the number
        raise RuntimeError("Unable to write (filename = 'x', errno = 28, error message = 'No space left on device')")

    with pytest.MonkeyPatch.context() as patch:
        if suffix == ".h5":
            h5py = pytest.importorskip("h5py")
            patch.setattr(h5py.Group, "create_group", fail)
            patch.setattr(h5py.Group, "copy", fail)
        else:  # pycolmap would abort the process
            patch.setattr(volume.shutil, "disk_usage", lambda path: SimpleNamespace(free=4096))
        yield


@pytest.mark.parametrize("name", ["database.db", "features.h5"])
def test_a_full_disk_is_one_line_and_nothing_is_lost(run, many, tmp_path, name) -> None:
    pytest.importorskip({".db": "pycolmap", ".h5": "h5py"}[Path(name).suffix])
    out, kind = tmp_path / name, "hloc" if name.endswith(".h5") else "colmap-db"
    command = ["sift", many, "-o", out, "--format", kind, "--no-derain", "--shard"]
    part, *others = (Shard(i, 3).path(out) for i in (1, 2, 3))
    with full_disk(out.suffix):
        result = run(*command, "1/3")
    (failed,) = [line for line in result.stderr.splitlines() if "no space left" in line]
    assert result.exit_code == 1
    assert failed.startswith(f"{part}: no space left on device")
    assert failed.endswith(f"(the keypoints wait in `{tmp_path}/.{part.name}.parts`: run the same command again)")
    assert not part.exists()
    summary = run.events(*command, "1/3")[-1]
    assert (summary["ok"], summary["finished"]) == (0, True), "no photograph is worked on again"
    for shard in ("2/3", "3/3"):
        assert run(*command, shard).exit_code == 0
    with full_disk(out.suffix):
        result = run("merge", part, *others, "-o", out)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert result.stderr.startswith(f"{out}: no space left on device")
    assert not out.exists()
    assert not list(tmp_path.glob(".idsr-*"))
    assert run("merge", part, *others, "-o", out).exit_code == 0
