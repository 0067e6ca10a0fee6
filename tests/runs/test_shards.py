"""Shards: a division that every machine finds, and one set of settings for all of them."""

import errno
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path, PurePath

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from idsr_cli.errors import UsageError
from idsr_cli.files.stores import Location, location
from idsr_cli.runs.plan import Item, Naming
from idsr_cli.runs.request import Request
from idsr_cli.runs.shards import FOLDER, Shard, claim, claim_path, claimed, parse_shard, shard_number, shard_of_name
from idsr_cli.runs.stamps import Stamps

NAMES = [PurePath(f"cam{i % 7}/{i:05d}.jpg") for i in range(4000)]
SAME = Naming(lambda relative: relative.with_name(f"{relative.name}.npz"), frozenset({".npz"}), makes_photos=False)


def test_the_division_is_documented_and_does_not_change() -> None:
    # Worked out by the rule in docs/scale.md: another result would move photographs between shards of running jobs.
    assert [shard_number(PurePath(name), 16) for name in ("a.jpg", "cam 1/x.png", "é/ß.tif")] == [16, 15, 10]


def test_shards_are_of_nearly_equal_size() -> None:
    counts = Counter(shard_number(name, 8) for name in NAMES)
    assert set(counts) == set(range(1, 9))
    assert all(abs(count - 500) < 5 * 500**0.5 for count in counts.values())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a/x.jpg", "a/x.png"),  # --format png
        ("a/IMG.JPG", "A/img.jpg"),  # exFAT
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),  # a Mac
        ("x", "x.jpg"),  # --format png
        ("c.avi", "c.avi.mkv"),  # clips
    ],
)
def test_photographs_that_may_want_one_output_are_in_one_shard(one, other) -> None:
    assert shard_number(PurePath(one), 1009) == shard_number(PurePath(other), 1009)


def test_folders_count() -> None:
    assert len({shard_number(PurePath(f"{folder}/x.jpg"), 10**6) for folder in range(50)}) == 50


@pytest.fixture
def collection(tmp_path) -> Path:
    for i in range(40):
        path = tmp_path / "in" / f"cam{i % 3}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "in"


def planned(collection: Path, shard: Shard | None, *more: str) -> list[str]:
    request = Request([str(collection), *more], str(collection.parent / "out"), shard=shard)
    return [str(item.target) for item in request.plan(SAME)]


def test_the_union_of_all_shards_is_the_whole_without_overlap(collection) -> None:
    whole = planned(collection, None)
    parts = [planned(collection, Shard(i, 5)) for i in range(1, 6)]
    assert sorted(path for part in parts for path in part) == sorted(whole)
    assert all(part == [path for path in whole if path in part] for part in parts), "order is that of the whole"


def test_more_photographs_move_none(collection) -> None:
    before = [set(planned(collection, Shard(i, 3))) for i in (1, 2, 3)]
    for i in range(100, 130):
        (collection / "cam1" / f"{i}.jpg").touch()
    after = [set(planned(collection, Shard(i, 3))) for i in (1, 2, 3)]
    assert all(old <= new for old, new in zip(before, after, strict=True))


def test_a_file_that_is_given_twice_is_in_one_shard_only(collection) -> None:
    again = str(collection / "cam0" / "0.jpg")  # below its folder it is cam0/0.jpg, alone it is 0.jpg
    parts = [path for i in range(1, 8) for path in planned(collection, Shard(i, 7), again)]
    assert len(parts) == len(set(parts)) == 40


def test_an_input_of_another_shard_is_not_replaced(tmp_path) -> None:
    inner = tmp_path / "photos" / "photos"
    inner.mkdir(parents=True)
    (inner / "x.jpg").touch()  # its output is photos/x.jpg, which is an input, and of another shard
    (inner.parent / "x.jpg").touch()
    same_name = Naming(lambda relative: relative, frozenset({".jpg"}), makes_photos=True)
    first, second = (shard_number(PurePath(name), 9) for name in ("photos/x.jpg", "x.jpg"))
    assert first != second
    with pytest.raises(UsageError, match="would replace an input"):
        Request([str(inner.parent)], str(tmp_path), shard=Shard(first, 9)).plan(same_name)


def test_an_empty_shard_is_no_error_and_an_empty_collection_is_one(collection) -> None:
    sizes = [len(planned(collection, Shard(i, 100))) for i in range(1, 101)]
    assert sum(sizes) == 40
    assert 0 in sizes
    (collection.parent / "none").mkdir()
    with pytest.raises(UsageError, match="no photographs"):
        planned(collection.parent / "none", Shard(1, 2))


