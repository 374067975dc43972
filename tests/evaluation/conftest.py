"""Fixtures of this folder."""

import pytest

from mcti.evaluation.outcomes import Outcomes
from tests.evaluation.factories import make_folds, make_patients


@pytest.fixture
def tied() -> Outcomes:
    """150 patients with tied times, in five folds."""
    patients = make_patients(150, months=1)
    return Outcomes.from_folds(patients, make_folds(patients))
