"""`--cluster ray` on a Ray of two processors, started for these tests. Without Ray installed they are skipped.

Every run is a process of its own, as Ray's workers are. `ray_works.py` says which photographs are slow or deadly.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from idsr_cli.formats.npz import read_npz
from idsr_cli.runs.shards import FOLDER
from tests.conftest import make_weights

if find_spec("ray") is None or find_spec("pyarrow") is None:  # not imported: that takes seconds
    pytest.skip("the extra `ray` is not installed", allow_module_level=True)

pytestmark = pytest.mark.slow
WORKS = Path(__file__).with_name("ray_works.py")
# Marks the processes of these tests, Ray's included: they inherit the environment.
MARK = f"IDSR_TESTS_OF_RAY={os.getpid()}-{time.time_ns()}"
ENVIRONMENT = {
    **os.environ,
    **dict([MARK.split("=")]),
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",  # the head's message that it has started is waited for
}


def processes(mark: str = MARK) -> list[str]:
    """Command lines of the processes with this in their environment: those of these tests."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # gone, or of another user
            continue
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster of one machine with two processors and no GPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:  # a short path, for sockets
        options = f"--head --block --num-cpus 2 --num-gpus 0 --node-ip-address 127.0.0.1 --temp-dir {folder}"
        options += f" --port {address.rpartition(':')[2]} --include-dashboard false --object-store-memory 100000000"
        command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", *options.split()]
        head = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT)
        assert head.stdout is not None
        shown = []
        for line in head.stdout:
            shown.append(line)
            if "Ray runtime started" in line:
                break
        else:
            pytest.fail("".join(shown))
        yield address
        head.terminate()
        head.communicate(timeout=60)


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKS), *map(str, arguments), "--cluster", "ray"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def run(*arguments: object) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, JSON events, messages."""
    process = start(*arguments, "--json")
    out, err = process.communicate(timeout=400)
    return process.returncode, [json.loads(line) for line in out.splitlines()], err


def save_photographs(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        blocks = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8)
        Image.fromarray(blocks).resize((64, 48), Image.Resampling.BICUBIC).save(folder / name)


def contents(folder: Path) -> dict[str, Any]:
    """The bytes of all files, and under "record" the lines of all records, without their time and in any order."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    lines = [json.loads(line) for path in files if path.suffix == ".jsonl" for line in path.read_text().splitlines()]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.suffix != ".jsonl"}
    return {**found, "record": sorted(json.dumps({**line, "time": 0}) for line in lines)}


def recorded(out: Path) -> list[str]:
    """The files that records are about."""
    lines = (line for path in (out / FOLDER).glob("*.jsonl") for line in path.read_text().splitlines())
    return sorted(json.loads(line)["file"] for line in lines)


def test_files_records_lines_and_exit_code_are_those_of_a_local_run(cluster, tmp_path) -> None:
    photos = tmp_path / "photos"
    save_photographs(photos, "a.png", "b.jpg", "c.png")
    (photos / "bad.jpg").write_bytes(b"no photograph")
    make_weights(tmp_path)
    events, files, codes = [], [], []
    for name in ("local", "cluster"):
        out = tmp_path / name
        command = ["sift", photos, "-o", out / "keys", "--format", "npz", "--format", "colmap-db"]
        command += ["--derained", out / "dry", "--weights", tmp_path / "ggirnet.safetensors", "--engine", "torch"]
        command += ["--device", "cpu", "--force", "--max-keypoints", 9, "--failures", out.with_suffix(".txt"), "--json"]
        if name == "local":
            local = subprocess.run([sys.executable, "-m", "idsr_cli", *map(str, command)], capture_output=True)
            code, lines = local.returncode, [json.loads(line) for line in local.stdout.splitlines()]
        else:
            code, lines, err = run(*command[:-1], "--address", cluster)
            assert "Traceback" not in err
        codes.append(code)
        events.append([{**json.loads(json.dumps(line).replace(str(out), "")), "seconds": 0} for line in lines])
        files.append({name: contents(out / name) for name in ("keys", "dry")})
    assert codes == [1, 1]
    assert events[0] == events[1]
    assert [event["status"] for event in events[1][:4]] == ["ok", "ok", "failed", "ok"]
    assert events[1][-1]["device"] == "cpu"
    assert events[1][-1]["engine"] == "torch"
    assert {"a.png.npz", "database.db"} < set(files[0]["keys"])
    assert [len(of_folder["record"]) for of_folder in files[0].values()] == [3, 3]
    assert files[0] == files[1]
    assert (tmp_path / "cluster.txt").read_text() == (tmp_path / "local.txt").read_text() == f"{photos}/bad.jpg\n"


