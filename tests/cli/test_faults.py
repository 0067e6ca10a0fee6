"""Faults from outside, in a process of its own: what is said, what the exit code is, and what is left on disk."""

import ctypes
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits, signals and capabilities as Linux has them")
RECORD = ".idsr.jsonl"
ALL = ["a/b/x.jpg", "img10.png", "img2.png"]


def left(folder: Path) -> list[str]:
    """Every file below a folder, hidden ones too, but for the record of settings; each photograph is whole."""
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != RECORD)
    for name in found:
        if not name.endswith(".part"):
            Image.open(io.BytesIO((folder / name).read_bytes())).load()
    return found


@pytest.fixture
def idsr(command) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs it to its end; `before` is called in the new process first."""

    def run(*args: object, before: Callable[[], object] | None = None, **environment: str) -> object:
        return subprocess.run(
            [*command, *map(str, args)],
            capture_output=True,
            text=True,
            preexec_fn=before,
            env={**os.environ, **environment},
        )

    return run  # type: ignore[return-value]


@pytest.fixture
def start(command) -> Callable[..., subprocess.Popen[str]]:
    """Starts it, and waits until `out` holds a file that `ready` accepts."""

    def begin(out: Path, *args: object, ready: str = "*.jpg", **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*command, *map(str, args)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in out.rglob(ready)) and time.monotonic() < deadline:
            time.sleep(0.01)
        return process

    return begin


def without_privileges() -> None:
    """For root, permissions mean nothing; drop what makes it so (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if not line.startswith("chatter")]


@pytest.mark.parametrize("jobs", [1, 3])
def test_no_room_for_a_whole_file(idsr, photos, tmp_path, jobs) -> None:
    """The limit cuts a file in the middle, as a full disk does: 1500 bytes are written, then the write fails."""
    import resource

    out = tmp_path / "out"
    done = idsr(
        "derain", photos, "-o", out, "-j", jobs,
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500)),
    )  # fmt: skip
    assert done.returncode == 1
    assert told(done)[:3] == [f"{photos}/{name}: file too large" for name in ("a/b/x.jpg", "img2.png", "img10.png")]
    assert left(out) == []
    assert idsr("derain", photos, "-o", out).returncode == 0
    assert left(out) == ALL


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_full_disk(idsr, photos, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12k", "none", out], capture_output=True).returncode:
        pytest.skip("may not mount here")
    try:
        done = idsr("derain", photos, "-o", out)
        assert done.returncode == 1
        assert any("no space left on device" in line for line in told(done))
        there = left(out)
        assert len(there) < 3  # and whole
        subprocess.run(["mount", "-o", "remount,size=1m", out], check=True)
        assert idsr("derain", photos, "-o", out).returncode == 0
        assert left(out) == ALL
        subprocess.run(["mount", "-o", "remount,ro", out], check=True)
        done = idsr("derain", photos, "-o", out, "--existing", "overwrite")
        assert (done.returncode, told(done)) == (2, [f"{out}: permission denied: cannot write there"])
    finally:
        subprocess.run(["umount", out], check=True)


def test_read_only_output(idsr, photos, tmp_path) -> None:
    out = tmp_path / "out"
    (out / "a").mkdir(parents=True)
    (out / "a").chmod(0o555)
    done = idsr("derain", photos, "-o", out, before=without_privileges)
    assert (done.returncode, told(done)) == (2, [f"{out}/a: permission denied: cannot write there"])
    assert left(out) == []


def test_unreadable_input(idsr, photos, tmp_path) -> None:
    out = tmp_path / "out"
    (photos / "img2.png").chmod(0)
    (photos / "a").chmod(0)
    try:
        done = idsr("derain", photos, "-o", out, before=without_privileges)
    finally:
        (photos / "a").chmod(0o755)
    assert done.returncode == 1
    assert told(done)[:2] == [f"{photos}/a: permission denied", f"{photos}/img2.png: permission denied"]
    assert left(out) == ["img10.png"]


def test_loops_of_links(idsr, photos, tmp_path) -> None:
    (photos / "a" / "up").symlink_to(photos)
    (photos / "self.png").symlink_to("self.png")
    (photos / "there.png").symlink_to("back.png")
    (photos / "back.png").symlink_to("there.png")
    done = idsr("derain", photos, "-o", tmp_path / "out")
    assert done.returncode == 1
    loops = ("back.png", "self.png", "there.png")
    assert told(done)[:3] == [f"{photos}/{name}: too many levels of symbolic links" for name in loops]
    assert left(tmp_path / "out") == ALL


@pytest.mark.parametrize("jobs", [1, 3])
def test_files_that_disappear_and_folders_that_are_removed(start, photos, tmp_path, jobs) -> None:
    """One input and the whole output folder vanish while the run is at the second photograph."""
    out = tmp_path / "out"
    for i in range(30, 36):
        (photos / f"img{i}.png").write_bytes((photos / "img2.png").read_bytes())
    process = start(out, "derain", photos, "-o", out, "-j", jobs, SECONDS_EACH="0.3")
    (photos / "img35.png").unlink()
    (out / "a" / "b" / "x.jpg").unlink()
    (out / "a" / "b").rmdir()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"{photos}/img35.png: no such file (moved, or a broken link)" in err
    assert left(out) == sorted([*ALL[1:], *(f"img{i}.png" for i in range(30, 35))])


HANG = """
import os, time
real = os.fsync
def fsync(file):
    real(file)
    if os.environ.get("HANG") and os.fstat(file).st_size > 5000:
        time.sleep(60)
os.fsync = fsync
"""


def test_kill_9_in_the_middle_of_a_write(idsr, start, command, photos, tmp_path) -> None:
    """It dies between the last byte and the renaming: one temporary file, which the next run knows for what it is."""
    out = tmp_path / "out"
    command[-1] = HANG + command[-1]
    process = start(out, "derain", photos, "-o", out, "-j", 1, ready=".idsr-*.part", HANG="1")
    deadline = time.monotonic() + 60
    while max((p.stat().st_size for p in out.rglob(".idsr-*.part")), default=0) < 5000 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    process.kill()
    process.communicate()
    there = left(out)
    assert [Path(name).suffix for name in there if ".idsr-" in name] == [".part"]
    assert set(there) - set(ALL) == {name for name in there if name.endswith(".part")}
    # As an input folder, it holds no more photographs than are whole.
    listed = idsr("derain", out, "-o", tmp_path / "again", "-n").stdout.splitlines()
    assert len(listed) == len(there) - 1
    done = idsr("derain", photos, "-o", out)
    assert done.returncode == 0
    assert f"skipped {len(there) - 1}" in told(done)[-1] or len(there) == 1
    assert left(out) == ALL


def test_temporary_files_of_a_living_run_are_left_alone(idsr, start, command, photos, tmp_path) -> None:
    out = tmp_path / "out"
    command[-1] = HANG + command[-1]
    process = start(out, "derain", photos / "img2.png", "-o", out, ready=".idsr-*.part", HANG="1")
    try:
        assert idsr("derain", photos / "img10.png", "-o", out).returncode == 0
        assert sum(name.endswith(".part") for name in left(out)) == 1
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("number", "jobs"), [(signal.SIGTERM, 1), (signal.SIGTERM, 3), (signal.SIGHUP, 3), (signal.SIGINT, 1)]
)
def test_signals_end_a_run_with_whole_files(idsr, start, photos, tmp_path, number, jobs) -> None:
    out = tmp_path / "out"
    process = start(out, "derain", photos, "-o", out, "-j", jobs, SECONDS_EACH="0.7")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted with" in err
    assert "Traceback" not in err
    there = left(out)
    assert set(there) < set(ALL)
    done = idsr("derain", photos, "-o", out)
    assert (done.returncode, left(out)) == (0, ALL)
    assert "stale" not in done.stderr


