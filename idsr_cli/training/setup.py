"""From settings to a `Trainer`: data, initial weights, losses and validation of one training run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from json import dumps
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import nn

from idsr_cli import networks
from idsr_cli.errors import ItemError, UsageError, choices_hint
from idsr_cli.images.folders import photos_in
from idsr_cli.images.pairs import Pair, pairs_in_folders
from idsr_cli.kinds import KINDS
from idsr_cli.runtime.allocator import keep_memory
from idsr_cli.runtime.devices import choose_device
from idsr_cli.synthetic_rain import RainOptions, RainSynthesizer
from idsr_cli.training import loop, memory
from idsr_cli.training.batches import BatchSource, large_side
from idsr_cli.training.losses import LOSSES
from idsr_cli.training.objectives import ALL_LOSSES, AUXILIARY, DISTIL, MATCHING, ON_REAL
from idsr_cli.training.samples import SampleMaker, SampleOptions
from idsr_cli.training.validate import Validation
from idsr_cli.training.workers import default_workers
from idsr_cli.weights import BOTH_ROLES, Weights, WeightsPair, find_weights


class Defaults(NamedTuple):
    """What a recipe says where the settings say nothing.

    Attributes:
        batch: samples per step.
        rate: peak learning rate.
        patch: side of a training patch, pixels.
        epochs: length of the schedule.
        crops: of each photograph in an epoch.
        clip: see `TrainOptions`.
    """

    batch: int
    rate: float
    patch: int = 128
    epochs: int = 160
    crops: int = 1
    clip: float = 1.0


RECIPE_DEFAULTS = {
    "paper": Defaults(16, 1e-4),  # section IV.A
    "fast": Defaults(8, 1.5e-3),
    "constant": Defaults(8, 5e-4),
    "decay": Defaults(8, 5e-4),
    # Section III.E. Patches every 40 pixels, as for Rain100L, are 60 of a photograph of 481x321 pixels.
    "sian": Defaults(18, 2e-4, patch=120, epochs=100, crops=60, clip=0.0),
    # Section 4.1. The paper does not say how many crops make an epoch: with 40, 200 photographs make 500 steps.
    "qsnet": Defaults(16, 1e-3, patch=256, epochs=100, crops=40, clip=0.0),
    # 100 patches of each photograph, as in the paper; the schedule is JDNet's.
    "mdn": Defaults(16, 5e-4, patch=64, epochs=100, crops=100, clip=0.0),
}
# Share of the recipe's rate with which weights are fine-tuned.
FINE_TUNING = 0.1
# Metadata that fine-tuned weights inherit: if the initial weights leave dry photographs alone, so does the result.
INHERITED = ("idsr.dry_threshold", "idsr.rain_floor")
# Share of faint rain among procedural rain: more than `idsr rain` draws, because most photographs that came back with
# fewer keypoints than they had were of this kind.
_FAINT = 0.38
ROLE_LOSSES = {
    "dprnet": {"pixel": 0.2, "gradient": 1.0, "alp-derivative": 2.0},
    "ggirnet": {"pixel": 0.2, "gradient": 1.0},
}

# Called with the error of each file that cannot be read and is left out.
Skipped = Callable[[ItemError], None]
# Called with messages for the user, one line each.
Note = Callable[[str], None]


@dataclass(frozen=True)
class TrainingData:
    """What to train on.

    Attributes:
        photos: folders of clean photographs; rain is drawn onto them.
        streaks: folders of measured streak layers; drawn evenly.
        pairs: rainy and clean photographs.
        real: folders of rainy photographs without a clean version, for the losses "matching" and "distil".
        patch: side of a training patch, pixels; 0 = the recipe's.
        dry: share of samples without rain.
        procedural: share of procedural streaks if there are measured ones.
        pair_share: share of samples from `pairs` if there are `photos` too.
        large: share of batches of larger patches, see `BatchSource`.
    """

    photos: Sequence[Path] = ()
    streaks: Sequence[Path] = ()
    pairs: Sequence[Pair] = ()
    real: Sequence[Path] = ()
    patch: int = 128
    dry: float = 0.12
    procedural: float = 0.55
    pair_share: float = 0.1
    large: float = 0.0

    @property
    def sides(self) -> tuple[int, ...]:
        """Of the patches, pixels."""
        return (self.patch, large_side(self.patch)) if self.large else (self.patch,)

    def __post_init__(self) -> None:
        if not self.photos and not self.pairs:
            raise UsageError(
                "nothing to train on", hint="give --photos, or pairs by --rainy and --clean, --side-by-side or --list"
            )


@dataclass(frozen=True)
class TrainingSetup:
    """All settings of a training run.

    Attributes:
        role: "dprnet", "ggirnet", or the layout of a network that plays both roles: a name of `KINDS`.
        output: folder of the run.
        data: what to train on.
        val_rainy, val_clean, val_count: folders of pairs for validation, and how many pairs of each are used.
        preset: shape of the network, as in `networks.preset`; None = the first of its kind.
        init, trunk: weights to start from, see `initial` and `with_trunk`.
        resume: continue from the checkpoint in `output`; "auto" = if there is one, and begin if there is none.
        recipe: see `TrainOptions`; "paper" = that of the network's own paper.
        steps, duration: length of the schedule; both 0 = `time_limit`, or else the recipe's epochs.
        time_limit: seconds that this process trains, 0 = no limit.
        batch, rate: 0 = the recipe's; of the rate a tenth with `init`.
        ema, seed, octaves, balance, dry_errors: see `TrainOptions`.
        losses: weight per loss name; without any loss on pairs (empty, or "matching" and "distil" alone) those of the
            role or of the network's own paper are used. A network whose paper has the loss "matching" has it by
            default if there are real photographs.
        teacher: weights that teach in the loss "distil", see `load_teacher`; None = the network's own average teaches.
        precision: "auto", "fp32" or "bf16"; auto is bf16 on CUDA.
        workers: processes that make the samples; None = see `default_workers`.
    """

    role: str
    output: Path
    data: TrainingData
    val_rainy: Sequence[Path] = ()
    val_clean: Path | None = None
    val_count: int = 10
    preset: str | None = None
    init: str | None = None
    trunk: str | None = None
    resume: bool | Literal["auto"] = False
    recipe: str = "paper"
    steps: int = 0
    duration: float = 0.0
    time_limit: float = 0.0
    batch: int = 0
    rate: float = 0.0
    ema: float = 0.999
    seed: int = 0
    losses: Mapping[str, float] = field(default_factory=dict)
    octaves: tuple[int, ...] = (-1, 0)
    balance: float = 0.0
    dry_errors: float = 1.0
    teacher: str | None = None
    precision: str = "auto"
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.role not in KINDS:
            raise UsageError(f"unknown network `{self.role}`", hint=f"use {', '.join(KINDS)}")
        if self.trunk and not self.init:
            raise UsageError("--trunk goes with --init")
        if self.trunk and self.role not in networks.ROLES:
            raise UsageError(
                f"--trunk does not go with {self.role}", hint="it has no other network to share layers with"
            )
        presets = KINDS[self.role].presets
        if self.preset is not None and self.preset not in presets:
            raise UsageError(f"{self.role} has no preset `{self.preset}`", hint=f"use {' or '.join(presets)}")
        if bool(self.val_rainy) != bool(self.val_clean):
            raise UsageError("--val-rainy and --val-clean go together")
        for name in ON_REAL:
            if self.losses.get(name) and not self.data.real:
                raise UsageError(f"--loss {name} needs rainy photographs without clean versions", hint="add --real DIR")
        if self.teacher is not None and not self.losses.get(DISTIL):
            raise UsageError("--teacher has no loss to teach in", hint=f"add --loss {DISTIL}=WEIGHT and --real DIR")
        if self.data.real and not set(ON_REAL) & set(self.mixture):
            raise UsageError("--real has no loss to go with", hint="add --loss matching=1, or distil=WEIGHT")

    @property
    def mixture(self) -> dict[str, float]:
        """Weight per loss name, defaults filled in."""
        own = None if self.role in networks.ROLES else networks.layout_of(self.role)
        usual = dict(own.losses if own else ROLE_LOSSES[self.role])
        losses = {**(usual if set(self.losses) <= set(ON_REAL) else {}), **self.losses}
        if own and own.matching and self.data.real and not set(ON_REAL) & set(losses):
            losses[MATCHING] = own.matching
        return losses

    def completed(self) -> TrainingSetup:
        """The same settings with the name of the paper's recipe and the side of the patch filled in."""
        own = self.recipe == "paper" and self.role not in networks.ROLES
        recipe = networks.layout_of(self.role).recipe if own else self.recipe
        patch = self.data.patch or RECIPE_DEFAULTS[recipe].patch
        return replace(self, recipe=recipe, data=replace(self.data, patch=patch))


