"""What parts of the training rain contribute: the same short training from the same weights without each of them.

    python benchmarks/rain_mixtures.py --init base --photos clean --streaks streaks_garg --streaks streaks_rain100h \
        --streaks streaks_rain100l --side-by-side rain800 --steps 700 -o mixtures

Trains each arm for --steps and writes OUT/ARM/last.safetensors for `benchmarks/rain_styles.py`. An arm that is
there already is left alone.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from command_line import plain_errors

from idsr_cli.images.pairs import pairs_side_by_side
from idsr_cli.runtime.threads import use_threads
from idsr_cli.training.batches import BatchSource
from idsr_cli.training.loop import Progress
from idsr_cli.training.setup import TrainingData, TrainingSetup, join_processes, prepare

LOSSES = {"pixel": 0.2, "gradient": 1.0, "alp-derivative": 2.0, "extremum": 0.1, "descriptor": 0.2}


def no_occlusion(source: BatchSource) -> BatchSource:
    """Drops only add light."""
    rain = source.make.rain
    return replace(source, make=replace(source.make, rain=replace(rain, options=replace(rain.options, occlude=0.0))))


def no_reduction(source: BatchSource) -> BatchSource:
    """No photograph was reduced after it rained."""
    rain = source.make.rain
    options = replace(rain.options, reduced=0.0, finer=0.0)
    return replace(source, zoom=0.0, make=replace(source.make, rain=replace(rain, options=options)))


ARMS = {
    "whole": lambda source: source,
    "no-occlusion": no_occlusion,
    "no-reduction": no_reduction,
    "neither": lambda source: no_reduction(no_occlusion(source)),
}


@plain_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, action="append", required=True, metavar="DIR", help="clean")
    parser.add_argument("--streaks", type=Path, action="append", default=[], metavar="DIR", help="streak layers")
    parser.add_argument("--side-by-side", type=Path, metavar="DIR", help="training pairs, clean on the left")
    parser.add_argument("--init", default="base", metavar="WEIGHTS", help="weights to start from (default: base)")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="(default: all)")
    parser.add_argument("--steps", type=int, required=True, help="of each arm")
    parser.add_argument("--rate", type=float, default=3e-4, help="at first; it falls to 0 (default: 3e-4)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    options = parser.parse_args()
    use_threads(options.threads)
    for name in options.arms:
        train(name, options)


def tell(what: object) -> None:
    print(what, file=sys.stderr)


def train(name: str, options: argparse.Namespace) -> None:
    """One arm, unless its weights are there."""
    folder = options.output / name
    if (folder / "last.safetensors").exists():
        tell(f"{name}: trained already")
        return
    pairs = pairs_side_by_side(options.side_by_side, "left") if options.side_by_side else []
    data = TrainingData(options.photos, options.streaks, pairs, patch=128, pair_share=0.08, large=0.2)
    setup = TrainingSetup(
        "dprnet", folder, data, init=options.init, recipe="decay", steps=options.steps, batch=4, rate=options.rate,
        ema=0.99, seed=options.seed, losses=LOSSES, balance=0.5, precision="fp32",
    )  # fmt: skip
    device, _ = join_processes("cpu")
    trainer = prepare(setup, device, tell, tell)
    trainer.source = ARMS[name](trainer.source)

    def listen(progress: Progress) -> None:
        print(f"\r{name}: {progress.share:.0%}, step {progress.step}, loss {progress.loss:.4f} ",
              end="", file=sys.stderr, flush=True)  # fmt: skip

    trainer.run(listener=listen)
    tell("")


if __name__ == "__main__":
    main()
