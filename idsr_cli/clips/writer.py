"""Writing a clip with new pictures and the time stamps, sound and tags of the clip that was read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from idsr_cli.clips.copied import CopiedStreams
from idsr_cli.clips.matroska import ROOM, set_pixel_shape
from idsr_cli.clips.pixels import (
    BT709,
    FULL_RANGE,
    display_matrix,
    exact,
    is_full,
    matrix_of,
    picture_of,
    pixel_format,
)
from idsr_cli.clips.reader import CLIP_FORMATS, CRF, Clip, Frame, plain_errors, require_av
from idsr_cli.clips.tags import options_for, tags_for
from idsr_cli.files.atomic import atomic_path

if TYPE_CHECKING:
    import av
    import numpy as np
    from av.container import OutputContainer
    from av.packet import Packet

# Encoders by muxer, for 8 and for 10 bits. Few players take 10-bit H.264, most take H.265; PyAV's VP9 has 8 bits only.
_CODECS = {
    "mp4": ("libx264", "libx265"),
    "mov": ("libx264", "libx265"),
    "matroska": ("libx264", "libx265"),
    "webm": ("libvpx-vp9", "libvpx-vp9"),
}
# Fixed, because encoders split their work by the number of threads and the output must be the same everywhere.
_THREADS = 4
_OPTIONS = {
    # x264's mbtree, which distributes bits between frames, gives different results from run to run.
    "libx264": {"preset": "medium", "mbtree": "0"},
    "libx265": {"preset": "medium", "x265-params": f"log-level=none:pools={_THREADS}:frame-threads=2"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "4", "row-mt": "1"},
}


class ClipWriter:
    """Encodes frames in order; made by `write_clip`.

    Attributes:
        notes: one line for each property of the old clip that the new one does not keep.
    """

    def __init__(self, path: Path, muxer: str, clip: Clip, first: Frame, crf: int) -> None:
        av = require_av()
        self.notes: list[str] = []
        self._clip = clip
        picture = first.picture
        pixels = pixel_format(picture, muxer != "webm", self.notes)
        codec = _CODECS[muxer][pixels.endswith("10le")]
        tags = tags_for(muxer, clip.container.metadata)
        self.container: OutputContainer = av.open(
            f"file:{path}", "w", format=muxer, container_options=options_for(muxer, tags), metadata_errors="replace"
        )
        self.container.flags |= av.container.Flags.bitexact.value
        stream = self.container.add_stream(codec, rate=clip.rate or 25, options={**_OPTIONS[codec], "crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, pixels
        context = stream.codec_context
        context.time_base = stream.time_base = clip.time_base
        context.thread_count = _THREADS
        shape = clip.stream.sample_aspect_ratio
        context.sample_aspect_ratio = shape or Fraction(0, 1)
        self.range = FULL_RANGE if is_full(picture) else 1
        self.matrix = int(picture.colorspace)
        context.color_range = self.range
        context.color_primaries, context.color_trc = picture.color_primaries, picture.color_trc
        # An RGB clip has no matrix, but the Y'CbCr that is written needs one.
        context.colorspace = self.matrix if not picture.format.is_rgb else BT709
        if codec == "libx265" and muxer in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # Apple's players require this tag
        matrix = display_matrix(picture)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        if picture.interlaced_frame:
            self.notes.append("interlaced: each frame is taken as one picture (deinterlace the clip first)")
        self.container.metadata.update(tags)
        stream.metadata.update(tags_for(muxer, clip.stream.metadata))
        # FFmpeg leaves the shape of pixels to the codec here, and VP9 has none.
        self._shape = shape if muxer in ("matroska", "webm") and shape not in (None, 1) else None
        if self._shape is not None:
            stream.metadata["title"] = stream.metadata.get("title", "") + ROOM
        self._path = path
        self.pixels = pixels
        self._stream = stream
        try:
            self._copied = CopiedStreams(clip, self.container, muxer, self.notes)
            chapters = clip.container.chapters()
            if chapters:
                self.container.set_chapters(chapters)
            # Writes the header: what the container refuses is known before the work.
            self.container.start_encoding()
        except BaseException:
            self.abandon()
            raise

    def picture(self, frame: Frame, rgb: np.ndarray | None) -> av.VideoFrame:
        """The picture to encode for `frame`, from (H, W, 3) float32 RGB in [0, 1]; None = the frame's own pixels.

        May be called from several threads, in any order.
        """
        if rgb is None:
            source, matrix, full = frame.picture, matrix_of(frame.picture), is_full(frame.picture)
        else:
            source, matrix, full = picture_of(rgb), None, True
        same = rgb is None and source.format.name == self.pixels
        picture = source if same else source.reformat(
            format=self.pixels,
            src_colorspace=matrix,
            src_color_range=FULL_RANGE if full else 1,
            dst_colorspace=matrix_of(frame.picture),
            dst_color_range=self.range,
            interpolation=exact(),
            threads=1,
        )  # fmt: skip
        picture.pts, picture.time_base = frame.pts, self._clip.time_base
        picture.duration = frame.picture.duration
        picture.pict_type = 0  # the encoder chooses the frame type
        return picture

    def put(self, picture: av.VideoFrame) -> None:
        """Encode the next frame.

        Raises:
            OSError: no space left, ...
            ItemError: the encoder fails.
        """
        with plain_errors(self._clip.path, "cannot be encoded"):
            for packet in self._stream.encode(picture):
                self._mux(packet)

    def finish(self) -> None:
        """Write the remaining packets and close the file."""
        with plain_errors(self._clip.path, "cannot be encoded"):
            for packet in self._stream.encode(None):
                self._mux(packet)
            self._copied.copy_until(None)
            self.container.close()
        self._copied.close()
        if self._shape is not None:
            set_pixel_shape(self._path, self._clip.width, self._clip.height, self._shape)

    def abandon(self) -> None:
        """Close and ignore errors: the file is going to be deleted."""
        with suppress(Exception):
            self.container.close()
        with suppress(Exception):
            self._copied.close()

    def _mux(self, packet: Packet) -> None:
        if packet.dts is not None:
            self._copied.copy_until(float(packet.dts * packet.time_base))
        self.container.mux(packet)


@contextmanager
def write_clip(target: Path, clip: Clip, first: Frame, crf: int = CRF) -> Iterator[ClipWriter]:
    """A writer for the frames of `clip`, with its sound, tags and time stamps.

    `target` appears when the block ends. After an exception, Ctrl-C included, nothing is left.

    Args:
        target: its suffix, one of CLIP_FORMATS, chooses the container.
        clip: an open clip.
        first: its first frame, from which the format of all is taken.
        crf: quality, 0 (lossless but for the conversion to Y'CbCr) to 51.

    Raises:
        OSError: no space, no permission, ...
        ItemError: the encoder fails.
    """
    with atomic_path(target) as temporary:
        with plain_errors(clip.path, "cannot be encoded"):
            writer = ClipWriter(temporary, CLIP_FORMATS[target.suffix.lower()], clip, first, crf)
        try:
            yield writer
            writer.finish()
        except BaseException:
            writer.abandon()
            raise
