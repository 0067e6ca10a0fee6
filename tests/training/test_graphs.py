"""Steps recorded on a card are those computed one by one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from idsr_cli.networks.layout import Layout
from idsr_cli.networks.layouts import LAYOUTS
from idsr_cli.training.loop import Trainer
from idsr_cli.training.objectives import TEACHER_VIEWS
from tests.training.test_loop import TAUGHT, Dimmer, trainer


def on_a_card(folder: Path, record: bool = True, **changes: object) -> Trainer:
    run = trainer(folder, **changes)  # type: ignore[arg-type]
    card = torch.device("cuda")
    teacher = None if changes.get("teacher") is None else Dimmer().to(card).requires_grad_(False)
    source = replace(run.source, large=0.4)
    again = Trainer(run.options, source, card, folder, teacher=teacher, workers=1)
    if not record:
        again.graphs = None
    return again


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recorded_steps_are_those_computed_one_by_one(tmp_path: Path, precision: str) -> None:
    changes = {**TAUGHT, "precision": precision, "patch": 64, "rate": 1e-4, "steps": 60}
    losses = {"pixel": 0.2, "gradient": 1.0, "alp-derivative": 2.0, "extremum": 0.1, "descriptor": 0.2, "margin": 0.4,
              "distil": 0.5}  # fmt: skip
    runs = [on_a_card(tmp_path / str(r), r, **{**changes, "losses": losses}) for r in (True, False)]
    recorded, plain = ([run._one_step() for _ in range(60)] for run in runs)
    assert runs[0].graphs is not None
    assert runs[0].graphs.failure is None
    assert len(runs[0].graphs._recorded) == 2 * len(TEACHER_VIEWS)  # two sizes
    for mine, other in zip(recorded, plain, strict=True):
        assert mine == pytest.approx(other, rel=0.02, abs=1e-4)
    for a, b in zip(runs[0].average.parameters(), runs[1].average.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-3)
    for run in runs:
        assert run._batches is not None
        run._batches.close()


@pytest.mark.cuda
def test_what_recorded_steps_read_is_kept(tmp_path: Path) -> None:
    """Validation blurs photographs of many sizes, so that the operators of the training leave the cache."""
    from idsr_cli import scale_space

    run = on_a_card(tmp_path, losses={"gradient": 1.0}, steps=40, rate=0.0)
    batch = run._batch().to(run.device)
    run._batch = lambda: batch  # type: ignore[method-assign]
    before = [run._one_step()["loss"] for _ in range(6)]
    assert run.graphs is not None
    assert run.graphs.failure is None
    scale_space._operators.clear()
    torch.cuda.empty_cache()
    filled = [torch.full((1 << 20,), 1e9, device=run.device) for _ in range(64)]
    assert [run._one_step()["loss"] for _ in range(2)] == pytest.approx(before[-2:], rel=1e-5)
    assert filled


class Waiting(torch.nn.Module):
    """Its forward pass waits for the card, which cannot be recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.share = torch.nn.Parameter(torch.tensor(0.05))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.share * x if x.mean().item() >= 0.0 else x


@pytest.mark.cuda
def test_a_network_that_cannot_be_recorded_is_trained_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Layout(Waiting, lambda names: False, lambda tensors, role: {}, multiple=1, halo=4, bytes_per_pixel=100.0)
    monkeypatch.setitem(LAYOUTS, "waiting", waiting)
    run = on_a_card(tmp_path, layout="waiting", config={}, steps=16)
    assert run.run()
    assert run.graphs is not None
    assert run.graphs.failure
    assert run.network.share.item() != pytest.approx(0.05, abs=1e-6)


@pytest.mark.cuda
@pytest.mark.parametrize("attention", ["spatial", "gradient"])
def test_networks_of_the_size_of_base_train_in_bf16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attention: str
) -> None:
    """As `idsr train` sets torch up. GGIRNet once had gradients there that were not finite."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    config = {"widths": (48, 96, 128), "blocks": (2, 2, 9, 2, 2), "unshuffle": 2, "attention": attention}
    changes = {**TAUGHT, "precision": "bf16", "config": config, "batch": 16, "patch": 64, "steps": 12, "rate": 1e-4}
    run = on_a_card(tmp_path, **changes)
    losses = [run._one_step()["loss"] for _ in range(12)]  # a step that is left out has no loss
    assert all(0.0 < loss < 1.0 for loss in losses)
    assert run._batches is not None
    run._batches.close()
