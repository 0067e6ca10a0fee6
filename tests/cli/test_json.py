"""docs/json.md and what the commands write are the same."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from idsr_cli.cli.console import SCHEMA

TEXT = (Path(__file__).resolve().parent.parent.parent / "docs" / "json.md").read_text(encoding="utf-8")


def documented() -> dict[tuple[str, str], tuple[set[str], set[str]]]:
    """(command, event) -> fields that are always there, and fields that may be missing."""
    tables = {}
    for part in re.split(r"^### ", TEXT, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        event, _, commands = head.partition(" of ")
        rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", body.split("\n## ")[0], re.MULTILINE)
        missing = {name for name, text in rows if "may be missing" in text}
        for command in commands.split(", "):
            tables[command.strip("`"), event.strip("`")] = ({name for name, _ in rows} - missing, missing)
    return tables


DOCUMENTED = documented()


def check(command: str, events: list[dict[str, Any]], *expected: str) -> None:
    """Each event has the fields of its table, and the events are the expected ones."""
    assert {event["event"] for event in events} == set(expected)
    for event in events:
        assert event["schema"] == SCHEMA
        always, sometimes = DOCUMENTED[command, event["event"]]
        found = set(event) - {"schema", "event"}
        assert found - sometimes == always, (command, event["event"], found ^ always)


def test_the_version_is_that_of_the_code() -> None:
    assert f"Within version {SCHEMA}," in TEXT


def test_every_command_with_the_option_is_described(run) -> None:
    from idsr_cli.cli.app import COMMANDS

    with_json = {name for name in COMMANDS if "--json" in run(name, "--help").stdout} | {"models"}
    assert {command.split()[0] for command, _ in DOCUMENTED} == with_json


@pytest.mark.parametrize("command", ["derain", "sift", "rain"])
def test_photographs(run, halving, photos, tmp_path, command) -> None:
    (photos / "broken.png").touch()
    out = tmp_path / "out"
    check(command, run.events(command, photos, "-o", out, "-n"), "plan")
    check(command, run.events(command, photos / "img2.png", "-o", out), "item", "summary")
    events = run.events(command, photos, "-o", out)
    check(command, events, "item", "summary")
    assert {event.get("status") for event in events} == {"ok", "skipped", "failed", None}
    statuses = re.search(r"`status` \| (.*?) \|", TEXT)
    assert statuses is not None
    assert set(re.findall(r"`(\w+)`", statuses[1])) == {"ok", "skipped", "failed"}
    check(command, run.events(command, photos, "-o", out, "-n"), "plan")


def test_several_outputs_and_their_conversion(run, halving, photos, tmp_path) -> None:
    (photos / "broken.png").touch()
    command = ("sift", photos, "-o", tmp_path / "out", "--format", "npz", "--format", "lowe")
    check("sift", run.events(*command, "-n"), "plan")
    events = run.events(*command)
    check("sift", events, "item", "summary")
    fields = {field for event in events for one in event.get("outputs", ()) for field in one}
    assert fields == {"kind", "output", "status", "reason"}
    command = ("convert", tmp_path / "out", "--from", "lowe", "-o", tmp_path / "new", "--format", "vlfeat")
    check("convert", run.events(*command, "-n"), "plan")
    events = run.events(*command)
    check("convert", events, "item", "summary")
    assert {(event.get("width"), event.get("height")) for event in events} == {(None, None)}


def test_match(run, halving, photos) -> None:
    pair = ("match", photos / "img2.png", photos / "img10.png")
    plain, derained = run.events(*pair, "--derain", "none"), run.events(*pair, "--device", "cpu")
    for events, weights in ((plain, None), (derained, {"name": "fake", "sha256": "f" * 64})):
        check("match", events, "match")
        assert events[0]["weights"] == weights
    text = re.search(r"^## Matching.*?^\| `weights` \| (.*?) \|$", TEXT, re.DOTALL | re.MULTILINE)
    assert text is not None
    assert set(re.findall(r"`(\w+)`", text[1])) == {"name", "sha256"}


def test_evaluate(run, photos, tmp_path) -> None:
    folders = [tmp_path / name for name in ("rainy", "clean")]
    for folder in folders:
        folder.mkdir()
        Image.open(photos / "img2.png").rotate(0).save(folder / "a.png")
    rainy, clean = folders
    check("evaluate", run.events("evaluate", "--rainy", rainy, "--clean", clean, "--splice", "none"), "item", "summary")
    Image.open(photos / "img2.png").save(clean / "b.png")
    (clean / "H1to2p").write_text("1 0 0 0 1 0 0 0 1")
    matching = ("--matching", clean, "--rainy", rainy, "--clean", clean)
    check("evaluate", run.events("evaluate", *matching, "--splice", "none"), "item", "geometry", "summary")
    check("evaluate", run.events("evaluate", *matching[:2], "--splice", "none"), "geometry", "summary")
    frames = run.events("evaluate", "--pairs-of-frames", clean, "--splice", "none")
    check("evaluate", frames, "frames", "summary")


def test_train() -> None:
    """A run writes what `Progress` holds, but for numbers that are not known yet."""
    from idsr_cli.training.loop import Progress

    always, sometimes = DOCUMENTED["train", "train"]
    assert always | sometimes == {field.name for field in fields(Progress)}


def test_models(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("IDSR_WEIGHTS_DIR", str(tmp_path))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "dprnet.safetensors").write_bytes(b"no weights")
    listed = run.events("models", "list")
    check("models list", listed, "model", "network")
    assert {event["status"] for event in listed if event["event"] == "model"} == {"ok", "failed"}
    check("models show", run.events("models", "show"), "model")
    check("models verify", run.events("models", "verify", tmp_path / "broken"), "item")


def test_a_name_that_is_no_unicode_survives(run, halving, photos, tmp_path) -> None:
    import os

    name = os.fsdecode(os.fsencode(photos) + b"/\xff.png")
    try:
        Path(name).write_bytes((photos / "img2.png").read_bytes())
    except OSError:
        pytest.skip("not on this file system")
    result = run("derain", name, "-o", tmp_path / "out", "--json")
    assert result.stdout.isascii()
    assert json.loads(result.stdout.splitlines()[0])["input"] == name
    assert Path(os.fsdecode(os.fsencode(tmp_path / "out") + b"/\xff.png")).exists()


@pytest.mark.parametrize("command", ["derain", "sift"])
def test_clips(run, halving, clips, tmp_path, command) -> None:
    events = run.events(command, clips.make("a.mp4", 2), "-o", tmp_path / "out")
    check(command, events, "item", "summary")
    assert {"frames", "lost"} <= set(events[0])
