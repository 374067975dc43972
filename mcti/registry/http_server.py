"""The served model behind one port: MLflow's own endpoints, KServe's V2 protocol, and a limit before parsing.

`POST /invocations`, `GET /ping`, `/health`, `/version`   MLflow's scoring server, the very application that
                                                         `mlflow models serve` starts
`/v2/…`                                                  the Open Inference Protocol: health, metadata, infer
A body above the limits is refused before a byte of it is parsed; `mlflow models serve` alone reads it first.
"""

import asyncio
import json
import math
import re
import reprlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcti.errors import DataError, MctiError, did_you_mean
from mcti.registry import ensemble, models

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_JSON_COLUMNS = ("genes", "features", "covariates")
_KINDS = {"BYTES": str, "FP64": float, "FP32": float, "INT64": int, "INT32": int}

# Most clients read no answer before they have sent their whole body: closed earlier, the connection breaks under them
# and the reason is lost. So this many times the limit is read and thrown away; a still larger body is cut off.
_THROWN_AWAY = 16

# A parsed number takes 32 bytes, a list 64 and more: a body of `[],[],` grows to thirty times its size. One of digits
# has a comma every ten bytes and a row every few hundred; what is denser than this at the limit of size is refused.
_BYTES_A_NUMBER, _BYTES_A_LIST = 8, 64


class BodyLimit:
    """ASGI middleware: refuses a body before anybody parses it.

    400  more than `most` bytes, or more numbers or lists than so many bytes of features have;  415  no JSON
    408  the body does not arrive within `seconds`;  503  the bodies of all requests at work are more than `most` bytes
    """

    def __init__(self, app: Any, most: int, seconds: float) -> None:
        self.app, self.most, self.seconds = app, most, seconds
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Keep at most the limit, then hand on what was read."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = bytearray()
        try:
            async with asyncio.timeout(self.seconds):
                status, text = await self._read(scope, receive, body)
        except TimeoutError:
            status, text = 408, f"the request did not arrive within {self.seconds:g} seconds"
        size, whole = len(body), [{"type": "http.request", "body": bytes(body), "more_body": False}]
        body.clear()  # or the request lies in memory twice while it is at work

        async def replay() -> dict[str, Any]:
            return whole.pop() if whole else await receive()

        try:
            await (_refuse(send, status, text) if status else self.app(scope, replay, send))
        finally:
            self.held -= size

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> tuple[int, str]:
        """Fill `body`; the status and reason of a refusal, or 0."""
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        # A chunked body declares no length, so what arrives is counted as well.
        arrived, more, refusal = 0, True, self._too_large(int(declared) if declared.isdigit() else 0)
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return 400, "the client hung up"
            part, more = message.get("body", b""), message.get("more_body", False)
            arrived += len(part)
            refusal = refusal if refusal[0] else self._too_large(arrived) if arrived > self.most else self._busy(part)
            if not refusal[0]:
                body += part
                self.held += len(part)
                continue
            self.held -= len(body)
            body.clear()  # at once: of many that come together the last one finds room
            if arrived > _THROWN_AWAY * self.most:
                break
        return refusal if refusal[0] else self._unreadable(scope, headers, body)

    def _too_large(self, size: int) -> tuple[int, str]:
        text = f"the request is larger than {self.most} bytes: send fewer patients or patches at a time"
        return (400, text) if size > self.most else (0, "")

    def _busy(self, part: bytes) -> tuple[int, str]:
        # One request may always come, whatever its size; only beside others it may have to wait.
        return (503, "other requests fill the memory: try again") if self.held + len(part) > self.most else (0, "")

    def _unreadable(self, scope: Scope, headers: Mapping[bytes, bytes], body: bytearray) -> tuple[int, str]:
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().decode("latin-1")
        # A table in Parquet unpacks to any size; one in CSV has no place for genes and features.
        if scope["path"] == "/invocations" and scope["method"] == "POST" and kind != "application/json":
            return 415, f"content-type is {kind or 'missing'}: send application/json"
        numbers, lists = body.count(b","), body.count(b"[") + body.count(b"{")
        if numbers > self.most // _BYTES_A_NUMBER or lists > self.most // _BYTES_A_LIST:
            return 400, f"{numbers} numbers in {lists} lists: send fewer patches at a time, or features as base64"
        return 0, ""


