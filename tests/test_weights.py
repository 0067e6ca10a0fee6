"""Weights load as they were saved; damaged, foreign and malicious files get a one-line error each."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from idsr_cli.errors import UsageError, WeightsError
from idsr_cli.evaluation.run import distinct
from idsr_cli.networks import ROLES, RainUNet, ReleasedNet
from idsr_cli.networks.blocks import EdgeConv
from idsr_cli.restoration import RestorationOptions, load_network
from idsr_cli.runs.sift import SiftSettings
from idsr_cli.weights import (
    check_folder,
    find_weights,
    named_weights,
    save_weights,
    sha256_of,
    weights_folders,
    write_manifest,
)

SHAPE = {"widths": [4, 8], "blocks": [1, 1, 1], "unshuffle": 2}


def network(role: str = "dprnet", seed: int = 0, **changes: object) -> RainUNet:
    torch.manual_seed(seed)
    made = RainUNet(**{**SHAPE, "attention": ROLES[role], **changes})  # type: ignore[arg-type]
    nn.init.normal_(made.tail.weight, std=0.01)
    return made.eval()


def metadata(role: str = "dprnet", **changes: str) -> dict[str, str]:
    config = {**SHAPE, "attention": ROLES[role]}
    return {"idsr.arch": role, "idsr.layout": "unet", "idsr.config": json.dumps(config), **changes}


def save(path: Path, role: str = "dprnet", half: bool = False, **changes: str) -> Path:
    save_weights(path, network(role), metadata(role, **changes), half)
    return path


def pair_folder(folder: Path, **changes: str) -> Path:
    for role in ROLES:
        save(folder / f"{role}.safetensors", role, **changes)
    write_manifest(folder)
    return folder


def refusal(spec: object, build: bool = False) -> WeightsError:
    """The error, which must be one short line that names the file."""
    found = find_weights(str(spec)) if build else None
    with pytest.raises(WeightsError) as caught:
        found.dprnet.build() if found else find_weights(str(spec))
    error = caught.value
    assert len(str(error).splitlines()) == 1
    assert len(error.reason) < 300
    assert error.exit_code == 2
    return error


@pytest.fixture(autouse=True)
def _no_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IDSR_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("role", list(ROLES))
@pytest.mark.parametrize("half", [False, True])
def test_round_trip(tmp_path: Path, role: str, half: bool) -> None:
    path = save(tmp_path / "net.safetensors", role, half, **{"idsr.note": "grüße", "idsr.dry_threshold": "0.5"})
    found = find_weights(str(path))
    weights = found.dprnet
    assert found.ggirnet is weights
    assert (weights.arch, found.splice, found.name) == (role, "DD" if role == "dprnet" else "GG", "net")
    assert (weights.metadata["idsr.note"], weights.dry_threshold) == ("grüße", 0.5)
    assert weights.sha256 == sha256_of(path)
    with safe_open(path, framework="pt") as file:
        dtypes = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert dtypes == {torch.float16 if half else torch.float32}
    built = weights.build()
    assert not built.training
    assert not any(p.requires_grad for p in built.parameters())
    for name, value in network(role).state_dict().items():
        expected = value.half().float() if half else value
        assert torch.equal(built.state_dict()[name], expected)
    assert {v.dtype for v in built.state_dict().values()} == {torch.float32}


def test_half_files_are_half_as_big(tmp_path: Path) -> None:
    wide = network(widths=[16, 32])
    config = {"idsr.config": json.dumps({**SHAPE, "widths": [16, 32]})}
    for half in (False, True):
        save_weights(tmp_path / f"{half}.safetensors", wide, metadata(**config), half)
    sizes = [(tmp_path / f"{half}.safetensors").stat().st_size for half in (True, False)]
    assert sizes[0] < 0.7 * sizes[1]


def test_edge_branches_are_folded_on_save(tmp_path: Path) -> None:
    trained = network(edge_branches=True)
    config = {"idsr.config": json.dumps({**SHAPE, "attention": "spatial", "edge_branches": True})}
    save_weights(tmp_path / "edge.safetensors", trained, metadata(**config))
    assert any(isinstance(m, EdgeConv) for m in trained.modules())  # the network itself is left alone
    weights = find_weights(str(tmp_path / "edge.safetensors")).dprnet
    assert json.loads(weights.metadata["idsr.config"])["edge_branches"] is False
    built = weights.build()
    assert not any(isinstance(m, EdgeConv) for m in built.modules())
    x = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        torch.testing.assert_close(built(x), trained(x), atol=1e-5, rtol=0)
        assert not torch.equal(built(x), x)


def test_folder_with_both(tmp_path: Path) -> None:
    found = find_weights(str(pair_folder(tmp_path / "mine")))
    assert (found.name, found.splice) == ("mine", "DG")
    assert (found.dprnet.arch, found.ggirnet.arch) == ("dprnet", "ggirnet")
    assert found.sha256 not in (found.dprnet.sha256, found.ggirnet.sha256)
    assert find_weights(str(pair_folder(tmp_path / "measured", **{"idsr.splice": "GG"}))).splice == "GG"


@pytest.mark.parametrize(("role", "splice"), [("dprnet", "DD"), ("ggirnet", "GG")])
def test_folder_with_one(tmp_path: Path, role: str, splice: str) -> None:
    # Alone, a network cannot run the splice it was measured with.
    save(tmp_path / f"{role}.safetensors", role, **{"idsr.splice": "DG"})
    found = find_weights(str(tmp_path))
    assert found.splice == splice
    assert found.dprnet is found.ggirnet
    assert found.dprnet.arch == role


@pytest.mark.parametrize(("role", "splice"), [("dprnet", "DD"), ("ggirnet", "GG")])
def test_folder_of_a_training_run(tmp_path: Path, role: str, splice: str) -> None:
    for file in ("last.safetensors", "best.safetensors"):  # the best one if it exists
        save(tmp_path / "run" / file, role, **{"idsr.note": file})
        found = find_weights(str(tmp_path / "run"))
        assert (found.name, found.splice) == ("run", splice)
        assert found.dprnet is found.ggirnet
        assert (found.dprnet.path, found.dprnet.arch) == (tmp_path / "run" / file, role)
    other = {"dprnet": "ggirnet", "ggirnet": "dprnet"}[role]
    runs = {role: tmp_path / "run", other: save(tmp_path / "other" / "last.safetensors", other)}
    two = find_weights(f"{runs['dprnet']},{runs['ggirnet']}")
    assert (two.splice, two.dprnet.arch, two.ggirnet.arch) == ("DG", "dprnet", "ggirnet")
    assert two.name == ("run,last" if role == "dprnet" else "last,run")
    both = find_weights(str(pair_folder(tmp_path / "run")))
    assert (both.splice, both.dprnet.path.name) == ("DG", "dprnet.safetensors")


def test_two_files(tmp_path: Path) -> None:
    d, g = save(tmp_path / "a.safetensors"), save(tmp_path / "b.safetensors", "ggirnet")
    found = find_weights(f"{d},{g}")
    assert (found.name, found.splice, found.dprnet.path, found.ggirnet.path) == ("a,b", "DG", d, g)
    assert "3 files" in refusal(f"{d},{g},{d}").reason
    swapped = refusal(f"{g},{d}")
    assert (swapped.path, swapped.reason) == (str(g), "these are weights of ggirnet, not of dprnet")
    assert refusal(f"{d},{tmp_path}/none.safetensors").path == f"{tmp_path}/none.safetensors"


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDSR_WEIGHTS_DIR", str(tmp_path / "shop"))
    monkeypatch.chdir(tmp_path)
    pair_folder(tmp_path / "shop" / "rainbow")
    pair_folder(tmp_path / "shop" / "base")
    (tmp_path / "shop" / "empty").mkdir()
    assert weights_folders()[0] == tmp_path / "shop"
    assert find_weights("rainbow").name == "rainbow"
    assert find_weights().dprnet.path == tmp_path / "shop" / "base" / "dprnet.safetensors"  # before the shipped one
    assert [name for name, _ in named_weights()][:3] == ["base", "rainbow", "base"]
    error = refusal("drizzle")
    assert error.reason == "no weights named `drizzle` and no such file or folder"
    assert error.hint == "here are: base, rainbow"
    (tmp_path / "rainbow").mkdir()
    (tmp_path / "rainbow" / "photo.jpg").touch()
    assert find_weights("rainbow").dprnet.path.parent == tmp_path / "shop" / "rainbow"
    assert "no weights in this folder" in refusal("./rainbow").reason
    save(tmp_path / "rainbow" / "last.safetensors")
    assert find_weights("rainbow").dprnet.path.name == "last.safetensors"  # a training run of that name
    save(tmp_path / "base" / "last.safetensors")
    assert find_weights().dprnet.path == tmp_path / "shop" / "base" / "dprnet.safetensors"  # not ./base
    (tmp_path / "shop" / "base" / "dprnet.safetensors").write_bytes(b"")
    assert refusal("drizzle").hint == "here are: base, rainbow"  # damage of other weights is not reported


def test_manifest(tmp_path: Path) -> None:
    folder = pair_folder(tmp_path / "w")
    save(folder / "ggirnet.safetensors", "ggirnet", **{"idsr.note": "exchanged"})
    error = refusal(folder)
    assert error.reason == "sha256 differs from the manifest"
    assert (error.path, error.hint) == (str(folder / "ggirnet.safetensors"), "the file is damaged")
    (folder / "ggirnet.safetensors").unlink()
    error = refusal(folder)
    assert (error.reason, error.path, error.hint) == ("`ggirnet.safetensors` is missing", str(folder), "reinstall idsr")
    for text in ("{", "{}", "[]", '{"sha256": 5}', "\x00"):
        (folder / "manifest.json").write_text(text)
        error = refusal(folder)
        assert (error.reason, error.path) == ("manifest cannot be read", str(folder / "manifest.json"))


def test_empty_folder(tmp_path: Path) -> None:
    error = refusal(tmp_path)
    assert (error.reason, error.path) == ("no weights in this folder", str(tmp_path))
    for name in ("dprnet", "ggirnet", "best", "last"):
        assert f"{name}.safetensors" in error.hint


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("damage", ["truncated", "zero", "text"])
def test_damaged_files(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    if name.endswith(".pth"):
        torch.save(network().state_dict(), path)
    else:
        save(path)
    data = {"truncated": path.read_bytes()[:-500], "zero": b"", "text": b"version https://example.org\nsize 12\n"}
    path.write_bytes(data[damage])
    error = refusal(path)
    assert error.reason.startswith("cannot be loaded: ")
    assert (error.path, error.hint) == (str(path), "the file is damaged or no weights file")


def test_unreadable_and_unknown_files(tmp_path: Path) -> None:
    path = tmp_path / "w.png"
    path.write_bytes(b"png")
    error = refusal(path)
    assert (error.reason, error.path) == ("not a weights file", str(path))
    assert ".pth" in error.hint
    with pytest.raises(WeightsError, match="No such file"):
        sha256_of(tmp_path / "nothing")


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    bad = network()
    with torch.no_grad():
        bad.head.weight[0, 0, 0, 0] = float("nan")
    save_weights(tmp_path / "nan.safetensors", bad, metadata())
    error = refusal(tmp_path / "nan.safetensors", build=True)
    assert error.reason == "tensor `head.weight` holds values that are not finite"
    assert error.path == str(tmp_path / "nan.safetensors")


def test_tensors_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    state = network().state_dict()
    without = {name: value for name, value in state.items() if not name.startswith("down")}
    for wrong, words in (
        ({**state, "extra": torch.zeros(1)}, "1 extra (`extra`)"),
        (without, "2 missing (`down.0.weight`, ...)"),
        ({**without, "a": state["down.0.weight"], "head.weight": torch.zeros(4, 12, 5, 5)},
         "2 missing (`down.0.weight`, ...), 1 extra (`a`), "
         "1 of another shape (`head.weight (4, 12, 5, 5) for (4, 12, 3, 3)`)"),
    ):  # fmt: skip
        save_file(wrong, path, metadata())
        error = refusal(path, build=True)
        assert error.reason == f"tensors do not fit layout `unet`: {words}"
        assert error.path == str(path)


def test_contents(tmp_path: Path) -> None:
    state = network().state_dict()
    expected = {name: tuple(value.shape) for name, value in state.items()}
    torch.save(state, tmp_path / "w.pth")
    for spec, kind in ((save(tmp_path / "h.safetensors", half=True), "F16"), (tmp_path / "w.pth", "F32")):
        contents = find_weights(str(spec)).dprnet.contents()
        assert contents == {name: (kind, shape) for name, shape in expected.items()}


def test_check_folder(tmp_path: Path) -> None:
    folder = pair_folder(tmp_path / "w")
    assert [(path.name, error) for path, _, error in check_folder(folder)] == [
        ("dprnet.safetensors", None),
        ("ggirnet.safetensors", None),
    ]
    (folder / "dprnet.safetensors").unlink()
    (first, _, missing), (_, _, fine) = check_folder(folder)
    assert (first.name, str(missing)) == (
        "dprnet.safetensors",
        f"{folder}: `dprnet.safetensors` is missing (reinstall idsr)",
    )
    assert fine is None
    (folder / "manifest.json").write_text("{")
    (path, _, broken), (_, words, fine) = check_folder(folder)
    assert (path.name, broken is None, fine, words) == (
        "manifest.json",
        False,
        None,
        "no sha256 on record, loads, finite",
    )


def test_networks_whose_output_is_not_finite(tmp_path: Path) -> None:
    large = network()
    with torch.no_grad():  # every number is finite, their sums are not
        for parameter in large.parameters():
            parameter.fill_(1e30)
    save_weights(tmp_path / "dprnet.safetensors", large, metadata())
    ((path, _, error),) = check_folder(tmp_path)
    assert error is not None
    assert (error.reason, error.path) == ("gives values that are not finite", str(path))


def test_manifest_of_one_file_keeps_what_it_says_of_others(tmp_path: Path) -> None:
    folder = pair_folder(tmp_path / "w")
    for role in ROLES:
        save(folder / f"{role}.safetensors", role, **{"idsr.note": "exchanged"})
    write_manifest(folder, "dprnet.safetensors")
    (_, _, renewed), (_, _, damaged) = check_folder(folder)
    assert renewed is None
    assert damaged is not None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"idsr.arch": "resnet"}, "unknown network `resnet`"),
        ({"idsr.layout": "swin"}, "unknown network layout `swin`"),
        ({"idsr.config": "{"}, "configuration"),
        ({"idsr.config": "[1]"}, "configuration"),
        ({"idsr.config": '{"depth": 3}'}, "configuration"),
        ({"idsr.config": '{"widths": [4, 8], "blocks": [1]}'}, "configuration"),
    ],
)
def test_metadata_of_no_use(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    path = tmp_path / "w.safetensors"
    save_file(network().state_dict(), path, metadata(**changes))
    error = refusal(path, build="idsr.arch" not in changes)
    assert reason in error.reason
    assert error.path == str(path)


def test_metadata_without_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(network().state_dict(), path, {"idsr.layout": "unet"})
    assert refusal(path, build=True).path == str(path)


def test_unknown_splice(tmp_path: Path) -> None:
    error = refusal(pair_folder(tmp_path / "w", **{"idsr.splice": "XY"}))
    assert error.reason == "unknown splice `XY` in its metadata"
    assert error.path == str(tmp_path / "w" / "ggirnet.safetensors")


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (os.environ["HOSTILE_FOLDER"],)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin"])
def test_pickles_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setenv("HOSTILE_FOLDER", str(tmp_path / "taken over"))
    path = tmp_path / f"evil{suffix}"
    torch.save({"state_dict": network().state_dict(), "extra": Hostile()}, path)
    error = refusal(path)
    assert error.reason == "cannot be loaded: holds code (`posix.mkdir`), not only tensors"
    assert (error.path, error.hint) == (str(path), "save `network.state_dict()` alone")
    assert not (tmp_path / "taken over").exists()


@pytest.mark.parametrize("content", [[1, 2], 3, {"epoch": 7}, {}, {0: "x"}])
def test_pickles_without_tensors(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    error = refusal(tmp_path / "w.pth")
    assert error.reason in ("is not a state dict", "holds no tensors")
    assert error.path == str(tmp_path / "w.pth")


def test_foreign_checkpoints_of_no_known_network(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"conv.weight": torch.zeros(3, 3)}, path)
    assert "no network known" in refusal(path, build=True).reason
    state = network().state_dict()
    torch.save({k: v for k, v in state.items() if not k.startswith("down")}, path)  # an incomplete file of our layout
    assert refusal(path, build=True).path == str(path)
    torch.save({7: torch.zeros(3)}, path)
    assert refusal(path, build=True).path == str(path)


@pytest.mark.parametrize(("name", "role"), [("DPRNet.pth", "dprnet"), ("net_GGIR_9.pth", "ggirnet")])
@pytest.mark.parametrize("wrapper", ["", "state_dict", "params"])
def test_released_checkpoints(tmp_path: Path, name: str, role: str, wrapper: str) -> None:
    torch.manual_seed(3)
    released = ReleasedNet(ROLES[role], (4, 4, 6, 4)).eval()
    state = {f"module.{key}": value for key, value in released.state_dict().items()}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / name)
    found = find_weights(str(tmp_path / name))
    weights = found.dprnet
    assert (weights.arch, weights.metadata, weights.dry_threshold) == (role, {}, 0.0)
    assert found.splice == {"dprnet": "DD", "ggirnet": "GG"}[role]
    x = torch.rand(1, 3, 9, 12)
    with torch.no_grad():
        assert torch.equal(weights.build()(x), released(x))


def test_foreign_unet_without_metadata(tmp_path: Path) -> None:
    save_file(network("ggirnet").state_dict(), tmp_path / "some_ggir.safetensors")
    weights = find_weights(str(tmp_path / "some_ggir.safetensors")).ggirnet
    assert weights.arch == "ggirnet"
    assert weights.build().encoder[0][0].gradient is not None  # type: ignore[union-attr, index]


@pytest.mark.parametrize("key", ["idsr.dry_threshold", "idsr.rain_floor"])
@pytest.mark.parametrize("text", ["abc", "nan", "-3", "inf", ""])
def test_thresholds_that_are_no_numbers_from_0_up(tmp_path: Path, key: str, text: str) -> None:
    path = save(tmp_path / "dprnet.safetensors", **{key: text})
    weights = find_weights(str(path)).dprnet
    with pytest.raises(WeightsError, match=f"`{key}` in its metadata is `{text}`") as caught:
        getattr(weights, key.removeprefix("idsr."))
    assert caught.value.path == str(path)
    ((_, _, error),) = check_folder(tmp_path)
    assert error is not None
    assert key in error.reason
    with pytest.raises(WeightsError, match=key):
        load_network(weights)


@pytest.mark.parametrize("spec", [b"base", 5, ["base"], "a\0b"])
def test_what_names_no_weights(spec: object) -> None:
    with pytest.raises(UsageError, match=r"^weights "):
        find_weights(spec)  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", ["x" * 5000, f"{'x' * 300},{'y' * 300}", ""])
def test_names_that_cannot_be(spec: str) -> None:
    assert len(str(refusal(spec))) < 300


def test_weights_may_be_a_path_object(tmp_path: Path) -> None:
    assert find_weights(save(tmp_path / "a.safetensors")).name == "a"


def test_a_file_with_both_attentions_is_two_networks(tmp_path: Path) -> None:
    torch.manual_seed(3)
    torch.save(ReleasedNet(ROLES["dprnet"], (4, 4, 6, 4)).state_dict(), tmp_path / "net.pth")
    pair = find_weights(f"{tmp_path}/net.pth,{tmp_path}/net.pth")
    assert pair.dprnet.sha256 == pair.ggirnet.sha256
    assert pair.dprnet.identity != pair.ggirnet.identity
    assert distinct(pair, ("DG", "DD", "GG")) == ("DG", "DD", "GG")
    image = np.random.default_rng(0).random((12, 16, 3)).astype(np.float32)
    first, second = RestorationOptions(pair, "DG", "cpu").build().restore(image, "DG")
    assert not np.array_equal(first.rgb, second.rgb)
    alone = find_weights(str(tmp_path / "net.pth"))
    assert alone.dprnet.identity == alone.ggirnet.identity
    # The record of an output folder tells them apart as well.
    records = [SiftSettings("npz", "sift_u8", {}, made, "GG", {}).recorded() for made in (pair, alone)]
    assert records[0] != records[1]


def test_weights_with_metadata_are_their_bytes(tmp_path: Path) -> None:
    pair = find_weights(str(pair_folder(tmp_path / "w")))
    assert pair.dprnet.identity == pair.dprnet.sha256
    assert len({pair, find_weights(str(tmp_path / "w"))}) == 1


# --- checkpoints of other people's training code ---------------------------------------------------------------------


def released(seed: int = 3) -> ReleasedNet:
    torch.manual_seed(seed)
    return ReleasedNet(ROLES["dprnet"], (4, 4, 6, 4)).eval()


def loads_as(path: Path, expected: nn.Module) -> str:
    """The file builds this network; returns the remark."""
    pair = find_weights(str(path))
    built = pair.dprnet.build().state_dict()
    assert built.keys() == expected.state_dict().keys()
    assert all(torch.equal(value, built[name]) for name, value in expected.state_dict().items())
    assert pair.remarks == ([f"{path}: {pair.dprnet.remark}"] if pair.dprnet.remark else [])
    return pair.dprnet.remark


PREFIXES = ["_orig_mod.", "model.", "netG.", "module.", "module._orig_mod.", "_orig_mod.module.", "model.net.module."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("wrapper", ["", "network", "weights", "generator", "state_dict", "model"])
def test_prefixes_and_wrappers(tmp_path: Path, prefix: str, wrapper: str) -> None:
    state = {f"{prefix}{name}": value for name, value in released().state_dict().items()}
    torch.save({wrapper: state, "epoch": 4} if wrapper else state, tmp_path / "w.pth")
    assert loads_as(tmp_path / "w.pth", released()) == ""
    unet = {f"{prefix}{name}": value for name, value in network().state_dict().items()}
    save_file(unet, tmp_path / "w.safetensors")
    assert loads_as(tmp_path / "w.safetensors", network()) == ""


def test_wrappers_in_wrappers(tmp_path: Path) -> None:
    torch.save({"model": {"generator": {"state_dict": released().state_dict()}, "step": 3}}, tmp_path / "w.pth")
    assert loads_as(tmp_path / "w.pth", released()) == ""


def test_other_networks_beside_it_are_left_out(tmp_path: Path) -> None:
    state = {f"netG.{name}": value for name, value in released().state_dict().items()}
    torch.save({**state, "netD.0.weight": torch.zeros(3), "vgg.mean": torch.zeros(3)}, tmp_path / "w.pth")
    assert loads_as(tmp_path / "w.pth", released()) == ""


@pytest.mark.parametrize("average", ["params_ema", "model_ema", "ema", "ema_state_dict", "generator_ema"])
@pytest.mark.parametrize("raw", ["params", "state_dict", "model", "generator", "network"])
def test_the_averaged_copy_is_taken(tmp_path: Path, average: str, raw: str) -> None:
    copy = {f"module.{name}": value for name, value in released(4).state_dict().items()}
    copy["n_averaged"] = torch.tensor(3)
    torch.save({raw: released().state_dict(), average: copy}, tmp_path / "w.pth")
    remark = loads_as(tmp_path / "w.pth", released(4))
    assert remark == f"the averaged copy `{average}` is used, not the other one in the file"
    torch.save({average: released(4).state_dict()}, tmp_path / "only.pth")
    assert loads_as(tmp_path / "only.pth", released(4)) == ""


def test_an_average_without_names_is_no_copy(tmp_path: Path) -> None:
    """torch_ema keeps a list of tensors."""
    shadow = {"decay": 0.999, "shadow_params": list(released(4).state_dict().values())}
    torch.save({"state_dict": released().state_dict(), "ema": shadow}, tmp_path / "w.pth")
    assert loads_as(tmp_path / "w.pth", released()) == ""


def test_the_averaged_copy_in_the_same_state_dict(tmp_path: Path) -> None:
    state = {f"model.{name}": value for name, value in released().state_dict().items()}
    state |= {f"ema_model.module.{name}": value for name, value in released(4).state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "w.ckpt")
    assert "`ema_model`" in loads_as(tmp_path / "w.ckpt", released(4))


def test_numbers_and_options_beside_the_tensors(tmp_path: Path) -> None:
    import argparse

    import numpy as np

    beside = {
        "best": np.float64(31.2), "epoch": np.int64(4), "done": np.bool_(True), "half": np.float16(1.5),
        "losses": np.arange(5.0), "args": argparse.Namespace(lr=1e-3, out=Path("runs/1")),
        "history": [np.float32(0.5)],
    }  # fmt: skip
    torch.save({"state_dict": released().state_dict(), **beside}, tmp_path / "w.pth")
    loads_as(tmp_path / "w.pth", released())
    torch.save(
        {"state_dict": released().state_dict(), **beside}, tmp_path / "old.pth", _use_new_zipfile_serialization=False
    )
    loads_as(tmp_path / "old.pth", released())


def test_the_choice_of_a_copy_is_told(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from idsr_cli.cli.app import app

    path = tmp_path / "w.pth"
    torch.save({"params": released().state_dict(), "params_ema": released(4).state_dict()}, path)
    remark = f"{path}: the averaged copy `params_ema` is used, not the other one in the file"
    for words in (["models", "show", str(path)], ["models", "convert", str(path), str(tmp_path / "w.safetensors")]):
        result = CliRunner().invoke(app, words, prog_name="idsr")
        assert (result.exit_code, remark in result.stderr) == (0, True), result.stderr
    photo = tmp_path / "a.png"
    Image.new("RGB", (40, 40), "grey").save(photo)
    words = ["derain", str(photo), "-o", str(tmp_path / "b.png"), "--weights", str(path)]
    assert remark in CliRunner().invoke(app, words, prog_name="idsr").stderr
