"""A command line without networks: photographs in, half as bright out, at once."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import idsr_cli.weights
from idsr_cli import restoration
from idsr_cli.cli.app import app
from idsr_cli.restoration import Removal, Restored


class Run:
    """Invokes the command line; stdout and stderr are kept apart."""

    def __call__(self, *args: object, stdin: bytes | None = None) -> Any:
        result = CliRunner().invoke(app, [str(arg) for arg in args], input=stdin, prog_name="idsr")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def events(self, *args: object) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self(*args, "--json").stdout.splitlines()]


@pytest.fixture
def run() -> Run:
    return Run()


@pytest.fixture
def halving(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stand-ins for weights and networks: DPRNet halves the brightness, GGIRNet quarters it. Counts the calls.

    `rain` is what they saw; `look` how they looked, and `before` what they were told of the frame before, each call."""
    calls = SimpleNamespace(D=0, G=0, rgb=None, removal=None, rain=None, before=[], look="upright")

    def network(letter: str, factor: float) -> Callable[[np.ndarray, Removal], Restored]:
        def restore(rgb: np.ndarray, removal: Removal, before: str | None = None) -> Restored:
            setattr(calls, letter, getattr(calls, letter) + 1)
            calls.rgb, calls.removal = rgb, removal
            calls.before.append(before)
            return Restored(rgb * np.float32(factor), rain_seen=True, rain=calls.rain, look=calls.look)

        restore.engine, restore.remark = "torch", ""  # type: ignore[attr-defined]
        return restore

    d, g = (SimpleNamespace(identity=letter * 64, sha256=letter * 64, arch=letter) for letter in "DG")
    pair = SimpleNamespace(dprnet=d, ggirnet=g, splice="DG", sha256="f" * 64, remarks=[])
    factors = {"D": 0.5, "G": 0.25}
    monkeypatch.setattr(
        idsr_cli.weights, "find_weights", lambda spec=None: SimpleNamespace(**vars(pair) | {"name": spec or "fake"})
    )
    monkeypatch.setattr(restoration, "load_network", lambda w, *rest: network(w.arch, factors[w.arch]))
    return calls


def texture(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 with blobs that SIFT likes."""
    import cv2

    noise = np.random.default_rng(seed).uniform(0, 255, (height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip((smooth - smooth.mean()) * 6 + 128, 0, 255).astype(np.uint8)


@pytest.fixture
def paint() -> Callable[..., np.ndarray]:
    return texture


@pytest.fixture
def picture() -> np.ndarray:
    return texture()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """photos/{img2.png, img10.png, a/b/x.jpg}, and things that are no photographs."""
    folder = tmp_path / "photos"
    (folder / "a" / "b").mkdir(parents=True)
    Image.fromarray(texture(seed=1)).save(folder / "img10.png")
    Image.fromarray(texture(seed=2)).save(folder / "img2.png")
    Image.fromarray(texture(seed=3)).save(folder / "a" / "b" / "x.jpg")
    (folder / "notes.txt").write_text("no photograph")
    (folder / ".hidden.png").write_bytes(b"no photograph either")
    return folder


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide and without colour, so that messages can be compared."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


# A network that takes its time, and a C library that chats on standard output.
SCRIPT = """
import os, sys, time
from types import SimpleNamespace
import idsr_cli.weights
from idsr_cli import restoration

class Restorer(restoration.Restorer):
    device, precision, engine = "cpu", "fp32", "torch"
    _player, _networks = {"D": "D", "G": "G"}, {}
    def __init__(self, *args): pass
    def restore(self, rgb, roles, before=None):
        os.write(1, b"chatter from C\\n")
        print("chatter from Python")
        time.sleep(float(os.environ.get("SECONDS_EACH", "0")))
        return [restoration.Restored(rgb.copy(), rain_seen=True) for role in roles]

one = SimpleNamespace(identity="f", sha256="f")
pair = SimpleNamespace(name="fake", splice="DG", dprnet=one, ggirnet=one, sha256="f", remarks=[])
idsr_cli.weights.find_weights = lambda spec=None: pair
restoration.Restorer = Restorer
from idsr_cli.__main__ import main
main()
"""


@pytest.fixture
def command() -> list[str]:
    """Starts the command line in a process of its own, with a stand-in network that prints and takes its time."""
    return [sys.executable, "-W", "error", "-c", SCRIPT]


def _in_terminal(command: list[str], arguments: list[object], **environment: str) -> tuple[int, str]:
    """Exit code and everything shown, all streams on a terminal of 80 columns, or of COLUMNS."""
    import pty

    main, end = pty.openpty()
    variables = {**os.environ, "COLUMNS": "80", "TERM": "xterm", **environment}
    process = subprocess.Popen([*command, *map(str, arguments)], stdin=end, stdout=end, stderr=end, env=variables)
    os.close(end)
    shown = b""
    while True:
        try:
            part = os.read(main, 4096)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(main)
    return process.wait(), shown.decode()


@pytest.fixture
def in_terminal() -> Callable[..., tuple[int, str]]:
    """Runs (command, arguments, **environment) with its streams on a terminal -> exit code, what it shows."""
    return _in_terminal


@pytest.fixture
def pairs(photos: Path, tmp_path: Path) -> tuple[Path, Path]:
    """clean/ = the photographs; rainy/ = the same under bright columns, as PNG."""
    clean, rainy = photos, tmp_path / "rainy"
    for path in photos.rglob("*.[pj][np]g"):
        if path.name.startswith("."):
            continue
        image = np.asarray(Image.open(path)).copy()
        image[:, ::8] = np.clip(image[:, ::8].astype(int) + 70, 0, 255)
        target = rainy / path.relative_to(photos).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(target)
    return rainy, clean
