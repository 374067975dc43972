"""The image as a cluster uses it: another user, a read-only root file system, no network."""

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
from mcti.storage import tree_md5
from tests.containers.conftest import ROOT
from tests.stack.small_project import clone, dvc, make_raw_data, mcti, run_with_one_killed_task, shrink_settings

pytestmark = [pytest.mark.slow, pytest.mark.container]
LARGEST_GB = 1.4
NAME = "in-containers"  # not the model of DVC: equal bytes would be the same version
SMALLEST = {
    "validate": {"min_events": 5, "min_patients": 10},
    "split": {"folds": 2, "inner_folds": 2},
    "search": {"trials": 2, "epochs": 1},
    # Long enough to be killed.
    "train": {"preset": "tiny", "epochs": 60, "batch_patients": 16, "bins": {"count": 2}, "workers": 1},
    "evaluate": {"bootstrap": 100, "baselines": ["cox_clinical"], "primary_baseline": "cox_clinical"},
    "promote": {"min_events": 5, "bootstrap": 100},
}


def run(engine, image, *words, mounts=()):
    flags = [word for mount in mounts for word in ("--volume", mount)]
    return subprocess.run(
        ["docker", "run", "--rm", "--network", "none", "--read-only", "--user", "10001", *flags, image, *words],
        env=engine, capture_output=True, text=True, check=False,
    )  # fmt: skip


def docker(engine, *words):
    return subprocess.run(["docker", *words], env=engine, capture_output=True, text=True, check=True).stdout


def readiness(engine, image, folder):
    """Start the champion's server as its manifest does. Returns its response about readiness."""
    manifest = yaml.safe_load((ROOT / "infra/kubernetes/components/champion/champion.yaml").read_text(encoding="utf-8"))
    (container,) = manifest["spec"]["predictor"]["containers"]
    uri = stack.status(folder).mlflow
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = " ".join([*container["command"], *container["args"]])
    command = words.replace("--port=8080", f"--port={port}").replace("models:/mcti-demo@", f"models:/{NAME}@").split()
    flags = ["--read-only", "--user", "10001", "--network", "host", "--env", f"MLFLOW_TRACKING_URI={uri}"]
    name = docker(engine, "run", "--detach", *flags, image, *command).strip()
    address = f"http://127.0.0.1:{port}/v2/health/ready"
    try:
        for _ in range(1500):
            with contextlib.suppress(OSError), urllib.request.urlopen(address) as output:
                return json.load(output)
            time.sleep(1)
        raise AssertionError(docker(engine, "logs", name))
    finally:
        docker(engine, "rm", "--force", name)


def test_the_engine_makes_no_mount_outside_its_own_processes(engine):
    """Otherwise an engine that was killed leaves folders that pytest cannot remove."""
    folder = engine["DOCKER_HOST"].removeprefix("unix://").rpartition("/")[0]
    assert f" {folder}/" not in Path("/proc/self/mounts").read_text(encoding="utf-8")


def test_it_starts_as_another_user_and_can_write_only_to_tmp(engine, image):
    done = run(engine, image, "mcti", "--help")
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
    refused = run(engine, image, "touch", "/opt/mcti/x", "/x")
    assert refused.stderr.count("Read-only file system") == 2
    assert run(engine, image, "id", "-u").stdout.strip() == "10001"


def test_it_contains_no_compiler_server_or_package_tool(engine, image):
    absent = ["gcc", "cc", "dvc", "git"]
    for name in absent:
        assert run(engine, image, "which", name).returncode == 1, name
    modules = "('dvc', 'flask', 'pip', 'pytest', 'kubernetes')"  # flask: used by the server of MLflow
    code = f"import importlib.util as u; print([n for n in {modules} if u.find_spec(n)])"
    assert run(engine, image, "python3", "-c", code).stdout.strip() == "[]"


def test_it_contains_every_import_of_the_steps(engine, image):
    code = (
        "import boto3, cv2, great_expectations, h5py, imagecodecs, kfp.dsl.executor_main, lap, mlflow, onnx, "
        "onnxruntime, openslide, optuna, ot, psycopg, sksurv.ensemble, tifffile, torch\n"
        "print(openslide.__library_version__)"
    )
    # As KFP's own command does: only the executor of kfp is in the image, not its client.
    done = run(engine, image, "env", "_KFP_RUNTIME=true", "python3", "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4.")


