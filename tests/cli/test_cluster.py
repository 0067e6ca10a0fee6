"""The options of runs on a cluster, as far as they need none."""

import importlib.util
import socket
from types import SimpleNamespace

import pytest

from idsr_cli.errors import DeviceError, UsageError
from idsr_cli.runs import ray_cluster
from idsr_cli.runs.ray_cluster import RayOptions, _fitted


@pytest.fixture
def _with_ray(monkeypatch) -> None:
    """As if Ray were installed; it is not used before the cluster's address has been looked at."""
    monkeypatch.setattr(ray_cluster, "require_ray", lambda: None)


@pytest.mark.parametrize(
    "option", ["--address local", "--workers 2", "--cpus-per-worker 2", "--gpus-per-worker 0.5", "--gpus-per-worker 0"]
)
@pytest.mark.parametrize("command", ["derain", "sift"])
def test_no_option_of_a_cluster_without_one(run, halving, photos, tmp_path, command, option) -> None:
    result = run(command, photos, "-o", tmp_path / "out", *option.split())
    assert result.exit_code == 2
    assert result.stderr == f"idsr: `{option.split()[0]}` has no effect without `--cluster ray`\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--device cuda:1", "`--device cuda:1` is not for a cluster, which gives each worker its GPU"),
        ("--device mps", "`--device mps` is not for a cluster, which gives each worker its GPU"),
        ("--device cpu --gpus-per-worker 1", "`--gpus-per-worker` has no effect with `--device cpu`"),
        ("--engine ncnn --gpus-per-worker 1", "`--gpus-per-worker` has no effect with `--engine ncnn`"),
        ("--no-derain --gpus-per-worker 1", "`--gpus-per-worker` has no effect without networks"),
        ("--device cuda --gpus-per-worker 0", "`--device cuda` needs a GPU for each worker"),
        ("--address ray://head:10001", "`ray://head:10001` is not the address of a Ray cluster"),
        ("--address head", "`head` is not the address of a Ray cluster"),
    ],
)
@pytest.mark.usefixtures("_with_ray", "halving")
def test_contradictions_are_refused(run, photos, tmp_path, options, message) -> None:
    result = run("sift", photos, "-o", tmp_path / "out", "--cluster", "ray", *options.split())
    assert result.exit_code == 2
    assert result.stderr.startswith(f"idsr: {message}")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("_with_ray", "halving")
def test_nobody_at_the_address(run, photos, tmp_path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listened to
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run("derain", photos, "-o", tmp_path / "out", "--cluster", "ray", "--address", address)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"--address {address}: no Ray cluster there: ")
    assert "refused" in result.stderr


@pytest.mark.parametrize("where", ["RAY_ADDRESS", "ray_current_cluster"])
@pytest.mark.usefixtures("_with_ray", "halving")
def test_a_cluster_that_has_died(run, photos, tmp_path, monkeypatch, where) -> None:
    """Ray keeps the address of the last cluster of a machine, and would wait for it."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        if where == "RAY_ADDRESS":
            monkeypatch.setenv(where, address)
        else:
            (tmp_path / "ray").mkdir()
            (tmp_path / "ray" / where).write_text(f"{address}\n")
        result = run("derain", photos, "-o", tmp_path / "out", "--cluster", "ray")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"--address auto: no Ray cluster at {address}: ")
    assert result.stderr.endswith("(`ray start --head` starts one; `--address local` uses this machine alone)\n")


@pytest.mark.usefixtures("_with_ray", "halving")
def test_pipes_stay_here(run, photos) -> None:
    result = run("sift", photos / "img2.png", "-o", "-", "--cluster", "ray", "--format", "colmap")
    assert (result.exit_code, result.stderr) == (
        2, "idsr: `--cluster` works on files: neither INPUT nor OUT can be `-`\n"
    )  # fmt: skip


@pytest.mark.usefixtures("_with_ray", "halving")
def test_memory_stays_here(run, photos) -> None:
    result = run("derain", photos, "-o", "memory://bucket/dry", "--cluster", "ray")
    message = "the workers of a cluster do not see the memory of this process"
    assert (result.exit_code, result.stderr) == (2, f"memory://bucket/dry/a/b/x.jpg: {message}\n")


def test_without_ray_one_line_says_how_to_install_it(run, halving, photos, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = run("derain", photos, "-o", tmp_path / "out", "--cluster", "ray")
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "idsr: `--cluster ray` needs Ray, which is not installed (install the extra `ray`: "
    )


@pytest.mark.usefixtures("_with_ray")
def test_a_plan_and_a_finished_folder_need_no_cluster(run, halving, photos, tmp_path) -> None:
    command = ["derain", photos, "-o", tmp_path / "out"]
    assert "img2.png" in run(*command, "--cluster", "ray", "--dry-run").stdout
    assert run(*command).exit_code == 0
    again = run(*command, "--cluster", "ray", "--address", "127.0.0.1:1")
    assert again.exit_code == 0
    assert "skipped 3" in again.stderr


def test_workers_fit_into_machines() -> None:
    machines = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0}, {}]
    torch = SimpleNamespace(networks=SimpleNamespace(device="auto", engine="auto"))
    plain = SimpleNamespace(networks=None)
    ncnn = SimpleNamespace(networks=SimpleNamespace(device="auto", engine="ncnn"))

    def fitted(work, here=machines, **options):
        found, room = _fitted(RayOptions(**options), work, here)
        return found.gpus, room

    assert fitted(torch) == (1.0, 2)
    assert fitted(torch, gpus=0.5) == (0.5, 4)
    assert fitted(torch, gpus=0.5, cpus=3) == (0.5, 2)
    assert fitted(torch, gpus=0.0, cpus=2) == (0.0, 5)
    assert fitted(torch, machines[1:]) == (0.0, 3)
    assert fitted(plain) == fitted(ncnn) == (0.0, 11)
    with pytest.raises(DeviceError, match="no machine of the Ray cluster has a GPU"):
        fitted(torch, machines[1:], gpus=1.0)
    with pytest.raises(UsageError, match=r"room for a worker of 9 CPUs and 1 GPUs \(the largest has 8 CPUs"):
        fitted(torch, cpus=9)
