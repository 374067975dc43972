"""Harrell's C-index, which the training records per epoch and the evaluation reports."""

import numpy as np

from mcti.arrays import BoolArray, FloatArray

TIED = 1e-8
"""Two risks closer than this count as tied, as in scikit-survival (`tied_tol`)."""
_ROWS = 512  # events per block: memory grows with the number of patients, not with its square


def harrell_c(
    event: BoolArray, time_months: FloatArray, risk: FloatArray, entry_months: FloatArray | None = None
) -> float:
    """Harrell's concordance index (C) of one set of patients. 1 best, 0.5 chance, below 0.5 reversed order.

    C = P(the patient with the earlier event has the higher risk), over the pairs i, j that can be ordered: i has the
    event and time_i < time_j, or both times are equal and j is censored at that time. Two events at one time cannot be
    ordered. A pair with risks within 1e-8 counts as half (Harrell, Lee and Mark 1996, Stat. Med. 15:361-387; the rules
    of scikit-survival's concordance_index_censored).

    With late entry, j must also be under observation at the event: entry_j < time_i (`orderable`).

    Trap: takes risks, not survival probabilities or times. event, time_months, risk, entry_months (n,). NaN where no
    pair can be ordered.
    """
    first = np.flatnonzero(event)
    concordant = pairs = 0.0
    for start in range(0, len(first), _ROWS):
        rows = first[start : start + _ROWS]
        weight = orderable(time_months[rows], time_months, event, entry_months)
        concordant += float((weight * order_scores(risk[rows], risk)).sum())
        pairs += float(weight.sum())
    return concordant / pairs if pairs else float("nan")


def orderable(
    event_months: FloatArray, time_months: FloatArray, event: BoolArray, entry_months: FloatArray | None = None
) -> FloatArray:
    """(a, n) 1 where the event of the row is known to precede the column's patient, otherwise 0.

    event_months (a,), time_months (n,) months;  event (n,)
    entry_months (n,)   entry under observation (left truncation), None: the origin. Patients with an early event are
                        in the table only if they entered before it, so the others must have done so too: a pair with a
                        later entry would favour patients who entered late
    """
    time: FloatArray = event_months[:, None]
    later = (time < time_months) | ((time == time_months) & ~event)
    if entry_months is not None:
        later &= entry_months < time
    return np.where(later, 1.0, 0.0)


def order_scores(first_risk: FloatArray, risk: FloatArray) -> FloatArray:
    """(a, n) 1 where the row's risk is the higher one, 0.5 at a tie, otherwise 0; risks (a,), (n,), no unit."""
    gap = first_risk[:, None] - risk
    return np.where(np.abs(gap) <= TIED, 0.5, (gap > 0).astype(np.float64))