def test_standard_input_cannot_be_divided(tmp_path) -> None:
    with pytest.raises(UsageError, match="divides a collection"):
        Request(["-"], str(tmp_path / "x.npz"), shard=Shard(1, 2)).plan(SAME)


# --- which shard -----------------------------------------------------------------------------------------------------


def slurm(task: int, count: int, first: int, last: int) -> dict[str, str]:
    numbers = {"ID": task, "COUNT": count, "MIN": first, "MAX": last}
    return {f"SLURM_ARRAY_TASK_{name}": str(number) for name, number in numbers.items()}


@pytest.mark.parametrize(
    ("text", "environment", "shard"),
    [
        ("1/4", {}, "1/4"),
        ("4/4", {"RANK": "0", "WORLD_SIZE": "2"}, "4/4"),
        ("auto", slurm(0, 4, 0, 3), "1/4"),
        ("auto", slurm(4, 4, 1, 4), "4/4"),
        ("auto", slurm(6, 4, 2, 8), "3/4"),
        ("auto/4", slurm(1, 4, 1, 4), "1/4"),
        ("auto", slurm(7, 1, 7, 7), "1/1"),
        ("auto/16", {"JOB_COMPLETION_INDEX": "15"}, "16/16"),
        ("auto", {"RANK": "0", "WORLD_SIZE": "8"}, "1/8"),
        ("auto/8", {"RANK": "7", "WORLD_SIZE": "8", "JOB_COMPLETION_INDEX": "7"}, "8/8"),
    ],
)
def test_shards(text, environment, shard) -> None:
    assert str(parse_shard(text, environment)) == shard


@pytest.mark.parametrize(
    ("text", "environment", "reason"),
    [
        ("5/4", {}, "1/4 to 4/4"),
        ("0/3", {}, "1/3 to 3/3"),
        ("1/0", {}, "at least one"),
        ("3", {}, "is no shard"),
        ("a/b", {}, "is no shard"),
        ("-1/4", {}, "is no shard"),
        ("\u0661/4", {}, "is no shard"),
        ("auto", {}, "none of"),
        ("auto", {"JOB_COMPLETION_INDEX": "3"}, "does not tell a pod how many"),
        ("auto/4", {"JOB_COMPLETION_INDEX": "4"}, "JOB_COMPLETION_INDEX=4 is none of 4"),
        ("auto", {"RANK": "3"}, "not WORLD_SIZE"),
        ("auto", {"RANK": "x", "WORLD_SIZE": "2"}, "RANK=x is no number"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "3"}, "_COUNT"),
        ("auto", slurm(2, 3, 1, 7), "gaps"),
        ("auto", slurm(7, 3, 1, 8), "gaps"),
        ("auto/16", slurm(3, 4, 0, 3), "means shard 4/4"),
        ("auto", slurm(3, 4, 0, 3) | {"RANK": "0", "WORLD_SIZE": "2"}, "means 4/4, RANK means 1/2"),
    ],
)
def test_no_shard_is_one_line(text, environment, reason) -> None:
    with pytest.raises(UsageError) as caught:
        parse_shard(text, environment)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_of_parts() -> None:
    part = Shard(3, 16).path(Path("a.b/my.database.db"))
    assert part == Path("a.b/my.database.shard-03-of-16.db")
    assert shard_of_name(part) == ("my.database.db", Shard(3, 16))
    assert shard_of_name(Path("shard.db")) is None


# --- one folder ------------------------------------------------------------------------------------------------------


def in_threads(count: int, work) -> None:
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_each_shard_has_a_record_and_all_are_read(tmp_path) -> None:
    out, items = tmp_path / "out", []
    (out / "a").mkdir(parents=True)
    for i in range(40):
        source, target = tmp_path / f"{i}.jpg", out / "a" / f"{i}.jpg.npz"
        source.touch()
        target.touch()
        items.append(Item(source, target, PurePath(source.name), done=True))
    shards = [None, Shard(1, 2), Shard(2, 2)]
    stamps = [Stamps(out, {"q": 1}, shard=shard) for shard in shards]
    in_threads(3, lambda i: [stamps[i].add(item) for item in items[i::3]])
    assert sorted(path.name for path in (out / FOLDER).iterdir()) == ["shard-1-of-2.jsonl", "shard-2-of-2.jsonl"]
    assert not any(item.stale for item in stamps[1].check(items))
    assert {item.stale for item in Stamps(out / "a", {"q": 2}).check(items)} == {"made with other settings (q)"}


