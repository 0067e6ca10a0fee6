"""Shared by all tests: skipping of CUDA tests without a card, one thread, makers of networks and video clips."""

import importlib.util
import json
import os
import signal
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from idsr_cli.inference import run_padded
from idsr_cli.networks import ROLES, RainUNet, layout_of
from idsr_cli.rain_estimate import rain_level
from idsr_cli.runtime import ncnn_store
from idsr_cli.runtime.torch_engine import TorchRunner
from idsr_cli.weights import Weights, find_weights, save_weights

try:
    import av
except ImportError:  # the extra `video` is not installed: tests that need it are skipped
    av = None


# Tests run in the background or under nohup ignore these signals, and so would every program they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


# `pytest -n 2` has a process for each core: with more threads than cores the tests take nearly twice as long.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the programs that tests start
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if "cuda" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is kept in the user's cache folder, or comes from there."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ncnn_store, "cache_folder", lambda: folder)
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread for torch: faster for small images, and less affected by other load on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SHAPE = {"widths": [8, 16, 16], "blocks": [1, 1, 1, 1, 1], "unshuffle": 2}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script of `benchmarks/` by its name; a sdist, which has none, skips the test."""
    folder = Path(__file__).resolve().parent.parent / "benchmarks"

    def load(name: str) -> ModuleType:
        if not folder.is_dir():
            pytest.skip("a sdist has the tests without the benchmarks")
        monkeypatch.syspath_prepend(str(folder))
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth shapes with bright streaks, as input of a network."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rgb = np.stack([0.5 + 0.3 * np.sin(x / (17 + 9 * i)) * np.cos(y / (23 + 5 * i)) for i in range(3)], -1)
    rgb += 0.3 * (generator.random((1, width, 1)) > 0.95)
    return np.clip(rgb + 0.03 * generator.standard_normal(rgb.shape), 0, 1).astype(np.float32)


def make_weights(folder: Path, role: str = "ggirnet", strength: float = 8.0, **metadata: str) -> Weights:
    """Random weights whose rain estimate is about `strength` grey levels strong; 0 = untrained."""
    torch.manual_seed(11)
    network = RainUNet(**SHAPE, attention=ROLES[role])  # type: ignore[arg-type]
    if strength:
        torch.nn.init.normal_(network.tail.weight)
        image = photograph(128, 128)
        removed = rain_level(image, run_padded(TorchRunner(network, layout_of("unet"), torch.device("cpu")), image))
        with torch.no_grad():
            network.tail.weight *= strength / removed
    config = json.dumps({**SHAPE, "attention": ROLES[role]})
    path = folder / f"{role}.safetensors"
    save_weights(path, network, {"idsr.arch": role, "idsr.layout": "unet", "idsr.config": config, **metadata})
    return find_weights(str(path)).dprnet


class Clips:
    """Makes little clips whose frames know their number: 64x48, bright and dark bars at the top count in binary."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def picture(number: int, width: int = 64, height: int = 48) -> np.ndarray:
        y, x = np.mgrid[:height, :width]
        picture = np.stack([(3 * x + 2 * number) % 256, 4 * y % 256, np.full_like(x, 100)], axis=2).astype(np.uint8)
        for bit in range(6):
            picture[:12, 10 * bit : 10 * bit + 10] = 255 if number >> bit & 1 else 0
        return picture

    @staticmethod
    def number(picture: np.ndarray) -> int:
        """Number of the frame in a picture, (H, W, 3), white = 255 or 1, that was changed but not turned."""
        top = 255 if picture.dtype == np.uint8 else 1
        return sum(1 << bit for bit in range(6) if picture[3:9, 10 * bit + 3 : 10 * bit + 7].mean() > 0.3 * top)

    def make(
        self,
        name: str,
        frames: int = 10,
        *,
        times: list[int] | None = None,
        unit: Fraction = Fraction(1001, 30000),
        size: tuple[int, int] = (64, 48),
        codec: str = "libx264",
        pixels: str = "yuv420p",
        full_bt709: bool = False,
        rotation: int | None = None,
        mirrored: bool = False,
        shape: Fraction | None = None,
        sound: float = 0.0,
        sound_codec: str = "aac",
        video: bool = True,
        options: dict[str, str] | None = None,
        muxer: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> Path:
        """Write a clip; `times` in units of `unit`, `sound` in seconds, `shape` of the pixels."""
        path = self.folder / name
        silent = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        with av.open(str(path), "w", container_options=muxer or {}) as container:
            container.metadata.update(tags or {})
            if video:
                stream = container.add_stream(codec, rate=1 / unit, options={**silent, **(options or {})})
                stream.width, stream.height, stream.pix_fmt = *size, pixels
                stream.codec_context.time_base = unit
                if shape is not None:
                    stream.codec_context.sample_aspect_ratio = shape
                if full_bt709:
                    context = stream.codec_context
                    context.color_range = 2
                    context.color_primaries = context.color_trc = context.colorspace = 1
                if rotation is not None:
                    stream.set_display_rotation(rotation, hflip=mirrored)
            if sound:
                self._sound(container, sound, sound_codec)
            for number in range(frames if video else 0):
                frame = av.VideoFrame.from_ndarray(self.picture(number, *size), "rgb24")
                if full_bt709:
                    frame = frame.reformat(format=pixels, dst_color_range=2, dst_colorspace=1)
                frame.pts, frame.time_base = times[number] if times else number, unit
                container.mux(stream.encode(frame))
            if video:
                container.mux(stream.encode(None))
        return path

    @staticmethod
    def _sound(container: Any, seconds: float, codec: str) -> None:
        stream = container.add_stream(codec, rate=48000, layout="stereo")
        for start in range(0, int(48000 * seconds), 1024):
            wave = (0.3 * np.sin(np.arange(start, start + 1024) / 20)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    @staticmethod
    def damage(path: Path, *packets: int) -> Path:
        """Overwrite the data of some video packets, counted from 0 in the order of the file."""
        with av.open(str(path)) as container:
            places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
        data = bytearray(path.read_bytes())
        for packet in packets:
            position, size = places[packet]
            data[position + 4 : position + size] = bytes(size - 4)
        path.write_bytes(data)
        return path


@pytest.fixture
def clips(tmp_path: Path) -> Clips:
    pytest.importorskip("av")
    folder = tmp_path / "clips"
    folder.mkdir()
    return Clips(folder)


def few_drops_and_a_fence(drops: float = 0.04) -> tuple[np.ndarray, np.ndarray]:
    """A photograph of several bands, and what a network made of it that took a fence for rain, and single pixels."""
    random = np.random.default_rng(0)
    rainy = random.random((600, 360, 3), np.float32)
    removed = np.where(random.random((600, 360)) < drops, np.float32(0.05), np.float32(0))
    removed[230:330, 100:300] = 0.05  # places are squares of 50 pixels
    return rainy, rainy - removed[..., None]
