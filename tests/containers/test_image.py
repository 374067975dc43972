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
from mcti.storage import tree_md5
from tests.containers.conftest import ROOT
from tests.stack.small_project import clone, dvc, make_raw_data, mcti, shrink_settings, struck

pytestmark = [pytest.mark.slow, pytest.mark.container]
LARGEST_GB = 1.4
NAME = "in-containers"  # another model than dvc's: equal bytes would be the same version of it
SMALLEST = {
    "validate": {"min_events": 5, "min_patients": 10},
    "split": {"folds": 2, "inner_folds": 2},
    "search": {"trials": 2, "epochs": 1},
    "train": {"preset": "tiny", "epochs": 60, "batch_patients": 16, "bins": {"count": 2}},  # long enough to be killed
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


def served(engine, image, folder):
    """What the champion's server says, started as its manifest does, of whether it is ready."""
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
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(address) as output:
                return json.load(output)
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
        "torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])\n"
        "from pathlib import Path\n"
        "files = {m.__spec__.cached for m in list(sys.modules.values()) if getattr(m, '__spec__', None)}\n"
        "print(*sorted(f for f in files if f and not Path(f).exists()), sep='\\n')"
    )
    done = run(engine, image, "python3", "-c", code)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stdout + done.stderr


def test_it_is_no_larger_than_we_say(engine, image):
    words = ["docker", "image", "inspect", "--format", "{{.Size}}", image]
    size = int(subprocess.run(words, env=engine, capture_output=True, text=True, check=True).stdout)
    assert size / 1e9 <= LARGEST_GB


def test_the_pipeline_in_containers_gives_the_bytes_of_dvc(engine, image, tmp_path, monkeypatch):
    """And of the pipeline in processes, which tests/stack/test_whole_way.py holds against dvc. Slides in four shards.

    One container is killed while it trains: the task is tried again, goes on from its checkpoint, and no bit tells.
    """
    project_folder = clone(tmp_path / "project")
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
        done = struck(project_folder, tmp_path / "runs", kill, *words)
        assert done.returncode == 0, done.stderr[-5000:]
        run = Path(json.loads(done.stdout)["folder"])
        chain = json.loads(mcti(project_folder, "lineage", f"models:/{NAME}@champion", "--json").stdout)
        assert served(engine, image, project_folder)["ready"] is True
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
    named = {link["what"]: link["value"] for link in chain["links"]}["image"]
    assert named == f"mcti-python@{docker(engine, 'image', 'inspect', '--format', '{{.Id}}', image).strip()}"
    assert trained_by_hand(engine, image, project_folder, tmp_path / "by hand")


def trained_by_hand(engine, image, folder, out):
    """`docker run IMAGE mcti train …` as the documentation says it: whether fold 1 gets the bytes of dvc."""
    out.mkdir()
    out.chmod(0o777)
    words = ["mcti", "train", "--params", "/data/params.yaml", "--cohort", "/data/data/cohort", "--fold", "1"]
    words += ["--features", "/data/data/features", "--folds", "/data/data/folds.csv"]
    words += ["--best", "/data/models/search/best.yaml", "--out", "/out/folds"]
    done = run(engine, image, *words, mounts=(f"{folder}:/data:ro", f"{out}:/out"))
    assert done.returncode == 0, done.stderr
    name = "fold_1/predictions.csv"
    return (out / "folds" / name).read_bytes() == (folder / "models" / "folds" / name).read_bytes()
