"""How many of the processor's threads this process takes."""

from __future__ import annotations


def use_threads(count: int) -> None:
    """Have torch and OpenCV use `count` threads each, from here on and in threads started later; 0 leaves their own.

    Their own is one per processor. Where other programs use these too, or a container may use fewer than it sees,
    torch waits for threads that do not run: several times slower than with the right number.
    """
    if not count:
        return
    import cv2
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)
