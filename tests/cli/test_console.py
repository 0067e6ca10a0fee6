"""Progress: what is counted, on a terminal and elsewhere."""

import fcntl
import itertools
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time

import pytest

from idsr_cli.cli import console as module
from idsr_cli.cli.console import Console, _Count


def test_share_rises_evenly_and_never_falls() -> None:
    count = _Count("deraining", 4)
    shares = [count.share]
    for _ in range(4):
        for part in (0.0, 0.5, 0.2):  # it falls when a photograph is begun anew with smaller tiles
            count.part(part)
            shares.append(count.share)
        count.computed_one()
        shares.append(count.share)
        count.done += 1
        shares.append(count.share)
    assert shares == sorted(shares)
    assert max(b - a for a, b in itertools.pairwise(shares)) <= 0.13
    assert (shares[0], shares[-1]) == (0, 1)


def test_a_photograph_that_fails_early_counts_as_a_whole() -> None:
    count = _Count("deraining", 2)
    count.done = 2
    assert count.share == 1


def test_one_photograph_is_counted_by_its_tiles() -> None:
    count = _Count("deraining", 1)
    count.part(0.25)
    assert (count.share, count.where, count.pace) == (0.25, " 25 %", "")


def test_a_photograph_that_is_gone_through_again(monkeypatch) -> None:
    """The bar does not fall back, and the words say how far the second pass is."""
    count = _Count("deraining", 1)
    for share in (0.5, 0.9, 0.0, 0.25):
        count.part(share)
    assert (count.share, count.left.split()) == (0.9, ["again", "25", "%"])
    count.computed_one()
    count.started("b.jpg")
    assert count.left.split() == ["-:--", "left"]


def test_time_and_bar_go_on_within_a_tile(monkeypatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    count = _Count("deraining", 1)
    count.started("a.jpg")
    seen = []
    for _ in range(3):  # tiles of 40 seconds
        for _ in range(4):
            now[0] += 10
            seen.append((count.expected_share, count.text(114).split()[3]))
        count.part(count.share + 0.2)
    assert [share for share, _ in seen[:4]] == [0, 0, 0, 0]  # nothing is known before the first tile is done
    shares = [share for share, _ in seen[4:]]
    assert shares == pytest.approx([0.25, 0.3, 0.35, 0.39, 0.45, 0.5, 0.55, 0.59])
    assert [time for _, time in seen[:3]] == ["0:10", "0:20", "0:30"]
    assert count.share == pytest.approx(0.6)


def test_the_line_says_which_photograph_and_how_long(monkeypatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    count = _Count("deraining", 12)
    count.started("IMG_20260704_110203_HDR_panorama.jpg")
    count.done, now[0] = 3, 1062.0
    assert count.line == "IMG_20260704_110203_HDR_panorama.jpg, 3 of 12, 1:02 gone, 3:06 left"
    assert count.text(74) == "IMG_2026…orama.jpg   3 of 12  1:02     3:06 left"
    assert count.text(114) == "IMG_20260704_110203_HDR_panorama.jpg   3 of 12   20.7 s each  1:02     3:06 left"


def test_words_keep_their_width(monkeypatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    count = _Count("deraining", 120)
    widths, left = set(), []
    for second in range(1, 400):
        now += 1 + second % 3
        count.part(0.5)
        if second % 3 == 0:
            count.computed_one()
            count.done += count.done < 120
        widths.add((len(count.where), len(count.pace), len(count.left)))
        left.append(count.left.strip())
    assert len(widths) == 1
    assert left[0].endswith(" left")
    assert "0:00 left" in left


def test_a_resumed_job_is_timed_from_where_it_went_on(monkeypatch, capsys) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    console = Console()
    for share in (0.5, 0.6, 0.7):
        console.track(share, "training", "loss 0.1")
        now += 60.0
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2:] == [
        "training: 60 %, loss 0.1, 1:00 gone, 4:00 left",
        "training: 70 %, loss 0.1, 2:00 gone, 3:00 left",
    ]


@pytest.mark.parametrize("total", [3, 1])
def test_plain_lines_where_there_is_no_terminal(run, halving, photos, tmp_path, monkeypatch, total) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    source = photos if total == 3 else photos / "img2.png"
    lines = run("derain", source, "-o", tmp_path / "out", "-j", 1).stderr.splitlines()
    if total == 3:
        told = [line.split(",")[-3].strip() for line in lines[:-1]]
        assert list(dict.fromkeys(told)) == ["deraining: 0 of 3", "0 of 3", "1 of 3", "2 of 3"]
        assert [name in "".join(lines) for name in ("img2.png", "img10.png", "x.jpg")] == [True] * 3
        assert all("\x1b" not in line for line in lines)
    else:
        assert [line.split(" in ")[0] for line in lines] == [
            "deraining: img2.png, 0 %, 0:00 gone, -:-- left",
            "derained 1",
        ]
    assert len(run("derain", photos, "-o", tmp_path / "quiet", "-q").stderr) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="terminals as Linux has them")
def test_ctrl_c_on_a_terminal_leaves_no_bar_behind(command, photos, tmp_path) -> None:
    """The terminal shows ^C behind the bar. With room for it there, erasing the bar's line erases both."""
    main, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))
    process = subprocess.Popen(
        [*command, "derain", photos, "-o", tmp_path / "out", "-j", "1"],
        stdin=end, stdout=subprocess.DEVNULL, stderr=end, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env={k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"TERM": "xterm", "SECONDS_EACH": "0.6"},
    )  # fmt: skip
    os.close(end)
    shown, sent, deadline = b"", False, time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            part = os.read(main, 4096)
        except OSError:
            break
        shown += part
        if not sent and b"1 of 3" in shown:
            os.write(main, b"\x03")
            sent = True
    os.close(main)
    assert process.wait() == 128 + signal.SIGINT
    text = shown.decode()
    assert "^C" in text
    bars = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "\n", text.replace("\r", "\n")).splitlines()
    assert max(len(re.sub(r"\^C|chatter.*", "", line)) for line in bars if "deraining" in line) <= 74
    erased, after = text.rsplit("\x1b[2K", 1)
    assert "━" in erased
    assert re.match(r"derained \d in [\d.]+ s, interrupted with \d to go", after)


@pytest.mark.parametrize(("columns", "width"), [(None, 80), ("100", 100), ("20", 60), ("500", 160), ("wide", 80)])
def test_tables_without_a_terminal_are_as_wide_as_asked_for(monkeypatch, columns, width) -> None:
    console = Console()
    monkeypatch.setattr(Console, "data_is_terminal", False)
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    assert console.table_width() == width
