"""`idsr train` in three steps of a very small network."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from idsr_cli.cli.train_options import DataOptions
from idsr_cli.networks import ROLES, RainUNet
from idsr_cli.networks.sian import Sian
from idsr_cli.synthetic_rain import RainOptions
from idsr_cli.training import loop
from idsr_cli.weights import find_weights, save_weights

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = {"widths": [4, 8], "blocks": [1, 1, 1], "unshuffle": 2}
SMALL = ("--patch", 32, "--batch", 1, "--recipe", "fast", "--device", "cpu")


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """Weights of the smallest network there is, both roles, to start from."""
    for role, attention in ROLES.items():
        torch.manual_seed(1)
        config = {**SHAPE, "attention": attention}
        settings = {"idsr.arch": role, "idsr.layout": "unet", "idsr.config": json.dumps(config)}
        save_weights(tmp_path / "start" / f"{role}.safetensors", RainUNet(**config), settings)
    return tmp_path / "start"


def pairs(folder: Path, photos: Path) -> tuple[Path, Path]:
    for name in ("rainy", "clean"):
        (folder / name).mkdir()
    for path in photos.glob("img*.png"):
        image = np.asarray(Image.open(path))
        Image.fromarray(image).save(folder / "clean" / path.name)
        Image.fromarray(np.clip(image.astype(int) + 40, 0, 255).astype(np.uint8)).save(folder / "rainy" / path.name)
    return folder / "rainy", folder / "clean"


@pytest.mark.parametrize("role", list(ROLES))
def test_from_photographs(run, photos, start, tmp_path, role) -> None:
    out = tmp_path / "out"
    result = run("train", role, "--photos", photos, "-o", out, "--steps", 3, "--init", start, *SMALL)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "3 photographs, 0 pairs, 0 layers" in result.stderr
    assert "done at step 3" in result.stderr
    assert "curves in" in result.stderr
    assert len((out / "log.jsonl").read_text().splitlines()) == 1  # even the shortest run tells its loss
    assert {"checkpoint.pt", "last.safetensors"} <= {path.name for path in out.iterdir()}
    last = out / "last.safetensors"
    assert result.stderr.splitlines()[-1] == f"weights in {last}; use them with --weights {last}"
    assert run("derain", photos / "img2.png", "-o", tmp_path / "dry", "--weights", out).exit_code == 0
    verified = run("models", "verify", out)
    assert (verified.exit_code, verified.stdout) == (0, f"{last}: ok (no sha256 on record, loads, finite)\n")
    weights = find_weights(str(out / "last.safetensors")).dprnet
    assert weights.arch == role
    assert weights.metadata["idsr.init"] == "start"
    assert weights.metadata["idsr.data"] == "3 photographs (photos); procedural streaks"
    before = find_weights(str(start / f"{role}.safetensors")).dprnet.tensors()
    after = weights.tensors()
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    weights.build()


@pytest.fixture
def sian(tmp_path: Path) -> Path:
    """A small checkpoint of SIAN as its authors' training code writes it."""
    torch.manual_seed(0)
    torch.save(Sian(4, unused=True).state_dict(), tmp_path / "rain100l.pth")
    return tmp_path / "rain100l.pth"


