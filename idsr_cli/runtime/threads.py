"""How many CPU threads this process uses."""

from __future__ import annotations


def use_threads(count: int) -> None:
    """Make torch and OpenCV use `count` threads each, also in threads started later; 0 keeps their defaults.

    The default is one thread per core. If other programs use the cores too, or a container may use fewer cores than it
    sees, torch waits for threads that are not running, and is several times slower than with the right number.
    """
    if not count:
        return
    import cv2
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)
