"""`--report`: the contact sheet of a run, whatever becomes of the photographs."""

import base64
import io
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from idsr_cli.rain_estimate import Rain
from idsr_cli.runs.contact_sheet.sheet import ContactSheet


def entries(page: Path) -> dict[str, str]:
    """Name of a photograph -> its entry."""
    found = re.findall(r'<li class="entry".*?</li>', page.read_text(encoding="utf-8"), re.DOTALL)
    names = [re.search("<bdi>(.*?)</bdi>", entry) for entry in found]
    return {Path(name[1]).name: entry for name, entry in zip(names, found, strict=True) if name}


def states(page: Path) -> dict[str, str]:
    return {name: re.findall('data-state="(.*?)"', entry)[0] for name, entry in entries(page).items()}


def pictures(entry: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/webp;base64,(.*?)"', entry)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")) for data in found]


def test_derained_photographs_are_shown(run, halving, photos, tmp_path) -> None:
    (photos / "torn.png").write_bytes((photos / "img2.png").read_bytes()[:60])
    page = tmp_path / "sheets" / "sheet.html"
    halving.rain = Rain(31.418, 0.4, -8.0)
    run("derain", photos, "-o", tmp_path / "plain")
    before = {path.name: path.read_bytes() for path in (tmp_path / "plain").rglob("*.[jp]*g")}
    result = run("derain", photos, "-o", tmp_path / "out", "--report", page)
    assert result.exit_code == 1  # one is torn
    assert f"contact sheet: {page}" in result.stderr
    assert states(page) == {"x.jpg": "derained", "img2.png": "derained", "img10.png": "derained", "torn.png": "failed"}
    assert len(before) == 3
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.[jp]*g")} == before
    rainy, dry, removed = pictures(entries(page)["img2.png"])
    assert rainy.shape == (48, 64, 3)
    assert abs(dry.mean() - rainy.mean() / 2) < 2  # the stand-in halves the brightness
    assert removed.mean() > 220
    assert "keypoints" not in entries(page)["img2.png"]
    assert 'data-rain="31.42"' in entries(page)["img2.png"]


def test_photographs_that_are_done_are_shown_from_their_files(run, halving, photos, tmp_path) -> None:
    arguments = ("derain", photos, "-o", tmp_path / "out", "--format", "png")
    run(*arguments, "--report", tmp_path / "first.html")
    (tmp_path / "out" / "img10.png").unlink()
    calls = halving.D
    for jobs in (1, 3):
        page = tmp_path / f"{jobs}.html"
        summary = run.events(*arguments, "--report", page, "--jobs", jobs)[-1]
        assert (summary["skipped"], summary["report"]) == (3 - (jobs == 1), str(page))
        assert states(page)["x.jpg"] == "skipped"
        assert list(entries(page)) == list(entries(tmp_path / "first.html"))
        for old, new in zip(
            pictures(entries(tmp_path / "first.html")["img2.png"]), pictures(entries(page)["img2.png"]), strict=True
        ):
            assert np.abs(old.astype(int) - new).mean() < 8  # the derained one was rounded to 8 bits
    assert calls + 1 == halving.D


def test_keypoints_before_and_after_are_drawn(run, halving, photos, tmp_path) -> None:
    page = tmp_path / "sheet.html"
    events = run.events("sift", photos, "-o", tmp_path / "out", "--contrast-threshold", 0.02, "--report", page)
    plain = run.events("sift", photos, "-o", tmp_path / "plain", "--contrast-threshold", 0.02, "--no-derain")
    counts = {Path(event["input"]).name: event["keypoints"] for event in events[:-1]}
    for event in plain[:-1]:
        name = Path(event["input"]).name
        assert f"<dd>{event['keypoints']} → {counts[name]}</dd>" in entries(page)[name]
        assert event["keypoints"] > counts[name] > 0  # half the contrast
        assert entries(page)[name].count("<svg") == 2
        assert len(pictures(entries(page)[name])) == 3
    # Without networks there is one version.
    only = tmp_path / "plain.html"
    run("sift", photos, "-o", tmp_path / "more", "--no-derain", "--report", only)
    assert set(states(only).values()) == {"plain"}
    assert [len(pictures(entry)) for entry in entries(only).values()] == [1, 1, 1]
    # What is done has no keypoints to draw, but can still be looked at.
    run("sift", photos, "-o", tmp_path / "more", "--no-derain", "--report", only)
    assert set(states(only).values()) == {"skipped"}
    assert [len(pictures(entry)) for entry in entries(only).values()] == [1, 1, 1]


