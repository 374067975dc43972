"""Claim: the 95 % intervals of the evaluation contain the true value in 92 to 98 % of cohorts.

Run: python benchmarks/evaluation_coverage.py [--simulations 500] [--patients 198] [--share-of-events 0.26]

Each simulation draws a cohort with a known risk (exponential times, uniform censoring), splits it into five folds, and
checks whether the interval of each metric contains its true value (the mean over 12 cohorts of 8000). `difference` is
the paired difference in C between that risk and a noisier copy. The null line: the same risks with permuted outcomes.
Exits with 1 when a coverage is outside 92 to 98 %, or the mean C of the null more than 2 standard errors from 0.5.
"""

import argparse
import sys

import numpy as np
import pandas as pd

from mcti.arrays import FloatArray
from mcti.evaluation import comparison, metrics
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.statistics import Statistic

MONTHS = 36.0
TRUTH_PATIENTS = 8000
NOISE = 1.5  # standard deviation of what the second model adds to the risk


def main() -> int:
    args = _arguments()
    scale = _scale(args.share_of_events)
    means = pd.DataFrame([_truth(scale, seed) for seed in range(args.truth)]).mean()
    truth = {str(name): float(value) for name, value in means.items()}
    covered: dict[str, list[bool]] = {name: [] for name in truth}
    null = []
    for seed in range(args.simulations):
        patients, risks = _cohort(args.patients, scale, np.random.default_rng([7, seed]))
        for name, interval in _intervals(patients, risks, args.resamples, seed).items():
            covered[name].append(interval.low <= truth[name] <= interval.high)
        null.append(_permuted(patients, risks["good"], seed))
    return _print(args, truth, covered, np.array(null))


def _intervals(
    patients: pd.DataFrame, risks: dict[str, FloatArray], resamples: int, seed: int
) -> dict[str, comparison.Interval]:
    tested = Outcomes.from_folds(patients, _folds(patients, seed))
    draws = comparison.Draws.sample(tested.event, resamples, seed)
    good, noisy = (risks[name][tested.patient] for name in ("good", "noisy"))
    survival = risks["survival"][tested.patient]
    c_good, c_noisy = metrics.c_index(tested, good), metrics.c_index(tested, noisy)
    single: dict[str, Statistic] = {
        "c_index": c_good,
        f"auc_{MONTHS:g}": metrics.auc_at(tested, good, MONTHS),
        f"brier_{MONTHS:g}": metrics.brier_at(tested, survival, MONTHS),
    }
    intervals = {
        name: comparison.interval(statistic, draws.matching(statistic), 0.95) for name, statistic in single.items()
    }
    return {**intervals, "difference": comparison.paired(c_good, c_noisy, draws.stratified, 0.95).interval}


def _truth(scale: float, seed: int) -> dict[str, float]:
    patients, risks = _cohort(TRUTH_PATIENTS, scale, np.random.default_rng([17, seed]))
    everyone = {0: (list(patients["patient_id"][:1]), list(patients["patient_id"][1:]))}
    tested = Outcomes.from_folds(patients, everyone)
    event, time = tested.folds[0].event, tested.folds[0].time_months
    good, noisy = metrics.harrell_c(event, time, risks["good"][1:]), metrics.harrell_c(event, time, risks["noisy"][1:])
    alive = risks["survival"][1:]
    death = risks["death"][1:]
    case, control = risks["good"][1:][death <= MONTHS], risks["good"][1:][death > MONTHS]
    return {
        "c_index": good,
        # Without censoring: the deaths of all patients are known here.
        f"auc_{MONTHS:g}": float((np.searchsorted(np.sort(control), case) / len(control)).mean()),
        f"brier_{MONTHS:g}": float(np.square((death > MONTHS) - alive).mean()),
        "difference": good - noisy,
    }


def _cohort(count: int, scale: float, generator: np.random.Generator) -> tuple[pd.DataFrame, dict[str, FloatArray]]:
    x = generator.normal(size=count)
    death = generator.exponential(scale * np.exp(-x))
    censored = generator.uniform(6, 150, size=count)
    patients = pd.DataFrame(
        {
            "patient_id": [f"P{i:05d}" for i in range(count)],
            "time_months": np.minimum(death, censored),
            "event": (death <= censored).astype(int),
        }
    )
    noisy = x + NOISE * generator.normal(size=count)
    return patients, {"good": x, "noisy": noisy, "death": death, "survival": np.exp(-MONTHS / scale * np.exp(x))}


def _scale(share: float) -> float:
    """The mean survival at which about this share of patients has the event."""
    scales = np.geomspace(20, 2000, 60)
    shares = [float(_cohort(4000, s, np.random.default_rng(0))[0]["event"].mean()) for s in scales]
    return float(scales[int(np.argmin(np.abs(np.array(shares) - share)))])


def _folds(patients: pd.DataFrame, seed: int) -> dict[int, tuple[list[str], list[str]]]:
    ids, fold = patients["patient_id"].to_numpy(), np.zeros(len(patients), dtype=int)
    generator = np.random.default_rng([11, seed])
    for stratum in (np.flatnonzero(patients["event"] == 1), np.flatnonzero(patients["event"] == 0)):
        fold[generator.permutation(stratum)] = np.arange(len(stratum)) % 5
    return {k: (list(ids[fold != k]), list(ids[fold == k])) for k in range(5)}


def _permuted(patients: pd.DataFrame, risk: np.ndarray, seed: int) -> float:
    order = np.random.default_rng([13, seed]).permutation(len(patients))
    tested = Outcomes.from_folds(patients, _folds(patients, seed))
    return comparison.point(metrics.c_index(tested, risk[order][tested.patient]), len(patients))


def _print(args: argparse.Namespace, truth: dict[str, float], covered: dict[str, list[bool]], null: FloatArray) -> int:
    sound = True
    print(f"{args.simulations} cohorts of {args.patients} patients, {args.resamples} resamples each")
    for name, hits in covered.items():
        share = np.mean(hits)
        sound &= bool(0.92 <= share <= 0.98)
        spread = 196 * np.sqrt(0.0475 / len(hits))
        print(f"  {name:12} true {truth[name]:.4f}   covered {100 * share:.1f} %  (± {spread:.1f})")
    error = null.std(ddof=1) / np.sqrt(len(null))
    sound &= bool(abs(null.mean() - 0.5) <= 2 * error)
    print(f"  permuted outcomes: mean C {null.mean():.4f} ± {error:.4f} (standard error)")
    return 0 if sound else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--patients", type=int, default=198)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--share-of-events", type=float, default=0.26)
    parser.add_argument("--truth", type=int, default=12, help="cohorts of 8000 behind the true values")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
