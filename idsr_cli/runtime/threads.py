"""How many CPU threads this process uses."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

# How idle threads of OpenMP wait for work: asleep, after some ten microseconds in which they look for it. The second
# name is for GNU's library, which torch brings on Linux; without it, threads would sleep at once.
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
# What torch reads when it is imported.
_COUNT = "OMP_NUM_THREADS"


def wait_asleep(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads that wait for others sleep soon, unless the environment says how they wait.

    A setting of the whole process, made by the commands; it must come before torch is imported. By default a thread
    looks for work for milliseconds, again and again. Where another program uses a processor, it takes this time from
    the very thread that it waits for: with two threads on two processors, one of them busy, networks took ten times as
    long.
    """
    if not {*_WAITING, "KMP_BLOCKTIME"} & set(environment):
        environment.update(_WAITING)


def use_threads(count: int) -> None:
    """Make torch, OpenCV and ncnn use `count` threads each, also in threads started later; 0 keeps their defaults.

    The default is one thread per core. If other programs use the cores too, or a container may use fewer cores than it
    sees, the right number is faster. torch need not be imported yet: it then hears of it when it is.
    """
    if not count:
        return
    import cv2

    cv2.setNumThreads(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    else:
        os.environ[_COUNT] = str(count)


def thread_count() -> int:
    """The number of threads that `use_threads` set, or else torch's default; does not import torch."""
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    given = os.environ.get(_COUNT, "").partition(",")[0].strip()  # a list is for nested regions
    if given.isdigit() and int(given):
        return int(given)
    import cv2

    return int(cv2.getNumThreads())
