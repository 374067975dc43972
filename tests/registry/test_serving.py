"""The model over HTTP, by real servers: batch and online give the same bits, and every bad request its 400."""

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pandas as pd
import pytest

from mcti.errors import DataError
from mcti.registry import ensemble, models, serving
from tests.registry.made import FEATURES, GENES, Run

pytestmark = [pytest.mark.slow]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    run = Run(root)
    ensemble.assemble(run.models, root / "ensemble")
    models.save(root / "ensemble", root / "saved")
    return run, root / "ensemble", root / "saved"


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextlib.contextmanager
def running(log, *command):
    """A server on a free port until the end of the block; ended by its own pid."""
    port = free_port()
    path = f"{BIN}:{os.environ['PATH']}"  # mlflow starts uvicorn by name
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1", "PATH": path}
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=stream, stderr=stream, env=environment, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(1500):  # five minutes: the start of `mlflow models serve` on a busy machine
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/ping", timeout=5) as answer:
                assert answer.status == 200
                break
            time.sleep(0.2)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait(20)


@pytest.fixture(scope="module")
def ours(saved, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "serve.log"
    command = ("serve", "--model", str(saved[2]), "--set", "serve.max_request_mb=1")
    with running(log, str(BIN / "mcti"), *command) as address:
        yield address


def post(address, body, path="/invocations"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def records(run):
    return run.frame().to_dict("records")


def expected(run, folder):
    """What the batch says, as JSON would write it."""
    import torch

    loaded = ensemble.load(folder)
    rows = [
        loaded.predict(name, torch.from_numpy(run.bags[i]), dict(zip(GENES, map(float, run.genes[i]), strict=True)))
        for i, name in enumerate(run.ids)
    ]
    return json.loads(json.dumps(rows))


def test_invocations_answer_the_very_bits_of_the_batch(saved, ours):
    run, folder, _ = saved
    status, answer = post(ours, {"dataframe_records": records(run)})
    assert status == 200
    assert answer["predictions"] == expected(run, folder)


def test_features_in_base64_answer_the_same_bits(saved, ours):
    run, folder, _ = saved
    packed = [
        {"shape": list(bag.shape), "float32": base64.b64encode(bag.astype("<f4").tobytes()).decode()}
        for bag in run.bags
    ]
    rows = [row | {"features": bag} for row, bag in zip(records(run), packed, strict=True)]
    status, answer = post(ours, {"dataframe_records": rows})
    assert status == 200
    assert answer["predictions"] == expected(run, folder)


def test_a_known_patient_beside_a_new_one_is_answered_in_strict_json(saved, ours):
    """Who is known has no span, the other has one: a column of numbers with gaps, which pandas would fill with NaN."""
    run, folder, _ = saved
    known, new = records(run)[0], records(run)[1] | {"patient_id": "new"}
    request = urllib.request.Request(
        f"{ours}/invocations",
        json.dumps({"dataframe_records": [known, new]}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read().decode()
    assert "NaN" not in text
    first, second = json.loads(text)["predictions"]
    assert (first["model"], first["S_12_low"]) == ("fold_0", None)
    assert second["model"] == "ensemble"
    assert second["S_12_low"] < second["S_12"] < second["S_12_high"]
    assert [first] == expected(run, folder)[:1]


def test_one_by_one_is_as_all_together(saved, ours):
    run, folder, _ = saved
    alone = [post(ours, {"dataframe_records": [row]})[1]["predictions"][0] for row in records(run)[:3]]
    assert alone == expected(run, folder)[:3]


def test_the_v2_protocol_answers_the_same_bits_as_tensors(saved, ours):
    """Shapes and words of the Open Inference Protocol (KServe, v2), one patient as tensors, then all as texts."""
    run, folder, _ = saved
    with urllib.request.urlopen(f"{ours}/v2/health/ready", timeout=10) as answer:
        assert json.loads(answer.read()) == {"ready": True}
    with urllib.request.urlopen(f"{ours}/v2", timeout=10) as answer:
        assert json.loads(answer.read())["name"] == "mcti"
    bag, wanted = run.bags[0].astype(float), expected(run, folder)
    one = {
        "id": "42",
        "inputs": [
            {"name": "patient_id", "shape": [1], "datatype": "BYTES", "data": [run.ids[0]]},
            {
                "name": "genes",
                "shape": [1, len(GENES)],
                "datatype": "FP64",
                "data": run.genes[:1].astype(float).tolist(),
            },
            {"name": "features", "shape": [1, *bag.shape], "datatype": "FP32", "data": bag.ravel().tolist()},
        ],
    }
    status, answer = post(ours, one, "/v2/models/mcti/infer")
    assert status == 200, answer
    assert answer["id"] == "42"
    assert {o["name"]: o["data"][0] for o in answer["outputs"]} == wanted[0]
    texts = [
        {"name": "patient_id", "shape": [len(run.ids)], "datatype": "BYTES", "data": run.ids},
        *(
            {
                "name": n,
                "shape": [len(run.ids)],
                "datatype": "BYTES",
                "data": [json.dumps(row[n]) for row in records(run)],
            }
            for n in ("genes", "features")
        ),
    ]
    _, answer = post(ours, {"inputs": texts}, "/v2/models/mcti/infer")
    assert [dict(zip([o["name"] for o in answer["outputs"]], row, strict=True)) for row in
            zip(*(o["data"] for o in answer["outputs"]), strict=True)] == wanted  # fmt: skip


def without(row, *path):
    changed = json.loads(json.dumps(row))
    place = changed
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return changed


def bad_rows(row):
    wrong = json.loads(json.dumps(row))
    return {
        "wrong genes": (row | {"genes": {"NOPE": 1.0}}, "gene 'ESR1' is missing"),
        "no genes": (row | {"genes": None}, "no genes"),
        "a gene left out": (without(row, "genes", "MKI67"), "gene 'MKI67' is missing"),
        "a NaN feature": (row | {"features": [[float("nan")] * FEATURES]}, "NaN or infinite"),
        "a wrong width": (row | {"features": [[1.0] * (FEATURES + 1)]}, f"not (N, {FEATURES})"),
        "a ragged table": (row | {"features": [[1.0] * FEATURES, [1.0]]}, "no table of numbers"),
        "text for numbers": (row | {"genes": dict.fromkeys(GENES, "high")}, "genes: 'ESR1' is 'high', no number"),
        "a number as text": (row | {"genes": row["genes"] | {"MKI67": "2.5"}}, "genes: 'MKI67' is '2.5', no number"),
        "genes without names": (row | {"genes": [1.0, 2.0]}, "genes"),
        "a feature as text": (row | {"features": [["0.5"] * FEATURES]}, "no table of numbers"),
        "a null feature": (row | {"features": [[None] * FEATURES]}, "no table of numbers"),
        "no base64": (row | {"features": {"shape": [1, FEATURES], "float32": "%%%"}}, "no base64"),
        "too few bytes": (row | {"features": {"shape": [9, FEATURES], "float32": "AAAA"}}, "3 bytes of features"),
        "an object without a shape": (row | {"features": {"float32": "AAAA"}}, "without shape [N, D]"),
        "a truth value": (row | {"features": [[True] * FEATURES]}, "no table of numbers"),
        "a word for features": (row | {"features": "many"}, "features"),
        "no patient_id": (without(wrong, "patient_id"), "patient_id"),
    }


CASES = list(bad_rows({"patient_id": "x", "genes": dict.fromkeys(GENES, 0.0), "features": []}))


@pytest.mark.parametrize("case", CASES)
def test_a_bad_patient_gets_400_and_is_told_what_is_wrong(saved, ours, case):
    run, *_ = saved
    row, words = bad_rows(records(run)[0])[case]
    status, answer = post(ours, {"dataframe_records": [row]})
    assert status == 400
    assert words in json.dumps(answer)


def test_a_body_that_is_no_json_or_too_large_gets_400_before_it_is_parsed(ours):
    assert post(ours, b"{not json")[0] == 400
    # 2 and 12 MiB that are no JSON: the answer speaks of the size, so nobody parsed them; and it arrives, though the
    # client reads nothing before it has sent everything.
    for size in (2**21, 12 * 2**20):
        status, answer = post(ours, b"[" * size)
        assert status == 400
        assert "larger than 1048576 bytes" in answer["error"]
    for query in (
        {"inputs": 3},
        {"inputs": [{"name": "genes"}]},
        {"inputs": [{"name": "gnes", "shape": [1], "datatype": "BYTES", "data": ["x"]}]},
    ):
        status, answer = post(ours, query, "/v2/models/mcti/infer")
        assert status == 400
        assert answer["error"]


def test_a_patient_of_too_many_patches_is_refused_by_the_model_itself(saved, monkeypatch):
    """Also where MLflow's own server reads the body: 10^7 patches are refused before they become a tensor."""
    import mlflow

    run, _, folder = saved
    loaded = mlflow.pyfunc.load_model(str(folder)).unwrap_python_model()

    class Endless(list):
        def __len__(self):
            return 10**7

    frame = pd.DataFrame([records(run)[0] | {"features": Endless([[0.0] * FEATURES])}])
    with pytest.raises(mlflow.exceptions.MlflowException, match="10000000 patches of one patient") as caught:
        loaded.predict(None, frame)
    assert caught.value.get_http_status_code() == 400


def test_mlflow_models_serve_gives_the_same_bits_and_the_same_400(saved, tmp_path):
    run, folder, model = saved
    words = ("models", "serve", "--model-uri", str(model), "--env-manager", "local", "--host", "127.0.0.1")
    with running(tmp_path / "mlflow.log", str(BIN / "mlflow"), *words) as address:
        status, answer = post(address, {"dataframe_records": records(run)})
        assert status == 200
        assert answer["predictions"] == expected(run, folder)
        status, answer = post(address, {"dataframe_records": [records(run)[0] | {"genes": {"NOPE": 1.0}}]})
        assert status == 400
        assert "gene 'ESR1' is missing" in json.dumps(answer)


def test_with_redact_an_answer_and_a_refusal_name_nobody(saved, monkeypatch):
    import mlflow

    from mcti.redaction import hashed

    run, _, folder = saved
    loaded = mlflow.pyfunc.load_model(str(folder)).unwrap_python_model()
    plain = loaded.predict(None, run.frame())
    monkeypatch.setenv("MCTI_REDACT", "1")
    answer = loaded.predict(None, run.frame())
    assert list(answer["patient_id"]) == [hashed(name) for name in run.ids]
    assert list(answer["risk"]) == list(plain["risk"]), "the patient is still known by the id that came"
    assert list(answer["model"]) == list(plain["model"])
    bad = run.frame().assign(patient_id="Anna", genes=[{"NOPE": 1.0}] * len(run.ids))
    with pytest.raises(mlflow.exceptions.MlflowException, match=rf"patient {hashed('Anna')}") as caught:
        loaded.predict(None, bad)
    assert "Anna" not in str(caught.value)


@pytest.mark.parametrize("harm", ["pickle", "nan", "byte"])
def test_altered_weights_are_never_served(saved, tmp_path, harm):
    """A pickle that would run code, a NaN, one changed byte: the server does not start and runs nothing."""
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
        serving.app(str(tmp_path / "saved"), tmp_path / "scratch", 10**6)
    assert not (tmp_path / "ran").exists()
