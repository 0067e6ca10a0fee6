"""What COLMAP reconstructs from a set of photographs in the rain: with plain SIFT, with idsr, and when it is dry.

PHOTOS are photographs of one scene from several places. They are reduced to --size, rain is put on them, features are
extracted in several ways, all pairs are matched, and COLMAP's incremental mapper builds a model:

    idsr sift --no-derain     our plain SIFT of the pictures as they are
    COLMAP's SIFT             COLMAP's own extractor, of the pictures as they are
    idsr sift                 what `idsr sift --format colmap-db` writes by default
    idsr derain, COLMAP's     COLMAP's own extractor, of what `idsr derain` writes

    python benchmarks/sfm.py photographs -o out
    python benchmarks/sfm.py photographs -o out --rain light --rain "gusts=--length 30 --density 0.004 --patchy 1"

Needs the extra `colmap`, and no GPU. Prints a table in Markdown and writes it to OUT/sfm.md, all single numbers to
OUT/sfm.json. Of several models the largest counts. Numbers are means over --runs, each with other rain and another seed
of COLMAP's; track, error and turned are means over the runs that gave a model. "of dry" compares with the points of
COLMAP's SIFT on the dry photographs. "turned" tells whether a model is right: for each pair of photographs, the angle
between their relative rotation and that in the dry model; the median, in degrees.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from command_line import plain_errors
from PIL import Image

from idsr_cli.errors import PairingError
from idsr_cli.evaluation.metrics import psnr
from idsr_cli.evaluation.provenance import versions
from idsr_cli.formats import colmap_db
from idsr_cli.images.folders import photos_in
from idsr_cli.images.photo import read_photo
from idsr_cli.weights import find_weights

if TYPE_CHECKING:
    import pycolmap

# Options of `idsr rain`. Streaks are in pixels of the reduced photographs; `random` is another kind of rain on each.
RAIN = {
    "light": "--length 30 --width 1.5 --density 0.001 --brightness 0.6 --angle 10",
    "heavy": "--length 30 --width 1.5 --density 0.003 --layers 2 --brightness 0.7 --angle 10",
    "cloudburst": "--length 30 --width 1.5 --density 0.004 --layers 3 --brightness 0.8 --angle 10",
    "random": "",
}
DRY = "none"


@dataclass(frozen=True)
class Way:
    """How features are made: `sift` = options of `idsr sift`, None = COLMAP's own extractor; `derained` = from what."""

    title: str
    sift: str | None = None
    derained: bool = False


WAYS = {
    "plain": Way("`idsr sift --no-derain`", "--no-derain"),
    "colmap": Way("COLMAP's SIFT"),
    "idsr": Way("`idsr sift`", ""),
    "derain": Way("`idsr derain`, COLMAP's SIFT", derained=True),
}
REFERENCE = "colmap"  # on dry photographs
DRY_WAYS = ("plain", REFERENCE)


@dataclass(frozen=True)
class Score:
    """One reconstruction.

    Attributes:
        keypoints: mean of a photograph.
        registered: photographs in the largest model.
        points: of that model.
        track: photographs that a point is seen in, mean.
        error: reprojection error in pixels, mean.
        turned: degrees, see the module; None without two photographs in common with the dry model.

    Without a model `track` and `error` are None too.
    """

    keypoints: float
    registered: float
    points: float
    track: float | None
    error: float | None
    turned: float | None


def idsr(*arguments: object) -> None:
    command = [sys.executable, "-m", "idsr_cli", *map(str, arguments)]
    if subprocess.run(command).returncode:
        sys.exit(f"error: {shlex.join(command)} failed")


def reduce(photos: Sequence[Path], root: Path, folder: Path, size: int) -> None:
    """Write the photographs to `folder` with their EXIF (the focal length), the longer side at most `size` pixels."""
    for path in photos:
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            if not size or max(image.size) <= size:
                shutil.copyfile(path, target)
                continue
            exif = image.getexif()
            image.thumbnail((size, size), Image.Resampling.LANCZOS)
            image.save(target, exif=exif, quality=95)


def extract(way: Way, pictures: Path, database: Path, seed: int, options: argparse.Namespace) -> None:
    """Fill a new database with the features of the pictures."""
    if way.sift is not None:
        more = shlex.split(f"{way.sift} {options.sift}")
        idsr("sift", pictures, "-o", database, "--format", "colmap-db", "-q", *more)
        return
    import pycolmap

    pycolmap.set_random_seed(seed)
    settings = pycolmap.FeatureExtractionOptions()
    settings.num_threads, settings.use_gpu = options.threads or -1, False
    names = [path.relative_to(pictures).as_posix() for path in photos_in(pictures)]
    pycolmap.extract_features(
        database, pictures, image_names=names, extraction_options=settings, device=pycolmap.Device.cpu
    )


