"""Choice of device and precision: automatic by what is available; errors for what is not."""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from idsr_cli.errors import DeviceError
from idsr_cli.runtime import devices
from idsr_cli.runtime.devices import choose_device, device_name
from idsr_cli.runtime.precision import PRECISIONS, choose_precision

CPU = torch.device("cpu")


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == CPU
    for name in ("gpu", "", "cpu:0", "cuda:x", "cuda:-1", "mps:1", "auto:1", "auto:x", "CPU"):
        with pytest.raises(DeviceError, match="unknown device") as caught:
            choose_device(name)
        assert f"`{name}`" in caught.value.reason
        assert "cuda:N" in caught.value.hint
    for name in ("cuda", "cuda:0", "mps"):
        with pytest.raises(DeviceError, match="use the device `cpu`"):
            choose_device(name)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match=r"no device `cuda:2` \(there are 2"):
        choose_device("cuda:2")


def test_no_torch_where_there_can_be_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_have_gpu = partial(devices._may_have_gpu, tmp_path)
    monkeypatch.setattr(devices, "_may_have_gpu", may_have_gpu)
    monkeypatch.setattr(devices, "choose_device", lambda name: torch.device("cuda", 1))
    monkeypatch.setattr(sys, "platform", "linux")
    (tmp_path / "nvme0").touch()  # a disk
    assert device_name("auto") == device_name("cpu") == "cpu"
    assert device_name("cuda:1") == "cuda:1"
    for node in ("nvidia0", "nvhost-gpu", "nvmap", "dxg", "kfd"):
        (tmp_path / node).touch()
        assert (device_name("auto"), device_name("cpu")) == ("cuda:1", "cpu")
        (tmp_path / node).unlink()
    for system in ("darwin", "win32"):
        monkeypatch.setattr(sys, "platform", system)
        assert device_name("auto") == "cuda:1"


def test_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_precision("auto", "cpu") == choose_precision("auto", "mps") == "fp32"
    assert choose_precision("bf16", "cpu") == "bf16"
    for has, expected in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, has=has: has)
        assert choose_precision("auto", "cuda:1") == expected
    assert tuple(choose_precision(name, "cuda") for name in PRECISIONS) == PRECISIONS
    with pytest.raises(DeviceError, match="not for CPUs"):
        choose_precision("fp16", "cpu")
    with pytest.raises(DeviceError, match=r"unknown precision `fp64` \(did you mean `fp16`\? use auto, fp32"):
        choose_precision("fp64", "cpu")