def join_processes(name: str) -> tuple[torch.device, int]:
    """Prepare this process for training; under `torchrun` it joins the other processes.

    Args:
        name: name of a device, as for `choose_device`.

    Returns:
        The device of this process, and its number; 0 = the first or only process.

    Raises:
        DeviceError: unknown device, or not available here.
    """
    device = choose_device(name)
    if device.type == "cpu":
        keep_memory()
    elif device.type == "cuda":
        # Patches have one or two sizes, so the fastest way to compute each convolution is soon found.
        torch.backends.cudnn.benchmark = True
    if not loop.start_processes(device):
        return device, 0
    return this_process(device), dist.get_rank()


def leave_processes() -> None:
    """Undo `join_processes` after training."""
    if dist.is_initialized():
        dist.destroy_process_group()


def this_process(device: torch.device) -> torch.device:
    """The card of this process under `torchrun`, which becomes torch's current one; other devices as they are."""
    if device.type != "cuda":
        return device
    card = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(card)
    return card


def prepare(setup: TrainingSetup, device: torch.device, skipped: Skipped, note: Note) -> loop.Trainer:
    """Load data and weights, and make the trainer; to resume, its checkpoint is loaded too.

    Args:
        setup: the settings.
        device: from `join_processes`.
        skipped: called with the error of each unreadable file, which is left out.
        note: called with messages for the user.

    Raises:
        UsageError: the settings do not fit together, or nothing can be read.
        PairingError: a folder is missing or a pair does not match.
        WeightsError: weights or checkpoint are missing or damaged.
    """
    setup = setup.completed()
    processes = dist.get_world_size() if dist.is_initialized() else 1
    workers = default_workers(device, processes) if setup.workers is None else setup.workers
    # Other processes draw their samples on the CPU.
    source = load_source(setup.data, torch.device("cpu") if workers else device, skipped, note)
    path = setup.output / "checkpoint.pt"
    resume = path.exists() if setup.resume == "auto" else setup.resume
    if setup.resume and not resume:
        note(f"no checkpoint in {setup.output} yet: a new run begins")
    checkpoint = loop.read_checkpoint(path) if resume else None
    layout, config = networks.preset(setup.preset or KINDS[setup.role].presets[0], setup.role)
    start: dict[str, torch.Tensor] | None = None
    inherited: dict[str, str] = {}
    for spec in dict.fromkeys((setup.init or None, setup.teacher)):
        for remark in find_weights(spec).remarks if spec is not None else ():
            note(remark)
    if setup.init:
        layout, config, start, inherited = initial(setup.init, setup.role)
        if setup.trunk:
            start = with_trunk(start, setup.trunk, setup.role)
    length = schedule(setup, source, checkpoint)
    options = train_options(setup, layout, config, length, rate(setup, checkpoint), device)
    check_losses(options.losses, networks.layout_of(layout))
    check_sides(setup.data, networks.layout_of(layout), "the network")
    teacher = None
    if setup.teacher is not None:
        weights, teacher = load_teacher(setup.teacher, setup.role, setup.data, device)
        options = replace(options, teacher=weights.identity)
    if options.recipe in loop.PATIENCE:
        options = replace(options, epoch=epoch_steps(setup, source))
    finished = networks.layout_of(layout).finished.items() <= config.items()
    if options.losses.get(AUXILIARY) and finished:  # as in all weights files
        note(f"these weights have no auxiliary decoders any more; the loss `{AUXILIARY}` is left out")
        options = replace(options, losses={k: v for k, v in options.losses.items() if k != AUXILIARY})
    if checkpoint is None and path.exists():
        raise UsageError("there is a checkpoint already", path=setup.output,
                         hint="add --resume, or choose another folder")  # fmt: skip
    validate = None
    if setup.val_clean:
        validate = make_validation(setup.val_rainy, setup.val_clean, setup.val_count, layout, device)
    made_with = {**provenance(setup, source), **inherited}
    rainy = validate.rainy if validate is not None else None
    trainer = loop.Trainer(
        options, source, device, setup.output, validate, start, made_with, rainy, workers, teacher, note
    )
    if checkpoint is not None:
        trainer.load(checkpoint)
        if trainer.share >= 1.0:
            note("this run is complete; give a larger --steps or --duration to train longer")
    return trainer


