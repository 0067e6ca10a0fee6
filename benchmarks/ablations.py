"""The paper's ablations, trained at equal length and scored on pairs: two networks, the ALP loss, gradient attention.

    python benchmarks/ablations.py --photos clean --streaks layers --rainy val/light --rainy val/heavy \
        --clean val/clean --steps 2000 --precision bf16 --threads 1 -o ablations

Each arm is one network, trained from the same seed on the same samples in the same order. A system derains with one arm
or splices two. If the command is repeated, finished arms are skipped and interrupted ones resumed. Two commands may use
the same folder at once if each trains its own `--arms` with `--train-only`.

Scores are those of `idsr evaluate`. DoG and Gaussian errors are the mean squared errors of the paper's tables V to VII,
grey levels squared; the gradient error is equation 9, grey levels: the mean over pixels of the absolute horizontal and
vertical differences, summed over the five Gaussian images. OUT/results.json has everything.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command_line import plain_errors

from idsr_cli import networks
from idsr_cli.errors import UsageError
from idsr_cli.evaluation.evaluate import RAINY, Row, ScoredWeights, evaluate_pair
from idsr_cli.evaluation.metrics import MATCHING_RULE
from idsr_cli.evaluation.provenance import conventions, versions
from idsr_cli.evaluation.summary import summarise
from idsr_cli.files.atomic import write_bytes
from idsr_cli.images.pairs import Pair, pairs_in_folders, pairs_side_by_side
from idsr_cli.restoration import Restored, load_network
from idsr_cli.runtime.allocator import keep_memory
from idsr_cli.runtime.devices import choose_device
from idsr_cli.runtime.threads import use_threads
from idsr_cli.training import loop
from idsr_cli.training.batches import BatchSource
from idsr_cli.training.losses import gradient_loss
from idsr_cli.training.setup import ROLE_LOSSES, TrainingData, load_source
from idsr_cli.weights import find_weights


@dataclass(frozen=True)
class Arm:
    """One network to train.

    Attributes:
        role: its losses and attention are used unless overridden below.
        words: description, for the printed table.
        losses: replace the role's losses.
        config: changes to the configuration of the role's network.
        longer: factor on the length of the schedule.
    """

    role: str
    words: str
    losses: Mapping[str, float] | None = None
    config: Mapping[str, Any] | None = None
    longer: int = 1


def wider(width: int) -> int:
    """The width with twice the multiplications, rounded to a multiple of 4 as the attention's hidden layer needs."""
    return 4 * round(width * math.sqrt(2) / 4)


ARMS = {
    "dprnet": Arm("dprnet", "CSARB, DPRNet's losses"),
    "ggirnet": Arm("ggirnet", "CGARB, GGIRNet's losses"),
    "wide": Arm(
        "dprnet",
        "one network of the two's cost: as dprnet, sqrt(2) times as wide",
        config={"widths": tuple(map(wider, networks.BASE["widths"]))},
    ),
    "long": Arm("dprnet", "one network of the two's training: as dprnet, twice as long", longer=2),
    "alp": Arm("dprnet", "CSARB, the paper's ALP loss (eq. 16) with a small pixel term", {"pixel": 0.2, "alp": 1.0}),
    "l2": Arm("dprnet", "CSARB, mean squared difference of pixels", {"pixel-l2": 1.0}),
    "l1": Arm("dprnet", "CSARB, mean absolute difference of pixels", {"pixel": 1.0}),
    "sam": Arm("ggirnet", "GGIRNet with spatial in place of gradient attention", config={"attention": "spatial"}),
    "no-gam": Arm("ggirnet", "GGIRNet without gradient attention", config={"attention": "none"}),
}
# name -> (arm that detects, arm that describes)
SYSTEMS = {
    "two networks (DG)": ("dprnet", "ggirnet"),
    "DPRNet alone (DD)": ("dprnet", "dprnet"),
    "GGIRNet alone (GG)": ("ggirnet", "ggirnet"),
    "one network, wide": ("wide", "wide"),
    "one network, long": ("long", "long"),
    "DPRNet, ALP only": ("alp", "alp"),
    "DPRNet, L2": ("l2", "l2"),
    "DPRNet, L1": ("l1", "l1"),
    "GGIRNet, SAM": ("sam", "sam"),
    "GGIRNet, no GAM": ("no-gam", "no-gam"),
}


@dataclass(frozen=True)
class Table:
    """One of the paper's ablation tables: mean squared errors without and with the thing ablated.

    Attributes:
        paper: (without, with) for each image, as printed there.
        error: "gaussian" (of the describing network's image) or "dog" (of the detecting one's).
        pairs: our (without, with) systems for the same comparison.
    """

    title: str
    error: str
    paper: tuple[tuple[float, float], ...]
    pairs: tuple[tuple[str, str], ...]


