"""While the network computes a photograph, the next is read and the one before is finished and written."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import idsr_cli.extraction
import idsr_cli.images.photo
from idsr_cli import restoration
from idsr_cli.inference import TiledNetwork
from idsr_cli.rain_estimate import Rain
from idsr_cli.restoration import RainRemover

COUNT = 5


class Order:
    """Makes calls in several threads wait for each other; a call that waits in vain is noted."""

    def __init__(self) -> None:
        self.in_vain: list[str] = []
        self._begun: dict[str, int] = {}
        self._changed = threading.Condition()

    def begin(self, stage: str) -> int:
        """Count a call of this stage: its number, from 1."""
        with self._changed:
            self._begun[stage] = self._begun.get(stage, 0) + 1
            self._changed.notify_all()
            return self._begun[stage]

    def wait(self, stage: str, number: int, what: str) -> None:
        """Wait until this call has begun."""
        with self._changed:
            # No longer once something is wrong.
            patience = 0.01 if self.in_vain else 30.0
            if not self._changed.wait_for(lambda: self._begun.get(stage, 0) >= number, patience):
                self.in_vain.append(f"{what} waits for {stage} {number}")


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> Order:
    """A network, and clocks: the network waits for the next photograph to be read; what comes after the network waits
    for the network to begin with the next photograph."""
    order = Order()

    class Striped:
        """Takes vertical stripes out."""

        multiple, halo, bytes_per_pixel, precision, engine, remark = 8, 16, 100.0, "fp32", "striped", ""

        def run(self, patch: np.ndarray, place: object = None) -> np.ndarray:
            number = order.begin("network")
            if number < COUNT:
                order.wait("reading", number + 1, f"network {number}")
            result = patch.copy()
            result[:, ::4] *= np.float32(0.5)
            return result

        def memory(self, pixels: int) -> float:
            return 1e9

        def release(self) -> None: ...

    def after(stage: str, function):
        def call(*arguments, **settings):
            number = order.begin(stage)
            if number < COUNT:
                order.wait("network", number + 1, f"{stage} {number}")
            return function(*arguments, **settings)

        return call

    def read(path, read=idsr_cli.images.photo.read_photo):
        order.begin("reading")
        return read(path)

    monkeypatch.setattr(restoration, "load_network", lambda *_: RainRemover(TiledNetwork(Striped(), 0), 2.5, 2.5))
    monkeypatch.setattr(idsr_cli.images.photo, "read_photo", read)
    monkeypatch.setattr(Rain, "measured", after("measuring", Rain.measured))
    monkeypatch.setattr(restoration, "leave_dry_pixels", after("the rain floor", restoration.leave_dry_pixels))
    monkeypatch.setattr(idsr_cli.images.photo, "encode", after("encoding", idsr_cli.images.photo.encode))
    monkeypatch.setattr(idsr_cli.extraction, "extract", after("SIFT", idsr_cli.extraction.extract))
    pair = SimpleNamespace(
        **{name: SimpleNamespace(identity=name, sha256=name, arch=name) for name in ("dprnet", "ggirnet")},
        name="striped", splice="DD", sha256="f" * 64, remarks=[],
    )  # fmt: skip
    monkeypatch.setattr(idsr_cli.weights, "find_weights", lambda spec=None: pair)
    return order


@pytest.mark.parametrize("command", ["derain", "sift"])
def test_the_network_waits_for_nothing(run, order, tmp_path, command) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(COUNT):
        noise = np.random.default_rng(i).integers(100, 250, (48, 64, 3))
        Image.fromarray(noise.astype(np.uint8)).save(folder / f"{i}.png")
    told = run.events(command, folder, "-o", tmp_path / "out", "--device", "cpu", "--jobs", 2)
    assert [event.get("input", "")[-5:] for event in told] == [*(f"{i}.png" for i in range(COUNT)), ""]
    assert {event["status"] for event in told[:-1]} == {"ok"}
    assert all(event["derained"] for event in told[:-1])
    assert not order.in_vain
