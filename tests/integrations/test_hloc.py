"""`idsr` as hloc loads it: a stand-in with hloc's contract for extractors, and hloc itself where it is installed."""

import inspect
import subprocess
import sys
from abc import ABCMeta, abstractmethod
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import idsr_cli
from idsr_cli import api
from idsr_cli.errors import UsageError
from idsr_cli.formats.descriptors import convert
from idsr_cli.integrations.hloc import register
from idsr_cli.restoration import Restored

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "rainy" / "lighthouse.jpg"


class BaseModel(nn.Module, metaclass=ABCMeta):
    """What hloc's `BaseModel` does: defaults under the configuration, `_init`, and inputs checked before `_forward`."""

    default_conf: ClassVar[dict[str, Any]] = {}
    required_inputs: ClassVar[Any] = []

    def __init__(self, conf: dict[str, Any]) -> None:
        super().__init__()
        self.conf = conf = {**self.default_conf, **conf}
        self._init(conf)

    def forward(self, data: dict[str, Any]) -> Any:
        assert all(key in data for key in self.required_inputs)
        return self._forward(data)

    @abstractmethod
    def _init(self, conf: dict[str, Any]) -> None: ...

    @abstractmethod
    def _forward(self, data: dict[str, Any]) -> Any: ...


def dynamic_load(root: ModuleType, name: str) -> type:
    """As hloc's: the one class of a module that is defined there and is a `BaseModel`."""
    path = f"{root.__name__}.{name}"
    module = __import__(path, fromlist=[""])
    own = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == path]
    [found] = [kind for kind in own if issubclass(kind, BaseModel)]
    return found


@pytest.fixture(params=["stand-in", "hloc"])
def load(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """name -> class, as hloc loads an extractor; and the modules are forgotten afterwards."""
    if request.param == "hloc":
        pytest.importorskip("hloc.extract_features")
        monkeypatch.delitem(sys.modules, "hloc.extractors.idsr", raising=False)
        loader = import_module("hloc.utils.base_model").dynamic_load
        return lambda name: loader(import_module("hloc.extractors"), name)
    names = ("hloc", "hloc.extractors", "hloc.extract_features", "hloc.utils", "hloc.utils.base_model")
    modules = {name: ModuleType(name) for name in names}
    for name, module in modules.items():
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    modules["hloc.extract_features"].confs = {}  # type: ignore[attr-defined]
    modules["hloc.utils.base_model"].BaseModel = BaseModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hloc.extractors.idsr", ModuleType("taken away afterwards"))
    return lambda name: dynamic_load(modules["hloc.extractors"], name)


def photograph(width: int = 120) -> np.ndarray:
    return idsr_cli.read_photo(EXAMPLE).rgb[100:196, 60 : 60 + width]


def batch(rgb: np.ndarray) -> dict[str, torch.Tensor]:
    """As hloc's data loader gives it: a batch of one image, channels first."""
    return {"image": torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None]}