def test_only_one_of_many_shards_claims_a_folder(tmp_path) -> None:
    path, seen = claim_path(tmp_path / "out", "sift.npz"), []
    in_threads(16, lambda i: seen.append(claim(path, {"q": i})))
    assert len(seen) == 16
    assert all(settings == claimed(path) for settings in seen)
    assert [file.name for file in path.parent.iterdir()] == [path.name], "no drafts are left"


def test_a_shard_with_other_settings_is_refused(tmp_path) -> None:
    path = claim_path(tmp_path / "out", "derain")
    Stamps(tmp_path / "out", {"quality": 90}, claim=path).claim(make=False)
    assert not path.exists(), "a dry run writes nothing"
    Stamps(tmp_path / "out", {"quality": 95}, claim=path).claim()
    for make in (True, False):
        with pytest.raises(UsageError, match=r"other settings \(quality\)"):
            Stamps(tmp_path / "out", {"quality": 90}, claim=path).claim(make)
    Stamps(tmp_path / "out", {"quality": 90}, claim=claim_path(tmp_path / "out", "sift.npz")).claim()


@pytest.fixture
def bucket() -> Iterator[Location]:
    """OUT in an empty store under memory://."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield location("memory://bucket/out")
    system.store.clear()


@pytest.fixture
def put(monkeypatch) -> Callable[[Callable[..., None]], None]:
    """Replace what the store does when something is put."""
    own = MemoryFileSystem.pipe_file

    def replaced(work: Callable[..., None]) -> None:
        monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda self, *a, **kw: work(partial(own, self), *a, **kw))

    return replaced


def test_only_one_of_many_shards_claims_a_folder_of_a_store(bucket) -> None:
    path, seen = claim_path(bucket, "sift.npz"), []
    in_threads(16, lambda i: seen.append(claim(path, {"q": i})))
    assert len(seen) == 16
    assert all(settings == claimed(path) for settings in seen)
    assert [str(found) for found in bucket.find()] == [str(path)]


@pytest.mark.parametrize("says", [FileExistsError, lambda: OSError(errno.EINVAL, "At least one condition failed")])
def test_another_shard_claims_a_folder_of_a_store_first(bucket, put, says) -> None:
    """Between the look and the put; s3fs of 2024 gives the error of the condition no class of its own."""

    def late(own, where, data, mode) -> None:
        own(where, json.dumps({"schema": 1, "settings": {"q": 9}}).encode())
        raise says()

    path = claim_path(bucket, "derain")
    put(late)
    assert claim(path, {"q": 1}) == {"q": 9}


def test_a_store_without_conditions_gets_plain_claims(bucket, put) -> None:
    def plain(own, where, data, mode="overwrite") -> None:
        if mode == "create":
            raise OSError(errno.ENOSYS, "A header you provided implies functionality that is not implemented")
        own(where, data)

    put(plain)
    assert claim(claim_path(bucket, "derain"), {"q": 1}) == claim(claim_path(bucket, "derain"), {"q": 2}) == {"q": 1}


def test_a_claim_that_cannot_be_made_or_read_is_one_line(bucket, put, monkeypatch) -> None:
    def full(own, where, data, mode) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = claim_path(bucket, "derain")
    put(full)
    with pytest.raises(UsageError, match=r"settings-derain\.json: cannot be written: no space left on device\Z"):
        claim(path, {"q": 1})
    refused: list[tuple[Exception, AbstractContextManager[object]]] = [
        (ConnectionResetError("reset by peer"), pytest.raises(UsageError, match=r"cannot be read: .*reset by peer")),
        (PermissionError("Access Denied"), nullcontext()),  # an account that may only write
    ]
    for error, outcome in refused:

        def fail(self, where, error=error, **more):
            raise error

        monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
        with outcome:
            assert claimed(path) is None


def test_a_damaged_claim_is_made_again(tmp_path) -> None:
    path = claim_path(tmp_path, "derain")
    path.parent.mkdir()
    path.write_text('{"schema": 1, "sett')
    assert claim(path, {"q": 1}) == {"q": 1} == json.loads(path.read_text())["settings"]
