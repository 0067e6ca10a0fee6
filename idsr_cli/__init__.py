"""Derain photographs so that SIFT features come back.

The names below are the public interface from Python; each is imported when it is first used, so that
`import idsr_cli` stays instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:
    from idsr_cli.api import MatchResult, derain, match, sift
    from idsr_cli.errors import IdsrError
    from idsr_cli.extraction import extract
    from idsr_cli.features import SiftOptions, splice
    from idsr_cli.formats.npz import read_npz
    from idsr_cli.images.photo import read_photo
    from idsr_cli.keypoints import Keypoints
    from idsr_cli.rain_estimate import Rain
    from idsr_cli.restoration import Removal, RestorationOptions, Restored, Restorer
    from idsr_cli.weights import find_weights

__all__ = [
    "IdsrError",
    "Keypoints",
    "MatchResult",
    "Rain",
    "Removal",
    "RestorationOptions",
    "Restored",
    "Restorer",
    "SiftOptions",
    "__version__",
    "derain",
    "extract",
    "find_weights",
    "match",
    "read_npz",
    "read_photo",
    "sift",
    "splice",
]

_HOMES = {
    "derain": "idsr_cli.api",
    "sift": "idsr_cli.api",
    "match": "idsr_cli.api",
    "MatchResult": "idsr_cli.api",
    "IdsrError": "idsr_cli.errors",
    "Keypoints": "idsr_cli.keypoints",
    "SiftOptions": "idsr_cli.features",
    "splice": "idsr_cli.features",
    "Rain": "idsr_cli.rain_estimate",
    "Removal": "idsr_cli.restoration",
    "RestorationOptions": "idsr_cli.restoration",
    "Restored": "idsr_cli.restoration",
    "Restorer": "idsr_cli.restoration",
    "extract": "idsr_cli.extraction",
    "find_weights": "idsr_cli.weights",
    "read_photo": "idsr_cli.images.photo",
    "read_npz": "idsr_cli.formats.npz",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'idsr_cli' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
