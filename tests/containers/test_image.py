"""The image as a cluster uses it: another user, a root file system that cannot be written, no network of its own."""

import contextlib
import json
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from mcti.local import stack
from tests.containers.conftest import ROOT
from tests.stack.small_project import clone, make_raw_data, mcti, shrink_settings, struck

pytestmark = [pytest.mark.slow, pytest.mark.container]
LARGEST_GB = 1.6


def run(engine, image, *words, mounts=()):
    flags = [word for mount in mounts for word in ("--volume", mount)]
    return subprocess.run(
        ["docker", "run", "--rm", "--network", "none", "--read-only", "--user", "10001", *flags, image, *words],
        env=engine, capture_output=True, text=True, check=False,
    )  # fmt: skip


def docker(engine, *words):
    return subprocess.run(["docker", *words], env=engine, capture_output=True, text=True, check=True).stdout


def served(engine, image, place):
    """What the champion's server says, started as its manifest does, of whether it is ready."""
    manifest = yaml.safe_load((ROOT / "infra/kubernetes/base/champion.yaml").read_text(encoding="utf-8"))
    (container,) = manifest["spec"]["predictor"]["containers"]
    uri = stack.status(place).mlflow
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [word.replace("--port=8080", f"--port={port}") for word in [*container["command"], *container["args"]]]
    flags = ["--read-only", "--user", "10001", "--network", "host", "--env", f"MLFLOW_TRACKING_URI={uri}"]
    name = docker(engine, "run", "--detach", *flags, image, *command).strip()
    address = f"http://127.0.0.1:{port}/v2/health/ready"
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(address) as said:
                return json.load(said)
            time.sleep(1)
        raise AssertionError(docker(engine, "logs", name))
    finally:
        docker(engine, "rm", "--force", name)


def test_it_starts_as_a_stranger_who_can_write_nowhere_but_in_tmp(engine, image):
    done = run(engine, image, "mcti", "--help")
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
    refused = run(engine, image, "touch", "/opt/mcti/x", "/x")
    assert refused.stderr.count("Read-only file system") == 2
    assert run(engine, image, "id", "-u").stdout.strip() == "10001"


def test_compiler_servers_and_package_tools_are_not_in_it(engine, image):
    absent = ["gcc", "cc", "dvc", "git"]
    for name in absent:
        assert run(engine, image, "which", name).returncode == 1, name
    modules = "('dvc', 'flask', 'pip', 'pytest', 'kubernetes')"  # flask: what MLflow's server runs on
    code = f"import importlib.util as u; print([n for n in {modules} if u.find_spec(n)])"
    assert run(engine, image, "python3", "-c", code).stdout.strip() == "[]"


def test_everything_that_the_steps_import_is_in_it(engine, image):
    code = (
        "import boto3, cv2, great_expectations, h5py, imagecodecs, kfp.dsl.executor_main, lap, mlflow, onnxruntime, "
        "openslide, optuna, ot, psycopg, sksurv.ensemble, tifffile, torch; print(openslide.__library_version__)"
    )
    # As KFP's own command does: only the executor of kfp is in the image, not its client.
    done = run(engine, image, "env", "_KFP_RUNTIME=true", "python3", "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4.")


def test_it_is_no_larger_than_we_say(engine, image):
    words = ["docker", "image", "inspect", "--format", "{{.Size}}", image]
    size = int(subprocess.run(words, env=engine, capture_output=True, text=True, check=True).stdout)
    assert size / 1e9 <= LARGEST_GB


def test_the_pipeline_in_containers_gives_the_bytes_of_the_pipeline_in_processes(engine, image, tmp_path, monkeypatch):
    place = clone(tmp_path / "project")
    shrink_settings(place)
    make_raw_data(place, events=12, censored=18)
    monkeypatch.setenv("DOCKER_HOST", engine["DOCKER_HOST"])
    words = ("--set", f"cluster.image={image}", "--set", "cluster.extract_shards=2", "--json")
    runs = {}

    def kill(folder):
        """SIGKILL the container that writes to this folder."""
        for name in docker(engine, "ps", "--quiet").split():
            if folder in docker(engine, "inspect", name):
                docker(engine, "kill", "--signal", "KILL", name)
                return True
        return False

    stack.up(place)
    try:
        done = mcti(place, "pipeline", "run-local", "--out", str(tmp_path / "subprocess"), *words)
        assert done.returncode == 0, done.stderr[-5000:]
        runs["subprocess"] = Path(json.loads(done.stdout)["folder"])
        done = struck(
            place, tmp_path / "docker", kill, "--runner", "docker", "--set", "register.name=in-containers", *words
        )
        assert done.returncode == 0, done.stderr[-5000:]
        assert "Task train failed (attempt 1/4). Retrying" in done.stderr
        runs["docker"] = Path(json.loads(done.stdout)["folder"])
        chain = json.loads(mcti(place, "lineage", "models:/in-containers@champion", "--json").stdout)
        assert served(engine, image, place)["ready"] is True
    finally:
        stack.down(place)
    named = {link["what"]: link["value"] for link in chain["links"]}["image"]
    assert named == f"mcti-python@{docker(engine, 'image', 'inspect', '--format', '{{.Id}}', image).strip()}"
    for name in ("split/folds/folds.csv", "evaluate/report/predictions.csv", "evaluate/report/metrics.json"):
        assert (runs["docker"] / name).read_bytes() == (runs["subprocess"] / name).read_bytes(), name
    assert (runs["docker"] / "evaluate").stat().st_uid == 10001
    assert trained_by_hand(engine, image, place, runs["subprocess"], tmp_path / "by hand")


def trained_by_hand(engine, image, place, made, out):
    """`docker run IMAGE mcti train …` on what the pipeline made: whether fold 1 gets the bytes of the pipeline."""
    out.mkdir()
    out.chmod(0o777)
    words = ["mcti", "train", "--params", "/project/params.yaml", "--cohort", "/made/ingest/cohort", "--fold", "1"]
    words += ["--features", "/made/merge-features/whole", "--folds", "/made/split/folds/folds.csv"]
    words += ["--best", "/made/search/best/best.yaml", "--out", "/out/folds"]
    mounts = (f"{place}:/project:ro", f"{made}:/made:ro", f"{out}:/out")
    done = run(engine, image, *words, mounts=mounts)
    assert done.returncode == 0, done.stderr
    name = "fold_1/predictions.csv"
    return (out / "folds" / name).read_bytes() == (made / "merge-models" / "whole" / name).read_bytes()
