"""With `keep_memory` freed memory stays with the process: fewer page faults for the same work."""

import platform
import subprocess
import sys

import pytest

from idsr_cli.runtime import allocator

# Blocks of 16 MiB, taken and freed in turn, as a network's layers do.
WORK = """
import resource, sys
from idsr_cli.runtime.allocator import keep_memory
if sys.argv[1] == "keep":
    assert keep_memory()
import numpy as np
np.ones(1 << 21)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(1 << 21)
    np.ones(1 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_blocks_are_used_again() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", WORK, how], check=True, capture_output=True, text=True).stdout)
        for how in ("keep", "default")
    }
    assert faults["keep"] <= faults["default"]
    assert faults["keep"] < 20 * (1 << 21) * 8 / 4096 / 10


RETURNED = """
import sys
import numpy as np
from idsr_cli.runtime.allocator import keep_memory, return_memory

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

keep_memory()
blocks = [np.ones(1 << 21) for _ in range(8)]
del blocks
before = held()
print(return_memory(), (before - held()) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_what_was_kept_is_given_back() -> None:
    command = [sys.executable, "-c", RETURNED]
    returned, megabytes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert returned == "True"
    assert int(megabytes) > 100


def test_other_systems_go_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert allocator.keep_memory() is False
    assert allocator.return_memory() is False
