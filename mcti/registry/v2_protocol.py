"""The Open Inference Protocol (KServe V2) over HTTP: health, metadata and inference."""

import asyncio
import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mcti.errors import DataError, MctiError, did_you_mean
from mcti.registry import prediction_columns
from mcti.registry.ensemble import Ensemble
from mcti.registry.http_errors import mlflow_reason

if TYPE_CHECKING:
    import pandas as pd

_JSON_INPUTS = ("genes", "features", "covariates")
_INPUTS = ("patient_id", *_JSON_INPUTS)
_INPUT_DATATYPES = ("BYTES", "FP64", "FP32", "INT64", "INT32")
_OUTPUT_DATATYPES = {"text": "BYTES", "number": "FP64", "count": "INT64", "flag": "BOOL"}


def add_routes(app: Any, loaded: Any, address: str) -> None:
    """Add the endpoints below /v2 to a FastAPI application.

    loaded   the model as `mlflow.pyfunc` loaded it
    address  models:/NAME@ALIAS or models:/NAME/VERSION, whose name the protocol uses; `mcti` for any other address
    """
    served = loaded.unwrap_python_model().ensemble
    registered = address.removeprefix("models:/") if address.startswith("models:/") else "mcti"
    name = registered.partition("@")[0].partition("/")[0]
    version = served.digest[:12]
    metadata = model_metadata(name, version, served)
    infer = _infer_endpoint(loaded, served, name, version)
    model, model_version = f"/v2/models/{name}", f"/v2/models/{name}/versions/{version}"
    for path, response in {
        "/v2": {"name": "mcti", "version": version, "extensions": []},
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        model: metadata,
        f"{model}/ready": {"ready": True},
        model_version: metadata,
        f"{model_version}/ready": {"ready": True},
    }.items():
        app.add_api_route(path, _constant(response), methods=["GET"])
    for path in (f"{model}/infer", f"{model_version}/infer"):
        app.add_route(path, infer, methods=["POST"])


def _constant(response: dict[str, Any]) -> Any:
    def endpoint() -> dict[str, Any]:
        return response

    return endpoint


def _infer_endpoint(loaded: Any, served: Ensemble, name: str, version: str) -> Any:
    from fastapi.responses import JSONResponse
    from mlflow.exceptions import MlflowException
    from starlette.requests import Request

    types = prediction_columns.column_types(served.horizons_months, competing=served.competing)

    async def infer(request: Request) -> Any:
        def respond(body: bytes) -> dict[str, Any]:
            query = _inference_request(body)
            return _response(query, name, version, loaded.predict(_table(_rows(query, served.genes))), types)

        try:
            # In a thread, parsing included: the event loop continues to serve the health endpoints.
            return JSONResponse(await asyncio.to_thread(respond, await request.body()))
        except MctiError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        except MlflowException as error:
            return JSONResponse({"error": mlflow_reason(error)}, status_code=error.get_http_status_code())

    return infer


