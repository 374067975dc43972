"""register on a real MLflow and S3: one complete version, also after a repeated call."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest

from mcti import s3, storage
from mcti.errors import DataError, OperationalError
from mcti.params import RegisterParams
from mcti.registry import ensemble_files, models, tracking
from mcti.steps import register as step
from mcti.steps.register import register
from tests.registry.factories import Run

pytestmark = [pytest.mark.slow, pytest.mark.stack]


def versions(name):
    with tracking.service() as client:
        return client.search_model_versions(f"name = '{name}'")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("a run"))


def test_a_version_has_alias_run_data_and_commit(run, servers_of, tmp_path):
    import mlflow

    params = RegisterParams(name="whole", experiment="tests")
    result = register(run.models, run.evaluation, None, params, tmp_path / "registration.json")
    assert json.loads((tmp_path / "registration.json").read_text()) == result.model_dump(mode="json")
    assert result.notice == "synthetic data"
    with tracking.service() as client:
        version = models.version_by_alias(client, "whole", "challenger")
        logged = mlflow.get_run(result.run_id)
    assert int(version.version) == result.version == 1
    assert version.run_id == result.run_id
    assert version.tags["mcti.digest"] == result.digest
    assert len(version.tags["mcti.data.bags"]) == 32
    assert version.tags["mcti.commit"]
    assert logged.info.status == "FINISHED"
    assert logged.data.metrics["mcti.c_index.value"] == 0.5
    assert [d.dataset.digest for d in logged.inputs.dataset_inputs] == [result.data["bags"]]


def test_a_version_has_card_sbom_and_signature(run, servers_of, tmp_path):
    import mlflow

    params = RegisterParams(name="card", experiment="tests", intended_use="research", data_licence="CC-BY-4.0")
    result = register(run.models, run.evaluation, run.validation, params, tmp_path / "registration.json")
    with tracking.service() as client:
        version = models.version_by_alias(client, "card", "challenger")
        folder = mlflow.artifacts.download_artifacts(artifact_uri=f"runs:/{result.run_id}/card", dst_path=str(tmp_path))
        info = mlflow.models.get_model_info("models:/card@challenger")
    tags = version.tags
    assert (tags["mcti.encoder"], tags["mcti.encoder_sha256"], tags["mcti.target_mpp"]) == ("hed44", "9" * 64, "0.5")
    assert tags["mcti.target_patch_size"] == "256"
    assert (tags["mcti.contract"], tags["mcti.licence.encoder"]) == ("passed", "Apache-2.0")
    assert (tags["mcti.licence.data"], len(tags["mcti.folds"]), tags["mcti.image"]) == ("CC-BY-4.0", 64, "none")
    card = json.loads((Path(folder) / "card.json").read_text())
    assert card["lineage"] == {"digest": result.digest, "commit": result.commit, "image": "none",
                               "folds": tags["mcti.folds"], "data": result.data}  # fmt: skip
    assert card["evaluation"]["metrics"]["c_index"] == {"value": 0.5, "low": 0.4, "high": 0.6}
    assert card["data"]["attrition"] == {"no follow-up": 2}
    assert "X-1" not in (Path(folder) / "card.json").read_text()
    assert card["contact"] == "GAP"
    assert "**Intended use:** research" in version.description
    sbom = json.loads((Path(folder) / "sbom.json").read_text())
    torch = next(part for part in sbom["components"] if part["name"] == "torch")
    assert torch["purl"] == f"pkg:pypi/torch@{metadata.version('torch')}"
    assert torch["licenses"]
    assert info.signature.inputs.input_names()[:2] == ["patient_id", "genes"]
    assert info.saved_input_example_info is not None


def test_a_validation_of_another_cohort_is_refused(run, tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({"md5": "b" * 32, "passed": True}))
    with pytest.raises(DataError, match="validation is of cohort bbbbbbbb…, the evaluation of aaaaaaaa…"):
        register(run.models, run.evaluation, tmp_path, RegisterParams(), tmp_path / "r.json")


def test_a_version_contains_no_pickle(run, servers_of, tmp_path):
    import mlflow

    register(run.models, run.evaluation, None, RegisterParams(name="files", experiment="tests"), tmp_path / "r.json")
    with tracking.service():
        folder = mlflow.artifacts.download_artifacts(artifact_uri="models:/files@challenger", dst_path=str(tmp_path))
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".py", ".yaml", ".yml", ".txt", ""}
    assert not [path for path in files if path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK")]


def test_a_new_process_without_unpickling_gives_the_bits_of_the_evaluation(run, servers_of, tmp_path):
    register(run.models, run.evaluation, None, RegisterParams(name="bits", experiment="tests"), tmp_path / "r.json")
    run.frame().to_json(tmp_path / "frame.json", orient="records", double_precision=15)
    (tmp_path / "frame.json").write_text(json.dumps(run.frame().to_dict("records")))
    script = """
