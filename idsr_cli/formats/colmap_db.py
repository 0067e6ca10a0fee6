"""COLMAP's database: one SQLite file for all photographs, ready for `colmap exhaustive_matcher` or pycolmap.

pycolmap writes it, because its layout changes between versions; `_suit_older_versions` then adds what COLMAP 3 needs.
Images and cameras come from COLMAP's own import: a camera per photograph, or per camera named in EXIF, with the focal
length from EXIF or 1.2 times the longer side; rigs, frames and GPS positions likewise. COLMAP reads the EXIF of
formats that it cannot decode (WebP, AVIF, HEIC, JPEG 2000) from a flat JPEG in their place. Photographs that are added
later get the camera that is there already for the same maker, model, focal length and size; `Cameras` has other ways
of sharing them. A photograph that has been replaced by one of another size or camera is registered anew, and so is one
that `Cameras` other than those of its record are asked for. Keypoints are
x, y, scale, orientation with the origin at the *corner* of the top-left pixel (see `colmap`). Descriptors are of
COLMAP's type SIFT, in its order; they can be matched with those that COLMAP extracts, not with those of other
extractors, so a database that holds such is refused.

The features of a run are written in one SQLite transaction. If the process is killed, the database stays valid; the
images that were to be added or replaced have no keypoints then, as before COLMAP's own extraction. A table `idsr`
records how keypoints were made; COLMAP ignores it.
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import struct
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from idsr_cli.errors import ItemError, UsageError
from idsr_cli.files.atomic import atomic_path
from idsr_cli.files.volume import check_room
from idsr_cli.formats.colmap import frames
from idsr_cli.formats.entry import Entry
from idsr_cli.formats.stored import Stored, stored
from idsr_cli.images.folders import path_key

if TYPE_CHECKING:
    import pycolmap

CameraMode = Literal["auto", "single", "per-folder"]
# Suffixes of photographs that COLMAP reads with their EXIF itself.
_COLMAP_READS = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})
_JPEG_SIDE = 65500  # longest side of a JPEG
_WGS84 = 0  # COLMAP's coordinate system of GPS positions
_FOCAL_FACTOR = 1.2  # COLMAP's default focal length, times the longer side
_DIMENSIONS = 128  # of a SIFT descriptor
_SIFT = (-1, 0)  # COLMAP's types of descriptors: not known, and SIFT
# Bytes of a photograph beside its features, and of a database without any, at most. Whether there is room is looked at
# first, since COLMAP aborts the whole process where SQLite finds none.
_ROW, _EMPTY = 2048, 1 << 19
_IDENTITY = "camera"  # in the record: see `_camera_identity`
_CAMERA_SENSOR = 0  # COLMAP's type of the sensor that takes photographs
_PAIR_BASE = 2147483647  # a pair of images has the id base * first + second


@dataclass(frozen=True)
class Cameras:
    """Which photographs share a camera in the database, and the model of new cameras.

    Attributes:
        mode: "auto": those that have the same maker, model, focal length and size in EXIF, each other has its own;
            "single": all of one size; "per-folder": those of one size in one folder.
        model: COLMAP's name of a camera model.
    """

    mode: CameraMode = "auto"
    model: str = "SIMPLE_RADIAL"

    @classmethod
    def recorded(cls, meta: Mapping[str, Any]) -> Cameras:
        """Those with which an image was registered, by its record in the table `idsr`."""
        settings = meta.get("settings") or {}
        return cls(settings.get("camera_mode") or cls.mode, settings.get("camera_model") or cls.model)

    def group(self, name: str, size: tuple[int, int], identity: str | None) -> str | None:
        """Photographs of equal groups share a camera; None = a camera of its own.

        Args:
            name: of the photograph in the database.
            size: width and height in pixels.
            identity: see `_camera_identity`.
        """
        if self.mode == "auto":
            return identity
        folder = PurePosixPath(name).parent if self.mode == "per-folder" else ""
        return f"{folder}/{size[0]}x{size[1]}"


def contents(path: Path) -> dict[str, Mapping[str, Any] | None]:
    """Names of the photographs in a database that have features, and the meta of each; None if not recorded.

    Raises:
        UsageError: the file is not a COLMAP database, or holds descriptors of another extractor.
    """
    query = "SELECT name, image_id FROM images JOIN keypoints USING (image_id) JOIN descriptors USING (image_id)"
    with _untouched(path) as database:
        names = database.execute(query).fetchall()
        made: dict[int, str] = {}
        if _columns(database, "idsr"):
            made = dict(database.execute("SELECT image_id, meta FROM idsr"))
        foreign = _foreign(database)
    if foreign:
        raise UsageError(
            f"holds descriptors of another extractor ({foreign}), which SIFT cannot be matched with", path=path
        )
    return {name: json.loads(made[number]) if number in made else None for name, number in names}


def incomplete(path: Path) -> dict[str, str]:
    """Names of the photographs in a database that have no keypoints or no descriptors, and what they lack, in words.

    Raises:
        UsageError: the file is not a COLMAP database.
    """
    query = (
        "SELECT name, keypoints.image_id IS NULL, descriptors.image_id IS NULL FROM images "
        "LEFT JOIN keypoints USING (image_id) LEFT JOIN descriptors USING (image_id) "
        "WHERE keypoints.image_id IS NULL OR descriptors.image_id IS NULL"
    )
    with _untouched(path) as database:
        rows = database.execute(query).fetchall()
    parts = ("no keypoints", "no descriptors")
    return {name: " and ".join(itertools.compress(parts, missing)) for name, *missing in rows}


@contextmanager
def _untouched(path: Path) -> Iterator[sqlite3.Connection]:
    """A database to read. pycolmap would create a missing file and convert an old one, so SQLite opens it."""
    try:
        with closing(sqlite3.connect(_uri(path), uri=True)) as database:
            yield database
    except sqlite3.Error as error:
        raise UsageError(f"not a COLMAP database, or in use: {error}", path=path) from error


def _uri(path: Path) -> str:
    """For SQLite, to read a database that nobody writes to.

    "immutable" creates no files beside the database, but ignores a write-ahead log: if a killed writer left one, it
    must be read too.
    """
    mode = "mode=rw" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    return f"{path.absolute().as_uri()}?{mode}"


def read(path: Path, name: str) -> Stored:
    """The keypoints of a photograph in a database.

    COLMAP's own, which may be affine (a11, a12, a21, a22), count as circles of the mean scale.

    Raises:
        ItemError: they have no scales.
        sqlite3.Error: the file cannot be read.
    """
    import numpy as np

    query = (
        "SELECT image_id, width, height, keypoints.rows, keypoints.cols, keypoints.data, descriptors.data FROM images "
        "JOIN cameras USING (camera_id) JOIN keypoints USING (image_id) JOIN descriptors USING (image_id) "
        "WHERE name = ?"
    )
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        number, width, height, count, columns, points, descriptors = database.execute(query, [name]).fetchone()
        made = None
        if _columns(database, "idsr"):
            made = database.execute("SELECT meta FROM idsr WHERE image_id = ?", [number]).fetchone()
    rows = np.frombuffer(points or b"", np.float32).reshape(count, columns).astype(np.float64)
    if columns == 6:
        affine = rows[:, 2:].reshape(-1, 2, 2)
        scale, angle = np.linalg.norm(affine, axis=1).mean(1), np.arctan2(affine[:, 1, 0], affine[:, 0, 0])
    elif columns == 4:
        scale, angle = rows[:, 2], rows[:, 3]
    else:
        raise ItemError(f"the keypoints of `{name}` have no scales", path=path)
    meta = json.loads(made[0]) if made else None
    return stored(
        rows[:, :2] - 0.5,
        scale,
        np.frombuffer(descriptors or b"", np.uint8).reshape(count, _DIMENSIONS),
        angle=np.rad2deg(angle),
        image_size=(width, height),
        kind=meta["descriptors"] if meta else None,
        meta=meta,
    )


def _columns(database: sqlite3.Connection, table: str) -> set[str]:
    """Names of a table's columns; empty if there is no such table."""
    return {row[1] for row in database.execute(f"PRAGMA table_info({table})")}


