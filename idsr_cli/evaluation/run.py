"""One evaluation from settings to result: find the pairs, load the networks, score, make the report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from idsr_cli import weights as stored_weights
from idsr_cli.clips.reader import require_av
from idsr_cli.errors import IdsrError, ItemError, UsageError
from idsr_cli.evaluation import frames, pictures, provenance, sequences
from idsr_cli.evaluation.curves import TrainingLog, read_log
from idsr_cli.evaluation.evaluate import RAINY, Attempt, Row, ScoredWeights, attempts, evaluate_pair, method_name
from idsr_cli.evaluation.frames import FRAMES_RULE, Footage, FrameRow
from idsr_cli.evaluation.keypoint_files import KeypointMethod, keypoint_method
from idsr_cli.evaluation.output import check_output, write_report
from idsr_cli.evaluation.report import Report, html_page
from idsr_cli.evaluation.result import Result
from idsr_cli.evaluation.sequences import DRY, GEOMETRY_RULE, GeometryRow, PlanePair, evaluate_plane_pair
from idsr_cli.features import sift
from idsr_cli.files.faults import failure, item_error
from idsr_cli.images.pairs import Pair, find_pairs, images_for
from idsr_cli.keypoints import Keypoints
from idsr_cli.restoration import Look, Restored
from idsr_cli.runtime.engines import together
from idsr_cli.scale_space import grey_image
from idsr_cli.synthetic_rain import rain_photo
from idsr_cli.weights import WeightsPair

Item = TypeVar("Item")

SPLICE_WORDS = {
    "DD": "plain SIFT of DPRNet's image", "GG": "plain SIFT of GGIRNet's image",
    "DG": "found in DPRNet's, described in GGIRNet's", "GD": "found in GGIRNet's, described in DPRNet's",
}  # fmt: skip


@dataclass(frozen=True)
class EvaluationSettings:
    """What is scored, on what.

    Attributes:
        rainy, clean, side_by_side, clean_side, pair_list: where pairs are, see `images.pairs.find_pairs`.
        matching: folder of image sequences with homographies, or None.
        seed: of the rain on `matching`.
        frames: a clip, or a folder of frames of real rain, or None.
        frames_count: pairs of neighbours to score of each clip and folder, the first ones; 0 = all.
        methods: (name, folder of derained photographs) of other methods.
        keypoints: (name, folder or HDF5 file of keypoints) of methods that give keypoints.
        clean_keypoints: (name of one of `keypoints`, the same of the clean photographs).
        output: where the report goes, or None.
        logs: log.jsonl files of training runs, for the report.
        count, matching_count: number of rainy/clean pairs and of image pairs to score, the first ones; 0 = all.
        splices: of our networks, names of `SPLICE_WORDS`; empty leaves them out.
        weights: which of our networks; None = the shipped ones.
        tile: side of a tile, only named in the header; -1 = auto.
        removal: how rain is taken out, as far as it is not by default (`Removal.changed()`); only named in the header.
        command: the command line, for the header.
    """

    rainy: Path | None = None
    clean: Path | None = None
    side_by_side: Path | None = None
    clean_side: Literal["left", "right"] = "left"
    pair_list: Path | None = None
    matching: Path | None = None
    seed: int = 0
    frames: Path | None = None
    frames_count: int = 0
    methods: Sequence[tuple[str, Path]] = ()
    keypoints: Sequence[tuple[str, Path]] = ()
    clean_keypoints: Sequence[tuple[str, Path]] = ()
    output: Path | None = None
    logs: Sequence[Path] = ()
    count: int = 0
    matching_count: int = 0
    splices: Sequence[str] = ()
    weights: Sequence[str | None] = (None,)
    tile: int = -1
    removal: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""


class Networks(Protocol):
    """The networks of one set of weights."""

    @property
    def device(self) -> object:
        """The device; `str` of it is its name."""

    @property
    def precision(self) -> str:
        """The precision: "fp32", "bf16" or "fp16"."""

    @property
    def engine(self) -> str:
        """What runs the networks, "torch" or "ncnn"."""

    def restore(self, rgb: np.ndarray, roles: str, before: dict[str, Look] | None = None) -> list[Restored]:
        """See `evaluate.Restore`; `before` as in `restoration.Restorer.restore`."""


# (weights, roles) -> their networks on the device that the user chose.
Build = Callable[[WeightsPair, str], Networks]


class Listener(Protocol):
    """Receives the progress of an evaluation."""

    def begin(self, doing: str, total: int) -> None:
        """Work on `total` items begins."""

    def started(self, path: Path) -> None:
        """Work on the item of this photograph begins."""

    def scored(self, rows: Sequence[Row]) -> None:
        """One pair was scored: a row per method."""

    def matched(self, rows: Sequence[GeometryRow]) -> None:
        """One image pair of a sequence was matched: a row per method."""

    def followed(self, rows: Sequence[FrameRow]) -> None:
        """Two neighbouring frames were matched: a row per method."""

    def failed(self, error: IdsrError, cause: Exception) -> None:
        """One item could not be scored; the others are scored all the same."""

    def advance(self) -> None:
        """One more item is done, scored or failed."""

    def end(self) -> None:
        """Work on these items ended, or was interrupted."""


@dataclass(frozen=True)
class LoadedWeights:
    """Our networks, and their entries of the header.

    Attributes:
        weights: name of the weights, "" if there is only one set -> its networks and splices.
        networks: name as in `weights` -> its networks.
        splice: name as in `weights` -> the splice that was measured to be best.
        header: weights, device, precision, engine and tile.
    """

    weights: dict[str, ScoredWeights]
    networks: dict[str, Networks]
    splice: dict[str, str]
    header: dict[str, Any]


@dataclass
class Evaluation:
    """Everything needed to score, and the results.

    Attributes:
        settings: the settings.
        pairs, planes, footage: what to score.
        others: name of another method -> its image for each pair.
        files: methods whose keypoints are in files.
        ours: our networks.
        logs: of training runs.
        result: header and, after `run`, rows and summaries.
        interrupted: whether it was ended by Ctrl-C.
    """

    settings: EvaluationSettings
    pairs: Sequence[Pair]
    planes: Sequence[PlanePair]
    footage: Sequence[Footage]
    others: Mapping[str, list[Path]]
    files: Sequence[KeypointMethod]
    ours: LoadedWeights
    logs: Sequence[TrainingLog]
    result: Result = field(init=False)
    interrupted: bool = False

    def __post_init__(self) -> None:
        self.result = Result(self._header())

    @property
    def left(self) -> int:
        """Number of pairs that were not reached before the interruption."""
        result = self.result
        done = ({row.pair for row in rows} for rows in (result.rows, result.geometry_rows, result.frame_rows))
        planned = len(self.pairs) + len(self.planes) + sum(map(self._pairs_of, self.footage))
        return max(0, planned - sum(map(len, done)) - result.failed)

    def _pairs_of(self, footage: Footage) -> int:
        return min(footage.pairs(), self.settings.frames_count or sys.maxsize)

    def _header(self) -> dict[str, Any]:
        s = self.settings
        header: dict[str, Any] = {"command": s.command}
        if self.pairs:
            source = s.rainy or s.side_by_side or s.pair_list
            header |= {
                "rainy": str(source), "clean": str(s.clean or source), "pairs": len(self.pairs),
                "scenes": len({pair.clean for pair in self.pairs}), "pixels": {},
                "methods": {name: str(folder) for name, folder in s.methods},
            }  # fmt: skip
        if self.files:
            header["keypoints"] = [method.describe() for method in self.files]
        if self.planes:
            header |= {"sequences": str(s.matching), "rain": {"of": "`idsr rain`, random streaks", "seed": s.seed}}
        if self.footage:
            header["frames"] = str(s.frames)
        header |= {"removal": dict(s.removal)} if s.removal and s.splices else {}
        header |= {**self.ours.header, "versions": provenance.versions()}
        header |= {"geometry": GEOMETRY_RULE} if self.planes else {}
        header |= {"neighbours": FRAMES_RULE} if self.footage else {}
        return header | (provenance.conventions() if self.pairs else provenance.shared_conventions())

    def run(self, listener: Listener) -> Result:
        """Score everything; what was scored before Ctrl-C is kept.

        Raises:
            UsageError: nothing could be scored.
            KeyboardInterrupt: before anything was scored.
        """
        result = self.result
        fingerprint = provenance.Fingerprint()
        try:
            self._score_pairs(fingerprint, listener)
            self._score_planes(listener)
            self._score_footage(listener)
        except KeyboardInterrupt:
            self.interrupted = True
            if not result.any_rows:
                raise
        if not result.any_rows:
            raise UsageError("no pair could be evaluated")
        if result.rows:
            scored = len({row.pair for row in result.rows})
            result.header |= {"pairs": scored, "pixels": {"sha256": fingerprint.hexadecimal}}
        result.close({pair.name: pair.name if pair.clean_side else str(pair.clean) for pair in self.pairs})
        return result

    def _score_pairs(self, fingerprint: provenance.Fingerprint, listener: Listener) -> None:
        def score(i: int, pair: Pair) -> None:
            images = {name: paths[i] for name, paths in self.others.items()}
            # A pair is scored for all methods or for none, so that every method is averaged over the same pairs.
            files = [partial(method.attempt, i) for method in self.files]
            rows = evaluate_pair(pair, self.ours.weights, images, fingerprint, files)
            self.result.rows += rows
            listener.scored(rows)

        self._for_each(self.pairs, "evaluating", score, lambda pair: pair.rainy, listener)

    def _score_planes(self, listener: Listener) -> None:
        def rain(rgb: np.ndarray, name: str) -> np.ndarray:
            return rain_photo(rgb, self.settings.seed, name)

        def score(i: int, pair: PlanePair) -> None:
            rows = evaluate_plane_pair(pair, rain, self.ours.weights)
            self.result.geometry_rows += rows
            listener.matched(rows)

        self._for_each(self.planes, "matching", score, lambda pair: pair.second, listener)

    def _score_footage(self, listener: Listener) -> None:
        if not self.footage:
            return
        listener.begin("matching frames", max(1, sum(map(self._pairs_of, self.footage))))
        try:
            for footage in self.footage:
                try:
                    self._follow(footage, listener)
                except Exception as error:
                    self._failed(error, footage.path, listener)
        finally:
            listener.end()

    def _follow(self, footage: Footage, listener: Listener) -> None:
        """Score the neighbours; a frame that cannot be read or restored is reported, and has no neighbours."""
        before: tuple[str, Mapping[str, Keypoints]] | None = None
        pairs = 0
        ours = dict(self.ours.weights)
        if not footage.photos:  # as `idsr derain clip.mp4`: a frame is looked at as the one before, where that will do
            following = {name: partial(one.restore, before={}) for name, one in self.ours.networks.items()}
            ours = {name: replace(one, restore=following[name]) for name, one in ours.items()}
        for name, frame in footage.frames():
            listener.started(footage.path)
            try:
                if isinstance(frame, ItemError):
                    raise frame
                found = frames.keypoints_of(frame, ours)
            except Exception as error:
                self._failed(error, footage.path, listener)
                before = None
                continue
            if before is not None:
                rows = frames.judge(f"{footage.name} {before[0]}-{name}", before[1], found)
                self.result.frame_rows += rows
                listener.followed(rows)
                listener.advance()
                pairs += 1
            before = name, found
            if self.settings.frames_count and pairs >= self.settings.frames_count:
                break

    def _failed(self, error: Exception, path: Path, listener: Listener) -> None:
        self.result.failed += 1
        listener.failed(failure(error, path), error)

    def _for_each(
        self, items: Sequence[Item], doing: str, work: Callable[[int, Item], None], path: Callable[[Item], Path],
        listener: Listener,
    ) -> None:  # fmt: skip
        """Call `work` on each item. Items that fail, for any reason, are reported and counted; the others go on."""
        listener.begin(doing, len(items))
        try:
            for i, item in enumerate(items):
                listener.started(path(item))
                try:
                    work(i, item)
                except Exception as error:
                    self._failed(error, path(item), listener)
                listener.advance()
        finally:
            listener.end()

    def report(self, output: Path, warn: Callable[[str, str], None]) -> Path:
        """Write the report, after `run`.

        Args:
            output: folder or page.
            warn: called with (what, hint) if the pictures are left out.

        Returns:
            The page.

        Raises:
            UsageError: a file cannot be written.
        """
        result = self.result
        shown = result.shown([method_name(prefix, own) for prefix, own in self.ours.splice.items()])
        best: list[pictures.Example] = []
        worst: list[pictures.Example] = []
        if shown and not self.interrupted:
            try:
                best, worst = pictures.examples(result.rows, shown, self._reader(shown))
            except Exception as error:  # the numbers matter more than the pictures
                warn(f"no pictures in the report: {item_error(error).reason}", "the numbers are complete")
        return write_report(output, result, html_page(Report(result, shown, best, worst, self.logs)))

    def _reader(self, shown: str) -> Callable[[str], tuple[Attempt, Attempt, np.ndarray]]:
        """Name of a pair -> the rainy attempt, that of the method `shown` and the clean image.

        Only the network behind `shown` runs again.
        """
        index = {pair.name: i for i, pair in enumerate(self.pairs)}
        networks = {
            prefix: ScoredWeights(mine.restore, [name])
            for prefix, mine in self.ours.weights.items()
            for name in mine.splices
            if method_name(prefix, name) == shown
        }

        def read(pair: str) -> tuple[Attempt, Attempt, np.ndarray]:
            i = index[pair]
            rainy, clean = self.pairs[i].read()
            images = {shown: self.others[shown][i]} if shown in self.others else {}
            found = {a.method: a for a in attempts(self.pairs[i], rainy, networks, images)}
            for method in self.files:
                if method.name == shown:
                    found[shown] = method.attempt(i, self.pairs[i], rainy, clean, sift(grey_image(clean)))
            return found[RAINY], found[shown], clean

        return read


def prepare(settings: EvaluationSettings, build: Build) -> Evaluation:
    """Find the pairs and load the networks.

    Args:
        settings: the settings.
        build: makes the networks of a set of weights.

    Raises:
        UsageError: nothing to score, the report cannot be written, or two things have the same name.
        PairingError: a folder or an image is missing.
        WeightsError: weights are not there.
        DeviceError: the device or precision is not available.
    """
    s = settings
    if s.logs and s.output is None:
        raise UsageError("`--log` is for the report", hint="add `-o REPORT`")
    if s.output is not None:
        check_output(s.output)
    logs = [read_log(path) for path in s.logs]
    pairs = find_pairs(s.rainy, s.clean, s.side_by_side, s.clean_side, s.pair_list)
    planes = sequences.find_pairs(s.matching) if s.matching is not None else []
    footage = frames.find_footage(s.frames) if s.frames is not None else []
    if not pairs and not planes and not footage:
        hint = "give --rainy and --clean, --side-by-side, --list, --matching or --pairs-of-frames"
        raise UsageError("nothing to score", hint=hint)
    if any(not one.photos for one in footage):
        require_av()
    for option, given in (("--method", s.methods), ("--keypoints", s.keypoints)):
        if given and not pairs:
            raise UsageError(f"`{option}` has no pairs to be scored on", hint="give --rainy and --clean")
    check_clean_keypoints(s)
    check_names([pair.name for pair in pairs], "pairs are", "score them one folder at a time")
    check_names([one.name for one in footage], "clips or folders of frames are", "give each another name")
    check_names([plane.name for plane in planes], "image pairs are", "give each sequence its own folder")
    for option, count, found, other in (
        ("--count", s.count, pairs, "`--matching-count` or `--frames-count`"),
        ("--matching-count", s.matching_count, planes, "`--count` or `--frames-count`"),
        ("--frames-count", s.frames_count, footage, "`--count` or `--matching-count`"),
    ):  # fmt: skip
        if count and not found:
            raise UsageError(f"`{option}` has no pairs to choose from", hint=f"use {other}")
    pairs, planes = pairs[: s.count or None], planes[: s.matching_count or None]
    others = {name: images_for(pairs, folder) for name, folder in s.methods}
    clean_keypoints = dict(s.clean_keypoints)
    files = [keypoint_method(name, path, clean_keypoints.get(name), pairs) for name, path in s.keypoints]
    ours = load_networks(s.weights, s.splices, build, s.tile)
    own = [method_name(prefix, name) for prefix, mine in ours.weights.items() for name in mine.splices]
    methods = [RAINY, *([DRY] if planes else []), *own, *(name for name, _ in (*s.methods, *s.keypoints))]
    check_names(methods, "methods are", "give each another name")
    return Evaluation(s, pairs, planes, footage, others, files, ours, logs)


def check_clean_keypoints(settings: EvaluationSettings) -> None:
    """Raises UsageError for clean keypoints without a method, or given twice."""
    names = [name for name, _ in settings.keypoints]
    for name, _ in settings.clean_keypoints:
        if name not in names:
            raise UsageError(
                f"`--clean-keypoints {name}` belongs to no `--keypoints {name}`", hint=f"add --keypoints {name}=DIR"
            )
    check_names([name for name, _ in settings.clean_keypoints], "sets of clean keypoints are", "give each once")


def check_names(names: Sequence[str], what: str, hint: str) -> None:
    """Raises UsageError if a name stands for two things."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UsageError(f"two {what} called `{name}`", hint=hint)
        seen.add(name)