TABLES = (
    Table(
        "V: one network against two, Gaussian images",
        "gaussian",
        ((9.2174, 8.7313), (7.2645, 6.8562), (5.5713, 5.2370), (4.1544, 3.8822), (3.0912, 2.8581)),
        tuple((one, "two networks (DG)") for one in ("DPRNet alone (DD)", "one network, wide", "one network, long")),
    ),
    Table(
        "VI: pixel loss against ALP, DoG images",
        "dog",
        ((2.7088, 2.5240), (2.3377, 2.1601), (1.9810, 1.8157), (1.7485, 1.5955)),
        tuple((p, a) for p in ("DPRNet, L2", "DPRNet, L1") for a in ("DPRNet alone (DD)", "DPRNet, ALP only")),
    ),
    Table(
        "VII: without against with GAM, Gaussian images",
        "gaussian",
        ((8.4561, 8.3768), (6.6430, 6.5325), (5.1625, 4.9898), (3.9333, 3.7591), (3.0928, 2.8713)),
        tuple((without, "GGIRNet alone (GG)") for without in ("GGIRNet, no GAM", "GGIRNet, SAM")),
    ),
)


@plain_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--photos", type=Path, action="append", default=[], metavar="DIR", help="clean, to rain on")
    data.add_argument("--streaks", type=Path, action="append", default=[], metavar="DIR", help="streak layers")
    data.add_argument("--side-by-side", type=Path, metavar="DIR", help="training pairs, one file each")
    data.add_argument("--clean-side", choices=("left", "right"), default="left", help="of them (default: left)")
    data.add_argument("--rainy", type=Path, action="append", required=True, metavar="DIR", help="to score on")
    data.add_argument("--clean", type=Path, required=True, metavar="DIR", help="their clean versions")
    data.add_argument("--count", type=int, default=0, help="pairs scored per folder (default: all)")
    training = parser.add_argument_group("training")
    training.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM", help=", ".join(ARMS))
    length = training.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, default=0, help="of each arm")
    length.add_argument("--minutes", type=float, default=0.0, help="of each arm; steps then differ from arm to arm")
    training.add_argument("--seeds", type=int, nargs="+", default=[0], help="each arm once for each (default: 0)")
    training.add_argument("--batch", type=int, default=8, help="(default: 8)")
    training.add_argument("--patch", type=int, default=96, help="(default: 96)")
    training.add_argument("--balance", type=float, default=0.0, help="as `idsr train --balance` (default: 0, none)")
    training.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of training; scores are fp32")
    training.add_argument("--train-only", action="store_true", help="do not score")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    options = parser.parse_args()
    use_threads(options.threads)
    run(options)


def run(options: argparse.Namespace) -> None:
    """Train what is not trained yet, score, print, write."""
    device = choose_device(options.device)
    if device.type == "cpu":
        keep_memory()
    groups = {folder.name: pairs_in_folders(folder, options.clean) for folder in options.rainy}
    groups = {name: pairs[: options.count or None] for name, pairs in groups.items()}
    trained = [train(name, seed, options, device) for seed in options.seeds for name in options.arms]
    if options.train_only:
        return
    systems = {name: arms for name, arms in SYSTEMS.items() if set(arms) <= set(options.arms)}
    scores = {name: score(pairs, systems, options, device) for name, pairs in groups.items()}
    header = {
        "pairs": ", ".join(f"{len(pairs)} {name}" for name, pairs in groups.items()),
        "seeds": ", ".join(map(str, options.seeds)),
        "device": f"{device} ({torch.cuda.get_device_name(device) if device.type == 'cuda' else platform.machine()}), "
        f"{torch.get_num_threads()} threads",
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "training": f"{options.precision}, batch {options.batch} of {options.patch} px, balance {options.balance}",
    }  # fmt: skip
    results = {"schema": 1, **header, **conventions(), "arms": trained, "scores": scores}
    write_bytes(options.output / "results.json", (json.dumps(results, indent=2) + "\n").encode())
    for name, value in {**header, "matching": MATCHING_RULE}.items():
        print(f"{name:>9}  {value}")
    print_arms(trained)
    for group, methods in scores.items():
        print_scores(group, methods)
    for table in TABLES:
        print_table(table, scores)
    print(f"\n{options.output / 'results.json'}")


def tell(what: object) -> None:
    print(what, file=sys.stderr)


_sources: list[BatchSource] = []