def check_sides(data: TrainingData, layout: networks.Layout, who: str, path: Path | None = None) -> None:
    """Raises UsageError if the network `who`, from the file `path`, does not take patches of all sides."""
    for side in data.sides:
        if side % layout.multiple:
            large = "" if side == data.patch else ", those of --large,"
            raise UsageError(
                f"{who} takes no patches of {side} pixels{large} but multiples of {layout.multiple}",
                path=path, hint="choose another --patch" + (", or no --large" if large else ""),
            )  # fmt: skip


def load_source(data: TrainingData, device: torch.device, skipped: Skipped, note: Note) -> BatchSource:
    """All data in memory, on `device` if they fit there.

    Args:
        data: what to load.
        device: where the network is.
        skipped: called with the error of each unreadable file, which is left out.
        note: called with a message if the photographs stay in main memory.

    Raises:
        UsageError: a folder has no readable photographs or layers.
        PairingError: a folder is missing or empty, or a pair differs in size.
    """
    check_real(data)
    clean = memory.load_photos(_photos(data.photos), skipped)
    layers = [memory.load_layers(photos_in(folder), skipped) for folder in data.streaks]
    for folder, found in zip(data.streaks, layers, strict=True):
        if not found:
            raise UsageError("no streak layer could be read", path=folder)
    pairs = memory.load_pairs(data.pairs, skipped)
    if not clean and not pairs:
        raise UsageError("no photograph could be read")
    real = memory.load_photos(_photos(data.real), skipped)
    if data.real and not real:
        raise UsageError("no real photograph could be read", path=data.real[0])
    if not memory.resident([clean, pairs, real, *layers], device):
        note("the photographs do not fit on the device beside the network; they stay in main memory")
    rain = RainSynthesizer(layers, RainOptions(procedural=data.procedural, faint=_FAINT))
    make = SampleMaker(rain, SampleOptions(dry=data.dry))
    return BatchSource(clean, pairs, make, data.patch, data.pair_share, large=data.large, real=real)


