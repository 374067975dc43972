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


def test_only_addresses_of_this_server_are_served():
    files = Artifacts(Server("http://mlflow:5000"))
    assert files.serves("mlflow-artifacts:/1/artifacts")
    assert files.serves("mlflow-artifacts://mlflow:5000/1/artifacts")
    assert not files.serves("mlflow-artifacts://other:5000/1/artifacts")
    assert not files.serves("s3://bucket/1/artifacts")
    assert not files.serves("/tmp/artifacts")
