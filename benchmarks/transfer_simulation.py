"""C of new patients with and without transfer of the network, for simulated cohorts with common or opposite effects.

Run    python -m benchmarks.transfer_simulation [--seeds 4]
Prints one row per seed and effects of the sources: C on 300 new patients of a network trained on 60 patients alone,
       with each way of fine-tuning after a pretraining on 750 patients of three cohorts, and with the way chosen in
       inner folds

The log hazard has the same effect of eight of 40 genes and of the patient's mean of one of 16 features in every cohort
(`common`), or the negative effect in the sources (`opposite`). Scales of the genes and follow-up differ.
"""

import argparse
import dataclasses
import statistics

import numpy as np
import torch

from mcti.concordance import harrell_c
from mcti.dataset.bags import Dataset, PatientBag
from mcti.model.trained import TrainedModel
from mcti.params import TrainParams
from mcti.training import fine_tuning, folds

GENES, FEATURES, EFFECT = 40, 16, 0.5
WAYS = ("none", "frozen", "partial", "full", "auto")


def cohort(
    name: str, patients: int, seed: int, effect: float = EFFECT, months: float = 30.0, shift: float = 0.0
) -> Dataset:
    """A simulated cohort; months: scale of the follow-up, shift: of every gene."""
    random = np.random.default_rng(seed)
    genes = random.normal(size=(patients, GENES)).astype(np.float32)
    bags = {}
    for number, row in enumerate(genes):
        patches = random.normal(size=(random.integers(6, 16), FEATURES)).astype(np.float32)
        mean = random.normal()
        patches[:, 0] += mean
        log_hazard = effect * (row[:8].sum() + 1.2 * mean)
        death, end = random.exponential(months * np.exp(-log_hazard)), random.exponential(4 / 3 * months)
        expression = torch.from_numpy(row + np.float32(shift))
        bags[f"{name}{number}"] = PatientBag(
            f"{name}{number}",
            torch.from_numpy(patches),
            expression,
            max(min(death, end), 0.01),
            bool(death <= end),
            int(random.integers(2)),
        )
    return Dataset(bags, tuple(f"g{number}" for number in range(GENES)), ("A", "B"), cohort={"name": name})


def c_of(model: TrainedModel, data: Dataset) -> float:
    """Harrell's C, between 0 and 1."""
    bags = list(data.bags.values())
    risks = [model.predict(bag.patches, bag.genes, (12.0,))["risk"] for bag in bags]
    events, months = np.array([bag.event for bag in bags]), np.array([bag.time_months for bag in bags])
    return harrell_c(events, months, np.array(risks))


def row(sources: tuple[Dataset, ...], seed: int) -> dict[str, float]:
    """C by way of fine-tuning."""
    target, new = cohort("target", 60, 10 + seed), cohort("new", 300, 50 + seed)
    figures = {}
    for way in WAYS:
        params = TrainParams.model_validate({"cox_weight": 0.0, "fine_tuning": way})
        task = folds.prepare(target, list(target.bags.values()), params, ("fold", 0), "fold 0")
        outcome = fine_tuning.train(dataclasses.replace(task, sources=sources))
        figures[way] = c_of(outcome.model, new)
    return figures


def main() -> None:
    """Print the rows and their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    print("sources   seed  " + "  ".join(f"{way:>7}" for way in WAYS))
    for effects, sign in (("common", 1.0), ("opposite", -1.0)):
        effect = sign * EFFECT
        sources = (
            cohort("a", 300, 1, effect),
            cohort("b", 200, 2, effect, months=90.0, shift=5.0),
            cohort("c", 250, 3, effect, months=15.0),
        )
        rows = []
        for seed in range(arguments.seeds):
            rows.append(row(sources, seed))
            print(f"{effects:8}  {seed:4}  " + "  ".join(f"{rows[-1][way]:7.3f}" for way in WAYS), flush=True)
        means = {way: statistics.mean(one[way] for one in rows) for way in WAYS}
        print(f"{effects:8}  mean  " + "  ".join(f"{means[way]:7.3f}" for way in WAYS), flush=True)


if __name__ == "__main__":
    main()