def _foreign(database: sqlite3.Connection) -> str:
    """An image whose descriptors are not SIFT's, in words; "" if there is none."""
    kind = "type" if "type" in _columns(database, "descriptors") else "0"
    found = database.execute(
        f"SELECT name, cols, {kind} FROM images JOIN descriptors USING (image_id) "
        f"WHERE rows > 0 AND (cols != {_DIMENSIONS} OR {kind} NOT IN {_SIFT}) LIMIT 1"
    ).fetchone()
    if found is None:
        return ""
    name, columns, number = found
    return f"`{name}`: {columns} bytes each" + (f", COLMAP's type {number}" if number not in _SIFT else "")


def add(path: Path, entries: Sequence[Entry], cameras: Cameras = Cameras()) -> None:
    """Add photographs to the database `path`, or replace their features there; matches of the replaced are deleted.

    Args:
        path: of the database, which is created if missing.
        entries: the photographs.
        cameras: which of them share a camera.

    Raises:
        ItemError: there is no room for it, or COLMAP reports an error.
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # All pages are in SQLite's write-ahead log first, and then in the database too.
    check_room(path.parent, 2 * (sum(entry.part.stat().st_size + _ROW for entry in entries) + _EMPTY))
    roots = list(dict.fromkeys(entry.root for entry in entries))
    try:
        with tempfile.TemporaryDirectory(prefix="idsr-") as folder:
            substitutes = {root: Path(folder) / str(i) for i, root in enumerate(roots)}
            readable = [_readable(entry, substitutes[entry.root]) for entry in entries]
            ids = _import_images(path, readable, roots, cameras)
            # pycolmap has its own copy of SQLite. Two copies must not have one file open at the same time: closing it
            # in one drops the locks of the other.
            _forget(path, ids)
            _write_features(path, readable, ids)
            _remember(path, readable, ids)
        _suit_older_versions(path)
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


def _readable(entry: Entry, folder: Path) -> Entry:
    """The entry, with a photograph that COLMAP can read: a flat JPEG in `folder` if it cannot read its format."""
    if Path(entry.name).suffix.lower() in _COLMAP_READS:
        return entry
    from idsr_cli.images.metadata import Metadata
    from idsr_cli.images.photo import Photo, encode, read_photo

    try:
        photo = read_photo(entry.root / entry.name)
        if max(photo.width, photo.height) > _JPEG_SIDE:
            return entry
        flat = Photo(photo.rgb * 0, grey=True, metadata=Metadata(exif=photo.metadata.exif))
        data = encode(flat, flat.rgb, "JPEG", 1)
    except (ItemError, OSError):  # it has changed since: `_register` gives it a camera
        return entry
    target = folder / entry.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return replace(entry, root=folder)


def _import_images(path: Path, entries: Sequence[Entry], roots: Collection[Path], cameras: Cameras) -> dict[str, int]:
    """Register the photographs through COLMAP's import; returns their image ids by name.

    Args:
        path: of the database.
        entries: the photographs as COLMAP can read them.
        roots: folders in which photographs of the database may be.
        cameras: which share a camera.
    """
    identities = {entry.name: _camera_identity(entry.root / entry.name) for entry in entries}
    records = _records(path)
    with _opened(path) as database:
        replaced = _replaced(database, entries, identities, records, cameras)
    _remove_images(path, replaced)
    with _opened(path) as database:
        missing = [entry for entry in entries if not database.exists_image(entry.name)]
    groups = {
        entry.name: cameras.group(entry.name, entry.keypoints().image_size, identities[entry.name]) for entry in missing
    }
    known = _known_cameras(path, roots, cameras) if any(groups.values()) else {}
    by_root: dict[Path, list[str]] = {}
    for entry in missing:
        by_root.setdefault(entry.root, []).append(entry.name)
    for root, names in by_root.items():
        _import_folder(path, root, names, groups, known, cameras)
    ids = {}
    with _opened(path) as database:
        for entry in entries:
            image = database.read_image_with_name(entry.name)
            ids[entry.name] = (
                image.image_id if image is not None else _register(database, entry, groups[entry.name], known, cameras)
            )
    _write_frames(path)
    return ids


def _import_folder(
    path: Path,
    root: Path,
    names: Sequence[str],
    groups: Mapping[str, str | None],
    known: dict[str, int],
    cameras: Cameras,
) -> None:
    """Import the photographs `names` of a folder; new cameras are added to `known`, group -> camera."""
    import pycolmap

    alone = cameras.mode == "auto"  # COLMAP itself finds the groups of this mode among photographs without a camera
    batches: dict[int | str | None, list[str]] = {}
    for name in names:
        group = groups[name]
        batches.setdefault(known.get(group or "") if alone else group, []).append(name)
    for batch in batches.values():
        options = pycolmap.ImageReaderOptions()
        options.camera_model = cameras.model
        camera = known.get(groups[batch[0]] or "")
        if camera is not None:
            options.existing_camera_id = camera
        mode = pycolmap.CameraMode.AUTO if alone or camera is not None else pycolmap.CameraMode.SINGLE
        pycolmap.import_images(str(path), str(root), camera_mode=mode, image_names=batch, options=options)
    with _opened(path) as database:
        for name in names:
            image, group = database.read_image_with_name(name), groups[name]
            if image is not None and group is not None:
                known.setdefault(group, image.camera_id)


def _camera_identity(photo: Path) -> str | None:
    """What COLMAP tells cameras apart by: maker, model, focal length and size; None if EXIF does not say."""
    from PIL import Image

    try:
        with Image.open(photo) as image:
            exif = image.getexif()
            details, (width, height) = exif.get_ifd(0x8769), image.size
            focal = details.get(0xA405) or details.get(0x920A)  # of 35 mm film, or in millimetres
            parts = [str(exif.get(tag, "")).strip("\0 ") for tag in (0x010F, 0x0110)]
    except Exception:  # Pillow raises many kinds on damaged files: COLMAP will not read it either
        return None
    return "/".join([*parts, f"{float(focal):g}", f"{width}x{height}"]) if all(parts) and focal else None


def _records(path: Path) -> dict[int, Mapping[str, Any]]:
    """Image id -> how its features were made, from the table `idsr`."""
    with closing(sqlite3.connect(path)) as database:
        if not _columns(database, "idsr"):
            return {}
        return {number: json.loads(meta) for number, meta in database.execute("SELECT image_id, meta FROM idsr")}


def _known_cameras(path: Path, roots: Collection[Path], cameras: Cameras) -> dict[str, int]:
    """Group of photographs -> the first camera of the database that it has; EXIF as recorded, or of the photographs."""
    recorded = {number: meta[_IDENTITY] for number, meta in _records(path).items() if _IDENTITY in meta}
    known: dict[str, int] = {}
    seen: set[int] = set()
    with _opened(path) as database:
        for image in sorted(database.read_all_images(), key=lambda image: image.image_id):
            camera = image.camera_id
            identity = recorded.get(image.image_id)
            if cameras.mode == "auto" and identity is None and camera not in seen and image.image_id not in recorded:
                found = (_camera_identity(root / image.name) for root in roots)
                identity = next(filter(None, found), None)
            seen.add(camera)
            size = database.read_camera(camera)
            group = cameras.group(image.name, (size.width, size.height), identity)
            if group is not None and group.endswith(f"/{size.width}x{size.height}"):
                known.setdefault(group, camera)
    return known


def _replaced(
    database: pycolmap.Database,
    entries: Sequence[Entry],
    identities: Mapping[str, str | None],
    records: Mapping[int, Mapping[str, Any]],
    cameras: Cameras,
) -> list[int]:
    """Ids of the images that need another camera.

    Their photograph is another one now (of another size, or taken with another camera), or they were registered by
    other `Cameras`; what COLMAP registered itself keeps its camera.
    """
    found = []
    for entry in entries:
        image = database.read_image_with_name(entry.name)
        if image is None:
            continue
        camera = database.read_camera(image.camera_id)
        meta = records.get(image.image_id, {})
        same = meta.get(_IDENTITY, identities[entry.name]) == identities[entry.name]
        same &= not meta or Cameras.recorded(meta) == cameras
        if (camera.width, camera.height) != tuple(entry.keypoints().image_size) or not same:
            found.append(image.image_id)
    return found


def _remove_images(path: Path, ids: Sequence[int]) -> None:
    """Remove images and everything that hangs on them; cameras, rigs and frames that nothing else uses too.

    Raises:
        ItemError: an image is part of a frame with others.
    """
    if not ids:
        return
    _forget(path, {str(number): number for number in ids})
    with closing(sqlite3.connect(path)) as database, database:
        has_frames = bool(_columns(database, "frame_data"))
        for number in ids:
            name, camera = database.execute(
                "SELECT name, camera_id FROM images WHERE image_id = ?", [number]
            ).fetchone()
            if has_frames:
                _remove_frame(database, path, number, name)
            for column in ("corr_data_id", "image_id"):
                if column in _columns(database, "pose_priors"):
                    database.execute(f"DELETE FROM pose_priors WHERE {column} = ?", [number])
            database.execute("DELETE FROM images WHERE image_id = ?", [number])
            if not database.execute("SELECT 1 FROM images WHERE camera_id = ?", [camera]).fetchone():
                _remove_camera(database, camera, has_frames)


def _remove_frame(database: sqlite3.Connection, path: Path, image: int, name: str) -> None:
    query = "SELECT frame_id FROM frame_data WHERE data_id = ? AND sensor_type = ?"
    for (frame,) in database.execute(query, [image, _CAMERA_SENSOR]).fetchall():
        if database.execute("SELECT count(*) FROM frame_data WHERE frame_id = ?", [frame]).fetchone()[0] > 1:
            raise ItemError(
                f"`{name}` has another size or camera than before, and is part of a frame with other photographs",
                path=path,
                hint="choose another OUT",
            )
        database.execute("DELETE FROM frame_data WHERE frame_id = ?", [frame])
        database.execute("DELETE FROM frames WHERE frame_id = ?", [frame])


def _remove_camera(database: sqlite3.Connection, camera: int, has_frames: bool) -> None:
    if has_frames:
        sensor = [camera, _CAMERA_SENSOR]
        if database.execute("SELECT 1 FROM rig_sensors WHERE sensor_id = ? AND sensor_type = ?", sensor).fetchone():
            return  # part of a rig with other cameras
        query = "SELECT rig_id FROM rigs WHERE ref_sensor_id = ? AND ref_sensor_type = ?"
        for (rig,) in database.execute(query, sensor).fetchall():
            for table in ("rig_sensors", "frames"):
                if database.execute(f"SELECT 1 FROM {table} WHERE rig_id = ?", [rig]).fetchone():
                    return
            database.execute("DELETE FROM rigs WHERE rig_id = ?", [rig])
    database.execute("DELETE FROM cameras WHERE camera_id = ?", [camera])


def _write_frames(path: Path) -> None:
    """Give each image without a frame one of its own: COLMAP's mapper stops if some images have frames and some not."""
    import pycolmap

    with closing(sqlite3.connect(path)) as reading:
        query = (
            "SELECT image_id FROM images WHERE image_id NOT IN (SELECT data_id FROM frame_data WHERE sensor_type = ?)"
        )
        without = [row[0] for row in reading.execute(query, [_CAMERA_SENSOR])]
    if not without:
        return
    with _opened(path) as database:
        for number in without:
            image = database.read_image(number)
            sensor = database.read_camera(image.camera_id).sensor_id
            rig = database.read_rig_with_sensor(sensor)
            if rig is None:
                rig = pycolmap.Rig()
                rig.add_ref_sensor(sensor)
                rig.rig_id = database.write_rig(rig)
            frame = pycolmap.Frame()
            frame.rig_id = rig.rig_id
            frame.add_data_id(image.data_id)
            database.write_frame(frame)