def test_what_the_steps_import_has_its_bytecode(engine, image):
    """A task cannot write it, so it would compile a thousand modules each time; the first optimizer imports most."""
    code = (
        "import great_expectations, mlflow.pyfunc, optuna, sys, torch\n"
        "import mcti.steps.evaluate.step, mcti.steps.explain.step, mcti.steps.extract, mcti.steps.ingest\n"
        "import mcti.steps.monitor, mcti.steps.train, mcti.steps.validate\n"
        "import mcti.steps.predict.step, mcti.steps.promote.step, mcti.steps.search.step\n"
        "import mcti.registry.rest_client, mcti.steps.register, mcti.steps.serve, mcti.steps.verify\n"
        "torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])\n"
        "from pathlib import Path\n"
        "files = {m.__spec__.cached for m in list(sys.modules.values()) if getattr(m, '__spec__', None)}\n"
        "print(*sorted(f for f in files if f and not Path(f).exists()), sep='\\n')"
    )
    done = run(engine, image, "python3", "-c", code)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stdout + done.stderr


def test_its_size_is_below_the_documented_limit(engine, image):
    words = ["docker", "image", "inspect", "--format", "{{.Size}}", image]
    size = int(subprocess.run(words, env=engine, capture_output=True, text=True, check=True).stdout)
    assert size / 1e9 <= LARGEST_GB


def test_the_pipeline_in_containers_gives_the_bytes_of_dvc(engine, image, preloaded, tmp_path, monkeypatch):
    """tests/stack/test_whole_way.py compares the pipeline in processes with DVC. Slides in four shards.

    One container is killed during the training: the task is retried and resumes, and the bytes are the same. The
    commands outside the containers are forks of a process with their libraries.
    """
    project_folder = clone(tmp_path / "project", programs=preloaded)
    shrink_settings(project_folder, SMALLEST)
    make_raw_data(project_folder, events=16, censored=16)
    monkeypatch.setenv("DOCKER_HOST", engine["DOCKER_HOST"])

    def kill(folder):
        """SIGKILL the container that writes to this folder."""
        for name in docker(engine, "ps", "--quiet").split():
            if folder in docker(engine, "inspect", name):
                docker(engine, "kill", "--signal", "KILL", name)
                return True
        return False

    stack.up(project_folder)
    try:
        done = dvc(project_folder, "repro", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        words = ("--runner", "docker", "--set", f"cluster.image={image}", "--set", f"register.name={NAME}", "--json")
        words += ("--set", "cluster.extract_shards=4")
        done = run_with_one_killed_task(project_folder, tmp_path / "runs", kill, *words)
        assert done.returncode == 0, done.stderr[-5000:]
        run = Path(json.loads(done.stdout)["folder"])
        chain = json.loads(mcti(project_folder, "lineage", f"models:/{NAME}@champion", "--json").stdout)
        assert readiness(engine, image, project_folder)["ready"] is True
    finally:
        stack.down(project_folder)
    digests = {
        "data/folds.csv": run / "split/folds/folds.csv",
        "reports/evaluation/predictions.csv": run / "evaluate/report/predictions.csv",
        "reports/evaluation/metrics.json": run / "evaluate/report/metrics.json",
    }
    for name, path in digests.items():
        assert path.read_bytes() == (project_folder / name).read_bytes(), name
    assert tree_md5(run / "merge-features/whole") == tree_md5(project_folder / "data/features")
    assert (run / "evaluate").stat().st_uid == 10001
    recorded_image = {link["what"]: link["value"] for link in chain["links"]}["image"]
    assert recorded_image == f"mcti-python@{docker(engine, 'image', 'inspect', '--format', '{{.Id}}', image).strip()}"
    assert manual_training_equals_dvc(engine, image, project_folder, tmp_path / "manual")


def manual_training_equals_dvc(engine, image, folder, out):
    """Run the documented `docker run IMAGE mcti train …`. Returns whether fold 1 has the bytes of DVC."""
    out.mkdir()
    out.chmod(0o777)
    words = ["mcti", "train", "--params", "/data/params.yaml", "--cohort", "/data/data/cohort", "--fold", "1"]
    words += ["--features", "/data/data/features", "--folds", "/data/data/folds.csv"]
    words += ["--best", "/data/models/search/best.yaml", "--out", "/out/folds"]
    done = run(engine, image, *words, mounts=(f"{folder}:/data:ro", f"{out}:/out"))
    assert done.returncode == 0, done.stderr
    name = "fold_1/predictions.csv"
    return (out / "folds" / name).read_bytes() == (folder / "models" / "folds" / name).read_bytes()
