"""From settings to a trainer, without a console."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from idsr_cli import networks
from idsr_cli.errors import ItemError, UsageError, WeightsError
from idsr_cli.networks import ROLES, RainUNet, ReleasedNet
from idsr_cli.networks.sian import Sian
from idsr_cli.training import loop, setup
from idsr_cli.training.setup import TrainingData, TrainingSetup
from idsr_cli.weights import find_weights, save_weights

CPU = torch.device("cpu")
SHAPE = {"widths": [4, 8], "blocks": [1, 1, 1], "unshuffle": 2}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photographs and a file that is not a photograph."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """Small weights of both roles."""
    for role, attention in ROLES.items():
        config = {**SHAPE, "attention": attention}
        metadata = {"idsr.arch": role, "idsr.layout": "unet", "idsr.config": json.dumps(config),
                    "idsr.dry_threshold": "2.5"}  # fmt: skip
        save_weights(tmp_path / "start" / f"{role}.safetensors", RainUNet(**config), metadata)
    return tmp_path / "start"


def asked(folder: Path, photos: Path, **changes: Any) -> TrainingSetup:
    return TrainingSetup(role="dprnet", output=folder, **{"data": TrainingData([photos], patch=32), "steps": 2,
                         "batch": 1, "recipe": "fast", **changes})  # fmt: skip


def test_unreadable_files_are_told_and_left_out(tmp_path, photos, start) -> None:
    skipped: list[ItemError] = []
    notes: list[str] = []
    request = asked(tmp_path / "out", photos, init=str(start))
    trainer = setup.prepare(request, CPU, skipped.append, notes.append)
    assert [Path(str(error.path)).name for error in skipped] == ["broken.png"]
    assert len(trainer.source.photos) == 2
    assert notes == []
    assert trainer.provenance["idsr.dry_threshold"] == "2.5"
    assert trainer.provenance["idsr.data"] == "2 photographs (photos); procedural streaks"
    assert "2 photographs, 0 pairs, 0 layers" in setup.summary_line(trainer)
    assert trainer.run()
    with pytest.raises(UsageError, match="there is a checkpoint already"):
        setup.prepare(request, CPU, skipped.append, notes.append)
    again = setup.prepare(replace(request, resume=True), CPU, skipped.append, notes.append)
    assert again.step == 2
    assert notes == ["this run is complete; give a larger --steps or --duration to train longer"]


def test_the_length_of_a_schedule(tmp_path, photos) -> None:
    source = setup.load_source(TrainingData([photos]), CPU, lambda error: None, lambda note: None)

    def length(checkpoint: Any = None, **changes: Any) -> tuple[int, float]:
        return setup.schedule(asked(tmp_path, photos, **{"steps": 0, **changes}), source, checkpoint)

    checkpoint = {"options": json.dumps({"steps": 7, "duration": 0.0})}
    assert length(steps=3) == (3, 0.0)
    assert length(duration=9.0, time_limit=5.0) == (0, 9.0)
    assert length(checkpoint, time_limit=5.0) == (7, 0.0)
    assert length(time_limit=5.0) == (0, 5.0)
    assert length(batch=2) == (160, 0.0)


def test_losses() -> None:
    request = TrainingSetup("ggirnet", Path("out"), TrainingData([Path("photos")]))
    assert request.mixture == {"pixel": 0.2, "gradient": 1.0}
    assert replace(request, losses={"alp": 1.0}).mixture == {"alp": 1.0}
    real = replace(request.data, real=[Path("real")])
    assert replace(request, data=real, losses={"distil": 0.5}).mixture == {"pixel": 0.2, "gradient": 1.0, "distil": 0.5}
    for wrong, message in (({"beauty": 1.0}, "unknown loss `beauty`"), ({"distil": 1.0}, "no loss has any weight")):
        with pytest.raises(UsageError, match=message):
            setup.check_losses(wrong, networks.layout_of("unet"))


def test_the_matching_loss_needs_features() -> None:
    weights = {"pixel": 1.0, "matching": 1.0}
    setup.check_losses(weights, networks.layout_of("unet"))
    with pytest.raises(UsageError, match="no features to act on"):
        setup.check_losses(weights, replace(networks.layout_of("unet"), shallow=None))


def test_a_teacher_is_found_like_the_start(tmp_path, photos, start) -> None:
    real = tmp_path / "real"
    real.mkdir()
    Image.fromarray(np.random.default_rng(7).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(real / "r.png")
    data = TrainingData([photos], real=[real], patch=32)
    request = asked(tmp_path / "out", photos, data=data, losses={"distil": 0.5}, teacher=str(start), steps=1)
    files = find_weights(str(start))

    def prepare(**changes: Any) -> loop.Trainer:
        return setup.prepare(replace(request, **changes), CPU, lambda error: None, lambda note: None)

    run = prepare()
    assert isinstance(run.teacher, RainUNet)
    assert not run.teacher.training
    assert not any(p.requires_grad for p in run.teacher.parameters())
    for name, value in files.dprnet.build().state_dict().items():
        assert torch.equal(run.teacher.state_dict()[name], value)
    assert run.run()
    made = find_weights(str(tmp_path / "out" / "last.safetensors")).dprnet.metadata
    assert json.loads(made["idsr.training"])["teacher"] == files.dprnet.sha256
    assert made["idsr.teacher"] == "start"
    prepare(resume=True)
    with pytest.raises(UsageError, match=f"made with teacher {files.dprnet.sha256}, not {files.ggirnet.sha256}"):
        prepare(resume=True, teacher=str(start / "ggirnet.safetensors"))  # a teacher may be of the other role
    assert setup.load_teacher(str(start), "sian", data, CPU)[0] == files.ggirnet
    for name in ("nonsense", ""):
        with pytest.raises(WeightsError, match=r"no weights named|is empty"):
            prepare(teacher=name)
    for changes, message in (
        ({"patch": 36}, "the teacher takes no patches of 36 pixels but multiples of 32"),
        ({"large": 0.1}, "the teacher takes no patches of 48 pixels, those of --large, but multiples of 32"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            setup.load_teacher(str(start), "sian", replace(data, **changes), CPU)
        assert caught.value.path == str(files.ggirnet.path)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("qsnet", (256, 100 * 5, 16, 1e-3, "auxiliary", 5)),  # 40 crops of 2 photographs, 16 at a time
        ("mdn", (64, 100 * 13, 16, 5e-4, "result", 0)),
    ],
)
def test_recipes_of_other_papers(tmp_path, photos, network, expected) -> None:
    request = TrainingSetup(network, tmp_path / "out", TrainingData([photos], patch=0)).completed()
    assert request.recipe == network
    made = setup.prepare(request, CPU, lambda error: None, lambda note: None).options
    assert (made.patch, made.steps, made.batch, made.rate, made.objective, made.epoch) == expected
    assert (made.clip, made.losses) == (0.0, networks.LAYOUTS[network].losses)
    assert loop.late_steps_rate(0.59) == 1.0
    assert [loop.late_steps_rate(share) for share in (0.6, 0.8)] == pytest.approx([0.1, 0.01])


def test_settings_that_do_not_fit_together() -> None:
    request = TrainingSetup("ggirnet", Path("out"), TrainingData([Path("photos")]))
    for changes in ({"trunk": "base"}, {"val_clean": Path("clean")}, {"losses": {"matching": 1.0}}):
        with pytest.raises(UsageError, match=r"go together|goes with|needs rainy photographs"):
            replace(request, **changes)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="nothing to train on"):
        TrainingData()


def test_a_trunk_that_would_replace_everything_is_refused(tmp_path: Path) -> None:
    """A network without layers of its role, and one whose files hold the layers of both."""
    config = {**SHAPE, "attention": "none"}
    files = []
    for role in ROLES:
        files.append(tmp_path / "plain" / f"{role}.safetensors")
        metadata = {"idsr.arch": role, "idsr.layout": "unet", "idsr.config": json.dumps(config)}
        save_weights(files[-1], RainUNet(**config), metadata)
        files.append(tmp_path / ("net_ggir.pth" if role == "ggirnet" else "net_dp.pth"))
        torch.save(ReleasedNet(ROLES[role], (4, 4, 6, 4)).state_dict(), files[-1])
    for own, other in ((files[0], files[2]), (files[1], files[3])):
        tensors = find_weights(str(own)).dprnet.tensors()
        with pytest.raises(UsageError, match="would replace all of --init") as caught:
            setup.with_trunk(tensors, str(other), "dprnet")
        assert caught.value.path == str(other)


def test_a_network_of_another_paper_has_its_recipe_and_loss(tmp_path, photos) -> None:
    data = TrainingData([photos], patch=0)
    request = TrainingSetup("sian", tmp_path / "out", data, losses={"distil": 0.0}).completed()
    assert (request.recipe, request.data.patch, request.mixture) == ("sian", 120, {"ssim": 1.0, "distil": 0.0})
    source = setup.load_source(request.data, CPU, lambda error: None, lambda note: None)
    # 100 epochs of 2 photographs, 60 crops each, 18 at a time.
    assert setup.schedule(request, source, None) == (100 * 7, 0.0)
    made = setup.train_options(request, "sian", {}, (1, 0.0), setup.rate(request, None), CPU)
    assert (made.batch, made.rate, made.clip, made.objective) == (18, 2e-4, 0.0, "stages")
    assert (made.role, made.name) == ("both", "sian")
    ours = replace(request, recipe="fast", losses={"gradient": 1.0}, data=data).completed()
    assert (ours.recipe, ours.data.patch, ours.mixture) == ("fast", 128, {"gradient": 1.0})
    for role in ROLES:
        idsr = TrainingSetup(role, tmp_path / "out", data).completed()
        assert (idsr.recipe, idsr.data.patch) == ("paper", 128)
        assert setup.train_options(idsr, "unet", {}, (1, 0.0), 1e-4, CPU).clip == 1.0


def test_the_authors_checkpoint_can_be_trained_on(tmp_path, photos) -> None:
    torch.manual_seed(0)
    torch.save(Sian(4, unused=True).state_dict(), tmp_path / "rain100l.pth")
    request = TrainingSetup("sian", tmp_path / "out", TrainingData([photos], patch=36), steps=1, batch=1,
                            init=str(tmp_path / "rain100l.pth"))  # fmt: skip
    trainer = setup.prepare(request, CPU, lambda error: None, lambda note: None)
    assert setup.summary_line(trainer).startswith("sian: ")
    group = trainer.optimizer.param_groups[0]
    assert (type(trainer.optimizer), group["betas"], group["lr"]) == (
        torch.optim.Adam,
        (0.0, 0.999),
        pytest.approx(2e-5),
    )
    assert trainer.run()
    weights = find_weights(str(tmp_path / "out")).ggirnet
    assert (weights.arch, weights.layout()) == ("both", networks.LAYOUTS["sian"])
    assert not any(name.startswith("body.conv_m") for name in weights.tensors())
    before = find_weights(request.init).dprnet.tensors()
    assert not torch.equal(before["body_end.2.bias"], weights.tensors()["body_end.2.bias"])
    with pytest.raises(UsageError, match="these are weights of `unet`, not of sian"):
        setup.initial("base", "sian")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"role": "sain"}, "unknown network `sain`"),
        ({"preset": "base"}, "sian has no preset `base`"),
        ({"role": "dprnet", "preset": "sian"}, "dprnet has no preset `sian`"),
        ({"init": "base", "trunk": "base"}, "--trunk does not go with sian"),
    ],
)
def test_networks_and_presets_that_do_not_fit(changes, message) -> None:
    with pytest.raises(UsageError, match=message):
        replace(TrainingSetup("sian", Path("out"), TrainingData([Path("photos")])), **changes)


def test_one_process_alone(monkeypatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert setup.join_processes("cpu") == (CPU, 0)
    setup.leave_processes()
    monkeypatch.setattr(os, "environ", {**os.environ, "LOCAL_RANK": "3"})
    assert setup.this_process(CPU) == CPU


def test_a_card_looks_for_its_fastest_convolutions(monkeypatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    for name, searches in (("cpu", False), ("cuda", True)):
        monkeypatch.setattr(setup, "choose_device", torch.device)
        assert setup.join_processes(name) == (torch.device(name), 0)
        assert torch.backends.cudnn.benchmark is searches


def test_the_rate(tmp_path, photos) -> None:
    """Weights that are good already are fine-tuned gently; a release is trained on at the rate of its run."""

    def rate(checkpoint: Any = None, **changes: Any) -> float:
        return setup.rate(asked(tmp_path, photos, **changes), checkpoint)

    for recipe, (_, usual, *_) in setup.RECIPE_DEFAULTS.items():
        assert rate(recipe=recipe) == usual
        assert rate(recipe=recipe, init="base") == (usual if recipe == "decay" else pytest.approx(usual / 10))
        assert rate(recipe=recipe, init="base", rate=0.5) == 0.5
    checkpoint = {"options": json.dumps({"rate": 0.25})}
    assert (rate(checkpoint, init="base"), rate(checkpoint, rate=0.5)) == (0.25, 0.5)


def test_defaults_fill_the_recipe(tmp_path, photos) -> None:
    made = setup.train_options(asked(tmp_path, photos, batch=0, recipe="paper"), "unet", {}, (1, 0.0), 1e-4, CPU)
    assert (made.batch, made.rate, made.precision, made.patch) == (16, 1e-4, "fp32", 32)
    assert isinstance(made, loop.TrainOptions)