def _register(
    database: pycolmap.Database, entry: Entry, group: str | None, known: dict[str, int], cameras: Cameras
) -> int:
    """Register an image that COLMAP's import skipped, with the camera of its group or one of its own; returns its id.

    COLMAP skips files that it cannot read, and photographs whose size differs from others of the same camera.
    """
    import pycolmap

    width, height = entry.keypoints().image_size
    if group is None or group not in known:
        camera = pycolmap.Camera.create_from_model_name(
            0, cameras.model, _FOCAL_FACTOR * max(width, height), width, height
        )
        number = database.write_camera(camera)
        if group is not None:
            known[group] = number
    else:
        number = known[group]
    return int(database.write_image(pycolmap.Image(name=entry.name, camera_id=number)))


# --- COLMAP 3 --------------------------------------------------------------------------------------------------------


def _suit_older_versions(path: Path) -> None:
    """Let COLMAP 3.8 to 3.13 read the database too, all of whose statements must compile when they open it.

    3.8 and 3.9 have the pose priors in `images`; 3.10 to 3.13 have a table of them by image. COLMAP 4 reads the former
    without noticing, and turns the latter into its own table when it opens the database: 3.10 to 3.13 cannot open it
    from then on, 3.8 and 3.9 can.
    """
    with closing(sqlite3.connect(path)) as database, database:
        columns = _columns(database, "images")
        for name in _PRIOR_COLUMNS:
            if name not in columns:
                database.execute(f"ALTER TABLE images ADD COLUMN {name} REAL")
        priors = _columns(database, "pose_priors")
        if "corr_data_id" not in priors:
            return
        read = "SELECT corr_data_id, position FROM pose_priors WHERE corr_sensor_type = ? AND coordinate_system = ?"
        write = "UPDATE images SET prior_tx = ?, prior_ty = ?, prior_tz = ? WHERE image_id = ?"
        for image, position in database.execute(read, [_CAMERA_SENSOR, _WGS84]).fetchall():
            if position is not None:
                database.execute(write, [*struct.unpack("<3d", position), image])
        if _has_only_positions(database):
            _turn_priors_back(database)


