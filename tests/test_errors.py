"""Errors: one line a person can act on, one object a program can read."""

import subprocess
import sys

import pytest

from mcti.errors import (
    DataError,
    NotEnoughEvidence,
    OperationalError,
    Rejected,
    UsageError,
    did_you_mean,
    service_hint,
)


def test_an_error_is_one_line_with_what_where_and_hint():
    error = DataError("time_months is '12y',\n not a number", "clinical.csv, row 17", "write months")
    assert str(error) == "time_months is '12y', not a number in clinical.csv, row 17: write months"
    assert error.as_dict() == {
        "code": "data",
        "message": "time_months is '12y', not a number",
        "where": "clinical.csv, row 17",
        "hint": "write months",
    }


def test_an_error_without_where_and_hint_has_no_stray_punctuation():
    assert str(DataError("empty")) == "empty"


@pytest.mark.parametrize(
    ("error_class", "code"),
    [(UsageError, 2), (DataError, 3), (OperationalError, 4), (Rejected, 10), (NotEnoughEvidence, 11)],
)
def test_the_exit_codes_are_those_of_the_documentation(error_class, code):
    assert error_class("x").exit_code == code


def test_a_near_miss_is_suggested_whatever_its_case():
    assert did_you_mean("Time_Month", ["event", "time_months"]) == "did you mean time_months?"


def test_a_far_miss_lists_what_is_known():
    assert did_you_mean("zzz", ["age", "event"]) == "known: age, event"
    assert did_you_mean("zzz", []) == "none is known"


def test_a_warning_of_ours_is_one_line_and_one_of_a_library_keeps_its_place():
    code = """
import warnings
from mcti.errors import format_own_warnings
from mcti.training.checkpoints import CorruptCheckpoint
format_own_warnings()
warnings.warn("step 3 is corrupt", CorruptCheckpoint)
warnings.warn("old", FutureWarning)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[:2] == ["warning: step 3 is corrupt", "<string>:7: FutureWarning: old"]


def test_an_error_of_a_patient_names_them_once_and_stays_of_its_kind():
    error = DataError("a bag without a patch", "the bag", "drop the slide")
    named = error.with_patient("P-7")
    assert str(named) == "a bag without a patch in the bag, patient P-7: drop the slide"
    assert type(named) is DataError
    assert str(named.with_patient("P-7")) == str(named)
    assert str(DataError("none").with_patient("P-7")) == "none in patient P-7"


@pytest.mark.parametrize(
    ("address", "in_pod", "stack"),
    [
        ("", False, True),
        ("http://127.0.0.1:5000", False, True),
        ("http://localhost:5000", False, True),
        ("https://mlflow.example", False, False),
        ("http://mlflow.mcti:5000", True, False),
        ("", True, False),
    ],
)
def test_the_stack_is_advised_on_its_own_machine_alone(monkeypatch, address, in_pod, stack):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1" if in_pod else "")
    hint = service_hint("MLFLOW_TRACKING_URI")
    assert ("mcti stack up" in hint) is stack
    assert "MLFLOW_TRACKING_URI" in hint
