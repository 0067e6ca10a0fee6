"""What callers from Python may pass for a number, a flag, a name or a path."""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from idsr_cli.arguments import flag, number, one_of, path_text, whole_number
from idsr_cli.errors import UsageError


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"x.png"


@pytest.mark.parametrize("value", [7, np.int64(7), np.uint8(7)])
def test_whole_numbers(value: Any) -> None:
    assert (whole_number("n", value), type(whole_number("n", value))) == (7, int)


@pytest.mark.parametrize("value", [True, np.True_, 1.0, "7", None, [7]])
def test_no_whole_numbers(value: Any) -> None:
    with pytest.raises(UsageError, match="n must be a whole number, not"):
        whole_number("n", value)


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int16(2)])
def test_numbers(value: Any) -> None:
    assert (number("r", value), type(number("r", value))) == (2.0, float)


@pytest.mark.parametrize("value", [True, "2", None, 2j, [2.0]])
def test_no_numbers(value: Any) -> None:
    with pytest.raises(UsageError, match="r must be a number, not"):
        number("r", value)


def test_flags_and_names() -> None:
    assert flag("f", np.True_) is True
    assert flag("f", False) is False
    for value in (0, 1, "none", None, []):
        with pytest.raises(UsageError, match="`f` is True or False, not"):
            flag("f", value)
    one_of("n", "a", ("a", "b"))
    for wrong in ("c", "", None, 5, ["a"], np.array(["a", "b"])):
        with pytest.raises(UsageError, match="`n` is one of a, b, not"):
            one_of("n", wrong, ("a", "b"))


def test_paths() -> None:
    assert path_text("p", "x.png") == path_text("p", Path("x.png")) == path_text("p", PurePosixPath("x.png")) == "x.png"
    for wrong in (b"x.png", BytesPath(), 5, None, ["x.png"], "a\0b"):
        with pytest.raises(UsageError, match=r"^p ") as caught:
            path_text("p", wrong)
        assert "\n" not in str(caught.value)
