"""Simulated cohorts with one planted signal in genes and patches; scales and follow-up differ between cohorts."""

import numpy as np
import torch

from mcti.concordance import harrell_c
from mcti.dataset.bags import Dataset, PatientBag
from mcti.params import TrainParams
from mcti.training.batched_risks import batched_risks

GENES = tuple(f"g{number}" for number in range(20))


def cohort(name, patients, seed, effect=0.6, *, shift=0.0, months=30.0, classes=("A", "B")):
    """A hazard with `effect` per unit of each of six genes and of the patient's mean of the first feature."""
    random = np.random.default_rng(seed)
    genes = random.normal(size=(patients, len(GENES))).astype(np.float32)
    bags = {}
    for number, row in enumerate(genes):
        patches = random.normal(size=(random.integers(4, 9), 8)).astype(np.float32)
        mean = random.normal()
        patches[:, 0] += mean
        log_hazard = effect * (row[:6].sum() + mean)
        death, end = random.exponential(months * np.exp(-log_hazard)), random.exponential(1.5 * months)
        bags[f"{name}{number}"] = PatientBag(
            f"{name}{number}", torch.from_numpy(patches), torch.from_numpy(row + np.float32(shift)),
            max(min(death, end), 0.01), bool(death <= end), int(random.integers(len(classes))),
        )  # fmt: skip
    return Dataset(bags, GENES, classes, cohort={"name": name})


def settings(**changes):
    usual = {"preset": "tiny", "epochs": 4, "batch_patients": 32, "learning_rate": 1e-2, "cox_weight": 0.0}
    usual |= {"fine_tuning": "auto"}
    return TrainParams.model_validate(usual | changes)


def c_of(model, data):
    bags = list(data.bags.values())
    risks = batched_risks(model, bags)
    events, months = [bag.event for bag in bags], [bag.time_months for bag in bags]
    return harrell_c(np.array(events), np.array(months), np.array(risks))
