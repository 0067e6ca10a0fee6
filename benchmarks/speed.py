"""Time and memory of each stage, and start-up times of whole commands.

    python benchmarks/speed.py                                generated photographs of three sizes, 1 and 2 threads
    python benchmarks/speed.py a.jpg b.jpg --threads 1        your own photographs
    python benchmarks/speed.py --splice DD                    DPRNet alone, one pyramid: the commands' default
    python benchmarks/speed.py --sizes 12MP --device cuda -o speed.json
    python benchmarks/speed.py --engines                      DPRNet on torch and on ncnn, nothing else

For every photograph and number of threads three processes take turns: the whole way from file to files, the splice of
the derained images alone, and `cv2.SIFT.detectAndCompute` of the first of them alone. They are separate processes
because earlier work in a process affects how memory is allocated, and take turns because the load of the machine
varies. The whole way also runs OpenCV's SIFT, alternately before and after the splice. Stages with a dash are parts of
the splice; with several threads the two pyramids of DG are built in parallel, and `- pyramids` is the sum of both.

`--engines` compares processor time, which other load disturbs less than wall time, peak memory, and the two results.

Times are medians with their quartiles; `least` is the minimum, which other load disturbs least. `x cv2` is the ratio to
OpenCV's SIFT, of the medians and of the minima. Peak memory is the process's, libraries included.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from command_line import SIZES, parse_size, plain_errors

# Heavy libraries are imported in the measured processes only, because these inherit this process's peak memory.

CV2 = "cv2.SIFT"
ENGINES = ("torch", "ncnn")
Times = list[dict[str, float]]


def make_photo(path: Path, width: int, height: int) -> None:
    """A picture with the statistics of a photograph: noise of spectrum 1/f^1.3, shapes with edges, and rain."""
    import cv2
    import numpy as np
    import torch

    from idsr_cli.synthetic_rain import StreakOptions, composite, streak_layer

    rng = np.random.default_rng(width)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    planes = [np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) / frequency**1.3, s=(height, width))
              for _ in range(2)]  # fmt: skip
    image = np.stack([128 + 35 * planes[0] / planes[0].std() + tint * planes[1] / planes[1].std()
                      for tint in (12, 0, -12)], axis=-1)  # fmt: skip
    image = np.ascontiguousarray(image.clip(0, 255).astype(np.uint8))
    for _ in range(40):
        corners = rng.uniform(0, 1, 2) * (width, height) + rng.normal(0, height / 12, (rng.integers(3, 7), 2))
        colour = tuple(float(c) for c in rng.integers(0, 256, 3))
        cv2.fillPoly(image, [corners.astype(np.int32)], colour, cv2.LINE_AA)
    image = cv2.GaussianBlur(image, (0, 0), 0.7)
    clean = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    layer = streak_layer((height, width), StreakOptions(density=0.001), torch.Generator().manual_seed(1))
    rainy = (255 * composite(clean, layer)).round().byte().permute(1, 2, 0).numpy()
    cv2.imwrite(str(path), rainy[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, 92))


class Runner:
    """State and calls of a measured process; each call adds milliseconds per stage to `times`."""

    def __init__(
        self,
        path: str,
        derained: str,
        threads: int,
        device: str,
        precision: str,
        engine: str,
        weights: str | None,
        which: str,
    ) -> None:
        from idsr_cli.runtime.threads import wait_asleep

        wait_asleep()  # as the commands do, before torch is imported

        import cv2

        from idsr_cli.runtime.devices import choose_device
        from idsr_cli.runtime.precision import choose_precision
        from idsr_cli.runtime.threads import use_threads

        use_threads(threads)
        self.path, self.derained, self.engine, self.weights = Path(path), Path(derained), engine, weights
        self.which = which
        self.device = choose_device(device)
        self.precision = choose_precision(precision, str(self.device))
        self.oracle = cv2.SIFT.create(enable_precise_upscale=True)
        self.about: dict[str, Any] = {}
        self.times: dict[str, float] = {}
        self.lock = threading.Lock()
        self.turn = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of a block to the stage `name`."""
        begun = time.perf_counter()
        yield
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize()
        milliseconds = 1e3 * (time.perf_counter() - begun)
        with self.lock:
            self.times[name] = self.times.get(name, 0.0) + milliseconds

    def prepare_whole(self) -> None:
        """Load the networks, time the parts of the splice, and save the derained images for the other processes."""
        import numpy as np

        from idsr_cli.images.photo import read_photo
        from idsr_cli.restoration import load_network
        from idsr_cli.runtime.allocator import keep_memory
        from idsr_cli.weights import find_weights

        pair = find_weights(self.weights)
        if self.device.type == "cpu":
            keep_memory()  # as the commands do
        self.networks = {role: load_network(weights, str(self.device), self.precision, engine=self.engine)
                         for role, weights in (("DPRNet", pair.dprnet), ("GGIRNet", pair.ggirnet))
                         if role[0] in self.which}  # fmt: skip
        engines = ", ".join(sorted({network.engine for network in self.networks.values()}))
        self.about["weights"], self.about["precision"] = f"{pair.name} {pair.sha256}", f"{self.precision}, {engines}"
        photo = read_photo(self.path)
        self.about["width"], self.about["height"] = photo.width, photo.height
        np.save(self.derained, [network(photo.rgb).rgb for network in self.networks.values()])
        # The package has a function of the module's name.
        module = importlib.import_module("idsr_cli.features.splice")
        for function, name in (("find_points", "detection"), ("orientations", "orientation"),
                               ("descriptors", "descriptor")):  # fmt: skip
            setattr(module, function, self._timed(getattr(module, function), name))
        setattr(module, "sift_pyramid", self._timed_steps(module.sift_pyramid, "pyramids"))  # noqa: B010

    def _timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with self.stage(f"- {name}"):
                return function(*arguments)

        return call

    def _timed_steps(self, function: Callable[..., Iterator[Any]], name: str) -> Callable[..., Iterator[Any]]:
        def call(*arguments: Any) -> Iterator[Any]:
            steps = function(*arguments)
            while True:
                with self.stage(f"- {name}"):
                    step = [next(steps, None)]
                if step[0] is None:
                    return
                yield step.pop()  # keep no reference, so that the caller can free the pyramid

        return call

    def prepare_engine(self) -> None:
        """Load DPRNet on the engine, and save its result."""
        import numpy as np

        from idsr_cli.images.photo import read_photo
        from idsr_cli.restoration import load_network
        from idsr_cli.runtime.allocator import keep_memory
        from idsr_cli.weights import find_weights

        keep_memory()
        self.network = load_network(
            find_weights(self.weights).dprnet, str(self.device), self.precision, None, self.engine
        ).network
        self.rgb = read_photo(self.path).rgb
        self.about["height"], self.about["width"] = self.rgb.shape[:2]
        np.save(self.derained.with_name(f"{self.engine}.npy"), self.network(self.rgb))

    def run_engine(self) -> None:
        """DPRNet on the whole photograph, in tiles where it has them."""
        begun = time.process_time()
        with self.stage("wall"):
            self.network(self.rgb)
        self.times["processor"] = 1e3 * (time.process_time() - begun)

    def difference(self) -> float:
        """Largest difference of the two engines' results, grey levels."""
        import numpy as np

        first, second = (np.load(self.derained.with_name(f"{engine}.npy"), mmap_mode="r") for engine in ENGINES)
        return 255.0 * float(np.abs(first - second).max())

    def whole(self) -> None:
        """From a file to a keypoint file and a derained photograph, and OpenCV's SIFT."""
        from idsr_cli.features import splice
        from idsr_cli.formats.npz import encode as encode_npz
        from idsr_cli.images.photo import encode, read_photo
        from idsr_cli.scale_space import grey_image

        with self.stage("decode"):
            photo = read_photo(self.path)
        images = []
        for name, network in self.networks.items():
            with self.stage(name):
                images.append(network(photo.rgb).rgb)
        self.turn += 1
        if self.turn % 2:
            self.opencv(images[0])
        with self.stage("splice"):
            detect = grey_image(images[0], self.device)
            keypoints = splice(detect, grey_image(images[1], self.device) if len(images) > 1 else detect)
        if not self.turn % 2:
            self.opencv(images[0])
        with self.stage("encode npz"):
            encode_npz(keypoints, {"descriptors": "sift_u8"})
        with self.stage(f"encode {photo.format}"):
            encode(photo, images[0])
        self.about["keypoints"] = len(keypoints)
        files = sum(value for name, value in self.times.items() if name.startswith(("decode", "encode")))
        self.times["total"] = files + sum(self.times[name] for name in (*self.networks, "splice"))

    def prepare_alone(self) -> None:
        """Load the derained images that `prepare_whole` saved."""
        import numpy as np

        from idsr_cli.scale_space import grey_image

        images = np.load(self.derained)
        self.rgb = images[0]
        greys = [grey_image(image, self.device) for image in images]
        self.greys = greys[0], greys[-1]

    def alone(self) -> None:
        """The splice of the images in memory."""
        from idsr_cli.features import splice

        with self.stage("splice alone"):
            splice(*self.greys)

    def opencv(self, rgb: Any = None) -> None:
        """OpenCV's SIFT of the 8-bit grey image."""
        import cv2
        import numpy as np

        pixels = np.rint((self.rgb if rgb is None else rgb) * 255).clip(0, 255).astype(np.uint8)
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        with self.stage(CV2 if rgb is not None else f"{CV2} alone"):
            self.oracle.detectAndCompute(grey, None)


