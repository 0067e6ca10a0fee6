"""The names that `import idsr_cli` gives."""

import pytest
import torch

import idsr_cli


@pytest.mark.parametrize("name", sorted(set(idsr_cli.__all__) - {"__version__"}))
def test_each_name_is_what_it_says(name: str) -> None:
    assert getattr(idsr_cli, name).__name__ == name


def test_a_module_does_not_hide_the_function_once_it_is_imported() -> None:
    for _ in range(2):
        assert len(idsr_cli.sift(torch.zeros(32, 32), idsr_cli.SiftOptions())) == 0
    assert callable(idsr_cli.splice)
