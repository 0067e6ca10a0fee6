"""Work on the machines of a Ray cluster. Ray Data keeps the pool of workers; `runs.workers` says what they do.

Only paths travel: workers read photographs and write outputs themselves, so every machine must see the same files under
the same paths. Ray Data starts the workers, gives them batches, and starts a worker that dies again, with its batch.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from idsr_cli.errors import DeviceError, UsageError, extra_hint
from idsr_cli.files.faults import one_line
from idsr_cli.runs.batch import Result
from idsr_cli.runs.listener import Listener
from idsr_cli.runs.plan import Item
from idsr_cli.runs.work import Work
from idsr_cli.runs.workers import Follower, Ledger, Setup, Worker

# Items of a batch: few enough that all workers end at about the same time, and so many that a million items make no
# more batches than Ray Data handles well.
_BATCH, _MOST_BATCHES = 16, 10_000
_NO_CLUSTER = "`ray start --head` starts one; `--address local` uses this machine alone"


@dataclass(frozen=True)
class RayOptions:
    """Where the workers run, and what each of them gets.

    Attributes:
        address: "auto" = the cluster that this machine belongs to or RAY_ADDRESS names, "local" = a Ray of its own on
            this machine, or HOST:PORT.
        workers: how many; None = as many as there is room for.
        cpus: processors of each.
        gpus: GPUs of each, which may be a fraction; None = one, if there are networks that may run on a GPU and the
            cluster has one.
        threads: of networks and SIFT in each; 0 = `cpus`.
    """

    address: str = "auto"
    workers: int | None = None
    cpus: int = 1
    gpus: float | None = None
    threads: int = 0


def require_ray() -> None:
    """Raises UsageError if Ray Data is not installed."""
    from importlib.util import find_spec

    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise UsageError("`--cluster ray` needs Ray, which is not installed", hint=extra_hint("ray"))


class RayCluster:
    """Does the work of a run on a Ray cluster; a `process.Elsewhere`.

    Args:
        work: the work.
        options: where.
        listener: hears how it goes.
        on_worker: as for `Follower`.
    """

    def __init__(
        self, work: Work, options: RayOptions, listener: Listener, on_worker: Callable[[Mapping[str, str]], None]
    ) -> None:
        self._work = work
        self._options = options
        self._listener = listener
        self._on_worker = on_worker

    def run(self, items: Sequence[Item], report: Callable[[Result], None]) -> None:
        """See `Elsewhere`.

        Raises:
            UsageError: there is no such cluster, it has no room for a worker, or it fails.
            IdsrError: a worker cannot do the work, for lack of weights or a GPU.
        """
        with _connected(self._options.address) as ray, _probe(items) as probe:
            options, room = _fitted(self._options, self._work, [n["Resources"] for n in ray.nodes() if n["Alive"]])
            workers = options.workers or room
            self._listener.note(_told(options, workers, room))
            ask = _Remote(_ledger(ray, len(items)))
            setup = Setup(_placed(self._work, options), options.cpus, options.threads, os.getcwd(), probe)
            pool = ray.data.ActorPoolStrategy(min_size=min(room, workers), max_size=workers)
            job = _Job(
                _batches(ray, items, workers).map_batches(
                    Worker,
                    fn_constructor_kwargs={"setup": setup, "ask": ask},
                    batch_size=None,  # a block, which is what a worker that dies does again
                    compute=pool,
                    num_cpus=options.cpus,
                    num_gpus=options.gpus,
                )
            )
            Follower(self._work, items, ask, self._listener, self._on_worker).follow(job.over, report)


@dataclass(frozen=True)
class _Remote:
    """Calls the ledger; a `workers.Ask`."""

    actor: Any

    def __call__(self, name: str, *values: object) -> Any:
        import ray

        return ray.get(getattr(self.actor, name).remote(*values))


def _ledger(ray: Any, count: int) -> Any:
    """A ledger in an actor on this machine, so that it lives as long as the run does.

    Files in the output folder would stay behind, and come late to other machines on a network file system.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=here).remote(count)


class _Job:
    """A dataset that is computed on a thread: Ctrl-C, which the main thread gets, must not tear its workers down."""

    def __init__(self, dataset: Any) -> None:
        self._ended = ""
        self._over = threading.Event()
        threading.Thread(target=self._compute, args=(dataset,), name="idsr-ray", daemon=True).start()

    def _compute(self, dataset: Any) -> None:
        try:
            for _ in dataset.iter_batches(batch_size=None):
                pass
        except Exception as error:  # of many kinds; told on the main thread
            self._ended = one_line(error)
        finally:
            self._over.set()

    def over(self, seconds: float) -> str | None:
        """Wait so long at most -> why it has ended, or None."""
        return self._ended if self._over.wait(seconds) else None


