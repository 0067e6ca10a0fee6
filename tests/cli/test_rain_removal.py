"""How rain is taken out and what is said of it: options of all commands with networks, `rain` in their results."""

import json
from pathlib import Path

import pytest
from PIL import Image

from idsr_cli import restoration
from idsr_cli.formats.npz import read_meta
from idsr_cli.rain_estimate import Rain
from idsr_cli.restoration import Removal, Restored
from idsr_cli.runs.stamps import RECORD

KNOBS = ("--strength", "0.7", "--force", "--scale", "1", "--dry-threshold", "4", "--mirror")
RAIN = {"level": 12.35, "share": 0.41, "direction": -8.0}


@pytest.fixture
def pair(photos, tmp_path) -> dict[str, list[object]]:
    """For each command, arguments that make its networks run."""
    clean = tmp_path / "clean"
    clean.mkdir()
    Image.open(photos / "img2.png").save(clean / "img2.png")
    one = photos / "img2.png"
    rainy = tmp_path / "rainy"
    rainy.mkdir()
    Image.open(one).rotate(180).save(rainy / "img2.png")
    return {
        "derain": [one, "-o", tmp_path / "out"],
        "sift": [one, "-o", tmp_path / "out"],
        "match": [one, photos / "img10.png"],
        "evaluate": ["--rainy", rainy, "--clean", clean],
    }


@pytest.mark.parametrize("command", ["derain", "sift", "match", "evaluate"])
def test_options_of_rain_removal(run, halving, pair, command) -> None:
    assert run(command, *pair[command], *KNOBS, "--device", "cpu").exit_code == 0
    assert halving.removal == Removal(0.7, True, 1.0, 4.0, mirror=True)
    more = ["--existing", "overwrite"] if command in ("derain", "sift") else []
    assert run(command, *pair[command], *more, "--device", "cpu").exit_code == 0
    assert halving.removal == Removal()
    assert run(command, *pair[command], *more, "--scale", "1.5").exit_code == 0
    assert halving.removal == Removal(scale=1.5)
    for wrong in (("--strength", "1.6"), ("--strength", "-0.1"), ("--scale", "3"), ("--dry-threshold", "-1")):
        result = run(command, *pair[command], *wrong)
        assert (result.exit_code, wrong[0] in result.stderr) == (2, True)


def test_evaluate_says_how_rain_was_taken_out(run, halving, pair) -> None:
    header = run.events("evaluate", *pair["evaluate"], "--strength", "0.9")[-1]["header"]
    assert header["removal"] == {"strength": 0.9}
    assert "removal" not in run.events("evaluate", *pair["evaluate"])[-1]["header"]


@pytest.mark.parametrize("derain", ["A", "B", "both"])
def test_a_match_that_restores_in_any_case_has_no_dry_test(run, halving, pair, derain) -> None:
    run("match", *pair["match"], "--derain", derain)
    assert halving.removal == Removal(force=True)


@pytest.mark.parametrize(
    "knob", [("--strength", "0.5"), ("--force",), ("--scale", "2"), ("--dry-threshold", "4"), ("--mirror",)]
)
def test_options_without_networks_are_refused(run, halving, pair, knob) -> None:
    for command, off in (("sift", ["--no-derain"]), ("match", ["--derain", "none"])):
        result = run(command, *pair[command], *off, *knob)
        assert (result.exit_code, f"`{knob[0]}` has no effect" in result.stderr) == (2, True)


@pytest.mark.parametrize("command", ["derain", "sift"])
def test_outputs_made_with_other_options_are_noticed(run, halving, pair, command) -> None:
    run(command, *pair[command], "--strength", "0.5")
    assert "made with other settings" not in run(command, *pair[command], "--strength", "0.5").stderr
    for knobs, names in (((), "strength"), (KNOBS, "dry-threshold, force, mirror, scale, strength")):
        assert f"1 made with other settings ({names})" in run(command, *pair[command], *knobs).stderr


# --- how much rain was seen ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["derain", "sift"])
def test_rain_of_a_photograph(run, halving, pair, tmp_path, command) -> None:
    halving.rain = Rain(12.3456, 0.41, -8.04)
    item, _ = run.events(command, *pair[command])
    assert item["rain"] == RAIN
    (line,) = (tmp_path / "out" / RECORD).read_text().splitlines()
    assert json.loads(line)["rain"] == RAIN
    if command == "sift":
        assert read_meta(tmp_path / "out" / "img2.png.npz")["rain"] == RAIN
    shown = run(command, *pair[command], "--existing", "overwrite", "-v").stderr
    assert ", rain of 12.3 grey levels on 41 % of the pixels, direction -8, " in shown
    halving.rain = Rain(12.3456, 0.41, None)
    shown = run(command, *pair[command], "--existing", "overwrite", "-v").stderr
    assert ", rain of 12.3 grey levels on 41 % of the pixels, " in shown


def test_without_networks_nothing_is_said_of_rain(run, halving, pair, tmp_path) -> None:
    item, _ = run.events("sift", *pair["sift"], "--no-derain")
    assert item["rain"] is None
    assert read_meta(tmp_path / "out" / "img2.png.npz")["rain"] is None
    assert "rain" not in json.loads((tmp_path / "out" / RECORD).read_text())