@pytest.fixture
def brightening(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stand-in for the networks that makes every photograph brighter; records the roles asked for."""
    asked: list[str] = []

    def run(restorer: Any, photo: Any, roles: str) -> list[Restored]:
        asked.append(roles)
        return [Restored(photo.rgb**0.5, True) for _ in roles]

    monkeypatch.setattr(api, "_run", run)
    return asked


def test_it_is_found_by_name_and_gives_the_keypoints_of_sift(load, brightening) -> None:
    conf = register(splice="DG")
    model = load(conf["model"]["name"])(conf["model"]).eval().to("cpu")
    rgb = photograph()
    found = model(batch(rgb))
    expected = idsr_cli.sift(rgb, splice="DG", descriptors="rootsift_f32")
    assert brightening == ["DG", "DG"]
    count = len(expected)
    assert count > 20
    shapes = {"keypoints": (1, count, 2), "scores": (1, count), "scales": (1, count), "oris": (1, count)}
    assert {name: tuple(value.shape) for name, value in found.items()} == shapes | {"descriptors": (1, 128, count)}
    for name, values in (
        ("keypoints", expected.xy), ("scores", expected.response), ("scales", expected.scale),
        ("oris", expected.angle), ("descriptors", expected.descriptors.T),
    ):  # fmt: skip
        np.testing.assert_array_equal(found[name][0].numpy(), values)
    np.testing.assert_allclose(found["descriptors"].norm(dim=1), 1, atol=1e-5)


def test_the_configuration_is_one_of_hlocs(load) -> None:
    conf = register(derain=False, max_keypoints=7)
    assert import_module("hloc.extract_features").confs["idsr"] is conf
    assert set(conf) == {"output", "model", "preprocessing"}
    assert conf["preprocessing"] == {"grayscale": False, "resize_max": 1600}
    found = load("idsr")(conf["model"])(batch(photograph()))
    assert found["keypoints"].shape == (1, 7, 2)
    assert load("idsr").required_inputs == ("image",)
    assert load("idsr").detection_noise == 1.0  # hloc's import into COLMAP weights observations by it


def test_grey_photographs_and_those_without_keypoints(load) -> None:
    model = load(register(derain=False)["model"]["name"])({"name": "idsr", "derain": False})
    grey = photograph() @ np.float32([0.299, 0.587, 0.114])
    found = model({"image": torch.from_numpy(grey)[None, None]})
    expected = convert(idsr_cli.sift(grey, derain=False), "rootsift_f32")
    np.testing.assert_array_equal(found["descriptors"][0].T.numpy(), expected.descriptors)
    empty = model({"image": torch.zeros(1, 3, 48, 64)})
    assert (empty["keypoints"].shape, empty["descriptors"].shape) == ((1, 0, 2), (1, 128, 0))
    overshot = model({"image": torch.from_numpy(grey)[None, None] * 1.2 - 0.1})
    assert overshot["keypoints"].shape[1] > 20
    with pytest.raises(UsageError, match="hloc gives one image"):
        model({"image": torch.zeros(2, 3, 48, 64)})


def test_positions_survive_what_hloc_does_to_its_results(load) -> None:
    """hloc scales keypoints to the size of the file, and stores float32 as float16, whose steps are 2 at x = 3000."""
    model = load(register(derain=False)["model"]["name"])({"name": "idsr", "derain": False})
    rgb = photograph()
    result = {name: value[0].cpu().numpy() for name, value in model(batch(rgb)).items()}
    scales = (np.array([4000, 3200]) / np.array([rgb.shape[1], rgb.shape[0]])).astype(np.float32)
    result["keypoints"] = (result["keypoints"] + 0.5) * scales[None] - 0.5
    stored = {name: v.astype(np.float16) if v.dtype == np.float32 else v for name, v in result.items()}
    expected = (idsr_cli.sift(rgb, derain=False).xy.astype(float) + 0.5) * scales - 0.5
    assert expected.max() > 2048
    np.testing.assert_allclose(stored["keypoints"], expected, atol=1e-3)
    assert stored["descriptors"].dtype == np.float16


def test_settings_that_do_not_exist_are_refused(load) -> None:
    with pytest.raises(UsageError, match=r"no setting `weigths` \(it has derain, weights,"):
        register(weigths="base")
    register()
    with pytest.raises(UsageError, match="no setting `first_octave`"):
        load("idsr")({"name": "idsr", "first_octave": 0})
    with pytest.raises(UsageError, match="`splice` has no effect with derain=False"):
        load("idsr")({"name": "idsr", "derain": False, "splice": "DG"})(batch(photograph()))


def test_without_hloc_it_says_what_to_do() -> None:
    """In a fresh process, since hloc may be installed here: importing the module needs neither hloc nor torch."""
    code = (
        "import sys; sys.modules['hloc'] = None\n"
        "from idsr_cli.integrations import hloc\n"
        "assert not {'torch', 'numpy', 'cv2'} & set(sys.modules)\n"
        "try: hloc.register()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.startswith("UsageError hloc cannot be imported: ")
    assert "pip install -e" in result.stdout