def test_ignored_signals_stay_ignored(start, photos, tmp_path) -> None:
    """`nohup idsr ...` goes on when the terminal is closed."""
    out = tmp_path / "out"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start(out, "derain", photos, "-o", out, SECONDS_EACH="0.3")
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert (process.returncode, left(out)) == (0, ALL)


@pytest.mark.parametrize(
    "arguments", [["derain", "IN", "-o", "-"], ["derain", "-"], ["sift", "IN", "--no-derain", "-o", "-"]]
)
def test_closed_pipe_is_quiet(command, photos, arguments) -> None:
    """`idsr ... | head -c1`, with more data than a pipe holds."""
    picture = photos / "big.png"
    Image.effect_noise((500, 400), 90).save(picture)
    arguments = [str(picture) if word == "IN" else word for word in arguments]
    with open(picture, "rb") as stdin:
        process = subprocess.Popen(
            [*command, *arguments], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
    assert process.stdout is not None
    assert process.stderr is not None
    assert len(process.stdout.read(1)) == 1
    process.stdout.close()
    err = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 1
    assert [line for line in err.splitlines() if not line.startswith("chatter")] == []


def test_closed_standard_error_and_no_streams_at_all(command, photos, tmp_path) -> None:
    done = subprocess.run(
        ["bash", "-c", f'"$@" derain {photos} -o {tmp_path}/1 -v 2>&1 | head -n1', "-", *command],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    closed = subprocess.run(["bash", "-c", f'"$@" derain {photos} -o {tmp_path}/2 <&- >&- 2>&-', "-", *command])
    assert (closed.returncode, left(tmp_path / "2")) == (0, ALL)


def test_standard_output_on_a_full_disk(command, photos, tmp_path) -> None:
    with open("/dev/full", "wb") as full:
        image = subprocess.run(
            [*command, "derain", photos / "img2.png", "-o", "-"], stdout=full, stderr=subprocess.PIPE
        )
        lines = subprocess.run(
            [*command, "derain", photos, "-o", tmp_path / "out", "--json"], stdout=full, stderr=subprocess.PIPE
        )
    assert image.returncode == 1
    assert b"no space left on device" in image.stderr
    assert lines.returncode == 2
    assert b"standard output: no space left on device\n" in lines.stderr
    assert b"Traceback" not in image.stderr + lines.stderr


def test_the_working_directory_is_deleted(idsr, photos, tmp_path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()

    def leave() -> None:
        os.chdir(gone)
        gone.rmdir()

    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = idsr("derain", "a.jpg", "-o", "out", before=leave, **environment)
    assert done.returncode == 2
    message = "idsr: the working directory is gone: deleted, or unmounted (`cd` to a folder that is there)"
    assert told(done) == [message]
    gone.mkdir()
    assert idsr("--version", before=leave, **environment).returncode == 0
