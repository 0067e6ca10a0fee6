"""Object stores: what is a URL, what a path into a store is, and what becomes of the errors of its package."""

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import fsspec
import pytest

from idsr_cli.errors import ItemError, UsageError
from idsr_cli.files.stores import StorePath, existing_objects, is_folder, is_url, location, without_secret


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """An empty store under memory://."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.mark.parametrize(
    "text",
    ["C:/photos/x.jpg", "C:\\photos", "C://photos", "photos", "./s3://bucket/x", "a/s3://b", "s3:/bucket", "-", ""],
)
def test_paths_that_are_no_urls(text) -> None:
    assert not is_url(text)
    assert location(text) == Path(text)


def test_a_file_url_is_a_local_path(tmp_path) -> None:
    assert is_url(tmp_path.as_uri())
    assert location(f"file://{tmp_path}/a b%20.jpg") == tmp_path / "a b%20.jpg"


def test_an_unknown_protocol_is_refused_unless_it_is_a_folder_of_that_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"`odd://` is no store that is known here.*s3://"):
        location("odd://x.jpg")
    (tmp_path / "odd:").mkdir()
    (tmp_path / "odd:" / "x.jpg").touch()
    assert location("odd://x.jpg") == Path("odd:/x.jpg")


@pytest.mark.parametrize("url", ["memory://", "memory:///", "s3:///x.jpg"])
def test_a_url_without_a_bucket_is_refused(url) -> None:
    with pytest.raises(UsageError, match="names no bucket"):
        location(url)


@pytest.mark.parametrize("protocol", ["s3", "gs", "ftp", "memory"])
def test_a_secret_is_refused_and_never_shown(protocol) -> None:
    url = f"{protocol}://KEY:SECRET@bucket/x.jpg"
    with pytest.raises(UsageError, match="holds a secret") as refused:
        location(url)
    assert "SECRET" not in str(refused.value)
    assert "KEY" not in str(refused.value)
    assert str(refused.value.path) == without_secret(url) == f"{protocol}://...@bucket/x.jpg"


def test_a_container_of_azure_is_no_secret() -> None:
    assert without_secret("abfs://container@account.host/x:y@z") == "abfs://container@account.host/x:y@z"


def test_a_missing_package_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as if it were not installed
    with pytest.raises(UsageError, match=r"`s3://` needs the package s3fs: .*\(pip install s3fs\)") as refused:
        location("s3://bucket/x.jpg")
    assert refused.value.exit_code == 2


def test_a_path_into_a_store() -> None:
    path = location("memory://bucket/a/x.tar.JPG")
    assert isinstance(path, StorePath)
    assert (path.name, path.suffix, str(path.parent)) == ("x.tar.JPG", ".JPG", "memory://bucket/a")
    assert [str(folder) for folder in path.parents] == ["memory://bucket/a", "memory://bucket"]
    bucket = location("memory://bucket/")
    assert bucket / PurePosixPath("a/x.tar.JPG") == path
    assert path.relative_to(bucket) == PurePosixPath("a/x.tar.JPG")
    assert bucket.relative_to(bucket) == PurePosixPath()
    with pytest.raises(ValueError, match="not below"):
        path.relative_to(location("memory://buck"))
    assert pickle.loads(pickle.dumps(path)) == path


def test_two_names_of_a_protocol_are_one_store() -> None:
    one, other = StorePath("s3", "b/x", "s3"), StorePath("s3", "b/x", "s3a")
    assert one == other
    assert (str(one), str(other), other.identity) == ("s3://b/x", "s3a://b/x", "s3://b/x")


def test_objects_are_found_with_size_and_time(memory) -> None:
    for name in ("in/x.jpg", "in/a/y.jpg", "in2/z.jpg"):
        memory.pipe_file(f"memory://b/{name}", b"123")
    found = {str(path): path.stat() for path in location("memory://b/in").find()}
    assert set(found) == {"memory://b/in/x.jpg", "memory://b/in/a/y.jpg"}
    status = found["memory://b/in/x.jpg"]
    assert status.st_size == 3
    assert status.st_mtime > 1.7e9
    assert location("memory://b/in/x.jpg").stat().st_size == 3
    assert location("memory://b/in").stat() is None
    assert location("memory://b/none").stat() is None
    assert not list(location("memory://none").find())
    assert is_folder("memory://b/in")
    assert not is_folder("memory://b/in/x.jpg")
    assert not is_folder("memory://b/none")
    assert is_folder("memory://b/none/")


def test_odd_names_of_objects_are_kept_and_marks_of_folders_are_none(memory, monkeypatch) -> None:
    """As S3 lists them: the name is the key, not a path that may be tidied up."""
    listed = {f"/b/in{name}": {"size": 1, "LastModified": None} for name in ("", "/", "/a//y.jpg", "/mark/", "2/z.jpg")}
    monkeypatch.setattr(type(memory), "find", lambda *args, **settings: listed)
    found = list(location("memory://b/in").find())
    assert [path.key for path in found] == ["b/in/a//y.jpg"]
    assert found[0].stat() == (1, 0.0)  # no time is no reason to call an output stale


@pytest.mark.parametrize("count", [3, 40])
def test_which_of_many_outputs_exist(memory, count) -> None:
    """Few are asked for one by one, for many their folder is listed."""
    paths = [location(f"memory://b/out/{i % 7}/{i}.npz") for i in range(count)]
    for path in paths[::2]:
        path.write_bytes(b"12")
    found = existing_objects(paths)
    assert set(found) == set(paths[::2])
    assert {path.status.st_size for path in found.values()} == {2}


class Unreachable(Exception):
    """An error of a package's own, such as botocore's."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unreachable("Could not\nconnect"), "Unreachable: Could not connect"),
        (PermissionError("Access Denied"), "permission denied (Access Denied)"),
        (PermissionError(), "permission denied"),
        (FileNotFoundError("b"), "no such object or bucket"),
        (OSError(28, "No space left on device"), "no space left on device"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_errors_of_a_store_become_one_line(memory, monkeypatch, error, reason) -> None:
    def fail(*args, **settings):
        raise error

    for name in ("cat_file", "pipe_file"):
        monkeypatch.setattr(type(memory), name, fail)
    path = location("memory://b/x.jpg")
    for work, what in ((path.read_bytes, "read"), (lambda: path.write_bytes(b""), "written")):
        with pytest.raises(ItemError) as failed:
            work()
        assert failed.value.reason == f"cannot be {what}: {reason}"
        assert failed.value.path == "memory://b/x.jpg"
        assert failed.value.__cause__ is error


def test_memory_that_runs_out_is_no_error_of_the_store(memory, monkeypatch) -> None:
    def fail(*args, **settings):
        raise MemoryError

    monkeypatch.setattr(type(memory), "cat_file", fail)
    with pytest.raises(MemoryError):
        location("memory://b/x.jpg").read_bytes()
