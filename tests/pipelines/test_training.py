import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format

from mcti import params
from mcti.errors import UsageError
from mcti.params import from_json
from mcti.params.result_settings import VARIABLE, neutral_text
from mcti.pipelines import submit
from mcti.pipelines.training import training
from tests.pipelines.conftest import DATA, OVERRIDES, SOURCES


def _executor(ir, name):
    return ir[0]["deploymentSpec"]["executors"][f"exec-{name}"]["container"]


def _kubernetes(ir, name):
    return ir[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{name}"]


def _tasks(ir, component="exit-handler-1"):
    return ir[0]["components"][f"comp-{component}"]["dag"]["tasks"]


def test_the_same_settings_compile_to_the_same_bytes_in_another_process(package, tmp_path):
    flags = [word for text in OVERRIDES for word in ("--set", text)]
    (tmp_path / "params.yaml").write_text("{}\n", encoding="utf-8")
    words = ["--out", str(tmp_path / "again.yaml"), "--params", str(tmp_path / "params.yaml"), "--json", *flags]
    done = subprocess.run(
        [sys.executable, "-c", "from mcti.cli import main; main()", "pipeline", "compile", "--data", DATA, *words],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "77", "PATH": "/usr/bin:/bin"},
    )
    assert (tmp_path / "again.yaml").read_bytes() == package.read_bytes()
    assert json.loads(done.stdout)["pipeline"] == "mcti-training"