def test_a_pipe_has_a_page_too(run, halving, photos, tmp_path) -> None:
    data = (photos / "img2.png").read_bytes()
    result = run("derain", "-", "--report", tmp_path / "sheet.html", stdin=data)
    assert Image.open(io.BytesIO(result.stdout_bytes)).size == (64, 48)
    assert states(tmp_path / "sheet.html") == {"-": "derained"}


@pytest.mark.parametrize("command", ["derain", "sift"])
def test_a_page_that_cannot_be_is_refused_first(command, run, halving, photos, tmp_path) -> None:
    result = run(command, photos, "-o", tmp_path / "out", "--report", photos / "img2.png")
    assert result.exit_code == 2
    assert result.stderr == (f"{photos}/img2.png: `--report` writes an HTML page (call it *.html)\n")
    assert not (tmp_path / "out").exists()
    assert halving.D == 0


def test_a_page_that_fails_does_not_harm_the_photographs(run, halving, photos, tmp_path, monkeypatch) -> None:
    def fail(self: ContactSheet, planned: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ContactSheet, "_head", lambda *args: fail(*args[:2]))
    page = tmp_path / "sheet.html"
    result = run("derain", photos, "-o", tmp_path / "out", "--report", page)
    assert result.exit_code == 1
    assert f"{page}: the contact sheet cannot be written: no space left on device" in result.stderr
    assert "the contact sheet could not be written (see above)" in result.stderr
    assert "Traceback" not in result.stderr
    assert not page.exists()
    assert len(list((tmp_path / "out").rglob("*.[jp]*g"))) == 3
    events = run.events("derain", photos, "-o", tmp_path / "out", "--report", page)
    assert (events[-1]["skipped"], events[-1]["report"]) == (3, None)


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_interrupted_run_has_a_page_of_what_is_done(jobs, command, photos, paint, tmp_path) -> None:
    for number in range(20, 40):
        Image.fromarray(paint(seed=number)).save(photos / f"img{number}.png")
    page = tmp_path / "sheet.html"
    arguments = ["derain", photos, "-o", tmp_path / "out", "--report", page, "--jobs", jobs]
    process = subprocess.Popen(
        [*command, *map(str, arguments)], stderr=subprocess.PIPE, env={**os.environ, "SECONDS_EACH": "0.3"}, text=True
    )
    deadline = time.monotonic() + 30
    while not list((tmp_path / "out").rglob("*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    written = {path.name for path in (tmp_path / "out").rglob("*.[jp]*g")}
    assert 0 < len(written) < 23
    assert states(page) == dict.fromkeys(written, "derained")
    assert f"The run was interrupted: {23 - len(written)} of 23 are not here." in page.read_text()
    assert not list(tmp_path.glob(".idsr*"))


def test_a_clip_shows_its_first_frame(run, halving, clips, tmp_path) -> None:
    clip = clips.make("a.mp4", frames=5)
    page = tmp_path / "sheet.html"
    run("derain", clip, "-o", tmp_path / "out", "--report", page)
    entry = entries(page)["a.mp4"]
    assert "5, the first is shown" in entry
    shown = pictures(entry)
    assert len(shown) == 3
    assert clips.number(shown[0]) == 0
    run("sift", clip, "-o", tmp_path / "points", "--every", 2, "--report", page)
    assert "3, the first is shown" in entries(page)["a.mp4"]
    assert clips.number(pictures(entries(page)["a.mp4"])[0]) == 0
