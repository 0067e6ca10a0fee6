"""The networks compared: each trained from scratch for the same processor time on the same data, and scored on pairs.

    python benchmarks/networks.py --photos clean --streaks layers --rainy val/light --rainy val/heavy \
        --clean val/clean --minutes 15 -o networks

Each network is trained with the loss of its own paper and with IDSR's losses on the pyramid, from the same seed on the
same samples, all with one schedule, so that networks and losses are compared and not schedules; the peak rate is that
of each network's paper (`--rate` changes it). Time is that of the processor: other work on the machine takes no share
of it. If the command is repeated, finished arms are skipped and interrupted ones resumed. Two commands may use the same
folder at once if each trains its own `--arms` with `--train-only`.

`true`: mean keypoints recovered, of plain SIFT of the network's image. kMAC/px: thousand multiply-adds a pixel, of
convolutions. seconds: of the processor, for one 481x321 photograph, the best of three. Parameters
are those of the finished network. OUT/table.md has the table, OUT/results.json everything.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command_line import plain_errors
from torch.utils.flop_counter import FlopCounterMode

from idsr_cli import networks
from idsr_cli.evaluation.metrics import MATCHING_RULE, psnr, recovered_keypoints
from idsr_cli.evaluation.provenance import versions
from idsr_cli.features import sift
from idsr_cli.files.atomic import write_bytes
from idsr_cli.images.pairs import Pair, pairs_in_folders
from idsr_cli.restoration import load_network
from idsr_cli.runtime.threads import use_threads
from idsr_cli.scale_space import grey_image
from idsr_cli.training import loop
from idsr_cli.training.setup import RECIPE_DEFAULTS, ROLE_LOSSES, TrainingData, TrainingSetup, join_processes, prepare
from idsr_cli.weights import Weights, find_weights

OURS = ROLE_LOSSES["dprnet"]
# Peak rates of the recipe "fast": DPRNet's as shipped, the others' of their papers.
RATES = {
    name: RECIPE_DEFAULTS["fast" if name == "dprnet" else name].rate for name in ("dprnet", "sian", "qsnet", "mdn")
}
PHOTO = (321, 481)  # height, width


@dataclass(frozen=True)
class Arm:
    """One network with one mixture of losses.

    Attributes:
        network, preset: what is trained, as `idsr train` names them.
        losses: weight per loss name.
        words: the losses, for the table.
    """

    network: str
    preset: str
    losses: Mapping[str, float]
    words: str


def _arms() -> dict[str, Arm]:
    arms = {}
    for preset, network in (("base", "dprnet"), ("sian", "sian"), ("qsnet", "qsnet"), ("qsnet-half", "qsnet"),
                            ("mdn", "mdn")):  # fmt: skip
        own = networks.LAYOUTS[network].losses if network != "dprnet" else {"pixel": 0.2, "alp": 1.0}
        # The auxiliary decoders of QSNet are a part of its training with any loss.
        heads = {"auxiliary": 0.1} if network == "qsnet" else {}
        arms[f"{preset}-paper"] = Arm(network, preset, own, "its paper's")
        arms[f"{preset}-ours"] = Arm(network, preset, {**OURS, **heads}, "ours")
    return arms


ARMS = _arms()


@plain_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--photos", type=Path, action="append", default=[], metavar="DIR", help="clean, to rain on")
    data.add_argument("--streaks", type=Path, action="append", default=[], metavar="DIR", help="streak layers")
    data.add_argument("--rainy", type=Path, action="append", required=True, metavar="DIR", help="to score on")
    data.add_argument("--clean", type=Path, required=True, metavar="DIR", help="their clean versions")
    data.add_argument("--count", type=int, default=0, help="pairs scored per folder (default: all)")
    training = parser.add_argument_group("training")
    training.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM", help=", ".join(ARMS))
    training.add_argument("--minutes", type=float, required=True, help="processor time of each arm")
    training.add_argument("--seed", type=int, default=0, help="(default: 0)")
    training.add_argument("--recipe", choices=("fast", "paper"), default="fast",
                          help="paper: each network's own, with its batch and patch (default: fast)")  # fmt: skip
    training.add_argument("--batch", type=int, default=8, help="with the recipe fast (default: 8)")
    training.add_argument("--patch", type=int, default=96, help="with the recipe fast (default: 96)")
    training.add_argument("--rate", type=parse_rate, action="append", default=[], metavar="NETWORK=RATE",
                          help="peak learning rate of a network")  # fmt: skip
    training.add_argument("--train-only", action="store_true", help="do not score")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    options = parser.parse_args()
    use_threads(options.threads)
    run(options)


def parse_rate(text: str) -> tuple[str, float]:
    """`NETWORK=RATE`."""
    name, _, rate = text.partition("=")
    if name not in RATES:
        raise argparse.ArgumentTypeError(f"unknown network `{name}`")
    return name, float(rate)


def run(options: argparse.Namespace) -> None:
    """Train what is not trained yet, score, print, write."""
    device, _ = join_processes("cpu")
    groups = {folder.name: pairs_in_folders(folder, options.clean) for folder in options.rainy}
    groups = {name: pairs[: options.count or None] for name, pairs in groups.items()}
    trained = {name: train(name, options, device) for name in options.arms}
    if options.train_only:
        return
    rows = {name: {**trained[name], **score(folder_of(name, options), groups, device)} for name in options.arms}
    rainy = {name: rainy_scores(pairs) for name, pairs in groups.items()}
    header = {
        "pairs": {name: len(pairs) for name, pairs in groups.items()}, "minutes": options.minutes, "seed": options.seed,
        "recipe": options.recipe, "matching": MATCHING_RULE, "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(), "versions": versions(),
    }  # fmt: skip
    results = {"schema": 1, **header, "rainy": rainy, "arms": rows}
    write_bytes(options.output / "results.json", (json.dumps(results, indent=2) + "\n").encode())
    table = "\n".join(table_lines(rows, rainy))
    write_bytes(options.output / "table.md", f"{table}\n".encode())
    print(table)
    print(f"\n{options.output / 'table.md'}, {options.output / 'results.json'}", file=sys.stderr)


def folder_of(name: str, options: argparse.Namespace) -> Path:
    folder: Path = options.output / f"{name}-seed{options.seed}"
    return folder


def tell(what: object) -> None:
    print(what, file=sys.stderr)


def train(name: str, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Train one arm, unless it is finished; returns what is known of it."""
    arm, own = ARMS[name], options.recipe == "paper"
    setup = TrainingSetup(
        role=arm.network,
        preset=arm.preset,
        output=folder_of(name, options),
        data=TrainingData(options.photos, options.streaks, patch=0 if own else options.patch),
        losses=arm.losses,
        recipe=options.recipe,
        batch=0 if own else options.batch,
        rate=dict(options.rate).get(arm.network, 0.0 if own else RATES[arm.network]),
        duration=60.0 * options.minutes,
        seed=options.seed,
        precision="fp32",
        resume="auto",
    )
    trainer = prepare(setup, device, tell, lambda note: None)
    trainer.clock = time.process_time

    def listen(progress: loop.Progress) -> None:
        if progress.terms:
            print(f"\r{name}: {progress.share:.0%}, step {progress.step}, loss {progress.loss:.4f}, "
                  f"{progress.steps_per_second:.2f} steps/s ", end="", file=sys.stderr, flush=True)  # fmt: skip

    try:
        if trainer.share < 1.0:
            trainer.run(listener=listen)
    except KeyboardInterrupt:
        trainer.save()
        tell(f"\nstopped; the same command goes on from step {trainer.step}")
        raise
    tell(f"\r{name}: {trainer.step} steps in {trainer.seconds:.0f} s{' ' * 40}")
    return {"network": arm.network, "preset": arm.preset, "words": arm.words, "losses": dict(arm.losses),
            "steps": trainer.step, "seconds": trainer.seconds, "batch": trainer.options.batch,
            "patch": trainer.options.patch, "rate": trainer.options.rate}  # fmt: skip


