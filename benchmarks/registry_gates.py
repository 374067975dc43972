"""Claim: of chains of ten equal challengers on the same test patients at most 5 % promote one; a challenger that is
better by 0.05 in Uno's C with 300 events is promoted at least 80 times in 100 by all statistical gates.
Run: python benchmarks/registry_gates.py [--repetitions 1000]

The gates are the product's (mcti/steps/promote/gate_evaluation.py, mcti/registry/alpha_spending.py,
default settings); the patients and the predictions are simulated. Log hazard x ~ N(0, 1), exponential times, uniform
censoring; a model has the input x + noise and predicts the true conditional survival given it; five folds. Control: the
same chains with a one-sided level of 2.5 % at each evaluation, without alpha spending.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import pandas as pd

from mcti.evaluation.paired_comparison import PairedBootstrap, PairedComparison, point_estimates
from mcti.params import PromoteParams
from mcti.registry import alpha_spending, gates
from mcti.registry.gates import Difference
from mcti.registry.ledger import LedgerEntry
from mcti.steps.promote import gate_evaluation

HORIZONS = (12.0, 36.0, 60.0)
MONTHS = 40.0  # mean survival at x = 0
FOLDS = 5
POWER_PATIENTS = 440  # 300 events


class Cohort:
    """n patients with a known log hazard, each with a fold, a subtype and a site."""

    def __init__(self, draw: np.random.Generator, n: int) -> None:
        self.x = draw.normal(size=n)
        times, censored = draw.exponential(MONTHS * np.exp(-self.x)), draw.uniform(0, 150, size=n)
        self.time, self.event = np.minimum(times, censored), times <= censored
        self.fold = np.arange(n) % FOLDS
        self.ids = np.array([f"P{i:05d}" for i in range(n)])
        self.labels = pd.DataFrame(
            {"patient_id": self.ids, "subtype": draw.integers(0, 3, n).astype(str),
             "site": draw.integers(0, 4, n).astype(str)}
        )  # fmt: skip

    def predicted(self, noise: np.ndarray, sd: float) -> pd.DataFrame:
        """Out-of-fold table of a model with the input x + sd noise, calibrated for that input (Gauss-Hermite)."""
        share = 1 / (1 + sd**2)
        mean, spread = share * (self.x + sd * noise), np.sqrt(1 - share)
        nodes, weights = np.polynomial.hermite_e.hermegauss(15)
        hazard = np.exp(mean[:, None] + spread * nodes) / MONTHS
        alive = {f"S_{t:g}": np.exp(-t * hazard) @ (weights / weights.sum()) for t in HORIZONS}
        outcome = {"time_months": self.time, "event": self.event.astype(int)}
        return pd.DataFrame({"patient_id": self.ids, "fold": self.fold, "risk": mean, **alive, **outcome})


def chains(repetitions: int, n: int, looks: int, params: PromoteParams, seed: int = 1) -> Iterator[tuple[int, int]]:
    """For each chain of `looks` equal challengers: whether one was promoted by the gate, and at 2.5 % each."""
    for repetition in range(repetitions):
        draw = np.random.default_rng((seed, repetition))
        cohort = Cohort(draw, n)
        common = draw.normal(size=n)  # retrained on nearly the same patients, models share half of their error
        tables = [
            cohort.predicted(np.sqrt(0.5) * common + np.sqrt(0.5) * draw.normal(size=n), sd=1.0)
            for _ in range(looks + 1)
        ]
        promoted, naive, bootstrap = 0, 0, None
        entries: list[LedgerEntry] = []
        for number, challenger in enumerate(tables[1:]):
            paired = PairedComparison.from_tables(challenger, tables[0])
            look = alpha_spending.next_look(
                entries, gate_evaluation.test_set_rows(paired), f"{number}:champion", params
            )
            entries.append(_entry(look))
            bootstrap = bootstrap or PairedBootstrap.draw(paired, params.bootstrap)  # one seed, one matrix
            spent, free = bootstrap.differences(paired.uno_c(), (1 - 2 * look.alpha, 0.95))
            difference = Difference(against="", patients=n, events=paired.events, **spent.as_dict())
            promoted |= gates.superiority(difference, look, params).verdict == gates.PASS
            naive |= free.low > params.margin
        yield int(promoted), int(naive)


def powers(repetitions: int, sd: float, better: float, look: int, params: PromoteParams, seed: int = 2) -> list[str]:
    """The outcome of all statistical gates for a challenger of noise `better` against one of `sd`, 300 events."""
    outcomes = []
    for repetition in range(repetitions):
        draw = np.random.default_rng((seed, repetition))
        cohort = Cohort(draw, POWER_PATIENTS)
        common = draw.normal(size=POWER_PATIENTS)
        noises = [np.sqrt(0.5) * common + np.sqrt(0.5) * draw.normal(size=POWER_PATIENTS) for _ in range(2)]
        paired = PairedComparison.from_tables(cohort.predicted(noises[0], better), cohort.predicted(noises[1], sd))
        level = alpha_spending.budget(look, params) - alpha_spending.budget(look - 1, params)
        current = alpha_spending.Look(
            test_set="", signature=(), number=look, of=params.looks, spent=0, alpha=level, pair=""
        )
        context = gate_evaluation.GateContext(paired, "champion", params)
        difference, statistical = gate_evaluation.compare(context, cohort.labels, current)
        outcomes.append(gates.combine(statistical, difference).outcome)
    return outcomes


def noise_for(difference: float, sd: float) -> tuple[float, float, float]:
    """Noise of a challenger that exceeds the Uno's C of a champion of noise `sd` by `difference`; both C (n 6,000)."""
    draw = np.random.default_rng(3)
    cohort = Cohort(draw, 6000)
    noises = draw.normal(size=(2, 6000))
    low, high = 0.0, sd
    champion_table = cohort.predicted(noises[1], sd)
    for _ in range(12):
        middle = (low + high) / 2
        challenger, champion = point_estimates(
            PairedComparison.from_tables(cohort.predicted(noises[0], middle), champion_table).uno_c(), 6000
        )
        low, high = (middle, high) if challenger - champion > difference else (low, middle)
    return middle, challenger, champion


