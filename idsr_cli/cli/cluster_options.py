"""Options of runs on a cluster: the same in every command that can use one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from idsr_cli.cli.options import Performance, was_given
from idsr_cli.errors import UsageError
from idsr_cli.files.stores import StorePath
from idsr_cli.runs.plan import Item

if TYPE_CHECKING:
    from idsr_cli.runs.ray_cluster import RayOptions

CLUSTER = "Cluster"
# Parameters of options that mean nothing without a cluster.
REFUSED_ALONE = ("address", "workers", "cpus_per_worker", "gpus_per_worker")

Name = Annotated[
    Literal["ray"] | None,
    typer.Option(
        "--cluster",
        help="Spread the photographs over the machines of a Ray cluster (extra `ray`, docs/ray.md).",
        show_default=False,
        rich_help_panel=CLUSTER,
    ),
]
Address = Annotated[
    str,
    typer.Option(
        "--address",
        metavar="auto|local|HOST:PORT",
        help="The cluster: `auto` = the one this machine belongs to, or RAY_ADDRESS; `local` = this machine alone.",
        rich_help_panel=CLUSTER,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Processes that work on photographs. [dim]\\[default: as many as there is room for][/dim]",
        show_default=False,
        rich_help_panel=CLUSTER,
    ),
]
CpusPerWorker = Annotated[
    int,
    typer.Option("--cpus-per-worker", metavar="N", min=1, help="Processors of each worker.", rich_help_panel=CLUSTER),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker",
        metavar="X",
        min=0.0,
        help="GPUs of each worker; 0.5 = two workers share one. [dim]\\[default: 1 if the cluster has GPUs][/dim]",
        show_default=False,
        rich_help_panel=CLUSTER,
    ),
]


@dataclass(frozen=True)
class Cluster:
    """Whether a run goes to a cluster, and how it uses that."""

    cluster: Name = None
    address: Address = "auto"
    workers: Workers = None
    cpus_per_worker: CpusPerWorker = 1
    gpus_per_worker: GpusPerWorker = None

    def ray(self, ctx: typer.Context, performance: Performance, networks: bool) -> RayOptions | None:
        """How to use Ray; None if the run stays here.

        Args:
            ctx: of the command.
            performance: its other options of performance.
            networks: whether it has any.

        Raises:
            UsageError: options that contradict each other, or Ray is not installed.
        """
        if self.cluster is None:
            for name in REFUSED_ALONE:
                if was_given(ctx, name):
                    raise UsageError(f"`--{name.replace('_', '-')}` has no effect without `--cluster ray`")
            return None
        from idsr_cli.runs.ray_cluster import RayOptions, require_ray

        device = performance.device
        if device not in ("auto", "cpu", "cuda"):
            raise UsageError(
                f"`--device {device}` is not for a cluster, which gives each worker its GPU", hint="use `--device cuda`"
            )
        why = "without networks" if not networks else "with `--device cpu`" if device == "cpu" else ""
        why = why or ("with `--engine ncnn`, which runs on CPUs" if performance.engine == "ncnn" else "")
        if self.gpus_per_worker and why:
            raise UsageError(f"`--gpus-per-worker` has no effect {why}")
        if self.gpus_per_worker == 0 and device == "cuda":
            raise UsageError("`--device cuda` needs a GPU for each worker, and `--gpus-per-worker 0` gives it none")
        require_ray()
        return RayOptions(
            self.address, self.workers, self.cpus_per_worker, 0.0 if why else self.gpus_per_worker, performance.threads
        )


def check_reach(items: Sequence[Item]) -> None:
    """Raises UsageError if the plan of a run on a cluster has what only this process has: its pipes and its memory."""
    for item in items:
        places = [item.source, *(one.target for one in item.each_output if not one.problem)]
        if None in places:
            raise UsageError("`--cluster` works on files: neither INPUT nor OUT can be `-`")
        for place in places:
            if isinstance(place, StorePath) and place.protocol == "memory":
                raise UsageError("the workers of a cluster do not see the memory of this process", path=place)
