"""Weights files: finding, verifying, loading and saving them.

A weights file is `.safetensors` with strings in its metadata: `idsr.arch` ("dprnet", "ggirnet" or "both"),
`idsr.layout`, `idsr.config` (JSON) and provenance. Foreign checkpoints (`.pth`, or `.safetensors` without metadata) are
recognised by their tensors; those of networks unknown here by spandrel, if it is installed. A weights folder holds
`dprnet.safetensors`, `ggirnet.safetensors`, a `manifest.json` with their sha256 and a model card, `README.md`. The
folder of a training run holds one network, which then plays both roles.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from idsr_cli.arguments import path_text
from idsr_cli.errors import WeightsError, choices_hint
from idsr_cli.files.cache import cache_folder

if TYPE_CHECKING:
    import torch
    from torch import nn

    from idsr_cli.networks import Layout
    from idsr_cli.networks.spandrel_models import Restorer

DEFAULT = "base"
ROLE_FILES = {"dprnet": "dprnet.safetensors", "ggirnet": "ggirnet.safetensors"}
# The role of a file whose network has no role-specific attention: it can be either member of a pair.
BOTH_ROLES = "both"
# Weights that `idsr train` writes, in order of preference.
RUN_FILES = ("best.safetensors", "last.safetensors")
MANIFEST = "manifest.json"
SPLICES = ("DG", "DD", "GG")
_FOREIGN = (".pth", ".pt", ".ckpt", ".tar", ".bin")


@dataclass(frozen=True)
class Weights:
    """One network's weights on disk.

    Attributes:
        name: short name for messages and metadata.
        path: the file.
        sha256: of the whole file, hexadecimal.
        arch: "dprnet" or "ggirnet", the role it was trained for; "both" for a network without role-specific attention.
        metadata: the file's own strings; empty for foreign checkpoints.
        remark: what of a foreign checkpoint was taken, if there was a choice, in words; or "".
    """

    name: str
    path: Path
    sha256: str
    arch: str
    metadata: Mapping[str, str] = field(hash=False)
    remark: str = ""

    @property
    def identity(self) -> str:
        """What tells networks apart: the sha256, and the role unless the file states it.

        A foreign checkpoint may hold the attentions of both roles; then one file gives two networks.
        """
        return self.sha256 if "idsr.arch" in self.metadata else f"{self.sha256} {self.arch}"

    def build(self) -> nn.Module:
        """The network with these weights, finished for use (see `Layout.finish`): evaluation mode, float32, CPU.

        Raises:
            WeightsError: damaged file, unknown layout, tensors missing or of the wrong shape, values not finite.
        """
        import torch

        from idsr_cli import networks

        tensors = self.tensors()
        with _naming(self.path):
            bad = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
            if bad:
                raise WeightsError(f"tensor `{bad[0]}` holds values that are not finite", hint="the file is damaged")
        if (other := self._of_another_project(tensors)) is not None:
            return other
        layout, config = self.configuration(tensors)
        with _naming(self.path):
            network = networks.build(layout, config)
            if misfits := _misfits(tensors, network.state_dict()):
                raise WeightsError(f"tensors do not fit layout `{layout}`: {misfits}")
            network.load_state_dict(tensors)
        return networks.layout_of(layout).finish(network).eval().requires_grad_(False)

    def layout(self) -> Layout:
        """The record of its network, by the layout's name in the metadata.

        A foreign checkpoint has no metadata; it is opened and recognised by its tensors.

        Raises:
            WeightsError: an unknown layout, or tensors that no layout recognises.
        """
        from idsr_cli import networks

        with _naming(self.path):
            if "idsr.layout" in self.metadata:
                return networks.layout_of(self.metadata["idsr.layout"])
        tensors = self.tensors()
        if (other := self._of_another_project(tensors)) is not None:
            return other.record
        with _naming(self.path):
            return networks.layout_of(networks.infer(tensors, self.arch)[0])

    def _of_another_project(self, tensors: Mapping[str, torch.Tensor]) -> Restorer | None:
        """The network, if no layout recognises the tensors and spandrel does; see `networks.spandrel_models`.

        Raises:
            WeightsError: spandrel says that it is no restorer, or cannot load it.
        """
        from idsr_cli import networks
        from idsr_cli.networks import spandrel_models

        if "idsr.layout" in self.metadata or networks.recognised(tensors):
            return None
        with _naming(self.path):
            return spandrel_models.load(_load(self.path))

    def configuration(self, tensors: Mapping[str, torch.Tensor]) -> tuple[str, dict[str, Any]]:
        """Layout and its arguments, from the metadata, or from the tensors of a foreign checkpoint.

        Raises:
            WeightsError: the metadata cannot be read, or no layout recognises the tensors.
        """
        from idsr_cli import networks

        with _naming(self.path):
            if "idsr.layout" not in self.metadata:
                return networks.infer(tensors, self.arch)
            try:
                return self.metadata["idsr.layout"], dict(json.loads(self.metadata["idsr.config"]))
            except (KeyError, TypeError, ValueError) as error:
                raise WeightsError("configuration in its metadata cannot be read") from error

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors as stored, names canonical, float32."""
        return {name: value.float() for name, value in _read_tensors(self.path).items() if value.is_floating_point()}

    def contents(self) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Name -> type ("F16", "F32", ...) and shape of each tensor; does not load torch for `.safetensors`.

        Raises:
            WeightsError: the file cannot be read.
        """
        if self.path.suffix != ".safetensors":
            return {
                name: (f"F{8 * value.element_size()}", tuple(value.shape))
                for name, value in _read_tensors(self.path).items()
                if value.is_floating_point()
            }
        with _opened(self.path) as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}

    @property
    def dry_threshold(self) -> float:
        """Rain, grey levels, that is seen in half of a photograph, or it counts as dry and is left as it is; 0 = off.

        Raises:
            WeightsError: the metadata have another text than a number from 0 up.
        """
        return self._grey_levels("idsr.dry_threshold")

    @property
    def rain_floor(self) -> float:
        """Estimated rain, grey levels, under which a pixel is left unchanged (see `leave_dry_pixels`); 0 = off.

        Raises:
            WeightsError: the metadata have another text than a number from 0 up.
        """
        return self._grey_levels("idsr.rain_floor")

    def _grey_levels(self, key: str) -> float:
        text = self.metadata.get(key, "0")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise WeightsError(f"`{key}` in its metadata is `{text[:40]}`, not a number from 0 up", path=self.path)
        return value


@dataclass(frozen=True)
class WeightsPair:
    """The weights that are used together, one for each role.

    Attributes:
        name: of the folder or file.
        dprnet, ggirnet: the weights of each role; the same if one file plays both.
        splice: which network detects and which describes: "DG", "DD" or "GG", as measured and stored with the weights.
    """

    name: str
    dprnet: Weights
    ggirnet: Weights
    splice: str

    @property
    def remarks(self) -> list[str]:
        """What the user should know of foreign checkpoints, a line each; see `Weights.remark`."""
        return list(dict.fromkeys(f"{w.path}: {w.remark}" for w in (self.dprnet, self.ggirnet) if w.remark))

    @property
    def sha256(self) -> str:
        """One hash for the pair: the sha256 of the two files' hashes, DPRNet's first."""
        return hashlib.sha256(f"{self.dprnet.sha256}{self.ggirnet.sha256}".encode()).hexdigest()


def weights_folders() -> list[Path]:
    """Where names are looked up, in this order: $IDSR_WEIGHTS_DIR, the package, the checkout, the user's cache."""
    here = Path(__file__).resolve().parent
    folders = [here / "shipped_weights", here.parent / "weights"]
    if environment := os.environ.get("IDSR_WEIGHTS_DIR"):
        folders.insert(0, Path(environment))
    folders.append(cache_folder())
    return folders