def model_metadata(name: str, version: str, served: Ensemble) -> dict[str, Any]:
    """The model metadata of the protocol: names, datatypes and shapes of all inputs and outputs."""
    inputs = [
        {"name": "patient_id", "datatype": "BYTES", "shape": [-1]},
        {"name": "genes", "datatype": "FP64", "shape": [-1, len(served.genes)], "parameters": {"order": served.genes}},
        {"name": "features", "datatype": "FP32", "shape": [1, -1, served.features]},
    ]
    if served.covariates:
        covariates: dict[str, Any] = {"name": "covariates", "datatype": "BYTES", "shape": [-1]}
        if served.levels:
            covariates["parameters"] = {"levels": {name: list(levels) for name, levels in served.levels.items()}}
        inputs.append(covariates)
    types = prediction_columns.column_types(served.horizons_months, competing=served.competing)
    outputs = [
        {"name": column, "datatype": _OUTPUT_DATATYPES[column_type], "shape": [-1]}
        for column, column_type in types.items()
    ]
    return {"name": name, "versions": [version], "platform": "mcti", "inputs": inputs, "outputs": outputs}


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a request.

    Raises DataError when the body is not UTF-8, not JSON, or not an object; the message does not repeat the body.
    """
    hint = "send an object as described in docs/serving.md"
    try:
        query = json.loads(body)
    except UnicodeDecodeError as error:  # the text of this error contains the body
        raise DataError(f"byte {error.start} of the body is not UTF-8", "the request", hint) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"the body is not JSON ({error})", "the request", hint) from None
    if not isinstance(query, dict):
        raise DataError("the body is not a JSON object", "the request", hint)
    return query


def _inference_request(body: bytes) -> dict[str, Any]:
    query = parse_object(body)
    if not isinstance(query.get("inputs"), list):
        raise DataError("no list `inputs`", "the request", "send an inference request of the V2 protocol")
    return query


def _rows(query: Mapping[str, Any], genes: Sequence[str]) -> list[dict[str, Any]]:
    """One row per patient from the tensors of a request.

    patient_id BYTES (n);  genes FP (n, G), or BYTES (n) of JSON;  features FP (1, N, D) of one patient, or BYTES (n) of
    JSON;  covariates BYTES (n) of JSON
    """
    columns: dict[str, list[Any]] = {}
    for tensor in query["inputs"]:
        if not isinstance(tensor, dict) or not {"name", "shape", "datatype", "data"} <= set(tensor):
            raise DataError("a tensor without name, shape, datatype and data", "the request", "see GET /v2/models/NAME")
        name = str(tensor["name"])
        if name not in _INPUTS:
            raise DataError(f"unknown input {name!r}", "the request", did_you_mean(name, _INPUTS))
        columns[name] = _values(tensor, name, genes)
    if "patient_id" not in columns:
        raise DataError("input patient_id is missing", "the request", "send patient_id, genes, features")
    count = len(columns["patient_id"])
    for name, values in columns.items():
        if len(values) != count:
            what = f"{len(values)} values of {name} for {count} patients"
            raise DataError(what, "the request", "send one value per patient")
    return [{name: values[i] for name, values in columns.items()} for i in range(count)]


def _values(tensor: Mapping[str, Any], name: str, genes: Sequence[str]) -> list[Any]:
    """The values of one tensor, one per patient."""
    where, datatype = f"input {name}", str(tensor["datatype"])
    shape, flat = _checked_tensor(tensor, datatype, where)
    if datatype == "BYTES":
        return [_decode(value, name, where) for value in flat]
    if name == "genes" and len(shape) == 2 and shape[1] == len(genes):
        rows = [flat[start : start + shape[1]] for start in range(0, len(flat), shape[1])]
        return [{gene: math.nan if v is None else v for gene, v in zip(genes, row, strict=True)} for row in rows]
    if name == "features" and len(shape) == 3 and shape[0] == 1:
        return [_feature_array(flat, shape[1:], where)]
    hint = "see GET /v2/models/NAME, or send JSON texts as BYTES"
    raise DataError(f"shape {shape} of {datatype}", where, hint)


def _checked_tensor(tensor: Mapping[str, Any], datatype: str, where: str) -> tuple[list[int], list[Any]]:
    """Shape and flat data of a tensor."""
    shape, data = tensor["shape"], tensor["data"]
    if datatype not in _INPUT_DATATYPES:
        raise DataError(f"datatype {datatype!r}", where, did_you_mean(datatype, _INPUT_DATATYPES))
    # `type is int`: True is an instance of int.
    is_shape = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if not is_shape or not isinstance(data, list):
        raise DataError("shape or data is not a list", where, "send shape [n] and data as a list")
    flat = _flatten(data)
    if len(flat) != math.prod(shape):
        raise DataError(f"{len(flat)} values and shape {shape}", where, "send the number of values of the shape")
    return shape, flat


def _feature_array(flat: list[Any], shape: list[int], where: str) -> Any:
    """(N, D) as an array: ten million rows as lists would take half a minute and a gigabyte."""
    import numpy as np

    try:
        return np.array(flat).reshape(shape)
    except ValueError:
        raise DataError("features are not a table of numbers", where, "send N times D numbers") from None


def _decode(value: Any, name: str, where: str) -> Any:
    """A value of BYTES: the text of patient_id, the parsed JSON of any other input."""
    if not isinstance(value, str):
        raise DataError(f"{reprlib.repr(value)} is not a text", where, "send texts as BYTES")
    if name not in _JSON_INPUTS:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error})", where, 'send, for example, "{\\"ESR1\\": 2.5}"') from None


def _flatten(data: list[Any]) -> list[Any]:
    """The protocol allows nested and flat data."""
    while data and isinstance(data[0], list):
        data = [value for part in data for value in (part if isinstance(part, list) else [part])]
    return data


def _table(rows: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(list(rows))


def _response(
    query: Mapping[str, Any], name: str, version: str, frame: "pd.DataFrame", types: Mapping[str, str]
) -> dict[str, Any]:
    """Each column as a tensor of the datatype in the metadata; an unknown value is null."""
    outputs = []
    for column in frame.columns:
        values = [None if isinstance(v, float) and math.isnan(v) else v for v in frame[column].tolist()]
        datatype = _OUTPUT_DATATYPES[types[str(column)]]
        outputs.append({"name": str(column), "shape": [len(values)], "datatype": datatype, "data": values})
    response = {"model_name": name, "model_version": version, "outputs": outputs}
    return response | ({"id": str(query["id"])} if "id" in query else {})