def test_the_steps_run_in_their_order(ir):
    tasks = _tasks(ir)
    after = {name: set(task.get("dependentTasks", ())) for name, task in tasks.items()}
    order = ["ingest", "validate", "for-loop-3", "merge-features", "validate-features"]
    order += ["split", "search", "for-loop-4", "merge-models", "evaluate", "register", "promote"]
    assert set(tasks) == {*order, "cache-keys", "visualize", "publish", "publish-2", "publish-3", "conclude-verdict"}
    for before, name in itertools.pairwise(order):
        assert before in after[name], f"{name} does not wait for {before}"
    assert ir[0]["root"]["dag"]["tasks"]["outcome"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"


def _upstream(tasks, name):
    before = set(tasks[name].get("dependentTasks", ()))
    return before.union(*(_upstream(tasks, other) for other in before))


@pytest.mark.parametrize(
    ("pipeline", "branches"),
    [("training", 1), ("retraining", 3), ("inference", 1), ("pretraining", 1)],
    ids=["training", "retraining", "inference", "pretraining"],
)
@pytest.mark.parametrize("remote", ["s3://mcti-data/dvc", "null"])
def test_every_branch_ends_with_a_task_that_depends_on_all_others(pipeline, branches, remote):
    """KFP skips every task behind a skipped branch, so each branch has a separate last task, which is never cached."""
    if pipeline == "retraining" and remote == "null":
        pytest.skip("retraining needs a remote")
    settings = params.load(None, [*OVERRIDES, SOURCES, f"cluster.remote={remote}"])
    spec = json_format.MessageToDict(submit.PIPELINES[pipeline](settings, DATA, "").pipeline_spec)
    dags = [part["dag"]["tasks"] for part in spec["components"].values() if "dag" in part]
    ends = [(tasks, name) for tasks in dags for name in tasks if name.startswith("conclude")]
    assert len(ends) == branches
    for tasks, name in ends:
        assert _upstream(tasks, name) == set(tasks) - {name}
        assert not tasks[name]["cachingOptions"].get("enableCache")
        assert tasks[name]["taskInfo"]["name"] == "conclude"
    conditions = [
        task["triggerPolicy"]["condition"] for tasks in dags for task in tasks.values() if "triggerPolicy" in task
    ]
    for channel in {condition.partition(" == ")[0] for condition in conditions}:
        assert {f"{channel} == true", f"{channel} == false"} <= set(conditions), "a branch without an end"


def test_extraction_fans_out_over_the_shards_and_training_over_the_folds(ir):
    shards = json.loads(_tasks(ir)["for-loop-3"]["parameterIterator"]["items"]["raw"])
    assert shards == [0, 1, 2]
    assert _tasks(ir, "for-loop-3")["extract"]["inputs"]["parameters"]["shards"]["runtimeValue"]["constant"] == 3
    folds = _tasks(ir)["for-loop-4"]
    assert folds["inputs"]["parameters"]["pipelinechannel--split-Output"]["taskOutputParameter"] == {
        "outputParameterKey": "Output",
        "producerTask": "split",
    }


def test_the_resources_of_a_task_come_from_the_table(ir, settings):
    container_settings = _executor(ir, "train")["resources"]
    assert (
        container_settings["resourceCpuLimit"]
        == container_settings["resourceCpuRequest"]
        == settings.cluster.steps.train.cpu
    )
    assert (
        container_settings["resourceMemoryLimit"]
        == container_settings["resourceMemoryRequest"]
        == settings.cluster.steps.train.memory
    )
    gpus = container_settings["accelerator"]
    assert (gpus["resourceCount"], gpus["resourceType"]) == ("2", "nvidia.com/gpu")
    assert "accelerator" not in _executor(ir, "split")["resources"]
    assert _tasks(ir, "for-loop-4")["train"]["retryPolicy"] == {
        # Four attempts of 12 hours and waits of 30, 60 and 120 s, from the start of the first attempt.
        "backoffDuration": "30s", "backoffFactor": 2.0, "backoffMaxDuration": "173010s", "maxRetryCount": 3,
    }  # fmt: skip
    assert "retryPolicy" not in _tasks(ir)["promote"]


def test_limits_may_be_above_requests():
    words = ["cluster.steps.train.cpu_limit=8", "cluster.steps.train.memory_limit=20Gi"]
    spec = json_format.MessageToDict(training(params.load(None, [*OVERRIDES, *words]), DATA).pipeline_spec)
    settings = spec["deploymentSpec"]["executors"]["exec-train"]["container"]["resources"]
    assert (settings["resourceCpuRequest"], settings["resourceCpuLimit"]) == ("4", "8")
    assert (settings["resourceMemoryRequest"], settings["resourceMemoryLimit"]) == ("16Gi", "20Gi")
    with pytest.raises(UsageError, match=r"cpu_limit 2 is below cpu 4 .*cluster.steps.train"):
        params.load(None, ["cluster.steps.train.cpu_limit=2"])


def test_loop_items_have_the_type_of_the_parameter_that_they_feed(ir, settings):
    """The API server refuses a STRING item for an integer parameter; kfp.local converts it."""
    url = "postgresql://mcti@postgres.mcti/optuna"
    parallel = params.load(None, [*OVERRIDES, SOURCES, "cluster.search_workers=3", f"search.storage={url}"])
    loops = 0
    for pipeline in submit.PIPELINES.values():
        spec = json_format.MessageToDict(pipeline(parallel, DATA, "").pipeline_spec)
        tasks = [task for c in spec["components"].values() for task in c.get("dag", {}).get("tasks", {}).values()]
        for task in (task for task in tasks if "parameterIterator" in task):
            declared = spec["components"][task["componentRef"]["name"]]["inputDefinitions"]["parameters"]
            assert declared[task["parameterIterator"]["itemInput"]]["parameterType"] == "NUMBER_INTEGER"
            loops += 1
    assert loops == 3 + 3 + 2  # shards, workers, folds; inference: shards and slides


@pytest.mark.parametrize(
    ("retries", "backoff", "minutes", "seconds"), [(0, 30, 30, 1800), (1, 5, 10, 1205), (3, 30, 720, 173010)]
)
def test_the_maximum_duration_of_retries_is_attempts_and_waits(retries, backoff, minutes, seconds):
    """(retries + 1) x time-out + backoff x (1 + 2 + 4 ...), calculated manually."""
    row = params.TaskParams(retries=retries, backoff_seconds=backoff, timeout_minutes=minutes)
    assert row.retry_seconds == seconds
    assert row.refusal_seconds == backoff * (2**retries - 1) + 600 * retries


def test_no_source_file_names_ml_metadata(ir):
    """The release of Kubeflow Pipelines without it finds artifacts by their address."""
    root = Path(__file__).parents[2]
    sources = [path for name in ("mcti", "pipelines", "components") for path in (root / name).rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in sources] + [json.dumps(ir)]
    assert len(texts) > 200
    for text in texts:
        assert not re.search(r"mlmd|ml[-_ ]?metadata|metadata[-_](grpc|store)", text, re.IGNORECASE)


def test_gpu_tasks_select_gpu_nodes_and_others_do_not(ir):
    train, split = _kubernetes(ir, "train"), _kubernetes(ir, "split")
    assert train["nodeSelector"]["labels"] == {"accelerator": "h200"}
    assert train["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert split["nodeSelector"]["labels"] == {"pool": "cpu"}
    assert "tolerations" not in split


def test_every_task_has_the_environment_of_the_table(ir, settings):
    for name in (key.removeprefix("exec-") for key in ir[0]["deploymentSpec"]["executors"]):
        parameters = {pair["name"]: pair["value"] for pair in _executor(ir, name)["env"]}
        assert parameters.pop("MCTI_PIPELINE").startswith("mcti-training@sha256:"), name
        identity = {"MCTI_IMAGE": settings.cluster.image, "MCTI_EXPERIMENT": settings.cluster.experiment}
        identity |= {"MCTI_CHECKPOINTS": "/scratch/checkpoints", "MCTI_REMOTE": settings.cluster.remote}
        identity |= {"MCTI_LOG_LEVEL": "DEBUG", VARIABLE: neutral_text(settings)}
        window = parameters.pop("MCTI_RETRY_SECONDS", None)
        windows = dict.fromkeys(("validate", "validate-features", "promote")) | {"train": "2010", "extract": "2010"}
        assert window == windows.get(name, "1290"), name
        assert parameters == {**settings.cluster.environment, **identity}, name
        # Only the pod has the id of the run, as a label of Kubeflow.
        assert _kubernetes(ir, name)["fieldPathAsEnv"] == [
            {"name": "MCTI_RUN", "fieldPath": "metadata.labels['pipeline/runid']"}
        ], name


def test_sources_come_from_the_remote_by_their_version(ir):
    parameters = from_json(
        params.IngestParams, ir[0]["root"]["inputDefinitions"]["parameters"]["ingest"]["defaultValue"], "x"
    )
    base = f"dvc+s3://mcti-data/dvc/{DATA}"
    assert parameters.clinical == f"{base}/clinical.csv"
    assert parameters.expression == f"{base}/expression.csv"
    assert parameters.slides == f"{base}/slides.csv"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data/raw/sets/uni", f"dvc+s3://b/p/{DATA}/sets/uni"),
        ("./data/raw/sets/uni/", f"dvc+s3://b/p/{DATA}/sets/uni"),
        ("data/raw_other/uni", "data/raw_other/uni"),
        ("s3://features/uni", "s3://features/uni"),
    ],
)
def test_ready_made_features_below_the_sources_are_read_from_their_version(tmp_path, path, expected):
    features = f"extract.import={{format: h5, path: {path}, encoder: uni, mpp: 0.5, patch_size: 256}}"
    settings = params.load(None, ["cluster.remote=s3://b/p", "extract.source=import", features])
    submit.compile_to(settings, DATA, tmp_path / "x.yaml")
    root = next(yaml.safe_load_all((tmp_path / "x.yaml").read_text(encoding="utf-8")))["root"]
    compiled = root["inputDefinitions"]["parameters"]["extract"]["defaultValue"]
    assert params.from_json(params.ExtractParams, compiled, "x").import_.path == expected


