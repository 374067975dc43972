"""Refusals of `make image` before any download: CUDA in a CPU image, a client that cannot build, no engine."""

import os
import runpy
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.containers.conftest import ROOT

SCRIPT = ROOT / "infra/images/cuda.py"
BIN = Path(sys.executable).parent


def accelerator_packages(packages):
    items = [{"metadata": {"name": name, "version": version}} for name, version in packages]
    return runpy.run_path(str(SCRIPT))["accelerator_packages"]({"install": items})


@pytest.mark.parametrize(
    ("packages", "names"),
    [
        ([("torch", "2.13.0"), ("nvidia-cublas", "13.1"), ("sympy", "1.14.0")], ["nvidia-cublas==13.1"]),
        ([("torch", "2.13.0+cu126")], ["torch==2.13.0+cu126"]),
        ([("torch", "2.13.0+rocm6.4")], ["torch==2.13.0+rocm6.4"]),
        ([("triton", "3.7.1"), ("torch", "2.13.0")], ["triton==3.7.1"]),
        ([("torch", "2.13.0+cpu"), ("sympy", "1.14.0"), ("cudatext", "1.0")], []),
        ([("torch", "2.13.0")], []),
    ],
)
def test_packages_for_graphics_cards_are_named(packages, names):
    assert accelerator_packages(packages) == names


@pytest.fixture
def index(tmp_path):
    """The address of a package index with a torch wheel that requires CUDA, like that of PyPI."""
    folder = tmp_path / "index"
    make_wheel(folder, "torch", "2.13.0", requires="nvidia-cublas==13.1")
    make_wheel(folder, "nvidia_cublas", "13.1")
    return folder.as_uri()


def make_wheel(index, name, version, requires=None):
    folder = index / name.replace("_", "-")
    folder.mkdir(parents=True)
    file = f"{name}-{version}-py3-none-any.whl"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requires}"] if requires else []
    with zipfile.ZipFile(folder / file, "w") as wheel:
        info = f"{name}-{version}.dist-info"
        wheel.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    (folder / "index.html").write_text(f'<a href="{file}">{file}</a>')


@pytest.fixture
def client(tmp_path):
    """Make a program `docker` of a given version, with or without buildx, with or without an engine."""

    def make(version, *, buildx=False, engine=True):
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "docker"
        program.write_text(
            "#!/bin/sh\n"
            f'case "$1" in --version) echo "{version}" ;; buildx) exit {int(not buildx)} ;;\n'
            f'version) exit {int(not engine)} ;; build) echo "builds $*" ;; *) exit 9 ;; esac\n'
        )
        program.chmod(0o755)
        return folder

    return make


def make_image(folder, *words):
    """Run `make image` with this client and without the configuration of pip; no package is installed."""
    environment = {"PATH": f"{folder}:{BIN}:/usr/bin:/bin", "HOME": str(folder), "PIP_CONFIG_FILE": os.devnull}
    line = ["make", "--assume-old=.venv/.installed", "image", f"BIN={shlex.quote(str(BIN))}", *words]
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_cuda_in_the_cpu_image_is_refused_before_any_download(client, index):
    done = make_image(client("Docker version 20.10.24+dfsg1, build 297e128"), f"TORCH_INDEX={index}")
    line = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert line.startswith("error: the CPU image (runtime) would get CUDA, several GB (nvidia-cublas==13.1): ")
    assert "TORCH_INDEX=" in line
    assert done.returncode == 2
    assert "builds" not in done.stdout


@pytest.mark.parametrize(
    "version", ["Docker version 28.2.2, build e6534b4", "podman version 4.3.1", "nerdctl version 2"]
)
def test_a_client_that_cannot_build_is_named(client, version):
    done = make_image(client(version))
    assert done.stderr.startswith(f"error: {version.partition(',')[0]} has no buildx, which builds images: ")
    assert done.returncode == 2


def test_an_index_without_torch_is_named(client, tmp_path):
    (tmp_path / "empty").mkdir()
    done = make_image(client("Docker version 20.10.24, build 297e128"), f"TORCH_INDEX={(tmp_path / 'empty').as_uri()}")
    line = next(line for line in done.stderr.splitlines() if line.startswith("error: pip"))
    assert line.startswith("error: pip finds no torch==2.13.0 at file://")
    assert "builds" not in done.stdout


def test_an_engine_that_does_not_answer_is_named(client):
    done = make_image(client("Docker version 28.2.2, build e6534b4", buildx=True, engine=False))
    assert done.stderr.startswith("error: no Docker engine answers at the default socket: ")
    assert done.returncode == 2
