"""What the loss `matching` changes: real photographs without clean versions in training, with and without the term.

    python benchmarks/real_matching.py --photos clean --streaks layers --real own-rain --frames clips \
        --rainy val/light --rainy val/heavy --clean val/clean --steps 500 -o matching

From the same weights, a network is trained on with each `--matching` weight and each of the `--seeds`. Arms of one seed
see the same samples in the same order, so they differ in the term alone; that is why they are as long in steps, not in
seconds. All arms and the weights that they began with are scored by `idsr evaluate`: `true` on pairs, and inliers
between neighbouring frames of real rain. Neither pairs nor frames should be among the photographs trained on.

If the command is repeated, finished arms and reports are used again, and interrupted arms resumed. OUT/table.md has the
table: means, and the differences between arms of one seed with 95 % intervals. OUT/scores has the reports. Two commands
may use the same folder at once if each trains its own `--seeds` with `--train-only`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from idsr_cli.evaluation.bootstrap import Bootstrap
from idsr_cli.evaluation.table import interval
from idsr_cli.files.atomic import write_bytes

# "rainy" or "DD" -> pair -> `true`, or inliers.
Scores: TypeAlias = dict[str, dict[str, float]]
FRAMES = "frames"  # the group of scores that is not of a folder of pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--photos", type=Path, action="append", required=True, metavar="DIR", help="clean, to rain on")
    data.add_argument("--streaks", type=Path, action="append", default=[], metavar="DIR", help="streak layers")
    data.add_argument(
        "--real", type=Path, action="append", required=True, metavar="DIR", help="rainy, no clean version"
    )
    data.add_argument(
        "--frames", type=Path, required=True, metavar="DIR", help="clips or folders of frames to score on"
    )
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
    """Train what is not trained yet, score what is not scored yet, print, write."""
    arms = [(weight, seed) for seed in options.seeds for weight in options.matching]
    for weight, seed in arms:
        train(weight, seed, options)
    if options.train_only:
        return
    start = score(options.init, "start", options)
    scores = {arm: score(options.output / arm_name(*arm), arm_name(*arm), options) for arm in arms}
    table = "\n".join(table_lines(start, scores, options.init))
    write_bytes(options.output / "table.md", f"{table}\n".encode())
    print(table)
    print(f"\n{options.output / 'table.md'}", file=sys.stderr)


def idsr(*arguments: object) -> None:
    """Run a command. Ctrl-C reaches it too, and it is waited for: a training writes what it has done."""
    command = [sys.executable, "-m", "idsr_cli", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
    if code:
        raise subprocess.CalledProcessError(code, command)


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


def score(weights: object, name: str, options: argparse.Namespace) -> dict[str, Scores]:
    """The scores of some weights: name of a folder of pairs, or `FRAMES` -> scores. Existing reports are used again."""
    inputs = {
        folder.name: ["--rainy", folder, "--clean", options.clean, "--count", options.count] for folder in options.rainy
    }
    inputs[FRAMES] = ["--pairs-of-frames", options.frames]
    found = {}
    for group, given in inputs.items():
        rows = options.output / "scores" / name / group / "rows.jsonl"
        if not rows.exists():
            print(f"scoring {name}, {group}", file=sys.stderr)
            idsr("evaluate", *given, "--weights", weights, "--splice", "DD", "--threads", options.threads,
                 "-o", rows.parent)  # fmt: skip
        found[group] = read_scores(rows)
    return found


def read_scores(path: Path) -> Scores:
    """`true`, or inliers of frames, of each pair in a report of `idsr evaluate` on one set of weights."""
    scores: Scores = {"rainy": {}, "DD": {}}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        scores[row["method"]][row["pair"]] = row["inliers"] if row["event"] == "frames" else row["recovered"]["true"]
    return scores


def table_lines(
    start: Mapping[str, Scores],
    arms: Mapping[tuple[float, int], Mapping[str, Scores]],
    init: str,
) -> list[str]:
    """The table in Markdown: the mean of each arm, and how far those of one seed are apart.

    Args:
        start: scores of the weights that all arms began with.
        arms: (weight, seed) -> scores.
        init: name of the weights that all arms began with.
    """
    lines = [["matching", "seed", *(f"{group}: {'inliers' if group == FRAMES else 'true'}" for group in start)]]
    lines.append(["---"] * len(lines[0]))
    for name, method in (("rainy", "rainy"), (init, "DD")):
        lines.append([name, "", *(mean(scores[method]) for scores in start.values())])
    for (weight, seed), groups in arms.items():
        lines.append([f"{weight:g}", str(seed), *(mean(scores["DD"]) for scores in groups.values())])
    first = next(iter(arms))[0]
    for (weight, seed), groups in arms.items():
        if weight != first:
            other = arms[first, seed]
            cells = [difference(groups[group]["DD"], other[group]["DD"]) for group in groups]
            lines.append([f"{weight:g} less {first:g}", str(seed), *cells])
    return [f"| {' | '.join(line)} |" for line in lines]


def mean(scores: Mapping[str, float]) -> str:
    return f"{np.mean(list(scores.values())):.1f}"


def difference(one: Mapping[str, float], other: Mapping[str, float]) -> str:
    """How much more one has than the other, with the 95 % interval of the mean over pairs."""
    return interval(Bootstrap(list(one)).interval([one[pair] - other[pair] for pair in one]))


if __name__ == "__main__":
    main()
