"""The numbers of an evaluation report from its CSV files alone: plain loops, pandas, SciPy and lifelines.

Nothing of `mcti` is imported. `rows` is a predictions table (patient_id, fold, risk, S_<months>, time_months, event)
joined with the clinical columns; `trained` is {fold: (time_months, event)} of the training part of each fold.
"""

import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from scipy import optimize, stats

Trained = dict[int, tuple[np.ndarray, np.ndarray]]


def training_parts(folds: pd.DataFrame, clinical: pd.DataFrame) -> Trained:
    """Follow-up of the training part of each fold from folds.csv and the clinical table."""
    outcome = clinical.set_index("patient_id")[["time_months", "event"]].apply(pd.to_numeric)
    parts = folds[folds["role"] == "train"].groupby("fold")["patient_id"]
    return {int(k): tuple(outcome.loc[ids].to_numpy(dtype=float).T) for k, ids in parts}


def censoring(time: np.ndarray, event: np.ndarray, months: float, *, before: bool = False) -> float:
    """G at `months` (`before`: just before), one factor per censoring time; events at that time have left before."""
    value = 1.0
    for u in np.unique(time[event == 0]):
        if u < months or (u == months and not before):
            gone = np.sum((time == u) & (event == 0))
            value *= 1 - gone / (np.sum(time > u) + gone)
    return value


def pair_mean(rows: pd.DataFrame, trained: Trained, metric: str, months: float = 0.0, tau: float = 0.8) -> float:
    """Harrell's C, C within subtype, Uno's C (each over the pairs of one fold) or AUC at `months`."""
    right = total = 0.0
    for fold, part in rows.groupby("fold"):
        time, event, risk = (part[name].to_numpy(dtype=float) for name in ("time_months", "event", "risk"))
        train_time, train_event = trained[int(fold)]
        limit = np.quantile(train_time, tau)
        for i in np.flatnonzero(event == 1):
            if (metric == "uno" and time[i] >= limit) or (metric == "auc" and time[i] > months):
                continue
            weight = 1.0 if metric in ("harrell", "subtype") else 1 / censoring(train_time, train_event, time[i],
                                                                              before=True)  # fmt: skip
            weight = weight**2 if metric == "uno" else weight
            for j in range(len(part)):
                if metric == "subtype" and part["subtype"].iloc[i] != part["subtype"].iloc[j]:
                    continue
                later = time[j] > months if metric == "auc" else (
                    time[i] < time[j] or (time[i] == time[j] and event[j] == 0))  # fmt: skip
                if later:
                    right += weight * (0.5 if risk[i] == risk[j] else float(risk[i] > risk[j]))
                    total += weight
    return right / total


def status(rows: pd.DataFrame, trained: Trained, months: float) -> tuple[np.ndarray, np.ndarray]:
    """Event by `months` of each row and its weight: 1/G(T-), 1/G(months), or 0 if censored before."""
    had, weight = np.zeros(len(rows)), np.zeros(len(rows))
    for position, row in enumerate(rows.itertuples()):
        time, event = trained[int(row.fold)]
        if row.time_months > months:
            weight[position] = 1 / censoring(time, event, months)
        elif row.event:
            had[position], weight[position] = 1, 1 / censoring(time, event, row.time_months, before=True)
    return had, weight


def brier(rows: pd.DataFrame, trained: Trained, months: float, survival: np.ndarray | None = None) -> float:
    """Brier score of S(months), or of `survival`."""
    had, weight = status(rows, trained, months)
    predicted = rows[f"S_{months:g}"].to_numpy() if survival is None else survival
    return float(np.mean(weight * np.where(had == 1, predicted, 1 - predicted) ** 2))


def integrated(values: list[float], horizons: list[float]) -> float:
    """Mean over time by the trapezoidal rule."""
    if len(horizons) == 1:
        return values[0]
    areas = [(b - a) * (u + v) / 2 for a, b, u, v in zip(horizons, horizons[1:], values, values[1:], strict=False)]
    return sum(areas) / (horizons[-1] - horizons[0])


def kaplan_meier_brier(rows: pd.DataFrame, trained: Trained, months: float) -> float:
    """Brier score of the Kaplan-Meier curve of each training part."""
    curves = {fold: KaplanMeierFitter().fit(*part).predict(months) for fold, part in trained.items()}
    return brier(rows, trained, months, rows["fold"].map(curves).to_numpy(dtype=float))


