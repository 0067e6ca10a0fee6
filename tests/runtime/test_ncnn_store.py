"""What was written down for ncnn is kept, and is used only if it is whole and was written by the same code."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from idsr_cli.errors import DeviceError
from idsr_cli.networks import BASE, RainUNet, layout_of
from idsr_cli.runtime import engines, ncnn_engine, ncnn_store
from idsr_cli.runtime.ncnn_store import Graph

needs_ncnn = pytest.mark.skipif(not ncnn_engine.is_installed(), reason="ncnn is not installed")
UNET = layout_of("unet")
CPU = torch.device("cpu")
GRAPH = Graph("7767517\n1 1\n", b"\x00\x01\n\x02", True, 32, 128, 700.0)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ncnn_store, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(engines, "torch_is_as_fast", lambda: False)
    return tmp_path / "cache" / ".ncnn"


def test_what_is_kept_comes_back(folder: Path) -> None:
    assert ncnn_store.kept("a") is None
    ncnn_store.keep("a", GRAPH)
    ncnn_store.keep("a dprnet", replace(GRAPH, gains=False))
    assert ncnn_store.kept("a") == GRAPH
    assert ncnn_store.kept("a dprnet") == replace(GRAPH, gains=False)
    assert ncnn_store.kept("b") is None
    assert len(list(folder.iterdir())) == 2


def test_a_damaged_file_is_not_used(folder: Path) -> None:
    ncnn_store.keep("a", GRAPH)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place])
        assert ncnn_store.kept("a") is None
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert ncnn_store.kept("a") is None
    ncnn_store.keep("a", GRAPH)
    assert ncnn_store.kept("a") == GRAPH


def test_code_that_changes_makes_it_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ncnn_store.keep("a", GRAPH)
    with monkeypatch.context() as patch:
        patch.setattr(ncnn_store, "_code", lambda: "of another version")
        assert ncnn_store.kept("a") is None
        patch.setattr(ncnn_store, "_code", lambda: "")  # the sources cannot be read
        assert ncnn_store.kept("a") is None
        ncnn_store.keep("b", GRAPH)
    assert len(list(folder.iterdir())) == 1
    before = ncnn_store._code()
    ncnn_store._code.cache_clear()
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path.name == "blocks.py"))
    changed = ncnn_store._code()
    ncnn_store._code.cache_clear()
    assert changed != before


def test_the_least_used_ones_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncnn_store, "KEPT", 2)
    times = iter(range(100, 200))
    utime = ncnn_store.os.utime
    monkeypatch.setattr(ncnn_store.os, "utime", lambda path: utime(path, (next(times),) * 2))
    for name in "ab":
        ncnn_store.keep(name, GRAPH)
        assert ncnn_store.kept(name)
    assert ncnn_store.kept("a")
    ncnn_store.keep("c", GRAPH)
    assert [name for name in "abc" if ncnn_store.kept(name)] == ["a", "c"]


@needs_ncnn
def test_later_runs_give_the_same_bytes_without_building_the_network(folder: Path) -> None:
    torch.manual_seed(0)
    network = RainUNet(**{**BASE, "widths": (16, 24), "blocks": (1, 2, 1)}, attention="spatial")
    torch.nn.init.normal_(network.tail.weight, std=0.05)
    network = network.eval().requires_grad_(False)
    image = np.random.default_rng(0).random((64, 96, 3), np.float32)
    assert engines.kept("a", "cpu", "fp32", "ncnn") is None
    assert engines.load(network, UNET, CPU, torch.float32, "ncnn").engine == "ncnn"
    assert not folder.exists()  # without an identity
    first = engines.load(network, UNET, CPU, torch.float32, "auto", "a")
    for engine in ("ncnn", "auto"):
        later = engines.kept("a", "cpu", "fp32", engine)
        assert later is not None
        assert (later.engine, later.precision, later.remark) == ("ncnn", "fp32", "")
        assert (later.multiple, later.halo) == (UNET.multiple, UNET.halo)
        assert later.bytes_per_pixel == UNET.ncnn_bytes_per_pixel
        np.testing.assert_array_equal(later.run(image), first.run(image))


@needs_ncnn
def test_a_kept_network_is_read_where_it_lies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing its weights to another file takes as long as reading them."""
    ncnn_store.keep("a", GRAPH)
    assert ncnn_store.kept("a").path.read_bytes().startswith(GRAPH.weights)
    read = []
    net = SimpleNamespace(load_param=lambda path: 0, load_model=lambda path: read.append(path) or 0)
    monkeypatch.setattr("ncnn.Net", lambda: SimpleNamespace(**vars(net), opt=SimpleNamespace()))
    ncnn_engine.loaded(ncnn_store.kept("a"))
    assert read == [str(path) for path in folder.iterdir()]


@needs_ncnn
def test_it_is_left_alone_where_ncnn_does_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = replace(GRAPH, gains=False)
    ncnn_store.keep("a", GRAPH)
    ncnn_store.keep("slow", graph)
    made = []
    monkeypatch.setattr(ncnn_engine, "NcnnRunner", lambda graph: made.append(graph) or "runner")
    for wanted in (("a", "cuda", "fp32"), ("a", "cpu", "bf16"), ("a", "cpu", "fp32", "torch"), ("slow", "cpu", "fp32")):
        assert engines.kept(*wanted) is None
    assert not made
    assert engines.kept("slow", "cpu", "fp32", "ncnn") == engines.kept("a", "cpu", "fp32") == "runner"
    monkeypatch.setattr(engines, "torch_is_as_fast", lambda: True)
    assert engines.kept("a", "cpu", "fp32") is None
    monkeypatch.setattr(ncnn_engine, "is_installed", lambda: False)
    assert engines.kept("a", "cpu", "fp32", "ncnn") is None
    with pytest.raises(DeviceError, match="unknown engine"):
        engines.kept("a", "cpu", "fp32", "nccn")


@needs_ncnn
def test_what_ncnn_does_not_take_is_left_to_load(folder: Path) -> None:
    ncnn_store.keep("a", replace(GRAPH, text="no network of ncnn"))
    assert engines.kept("a", "cpu", "fp32", "ncnn") is None


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in its place")
    ncnn_store.keep("a", GRAPH)
    assert ncnn_store.kept("a") is None