_PRIOR_COLUMNS = tuple(f"prior_{name}" for name in ("qw", "qx", "qy", "qz", "tx", "ty", "tz"))


def _has_only_positions(database: sqlite3.Connection) -> bool:
    """Whether the older table of pose priors can hold those of COLMAP 4: one for an image, and no gravity."""
    gravity = "gravity" if "gravity" in _columns(database, "pose_priors") else "NULL"
    rows = database.execute(
        f"SELECT corr_data_id, corr_sensor_type, {gravity}, image_id FROM pose_priors "
        "LEFT JOIN images ON corr_data_id = image_id"
    ).fetchall()
    known = all(kind == _CAMERA_SENSOR and image is not None for _, kind, _, image in rows)
    level = all(g is None or all(n != n for n in struct.unpack("<3d", g)) for _, _, g, _ in rows)
    return known and level and len({image for image, *_ in rows}) == len(rows)


def _turn_priors_back(database: sqlite3.Connection) -> None:
    """COLMAP 4's table of pose priors -> that of 3.10 to 3.13."""
    rows = database.execute(
        "SELECT corr_data_id, position, coordinate_system, position_covariance FROM pose_priors"
    ).fetchall()
    database.execute("DROP TABLE pose_priors")
    database.execute(
        "CREATE TABLE pose_priors (image_id INTEGER PRIMARY KEY NOT NULL, position BLOB, "
        "coordinate_system INTEGER NOT NULL, position_covariance BLOB, "
        "FOREIGN KEY(image_id) REFERENCES images(image_id) ON DELETE CASCADE)"
    )
    database.executemany("INSERT INTO pose_priors VALUES (?, ?, ?, ?)", rows)


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
    rows = [
        (
            ids[entry.name],
            json.dumps({**entry.meta, _IDENTITY: _camera_identity(entry.root / entry.name)}, sort_keys=True),
        )
        for entry in entries
    ]
    with closing(sqlite3.connect(path)) as database, database:
        database.executemany("INSERT INTO idsr VALUES (?, ?)", rows)