def calibration(rows: pd.DataFrame, trained: Trained, months: float) -> dict[str, float]:
    """Slope, intercept and integrated calibration index, by SciPy's minimiser."""
    had, weight = status(rows, trained, months)
    risk = 1 - rows[f"S_{months:g}"].to_numpy()
    inside = np.clip(risk, 0.0001, 0.9999)  # as documented: 0 and 1 have no log-odds
    logit = np.log(inside / (1 - inside))
    scaled = (logit - logit.mean()) / logit.std()
    one = np.ones(len(logit))
    slope = _logistic(np.stack([one, logit], 1), had, weight)[1]
    intercept = _logistic(one[:, None], had, weight, logit)[0]
    columns = np.stack([one, scaled, scaled**2], 1)
    observed = 1 / (1 + np.exp(-columns @ _logistic(columns, had, weight)))
    return {"slope": slope, "intercept": intercept, "ici": float(np.abs(observed - risk).mean())}


def _logistic(columns: np.ndarray, had: np.ndarray, weight: np.ndarray, offset: np.ndarray | float = 0.0) -> np.ndarray:
    def loss(beta: np.ndarray) -> float:
        linear = columns @ beta + offset
        return float(np.sum(weight * (np.logaddexp(0, linear) - had * linear)))

    def gradient(beta: np.ndarray) -> np.ndarray:
        return columns.T @ (weight * (1 / (1 + np.exp(-(columns @ beta + offset))) - had))

    solution = optimize.minimize(loss, np.zeros(columns.shape[1]), jac=gradient, method="BFGS", options={"gtol": 1e-9})
    return np.asarray(solution.x)


def d_calibration_p(rows: pd.DataFrame, horizons: list[float], bins: int = 5) -> float:
    """Chi-square p of S(time) in `bins` equal parts; log S is linear between the horizons."""
    counts = np.zeros(bins)
    for row in rows.to_dict("records"):
        time, event = row["time_months"], row["event"]
        if time > horizons[-1]:
            time, event = horizons[-1], 0
        logs = [0.0, *(np.log(max(row[f"S_{t:g}"], 1e-9)) for t in horizons)]
        value = float(np.exp(np.interp(time, [0.0, *horizons], logs)))
        if event:
            counts[min(max(int(np.ceil(value * bins)) - 1, 0), bins - 1)] += 1
        else:
            for k in range(bins):
                counts[k] += max(min(value, (k + 1) / bins) - k / bins, 0) / value
    return float(stats.chisquare(counts).pvalue)


def net_benefit(rows: pd.DataFrame, trained: Trained, months: float, threshold: float, *, treat_all: bool) -> float:
    """Net benefit of treating at a risk from `threshold`, or all patients."""
    had, weight = status(rows, trained, months)
    treated = np.ones(len(rows)) if treat_all else 1 - rows[f"S_{months:g}"].to_numpy() >= threshold
    false = (1 - had) * threshold / (1 - threshold)
    return float(np.mean(weight * treated * (had - false)))


def risk_groups(rows: pd.DataFrame) -> np.ndarray:
    """0 low, 1 high: above the median of the standardised risks of the patients of the other folds."""
    scaled = rows.groupby("fold")["risk"].transform(lambda risk: (risk - risk.mean()) / risk.std(ddof=0))
    group = np.zeros(len(rows), dtype=int)
    for fold in rows["fold"].unique():
        inside = (rows["fold"] == fold).to_numpy()
        group[inside] = (scaled[inside] > np.median(scaled[~inside])).to_numpy()
    return group


def restricted_mean(rows: pd.DataFrame, months: float) -> float:
    """Area under the Kaplan-Meier curve of lifelines up to `months`."""
    curve = KaplanMeierFitter().fit(rows["time_months"], rows["event"]).survival_function_["KM_estimate"]
    steps = curve[curve.index < months]
    ends = [*steps.index[1:], months]
    return float(sum(value * (end - start) for start, value, end in zip(steps.index, steps, ends, strict=True)))


def corrected_t(differences: np.ndarray, test_share: float) -> tuple[float, float, float, float]:
    """Mean, ends of the 95 % interval and p of the t-test with the variance (1/J + test_share) s²."""
    mean, count = differences.mean(), len(differences)
    error = np.sqrt((1 / count + test_share) * differences.var(ddof=1))
    half = stats.t.ppf(0.975, count - 1) * error
    return mean, mean - half, mean + half, 2 * stats.t.sf(abs(mean) / error, count - 1)
