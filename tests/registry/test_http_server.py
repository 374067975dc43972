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
from mcti.registry import ensemble_files, http_server, models
from tests.registry.factories import FEATURES, GENES, Run

pytestmark = [pytest.mark.slow]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    run = Run(root)
    ensemble_files.assemble(run.models, root / "ensemble")
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

    loaded = ensemble_files.load(folder)
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
        "a null for patient_id": (row | {"patient_id": None}, "patient_id is empty"),
        "not one gene measured": (row | {"genes": dict.fromkeys(GENES)}, "no genes"),
        "an endless integer": (row | {"genes": row["genes"] | {"MKI67": 10**400}}, "genes: 'MKI67' is 1000"),
        "a truth value for a count": (
            row | {"features": {"shape": [True, FEATURES], "float32": base64.b64encode(bytes(4 * FEATURES)).decode()}},
            "without shape [N, D]",
        ),
        "lists in lists": (row | {"features": json.loads("[" * 500 + "]" * 500)}, "no table of numbers"),
    }


CASES = list(bad_rows({"patient_id": "x", "genes": dict.fromkeys(GENES, 0.0), "features": []}))


@pytest.mark.parametrize("case", CASES)
def test_a_bad_patient_gets_400_and_is_told_what_is_wrong(saved, ours, case):
    run, *_ = saved
    row, words = bad_rows(records(run)[0])[case]
    status, answer = post(ours, {"dataframe_records": [row]})
    assert status == 400
    assert words in answer["message"]
    assert "\n" not in answer["message"], "one line, without the table that MLflow would write before it"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"dataframe_recrods": []}, "unknown key 'dataframe_recrods' in the request: did you mean dataframe_records?"),
        ({}, "0 tables (none)"),
        ({"inputs": [], "instances": []}, "2 tables (instances, inputs)"),
        ({"dataframe_records": {"patient_id": "x"}}, "dataframe_records is no list of objects"),
        ({"dataframe_records": [], "params": [1]}, "params is no object"),
        ({"dataframe_records": [], "params": {"horizon_months": [1.0]}}, "did you mean horizons_months?"),
    ],
)
def test_a_wrong_top_level_is_refused_in_our_words(ours, body, words):
    status, answer = post(ours, body)
    assert status == 400
    assert words in answer["message"]
    assert "MLflow" not in answer["message"]


def test_a_patient_twice_in_one_request_is_refused(saved, ours):
    row, other = records(saved[0])[:2]
    status, answer = post(ours, {"dataframe_records": [row, other, row]})
    assert status == 400
    assert f"two rows of one patient_id in the request, patient {row['patient_id']}" in answer["message"]
    texts = [
        {"name": name, "shape": [2], "datatype": "BYTES", "data": [json.dumps(row[name])] * 2}
        for name in ("genes", "features")
    ]
    ids = {"name": "patient_id", "shape": [2], "datatype": "BYTES", "data": [row["patient_id"]] * 2}
    status, answer = post(ours, {"inputs": [ids, *texts]}, "/v2/models/mcti/infer")
    assert (status, "two rows of one patient_id" in answer["error"]) == (400, True)


def test_the_metadata_of_v2_list_what_infer_returns(saved, ours):
    with urllib.request.urlopen(f"{ours}/v2/models/mcti", timeout=10) as answer:
        listed = json.loads(answer.read())["outputs"]
    row = records(saved[0])[0]
    tensors = [
        {"name": "patient_id", "shape": [1], "datatype": "BYTES", "data": [row["patient_id"]]},
        *(
            {"name": name, "shape": [1], "datatype": "BYTES", "data": [json.dumps(row[name])]}
            for name in ("genes", "features")
        ),
    ]
    _, answer = post(ours, {"inputs": tensors}, "/v2/models/mcti/infer")
    assert [(o["name"], o["datatype"]) for o in listed] == [(o["name"], o["datatype"]) for o in answer["outputs"]]


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
        {"inputs": [{"name": "features", "shape": [1, 2, 1], "datatype": "FP32", "data": [[1], [[2]]]}]},
        b'{"inputs": [{"name": "genes", "shape": [1], "datatype": "BYTES", "data": ' + b"[" * 10**5,
    ):
        status, answer = post(ours, query, "/v2/models/mcti/infer")
        assert status == 400
        assert answer["error"]


@pytest.mark.parametrize(
    ("months", "words"),
    [
        ([12.0] * 101, "101 horizons_months"),
        ([-5.0], "horizons_months -5"),
        ([float("nan")], "horizons_months nan"),
        ([float("inf")], "horizons_months inf"),
        (["soon"], "horizons_months"),
    ],
)
def test_months_that_are_none_or_too_many_are_refused(saved, ours, months, words):
    status, answer = post(ours, {"dataframe_records": records(saved[0])[:1], "params": {"horizons_months": months}})
    assert status == 400
    assert words in answer["message"]