# --- parts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Image:
    """An image of a part that is not in the database yet; `group` is that of `Cameras.group`."""

    name: str
    part: int
    number: int
    camera: int
    group: str | None


def merge(path: Path, parts: Sequence[Path], base: Path | None = None) -> int:
    """Join databases that `add` wrote, of different photographs, into one.

    Photographs of one group of `Cameras` share a camera; of cameras of one group, that of the first photograph is kept.
    Cameras, rigs, frames and images get new ids; images are numbered in natural order of their names. Positions come
    along, matches do not. The file is there completely or not at all.

    Args:
        path: of the database to write.
        parts: the databases. A photograph may be in several with the same features.
        base: a database whose ids and matches are kept, to which the photographs of the parts are added.

    Returns:
        Number of photographs that were added; if it is 0, nothing is written.

    Raises:
        UsageError: a photograph has other features in another part, or a part has rigs of several cameras.
        ItemError: there is no room for it, or COLMAP reports an error.
        OSError: the file cannot be written.
    """
    images = sorted(_new_images(parts, base), key=lambda image: path_key(image.name))
    if not images:
        return 0
    sizes = [part.stat().st_size for part in parts]
    path.parent.mkdir(parents=True, exist_ok=True)
    check_room(path.parent, sum(sizes) + max(sizes) + (base.stat().st_size if base else 0) + _EMPTY)  # with a log
    try:
        with atomic_path(path) as temporary:
            if base is not None:
                with _reading(base) as source, closing(sqlite3.connect(temporary)) as copy:
                    source.backup(copy)
            with _opened(temporary):  # makes COLMAP's tables, or turns older ones into its own
                pass
            if base is not None:
                _remove_images(temporary, _without_features(temporary, {image.name for image in images}))
            with _reading(parts[images[0].part]) as first:
                cameras = Cameras.recorded(json.loads(first.execute("SELECT meta FROM idsr LIMIT 1").fetchone()[0]))
            known = _known_cameras(temporary, [], cameras) if base is not None else {}
            _copy_images(temporary, parts, images, known)
            _write_frames(temporary)
            _suit_older_versions(temporary)
    except (sqlite3.Error, RuntimeError, ValueError) as error:
        raise ItemError(f"COLMAP's database refuses: {' '.join(str(error).split())}", path=path) from error
    return len(images)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(_uri(path), uri=True)) as database:
        yield database


