"""Weights files: where they are, whether they are whole, what they hold, how they are written.

A weights file is `.safetensors` with strings in its metadata: `idsr.arch` ("dprnet" or "ggirnet"), `idsr.layout`,
`idsr.config` (JSON) and provenance. Foreign checkpoints (`.pth`, or `.safetensors` without metadata) are recognised by
their tensors. A weights folder holds `dprnet.safetensors`, `ggirnet.safetensors`, a `manifest.json` with their sha256
and a model card, `README.md`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idsr_cli.errors import WeightsError

if TYPE_CHECKING:
    import torch
    from torch import nn

DEFAULT = "base"
ROLE_FILES = {"dprnet": "dprnet.safetensors", "ggirnet": "ggirnet.safetensors"}
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
        arch: "dprnet" or "ggirnet", the role it plays.
        metadata: the file's own strings; empty for foreign checkpoints.
    """

    name: str
    path: Path
    sha256: str
    arch: str
    metadata: Mapping[str, str]

    def build(self) -> nn.Module:
        """The network with these weights: evaluation mode, float32, CPU, branches folded.

        Raises:
            WeightsError: damaged file, unknown layout, missing or misshapen tensors, values that are not finite.
        """
        import torch

        from idsr_cli import networks

        tensors = self.tensors()
        with _naming(self.path):
            if "idsr.layout" in self.metadata:
                layout = self.metadata["idsr.layout"]
                try:
                    config = dict(json.loads(self.metadata["idsr.config"]))
                except (KeyError, TypeError, ValueError) as error:
                    raise WeightsError("configuration in its metadata cannot be read") from error
            else:
                layout, config = networks.infer(tensors, self.arch)
            network = networks.build(layout, config)
            bad = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
            if bad:
                raise WeightsError(f"tensor `{bad[0]}` holds values that are not finite", hint="the file is damaged")
            try:
                network.load_state_dict(tensors)
            except RuntimeError as error:
                first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
                raise WeightsError(f"tensors do not fit layout `{layout}`: {first[:160]}") from error
        if isinstance(network, networks.RainUNet):
            network.fold()
        return network.eval().requires_grad_(False)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors as stored, names canonical, float32."""
        return {name: value.float() for name, value in _read_tensors(self.path).items() if value.is_floating_point()}

    @property
    def dry_threshold(self) -> float:
        """Estimated rain under which a photograph counts as dry and is returned as it is; 0 switches the test off."""
        return float(self.metadata.get("idsr.dry_threshold", "0"))


@dataclass(frozen=True)
class WeightsPair:
    """The two networks that belong together.

    Attributes:
        name: of the folder or file.
        dprnet, ggirnet: the roles; one file alone plays both.
        splice: which network detects and which describes: "DG", "DD" or "GG", as measured and stored with the weights.
    """

    name: str
    dprnet: Weights
    ggirnet: Weights
    splice: str

    @property
    def sha256(self) -> str:
        """One hash for the pair: of the two files' hashes, DPRNet's first."""
        return hashlib.sha256(f"{self.dprnet.sha256}{self.ggirnet.sha256}".encode()).hexdigest()


def weights_folders() -> list[Path]:
    """Where names are looked up, first hit wins: $IDSR_WEIGHTS_DIR, the package, the checkout, the user's cache."""
    here = Path(__file__).resolve().parent
    folders = [here / "shipped_weights", here.parent / "weights"]
    if environment := os.environ.get("IDSR_WEIGHTS_DIR"):
        folders.insert(0, Path(environment))
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folders.append(Path(cache) / "idsr")
    return folders


def find_weights(spec: str | None = None) -> WeightsPair:
    """Find a pair and check that its files are whole.

    Args:
        spec: None = the shipped default; a NAME of shipped weights; a FOLDER; a FILE, which then plays both roles; or
            "FILE,FILE", DPRNet first. A file in the authors' released layout carries both attentions: it counts as
            GGIRNet if its name contains "ggir", else as DPRNet.

    Raises:
        WeightsError: nothing there, damaged, or not what the manifest says.
    """
    spec = spec or DEFAULT
    if "," in spec and not Path(spec).exists():
        parts = [part.strip() for part in spec.split(",")]
        if len(parts) != 2:
            raise WeightsError(f"`{spec}` names {len(parts)} files", hint="give DPRNet,GGIRNet")
        first, second = (_weights(Path(p), role) for p, role in zip(parts, ROLE_FILES, strict=True))
        return WeightsPair(f"{first.name},{second.name}", first, second, "DG")
    path = Path(spec)
    if path.is_file():
        one = _weights(path, None)
        return WeightsPair(one.name, one, one, "DD" if one.arch == "dprnet" else "GG")
    if path.is_dir():
        return _pair(path)
    if path.name == spec:
        for folder in weights_folders():
            if (folder / spec).is_dir():
                return _pair(folder / spec)
    names = ", ".join(pair.name for pair in list_weights()) or "none"
    raise WeightsError(f"no weights named `{spec}` and no such file or folder", hint=f"shipped here: {names}")


