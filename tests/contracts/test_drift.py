"""Drift between two data versions."""

import numpy as np
import pandas as pd
import pytest

from mcti.contracts import drift
from mcti.errors import DataError


def test_the_stability_index_agrees_with_a_manual_calculation():
    """Shares 0.5, 0.5 against 0.8, 0.2: 0.3 ln(1.6) - 0.3 ln(0.4) = 0.4159."""
    before, after = drift.ColumnProfile(shares={"a": 0.5, "b": 0.5}), drift.ColumnProfile(shares={"a": 0.8, "b": 0.2})
    assert drift._stability_index(before, after) == pytest.approx(0.3 * np.log(1.6) - 0.3 * np.log(0.4), abs=1e-4)


def test_a_column_is_summarised_by_its_classes_or_deciles():
    patients = pd.DataFrame({"patient_id": ["a", "b"], "site": ["x", None], "age": [50.0, 50.0]})
    genes = pd.DataFrame({"gene": ["G", "H"], "mean": [1.0, np.nan], "sd": [2.0, np.nan]})
    profile = drift.profile(patients, genes, {"patients": 2.0}, "0" * 32)
    assert profile.columns["site"].shares == {"missing": 0.5, "x": 0.5}
    assert profile.columns["age"].shares == {"50": 1.0}
    assert profile.genes == {"G": (1.0, 2.0)}  # a gene without values is left out


def test_a_file_that_is_no_profile_is_refused(tmp_path):
    (tmp_path / "profile.json").write_text("{}")
    with pytest.raises(DataError, match="not a profile of a data version"):
        drift.read(tmp_path / "profile.json")
