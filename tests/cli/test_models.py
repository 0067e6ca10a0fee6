"""`idsr models`: list, show, verify and convert, with small networks."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from idsr_cli import networks
from idsr_cli.cli.model_card import fit_tables
from idsr_cli.kinds import KINDS
from idsr_cli.networks import ROLES, ReleasedNet
from idsr_cli.weights import ROLE_FILES, find_weights, save_weights, sha256_of, write_manifest

FILES = list(ROLE_FILES.values())
CARD = "# Model card: `rainbow`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"


def make(folder: Path, splice: str = "GG") -> Path:
    """A weights folder with two small networks, a manifest and a card."""
    for role, file in ROLE_FILES.items():
        config = {**networks.BASE, "widths": (8, 8), "blocks": (1, 1, 1), "attention": ROLES[role]}
        metadata = {
            "idsr.arch": role, "idsr.layout": "unet", "idsr.config": json.dumps(config), "idsr.splice": splice,
            "idsr.training": json.dumps({"steps": 7, "losses": {"pixel": 0.5}}),
        }  # fmt: skip
        save_weights(folder / file, networks.build("unet", config), metadata)
    write_manifest(folder)
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture
def shop(tmp_path, monkeypatch) -> Path:
    """$IDSR_WEIGHTS_DIR, with weights named rainbow; nothing in the cache."""
    monkeypatch.setenv("IDSR_WEIGHTS_DIR", str(tmp_path / "shop"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make(tmp_path / "shop" / "rainbow")
    return tmp_path / "shop"


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


# --- list ------------------------------------------------------------------------------------------------------------


def test_list(run, shop, tmp_path) -> None:
    make(tmp_path / "cache" / "idsr" / "rainbow")
    make(tmp_path / "cache" / "idsr" / "drizzle", "DG")
    result = run("models", "list")
    assert result.exit_code == 0
    weights, kinds = result.stdout.split("\n\n")
    heads = [line.split("  ") for line in weights.splitlines() if not line.startswith(" ")]
    assert heads == [
        ["rainbow", "splice GG", str(shop / "rainbow")],
        ["base", "splice DD", "(default)", heads[1][3]],
        ["drizzle", "splice DG", str(tmp_path / "cache" / "idsr" / "drizzle")],
        ["rainbow", "splice GG", "(hidden by the one above)", str(tmp_path / "cache" / "idsr" / "rainbow")],
    ]
    first = result.stdout.splitlines()[1]
    assert first.split()[:2] == ["dprnet", "unet"]
    assert first.endswith(f"sha256 {sha256_of(shop / 'rainbow' / FILES[0])[:12]}")
    assert kinds.startswith("Networks: `idsr train NAME`")
    for name, kind in KINDS.items():
        assert f"  {name:8} {kind.does} (presets {', '.join(kind.presets)})\n           {kind.paper}\n" in kinds
    rows = [line for line in weights.splitlines() if line.startswith(" ")] + kinds.splitlines()
    assert max(map(len, rows)) <= 80


def test_list_json(run, shop) -> None:
    events = run.events("models", "list")
    assert [(e["schema"], e["event"], e["name"]) for e in events] == [
        (1, "model", "rainbow"),
        (1, "model", "base"),
        *((1, "network", name) for name in KINDS),
    ]
    assert [e["status"] for e in events[:2]] == ["ok", "ok"]
    assert [e["paper"] for e in events[2:]] == [kind.paper for kind in KINDS.values()]
    (file, _) = events[0]["files"]
    built = find_weights("rainbow").dprnet
    assert file == {
        "file": FILES[0], "role": "dprnet", "layout": "unet", "type": "F32", "sha256": built.sha256,
        "parameters": sum(p.numel() for p in built.build().parameters()), "bytes": built.path.stat().st_size,
    }  # fmt: skip
    assert (events[0]["splice"], events[0]["default"], events[1]["default"]) == ("GG", False, True)


def test_list_goes_on_after_damaged_weights(run, shop) -> None:
    damage(shop / "rainbow" / FILES[1])
    result = run("models", "list")
    assert result.exit_code == 1
    assert result.stderr == f"{shop}/rainbow/{FILES[1]}: sha256 differs from the manifest (the file is damaged)\n"
    assert result.stdout.startswith("base  ")
    events = run.events("models", "list")
    assert [event["status"] for event in events if event["event"] == "model"] == ["failed", "ok"]


def test_nothing_to_list(run, shop, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("idsr_cli.weights.weights_folders", lambda: [tmp_path / "nowhere"])
    for command in ("list", "verify"):
        result = run("models", command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == f"idsr: no weights here (looked in {tmp_path / 'nowhere'})\n"


@pytest.mark.parametrize("arguments", [["list"], ["show", "rainbow"]])
def test_torch_is_not_imported(shop, arguments) -> None:
    script = (
        "import sys; from idsr_cli.__main__ import main\n"
        "try: main()\n"
        "finally: print([n for n in ('torch', 'cv2', 'PIL') if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, "models", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "[]\n")


# --- show ------------------------------------------------------------------------------------------------------------


def test_show_is_the_card_as_it_is_and_the_metadata(run, shop) -> None:
    result = run("models", "show", "rainbow")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(CARD)
    rest = result.stdout.removeprefix(CARD).splitlines()
    assert "## Files of `rainbow`" in rest
    assert f"- sha256: `{sha256_of(shop / 'rainbow' / FILES[0])}`" in rest
    assert "- config: widths 8/8, blocks 1/1/1, unshuffle 2, attention spatial, edge_branches False" in rest
    assert "- training: steps 7, losses (pixel 0.5)" in rest


def test_show_json(run, shop) -> None:
    (event,) = run.events("models", "show", "rainbow")
    assert (event["event"], event["name"], event["card"], event["splice"]) == ("model", "rainbow", CARD, "GG")
    assert event["files"][0]["metadata"]["training"] == {"steps": 7, "losses": {"pixel": 0.5}}


def test_show_without_a_name_is_the_default(run) -> None:
    assert run("models", "show").stdout.startswith("# Model card: `base`")


def test_show_without_a_card(run, shop, tmp_path) -> None:
    (tmp_path / "README.md").write_text("# of something else")
    (shop / "rainbow" / FILES[0]).rename(tmp_path / "net.safetensors")
    result = run("models", "show", tmp_path / "net.safetensors")
    assert (result.exit_code, result.stderr) == (0, "net has no model card\n")
    assert result.stdout.startswith("# `net`\n")
    assert run("models", "show", "drizzle").exit_code == 2


@pytest.mark.skipif(os.name == "nt", reason="POSIX terminals")
def test_show_is_laid_out_on_a_terminal(shop, in_terminal) -> None:
    code, shown = in_terminal([sys.executable, "-m", "idsr_cli"], ["models", "show", "rainbow"], COLUMNS="60")
    assert code == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert "Model card: rainbow" in lines[0]
    assert not any("|" in line or "#" in line or "`" in line for line in lines)
    assert max(map(len, lines)) <= 60


def test_tables_wider_than_the_terminal_become_lists() -> None:
    table = "| | **first** | `second` |\n|---|---|---|\n| **row** one | 1 | a \\| b |\n| two | | 2 |"
    text = f"before\n\n{table}\n\nafter\n"
    assert fit_tables(text, 34) == text.rstrip("\n")  # 7 + 5 + 6 characters, and air
    assert fit_tables(text, 20) == (
        "before\n\n\n- **row one**: **first** 1; `second` a \\| b\n- **two**: `second` 2\n\nafter"
    )


# --- verify ----------------------------------------------------------------------------------------------------------


def test_verify(run, shop) -> None:
    result = run("models", "verify", "rainbow")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"{shop}/rainbow/{file}: ok (sha256 as in the manifest, loads, finite)" for file in FILES
    ]
    everything = run("models", "verify").stdout.splitlines()
    assert everything[:2] == result.stdout.splitlines()
    assert len(everything) == 4  # with those that are shipped


@pytest.mark.parametrize("target", ["rainbow", "{}/rainbow", "{}/rainbow/dprnet.safetensors"])
@pytest.mark.parametrize("harm", ["flipped bit", "truncated", "empty", "missing"])
def test_verify_names_the_damaged_file(run, shop, target, harm) -> None:
    path = shop / "rainbow" / FILES[0]
    if harm == "flipped bit":
        damage(path)
    elif harm == "missing":
        if target.endswith(FILES[0]):
            pytest.skip("a file that is not there is no target")
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-100] if harm == "truncated" else b"")
    result = run("models", "verify", target.format(shop))
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    reason = f"`{FILES[0]}` is missing" if harm == "missing" else "sha256 differs from the manifest"
    assert reason in result.stderr
    assert (str(path) if harm != "missing" else str(path.parent)) in result.stderr
    if not target.endswith(FILES[0]):
        assert f"{shop}/rainbow/{FILES[1]}: ok" in result.stdout  # the other one is checked all the same


def test_verify_two_files(run, shop, tmp_path) -> None:
    for file in FILES:
        (tmp_path / file).write_bytes((shop / "rainbow" / file).read_bytes())
    both = ",".join(str(tmp_path / file) for file in FILES)
    assert len(run("models", "verify", both).stdout.splitlines()) == 2
    damaged = bytearray((tmp_path / FILES[1]).read_bytes())
    damaged[-400:] = b"\xff" * 400  # not a number, in any float
    (tmp_path / FILES[1]).write_bytes(damaged)
    result = run("models", "verify", both)
    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 1)
    assert FILES[1] in result.stderr


def test_verify_goes_beyond_the_hash(run, shop) -> None:
    broken = find_weights("rainbow").dprnet.build()
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    save_weights(shop / "rainbow" / FILES[0], broken, find_weights("rainbow").dprnet.metadata)
    write_manifest(shop / "rainbow")
    result = run("models", "verify", "rainbow")
    assert result.exit_code == 1
    assert "holds values that are not finite" in result.stderr
    *_, event = run.events("models", "verify", "rainbow")
    assert (event["input"], event["status"]) == (f"{shop}/rainbow/{FILES[1]}", "ok")


def test_verify_single_files_and_unknown_names(run, shop, tmp_path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "net.pth")
    result = run("models", "verify", tmp_path / "net.pth")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{tmp_path}/net.pth: has the tensors of no network known here")
    (tmp_path / "own.safetensors").write_bytes((shop / "rainbow" / FILES[0]).read_bytes())
    assert "ok (no sha256 on record, loads, finite)" in run("models", "verify", tmp_path / "own.safetensors").stdout
    assert run("models", "verify", "drizzle").exit_code == 2
    (tmp_path / "void").mkdir()
    assert run("models", "verify", tmp_path / "void").exit_code == 2


# --- convert ---------------------------------------------------------------------------------------------------------


def released(role: str = "dprnet") -> ReleasedNet:
    torch.manual_seed(1)
    return ReleasedNet(ROLES[role], (4, 6, 4)).eval()


def checkpoint(path: Path, role: str = "dprnet") -> Path:
    """As the paper's authors save theirs: from `DataParallel`, with the epoch beside it."""
    state = {f"module.{name}": value for name, value in released(role).state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path


def test_convert_a_pair_of_released_checkpoints(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("IDSR_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, file in (("DPRNet_160.pth", FILES[0]), ("GGIRNet_60.pth", FILES[1])):
        source = checkpoint(tmp_path / name, file.partition(".")[0])
        result = run("models", "convert", source, tmp_path / "authors" / file, "--note", "licence=unknown")
        assert (result.exit_code, result.stderr) == (0, "")
        assert "released" in result.stdout
    found = find_weights("authors")
    x = torch.rand(1, 3, 12, 9)
    for role in ROLES:
        weights = getattr(found, role)
        with torch.no_grad():
            assert torch.equal(weights.build()(x), released(role)(x))
    assert found.dprnet.metadata["idsr.source"] == "DPRNet_160.pth"
    assert found.dprnet.metadata["idsr.source_sha256"] == sha256_of(tmp_path / "DPRNet_160.pth")
    assert found.dprnet.metadata["idsr.licence"] == "unknown"
    assert found.dprnet.metadata["idsr.converted_by"].startswith("idsr ")
    assert run("models", "verify", "authors").exit_code == 0
    assert "authors  splice DG" in run("models", "list").stdout


def test_convert_half_role_and_existing(run, tmp_path) -> None:
    source, target = checkpoint(tmp_path / "net.pth"), tmp_path / "out.safetensors"
    assert run("models", "convert", source, target, "--half", "--role", "ggirnet").exit_code == 0
    made = find_weights(str(target)).ggirnet
    assert made.arch == "ggirnet"
    assert {kind for kind, _ in made.contents().values()} == {"F16"}
    assert not (tmp_path / "manifest.json").exists()
    before = target.read_bytes()
    result = run("models", "convert", source, target)
    assert (result.exit_code, target.read_bytes() == before) == (2, True)
    assert result.stderr == f"{target}: exists (replace it with `--existing overwrite`)\n"
    assert run("models", "convert", source, target, "--existing", "overwrite").exit_code == 0
    assert {kind for kind, _ in find_weights(str(target)).dprnet.contents().values()} == {"F32"}
    again = run("models", "convert", target, tmp_path / "again.safetensors", "--role", "ggirnet")
    assert (again.exit_code, "is a dprnet by its own metadata" in again.stderr) == (2, True)


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (os.environ["HOSTILE_FOLDER"],)


def test_convert_the_checkpoint_of_a_training_run(run, tmp_path) -> None:
    """It knows its role, shape and thresholds; in the file's name they cannot be read."""
    from idsr_cli.synthetic_rain import RainSynthesizer
    from idsr_cli.training.batches import BatchSource
    from idsr_cli.training.loop import Trainer, TrainOptions, read_checkpoint
    from idsr_cli.training.samples import SampleMaker

    config = {"widths": (4, 8), "blocks": (1, 1, 1), "unshuffle": 2, "attention": "gradient"}
    options = TrainOptions("ggirnet", "unet", config, {"pixel": 1.0}, patch=32, steps=1)
    source = BatchSource([torch.zeros(3, 40, 40, dtype=torch.uint8)], (), SampleMaker(RainSynthesizer()), 32)
    trainer = Trainer(options, source, torch.device("cpu"), tmp_path, provenance={"idsr.dry_threshold": "2.5"})
    torch.nn.init.ones_(next(trainer.average.parameters()))
    trainer.save()
    checkpoint, target = tmp_path / "checkpoint.pt", tmp_path / "own" / "ggirnet.safetensors"
    result = run("models", "convert", checkpoint, target)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{target}: ggirnet  unet ")
    assert "the averaged copy `average` is used" in result.stderr
    made = find_weights(str(target)).dprnet
    assert (made.arch, made.dry_threshold, made.metadata["idsr.source"]) == ("ggirnet", 2.5, "checkpoint.pt")
    assert json.loads(made.metadata["idsr.training"])["losses"] == {"pixel": 1.0}
    assert all(torch.equal(made.tensors()[name], value) for name, value in trainer.average.state_dict().items())
    wrong = run("models", "convert", checkpoint, tmp_path / "dprnet.safetensors", "--role", "dprnet")
    assert (wrong.exit_code, "is a ggirnet by its own metadata" in wrong.stderr) == (2, True)
    state = read_checkpoint(checkpoint)
    del state["metadata"]  # as version 0.2.0 wrote them
    torch.save(state, tmp_path / "older.pt")
    older = find_weights(tmp_path / "older.pt").dprnet
    assert (older.arch, older.configuration(older.tensors())) == ("ggirnet", ("unet", json.loads(json.dumps(config))))


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_convert_runs_no_code(run, tmp_path, monkeypatch, how) -> None:
    monkeypatch.setenv("HOSTILE_FOLDER", str(tmp_path / "taken over"))
    content = {"state_dict": released().state_dict(), "extra": Hostile()}
    if how == "torch":
        torch.save(content, tmp_path / "evil.pth")
    else:
        (tmp_path / "evil.pth").write_bytes(pickle.dumps({"extra": Hostile()}))
    result = run("models", "convert", tmp_path / "evil.pth", tmp_path / "out.safetensors")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{tmp_path}/evil.pth: cannot be loaded: ")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "taken over").exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_convert_tells_what_does_not_fit(run, tmp_path) -> None:
    state = released().state_dict()
    del state["body.1.block.0.bias"], state["head.0.bias"]
    torch.save({**state, "optimiser": torch.zeros(2)}, tmp_path / "net.pth")
    result = run("models", "convert", tmp_path / "net.pth", tmp_path / "out.safetensors")
    assert result.exit_code == 2
    assert result.stderr == (
        f"{tmp_path}/net.pth: tensors do not fit layout `released`: 2 missing (`head.0.bias`, ...), "
        "1 extra (`optimiser`)\n"
    )
    assert not (tmp_path / "out.safetensors").exists()


def test_convert_refuses_what_cannot_work(run, tmp_path) -> None:
    source = checkpoint(tmp_path / "net.pth")
    large = released()
    with torch.no_grad():
        large.tail[0].bias.fill_(1e6)
    torch.save(large.state_dict(), tmp_path / "large.pth")
    out = tmp_path / "out.safetensors"
    for arguments, words in (
        ([tmp_path / "none.pth", out], "none.pth: no such file"),
        ([source, tmp_path / "out.pth"], "weights files end in .safetensors"),
        ([source, out, "--note", "licence"], "is not KEY=TEXT"),
        ([source, out, "--note", "layout=unet"], "`layout` is not for notes"),
        ([tmp_path / "large.pth", out, "--half"], "too large for 16 bits"),
    ):
        result = run("models", "convert", *arguments)
        assert result.exit_code == 2
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert run("models", "convert", tmp_path / "large.pth", out).exit_code == 0
    own = run("models", "convert", out, out, "--existing", "overwrite")
    assert (own.exit_code, "is the source itself" in own.stderr) == (2, True)
