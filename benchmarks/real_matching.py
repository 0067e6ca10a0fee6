"""What the loss `matching` changes: real photographs without clean versions in training, with and without the term.

    python benchmarks/real_matching.py --photos clean --streaks layers --real own-rain --frames clips \
        --rainy val/light --rainy val/heavy --clean val/clean --steps 500 -o matching

From the same weights, a network is trained on with each `--matching` weight and each of the `--seeds`. Arms of one seed
see the same samples in the same order, so they differ in the term alone; that is why they are as long in steps, not in
seconds. All arms and the weights that they began with are scored by `idsr evaluate`: `true` on pairs, and inliers
between neighbouring frames of real rain. Neither pairs nor frames should be among the photographs trained on.

If the command is repeated, finished arms are skipped and interrupted ones resumed. OUT/table.md has the table,
OUT/scores the reports.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from idsr_cli.files.atomic import write_bytes

FRAMES = "frames"  # the group of scores that is not of a folder of pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--photos", type=Path, action="append", required=True, metavar="DIR", help="clean, to rain on")
    data.add_argument("--streaks", type=Path, action="append", default=[], metavar="DIR", help="streak layers")
    data.add_argument("--real", type=Path, action="append", required=True, metavar="DIR", help="rainy, no clean version")
    data.add_argument("--frames", type=Path, required=True, metavar="DIR", help="clips or folders of frames to score on")
    data.add_argument("--rainy", type=Path, action="append", required=True, metavar="DIR", help="pairs to score on")
    data.add_argument("--clean", type=Path, required=True, metavar="DIR", help="their clean versions")
    data.add_argument("--count", type=int, default=0, help="pairs scored per folder (default: all)")
    training = parser.add_argument_group("training")
    training.add_argument("--network", default="dprnet", help="as for `idsr train` (default: dprnet)")
    training.add_argument("--init", default="base", help="weights to begin with (default: base)")
    training.add_argument("--matching", type=float, nargs="+", default=[0.0, 1.0], help="weights (default: 0 1)")
    training.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="(default: 0 1)")
    training.add_argument("--steps", type=int, required=True, help="of each arm")
    training.add_argument("--rate", type=float, default=3e-4, help="peak learning rate (default: 3e-4)")
    training.add_argument("--batch", type=int, default=4, help="(default: 4)")
    training.add_argument("--patch", type=int, default=128, help="(default: 128)")
    training.add_argument("--train-only", action="store_true", help="do not score")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    options = parser.parse_args()
    try:
        run(options)
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError as error:  # idsr has said why
        sys.exit(error.returncode)


def run(options: argparse.Namespace) -> None:
    """Train what is not trained yet, score, print, write."""
    for seed in options.seeds:
        for weight in options.matching:
            train(weight, seed, options)
    if options.train_only:
        return
    table = "\n".join(table_lines(score(options), options.init, options.matching, options.seeds))
    write_bytes(options.output / "table.md", f"{table}\n".encode())
    print(table)
    print(f"\n{options.output / 'table.md'}", file=sys.stderr)


def idsr(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "idsr_cli", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def several(option: str, values: Sequence[object]) -> list[object]:
    """A repeatable option of the command line."""
    return [word for value in values for word in (option, value)]


def arm_name(weight: float, seed: int) -> str:
    return f"matching{weight:g}-seed{seed}"


def train(weight: float, seed: int, options: argparse.Namespace) -> None:
    """Train one arm, unless it is finished."""
    name = arm_name(weight, seed)
    print(name, file=sys.stderr)
    idsr("train", options.network, "--init", options.init, "--recipe", "decay", "--rate", options.rate,
         "--steps", options.steps, "--batch", options.batch, "--patch", options.patch, "--seed", seed,
         "--loss", f"matching={weight:g}", "--threads", options.threads, "--resume", "auto",
         *several("--photos", options.photos), *several("--streaks", options.streaks),
         *several("--real", options.real), "-o", options.output / name)  # fmt: skip


def score(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Name of a folder of pairs, or `FRAMES` -> its entries of `summary.json`, one a method."""
    arms = [options.output / arm_name(weight, seed) for seed in options.seeds for weight in options.matching]
    tested = [*several("--weights", [options.init, *arms]), "--splice", "DD", "--threads", options.threads]
    inputs = {
        folder.name: ["--rainy", folder, "--clean", options.clean, "--count", options.count] for folder in options.rainy
    }
    inputs[FRAMES] = ["--pairs-of-frames", options.frames]
    scores = {}
    for name, given in inputs.items():
        print(f"scoring {name}", file=sys.stderr)
        report = options.output / "scores" / name
        idsr("evaluate", *given, *tested, "-o", report)
        summary = json.loads((report / "summary.json").read_text())
        scores[name] = summary["frames" if name == FRAMES else "methods"]
    return scores


def table_lines(
    scores: Mapping[str, Sequence[Mapping[str, Any]]], init: str, weights: Sequence[float], seeds: Sequence[int]
) -> list[str]:
    """The table in Markdown: the mean of each arm, and how far those of one seed are apart, with the interval."""
    first, *others = weights
    lines = [["matching", "seed", *(f"{name}: {'inliers' if name == FRAMES else 'true'}" for name in scores)]]
    lines.append(["---"] * len(lines[0]))

    def row(weight: str, seed: str, method: str) -> list[str]:
        return [weight, seed, *(f"{value(found(entries, method)):.1f}" for entries in scores.values())]

    lines.append(["rainy", "", *row("", "", "rainy")[2:]])
    lines.append([init, "", *row("", "", f"{Path(init).name} DD")[2:]])
    for seed in seeds:
        lines += [row(f"{weight:g}", str(seed), f"{arm_name(weight, seed)} DD") for weight in weights]
        for weight in others:
            one, other = (f"{arm_name(w, seed)} DD" for w in (weight, first))
            cells = [difference(found(entries, one), other) for entries in scores.values()]
            lines.append([f"{weight:g} less {first:g}", str(seed), *cells])
    return [f"| {' | '.join(line)} |" for line in lines]


def found(entries: Sequence[Mapping[str, Any]], method: str) -> Mapping[str, Any]:
    return next(entry for entry in entries if entry["method"] == method)


def value(entry: Mapping[str, Any]) -> float:
    """`true` on pairs, inliers on frames."""
    return float(entry["true"] if "true" in entry else entry["inliers"])


def difference(entry: Mapping[str, Any], other: str) -> str:
    """How much more one method has than another, with the 95 % interval of the mean over pairs."""
    between = entry["difference"][other]
    between = between.get("true", between)
    return f"{between['mean']:+.1f} [{between['low']:+.1f}, {between['high']:+.1f}]"


if __name__ == "__main__":
    main()
