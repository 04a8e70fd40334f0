"""The device: found without PyTorch where no driver of a graphics processor is there, and asked of it where one is."""

import subprocess
import sys

import pytest

from kdops.errors import UsageError
from kdops.utils import hardware as device


@pytest.fixture
def linux(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_without_a_driver_torch_is_not_asked(name):
    code = (
        "import sys; from kdops.utils import hardware as device; device._has_driver = lambda: False; "
        f"print(device.resolve_device({name!r}), 'torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["cpu", "False"]


@pytest.mark.parametrize(("is_there", "found"), [(True, "cuda"), (False, "cpu")])
def test_with_a_driver_auto_is_what_torch_finds(monkeypatch, is_there, found):
    monkeypatch.setattr(device, "_has_driver", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: is_there)
    assert device.resolve_device("auto") == found


def test_who_wants_a_graphics_processor_is_told_that_there_is_none(monkeypatch):
    monkeypatch.setattr(device, "_has_driver", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA device"):
        device.resolve_device("cuda")


@pytest.mark.parametrize("is_there", [True, False])
def test_apples_graphics_processor_is_taken_where_torch_has_it_and_refused_in_one_line_elsewhere(monkeypatch, is_there):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: is_there)
    if is_there:
        assert device.resolve_device("mps") == "mps"
        return
    with pytest.raises(UsageError, match="no GPU of Apple is available here; use auto or cpu"):
        device.resolve_device("mps")


@pytest.mark.parametrize("name", ["nvidiactl", "nvidia0", "dxg", "kfd"])
def test_a_driver_is_seen_by_its_file(linux, tmp_path, name):
    assert not device._has_driver(tmp_path)
    (tmp_path / name).touch()
    assert device._has_driver(tmp_path)


def test_on_other_systems_torch_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "win32")
    assert device._has_driver(tmp_path)