def find_weights(spec: str | os.PathLike[str] | None = None) -> WeightsPair:
    """Find a pair of weights, and check its files against the manifest if there is one.

    Args:
        spec: None = the default weights, looked up by name only. Otherwise one of:
            the NAME of weights in `weights_folders`, unless the working directory has a folder of that name with
            weights in it;
            a FOLDER of weights, or of a training run;
            a FILE, which then plays both roles;
            "FILE,FILE", DPRNet first; the folder of a training run may be given for either.
            A file in the authors' released layout holds both attentions: it counts as GGIRNet if its name contains
            "ggir", otherwise as DPRNet. A file of a network without role-specific attention can have either role.

    Raises:
        WeightsError: not found, damaged, or different from the manifest.
        UsageError: neither text nor a path.
    """
    if spec is None:
        return _named(DEFAULT) or _unknown(DEFAULT)
    text = path_text("weights", spec)
    if not text:
        raise WeightsError("the name of the weights is empty", hint=f"leave it out to take `{DEFAULT}`")
    try:
        return _found(text)
    except OSError as error:  # such as a name too long for the file system
        shown = text if len(text) <= 100 else f"{text[:100]}..."
        raise WeightsError(f"`{shown}` cannot be looked up: {(error.strerror or str(error)).lower()}") from error