def _new_images(parts: Sequence[Path], base: Path | None) -> Iterator[_Image]:
    """The images of the parts that `base` does not have, each once."""
    seen: dict[str, Path] = {}
    if base is not None:
        with _reading(base) as database:
            names = database.execute("SELECT name FROM images JOIN keypoints USING (image_id)")
            seen = {name: base for (name,) in names}
    query = (
        "SELECT name, image_id, camera_id, width, height, meta FROM images JOIN cameras USING (camera_id) "
        "JOIN keypoints USING (image_id) JOIN descriptors USING (image_id) JOIN idsr USING (image_id)"
    )
    for index, part in enumerate(parts):
        with _reading(part) as database:
            if database.execute("SELECT 1 FROM rig_sensors").fetchone():
                raise UsageError("has rigs of several cameras, which cannot be merged", path=part)
            for name, number, camera, width, height, text in database.execute(query):
                first = seen.setdefault(name, part)
                if first is part:
                    meta = json.loads(text)
                    group = Cameras.recorded(meta).group(name, (width, height), meta.get(_IDENTITY))
                    yield _Image(name, index, number, camera, group)
                elif _features(first, name) != _features(part, name):
                    raise UsageError(f"`{name}` is in {first} too, with other keypoints", path=part)


def _features(path: Path, name: str) -> tuple[Any, ...]:
    query = (
        "SELECT keypoints.rows, keypoints.cols, keypoints.data, descriptors.data FROM images "
        "JOIN keypoints USING (image_id) JOIN descriptors USING (image_id) WHERE name = ?"
    )
    with _reading(path) as database:
        return tuple(database.execute(query, [name]).fetchone())