def measured(kind: str, arguments: tuple[Any, ...], pipe: Connection) -> None:
    """Main function of a measured process: for each number of seconds received it runs that long, at least once."""
    runner = Runner(*arguments)
    of_engine = (runner.prepare_engine, runner.run_engine)
    prepare, call = {
        "whole": (runner.prepare_whole, runner.whole),
        "alone": (runner.prepare_alone, runner.alone),
        "opencv": (runner.prepare_alone, runner.opencv),
        **dict.fromkeys(ENGINES, of_engine),
    }[kind]
    prepare()
    pipe.send("ready")
    loaded = peak_memory()
    while seconds := pipe.recv():
        runs: Times = []
        end = time.monotonic() + seconds
        while not runs or time.monotonic() < end:
            runner.times = {}
            call()
            runs.append(runner.times)
        pipe.send(runs)
    about = {**runner.about, "loaded_mb": loaded, "peak_mb": peak_memory()}
    if kind in ENGINES:
        about["difference"] = runner.difference()
    pipe.send(about)


def peak_memory() -> float:
    """MB of this process so far. macOS counts bytes, Linux kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def measure(path: Path, threads: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One photograph with one number of threads: {"first": ..., "runs": ..., "about": ...} by kind of process."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    first: dict[str, dict[str, float]] = {}
    kinds = ENGINES if options.engines else ("whole", "alone", "opencv")
    runs: dict[str, Times] = {kind: [] for kind in kinds}
    about: dict[str, Any] = {}
    try:
        for kind in runs:
            pipes[kind], theirs = context.Pipe()
            device = "cpu" if kind == "opencv" else options.device
            derained = str(folder / "derained.npy")
            engine = kind if kind in ENGINES else options.engine
            arguments = (
                str(path),
                derained,
                threads,
                device,
                options.precision,
                engine,
                options.weights,
                options.splice,
            )
            context.Process(target=measured, args=(kind, arguments, theirs), daemon=True).start()
            theirs.close()
            pipes[kind].recv()
        for turn in range(options.rounds + 1):
            for kind, pipe in pipes.items():
                # The very first run is a warm-up, and listed separately.
                pipe.send(options.turn if turn else 1e-9)
                if turn:
                    runs[kind] += pipe.recv()
                else:
                    first[kind] = pipe.recv()[0]
        for kind, pipe in pipes.items():
            pipe.send(0)
            about[kind] = pipe.recv()
    except EOFError:
        sys.exit(f"error: {path}: a measured process has died, see above")
    return {"photo": str(path), "threads": threads, "first": first, "runs": runs, "about": about}


def print_engines(cell: dict[str, Any]) -> None:
    """One line per engine for one photograph with one number of threads."""
    about = cell["about"]["torch"]
    print(f"\n{Path(cell['photo']).name}: {about['width']}x{about['height']}, {cell['threads']} thread(s), DPRNet")
    print(f"{'engine':8} {'processor ms':>13} {'least':>9} {'x torch':>8} {'least':>6} {'wall ms':>9} {'least':>9} "
          f"{'x torch':>8} {'least':>6} {'peak MB':>8} {'runs':>5}")  # fmt: skip
    times = {kind: {name: [run[name] for run in runs] for name in runs[0]} for kind, runs in cell["runs"].items()}
    for kind in ENGINES:
        line = f"{kind:8}"
        for name, width in (("processor", 13), ("wall", 9)):
            mine, torchs = times[kind][name], times["torch"][name]
            line += (f" {statistics.median(mine):{width}.1f} {min(mine):9.1f}"
                     f" {statistics.median(mine) / statistics.median(torchs):8.2f}"
                     f" {min(mine) / min(torchs):6.2f}")  # fmt: skip
        print(f"{line} {cell['about'][kind]['peak_mb']:8.0f} {len(cell['runs'][kind]):5}")
    print(f"largest difference of the results {about['difference']:.5f} grey levels")


def print_cell(cell: dict[str, Any]) -> None:
    """The table of one photograph with one number of threads."""
    about = cell["about"]["whole"]
    size = about["width"] * about["height"] / 1e6
    print(f"\n{Path(cell['photo']).name}: {about['width']}x{about['height']}, {about['keypoints']} keypoints, "
          f"{cell['threads']} thread(s)")  # fmt: skip
    columns = (f"{'stage':15} {'median':>9} {'quartiles':>17} {'least':>9} {'ms/MP':>8} {'x cv2':>6} {'least':>6} "
               f"{'first':>9} {'runs':>5}")  # fmt: skip
    print(columns)
    references: dict[str, list[float]] = {}
    for kind in ("opencv", "alone", "whole"):
        runs = cell["runs"][kind]
        names = sorted(runs[0], key=lambda name: (name == CV2, name == "total")) if kind == "whole" else list(runs[0])
        reference = CV2 if kind == "whole" else f"{CV2} alone"
        references.setdefault(reference, [run[reference] for run in runs] if reference in runs[0] else [])
        against = references[reference]
        for name in names:
            values = [run[name] for run in runs]
            middle, least = statistics.median(values), min(values)
            low, _, high = (
                statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else (middle, middle, middle)
            )
            print(f"{name:15} {middle:9.1f} {f'{low:.1f} - {high:.1f}':>17} {least:9.1f} {middle / size:8.0f} "
                  f"{middle / statistics.median(against):6.2f} {least / min(against):6.2f} "
                  f"{cell['first'][kind][name]:9.1f} {len(values):5}")  # fmt: skip
    total = statistics.median(run["total"] for run in cell["runs"]["whole"])
    memory = ", ".join(f"{kind} {a['peak_mb']:.0f} (loaded {a['loaded_mb']:.0f})" for kind, a in cell["about"].items())
    print(f"{1e3 / total:.2f} images per second, one after the other; peak memory MB: {memory}")


def start_up(photo: Path, options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Seconds that whole commands take and seconds of processor time, each in a new process, in the order they ran."""
    import idsr_cli

    idsr = [sys.executable, "-m", "idsr_cli"]
    root = str(Path(idsr_cli.__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    network = ["--device", options.device, "--precision", options.precision]
    network += ["--engine", options.engine]
    network += ["--weights", options.weights] if options.weights else []
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "idsr --help": ["--help"],
            "idsr --version": ["--version"],
            "idsr sift --no-derain, one photograph": ["sift", str(photo), "-o", folder, "--no-derain"],
            "idsr derain, one photograph": ["derain", str(photo), "-o", folder, *network],
            f"idsr sift --splice {options.splice}, one photograph": [
                "sift",
                str(photo),
                "-o",
                folder,
                "--splice",
                options.splice,
                *network,
            ],
        }
        for name, arguments in commands.items():
            overwrite = [] if name.endswith(("help", "version")) else ["--existing", "overwrite"]
            found[name] = []
            for _ in range(options.rounds):
                begun, used = time.perf_counter(), processor_of_children()
                done = subprocess.run([*idsr, *arguments, *overwrite], capture_output=True, text=True, env=environment)
                found[name].append((time.perf_counter() - begun, processor_of_children() - used))
                if done.returncode:
                    sys.exit(f"error: {name}: {done.stderr.strip()}")
    return found


def processor_of_children() -> float:
    """Seconds of processor time of the processes that have ended."""
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def machine(options: argparse.Namespace) -> dict[str, str]:
    """What the numbers depend on."""
    script = (
        "import sys, cv2, numpy, torch, idsr_cli; c = torch.cuda.is_available();"
        "print(idsr_cli.__version__, torch.__version__, cv2.__version__, numpy.__version__,"
        "torch.cuda.get_device_name() if c else 'none', sep='\\n')"
    )
    lines = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    idsr, torch, opencv, numpy, cuda = lines.splitlines()
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "cpu": f"{model}, {os.cpu_count()} cores, load {', '.join(f'{value:.1f}' for value in os.getloadavg())}",
        "cuda": cuda,
        "device": f"{options.device}, precision {options.precision}",
        "versions": f"idsr {idsr}, torch {torch}, OpenCV {opencv}, numpy {numpy}, Python {platform.python_version()}",
        "system": platform.platform(),
    }


