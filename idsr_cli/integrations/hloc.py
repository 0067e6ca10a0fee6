"""`idsr` as a feature extractor of hloc, the hierarchical localization toolbox.

    from hloc import extract_features
    from idsr_cli.integrations.hloc import register

    conf = register()
    extract_features.main(conf, Path("photos"), Path("outputs"))

hloc loads an extractor by name: it imports `hloc.extractors.NAME` and takes the one subclass of its `BaseModel` that is
defined there. `register` makes such a module, so that every function of hloc that loads extractors finds `idsr`. hloc
is imported by `register` alone and is no dependency.

Source: hloc's `utils/base_model.py`, `extract_features.py` and `extractors/dog.py`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from idsr_cli.errors import UsageError

if TYPE_CHECKING:
    import torch

NAME = "idsr"
# Arguments of `idsr_cli.sift` that a configuration may set. -1 keypoints means all, as in hloc's other extractors.
DEFAULTS: dict[str, Any] = {
    "derain": True,
    "weights": None,
    "splice": None,
    "precision": "auto",
    "engine": "auto",
    "tile": None,
    "max_keypoints": -1,
    "n_layers": 3,
    "contrast_threshold": 0.04,
    "edge_threshold": 10.0,
    "sigma": 1.6,
}


def register(**settings: Any) -> dict[str, Any]:
    """Make `idsr` known to hloc.

    Args:
        settings: of `DEFAULTS`, others than the defaults.

    Returns:
        A configuration for `hloc.extract_features.main`, which is also entered in its `confs` as "idsr". Photographs
        are read in colour and made smaller to at most 1600 pixels a side before they are derained, as hloc's `sift` has
        it; `conf["preprocessing"]["resize_max"] = None` keeps their size.

    Raises:
        UsageError: hloc is not installed, or a setting is unknown.
    """
    _check(settings)
    try:
        from hloc import extract_features, extractors
        from hloc.utils.base_model import BaseModel
    except ImportError as error:
        raise UsageError(
            f"hloc cannot be imported: {error}", hint="clone its repository and `pip install -e` its folder"
        ) from error
    path = f"{extractors.__name__}.{NAME}"
    module = ModuleType(path, "The extractor of idsr, made by idsr_cli.integrations.hloc.")
    module.Idsr = _extractor(BaseModel, path)  # type: ignore[attr-defined]
    sys.modules[path] = module
    setattr(extractors, NAME, module)
    conf = {
        "output": f"feats-{NAME}",
        "model": {"name": NAME, **settings},
        "preprocessing": {"grayscale": False, "resize_max": 1600},
    }
    extract_features.confs[NAME] = conf
    return conf


def _check(settings: dict[str, Any]) -> None:
    for name in settings:
        if name not in DEFAULTS:
            raise UsageError(f"the extractor has no setting `{name}`", hint=f"it has {', '.join(DEFAULTS)}")


def _extractor(base: type, module: str) -> type:
    """The class that hloc instantiates, a subclass of its `BaseModel`, as if it were defined in `module`."""

    class Idsr(base):  # type: ignore[misc]
        """Keypoints and RootSIFT descriptors of `idsr_cli.sift`: `{"image": (1, C, H, W) in [0, 1]}` -> arrays.

        `keypoints` (1, N, 2), `scores` (1, N), `scales` (1, N) sigma in pixels, `oris` (1, N) degrees clockwise,
        `descriptors` (1, 128, N) of length 1; the strongest first. (0, 0) is the centre of the top-left pixel.
        """

        default_conf = DEFAULTS
        required_inputs = ("image",)
        detection_noise = 1.0

        def _init(self, conf: dict[str, Any]) -> None:
            _check({name: value for name, value in conf.items() if name != "name"})

        def _forward(self, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return _features(data["image"], {name: self.conf[name] for name in DEFAULTS})

    Idsr.__module__ = module
    return Idsr


def _features(image: torch.Tensor, conf: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The predictions for one image, (1, 3, H, W) RGB or (1, 1, H, W) grey."""
    import numpy as np
    import torch

    from idsr_cli.api import sift

    if image.ndim != 4 or len(image) != 1 or image.shape[1] not in (1, 3):
        raise UsageError(f"hloc gives one image, (1, 3, H, W) or (1, 1, H, W), not {tuple(image.shape)}")
    # Some ways to make a photograph smaller overshoot.
    pixels = image[0].permute(1, 2, 0).float().clamp(0, 1).cpu().numpy()
    limit = None if conf["max_keypoints"] == -1 else conf["max_keypoints"]
    found = sift(
        np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels),
        descriptors="rootsift_f32", device=str(image.device), **conf | {"max_keypoints": limit},
    )  # fmt: skip
    arrays = {
        # hloc halves float32 to float16, in which x = 3000 is rounded to steps of 2 pixels. It leaves float64 alone.
        "keypoints": found.xy.astype(np.float64),
        "scores": found.response,
        "scales": found.scale,
        "oris": found.angle,
        "descriptors": np.ascontiguousarray(found.descriptors.T),
    }
    return {name: torch.from_numpy(array)[None] for name, array in arrays.items()}
