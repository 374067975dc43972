"""Checks of this machine, with faults that are planted in what the system reports."""

import shutil
import socket
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from mcti import params
from mcti.diagnosis import machine, programs
from mcti.local import stack

Usage = namedtuple("Usage", ["total", "used", "free"])
Memory = namedtuple("Memory", ["total", "available"])


def test_this_python_is_supported_and_an_old_one_is_not(monkeypatch):
    assert machine.check_python().state == "OK"
    monkeypatch.setattr(machine.platform, "python_version", lambda: "3.10.2")
    check = machine.check_python()
    assert (check.state, "3.10.2" in check.detail, ">=3.11" in check.hint) == ("failed", True, True)


@pytest.mark.parametrize(("free", "state"), [(0.5, "failed"), (5, "warning"), (50, "OK")])
def test_the_state_of_a_disk_depends_on_its_free_space(monkeypatch, tmp_path, free, state):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 0, int(free * machine.GIB)))
    working, temporary = machine.check_disk(tmp_path)
    assert working.state == temporary.state == state
    assert f"{free:.1f} GiB free in {tmp_path}" in working.detail
    assert ("TMPDIR" in temporary.hint) == (state != "OK")


@pytest.mark.parametrize(("available", "state"), [(0.5, "failed"), (2, "warning"), (12, "OK")])
def test_the_state_of_the_memory_depends_on_what_is_available(monkeypatch, available, state):
    memory = Memory(16 * machine.GIB, int(available * machine.GIB))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(machine, "_container_limit", lambda: None)
    assert machine.check_memory().state == state


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text(str(4 * machine.GIB))
    (tmp_path / "memory.current").write_text(str(3 * machine.GIB + 1))
    limit = machine._container_limit(tmp_path)
    assert limit == (machine.GIB - 1, 4 * machine.GIB)
    (tmp_path / "memory.max").write_text("max\n")
    assert machine._container_limit(tmp_path) is None
    monkeypatch.setattr(machine, "_container_limit", lambda: limit)
    assert machine.check_memory().state == "failed"


SMI = "NVIDIA H200, 570.86.15, 143771 MiB"
CPU_BUILD = {"torch": "2.13.0+cpu", "cuda": None, "gpus": []}
NO_GPU = {"torch": "2.13.0+cu130", "cuda": "13.0", "gpus": []}
GPU = {"torch": "2.13.0+cu130", "cuda": "13.0", "gpus": ["NVIDIA H200"]}


@pytest.mark.parametrize(
    ("device", "driver", "report", "state", "words"),
    [
        ("auto", "", CPU_BUILD, "not configured", "2.13.0+cpu is a CPU build"),
        ("cuda", "", CPU_BUILD, "failed", "train.device is cuda, but PyTorch 2.13.0+cpu is a CPU build"),
        ("auto", SMI, CPU_BUILD, "warning", "driver 570.86.15 with NVIDIA H200, 143771 MiB, but"),
        ("cuda", SMI, NO_GPU, "failed", "2.13.0+cu130 finds no GPU"),
        ("cuda", SMI, GPU, "OK", "NVIDIA H200; driver 570.86.15"),
        ("auto", "", "PyTorch cannot be loaded (ImportError: libx)", "failed", "ImportError: libx"),
    ],
)
def test_a_gpu_is_needed_only_where_the_settings_name_it(monkeypatch, device, driver, report, state, words):
    response = programs.Response(driver) if driver else programs.Response(error="no nvidia-smi", absent=True)
    monkeypatch.setattr(machine, "call", lambda *_: response)
    monkeypatch.setattr(machine, "_torch_report", lambda: report)
    check = machine.check_gpu(device)
    assert check.state == state
    assert words in check.detail


def test_pytorch_is_loaded_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(machine, "_GPU_SECONDS", 900)  # for a loaded machine
    report = machine._torch_report()
    assert isinstance(report, dict)
    assert report["torch"].startswith("2.")
    monkeypatch.setattr(machine, "_GPU_PROGRAM", "import no_such_module")
    assert "No module named 'no_such_module'" in machine._torch_report()
    monkeypatch.setattr(machine, "_GPU_PROGRAM", "import time; time.sleep(60)")
    monkeypatch.setattr(machine, "_GPU_SECONDS", 0.3)
    assert machine._torch_report() == "PyTorch did not load within 0.3 s"


def test_a_port_in_use_is_a_warning(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = params.load(None, [f"serve.port={port}"])
        (check,) = machine.check_ports(tmp_path, settings)
    assert (check.name, check.state) == (f"port {port}", "warning")
    (check,) = machine.check_ports(tmp_path, settings)
    assert check.state == "OK"


def test_a_stack_that_runs_in_part_fails_and_a_stopped_one_is_a_warning(tmp_path, monkeypatch):
    (tmp_path / ".stack").mkdir()
    settings = params.load(None, ["serve.port=0"])
    (check,) = machine.check_ports(tmp_path, settings)
    assert (check.state, check.hint) == ("warning", "run mcti stack up")
    server = stack.Server(name="s3", pid=1, created=0)
    partial = stack.Stack(running=False, already=False, s3="", mlflow="", folder="x", servers=(server,))
    monkeypatch.setattr(stack, "status", lambda _: partial)
    (check,) = machine.check_ports(tmp_path, settings)
    assert (check.state, "only s3" in check.detail) == ("failed", True)


def test_a_folder_that_cannot_be_written_fails(tmp_path):
    assert {check.state for check in machine.check_permissions(tmp_path)} == {"OK"}
    assert list(tmp_path.iterdir()) == []
    read_only = Path("/proc")  # also for root
    checks = {check.name: check for check in machine.check_permissions(read_only)}
    assert checks["write to /proc"].state == "failed"


def test_keys_that_other_users_can_read_are_a_warning_and_unreadable_ones_fail(tmp_path, monkeypatch):
    keys = tmp_path / "keys"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))

    def state():
        return next(c for c in machine.check_permissions(tmp_path) if c.name == f"keys {keys}").state

    assert state() == "failed"
    keys.touch(0o644)
    assert state() == "warning"
    keys.chmod(0o600)
    assert state() == "OK"