def test_a_worker_that_is_killed_is_replaced_and_a_deadly_photograph_passed_over(
    cluster, tmp_path, monkeypatch
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    save_photographs(photos, "a.png", "deadly.png", "deadly-once.png", "slow.png", "z.png")
    code, events, err = run("sift", photos, "-o", out, "--no-derain", "--address", cluster)
    assert code == 1
    assert {Path(event["input"]).name: event["status"] for event in events[:-1]} == {
        "a.png": "ok", "deadly.png": "failed", "deadly-once.png": "ok", "slow.png": "ok", "z.png": "ok"
    }  # fmt: skip
    assert err.count("deadly.png: passed over, since 2 workers died with it (out of memory?") == 1
    assert err.count("deadly-once.png: begun again, since a worker died with it") == 1
    log = (photos / "log.txt").read_text().splitlines()
    assert [line.split()[1] for line in log].count("deadly.png") == 2
    assert len({line.split()[0] for line in log}) >= 4  # two workers, and those that replaced the killed

    # The same command goes on from there, here on a Ray of its own, which leaves nothing behind.
    (photos / "deadly.png").rename(photos / "harmless.png")
    monkeypatch.setitem(ENVIRONMENT, "IDSR_RAY_OF_ITS_OWN", "1")
    code, events, _ = run("sift", photos, "-o", out, "--no-derain", "--address", "local", "--workers", 1)
    assert (code, events[-1]["ok"], events[-1]["skipped"], events[-1]["stale"]) == (0, 1, 4, 0)
    until = time.monotonic() + 20
    while processes("IDSR_RAY_OF_ITS_OWN=1") and time.monotonic() < until:
        time.sleep(0.5)
    assert processes("IDSR_RAY_OF_ITS_OWN=1") == []


def test_ctrl_c_ends_the_run_and_leaves_whole_files(cluster, tmp_path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    save_photographs(photos, *(f"slow{number}.png" for number in range(24)))
    process = start("sift", photos, "-o", out, "--no-derain", "--json", "--address", cluster)
    until = time.monotonic() + 300
    while not list(out.glob("*.npz")) and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    shown, err = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "interrupted with" in err
    written = sorted(path.name for path in out.iterdir() if path.name != FOLDER)
    assert 0 < len(written) < 24
    assert all(len(read_npz(out / name)[0].xy) for name in written)  # whole, and no part or probe among them
    reported = [json.loads(line) for line in shown.splitlines()]
    assert sorted(Path(event["output"]).name for event in reported if event["event"] == "item") == written
    assert recorded(out) == written


def test_a_gpu_is_refused_at_once_where_there_is_none(cluster, tmp_path) -> None:
    save_photographs(tmp_path / "photos", "a.png")
    command = ["derain", tmp_path / "photos", "-o", tmp_path / "out", "--address", cluster]
    code, _, err = run(*command, "--device", "cuda")
    assert code == 2
    assert err == "idsr: no machine of the Ray cluster has a GPU (use the device `cpu`)\n"
    code, _, err = run(*command, "--cpus-per-worker", 3)
    assert code == 2
    assert err.startswith("idsr: no machine of the Ray cluster has room for a worker of 3 CPUs (the largest has 2 CPUs")
    assert len(err.splitlines()) == 1