def _found(spec: str) -> WeightsPair:
    if "," in spec and not Path(spec).exists():
        parts = [part.strip() for part in spec.split(",")]
        if len(parts) != 2:
            raise WeightsError(f"`{spec}` names {len(parts)} files", hint="give DPRNet,GGIRNet")
        first, second = (_half(Path(part), role) for part, role in zip(parts, ROLE_FILES, strict=True))
        return WeightsPair(f"{first.name},{second.name}", first, second, "DG")
    path = Path(spec)
    if path.is_file():
        return _alone(path)
    # A folder without weights does not hide shipped weights of its name: it may hold photographs.
    shadowed = _has_member(path) or run_weights(path)
    if path.name == spec and not shadowed and (pair := _named(spec)):
        return pair
    return _pair(path) if path.is_dir() else _unknown(spec)


def _has_member(folder: Path) -> bool:
    return any((folder / file).is_file() for file in ROLE_FILES.values())


def _named(name: str) -> WeightsPair | None:
    found = (folder / name for folder in weights_folders() if (folder / name).is_dir())
    return next((_pair(folder) for folder in found), None)


def _unknown(spec: str) -> NoReturn:
    names = dict.fromkeys(name for name, _ in named_weights()) or ("none",)
    hint = choices_hint(spec, names, "here are:")
    raise WeightsError(f"no weights named `{spec}` and no such file or folder", hint=hint)


def _half(path: Path, role: str) -> Weights:
    """One side of "FILE,FILE"; the folder of a training run stands for its weights."""
    run = run_weights(path)
    weights = _weights(run or path, role)
    if weights.arch not in (role, BOTH_ROLES):
        raise WeightsError(f"these are weights of {weights.arch}, not of {role}", path=path, hint="give DPRNet,GGIRNet")
    return replace(weights, name=path.resolve().name) if run else weights


def run_weights(folder: Path) -> Path | None:
    """The weights file to use from a training run's folder: the best in validation, or else the last; None if none."""
    return next((folder / name for name in RUN_FILES if (folder / name).is_file()), None)


def named_weights() -> list[tuple[str, Path]]:
    """Names and folders of all weights on this machine, in lookup order: `find_weights` takes the first of a name."""
    return [
        (child.name, child)
        for folder in weights_folders()
        if folder.is_dir()
        for child in sorted(folder.iterdir())
        if _has_member(child)
    ]


def check_folder(folder: Path) -> Iterator[tuple[Path, str, WeightsError | None]]:
    """Verify a folder of weights: yields the path, the checks in words, and the error or None of each weights file.

    Files that the manifest lists and the folder lacks are errors. A file is valid if its sha256 is the manifest's, its
    tensors are finite and fit their network, and the network gives finite values.
    """
    manifest: Mapping[str, str] = {}
    try:
        manifest = _manifest(folder)
    except WeightsError as error:
        yield folder / MANIFEST, "", error
    for role, file in ROLE_FILES.items():
        hashed = "sha256 as in the manifest" if file in manifest else "no sha256 on record"
        try:
            weights = _member(folder, role, manifest)
            if weights is not None:
                check_network(weights)
                yield weights.path, f"{hashed}, loads, finite", None
        except WeightsError as error:
            yield folder / file, hashed, error


