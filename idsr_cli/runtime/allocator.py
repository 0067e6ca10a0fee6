"""Memory that a network gives back is kept for its next layer. Set for the whole process, so the commands choose it."""

from __future__ import annotations

import sys

# glibc's numbers of the two settings, and its largest allowed threshold for blocks of their own.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT, _LARGEST_BLOCK = 1 << 30, 1 << 25


def keep_memory() -> bool:
    """Have glibc keep up to 1 GiB of freed memory instead of handing it back; returns whether that was possible.

    A layer's output is freed soon after, and by default goes back to the system and comes again page by page, zeroed:
    a sixth of a network's time on a CPU. Peak memory stays what it is. Elsewhere than on Linux with glibc: no effect.
    """
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _KEPT)) and bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK))
