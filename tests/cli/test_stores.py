"""Photographs and results in object stores, on the command line. The store is that of fsspec's memory://."""

import io
import json
import pickle
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import fsspec
import numpy as np
import pytest
import typer
from PIL import Image

from idsr_cli.cli.app import COMMANDS, LOCAL_OPTIONS
from idsr_cli.files.stores import location
from idsr_cli.runs import store_record

SIFT = ("--no-derain", "--max-keypoints", "20")


@pytest.fixture
def store() -> Iterator[fsspec.AbstractFileSystem]:
    """An empty store under memory://."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture
def stored(store, photos) -> str:
    """The photographs of `photos` under a URL, and what else is there."""
    for path in photos.rglob("*"):
        if path.is_file():
            store.pipe_file(f"memory://bucket/photos/{path.relative_to(photos).as_posix()}", path.read_bytes())
    return "memory://bucket/photos"


def names(store: fsspec.AbstractFileSystem, url: str) -> list[str]:
    """The objects below a URL, without records and claims."""
    return [name for name in store.find(url) if "/.idsr" not in name]


def records(store: fsspec.AbstractFileSystem, url: str) -> list[list[str]]:
    """For each object of a record, the outputs that its lines are about, in alphabetical order."""
    found = [name for name in store.find(url) if "/.idsr/" in name]
    return [sorted(json.loads(line)["file"] for line in store.cat_file(name).splitlines()) for name in found]


def test_a_prefix_is_mirrored_in_natural_order(run, halving, store, stored) -> None:
    events = run.events("derain", stored, "-o", "memory://bucket/dry")
    assert [(event["input"], event["output"]) for event in events[:-1]] == [
        (f"{stored}/{name}", f"memory://bucket/dry/{name}") for name in ("a/b/x.jpg", "img2.png", "img10.png")
    ]
    assert names(store, "memory://bucket/dry") == [f"/bucket/dry/{n}" for n in ("a/b/x.jpg", "img10.png", "img2.png")]
    assert events[-1]["ok"] == 3


@pytest.mark.parametrize("kind", ["npz", "colmap", "opencv", "lowe", "vlfeat", "oxford"])
def test_every_format_with_a_file_per_photograph(run, store, stored, photos, tmp_path, kind) -> None:
    """The objects have the bytes of the local files."""
    local, far = tmp_path / "local", "memory://bucket/keypoints"
    assert run("sift", photos, "-o", local, "--format", kind, *SIFT).exit_code == 0
    assert run("sift", stored, "-o", far, "--format", kind, *SIFT).exit_code == 0
    files = [path for path in local.rglob("*") if path.is_file() and not path.name.startswith(".")]
    found = {name.removeprefix("/bucket/keypoints/"): store.cat_file(name) for name in names(store, far)}
    assert found == {path.relative_to(local).as_posix(): path.read_bytes() for path in files}
    assert len(found) == 3


@pytest.mark.parametrize(
    ("given", "out"),
    [("URL", "LOCAL"), ("LOCAL", "URL"), ("FILE", "URL"), ("URL", "FILE"), ("FILE", "FILE")],
)
def test_local_and_remote_can_be_mixed(run, halving, store, stored, photos, tmp_path, given, out) -> None:
    places = {"URL": stored, "LOCAL": str(photos), "FILE": f"file://{photos}"}
    targets = {"URL": "memory://bucket/dry", "LOCAL": str(tmp_path / "dry"), "FILE": f"file://{tmp_path}/dry"}
    events = run.events("derain", places[given], "-o", targets[out])
    assert events[1]["input"] == f"{places[given]}/img2.png"
    assert events[1]["output"] == f"{targets[out]}/img2.png"
    data = store.cat_file("memory://bucket/dry/img2.png") if out == "URL" else (tmp_path / "dry/img2.png").read_bytes()
    before, after = (np.asarray(Image.open(x)).astype(int) for x in (photos / "img2.png", io.BytesIO(data)))
    np.testing.assert_allclose(after, before / 2, atol=1)


def test_one_object_and_pipes(run, halving, store, stored) -> None:
    assert run("derain", f"{stored}/img2.png", "-o", "memory://bucket/one.png").exit_code == 0
    assert run("derain", f"{stored}/img2.png", "-o", "memory://bucket/folder").exit_code == 0
    piped = run("derain", f"{stored}/img2.png", "-o", "-").stdout_bytes
    data = store.cat_file(f"{stored}/img2.png")
    assert run("derain", "-", "-o", "memory://bucket/piped.png", stdin=data).exit_code == 0
    for name in ("one.png", "folder/img2.png", "piped.png"):
        assert store.cat_file(f"memory://bucket/{name}") == piped


def test_several_outputs_of_one_run(run, halving, store, stored, tmp_path) -> None:
    more = ("--derained", "memory://bucket/dry", "--removed", tmp_path / "rain", "--rain-mask", "memory://bucket/masks")
    assert run("sift", stored, "-o", "memory://bucket/npz", "--format", "npz", *more).exit_code == 0
    assert len(names(store, "memory://bucket/dry")) == len(names(store, "memory://bucket/masks")) == 3
    assert (tmp_path / "rain" / "a" / "b" / "x.jpg.png").exists()


def test_local_files_beside_objects(run, halving, store, stored, photos, tmp_path) -> None:
    """Sheet, masks, pictures and lists are local, also where the photographs are not."""
    for path in ("img2.png", "img10.png", "a/b/x.jpg.png"):
        (tmp_path / "masks" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((48, 64), 255, np.uint8)).save(tmp_path / "masks" / path)
    local = ("--report", tmp_path / "sheet.html", "--mask", tmp_path / "masks", "--draw", tmp_path / "drawn")
    for status in ("ok", "skipped"):  # skipped photographs are read for the sheet
        events = run.events("sift", stored, "-o", "memory://bucket/npz", *local)
        assert [event.get("status") for event in events] == [status] * 3 + [None]
        assert f"{stored}/a/b/x.jpg" in (tmp_path / "sheet.html").read_text()
    assert (tmp_path / "drawn" / "a" / "b" / "x.jpg.png").exists()


def test_rain_on_objects(run, store, stored) -> None:
    assert run("rain", stored, "-o", "memory://bucket/rainy", "--length", "9").exit_code == 0
    assert len(names(store, "memory://bucket/rainy")) == 3
    assert records(store, "memory://bucket/rainy") == [["a/b/x.jpg", "img10.png", "img2.png"]]


# --- outputs that exist ----------------------------------------------------------------------------------------------


def test_existing_outputs_and_their_record(run, halving, store, stored) -> None:
    out = "memory://bucket/dry"
    assert run.events("derain", stored, "-o", out)[-1]["ok"] == 3
    assert records(store, out) == [["a/b/x.jpg", "img10.png", "img2.png"]]
    again = run.events("derain", stored, "-o", out)[-1]
    assert (again["skipped"], again["stale"], halving.D) == (3, 0, 3)
    other = run("derain", stored, "-o", out, "--format", "jpg", "--quality", "80", "--dry-run")
    assert "made with other settings" in other.stderr
    refused = run("derain", stored, "-o", out, "--existing", "error")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "memory://bucket/dry/a/b/x.jpg: exists already (and 2 more)" in refused.stderr
    store.rm(f"{out}/img2.png")
    assert run.events("derain", stored, "-o", out)[-1]["ok"] == 1
    assert run.events("derain", stored, "-o", out, "--existing", "overwrite")[-1]["ok"] == 3
    assert run.events("derain", stored, "-o", out)[-1]["stale"] == 0
    assert len(records(store, out)) == 3  # each run has an object of its own


def test_a_photograph_that_changed_makes_its_output_stale(run, halving, store, stored, photos) -> None:
    out = "memory://bucket/dry"
    run("derain", stored, "-o", out)
    store.pipe_file(f"{stored}/img2.png", (photos / "img10.png").read_bytes() + b"longer")
    store.pipe_file(f"{out}/img10.png", b"changed")
    plan = {event["input"]: event["reason"] for event in run.events("derain", stored, "-o", out, "--dry-run")}
    assert plan[f"{stored}/img2.png"] == "output exists, made from another photograph"
    assert plan[f"{stored}/img10.png"] == "output exists, changed since it was made"
    assert plan[f"{stored}/a/b/x.jpg"] == "output exists"


def test_a_full_record_goes_on_in_another_object(run, halving, store, stored, monkeypatch) -> None:
    monkeypatch.setattr(store_record, "LINES", 2)
    run("derain", stored, "-o", "memory://bucket/dry", "--jobs", "1")
    assert records(store, "memory://bucket/dry") == [["a/b/x.jpg", "img2.png"], ["img10.png"]]
    assert run.events("derain", stored, "-o", "memory://bucket/dry")[-1]["stale"] == 0


def test_the_record_of_another_process_has_objects_of_its_own(store) -> None:
    """Workers get a copy of the run's: under one name they would overwrite each other's lines."""
    one = store_record.StoreRecord(location("memory://bucket/dry"))
    one.append(b'{"file": "a"}\n')
    other = pickle.loads(pickle.dumps(one))
    other.append(b'{"file": "b"}\n')
    one.flush()
    other.flush()
    assert sorted(records(store, "memory://bucket/dry")) == [["a"], ["b"]]


# --- lists -----------------------------------------------------------------------------------------------------------


def test_two_shards_in_one_store_lose_no_record(run, halving, store, stored, photos) -> None:
    """And are the whole, without overlap, whether or not a photograph is named twice."""
    for i in range(20):
        store.pipe_file(f"{stored}/cam/{i}.png", (photos / "img2.png").read_bytes())
    out, twice = "memory://bucket/dry", f"{stored}/cam/7.png"
    shards = [run.events("derain", stored, twice, "-o", out, "--shard", f"{i}/2") for i in (1, 2)]
    done = [event["output"] for events in shards for event in events if event["event"] == "item"]
    assert len(done) == len(set(done)) == 23
    assert [events[0]["of"] for events in shards] == [23, 23]
    kept = records(store, out)
    assert len(kept) == 2
    assert sorted(file for files in kept for file in files) == sorted(name.removeprefix(f"{out}/") for name in done)
    assert all(event["reason"] == "output exists" for event in run.events("derain", stored, "-o", out, "-n"))


def test_a_shard_with_other_settings_is_refused(run, halving, store, stored) -> None:
    command, out = ("derain", stored, "-o", "memory://bucket/dry", "--format", "jpg"), "memory://bucket/dry"
    assert run(*command, "--shard", "1/2", "--dry-run").exit_code == 0
    assert not store.exists(out), "a dry run writes nothing"
    assert run(*command, "--shard", "1/2", "--quality", "90").exit_code == 0
    before = store.find(out)
    claim = f"{out}/.idsr.shards/settings-derain.json"
    for more in ((), ("--dry-run",)):
        refused = run(*command, "--shard", "2/2", *more)
        assert refused.exit_code == 2
        assert refused.stderr == (
            f"{out}: other shards of this output are made with other settings (quality) "
            f"(choose another OUT; to begin anew, stop all shards and delete {claim})\n"
        )
    assert store.find(out) == before
    assert run(*command, "--shard", "2/2", "--quality", "90").exit_code == 0
    assert len(names(store, out)) == 3
    store.rm(claim)
    assert run(*command, "--shard", "2/2", "--existing", "overwrite").exit_code == 0


def test_lists_of_urls_and_lists_in_a_store(run, halving, store, stored, tmp_path) -> None:
    text = f"{stored}/a/b/x.jpg\nimg2.png\n{stored}/none.jpg\n".encode()
    store.pipe_file("memory://bucket/list.txt", text)
    failures = tmp_path / "failed.txt"
    listed = ("--from-list", "memory://bucket/list.txt", "--failures", failures)
    result = run("derain", stored, *listed, "-o", "memory://bucket/dry")
    assert result.exit_code == 1
    assert "memory://bucket/photos/none.jpg: cannot be read: no such object or bucket" in result.stderr
    assert names(store, "memory://bucket/dry") == ["/bucket/dry/a/b/x.jpg", "/bucket/dry/img2.png"]
    assert failures.read_text() == f"{stored}/none.jpg\n"
    outside = run("derain", f"{stored}/a", *listed, "-o", "memory://bucket/dry")
    assert (outside.exit_code, "is in the list, but not in" in outside.stderr) == (2, True)


# --- faults ----------------------------------------------------------------------------------------------------------


def failing(store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception) -> None:
    """Let a method of the store fail for names that contain `img2`."""
    work: Callable[..., object] = getattr(type(store), method)

    def fail(self: object, path: str, *rest: object, **settings: object) -> object:
        if "img2" in str(path):
            raise error
        return work(self, path, *rest, **settings)

    monkeypatch.setattr(type(store), method, fail)


@pytest.mark.parametrize("jobs", ["1", "3"])
@pytest.mark.parametrize(
    ("method", "error", "reason"),
    [
        ("pipe_file", OSError(28, "No space left on device"), "cannot be written: no space left on device"),
        ("pipe_file", PermissionError("Access Denied"), "cannot be written: permission denied (Access Denied)"),
        ("pipe_file", FileNotFoundError("bucket"), "cannot be written: no such object or bucket"),
        ("pipe_file", ConnectionResetError("reset by peer"), "cannot be written: ConnectionResetError: reset by peer"),
        ("cat_file", RuntimeError("token expired"), "cannot be read: RuntimeError: token expired"),
    ],
)
def test_a_fault_of_the_store_is_that_of_one_photograph(
    run, halving, store, stored, monkeypatch, method, error, reason, jobs
) -> None:
    failing(store, monkeypatch, method, error)
    result = run("derain", stored, "-o", "memory://bucket/dry", "--jobs", jobs)
    assert result.exit_code == 1
    place = "memory://bucket/dry/img2.png" if method == "pipe_file" else f"{stored}/img2.png"
    assert result.stderr.splitlines()[0] == f"{place}: {reason}"
    assert len(result.stderr.splitlines()) == 2
    assert names(store, "memory://bucket/dry") == ["/bucket/dry/a/b/x.jpg", "/bucket/dry/img10.png"]
    assert records(store, "memory://bucket/dry") == [["a/b/x.jpg", "img10.png"]]


def test_an_old_object_survives_a_put_that_fails(run, store, stored, monkeypatch) -> None:
    out = "memory://bucket/keypoints"
    run("sift", stored, "-o", out, *SIFT)
    old = store.cat_file(f"{out}/img2.png.npz")
    with monkeypatch.context() as patch:
        failing(store, patch, "pipe_file", OSError(5, "Input/output error"))
        assert run("sift", stored, "-o", out, "--no-derain", "--existing", "overwrite").exit_code == 1
    assert store.cat_file(f"{out}/img2.png.npz") == old
    plan = {event["input"]: event["reason"] for event in run.events("sift", stored, "-o", out, "--no-derain", "-n")}
    assert "other settings" in plan[f"{stored}/img2.png"]  # its record is the old one too


@pytest.mark.parametrize(
    ("method", "given", "out", "message"),
    [
        ("find", "img2s/", "dry", "img2s: cannot be listed: permission denied (Access Denied)\n"),
        ("info", "img2.png", "dry/", "img2.png: cannot be looked up: permission denied (Access Denied)\n"),
        ("info", "a/b/x.jpg", "img2.png", "permission denied (Access Denied) (`--existing overwrite` does not look"),
    ],
)
def test_a_store_that_cannot_be_asked_starts_nothing(
    run, halving, store, stored, monkeypatch, method, given, out, message
) -> None:
    failing(store, monkeypatch, method, PermissionError("Access Denied"))
    result = run("derain", f"{stored}/{given}", "-o", f"memory://bucket/{out}")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert message in result.stderr


def test_names_that_lead_out_of_the_folder_fail(run, halving, store, stored, tmp_path, photos) -> None:
    """Names of objects are any text; a local OUT must not be left."""
    store.pipe_file(f"{stored}/../../../evil.png", (photos / "img2.png").read_bytes())
    result = run("derain", stored, "-o", tmp_path / "a" / "b" / "dry")
    assert result.exit_code == 1
    assert "its name leads out of its folder" in result.stderr
    assert not list(tmp_path.rglob("evil.png"))


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("derain", "memory://bucket/none", "-o", "out"), "no such object or folder"),
        (("derain", "STORED", "-o", "STORED/dry"), "OUT lies inside the input folder `STORED`"),
        (("derain", "STORED/img2.png", "-o", "STORED/img2.png"), "the output would replace an input"),
        (("derain", "STORED", "-o", "memory://bucket/dry.png"), "is the name of one file, and the input is a folder"),
        (("derain", "STORED", "-o", "s3://KEY:SECRET@bucket"), "this URL holds a secret"),
        (("match", "s3://KEY:SECRET@bucket/a.jpg", "b.jpg"), "`idsr match` takes no URLs"),
        (("evaluate", "--rainy=memory://b/x", "--clean", "y"), "`idsr evaluate` takes no URLs"),
        (("train", "dprnet", "--photos", "s3://bucket/x", "-o", "run"), "`idsr train` takes no URLs"),
        (("models", "show", "gs://bucket/w.safetensors"), "`idsr models` takes no URLs"),
        (("sift", "STORED", "-o", "k.db", "--format", "colmap-db", "--no-derain"), "takes local photographs"),
        (("sift", "LOCAL", "-o", "memory://b/k.h5", "--format", "hloc", "--no-derain"), "one file for all photographs"),
        (
            ("derain", "STORED", "-o", "memory://bucket/dry", "--report=memory://bucket/x.html"),
            "`--report` takes a local",
        ),
    ],
)
def test_what_does_not_work_is_refused_in_one_line(run, halving, store, stored, photos, arguments, reason) -> None:
    before = store.find("memory://bucket")
    places = {"STORED": stored, "LOCAL": str(photos)}
    words = [word.replace("STORED", stored) if word not in places else places[word] for word in arguments]
    result = run(*words)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert reason.replace("STORED", stored) in result.stderr
    assert "SECRET" not in result.stderr
    assert store.find("memory://bucket") == before


def test_a_clip_is_refused_in_and_out(run, halving, store, stored, tmp_path) -> None:
    store.pipe_file(f"{stored}/clip.mp4", b"a clip")
    result = run("derain", f"{stored}/clip.mp4", "-o", tmp_path / "dry")
    assert (result.exit_code, "a clip is read from a local file" in result.stderr) == (1, True)
    (tmp_path / "clip.mp4").write_bytes(b"a clip")
    result = run("derain", tmp_path / "clip.mp4", "-o", "memory://bucket/dry")
    assert (result.exit_code, "a clip cannot be written to a store" in result.stderr) == (2, True)


def test_every_option_with_a_path_is_known_to_take_urls_or_not() -> None:
    """A new option must not make a local folder `s3:` of a URL."""
    take_urls = {"--output", "--from-list", "--derained", "--removed", "--rain-mask"}
    for entry in (entry for entry in COMMANDS.values() if entry.urls):
        for param in typer.main.get_command(import_module(entry.module).app).params:
            names_a_path = any(word in (param.metavar or "") for word in ("DIR", "FILE", "OUT", "FOLDER"))
            if param.param_type_name == "option" and names_a_path:
                assert max(param.opts, key=len) in take_urls | set(LOCAL_OPTIONS)


def test_python_reads_objects(store, stored, photos: Path) -> None:
    import idsr_cli

    near, far = (idsr_cli.sift(f"{place}/img2.png", derain=False) for place in (photos, stored))
    np.testing.assert_array_equal(near.descriptors, far.descriptors)
    assert len(near) > 10
