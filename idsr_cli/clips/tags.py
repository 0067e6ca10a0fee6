"""Tags of clips: which are copied, and how MP4 and MOV store them."""

from __future__ import annotations

# Tags that describe the input file and not its content; they are not copied. The last ones are mkvmerge's statistics.
_FILE_TAGS = frozenset(
    "encoder major_brand minor_version compatible_brands duration bps number_of_frames number_of_bytes "
    "_statistics_writing_app _statistics_writing_date_utc _statistics_tags".split()
)

# What FFmpeg writes into an MP4 where all players look for it, by the names it uses itself. A longer list of tags needs
# Apple's scheme, which holds any name, and which fewer players know.
_MP4_TAGS = frozenset(
    "title artist album_artist composer album date comment genre copyright grouping lyrics description synopsis show "
    "episode_id network keywords episode_sort season_number media_type hd_video gapless_playback compilation track "
    "disc tmpo creation_time location language".split()
)
_APPLE = "com.apple.quicktime."


def tags_for(muxer: str, metadata: dict[str, str]) -> dict[str, str]:
    """The tags of a clip or stream that a new one gets, by their names in its container."""
    return {
        _named(key) if muxer in ("mp4", "mov") else key: value
        for key, value in metadata.items()
        if key.lower() not in _FILE_TAGS
    }


def options_for(muxer: str, tags: dict[str, str]) -> dict[str, str]:
    """Options of FFmpeg's muxer with which it writes all `tags` of a clip."""
    # A name such as "title-eng" repeats another one with its language.
    plain = all(key.lower().partition("-")[0] in _MP4_TAGS for key in tags)
    if muxer == "mov" or (muxer == "mp4" and not plain):
        # Apple's own names, in which phones store the location, the date and the camera.
        return {"movflags": "use_metadata_tags"}
    return {}


def _named(key: str) -> str:
    """A name as MP4 and MOV have it; Matroska has it in capital letters."""
    name, dash, language = key.partition("-")
    if not name.isupper():
        return key
    name = name.lower()
    return (name.replace("iso6709", "ISO6709") if name.startswith(_APPLE) else name) + dash + language
