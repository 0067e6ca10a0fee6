"""The command line as a process of its own: signals, closed pipes, terminals, libraries that print."""

import io
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and terminals")


def test_nothing_but_data_on_standard_output(command, photos) -> None:
    data = (photos / "img2.png").read_bytes()
    done = subprocess.run([*command, "derain", "-"], input=data, capture_output=True)
    assert done.returncode == 0
    assert Image.open(io.BytesIO(done.stdout)).size == (64, 48)
    assert done.stdout.startswith(b"\x89PNG")
    assert b"chatter from C" in done.stderr
    assert b"chatter from Python" in done.stderr


def test_json_stays_json(command, photos, tmp_path) -> None:
    done = subprocess.run(
        [*command, "derain", photos, "-o", tmp_path / "out", "--json"], capture_output=True, text=True
    )
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["item"] * 3 + ["summary"]


CHATTER = """
import os
import idsr_cli.images.photo as image
real = image.decode
def decode(data):
    os.write(1, b"chatter from C\\n")
    print("chatter from Python")
    return real(data)
image.decode = decode
"""


@pytest.mark.parametrize(
    ("arguments", "events"),
    [
        (["match", "a.png", "b.png", "--derain", "none", "--json"], {"match"}),
        (["evaluate", "--rainy", "r", "--clean", "clean", "--splice", "none", "--json"], {"item", "summary"}),
        (["rain", "r", "-o", "out", "--json"], {"item", "summary"}),
        (["sift", "r", "-o", "out2", "--no-derain", "--json"], {"item", "summary"}),
    ],
)
def test_no_command_lets_chatter_between_its_data(command, photos, tmp_path, arguments, events) -> None:
    for folder in ("r", "clean"):
        (tmp_path / folder).mkdir()
    for target in ("a.png", "b.png", "r/c.png", "clean/c.png"):
        (tmp_path / target).write_bytes((photos / "img2.png").read_bytes())
    command[-1] = CHATTER + command[-1]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=tmp_path, env={
        **os.environ, "PYTHONPATH": os.getcwd()})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {json.loads(line)["event"] for line in done.stdout.splitlines()} == events
    assert "chatter from C" in done.stderr
    assert "chatter from Python" in done.stderr


def test_interrupt_leaves_whole_files_and_exits_130(command, photos, tmp_path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*command, "derain", photos, "-o", out],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "SECONDS_EACH": "1"},
        text=True,
    )
    deadline = time.monotonic() + 30
    while not list(out.rglob("*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted with" in err
    assert "Traceback" not in err
    for path in (p for p in out.rglob("*") if p.is_file() and p.name != ".idsr.jsonl"):
        assert not path.name.startswith(".")
        Image.open(io.BytesIO(path.read_bytes())).load()


def test_after_kill_9_a_second_run_completes(command, photos, tmp_path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*command, "derain", photos, "-o", out, "-q"],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "SECONDS_EACH": "1"},
    )
    deadline = time.monotonic() + 30
    while not list(out.rglob("*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    again = subprocess.run([*command, "derain", photos, "-o", out], capture_output=True, text=True)
    assert again.returncode == 0
    found = sorted(p.name for p in out.rglob("*.???") if not p.name.startswith("."))
    assert found == ["img10.png", "img2.png", "x.jpg"]
    for path in out.rglob("*.???"):
        Image.open(io.BytesIO(path.read_bytes())).load()


def test_a_reader_that_goes_away_is_no_error_message(command, photos, tmp_path) -> None:
    process = subprocess.Popen(
        [*command, "derain", photos, "-o", tmp_path / "out", "--json", "-q"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "SECONDS_EACH": "0.1"},
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 1
    assert "Error" not in err.replace("chatter", "")
    assert "Traceback" not in err


def test_binary_data_is_not_written_to_a_terminal(in_terminal, command, photos) -> None:
    code, shown = in_terminal(command, ["derain", photos / "img2.png", "-o", "-"])
    assert (code, "will not write a binary file to the terminal" in shown) == (2, True)
    code, shown = in_terminal(command, ["derain", "-"])
    assert (code, "standard input is a terminal" in shown) == (2, True)


@pytest.mark.parametrize("colour", [True, False])
def test_progress_bar_on_a_terminal(in_terminal, command, photos, tmp_path: Path, colour) -> None:
    environment = {"SECONDS_EACH": "0.2"} | ({} if colour else {"NO_COLOR": "1"})
    if colour:
        environment["NO_COLOR"] = ""
    code, shown = in_terminal(command, ["derain", photos, "-o", tmp_path / "out", "-j", "1"], **environment)
    assert code == 0
    assert "deraining" in shown
    assert re.search("[12] of 3", shown)  # the bar moves while it works; on a busy machine it may skip a number
    assert "derained 3 in" in shown.splitlines()[-1]
    assert bool(re.search(r"\x1b\[[0-9;]*m", shown)) == colour
