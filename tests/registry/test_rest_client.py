"""Every method compared with MLflow's own client on a real server, which is the independent source."""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from mcti.registry import rest_client, tracking
from mcti.registry.mlflow_client import FullClient
from mcti.registry.rest import ApiError
from mcti.registry.rest_client import RestClient

pytestmark = [pytest.mark.slow, pytest.mark.stack]


@pytest.fixture
def clients(servers_of):
    """The client of mcti and MLflow's own."""
    with tracking.service() as client:
        assert isinstance(client, RestClient)
        yield client, FullClient(os.environ["MLFLOW_TRACKING_URI"])


def same(actual, expected, names):
    """Attributes of an object of each client."""
    for name in names:
        assert getattr(actual, name) == getattr(expected, name), name


INFO = ("run_id", "experiment_id", "status", "run_name", "start_time", "end_time", "artifact_uri")


def same_run(actual, expected):
    same(actual.info, expected.info, INFO)
    same(actual.data, expected.data, ("tags", "params", "metrics"))


def test_experiments(clients):
    rest, full = clients
    number = rest.create_experiment("rest experiments ü")
    actual = rest.get_experiment(number)
    same(actual, full.get_experiment(number), ("experiment_id", "name", "artifact_location"))
    assert rest.get_experiment_by_name("rest experiments ü") == actual
    assert rest.get_experiment_by_name("absent") is None
    assert {e.experiment_id for e in rest.search_experiments()} == {e.experiment_id for e in full.search_experiments()}
    with pytest.raises(ApiError) as caught:
        rest.create_experiment("rest experiments ü")
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"


def test_runs(clients):
    rest, full = clients
    number = rest.create_experiment("rest runs")
    run = rest.create_run(number, run_name="a", tags={"mcti.step": "train", "n": 3})
    same_run(run, full.get_run(run.info.run_id))
    run_id = run.info.run_id
    rest.log_values(run_id, tags={"note": "ü", "gone": "x", "empty": ""})
    rest.delete_tag(run_id, "gone")
    rest.log_param(run_id, "rate", 0.1)
    rest.log_metric(run_id, "loss", 0.25, step=7)
    rest.log_values(
        run_id, metrics=[("loss", 0.125, 1000, 8), ("nan", math.inf, 1000, 0)], params={"p": 1}, tags={"t": True}
    )
    rest.update_run(run_id, name="b")
    actual, expected = rest.get_run(run_id), full.get_run(run_id)
    same_run(actual, expected)
    assert (actual.data.tags["note"], actual.data.tags["empty"], actual.data.tags["t"]) == ("ü", "", "True")
    assert "gone" not in actual.data.tags
    assert actual.data.params == {"rate": "0.1", "p": "1"}
    assert (actual.data.metrics["loss"], actual.info.run_name, actual.info.status) == (0.125, "b", "RUNNING")
    assert {(point.step, point.value) for point in full.get_metric_history(run_id, "loss")} == {(8, 0.125), (7, 0.25)}
    rest.set_terminated(run_id, "FAILED")
    same_run(rest.get_run(run_id), full.get_run(run_id))
    rest.update_run(run_id, status="RUNNING")
    assert full.get_run(run_id).info.status == "RUNNING"
    rest.delete_run(run_id)
    assert full.get_run(run_id).info.lifecycle_stage == "deleted"
    assert rest.search_runs([number]) == []


SETTERS = {
    "tag of a run": lambda rest, run, name: rest.log_values(run, tags={name: "x"}),
    "parameter of a run": lambda rest, run, name: rest.log_values(run, params={name: "x"}),
    "tag of a version": lambda rest, run, name: rest.set_model_version_tag("rest together", "1", name, "x"),
    "tag of a model": lambda rest, run, name: rest.set_registered_model_tag("rest together", name, "x"),
    "alias": lambda rest, run, name: rest.set_registered_model_alias("rest together", name, "1"),
}


@pytest.fixture
def together(clients):
    """A run, and the model `rest together` with one version."""
    rest, full = clients
    full.create_registered_model("rest together")
    full.create_model_version("rest together", source="s3://mcti-mlflow/nothing")
    yield rest, rest.create_run(tracking.experiment_id(rest, "rest together")).info.run_id
    full.delete_registered_model("rest together")


@pytest.mark.parametrize("target", SETTERS)
def test_concurrent_requests_set_one_new_value(together, target):
    """MLflow refuses about half of them."""
    rest, run = together
    for number in range(10):
        barrier = Barrier(4)

        def set_value(_, name=f"value-{number}", barrier=barrier):
            barrier.wait()
            SETTERS[target](rest, run, name)

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(set_value, range(4))) == [None] * 4
    model, version = rest.get_registered_model("rest together"), rest.get_model_version("rest together", "1")
    data = rest.get_run(run).data
    tags = [mapping for mapping in (data.tags, data.params, version.tags, model.tags) if "value-0" in mapping]
    values = tags or [model.aliases]
    assert [values[0][f"value-{number}"] for number in range(10)] == [("x" if tags else "1")] * 10


def test_a_search_of_runs_filters_orders_and_limits(clients):
    rest, full = clients
    number = rest.create_experiment("rest search")
    for start in (3, 1, 2):
        rest.create_run(number, start_time=start, tags={"kind": "odd" if start % 2 else "even"})
    query = "tags.`kind` = 'odd'"
    actual = rest.search_runs([number], query, order_by=["start_time ASC"])
    assert [run.info.start_time for run in actual] == [1, 3]
    for mine, theirs in zip(actual, full.search_runs([number], query, order_by=["start_time ASC"]), strict=True):
        same_run(mine, theirs)
    assert [run.info.start_time for run in rest.search_runs([number], max_results=1)] == [3]