def source(options: argparse.Namespace, device: torch.device) -> BatchSource:
    """The training data, loaded when the first arm needs it."""
    if not _sources:
        pairs = pairs_side_by_side(options.side_by_side, options.clean_side) if options.side_by_side else []
        data = TrainingData(options.photos, options.streaks, pairs, patch=options.patch, dry=0.12, procedural=0.3)
        _sources.append(load_source(data, device, skipped=tell, note=tell))
    return _sources[0]


def folder_of(name: str, seed: int, options: argparse.Namespace) -> Path:
    return options.output / f"{name}-seed{seed}"


def train(name: str, seed: int, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Train one arm, unless it is finished; returns its entry of the results."""
    arm, folder = ARMS[name], folder_of(name, seed, options)
    opts = loop.TrainOptions(
        role=arm.role,
        layout="unet",
        config={**networks.BASE, "attention": networks.ROLES[arm.role], **(arm.config or {})},
        losses=arm.losses or ROLE_LOSSES[arm.role],
        balance=options.balance,
        batch=options.batch,
        patch=options.patch,
        steps=options.steps * arm.longer,
        duration=60.0 * options.minutes * arm.longer,
        precision=options.precision,
        seed=seed,
    )
    checkpoint = loop.read_checkpoint(folder / "checkpoint.pt") if (folder / "checkpoint.pt").exists() else None
    if checkpoint is not None:
        check_same(opts, checkpoint, folder)
    counters = checkpoint["counters"] if checkpoint else {"step": 0, "seconds": 0.0}
    done = counters["step"] >= opts.steps if opts.steps else counters["seconds"] >= opts.duration
    if done:
        print(f"{name}, seed {seed}: trained already", file=sys.stderr)
    else:
        trainer = loop.Trainer(opts, source(options, device), device, folder)
        if checkpoint is not None:
            trainer.load(checkpoint)

        def listen(progress: loop.Progress) -> None:
            if progress.terms:
                print(f"\r{name}, seed {seed}: {progress.share:.0%}, step {progress.step}, loss {progress.loss:.4f}, "
                      f"{progress.steps_per_second:.2f} steps/s ", end="", file=sys.stderr, flush=True)  # fmt: skip

        try:
            trainer.run(listener=listen)
        except KeyboardInterrupt:
            trainer.save()
            print(f"\nstopped; the same command goes on from step {trainer.step}", file=sys.stderr)
            raise
        print(file=sys.stderr)
        counters = {"step": trainer.step, "seconds": trainer.seconds}
    parameters = sum(p.numel() for p in networks.build(opts.layout, opts.config).parameters())
    return {"arm": name, "words": arm.words, "seed": seed, "steps": counters["step"], "seconds": counters["seconds"],
            "parameters": parameters, "options": asdict(opts)}  # fmt: skip


def check_same(opts: loop.TrainOptions, checkpoint: Mapping[str, Any], folder: Path) -> None:
    """Raises UsageError if the arm in the folder was trained with other options, the schedule's length included."""
    for name, before, now in loop.changes(opts, checkpoint):
        raise UsageError(f"was trained with {name} {before}, not {now}", path=folder, hint="choose another -o")


class ArmNetworks:
    """The arms' networks, called by `evaluate_pair`; keeps the images of the last call."""

    def __init__(self, arms: Mapping[str, str], seed: int, options: argparse.Namespace, device: torch.device) -> None:
        self.images: dict[str, np.ndarray] = {}
        self.networks = {}
        for letter, arm in arms.items():
            weights = find_weights(str(folder_of(arm, seed, options) / "last.safetensors"))
            self.networks[letter] = load_network(weights.dprnet, str(device))

    def __call__(self, rainy: np.ndarray, roles: str) -> list[Restored]:
        views = {role: self.networks[role](rainy) for role in roles}
        self.images = {letter: view.rgb for letter, view in views.items()}
        return list(views.values())


def score(
    pairs: list[Pair], systems: Mapping[str, tuple[str, str]], options: argparse.Namespace, device: torch.device
) -> dict[str, dict[str, Any]]:
    """System -> its summary over the pairs and seeds, with `gradient` and the `true` of each seed beside it."""
    letter_of = {arm: chr(ord("a") + i) for i, arm in enumerate(options.arms)}
    splices = {letter_of[a] + letter_of[b]: name for name, (a, b) in systems.items()}
    rows: list[Row] = []
    gradient: dict[str, list[float]] = {name: [] for name in (RAINY, *systems)}
    for seed in options.seeds:
        restored = ArmNetworks({letter: arm for arm, letter in letter_of.items()}, seed, options, device)
        for i, pair in enumerate(pairs):
            progress = f"\rscoring {pair.rainy.parent.name}, seed {seed}: {i + 1} of {len(pairs)} "
            print(progress, end="", file=sys.stderr, flush=True)
            rows += [
                replace(row, pair=f"{seed}/{row.pair}", method=splices.get(row.method, row.method))
                for row in evaluate_pair(pair, {"": ScoredWeights(restored, list(splices))}, {})
            ]
            rainy, clean = pair.read()
            gradient[RAINY].append(gradient_error(rainy, clean))
            for name, (_, describes) in systems.items():
                gradient[name].append(gradient_error(restored.images[letter_of[describes]], clean))
    print(file=sys.stderr)
    summaries = summarise(rows, {f"{seed}/{pair.name}": str(pair.clean) for seed in options.seeds for pair in pairs})
    scores = {}
    for s in summaries:
        seeds = [
            float(np.mean([r.recovered.true for r in rows if r.method == s.method and r.pair.startswith(f"{seed}/")]))
            for seed in options.seeds
        ]
        scores[s.method] = {**asdict(s), "gradient": float(np.mean(gradient[s.method])), "true_seeds": seeds}
    return scores


def gradient_error(image: np.ndarray, clean: np.ndarray) -> float:
    """Equation 9 on octave 0, grey levels 0..255."""
    a, b = (torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)))[None] for x in (image, clean))
    return 255.0 * gradient_loss(a, b, (0,)).item()


