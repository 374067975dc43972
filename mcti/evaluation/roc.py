"""The receiver operating characteristic at a horizon, for patients who were tested in different folds."""

import numpy as np

from mcti.arrays import FloatArray
from mcti.evaluation.metrics import event_weights
from mcti.evaluation.outcomes import Outcomes


def curve_at(tested: Outcomes, risk: FloatArray, months: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """False positive rate, true positive rate and threshold, (k,) each, from (0, 0) at 0 to (1, 1) at 1.

    Cumulative cases (event by `months`), weighed 1/G(time-) with the training part's G, and dynamic controls (alive
    after `months`); whoever was censored before counts as neither (Heagerty, Lumley and Pepe 2000, Biometrics
    56:337-344; weights of Uno et al. 2007, JASA 102:527-537). Risks of different folds are not on one scale, so the
    **threshold is a share**: called are those with the highest risks of their own fold, up to that share of it. With
    one fold the area below is `metrics.auc_at`. Equal risks are called together. Empty without a case or a control.
    risk (m,), higher is worse.
    """
    share, case, control = np.ones(len(risk)), np.zeros(len(risk)), np.zeros(len(risk))
    for fold, part in tested.parts():
        ordered = np.sort(risk[part])
        share[part] = 1 - np.searchsorted(ordered, risk[part], side="left") / len(ordered)
        case[part] = event_weights(fold, fold.event & (fold.time_months <= months))
        control[part] = fold.time_months > months
    if not case.any() or not control.any():
        return np.empty(0), np.empty(0), np.empty(0)
    threshold = np.concatenate([[0.0], np.unique(share)])
    called = share[None] <= threshold[:, None]  # (k, m)
    return called @ control / control.sum(), called @ case / case.sum(), threshold
