"""The endpoints of MLflow over HTTP, by real servers: the bits of the batch, and 400 for each invalid request."""

import base64
import json
import os
import urllib.request

import pytest

from mcti.errors import DataError
from mcti.registry import http_server
from tests.registry.http_client import BIN, expected, post, records, running

pytestmark = [pytest.mark.slow]


def test_invocations_return_the_bits_of_the_batch(saved, server):
    run, folder, _ = saved
    status, response = post(server, {"dataframe_records": records(run)})
    assert status == 200
    assert response["predictions"] == expected(run, folder)


def test_features_in_base64_return_the_same_bits(saved, server):
    run, folder, _ = saved
    packed = [
        {"shape": list(bag.shape), "float32": base64.b64encode(bag.astype("<f4").tobytes()).decode()}
        for bag in run.bags
    ]
    rows = [row | {"features": bag} for row, bag in zip(records(run), packed, strict=True)]
    status, response = post(server, {"dataframe_records": rows})
    assert status == 200
    assert response["predictions"] == expected(run, folder)


def test_a_known_and_a_new_patient_are_returned_as_strict_json(saved, server):
    """The known patient has no interval, the new one has: pandas would fill the numeric column with NaN."""
    run, folder, _ = saved
    known, new = records(run)[0], records(run)[1] | {"patient_id": "new"}
    request = urllib.request.Request(
        f"{server}/invocations",
        json.dumps({"dataframe_records": [known, new]}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=600) as response:
        text = response.read().decode()
    assert "NaN" not in text
    first, second = json.loads(text)["predictions"]
    assert (first["model"], first["S_12_low"]) == ("fold_0", None)
    assert second["model"] == "ensemble"
    assert second["S_12_low"] < second["S_12"] < second["S_12_high"]
    assert [first] == expected(run, folder)[:1]


def test_single_requests_return_the_bits_of_one_request_with_all_patients(saved, server):
    run, folder, _ = saved
    alone = [post(server, {"dataframe_records": [row]})[1]["predictions"][0] for row in records(run)[:3]]
    assert alone == expected(run, folder)[:3]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"dataframe_recrods": []}, "unknown key 'dataframe_recrods' in the request: did you mean dataframe_records?"),
        ({}, "0 tables (none)"),
        ({"inputs": [], "instances": []}, "2 tables (instances, inputs)"),
        ({"dataframe_records": {"patient_id": "x"}}, "dataframe_records is not a list of objects"),
        ({"dataframe_records": [], "params": [1]}, "params is not an object"),
        ({"dataframe_records": [], "params": {"horizon_months": [1.0]}}, "did you mean horizons_months?"),
    ],
)
def test_an_invalid_top_level_is_refused_with_a_message_of_mcti(server, body, message):
    status, response = post(server, body)
    assert status == 400
    assert message in response["message"]
    assert "MLflow" not in response["message"]


@pytest.mark.parametrize("body", [b"\xff" * 10**6, b"{" * 10**3, b"[" * 10**4, b"9" * 5000, b"", b"null"])
def test_an_invalid_body_is_not_repeated_in_the_response(server, body):
    """MLflow's own parser repeats it, with four characters per byte."""
    status, response = post(server, body)
    assert status == 400
    assert len(response["message"]) < 300


def test_mlflow_models_serve_returns_the_same_bits_and_the_same_400(saved, tmp_path):
    run, folder, model = saved
    arguments = ("models", "serve", "--model-uri", str(model), "--env-manager", "local", "--host", "127.0.0.1")
    with running(tmp_path / "mlflow.log", str(BIN / "mlflow"), *arguments) as address:
        status, response = post(address, {"dataframe_records": records(run)})
        assert status == 200
        assert response["predictions"] == expected(run, folder)
        status, response = post(address, {"dataframe_records": [records(run)[0] | {"genes": {"NOPE": 1.0}}]})
        assert status == 400
        assert response["message"].startswith("gene 'ESR1' is missing"), "only the line of mcti: no table and no id"


@pytest.mark.parametrize("harm", ["pickle", "nan", "byte"])
def test_altered_weights_are_not_served(saved, tmp_path, harm):
    """A pickle that would execute code, a NaN, one changed byte: the server does not start and executes nothing."""
    import pickle
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(saved[2], tmp_path / "saved")
    weights = tmp_path / "saved" / "artifacts" / "ensemble" / "fold_1" / "weights.safetensors"
    if harm == "pickle":

        class Bomb:
            def __reduce__(self):
                return (os.system, (f"touch '{tmp_path / 'ran'}'",))

        weights.write_bytes(pickle.dumps(Bomb()))
    elif harm == "nan":
        tensors = load_file(weights)
        next(iter(tensors.values())).view(-1)[0] = float("nan")
        save_file(tensors, weights)
    else:
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match=r"is not the registered .*weights.safetensors"):
        http_server.create_app(tmp_path / "saved" / "artifacts" / "ensemble", "saved", tmp_path / "scratch", 10**6, 60)
    assert not (tmp_path / "ran").exists()


def test_code_in_the_model_folder_is_not_executed(saved, tmp_path):
    """A user with write access to the bucket can add code, which MLflow's own loading executes."""
    import shutil

    import mlflow

    shutil.copytree(saved[2], tmp_path / "saved")
    code, ran = tmp_path / "saved" / "pyfunc_model.py", tmp_path / "ran"
    code.write_text(f"open({str(ran)!r}, 'w').close()\n" + code.read_text(encoding="utf-8"), encoding="utf-8")
    http_server.create_app(tmp_path / "saved" / "artifacts" / "ensemble", "saved", tmp_path / "scratch", 10**6, 60)
    assert not ran.exists()
    mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    assert ran.exists()