VERSION = ("name", "version", "tags", "creation_timestamp", "run_id", "source", "status", "description")


def test_versions_and_aliases(clients, monkeypatch):
    rest, full = clients
    full.create_registered_model("rest model")
    for _ in range(2):
        full.create_model_version("rest model", source="s3://mcti-mlflow/nothing")
    rest.set_registered_model_tag("rest model", "head", "1:a")
    rest.set_model_version_tag("rest model", "2", "digest", "d")
    rest.set_registered_model_alias("rest model", "champion", "2")
    rest.update_model_version("rest model", "2", description="# text")
    model, expected = rest.get_registered_model("rest model"), full.get_registered_model("rest model")
    same(model, expected, ("name", "tags", "aliases"))
    version = rest.get_model_version("rest model", "2")
    same(version, full.get_model_version("rest model", "2"), VERSION)
    assert list(version.aliases) == full.get_model_version("rest model", "2").aliases == ["champion"]
    same(rest.get_model_version_by_alias("rest model", "champion"), version, ("name", "version", "tags"))
    query = "name = 'rest model'"
    monkeypatch.setattr(rest_client, "_VERSIONS", 1)  # a result of two pages
    actual = {v.version for v in rest.search_model_versions(query)}
    assert actual == {v.version for v in full.search_model_versions(query)} == {"1", "2"}
    rest.delete_registered_model_alias("rest model", "champion")
    for client in (rest, full):  # the same codes, which the callers distinguish
        for call in (
            lambda client: client.get_model_version_by_alias("rest model", "champion"),
            lambda client: client.get_model_version("rest model", "7"),
            lambda client: client.get_registered_model("absent"),
            lambda client: client.get_run("0" * 32),
        ):
            with pytest.raises(ApiError) as caught:
                call(client)
            assert caught.value.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


def test_files(clients, tmp_path, monkeypatch):
    rest, full = clients
    run_id = rest.create_run(rest.create_experiment("rest files")).info.run_id
    (tmp_path / "in" / "deep er").mkdir(parents=True)
    (tmp_path / "in" / "a.bin").write_bytes(os.urandom((1 << 20) + 5))
    (tmp_path / "in" / "deep er" / "b ü.txt").write_text("b", encoding="utf-8")
    full.log_artifacts(run_id, str(tmp_path / "in"), "evaluation")
    rest.log_dict(run_id, {"ü": [1, 2.5, None]}, "card/card.json")
    assert rest.list_artifacts(run_id, "evaluation/a.bin") == []
    for folder in ("evaluation", "evaluation/deep er", "card"):
        listed = [(item.path, item.is_dir, item.file_size) for item in full.list_artifacts(run_id, folder)]
        assert [(item.path, item.is_dir, item.file_size) for item in rest.list_artifacts(run_id, folder)] == listed
    both = {tmp_path / "in": "report", tmp_path / "in" / "empty.csv": "report/of one"}
    other_run = rest.create_run(rest.create_experiment("rest files logged")).info.run_id
    (tmp_path / "in" / "empty.csv").touch()
    for client, run in ((rest, run_id), (full, other_run)):
        client.log_files(run, both)
    for folder in ("report", "report/deep er", "report/of one"):
        listed = [(item.path, item.file_size) for item in full.list_artifacts(other_run, folder)]
        assert [(item.path, item.file_size) for item in full.list_artifacts(run_id, folder)] == listed != []
    stored = full.download_file(run_id, "report", tmp_path / "stored")
    assert (stored / "a.bin").read_bytes() == (tmp_path / "in" / "a.bin").read_bytes()
    copied = rest.download_file(run_id, "evaluation", tmp_path / "out")
    assert copied == tmp_path / "out" / "evaluation"
    for file in ("a.bin", "deep er/b ü.txt"):
        assert (copied / file).read_bytes() == (tmp_path / "in" / file).read_bytes()
    one = rest.download_file(run_id, "evaluation/deep er/b ü.txt", tmp_path / "one")
    assert one == tmp_path / "one" / "b ü.txt"
    card = full.download_file(run_id, "card/card.json", tmp_path / "card")
    assert card.read_text(encoding="utf-8") == '{\n  "\\u00fc": [\n    1,\n    2.5,\n    null\n  ]\n}'
    source = f"{rest.get_run(run_id).info.artifact_uri}/evaluation"
    full.create_registered_model("rest version")
    full.create_model_version("rest version", source=source, run_id=run_id)
    for number, client in enumerate(clients):
        folder = client.download_version("rest version", "1", "deep er", tmp_path / f"version {number}")
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"b ü.txt": b"b"}
    assert list(rest.download_version("rest version", "1", "absent", tmp_path / "version").iterdir()) == []
    # The server answers 500 for an absent file in S3, which is repeated for four minutes by default.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with tracking.service() as impatient, pytest.raises(ApiError):
        impatient.download_file(run_id, "evaluation/absent.csv", tmp_path / "absent")


def test_any_other_method_is_that_of_mlflow_s_own_client(clients):
    rest, _ = clients
    with pytest.raises(ApiError) as caught:
        rest.get_logged_model("m-absent")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    with pytest.raises(AttributeError):
        _ = rest.no_such_method