def _without_features(path: Path, names: Set[str]) -> list[int]:
    """Ids of the images of these names: a writer that was killed has registered them, and no more."""
    with closing(sqlite3.connect(path)) as database:
        return [number for number, name in database.execute("SELECT image_id, name FROM images") if name in names]


def _copy_images(path: Path, parts: Sequence[Path], images: Sequence[_Image], known: dict[str, int]) -> None:
    """Copy images, cameras, features and positions; `known` are the groups that have a camera already."""
    with closing(sqlite3.connect(path.absolute().as_uri(), uri=True)) as database:
        database.execute("CREATE TABLE IF NOT EXISTS idsr (image_id INTEGER PRIMARY KEY NOT NULL, meta TEXT NOT NULL)")
        last_image = database.execute("SELECT coalesce(max(image_id), 0) FROM images").fetchone()[0]
        last_camera = database.execute("SELECT coalesce(max(camera_id), 0) FROM cameras").fetchone()[0]
        # Of each part: (image there, image here, camera here), and camera there -> camera here for those to copy.
        numbers: dict[int, list[tuple[int, int, int]]] = {}
        copied: dict[int, dict[int, int]] = {}
        cameras: dict[tuple[int, int], int] = {}
        for new, image in enumerate(images, last_image + 1):
            there = image.part, image.camera
            if there not in cameras:
                if image.group is None or image.group not in known:
                    last_camera += 1
                    copied.setdefault(image.part, {})[image.camera] = last_camera
                    if image.group is not None:
                        known[image.group] = last_camera
                cameras[there] = last_camera if image.group is None else known[image.group]
            numbers.setdefault(image.part, []).append((image.number, new, cameras[there]))
        database.execute("CREATE TEMP TABLE numbers (there INTEGER PRIMARY KEY, here INTEGER, camera INTEGER)")
        database.execute("CREATE TEMP TABLE copied (there INTEGER PRIMARY KEY, here INTEGER)")
        for index, rows in sorted(numbers.items()):
            database.execute("ATTACH ? AS part", [_uri(parts[index])])
            with database:
                database.executemany("INSERT INTO numbers VALUES (?, ?, ?)", rows)
                database.executemany("INSERT INTO copied VALUES (?, ?)", copied.get(index, {}).items())
                _copy_part(database)
                database.execute("DELETE FROM numbers")
                database.execute("DELETE FROM copied")
            database.execute("DETACH part")