def test_rain_of_a_photograph_that_is_left_as_it_is(run, halving, pair, monkeypatch) -> None:
    seen = Rain(1.234, 0.01, None)
    monkeypatch.setattr(
        restoration.Restorer, "restore", lambda self, rgb, roles, before=None: [Restored(rgb, False, seen)]
    )
    shown = run("derain", *pair["derain"], "-v").stderr
    assert ", no rain seen (1.23 grey levels), left as it is, " in shown
    item, _ = run.events("derain", *pair["derain"], "--existing", "overwrite")
    assert (item["derained"], item["rain"]) == (False, {"level": 1.23, "share": 0.01, "direction": None})


def test_rain_in_a_match(run, halving, pair) -> None:
    halving.rain = Rain(12.3456, 0.41, -8.04)
    (event,) = run.events("match", *pair["match"])
    assert event["rain"] == [RAIN, RAIN]
    (event,) = run.events("match", *pair["match"], "--derain", "B")
    assert event["rain"] == [None, RAIN]
    shown = run("match", *pair["match"], "-v").stderr
    assert shown.count(", rain of 12.3 grey levels on 41 % of the pixels, direction -8") == 2


@pytest.mark.parametrize("command", ["derain", "sift"])
def test_rain_of_a_clip(run, clips, tmp_path, monkeypatch, halving, command) -> None:
    levels = iter([3.0, 4.0])

    def restore(self: object, rgb: object, roles: str, before: object = None) -> list[Restored]:
        seen = Rain(next(levels), 0.5, 10.0)
        return [Restored(rgb, True, seen) for role in roles]  # type: ignore[arg-type]

    monkeypatch.setattr(restoration.Restorer, "restore", restore)
    item, _ = run.events(command, clips.make("a.mp4", 2), "-o", tmp_path / "out")
    expected = {"level": 3.54, "share": 0.5, "direction": 10.0}
    assert item["rain"] == expected
    lines = [json.loads(line) for line in (Path(tmp_path) / "out" / RECORD).read_text().splitlines()]
    assert lines[-1]["rain"] == expected


# --- photographs in which no rain is seen ----------------------------------------------------------------------------


@pytest.fixture
def dry(monkeypatch, halving) -> None:
    """Networks that see no rain in anything."""
    monkeypatch.setattr(
        restoration.Restorer, "restore", lambda self, rgb, roles, before=None: [Restored(rgb, False) for role in roles]
    )


def folder(tmp_path: Path, count: int) -> Path:
    made = tmp_path / "many"
    made.mkdir()
    for i in range(count):
        Image.new("RGB", (8, 6), (i, 0, 0)).save(made / f"{i}.png")
    return made


@pytest.mark.parametrize("command", ["derain", "sift"])
def test_up_to_ten_photographs_without_rain_are_named(run, dry, photos, tmp_path, command) -> None:
    shown = run(command, photos, "-o", tmp_path / "out").stderr
    assert shown.splitlines()[-1] == "no rain seen in a/b/x.jpg, img2.png, img10.png"
    # With -v each has a line of its own.
    assert "no rain seen in" not in run(command, photos, "-o", tmp_path / "out", "--existing", "overwrite", "-v").stderr
    assert "no rain seen in" not in run(command, photos, "-o", tmp_path / "out", "--existing", "overwrite", "-q").stderr


def test_of_more_than_ten_a_file_has_all(run, dry, tmp_path) -> None:
    many, listed = folder(tmp_path, 12), tmp_path / "dry.txt"
    last = run("derain", many, "-o", tmp_path / "out").stderr.splitlines()[-1]
    first_ten = ", ".join(f"{i}.png" for i in range(10))
    assert last == f"no rain seen in {first_ten} and 2 more (`--unchanged FILE` lists them)"
    again = run("derain", many, "-o", tmp_path / "out", "--existing", "overwrite", "--unchanged", listed)
    assert again.stderr.splitlines()[-1] == f"no rain seen in the 12 photographs listed in {listed}"
    assert listed.read_text().splitlines() == [str(many / f"{i}.png") for i in range(12)]
    # The list can be read again, and names what was written.
    result = run("sift", "--from-list", listed, "-o", tmp_path / "points", "--unchanged", listed)
    assert (result.exit_code, len(listed.read_text().splitlines())) == (0, 12)


def test_the_list_is_empty_if_it_rains_everywhere(run, halving, photos, tmp_path) -> None:
    listed = tmp_path / "dry.txt"
    shown = run("derain", photos, "-o", tmp_path / "out", "--unchanged", listed).stderr
    assert listed.read_bytes() == b""
    assert "no rain seen" not in shown


def test_folders_are_not_standard_output(run, photos, tmp_path) -> None:
    result = run("sift", photos / "img2.png", "-o", tmp_path / "x.npz", "--draw", "-", "--no-derain")
    assert (result.exit_code, "not to standard output" in result.stderr) == (2, True)
    assert not (tmp_path / "x.npz").exists()


def test_lists_that_cannot_be_written(run, halving, photos, tmp_path) -> None:
    same = tmp_path / "list.txt"
    result = run("derain", photos, "-o", tmp_path / "out", "--unchanged", same, "--failures", same)
    assert (result.exit_code, "want the same file" in result.stderr) == (2, True)
    result = run("derain", photos, "-o", tmp_path / "out", "--unchanged", tmp_path)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    for option in ("--unchanged", "--failures"):
        result = run("derain", photos, "-o", tmp_path / "out", option, "-")
        assert (result.exit_code, "not standard output" in result.stderr) == (2, True)
    result = run("sift", photos, "-o", tmp_path / "out", "--no-derain", "--unchanged", same)
    assert (result.exit_code, "`--unchanged` has no effect with `--no-derain`" in result.stderr) == (2, True)
