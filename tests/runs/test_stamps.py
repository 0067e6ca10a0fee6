"""The record of settings: changes are noticed; interrupted runs, parallel runs and moved folders do no harm."""

import json
import os
import shutil
import threading
import time
from pathlib import Path, PurePath

import pytest

from idsr_cli.files.atomic import write_bytes
from idsr_cli.runs.plan import Item
from idsr_cli.runs.stamps import RECORD, Stamps, differences


def item(folder: Path, name: str, data: bytes = b"made") -> Item:
    source, target = folder / "in" / name, folder / "out" / name
    for path, content in ((source, b"photograph"), (target, data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Item(source, target, PurePath(name), done=True)


def why_stale(folder: Path, it: Item, **settings: object) -> str:
    return Stamps(folder, settings).check([it])[0].stale


def test_same_and_other_settings(tmp_path) -> None:
    it, out = item(tmp_path, "a/x.png"), tmp_path / "out"
    assert why_stale(out, it, q=1) == "without a record of its settings"
    Stamps(out, {"q": 1, "sift": {"a": 1, "b": (2, 3)}}).add(it)
    assert why_stale(out, it, q=1, sift={"a": 1, "b": [2, 3]}) == ""
    assert why_stale(out, it, q=2, sift={"a": 1, "b": [2, 4]}) == "made with other settings (q, b)"
    Stamps(out, {"q": 2}).add(it)  # the newest line counts
    assert why_stale(out, it, q=2) == ""
    assert why_stale(out, it, q=1) == "made with other settings (q)"


def test_settings_of_single_items(tmp_path) -> None:
    it, out = item(tmp_path, "x.png"), tmp_path / "out"
    sizes = {"x.png": 1}
    stamps = Stamps(out, {"mask": True, "q": 1}, lambda it: {"mask": sizes[it.relative.name]})
    stamps.add(it)
    assert stamps.check([it])[0].stale == ""
    sizes["x.png"] = 2
    assert stamps.check([it])[0].stale == "made with other settings (mask)"


def test_differences_name_what_is_new_and_what_is_gone() -> None:
    assert differences({"a": 1, "b": {"c": 2}}, {"b": {"c": 2, "d": 3}}) == ["a", "b.d"]


def test_a_changed_output_or_input_is_noticed(tmp_path) -> None:
    it, out = item(tmp_path, "x.png"), tmp_path / "out"
    Stamps(out, {}).add(it)
    it.source.write_bytes(b"another photograph")
    assert why_stale(out, it) == "made from another photograph"
    it.source.write_bytes(b"photographs of 1 size"[:10])  # equal sizes, as of uncompressed files
    assert why_stale(out, it) == ""  # clocks are not that exact
    later = time.time() + 10
    os.utime(it.source, (later, later))
    assert why_stale(out, it) == "made before the photograph was last written"
    it.target.write_bytes(b"painted over")
    assert why_stale(out, it) == "changed since it was made"


def test_the_folder_may_be_moved_and_entered_at_any_depth(tmp_path) -> None:
    it = item(tmp_path, "a/x.png")
    Stamps(tmp_path / "out", {}).add(it)
    assert why_stale(tmp_path / "out" / "a", it) == ""
    shutil.copytree(tmp_path / "out", tmp_path / "moved")
    moved = Item(it.source, tmp_path / "moved" / "a" / "x.png", it.relative, done=True)
    assert why_stale(tmp_path / "moved", moved) == ""
    (tmp_path / "link").symlink_to("moved")
    linked = Item(it.source, tmp_path / "link" / "a" / "x.png", it.relative, done=True)
    assert why_stale(tmp_path / "link", linked) == ""


def test_a_truncated_line_does_not_affect_others(tmp_path) -> None:
    first, second, out = item(tmp_path, "1.png"), item(tmp_path, "2.png"), tmp_path / "out"
    Stamps(out, {}).add(first)
    with open(out / RECORD, "ab") as file:
        file.write(b'{"schema": 1, "time": 12, "fi')  # killed, or no space left
    Stamps(out, {}).add(second)
    assert why_stale(out, first) == why_stale(out, second) == ""
    with open(out / RECORD, "ab") as file:
        file.write(b'\xff\n[]\n"x"\n{"schema": 2}\n{"schema": 1, "file": "1.png", "settings": 3}\n\n')
    assert why_stale(out, first) == ""


def test_runs_in_parallel_share_the_record(tmp_path) -> None:
    items, out = [item(tmp_path, f"{i}.png") for i in range(60)], tmp_path / "out"
    threads = []
    for start in range(3):
        stamps = Stamps(out, {"q": 1})
        for part in (items[start::6], items[start + 3 :: 6]):
            threads.append(threading.Thread(target=lambda s=stamps, p=part: [s.add(i) for i in p]))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([json.loads(line) for line in (out / RECORD).read_text().splitlines() if line]) == 60
    assert all(i.stale == "" for i in Stamps(out, {"q": 1}).check(items))


def test_no_folder_no_record_and_a_full_disk_is_no_failure(tmp_path) -> None:
    it = item(tmp_path, "x.png")
    Stamps(None, {}).add(it)
    assert not list(tmp_path.rglob(RECORD))
    (tmp_path / "out" / RECORD).mkdir()  # cannot be opened
    Stamps(tmp_path / "out", {}).add(it)
    assert why_stale(tmp_path / "out", it) == "without a record of its settings"


def test_a_written_file_is_recorded_however_the_block_ends(tmp_path) -> None:
    it, out = item(tmp_path, "x.png"), tmp_path / "out"
    stamps = Stamps(out, {})
    with pytest.raises(OSError, match="full"), stamps.recording(it):
        raise OSError("full")
    assert why_stale(out, it) == "without a record of its settings"

    def interrupted() -> None:
        write_bytes(it.target, b"anew")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), stamps.recording(it):
        interrupted()
    assert why_stale(out, it) == ""