def score(folder: Path, groups: Mapping[str, Sequence[Pair]], device: torch.device) -> dict[str, Any]:
    """Parameters, kMAC/px and seconds of an arm's network, and its scores per group of pairs."""
    weights = find_weights(str(folder / "last.safetensors")).dprnet
    network = load_network(weights, str(device))
    scores: dict[str, Any] = {**cost(weights), "seconds_per_photo": seconds_per_photo(network), "scores": {}}
    for name, pairs in groups.items():
        true, quality = [], []
        for i, pair in enumerate(pairs):
            print(f"\rscoring {folder.name}, {name}: {i + 1} of {len(pairs)} ", end="", file=sys.stderr, flush=True)
            rainy, clean = pair.read()
            restored = network(rainy).rgb
            true.append(recovered_keypoints(sift(grey_image(restored)), sift(grey_image(clean))).true)
            quality.append(psnr(restored, clean, 1.0))
        scores["scores"][name] = {"true": float(np.mean(true)), "psnr": float(np.mean(quality)), "true_each": true}
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    return scores


def rainy_scores(pairs: Sequence[Pair]) -> dict[str, float]:
    """The same of the rainy photographs as they are."""
    read = [pair.read() for pair in pairs]
    true = [recovered_keypoints(sift(grey_image(rainy)), sift(grey_image(clean))).true for rainy, clean in read]
    return {"true": float(np.mean(true)), "psnr": float(np.mean([psnr(rainy, clean, 1.0) for rainy, clean in read]))}


def cost(weights: Weights) -> dict[str, float]:
    """Parameters, and multiply-adds of convolutions, thousands a pixel."""
    # In evaluation mode some 1x1 convolutions compute more outputs than are used.
    network = weights.build().train()
    side = 256
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, side, side))
    return {"parameters": sum(p.numel() for p in network.parameters()),
            "kmac_per_pixel": counter.get_total_flops() / 2 / side**2 / 1e3}  # fmt: skip


def seconds_per_photo(network: Any) -> float:
    """Processor time of the network on one photograph, the best of three."""
    photo = np.random.default_rng(0).random((*PHOTO, 3), np.float32)
    spent = []
    for _ in range(3):
        start = time.process_time()
        network(photo)
        spent.append(time.process_time() - start)
    return min(spent)


def table_lines(rows: Mapping[str, dict[str, Any]], rainy: Mapping[str, dict[str, float]]) -> list[str]:
    """The table in Markdown."""
    titles = ["network", "losses", *(f"{name}: {what}" for name in rainy for what in ("true", "PSNR")),
              "kMAC/px", "s per photograph", "parameters", "steps"]  # fmt: skip

    def words(scores: Mapping[str, dict[str, float]]) -> list[str]:
        return [text for name in rainy for text in (f"{scores[name]['true']:.1f}", f"{scores[name]['psnr']:.2f}")]

    cells = [["rainy", "", *words(rainy), *[""] * 4]]
    for row in rows.values():
        cells.append(
            [row["preset"], row["words"], *words(row["scores"]), f"{row['kmac_per_pixel']:.0f}",
             f"{row['seconds_per_photo']:.2f}", f"{row['parameters']:,}", f"{row['steps']:,}"]
        )  # fmt: skip
    lines = [titles, ["---"] * len(titles), *cells]
    return [f"| {' | '.join(line)} |" for line in lines]


if __name__ == "__main__":
    main()
