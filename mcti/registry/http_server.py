"""The served model on one port: MLflow's endpoints, KServe's V2 protocol, and a limit on each request.

`POST /invocations`, `GET /ping`, `/health`, `/version`   MLflow's scoring server, the application that
                                                         `mlflow models serve` starts
`/v2/…`                                                  the Open Inference Protocol (v2_protocol.py)
A request above the limits is refused before its body is parsed (request_limit.py).
"""

import asyncio
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcti.errors import DataError, MctiError, did_you_mean
from mcti.registry import ensemble_index, models, v2_protocol
from mcti.registry.http_errors import error_body, mlflow_reason
from mcti.registry.request_limit import BodyLimit

_TABLES = ("dataframe_records", "dataframe_split", "instances", "inputs")
"""The keys under which MLflow's scoring server accepts a table."""


def create_app(folder: Path, model: str, scratch: Path, max_bytes: int, seconds: float) -> Any:
    """The ASGI application for the ensemble in `folder`: of the registry, a bundle, or a folder that MLflow saved.

    folder              as `models.fetch` returns it;  model: its name in the responses
    max_bytes, seconds  limits of one request as in `BodyLimit`

    Raises
    DataError when it was not made by `mcti register`.
    """
    import mlflow
    from mlflow.pyfunc import scoring_server

    root = folder.parents[1] if folder.name == "ensemble" and folder.parent.name == "artifacts" else folder
    if not (root / "MLmodel").exists() and not (folder / ensemble_index.INDEX).exists():
        hint = "serve models:/NAME@ALIAS; `mcti register` makes a model from folds"
        raise DataError("no MLmodel file", model, hint)
    # The registry also stores code. A user with write access to the bucket could have it executed here. Therefore the
    # weights, checked against their digest, are served by the code of this installation.
    models.save(folder, scratch / "own")
    loaded = mlflow.pyfunc.load_model(str(scratch / "own"))
    app = scoring_server.init(loaded)
    _replace_invocations(app, loaded)
    v2_protocol.add_routes(app, loaded, model)
    app.add_exception_handler(RecursionError, _refuse_deep_nesting)
    return BodyLimit(app, max_bytes, seconds)


async def _refuse_deep_nesting(*_: object) -> Any:
    from fastapi.responses import JSONResponse

    message = "the lists are nested too deeply: send rows of numbers"
    return JSONResponse(error_body(message), status_code=400)


def _replace_invocations(app: Any, loaded: Any) -> None:
    """MLflow's scoring with our own parser: MLflow's repeats the whole body of an invalid request in its response."""
    from fastapi.responses import JSONResponse
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc.scoring_server import invocations as score
    from starlette.requests import Request
    from starlette.responses import Response

    schema = loaded.metadata.get_input_schema()
    parameters = [param.name for param in loaded.metadata.get_params_schema().params]

    async def invocations(request: Request) -> Any:
        def respond(body: bytes) -> Any:
            query = _checked(v2_protocol.parse_object(body), parameters)
            result = score(query, request.headers["content-type"], loaded, schema)
            return Response(result.response, result.status, media_type=result.mimetype)

        try:
            return await asyncio.to_thread(respond, await request.body())
        except MctiError as error:
            return JSONResponse(error_body(str(error)), status_code=400)
        except MlflowException as error:
            return JSONResponse(error_body(mlflow_reason(error), error.error_code), error.get_http_status_code())

    app.router.routes[:] = [route for route in app.router.routes if route.path != "/invocations"]
    app.add_route("/invocations", invocations, methods=["POST"])


def _checked(query: dict[str, Any], parameters: Sequence[str]) -> dict[str, Any]:
    """The query of /invocations if its top level is valid; the messages come from mcti, not from MLflow.

    Raises DataError for an unknown key or parameter, for no table or several, and for a table that is not a list of
    objects.
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
        raise DataError("dataframe_records is not a list of objects", "the request", "send one object per patient")
    _check_parameters(query.get("params") or {}, parameters)
    return query


def _check_parameters(params: Any, parameters: Sequence[str]) -> None:
    if not isinstance(params, dict):
        raise DataError("params is not an object", "the request", f"send {{name: value}} of {', '.join(parameters)}")
    for key in params:
        if key not in parameters:
            raise DataError(f"unknown parameter {reprlib.repr(key)}", "the request", did_you_mean(key, parameters))
