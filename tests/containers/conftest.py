"""A separate Docker engine with the image, for `make image-test`; otherwise these tests are skipped.

MCTI_IMAGE_TEST=1 starts an engine and builds the image; any other value names an image of the engine at DOCKER_HOST.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE, IMAGE = "mcti-base-python:test", "mcti-python:test"
NEEDED = ("dockerd", "docker", "debootstrap", "make")
NEEDED_GB = 12  # the base, the packages, every layer twice during the build
PYTHON = (3, 11)  # of the base: this interpreter downloads the wheels
# The client of the engine's package comes first, since it can build; another one may lack buildx.
PATH = os.pathsep.join([*(["/usr/bin"] if Path("/usr/bin/docker").exists() else []), os.environ["PATH"], "/usr/sbin"])


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """The environment of a new engine, which is stopped by its process id afterwards."""
    if "MCTI_IMAGE_TEST" not in os.environ:
        pytest.skip("builds an image for minutes: run `make image-test`")
    if os.environ["MCTI_IMAGE_TEST"] != "1":
        yield dict(os.environ)
        return
    folder = tmp_path_factory.mktemp("engine")
    if reason := missing_requirement(folder):
        pytest.skip(f"no Docker engine can be started on this machine: {reason}")
    socket = f"unix://{folder}/docker.sock"
    remove_old_mounts(tmp_path_factory.getbasetemp())
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(engine_command(folder, socket), stdout=log, stderr=log, start_new_session=True)
    environment = {**os.environ, "DOCKER_HOST": socket, "DOCKER_BUILDKIT": "1", "PATH": PATH}
    try:
        wait_for(environment, process, folder / "log")
        yield environment
    finally:
        stop(process)
        shutil.rmtree(folder, ignore_errors=True)  # gigabytes, which pytest would keep


def engine_command(folder: Path, socket: str) -> list[str]:
    """dockerd with its own mounts: they end with it, even if it is killed, and pytest can remove the folder."""
    private = ["unshare", "--mount", "--propagation", "private", "--"]
    places = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid", f"--host={socket}"]
    # Any storage driver other than overlay2 copies every complete layer: gigabytes and minutes.
    options = ["--storage-driver=overlay2", "--bridge=none", "--iptables=false", "--ip-masq=false"]
    return [*private, str(shutil.which("dockerd", path=PATH)), *places, *options]


def remove_old_mounts(base: Path) -> None:
    """Unmount what engines of earlier tests left in the folders that pytest has renamed and cannot remove."""
    garbage = [f"{folder}/garbage-" for folder in base.parents if folder.name.startswith("pytest-of-")]
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    for point in reversed([point for point in points if point.startswith(tuple(garbage))]):
        subprocess.run(["umount", point], check=False, capture_output=True)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the engine; it ends its containerd and removes its mounts."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=600)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def missing_requirement(folder: Path) -> str:
    """Why this machine cannot start an engine or build the image; empty when it can."""
    missing = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: apt-get install docker.io debootstrap make)"
    if os.geteuid() != 0:
        return "not root"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        return "this machine may not mount"
    if sys.version_info[:2] != PYTHON:
        return (
            f"the base has Python {PYTHON[0]}.{PYTHON[1]}, this environment {sys.version_info[0]}.{sys.version_info[1]}"
        )
    free = shutil.disk_usage(folder).free / 1e9
    return f"{free:.0f} GB free in {folder}, {NEEDED_GB} needed" if free < NEEDED_GB else ""


def wait_for(environment, process, log):
    """Wait until the engine answers; skip with its last log line when it cannot run on this machine."""
    for _ in range(900):
        if process.poll() is not None:
            pytest.skip(f"no Docker engine can be started on this machine: {log.read_text().splitlines()[-1]}")
        if subprocess.run(["docker", "version"], env=environment, capture_output=True).returncode == 0:
            return
        time.sleep(1)
    pytest.skip("no Docker engine can be started on this machine: it does not answer within 15 minutes")


@pytest.fixture(scope="session")
def image(engine):
    """The name of the runtime image, built as documented."""
    if os.environ["MCTI_IMAGE_TEST"] != "1":
        return os.environ["MCTI_IMAGE_TEST"]
    done = subprocess.run(
        [str(ROOT / "infra/images/base.sh"), BASE], env=engine, cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no base image can be built on this machine: {last_line(done)}")
    words = ["docker", "run", "--rm", "--network", "none", BASE, "true"]
    tried = subprocess.run(words, env=engine, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"the Docker engine cannot run a container on this machine: {last_line(tried)}")
    words = [f"IMAGE={IMAGE}", f"BASE_IMAGE={BASE}", f"BUILD_IMAGE={BASE}-build"]
    subprocess.run(["make", "image", *words], env=engine, check=True, cwd=ROOT)
    return IMAGE


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return next(reversed((done.stderr + done.stdout).strip().splitlines()), f"exit code {done.returncode}")
