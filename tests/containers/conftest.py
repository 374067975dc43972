"""A Docker engine of our own and the image in it, for `make image-test`; elsewhere these tests are skipped.

MCTI_IMAGE_TEST=1 starts an engine and builds the image; else it names an image of the engine at DOCKER_HOST.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE, IMAGE = "mcti-base-python:test", "mcti-python:test"


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """Environment that reaches a fresh engine; it is stopped by its process number afterwards."""
    if "MCTI_IMAGE_TEST" not in os.environ:
        pytest.skip("builds an image for minutes: run `make image-test`")
    if os.environ["MCTI_IMAGE_TEST"] != "1":
        yield dict(os.environ)
        return
    missing = [name for name in ("dockerd", "docker", "debootstrap", "make") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"no Docker engine can be started here: {', '.join(missing) or 'not root'}")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("no Docker engine can be started here: this machine may not mount")
    place = tmp_path_factory.mktemp("engine")
    socket = f"unix://{place}/docker.sock"
    words = ["--data-root", place / "data", "--exec-root", place / "exec", "--pidfile", place / "pid", "--host", socket]
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            ["dockerd", *map(str, words), "--bridge=none", "--iptables=false", "--ip-masq=false"],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    # The client of the engine's own package, which can build: another one on the path may lack buildx.
    path = f"/usr/bin{os.pathsep}{os.environ['PATH']}" if Path("/usr/bin/docker").exists() else os.environ["PATH"]
    environment = {**os.environ, "DOCKER_HOST": socket, "DOCKER_BUILDKIT": "1", "PATH": path}
    try:
        wait_for(environment, process, place / "log")
        yield environment
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        shutil.rmtree(place, ignore_errors=True)


def wait_for(environment, process, log):
    """Until the engine answers; skip with its own words when it cannot run here."""
    for _ in range(60):
        if process.poll() is not None:
            pytest.skip(f"no Docker engine can be started here: {log.read_text().splitlines()[-1]}")
        if subprocess.run(["docker", "version"], env=environment, capture_output=True).returncode == 0:
            return
        time.sleep(1)
    pytest.skip("no Docker engine can be started here: it does not answer within a minute")


@pytest.fixture(scope="session")
def image(engine):
    """Name of the runtime image, built the way the documentation says."""
    if os.environ["MCTI_IMAGE_TEST"] != "1":
        return os.environ["MCTI_IMAGE_TEST"]
    subprocess.run([str(ROOT / "infra/images/base.sh"), BASE], env=engine, check=True, cwd=ROOT)
    words = ["docker", "run", "--rm", "--network", "none", BASE, "true"]
    tried = subprocess.run(words, env=engine, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"the Docker engine cannot run a container here: {tried.stderr.strip().splitlines()[-1]}")
    words = [f"IMAGE={IMAGE}", f"BASE_IMAGE={BASE}", f"BUILD_IMAGE={BASE}-build"]
    subprocess.run(["make", "image", *words], env=engine, check=True, cwd=ROOT)
    return IMAGE