def print_arms(trained: list[dict[str, Any]]) -> None:
    print(f"\n{'arm':8} {'seed':>4} {'steps':>7} {'seconds':>8} {'million':>8}  losses; what it is")
    for arm in trained:
        losses = " + ".join(f"{weight:g} {name}" for name, weight in arm["options"]["losses"].items())
        print(f"{arm['arm']:8} {arm['seed']:4} {arm['steps']:7} {arm['seconds']:8.0f} {arm['parameters'] / 1e6:8.2f}  "
              f"{losses}; {arm['words']}")  # fmt: skip


def print_scores(group: str, methods: Mapping[str, dict[str, Any]]) -> None:
    clean = methods[RAINY]["clean"]
    print(f"\n{group}: {clean:.1f} clean keypoints")
    print(
        f"{'system':20} {'true':>7} {'lost':>6} {'PSNR rgb':>9} {'DoG MSE':>9} {'Gauss MSE':>10} {'gradient':>9}  seeds"
    )
    for name, s in methods.items():
        seeds = "" if name == RAINY else " ".join(f"{value:.1f}" for value in s["true_seeds"])
        lost = "" if name == RAINY else f"{s['lost']:.0%}"
        print(f"{name:20} {s['true']:7.1f} {lost:>6} {s['psnr_rgb']:9.2f} {np.mean(s['dog']):9.3f} "
              f"{np.mean(s['gaussian']):10.3f} {s['gradient']:9.3f}  {seeds}")  # fmt: skip


def print_table(table: Table, scores: Mapping[str, Mapping[str, dict[str, Any]]]) -> None:
    """The paper's numbers and ours: error without -> with, and the change in per cent (negative = it helps)."""
    measured = next(iter(scores.values()))
    pairs = [pair for pair in table.pairs if set(pair) <= set(measured)]
    if not pairs:
        return
    sigmas = " ".join(f"{1.6 * 2 ** (k / 2):9.4f}" for k in range(len(table.paper)))
    print(f"\nTable {table.title}, mean squared error (change below 0: it helps)")
    print(f"{'':8} {'sigma from':20} {sigmas}   true keypoints, 95 % interval of the change")

    def block(title: str, names: tuple[str, str], errors: list[tuple[float, float]], trues: tuple[str, ...]) -> None:
        for k, name in enumerate(names):
            print(
                f"{title:8} {name:20} " + " ".join(f"{error[k]:9.3f}" for error in errors) + f"   {trues[k]}".rstrip()
            )
            title = ""
        print(f"{'':8} {'change':20} " + " ".join(f"{b / a - 1:+9.1%}" for a, b in errors) + f"   {trues[2]}".rstrip())

    block("paper", ("without", "with"), list(table.paper), ("", "", ""))
    for without, with_it in pairs:
        for group, methods in scores.items():
            errors = list(zip(methods[without][table.error], methods[with_it][table.error], strict=True))
            gain = methods[with_it]["difference"][without]["true"]
            trues = (f"{methods[without]['true']:.1f}", f"{methods[with_it]['true']:.1f}",
                     f"{gain['mean']:+.1f} ({gain['low']:+.1f} .. {gain['high']:+.1f})")  # fmt: skip
            block(group[:8], (without, with_it), errors, trues)


if __name__ == "__main__":
    main()
