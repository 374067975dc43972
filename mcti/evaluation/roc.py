"""The receiver operating characteristic (ROC) at a horizon, for patients who were tested in different folds."""

import numpy as np

from mcti.arrays import FloatArray
from mcti.evaluation.metrics import event_weights
from mcti.evaluation.outcomes import Outcomes


def curve_at(tested: Outcomes, risk: FloatArray, months: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """False positive rate, true positive rate and threshold, (k,) each, from (0, 0) at 0 to (1, 1) at 1.

    Cases are patients with the event by `months` (cumulative cases), weighted 1 / G(T-) with the censoring curve G of
    the training part. Controls are patients under observation after `months` (dynamic controls). A patient censored
    before `months` is neither (Heagerty, Lumley and Pepe 2000, Biometrics 56:337-344; weights of Uno et al. 2007, JASA
    102:527-537).

    Trap: risks of different folds are not on one scale. The threshold is therefore a share: a patient is positive when
    their risk is among the highest of their own fold, up to that share of the fold. Equal risks are positive together.
    With one fold the area under the curve equals `metrics.auc_at`.

    risk (m,), higher is worse. Three empty arrays where there is no case or no control.
    """
    share, case, control = np.ones(len(risk)), np.zeros(len(risk)), np.zeros(len(risk))
    for fold, part in tested.parts():
        ordered = np.sort(risk[part])
        share[part] = 1 - np.searchsorted(ordered, risk[part], side="left") / len(ordered)
        case[part] = event_weights(fold, fold.event & (fold.time_months <= months))
        control[part] = fold.followed_after(months)
    if not case.any() or not control.any():
        return np.empty(0), np.empty(0), np.empty(0)
    threshold = np.concatenate([[0.0], np.unique(share)])
    positive = share[None] <= threshold[:, None]  # (k, m)
    return positive @ control / control.sum(), positive @ case / case.sum(), threshold