def _batches(ray: Any, items: Sequence[Item], workers: int) -> Any:
    """A dataset of the items that wait, each batch a block."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # A batch takes as long as it takes: a clip, or large photographs on a CPU.
    context.execution_no_progress_timeout_s = -1
    rows = [{"number": number, "item": pickle.dumps(item)} for number, item in enumerate(items) if item.waits]
    size = max(min(_BATCH, math.ceil(len(rows) / (4 * workers))), math.ceil(len(rows) / _MOST_BATCHES))
    return ray.data.from_items(rows, override_num_blocks=math.ceil(len(rows) / size))


def _fitted(options: RayOptions, work: Work, machines: Sequence[Mapping[str, float]]) -> tuple[RayOptions, int]:
    """The options with the GPUs of a worker, and how many workers these machines have room for.

    Raises:
        DeviceError: GPUs are asked for, and there are none.
        UsageError: there is room for no worker.
    """
    has_gpu = any(machine.get("GPU", 0) for machine in machines)
    gpus = options.gpus
    if gpus is None:
        device = work.networks.device if work.networks is not None and work.networks.engine != "ncnn" else "cpu"
        gpus = 1.0 if device == "cuda" or (device == "auto" and has_gpu) else 0.0
    if gpus and not has_gpu:
        raise DeviceError("no machine of the Ray cluster has a GPU", hint="use the device `cpu`")

    def room(machine: Mapping[str, float]) -> int:
        by_gpu = machine.get("GPU", 0) / gpus if gpus else math.inf
        return int(min(machine.get("CPU", 0) // options.cpus, by_gpu))

    total = sum(map(room, machines))
    if not total:
        most = max((machine.get("CPU", 0) for machine in machines), default=0)
        asked = f"{options.cpus} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
        hint = f"the largest has {most:g} CPUs; `--cpus-per-worker` and `--gpus-per-worker` say what a worker takes"
        raise UsageError(f"no machine of the Ray cluster has room for a worker of {asked}", hint=hint)
    return replace(options, gpus=gpus), total


def _told(options: RayOptions, workers: int, room: int) -> str:
    """In words: what works where."""
    each = f"{options.cpus} CPUs" if options.cpus > 1 else "1 CPU"
    if options.gpus:
        each += f" and {options.gpus:g} GPUs"
    now = f", {room} of them now, and more when it grows" if room < workers else ""
    return f"Ray cluster {options.address}: {workers} {'workers' if workers > 1 else 'worker'} of {each}{now}"


def _placed(work: Work, options: RayOptions) -> Work:
    """The work on the device that each worker has."""
    if work.networks is None:
        return work
    return replace(work, networks=replace(work.networks, device="cuda" if options.gpus else "cpu"))


@contextmanager
def _probe(items: Sequence[Item]) -> Iterator[str | None]:
    """A file in the folder of the first output, for as long as the block runs; None if all outputs are in a store.

    A worker that does not see it would write to another disk.

    Raises:
        UsageError: it cannot be written.
    """
    targets = (one.target for item in items for one in item.each_output if one.waits)
    target = next((target for target in targets if isinstance(target, Path)), None)
    if target is None:
        yield None
        return
    probe = target.parent / f".idsr-probe-{secrets.token_hex(4)}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
    except OSError as error:
        raise UsageError((error.strerror or str(error)).lower(), path=target.parent) from error
    try:
        yield str(probe)
    finally:
        probe.unlink(missing_ok=True)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster.

    Raises:
        UsageError: there is none at this address, or it fails within the block.
    """
    require_ray()
    _check_reachable(address)
    # Read when Ray is loaded: nothing is reported to its makers, and its C++ parts write nothing to standard error.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    own = {"include_dashboard": False, "object_store_memory": 100 << 20} if address == "local" else {}
    with _silent():
        import ray
        import ray.data

        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            ray.init(address, log_to_driver=False, **own)
        except Exception as error:  # ConnectionError, RuntimeError, ValueError and Exception itself
            hint = {
                "auto": _NO_CLUSTER,
                "local": "is this machine too busy? Ray must start within 30 s",
            }.get(address, "if it wants a token, set RAY_AUTH_MODE=token")
            raise UsageError(f"no Ray cluster: {one_line(error)}", path=f"--address {address}", hint=hint) from error
        finally:
            for number, handler in handlers.items():  # Ray's own handler of SIGTERM would end the process at once
                signal.signal(number, handler)
    # Ray tells at length of workers that died, on standard output, and the rest of it when it shuts down.
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        try:
            yield ray
        except ray.exceptions.RayError as error:
            raise UsageError(f"the Ray cluster fails: {one_line(error)}") from error
        finally:
            with _silent():
                ray.shutdown()


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing is written to standard error, not even by C++: what goes wrong is told by exceptions."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check_reachable(given: str) -> None:
    """Raises UsageError if nothing listens at the address of the cluster, for which Ray itself would wait minutes."""
    address = os.environ.get("RAY_ADDRESS") or _last_cluster() if given == "auto" else given
    if address in ("", "auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        hint = "use HOST:6379, auto or local; from outside of the cluster use `ray job submit -- idsr ...`"
        raise UsageError(f"`{address}` is not the address of a Ray cluster", hint=hint)
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        where, hint = ("there", "") if given == address else (f"at {address}", _NO_CLUSTER)
        raise UsageError(f"no Ray cluster {where}: {one_line(error)}", path=f"--address {given}", hint=hint) from error


def _last_cluster() -> str:
    """Address of the cluster that was started last on this machine, which Ray keeps after its death; "" if none was."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    with suppress(OSError):
        return (Path(folder) / "ray" / "ray_current_cluster").read_text().strip()
    return ""
