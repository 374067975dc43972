"""Bodies of error responses: one message, readable by clients of MLflow and of the V2 protocol."""

import re
from typing import Any


def error_body(message: str, code: str = "BAD_REQUEST") -> dict[str, str]:
    """The JSON body of a refused request, with the keys that MLflow's and V2's clients read."""
    return {"error": message, "error_code": code, "message": message}


def mlflow_reason(error: Any) -> str:
    """The reason of an MlflowException without the table, ids included, that MLflow writes before it."""
    return re.sub(r"(?s)Failed to (predict|enforce schema of) data '.*'\. \n?Error: ", "", str(error.message))