def load_networks(specs: Sequence[str | None], splices: Sequence[str], build: Build, tile: int = -1) -> LoadedWeights:
    """The networks of each set of weights; none without splices.

    Args:
        specs: names, folders or files of weights; None = the shipped ones.
        splices: names of `SPLICE_WORDS`.
        build: makes the networks of a set of weights.
        tile: for the header, -1 = auto.

    Raises:
        WeightsError: weights are not found.
        UsageError: two sets have the same name.
        DeviceError: the device or precision is not available.
    """
    if not splices:
        return LoadedWeights({}, {}, {}, {"weights": [], "device": "cpu", "precision": "fp32", "engine": None})
    found = [stored_weights.find_weights(spec) for spec in specs]
    # Folders of training runs often have the same name: then each set is called what the user typed.
    names = [pair.name for pair in found]
    if len(set(names)) < len(names):
        names = [str(spec) for spec in specs]
    check_names(names, "sets of weights are", "give each once")
    prefixes = names if len(names) > 1 else [""]
    wanted = [distinct(pair, splices) for pair in found]
    networks = [build(pair, "".join(mine)) for pair, mine in zip(found, wanted, strict=True)]
    header = {
        "weights": [
            {**provenance.describe_weights(pair), "name": name} for name, pair in zip(names, found, strict=True)
        ],
        "splices": {name: SPLICE_WORDS[name] for name in splices if any(name in mine for mine in wanted)},
        "device": str(networks[0].device), "precision": networks[0].precision,
        "engine": together(network.engine for network in networks), "tile": "auto" if tile < 0 else tile,
    }  # fmt: skip
    return LoadedWeights(
        {prefix: ScoredWeights(n.restore, mine) for prefix, n, mine in zip(prefixes, networks, wanted, strict=True)},
        dict(zip(prefixes, networks, strict=True)),
        {prefix: pair.splice for prefix, pair in zip(prefixes, found, strict=True)},
        header,
    )


def distinct(pair: WeightsPair, splices: Sequence[str]) -> Sequence[str]:
    """The splices with different results.

    If one network plays both roles, all splices give the same result. Then one is kept, preferably the one named after
    the network's own role.
    """
    if pair.dprnet.identity != pair.ggirnet.identity:
        return splices
    own = "GG" if pair.dprnet.arch == "ggirnet" else "DD"
    return (own,) if own in splices else splices[:1]
