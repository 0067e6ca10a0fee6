"""Lists of paths, and the list of failures."""

import pytest

from idsr_cli.errors import UsageError
from idsr_cli.runs.lists import PathList, read_list


@pytest.mark.parametrize(
    ("data", "paths"),
    [
        (b"a.jpg\nb c.png", ["a.jpg", "b c.png"]),
        (b"\xef\xbb\xbfa.jpg\r\n\r\n\xc3\xbc.png\r\n", ["a.jpg", "ü.png"]),
        (b"a\nb.jpg\0c.png\0", ["a\nb.jpg", "c.png"]),
        (b"\xff.jpg\n", ["\udcff.jpg"]),
        (b"", []),
    ],
)
def test_read(tmp_path, data, paths) -> None:
    (tmp_path / "list").write_bytes(data)
    assert read_list(str(tmp_path / "list")) == paths


def test_missing_list(tmp_path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_list(str(tmp_path / "list"))


def test_failures_are_written_at_once_and_read_again(tmp_path) -> None:
    path = tmp_path / "failed"
    path.write_text("of the last run\n")
    failures = PathList(path)
    assert path.read_bytes() == b""
    for count, name in enumerate(["a b.jpg", "\udcff.jpg", "c\nd.jpg", "e.jpg"], 1):
        failures.add(name)
        assert read_list(str(path)) == ["a b.jpg", "\udcff.jpg", "c\nd.jpg", "e.jpg"][:count]
    with pytest.raises(UsageError, match="is a directory"):
        PathList(tmp_path)
