"""COLMAP's database: one SQLite file for all photographs, ready for `colmap exhaustive_matcher` or pycolmap.

pycolmap writes it, because its layout changes between versions. Images and cameras come from COLMAP's own import: one
SIMPLE_RADIAL camera per photograph, or per camera named in EXIF, with the focal length from EXIF or 1.2 times the
longer side; rigs, frames and GPS positions likewise. Keypoints are x, y, scale, orientation with the origin at the
*corner* of the top-left pixel (see `colmap`). Descriptors are OpenCV's, of COLMAP's type SIFT: match them among
themselves, not with features that COLMAP extracted, nor with its vocabulary trees.

The features of a run are written in one SQLite transaction. If the process is killed, the database stays valid; the
images that were to be added or replaced have no keypoints then, as before COLMAP's own extraction. A table `idsr`
records how keypoints were made; COLMAP ignores it.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idsr_cli.errors import ItemError, UsageError
from idsr_cli.formats.colmap import frames
from idsr_cli.formats.entry import Entry

if TYPE_CHECKING:
    import pycolmap

_FOCAL_FACTOR = 1.2  # COLMAP's default focal length, times the longer side
_PAIR_BASE = 2147483647  # a pair of images has the id base * first + second


def contents(path: Path) -> dict[str, Mapping[str, Any] | None]:
    """Names of the photographs in a database that have features, and the meta of each; None if not recorded.

    Raises:
        UsageError: the file is not a COLMAP database.
    """
    query = "SELECT name, image_id FROM images JOIN keypoints USING (image_id) JOIN descriptors USING (image_id)"
    # pycolmap would create a missing file and convert an old one, so SQLite reads it. "immutable" creates no files
    # beside the database, but ignores a write-ahead log: if a killed writer left one, it must be read too.
    mode = "mode=rw" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as database:
            names = database.execute(query).fetchall()
            made: dict[int, str] = {}
            if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'idsr'").fetchone():
                made = dict(database.execute("SELECT image_id, meta FROM idsr"))
    except sqlite3.Error as error:
        raise UsageError(f"not a COLMAP database, or in use: {error}", path=path, hint="choose another OUT") from error
    return {name: json.loads(made[number]) if number in made else None for name, number in names}


def add(path: Path, entries: Sequence[Entry]) -> None:
    """Add photographs to the database `path`, or replace their features there; matches of the replaced are deleted.

    Raises:
        ItemError: COLMAP reports an error.
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        ids = _import_images(path, entries)
        # pycolmap has its own copy of SQLite. Two copies must not have one file open at the same time: closing it in
        # one drops the locks of the other.
        _forget(path, ids)
        _write_features(path, entries, ids)
        _remember(path, entries, ids)
    except (sqlite3.Error, RuntimeError, ValueError) as error:
        raise ItemError(f"COLMAP's database refuses: {' '.join(str(error).split())}", path=path) from error
    with open(path, "rb+") as file:  # COLMAP does not flush the file to the disk
        os.fsync(file.fileno())


def load() -> None:
    """Load pycolmap.

    Raises:
        ImportError: it is missing or too old.
    """
    import cv2  # noqa: F401  # must come before pycolmap: loaded after it, cv2 crashes when it writes a PNG
    import pycolmap

    if not hasattr(pycolmap, "FeatureDescriptors"):
        raise ImportError("pycolmap is older than 4.0")


@contextmanager
def _opened(path: Path) -> Iterator[pycolmap.Database]:
    load()
    import pycolmap

    pycolmap.logging.minloglevel = int(pycolmap.logging.FATAL)
    database = pycolmap.Database.open(str(path))
    try:
        yield database
    finally:
        database.close()


def _import_images(path: Path, entries: Sequence[Entry]) -> dict[str, int]:
    """Register the photographs through COLMAP's import; returns their image ids by name."""
    import pycolmap

    with _opened(path) as database:
        missing = [entry for entry in entries if not database.exists_image(entry.name)]
    by_root: dict[Path, list[str]] = {}
    for entry in missing:
        by_root.setdefault(entry.root, []).append(entry.name)
    for root, names in by_root.items():
        pycolmap.import_images(str(path), str(root), image_names=names)
    ids = {}
    with _opened(path) as database:
        for entry in entries:
            image = database.read_image_with_name(entry.name)
            ids[entry.name] = image.image_id if image is not None else _register(database, entry)
    return ids


def _register(database: pycolmap.Database, entry: Entry) -> int:
    """Register an image that COLMAP's import skipped, with a camera of its own; returns its id.

    COLMAP skips file formats that it cannot read, and photographs whose size differs from others of the same camera.
    """
    import pycolmap

    width, height = entry.keypoints().image_size
    camera = pycolmap.Camera.create_from_model_name(
        0, "SIMPLE_RADIAL", _FOCAL_FACTOR * max(width, height), width, height
    )
    camera.camera_id = database.write_camera(camera)
    rig = pycolmap.Rig()
    rig.add_ref_sensor(camera.sensor_id)
    rig_id = database.write_rig(rig)
    image = pycolmap.Image(name=entry.name, camera_id=camera.camera_id)
    image.image_id = database.write_image(image)
    frame = pycolmap.Frame()
    frame.rig_id = rig_id
    frame.add_data_id(image.data_id)
    database.write_frame(frame)
    return image.image_id


def _forget(path: Path, ids: Mapping[str, int]) -> None:
    """Delete the features of images, the matches made with them, and their rows in the table `idsr`."""
    numbers = [(number,) for number in ids.values()]
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS idsr (image_id INTEGER PRIMARY KEY NOT NULL, meta TEXT NOT NULL)")
        for table in ("keypoints", "descriptors", "idsr"):
            database.executemany(f"DELETE FROM {table} WHERE image_id = ?", numbers)
        for table in ("matches", "two_view_geometries"):
            for side in (f"pair_id / {_PAIR_BASE}", f"pair_id % {_PAIR_BASE}"):
                database.executemany(f"DELETE FROM {table} WHERE {side} = ?", numbers)


def _write_features(path: Path, entries: Sequence[Entry], ids: Mapping[str, int]) -> None:
    import numpy as np
    import pycolmap

    with _opened(path) as database, pycolmap.DatabaseTransaction(database):
        for entry in entries:
            keypoints = entry.keypoints()
            descriptors = pycolmap.FeatureDescriptors(
                type=pycolmap.FeatureExtractorType.SIFT, data=np.ascontiguousarray(keypoints.descriptors, np.uint8)
            )
            database.write_keypoints(ids[entry.name], np.ascontiguousarray(frames(keypoints), np.float32))
            database.write_descriptors(ids[entry.name], descriptors)


def _remember(path: Path, entries: Sequence[Entry], ids: Mapping[str, int]) -> None:
    """Record in the table `idsr` how the features were made."""
    rows = [(ids[entry.name], json.dumps(entry.meta, sort_keys=True)) for entry in entries]
    with closing(sqlite3.connect(path)) as database, database:
        database.executemany("INSERT INTO idsr VALUES (?, ?)", rows)
