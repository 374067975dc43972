"""The Open Inference Protocol (KServe V2), by a real server."""

import json
import re
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.registry.factories import FEATURES, GENES
from tests.registry.http_client import expected, post, records, texts

pytestmark = [pytest.mark.slow]


def test_infer_returns_the_bits_of_the_batch_as_tensors(saved, server):
    """Shapes and keys of the Open Inference Protocol (KServe, v2): one patient as tensors, then all as texts."""
    run, folder, _ = saved
    with urllib.request.urlopen(f"{server}/v2/health/ready", timeout=600) as response:
        assert json.loads(response.read()) == {"ready": True}
    with urllib.request.urlopen(f"{server}/v2", timeout=600) as response:
        assert json.loads(response.read())["name"] == "mcti"
    bag, rows = run.bags[0].astype(float), expected(run, folder)
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
    status, response = post(server, one, "/v2/models/mcti/infer")
    assert status == 200, response
    assert response["id"] == "42"
    assert {o["name"]: o["data"][0] for o in response["outputs"]} == rows[0]
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
    _, response = post(server, {"inputs": texts}, "/v2/models/mcti/infer")
    assert [dict(zip([o["name"] for o in response["outputs"]], row, strict=True)) for row in
            zip(*(o["data"] for o in response["outputs"]), strict=True)] == rows  # fmt: skip


def test_the_metadata_list_the_outputs_of_infer(saved, server):
    with urllib.request.urlopen(f"{server}/v2/models/mcti", timeout=600) as response:
        listed = json.loads(response.read())["outputs"]
    row = records(saved[0])[0]
    tensors = [
        {"name": "patient_id", "shape": [1], "datatype": "BYTES", "data": [row["patient_id"]]},
        *(
            {"name": name, "shape": [1], "datatype": "BYTES", "data": [json.dumps(row[name])]}
            for name in ("genes", "features")
        ),
    ]
    _, response = post(server, {"inputs": tensors}, "/v2/models/mcti/infer")
    assert [(o["name"], o["datatype"]) for o in listed] == [(o["name"], o["datatype"]) for o in response["outputs"]]


def test_a_body_that_is_not_json_or_too_large_gets_400_before_it_is_parsed(server):
    assert post(server, b"{not json")[0] == 400
    assert post(server, b'{"inputs": ' + b"[" * 100_000)[0] == 400, "nested too deeply to be read"
    # 2 and 12 MiB that are not JSON: the message states the size, so the body was not parsed; and the response arrives,
    # although the client reads nothing before it has sent everything.
    for size in (2**21, 12 * 2**20):
        status, response = post(server, b"[" * size)
        assert status == 400
        assert "larger than 1048576 bytes" in response["error"]
    for query in (
        {"inputs": 3},
        {"inputs": [{"name": "genes"}]},
        {"inputs": [{"name": "gnes", "shape": [1], "datatype": "BYTES", "data": ["x"]}]},
        {"inputs": [{"name": "features", "shape": [1, 2, 1], "datatype": "FP32", "data": [[1], [[2]]]}]},
        b'{"inputs": [{"name": "genes", "shape": [1], "datatype": "BYTES", "data": ' + b"[" * 10**5,
    ):
        status, response = post(server, query, "/v2/models/mcti/infer")
        assert status == 400
        assert response["error"]


def peak_memory(address):
    """Bytes: the largest memory that the process of a server has used."""
    port = urlsplit(address).port
    (process,) = {one.pid for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == port}
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(encoding="utf-8"))
    return int(peak[1]) * 1024


def test_ten_million_patches_are_refused_before_parsing_by_each_endpoint(saved, server):
    """Parsed, they would grow to two gigabytes of lists: a body denser than features is refused before parsing."""
    row = records(saved[0])[0]
    claimed = row | {"features": {"shape": [10**7, FEATURES], "float32": "AAAA"}}
    before = peak_memory(server)
    status, response = post(server, {"dataframe_records": [claimed]})
    assert (status, "10000000 patches of one patient" in response["message"]) == (400, True)
    empty = json.dumps({"dataframe_records": [row | {"features": "lists"}]}).replace(
        '"lists"', "[" + "[]," * 10**5 + "[]]"
    )
    status, response = post(server, empty.encode())
    assert status == 400
    assert "lists: send fewer patches" in response["message"]
    features = {"name": "features", "shape": [1, 10**7, 0], "datatype": "FP32", "data": []}
    status, response = post(server, {"inputs": [*texts(row), features]}, "/v2/models/mcti/infer")
    assert status == 400
    assert "10000000 patches of one patient" in response["error"]
    assert peak_memory(server) - before < 2**28
