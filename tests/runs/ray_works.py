"""Work for the tests of Ray: photographs that are slow, and that kill the process which reads them.

Workers import this module, so the folder is on the path of the tests' cluster.
"""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import idsr_cli.cli.sift
from idsr_cli.runs import work


class Work(work.Work):
    """Reads `slow*` in 0.4 s; `deadly*` kills the process, `deadly-once*` only the first. Notes who read what."""

    def stages(self, restorer: Any, listener: Any) -> Any:
        stages = super().stages(restorer, listener)

        def load(item: Any) -> Any:
            log = item.source.parent / "log.txt"
            seen = log.read_text() if log.exists() else ""
            with log.open("a") as file:
                file.write(f"{os.getpid()} {item.source.name}\n")
            if item.source.name.startswith("slow"):
                time.sleep(0.4)
            if item.source.name.startswith("deadly") and not ("once" in item.source.name and item.source.name in seen):
                os.kill(os.getpid(), signal.SIGKILL)
            return stages.load(item)

        return replace(stages, load=load)


def main() -> None:
    """The command line, with this work."""
    idsr_cli.cli.sift.Work = Work  # type: ignore[misc]
    from idsr_cli.__main__ import main

    main()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import ray_works  # under the name that workers import

    ray_works.main()
