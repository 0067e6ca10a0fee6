"""How busy the network is while a command goes through a folder of photographs.

    python benchmarks/folder.py                                  200 generated photographs of 2 MP: derain, sift
    python benchmarks/folder.py --count 20 --size 0.5MP          a quick look
    python benchmarks/folder.py --photos PHOTOS --jobs 1 0       your own, without and with worker threads
    python benchmarks/folder.py --engine ncnn -o folder.json

Each command runs in a process of its own, exactly as from the shell, with clocks around four calls: the network on one
patch (`Runner.run`), and reading, computing and saving one photograph (`PhotoWork.load`, `compute`, `save`).

`busy` is the share of the time from the beginning of the network's first call to the end of its last one in which it
computed. `of all` is the share of the whole command, start-up and the last photograph's saving included; with more
photographs it comes nearer to `busy`. `in line` is what reading, computing and saving take one after the other, as a
multiple of the time the command took for all of it; above 1 they overlapped. On a CPU the stages share the processors:
`processors` is the processor time of the command as a share of all processors' time. Other load on the machine makes
every stage slower; `busy` and `in line` still say whether anything waits for anything.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from command_line import SIZES, parse_size, plain_errors

COMMANDS: dict[str, list[str]] = {"derain": [], "sift": ["--format", "npz"]}
# Different pictures among the generated ones: making one takes seconds.
PICTURES = 4

Calls = dict[str, list[tuple[float, float]]]


def make_photos(folder: Path, count: int, size: tuple[int, int]) -> None:
    """`count` photographs: a few pictures, each several times."""
    sys.path.insert(0, str(Path(__file__).parent))
    from speed import make_photo

    pictures = min(PICTURES, count)
    for i in range(pictures):
        make_photo(folder / f"{i:04}.jpg", size[0] - 2 * i, size[1])
    for i in range(pictures, count):
        (folder / f"{i:04}.jpg").write_bytes((folder / f"{i % pictures:04}.jpg").read_bytes())


def clocked(owner: type, method: str, name: str, calls: Calls) -> None:
    """Note the beginning and end of every call of a method, in any thread."""
    function: Callable[..., Any] = getattr(owner, method)
    mine, lock = calls.setdefault(name, []), threading.Lock()

    def call(*arguments: Any, **settings: Any) -> Any:
        begun = time.perf_counter()
        try:
            return function(*arguments, **settings)
        finally:
            ended = time.perf_counter()
            with lock:
                mine.append((begun, ended))

    setattr(owner, method, call)


def run_command(words: list[str], engine: str, pipe: Connection) -> None:
    """Main function of a measured process: run `idsr` with these words, and send what was measured."""
    begun = time.perf_counter()
    from idsr_cli.__main__ import main
    from idsr_cli.runs.outputs import PhotoWork
    from idsr_cli.runtime.ncnn_engine import NcnnRunner
    from idsr_cli.runtime.threads import wait_asleep

    calls: Calls = {}
    clocked(NcnnRunner, "run", "network", calls)
    if engine != "ncnn":
        wait_asleep()  # as `main` does, before torch is imported
        from idsr_cli.runtime.torch_engine import TorchRunner

        clocked(TorchRunner, "run", "network", calls)
    for stage in ("load", "compute", "save"):
        clocked(PhotoWork, stage, stage, calls)
    sys.argv = ["idsr", *words]
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    wall = time.perf_counter() - begun
    pipe.send({"code": code or 0, "wall": wall, "processor": sum(os.times()[:2]), "calls": calls})


def measured(words: list[str], engine: str) -> dict[str, Any]:
    """Run `idsr` with these words; what `run_command` sends. Ends the program if the command fails."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=run_command, args=(words, engine, theirs))
    process.start()
    theirs.close()
    try:
        found: dict[str, Any] = ours.recv()
    except EOFError:
        sys.exit(f"error: `idsr {' '.join(words)}` has died, see above")
    process.join()
    if found["code"]:
        sys.exit(f"error: `idsr {' '.join(words)}` ended with {found['code']}, see above")
    return found


def figures(found: dict[str, Any], photographs: int) -> dict[str, float]:
    """The row of one command."""
    calls: Calls = found["calls"]
    seconds = {name: sum(end - begin for begin, end in times) for name, times in calls.items()}
    network = calls["network"]
    between = max(end for _, end in network) - min(begin for begin, _ in network)
    stages = [calls[stage] for stage in ("load", "compute", "save")]
    all_stages = max(end for times in stages for _, end in times) - min(begin for times in stages for begin, _ in times)
    return {
        "busy": seconds["network"] / between,
        "of_all": seconds["network"] / found["wall"],
        "in_line": (seconds["load"] + seconds["compute"] + seconds["save"]) / all_stages,
        "processors": found["processor"] / (found["wall"] * (os.cpu_count() or 1)),
        "wall": found["wall"],
        **{f"{name}_each": seconds[name] / photographs for name in ("load", "network", "compute", "save")},
    }


def print_row(name: str, row: dict[str, float]) -> None:
    """One line of the table."""
    each = " ".join(f"{1e3 * row[f'{stage}_each']:8.0f}" for stage in ("load", "network", "compute", "save"))
    print(f"{name:18} {100 * row['busy']:6.1f} % {100 * row['of_all']:6.1f} % {row['in_line']:8.2f} "
          f"{100 * row['processors']:9.0f} % {each} {row['wall']:9.1f}")  # fmt: skip
    sys.stdout.flush()


@plain_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="in place of generated ones")
    parser.add_argument("--count", type=int, default=200, help="of generated photographs (default: 200)")
    parser.add_argument("--size", type=parse_size, default=SIZES["2MP"], help=f"of them: WIDTHxHEIGHT or "
                        f"{', '.join(SIZES)} (default: 2MP)")  # fmt: skip
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="(default: all)")
    parser.add_argument(
        "--jobs", nargs="+", type=int, default=[0], help="as in the commands (default: 0, which chooses)"
    )
    parser.add_argument("--engine", default="auto", help="as in the commands: auto, torch, ncnn (default: auto)")
    parser.add_argument("--device", default="cpu", help="as in the commands (default: cpu)")
    parser.add_argument("--threads", type=int, default=0, help="as in the commands (default: 0, one per processor)")
    parser.add_argument("--weights", help="(default: the shipped ones)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="every call's times, as JSON")
    options = parser.parse_args()
    kept: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.photos
        if folder is None:
            folder = Path(scratch, "photos")
            folder.mkdir()
            make_photos(folder, options.count, options.size)
        print(f"{os.cpu_count()} processors, load {', '.join(f'{value:.1f}' for value in os.getloadavg())}")
        print(f"{'':18} {'busy':>8} {'of all':>8} {'in line':>8} {'processors':>11} {'read':>8} {'network':>8} "
              f"{'compute':>8} {'save':>8} {'whole s':>9}  ms per photograph")  # fmt: skip
        common = ["-q", "--engine", options.engine, "--device", options.device, "--threads", str(options.threads)]
        common += ["--weights", options.weights] if options.weights else []
        for command in options.commands:
            for jobs in options.jobs:
                name = f"{command} --jobs {jobs}"
                out = Path(scratch, name.replace(" ", ""))
                words = [command, str(folder), "-o", str(out), *COMMANDS[command], *common, "--jobs", str(jobs)]
                found = measured(words, options.engine)
                row = figures(found, len(found["calls"]["save"]))
                print_row(name, row)
                kept[name] = {**found, **row}
    if options.output:
        options.output.write_text(json.dumps({"schema": 1, "processors": os.cpu_count(), "commands": kept}) + "\n")


if __name__ == "__main__":
    main()