async def _refuse(send: Send, status: int, text: str) -> None:
    body = json.dumps(_told(text)).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def app(model: str, scratch: Path, most_bytes: int, seconds: float) -> Any:
    """The ASGI application for a model of the registry, or for a folder that MLflow saved; limits as in `BodyLimit`.

    Raises
        DataError: there is no model, or it is not one of ours.
        OperationalError: the registry does not answer.
    """
    import mlflow
    from mlflow.pyfunc import scoring_server

    folder = models.fetch(model, scratch)
    root = folder.parents[1] if folder.name == "ensemble" and folder.parent.name == "artifacts" else folder
    if not (root / "MLmodel").exists():
        raise DataError("no MLmodel file", model, "serve models:/NAME@ALIAS; folds become one by `mcti register`")
    # What lies in the registry besides the weights is code: whoever may write the bucket could have it run here. So the
    # weights, held against their digest, are served by the code of this installation.
    models.save(folder, scratch / "own")
    loaded = mlflow.pyfunc.load_model(str(scratch / "own"))
    made = scoring_server.init(loaded)
    _put_invocations(made, loaded)
    _add_v2(made, loaded, model)
    made.add_exception_handler(RecursionError, _too_deep)
    return BodyLimit(made, most_bytes, seconds)


async def _too_deep(*_: object) -> Any:
    from fastapi.responses import JSONResponse

    text = "lists within lists within lists, too deep to be read: send rows of numbers"
    return JSONResponse(_told(text), status_code=400)


def _put_invocations(made: Any, loaded: Any) -> None:
    """MLflow's own scoring, to which we hand the parsed body: its parser repeats a broken one in the answer, whole."""
    from fastapi.responses import JSONResponse
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc.scoring_server import invocations as score
    from starlette.requests import Request
    from starlette.responses import Response

    schema = loaded.metadata.get_input_schema()
    known = [param.name for param in loaded.metadata.get_params_schema().params]

    async def invocations(request: Request) -> Any:
        def answer(body: bytes) -> Any:
            found = score(_checked(_parsed(body), known), request.headers["content-type"], loaded, schema)
            return Response(found.response, found.status, media_type=found.mimetype)

        try:
            return await asyncio.to_thread(answer, await request.body())
        except MctiError as error:
            return JSONResponse(_told(str(error)), status_code=400)
        except MlflowException as error:
            return JSONResponse(_told(_reason(error), error.error_code), error.get_http_status_code())

    made.router.routes[:] = [route for route in made.router.routes if route.path != "/invocations"]
    made.add_route("/invocations", invocations, methods=["POST"])


def _reason(error: Any) -> str:
    """MLflow's word alone: where it refuses the table itself, it writes the table before the reason, ids and all."""
    return re.sub(r"(?s)Failed to (predict|enforce schema of) data '.*'\. \n?Error: ", "", str(error.message))


def _told(text: str, code: str = "BAD_REQUEST") -> dict[str, str]:
    """The body of a refusal, with the words of MLflow's and of V2's clients."""
    return {"error": text, "error_code": code, "message": text}


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
        def answer(body: bytes) -> dict[str, Any]:
            query = _object(body)
            kinds = ensemble.outputs(served.horizons_months)
            return _answer(query, name, version, loaded.predict(_frame(_rows(query, served.genes))), kinds)

        try:
            # A thread, parsing included: the event loop goes on answering whether the server is alive.
            return JSONResponse(await asyncio.to_thread(answer, await request.body()))
        except MctiError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        except MlflowException as error:
            return JSONResponse({"error": _reason(error)}, status_code=error.get_http_status_code())

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
    kinds = ensemble.outputs(served.horizons_months)
    outputs = [{"name": name, "datatype": _DATATYPES[kind], "shape": [-1]} for name, kind in kinds.items()]
    return {"name": name, "versions": [version], "platform": "mcti", "inputs": inputs, "outputs": outputs}