import json, os, sys
import pandas as pd
assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
import mlflow
model = mlflow.pyfunc.load_model("models:/bits@challenger")
out = model.predict(pd.DataFrame(json.load(open(sys.argv[1]))))
out.to_csv(sys.argv[2], index=False)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "frame.json"), str(tmp_path / "o.csv")], check=True)
    predictions = pd.read_csv(tmp_path / "o.csv", dtype=str).set_index("patient_id")
    evaluated = pd.read_csv(run.evaluation / "predictions.csv", dtype=str).set_index("patient_id")
    for column in ("risk", "S_12", "S_60"):
        assert predictions[column].loc[evaluated.index].to_dict() == evaluated[column].to_dict()


def test_weights_exchanged_together_with_their_index_are_refused(run, servers_of, tmp_path):
    """With write access to the bucket only, files and index can be made consistent, but not with the tag in MLflow."""
    params = RegisterParams(name="exchanged", experiment="tests")
    registered = register(run.models, run.evaluation, None, params, tmp_path / "r.json")
    other = Run(tmp_path / "another run", seed=5)
    ensemble_files.assemble(other.models, tmp_path / "other")
    with tracking.service() as client:
        source = client.get_model_version("exchanged", str(registered.version)).source
        stored = client.get_logged_model(source.rpartition("/")[2]).artifact_location
    folder = f"s3://mcti-mlflow/artifacts/{stored.removeprefix('mlflow-artifacts:/')}/artifacts/ensemble"
    assert storage.exists(f"{folder}/ensemble.json")
    for path in (path for path in (tmp_path / "other").rglob("*") if path.is_file()):
        s3.put(f"{folder}/{path.relative_to(tmp_path / 'other')}", path.read_bytes())
    with pytest.raises(DataError, match=r"the weights are not those that were registered.*exchanged, version 1"):
        models.fetch("models:/exchanged@challenger", tmp_path)


def test_the_same_weights_are_one_version_and_a_new_evaluation_replaces_the_old(run, servers_of, tmp_path):
    params = RegisterParams(name="once", experiment="tests")
    first = register(run.models, run.evaluation, None, params, tmp_path / "r.json")
    assert register(run.models, run.evaluation, None, params, tmp_path / "r.json") == first
    path = run.evaluation / "metrics.json"
    before = path.read_text()
    try:
        path.write_text(before.replace('"value": 0.5', '"value": 0.75'))
        again = register(run.models, run.evaluation, None, params, tmp_path / "r.json")
    finally:
        path.write_text(before)
    assert again.version == first.version
    assert again.c_index == 0.75
    with tracking.service() as client:
        assert client.get_run(first.run_id).data.metrics["mcti.c_index.value"] == 0.75
    assert len(versions("once")) == 1


@pytest.mark.parametrize("crash_in", ["log", "create_version"])
def test_a_crash_and_a_retry_result_in_one_complete_version(run, servers_of, tmp_path, monkeypatch, crash_in):
    params = RegisterParams(name=f"crash-{crash_in}", experiment=f"crash-{crash_in}")

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(step.models, crash_in, die)
        with pytest.raises(Killed):
            register(run.models, run.evaluation, None, params, tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()
    result = register(run.models, run.evaluation, None, params, tmp_path / "r.json")
    assert [int(v.version) for v in versions(params.name)] == [result.version] == [1]
    with tracking.service() as client:
        experiment = client.get_experiment_by_name(params.experiment).experiment_id
        assert sorted(r.info.status for r in client.search_runs([experiment])) == ["FAILED", "FINISHED"]


def test_predictions_of_other_models_are_refused(run, servers_of, tmp_path):
    other = Run(tmp_path / "other", seed=9)
    with pytest.raises(DataError, match="risk of patient 'P-000' is not that of the fold's model"):
        register(run.models, other.evaluation, None, RegisterParams(name="no", experiment="tests"), tmp_path / "r.json")


def test_a_missing_file_of_the_evaluation_is_an_error(run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"metrics\.json is missing"):
        register(run.models, tmp_path / "empty", None, RegisterParams(), tmp_path / "r.json")


def test_a_server_that_does_not_answer_is_one_error(run, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(OperationalError, match=r"MLflow does not answer.*stack up"):
        register(run.models, run.evaluation, None, RegisterParams(), tmp_path / "r.json")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(OperationalError, match="no MLflow server is configured"):
        register(run.models, run.evaluation, None, RegisterParams(), tmp_path / "r.json")
