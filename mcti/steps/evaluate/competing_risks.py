"""The cumulative incidence of an evaluation, for a cohort with competing events."""

from collections.abc import Mapping

import pandas as pd

from mcti.arrays import FloatArray
from mcti.cohort import competing as competing_events
from mcti.cohort import left_truncation
from mcti.evaluation import competing_scores
from mcti.evaluation.competing import CompetingOutcomes
from mcti.evaluation.competing_scores import CompetingScores
from mcti.evaluation.design_matrix import Inputs
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.evaluation.risk_groups import RiskGroups
from mcti.params import EvaluateParams


def score(
    patients: pd.DataFrame,
    outcomes: Outcomes,
    models: Mapping[str, Predictions],
    inputs: Inputs,
    groups: RiskGroups,
    horizons: FloatArray,
    params: EvaluateParams,
) -> CompetingScores | None:
    """The scores of the cumulative incidence of every model; None without competing events or horizons (h,).

    patients    the cohort table, rows as in `outcomes` and `inputs`;  models: the evaluated one first

    Raises DataError for a cohort that also has entries under observation.
    """
    had_competing = competing_events.flags(patients)
    if not had_competing.any() or not len(horizons):
        return None
    left_truncation.check_no_competing_events(patients, "the cohort")
    tested = CompetingOutcomes.of(outcomes, had_competing)
    return competing_scores.score(tested, models, inputs, groups, horizons, params)
