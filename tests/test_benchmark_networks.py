"""The comparison of networks: which arms there are, what is counted, and its table."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from idsr_cli.networks import LAYOUTS
from idsr_cli.networks.mdn import Mdn
from idsr_cli.weights import find_weights, save_weights

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "networks.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="a sdist has the tests without the benchmarks")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    if str(SCRIPT.parent) not in sys.path:
        sys.path.append(str(SCRIPT.parent))  # as for a script, which imports its neighbours
    spec = importlib.util.spec_from_file_location("benchmark_networks", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_networks"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_each_network_has_its_papers_losses_and_ours(benchmark: ModuleType) -> None:
    assert {arm.preset for arm in benchmark.ARMS.values()} == {"base", "sian", "qsnet", "qsnet-half", "mdn"}
    for name in ("sian", "qsnet", "mdn"):
        assert benchmark.ARMS[f"{name}-paper"].losses == LAYOUTS[name].losses
        assert benchmark.OURS.items() <= benchmark.ARMS[f"{name}-ours"].losses.items()


def test_multiply_adds(benchmark: ModuleType, tmp_path: Path) -> None:
    """By hand: entry, block, a unit with a block at each of 1, 1/2 and 1/4, fusion of two maps, exit; 4 channels."""
    metadata = {"idsr.arch": "both", "idsr.layout": "mdn", "idsr.config": json.dumps({"width": 4, "units": 1})}
    network = Mdn(4, 1)
    save_weights(tmp_path / "net.safetensors", network, metadata)
    found = benchmark.cost(find_weights(str(tmp_path / "net.safetensors")).dprnet)
    block = 2 * 9 * 4 * 4
    by_hand = 9 * 3 * 4 + block * (1 + 1 + 1 / 4 + 1 / 16) + 8 * 4 + 9 * 4 * 3
    assert 1e3 * found["kmac_per_pixel"] == pytest.approx(by_hand)
    assert found["parameters"] == sum(p.numel() for p in network.parameters())


def test_the_table(benchmark: ModuleType) -> None:
    row = {"preset": "mdn", "words": "ours", "kmac_per_pixel": 258.8, "seconds_per_photo": 1.234, "parameters": 509475,
           "steps": 1234, "scores": {"light": {"true": 400.04, "psnr": 30.0}}}  # fmt: skip
    lines = benchmark.table_lines({"mdn-ours": row}, {"light": {"true": 260.0, "psnr": 25.0}})
    assert lines == [
        "| network | losses | light: true | light: PSNR | kMAC/px | s per photograph | parameters | steps |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| rainy |  | 260.0 | 25.00 |  |  |  |  |",
        "| mdn | ours | 400.0 | 30.00 | 259 | 1.23 | 509,475 | 1,234 |",
    ]


def test_time_of_training_is_counted_by_the_clock_given(tmp_path: Path) -> None:
    from tests.training.test_loop import trainer

    torch.manual_seed(0)
    run = trainer(tmp_path, steps=0, duration=100.0)
    ticks = iter(range(0, 10_000, 30))
    run.clock = lambda: float(next(ticks))
    assert run.run()
    assert (run.step, run.seconds) == (3, 120.0)