def check_real(data: TrainingData) -> None:
    """Raises UsageError if a photograph of `real` is also one with a clean version, or a clean one."""
    known = {path.resolve(): "--photos" for path in _photos(data.photos)}
    for pair in data.pairs:
        known[pair.clean.resolve()] = "the clean photographs"
        known[pair.rainy.resolve()] = "the pairs"
    for path in _photos(data.real):
        if path.resolve() in known:
            raise UsageError(
                f"is given by --real, and is one of {known[path.resolve()]} as well", path=path,
                hint="--real takes rainy photographs that have no clean version",
            )  # fmt: skip


def _photos(folders: Sequence[Path]) -> list[Path]:
    return [path for folder in folders for path in photos_in(folder)]


def initial(spec: str, role: str) -> tuple[str, dict[str, Any], dict[str, torch.Tensor], dict[str, str]]:
    """Layout, configuration and tensors of the weights to start from, and the metadata that the result inherits.

    Raises:
        WeightsError: not found, or damaged.
        UsageError: the weights belong to the other role or to another network.
    """
    weights = _of_role(find_weights(spec), role)
    tensors = weights.tensors()
    layout, config = weights.configuration(tensors)
    if role not in networks.ROLES:
        if layout != role:
            raise UsageError(f"these are weights of `{layout}`, not of {role}", path=weights.path)
    elif weights.arch != role and not networks.layout_of(layout).fits_role(config, role):
        raise UsageError(f"these are weights of {weights.arch}, not of {role}", path=weights.path)
    inherited = {key: value for key, value in weights.metadata.items() if key in INHERITED}
    return layout, config, tensors, inherited


