"""Clips come back with every frame, at its time, with sound, tags and colours; or not at all."""

import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

av = pytest.importorskip("av")

from idsr_cli.clips.matroska import segment_end  # noqa: E402
from idsr_cli.clips.reader import CLIP_FORMATS, CLIP_SUFFIXES, Clip, Frame, sampled  # noqa: E402
from idsr_cli.clips.writer import write_clip  # noqa: E402
from idsr_cli.errors import ItemError, UsageError, extra_hint  # noqa: E402

FFMPEG_FULL_RANGE = 2
DATA = Path(__file__).parents[1] / "data"


def derained(source: Path, target: Path, crf: int = 12, change: float | None = 1.0) -> SimpleNamespace:
    """Copy a clip with its frames multiplied (None = unchanged); returns what the reader and the writer reported."""
    with Clip(source) as clip:
        frames = clip.frames()
        first = next(frames)
        with write_clip(target, clip, first, crf) as writer:
            for frame in [first, *frames]:
                rgb = None if change is None else frame.rgb() * np.float32(change)
                writer.put(writer.picture(frame, rgb))
        return SimpleNamespace(shown=clip.shown, damaged=clip.damaged, faults=clip.faults, notes=writer.notes)


def described(path: Path, number) -> SimpleNamespace:
    """Properties of a clip as read by PyAV alone."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        found = SimpleNamespace(
            numbers=[number(frame.to_ndarray(format="rgb24")) for frame in frames],
            times=[Fraction(frame.pts) * frame.time_base for frame in frames],
            rate=stream.average_rate,
            size=(frames[0].width, frames[0].height),
            codec=stream.codec_context.name,
            pixels=frames[0].format.name,
            colours=tuple(
                int(getattr(frames[0], name)) for name in ("color_range", "color_primaries", "color_trc", "colorspace")
            ),
            matrix=next((bytes(d) for d in frames[0].side_data if "DISPLAYMATRIX" in str(d.type)), None),
            streams=[stream.type for stream in container.streams],
            tags=dict(container.metadata),
        )
    with av.open(str(path)) as container:
        sounds = [packet for packet in container.demux(audio=0) if packet.size] if "audio" in found.streams else []
        found.sound = hashlib.md5(b"".join(map(bytes, sounds))).hexdigest() if sounds else None
        found.sound_begins = float(sounds[0].pts * sounds[0].time_base) if sounds else None
    return found


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_every_frame_once_in_order_at_its_time(clips, tmp_path) -> None:
    source = clips.make("a.mp4", 24)  # x264 makes B-frames, which are stored out of order
    assert derained(source, tmp_path / "b.mp4").shown == 24
    before, after = (described(path, clips.number) for path in (source, tmp_path / "b.mp4"))
    assert after.numbers == before.numbers == list(range(24))
    assert after.times == before.times == [number * Fraction(1001, 30000) for number in range(24)]
    assert after.rate == Fraction(30000, 1001)


def test_uneven_times(clips, tmp_path) -> None:
    times = [120, 170, 204, 237, 290, 300, 333, 433, 453, 603]
    source = clips.make("a.mp4", times=times, unit=Fraction(1, 1000))
    for name in ("b.mp4", "b.mov", "b.mkv"):
        derained(source, tmp_path / name)
        found = described(tmp_path / name, clips.number)
        assert found.numbers == list(range(10))
        assert found.times == [Fraction(time, 1000) for time in times]


@pytest.mark.parametrize("suffix", list(CLIP_FORMATS))
@pytest.mark.parametrize(("rotation", "mirrored"), [(90, False), (180, False), (270, False), (0, True)])
def test_rotation_is_a_tag_and_the_grid_is_as_stored(clips, tmp_path, suffix, rotation, mirrored) -> None:
    source = clips.make("a.mp4", 2, rotation=rotation, mirrored=mirrored)
    derained(source, tmp_path / f"b{suffix}")
    before, after = (described(path, clips.number) for path in (source, tmp_path / f"b{suffix}"))
    assert before.matrix is not None
    assert (after.size, after.matrix, after.numbers) == ((64, 48), before.matrix, [0, 1])


def test_sound_is_copied(clips, tmp_path) -> None:
    source = clips.make("a.mp4", 12, sound=0.5)
    before = described(source, clips.number)
    for name in ("b.mp4", "b.mov", "b.mkv"):
        assert derained(source, tmp_path / name).notes == []
        after = described(tmp_path / name, clips.number)
        assert after.sound == before.sound is not None
        # In step with the pictures, wherever the container's clock begins.
        offset = before.sound_begins - float(before.times[0])
        assert after.sound_begins - float(after.times[0]) == pytest.approx(offset, abs=0.002)
    assert derained(source, tmp_path / "b.webm").notes == ["not copied into webm: audio (aac)"]
    assert described(tmp_path / "b.webm", clips.number).streams == ["video"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_where_and_when_and_with_what_it_was_taken(clips, tmp_path, suffix) -> None:
    tags = {
        "com.apple.quicktime.location.ISO6709": "+48.1333+011.5667+500/",
        "com.apple.quicktime.make": "Apple",
        "com.apple.quicktime.model": "iPhone 99",
        "com.apple.quicktime.creationdate": "2024-05-06T07:08:09+0200",
        "title": "Rain",
    }
    source = clips.make("a.mov", 2, tags=tags, muxer={"movflags": "use_metadata_tags"})
    derained(source, tmp_path / f"b{suffix}")
    derained(tmp_path / f"b{suffix}", tmp_path / "c.mp4")
    found = described(tmp_path / "c.mp4", clips.number).tags
    assert {key: found.get(key) for key in tags} == tags


def test_common_tags_of_mp4_stay_where_all_players_find_them(clips, tmp_path) -> None:
    tags = {"title": "Rain", "artist": "N.", "date": "2024", "location": "+48.1000+011.5000/"}
    derained(clips.make("a.mkv", 2, tags=tags), tmp_path / "b.mp4")
    found = described(tmp_path / "b.mp4", clips.number).tags
    assert {key: found.get(key) for key in tags} == tags
    data = (tmp_path / "b.mp4").read_bytes()
    assert b"\xa9nam" in data
    assert b"mdta" not in data


@pytest.mark.parametrize("suffix", list(CLIP_FORMATS))
@pytest.mark.parametrize("shape", [Fraction(4, 3), Fraction(64, 45), Fraction(8, 9)])
@pytest.mark.parametrize("kind", [{"codec": "libx264", "rotation": 90}, {"codec": "mpeg4"}])
def test_the_shape_of_pixels_is_kept(clips, tmp_path, suffix, shape, kind) -> None:
    source = clips.make("a.mp4", 2, shape=shape, size=(72, 56), tags={"title": "t"}, **kind)
    derained(source, tmp_path / f"b{suffix}")
    with av.open(str(tmp_path / f"b{suffix}")) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio == shape
        assert "title" not in stream.metadata
        assert len(list(container.decode(stream))) == 2
    if suffix in (".mkv", ".webm"):
        assert segment_end(tmp_path / f"b{suffix}") == (tmp_path / f"b{suffix}").stat().st_size
        data = (tmp_path / f"b{suffix}").read_bytes()
        across, down = (data.index(number) for number in (b"\x54\xb0", b"\x54\xba"))
        assert Fraction(data[across + 3], data[down + 3]) == shape * 72 / 56
        assert b"\x54\xb2" not in data[:down]  # the unit is pixels


def test_a_name_of_the_video_track_stays(clips, tmp_path) -> None:
    source = clips.make("a.mkv", 2, shape=Fraction(4, 3))
    with Clip(source) as clip:
        clip.stream.metadata["title"] = "Regen über \N{SNOWMAN}"
        frames = clip.frames()
        first = next(frames)
        with write_clip(tmp_path / "b.mkv", clip, first) as writer:
            writer.put(writer.picture(first, None))
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert container.streams.video[0].metadata["title"] == "Regen über \N{SNOWMAN}"


@pytest.mark.parametrize(
    ("codec", "suffix", "left_out"),
    [
        ("pcm_s16le", ".mp4", "audio (pcm_s16le)"),
        ("pcm_s16le", ".webm", "audio (pcm_s16le)"),
        ("pcm_u8", ".mp4", "audio (pcm_u8)"),
        ("wavpack", ".mov", "audio (wavpack)"),
        ("pcm_s16le", ".mov", None),
        ("pcm_u8", ".mkv", None),
        ("flac", ".mp4", None),
        ("libopus", ".webm", None),
    ],
)
def test_sound_that_the_container_cannot_hold(clips, tmp_path, codec, suffix, left_out) -> None:
    source = clips.make("a.mkv", 5, sound=0.2, sound_codec=codec)
    with Clip(source) as clip:
        frames = clip.frames()
        first = next(frames)
        with write_clip(tmp_path / f"b{suffix}", clip, first) as writer:
            # Said before the first frame is encoded.
            assert writer.notes == ([f"not copied into {CLIP_FORMATS[suffix]}: {left_out}"] if left_out else [])
            for frame in [first, *frames]:
                writer.put(writer.picture(frame, None))
    found = described(tmp_path / f"b{suffix}", clips.number)
    assert found.numbers == [0, 1, 2, 3, 4]
    assert found.streams == (["video"] if left_out else ["video", "audio"])


def with_subtitles(clips, name: str, *, sounds: int = 1) -> Path:
    """A clip with subtitles, made from one without."""
    path = clips.folder / name
    with av.open(str(clips.make("plain.mkv", 30, sound=1.0))) as source, av.open(str(path), "w") as container:
        pictures, sound = source.streams.video[0], source.streams.audio[0]
        copies = [container.add_stream_from_template(stream) for stream in (pictures, *[sound] * sounds)]
        text = container.add_mux_stream("subrip")
        text.time_base = Fraction(1, 1000)
        for packet in source.demux(pictures, sound):
            for copy in copies[1:] if packet.stream is sound else copies[:1]:
                if packet.size:
                    again = av.Packet(bytes(packet))
                    again.pts, again.dts, again.duration = packet.pts, packet.dts, packet.duration
                    again.time_base, again.is_keyframe, again.stream = packet.time_base, packet.is_keyframe, copy
                    container.mux(again)
        for start in (200, 200, 600):
            packet = av.Packet(b"rain")
            packet.pts = packet.dts = start
            packet.duration, packet.time_base, packet.stream = 300, Fraction(1, 1000), text
            container.mux(packet)
    return path


def subtitle_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(packet.pts * packet.time_base) for packet in container.demux(subtitles=0) if packet.size]


def test_subtitles(clips, tmp_path) -> None:
    source = with_subtitles(clips, "a.mkv", sounds=2)
    assert derained(source, tmp_path / "b.mkv").notes == []
    assert described(tmp_path / "b.mkv", clips.number).streams == ["video", "audio", "audio", "subtitle"]
    assert subtitle_times(tmp_path / "b.mkv") == subtitle_times(source) == [0.2, 0.2, 0.6]
    assert derained(source, tmp_path / "b.mp4").notes == ["not copied into mp4: subtitle (srt)"]


def test_subtitles_of_joined_recordings(clips, tmp_path) -> None:
    part = with_subtitles(clips, "a.mkv")
    derained(joined(clips, "both.mkv", part, part), tmp_path / "b.mkv")
    times = [float(time) for time in described(tmp_path / "b.mkv", clips.number).times]
    moved = times[30] - times[0]
    assert subtitle_times(tmp_path / "b.mkv") == pytest.approx([0.2, 0.2, 0.6, 0.2 + moved, 0.2 + moved, 0.6 + moved])


@pytest.mark.parametrize(
    ("name", "known", "unknown", "left_out"),
    [
        ("a.mov", b"sowt", b"zzzz", "audio (of an unknown kind)"),
        ("a.mkv", b"A_AAC", b"A_XYZ", "audio (of an unknown kind), audio (of an unknown kind)"),
        ("a.mkv", b"S_TEXT/UTF8", b"S_TEXT/XXXX", "subtitle (of an unknown kind)"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_streams_that_ffmpeg_does_not_know_are_left_out(
    clips, tmp_path, name, known, unknown, left_out, suffix
) -> None:
    source = (
        clips.make(name, 5, sound=0.2, sound_codec="pcm_s16le")
        if name == "a.mov"
        else with_subtitles(clips, name, sounds=2)
    )
    source.write_bytes(source.read_bytes().replace(known, unknown))
    told = derained(source, tmp_path / f"b{suffix}")
    assert told.damaged == 0
    assert left_out in told.notes[0]


@pytest.mark.parametrize("codec", ["aac", "ac3", "libopus"])
def test_a_stream_without_data(clips, tmp_path, codec) -> None:
    path = clips.folder / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = 64, 48
        container.add_stream(codec, rate=48000, layout="stereo")
        for number in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(clips.picture(number), "rgb24")))
        container.mux(stream.encode(None))
    for suffix in (".mp4", ".mkv", ".webm"):
        assert derained(path, tmp_path / f"b{suffix}").shown == 5


def test_sound_longer_than_the_pictures_is_copied_whole(clips, tmp_path) -> None:
    source = clips.make("a.mp4", 3, sound=2.0)
    derained(source, tmp_path / "b.mp4")
    assert described(tmp_path / "b.mp4", clips.number).sound == described(source, clips.number).sound


def test_tags_are_kept(clips, tmp_path) -> None:
    tags = {"title": "Rain", "creation_time": "2024-05-06T07:08:09.000000Z"}
    mp4 = clips.make("a.mp4", 2, tags={**tags, "location": "+48.1000+011.5000/"})
    mov = clips.make(
        "a.mov", 2, tags={**tags, "com.apple.quicktime.make": "X"}, muxer={"movflags": "use_metadata_tags"}
    )
    for source in (mp4, mov):
        derained(source, tmp_path / source.name)
        before, after = (described(path, clips.number).tags for path in (source, tmp_path / source.name))
        assert {key: value for key, value in before.items() if key != "encoder"} == after


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"])
def test_depth_and_chroma_are_kept(clips, tmp_path, pixels) -> None:
    ten_bit = pixels.endswith("10le")
    source = clips.make("a.mkv", 3, codec="libx265" if ten_bit else "libx264", pixels=pixels)
    derained(source, tmp_path / "b.mp4")
    found = described(tmp_path / "b.mp4", clips.number)
    assert (found.pixels, found.codec) == (pixels, "hevc" if ten_bit else "h264")


def test_full_range_and_primaries_are_kept(clips, tmp_path) -> None:
    source = clips.make("a.mp4", 3, full_bt709=True)
    derained(source, tmp_path / "b.mp4")
    assert described(tmp_path / "b.mp4", clips.number).colours == (FFMPEG_FULL_RANGE, 1, 1, 1)


@pytest.mark.parametrize("full_bt709", [False, True])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p"])
def test_pixels_survive_the_way_to_rgb_and_back(clips, tmp_path, full_bt709, pixels) -> None:
    """`crf` 0 loses nothing, so what differs comes from the conversions."""
    source = clips.make("a.mkv", 2, codec="ffv1" if not full_bt709 else "libx264", pixels=pixels, full_bt709=full_bt709)
    derained(source, tmp_path / "b.mkv", crf=0)
    for before, after in zip(planes(source), planes(tmp_path / "b.mkv"), strict=True):
        difference = np.abs(before[0] - after[0])
        assert (difference.mean(), np.quantile(difference, 0.99)) < (0.2, 2)
    derained(source, tmp_path / "c.mkv", crf=0, change=None)
    for before, after in zip(planes(source), planes(tmp_path / "c.mkv"), strict=True):
        assert all(np.array_equal(b, a) for b, a in zip(before, after, strict=True))  # not converted at all


def planes(path: Path) -> list[list[np.ndarray]]:
    with av.open(str(path)) as container:
        return [
            [np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width].astype(int) for p in frame.planes]
            for frame in container.decode(video=0)
        ]


def test_rgb_is_what_was_drawn(clips) -> None:
    path = clips.make("a.mkv", 2, codec="ffv1", pixels="bgr0")
    with Clip(path) as clip:
        for number, frame in enumerate(clip.frames()):
            rgb = frame.rgb()
            assert (rgb.shape, rgb.dtype, rgb.flags.c_contiguous) == ((48, 64, 3), np.float32, True)
            assert np.abs(rgb * 255 - clips.picture(number)).max() < 0.2


@pytest.mark.parametrize("size", [(63, 47), (63, 48), (64, 47), (2, 2), (17, 16)])
def test_any_size(clips, tmp_path, size) -> None:
    odd = size[0] % 2 or size[1] % 2
    source = clips.make("a.webm", 2, codec="libvpx-vp9", size=size)
    told = derained(source, tmp_path / "b.mp4")
    found = described(tmp_path / "b.mp4", lambda picture: 0)
    assert (found.size, found.pixels) == (size, "yuv444p" if odd else "yuv420p")
    assert told.notes == ([f"{size[0]}x{size[1]} is odd, so colour is stored at full size (4:4:4)"] if odd else [])


def test_one_frame(clips, tmp_path) -> None:
    derained(clips.make("a.mp4", 1), tmp_path / "b.mp4")
    assert described(tmp_path / "b.mp4", clips.number).numbers == [0]


def test_frames_that_an_edit_list_cuts_are_not_shown(clips, tmp_path) -> None:
    path = clips.make("a.mp4", 12)
    data = bytearray(path.read_bytes())
    start = data.index(b"elst") + 16  # version and flags, number of edits, length, then where the first begins
    data[start : start + 4] = (int.from_bytes(data[start : start + 4], "big") + 5 * 1001).to_bytes(4, "big")
    path.write_bytes(data)
    told = derained(path, tmp_path / "b.mp4")
    assert (told.shown, told.damaged) == (7, 0)
    assert described(tmp_path / "b.mp4", clips.number).numbers == [5, 6, 7, 8, 9, 10, 11]


def test_a_broadcast_clock_starts_at_zero(clips, tmp_path) -> None:
    source = clips.make("a.ts", 6, sound=0.3, muxer={"output_ts_offset": "5000"})
    with Clip(source) as clip:
        assert next(clip.frames()).time < 0.1
    derained(source, tmp_path / "b.mp4")
    before, after = (described(path, clips.number) for path in (source, tmp_path / "b.mp4"))
    assert before.times[0] > 4999
    assert after.numbers == list(range(6))
    offset = before.sound_begins - float(before.times[0])
    assert after.sound_begins - float(after.times[0]) == pytest.approx(offset, abs=0.002)


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [("a.avi", "mpeg4", "yuv420p"), ("a.mpg", "mpeg2video", "yuv420p"), ("a.flv", "libx264", "yuv420p"),
     ("a.mkv", "ffv1", "gray"), ("a.mov", "prores_ks", "yuv422p10le")],
)  # fmt: skip
def test_other_kinds_of_clips_are_read(clips, tmp_path, name, codec, pixels) -> None:
    source = clips.make(name, codec=codec, pixels=pixels, unit=Fraction(1, 25))
    assert source.suffix in CLIP_SUFFIXES
    assert derained(source, tmp_path / "b.mkv").damaged == 0
    assert described(tmp_path / "b.mkv", clips.number).numbers == list(range(10))


def test_the_same_clip_gives_the_same_bytes(clips, tmp_path) -> None:
    source = clips.make("a.mp4", sound=0.3)
    for suffix in (".mp4", ".mkv", ".webm"):
        for name in "bc":
            derained(source, tmp_path / f"{name}{suffix}")
        assert (tmp_path / f"b{suffix}").read_bytes() == (tmp_path / f"c{suffix}").read_bytes()


def test_names_that_look_like_addresses(clips, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.rename(clips.make("a.mp4", 2), "http:ä b.mp4")
    derained(Path("http:ä b.mp4"), Path("cache:%d.mp4"))
    assert described(tmp_path / "cache:%d.mp4", clips.number).numbers == [0, 1]


# --- a clock that starts again ---------------------------------------------------------------------------------------


def joined(clips, name: str, *parts: Path) -> Path:
    path = clips.folder / name
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def sound_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(packet.pts * packet.time_base) for packet in container.demux(audio=0) if packet.size]


RECORDINGS = [
    ("a.ts", {}),
    ("a.m2ts", {"muxer": {"mpegts_m2ts_mode": "1"}}),
    ("a.mpg", {"codec": "mpeg2video", "sound_codec": "mp2"}),
    ("a.mkv", {}),
]
# FFmpeg reads no more than two Matroska files that are joined.
PARTS = {".mkv": 2}


@pytest.mark.parametrize(("name", "how"), RECORDINGS)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_joined_recordings_follow_each_other(clips, tmp_path, name, how, suffix) -> None:
    part = clips.make(name, 15, unit=Fraction(1, 25), sound=0.6, **how)
    parts = PARTS.get(part.suffix, 3)
    source = joined(clips, f"joined{part.suffix}", *[part] * parts)
    told = derained(source, tmp_path / f"b{suffix}")
    assert (told.shown, told.damaged, told.notes) == (15 * parts, 0, [])
    found = described(tmp_path / f"b{suffix}", clips.number)
    assert found.numbers == [*range(15)] * parts
    times = [float(time) for time in found.times]
    steps, starts = np.diff(times), [15, 30][: parts - 1]
    assert np.abs(np.delete(steps, np.subtract(starts, 1)) - 0.04).max() < 0.002
    assert all(0.038 < steps[start - 1] < 0.15 for start in starts)  # the sound is a little longer
    # Sound and pictures are moved by the same time, and no sound is lost or squeezed.
    heard, one = sound_times(tmp_path / f"b{suffix}"), len(sound_times(part))
    assert len(heard) == parts * one
    assert min(np.diff(heard)) > 0.015
    for start in starts:
        assert heard[start // 15 * one] - heard[0] == pytest.approx(times[start] - times[0], abs=0.003)


def test_a_recording_in_front_of_one_from_earlier(clips, tmp_path) -> None:
    """FFmpeg adds 26 hours to times that lie long before the first one."""
    late = clips.make("late.ts", 10, unit=Fraction(1, 25), muxer={"output_ts_offset": "5000"})
    early = clips.make("early.ts", 10, unit=Fraction(1, 25))
    with Clip(joined(clips, "both.ts", late, early)) as clip:
        assert clip.expected == 20
        assert [frame.time for frame in clip.frames()] == pytest.approx([number / 25 for number in range(20)])


def test_a_recording_without_sound_in_front(clips, tmp_path) -> None:
    silent = clips.make("silent.ts", 30, unit=Fraction(1, 25))
    source = joined(clips, "both.ts", silent, clips.make("a.ts", 15, unit=Fraction(1, 25), sound=0.6))
    assert derained(source, tmp_path / "b.mp4").notes == []
    assert described(tmp_path / "b.mp4", clips.number).sound_begins == pytest.approx(1.2, abs=0.05)


def test_short_recordings(clips) -> None:
    part = clips.make("a.ts", 4, unit=Fraction(1, 25))
    with Clip(joined(clips, "many.ts", *[part] * 5)) as clip:
        assert [frame.time for frame in clip.frames()] == pytest.approx([number / 25 for number in range(20)])


def test_joined_matroska_files_that_ffmpeg_does_not_read_whole(clips) -> None:
    part = clips.make("a.mkv", 5, sound=0.2)
    with Clip(joined(clips, "three.mkv", part, part, part)) as clip:
        assert len(list(clip.frames())) == 10
        assert clip.damaged > 0
        assert clip.faults == ["3 recordings one behind the other, of which 2 can be read"]


def test_frames_per_second_of_joined_recordings(clips) -> None:
    part = clips.make("a.ts", 15, unit=Fraction(1, 25))
    with Clip(joined(clips, "both.ts", part, part)) as clip:
        assert [frame.index for frame in sampled(clip.frames(), fps=5)] == [0, 5, 10, 15, 20, 25]


@pytest.mark.parametrize("ahead", [True, False])
def test_one_wrong_time_is_no_new_recording(clips, ahead) -> None:
    offset = {} if ahead else {"muxer": {"output_ts_offset": "20000"}}
    path = clips.make("a.ts", 20, unit=Fraction(1, 25), options={"bf": "0"}, **offset)
    data = bytearray(path.read_bytes())
    places = [at for at in range(len(data)) if data[at : at + 4] == b"\0\0\1\xe0"]
    time = places[9] + 9
    assert data[places[9] + 7] == 0x80  # a time of display alone
    data[time] ^= 0x02  # 2 ** 30 units: 3.3 hours
    path.write_bytes(data)
    with Clip(path) as clip:
        assert clip.clock.joints == ()
        times = [frame.time for frame in clip.frames()]
    assert times[:9] == pytest.approx([number / 25 for number in range(9)])


def test_times_in_avi_are_those_of_ffmpeg(clips, tmp_path) -> None:
    """AVI tells when a frame is decoded, not when it is shown."""
    source = clips.make("a.avi", 24, unit=Fraction(1, 25), sound=0.5, sound_codec="libmp3lame")
    with av.open(str(source)) as container:
        container.streams.video[0].thread_type = "SLICE"
        begins = next(container.decode(video=0)).dts
    with Clip(source) as clip:
        frames = list(clip.frames())
    assert [frame.pts for frame in frames] == [begins + number for number in range(24)]
    assert [clips.number(frame.rgb()) for frame in frames] == list(range(24))
    assert begins > 0  # x264 makes B-frames
    derained(source, tmp_path / "b.mkv")
    found = described(tmp_path / "b.mkv", clips.number)
    assert [float(time) for time in found.times] == pytest.approx([frame.time for frame in frames], abs=0.001)


@pytest.mark.parametrize(("codec", "options"), [("mpeg4", {"bf": "2"}), ("mjpeg", {}), ("libx264", {"bf": "0"})])
def test_frames_that_avi_repeats(clips, codec, options) -> None:
    """The muxer writes empty frames where a time is left out."""
    times = [0, 1, 2, 5, 6, 7, 9, 10]
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = clips.make("a.avi", 8, times=times, unit=Fraction(1, 25), codec=codec, options=options, pixels=pixels)
    with Clip(path) as clip:
        found = [frame.pts for frame in clip.frames()]
        assert (clip.shown, clip.damaged, clip.faults) == (8, 0, [])
        assert clip.stream.frames > 8
    if codec != "mpeg4":  # its B-frames are counted in the order of decoding
        assert [time - found[0] for time in found] == times


# --- what is damaged -------------------------------------------------------------------------------------------------


def test_damaged_data_cost_their_frames_only(clips, tmp_path) -> None:
    source = clips.damage(clips.make("a.mp4", 24, options={"g": "6"}), 8, 9)
    told = derained(source, tmp_path / "b.mp4")
    found = described(tmp_path / "b.mp4", clips.number)
    assert (told.shown, told.damaged) == (22, 2)
    assert told.faults == ["damaged data near 0.27 s", "damaged data near 0.30 s"]
    assert found.numbers == [number for number in range(24) if number not in (8, 9)]
    assert found.times == [number * Fraction(1001, 30000) for number in found.numbers]  # nothing moves up


def test_a_clip_cut_off_is_noticed(clips, tmp_path) -> None:
    for name in ("a.mp4", "a.mkv"):
        muxer = {"movflags": "faststart"} if name == "a.mp4" else {"cluster_size_limit": "200"}
        path = clips.make(name, 60, unit=Fraction(1, 30), muxer=muxer)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
        told = derained(path, tmp_path / name)
        assert 0 < told.shown < 60
        assert told.damaged > 0
        assert "cut off" in told.faults[-1]


def test_a_clip_that_an_edit_list_ends_early_is_whole(clips, tmp_path) -> None:
    path = clips.make("a.mp4", 48, unit=Fraction(1, 25), options={"g": "6"}, rotation=90)
    data = bytearray(path.read_bytes())
    length = data.index(b"elst") + 12  # in milliseconds
    data[length : length + 4] = (480).to_bytes(4, "big")
    path.write_bytes(data)
    told = derained(path, tmp_path / "b.mp4")
    assert (told.shown, told.damaged, told.faults) == (12, 0, [])


def test_a_matroska_file_with_a_wrong_length_is_whole(clips, tmp_path) -> None:
    path = clips.make("a.mkv", 10)
    data = bytearray(path.read_bytes())
    length = data.index(b"\x44\x89\x88") + 3
    data[length : length + 8] = struct.pack(">d", 60_000)
    path.write_bytes(data)
    told = derained(path, tmp_path / "b.mkv")
    assert (told.shown, told.damaged) == (10, 0)


def test_theora_with_empty_frames_is_whole(clips, tmp_path) -> None:
    # PyAV has no encoder: 12 frames of FFmpeg's test picture, each 3 times.
    told = derained(DATA / "repeated_frames.ogv", tmp_path / "b.mkv")
    assert (told.damaged, told.faults) == (0, [])
    times = [float(time) for time in described(tmp_path / "b.mkv", clips.number).times]
    assert 12 <= len(times) < 36
    assert times[-1] == pytest.approx(33 / 25, abs=0.05)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_an_avi_cut_off_is_noticed(clips, tmp_path, codec) -> None:
    path = clips.make("a.avi", 60, unit=Fraction(1, 30), codec=codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    told = derained(path, tmp_path / "b.mkv")
    assert 0 < told.shown < 60
    assert told.damaged > 0
    assert "cut off" in told.faults[-1]


def test_files_that_are_not_clips(clips, tmp_path) -> None:
    empty, text, moov, sound = (clips.folder / f"{name}.mp4" for name in ("empty", "text", "moov", "sound"))
    empty.touch()
    text.write_text("no clip\n" * 100)
    whole = clips.make("a.mp4").read_bytes()
    moov.write_bytes(whole[: whole.index(b"moov") - 4])  # the index, at the end
    clips.make("sound.mp4", video=False, sound=0.2)
    for path, reason in (
        (empty, "the file is empty"),
        (text, "not a video clip, or damaged"),
        (moov, "not a video clip, or damaged"),
        (sound, "holds no video"),
    ):
        with pytest.raises(ItemError, match=reason) as error:
            derained(path, tmp_path / "b.mp4")
        assert error.value.path == str(path)
    with pytest.raises(OSError, match="No such file"):
        Clip(clips.folder / "gone.mp4")


def test_nothing_decodable(clips, tmp_path) -> None:
    source = clips.damage(clips.make("a.mp4", 3), 0, 1, 2)
    with pytest.raises(ItemError, match=r"damaged: damaged data near 0\.00 s"):
        list(Clip(source).frames())


def test_a_change_of_size_is_refused(clips) -> None:
    parts = [clips.make(f"{side}.ts", 3, size=(side, 48)).read_bytes() for side in (64, 96)]
    path = clips.folder / "both.ts"
    path.write_bytes(b"".join(parts))
    with Clip(path) as clip, pytest.raises(ItemError, match="is 96x48, those before 64x48"):
        list(clip.frames())


def test_without_the_library(clips, monkeypatch) -> None:
    path = clips.make("a.mp4", 1)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError) as error:
        Clip(path)
    assert str(error.value) == f"video clips need PyAV ({extra_hint('video')})"


# --- complete or absent ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ItemError("no"), KeyboardInterrupt(), MemoryError()])
def test_an_unfinished_clip_is_dropped(clips, tmp_path, error) -> None:
    target = tmp_path / "out" / "b.mp4"
    with Clip(clips.make("a.mp4", sound=0.3)) as clip:
        frames = clip.frames()
        first = next(frames)
        with pytest.raises(type(error)), write_clip(target, clip, first) as writer:  # noqa: PT012
            writer.put(writer.picture(first, first.rgb()))
            raise error
    assert list(target.parent.iterdir()) == []


LIMITED = """
import resource, sys
from pathlib import Path
from idsr_cli.clips.reader import Clip
from idsr_cli.clips.writer import write_clip
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # as on a full disk, writes fail from there on
with Clip(Path(sys.argv[1])) as clip:
    frames = clip.frames()
    first = next(frames)
    try:
        with write_clip(Path(sys.argv[2]), clip, first, 0) as writer:
            for frame in (first, *frames):
                writer.put(writer.picture(frame, frame.rgb()))
    except OSError as error:
        print(error.strerror)
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
@pytest.mark.parametrize("name", ["b.mp4", "b.mkv"])
def test_a_full_disk_leaves_nothing(clips, tmp_path, name) -> None:
    source = clips.make("a.mp4", 60)
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", LIMITED, source, out / name], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("File too large\n", 0), done.stderr
    assert list(out.iterdir()) == []


