"""Files are written completely or not at all."""

import errno
import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from idsr_cli.errors import ItemError
from idsr_cli.files import atomic
from idsr_cli.files.atomic import atomic_path, write_bytes


def test_writes_creates_folders_and_replaces(tmp_path) -> None:
    target = tmp_path / "a" / "b" / ("x" * 251 + ".txt")  # the longest legal name
    write_bytes(target, b"one")
    write_bytes(target, b"two")
    assert target.read_bytes() == b"two"
    assert os.listdir(target.parent) == [target.name]


@pytest.mark.skipif(sys.platform == "win32", reason="no such modes")
def test_new_files_have_the_usual_mode(tmp_path) -> None:
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "x", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch, error, step) -> None:
    target = tmp_path / "x"
    target.write_bytes(b"old")

    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(atomic.os, step, fail)
    with pytest.raises(type(error)):
        write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_failure_inside_the_block(tmp_path) -> None:
    def fail_half_way() -> None:
        with atomic_path(tmp_path / "x") as temporary:
            temporary.write_bytes(b"half")
            assert temporary.name.startswith(".")  # never taken for a photograph
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert os.listdir(tmp_path) == []


def test_a_link_is_replaced_not_followed(tmp_path) -> None:
    (tmp_path / "original").write_bytes(b"photo")
    (tmp_path / "link").symlink_to("original")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "original").read_bytes() == b"photo"
    assert (tmp_path / "link").read_bytes() == b"new"


@pytest.mark.skipif(os.name == "nt", reason="nothing is removed there")
def test_leftovers_of_dead_processes_are_removed_and_of_living_ones_kept(tmp_path) -> None:
    import subprocess

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    machine = atomic.machine()
    kept = [
        f".idsr-{machine}-{os.getpid()}-00000000.part",
        f".idsr-{machine}-1-00000000.part",
        f".idsr-{'0' * 8}-{dead.pid}-00000000.part",  # of another machine, where the process may be alive
        f".idsr-{machine}-{dead.pid}-00000000.parts",
        "photo.part",
    ]
    for name in (*kept, f".idsr-{machine}-{dead.pid}-01234567.part", f".idsr-{machine}-{dead.pid}-89abcdef.part"):
        (tmp_path / name).touch()
    write_bytes(tmp_path / "x", b"")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "x"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("through_a_path", [False, True])
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path, through_a_path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    if through_a_path:
        with atomic_path(pipe) as temporary:
            temporary.write_bytes(b"data")
    else:
        write_bytes(pipe, b"data")
    reader.join()
    assert read == [b"data"]
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe.jpg"]


def test_the_null_device_stays(tmp_path) -> None:
    write_bytes(Path(os.devnull), b"data")
    with atomic_path(Path(os.devnull)) as temporary:
        temporary.write_bytes(b"data")
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG])
@pytest.mark.parametrize("call", ["replace", "mkdir"])
def test_a_name_that_the_volume_refuses_is_named(tmp_path, monkeypatch, number, call) -> None:
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((os, "replace") if call == "replace" else (Path, "mkdir")), refuse)
    target = tmp_path / "10:30.jpg"
    with pytest.raises(ItemError, match="the output volume refuses this name") as caught:
        write_bytes(target, b"data")
    assert caught.value.path == str(target)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_too_long_for_real(tmp_path) -> None:
    with pytest.raises(ItemError, match="the output volume refuses this name: file name too long"):
        write_bytes(tmp_path / ("x" * 300), b"data")