def _of_role(pair: WeightsPair, role: str) -> Weights:
    """DPRNet's weights for "dprnet", GGIRNet's for every other name of `KINDS`."""
    return pair.dprnet if role == "dprnet" else pair.ggirnet


def load_teacher(spec: str, role: str, data: TrainingData, device: torch.device) -> tuple[Weights, nn.Module]:
    """The weights that teach in the loss "distil", and their network, finished, on `device`.

    It may be another network than the one that is trained. Of a pair it is the one that plays `role`.

    Args:
        spec: as for `find_weights`.
        role: a name of `KINDS`.
        data: with the side of the patches filled in.
        device: where the network is trained.

    Raises:
        WeightsError: not found, or damaged.
        UsageError: the network does not take the patches.
    """
    weights = _of_role(find_weights(spec), role)
    check_sides(data, weights.layout(), "the teacher", weights.path)
    return weights, weights.build().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def with_trunk(tensors: dict[str, torch.Tensor], spec: str, role: str) -> dict[str, torch.Tensor]:
    """`tensors`, with every layer that the networks of both roles have taken from the other role's weights.

    Only the attention layers differ between the roles; those of `tensors` are kept.

    Args:
        tensors: canonical state of `role`'s network.
        spec: the other role's weights, as for `find_weights`.
        role: "dprnet" or "ggirnet".

    Raises:
        UsageError: the weights found are not the other role's, their layers have other shapes, or they would replace
            everything.
    """
    pair = find_weights(spec)
    weights = pair.ggirnet if role == "dprnet" else pair.dprnet
    if weights.arch == role:
        raise UsageError(f"these are weights of {role} itself", path=weights.path, hint="use --init for them")
    other = {name: value for name, value in weights.tensors().items() if name in tensors}
    if not other or any(value.shape != tensors[name].shape for name, value in other.items()):
        raise UsageError("its layers are not those of --init", path=weights.path)
    if len(other) == len(tensors):  # a network without layers of one role, or with those of both
        raise UsageError("these weights would replace all of --init", path=weights.path, hint="leave --trunk out")
    return {**tensors, **other}


def schedule(setup: TrainingSetup, source: BatchSource, checkpoint: Mapping[str, Any] | None) -> tuple[int, float]:
    """Length in steps and in seconds, one of them 0: by the settings, the checkpoint, the time limit, or the epochs."""
    if setup.steps or setup.duration:
        return setup.steps, setup.duration
    if checkpoint is not None:
        return loop.length(checkpoint)
    if setup.time_limit:
        return 0, setup.time_limit
    return RECIPE_DEFAULTS[setup.recipe].epochs * epoch_steps(setup, source), 0.0