def check_network(weights: Weights) -> None:
    """Build the network and run it on a small image.

    Raises:
        WeightsError: as `Weights.build`, its thresholds cannot be used, or it gives values that are not finite.
    """
    import torch

    _ = weights.dry_threshold, weights.rain_floor  # reading them checks them
    network, layout = weights.build(), weights.layout()
    side = -(-32 // layout.multiple) * layout.multiple
    picture = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        if not torch.isfinite(layout.image_of(network(picture))).all():
            raise WeightsError("gives values that are not finite", path=weights.path)


def save_weights(path: Path, network: nn.Module, metadata: Mapping[str, str], half: bool = False) -> None:
    """Write one network as `.safetensors`, atomically. What is written is a finished copy (see `Layout.finish`).

    Args:
        path: target file.
        network: a network of the layout that the metadata names.
        metadata: provenance strings; `idsr.layout` and `idsr.config` must be among them.
        half: store float16, for half the size; loading converts back to float32.

    Raises:
        WeightsError: an unknown layout.
    """
    import copy

    import torch
    from safetensors.torch import save

    from idsr_cli import networks
    from idsr_cli.files.atomic import write_bytes

    metadata = dict(metadata)
    layout = networks.layout_of(metadata["idsr.layout"])
    network = layout.finish(copy.deepcopy(network).cpu())
    if layout.finished:
        metadata["idsr.config"] = json.dumps({**json.loads(metadata["idsr.config"]), **layout.finished})
    dtype = torch.float16 if half else torch.float32
    tensors = {name: value.to(dtype).contiguous() for name, value in network.state_dict().items()}
    write_bytes(path, save(tensors, metadata))


def write_manifest(folder: Path, only: str | None = None) -> None:
    """Write the sha256 of the folder's weights files to its manifest; of the file `only` alone if it is given."""
    from idsr_cli.files.atomic import write_bytes

    names = [only] if only else [name for name in ROLE_FILES.values() if (folder / name).is_file()]
    files = {**(_manifest(folder) if only else {}), **{name: sha256_of(folder / name) for name in names}}
    write_bytes(folder / MANIFEST, (json.dumps({"sha256": files}, indent=2) + "\n").encode())


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file; cached while its size and modification time stay the same.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        stat = path.stat()
        return _sha256(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise WeightsError(error.strerror or str(error), path=path) from error


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, size: int, mtime: int) -> str:
    with path.open("rb") as file:
        # hashlib.file_digest does this from Python 3.11 on.
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _manifest(folder: Path) -> Mapping[str, str]:
    """File name -> sha256; {} without a manifest."""
    path = folder / MANIFEST
    try:
        return dict(json.loads(path.read_text())["sha256"]) if path.is_file() else {}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise WeightsError("manifest cannot be read", path=path, hint="reinstall idsr") from error


def _member(folder: Path, role: str, manifest: Mapping[str, str]) -> Weights | None:
    """The folder's weights for a role, hash verified; None if the file is missing and the manifest does not list it."""
    file = ROLE_FILES[role]
    if not (folder / file).is_file():
        if file in manifest:
            raise WeightsError(f"`{file}` is missing", path=folder, hint="reinstall idsr")
        return None
    # Check the hash before reading: for a truncated file it gives the clearer message.
    if manifest.get(file, sha256_of(folder / file)) != sha256_of(folder / file):
        raise WeightsError("sha256 differs from the manifest", path=folder / file, hint="the file is damaged")
    return _weights(folder / file, role)


def _pair(folder: Path) -> WeightsPair:
    manifest = _manifest(folder)
    members = {role: _member(folder, role, manifest) for role in ROLE_FILES}
    found = {role: weights for role, weights in members.items() if weights is not None}
    if not found:
        if run := run_weights(folder):
            return replace(_alone(run), name=folder.resolve().name)
        looked_for = ", ".join((*ROLE_FILES.values(), *RUN_FILES))
        raise WeightsError("no weights in this folder", path=folder, hint=f"looked for {looked_for}")
    dprnet = found.get("dprnet") or found["ggirnet"]
    ggirnet = found.get("ggirnet") or found["dprnet"]
    alone = "DG" if len(found) == 2 else "DD" if "dprnet" in found else "GG"
    splice = ggirnet.metadata.get("idsr.splice", alone) if len(found) == 2 else alone
    if splice not in SPLICES:
        raise WeightsError(f"unknown splice `{splice}` in its metadata", path=ggirnet.path)
    return WeightsPair(folder.resolve().name, dprnet, ggirnet, splice)


def _alone(path: Path) -> WeightsPair:
    """One file that plays both roles."""
    one = _weights(path, None)
    return WeightsPair(one.name, one, one, "GG" if one.arch == "ggirnet" else "DD")


def _weights(path: Path, role: str | None) -> Weights:
    metadata, names, remark = _read_header(path)
    arch = metadata.get("idsr.arch") or _guessed_role(path, metadata.get("idsr.layout"), names, role)
    if arch not in (*ROLE_FILES, BOTH_ROLES):
        raise WeightsError(f"unknown network `{arch}` in its metadata", path=path)
    return Weights(path.stem, path, sha256_of(path), arch, metadata, remark)


def _guessed_role(path: Path, layout: str | None, names: Collection[str], role: str | None) -> str:
    """The role of a file whose metadata do not state it: the one it is requested for, or else guessed from its name.

    Networks without role-specific attention play both roles.
    """
    from idsr_cli import networks

    layout = layout or networks.recognised(names)
    if layout in networks.LAYOUTS and not networks.LAYOUTS[layout].attentions:
        return BOTH_ROLES
    return role or ("ggirnet" if "ggir" in path.name.lower() else "dprnet")


def _read_header(path: Path) -> tuple[dict[str, str], list[str], str]:
    """The file's strings, the names of its tensors and the remark on it; a foreign checkpoint has no strings."""
    if path.suffix != ".safetensors":
        state = _load(path)
        tensors, remark = _opened_state(path, state)
        return _training_metadata(state), list(tensors), remark
    with _opened(path) as file:
        return dict(file.metadata() or {}), list(file.keys()), ""


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The `.safetensors` file, open for reading its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(_damage(error), path=path, hint="the file is damaged or no weights file") from error


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    return _opened_state(path, _load(path))[0]


def _harmless() -> list[Any]:
    """What pickles may hold beside tensors: NumPy's numbers and arrays, and options. None of it runs code.

    Training code keeps such things in its checkpoints: a best score, the command line.
    """
    import argparse
    import pathlib

    import numpy as np

    multiarray = np.array(0).__reduce__()[0].__module__  # "numpy._core.multiarray"; before NumPy 2 "numpy.core...."
    core = sys.modules[multiarray]
    named = [
        (getattr(core, name), f"{module}.{name}")
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("scalar", "_reconstruct")
    ]
    kinds = [getattr(np.dtypes, name) for name in dir(np.dtypes) if name.endswith("DType")]
    paths = [
        (getattr(pathlib, f"Pure{kind}"), f"{module}.{pure}{kind}")
        for module in ("pathlib", "pathlib._local")
        for kind in ("PosixPath", "WindowsPath")
        for pure in ("", "Pure")
    ]
    return [*named, *kinds, *paths, np.dtype, np.ndarray, argparse.Namespace]


def _training_metadata(state: Mapping[Any, Any]) -> dict[str, str]:
    """The strings that `idsr train` writes into weights, from its `checkpoint.pt`; {} for a foreign checkpoint."""
    metadata = state.get("metadata")
    if isinstance(metadata, Mapping) and "idsr.arch" in metadata:
        return {str(key): str(value) for key, value in metadata.items()}
    try:  # a checkpoint of version 0.2.0, without metadata
        options = json.loads(state["options"])
        return {
            "idsr.arch": str(options["role"]),
            "idsr.layout": str(options["layout"]),
            "idsr.config": json.dumps(options["config"]),
        }
    except (KeyError, TypeError, ValueError):
        return {}


def _opened_state(path: Path, state: Mapping[Any, Any]) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors, by canonical names, and the remark of `networks.opened`."""
    from idsr_cli import networks

    with _naming(path):
        return networks.opened(state)


def _load(path: Path) -> Mapping[Any, Any]:
    """What the file holds, on the CPU."""
    import pickle
    import warnings

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        elif path.suffix in _FOREIGN:
            with warnings.catch_warnings(), torch.serialization.safe_globals(_harmless()):
                warnings.simplefilter("ignore")  # of pickle, about protocol versions
                state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise WeightsError("not a weights file", path=path, hint=f"known: .safetensors {' '.join(_FOREIGN)}")
    except pickle.UnpicklingError as error:
        # torch's own message is replaced: it advises to load the file without this protection.
        if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
            reason, hint = f"holds code (`{found[1]}`), not only tensors", "save `network.state_dict()` alone"
        else:
            reason, hint = "not a checkpoint of tensors alone", "the file is damaged or no weights file"
        raise WeightsError(f"cannot be loaded: {reason}", path=path, hint=hint) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise WeightsError(_damage(error), path=path, hint="the file is damaged or no weights file") from error
    if not isinstance(state, Mapping):
        raise WeightsError("is not a state dict", path=path, hint="save `network.state_dict()`")
    return state


def _misfits(tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> str:
    """Counts of missing, extra and differently shaped tensors, with the first name of each kind; "" if all fit."""
    missing = [name for name in expected if name not in tensors]
    extra = [name for name in tensors if name not in expected]
    other = [
        f"{name} {tuple(tensors[name].shape)} for {tuple(value.shape)}"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    kinds = {"missing": missing, "extra": extra, "of another shape": other}
    return ", ".join(
        f"{len(names)} {kind} (`{names[0]}`{', ...' if len(names) > 1 else ''})"
        for kind, names in kinds.items()
        if names
    )


def _damage(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"cannot be loaded: {first[:120]}"


class _naming:
    """Context manager that adds the file's path to each `WeightsError` raised inside."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, WeightsError) and error.path is None:
            error.path = str(self.path)
