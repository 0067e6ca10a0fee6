"""The names that `import idsr_cli` gives, and how they are called."""

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import idsr_cli
from idsr_cli.features import sift

# What a Python user may rely on: parameters of functions, fields of records. A change here is a change for users, and
# goes into CHANGELOG.md.
INVENTORY = {
    "IdsrError": "reason * path hint",
    "Keypoints": "xy scale angle response octave layer descriptors image_size",
    "MatchResult": "keypoints matches geometry derained rain",
    "Rain": "level share direction",
    "Removal": "strength force scale dry_threshold mirror",
    "RestorationOptions": "pair roles device precision tile removal engine",
    "Restored": "rgb rain_seen rain look",
    "Restorer": "options load",
    "SiftOptions": "max_keypoints n_layers contrast_threshold edge_threshold sigma first_octave n_octaves "
    "max_orientations soft_limit rules",
    "derain": "image * weights device precision engine tile strength force scale dry_threshold mirror",
    "extract": "views options * grey mask descriptors device",
    "find_weights": "spec",
    "match": "a b * derain ratio mutual rootsift max_keypoints model threshold splice weights device precision engine "
    "tile "
    "strength force scale dry_threshold mirror",
    "read_npz": "path",
    "read_photo": "path",
    "sift": "image * derain splice weights mask max_keypoints descriptors like n_layers contrast_threshold "
    "edge_threshold sigma first_octave max_orientations device precision engine tile "
    "strength force scale dry_threshold mirror",
    "splice": "detect describe options mask",
}


def parameters(thing: object) -> str:
    """Names as the inventory has them; `*` stands before those that are given by name only."""
    if dataclasses.is_dataclass(thing):
        return " ".join(field.name for field in dataclasses.fields(thing))
    words = []
    for name, parameter in inspect.signature(thing).parameters.items():  # type: ignore[arg-type]
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        words.append(name)
    return " ".join(words)


def test_inventory() -> None:
    names = set(idsr_cli.__all__) - {"__version__"}
    assert {name: parameters(getattr(idsr_cli, name)) for name in names} == INVENTORY
    assert set(dir(idsr_cli)) == set(idsr_cli.__all__)


@pytest.mark.parametrize("name", sorted(set(idsr_cli.__all__) - {"__version__"}))
def test_each_name_is_what_it_says_and_is_described(name: str) -> None:
    assert getattr(idsr_cli, name).__name__ == name
    assert len(inspect.getdoc(getattr(idsr_cli, name)) or "") > 30


def test_a_module_does_not_hide_a_function_once_it_is_imported() -> None:
    for _ in range(2):
        for name in ("derain", "sift", "match", "splice", "extract"):
            assert inspect.isfunction(getattr(idsr_cli, name))
        assert len(sift(torch.zeros(32, 32), idsr_cli.SiftOptions())) == 0


def test_importing_the_package_loads_nothing_heavy_and_types_are_shipped() -> None:
    code = "import sys, idsr_cli; assert not {'torch', 'cv2', 'numpy', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (Path(idsr_cli.__file__).parent / "py.typed").is_file()
