"""Keypoints of any extractor as a method of an evaluation: read from files, and compared with their own reference.

`true` counts keypoints of the clean photograph that come back, so the clean photograph's keypoints must be of the same
extractor with the same settings. Files of idsr say how they were made: their reference is SIFT of the clean photograph
with these settings. Any other extractor needs a second set of files, made from the clean photographs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from idsr_cli.errors import IdsrError, ItemError, PairingError, UsageError
from idsr_cli.evaluation import metrics
from idsr_cli.evaluation.evaluate import Attempt
from idsr_cli.features import SiftOptions, sift
from idsr_cli.formats.descriptors import convert
from idsr_cli.formats.foreign import Store, Stored, open_store
from idsr_cli.images.pairs import Pair, names_for
from idsr_cli.images.photo import read_photo
from idsr_cli.keypoints import Keypoints
from idsr_cli.scale_space import grey_image


@dataclass(frozen=True)
class Source:
    """The keypoints of the rainy or of the clean photographs, one file or group per pair.

    Attributes:
        store: the files.
        names: the name in `store` of each pair.
    """

    store: Store
    names: Sequence[str]

    def read(self, index: int, image: np.ndarray) -> Stored:
        """The keypoints of pair `index`, whose photograph is `image`, (H, W, 3)."""
        return self.store.read(self.names[index], (image.shape[1], image.shape[0]))


@dataclass(frozen=True)
class KeypointMethod:
    """A method whose keypoints are in files.

    Attributes:
        name: of the method.
        found: keypoints of the rainy photographs, or of what another program made of them.
        clean: keypoints of the clean photographs, or None = SIFT as the files say it was.
        kind, settings: of idsr's SIFT, without `clean`: the kind of descriptor, and the options.
        descriptors: the descriptors and their distance, in words.
    """

    name: str
    found: Source
    clean: Source | None
    kind: str
    settings: SiftOptions
    descriptors: str

    @property
    def reference(self) -> str:
        """What the keypoints are compared with, "" if it is the same as for the rainy photograph."""
        if self.clean is not None:
            return str(self.clean.store.path)
        usual = asdict(SiftOptions())
        return ", ".join(f"{name} {value}" for name, value in asdict(self.settings).items() if value != usual[name])

    def describe(self) -> dict[str, str]:
        """For the header of an evaluation."""
        return {
            "name": self.name,
            "files": str(self.found.store.path),
            "compared with": self.reference or "the SIFT of the clean photographs",
            "descriptors": self.descriptors,
        }

    def attempt(self, index: int, pair: Pair, rainy: np.ndarray, clean: np.ndarray, usual: Keypoints) -> Attempt:
        """The method's result on pair `index`.

        Args:
            index: of the pair.
            pair: the pair.
            rainy: its rainy image, (H, W, 3) in [0, 1].
            clean: its clean image.
            usual: SIFT with the default settings of the clean image.

        Raises:
            ItemError: keypoints cannot be read, or do not go with each other or with the photographs.
        """
        for path in (pair.rainy, pair.clean):
            if read_photo(path).orientation != 1:
                raise ItemError(
                    "is turned by EXIF, and keypoint files do not say whether they follow it", path=path,
                    hint="save the pair upright without it",
                )  # fmt: skip
        found = self.found.read(index, rainy)
        if self.clean is not None:
            stored = self.clean.read(index, clean)
            reference = stored.keypoints
            self._check_same(index, found, stored)
        else:
            self._check_as_first(index, found)
            options = self.settings
            own = usual if options == SiftOptions() else sift(grey_image(clean), options)
            reference = convert(own, self.kind)  # type: ignore[arg-type]
        return Attempt(self.name, rainy, rainy, found.keypoints, reference, self.reference, has_image=False)

    def _where(self, index: int) -> str:
        return f"{self.found.store.path}, {self.found.names[index]}"

    def _check_same(self, index: int, found: Stored, clean: Stored) -> None:
        """Raises ItemError if the descriptors of the two photographs cannot be compared."""
        ours, theirs = found.keypoints.descriptors, clean.keypoints.descriptors
        if not len(ours) or not len(theirs):
            return
        made = [stored.meta and (stored.meta["descriptors"], stored.meta["sift"]) for stored in (found, clean)]
        rules = [f"{a.shape[1]} {'float' if a.dtype.kind == 'f' else a.dtype}" for a in (ours, theirs)]
        if rules[0] != rules[1]:
            raise ItemError(f"descriptors are {rules[0]}, but {rules[1]} for the clean one", path=self._where(index))
        if made[0] != made[1]:
            raise ItemError("was made with other settings than for the clean one", path=self._where(index))

    def _check_as_first(self, index: int, found: Stored) -> None:
        """Raises ItemError if the file was made in another way than the method's first."""
        if found.meta is None or found.meta["descriptors"] != self.kind or _options(found.meta) != self.settings:
            raise ItemError("was made with other settings than the first of its folder", path=self._where(index))


def keypoint_method(name: str, files: Path, clean: Path | None, pairs: Sequence[Pair]) -> KeypointMethod:
    """A method whose keypoints are in files.

    Args:
        name: of the method.
        files: folder of .npz, or HDF5, of the keypoints to score.
        clean: the same for the clean photographs; None = SIFT of them, for files of idsr.
        pairs: the pairs.

    Raises:
        UsageError: no files, or files of another extractor without `clean`, or of settings that are not known.
        PairingError: keypoints of a photograph are missing.
    """
    store = open_store(files)
    found = Source(store, names_for(pairs, store.names, files))
    if clean is not None:
        other = open_store(clean)
        reference = Source(other, names_for(pairs, other.names, clean, clean=True))
        return KeypointMethod(name, found, reference, "", SiftOptions(), _rule(found, pairs))
    meta = _first(found, pairs).meta
    if meta is None:
        raise UsageError(
            f"`{name}` is of another extractor than idsr, so its keypoints of the clean photographs are needed too",
            path=files, hint=f"add --clean-keypoints {name}=DIR",
        )  # fmt: skip
    return KeypointMethod(name, found, None, str(meta["descriptors"]), _options(meta), _rule(found, pairs))


def _options(meta: Mapping[str, Any]) -> SiftOptions:
    try:
        return SiftOptions(**meta["sift"])
    except (TypeError, UsageError) as error:
        raise UsageError(
            "keypoints were made with settings that this version does not have",
            hint="give keypoints of the clean photographs too: --clean-keypoints",
        ) from error


def _first(source: Source, pairs: Sequence[Pair]) -> Stored:
    """The first file with keypoints; what is wrong with others is reported when their pair is scored.

    Raises:
        UsageError: none can be read.
    """
    empty: Stored | None = None
    problem: IdsrError | None = None
    for index, pair in enumerate(pairs):
        try:
            stored = source.read(index, pair.read()[0])
        except (ItemError, PairingError) as error:
            problem = problem or error
            continue
        if len(stored.keypoints):
            return stored
        empty = empty or stored
    if empty is not None:
        return empty
    assert problem is not None
    raise UsageError(problem.reason, path=problem.path, hint=problem.hint)


def _rule(source: Source, pairs: Sequence[Pair]) -> str:
    """The descriptors of a source, in words."""
    return metrics.distance_rule(_first(source, pairs).keypoints.descriptors)
