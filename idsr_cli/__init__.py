"""Derain photographs so that SIFT features come back.

The names below are the public interface from Python; each is imported when it is first used, so that
`import idsr_cli` stays instant.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "Keypoints": "idsr_cli.keypoints",
    "IdsrError": "idsr_cli.errors",
    "SiftOptions": "idsr_cli.features",
    "sift": "idsr_cli.features",
    "splice": "idsr_cli.features",
    "Restorer": "idsr_cli.restoration",
    "find_weights": "idsr_cli.weights",
    "read_photo": "idsr_cli.images.photo",
    "read_npz": "idsr_cli.formats.npz",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'idsr_cli' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