def list_weights() -> list[WeightsPair]:
    """All named pairs on this machine, each name once, in lookup order."""
    found: dict[str, WeightsPair] = {}
    for folder in weights_folders():
        for child in sorted(folder.iterdir()) if folder.is_dir() else ():
            if child.name not in found and any((child / f).is_file() for f in ROLE_FILES.values()):
                found[child.name] = _pair(child)
    return list(found.values())


def save_weights(path: Path, network: nn.Module, metadata: Mapping[str, str], half: bool = False) -> None:
    """Write one network as `.safetensors`, atomically; edge branches are folded first (on a copy).

    Args:
        path: target file.
        network: a `RainUNet` or `ReleasedNet`.
        metadata: provenance strings; `idsr.layout` and `idsr.config` must be among them.
        half: store float16 (half the size; the networks compute in float32 all the same).
    """
    import copy

    import torch
    from safetensors.torch import save

    from idsr_cli.files.atomic import write_bytes
    from idsr_cli.networks import RainUNet

    network = copy.deepcopy(network).cpu()
    metadata = dict(metadata)
    if isinstance(network, RainUNet):
        network.fold()
        config = json.loads(metadata["idsr.config"])
        metadata["idsr.config"] = json.dumps({**config, "edge_branches": False})
    dtype = torch.float16 if half else torch.float32
    tensors = {name: value.to(dtype).contiguous() for name, value in network.state_dict().items()}
    write_bytes(path, save(tensors, metadata))


def write_manifest(folder: Path) -> None:
    """Record the sha256 of the folder's weights files in its manifest."""
    from idsr_cli.files.atomic import write_bytes

    files = {name: sha256_of(folder / name) for name in ROLE_FILES.values() if (folder / name).is_file()}
    write_bytes(folder / MANIFEST, (json.dumps({"sha256": files}, indent=2) + "\n").encode())


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file; remembered while its size and time stay the same.

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


def _pair(folder: Path) -> WeightsPair:
    manifest: dict[str, str] = {}
    if (folder / MANIFEST).is_file():
        try:
            manifest = dict(json.loads((folder / MANIFEST).read_text())["sha256"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise WeightsError("manifest cannot be read", path=folder / MANIFEST, hint="reinstall idsr") from error
    found: dict[str, Weights] = {}
    for role, file in ROLE_FILES.items():
        if not (folder / file).is_file():
            if file in manifest:
                raise WeightsError(f"`{file}` is missing", path=folder, hint="reinstall idsr")
            continue
        found[role] = _weights(folder / file, role)
        if manifest.get(file, found[role].sha256) != found[role].sha256:
            raise WeightsError("sha256 differs from the manifest", path=folder / file, hint="the file is damaged")
    if not found:
        raise WeightsError(
            "no weights in this folder", path=folder, hint=f"looked for {', '.join(ROLE_FILES.values())}"
        )
    dprnet = found.get("dprnet") or found["ggirnet"]
    ggirnet = found.get("ggirnet") or found["dprnet"]
    alone = "DG" if len(found) == 2 else "DD" if "dprnet" in found else "GG"
    splice = ggirnet.metadata.get("idsr.splice", alone) if len(found) == 2 else alone
    if splice not in SPLICES:
        raise WeightsError(f"unknown splice `{splice}` in its metadata", path=ggirnet.path)
    return WeightsPair(folder.resolve().name, dprnet, ggirnet, splice)


def _weights(path: Path, role: str | None) -> Weights:
    metadata = _read_metadata(path)
    arch = metadata.get("idsr.arch") or role or ("ggirnet" if "ggir" in path.name.lower() else "dprnet")
    if arch not in ROLE_FILES:
        raise WeightsError(f"unknown network `{arch}` in its metadata", path=path)
    return Weights(path.stem, path, sha256_of(path), arch, metadata)


def _read_metadata(path: Path) -> dict[str, str]:
    """The file's strings; {} for a foreign checkpoint, which is opened all the same to see that it is one."""
    if path.suffix != ".safetensors":
        _read_tensors(path)
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(_damage(error), path=path, hint="the file is damaged or no weights file") from error


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from idsr_cli import networks

    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        elif path.suffix in _FOREIGN:
            state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise WeightsError("not a weights file", path=path, hint=f"known: .safetensors {' '.join(_FOREIGN)}")
    except (SafetensorError, OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise WeightsError(_damage(error), path=path, hint="the file is damaged or no weights file") from error
    if not isinstance(state, Mapping):
        raise WeightsError("is not a state dict", path=path, hint="save `network.state_dict()`")
    with _naming(path):
        return networks.canonical(state)


def _damage(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"cannot be loaded: {first[:120]}"


class _naming:
    """Give errors raised inside the path of the file they are about."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, WeightsError) and error.path is None:
            error.path = str(self.path)
