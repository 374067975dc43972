"""The served model behind one port: MLflow's own endpoints, KServe's V2 protocol, and a limit before parsing.

`POST /invocations`, `GET /ping`, `/health`, `/version`   MLflow's scoring server, the very application that
                                                         `mlflow models serve` starts
`/v2/…`                                                  the Open Inference Protocol: health, metadata, infer
A body above the limit is refused before a byte of it is parsed; `mlflow models serve` alone reads it first.
"""

import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcti.errors import DataError, MctiError, did_you_mean
from mcti.registry import models

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_JSON_COLUMNS = ("genes", "features", "covariates")
_KINDS = {"BYTES": str, "FP64": float, "FP32": float, "INT64": int, "INT32": int}

# Most clients read no answer before they have sent their whole body: closed earlier, the connection breaks under them
# and the reason is lost. So this many times the limit is read and thrown away; a still larger body is cut off.
_THROWN_AWAY = 16


class BodyLimit:
    """ASGI middleware: a request of more than `most` bytes gets 400 before anybody parses it."""

    def __init__(self, app: Any, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Keep at most the limit, then hand on what was read."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        # A chunked body declares no length, so what arrives is counted as well.
        arrived, too_large = 0, declared.isdigit() and int(declared) > self.most
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            part, more = message.get("body", b""), message.get("more_body", False)
            arrived += len(part)
            too_large = too_large or arrived > self.most
            if not too_large:
                body += part
            elif arrived > _THROWN_AWAY * self.most:
                break
        if too_large:
            await self._refuse(send)
            return
        whole = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> dict[str, Any]:
            return whole.pop() if whole else await receive()

        await self.app(scope, replay, send)

    async def _refuse(self, send: Send) -> None:
        text = f"the request is larger than {self.most} bytes: send fewer patients or patches at a time"
        body = json.dumps({"error": text, "error_code": "BAD_REQUEST", "message": text}).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 400, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def app(model: str, scratch: Path, most_bytes: int) -> Any:
    """The ASGI application for a model of the registry, or for a folder that MLflow saved.

    Raises
        DataError: there is no model, or it is not one of ours.
        EnvironmentTrouble: the registry does not answer.
    """
    import mlflow
    from mlflow.pyfunc import scoring_server

    folder = models.fetch(model, scratch)
    root = folder.parents[1] if folder.name == "ensemble" and folder.parent.name == "artifacts" else folder
    if not (root / "MLmodel").exists():
        raise DataError("no MLmodel file", model, "serve models:/NAME@ALIAS; folds become one by `mcti register`")
    loaded = mlflow.pyfunc.load_model(str(root))
    made = scoring_server.init(loaded)
    _add_v2(made, loaded, model)
    return BodyLimit(made, most_bytes)


def _add_v2(made: Any, loaded: Any, address: str) -> None:
    from fastapi.responses import JSONResponse
    from mlflow.exceptions import MlflowException
    from starlette.requests import Request

    served = loaded.unwrap_python_model().ensemble
    registered = address.removeprefix("models:/") if address.startswith("models:/") else "mcti"
    name = registered.partition("@")[0].partition("/")[0]
    version = served.digest[:12]

    def ready() -> dict[str, Any]:
        return {"ready": True}

    def live() -> dict[str, Any]:
        return {"live": True}

    def server() -> dict[str, Any]:
        return {"name": "mcti", "version": version, "extensions": []}

    def metadata() -> dict[str, Any]:
        return _metadata(name, version, served)

    async def infer(request: Request) -> Any:
        import asyncio

        try:
            query = _object(await request.body())
            rows = _rows(query, served.genes)
            # A thread: the event loop goes on answering whether the server is alive.
            frame = await asyncio.to_thread(loaded.predict, _frame(rows))
        except MctiError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        except MlflowException as error:
            return JSONResponse({"error": str(error.message)}, status_code=error.get_http_status_code())
        return JSONResponse(_answer(query, name, version, frame))

    for path, function in {
        "/v2": server,
        "/v2/health/live": live,
        "/v2/health/ready": ready,
        f"/v2/models/{name}": metadata,
        f"/v2/models/{name}/ready": ready,
        f"/v2/models/{name}/versions/{version}": metadata,
        f"/v2/models/{name}/versions/{version}/ready": ready,
    }.items():
        made.add_api_route(path, function, methods=["GET"])
    for path in (f"/v2/models/{name}/infer", f"/v2/models/{name}/versions/{version}/infer"):
        made.add_route(path, infer, methods=["POST"])


def _metadata(name: str, version: str, served: Any) -> dict[str, Any]:
    inputs = [
        {"name": "patient_id", "datatype": "BYTES", "shape": [-1]},
        {"name": "genes", "datatype": "FP64", "shape": [-1, len(served.genes)], "parameters": {"order": served.genes}},
        {"name": "features", "datatype": "FP32", "shape": [1, -1, served.features]},
    ]
    if served.covariates:
        inputs.append({"name": "covariates", "datatype": "BYTES", "shape": [-1]})
    outputs = [{"name": "patient_id", "datatype": "BYTES", "shape": [-1]}]
    outputs += [{"name": n, "datatype": "FP64", "shape": [-1]} for n in ("risk", *map(_column, served.horizons_months))]
    return {"name": name, "versions": [version], "platform": "mcti", "inputs": inputs, "outputs": outputs}


def _column(months: float) -> str:
    return f"S_{months:g}"


def _object(body: bytes) -> dict[str, Any]:
    try:
        query = json.loads(body)
    except ValueError as error:
        raise DataError(f"the body is not JSON ({error})", "the request", "send an inference request of V2") from None
    if not isinstance(query, dict) or not isinstance(query.get("inputs"), list):
        raise DataError("no list `inputs`", "the request", "send an inference request of V2")
    return query


def _rows(query: Mapping[str, Any], genes: Sequence[str]) -> list[dict[str, Any]]:
    """One row a patient from tensors: patient_id BYTES (n); genes FP (n, G) or BYTES (n) of JSON; features FP
    (1, N, D) for one patient or BYTES (n) of JSON; covariates BYTES (n) of JSON."""
    columns: dict[str, list[Any]] = {}
    for tensor in query["inputs"]:
        if not isinstance(tensor, dict) or not {"name", "shape", "datatype", "data"} <= set(tensor):
            raise DataError("a tensor without name, shape, datatype and data", "the request", "see GET /v2/models/NAME")
        name = str(tensor["name"])
        if name not in ("patient_id", *_JSON_COLUMNS):
            mend = did_you_mean(name, ("patient_id", *_JSON_COLUMNS))
            raise DataError(f"unknown input {name!r}", "the request", mend)
        columns[name] = _values(tensor, name, genes)
    if "patient_id" not in columns:
        raise DataError("input patient_id is missing", "the request", "send patient_id, genes, features")
    count = len(columns["patient_id"])
    for name, values in columns.items():
        if len(values) != count:
            raise DataError(
                f"{len(values)} of {name} and {count} patients", "the request", "send one of each a patient"
            )
    return [{name: values[i] for name, values in columns.items()} for i in range(count)]


def _values(tensor: Mapping[str, Any], name: str, genes: Sequence[str]) -> list[Any]:
    shape, kind, data = tensor["shape"], str(tensor["datatype"]), tensor["data"]
    where = f"input {name}"
    if kind not in _KINDS:
        raise DataError(f"datatype {kind!r}", where, did_you_mean(kind, _KINDS))
    if (
        not isinstance(shape, list)
        or not all(isinstance(n, int) and n >= 0 for n in shape)
        or not isinstance(data, list)
    ):
        raise DataError("shape or data is no list", where, "send shape [n] and data as a list")
    flat = _flat(data)
    if len(flat) != math.prod(shape):
        raise DataError(f"{len(flat)} values and shape {shape}", where, "make them agree")
    if kind == "BYTES":
        return [_text(value, name, where) for value in flat]
    if name == "genes" and len(shape) == 2 and shape[1] == len(genes):
        rows = [flat[start : start + shape[1]] for start in range(0, len(flat), shape[1])]
        return [{gene: math.nan if v is None else v for gene, v in zip(genes, row, strict=True)} for row in rows]
    if name == "features" and len(shape) == 3 and shape[0] == 1:
        return [[flat[start : start + shape[2]] for start in range(0, len(flat), max(shape[2], 1))]]
    mend = "see GET /v2/models/NAME, or send JSON texts as BYTES"
    raise DataError(f"shape {shape} of {kind}", where, mend)


def _text(value: Any, name: str, where: str) -> Any:
    if not isinstance(value, str):
        raise DataError(f"{value!r} is no text", where, "BYTES are texts")
    if name not in _JSON_COLUMNS:
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise DataError(f"no JSON ({error})", where, 'send e.g. "{\\"ESR1\\": 2.5}"') from None


def _flat(data: list[Any]) -> list[Any]:
    """Nested or flat: the protocol allows both."""
    while data and isinstance(data[0], list):
        data = [value for part in data for value in (part if isinstance(part, list) else [part])]
    return data


def _frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    import pandas as pd

    return pd.DataFrame(list(rows))


def _answer(query: Mapping[str, Any], name: str, version: str, frame: Any) -> dict[str, Any]:
    """Each column as a tensor; a value that is not known is null."""
    outputs = []
    for column in frame.columns:
        values = [None if isinstance(v, float) and math.isnan(v) else v for v in frame[column].tolist()]
        kinds = {type(value) for value in values if value is not None}
        kind = "FP64" if kinds <= {float, int} else "BOOL" if kinds == {bool} else "BYTES"
        outputs.append({"name": str(column), "shape": [len(values)], "datatype": kind, "data": values})
    answer = {"model_name": name, "model_version": version, "outputs": outputs}
    return answer | ({"id": str(query["id"])} if "id" in query else {})