_DATATYPES = {"text": "BYTES", "number": "FP64", "count": "INT64", "flag": "BOOL"}


def _parsed(body: bytes) -> dict[str, Any]:
    hint = "send an object as docs/serving.md has it"
    try:
        query = json.loads(body)
    except UnicodeDecodeError as error:  # its own words repeat the body
        raise DataError(f"byte {error.start} of the body is not UTF-8", "the request", hint) from None
    except ValueError as error:
        raise DataError(f"the body is not JSON ({error})", "the request", hint) from None
    if not isinstance(query, dict):
        raise DataError("the body is no JSON object", "the request", hint)
    return query


_TABLES = ("dataframe_records", "dataframe_split", "instances", "inputs")
"""The keys under which MLflow's scoring server takes a table."""


def _checked(query: dict[str, Any], params: Sequence[str]) -> dict[str, Any]:
    """The query of /invocations, when its top level is what the server reads: in our words, not in MLflow's.

    Raises
        DataError: an unknown key or parameter, no table or two, a table that is no list of objects.
    """
    for key in query:
        if key not in (*_TABLES, "params"):
            raise DataError(f"unknown key {reprlib.repr(key)}", "the request", did_you_mean(key, (*_TABLES, "params")))
    tables = [key for key in _TABLES if key in query]
    if len(tables) != 1:
        hint = 'send {"dataframe_records": [{"patient_id": …, "genes": …, "features": …}]}'
        raise DataError(f"{len(tables)} tables ({', '.join(tables) or 'none'})", "the request", hint)
    records = query.get("dataframe_records", [])
    if not isinstance(records, list) or not all(isinstance(row, dict) for row in records):
        raise DataError("dataframe_records is no list of objects", "the request", "send one object a patient")
    given = query.get("params") or {}
    if not isinstance(given, dict):
        raise DataError("params is no object", "the request", f"send {{name: value}} of {', '.join(params)}")
    for key in given:
        if key not in params:
            raise DataError(f"unknown parameter {reprlib.repr(key)}", "the request", did_you_mean(key, params))
    return query


def _object(body: bytes) -> dict[str, Any]:
    query = _parsed(body)
    if not isinstance(query.get("inputs"), list):
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
            hint = did_you_mean(name, ("patient_id", *_JSON_COLUMNS))
            raise DataError(f"unknown input {name!r}", "the request", hint)
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
        or not all(type(n) is int and n >= 0 for n in shape)  # True is an int, too
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
        return [_table(flat, shape[1:], where)]
    hint = "see GET /v2/models/NAME, or send JSON texts as BYTES"
    raise DataError(f"shape {shape} of {kind}", where, hint)


def _table(flat: list[Any], shape: list[int], where: str) -> Any:
    """(N, D): as an array, since ten million rows as lists would take half a minute and a gigabyte."""
    import numpy as np

    try:
        return np.array(flat).reshape(shape)
    except ValueError:
        raise DataError("features are no table of numbers", where, "send N times D numbers") from None


def _text(value: Any, name: str, where: str) -> Any:
    if not isinstance(value, str):
        raise DataError(f"{reprlib.repr(value)} is no text", where, "BYTES are texts")
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


def _answer(query: Mapping[str, Any], name: str, version: str, frame: Any, kinds: Mapping[str, str]) -> dict[str, Any]:
    """Each column as a tensor of the type that the metadata state; a value that is not known is null."""
    outputs = []
    for column in frame.columns:
        values = [None if isinstance(v, float) and math.isnan(v) else v for v in frame[column].tolist()]
        kind = _DATATYPES[kinds[str(column)]]
        outputs.append({"name": str(column), "shape": [len(values)], "datatype": kind, "data": values})
    answer = {"model_name": name, "model_version": version, "outputs": outputs}
    return answer | ({"id": str(query["id"])} if "id" in query else {})