def _copy_part(database: sqlite3.Connection) -> None:
    """Copy the images and cameras of the attached database `part` that the tables `numbers` and `copied` name."""
    old = "corr_data_id" not in {row[1] for row in database.execute("PRAGMA part.table_info(pose_priors)")}
    image, gravity = ("image_id", "NULL") if old else ("corr_data_id", "gravity")
    kind = "" if old else f"AND corr_sensor_type = {_CAMERA_SENSOR}"
    for statement in (
        "INSERT INTO cameras SELECT here, model, width, height, params, prior_focal_length "
        "FROM part.cameras JOIN copied ON there = camera_id",
        "INSERT INTO images (image_id, name, camera_id) SELECT here, name, camera "
        "FROM part.images JOIN numbers ON there = image_id",
        "INSERT INTO pose_priors (corr_data_id, corr_sensor_id, corr_sensor_type, position, position_covariance, "
        f"gravity, coordinate_system) SELECT here, camera, {_CAMERA_SENSOR}, position, position_covariance, {gravity}, "
        f"coordinate_system FROM part.pose_priors JOIN numbers ON there = {image} {kind}",
        "INSERT INTO keypoints (image_id, rows, cols, data) SELECT here, rows, cols, data "
        "FROM part.keypoints JOIN numbers ON there = image_id",
        "INSERT INTO descriptors (image_id, type, rows, cols, data) SELECT here, type, rows, cols, data "
        "FROM part.descriptors JOIN numbers ON there = image_id",
        "INSERT INTO idsr SELECT here, meta FROM part.idsr JOIN numbers ON there = image_id",
    ):
        database.execute(statement)
