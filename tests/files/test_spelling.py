"""`-o dry.jgp` is refused; names of folders are not."""

from pathlib import Path

import pytest

from idsr_cli.errors import UsageError
from idsr_cli.files.spelling import check_spelling


@pytest.mark.parametrize("name", ["dry.JGP", "a.b/dry.jp"])
def test_a_typing_error_is_refused(tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    with pytest.raises(UsageError) as refused:
        check_spelling(output, (".jpg", ".jpe"))
    assert refused.value.hint == f"did you mean {output.with_suffix('.jpg')}? `{output}/` is a folder"


def test_names_of_files_and_folders_are_not(tmp_path: Path) -> None:
    (tmp_path / "there.jgp").mkdir()
    for name in ("a.jpg", "a.htm", "a.html", "run.1", "2026.11", "photos", "dry.jgp/", "there.jgp", ".jgp", "x.tmp"):
        check_spelling(f"{tmp_path}/{name}", (".jpg", ".bmp", ".html", ".htm"))