PEAK = """
import resource, sys
from pathlib import Path
import numpy as np
from idsr_cli.clips.reader import Clip
from idsr_cli.clips.writer import write_clip
with Clip(Path(sys.argv[1])) as clip:
    frames = clip.frames()
    first = next(frames)
    with write_clip(Path(sys.argv[2]), clip, first) as writer:
        writer.put(writer.picture(first, first.rgb()))
        for frame in frames:
            writer.put(writer.picture(frame, frame.rgb()))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the unit of ru_maxrss is Linux's")
def test_memory_does_not_grow_with_the_clip(clips, tmp_path) -> None:
    peaks = []
    for frames in (100, 400):
        source = clips.make(
            f"{frames}.mp4", frames, size=(320, 240), options={"preset": "ultrafast"}, sound=frames / 30
        )
        done = subprocess.run([sys.executable, "-c", PEAK, source, tmp_path / "b.mp4"], capture_output=True, text=True)
        peaks.append(int(done.stdout) / 1024)
    # 300 frames more are 264 MB in float, 33 MB as stored.
    assert peaks[1] - peaks[0] < 15, peaks


# --- sampling --------------------------------------------------------------------------------------------------------


def ticking(*times: float) -> Iterator[Frame]:
    return (Frame(index, index, time, None) for index, time in enumerate(times))


def test_every_nth_frame() -> None:
    assert [frame.index for frame in sampled(ticking(*range(10)), every=4)] == [0, 4, 8]


def test_frames_per_second() -> None:
    times = [number * 1001 / 30000 for number in range(90)]
    assert [frame.index for frame in sampled(ticking(*times), fps=2)] == [0, 15, 30, 45, 60, 75]
    assert [frame.index for frame in sampled(ticking(*times), fps=30)] == list(range(90))
    assert [frame.index for frame in sampled(ticking(*times), fps=100)] == list(range(90))
    assert [frame.index for frame in sampled(ticking(5.0, 5.2, 7.9, 8.0, 8.1), fps=1)] == [0, 2, 3]