@plain_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path, help="in place of generated ones")
    parser.add_argument("--sizes", nargs="+", type=parse_size, metavar="SIZE", help="of the generated ones: "
                        f"WIDTHxHEIGHT, {', '.join(SIZES)} (default: 481x321 1MP 4MP)")  # fmt: skip
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="(default: 1 2)")
    parser.add_argument("--device", default="cpu", help="of networks and splice: cpu, cuda, ... (default: cpu)")
    parser.add_argument("--precision", default="auto", help="of the networks (default: auto)")
    parser.add_argument("--splice", choices=("DG", "DD"), default="DG", help="DG: both networks, two pyramids; DD: "
                        "DPRNet, one pyramid, as the commands do by default (default: DG)")  # fmt: skip
    parser.add_argument("--engine", default="auto", help="of the networks: auto, torch, ncnn (default: auto)")
    parser.add_argument("--engines", action="store_true", help="compare DPRNet on torch and on ncnn, and stop")
    parser.add_argument("--weights", help="(default: the shipped ones)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each process (default: 5)")
    parser.add_argument("--turn", type=float, default=1.0, help="seconds of a turn, at least one run (default: 1)")
    parser.add_argument("--no-start-up", action="store_true", help="leave the times of whole commands out")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="all single times, as JSON")
    options = parser.parse_args()
    for path in options.photos:
        if not path.is_file():
            parser.error(f"no such file: {path}")
    about = machine(options)
    for name, value in about.items():
        print(f"{name:>9}  {value}")
    with tempfile.TemporaryDirectory() as folder:
        photos = list(options.photos)
        if not photos:
            context = multiprocessing.get_context("spawn")
            for width, height in options.sizes or [(481, 321), SIZES["1MP"], SIZES["4MP"]]:
                photos.append(Path(folder) / f"generated-{width}x{height}.jpg")
                maker = context.Process(target=make_photo, args=(photos[-1], width, height))
                maker.start()
                maker.join()
                if maker.exitcode:
                    sys.exit(f"error: no photograph of {width}x{height}")
        cells = []
        for path in photos:
            for threads in options.threads:
                cells.append(measure(path, threads, Path(folder), options))
                if options.engines:
                    print_engines(cells[-1])
                    sys.stdout.flush()
                    continue
                if len(cells) == 1:
                    whole = cells[0]["about"]["whole"]
                    print(f"{'weights':>9}  {whole['weights']}, {whole['precision']}")
                print_cell(cells[-1])
                sys.stdout.flush()
        commands = {} if options.no_start_up or options.engines else start_up(photos[0], options)
    if commands:
        print(f"\n{'whole command, new process each time':40} {'median s':>9} {'least':>7} {'first':>7} "
              f"{'processor s':>12} {'least':>7}")  # fmt: skip
        for name, pairs in commands.items():
            seconds, processor = zip(*pairs, strict=True)
            print(f"{name:40} {statistics.median(seconds):9.2f} {min(seconds):7.2f} {seconds[0]:7.2f} "
                  f"{statistics.median(processor):12.2f} {min(processor):7.2f}")  # fmt: skip
    if options.output:
        options.output.write_text(json.dumps({"schema": 1, **about, "cells": cells, "commands": commands}) + "\n")


if __name__ == "__main__":
    main()
