"""Steps that log no run of their own are noted in MLflow below the run of their pipeline (registry/pipeline_run.py)."""

import importlib
import inspect

import pytest


@pytest.mark.parametrize(
    "name", ["ingest", "extract", "split", "train", "evaluate", "promote", "predict", "explain"]
)  # validate, search, register and monitor open their own
def test_the_step_itself_is_noted(name):
    step = getattr(importlib.import_module(f"mcti.steps.{name}"), name)
    assert inspect.isfunction(step)
    assert inspect.unwrap(step) is not step