def epoch_steps(setup: TrainingSetup, source: BatchSource) -> int:
    """Length of the recipe's epoch."""
    processes = dist.get_world_size() if dist.is_initialized() else 1
    recipe = RECIPE_DEFAULTS[setup.recipe]
    samples = recipe.crops * (len(source.photos) + len(source.pairs))
    return -(-samples // ((setup.batch or recipe.batch) * processes))


def rate(setup: TrainingSetup, checkpoint: Mapping[str, Any] | None) -> float:
    """Peak learning rate: by the settings, the checkpoint, or the recipe; lower to fine-tune weights.

    The recipe "decay" keeps its rate with `init`: it goes on from a run with the recipe "constant".
    """
    if setup.rate:
        return setup.rate
    if checkpoint is not None:
        return loop.peak_rate(checkpoint)
    return RECIPE_DEFAULTS[setup.recipe].rate * (FINE_TUNING if setup.init and setup.recipe != "decay" else 1.0)


def train_options(
    setup: TrainingSetup,
    layout: str,
    config: Mapping[str, Any],
    length: tuple[int, float],
    peak_rate: float,
    device: torch.device,
) -> loop.TrainOptions:
    """The options of the loop, the recipe's defaults filled in.

    Raises:
        UsageError: one of them is out of range.
    """
    recipe = RECIPE_DEFAULTS[setup.recipe]
    steps, duration = length
    half = setup.precision == "bf16" or (setup.precision == "auto" and device.type == "cuda")
    return loop.TrainOptions(
        role=setup.role if setup.role in networks.ROLES else BOTH_ROLES,
        layout=layout,
        config=config,
        objective=networks.layout_of(layout).objective,
        losses=setup.mixture,
        octaves=setup.octaves,
        balance=setup.balance,
        dry_errors=setup.dry_errors,
        recipe=setup.recipe,
        rate=peak_rate,
        batch=setup.batch or recipe.batch,
        patch=setup.data.patch,
        steps=steps,
        duration=duration,
        ema=setup.ema,
        clip=recipe.clip,
        precision="bf16" if half else "fp32",
        seed=setup.seed,
    )


def check_losses(losses: Mapping[str, float], layout: networks.Layout) -> None:
    """Raises UsageError for a loss that is unknown or not for this network, or if no loss on pairs has any weight."""
    for name in losses:
        if name not in ALL_LOSSES:
            raise UsageError(f"unknown loss `{name}`", hint=choices_hint(name, ALL_LOSSES))
    if losses.get(AUXILIARY) and layout.objective != AUXILIARY:
        raise UsageError(f"--loss {AUXILIARY} is for networks with auxiliary decoders", hint="that is qsnet")
    if losses.get(MATCHING) and layout.shallow is None:
        raise UsageError(f"--loss {MATCHING} has no features to act on in this network")
    if not any(weight for name, weight in losses.items() if name in LOSSES):
        raise UsageError("no loss has any weight", hint="give one of them more than 0")


def make_validation(rainy: Sequence[Path], clean: Path, count: int, layout: str, device: torch.device) -> Validation:
    """Validation on the first `count` pairs of each folder."""
    groups: dict[str, list[Pair]] = {}
    for folder in rainy:
        name = folder.name if folder.name not in groups else str(folder)
        groups[name] = pairs_in_folders(folder, clean)[:count]
    return Validation(groups, networks.layout_of(layout), device)


def provenance(setup: TrainingSetup, source: BatchSource) -> dict[str, str]:
    """Metadata for the weights about data, rain and initial weights."""
    rain = {**asdict(source.make.rain.options), **asdict(source.make.options), "pair_share": setup.data.pair_share}
    found = {"idsr.data": data_line(setup.data, source), "idsr.rain": dumps(rain)}
    if setup.init:
        found["idsr.init"] = Path(setup.init).name
    if setup.trunk:
        found["idsr.trunk"] = Path(setup.trunk).name
    if setup.teacher:
        found["idsr.teacher"] = Path(setup.teacher).name  # its sha256 is among the options
    return found


def data_line(data: TrainingData, source: BatchSource) -> str:
    """The training data in words, for the weights' metadata."""
    parts = []
    if data.photos:
        parts.append(f"{len(source.photos)} photographs ({_names(data.photos)})")
    if data.pairs:
        parts.append(f"{len(source.pairs)} pairs")
    for folder, layers in zip(data.streaks, source.make.rain.layers, strict=False):
        parts.append(f"{len(layers)} streak layers ({folder.name})")
    parts.append("procedural streaks")
    if data.real:
        parts.append(f"{len(source.real)} real rainy photographs ({_names(data.real)})")
    return "; ".join(parts)


def _names(folders: Sequence[Path]) -> str:
    return ", ".join(folder.name for folder in folders)


def summary_line(trainer: loop.Trainer) -> str:
    """Network, device and data of a run in one line."""
    source = trainer.source
    size = sum(p.numel() for p in trainer.network.parameters())
    real = f", {len(source.real)} real" if source.real else ""
    return (
        f"{trainer.options.name}: {size / 1e6:.2f} million parameters on {trainer.device}, "
        f"{trainer.options.precision}; {len(source.photos)} photographs, {len(source.pairs)} pairs{real}, "
        f"{sum(map(len, source.make.rain.layers))} layers"
    )
