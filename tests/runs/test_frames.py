"""Clips in a run, without a console: the names of their outputs, their frames as a batch, the index."""

import json
from pathlib import Path, PurePath
from typing import Any

import pytest

from idsr_cli.errors import UsageError
from idsr_cli.images.photo import Photo
from idsr_cli.runs.batch import run_batch
from idsr_cli.runs.frames import (
    ClipWork,
    clip_settings,
    clips_naming,
    frame_meta,
    frames_naming,
)
from idsr_cli.runs.outputs import Made, Outputs, PhotoWork
from idsr_cli.runs.plan import Item, Naming
from idsr_cli.runs.request import Request
from idsr_cli.runs.stamps import Stamps

SAME = Naming(lambda relative: relative, frozenset({".png"}), makes_photos=True)


class Counter:
    """A listener that keeps what it hears of frames."""

    def __init__(self) -> None:
        self.total, self.done, self.errors = 1, 0, []

    def expect(self, more: int) -> None:
        self.total += more

    def started(self, item: Any) -> None:
        pass

    def computed(self) -> None:
        pass

    def advance(self) -> None:
        self.done += 1

    def error(self, error: Exception, cause: object = None) -> None:
        self.errors.append(str(error))

    def note(self, text: str) -> None:
        self.errors.append(text)


@pytest.mark.parametrize(
    ("name", "as_frames", "as_clip"),
    [
        ("a/x.png", "a/x.png", "a/x.png"),
        ("a/x.mp4", "a/x.mp4/frames.json", "a/x.mp4"),
        ("a/x.avi", "a/x.avi/frames.json", "a/x.avi.mkv"),
    ],
)
def test_names(name: str, as_frames: str, as_clip: str) -> None:
    assert frames_naming(SAME).rename(PurePath(name)).as_posix() == as_frames
    assert clips_naming(SAME).rename(PurePath(name)).as_posix() == as_clip


def test_settings_of_clips_decide_nothing_without_clips() -> None:
    photo = Item(Path("x.png"), Path("out/x.png"), PurePath("x.png"))
    assert clip_settings([photo], 2, None) == {}
    with pytest.raises(UsageError, match="exclude each other"):
        clip_settings([photo], 2, 3.0)
    with pytest.raises(UsageError, match="a photograph cannot be written as a clip"):
        clip_settings([Item(Path("x.png"), Path("out.mp4"), PurePath("x.png"))], 1, None)


class Texts:
    """An output that writes the number and size of each frame as text; frame 2 fails."""

    kind, roles, masked, suffix, resumes = "texts", "", False, ".txt", True
    stamps = Stamps(None, {})

    def __init__(self, request: Request) -> None:
        self.request = request

    def plan(self) -> list[Item]:
        return self.request.plan(frames_naming(SAME))

    def accept(self, item: Item, photo: Photo) -> None:
        pass

    def write(self, item: Item, made: Made) -> tuple[str, ...]:
        number = frame_meta(item)["frame"]["index"]
        if number == 2:
            raise MemoryError
        assert item.target is not None
        item.target.write_text(f"{number} {made.photo.width}x{made.photo.height}")
        return ()

    def finish(self, items: Any) -> None:
        pass


def test_frames_become_files_and_an_index(clips: Any, tmp_path: Path) -> None:
    source, out, listener = clips.make("a.mp4", 6), tmp_path / "out", Counter()
    request = Request([str(source)], f"{out}/", jobs=1)
    outputs = Outputs([Texts(request)])
    (item,) = outputs.plan()
    assert clip_settings([item], 2, None) == {"every": 2, "fps": None, "crf": None}
    work = ClipWork(PhotoWork(outputs, None), request, listener, every=2)  # type: ignore[arg-type]
    results: list[Any] = []
    run_batch([item], work.stages, results.append)
    assert (results[0].saved.frames, results[0].saved.lost, results[0].saved.keypoints) == (2, 1, None)
    assert (listener.total, listener.done) == (3, 2)  # the first frame counts as the clip itself
    assert listener.errors == [f"{source}, frame 000002: out of memory (try a smaller `--tile` or `--jobs 1`)"]
    folder = out / "a.mp4"
    assert sorted(path.name for path in folder.iterdir()) == ["000000.txt", "000004.txt", "frames.json"]
    assert (folder / "000004.txt").read_text() == "4 64x48"
    index = json.loads((folder / "frames.json").read_text())
    assert [frame["index"] for frame in index["frames"]] == [0, 4]
    assert index["lost"] == 1
