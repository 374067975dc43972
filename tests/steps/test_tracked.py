"""Steps that create no run of their own are logged in MLflow below the run of their pipeline (pipeline_run.py)."""

import importlib
import inspect

import pytest


# validate, search, register and monitor create their own runs.
@pytest.mark.parametrize(
    ("module", "name"),
    [
        *((name, name) for name in ("ingest", "extract", "split", "train")),
        *((f"{name}.step", name) for name in ("evaluate", "promote", "predict", "explain")),
    ],
)
def test_the_step_is_tracked(module, name):
    step = getattr(importlib.import_module(f"mcti.steps.{module}"), name)
    assert inspect.isfunction(step)
    assert inspect.unwrap(step) is not step
