"""C on held-out sites of real cohorts by way of fine-tuning after a pretraining on the other cohorts.

Run    python -m benchmarks.transfer_network --data FOLDER --targets hnsc blca [--folds 3] [--ways none frozen full]
Reads  cohorts as benchmarks/tcga_study.py does
Prints one row per target and fold: Harrell's C of the network alone and of the ensemble with the Cox branch, by way

The slide features come from an encoder that was pretrained on TCGA itself, so that the results are transductive.
"""

import argparse
import dataclasses
import statistics
from pathlib import Path

import numpy as np

from benchmarks import model_zoo, study_data
from benchmarks.model_zoo import RowSplit
from benchmarks.study_data import Cohort
from mcti.concordance import harrell_c
from mcti.dataset.bags import Dataset
from mcti.model.trained import TrainedModel
from mcti.params import TrainParams
from mcti.training import fine_tuning, folds

WAYS = ("none", "frozen", "partial", "full")


def c_of(model: TrainedModel, cohort: Cohort, split: RowSplit) -> float:
    """Harrell's C of the test part, between 0 and 1."""
    risk = model_zoo.network_forecast(model, cohort.patients, (36.0,))(split.test).risk
    table = cohort.table.iloc[split.test]
    return harrell_c(table["event"].to_numpy(dtype=bool), table["time_months"].to_numpy(dtype=float), np.array(risk))


def row(cohort: Cohort, split: RowSplit, sources: tuple[Dataset, ...], way: str) -> dict[str, float]:
    """C of the network alone and of the ensemble."""
    covariates = {"covariates": list(cohort.covariates)}
    params = TrainParams.model_validate({"fine_tuning": way, "architecture": covariates})
    bags = cohort.patients.bags(split.train)
    task = folds.prepare(cohort.patients.data, bags, params, ("fold", split.fold), f"fold {split.fold}")
    model = fine_tuning.train(dataclasses.replace(task, sources=sources)).model
    network = model_zoo.with_cox_weight(model, 0.0)
    return {f"{way} network": c_of(network, cohort, split), f"{way} ensemble": c_of(model, cohort, split)}


def main() -> None:
    """Print the rows and their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--targets", nargs="+", required=True)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=[*WAYS, "auto"])
    arguments = parser.parse_args()
    cohorts = {name: study_data.read(arguments.data, name, 5, 1) for name in study_data.names(arguments.data)}
    for target in arguments.targets:
        others = [cohort for name, cohort in cohorts.items() if name != target]
        sources, rows = study_data.sources(cohorts[target], others), []
        for split in cohorts[target].folds[study_data.PRIMARY][: arguments.folds]:
            figures: dict[str, float] = {}
            for way in arguments.ways:
                figures |= row(cohorts[target], split, sources, way)
            rows.append(figures)
            print(target, split.fold, {name: round(value, 3) for name, value in figures.items()}, flush=True)
        means = {name: round(statistics.mean(one[name] for one in rows), 3) for name in rows[0]}
        print(target, "mean", means, flush=True)


if __name__ == "__main__":
    main()