def test_ten_million_patches_are_refused_by_each_way_at_once(saved, ours, tmp_path):
    """As text they would grow to two gigabytes of lists: what is denser than features is counted and not parsed."""
    row = records(saved[0])[0]
    claimed = row | {"features": {"shape": [10**7, FEATURES], "float32": "AAAA"}}
    start = time.monotonic()
    status, answer = post(ours, {"dataframe_records": [claimed]})
    assert (status, "10000000 patches of one patient" in answer["message"]) == (400, True)
    empty = json.dumps({"dataframe_records": [row | {"features": "here"}]}).replace(
        '"here"', "[" + "[]," * 10**5 + "[]]"
    )
    status, answer = post(ours, empty.encode())
    assert status == 400
    assert "lists: send fewer patches" in answer["message"]
    features = {"name": "features", "shape": [1, 10**7, 0], "datatype": "FP32", "data": []}
    status, answer = post(ours, {"inputs": [*_texts(row), features]}, "/v2/models/mcti/infer")
    assert status == 400
    assert "10000000 patches of one patient" in answer["error"]
    assert time.monotonic() - start < 20


def _texts(row):
    values = {"patient_id": row["patient_id"], "genes": json.dumps(row["genes"])}
    return [{"name": n, "shape": [1], "datatype": "BYTES", "data": [v]} for n, v in values.items()]


@pytest.mark.parametrize("body", [b"\xff" * 10**6, b"{" * 10**3, b"[" * 10**4, b"9" * 5000, b"", b"null"])
def test_a_broken_body_is_not_sent_back(ours, body):
    """MLflow's own parser repeats it, four letters a byte."""
    status, answer = post(ours, body)
    assert status == 400
    assert len(answer["message"]) < 300


@pytest.mark.parametrize("kind", ["text/csv", "application/vnd.apache.parquet", "application/x-www-form-urlencoded"])
def test_anything_but_json_is_refused_unread(ours, kind):
    """A megabyte of Parquet unpacks to any size."""
    request = urllib.request.Request(f"{ours}/invocations", b"PAR1", {"content-type": kind})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert caught.value.code == 415
    assert f"content-type is {kind}: send application/json" in json.loads(caught.value.read())["error"]


def _through(limit, *parts, path="/invocations"):
    """(status, body) of a request that arrives in parts through the limit; a part may be a function to wait for."""
    import asyncio

    async def receive():
        part = coming.pop(0)
        part = await part() if callable(part) else part
        return {"type": "http.request", "body": part, "more_body": bool(coming)}

    async def send(message):
        sent.append(message)

    coming, sent = list(parts), []
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "path": path, "method": "POST", "headers": headers}

    async def told():
        await limit(scope, receive, send)
        return sent[0]["status"], sent[1]["body"]

    return told() if any(callable(part) for part in parts) else asyncio.run(told())


async def _echo(scope, receive, send):
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def test_bodies_at_work_together_keep_within_the_limit_and_one_always_gets_through():
    """Memory is bounded whoever comes at once; and no number of them locks all the others out."""
    import asyncio

    limit = http_server.BodyLimit(_echo, 1000, 60)

    async def many():
        async def pause():
            await asyncio.sleep(0.01)
            return b"x" * 300

        return await asyncio.gather(*(_through(limit, b"x" * 300, pause, pause) for _ in range(5)))

    answers = asyncio.run(many())
    assert sorted(status for status, _ in answers) == [200, 503, 503, 503, 503]
    assert limit.held == 0
    assert _through(limit, b"x" * 600, b"x" * 400) == (200, b"x" * 1000)
    assert _through(limit, b"x" * 600, b"x" * 401)[0] == 400
    assert limit.held == 0


def test_a_body_that_does_not_come_is_given_up():
    import asyncio

    limit = http_server.BodyLimit(_echo, 1000, 0.05)

    async def slow():
        return await _through(limit, b"x", lambda: asyncio.sleep(600))

    status, body = asyncio.run(slow())
    assert status == 408
    assert b"did not arrive within 0.05 seconds" in body
    assert limit.held == 0


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
        assert answer["message"].startswith("gene 'ESR1' is missing"), "our line alone: no table, no id of it"


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
        http_server.app(str(tmp_path / "saved"), tmp_path / "scratch", 10**6, 60)
    assert not (tmp_path / "ran").exists()


def test_code_that_lies_beside_the_weights_is_not_run(saved, tmp_path):
    """Whoever may write the bucket can put code there, which MLflow's own loading runs."""
    import shutil

    import mlflow

    shutil.copytree(saved[2], tmp_path / "saved")
    code, ran = tmp_path / "saved" / "served.py", tmp_path / "ran"
    code.write_text(f"open({str(ran)!r}, 'w').close()\n" + code.read_text(encoding="utf-8"), encoding="utf-8")
    http_server.app(str(tmp_path / "saved"), tmp_path / "scratch", 10**6, 60)
    assert not ran.exists()
    mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    assert ran.exists()