def test_a_network_of_another_paper(run, photos, sian, tmp_path) -> None:
    out = tmp_path / "out"
    small = ("--patch", 36, "--batch", 1, "--device", "cpu", "--photos", photos)
    result = run("train", "sian", "-o", out, "--steps", 2, "--init", sian, *small)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert "sian: 0.0" in result.stderr
    report = json.loads((out / "log.jsonl").read_text())
    # Six stages; the term is the last stage's.
    assert set(report["terms"]) == {"ssim"}
    assert 3 * report["terms"]["ssim"] < report["loss"] < 12 * report["terms"]["ssim"]
    assert report["rate"] == pytest.approx(2e-5)  # a tenth, with --init
    again = run("train", "sian", "-o", out, "--steps", 3, "--init", sian, "--resume", *small)
    assert "done at step 3" in again.stderr
    weights = find_weights(str(out))
    assert (weights.dprnet.arch, weights.dprnet.metadata["idsr.layout"]) == ("both", "sian")
    for command in (("derain", photos / "img2.png"), ("sift", photos / "img2.png")):
        done = run(*command, "-o", tmp_path / command[0], "--weights", out)
        assert (done.exit_code, done.stdout) == (0, ""), done.stderr
    ours = run("train", "sian", "-o", tmp_path / "ours", "--steps", 1, "--init", sian, "--loss", "gradient=1",
               "--loss", "descriptor=0.5", "--recipe", "fast", "--precision", "bf16", *small)  # fmt: skip
    assert ours.exit_code == 0, ours.stderr
    assert set(json.loads((tmp_path / "ours" / "log.jsonl").read_text())["terms"]) == {"gradient", "descriptor"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--init", "base"), "these are weights of `unet`, not of sian"),
        (("--preset", "base"), "sian has no preset `base` (use sian or sian-paper)"),
        (("--patch", "20"), "patch 20 is too small (use 32 or more)"),
    ],
)
def test_what_does_not_fit_a_network_of_another_paper(run, photos, tmp_path, arguments, message) -> None:
    result = run("train", "sian", "--photos", photos, "-o", tmp_path / "out", "--steps", 1, *arguments)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_resume(run, photos, start, tmp_path) -> None:
    out = tmp_path / "out"
    command = ("train", "ggirnet", "--photos", photos, "-o", out, "--init", start, *SMALL)
    stopped = run(*command, "--steps", 3, "--time-limit", 0.000001)
    assert stopped.exit_code == 0
    assert "stopped; go on with --resume at step 0" in stopped.stderr
    again = run(*command, "--steps", 3)
    assert (again.exit_code, len(again.stderr.splitlines())) == (2, 1)
    assert f"{out}: there is a checkpoint already (add --resume" in again.stderr
    other = run(*command, "--steps", 3, "--seed", 4, "--resume")
    assert (other.exit_code, len(other.stderr.splitlines())) == (2, 1)
    resumed = run(*command, "--steps", 3, "--resume")
    assert resumed.exit_code == 0
    assert "done at step 3" in resumed.stderr
    whole = tmp_path / "whole"
    run("train", "ggirnet", "--photos", photos, "-o", whole, "--init", start, "--steps", 3, *SMALL)
    a, b = (find_weights(str(folder / "last.safetensors")).dprnet.tensors() for folder in (out, whole))
    assert all(torch.equal(a[name], b[name]) for name in a)
    more = run(*command, "--resume")
    assert "this run is complete; give a larger --steps" in more.stderr
    longer = run(*command, "--steps", 4, "--resume")
    assert "done at step 4" in longer.stderr


def test_interruption_ends_the_step_and_writes_a_checkpoint(run, photos, start, tmp_path, monkeypatch) -> None:
    step = loop.Trainer._one_step

    def interrupted(self: loop.Trainer) -> dict[str, float]:
        if self.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    monkeypatch.setattr(loop.Trainer, "_one_step", interrupted)
    out = tmp_path / "out"
    everything = ("train", "dprnet", "--photos", photos, "-o", out, "--steps", 4, "--init", start, *SMALL)
    result = run(*everything)
    assert result.exit_code == 130
    assert f"wrote {out}/checkpoint.pt; go on with --resume" in result.stderr
    assert loop.read_checkpoint(out / "checkpoint.pt")["counters"]["step"] == 2
    assert run(*everything, "--resume").exit_code == 0


