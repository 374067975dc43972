"""Names of files that a server lists; the transfer itself is tested with a real server in test_rest_client.py."""

import pytest

from mcti.errors import DataError
from mcti.registry.rest import Server
from mcti.registry.rest_artifacts import Artifacts
from tests.registry.test_rest import recording


@pytest.mark.parametrize("name", ["../../escaped", "/etc/escaped", "a/../../escaped", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    with recording((200, f'{{"files": [{{"path": "{name}", "is_dir": false, "file_size": 1}}]}}')) as (address, _):
        files = Artifacts(Server(address))
        with pytest.raises(DataError, match="leads out of its folder"):
            files.download("mlflow-artifacts:/1/artifacts", "", tmp_path / "out")
    assert list(tmp_path.rglob("*escaped*")) == []


def test_a_folder_is_one_list_and_one_request_for_each_file(tmp_path):
    answers = (
        '{"files": [{"path": "a.json", "file_size": 1}, {"path": "fold", "is_dir": true}]}',
        "A",
        '{"files": [{"path": "b.json", "file_size": 1}]}',
        "B",
    )
    with recording(*((200, answer) for answer in answers)) as (address, requests):
        copy = Artifacts(Server(address)).download("mlflow-artifacts:/1", "model", tmp_path)
    endpoint = "/api/2.0/mlflow-artifacts/artifacts"
    assert [path.removeprefix(endpoint) for _, path, _, _ in requests] == [
        "?path=1%2Fmodel",
        "/1/model/a.json",
        "?path=1%2Fmodel%2Ffold",
        "/1/model/fold/b.json",
    ]
    assert copy == tmp_path / "model"
    assert {p.relative_to(copy).as_posix(): p.read_text() for p in copy.rglob("*.json")} == {
        "a.json": "A",
        "fold/b.json": "B",
    }


def test_only_addresses_of_this_server_are_served():
    files = Artifacts(Server("http://mlflow:5000"))
    assert files.serves("mlflow-artifacts:/1/artifacts")
    assert files.serves("mlflow-artifacts://mlflow:5000/1/artifacts")
    assert not files.serves("mlflow-artifacts://other:5000/1/artifacts")
    assert not files.serves("s3://bucket/1/artifacts")
    assert not files.serves("/tmp/artifacts")