def _entry(look: alpha_spending.Look) -> LedgerEntry:
    return LedgerEntry(
        number=1, id="", before="", time="", who="", action=gates.NOT_ENOUGH_EVIDENCE, model="", version=1,
        champion=None, previous=None, evidence={"look": look.model_dump(mode="json")},
    )  # fmt: skip


def wilson(hits: int, of: int) -> str:
    """A share with its 95 % interval (Wilson 1927)."""
    p, z = hits / of, 1.96
    middle, half = p + z * z / (2 * of), z * np.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    low, high = ((middle + sign * half) / (1 + z * z / of) for sign in (-1, 1))
    return f"{100 * p:.1f} % ({100 * low:.1f} to {100 * high:.1f}), {hits} of {of}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=1000)
    options = parser.parse_args()
    params = PromoteParams()
    for n in (240, 48):
        results = np.array(list(chains(options.repetitions, n, 10, params)))
        events = np.mean([Cohort(np.random.default_rng((1, r)), n).event.sum() for r in range(100)])
        label = f"false promotion in ten looks, {n} patients, {events:.0f} events"
        print(f"{label}: {wilson(int(results[:, 0].sum()), len(results))}", flush=True)
        print(f"  control, 2.5 % at every look: {wilson(int(results[:, 1].sum()), len(results))}", flush=True)
    better, challenger, champion = noise_for(0.05, 1.0)
    print(f"Uno's C {champion:.3f} and {challenger:.3f}: difference {challenger - champion:.3f}", flush=True)
    # A quarter of the resamples: the ends of the intervals vary more, which can only reduce the power.
    fewer = params.model_copy(update={"bootstrap": params.bootstrap // 4})
    for look in (params.looks, 1):  # the lowest and the highest level
        outcomes = powers(options.repetitions, 1.0, better, look, fewer)
        print(f"promoted at look {look}: {wilson(outcomes.count(gates.PROMOTE), len(outcomes))}", flush=True)


if __name__ == "__main__":
    main()