def test_a_log_that_cannot_be_read_does_not_spoil_the_end(run, photos, start, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    save = loop.Trainer.save

    def damaging(self: loop.Trainer) -> None:
        save(self)
        (out / "log.jsonl").write_text('{"step": 1, "lo')  # cut off by a full disk

    monkeypatch.setattr(loop.Trainer, "save", damaging)
    result = run("train", "dprnet", "--photos", photos, "-o", out, "--steps", 1, "--init", start, *SMALL)
    assert result.exit_code == 0
    assert "no curves: line 1 is no report of a training run" in result.stderr
    assert "weights in" in result.stderr


def test_streaks_that_cannot_be_read(run, photos, start, tmp_path) -> None:
    (tmp_path / "layers").mkdir()
    (tmp_path / "layers" / "a.png").write_bytes(b"no picture")
    result = run("train", "dprnet", "--photos", photos, "-o", tmp_path / "out", "--steps", 1, "--init", start, *SMALL,
                 "--streaks", tmp_path / "layers")  # fmt: skip
    assert result.exit_code == 2
    assert f"{tmp_path}/layers: no streak layer could be read" in result.stderr


def test_resume_without_a_checkpoint(run, photos, start, tmp_path) -> None:
    result = run(
        "train", "dprnet", "--photos", photos, "-o", tmp_path / "out", "--init", start, "--resume", "--steps", 3, *SMALL
    )
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "no checkpoint there (start without --resume)" in result.stderr
    assert not (tmp_path / "out").exists()


def test_from_pairs_with_validation(run, photos, start, tmp_path) -> None:
    rainy, clean = pairs(tmp_path, photos)
    out = tmp_path / "out"
    result = run("train", "ggirnet", "--rainy", rainy, "--clean", clean, "--val-rainy", rainy, "--val-clean", clean,
                 "--val-count", 1, "-o", out, "--steps", 2, "--init", start, "--loss", "pixel=1",
                 "--json", *SMALL)  # fmt: skip
    assert result.exit_code == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert {event["event"] for event in events} == {"train"}
    assert [event["step"] for event in events if event["validation"]] == [0, 1, 2]
    assert events[-1]["validation"]["true"] > 0
    assert events[-1]["baselines"]["initial"] == events[0]["validation"]
    start_true, end_true = (event["validation"]["true"] for event in (events[0], events[-1]))
    rainy_true = events[0]["baselines"]["rainy"]["true"]
    assert f"step 0: recovered keypoints true {start_true:.1f} (rainy {rainy_true:.1f})\n" in result.stderr
    assert (
        f"step 2: recovered keypoints true {end_true:.1f} (rainy {rainy_true:.1f}, initial {start_true:.1f})\n"
        in result.stderr
    )
    assert (out / "best.safetensors").is_file()
    assert f"use them with --weights {out / 'best.safetensors'}\n" in result.stderr
    assert (out / "log.jsonl").is_file()
    made = find_weights(str(out / "best.safetensors")).dprnet.metadata
    assert json.loads(made["idsr.training"])["losses"] == {"pixel": 1.0}
    assert made["idsr.data"] == "2 pairs; procedural streaks"


def test_fine_tuning_cannot_hurt(run, photos, start, tmp_path) -> None:
    """A rate that ruins the network: the weights that other commands take are those of the start, and this is said."""
    rainy, clean = pairs(tmp_path, photos)
    out = tmp_path / "out"
    command = ("train", "dprnet", "--rainy", rainy, "--clean", clean, "--val-rainy", rainy, "--val-clean", clean, "-o",
               out, "--init", start, *SMALL)  # fmt: skip
    result = run(*command, "--steps", 3, "--rate", 0.5, "--ema", 0)
    assert result.exit_code == 0, result.stderr
    assert "warning: no step scored better than the start, true " in result.stderr
    before, after = (find_weights(str(path)).dprnet.tensors() for path in (start, out))
    assert all(torch.equal(before[name], after[name]) for name in before)
    last = find_weights(str(out / "last.safetensors")).dprnet.tensors()
    assert any(not torch.equal(before[name], last[name]) for name in before)
    options = json.loads(loop.read_checkpoint(out / "checkpoint.pt")["options"])
    assert options["rate"] == 0.5
    assert run(*command, "--steps", 4, "--ema", 0, "--resume").exit_code == 0  # with the rate of the checkpoint


@pytest.mark.parametrize(("name", "weight"), [("distil", 0.5), ("matching", 1.0)])
def test_real_photographs(run, photos, start, tmp_path, name, weight) -> None:
    out, real = tmp_path / "out", Path(shutil.copytree(photos, tmp_path / "real"))
    result = run("train", "dprnet", "--photos", photos, "--real", real, "--loss", f"{name}={weight}", "-o", out,
                 "--steps", 2, "--init", start, *SMALL)  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "3 photographs, 0 pairs, 3 real, 0 layers" in result.stderr
    assert name in json.loads((out / "log.jsonl").read_text().splitlines()[0])["terms"]
    made = find_weights(str(out / "last.safetensors")).dprnet.metadata
    losses = json.loads(made["idsr.training"])["losses"]
    assert losses == {"pixel": 0.2, "gradient": 1.0, "alp-derivative": 2.0, name: weight}
    assert made["idsr.data"] == "3 photographs (photos); procedural streaks; 3 real rainy photographs (real)"


def test_a_teacher(run, photos, start, tmp_path) -> None:
    out, real = tmp_path / "out", Path(shutil.copytree(photos, tmp_path / "real"))
    command = ("train", "dprnet", "--photos", photos, "--real", real, "--loss", "distil=0.5", "-o", out, "--init",
               start, *SMALL)  # fmt: skip
    result = run(*command, "--teacher", start, "--steps", 1)
    assert result.exit_code == 0, result.stderr
    made = find_weights(str(out)).dprnet.metadata
    assert json.loads(made["idsr.training"])["teacher"] == find_weights(str(start)).dprnet.sha256
    result = run(*command, "--steps", 2, "--resume")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "not none (resume with the same options" in result.stderr


@pytest.mark.parametrize("network", ["qsnet", "mdn"])
def test_networks_for_both_roles_from_scratch(run, photos, tmp_path, network) -> None:
    """Trained with their papers' losses, resumed, used, and trained on without what only training from scratch has."""
    rainy, clean = pairs(tmp_path, photos)
    real, out = Path(shutil.copytree(photos, tmp_path / "real")), tmp_path / "out"
    command = ("train", network, "--rainy", rainy, "--clean", clean, "--real", real, "--patch", 32, "--batch", 1)
    extra = ("--loss", "matching=0.5") if network == "qsnet" else ()  # mdn has it by itself
    result = run(*command, "-o", out, "--steps", 2, *extra)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith(f"{network}: 0.")
    losses = json.loads(find_weights(str(out)).dprnet.metadata["idsr.training"])["losses"]
    paper = {"qsnet": {"pixel": 1.0, "quasi-sparsity": 1e-3, "auxiliary": 1e-2, "low-value": 1e-4, "matching": 0.5},
             "mdn": {"ssim": 1.0, "pixel": 1.0, "matching": 1.0}}  # fmt: skip
    assert losses == paper[network]
    terms = [json.loads(line)["terms"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert {*losses, "matching-spread"} <= set(terms[-1])
    assert run(*command, "-o", out, "--steps", 3, "--resume", *extra).exit_code == 0
    photo = rainy / "img2.png"
    for verb, written in (("derain", "img2.png"), ("sift", "img2.png.npz")):
        result = run(verb, photo, "-o", tmp_path / verb, "--weights", out)
        assert result.exit_code == 0, result.stderr
        assert (tmp_path / verb / written).is_file()
    again = run(*command, "-o", tmp_path / "again", "--steps", 1, "--init", out, *extra)
    assert again.exit_code == 0, again.stderr
    assert ("the loss `auxiliary` is left out" in again.stderr) == (network == "qsnet")


def test_real_photographs_that_are_none(run, photos, tmp_path) -> None:
    rainy, clean = pairs(tmp_path, photos)
    real = tmp_path / "own"
    real.mkdir()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(real / "own.png")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")

    def told(*arguments: object) -> list[str]:
        result = run("train", "mdn", "-o", tmp_path / "out", "--steps", 1, *SMALL, *arguments)
        assert result.exit_code == 2
        assert not (tmp_path / "out").exists()
        return result.stderr.splitlines()

    for one, other in (("--rainy", real), ("--clean", real)):
        swapped = rainy if one == "--rainy" else clean
        given = {"--rainy": rainy, "--clean": clean, one: other, "--real": swapped}
        [line] = told(*(word for both in given.items() for word in both))
        assert line.endswith(f"but --real has what fits (swap --real and {one})")
    for folder in (rainy, clean):
        [line] = told("--rainy", rainy, "--clean", clean, "--real", folder)
        assert line.startswith(f"{folder / 'img2.png'}: is given by --real, and is one of the ")
    [line] = told("--rainy", rainy, "--clean", clean, "--real", tmp_path / "out")
    assert line == f"{tmp_path / 'out'}: no such folder"
    *_, line = told("--rainy", rainy, "--clean", clean, "--real", tmp_path / "broken")
    assert line == f"{tmp_path / 'broken'}: no real photograph could be read"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to train on (give --photos, or pairs by --rainy and --clean"),
        (("--rainy", "PHOTOS"), "--rainy and --clean go together"),
        (("--clean", "PHOTOS"), "--rainy and --clean go together"),
        (("--photos", "PHOTOS", "--val-rainy", "PHOTOS"), "--val-rainy and --val-clean go together"),
        (("--photos", "PHOTOS", "--loss", "beauty=1"), "unknown loss `beauty` (use pixel, pixel-l2, alp"),
        (("--photos", "PHOTOS", "--loss", "pixel=0"), "no loss has any weight"),
        (("--photos", "PHOTOS", "--loss", "distil=1"), "--loss distil needs rainy photographs without clean versions"),
        (("--photos", "PHOTOS", "--teacher", "START"), "--teacher has no loss to teach in (add --loss distil=WEIGHT"),
        (("--photos", "PHOTOS", "--loss", "matching=1"), "--loss matching needs rainy photographs"),
        (("--photos", "PHOTOS", "--real", "PHOTOS"), "--real has no loss to go with (add --loss matching=1"),
        (("--photos", "PHOTOS", "--loss", "pixel=1", "--loss", "auxiliary=1"), "for networks with auxiliary decoders"),
        (("--photos", "PHOTOS", "--real", "PHOTOS/no", "--loss", "distil=1"), "no such folder"),
        (("--photos", "PHOTOS/nothing"), "no such folder"),
        (("--photos", "PHOTOS", "--patch", 33), "patch"),
        (("--photos", "PHOTOS", "--large", 0.5), "the network takes no patches of 48 pixels, those of --large, but"),
        (("--photos", "PHOTOS", "--device", "tpu"), "unknown device `tpu`"),
        (("--photos", "PHOTOS", "--init", "nonsense"), "no weights named `nonsense`"),
        (("--list", "PHOTOS/notes.txt"), "line 1: no file"),
        (("--photos", "PHOTOS", "--trunk", "nonsense"), "no weights named `nonsense`"),
        (("--photos", "PHOTOS", "--trunk", "START/dprnet.safetensors"), "these are weights of dprnet itself"),
        (("--photos", "PHOTOS", "--trunk", "base"), "its layers are not those of --init"),
    ],
)
def test_mistakes(run, photos, start, tmp_path, arguments, message) -> None:
    words = [str(a).replace("PHOTOS", str(photos)).replace("START", str(start)) for a in arguments]
    defaults = [] if "--init" in words else ["--init", start]
    result = run("train", "dprnet", "-o", tmp_path / "out", "--steps", 1, *SMALL, *defaults, *words)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [("--loss", "pixel"), ("--loss", "pixel=nan"), ("--octaves", "5"), ("--octaves", "x")]
)
def test_options_that_cannot_be_read(run, photos, tmp_path, arguments) -> None:
    result = run("train", "dprnet", "--photos", photos, "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert "Invalid value" in result.stderr


def test_weights_of_the_other_role(run, photos, start, tmp_path) -> None:
    result = run("train", "dprnet", "--photos", photos, "-o", tmp_path / "out", "--steps", 1,
                 "--init", start / "ggirnet.safetensors", *SMALL)  # fmt: skip
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "these are weights of ggirnet, not of dprnet" in result.stderr


def test_a_trunk_from_the_other_network(run, photos, start, tmp_path) -> None:
    other = tmp_path / "other.safetensors"
    torch.manual_seed(2)
    config = {**SHAPE, "attention": "spatial"}
    settings = {"idsr.arch": "dprnet", "idsr.layout": "unet", "idsr.config": json.dumps(config)}
    save_weights(other, RainUNet(**config), settings)
    out = tmp_path / "out"
    command = ("train", "ggirnet", "--photos", photos, "-o", out, "--steps", 1, "--rate", 1e-9, *SMALL)
    alone = run(*command, "--trunk", other)
    assert (alone.exit_code, alone.stderr.strip()) == (2, "idsr: --trunk goes with --init")
    result = run(*command, "--init", start, "--trunk", other)
    assert result.exit_code == 0, result.stderr
    made = find_weights(str(out / "last.safetensors")).dprnet
    assert made.metadata["idsr.trunk"] == "other.safetensors"
    own, foreign = find_weights(str(start)).ggirnet.tensors(), find_weights(str(other)).dprnet.tensors()
    attention = {name for name in own if ".gradient." in name}
    assert attention
    assert set(own) - attention <= set(foreign)
    for name, value in made.tensors().items():
        expected = own[name] if name in attention else foreign[name]
        torch.testing.assert_close(value.float(), expected.float(), atol=1e-3, rtol=1e-3)


def test_fine_tuned_weights_leave_dry_photographs_alone_as_their_origin_does(run, photos, start, tmp_path) -> None:
    thresholds = {"idsr.dry_threshold": "2.5", "idsr.rain_floor": "1.5"}
    origin = find_weights(str(start)).dprnet
    save_weights(start / "dprnet.safetensors", origin.build(), {**origin.metadata, **thresholds})
    out = tmp_path / "out"
    result = run("train", "dprnet", "--photos", photos, "-o", out, "--steps", 1, "--init", start, *SMALL)
    assert result.exit_code == 0, result.stderr
    made = find_weights(str(out / "last.safetensors")).dprnet
    assert (made.dry_threshold, made.rain_floor) == (2.5, 1.5)


@pytest.mark.parametrize("spelled", [("--resume", "auto"), ("--resume=auto",)])
def test_resume_auto_begins_and_goes_on(run, photos, start, tmp_path, spelled) -> None:
    out = tmp_path / "out"
    command = ("train", "ggirnet", "--photos", photos, "-o", out, "--init", start, *SMALL, *spelled)
    first = run(*command, "--steps", 2)
    assert first.exit_code == 0, first.stderr
    assert f"no checkpoint in {out} yet: a new run begins" in first.stderr
    again = run(*command, "--steps", 3)
    assert again.exit_code == 0, again.stderr
    assert "a new run begins" not in again.stderr
    assert "done at step 3" in again.stderr
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    wrong = run(*command[: -len(spelled)], "--resume=never")
    assert (wrong.exit_code, "Invalid value" in wrong.stderr) == (2, True)


def test_memory_that_runs_out_in_training(run, photos, start, tmp_path, monkeypatch) -> None:
    def full(self: loop.Trainer) -> dict[str, float]:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(loop.Trainer, "_one_step", full)
    out = tmp_path / "out"
    result = run("train", "dprnet", "--photos", photos, "-o", out, "--steps", 1, "--init", start, *SMALL)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        2,
        f"{out}: out of memory in step 1 (use a smaller --batch or --patch, --precision bf16, or --device cpu)",
    )
    monkeypatch.setattr("idsr_cli.training.memory.load_photos", lambda *_: (_ for _ in ()).throw(MemoryError()))
    result = run("train", "dprnet", "--photos", photos, "-o", out, "--steps", 1, "--init", start, *SMALL)
    assert "out of memory before the first step (give fewer or smaller photographs)" in result.stderr


def test_the_share_of_procedural_streaks_is_that_of_the_mixture() -> None:
    """The option has a value of its own, because help must not load torch; it would hide a change of the mixture."""
    assert DataOptions().procedural == RainOptions().procedural