def reconstruct(
    database: Path, pictures: Path, output: Path, seed: int, threads: int
) -> pycolmap.Reconstruction | None:
    """Match all pairs and map; returns the largest model, or None. All models are written to `output`."""
    import pycolmap

    pycolmap.set_random_seed(seed)
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads, matching.use_gpu = threads, False
    pycolmap.match_exhaustive(database, matching_options=matching, device=pycolmap.Device.cpu)
    mapping = pycolmap.IncrementalPipelineOptions()
    mapping.num_threads, mapping.random_seed = threads, seed
    mapping.mapper.num_threads, mapping.mapper.random_seed = threads, seed
    mapping.triangulation.random_seed = seed
    output.mkdir(parents=True, exist_ok=True)
    models = pycolmap.incremental_mapping(database, pictures, output, options=mapping)
    return max(models.values(), key=lambda model: (model.num_reg_images(), model.num_points3D()), default=None)


def rotations(model: pycolmap.Reconstruction | None) -> dict[str, np.ndarray]:
    """Name of each registered photograph -> (3, 3) rotation from the model to its camera."""
    if model is None:
        return {}
    images = (model.image(number) for number in model.reg_image_ids())
    return {image.name: image.cam_from_world().rotation.matrix() for image in images}


def turned(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float | None:
    """Median angle in degrees between relative rotations of photographs that both models have; None if not two."""
    angles = []
    for a, b in itertools.combinations(sorted(found.keys() & expected.keys()), 2):
        difference = (found[a] @ found[b].T) @ (expected[a] @ expected[b].T).T
        angles.append(np.degrees(np.arccos(np.clip((np.trace(difference) - 1) / 2, -1, 1))))
    return float(np.median(angles)) if angles else None


def score(database: Path, model: pycolmap.Reconstruction | None, expected: dict[str, np.ndarray]) -> Score:
    import pycolmap

    opened = pycolmap.Database.open(str(database))
    keypoints = opened.num_keypoints() / max(1, opened.num_images())
    opened.close()
    if model is None:
        return Score(keypoints, 0, 0, None, None, None)
    return Score(
        keypoints, model.num_reg_images(), model.num_points3D(), model.compute_mean_track_length(),
        model.compute_mean_reprojection_error(), turned(rotations(model), expected),
    )  # fmt: skip


def mean_psnr(rainy: Path, dry: Path) -> float:
    """Of the rainy photographs, over RGB: how heavy the rain is."""
    values = [
        psnr(read_photo(path).rgb, read_photo(dry / path.relative_to(rainy)).rgb, 1.0) for path in photos_in(rainy)
    ]
    return float(np.mean(values))


class Benchmark:
    """All reconstructions of a set, in folders OUT/RUN/RAIN."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.dry = options.output / "dry"
        self.scores: dict[tuple[str, str], list[Score]] = {}
        self.psnr: dict[str, list[float]] = {}
        self.expected: dict[str, np.ndarray] = {}

    def run(self, seed: int) -> None:
        folder = self.options.output / str(seed)
        self.measure(DRY, REFERENCE, self.dry, folder, seed)
        for name in DRY_WAYS:
            if name != REFERENCE and name in self.options.way:
                self.measure(DRY, name, self.dry, folder, seed)
        for rain, settings in self.options.rain.items():
            rainy = folder / rain / "rainy"
            idsr("rain", self.dry, "-o", rainy, "--seed", seed, "-q", *shlex.split(settings))
            self.psnr.setdefault(rain, []).append(mean_psnr(rainy, self.dry))
            for name in self.options.way:
                self.measure(rain, name, rainy, folder, seed)

    def measure(self, rain: str, name: str, pictures: Path, folder: Path, seed: int) -> None:
        """Reconstruct in one way, and keep and show its score. The dry model must be the first of a run."""
        way, options = WAYS[name], self.options
        output = folder / rain / name
        output.mkdir(parents=True)
        if way.derained:
            idsr("derain", pictures, "-o", output / "derained", "-q")
            pictures = output / "derained"
        database = output / "database.db"
        extract(way, pictures, database, seed, options)
        model = reconstruct(database, pictures, output / "sparse", seed, options.threads or -1)
        if (rain, name) == (DRY, REFERENCE):
            self.expected = rotations(model)
        result = score(database, model, self.expected)
        self.scores.setdefault((rain, name), []).append(result)
        done = f"run {seed}, rain {rain}, {name}: {result.registered} photographs, {result.points} points"
        print(done, file=sys.stderr, flush=True)

    def table(self) -> str:
        """Markdown: what was measured, and a line for each rain and way."""
        best = float(np.mean([each.points for each in self.scores[DRY, REFERENCE]]))
        lines = [*self.about(), "", "| rain | features | keypoints | registered | points | of dry | track | error, px "
                 "| turned, ° |", "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
        for (rain, name), scores in self.scores.items():
            keypoints, registered, points, *rest = ([getattr(each, n) for each in scores] for n in asdict(scores[0]))
            found = float(np.mean(points))
            cells = [rain, WAYS[name].title, f"{np.mean(keypoints):.0f}", f"{np.mean(registered):.3g}", f"{found:.0f}",
                     f"{found / best:.0%}" if best else "-", *map(_shown, rest)]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def about(self) -> list[str]:
        """The set, the settings and the versions."""
        options, about = self.options, self.record()
        runs = f"mean of {len(options.seeds)} runs" if len(options.seeds) > 1 else "one run"
        seeds = ", ".join(map(str, options.seeds))
        lines = [
            f"{about['set']}: {about['photographs']} photographs, {', '.join(about['sizes'])}; {runs}, seed {seeds}."
        ]
        for rain, settings in options.rain.items():
            lines.append(f"Rain `{rain}`: `idsr rain {settings}`, PSNR {np.mean(self.psnr[rain]):.1f} dB.")
        libraries = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
        lines.append(
            f"Weights `{about['weights']}` {about['sha256'][:12]}, {options.device}, threads: {options.threads}; "
            f"options of `idsr sift`: {options.sift or 'none'}; {libraries}."
        )
        return lines

    def record(self) -> dict[str, Any]:
        """Everything that the numbers depend on, and the numbers."""
        import pycolmap

        photos = photos_in(self.dry)
        weights = find_weights(self.options.weights)
        return {
            "set": self.options.photographs.resolve().name,
            "photographs": len(photos),
            "sizes": sorted({"x".join(map(str, read_photo(path).rgb.shape[1::-1])) for path in photos}),
            "rain": self.options.rain, "psnr": self.psnr, "seeds": self.options.seeds,
            "weights": weights.name, "sha256": weights.sha256, "sift": self.options.sift,
            "device": self.options.device, "threads": self.options.threads,
            "versions": {**versions(), "pycolmap": pycolmap.__version__},
            "scores": [{"rain": rain, "way": name, **asdict(each)}
                       for (rain, name), scores in self.scores.items() for each in scores],
        }  # fmt: skip


def _shown(values: Sequence[float | None]) -> str:
    """Mean of the values that there are."""
    present = [value for value in values if value is not None]
    return f"{np.mean(present):.2f}" if present else "-"


def parse_rain(text: str) -> tuple[str, str]:
    """`light`, or `NAME=OPTIONS` of `idsr rain`."""
    name, given, settings = text.partition("=")
    if not given and name not in RAIN:
        raise argparse.ArgumentTypeError(f"`{text}` is neither NAME=OPTIONS nor {', '.join(RAIN)}")
    if name in ("", DRY) or Path(name).name != name:
        raise argparse.ArgumentTypeError(f"`{name}` cannot be the name of a folder of rainy photographs")
    return name, settings if given else RAIN[name]


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("photographs", type=Path, metavar="PHOTOS")
    result.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="a new folder")
    result.add_argument("--rain", type=parse_rain, action="append", metavar="NAME", help=f"{', '.join(RAIN)}, or "
                        "NAME=OPTIONS of `idsr rain`; repeatable (default: light, heavy)")  # fmt: skip
    result.add_argument("--way", action="append", choices=list(WAYS), help="only these features; repeatable")
    result.add_argument("--size", type=int, default=1000, help="longer side, pixels; 0 = as they are (default: 1000)")
    result.add_argument("--seed", type=int, default=1, help="of rain and COLMAP, in the first run (default: 1)")
    result.add_argument("--runs", type=int, default=1, help="runs, each with the next seed (default: 1)")
    result.add_argument("--weights", default="base", help="(default: base)")
    result.add_argument("--sift", default="", metavar="OPTIONS", help="further options of `idsr sift`")
    result.add_argument("--device", default="cpu", help="of idsr; COLMAP takes the processor (default: cpu)")
    result.add_argument("--threads", type=int, default=1, help="0 = all; with more than one, COLMAP's numbers can "
                        "vary (default: 1)")  # fmt: skip
    return result


@plain_errors()
def main() -> None:
    arguments = parser()
    options = arguments.parse_args()
    options.rain = dict(options.rain or map(parse_rain, ("light", "heavy")))
    options.way = dict.fromkeys(options.way or WAYS)
    options.seeds = list(range(options.seed, options.seed + max(1, options.runs)))
    if options.output.exists():
        arguments.error(f"{options.output}: exists; choose another OUT")
    try:
        photos = photos_in(options.photographs)
    except PairingError as error:
        arguments.error(str(error))
    if len(photos) < 2:
        arguments.error(f"{options.photographs}: one photograph is not enough")
    # Not as options: not every command has all of them.
    os.environ.update(IDSR_WEIGHTS=options.weights, IDSR_DEVICE=options.device, IDSR_THREADS=str(options.threads))
    colmap_db.load()
    import pycolmap

    pycolmap.logging.minloglevel = int(pycolmap.logging.FATAL)
    benchmark = Benchmark(options)
    reduce(photos, options.photographs, benchmark.dry, options.size)
    for seed in options.seeds:
        benchmark.run(seed)
    table = benchmark.table()
    (options.output / "sfm.md").write_text(table + "\n", encoding="utf-8")
    (options.output / "sfm.json").write_text(json.dumps(benchmark.record(), indent=1) + "\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
