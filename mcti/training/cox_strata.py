"""The linear score of the Cox branch over several cohorts of equal rank, stratified by cohort.

One half-whitened ridge fit, inputs standardised within each cohort, every patient with the same weight. The score is
multiplied by its cross-validated slope, as in mcti/training/cox_transfer.py.
"""

import logging
from collections.abc import Sequence

import numpy as np

from mcti.arrays import FloatArray, IntArray
from mcti.model import cox
from mcti.training.cox_design import HALF_WHITENED, Design, Scaled
from mcti.training.cox_inputs import Tables
from mcti.training.cox_transfer import PENALTIES, Part, Score, slope_of, strata_of

_log = logging.getLogger(__name__)


def fit_strata(tables: Tables, cohorts: Sequence[Part], seed: int, where: str = "") -> Score:
    """The score of the inputs of a pool, learned from comparisons of patients of one cohort alone.

    tables   of all patients of the pool, standardised together; its unit is then the spread within a cohort
    cohorts  the same patients by cohort, standardised within each
    seed     of the inner folds
    """
    scaled = [Scaled.fit(one.tables) for one in cohorts]
    design = Design.fit(scaled, HALF_WHITENED)
    strata = strata_of(design, scaled, cohorts)
    penalty = PENALTIES[HALF_WHITENED]
    beta = cox.stratified_coefficients(strata, penalty)
    slope = slope_of(_held_out(strata, beta, penalty, seed), cohorts)
    _log.info("%s: Cox model of %d cohorts, slope %.2f", where, len(cohorts), slope)
    ratios = {name: slope * values for name, values in design.ratios(beta, Scaled.fit(tables)).items()}
    return Score(ratios, {"slope": slope})


def _held_out(strata: Sequence[cox.Stratum], beta: FloatArray, penalty: float, seed: int) -> list[FloatArray]:
    """Scores of the patients of each cohort by fits without their inner fold."""
    folds: list[IntArray] = [cox.inner_folds(one.event, cox.INNER_FOLDS, seed) for one in strata]
    scores = [np.zeros(len(one.event)) for one in strata]
    for number in range(cox.INNER_FOLDS):
        kept = [one.rows(fold != number) for one, fold in zip(strata, folds, strict=True)]
        without = cox.stratified_coefficients(kept, penalty, beta)
        for one, fold, values in zip(strata, folds, scores, strict=True):
            values[fold == number] = one.rows(fold == number).score(without)
    return scores
