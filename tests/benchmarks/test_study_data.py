"""Folds of a cohort of the study."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.study_data import assign_folds
from mcti.errors import DataError


def _table(sites: int, patients: int = 60) -> pd.DataFrame:
    rows = np.arange(patients)
    return pd.DataFrame({"site": [f"S{row % sites}" for row in rows], "event": rows // sites % 2, "subtype": "LUAD"})


@pytest.mark.parametrize(("sites", "expected"), [(3, 3), (5, 5), (12, 5)])
def test_folds_by_site_are_no_more_than_the_sites(sites: int, expected: int) -> None:
    table = _table(sites)
    parts = assign_folds(table, "site", folds=5, repeats=2)
    assert [part.fold for part in parts] == [*range(2 * expected)]
    for part in parts:
        assert set(table["site"].iloc[part.train]).isdisjoint(table["site"].iloc[part.test])
        assert sorted([*part.train, *part.test]) == list(range(60))
    assert sorted(row for part in parts[:expected] for row in part.test) == list(range(60))


def test_random_folds_need_no_sites() -> None:
    assert len(assign_folds(_table(1), "random", folds=5, repeats=1)) == 5


def test_folds_by_site_need_two_sites() -> None:
    with pytest.raises(DataError, match="one site"):
        assign_folds(_table(1), "site", folds=5, repeats=1)