def test_a_source_outside_the_versioned_folder_is_refused(tmp_path):
    settings = params.load(None, ["cluster.remote=s3://b/p", "ingest.expression=elsewhere/expression.csv"])
    with pytest.raises(UsageError, match=r"elsewhere/expression.csv is outside data/raw.*ingest.expression"):
        submit.compile_to(settings, DATA, tmp_path / "x.yaml")


def test_the_task_register_receives_run_pipeline_image_and_data(ir, settings):
    inputs = _tasks(ir)["register"]["inputs"]["parameters"]
    assert inputs["data"]["componentInputParameter"] == "pipelinechannel--data"
    parameters = {pair["name"]: pair["value"] for pair in _executor(ir, "register")["env"]}
    assert parameters["MCTI_IMAGE"] == settings.cluster.image
    assert re.fullmatch(r"mcti-training@sha256:[0-9a-f]{64}", parameters["MCTI_PIPELINE"])


def test_every_task_has_image_secrets_limits_and_a_user_that_is_not_root(ir, settings):
    executors = ir[0]["deploymentSpec"]["executors"]
    assert set(executors) == set(ir[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"])
    for name in (key.removeprefix("exec-") for key in executors):
        container_settings, extra = _executor(ir, name), _kubernetes(ir, name)
        assert container_settings["image"] == settings.cluster.image
        assert container_settings["resources"]["resourceMemoryLimit"]
        assert extra["securityContext"] == {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}
        assert int(extra["activeDeadlineSeconds"]) > 0
        (secret,) = extra["secretAsEnv"]
        assert secret["secretName"] == "mcti-s3"
        assert {pair["envVar"] for pair in secret["keyToEnv"]} == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
        (services,) = extra["configMapAsEnv"]
        assert {pair["envVar"] for pair in services["keyToEnv"]} == {"AWS_ENDPOINT_URL_S3", "MLFLOW_TRACKING_URI"}
        assert {mount["mountPath"] for mount in extra["emptyDirMounts"]} >= {"/tmp"}
        (claim,) = extra["pvcMount"]
        assert (claim["constant"], claim["mountPath"]) == ("scratch-claim", "/scratch")
    memory = [mount for mount in _kubernetes(ir, "train")["emptyDirMounts"] if mount["mountPath"] == "/dev/shm"]
    assert memory == [{"volumeName": "shared-memory", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "8Gi"}]


def test_results_are_reused_only_where_the_data_version_is_known(ir, settings):
    cached = {name for name, task in _tasks(ir).items() if task.get("cachingOptions", {}).get("enableCache")}
    assert cached >= {"ingest", "validate", "split", "search", "evaluate"}
    assert not cached & {"register", "promote", "publish", "conclude-verdict"}
    assert not ir[0]["root"]["dag"]["tasks"]["outcome"]["cachingOptions"].get("enableCache")
    unknown = training(settings, "").pipeline_spec
    dag = unknown.components["comp-exit-handler-1"].dag
    assert not any(task.caching_options.enable_cache for task in dag.tasks.values())


KEYS = {
    "validate": "cohort", "extract": "cohort", "merge-features": "features", "validate-features": "features",
    "split": "features", "search": "folds", "train": "best", "merge-models": "best", "evaluate": "best",
    "visualize": "evaluation",
}  # fmt: skip


def test_a_reused_result_follows_from_the_same_data_and_settings(ir):
    """KFP's cache compares parameters and the name of the image, not the contents of the artifacts that it reads."""
    parameters = {
        name: task for dag in ("exit-handler-1", "for-loop-3", "for-loop-4") for name, task in _tasks(ir, dag).items()
    }
    for name, key in KEYS.items():
        parameter = parameters[name]["inputs"]["parameters"]["key"]
        value = parameter.get("taskOutputParameter", {}).get(
            "outputParameterKey", parameter.get("componentInputParameter")
        )
        assert value in (key, f"pipelinechannel--cache-keys-{key}"), name
    cached = {name for name, task in parameters.items() if task.get("cachingOptions", {}).get("enableCache")}
    assert {name for name in cached if "loop" not in name} == {*KEYS, "ingest"}
    hashed = parameters["cache-keys"]["inputs"]["parameters"]
    assert set(hashed) == {"data", "ingest", "extract", "split", "search", "train", "evaluate"}


def test_no_result_is_reused_for_an_image_without_a_digest():
    spec = training(params.load(None, [word for word in OVERRIDES if "cluster.image" not in word]), DATA).pipeline_spec
    tasks = [task for component in spec.components.values() for task in component.dag.tasks.values()]
    assert len(tasks) > 10
    assert not any(task.caching_options.enable_cache for task in tasks)


def test_workers_of_the_search_share_one_study_and_one_task_collects(settings):
    url = "postgresql://mcti@postgres.mcti/optuna"
    parallel = params.load(None, [*OVERRIDES, SOURCES, "cluster.search_workers=3", f"search.storage={url}"])
    spec = json_format.MessageToDict(training(parallel, DATA).pipeline_spec)
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    (loop,) = [name for name, task in tasks.items() if "for-loop" in name and "create-study" in str(task)]
    assert json.loads(tasks[loop]["parameterIterator"]["items"]["raw"]) == [0, 1, 2]
    workers = spec["components"][f"comp-{loop}"]["dag"]["tasks"]
    assert [task["componentRef"]["name"] for task in workers.values()] == ["comp-search"]
    collect = next(task for task in tasks.values() if task["taskInfo"]["name"] == "collect")
    assert loop in collect["dependentTasks"]
    (best,) = {i["taskOutputArtifact"]["producerTask"] for i in _best_of(tasks)}
    assert tasks[best] is collect, "folds are trained with the settings of all workers"


def _best_of(tasks):
    return [
        parameters
        for task in tasks.values()
        for parameters in task.get("inputs", {}).get("artifacts", {}).values()
        if parameters.get("taskOutputArtifact", {}).get("outputArtifactKey") == "best"
    ]


@pytest.mark.parametrize(
    ("storage", "words"), [("null", "share a study in PostgreSQL"), ("postgresql://u:hush@h/d", "show the password")]
)
def test_workers_need_a_study_that_they_can_share_and_no_password_goes_into_a_pipeline(storage, words):
    settings = params.load(None, ["cluster.search_workers=2", f"search.storage={storage}"])
    with pytest.raises(UsageError, match=words) as caught:
        training(settings, "")
    assert "hush" not in str(caught.value)


def test_settings_arrive_as_they_were_written(ir, settings):
    """KFP's own mappings turn 10 into 10.0, which strict settings refuse; JSON text does not."""
    parameters = ir[0]["root"]["inputDefinitions"]["parameters"]
    # The row of train has GPUs, so training demands one.
    demanding = settings.train.model_copy(update={"device": "cuda"})
    assert from_json(params.TrainParams, parameters["train"]["defaultValue"], "x") == demanding
    assert from_json(params.ExtractParams, parameters["extract"]["defaultValue"], "x") == settings.extract
    assert parameters["data"]["defaultValue"] == DATA
    with pytest.raises(UsageError, match="not JSON"):
        from_json(params.TrainParams, "{", "parameter train")


def test_settings_that_cannot_change_a_result_are_in_the_environment_alone(ir, tmp_path, monkeypatch):
    """KFP 2.17 compares parameters, image and command of a task, not its environment: no cached task runs again."""
    changes = (
        "train.workers=3", "train.checkpoint_seconds=1", "search.wait_minutes=3", "search.experiment=other",
        "extract.workers=2", "extract.cache=/cache",
    )  # fmt: skip
    changed = params.load(None, (*OVERRIDES, *changes))
    submit.compile_to(changed, DATA, tmp_path / "changed.yaml")
    pipeline = next(yaml.safe_load_all((tmp_path / "changed.yaml").read_text(encoding="utf-8")))
    assert pipeline["root"] == ir[0]["root"]
    assert pipeline["components"] == ir[0]["components"]
    containers = [tree["deploymentSpec"]["executors"] for tree in (pipeline, ir[0])]
    for name, executor in containers[0].items():
        before = dict(containers[1][name]["container"])
        after = dict(executor["container"])
        assert after.pop("env") != before.pop("env")
        assert after == before
    (value,) = (pair["value"] for pair in executor["container"]["env"] if pair["name"] == VARIABLE)
    monkeypatch.setenv(VARIABLE, value)
    parameters = pipeline["root"]["inputDefinitions"]["parameters"]
    demanding = changed.train.model_copy(update={"device": "cuda"})
    assert from_json(params.TrainParams, parameters["train"]["defaultValue"], "x") == demanding
    assert from_json(params.SearchParams, parameters["search"]["defaultValue"], "x") == changed.search
    assert from_json(params.ExtractParams, parameters["extract"]["defaultValue"], "x") == changed.extract


def test_a_cohort_without_slides_is_refused_at_compile_time():
    for pipeline in submit.PIPELINES.values():
        with pytest.raises(UsageError, match="without slides"):
            pipeline(params.load(None, ["ingest.slides=null"]), "", "")


def test_checkpoints_in_a_folder_that_ends_with_the_pod_are_refused():
    with pytest.raises(UsageError, match=r"/tmp/checkpoints' are in no folder of claims"):
        params.load(None, ["cluster.checkpoints=/tmp/checkpoints", "cluster.claims={a: /scratch}"])


def test_a_changed_key_of_a_row_keeps_its_other_keys():
    row = params.load(None, ["cluster.steps.train.gpus=1"]).cluster.steps.train
    assert (row.gpus, row.memory, row.retries) == (1, "16Gi", 3)
